//! A store in one SQLite file.
//!
//! Two threads own one connection each. The writer gathers tickets for a few
//! milliseconds and makes them durable in one transaction with one sync; the
//! reader answers look-ups beside it. Everything goes through their queues, so
//! a caller that loses interest leaves nothing half done.

mod neighbours;
mod queue;
mod reader;
mod schema;
mod writer;

use std::fs::OpenOptions;
use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use common::ids::{BlobId, TaskId};
use common::protocol::SweepNumber;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::error::{Owner, StoreError};
use super::filter::Filter;
use super::place::{Claim, io};
use super::{Chain, Identity, Share, Store, StoredFailure, StoredResult, StoredSweep, SweepText};
use crate::core::{Exception, Known, Lookup, Record, Ticket};
use queue::{Sender, queue};
use reader::Question;
use writer::Order;

/// Name of the database in the store's directory.
const FILE: &str = "store.sqlite3";

/// Orders that wait for the writer. The core stops granting at 16,384 records, and what is
/// granted already comes in all the same: so only a writer that hangs lets this fill. Then tickets
/// fail, nothing is acknowledged, and the core presents them again.
const WAITING: usize = 1 << 16;

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// A store in a directory of the local disk.
#[derive(Debug)]
pub struct SqliteStore {
    epoch: u32,
    may_have_orphans: bool,
    orders: Option<Sender<Order>>,
    questions: Option<Sender<Question>>,
    writer: Option<JoinHandle<Result<(), StoreError>>>,
    reader: Option<JoinHandle<()>>,
    _claim: Claim,
}

impl SqliteStore {
    /// Opens or creates the store in a directory and claims the next epoch.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another coordinator has it,
    /// [`StoreError::NewerSchema`], [`StoreError::Foreign`],
    /// [`StoreError::NetworkFileSystem`], or what the disk says.
    pub fn open(directory: &Path, identity: &Identity) -> Result<Self, StoreError> {
        let owner = Owner {
            pid: std::process::id(),
            host: identity.host.clone(),
            listen: identity.listen.clone(),
            since: unix_millis(),
        };
        let claim = Claim::on(directory, &owner)?;
        let path = directory.join(FILE);
        make_private(&path)?;
        let connection = schema::open(&path)?;
        let (epoch, may_have_orphans) = claim_epoch(&connection, identity)?;
        let filter = Arc::new(fill_filter(&connection)?);
        let chain = read_chain(&connection)?;
        let reader_connection = schema::open_reader(&path)?;

        let (orders, receive_orders) = queue(WAITING);
        let (questions, receive_questions) = queue(WAITING);
        let writer = writer::Writer::new(connection, filter.clone(), chain)?;
        let writer = spawn("store writer", move || writer.run(&receive_orders))?;
        let reader = reader::Reader::new(reader_connection, filter);
        let reader = spawn("store reader", move || reader.run(&receive_questions))?;
        Ok(Self {
            epoch,
            may_have_orphans,
            orders: Some(orders),
            questions: Some(questions),
            writer: Some(writer),
            reader: Some(reader),
            _claim: claim,
        })
    }

    /// Sends an order now and returns the future of its answer.
    fn order<T: Send + 'static>(
        &self,
        order: impl FnOnce(Answer<T>) -> Order,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'static {
        let (answer, answered) = oneshot::channel();
        let sent = send(self.orders.as_ref(), order(answer));
        async move {
            sent?;
            answered.await.unwrap_or(Err(StoreError::Closed))
        }
    }

    /// The same for the reader.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(Answer<T>) -> Question,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'static {
        let (answer, answered) = oneshot::channel();
        let sent = send(self.questions.as_ref(), question(answer));
        async move {
            sent?;
            answered.await.unwrap_or(Err(StoreError::Closed))
        }
    }

    /// Lets both threads finish what is queued, and waits for them.
    fn finish(&mut self) -> Result<(), StoreError> {
        drop(self.orders.take());
        drop(self.questions.take());
        if let Some(reader) = self.reader.take() {
            // A reader that panicked has answered `Closed` to those who asked.
            let _ = reader.join();
        }
        match self.writer.take() {
            Some(writer) => writer.join().unwrap_or(Err(StoreError::Closed)),
            None => Ok(()),
        }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // Whoever wants to know how it ended calls `close`.
        let _ = self.finish();
    }
}

impl Store for SqliteStore {
    fn epoch(&self) -> u32 {
        self.epoch
    }

    fn may_have_orphans(&self) -> bool {
        self.may_have_orphans
    }

