//! `plan --pilot`: a few tasks are computed, and price the whole sweep.
//!
//! The sample is stratified: the grid is cut into as many equal stretches as there are tasks in
//! the pilot, and one task is drawn from each, so every part of the grid has its say and no axis
//! is met at one value only. The tasks run as those of a sweep do, on local worker processes, with
//! a scheduler and a store; the store is thrown away afterwards.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::grid::Grid;
use common::ids::{BaselineId, TaskId};
use common::protocol::{FailureKind, SweepNumber};
use common::record::{BaselineEvidence, Evidence, Telemetry};
use common::rng::{Philox, Purpose};
use tokio::sync::{mpsc, oneshot};

use crate::cli::{Settings, code};
use crate::core::{NewSweep, Opened, TakeUp};
use crate::driver::{self, Input};
use crate::ground::Ground;
use crate::local;
use crate::pace::{Durations, Estimate};
use crate::progress::{Display, Moment, Progress};
use crate::run::{Failure, config, interrupted, store_failure};
use crate::store::{Address, Store};
use crate::submission;
use crate::sweep::{DataTable, GridSweep, KeepMinima};
use crate::workload::{Planned, Workload};

/// Time between two looks for the display.
const LOOK: Duration = Duration::from_millis(200);
/// Results that are read at a time.
const PAGE: u32 = 10_000;

/// What a pilot measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Workers, one thread each.
    pub workers: u32,
    /// Wall-clock seconds of it all.
    pub seconds: f64,
    /// Wall-clock seconds of the runs, in the order of the grid.
    pub runs: Durations,
    /// Their processor seconds.
    pub cpu: Durations,
    /// Processor seconds of the baselines.
    pub baselines: Durations,
    /// Runs that were set aside.
    pub failed: u64,
    /// Certified runs.
    pub certified: u64,
    /// Largest resident memory of a process, bytes.
    pub peak_memory: u64,
}

/// What a sweep will cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Processor seconds.
    pub cpu: Estimate,
    /// Seconds in slots.
    pub slots: Estimate,
}

impl Measured {
    /// The price of so many runs and baselines; `None` if no run was measured.
    pub fn price(&self, runs: u64, baselines: u64) -> Option<Price> {
        let solving = self.baselines.estimate(baselines, std::iter::empty());
        let solving = solving.map_or(0.0, |estimate| estimate.seconds);
        let plus = |estimate: Estimate| Estimate {
            seconds: estimate.seconds + solving,
            interval: (estimate.interval).map(|(low, high)| (low + solving, high + solving)),
            longest: 0.0,
        };
        Some(Price {
            cpu: plus(self.cpu.estimate(runs, std::iter::empty())?),
            slots: plus(self.runs.estimate(runs, std::iter::empty())?),
        })
    }

    /// Wall-clock time with so many workers of one slot: the work shared, and at the upper end the
    /// longest task measured, which may come last and alone.
    pub fn wall(&self, price: &Price, workers: u32) -> Estimate {
        let share = price.slots.times(1.0 / f64::from(workers.max(1)));
        let longest = self.runs.longest();
        Estimate {
            seconds: share.seconds.max(longest),
            interval: (share.interval).map(|(low, high)| (low.max(longest), high + longest)),
            longest,
        }
    }
}

/// The positions of a pilot, ascending.
pub fn sample(tasks: u64, count: u64) -> Vec<u64> {
    let count = count.min(tasks);
    let draws = Philox::new(0);
    let edge = |i: u64| (u128::from(i) * u128::from(tasks) / u128::from(count.max(1))) as u64;
    (0..count)
        .map(|i| {
            let width = edge(i + 1) - edge(i);
            edge(i) + draws.below(width, Purpose::Estimate, 1, i as u32, 0)
        })
        .collect()
}

/// Computes a sample of a grid's tasks.
///
/// # Errors
/// When there are no workers, or somebody interrupts it.
pub async fn run(
    grid: Arc<Grid>,
    data: DataTable,
    count: u64,
    display: Display,
) -> Result<Measured, Failure> {
    let began = Instant::now();
    let internal = |error: io::Error| (code::INTERNAL, error.to_string());
    let folder = tempfile::Builder::new().prefix("pilot-").tempdir();
    let folder = folder.map_err(internal)?;
    let positions = sample(grid.len(), count);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = u32::try_from(cores.min(positions.len())).unwrap_or(1);
    let settings = Settings::local(
        Address::Directory(folder.path().to_owned()),
        workers,
        display,
    );
    let ground = Ground::open(&settings).await?;
    let store = Arc::clone(&ground.store);
    let stored = submission::add(store.as_ref(), &grid, data.contents(), 0).await;
    let stored = stored.map_err(|e| store_failure(&e))?;
    let number = stored.number;
    let (notices, _) = mpsc::unbounded_channel();
    let (handle, driver) = driver::start(config(store.as_ref()), Arc::clone(&store), notices, None);
    ground.stage.lead(handle.clone(), Arc::clone(&store));
    let (ended, end) = oneshot::channel();
    let new = NewSweep {
        number,
        priority: 0,
        paused: false,
        take_up: TakeUp::Nothing,
        workload: Box::new(Pilot {
            sweep: GridSweep::new(grid, data, KeepMinima::None),
            positions,
        }),
    };
    handle.send(Input::Sweep { new, ended });
    let local = ground.start_local(&settings);
    let mut progress = Progress::new(display);
    let outcome = {
        let watching = async {
            let mut looks = tokio::time::interval(LOOK);
            loop {
                looks.tick().await;
                let look = move |core: &_| Moment::of(core, number);
                if let Some(Some(moment)) = handle.look(look).await {
                    progress.show(&moment);
                }
                if local.as_ref().is_some_and(local::Running::is_hopeless) {
                    return;
                }
            }
        };
        tokio::select! {
            ended = end => ended.map_err(|_| (code::INTERNAL, "the pilot ended early".to_owned())),
            () = watching => Err((
                code::INTERNAL,
                "no local worker stays alive; SWEEP_LOG=info shows why".to_owned(),
            )),
            () = interrupted() => Err((
                code::INTERRUPTED,
                "the pilot was interrupted; nothing is kept of it".to_owned(),
            )),
        }
    };
    if let Some(local) = local {
        local.kill().await;
    }
    progress.finish();
    ground.close();
    driver.abort();
    let _ = driver.await;
    let ended = outcome?;
    let mut measured = measure(store.as_ref(), number).await?;
    if let Ok(sweep) = ended.workload.into_any().downcast::<GridSweep>() {
        measured.certified = sweep.counts().verdicts.certified();
    }
    measured.workers = workers;
    measured.seconds = began.elapsed().as_secs_f64();
    Ok(measured)
}

