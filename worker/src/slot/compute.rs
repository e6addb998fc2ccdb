//! One lease to its outcome.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::canon::StartIdentity;
use common::decode::decode_start;
use common::ids::TaskId;
use common::pb::encode_evidence;
use common::protocol::{
    CellText, FailureKind, HandBack, Lease, Outcome, SolvedBaseline, TaskResult, Work,
};
use common::record::{Evidence, Telemetry};
use engine::StartError;
use engine::run::Progress;
use engine::task::Threads;

use super::cells::{Cells, data_failed, mismatch};
use crate::files::{self, Contents};

/// Why a task gave no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The class.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
}

/// What the last panic said and where; kept by the hook of
/// [`remember_panics`], because a panic's own value does not say where.
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Longest pause between two looks at whether a task that does nothing is to
/// stop.
const NAP: Duration = Duration::from_millis(10);

/// Has panics remembered for the report instead of printed.
pub(super) fn remember_panics() {
    panic::set_hook(Box::new(|info| {
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(info.to_string());
    }));
}

/// Computes a lease. `pause` is asked between evaluations; after it said yes
/// the answer is a hand-back with a checkpoint.
///
/// The evidence depends on what the lease asks for and on nothing else: not on
/// `threads`, earlier tasks, or pauses.
///
/// # Errors
/// [`Failed`]; a panic of the engine is one of them.
pub fn compute(
    cells: &mut Cells,
    lease: &Lease,
    threads: usize,
    pause: &mut dyn FnMut() -> bool,
) -> Result<Outcome, Failed> {
    let computing = AssertUnwindSafe(|| match &lease.work {
        Work::Run {
            cell,
            seed,
            start,
            baseline,
        } => run(cells, lease, (cell, *seed, start, baseline), threads, pause),
        Work::Baseline { cell } => solve(cells, lease.id.task, cell),
        Work::Noop { seed, microseconds } => Ok(noop(*seed, *microseconds, pause)),
    });
    // Nothing half-changed is seen again: a cell is kept only when it is
    // complete, and a run is dropped.
    let computed =
        panic::catch_unwind(computing).unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
    match computed {
        // A checkpoint comes from another worker, and may be damaged in a way
        // that its form does not show. Without it the task is the same, only
        // longer.
        Err(failed) if failed.kind == FailureKind::Panic && lease.checkpoint.is_some() => {
            tracing::warn!(task = %lease.id, failed.message, "begun anew without its checkpoint");
            let anew = Lease {
                checkpoint: None,
                ..lease.clone()
            };
            compute(cells, &anew, threads, pause)
        }
        computed => computed,
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Failed {
    let remembered = LAST_PANIC
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let own = || {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned())
    };
    let message = remembered
        .or_else(own)
        .unwrap_or_else(|| "a panic without words".to_owned());
    Failed {
        kind: FailureKind::Panic,
        message,
    }
}

fn result(evidence: &Evidence, theta: Vec<f64>) -> Outcome {
    Outcome::Result(TaskResult {
        evidence: encode_evidence(evidence),
        telemetry: Telemetry::default(),
        theta,
    })
}

fn is_task(said: TaskId, computed: TaskId) -> Result<(), Failed> {
    if said == computed {
        Ok(())
    } else {
        Err(mismatch("task", &said.to_string(), &computed.to_string()))
    }
}

fn run(
    cells: &mut Cells,
    lease: &Lease,
    (text, seed, start, baseline): (&CellText, u64, &str, &SolvedBaseline),
    threads: usize,
    pause: &mut dyn FnMut() -> bool,
) -> Result<Outcome, Failed> {
    let invalid = |message: String| Failed {
        kind: FailureKind::InvalidTask,
        message,
    };
    let ready = cells.get(text)?;
    let start = decode_start(start).map_err(|mistakes| invalid(mistakes.to_string()))?;
    let identity = StartIdentity::new(&start).map_err(|error| invalid(error.to_string()))?;
    is_task(lease.id.task, ready.identity.task(&identity, seed))?;
    if baseline.id != ready.baseline {
        return Err(mismatch(
            "baseline",
            &baseline.id.to_string(),
            &ready.baseline.to_string(),
        ));
    }
    let (outputs, features) = (ready.cell.data().y.ncols(), ready.cell.data().phi.ncols());
    let given = (baseline.evidence.outputs, baseline.evidence.features);
    if given != (outputs, features) {
        let message = format!(
            "the baseline is {given:?}, the cell needs {:?}",
            (outputs, features)
        );
        return Err(invalid(message));
    }
    let file = files::of_start(&start).cloned();
    let contents = Contents::read(cells.blobs(), file.as_slice());
    let content = |sha256: &str| contents.get(sha256);
    let mut run = ready
        .cell
        .run(&start, seed, &baseline.evidence, content, Threads(threads))
        .map_err(start_failed)?;
    if let Some(checkpoint) = &lease.checkpoint
        && run.restore(checkpoint).is_err()
    {
        tracing::warn!(task = %lease.id, "a checkpoint is of another program; begun anew");
    }
    match run.advance(pause) {
        Progress::Finished(finished) => Ok(result(
            &Evidence::Run(Box::new(finished.evidence)),
            finished.theta,
        )),
        Progress::Paused => Ok(Outcome::HandBack(HandBack {
            checkpoint: Some(run.checkpoint().into()),
            evaluations: run.work().evaluations,
        })),
    }
}

fn start_failed(error: StartError) -> Failed {
    match error {
        StartError::Data(error) => data_failed(error),
        error => Failed {
            kind: FailureKind::InvalidTask,
            message: error.to_string(),
        },
    }
}

fn solve(cells: &mut Cells, task: TaskId, text: &CellText) -> Result<Outcome, Failed> {
    let ready = cells.get(text)?;
    is_task(task, ready.baseline.into())?;
    let evidence = ready.cell.baseline();
    if !evidence.value.is_finite() {
        let message = format!("the baseline's value is {}", evidence.value);
        return Err(Failed {
            kind: FailureKind::InvalidTask,
            message,
        });
    }
    Ok(result(&Evidence::Baseline(Box::new(evidence)), Vec::new()))
}

fn noop(seed: u64, microseconds: u64, pause: &mut dyn FnMut() -> bool) -> Outcome {
    let began = Instant::now();
    let lasts = Duration::from_micros(microseconds);
    loop {
        let left = lasts.saturating_sub(began.elapsed());
        if left.is_zero() {
            return result(&Evidence::Noop { seed }, Vec::new());
        }
        if pause() {
            return Outcome::HandBack(HandBack::default());
        }
        std::thread::sleep(left.min(NAP));
    }
}
