//! The thread that writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::ids::{BlobId, IdMap, TaskId, WorkerId};
use common::protocol::{Attempt, Place, Profile, SweepNumber};
use common::record::Telemetry;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::super::error::StoreError;
use super::super::filter::Filter;
use super::super::{Chain, StoredSweep, SweepText};
use super::queue::Receiver;
use super::{Answer, database, reader, unix_millis};
use crate::core::{AlreadyThere, Exception, KeptTheta, Opened, Record, SweepState, Ticket};

/// How long the first ticket of a commit waits for others. One sync then
/// serves all of them, and nobody waits: workers go on before the receipt.
const GATHER: Duration = Duration::from_millis(10);
/// Records after which a commit waits for no more: about as many as are written
/// in the same time.
const ENOUGH: usize = 1024;

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

#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    filter: Arc<Filter>,
    chain: Chain,
    /// The next ticket in order.
    expected: u64,
    workers: IdMap<WorkerId, i64>,
    /// Whether some task may have a checkpoint that its result makes useless.
    has_checkpoints: bool,
}

/// What a transaction changes in memory, if it is committed.
struct Changes {
    expected: u64,
    chain: Chain,
    recorded: Vec<TaskId>,
    workers: BTreeMap<WorkerId, i64>,
    has_checkpoints: bool,
}

/// Why an order was not carried out.
enum Refused {
    /// The order alone: the transaction goes on.
    Order(StoreError),
    /// The database: everything in the transaction fails.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// An order whose answer waits for the commit.
enum Done {
    Persist(Answer<Vec<Exception>>, Result<Vec<Exception>, StoreError>),
    AddSweep(Answer<StoredSweep>, Result<StoredSweep, StoreError>),
    PutBlob(Answer<()>, Result<(), StoreError>),
}

impl Done {
    fn answer(self, committed: Result<(), &str>) {
        fn send<T>(answer: Answer<T>, done: Result<T, StoreError>, committed: Result<(), &str>) {
            let result = match committed {
                Ok(()) => done,
                Err(message) => {
                    let action = "write to the store";
                    Err(StoreError::Database {
                        action,
                        message: message.to_owned(),
                    })
                }
            };
            // Who does not listen any more has lost interest.
            let _ = answer.send(result);
        }
        match self {
            Self::Persist(answer, done) => send(answer, done, committed),
            Self::AddSweep(answer, done) => send(answer, done, committed),
            Self::PutBlob(answer, done) => send(answer, done, committed),
        }
    }
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        filter: Arc<Filter>,
        chain: Chain,
    ) -> Result<Self, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM checkpoints)";
        let has_checkpoints = connection
            .query_row(sql, [], |row| row.get(0))
            .map_err(|error| database("look for checkpoints", &error))?;
        Ok(Self {
            connection,
            filter,
            chain,
            expected: 1,
            workers: IdMap::default(),
            has_checkpoints,
        })
    }

    /// Works until nobody can send any more.
    pub(super) fn run(mut self, orders: &Receiver<Order>) -> Result<(), StoreError> {
        let mut result = Ok(());
        while let Ok(first) = orders.recv() {
            let batch = gather(first, orders);
            result = self.commit(batch);
        }
        // Leaves one file instead of three; what is in the log is safe anyway.
        let _ = self
            .connection
            .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        result
    }

    fn commit(&mut self, batch: Vec<Order>) -> Result<(), StoreError> {
        let mut done = Vec::with_capacity(batch.len());
        let mut unanswered = batch.into_iter();
        let result = self.transact(&mut unanswered, &mut done);
        let message = result.as_ref().err().map(ToString::to_string);
        let committed = message.as_deref().map_or(Ok(()), Err);
        for done in done {
            done.answer(committed);
        }
        // Orders that the transaction did not come to.
        for order in unanswered {
            order.refuse(message.as_deref().unwrap_or_default());
        }
        result.map_err(|error| database("write to the store", &error))
    }

    fn transact(
        &mut self,
        batch: &mut impl Iterator<Item = Order>,
        done: &mut Vec<Done>,
    ) -> rusqlite::Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut changes = Changes {
            expected: self.expected,
            chain: self.chain,
            recorded: Vec::new(),
            workers: BTreeMap::new(),
            has_checkpoints: self.has_checkpoints,
        };
        let mut apply = Apply {
            transaction: &transaction,
            workers: &self.workers,
            changes: &mut changes,
            now: unix_millis() as i64,
        };
        for order in batch {
            let failed = match order {
                Order::Persist {
                    ticket,
                    records,
                    answer,
                } => settle(apply.persist(ticket, &records), answer, Done::Persist, done),
                Order::AddSweep { sweep, answer } => {
                    settle(apply.add_sweep(sweep), answer, Done::AddSweep, done)
                }
                Order::PutBlob {
                    id,
                    content,
                    answer,
                } => settle(apply.put_blob(id, &content), answer, Done::PutBlob, done),
            };
            if let Some(error) = failed {
                return Err(error);
            }
        }
        if changes.chain.results > self.chain.results {
            apply_link(&transaction, &changes.chain)?;
        }
        transaction.commit()?;
        self.expected = changes.expected;
        self.chain = changes.chain;
        self.workers.extend(changes.workers);
        self.has_checkpoints = changes.has_checkpoints;
        for task in changes.recorded {
            self.filter.insert(&task);
        }
        Ok(())
    }
}