/// What the store has of the pilot.
async fn measure<S: Store>(store: &S, number: SweepNumber) -> Result<Measured, Failure> {
    let mut costs: Vec<(bool, u64, Telemetry)> = Vec::new();
    let mut after = 0;
    loop {
        let page = store.results(after, PAGE).await;
        let page = page.map_err(|e| store_failure(&e))?;
        let Some(last) = page.last() else { break };
        after = last.number;
        let cost =
            |r: &crate::store::StoredResult| (r.place.baseline, r.place.position, r.telemetry);
        costs.extend(page.iter().map(cost));
    }
    costs.sort_by_key(|(baseline, position, _)| (*baseline, *position));
    let failures = store.failures(number).await;
    let failures = failures.map_err(|e| store_failure(&e))?;
    let mut measured = Measured {
        workers: 0,
        seconds: 0.0,
        runs: Durations::default(),
        cpu: Durations::default(),
        baselines: Durations::default(),
        failed: failures.iter().filter(|f| f.set_aside).count() as u64,
        certified: 0,
        peak_memory: 0,
    };
    for (baseline, _, cost) in costs {
        if baseline {
            measured.baselines.push(cost.cpu_seconds);
        } else {
            measured.runs.push(cost.seconds);
            measured.cpu.push(cost.cpu_seconds);
        }
        measured.peak_memory = measured.peak_memory.max(cost.peak_memory);
    }
    Ok(measured)
}

/// Some tasks of a sweep as a workload: what it has at a place of its own is the sweep's at
/// another.
#[derive(Debug)]
struct Pilot {
    sweep: GridSweep,
    positions: Vec<u64>,
}

impl Pilot {
    fn place(&self, position: u64) -> u64 {
        let at = usize::try_from(position).ok();
        at.and_then(|at| self.positions.get(at))
            .copied()
            .unwrap_or(0)
    }
}

impl Workload for Pilot {
    fn len(&self) -> u64 {
        self.positions.len() as u64
    }

    fn task(&mut self, position: u64) -> Planned {
        self.sweep.task(self.place(position))
    }

    fn baseline_solved(&mut self, id: BaselineId, evidence: &BaselineEvidence) {
        self.sweep.baseline_solved(id, evidence);
    }

    fn wants_theta(&self, _: u64, _: &TaskId, _: &Evidence) -> bool {
        false
    }

    fn recorded(&mut self, position: u64, id: &TaskId, result: &Opened) -> Vec<TaskId> {
        self.sweep.recorded(self.place(position), id, result)
    }

    fn set_aside(&mut self, position: u64, id: &TaskId, kind: FailureKind) {
        self.sweep.set_aside(self.place(position), id, kind);
    }

    fn taken_up_again(&mut self, position: u64, id: &TaskId) {
        self.sweep.taken_up_again(self.place(position), id);
    }

    fn as_any(&self) -> &dyn Any {
        &self.sweep
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        Box::new(self.sweep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_one_task_of_each_stretch_of_the_grid() {
        let found = sample(1_003, 10);
        assert_eq!(found.len(), 10);
        for (i, position) in (0..10_u64).zip(&found) {
            assert!((i * 1_003 / 10..(i + 1) * 1_003 / 10).contains(position));
        }
        // The stride is none: an axis is not met at one value only.
        let strides: std::collections::BTreeSet<u64> =
            found.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(strides.len() > 3, "{found:?}");
        assert_eq!(sample(3, 32), [0, 1, 2]);
    }

    #[test]
    fn a_sweep_is_priced_by_its_runs_and_its_baselines() {
        let mut measured = Measured {
            workers: 2,
            seconds: 10.0,
            runs: Durations::default(),
            cpu: Durations::default(),
            baselines: Durations::default(),
            failed: 0,
            certified: 16,
            peak_memory: 0,
        };
        assert_eq!(measured.price(100, 3), None);
        for _ in 0..16 {
            measured.runs.push(2.0);
            measured.cpu.push(1.0);
        }
        measured.baselines.push(5.0);
        let price = measured.price(100, 3).unwrap();
        assert_eq!((price.cpu.seconds, price.slots.seconds), (115.0, 215.0));
        let wall = measured.wall(&price, 5);
        assert_eq!((wall.seconds, wall.interval), (43.0, Some((43.0, 45.0))));
        // A thousand workers do not make one task shorter.
        assert_eq!(measured.wall(&price, 1_000).seconds, 2.0);
    }
}
