//! A slot: the process that computes, one task at a time.
//!
//! It reads requests from its standard input on a thread of their own, so that
//! a stop is seen during a computation, and writes answers to its standard
//! output (`proto/sweep/v1/slot.proto`). It may panic, leak or be killed: the
//! worker sees a failed attempt and starts another. It never outlives its
//! worker: the end of standard input ends it at once.
//!
//! What this module does not do: it opens no connection and checks no hash of a
//! file; the worker puts checked files into a folder that the slot reads.

mod cells;
mod compute;
mod queue;
mod telemetry;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::canon::NUMERICS_VERSION;
use common::pb::wire::{self, slot_request, slot_response};
use common::pb::{CHECKPOINT_LIMIT, LeaseDecoder, MESSAGE_LIMIT};
use common::protocol::{HandBack, Lease, LeaseId, Outcome, Report, TaskFailure, Work};

use crate::files::BlobFolder;
use crate::frame;

pub use cells::{Cells, ReadyCell};
pub use compute::{Failed, compute};
use queue::Queue;
pub(crate) use telemetry::resident;
use telemetry::{Meter, Peak};

/// The build that worker and slot must share.
pub const VERSION: &str = env!("SWEEP_VERSION");

/// Settings of a slot.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where checked files lie.
    pub blobs: BlobFolder,
    /// Threads of one task.
    pub threads: usize,
    /// Memory that the process may use, bytes.
    pub memory: Option<u64>,
}

/// Longest time that answers of tiny tasks wait for company.
const COMPANY: Duration = Duration::from_millis(5);
/// Most answers of one frame.
const ANSWERS: usize = 1024;
/// A task that does nothing for longer than this does not let answers wait.
const SHORT_NOOP: u64 = 1000;

/// Runs a slot to the end of its standard input.
///
/// # Errors
/// When standard output is gone.
pub fn run(config: &Config) -> io::Result<()> {
    protect(config.memory);
    let answers = Arc::new(Mutex::new(io::stdout()));
    let ready = wire::SlotReady {
        program_version: VERSION.to_owned(),
        numerics_version: NUMERICS_VERSION,
    };
    send(&answers, slot_response::Kind::Ready(ready))?;
    let queue = Arc::new(Queue::default());
    let (to, hand_back) = (Arc::clone(&queue), Arc::clone(&answers));
    std::thread::Builder::new()
        .name("requests".into())
        .spawn(move || {
            let why = listen(&to, &hand_back);
            if let Err(error) = &why {
                tracing::error!(%error, "a slot does not understand its worker");
            }
            // Whatever is being computed, nobody waits for it.
            std::process::exit(i32::from(why.is_err()));
        })?;
    compute::remember_panics();
    work(config, &queue, &answers)
}

