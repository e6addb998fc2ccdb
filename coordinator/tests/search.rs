//! The adaptive search of a sweep: what it decides, from what, and what it must leave alone.
//!
//! Runs are computed by a function of the task here, so that a sweep of hundreds takes no time and
//! can be played in any order, stopped and begun again.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use common::grid::{Folder, Grid};
use common::ids::TaskId;
use common::pb::encode_evidence;
use common::protocol::FailureKind;
use common::record::{Attainment, BaselineEvidence, Evidence, Outcome, RunEvidence};
use common::rng::{Philox, Purpose};
use common::spec::{Start, StartKind};
use common::summary::{FoundBy, Summary};
use coordinator::core::Opened;
use coordinator::sweep::{Contents, DataTable, GridSweep, KeepMinima};
use coordinator::workload::{PlannedWork, Workload};
use proptest::prelude::*;

const GRID: &str = "
data: {generate: teacher, rows: 10, inputs: 2, outputs: 1, width: 2, seed: 0}
axes:
  skip: [outer, none]
  training.start: [standard, {dead: {scale: 0.5}}]
  seed: {start: 0, count: 6}
";
const TASKS: u64 = 24;
const SEARCH: &str = "search: {worst: {runs: 150, round: 40, seed: 7}}\n";

/// Value of every baseline.
const BASELINE: f64 = 1.0;

fn sweep(text: &str) -> GridSweep {
    let folder = Folder {
        base: PathBuf::new(),
    };
    let grid = Grid::load("grid", text.as_bytes(), &folder).unwrap_or_else(|m| panic!("{m}"));
    let data = DataTable::new(Contents::new());
    GridSweep::new(Arc::new(grid), data, KeepMinima::Worst)
}

fn with_search() -> String {
    format!("{GRID}{SEARCH}")
}

/// What an honest worker finds: a number drawn by the task's identity; one in nine does not
/// certify.
fn found(id: TaskId) -> RunEvidence {
    let rng = Philox::new(u64::from_le_bytes(id.0[..8].try_into().unwrap()));
    let uniform = |what| rng.uniform(Purpose::Estimate, what, 0, 0);
    let outcome = if uniform(0) < 1.0 / 9.0 {
        Outcome::Saddle
    } else {
        Outcome::CertifiedMinimum
    };
    run(outcome, BASELINE - 1e-3 - uniform(1))
}

fn run(outcome: Outcome, value: f64) -> RunEvidence {
    RunEvidence {
        objective: value,
        value,
        norm_w: 1.0,
        norm_wv: Some(1.0),
        ..RunEvidence::empty(outcome)
    }
}

fn baseline() -> BaselineEvidence {
    BaselineEvidence {
        value: BASELINE,
        lower_bound: BASELINE,
        status: Attainment::Attained,
        gradient_norm: 0.0,
        minimizer: vec![0.0],
        outputs: 1,
        features: 1,
        rows: 10,
    }
}

/// A sweep being played.
struct Play {
    text: String,
    sweep: GridSweep,
    /// What is durable.
    results: BTreeMap<TaskId, RunEvidence>,
    dice: Philox,
    drawn: u32,
    compute: fn(&Start, TaskId) -> RunEvidence,
}

