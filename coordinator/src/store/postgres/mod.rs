//! A store in a PostgreSQL database, with hot standbys.
//!
//! A thread of its own runs two sessions of the database. The writer's holds
//! an advisory lock for as long as it lives: whoever has it leads, everybody
//! else waits for it. It gathers tickets for a few milliseconds and makes them
//! durable in one transaction of three round trips; the reader's session
//! answers look-ups beside it. Everything goes through their queues, so a
//! caller that loses interest leaves nothing half done.
//!
//! Two fences keep a leader that was deposed from writing. A commit travels in
//! the session that holds the lock, so without the lock there is none; and it
//! compares the epoch in the table `leader` with its own, which holds even if
//! something between us and the database (a pooler of connections) moves
//! transactions from one session to another.

mod plan;
mod reader;
mod schema;
mod session;
mod statements;
mod writer;

use std::borrow::Cow;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use common::ids::{BlobId, TaskId};
use common::protocol::SweepNumber;
use futures_util::future::join;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::address::PostgresUrl;
use super::error::{Owner, StoreError};
use super::filter::Filter;
use super::{Chain, Identity, Share, Store, StoredFailure, StoredResult, StoredSweep, SweepText};
use crate::core::{Exception, Known, Lookup, Record, Ticket};
use reader::{Question, Reader};
use session::Session;
use writer::{Memory, Order, Writer};

/// Orders that wait for the writer. The core stops granting at 16,384 records, and what is
/// granted already comes in all the same: so only a database that hangs lets this fill. Then
/// tickets fail, nothing is acknowledged, and the core presents them again.
const WAITING: usize = 1 << 16;
/// Time between two tries of a standby for the lock.
const POLL: Duration = Duration::from_millis(500);
/// Time that an opening waits for the session of a coordinator that has just
/// ended to be given up by the server.
const PATIENCE: Duration = Duration::from_secs(1);

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// A store in a PostgreSQL database. Whoever has one leads.
#[derive(Debug)]
pub struct PostgresStore {
    epoch: u32,
    may_have_orphans: bool,
    orders: Option<mpsc::Sender<Order>>,
    questions: Option<mpsc::Sender<Question>>,
    deposed: watch::Receiver<Option<u32>>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
}

/// A store that was opened, and what works on it.
struct Opened {
    store: PostgresStore,
    writer: Writer,
    receive_orders: mpsc::Receiver<Order>,
    reader: Reader,
    receive_questions: mpsc::Receiver<Question>,
}

impl PostgresStore {
    /// Opens or creates the store in a database and claims the next epoch.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another coordinator leads,
    /// [`StoreError::NewerSchema`], [`StoreError::Foreign`], or what the
    /// database says.
    pub async fn open(url: &PostgresUrl, identity: &Identity) -> Result<Self, StoreError> {
        let (url, identity) = (url.clone(), identity.clone());
        on_a_thread(async move { lead_at_once(&url, &identity).await }).await
    }

    /// Waits until no other coordinator leads, opens the store and claims the
    /// next epoch. Tells who leads meanwhile. A database that cannot be
    /// reached is waited for, too.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`], [`StoreError::Foreign`], or what the
    /// database says once the lock is there.
    pub async fn stand_by(
        url: &PostgresUrl,
        identity: &Identity,
        leader: watch::Sender<Option<Owner>>,
    ) -> Result<Self, StoreError> {
        let (url, identity) = (url.clone(), identity.clone());
        on_a_thread(async move { lead_when_free(&url, &identity, &leader).await }).await
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

    /// Lets writer and reader finish what is queued, and waits for them.
    fn finish(&mut self) -> Result<(), StoreError> {
        drop(self.orders.take());
        drop(self.questions.take());
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or(Err(StoreError::Closed)),
            None => Ok(()),
        }
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        // Whoever wants to know how it ended calls `close`.
        let _ = self.finish();
    }
}

impl Store for PostgresStore {
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

    fn links(&self) -> impl Future<Output = Result<Vec<Chain>, StoreError>> + Send + 'static {
        self.ask(move |answer| Question::Links { answer })
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

    fn lost(&self) -> impl Future<Output = StoreError> + Send + 'static {
        let (mut deposed, epoch) = (self.deposed.clone(), self.epoch);
        async move {
            let by = deposed.wait_for(Option::is_some).await.map(|by| *by);
            match by {
                Ok(Some(by)) => StoreError::Deposed { epoch, by },
                // The store was closed: nothing is lost.
                Ok(None) | Err(_) => std::future::pending().await,
            }
        }
    }

    async fn close(mut self) -> Result<(), StoreError> {
        let closing = tokio::task::spawn_blocking(move || self.finish());
        closing.await.unwrap_or(Err(StoreError::Closed))
    }
}

fn send<T>(channel: Option<&mpsc::Sender<T>>, message: T) -> Result<(), StoreError> {
    match channel.map(|channel| channel.try_send(message)) {
        Some(Ok(())) => Ok(()),
        Some(Err(TrySendError::Full(_))) => Err(StoreError::Busy { waiting: WAITING }),
        Some(Err(TrySendError::Closed(_))) | None => Err(StoreError::Closed),
    }
}

