//! The thread that reads.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use common::ids::{BlobId, TaskId, WorkerId};
use common::protocol::{Attempt, FailureKind, Place, SweepNumber};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::error::StoreError;
use super::super::filter::Filter;
use super::super::{Chain, Share, StoredFailure, StoredResult, StoredSweep, SweepText};
use super::neighbours::Neighbours;
use super::queue::Receiver;
use super::{Answer, database, link, read_chain};
use crate::core::{Known, Lookup, Opened, PastFailure, SweepState};

/// Something to look up.
#[derive(Debug)]
pub(super) enum Question {
    Lookup {
        lookup: Lookup,
        answer: Answer<Known>,
    },
    Sweeps {
        answer: Answer<Vec<StoredSweep>>,
    },
    Blob {
        id: BlobId,
        answer: Answer<Option<Bytes>>,
    },
    Theta {
        task: TaskId,
        answer: Answer<Option<Vec<f64>>>,
    },
    Results {
        after: u64,
        limit: u32,
        answer: Answer<Vec<StoredResult>>,
    },
    ResultsOf {
        tasks: Vec<TaskId>,
        answer: Answer<Vec<StoredResult>>,
    },
    Failures {
        sweep: SweepNumber,
        answer: Answer<Vec<StoredFailure>>,
    },
    Shares {
        sweep: SweepNumber,
        answer: Answer<Vec<Share>>,
    },
    Chain {
        answer: Answer<Chain>,
    },
    Links {
        answer: Answer<Vec<Chain>>,
    },
}

#[derive(Debug)]
pub(super) struct Reader {
    connection: Connection,
    filter: Arc<Filter>,
    neighbours: Neighbours,
}

/// Why a question was not answered.
pub(super) enum Failed {
    Database(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Database(error) => database("read the store", &error),
            Failed::Store(error) => error,
        }
    }
}

impl Reader {
    pub(super) fn new(connection: Connection, filter: Arc<Filter>) -> Self {
        Self {
            connection,
            filter,
            neighbours: Neighbours::default(),
        }
    }

    /// Works until nobody can ask any more.
    pub(super) fn run(mut self, questions: &Receiver<Question>) {
        fn send<T>(answer: Answer<T>, found: Result<T, Failed>) {
            // Who does not listen any more has lost interest.
            let _ = answer.send(found.map_err(Into::into));
        }
        while let Ok(question) = questions.recv() {
            match question {
                Question::Lookup { lookup, answer } => send(answer, self.lookup(&lookup)),
                Question::Sweeps { answer } => send(answer, self.sweeps()),
                Question::Blob { id, answer } => send(answer, self.blob(id)),
                Question::Theta { task, answer } => send(answer, self.theta(&task)),
                Question::Results {
                    after,
                    limit,
                    answer,
                } => {
                    send(answer, self.results(after, limit));
                }
                Question::ResultsOf { tasks, answer } => send(answer, self.results_of(&tasks)),
                Question::Failures { sweep, answer } => send(answer, self.failures(sweep)),
                Question::Shares { sweep, answer } => send(answer, self.shares(sweep)),
                Question::Links { answer } => send(answer, self.links()),
                Question::Chain { answer } => {
                    send(answer, read_chain(&self.connection).map_err(Into::into));
                }
            }
        }
    }

