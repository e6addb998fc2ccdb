//! Which runs keep their θ: those that the summary names, and violations.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{BaselineId, IdMap, TaskId};
use common::record::RunEvidence;
use common::summary::{CellKey, Verdict, is_trivial};

/// Which minima are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepMinima {
    /// Of each cell the worst, the worst that is not trivial and the best, and
    /// every violation.
    #[default]
    Worst,
    /// Every run's.
    All,
    /// None.
    None,
}

/// A run in a place of honour.
#[derive(Clone, Copy, Debug)]
struct Holder {
    value: f64,
    task: TaskId,
    position: u64,
}

/// Worst, worst non-trivial, best.
type Places = [Option<Holder>; 3];

#[derive(Debug)]
pub(super) struct Kept {
    policy: KeepMinima,
    baselines: IdMap<BaselineId, f64>,
    cells: BTreeMap<CellKey, Places>,
    always: BTreeSet<(u64, TaskId)>,
}

impl Kept {
    pub(super) fn new(policy: KeepMinima) -> Self {
        Self {
            policy,
            baselines: IdMap::default(),
            cells: BTreeMap::new(),
            always: BTreeSet::new(),
        }
    }

    pub(super) fn baseline_solved(&mut self, id: BaselineId, value: f64) {
        self.baselines.insert(id, value);
    }

    pub(super) fn baseline(&self, id: &BaselineId) -> Option<f64> {
        self.baselines.get(id).copied()
    }

    /// Tasks whose θ is kept, with their positions.
    pub(super) fn tasks(&self) -> Vec<(u64, TaskId)> {
        let held = self.cells.values().flatten().flatten();
        let mut tasks: BTreeSet<_> = held.map(|h| (h.position, h.task)).collect();
        tasks.extend(&self.always);
        tasks.into_iter().collect()
    }

    pub(super) fn wants(
        &self,
        cell: CellKey,
        task: TaskId,
        run: &RunEvidence,
        verdict: Verdict,
    ) -> bool {
        match self.policy {
            KeepMinima::All => true,
            KeepMinima::None => false,
            KeepMinima::Worst => {
                let places = self.cells.get(&cell).copied().unwrap_or_default();
                verdict == Verdict::Violation
                    || (0..3).any(|place| takes(&places, place, task, run, verdict))
            }
        }
    }

    /// Gives the run its places; returns the tasks that have lost all of theirs.
    pub(super) fn recorded(
        &mut self,
        cell: CellKey,
        position: u64,
        task: TaskId,
        run: &RunEvidence,
        verdict: Verdict,
    ) -> Vec<TaskId> {
        match self.policy {
            KeepMinima::None => return Vec::new(),
            KeepMinima::All => {
                self.always.insert((position, task));
                return Vec::new();
            }
            KeepMinima::Worst if verdict == Verdict::Violation => {
                self.always.insert((position, task));
            }
            KeepMinima::Worst => {}
        }
        let places = self.cells.entry(cell).or_default();
        let mut displaced = Vec::new();
        for place in 0..3 {
            if takes(places, place, task, run, verdict) {
                let value = run.value;
                let holder = Holder {
                    value,
                    task,
                    position,
                };
                displaced.extend(places[place].replace(holder));
            }
        }
        let still = |h: &Holder| {
            places.iter().flatten().any(|p| p.task == h.task)
                || self.always.contains(&(h.position, h.task))
        };
        displaced.retain(|h| !still(h));
        let mut tasks: Vec<TaskId> = displaced.into_iter().map(|h| h.task).collect();
        tasks.dedup();
        tasks
    }
}

/// Whether a run takes a place: the extreme value, ties to the smallest task.
fn takes(places: &Places, place: usize, task: TaskId, run: &RunEvidence, verdict: Verdict) -> bool {
    if !verdict.is_certified() || (place == 1 && is_trivial(run)) {
        return false;
    }
    let Some(held) = &places[place] else {
        return true;
    };
    let (new, old) = if place == 2 {
        (-run.value, -held.value)
    } else {
        (run.value, held.value)
    };
    new > old || new == old && task < held.task
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::record::Outcome;

    fn run(value: f64, trivial: bool) -> RunEvidence {
        RunEvidence {
            value,
            norm_w: 1.0,
            norm_wv: Some(if trivial { 0.0 } else { 1.0 }),
            ..RunEvidence::empty(Outcome::CertifiedMinimum)
        }
    }

    #[test]
    fn extreme_runs_keep_their_place_and_the_displaced_are_named() {
        let mut kept = Kept::new(KeepMinima::Worst);
        let cell = CellKey(0);
        let certified = Verdict::CertifiedMinimum;
        let id = |n: u8| TaskId([n; 32]);
        assert!(
            kept.recorded(cell, 0, id(5), &run(1.0, false), certified)
                .is_empty()
        );
        // The new worst; the first one stays as the best.
        assert!(
            kept.recorded(cell, 1, id(4), &run(2.0, false), certified)
                .is_empty()
        );
        // A trivial worse one takes one of the second's two places only.
        assert!(
            kept.recorded(cell, 2, id(3), &run(3.0, true), certified)
                .is_empty()
        );
        // Equal value, smaller task.
        assert!(kept.wants(cell, id(2), &run(3.0, true), certified));
        assert_eq!(
            kept.recorded(cell, 3, id(2), &run(3.0, true), certified),
            [id(3)]
        );
        assert!(!kept.wants(cell, id(9), &run(3.0, true), certified));
        assert!(!kept.wants(cell, id(1), &run(9.0, false), Verdict::Saddle));
        assert_eq!(
            kept.recorded(cell, 4, id(1), &run(0.5, false), certified),
            [id(5)]
        );
        assert_eq!(kept.tasks(), [(1, id(4)), (3, id(2)), (4, id(1))]);
    }

    #[test]
    fn violations_are_never_displaced() {
        let mut kept = Kept::new(KeepMinima::Worst);
        let id = |n: u8| TaskId([n; 32]);
        kept.recorded(CellKey(0), 0, id(1), &run(1.0, false), Verdict::Violation);
        kept.recorded(CellKey(0), 1, id(2), &run(9.0, false), Verdict::Violation);
        kept.recorded(
            CellKey(0),
            2,
            id(3),
            &run(0.0, false),
            Verdict::CertifiedMinimum,
        );
        assert_eq!(kept.tasks().len(), 3);
    }
}
