//! `search: {worst: …}`: runs beside the grid's, spent where the worst minimum may still get worse.
//!
//! A max-K-armed bandit in rounds. Arms are the candidate starts of [`arms`] in each cell; a pull
//! is a run; a success is a *distinct* minimum among the highest of its cell that no earlier run
//! had found (threshold ascent, Streeter & Smith 2006, with a bar that rises with the number of
//! runs). Counting distinct minima keeps an arm that finds the same plateau for ever from looking
//! good. Which arm is pulled is drawn from the posteriors of success (Thompson 1933), which needs
//! no result between the pulls of a round. Cells take turns by weight ([`weight`]).
//!
//! **Same results, same rounds.** A round is decided when every task so far is recorded or set
//! aside, from counts and maxima that do not depend on the order of results, and from draws at
//! addresses (search seed, number of the run). So after a restart the rounds are decided again,
//! and are the same.
//!
//! A task that was set aside counts as a run that found nothing. If it gets a result after a round
//! was decided without it, that round is no longer what the results say: the search is *stale*,
//! decides no more, and its sweep says that it is not complete until the same command is given
//! again, which decides everything anew.

mod arms;
mod cell;

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashSet};
use std::fmt::Write;

use common::grid::Search;
use common::ids::TaskId;
use common::rng::Philox;
use common::spec::{Start, TaskSpec};
use common::summary::{CellKey, tolerance};

use arms::{ARMS, Draw, FRESH, Origin, REFINE, arm_of};
use cell::{CellStats, Found};

/// A run that a search has added.
#[derive(Clone, Copy, Debug)]
pub(super) struct SearchRun {
    /// Its cell.
    pub(super) cell: CellKey,
    origin: Origin,
    arm: u8,
    round: u32,
}

impl SearchRun {
    /// Its start.
    pub(super) fn start(&self) -> Start {
        self.origin.start()
    }

    /// Its seed.
    pub(super) fn seed(&self) -> u64 {
        self.origin.seed
    }
}

/// A cell as a search sees it when it decides. In the order of the grid.
#[derive(Clone, Copy, Debug)]
pub(super) struct CellView {
    pub(super) key: CellKey,
    /// No assumption of the theorem is broken.
    pub(super) inside: bool,
    /// Value of its baseline, if it is solved.
    pub(super) baseline: Option<f64>,
}

/// The adaptive search of a sweep.
#[derive(Debug)]
pub(super) struct WorstSearch {
    rule: Search,
    cells: BTreeMap<CellKey, CellStats>,
    plan: Vec<SearchRun>,
    planned: HashSet<TaskId>,
    /// Runs that were given up.
    set_aside: BTreeSet<TaskId>,
    rounds: u32,
    /// Nothing more will be added.
    closed: bool,
    stale: bool,
}

/// Attempts to choose a run that has not been done, before it is left out. Draws of 52 bits
/// practically never meet; refinements may, on the lattice of scales.
const ATTEMPTS: u32 = 64;

/// Number of candidate arms in a cell: fresh starts, and ways to begin near a known minimum.
pub const CANDIDATES: (usize, usize) = (FRESH.len(), REFINE.len());

impl WorstSearch {
    pub(super) fn new(rule: Search) -> Self {
        Self {
            rule,
            cells: BTreeMap::new(),
            plan: Vec::new(),
            planned: HashSet::new(),
            set_aside: BTreeSet::new(),
            rounds: 0,
            closed: false,
            stale: false,
        }
    }

    /// A cell that can be searched.
    pub(super) fn cell(&mut self, key: CellKey) {
        self.cells.entry(key).or_default();
    }

    /// The runs added so far.
    pub(super) fn plan(&self) -> &[SearchRun] {
        &self.plan
    }

    /// How many runs there are in the end, as far as is known.
    pub(super) fn total(&self) -> u64 {
        let planned = self.plan.len() as u64;
        if self.closed {
            planned
        } else {
            self.rule.runs.max(planned)
        }
    }

    /// Whether a result came for a task that a round was decided without.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// A new result; `minimum` is the value of a certified run, `by` the search's own run.
    pub(super) fn recorded(
        &mut self,
        cell: CellKey,
        task: TaskId,
        spec: &TaskSpec,
        by: Option<&SearchRun>,
        minimum: Option<f64>,
    ) {
        let was_set_aside = self.set_aside.remove(&task);
        let round = by.map_or(0, |run| run.round);
        self.stale |= was_set_aside && self.rounds > round;
        let Some(stats) = self.cells.get_mut(&cell) else {
            return;
        };
        let arm = by.map_or_else(|| arm_of(&spec.start), |run| Some(run.arm));
        if was_set_aside {
            stats.taken_up(arm);
        }
        let origin = match &spec.start {
            Start::Drawn { kind, scale } => Some(Origin {
                kind: *kind,
                scale: *scale,
                seed: spec.seed,
            }),
            Start::Point(_) => None,
        };
        stats.recorded(&Found {
            round,
            task,
            arm,
            origin,
            minimum,
        });
    }

    /// A task was given up.
    pub(super) fn set_aside(
        &mut self,
        cell: CellKey,
        task: TaskId,
        start: &Start,
        by: Option<&SearchRun>,
    ) {
        if !self.set_aside.insert(task) {
            return;
        }
        let arm = by.map_or_else(|| arm_of(start), |run| Some(run.arm));
        if let Some(stats) = self.cells.get_mut(&cell) {
            stats.set_aside(arm);
        }
    }

