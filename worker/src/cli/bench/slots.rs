//! Throughput of slot processes: as a worker starts them, without worker and coordinator.

use std::io::BufReader;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use common::canon::{CellIdentity, StartIdentity, baseline_id};
use common::decode::{decode_cell, decode_start};
use common::pb::wire::{self, slot_request, slot_response};
use common::pb::{LeaseEncoder, reports_from_wire};
use common::protocol::{
    Attempt, CellText, Lease, LeaseId, Outcome, Place, SolvedBaseline, SweepNumber, Work,
};
use engine::task::Cell;
use serde_json::{Value, json};

use super::cases::{Case, Ready};
use super::clock::{Times, once};
use super::{Measure, Row};
use crate::frame;

/// Rounds of one slot and all slots, turn by turn.
const ROUNDS: usize = 3;
const START: &str = "\"standard\"";

/// The same tasks on one slot and on every one of `all`. Equal work for each, so that what is
/// measured is what slots take from each other, and not how well tasks divide. For the same
/// reason, and to be short, runs are cut off after a number of evaluations.
pub(super) fn rows(ready: &Ready, all: usize) -> anyhow::Result<[Row; 2]> {
    let (seeds, evaluations) = match ready.case {
        Case::S => (6, 20_000),
        _ => (2, 1_000),
    };
    let tasks = tasks(ready, seeds, evaluations)?;
    let mut slots = (0..all)
        .map(|_| Slot::start())
        .collect::<anyhow::Result<Vec<_>>>()?;
    // Once for each slot: its cell, its buffers.
    round(&mut slots, &tasks[..1])?;
    let (mut one, mut many, mut gains) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let a = round(&mut slots[..1], &tasks)?;
        let b = round(&mut slots, &tasks)?;
        gains.push(all as f64 * a / b);
        one.push(a);
        many.push(b);
    }
    let row = |what, seconds, done: usize, figures| Row {
        measure: Measure::Slots,
        case: ready.case,
        what,
        times: Times::new(seconds).per(done),
        figures,
    };
    let gain = Times::new(gains).median();
    let each = tasks.len();
    Ok([
        row("1 slot, a task".to_owned(), one, each, Vec::new()),
        row(
            format!("{all} slots, a task"),
            many,
            all * each,
            vec![("times_one", gain)],
        ),
    ])
}

fn tasks(ready: &Ready, seeds: u64, evaluations: u64) -> anyhow::Result<Vec<Lease>> {
    let mut json: Value = serde_json::from_str(&ready.json)?;
    json["budget"] = json!({"evaluations": evaluations});
    let json = json.to_string();
    let cell = Cell::new(decode_cell(&json)?, |_| None)?;
    let identity = CellIdentity::new(cell.spec(), cell.data_identity())?;
    let start = StartIdentity::new(&decode_start(START)?)?;
    let text = Arc::new(CellText {
        id: identity.id(),
        json,
    });
    let baseline = Arc::new(SolvedBaseline {
        id: baseline_id(cell.spec(), cell.data_identity()),
        evidence: cell.baseline(),
    });
    let lease = |seed| Lease {
        id: LeaseId {
            task: identity.task(&start, seed),
            attempt: Attempt(1),
        },
        place: Place {
            sweep: SweepNumber(1),
            position: seed,
            baseline: false,
        },
        work: Work::Run {
            cell: Arc::clone(&text),
            seed,
            start: START.into(),
            baseline: Arc::clone(&baseline),
        },
        checkpoint: None,
    };
    Ok((0..seeds).map(lease).collect())
}

/// Seconds until every slot has done all tasks.
fn round(slots: &mut [Slot], tasks: &[Lease]) -> anyhow::Result<f64> {
    let mut done = Ok(());
    let seconds = once(|| {
        done = slots
            .iter_mut()
            .try_for_each(|slot| slot.assign(tasks.to_vec()))
            .and_then(|()| slots.iter_mut().try_for_each(|s| s.finish(tasks.len())));
    });
    done.map(|()| seconds)
}

/// A slot process and its pipes.
struct Slot {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    encoder: LeaseEncoder,
}

impl Slot {
    fn start() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program cannot find itself")?;
        let mut process = Command::new(program)
            .args(["slot", "--threads", "1", "--blobs"])
            // No case reads a file.
            .arg(".")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a slot")?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (to, from) = pipes.context("a slot has no pipes")?;
        let mut slot = Self {
            process,
            to,
            from: BufReader::new(from),
            encoder: LeaseEncoder::default(),
        };
        match slot.hear()? {
            slot_response::Kind::Ready(_) => Ok(slot),
            slot_response::Kind::Reports(_) => bail!("a slot reports before it is ready"),
        }
    }

    fn hear(&mut self) -> anyhow::Result<slot_response::Kind> {
        frame::read::<wire::SlotResponse>(&mut self.from)?
            .and_then(|response| response.kind)
            .ok_or_else(|| anyhow!("a slot has ended"))
    }

    fn assign(&mut self, tasks: Vec<Lease>) -> anyhow::Result<()> {
        let batch = self.encoder.encode(tasks);
        let request = wire::SlotRequest {
            kind: Some(slot_request::Kind::Assign(batch)),
        };
        Ok(frame::write(&mut self.to, &request)?)
    }

    fn finish(&mut self, tasks: usize) -> anyhow::Result<()> {
        let mut left = tasks;
        while left > 0 {
            let slot_response::Kind::Reports(batch) = self.hear()? else {
                bail!("a slot says twice that it is ready");
            };
            for report in reports_from_wire(batch)? {
                if !matches!(report.outcome, Outcome::Result(_)) {
                    bail!("a task has no result: {:?}", report.outcome);
                }
                left -= 1;
            }
        }
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
