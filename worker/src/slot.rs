//! A slot: the child process that computes.
//!
//! It reads tasks from its standard input and answers each once, in order, on
//! its standard output (`proto/sweep/v1/slot.proto`). A thread of its own reads
//! the input, so a stop is seen in the middle of a computation. The end of the
//! input means that the worker is gone: the process exits at once.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, BufReader};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::canon::{CellIdentity, NUMERICS_VERSION, StartIdentity, baseline_id};
use common::decode::{decode_cell, decode_start};
use common::ids::{CellId, TaskId};
use common::pb::{LeaseDecoder, encode_evidence, wire};
use common::protocol::{
    CellText, FailureKind, HandBack, Lease, LeaseId, Outcome, Report, SolvedBaseline, TaskFailure,
    TaskResult, Work,
};
use common::record::{Evidence, Telemetry};
use engine::run::Progress;
use engine::task::{Cell, Threads};

use crate::files::{self, Cache};
use crate::frame;

/// Prepared cells that are kept: runs of a cell come one after the other.
const KEPT_CELLS: usize = 4;

/// What the reading thread and the computing one share.
#[derive(Debug, Default)]
struct Inbox {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    tasks: VecDeque<Lease>,
    /// Leases to hand back.
    stopped: BTreeSet<LeaseId>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while holding the lock leaves plain collections behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> (Lease, bool) {
        let mut state = self.lock();
        loop {
            if let Some(lease) = state.tasks.pop_front() {
                let stopped = state.stopped.remove(&lease.id);
                return (lease, stopped);
            }
            // Stops of tasks that were answered already.
            state.stopped.clear();
            state = self
                .arrived
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn is_stopped(&self, lease: LeaseId) -> bool {
        self.lock().stopped.contains(&lease)
    }
}

/// Runs the slot's process to its end. `folder` holds the contents of files.
pub fn main(folder: &Path, threads: usize) -> ExitCode {
    // Not to outlive the worker, even if it is killed in the middle of a computation.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    if threads > 1 {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        if let Err(error) = pool.build_global() {
            tracing::error!(%error, "threads cannot be started");
            return ExitCode::from(1);
        }
    }
    let inbox = Arc::new(Inbox::default());
    let reader = Arc::clone(&inbox);
    std::thread::spawn(move || {
        let code = match read_requests(&reader) {
            Ok(()) => 0,
            Err(error) => {
                tracing::error!(%error, "the worker's requests cannot be read");
                1
            }
        };
        std::process::exit(code);
    });
    let mut slot = Slot {
        inbox,
        cache: Cache::new(folder),
        threads: Threads(threads),
        cells: Vec::new(),
    };
    match slot.serve() {
        Ok(()) => ExitCode::SUCCESS,
        // The worker is gone.
        Err(_) => ExitCode::from(1),
    }
}

fn read_requests(inbox: &Inbox) -> io::Result<()> {
    let mut input = BufReader::new(io::stdin());
    let mut decoder = LeaseDecoder::default();
    while let Some(request) = frame::read::<wire::SlotRequest>(&mut input)? {
        let invalid = |e: common::pb::FieldError| io::Error::new(io::ErrorKind::InvalidData, e);
        match request.kind {
            Some(wire::slot_request::Kind::Assign(batch)) => {
                let leases = decoder.decode(batch).map_err(invalid)?;
                inbox.lock().tasks.extend(leases);
            }
            Some(wire::slot_request::Kind::Stop(stop)) => {
                for lease in stop.leases {
                    let lease = lease.try_into().map_err(invalid)?;
                    inbox.lock().stopped.insert(lease);
                }
            }
            None => {}
        }
        inbox.arrived.notify_one();
    }
    Ok(())
}

struct Slot {
    inbox: Arc<Inbox>,
    cache: Cache,
    threads: Threads,
    /// Most recently used last.
    cells: Vec<(CellId, Rc<Ready>)>,
}

/// A cell with what its identities need.
struct Ready {
    cell: Cell,
    identity: CellIdentity,
}

/// Why a task cannot be computed.
type Failure = (FailureKind, String);

impl Slot {
    fn serve(&mut self) -> io::Result<()> {
        let mut output = io::stdout().lock();
        let ready = wire::SlotReady {
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            numerics_version: NUMERICS_VERSION,
        };
        let ready = wire::SlotResponse {
            kind: Some(wire::slot_response::Kind::Ready(ready)),
        };
        frame::write(&mut output, &ready)?;
        loop {
            let (lease, stopped) = self.inbox.next();
            let id = lease.id;
            let outcome = if stopped {
                Outcome::HandBack(HandBack::default())
            } else {
                self.compute(lease)
            };
            let report = Report { lease: id, outcome };
            let batch = wire::ReportBatch {
                reports: vec![report.into()],
            };
            let response = wire::SlotResponse {
                kind: Some(wire::slot_response::Kind::Reports(batch)),
            };
            frame::write(&mut output, &response)?;
        }
    }