    /// Decides a round; whether there are new runs. `identify` gives the identity of a run, or
    /// `None` if the grid has it.
    pub(super) fn decide(
        &mut self,
        views: &[CellView],
        mut identify: impl FnMut(&SearchRun) -> Option<TaskId>,
    ) -> bool {
        if self.closed || self.stale {
            return false;
        }
        let left = self.rule.runs.saturating_sub(self.plan.len() as u64);
        let mut turns = self.turns(views);
        let before = self.plan.len();
        self.rounds += 1;
        let mut choices: BTreeMap<CellKey, Choices> = BTreeMap::new();
        for _ in 0..left.min(self.rule.round) {
            let Some(mut turn) = turns.pop() else { break };
            let key = turn.key;
            if let Some(stats) = self.cells.get(&key) {
                let choices = choices.entry(key).or_insert_with(|| Choices::of(stats));
                let number = u32::try_from(self.plan.len()).unwrap_or(u32::MAX);
                let chosen = choices.next(self.rule.seed, number, |origin, arm| {
                    let run = SearchRun {
                        cell: key,
                        origin,
                        arm,
                        round: self.rounds,
                    };
                    let id = identify(&run)?;
                    self.planned.insert(id).then_some(run)
                });
                self.plan.extend(chosen);
            }
            turn.taken += 1.0;
            turns.push(turn);
        }
        self.closed = self.plan.len() == before;
        tracing::debug!(
            round = self.rounds,
            runs = self.plan.len() - before,
            "search:\n{}",
            self.table()
        );
        !self.closed
    }

    /// The cells that take part, each with its weight and the turns that it has had.
    fn turns(&self, views: &[CellView]) -> BinaryHeap<Turn> {
        let mut taken: BTreeMap<CellKey, f64> = BTreeMap::new();
        for run in &self.plan {
            *taken.entry(run.cell).or_default() += 1.0;
        }
        let turn = |(place, view): (usize, &CellView)| {
            let weight = weight(view, self.cells.get(&view.key)?)?;
            Some(Turn {
                taken: taken.get(&view.key).copied().unwrap_or(0.0),
                weight,
                place,
                key: view.key,
            })
        };
        views.iter().enumerate().filter_map(turn).collect()
    }

    /// Pulls and successes of the arms, over all cells.
    fn table(&self) -> String {
        let mut sums = [(0, 0); ARMS];
        for stats in self.cells.values() {
            for (arm, tried, successes) in stats.arms() {
                sums[arm].0 += u64::from(tried);
                sums[arm].1 += u64::from(successes);
            }
        }
        let mut text = format!("{:28} {:>8} {:>9}\n", "arm", "tried", "among top");
        for (arm, (tried, successes)) in sums.into_iter().enumerate() {
            let _ = writeln!(text, "{:28} {tried:>8} {successes:>9}", arms::name(arm));
        }
        text
    }
}

/// The choices of one round in one cell.
struct Choices {
    stats: CellStats,
    parents: Vec<Origin>,
    pending: [u32; ARMS],
}

impl Choices {
    fn of(stats: &CellStats) -> Self {
        Self {
            stats: stats.clone(),
            parents: stats.parents(),
            pending: [0; ARMS],
        }
    }

    /// The next run that `accept` takes.
    fn next(
        &mut self,
        seed: u64,
        run: u32,
        mut accept: impl FnMut(Origin, u8) -> Option<SearchRun>,
    ) -> Option<SearchRun> {
        let rng = Philox::new(seed);
        (0..ATTEMPTS).find_map(|attempt| {
            let draw = Draw { rng, run, attempt };
            let arm = self.stats.choose(&self.pending, draw);
            self.pending[arm] += 1;
            accept(draw.origin(arm, &self.parents), u8::try_from(arm).ok()?)
        })
    }
}

/// Pulls of a cell before it is called barren.
const PATIENCE: u32 = 64;

/// A cell's share of the runs, in proportion; `None` for cells without a baseline.
///
/// Outside the assumptions bad minima exist, so these cells weigh most. Inside, a worst minimum on
/// the baseline cannot get worse unless the theorem or the program is wrong: such a cell is only
/// looked after. So is one where nothing certifies.
fn weight(view: &CellView, stats: &CellStats) -> Option<f64> {
    let baseline = view.baseline?;
    let at_baseline = stats
        .worst()
        .is_some_and(|worst| (worst - baseline).abs() <= tolerance(baseline));
    Some(match view.inside {
        _ if stats.is_barren() && stats.runs() >= PATIENCE => 0.125,
        true if at_baseline => 0.0625,
        true => 1.0,
        false => 2.0,
    })
}

/// A cell in the queue for runs; the greatest is next.
#[derive(Clone, Copy, Debug)]
struct Turn {
    taken: f64,
    weight: f64,
    place: usize,
    key: CellKey,
}

impl Turn {
    fn due(&self) -> f64 {
        (self.taken + 1.0) / self.weight
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let order = other.due().total_cmp(&self.due());
        order.then(other.place.cmp(&self.place))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Turn {}