    fn lookup(&mut self, lookup: &Lookup) -> Result<Known, Failed> {
        let Self {
            connection,
            filter,
            neighbours,
        } = self;
        let mut known = Known::default();
        // One view of everything that is asked.
        let view = connection.unchecked_transaction()?;
        let has = |sql| {
            view.prepare_cached(sql)?
                .query_row([lookup.sweep.0], |row| row.get(0))
        };
        let has_failures: bool = has("SELECT EXISTS (SELECT 1 FROM failures WHERE sweep = ?1)")?;
        let has_set_aside: bool = has("SELECT EXISTS (SELECT 1 FROM set_aside WHERE sweep = ?1)")?;
        let has_checkpoints: bool = view
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM checkpoints)")?
            .query_row([], |row| row.get(0))?;
        for task in &lookup.tasks {
            if filter.may_contain(task)
                && let Some(found) = neighbours.find(&view, task)?
            {
                known.results.push((*task, open(task, found.evidence)?));
                continue;
            }
            if has_failures {
                let mut statement = view.prepare_cached(
                    "SELECT workers.id, kind, attempt FROM failures JOIN workers USING (worker) \
                     WHERE sweep = ?1 AND task = ?2 ORDER BY attempt",
                )?;
                let mut rows = statement.query(params![lookup.sweep.0, task.0])?;
                while let Some(row) = rows.next()? {
                    let failure = PastFailure {
                        worker: worker_id(row, 0)?,
                        kind: kind(row, 1)?,
                        attempt: Attempt(row.get::<_, i64>(2)? as u64),
                    };
                    known.failures.push((*task, failure));
                }
            }
            if has_set_aside {
                let found = view
                    .prepare_cached("SELECT 1 FROM set_aside WHERE sweep = ?1 AND task = ?2")?
                    .exists(params![lookup.sweep.0, task.0])?;
                if found {
                    known.set_aside.push(*task);
                }
            }
            if has_checkpoints {
                let found = view
                    .prepare_cached("SELECT state, evaluations FROM checkpoints WHERE task = ?1")?
                    .query_row([task.0], |row| {
                        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?))
                    })
                    .optional()?;
                if let Some((state, evaluations)) = found {
                    known
                        .checkpoints
                        .push((*task, state.into(), evaluations as u64));
                }
            }
        }
        Ok(known)
    }

    fn sweeps(&self) -> Result<Vec<StoredSweep>, Failed> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("{SWEEPS} ORDER BY sweep"))?;
        let mut rows = statement.query([])?;
        let mut sweeps = Vec::new();
        while let Some(row) = rows.next()? {
            sweeps.push(sweep(row)??);
        }
        Ok(sweeps)
    }

    fn blob(&self, id: BlobId) -> Result<Option<Bytes>, Failed> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT content FROM blobs WHERE sha256 = ?1")?;
        let content = statement
            .query_row([id.0], |row| row.get::<_, Vec<u8>>(0))
            .optional()?;
        Ok(content.map(Into::into))
    }

    fn theta(&self, task: &TaskId) -> Result<Option<Vec<f64>>, Failed> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT theta FROM theta WHERE task = ?1")?;
        let bytes = statement
            .query_row([task.0], |row| row.get::<_, Vec<u8>>(0))
            .optional()?;
        let Some(bytes) = bytes else { return Ok(None) };
        let (values, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() {
            let what = format!("θ of task {task} has {} bytes", bytes.len());
            return Err(StoreError::Damaged { what }.into());
        }
        Ok(Some(
            values
                .iter()
                .map(|value| f64::from_le_bytes(*value))
                .collect(),
        ))
    }

    fn results(&mut self, after: u64, limit: u32) -> Result<Vec<StoredResult>, Failed> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        self.neighbours.rows(&self.connection, after, limit.into())
    }

    fn results_of(&mut self, tasks: &[TaskId]) -> Result<Vec<StoredResult>, Failed> {
        let Self {
            connection,
            filter,
            neighbours,
        } = self;
        let view = connection.unchecked_transaction()?;
        let mut results = Vec::with_capacity(tasks.len());
        for task in tasks.iter().filter(|task| filter.may_contain(task)) {
            results.extend(neighbours.find(&view, task)?);
        }
        Ok(results)
    }

    /// Gathered here: the database would sort all results to group them.
    fn shares(&mut self, sweep: SweepNumber) -> Result<Vec<Share>, Failed> {
        let Self {
            connection,
            neighbours,
            ..
        } = self;
        let view = connection.unchecked_transaction()?;
        let mut statement = view.prepare_cached(
            "SELECT worker, cpu_seconds, peak_memory, recorded_at FROM results WHERE sweep = ?1 \
             ORDER BY result",
        )?;
        let mut rows = statement.query([sweep.0])?;
        let mut of: BTreeMap<i64, Share> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let at = row.get::<_, i64>(3)? as u64;
            let share = match of.entry(row.get(0)?) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let worker = neighbours.worker(&view, *new.key())?;
                    new.insert(worker.share(at))
                }
            };
            share.results += 1;
            share.cpu_seconds += row.get::<_, f64>(1)?;
            share.peak_memory = share.peak_memory.max(row.get::<_, i64>(2)? as u64);
            share.first_recorded_at = share.first_recorded_at.min(at);
            share.last_recorded_at = share.last_recorded_at.max(at);
        }
        Ok(of.into_values().collect())
    }

    fn links(&self) -> Result<Vec<Chain>, Failed> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT last_result, link FROM links ORDER BY last_result")?;
        let mut rows = statement.query([])?;
        let mut links = Vec::new();
        while let Some(row) = rows.next()? {
            links.push(link(row.get(0)?, &row.get::<_, Vec<u8>>(1)?)?);
        }
        Ok(links)
    }

    fn failures(&self, sweep: SweepNumber) -> Result<Vec<StoredFailure>, Failed> {
        let mut statement = self.connection.prepare_cached(
            "SELECT failures.task, failures.sweep, position, baseline, attempt, workers.id, kind, \
             message, failed_at, set_aside.task IS NOT NULL \
             FROM failures JOIN workers USING (worker) \
             LEFT JOIN set_aside ON set_aside.sweep = failures.sweep \
             AND set_aside.task = failures.task \
             WHERE failures.sweep = ?1 ORDER BY failures.task, attempt",
        )?;
        let mut rows = statement.query([sweep.0])?;
        let mut failures = Vec::new();
        while let Some(row) = rows.next()? {
            failures.push(StoredFailure {
                task: task_id(row, 0)?,
                place: place(row, 1)?,
                attempt: Attempt(row.get::<_, i64>(4)? as u64),
                worker: worker_id(row, 5)?,
                kind: kind(row, 6)?,
                message: row.get(7)?,
                failed_at: row.get::<_, i64>(8)? as u64,
                set_aside: row.get(9)?,
            });
        }
        Ok(failures)
    }
}

