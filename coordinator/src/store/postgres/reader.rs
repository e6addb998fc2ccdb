//! The session that reads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::ids::{BlobId, IdMap, TaskId, WorkerId};
use common::protocol::{Attempt, FailureKind, Place, SweepNumber};
use common::record::Telemetry;
use tokio::sync::mpsc;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::super::address::PostgresUrl;
use super::super::error::StoreError;
use super::super::filter::Filter;
use super::super::{Chain, Share, StoredFailure, StoredResult, StoredSweep, SweepText};
use super::session::{Session, database};
use super::{Answer, schema};
use crate::core::{Known, Lookup, Opened, PastFailure, SweepState};

/// An answer that takes longer counts as lost with its session.
const LONGEST: Duration = Duration::from_secs(60);

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
    pub(super) url: PostgresUrl,
    pub(super) session: Option<Session>,
    pub(super) filter: Arc<Filter>,
}

impl Reader {
    /// Works until nobody can ask any more.
    pub(super) async fn run(mut self, mut questions: mpsc::Receiver<Question>) {
        fn send<T>(answer: Answer<T>, found: Result<T, StoreError>) {
            // Who does not listen any more has lost interest.
            let _ = answer.send(found);
        }
        while let Some(question) = questions.recv().await {
            match question {
                Question::Lookup { lookup, answer } => {
                    let filter = Arc::clone(&self.filter);
                    let found = self.ask(async |client| known(client, &filter, &lookup).await);
                    send(answer, found.await);
                }
                Question::Sweeps { answer } => send(answer, self.ask(sweeps).await),
                Question::Blob { id, answer } => {
                    send(
                        answer,
                        self.ask(async |client| blob(client, id).await).await,
                    );
                }
                Question::Theta { task, answer } => {
                    send(
                        answer,
                        self.ask(async |client| theta(client, &task).await).await,
                    );
                }
                Question::Results {
                    after,
                    limit,
                    answer,
                } => {
                    let found = self.ask(async |client| results(client, after, limit).await);
                    send(answer, found.await);
                }
                Question::ResultsOf { tasks, answer } => {
                    let found = self.ask(async |client| results_of(client, &tasks).await);
                    send(answer, found.await);
                }
                Question::Links { answer } => send(answer, self.ask(schema::links).await),
                Question::Failures { sweep, answer } => {
                    let found = self.ask(async |client| failures(client, sweep).await);
                    send(answer, found.await);
                }
                Question::Shares { sweep, answer } => {
                    let found = self.ask(async |client| shares(client, sweep).await);
                    send(answer, found.await);
                }
                Question::Chain { answer } => send(answer, self.ask(schema::chain).await),
            }
        }
    }

    /// Asks in the session that is there, or in a new one.
    async fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&Client) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let session = match self.session.take() {
            Some(session) if !session.is_closed() => session,
            _ => Session::open(&self.url, "reader").await?,
        };
        match tokio::time::timeout(LONGEST, question(&session.client)).await {
            Ok(found) => {
                if !session.is_closed() {
                    self.session = Some(session);
                }
                found
            }
            Err(_) => Err(StoreError::Database {
                action: "read the store",
                message: format!("no answer from the database for {} s", LONGEST.as_secs()),
            }),
        }
    }
}

fn failed(error: tokio_postgres::Error) -> StoreError {
    database("read the store", &error)
}

/// Everything that is known of the tasks of a look-up, in one statement and so in one view.
/// A row says what it is of: a result, a failure, a task set aside, a checkpoint.
const KNOWN: &str = "\
    SELECT 'result', task, evidence, NULL::bytea, NULL::text, 0::bigint \
    FROM results WHERE task = ANY($1) \
    UNION ALL \
    SELECT 'failure', task, NULL, workers.id, kind, attempt \
    FROM failures JOIN workers USING (worker) WHERE sweep = $2 AND task = ANY($3) \
    UNION ALL \
    SELECT 'set_aside', task, NULL, NULL, NULL, 0 \
    FROM set_aside WHERE sweep = $2 AND task = ANY($3) \
    UNION ALL \
    SELECT 'checkpoint', task, state, NULL, NULL, evaluations \
    FROM checkpoints WHERE task = ANY($3)";