    fn compute(&mut self, lease: Lease) -> Outcome {
        let began = (Instant::now(), cpu_seconds());
        let id = lease.id;
        let computed = std::panic::catch_unwind(AssertUnwindSafe(|| self.work(lease)));
        let telemetry = Telemetry {
            seconds: began.0.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds() - began.1,
            peak_memory: peak_memory(),
        };
        let failed = |kind, message| {
            Outcome::Failure(TaskFailure {
                kind,
                message,
                telemetry,
            })
        };
        match computed {
            Ok(Ok(Done::Evidence(evidence, theta))) => Outcome::Result(TaskResult {
                evidence: encode_evidence(&evidence),
                telemetry,
                theta,
            }),
            Ok(Ok(Done::Stopped(back))) => Outcome::HandBack(back),
            Ok(Err((kind, message))) => failed(kind, message),
            Err(panic) => {
                // Whatever the engine was in the middle of is gone with its cell.
                self.cells.clear();
                let message = panic_message(panic.as_ref());
                tracing::error!(lease = %id, message, "the engine panicked");
                failed(FailureKind::Panic, message)
            }
        }
    }

    fn work(&mut self, lease: Lease) -> Result<Done, Failure> {
        match &lease.work {
            Work::Noop { seed, microseconds } => {
                std::thread::sleep(Duration::from_micros(*microseconds));
                Ok(Done::Evidence(Evidence::Noop { seed: *seed }, Vec::new()))
            }
            Work::Baseline { cell } => {
                let ready = self.cell(cell)?;
                let id = baseline_id(ready.cell.spec(), ready.cell.data_identity());
                same_identity(TaskId::from(id), lease.id.task)?;
                let evidence = Evidence::Baseline(Box::new(ready.cell.baseline()));
                Ok(Done::Evidence(evidence, Vec::new()))
            }
            Work::Run {
                cell,
                seed,
                start,
                baseline,
            } => self.run(&lease, cell, *seed, start, baseline),
        }
    }

    fn run(
        &mut self,
        lease: &Lease,
        cell: &CellText,
        seed: u64,
        start: &str,
        baseline: &SolvedBaseline,
    ) -> Result<Done, Failure> {
        let invalid = |e: &dyn std::fmt::Display| (FailureKind::InvalidTask, e.to_string());
        let ready = self.cell(cell)?;
        let start = decode_start(start).map_err(|e| invalid(&e))?;
        let start_identity = StartIdentity::new(&start).map_err(|e| invalid(&e))?;
        same_identity(ready.identity.task(&start_identity, seed), lease.id.task)?;
        let contents = self.contents(&files::of_start(&start).into_iter().collect::<Vec<_>>())?;
        let content = |sha: &str| contents.get(sha).map(Vec::as_slice);
        let mut run = ready
            .cell
            .run(&start, seed, &baseline.evidence, content, self.threads)
            .map_err(|e| invalid(&e))?;
        if let Some(checkpoint) = &lease.checkpoint {
            run.restore(checkpoint).map_err(|e| invalid(&e))?;
        }
        let mut pause = || self.inbox.is_stopped(lease.id);
        match run.advance(&mut pause) {
            Progress::Finished(finished) => {
                let evidence = Evidence::Run(Box::new(finished.evidence));
                Ok(Done::Evidence(evidence, finished.theta))
            }
            Progress::Paused => Ok(Done::Stopped(HandBack {
                evaluations: run.work().evaluations,
                checkpoint: Some(run.checkpoint().into()),
            })),
        }
    }

    /// The cell made ready, from memory if it was used lately.
    fn cell(&mut self, text: &CellText) -> Result<Rc<Ready>, Failure> {
        if let Some(at) = self.cells.iter().position(|(id, _)| *id == text.id) {
            let found = self.cells.remove(at);
            let ready = Rc::clone(&found.1);
            self.cells.push(found);
            return Ok(ready);
        }
        let invalid = |e: &dyn std::fmt::Display| (FailureKind::InvalidTask, e.to_string());
        let spec = decode_cell(&text.json).map_err(|e| invalid(&e))?;
        let contents = self.contents(&files::of_cell(&spec))?;
        let cell = Cell::new(Arc::clone(&spec), |sha| {
            contents.get(sha).map(Vec::as_slice)
        })
        .map_err(|e| invalid(&e))?;
        let identity = CellIdentity::new(&spec, cell.data_identity()).map_err(|e| invalid(&e))?;
        if identity.id() != text.id {
            let (found, expected) = (identity.id(), text.id);
            let message = format!("the cell's identity is {found} here, {expected} in the lease");
            return Err((FailureKind::IdentityMismatch, message));
        }
        let ready = Rc::new(Ready { cell, identity });
        self.cells.push((text.id, Rc::clone(&ready)));
        if self.cells.len() > KEPT_CELLS {
            self.cells.remove(0);
        }
        Ok(ready)
    }

    fn contents(
        &self,
        ids: &[common::ids::BlobId],
    ) -> Result<std::collections::BTreeMap<String, Vec<u8>>, Failure> {
        let unavailable = |message: String| (FailureKind::DataUnavailable, message);
        let contents = self
            .cache
            .read(ids)
            .map_err(|e| unavailable(e.to_string()))?;
        match ids
            .iter()
            .find(|id| !contents.contains_key(&id.to_string()))
        {
            Some(id) => Err(unavailable(format!("the content {id} is not at hand"))),
            None => Ok(contents),
        }
    }
}

enum Done {
    Evidence(Evidence, Vec<f64>),
    Stopped(HandBack),
}

fn same_identity(found: TaskId, expected: TaskId) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    let message = format!("the task's identity is {found} here, {expected} in the lease");
    Err((FailureKind::IdentityMismatch, message))
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}

/// Processor time of this process so far.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

/// Largest resident memory of this process so far, bytes; 0 where the system does not say.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}