/// Dies with the worker, and stays within its memory.
fn protect(memory: Option<u64>) {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, Signal, setrlimit};
        // The end of standard input does the same, unless a computation has
        // exhausted what the reading thread needs.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        if memory.is_some() {
            let limit = Rlimit {
                current: memory,
                maximum: memory,
            };
            if let Err(error) = setrlimit(Resource::Data, limit) {
                tracing::warn!(%error, "a slot's memory is not limited");
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

type Answers = Mutex<io::Stdout>;

fn send(answers: &Answers, kind: slot_response::Kind) -> io::Result<()> {
    let message = wire::SlotResponse { kind: Some(kind) };
    let mut to = answers.lock().unwrap_or_else(PoisonError::into_inner);
    frame::write(&mut *to, &message)
}

fn answer(answers: &Answers, reports: Vec<Report>) -> io::Result<()> {
    if reports.is_empty() {
        return Ok(());
    }
    let reports = reports.into_iter().map(Into::into).collect();
    send(
        answers,
        slot_response::Kind::Reports(wire::ReportBatch { reports }),
    )
}

/// Reads requests until there are no more.
fn listen(queue: &Queue, answers: &Answers) -> anyhow::Result<()> {
    let mut from = io::stdin().lock();
    let mut decoder = LeaseDecoder::default();
    while let Some(request) = frame::read::<wire::SlotRequest>(&mut from)? {
        match request.kind {
            Some(slot_request::Kind::Assign(batch)) => queue.assign(decoder.decode(batch)?),
            Some(slot_request::Kind::Stop(stop)) => {
                for id in stop.leases {
                    let id = LeaseId::try_from(id)?;
                    // What has not begun goes back at once: whoever asks has
                    // another place for it.
                    if let Some(lease) = queue.stop(id.task) {
                        let back = HandBack {
                            checkpoint: lease.checkpoint,
                            evaluations: 0,
                        };
                        let outcome = Outcome::HandBack(back);
                        answer(
                            answers,
                            vec![Report {
                                lease: lease.id,
                                outcome,
                            }],
                        )?;
                    }
                }
            }
            None => anyhow::bail!("a request of an unknown kind"),
        }
    }
    Ok(())
}

/// Computes task after task.
fn work(config: &Config, queue: &Queue, answers: &Answers) -> io::Result<()> {
    let mut cells = Cells::new(config.blobs.clone());
    let mut peak = Peak::default();
    let mut reports: Vec<Report> = Vec::new();
    let mut oldest = Instant::now();
    loop {
        let lease = match queue.try_next() {
            Some(lease) => lease,
            None => {
                answer(answers, std::mem::take(&mut reports))?;
                queue.next()
            }
        };
        let tiny =
            matches!(lease.work, Work::Noop { microseconds, .. } if microseconds <= SHORT_NOOP);
        if !tiny || oldest.elapsed() >= COMPANY || reports.len() >= ANSWERS {
            answer(answers, std::mem::take(&mut reports))?;
        }
        if reports.is_empty() {
            oldest = Instant::now();
        }
        let report = execute(config, &mut cells, &mut peak, queue, &lease);
        reports.push(report);
        queue.done();
        if !tiny {
            answer(answers, std::mem::take(&mut reports))?;
        }
    }
}

/// Whether a checkpoint fits a message. If not, the task begins anew: that gives
/// the same bits, only later.
fn can_travel(lease: LeaseId, state: &[u8]) -> bool {
    let (bytes, limit) = (state.len(), CHECKPOINT_LIMIT);
    if bytes > limit {
        tracing::warn!(
            %lease,
            bytes,
            limit,
            "a checkpoint is too large to be handed back; the task begins anew, and with a longer --grace it may \
             come to its end"
        );
    }
    bytes <= limit
}

/// One task to its report.
fn execute(
    config: &Config,
    cells: &mut Cells,
    peak: &mut Peak,
    queue: &Queue,
    lease: &Lease,
) -> Report {
    let meter = Meter::start();
    let computed = compute(cells, lease, config.threads, &mut || queue.is_stopped());
    let telemetry = meter.read(peak);
    let outcome = match computed {
        Ok(Outcome::Result(mut result)) => {
            result.telemetry = telemetry;
            if result.evidence.len() + 8 * result.theta.len() > MESSAGE_LIMIT / 2 {
                // θ is kept for a few runs only; the evidence is what counts.
                result.theta = Vec::new();
            }
            Outcome::Result(result)
        }
        Ok(Outcome::HandBack(mut back)) => {
            back.checkpoint = back.checkpoint.filter(|state| can_travel(lease.id, state));
            Outcome::HandBack(back)
        }
        Ok(other) => other,
        Err(Failed { kind, message }) => Outcome::Failure(TaskFailure {
            kind,
            message,
            telemetry,
        }),
    };
    Report {
        lease: lease.id,
        outcome,
    }
}

#[cfg(test)]
mod tests {
    use common::ids::TaskId;
    use common::protocol::Attempt;

    use super::*;

    #[test]
    fn a_checkpoint_travels_if_it_fits_a_message_of_its_own() {
        let lease = LeaseId {
            task: TaskId([1; 32]),
            attempt: Attempt(1),
        };
        let state = vec![0; CHECKPOINT_LIMIT + 1];
        assert!(can_travel(lease, &state[1..]));
        assert!(!can_travel(lease, &state));
    }
}