    fn persist(
        &self,
        ticket: Ticket,
        records: Arc<[Record]>,
    ) -> impl Future<Output = Result<Vec<Exception>, StoreError>> + Send + 'static {
        self.order(move |answer| Order::Persist {
            ticket,
            records,
            answer,
        })
    }

    fn lookup(
        &self,
        lookup: Lookup,
    ) -> impl Future<Output = Result<Known, StoreError>> + Send + 'static {
        self.ask(move |answer| Question::Lookup { lookup, answer })
    }

    fn add_sweep(
        &self,
        sweep: SweepText,
    ) -> impl Future<Output = Result<StoredSweep, StoreError>> + Send + 'static {
        self.order(move |answer| Order::AddSweep { sweep, answer })
    }

    fn sweeps(
        &self,
    ) -> impl Future<Output = Result<Vec<StoredSweep>, StoreError>> + Send + 'static {
        self.ask(move |answer| Question::Sweeps { answer })
    }

    fn put_blob(
        &self,
        id: BlobId,
        content: Bytes,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        self.order(move |answer| Order::PutBlob {
            id,
            content,
            answer,
        })
    }

    fn blob(
        &self,
        id: BlobId,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send + 'static {
        self.ask(move |answer| Question::Blob { id, answer })
    }

    fn theta(
        &self,
        task: TaskId,
    ) -> impl Future<Output = Result<Option<Vec<f64>>, StoreError>> + Send + 'static {
        self.ask(move |answer| Question::Theta { task, answer })
    }

    fn results(
        &self,
        after: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<StoredResult>, StoreError>> + Send + 'static {
        self.ask(move |answer| Question::Results {
            after,
            limit,
            answer,
        })
    }

    fn results_of(
        &self,
        tasks: Vec<TaskId>,
    ) -> impl Future<Output = Result<Vec<StoredResult>, StoreError>> + Send + 'static {
        self.ask(move |answer| Question::ResultsOf { tasks, answer })
    }

    fn failures(
        &self,
        sweep: SweepNumber,
    ) -> impl Future<Output = Result<Vec<StoredFailure>, StoreError>> + Send + 'static {
        self.ask(move |answer| Question::Failures { sweep, answer })
    }

    fn shares(
        &self,
        sweep: SweepNumber,
    ) -> impl Future<Output = Result<Vec<Share>, StoreError>> + Send + 'static {
        self.ask(move |answer| Question::Shares { sweep, answer })
    }

    fn chain(&self) -> impl Future<Output = Result<Chain, StoreError>> + Send + 'static {
        self.ask(move |answer| Question::Chain { answer })
    }

    fn links(&self) -> impl Future<Output = Result<Vec<Chain>, StoreError>> + Send + 'static {
        self.ask(move |answer| Question::Links { answer })
    }

    async fn close(mut self) -> Result<(), StoreError> {
        let closing = tokio::task::spawn_blocking(move || self.finish());
        closing.await.unwrap_or(Err(StoreError::Closed))
    }
}

fn send<T>(queue: Option<&Sender<T>>, message: T) -> Result<(), StoreError> {
    queue.map_or(Err(StoreError::Closed), |queue| queue.send(message))
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|source| StoreError::Io {
            action: "start a thread for",
            path: PathBuf::from(name),
            source,
        })
}

/// Makes the file before SQLite does: for its owner alone, whatever the umask. The files beside it
/// get the same permissions from SQLite; whoever wants to share a store may widen them.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(io("create", path, source)),
    }
}

/// Writes the next epoch and tells whether the last coordinator before was
/// reachable from elsewhere.
fn claim_epoch(connection: &Connection, identity: &Identity) -> Result<(u32, bool), StoreError> {
    let claim = || -> rusqlite::Result<(u32, bool)> {
        let before = connection.query_row(
            "SELECT coalesce(max(epoch), 0), coalesce((SELECT listen IS NOT NULL FROM epochs \
             WHERE listen IS NOT '' ORDER BY epoch DESC LIMIT 1), 0) FROM epochs",
            [],
            |row| Ok((row.get::<_, u32>(0)?, row.get::<_, bool>(1)?)),
        )?;
        let epoch = before.0 + 1;
        connection.execute(
            "INSERT INTO epochs (epoch, host, pid, program_version, listen, started_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            rusqlite::params![
                epoch,
                identity.host,
                std::process::id(),
                identity.program_version,
                identity.listens(),
                unix_millis() as i64,
            ],
        )?;
        Ok((epoch, before.1))
    };
    claim().map_err(|error| database("claim an epoch", &error))
}

fn fill_filter(connection: &Connection) -> Result<Filter, StoreError> {
    let fill = || -> rusqlite::Result<Filter> {
        let results: i64 =
            connection.query_row("SELECT coalesce(max(result), 0) FROM results", [], |row| {
                row.get(0)
            })?;
        let filter = Filter::for_about((2 * results as usize).max(1 << 20));
        let mut statement =
            connection.prepare("SELECT task FROM results INDEXED BY results_task")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Ok(bytes) = row.get_ref(0)?.as_blob()
                && let Ok(task) = TaskId::try_from(bytes)
            {
                filter.insert(&task);
            }
        }
        // The pages of the index are not needed again soon.
        connection.execute_batch("PRAGMA shrink_memory")?;
        Ok(filter)
    };
    fill().map_err(|error| database("read the recorded identities", &error))
}

/// A row of `links`.
fn link(results: i64, head: &[u8]) -> Result<Chain, StoreError> {
    let head = head.try_into().map_err(|_| StoreError::Damaged {
        what: format!("a link of {} bytes in the chain of results", head.len()),
    })?;
    Ok(Chain {
        results: results as u64,
        head,
    })
}

fn read_chain(connection: &Connection) -> Result<Chain, StoreError> {
    let read = connection.query_row(
        "SELECT last_result, link FROM links ORDER BY last_result DESC LIMIT 1",
        [],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)),
    );
    match read {
        Ok((results, head)) => link(results, &head),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(Chain::default()),
        Err(error) => Err(database("read the chain of results", &error)),
    }
}

fn database(action: &'static str, error: &rusqlite::Error) -> StoreError {
    StoreError::Database {
        action,
        message: error.to_string(),
    }
}

fn unix_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