/// Files an order's outcome; returns the error that ends the transaction.
fn settle<T>(
    outcome: Result<T, Refused>,
    answer: Answer<T>,
    wrap: impl FnOnce(Answer<T>, Result<T, StoreError>) -> Done,
    done: &mut Vec<Done>,
) -> Option<rusqlite::Error> {
    match outcome {
        Ok(value) => {
            done.push(wrap(answer, Ok(value)));
            None
        }
        Err(Refused::Order(error)) => {
            done.push(wrap(answer, Err(error)));
            None
        }
        Err(Refused::Database(error)) => {
            done.push(wrap(answer, Err(database("write to the store", &error))));
            Some(error)
        }
    }
}

impl Order {
    fn refuse(self, message: &str) {
        let error = || StoreError::Database {
            action: "write to the store",
            message: message.to_owned(),
        };
        match self {
            Self::Persist { answer, .. } => drop(answer.send(Err(error()))),
            Self::AddSweep { answer, .. } => drop(answer.send(Err(error()))),
            Self::PutBlob { answer, .. } => drop(answer.send(Err(error()))),
        }
    }

    fn records(&self) -> usize {
        match self {
            Self::Persist { records, .. } => records.len(),
            // Somebody waits for these.
            Self::AddSweep { .. } | Self::PutBlob { .. } => ENOUGH,
        }
    }
}

