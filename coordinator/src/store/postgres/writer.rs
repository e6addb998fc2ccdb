//! The only session that writes: gathers tickets, makes them durable, holds the lock.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::ids::{BlobId, IdMap, TaskId, WorkerId};
use futures_util::TryStreamExt;
use futures_util::future::join;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::super::address::PostgresUrl;
use super::super::error::StoreError;
use super::super::filter::Filter;
use super::super::{Chain, StoredSweep, SweepText};
use super::plan::{Before, Plan};
use super::session::{Session, database};
use super::statements::apply;
use super::{Answer, reader, schema, text, unix_millis};
use crate::core::{Exception, Record, SweepState, Ticket};

/// How long the first ticket of a commit waits for others. One sync then
/// serves all of them, and nobody waits: workers go on before the receipt.
const GATHER: Duration = Duration::from_millis(10);
/// Records after which a commit waits for no more.
const ENOUGH: usize = 8192;
/// Bytes after which a commit waits for no more: far below the gigabyte that
/// one message to the server may have.
const ENOUGH_BYTES: usize = 64 << 20;
/// A transaction that takes longer counts as lost with its session.
const LONGEST: Duration = Duration::from_secs(60);
/// Time between two tries to get a lost session back.
const RETRY: Duration = Duration::from_millis(250);

/// Something to write.
#[derive(Debug)]
pub(super) enum Order {
    Persist {
        ticket: Ticket,
        records: Arc<[Record]>,
        answer: Answer<Vec<Exception>>,
    },
    AddSweep {
        sweep: SweepText,
        answer: Answer<StoredSweep>,
    },
    PutBlob {
        id: BlobId,
        content: Bytes,
        answer: Answer<()>,
    },
}

/// A ticket that waits for its commit.
struct Presented {
    ticket: Ticket,
    records: Arc<[Record]>,
    answer: Answer<Vec<Exception>>,
}

/// What the writer remembers of the database. Only it writes there, so nothing
/// of this changes behind its back.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) chain: Chain,
    pub(super) workers: IdMap<WorkerId, i64>,
}

impl Memory {
    /// Reads what is to be remembered.
    pub(super) async fn read(client: &Client) -> Result<Self, StoreError> {
        let rows = client
            .query("SELECT id, worker FROM workers", &[])
            .await
            .map_err(|error| database("read the workers", &error))?;
        let known = |row: &tokio_postgres::Row| {
            let id = WorkerId::try_from(row.get::<_, &[u8]>(0)).ok()?;
            Some((id, row.get(1)))
        };
        Ok(Self {
            chain: schema::chain(client).await?,
            workers: rows.iter().filter_map(known).collect(),
        })
    }
}

/// Adds the tasks of all results after one to the filter.
pub(super) async fn fill_filter(
    client: &Client,
    filter: &Filter,
    after: u64,
) -> Result<(), StoreError> {
    let failed = |error| database("read the recorded identities", &error);
    let sql = "SELECT task FROM results WHERE result > $1";
    let rows = client
        .query_typed_raw(sql, [(after as i64, Type::INT8)])
        .await
        .map_err(failed)?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        if let Ok(task) = TaskId::try_from(row.get::<_, &[u8]>(0)) {
            filter.insert(&task);
        }
    }
    Ok(())
}

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) url: PostgresUrl,
    /// Holds the lock while it is there.
    pub(super) session: Option<Session>,
    /// Why it is not.
    pub(super) trouble: String,
    /// When to try for it again.
    pub(super) next_try: Instant,
    pub(super) epoch: u32,
    pub(super) filter: Arc<Filter>,
    pub(super) memory: Memory,
    /// The next ticket in order.
    pub(super) expected: u64,
    /// Told once the store has another master.
    pub(super) deposed: watch::Sender<Option<u32>>,
}