/// Opens a store on a thread that then works on it. Sessions live where they
/// were made, whatever becomes of the caller's runtime.
async fn on_a_thread(
    opening: impl Future<Output = Result<Opened, StoreError>> + Send + 'static,
) -> Result<PostgresStore, StoreError> {
    let (answer, answered) = oneshot::channel();
    let io = |source| StoreError::Io {
        action: "start a thread for",
        path: PathBuf::from("store"),
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io)?;
    let thread = std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || runtime.block_on(work(opening, answer)))
        .map_err(io)?;
    let mut store = answered.await.unwrap_or(Err(StoreError::Closed))?;
    store.thread = Some(thread);
    Ok(store)
}

async fn work(
    opening: impl Future<Output = Result<Opened, StoreError>>,
    mut answer: oneshot::Sender<Result<PostgresStore, StoreError>>,
) -> Result<(), StoreError> {
    let opened = tokio::select! {
        opened = opening => opened,
        // Nobody waits for it any more.
        () = answer.closed() => return Ok(()),
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let _ = answer.send(Err(error));
            return Ok(());
        }
    };
    let Opened {
        store,
        writer,
        receive_orders,
        reader,
        receive_questions,
    } = opened;
    // Should nobody take it, the queues are closed and both end at once.
    let _ = answer.send(Ok(store));
    let (written, ()) = join(writer.run(receive_orders), reader.run(receive_questions)).await;
    written
}

async fn lead_at_once(url: &PostgresUrl, identity: &Identity) -> Result<Opened, StoreError> {
    let session = Session::open(url, "coordinator").await?;
    schema::check(&session.client, url).await?;
    let until = Instant::now() + PATIENCE;
    while !schema::try_lock(&session.client).await? {
        if Instant::now() >= until {
            return Err(StoreError::InUse {
                path: PathBuf::from(url.to_string()),
                owner: schema::last_owner(&session.client).await?,
            });
        }
        tokio::time::sleep(PATIENCE / 10).await;
    }
    lead(url, identity, session).await
}

async fn lead_when_free(
    url: &PostgresUrl,
    identity: &Identity,
    leader: &watch::Sender<Option<Owner>>,
) -> Result<Opened, StoreError> {
    loop {
        match wait_for_lock(url, leader).await {
            Ok(session) => return lead(url, identity, session).await,
            Err(error @ (StoreError::NewerSchema { .. } | StoreError::Foreign { .. })) => {
                return Err(error);
            }
            Err(error) => {
                tracing::warn!(%error, "the standby has no session of the database");
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

/// Asks for the lock again and again in one session; tells who has it.
async fn wait_for_lock(
    url: &PostgresUrl,
    leader: &watch::Sender<Option<Owner>>,
) -> Result<Session, StoreError> {
    let session = Session::open(url, "standby").await?;
    loop {
        schema::check(&session.client, url).await?;
        if schema::try_lock(&session.client).await? {
            return Ok(session);
        }
        let owner = schema::last_owner(&session.client).await?;
        leader.send_if_modified(|known| {
            let is_new = known.as_ref() != Some(&owner);
            *known = Some(owner);
            is_new
        });
        tokio::time::sleep(POLL).await;
    }
}

/// Makes the store of whoever holds the lock.
async fn lead(
    url: &PostgresUrl,
    identity: &Identity,
    mut session: Session,
) -> Result<Opened, StoreError> {
    // Under the lock, so nobody migrates beside us.
    let found = schema::check(&session.client, url).await?;
    schema::migrate(&mut session.client, found).await?;
    let (epoch, may_have_orphans) = schema::claim_epoch(&mut session.client, identity).await?;
    schema::warn_of_settings(&session).await;
    let memory = Memory::read(&session.client).await?;
    let expected = (2 * memory.chain.results as usize).max(1 << 20);
    let filter = Arc::new(Filter::for_about(expected));
    writer::fill_filter(&session.client, &filter, 0).await?;

    let (orders, receive_orders) = mpsc::channel(WAITING);
    let (questions, receive_questions) = mpsc::channel(WAITING);
    let (deposed, is_deposed) = watch::channel(None);
    Ok(Opened {
        store: PostgresStore {
            epoch,
            may_have_orphans,
            orders: Some(orders),
            questions: Some(questions),
            deposed: is_deposed,
            thread: None,
        },
        writer: Writer {
            url: url.clone(),
            session: Some(session),
            trouble: String::new(),
            next_try: Instant::now(),
            epoch,
            filter: Arc::clone(&filter),
            memory,
            expected: 1,
            deposed,
        },
        receive_orders,
        reader: Reader {
            url: url.clone(),
            session: None,
            filter,
        },
        receive_questions,
    })
}

/// A text that the database can hold: it has no zero characters, and people
/// see where one was.
fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        text.replace('\0', "\u{2400}").into()
    } else {
        text.into()
    }
}

fn unix_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