async fn known(client: &Client, filter: &Filter, lookup: &Lookup) -> Result<Known, StoreError> {
    let all: Vec<&[u8]> = lookup.tasks.iter().map(|task| task.0.as_slice()).collect();
    let perhaps = lookup.tasks.iter().filter(|task| filter.may_contain(task));
    let perhaps: Vec<&[u8]> = perhaps.map(|task| task.0.as_slice()).collect();
    let rows = client
        .query_typed(
            KNOWN,
            &[
                (&perhaps, Type::BYTEA_ARRAY),
                (&i64::from(lookup.sweep.0), Type::INT8),
                (&all, Type::BYTEA_ARRAY),
            ],
        )
        .await
        .map_err(failed)?;
    let mut evidence = HashMap::new();
    let mut failures: BTreeMap<(TaskId, i64), PastFailure> = BTreeMap::new();
    let mut set_aside = std::collections::HashSet::new();
    let mut checkpoints = HashMap::new();
    for row in &rows {
        let task = task_id(row, 1)?;
        match row.get(0) {
            "result" => {
                evidence.insert(task, open(&task, row.get(2))?);
            }
            "failure" => {
                let attempt: i64 = row.get(5);
                let failure = PastFailure {
                    worker: worker_id(row, 3)?,
                    kind: kind(row, 4)?,
                    attempt: Attempt(attempt as u64),
                };
                failures.insert((task, attempt), failure);
            }
            "set_aside" => {
                set_aside.insert(task);
            }
            _ => {
                let state = Bytes::copy_from_slice(row.get(2));
                checkpoints.insert(task, (state, row.get::<_, i64>(5) as u64));
            }
        }
    }
    // In the order of the question.
    let mut known = Known::default();
    for task in &lookup.tasks {
        if let Some(opened) = evidence.get(task) {
            known.results.push((*task, Opened::clone(opened)));
            continue;
        }
        let of_task = failures.range((*task, i64::MIN)..=(*task, i64::MAX));
        let of_task = of_task.map(|(_, failure)| (*task, *failure));
        known.failures.extend(of_task);
        if set_aside.contains(task) {
            known.set_aside.push(*task);
        }
        if let Some((state, evaluations)) = checkpoints.get(task) {
            known.checkpoints.push((*task, state.clone(), *evaluations));
        }
    }
    Ok(known)
}

async fn sweeps(client: &Client) -> Result<Vec<StoredSweep>, StoreError> {
    let sql = format!("{SWEEPS} ORDER BY sweep");
    let rows = client.query_typed(&sql, &[]).await.map_err(failed)?;
    rows.iter().map(sweep).collect()
}

async fn blob(client: &Client, id: BlobId) -> Result<Option<Bytes>, StoreError> {
    let sql = "SELECT content FROM blobs WHERE sha256 = $1";
    let rows = client
        .query_typed(sql, &[(&id.0.as_slice(), Type::BYTEA)])
        .await
        .map_err(failed)?;
    Ok(rows.first().map(|row| row.get::<_, Vec<u8>>(0).into()))
}

async fn theta(client: &Client, task: &TaskId) -> Result<Option<Vec<f64>>, StoreError> {
    let sql = "SELECT theta FROM theta WHERE task = $1";
    let rows = client
        .query_typed(sql, &[(&task.0.as_slice(), Type::BYTEA)])
        .await
        .map_err(failed)?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let bytes: &[u8] = row.get(0);
    let (values, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        let what = format!("θ of task {task} has {} bytes", bytes.len());
        return Err(StoreError::Damaged { what });
    }
    let values = values.iter().map(|value| f64::from_le_bytes(*value));
    Ok(Some(values.collect()))
}

/// All columns of a result; a condition or an order may follow.
const RESULTS: &str = "SELECT result, task, sweep, position, baseline, workers.id, workers.host, \
                       workers.program_version, attempt, evidence, seconds, cpu_seconds, \
                       peak_memory, recorded_at FROM results JOIN workers USING (worker)";

/// A row of [`RESULTS`].
fn result(row: &Row) -> Result<StoredResult, StoreError> {
    Ok(StoredResult {
        number: row.get::<_, i64>(0) as u64,
        task: task_id(row, 1)?,
        place: place(row, 2)?,
        worker: worker_id(row, 5)?,
        host: row.get::<_, &str>(6).into(),
        program_version: row.get::<_, &str>(7).into(),
        attempt: Attempt(row.get::<_, i64>(8) as u64),
        evidence: row.get::<_, Vec<u8>>(9).into(),
        telemetry: Telemetry {
            seconds: row.get(10),
            cpu_seconds: row.get(11),
            peak_memory: row.get::<_, i64>(12) as u64,
        },
        recorded_at: row.get::<_, i64>(13) as u64,
    })
}

async fn results(client: &Client, after: u64, limit: u32) -> Result<Vec<StoredResult>, StoreError> {
    let sql = format!("{RESULTS} WHERE result > $1 ORDER BY result LIMIT $2");
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let rows = client
        .query_typed(
            &sql,
            &[(&after, Type::INT8), (&i64::from(limit), Type::INT8)],
        )
        .await
        .map_err(failed)?;
    rows.iter().map(result).collect()
}

async fn results_of(client: &Client, tasks: &[TaskId]) -> Result<Vec<StoredResult>, StoreError> {
    let sql = format!("{RESULTS} WHERE task = ANY($1)");
    let asked: Vec<&[u8]> = tasks.iter().map(|task| task.0.as_slice()).collect();
    let rows = client
        .query_typed(&sql, &[(&asked, Type::BYTEA_ARRAY)])
        .await
        .map_err(failed)?;
    let found: Result<IdMap<TaskId, StoredResult>, StoreError> = rows
        .iter()
        .map(|row| result(row).map(|result| (result.task, result)))
        .collect();
    let mut found = found?;
    Ok(tasks.iter().filter_map(|task| found.remove(task)).collect())
}