/// Why a transaction came to nothing.
enum Failure {
    /// What the database or the network says.
    Database(tokio_postgres::Error),
    /// Another epoch may write.
    Deposed(u32),
    /// No answer came.
    Silence,
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl Writer {
    /// Works until nobody can send any more.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Result<(), StoreError> {
        let mut result = Ok(());
        let mut next = None;
        loop {
            let order = match next.take() {
                Some(order) => Some(order),
                None => tokio::select! {
                    biased;
                    () = lost(&mut self.session, self.next_try), if !self.is_deposed() => {
                        self.take_back().await;
                        continue;
                    }
                    order = orders.recv() => order,
                },
            };
            let Some(order) = order else { break };
            result = match order {
                Order::Persist {
                    ticket,
                    records,
                    answer,
                } => {
                    let first = Presented {
                        ticket,
                        records,
                        answer,
                    };
                    let batch = gather(first, &mut orders, &mut next).await;
                    self.persist(batch).await
                }
                Order::AddSweep { sweep, answer } => {
                    let done = self.write(add_sweep(sweep)).await;
                    let failed = done.as_ref().err().map(StoreError::again);
                    let _ = answer.send(done.and_then(|found| found));
                    failed.map_or(Ok(()), Err)
                }
                Order::PutBlob {
                    id,
                    content,
                    answer,
                } => {
                    let done = self.write(put_blob(id, content)).await;
                    let failed = done.as_ref().err().map(StoreError::again);
                    let _ = answer.send(done);
                    failed.map_or(Ok(()), Err)
                }
            };
        }
        if let Some(session) = &self.session {
            // Whoever waits for the store need not wait for the session's end.
            schema::unlock(&session.client).await;
        }
        result
    }

    fn is_deposed(&self) -> bool {
        self.deposed.borrow().is_some()
    }

    /// Gets a lost session back, if the lock and the epoch are still ours.
    async fn take_back(&mut self) {
        if let Some(session) = self.session.take() {
            drop(session);
            self.trouble = "the connection to the database is lost".to_owned();
        }
        match self.try_to_take_back().await {
            Ok(Some(session)) => {
                tracing::info!(epoch = self.epoch, "the session of the database is back");
                self.session = Some(session);
            }
            Ok(None) => {}
            Err(error) => self.trouble = error.to_string(),
        }
        self.next_try = Instant::now() + RETRY;
    }

    async fn try_to_take_back(&mut self) -> Result<Option<Session>, StoreError> {
        let session = Session::open(&self.url, "coordinator").await?;
        let current = schema::current_epoch(&session.client).await?;
        if current != self.epoch {
            self.depose(current);
            return Ok(None);
        }
        if !schema::try_lock(&session.client).await? {
            // Our own session that the server has not given up yet, or a
            // standby that has just locked: its epoch will tell.
            self.trouble = "another session of the database holds the store's lock".to_owned();
            return Ok(None);
        }
        let current = schema::current_epoch(&session.client).await?;
        if current != self.epoch {
            schema::unlock(&session.client).await;
            self.depose(current);
            return Ok(None);
        }
        // The last commit may have become durable without our being told.
        let known = self.memory.chain.results;
        fill_filter(&session.client, &self.filter, known).await?;
        self.memory = Memory::read(&session.client).await?;
        Ok(Some(session))
    }

    fn depose(&mut self, by: u32) {
        tracing::error!(
            epoch = self.epoch,
            by,
            "another coordinator leads this store"
        );
        self.session = None;
        self.deposed.send_replace(Some(by));
    }

    /// Why nothing can be written just now.
    fn without_session(&self) -> StoreError {
        if let Some(by) = *self.deposed.borrow() {
            let epoch = self.epoch;
            return StoreError::Deposed { epoch, by };
        }
        StoreError::Database {
            action: "write to the store",
            message: self.trouble.clone(),
        }
    }

    /// What a failure means for the session, in words for those who wait.
    fn note(&mut self, failure: Failure, session: Session) -> StoreError {
        match failure {
            Failure::Deposed(by) => {
                self.depose(by);
                self.without_session()
            }
            Failure::Silence => {
                self.trouble = format!("no answer from the database for {} s", LONGEST.as_secs());
                self.without_session()
            }
            Failure::Database(error) => {
                let told = database("write to the store", &error);
                if session.is_closed() || error.is_closed() {
                    self.trouble = told.to_string();
                } else {
                    self.session = Some(session);
                }
                told
            }
        }
    }