impl Play {
    fn new(text: &str, dice: u64) -> Self {
        Self {
            text: text.to_owned(),
            sweep: sweep(text),
            results: BTreeMap::new(),
            dice: Philox::new(dice),
            drawn: 0,
            compute: |_, id| found(id),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.drawn += 1;
        self.dice
            .below(bound as u64, Purpose::Estimate, self.drawn, 0, 0) as usize
    }

    /// A new life of the coordinator: it has the store and nothing else.
    fn restart(&mut self) {
        self.sweep = sweep(&self.text);
    }

    fn record(&mut self, position: u64) {
        let planned = self.sweep.task(position);
        let PlannedWork::Run { baseline: id, .. } = planned.work else {
            panic!("a grid plans runs");
        };
        self.sweep.baseline_solved(id, &baseline());
        let start = self.sweep.task_at(position).unwrap().spec.start;
        let compute = self.compute;
        let known = self.results.entry(planned.id);
        let evidence = known.or_insert_with(|| compute(&start, planned.id));
        let evidence = Evidence::Run(Box::new(evidence.clone()));
        let result = Opened::open(encode_evidence(&evidence)).unwrap();
        self.sweep.recorded(position, &planned.id, &result);
    }

    /// Plays on until nothing is left, in an order of its own, dying `deaths` times on the way.
    fn play_on(&mut self, mut deaths: u32) {
        let mut done = 0;
        loop {
            let mut open: Vec<u64> = (done..self.sweep.len()).collect();
            while !open.is_empty() {
                let next = self.below(open.len());
                self.record(open.swap_remove(next));
                if deaths > 0 && self.below(40) == 0 {
                    deaths -= 1;
                    self.restart();
                    open = (0..self.sweep.len()).collect();
                }
            }
            done = self.sweep.len();
            if !self.sweep.next_round() {
                return;
            }
            assert!(self.sweep.len() > done, "a round adds runs");
        }
    }

    fn plan(&mut self) -> Vec<TaskId> {
        (0..self.sweep.len())
            .map(|position| self.sweep.task(position).id)
            .collect()
    }

    fn starts(&self) -> Vec<Start> {
        (TASKS..self.sweep.len())
            .map(|position| self.sweep.task_at(position).unwrap().spec.start)
            .collect()
    }

    fn summary(&self) -> Summary {
        self.sweep.summary(0)
    }
}

fn undisturbed() -> Play {
    let mut play = Play::new(&with_search(), 0);
    play.play_on(0);
    play
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_results_give_the_same_rounds_in_any_order_and_after_any_restart(
        dice in any::<u64>(),
        deaths in 0u32..4,
    ) {
        let mut first = undisturbed();
        let mut other = Play::new(&with_search(), dice);
        other.play_on(deaths);
        prop_assert_eq!(first.plan(), other.plan());
        prop_assert_eq!(first.summary().to_json(), other.summary().to_json());
    }
}

#[test]
fn as_many_runs_as_asked_for_and_none_of_them_twice() {
    let mut play = undisturbed();
    let plan = play.plan();
    assert_eq!(plan.len() as u64, TASKS + 150);
    assert_eq!(plan.iter().collect::<BTreeSet<_>>().len(), plan.len());
    let summary = play.summary();
    assert_eq!(summary.totals.planned, TASKS + 150);
    assert_eq!(summary.totals.recorded, TASKS + 150);
    assert!(!summary.sweep.partial);
    // Most draw a fresh seed; the others go on from a run that is there.
    let specs: Vec<_> = (0..plan.len() as u64)
        .map(|n| play.sweep.task_at(n).unwrap().spec)
        .collect();
    let (grid, added) = specs.split_at(TASKS as usize);
    let fresh = added.iter().filter(|s| s.seed >= 1 << 52).count();
    assert!(fresh > 75, "{fresh}");
    let known: BTreeSet<u64> = grid.iter().map(|s| s.seed).collect();
    assert!(
        added
            .iter()
            .all(|s| s.seed >= 1 << 52 || known.contains(&s.seed))
    );
    assert!(added.iter().any(|s| known.contains(&s.seed)));
}

#[test]
fn another_search_seed_tries_other_runs() {
    let mut one = undisturbed();
    let mut other = Play::new(&with_search().replace("seed: 7", "seed: 8"), 0);
    other.play_on(0);
    let (one, other) = (one.plan(), other.plan());
    assert_eq!(one[..TASKS as usize], other[..TASKS as usize]);
    let one: BTreeSet<_> = one[TASKS as usize..].iter().collect();
    assert!(!other[TASKS as usize..].iter().any(|id| one.contains(id)));
}

#[test]
fn the_runs_of_a_search_enter_no_share_and_no_bound() {
    let with = undisturbed().summary();
    let mut plain = Play::new(GRID, 0);
    plain.play_on(0);
    let plain = plain.summary();
    let mut searched = 0;
    for (with, plain) in with.cells.iter().zip(&plain.cells) {
        assert_eq!(with.cell, plain.cell);
        assert_eq!((with.runs, with.verdicts), (plain.runs, plain.verdicts));
        assert_eq!(
            (with.at_baseline, with.trivial, with.values),
            (plain.at_baseline, plain.trivial, plain.values)
        );
        assert_eq!(with.median_improvement, plain.median_improvement);
        assert_eq!(with.by_start, plain.by_start);
        assert_eq!(plain.search, None);
        searched += with.search.unwrap().runs;
        // With so many more draws the extremes are the search's, and say so.
        let (worst, before) = (with.worst.as_ref(), plain.worst.as_ref());
        let (worst, before) = (worst.unwrap(), before.unwrap());
        assert!(worst.value.0 > before.value.0);
        assert_eq!(worst.found_by, FoundBy::Search);
        assert_eq!(before.found_by, FoundBy::Grid);
    }
    assert_eq!(searched, 150);
}

#[test]
fn a_violation_found_by_the_search_violates_its_cell_and_no_bound() {
    let mut play = Play::new(&with_search(), 0);
    play.compute = |start, id| match start {
        // Only the search tries this start.
        Start::Drawn {
            kind: StartKind::SignFlipped,
            ..
        } => run(Outcome::CertifiedMinimum, BASELINE + 0.5),
        _ => found(id),
    };
    play.play_on(0);
    let summary = play.summary();
    let inside = &summary.cells[0];
    assert_eq!(inside.assumptions_broken, [""; 0]);
    assert_eq!(inside.verdict.name(), "violated");
    assert_eq!(inside.verdicts.violation, 0);
    assert!(inside.search.unwrap().verdicts.violation > 0);
    let hits: Vec<_> = inside.by_start.iter().map(|s| s.start.as_str()).collect();
    assert_eq!(hits, ["dead(scale 0.5)", "standard"]);
}

#[test]
fn an_arm_that_keeps_finding_worse_minima_is_pulled_more() {
    let mut play = Play::new(&with_search().replace("runs: 150", "runs: 600"), 0);
    play.compute = |start, id| {
        let mut evidence = found(id);
        let good = Start::Drawn {
            kind: StartKind::Saturated,
            scale: 0.3,
        };
        if *start == good {
            evidence.value += 0.9;
        }
        evidence
    };
    play.play_on(0);
    let mut pulls: BTreeMap<String, usize> = BTreeMap::new();
    for start in play.starts() {
        *pulls.entry(start.to_string()).or_default() += 1;
    }
    let good = pulls.remove("saturated(scale 0.3)").unwrap();
    let even = 600 / 25;
    let next = pulls.values().max().copied().unwrap();
    assert!(
        good > 4 * even && good > 2 * next,
        "{good} pulls of the best of 25 arms, {even} for each if all were alike, {next} of another"
    );
}

#[test]
fn a_plateau_is_one_success_however_often_it_is_found() {
    let mut play = Play::new(&with_search(), 0);
    play.compute = |start, id| match start {
        Start::Drawn {
            kind: StartKind::Dead,
            ..
        } => run(Outcome::CertifiedMinimum, BASELINE),
        _ => found(id),
    };
    play.play_on(0);
    let starts = play.starts();
    let dead = |s: &&Start| {
        let Start::Drawn { kind, .. } = s else {
            return false;
        };
        *kind == StartKind::Dead
    };
    let pulls = starts.iter().filter(dead).count();
    // Three of 25 arms begin dead.
    assert!(pulls < starts.len() / 5, "{pulls} of {}", starts.len());
}

#[test]
fn cells_outside_the_assumptions_get_more_and_settled_ones_little() {
    let mut play = Play::new(&with_search(), 0);
    play.compute = |_, id| {
        let mut evidence = found(id);
        if evidence.outcome == Outcome::CertifiedMinimum && id.0[0] < 80 {
            evidence.value = BASELINE;
        }
        evidence
    };
    play.play_on(0);
    let summary = play.summary();
    let runs = |n: usize| summary.cells[n].search.map_or(0, |s| s.runs);
    assert_eq!(summary.cells[0].assumptions_broken, [""; 0]);
    assert_eq!(
        summary.cells[1].assumptions_broken,
        ["skip: none (no outer skip)"]
    );
    assert_eq!(runs(0) + runs(1), 150);
    assert!(runs(0) > 0, "a settled cell is looked after");
    assert!(runs(0) < 15, "{}", runs(0));
}

#[test]
fn given_points_that_are_only_certified_are_not_searched() {
    let mut play = Play::new(
        &format!("{GRID}{SEARCH}training: {{budget: {{evaluations: 0}}}}\n"),
        0,
    );
    play.play_on(0);
    assert_eq!(play.sweep.len(), TASKS);
    assert_eq!(play.summary().totals.planned, TASKS);
    assert!(!play.summary().sweep.partial);
}

#[test]
fn an_unfinished_search_is_missing_and_not_forgotten() {
    let mut play = Play::new(&with_search(), 0);
    for position in 0..TASKS {
        play.record(position);
    }
    let summary = play.summary();
    assert_eq!(summary.totals.missing, 150);
    assert!(summary.sweep.partial);
}

#[test]
fn a_failed_task_that_succeeds_too_late_makes_the_search_stale_until_it_is_decided_anew() {
    let expected = undisturbed().summary().to_json();
    let mut play = Play::new(&with_search(), 0);
    for position in 1..TASKS {
        play.record(position);
    }
    let failed = play.sweep.task(0).id;
    play.sweep.set_aside(0, &failed, FailureKind::Crash);
    play.sweep.set_aside(0, &failed, FailureKind::Crash);
    assert!(play.sweep.next_round(), "one failure does not end a search");
    play.sweep.taken_up_again(0, &failed);
    play.record(0);
    for position in TASKS..play.sweep.len() {
        play.record(position);
    }
    assert!(!play.sweep.next_round());
    assert!(play.sweep.is_search_stale());
    assert!(play.summary().sweep.partial);
    // The same command once more.
    play.restart();
    play.play_on(0);
    assert!(!play.sweep.is_search_stale());
    assert_eq!(play.summary().to_json(), expected);
}

#[test]
fn a_failed_task_that_succeeds_in_time_leaves_no_trace() {
    let expected = undisturbed().summary().to_json();
    let mut play = Play::new(&with_search(), 0);
    let failed = play.sweep.task(3).id;
    play.sweep.set_aside(3, &failed, FailureKind::Crash);
    play.sweep.taken_up_again(3, &failed);
    play.play_on(0);
    assert!(!play.sweep.is_search_stale());
    assert_eq!(play.summary().to_json(), expected);
}
