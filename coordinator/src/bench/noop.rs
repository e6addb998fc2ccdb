//! Tasks that do nothing, or sleep: `noop`, `sleep` and `load`.

use std::any::Any;
use std::path::Path;

use common::ids::{BaselineId, TaskId};
use common::pb::encode_evidence;
use common::protocol::FailureKind;
use common::record::{BaselineEvidence, Evidence};
use sha2::{Digest, Sha256};

use super::cluster::{self, Crew, Ran};
use super::{Case, Figure, Order, internal, machine, store};
use crate::cli::{code, runtime};
use crate::core::Opened;
use crate::run::{Failure, store_failure};
use crate::store::{Address, AnyStore, Chain, Identity, Store};
use crate::workload::{Planned, PlannedWork, Workload};

/// Microseconds of a task of `sleep`.
const SECOND: u64 = 1_000_000;
/// Results that are read at a time.
const PAGE: u32 = 10_000;

/// Numbered tasks without a network.
#[derive(Debug)]
struct Noops {
    tasks: u64,
    microseconds: u64,
    recorded: u64,
    set_aside: u64,
}

fn id(number: u64) -> TaskId {
    let mut hash = Sha256::new();
    hash.update(b"noop/1");
    hash.update(number.to_le_bytes());
    TaskId(hash.finalize().into())
}

impl Workload for Noops {
    fn len(&self) -> u64 {
        self.tasks
    }

    fn task(&mut self, position: u64) -> Planned {
        Planned {
            id: id(position),
            work: PlannedWork::Noop {
                seed: position,
                microseconds: self.microseconds,
            },
        }
    }

    fn baseline_solved(&mut self, _: BaselineId, _: &BaselineEvidence) {}

    fn wants_theta(&self, _: u64, _: &TaskId, _: &Evidence) -> bool {
        false
    }

    fn recorded(&mut self, _: u64, _: &TaskId, _: &Opened) -> Vec<TaskId> {
        self.recorded += 1;
        Vec::new()
    }

    fn set_aside(&mut self, _: u64, _: &TaskId, _: FailureKind) {
        self.set_aside += 1;
    }

    fn taken_up_again(&mut self, _: u64, _: &TaskId) {
        self.set_aside -= 1;
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Carries the tasks out.
pub(super) fn measure(order: &Order) -> Result<Vec<Figure>, Failure> {
    runtime().map_err(internal)?.block_on(async {
        let (tasks, workers) = (order.tasks, order.workers);
        let workload = Noops {
            tasks,
            microseconds: if order.case == Case::Sleep { SECOND } else { 0 },
            recorded: 0,
            set_aside: 0,
        };
        let crew = match order.case {
            Case::Load => Crew::Crowd(workers),
            _ => Crew::Processes(workers),
        };
        let ran = cluster::run(&order.folder, Box::new(workload), crew).await?;
        let gathered = ran.workload.as_any().downcast_ref::<Noops>();
        let gathered = gathered.map_or((0, 0), |noops| (noops.recorded, noops.set_aside));
        if gathered != (tasks, 0) {
            let message = format!("{gathered:?} of {tasks} tasks were gathered and set aside");
            return Err(internal(message));
        }
        Ok(match order.case {
            Case::Sleep => beside_the_ideal(&ran, tasks, workers),
            case => cost(case, &ran, tasks),
        })
    })
}

fn cost(case: Case, ran: &Ran, tasks: u64) -> Vec<Figure> {
    let each = ran.seconds * 1e6 / tasks as f64;
    let time = Figure::new("time of a task", each, "µs");
    let memory = Figure::new("memory of the coordinator", ran.memory, "MB");
    let between = ran.seconds * 1e3 / ran.commits.max(1) as f64;
    let mut figures = match case {
        Case::Noop => vec![time.at_most(25.0), memory.at_most(150.0)],
        _ => vec![time, memory],
    };
    figures.extend([
        Figure::new("time from one commit to the next", between, "ms"),
        Figure::new("longest look of the display", ran.look_ms, "ms"),
        Figure::new("workers connected at a time", ran.connected as f64, ""),
    ]);
    figures
}

fn beside_the_ideal(ran: &Ran, tasks: u64, workers: u32) -> Vec<Figure> {
    let ideal = tasks.div_ceil(u64::from(workers.max(1))) as f64;
    let over = 100.0 * (ran.seconds / ideal - 1.0);
    vec![
        Figure::new("time", ran.seconds, "s"),
        Figure::new("ideal", ideal, "s"),
        Figure::new("over the ideal", over, "%").at_most(1.0),
    ]
}

/// Reads the store back: every task is there once, with the evidence that it must have, and the
/// chain over them is the one that the commits left.
pub(super) fn check(order: &Order) -> Result<Vec<Figure>, Failure> {
    let tasks = order.tasks;
    let (results, failures) = runtime()
        .map_err(internal)?
        .block_on(read_back(&order.folder, tasks))?;
    let bytes = machine::bytes_of(&store(&order.folder)).map_err(internal)?;
    let size = Figure::new("store of a task", bytes as f64 / tasks as f64, "bytes");
    Ok(vec![
        if order.case == Case::Noop {
            size.at_most(400.0)
        } else {
            size
        },
        Figure::new("results recorded exactly once", results as f64, ""),
        Figure::new("executions that failed", failures as f64, ""),
    ])
}

/// Results and failures.
async fn read_back(folder: &Path, tasks: u64) -> Result<(u64, usize), Failure> {
    let wrong = |what: String| (code::INTERNAL, format!("the store is wrong: {what}"));
    let address = Address::Directory(store(folder));
    let opened = AnyStore::open(&address, &Identity::default()).await;
    let opened = opened.map_err(|e| store_failure(&e))?;
    let mut seen = vec![false; usize::try_from(tasks).map_err(internal)?];
    let mut chain = Chain::default();
    loop {
        let page = opened.results(chain.results, PAGE).await;
        let page = page.map_err(|e| store_failure(&e))?;
        if page.is_empty() {
            break;
        }
        for result in page {
            let position = result.place.position;
            let place = seen.get_mut(position as usize);
            let place = place.ok_or_else(|| wrong(format!("a task {position}")))?;
            if std::mem::replace(place, true) {
                return Err(wrong(format!("task {position} is there twice")));
            }
            let evidence = encode_evidence(&Evidence::Noop { seed: position });
            if result.task != id(position) || result.evidence != evidence {
                return Err(wrong(format!("task {position} has a result of another")));
            }
            chain = chain.with(&result.task, &Sha256::digest(&result.evidence).into());
        }
    }
    let links = opened.links().await.map_err(|e| store_failure(&e))?;
    let sweeps = opened.sweeps().await.map_err(|e| store_failure(&e))?;
    let mut failures = 0;
    for sweep in sweeps {
        let found = opened.failures(sweep.number).await;
        failures += found.map_err(|e| store_failure(&e))?.len();
    }
    opened.close().await.map_err(|e| store_failure(&e))?;
    if links.last() != Some(&chain) || chain.results != tasks {
        let found = chain.results;
        return Err(wrong(format!(
            "{found} results of {tasks}, or another chain"
        )));
    }
    Ok((chain.results, failures))
}
