//! `runs.parquet`, `runs.csv`, `runs.jsonl`: one row for each planned task.
//!
//! Rows come in the order of the grid, equal tasks once, those of a search
//! behind; a task that failed, was cancelled or is missing has a row that says
//! so. The cells of the plan give the columns; a walk over it asks the store for
//! the results of some thousand tasks at a time, while a thread beside writes
//! those before. Memory: a few pages of results, two groups of rows, and 24 bytes
//! for each task, by which equal ones are known.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::sync::mpsc::sync_channel;

use common::ids::{BaselineId, IdSet, TaskId};
use common::pb::decode_evidence;
use common::record::Evidence;

use super::ExportError;
use super::columns::{Columns, Failures, Fate, Row, Texts};
use super::lines::{Csv, JsonLines};
use super::parquet::Parquet;
use crate::at_rest::Aside;
use crate::core::{Lookup, SweepState};
use crate::store::{Store, StoreError, StoredResult, StoredSweep};
use crate::sweep::{GridSweep, Listed, SweepError};
use crate::workload::Workload;

/// Tasks that are asked for at a time.
const PAGE: usize = 8_192;

/// How the rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Typed columns.
    Parquet,
    /// A header and a line for each run.
    Csv,
    /// A JSON object on each line.
    JsonLines,
}

/// Some tasks, and what the store has of them.
struct Page {
    tasks: Vec<Listed>,
    results: Vec<StoredResult>,
    aside: Aside,
}

/// Writes the rows of a sweep; returns how many and what was written to. The rounds of a search
/// must be in the workload. A task without a result is missing, or cancelled with its sweep.
///
/// # Errors
/// When the store cannot be read or the rows cannot be written.
pub async fn write<S: Store, W: Write + Send + 'static>(
    store: &S,
    stored: &StoredSweep,
    workload: &mut GridSweep,
    format: Format,
    to: W,
) -> Result<(u64, W), ExportError> {
    let cancelled = stored.state == SweepState::Cancelled;
    let columns = columns(store, stored, workload).await?;
    let failures = failures(store, stored).await?;
    // Two pages wait at most; who plans waits then.
    let (pages, inbox) = sync_channel::<Page>(2);
    let writing = std::thread::Builder::new()
        .name("export".to_owned())
        .spawn(move || {
            let mut rows = Rows {
                columns,
                failures,
                cancelled,
                row: Row::new(),
            };
            rows.write(inbox.iter(), format, to)
        })
        .map_err(ExportError::Write)?;
    let sent = send_pages(store, stored, workload, pages).await;
    let joined = tokio::task::spawn_blocking(move || writing.join()).await;
    let written = match joined {
        Ok(Ok(written)) => written,
        _ => Err(io::Error::other("the thread that writes has panicked").into()),
    };
    // Where writing fails, sending does too: the first cause is told.
    let written = written?;
    sent?;
    Ok(written)
}

/// Walks the plan and sends it on with what is stored.
async fn send_pages<S: Store>(
    store: &S,
    stored: &StoredSweep,
    workload: &mut GridSweep,
    pages: std::sync::mpsc::SyncSender<Page>,
) -> Result<(), ExportError> {
    let mut plan = Plan::default();
    let mut tasks = plan.next(workload)?;
    while !tasks.is_empty() {
        // The store reads these while the next ones are planned.
        let reading = store.results_of(tasks.iter().map(|task| task.id).collect());
        let next = plan.next(workload)?;
        let results = reading.await?;
        let aside = if results.len() == tasks.len() {
            Aside::default()
        } else {
            set_aside(store, stored, &tasks, &results).await?
        };
        let mut page = Page {
            tasks,
            results,
            aside,
        };
        // The channel is short and its reader steady: waiting for a place is left to the runtime.
        let pages = pages.clone();
        page = match pages.try_send(page) {
            Ok(()) => {
                tasks = next;
                continue;
            }
            Err(std::sync::mpsc::TrySendError::Full(page)) => page,
            Err(std::sync::mpsc::TrySendError::Disconnected(_)) => return Ok(()),
        };
        let sent = tokio::task::spawn_blocking(move || pages.send(page)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return Ok(());
        }
        tasks = next;
    }
    Ok(())
}

/// Those without a result that are set aside, and such baselines of them.
async fn set_aside<S: Store>(
    store: &S,
    stored: &StoredSweep,
    tasks: &[Listed],
    results: &[StoredResult],
) -> Result<Aside, StoreError> {
    let recorded: IdSet<TaskId> = results.iter().map(|result| result.task).collect();
    let without = tasks.iter().filter(|task| !recorded.contains(&task.id));
    let ids = without.flat_map(|task| [task.id, task.baseline.into()]);
    let ids: IdSet<TaskId> = ids.collect();
    let lookup = Lookup {
        sweep: stored.number,
        tasks: ids.into_iter().collect(),
    };
    let mut aside = Aside::default();
    aside.note(&store.lookup(lookup).await?);
    Ok(aside)
}

/// The tasks in the order of the grid, equal ones once.
#[derive(Default)]
struct Plan {
    position: u64,
    /// 128 bits of each identity: two of a million tasks share them with probability 1e-27.
    seen: HashSet<u128>,
}