    /// One transaction of an order that stands alone.
    async fn write<T>(
        &mut self,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StoreError> {
        let Some(session) = self.session.take() else {
            return Err(self.without_session());
        };
        let done = within(async {
            begin(&session.client, self.epoch).await?;
            let done = work(&session.client).await?;
            commit(&session.client).await?;
            Ok(done)
        })
        .await;
        match done {
            Ok(done) => {
                self.session = Some(session);
                Ok(done)
            }
            Err(failure) => {
                roll_back(&session).await;
                Err(self.note(failure, session))
            }
        }
    }

    async fn persist(&mut self, batch: Vec<Presented>) -> Result<(), StoreError> {
        let Some(session) = self.session.take() else {
            let error = self.without_session();
            refuse(batch, &error);
            return Err(error);
        };
        // Only tickets in their order take part.
        let mut expected = self.expected;
        let mut taken = Vec::with_capacity(batch.len());
        for presented in batch {
            let found = presented.ticket.0;
            if found > expected {
                let error = StoreError::OutOfOrder { found, expected };
                let _ = presented.answer.send(Err(error));
            } else {
                expected = expected.max(found + 1);
                taken.push(presented);
            }
        }
        match within(self.transact(&session.client, &taken)).await {
            Ok(committed) => {
                self.session = Some(session);
                self.expected = expected;
                self.memory.chain = committed.chain;
                self.memory.workers.extend(committed.workers);
                for task in committed.recorded {
                    self.filter.insert(&task);
                }
                for (presented, exceptions) in taken.into_iter().zip(committed.exceptions) {
                    // Who does not listen any more has lost interest.
                    let _ = presented.answer.send(Ok(exceptions));
                }
                Ok(())
            }
            Err(failure) => {
                roll_back(&session).await;
                let error = self.note(failure, session);
                refuse(taken, &error);
                Err(error)
            }
        }
    }

    async fn transact(&self, client: &Client, taken: &[Presented]) -> Result<Committed, Failure> {
        let perhaps: Vec<TaskId> = self.perhaps_recorded(taken);
        let (began, recorded) = join(begin(client, self.epoch), recorded(client, &perhaps)).await;
        began?;
        let recorded = recorded?;
        let mut plan = Plan::new(Before {
            recorded: &recorded,
            workers: &self.memory.workers,
            chain: self.memory.chain,
        });
        let exceptions = taken
            .iter()
            .map(|presented| plan.add(&presented.records))
            .collect();
        apply(client, &plan).await?;
        commit(client).await?;
        Ok(Committed {
            exceptions,
            chain: plan.chain,
            workers: plan
                .workers
                .iter()
                .map(|(id, (number, _))| (*id, *number))
                .collect(),
            recorded: plan.results.iter().map(|result| result.task).collect(),
        })
    }

    /// Tasks with results in a batch that may have been recorded before.
    fn perhaps_recorded(&self, taken: &[Presented]) -> Vec<TaskId> {
        let records = taken.iter().flat_map(|presented| presented.records.iter());
        let tasks: HashSet<TaskId> = records
            .filter_map(|record| match record {
                Record::Result { task, .. } if self.filter.may_contain(task) => Some(*task),
                _ => None,
            })
            .collect();
        tasks.into_iter().collect()
    }
}

/// What follows from a commit.
struct Committed {
    exceptions: Vec<Vec<Exception>>,
    chain: Chain,
    workers: Vec<(WorkerId, i64)>,
    recorded: Vec<TaskId>,
}

/// Comes when the session has ended, or when it is time to try for one.
async fn lost(session: &mut Option<Session>, next_try: Instant) {
    match session {
        Some(session) => session.ended().await,
        None => tokio::time::sleep_until(next_try).await,
    }
}

async fn within<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(LONGEST, work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::Silence),
    }
}

fn refuse(batch: Vec<Presented>, error: &StoreError) {
    for presented in batch {
        let _ = presented.answer.send(Err(error.again()));
    }
}

/// Takes tickets until enough are there or the first has waited long enough.
/// Another kind of order ends the batch and comes next.
async fn gather(
    first: Presented,
    orders: &mut mpsc::Receiver<Order>,
    next: &mut Option<Order>,
) -> Vec<Presented> {
    let deadline = Instant::now() + GATHER;
    let (mut records, mut bytes) = (first.records.len(), weight(&first.records));
    let mut batch = vec![first];
    while records < ENOUGH && bytes < ENOUGH_BYTES {
        match tokio::time::timeout_at(deadline, orders.recv()).await {
            Ok(Some(Order::Persist {
                ticket,
                records: more,
                answer,
            })) => {
                records += more.len();
                bytes += weight(&more);
                batch.push(Presented {
                    ticket,
                    records: more,
                    answer,
                });
            }
            Ok(Some(other)) => {
                *next = Some(other);
                break;
            }
            Ok(None) | Err(_) => break,
        }
    }
    batch
}