/// Evidence that was stored must be readable: it was when it was recorded.
fn open(task: &TaskId, evidence: Bytes) -> Result<Opened, StoreError> {
    Opened::open(evidence).map_err(|error| StoreError::Damaged {
        what: format!("evidence of task {task}: {error}"),
    })
}

/// All columns of a sweep; a condition or an order may follow.
pub(super) const SWEEPS: &str = "SELECT sweep, id, name, grid, state, priority, \
                                 numerics_version, numeric_level, created_at, files FROM sweeps";

/// A row of [`SWEEPS`].
pub(super) fn sweep(row: &Row<'_>) -> rusqlite::Result<Result<StoredSweep, StoreError>> {
    let state: String = row.get(4)?;
    let Some(state) = SweepState::from_name(&state) else {
        return Ok(Err(StoreError::Damaged {
            what: format!("a sweep in the state `{state}`"),
        }));
    };
    let files: String = row.get(9)?;
    let Ok(files) = serde_json::from_str(&files) else {
        return Ok(Err(StoreError::Damaged {
            what: format!("a sweep with the files `{files}`"),
        }));
    };
    Ok(Ok(StoredSweep {
        number: SweepNumber(row.get(0)?),
        text: SweepText {
            id: row.get(1)?,
            name: row.get(2)?,
            grid: row.get(3)?,
            files,
            priority: row.get(5)?,
            numerics_version: row.get(6)?,
            numeric_level: row.get(7)?,
        },
        state,
        created_at: row.get::<_, i64>(8)? as u64,
    }))
}

pub(super) fn task_id(row: &Row<'_>, column: usize) -> Result<TaskId, Failed> {
    let bytes: Vec<u8> = row.get(column)?;
    let damaged = |_| StoreError::Damaged {
        what: format!("a task of {} bytes", bytes.len()),
    };
    Ok(TaskId::try_from(bytes.as_slice()).map_err(damaged)?)
}

pub(super) fn worker_id(row: &Row<'_>, column: usize) -> Result<WorkerId, Failed> {
    let bytes: Vec<u8> = row.get(column)?;
    let damaged = |_| StoreError::Damaged {
        what: format!("a worker of {} bytes", bytes.len()),
    };
    Ok(WorkerId::try_from(bytes.as_slice()).map_err(damaged)?)
}

fn kind(row: &Row<'_>, column: usize) -> Result<FailureKind, Failed> {
    let name: String = row.get(column)?;
    let damaged = || StoreError::Damaged {
        what: format!("a failure of the kind `{name}`"),
    };
    Ok(FailureKind::from_name(&name).ok_or_else(damaged)?)
}

/// Sweep, position and baseline in three columns.
pub(super) fn place(row: &Row<'_>, first: usize) -> Result<Place, Failed> {
    Ok(Place {
        sweep: SweepNumber(row.get(first)?),
        position: row.get::<_, i64>(first + 1)? as u64,
        baseline: row.get(first + 2)?,
    })
}