impl Plan {
    fn next(&mut self, workload: &mut GridSweep) -> Result<Vec<Listed>, ExportError> {
        let mut tasks = Vec::with_capacity(PAGE);
        while tasks.len() < PAGE && self.position < workload.len() {
            let task = listed(workload, self.position)?;
            self.position += 1;
            let (half, _) = task.id.0.split_at(16);
            let half = half.try_into().unwrap_or_default();
            if self.seen.insert(u128::from_le_bytes(half)) {
                tasks.push(task);
            }
        }
        Ok(tasks)
    }
}

fn listed(workload: &mut GridSweep, position: u64) -> Result<Listed, ExportError> {
    workload.listed(position).map_err(not_planned)
}

fn not_planned(error: SweepError) -> ExportError {
    ExportError::Write(io::Error::other(error))
}

/// Meets the cells, and takes their baselines from the store.
async fn columns<S: Store>(
    store: &S,
    stored: &StoredSweep,
    workload: &mut GridSweep,
) -> Result<Columns, ExportError> {
    let baselines = workload.meet_cells().map_err(not_planned)?;
    let lookup = Lookup {
        sweep: stored.number,
        tasks: baselines.iter().map(|id| TaskId::from(*id)).collect(),
    };
    for (task, opened) in store.lookup(lookup).await?.results {
        if let Evidence::Baseline(evidence) = opened.evidence {
            workload.baseline_solved(BaselineId(task.0), &evidence);
        }
    }
    Ok(Columns::new(&workload.cells()))
}

/// The failed executions of each task.
async fn failures<S: Store>(
    store: &S,
    stored: &StoredSweep,
) -> Result<HashMap<TaskId, Failures>, StoreError> {
    let mut failures: HashMap<TaskId, Failures> = HashMap::new();
    // By task and attempt: the last one of each stays.
    for failure in store.failures(stored.number).await? {
        let count = failures.get(&failure.task).map_or(0, |known| known.count);
        let last = Failures {
            count: count + 1,
            kind: failure.kind.name(),
            message: failure.message,
        };
        failures.insert(failure.task, last);
    }
    Ok(failures)
}

/// The rows of one sweep on their way to a file.
struct Rows {
    columns: Columns,
    failures: HashMap<TaskId, Failures>,
    cancelled: bool,
    row: Row,
}

impl Rows {
    fn write<W: Write + Send + 'static>(
        &mut self,
        pages: impl Iterator<Item = Page>,
        format: Format,
        to: W,
    ) -> Result<(u64, W), ExportError> {
        let failed = |error: ::parquet::errors::ParquetError| match error {
            ::parquet::errors::ParquetError::External(inner) => io::Error::other(inner),
            other => io::Error::other(other),
        };
        let columns = &self.columns.columns;
        let mut rows = 0;
        let to = match format {
            Format::Parquet => {
                let mut file = Parquet::new(to, columns).map_err(failed)?;
                let mut pages = pages;
                let written = pages.try_for_each(|page| {
                    rows += self.each(page, |row, texts| file.row(row, texts).map_err(failed))?;
                    Ok::<(), ExportError>(())
                });
                // Where rows cannot be written, the end of the file tells why.
                let to = file.finish(&self.columns.texts).map_err(failed)?;
                written?;
                to
            }
            Format::Csv => {
                let mut file = Csv::new(to, columns)?;
                for page in pages {
                    rows += self.each(page, |row, texts| file.row(row, texts))?;
                }
                file.finish()?
            }
            Format::JsonLines => {
                let mut file = JsonLines::new(to, columns)?;
                for page in pages {
                    rows += self.each(page, |row, texts| file.row(row, texts))?;
                }
                file.finish()?
            }
        };
        Ok((rows, to))
    }

    /// The rows of a page; returns how many.
    fn each(
        &mut self,
        page: Page,
        mut write: impl FnMut(&Row, &Texts) -> io::Result<()>,
    ) -> Result<u64, ExportError> {
        let mut results = page.results.iter().peekable();
        let mut rows = 0;
        for task in &page.tasks {
            let fate = match results.next_if(|result| result.task == task.id) {
                Some(result) => Fate::Recorded(result),
                None if page.aside.has_failed(&task.id, &task.baseline) => Fate::Failed,
                None if self.cancelled => Fate::Cancelled,
                None => Fate::Missing,
            };
            let evidence = match fate {
                Fate::Recorded(result) => Some(open(result)?),
                _ => None,
            };
            let run = match &evidence {
                Some(Evidence::Run(run)) => Some(run.as_ref()),
                _ => None,
            };
            let failures = self.failures.get(&task.id);
            let row = self.columns.row(task, fate, run, failures, &mut self.row);
            if row.is_some() {
                write(&self.row, &self.columns.texts)?;
                rows += 1;
            }
        }
        Ok(rows)
    }
}

/// Evidence that was stored must be readable: it was when it was recorded.
fn open(result: &StoredResult) -> Result<Evidence, StoreError> {
    decode_evidence(&result.evidence).map_err(|error| StoreError::Damaged {
        what: format!("evidence of task {}: {error}", result.task),
    })
}