/// About how many bytes records have on their way to the database.
fn weight(records: &[Record]) -> usize {
    let of_one = |record: &Record| match record {
        Record::Result {
            evidence, theta, ..
        } => {
            let theta = theta.as_ref().map_or(0, |kept| 8 * kept.theta.len());
            200 + evidence.bytes.len() + theta
        }
        Record::Conflict { evidence, .. } => 200 + evidence.bytes.len(),
        Record::Failure { message, .. } => 200 + message.len(),
        Record::Checkpoint { state, .. } => 200 + state.len(),
        Record::TakenUpAgain { tasks, .. } | Record::ReleaseTheta { tasks, .. } => {
            100 * tasks.len()
        }
        Record::Worker { .. } | Record::SetAside { .. } | Record::Sweep { .. } => 200,
    };
    records.iter().map(of_one).sum()
}

/// Opens a transaction and makes sure that this epoch may write until its end.
async fn begin(client: &Client, epoch: u32) -> Result<(), Failure> {
    let (began, fence) = join(
        client.batch_execute("BEGIN"),
        client.query_typed("SELECT epoch FROM leader FOR SHARE", &[]),
    )
    .await;
    began?;
    let current = fence?.first().map_or(0, |row| row.get::<_, i64>(0));
    if current == i64::from(epoch) {
        Ok(())
    } else {
        Err(Failure::Deposed(current as u32))
    }
}

/// Commits; every statement must have succeeded, for the server answers a
/// COMMIT after a failure as if all were well.
async fn commit(client: &Client) -> Result<(), Failure> {
    Ok(client.batch_execute("COMMIT").await?)
}

async fn roll_back(session: &Session) {
    if !session.is_closed() {
        // Should it fail, the session is broken and the next use will say so.
        let rolled_back = session.client.batch_execute("ROLLBACK");
        let _ = tokio::time::timeout(Duration::from_secs(5), rolled_back).await;
    }
}

/// Evidence of those of some tasks that are recorded.
async fn recorded(
    client: &Client,
    tasks: &[TaskId],
) -> Result<HashMap<TaskId, Bytes>, tokio_postgres::Error> {
    if tasks.is_empty() {
        return Ok(HashMap::new());
    }
    let tasks: Vec<&[u8]> = tasks.iter().map(|task| task.0.as_slice()).collect();
    let sql = "SELECT task, evidence FROM results WHERE task = ANY($1)";
    let rows = client
        .query_typed(sql, &[(&tasks, Type::BYTEA_ARRAY)])
        .await?;
    let known = |row: &tokio_postgres::Row| {
        let task = TaskId::try_from(row.get::<_, &[u8]>(0)).ok()?;
        Some((task, Bytes::copy_from_slice(row.get(1))))
    };
    Ok(rows.iter().filter_map(known).collect())
}

fn add_sweep(
    sweep: SweepText,
) -> impl AsyncFnOnce(&Client) -> Result<Result<StoredSweep, StoreError>, tokio_postgres::Error> {
    async move |client| {
        client
            .execute(
                "INSERT INTO sweeps (sweep, id, name, grid, state, priority, numerics_version, \
                 numeric_level, created_at, files) \
                 SELECT (SELECT coalesce(max(sweep), 0) + 1 FROM sweeps), \
                 $1, $2, $3, $4, $5, $6, $7, $8, $9 ON CONFLICT (id) DO NOTHING",
                &[
                    &text(&sweep.id),
                    &text(&sweep.name),
                    &text(&sweep.grid),
                    &SweepState::Running.name(),
                    &sweep.priority,
                    &i64::from(sweep.numerics_version),
                    &text(&sweep.numeric_level),
                    &(unix_millis() as i64),
                    &text(&serde_json::json!(sweep.files).to_string()),
                ],
            )
            .await?;
        let sql = format!("{} WHERE id = $1", reader::SWEEPS);
        let row = client.query_one(&sql, &[&text(&sweep.id)]).await?;
        Ok(reader::sweep(&row))
    }
}

fn put_blob(
    id: BlobId,
    content: Bytes,
) -> impl AsyncFnOnce(&Client) -> Result<(), tokio_postgres::Error> {
    async move |client| {
        client
            .execute(
                "INSERT INTO blobs (sha256, content) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                &[&id.0.as_slice(), &content.as_ref()],
            )
            .await?;
        Ok(())
    }
}
