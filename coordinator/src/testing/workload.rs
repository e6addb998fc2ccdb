//! A workload whose tasks are numbers, and the function that computes them.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use common::ids::{BaselineId, CellId, TaskId};
use common::protocol::{CellText, FailureKind, Work};
use common::record::{Attainment, BaselineEvidence, Evidence, Outcome, RunEvidence};
use sha2::{Digest, Sha256};

use crate::core::Opened;
use crate::workload::{Planned, PlannedWork, Workload};

/// A run of the fake workload; equal numbers are equal tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FakeTask {
    /// Which task.
    pub number: u32,
    /// The baseline it needs; tasks without one are no-ops.
    pub baseline: Option<u32>,
}

/// Tasks in a list, and what became of them.
#[derive(Debug, Default)]
pub struct FakeWorkload {
    tasks: Vec<FakeTask>,
    /// Tasks added by later rounds.
    rounds: Vec<Vec<FakeTask>>,
    /// Evidence of each recorded run.
    pub results: BTreeMap<TaskId, Bytes>,
    /// Values of solved baselines.
    pub baselines: BTreeMap<BaselineId, f64>,
    /// Runs set aside.
    pub set_aside: BTreeSet<TaskId>,
    /// Results that were handed over a second time.
    pub repetitions: u32,
    /// Results and baselines that came a second time with other evidence.
    pub contradictions: u32,
}

impl FakeWorkload {
    /// A workload of these tasks, then of these rounds.
    pub fn new(tasks: Vec<FakeTask>, rounds: Vec<Vec<FakeTask>>) -> Self {
        Self {
            tasks,
            rounds,
            ..Self::default()
        }
    }

    /// `count` different tasks without baselines.
    pub fn noops(count: u32) -> Self {
        let tasks = (0..count).map(|number| FakeTask {
            number,
            baseline: None,
        });
        Self::new(tasks.collect(), Vec::new())
    }

    /// The number of different runs, later rounds included.
    pub fn distinct(&self) -> usize {
        let later = self.rounds.iter().flatten();
        self.tasks
            .iter()
            .chain(later)
            .collect::<BTreeSet<_>>()
            .len()
    }
}

/// The identity of a run.
pub fn task_id(task: FakeTask) -> TaskId {
    let mut hash = Sha256::new();
    hash.update(b"run");
    hash.update(task.number.to_le_bytes());
    hash.update(
        task.baseline
            .map_or(u32::MAX, |baseline| baseline)
            .to_le_bytes(),
    );
    TaskId(hash.finalize().into())
}

fn baseline_id(number: u32) -> BaselineId {
    let mut hash = Sha256::new();
    hash.update(b"baseline");
    hash.update(number.to_le_bytes());
    BaselineId(hash.finalize().into())
}

fn cell(baseline: u32) -> Arc<CellText> {
    let mut hash = Sha256::new();
    hash.update(b"cell");
    hash.update(baseline.to_le_bytes());
    let id = CellId(hash.finalize().into());
    Arc::new(CellText {
        id,
        json: format!("{{\"baseline\":{baseline}}}"),
    })
}

/// What an honest worker finds; a function of the task alone.
pub fn compute(task: &TaskId, work: &Work) -> Evidence {
    let byte = f64::from(task.0[0]);
    match work {
        Work::Noop { seed, .. } => Evidence::Noop { seed: *seed },
        Work::Baseline { .. } => Evidence::Baseline(Box::new(BaselineEvidence {
            value: byte + 1.0,
            lower_bound: byte,
            status: Attainment::Attained,
            gradient_norm: 0.0,
            minimizer: vec![byte],
            outputs: 1,
            features: 1,
            rows: 10,
        })),
        Work::Run { seed, baseline, .. } => Evidence::Run(Box::new(RunEvidence {
            objective: byte,
            // The baseline's value is in it: a run that was given another
            // baseline would be found out.
            value: byte + baseline.evidence.value,
            evaluations: *seed,
            ..RunEvidence::empty(Outcome::CertifiedMinimum)
        })),
    }
}

impl Workload for FakeWorkload {
    fn len(&self) -> u64 {
        self.tasks.len() as u64
    }

    fn task(&mut self, position: u64) -> Planned {
        let task = self.tasks[position as usize];
        let seed = u64::from(task.number);
        let work = match task.baseline {
            Some(number) => PlannedWork::Run {
                cell: cell(number),
                seed,
                start: "\"standard\"".into(),
                baseline: baseline_id(number),
            },
            None => PlannedWork::Noop {
                seed,
                microseconds: 0,
            },
        };
        Planned {
            id: task_id(task),
            work,
        }
    }

    fn baseline_solved(&mut self, id: BaselineId, evidence: &BaselineEvidence) {
        if self
            .baselines
            .insert(id, evidence.value)
            .is_some_and(|value| value != evidence.value)
        {
            self.contradictions += 1;
        }
    }

    fn wants_theta(&self, _: u64, id: &TaskId, _: &Evidence) -> bool {
        self.results
            .keys()
            .next_back()
            .is_none_or(|largest| largest < id)
    }

    fn recorded(&mut self, position: u64, id: &TaskId, result: &Opened) -> Vec<TaskId> {
        assert_eq!(
            task_id(self.tasks[position as usize]),
            *id,
            "a result came for another task"
        );
        let largest = self.results.keys().next_back().copied();
        let bytes = result.bytes.clone();
        if let Some(earlier) = self.results.insert(*id, bytes.clone()) {
            self.repetitions += 1;
            self.contradictions += u32::from(earlier != bytes);
        }
        largest.filter(|largest| largest < id).into_iter().collect()
    }

    fn set_aside(&mut self, position: u64, id: &TaskId, _: FailureKind) {
        assert_eq!(
            task_id(self.tasks[position as usize]),
            *id,
            "a failure came for another task"
        );
        self.set_aside.insert(*id);
    }

    fn taken_up_again(&mut self, _: u64, id: &TaskId) {
        self.set_aside.remove(id);
    }

    fn next_round(&mut self) -> bool {
        if self.rounds.is_empty() {
            return false;
        }
        let round = self.rounds.remove(0);
        self.tasks.extend(round);
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