async fn shares(client: &Client, sweep: SweepNumber) -> Result<Vec<Share>, StoreError> {
    let sql = "SELECT workers.id, host, program_version, count(*), \
               sum(cpu_seconds ORDER BY result), max(peak_memory), min(recorded_at), \
               max(recorded_at) FROM results JOIN workers USING (worker) WHERE sweep = $1 \
               GROUP BY worker, workers.id, host, program_version ORDER BY worker";
    let rows = client
        .query_typed(sql, &[(&i64::from(sweep.0), Type::INT8)])
        .await
        .map_err(failed)?;
    let share = |row: &Row| {
        Ok(Share {
            worker: worker_id(row, 0)?,
            host: row.get(1),
            program_version: row.get(2),
            results: row.get::<_, i64>(3) as u64,
            cpu_seconds: row.get(4),
            peak_memory: row.get::<_, i64>(5) as u64,
            first_recorded_at: row.get::<_, i64>(6) as u64,
            last_recorded_at: row.get::<_, i64>(7) as u64,
        })
    };
    rows.iter().map(share).collect()
}

async fn failures(client: &Client, sweep: SweepNumber) -> Result<Vec<StoredFailure>, StoreError> {
    let sql = "SELECT failures.task, failures.sweep, position, baseline, attempt, workers.id, \
               kind, message, failed_at, set_aside.task IS NOT NULL \
               FROM failures JOIN workers USING (worker) \
               LEFT JOIN set_aside ON set_aside.sweep = failures.sweep \
               AND set_aside.task = failures.task \
               WHERE failures.sweep = $1 ORDER BY failures.task, attempt";
    let rows = client
        .query_typed(sql, &[(&i64::from(sweep.0), Type::INT8)])
        .await
        .map_err(failed)?;
    let failure = |row: &Row| {
        Ok(StoredFailure {
            task: task_id(row, 0)?,
            place: place(row, 1)?,
            attempt: Attempt(row.get::<_, i64>(4) as u64),
            worker: worker_id(row, 5)?,
            kind: kind(row, 6)?,
            message: row.get(7),
            failed_at: row.get::<_, i64>(8) as u64,
            set_aside: row.get(9),
        })
    };
    rows.iter().map(failure).collect()
}

/// Evidence that was stored must be readable: it was when it was recorded.
fn open(task: &TaskId, evidence: &[u8]) -> Result<Opened, StoreError> {
    Opened::open(Bytes::copy_from_slice(evidence)).map_err(|error| StoreError::Damaged {
        what: format!("evidence of task {task}: {error}"),
    })
}

/// All columns of a sweep; a condition or an order may follow.
pub(super) const SWEEPS: &str = "SELECT sweep, id, name, grid, state, priority, \
                                 numerics_version, numeric_level, created_at, files FROM sweeps";

/// A row of [`SWEEPS`].
pub(super) fn sweep(row: &Row) -> Result<StoredSweep, StoreError> {
    let state: &str = row.get(4);
    let Some(state) = SweepState::from_name(state) else {
        let what = format!("a sweep in the state `{state}`");
        return Err(StoreError::Damaged { what });
    };
    let files: &str = row.get(9);
    let Ok(files) = serde_json::from_str(files) else {
        let what = format!("a sweep with the files `{files}`");
        return Err(StoreError::Damaged { what });
    };
    Ok(StoredSweep {
        number: SweepNumber(row.get::<_, i64>(0) as u32),
        text: SweepText {
            id: row.get(1),
            name: row.get(2),
            grid: row.get(3),
            files,
            priority: row.get(5),
            numerics_version: row.get::<_, i64>(6) as u32,
            numeric_level: row.get(7),
        },
        state,
        created_at: row.get::<_, i64>(8) as u64,
    })
}

fn task_id(row: &Row, column: usize) -> Result<TaskId, StoreError> {
    let bytes: &[u8] = row.get(column);
    TaskId::try_from(bytes).map_err(|_| StoreError::Damaged {
        what: format!("a task of {} bytes", bytes.len()),
    })
}

fn worker_id(row: &Row, column: usize) -> Result<WorkerId, StoreError> {
    let bytes: &[u8] = row.get(column);
    WorkerId::try_from(bytes).map_err(|_| StoreError::Damaged {
        what: format!("a worker of {} bytes", bytes.len()),
    })
}

fn kind(row: &Row, column: usize) -> Result<FailureKind, StoreError> {
    let name: &str = row.get(column);
    FailureKind::from_name(name).ok_or_else(|| StoreError::Damaged {
        what: format!("a failure of the kind `{name}`"),
    })
}

/// Sweep, position and baseline in three columns.
fn place(row: &Row, first: usize) -> Result<Place, StoreError> {
    Ok(Place {
        sweep: SweepNumber(row.get::<_, i64>(first) as u32),
        position: row.get::<_, i64>(first + 1) as u64,
        baseline: row.get(first + 2),
    })
}