/// Takes orders until enough are there or the first has waited long enough.
fn gather(first: Order, orders: &Receiver<Order>) -> Vec<Order> {
    let deadline = Instant::now() + GATHER;
    let mut records = first.records();
    let mut batch = vec![first];
    while records < ENOUGH {
        let left = deadline.saturating_duration_since(Instant::now());
        match orders.recv_timeout(left) {
            Ok(order) => {
                records += order.records();
                batch.push(order);
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    batch
}

fn apply_link(transaction: &Transaction<'_>, chain: &Chain) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT INTO links (last_result, link, committed_at) VALUES (?1, ?2, ?3)")?
        .execute(params![
            chain.results as i64,
            chain.head,
            unix_millis() as i64
        ])?;
    Ok(())
}

/// One transaction at work.
struct Apply<'a> {
    transaction: &'a Transaction<'a>,
    workers: &'a IdMap<WorkerId, i64>,
    changes: &'a mut Changes,
    now: i64,
}

impl Apply<'_> {
    fn persist(&mut self, ticket: Ticket, records: &[Record]) -> Result<Vec<Exception>, Refused> {
        if ticket.0 > self.changes.expected {
            let (found, expected) = (ticket.0, self.changes.expected);
            return Err(Refused::Order(StoreError::OutOfOrder { found, expected }));
        }
        let mut exceptions = Vec::new();
        for (position, record) in records.iter().enumerate() {
            if let Some(found) = self.record(record)? {
                exceptions.push(Exception {
                    record: position as u32,
                    found,
                });
            }
        }
        self.changes.expected = self.changes.expected.max(ticket.0 + 1);
        Ok(exceptions)
    }

    fn record(&mut self, record: &Record) -> rusqlite::Result<Option<AlreadyThere>> {
        match record {
            Record::Worker { id, profile } => self.worker(id, profile)?,
            Record::Result {
                task,
                place,
                worker,
                attempt,
                evidence,
                telemetry,
                theta,
            } => {
                return self.result(task, *place, worker, *attempt, evidence, telemetry, theta);
            }
            Record::Conflict {
                task,
                worker,
                attempt,
                evidence,
            } => {
                self.conflict(task, worker, *attempt, evidence)?;
            }
            Record::Failure {
                task,
                place,
                worker,
                attempt,
                kind,
                message,
            } => {
                let worker = self.number_of(worker)?;
                self.execute(
                    "INSERT OR IGNORE INTO failures (sweep, task, attempt, position, baseline, \
                     worker, kind, message, failed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    params![
                        place.sweep.0,
                        task.0,
                        attempt.0 as i64,
                        place.position as i64,
                        place.baseline,
                        worker,
                        kind.name(),
                        message,
                        self.now,
                    ],
                )?;
            }
            Record::SetAside { task, place } => self.execute(
                "INSERT OR IGNORE INTO set_aside (sweep, task) VALUES (?1, ?2)",
                params![place.sweep.0, task.0],
            )?,
            Record::TakenUpAgain { sweep, tasks } => {
                for task in tasks {
                    for sql in [
                        "DELETE FROM failures WHERE sweep = ?1 AND task = ?2",
                        "DELETE FROM set_aside WHERE sweep = ?1 AND task = ?2",
                    ] {
                        self.execute(sql, params![sweep.0, task.0])?;
                    }
                }
            }
            Record::Checkpoint {
                task,
                state,
                evaluations,
            } => {
                self.changes.has_checkpoints = true;
                self.execute(
                    "INSERT OR REPLACE INTO checkpoints (task, state, evaluations) \
                     SELECT ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM results WHERE task = ?1)",
                    params![task.0, state.as_ref(), *evaluations as i64],
                )?;
            }
            Record::ReleaseTheta { sweep, tasks } => {
                for task in tasks {
                    self.release_theta(*sweep, task)?;
                }
            }
            Record::Sweep {
                sweep,
                state,
                priority,
            } => self.execute(
                "UPDATE sweeps SET state = ?2, priority = ?3 WHERE sweep = ?1",
                params![sweep.0, state.name(), priority],
            )?,
        }
        Ok(None)
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(sql)?
            .execute(values)
            .map(|_| ())
    }

    fn worker(&mut self, id: &WorkerId, profile: &Profile) -> rusqlite::Result<()> {
        self.execute(
            "INSERT INTO workers (id, name, host, program_version, slots, threads_per_slot, \
             first_seen) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO UPDATE SET \
             name = excluded.name, host = excluded.host, \
             program_version = excluded.program_version, slots = excluded.slots, \
             threads_per_slot = excluded.threads_per_slot",
            params![
                id.0,
                profile.name,
                profile.host,
                profile.program_version,
                profile.slots,
                profile.threads_per_slot,
                self.now,
            ],
        )
    }

    /// The number of a worker; results and failures keep that.
    fn number_of(&mut self, id: &WorkerId) -> rusqlite::Result<i64> {
        if let Some(number) = self
            .workers
            .get(id)
            .or_else(|| self.changes.workers.get(id))
        {
            return Ok(*number);
        }
        let find = "SELECT worker FROM workers WHERE id = ?1";
        let mut find = self.transaction.prepare_cached(find)?;
        let number = match find.query_row([id.0], |row| row.get(0)).optional()? {
            Some(number) => number,
            None => {
                // Its own record comes first, so this is a belt to that brace.
                self.execute(
                    "INSERT INTO workers (id, name, host, program_version, slots, \
                     threads_per_slot, first_seen) VALUES (?1, '', '', '', 0, 0, ?2)",
                    params![id.0, self.now],
                )?;
                self.transaction.last_insert_rowid()
            }
        };
        self.changes.workers.insert(*id, number);
        Ok(number)
    }

    fn result(
        &mut self,
        task: &TaskId,
        place: Place,
        worker: &WorkerId,
        attempt: Attempt,
        evidence: &Opened,
        telemetry: &Telemetry,
        theta: &Option<KeptTheta>,
    ) -> rusqlite::Result<Option<AlreadyThere>> {
        let number = self.number_of(worker)?;
        let result = self.changes.chain.results as i64 + 1;
        let inserted = self
            .transaction
            .prepare_cached(
                "INSERT INTO results (result, task, sweep, position, baseline, worker, attempt, \
                 evidence, seconds, cpu_seconds, peak_memory, recorded_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
                 ON CONFLICT (task) DO NOTHING",
            )?
            .execute(params![
                result,
                task.0,
                place.sweep.0,
                place.position as i64,
                place.baseline,
                number,
                attempt.0 as i64,
                evidence.bytes.as_ref(),
                telemetry.seconds,
                telemetry.cpu_seconds,
                telemetry.peak_memory as i64,
                self.now,
            ])?;
        if inserted == 0 {
            return self
                .already_there(task, worker, attempt, evidence)
                .map(Some);
        }
        self.changes.chain = self.changes.chain.with(task, &evidence.digest);
        self.changes.recorded.push(*task);
        if self.changes.has_checkpoints {
            self.execute("DELETE FROM checkpoints WHERE task = ?1", params![task.0])?;
        }
        if let Some(kept) = theta {
            self.keep_theta(task, kept)?;
        }
        Ok(None)
    }

    fn already_there(
        &mut self,
        task: &TaskId,
        worker: &WorkerId,
        attempt: Attempt,
        evidence: &Opened,
    ) -> rusqlite::Result<AlreadyThere> {
        let equal = self
            .transaction
            .prepare_cached("SELECT evidence = ?2 FROM results WHERE task = ?1")?
            .query_row(params![task.0, evidence.bytes.as_ref()], |row| {
                row.get::<_, bool>(0)
            })?;
        if equal {
            return Ok(AlreadyThere::Equal);
        }
        self.conflict(task, worker, attempt, evidence)?;
        Ok(AlreadyThere::Different)
    }

    fn conflict(
        &mut self,
        task: &TaskId,
        worker: &WorkerId,
        attempt: Attempt,
        evidence: &Opened,
    ) -> rusqlite::Result<()> {
        let worker = self.number_of(worker)?;
        self.execute(
            "INSERT OR IGNORE INTO conflicts (task, attempt, worker, evidence, found_at) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                task.0,
                attempt.0 as i64,
                worker,
                evidence.bytes.as_ref(),
                self.now
            ],
        )
    }

    fn keep_theta(&self, task: &TaskId, kept: &KeptTheta) -> rusqlite::Result<()> {
        let bytes: Vec<u8> = kept
            .theta
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.execute(
            "INSERT OR IGNORE INTO theta (task, theta) VALUES (?1, ?2)",
            params![task.0, bytes],
        )?;
        for sweep in &kept.sweeps {
            self.execute(
                "INSERT OR IGNORE INTO theta_wanted (task, sweep) VALUES (?1, ?2)",
                params![task.0, sweep.0],
            )?;
        }
        Ok(())
    }

    fn release_theta(&self, sweep: SweepNumber, task: &TaskId) -> rusqlite::Result<()> {
        self.execute(
            "DELETE FROM theta_wanted WHERE task = ?1 AND sweep = ?2",
            params![task.0, sweep.0],
        )?;
        self.execute(
            "DELETE FROM theta WHERE task = ?1 \
             AND NOT EXISTS (SELECT 1 FROM theta_wanted WHERE task = ?1)",
            params![task.0],
        )
    }

    fn add_sweep(&mut self, sweep: SweepText) -> Result<StoredSweep, Refused> {
        self.execute(
            "INSERT INTO sweeps (id, name, grid, state, priority, numerics_version, \
             numeric_level, created_at, files) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
             ON CONFLICT (id) DO NOTHING",
            params![
                sweep.id,
                sweep.name,
                sweep.grid,
                SweepState::Running.name(),
                sweep.priority,
                sweep.numerics_version,
                sweep.numeric_level,
                self.now,
                serde_json::json!(sweep.files).to_string(),
            ],
        )?;
        let sql = format!("{} WHERE id = ?1", reader::SWEEPS);
        let mut statement = self.transaction.prepare_cached(&sql)?;
        let stored = statement.query_row([&sweep.id], |row| Ok(reader::sweep(row)))??;
        stored.map_err(Refused::Order)
    }

    fn put_blob(&mut self, id: BlobId, content: &Bytes) -> Result<(), Refused> {
        self.execute(
            "INSERT OR IGNORE INTO blobs (sha256, content) VALUES (?1, ?2)",
            params![id.0, content.as_ref()],
        )?;
        Ok(())
    }
}
