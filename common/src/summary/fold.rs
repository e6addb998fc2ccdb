//! The fold itself: what comes in, what is remembered, what comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::output::{
    BaselineSummary, CellSummary, CellVerdict, Description, Number, Overall, Quantiles, RunSummary,
    SCHEMA, SearchSummary, StartSummary, Summary, SweepSummary, Totals, VerdictCounts,
};
use super::table::{Entry, State, Table};
use super::{Verdict, is_trivial, settle, tolerance, verdict_alone};
use crate::ids::{BaselineId, IdMap, TaskId, to_hex};
use crate::math::special::binomial_upper;
use crate::record::{BaselineEvidence, Outcome, RunEvidence};

/// Which sweep a summary is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepInfo {
    /// Identity of the sweep.
    pub id: String,
    /// Its name.
    pub name: String,
    /// SHA-256 of the grid, hexadecimal.
    pub grid_sha256: String,
    /// What the bits depend on.
    pub numeric_level: String,
    /// False when runs are limited by seconds.
    pub reproducible: bool,
}

/// When a cell has been tried enough (`certificate.min_certified`, `min_share`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Fewest certified runs.
    pub min_certified: u64,
    /// Smallest share of certified runs among the recorded ones.
    pub min_share: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            min_certified: 5,
            min_share: 0.5,
        }
    }
}

/// Position of a cell in the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct CellKey(pub u32);

/// What the summary says about a cell before any run.
#[derive(Clone, Debug, PartialEq)]
pub struct CellInfo {
    /// Name and value of each field, in the order to show them.
    pub description: Vec<(String, Value)>,
    /// Assumptions of the theorem that do not hold here.
    pub assumptions_broken: Vec<String>,
    /// Remarks that break nothing.
    pub notes: Vec<String>,
    /// The classical model beside which the runs stand.
    pub baseline: BaselineId,
}

/// Who asked for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FoundBy {
    /// Listed by the grid.
    Grid,
    /// Added by the adaptive search.
    Search,
}

/// One recorded run.
#[derive(Clone, Copy, Debug)]
pub struct RecordedRun<'a> {
    /// The cell it belongs to.
    pub cell: CellKey,
    /// Its identity.
    pub task: TaskId,
    /// Its seed.
    pub seed: u64,
    /// Its start, by name.
    pub start: &'a str,
    /// Whether two seeds give two different runs from this start.
    pub random: bool,
    /// Who asked for it.
    pub found_by: FoundBy,
    /// What it left behind.
    pub evidence: &'a RunEvidence,
    /// SHA-256 of the evidence as it was recorded.
    pub digest: [u8; 32],
}

/// Whether something was news to the fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It counts now.
    New,
    /// It counted already, or something stronger does; nothing changed.
    Repeated,
}

/// Why something was refused; the fold is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// A result for a cell that was never described.
    #[error("cell {} is not part of this sweep", cell.0)]
    UnknownCell {
        /// The cell.
        cell: CellKey,
    },
    /// A task is there with another result, cell, start or origin.
    #[error("task {task} has been folded before with another result")]
    Conflict {
        /// The task.
        task: TaskId,
    },
}

/// The facts of a run that its cell's summary shows.
#[derive(Clone, Debug)]
struct Standing {
    task: TaskId,
    seed: u64,
    stratum: u32,
    found_by: FoundBy,
    evidence: RunEvidence,
}

/// Runs of one start in one cell.
#[derive(Clone, Debug)]
struct Stratum {
    cell: u32,
    start: Arc<str>,
    random: bool,
}

#[derive(Clone, Debug)]
struct Cell {
    info: CellInfo,
    strata: Vec<u32>,
    worst: Option<Arc<Standing>>,
    worst_nontrivial: Option<Arc<Standing>>,
    worst_uncertified: Option<Arc<Standing>>,
    best: Option<Arc<Standing>>,
}

/// Folds a sweep's results; see the [module](super) for the definitions.
///
/// Memory: 64 bytes for each task beside the few runs shown for each cell.
#[derive(Clone, Debug)]
pub struct Fold {
    sweep: SweepInfo,
    rules: Rules,
    planned: u64,
    rest_cancelled: bool,
    refuted: u64,
    cells: BTreeMap<u32, Cell>,
    strata: Vec<Stratum>,
    starts: BTreeSet<Arc<str>>,
    baselines: IdMap<BaselineId, BaselineSummary>,
    table: Table,
}

impl Fold {
    /// A fold that has seen nothing.
    pub fn new(sweep: SweepInfo, rules: Rules) -> Self {
        Self {
            sweep,
            rules,
            planned: 0,
            rest_cancelled: false,
            refuted: 0,
            cells: BTreeMap::new(),
            strata: Vec::new(),
            starts: BTreeSet::new(),
            baselines: IdMap::default(),
            table: Table::default(),
        }
    }

    /// How many tasks the grid and the search have in all.
    pub fn planned(&mut self, tasks: u64) {
        self.planned = tasks;
    }

    /// Describes a cell. A second description of one cell changes its words, not its runs.
    pub fn cell(&mut self, key: CellKey, info: CellInfo) {
        match self.cells.entry(key.0) {
            std::collections::btree_map::Entry::Occupied(mut old) => old.get_mut().info = info,
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(Cell {
                    info,
                    strata: Vec::new(),
                    worst: None,
                    worst_nontrivial: None,
                    worst_uncertified: None,
                    best: None,
                });
            }
        }
    }

    /// Folds a baseline in; it may come before or after its runs.
    ///
    /// # Errors
    /// `Conflict` when it is there with other numbers.
    pub fn add_baseline(
        &mut self,
        id: BaselineId,
        evidence: &BaselineEvidence,
    ) -> Result<Added, FoldError> {
        let new = BaselineSummary {
            value: Number(evidence.value),
            lower_bound: Number(evidence.lower_bound),
            status: evidence.status,
        };
        let bits = |b: &BaselineSummary| (b.value.0.to_bits(), b.lower_bound.0.to_bits(), b.status);
        match self.baselines.get(&id) {
            None => {
                self.baselines.insert(id, new);
                Ok(Added::New)
            }
            Some(old) if bits(old) == bits(&new) => Ok(Added::Repeated),
            Some(_) => Err(FoldError::Conflict { task: id.into() }),
        }
    }

    /// Folds a run in. A task that was failed or cancelled is recorded from now on.
    ///
    /// # Errors
    /// `UnknownCell`; `Conflict` when the task is there with another result.
    pub fn add_run(&mut self, run: &RecordedRun<'_>) -> Result<Added, FoldError> {
        let key = run.cell.0;
        if !self.cells.contains_key(&key) {
            return Err(FoldError::UnknownCell { cell: run.cell });
        }
        let stratum = self.stratum(key, run.start, run.random);
        let trivial = is_trivial(run.evidence);
        let verdict = verdict_alone(run.evidence.outcome, run.evidence.value);
        let new = Entry::recorded(
            run.task,
            &run.digest,
            verdict,
            run.evidence.value,
            stratum,
            trivial,
            run.found_by == FoundBy::Search,
        );
        match self.table.find(run.task) {
            None => self.table.push(new),
            Some(old) => match old.state {
                State::Recorded(_) if old.agrees(&new) => return Ok(Added::Repeated),
                State::Recorded(_) => return Err(FoldError::Conflict { task: run.task }),
                State::Failed | State::Cancelled => *old = new,
            },
        }
        self.refuted += u64::from(run.evidence.refuted);
        let cell = self.cells.get_mut(&key).expect("looked up above");
        cell.consider(run, stratum, verdict, trivial);
        Ok(Added::New)
    }

    /// Folds in that a task was given up.
    ///
    /// # Errors
    /// `UnknownCell`.
    pub fn add_failed(&mut self, cell: CellKey, task: TaskId) -> Result<Added, FoldError> {
        self.add_unrecorded(cell, task, State::Failed)
    }

    /// Folds in that one task was cancelled; see also [`Fold::cancel_rest`].
    ///
    /// # Errors
    /// `UnknownCell`.
    pub fn add_cancelled(&mut self, cell: CellKey, task: TaskId) -> Result<Added, FoldError> {
        self.add_unrecorded(cell, task, State::Cancelled)
    }

    /// Whether the tasks that are neither recorded nor failed count as
    /// cancelled: a cancelled sweep, whose rest needs no list.
    pub fn cancel_rest(&mut self, cancelled: bool) {
        self.rest_cancelled = cancelled;
    }

    /// Recorded is stronger than failed, failed than cancelled, in any order of arrival.
    fn add_unrecorded(
        &mut self,
        cell: CellKey,
        task: TaskId,
        state: State,
    ) -> Result<Added, FoldError> {
        if !self.cells.contains_key(&cell.0) {
            return Err(FoldError::UnknownCell { cell });
        }
        match self.table.find(task) {
            None => self.table.push(Entry::unrecorded(task, cell.0, state)),
            Some(old) if old.state == State::Cancelled && state == State::Failed => {
                old.state = state;
            }
            Some(_) => return Ok(Added::Repeated),
        }
        Ok(Added::New)
    }

    /// Heap bytes that the tasks take, without the few runs shown for each cell.
    pub fn bytes_of_tasks(&self) -> usize {
        self.table.bytes()
    }

    fn stratum(&mut self, cell: u32, start: &str, random: bool) -> u32 {
        let own = &self.cells[&cell].strata;
        let same = |id: &&u32| {
            let s = &self.strata[**id as usize];
            s.random == random && &*s.start == start
        };
        if let Some(id) = own.iter().find(same) {
            return *id;
        }
        let name = self.starts.get(start).cloned().unwrap_or_else(|| {
            let name: Arc<str> = start.into();
            self.starts.insert(Arc::clone(&name));
            name
        });
        let id = u32::try_from(self.strata.len()).expect("fewer than 2³² strata are recorded");
        self.strata.push(Stratum {
            cell,
            start: name,
            random,
        });
        let cell = self.cells.get_mut(&cell).expect("the caller looked it up");
        cell.strata.push(id);
        id
    }

    /// The summary of what has been folded so far.
    ///
    /// Cost: sorting the fingerprints and the certified values of all runs.
    pub fn finish(&self) -> Summary {
        let counts = self.count();
        let mut totals = counts.totals;
        let cells: Vec<CellSummary> = self
            .cells
            .iter()
            .map(|(key, cell)| {
                let own = counts.cells.get(key);
                for stratum in &cell.strata {
                    let c = &counts.strata[*stratum as usize];
                    totals.verdicts.add(&c.grid);
                    totals.verdicts.add(&c.search);
                }
                self.summarize(cell, own, &counts.strata)
            })
            .collect();
        let settled = totals.recorded + totals.failed + totals.cancelled;
        if self.rest_cancelled {
            totals.cancelled += self.planned.saturating_sub(settled);
        } else {
            totals.missing = self.planned.saturating_sub(settled);
        }
        let overall = self.overall(&cells);
        Summary {
            schema: SCHEMA,
            sweep: SweepSummary {
                id: self.sweep.id.clone(),
                name: self.sweep.name.clone(),
                grid_sha256: self.sweep.grid_sha256.clone(),
                results_sha256: self.results_sha256(),
                numeric_level: self.sweep.numeric_level.clone(),
                reproducible: self.sweep.reproducible,
                partial: totals.missing > 0,
            },
            totals,
            cells,
            overall,
        }
    }

    fn baseline_of(&self, cell: u32) -> Option<&BaselineSummary> {
        self.baselines.get(&self.cells[&cell].info.baseline)
    }

    /// One pass over the tasks.
    fn count(&self) -> Counts {
        let baselines: Vec<Option<f64>> = self
            .strata
            .iter()
            .map(|s| self.baseline_of(s.cell).map(|b| b.value.0))
            .collect();
        let mut strata = vec![StratumCounts::default(); self.strata.len()];
        let mut cells = BTreeMap::<u32, CellCounts>::new();
        let mut totals = Totals {
            planned: self.planned,
            recorded: 0,
            failed: 0,
            cancelled: 0,
            missing: 0,
            refuted: self.refuted,
            verdicts: VerdictCounts::default(),
        };
        for entry in self.table.iter() {
            match entry.state {
                State::Failed => {
                    totals.failed += 1;
                    cells.entry(entry.place).or_default().failed += 1;
                }
                State::Cancelled => {
                    totals.cancelled += 1;
                    cells.entry(entry.place).or_default().cancelled += 1;
                }
                State::Recorded(verdict) => {
                    totals.recorded += 1;
                    let place = entry.place as usize;
                    strata[place].add(entry, verdict, baselines[place]);
                }
            }
        }
        Counts {
            totals,
            strata,
            cells,
        }
    }

    fn summarize(
        &self,
        cell: &Cell,
        own: Option<&CellCounts>,
        strata: &[StratumCounts],
    ) -> CellSummary {
        let baseline = self.baselines.get(&cell.info.baseline).copied();
        let mut grid = VerdictCounts::default();
        let mut search = VerdictCounts::default();
        let (mut at_baseline, mut trivial) = (0, 0);
        let mut values = Vec::new();
        for id in &cell.strata {
            let c = &strata[*id as usize];
            grid.add(&c.grid);
            search.add(&c.search);
            at_baseline += c.at_baseline;
            trivial += c.trivial;
            values.extend_from_slice(&c.values);
        }
        values.sort_unstable_by(f64::total_cmp);
        let values = Quantiles::of_sorted(&values);
        let show = |run: &Option<Arc<Standing>>| {
            run.as_deref()
                .map(|r| self.show(r, baseline.map(|b| b.value.0)))
        };
        CellSummary {
            cell: Description(cell.info.description.clone()),
            assumptions_broken: cell.info.assumptions_broken.clone(),
            notes: cell.info.notes.clone(),
            runs: grid.total(),
            verdicts: grid,
            at_baseline: baseline.is_some().then_some(at_baseline),
            trivial,
            baseline,
            worst: show(&cell.worst),
            worst_nontrivial: show(&cell.worst_nontrivial),
            worst_uncertified: show(&cell.worst_uncertified),
            best: show(&cell.best),
            values,
            median_improvement: baseline
                .zip(values)
                .map(|(b, v)| Number(b.value.0 - v.median.0)),
            by_start: self.by_start(cell, baseline.is_some(), strata),
            search: (search.total() > 0).then(|| SearchSummary {
                runs: search.total(),
                verdicts: search,
            }),
            failed: own.map_or(0, |c| c.failed),
            cancelled: own.map_or(0, |c| c.cancelled),
            verdict: self.verdict(cell, baseline, &grid, &search),
        }
    }

    fn verdict(
        &self,
        cell: &Cell,
        baseline: Option<BaselineSummary>,
        grid: &VerdictCounts,
        search: &VerdictCounts,
    ) -> CellVerdict {
        let inside = cell.info.assumptions_broken.is_empty();
        if grid.violation + search.violation > 0 {
            return if inside {
                CellVerdict::Violated
            } else {
                CellVerdict::BadMinimumFound
            };
        }
        let certified = grid.certified();
        let enough = certified >= self.rules.min_certified
            && certified as f64 >= self.rules.min_share * grid.total() as f64;
        let proved = baseline.is_some_and(|b| b.value.0 - b.lower_bound.0 <= tolerance(b.value.0));
        match (enough && certified > 0 && proved, inside) {
            (false, _) => CellVerdict::Inconclusive,
            (true, true) => CellVerdict::Holds,
            (true, false) => CellVerdict::NoneFound,
        }
    }

    fn by_start(&self, cell: &Cell, settled: bool, strata: &[StratumCounts]) -> Vec<StartSummary> {
        let mut own: Vec<(&Stratum, &VerdictCounts)> = cell
            .strata
            .iter()
            .map(|id| (&self.strata[*id as usize], &strata[*id as usize].grid))
            .filter(|(_, counts)| counts.total() > 0)
            .collect();
        own.sort_unstable_by_key(|(stratum, _)| (&stratum.start, stratum.random));
        own.into_iter()
            .map(|(stratum, counts)| {
                let (certified, runs) = (counts.certified(), counts.total());
                let bounded = settled && stratum.random;
                let bound = |hits, trials| {
                    bounded.then(|| Number(binomial_upper(hits, trials, CONFIDENCE)))
                };
                StartSummary {
                    start: stratum.start.to_string(),
                    certified,
                    runs,
                    violation_share_upper95: bound(counts.violation, certified),
                    worst_case_upper95: bound(counts.violation + runs - certified, runs),
                }
            })
            .collect()
    }

    fn show(&self, run: &Standing, baseline: Option<f64>) -> RunSummary {
        let e = &run.evidence;
        let settled = baseline.map(|b| settle(e.outcome, e.value, b));
        RunSummary {
            task: run.task,
            seed: run.seed,
            start: self.strata[run.stratum as usize].start.to_string(),
            found_by: run.found_by,
            value: Number(e.value),
            excess: settled.map(|s| Number(s.excess)),
            induced_gap: e.induced_value.map(|v| Number(e.value - v)),
            gradient_norm: Number(e.gradient_norm),
            min_eigenvalue: e.min_eigenvalue.map(Number),
            max_eigenvalue: e.max_eigenvalue.map(Number),
            eigenvalue_method: e.eigenvalue_method,
            norm_a: e.norm_a.map(Number),
            norm_b: e.norm_b.map(Number),
            sigma_min_w: e.sigma_min_w.map(Number),
            norm_u: Number(e.norm_u),
            kinks: e.kinks,
            kink_margin: e.kink_margin.map(Number),
            verdict: settled.map_or_else(|| verdict_alone(e.outcome, e.value), |s| s.verdict),
            gap_bound: e.gap_bound.map(Number),
            eigenvalue_failure_probability: e.eigenvalue_failure_probability.map(Number),
        }
    }

    fn overall(&self, cells: &[CellSummary]) -> Overall {
        let inside = || cells.iter().filter(|c| c.assumptions_broken.is_empty());
        let verdict = if inside().any(|c| c.verdict == CellVerdict::Violated) {
            CellVerdict::Violated
        } else if inside().next().is_some() && inside().all(|c| c.verdict == CellVerdict::Holds) {
            CellVerdict::Holds
        } else {
            CellVerdict::Inconclusive
        };
        let mut worst: Option<(f64, TaskId)> = None;
        for run in inside().filter_map(|c| c.worst.as_ref()) {
            let Some(Number(excess)) = run.excess else {
                continue;
            };
            if worst.is_none_or(|(top, task)| excess > top || excess == top && run.task < task) {
                worst = Some((excess, run.task));
            }
        }
        Overall {
            verdict,
            worst_excess: worst.map(|w| Number(w.0)),
            worst_task: worst.map(|w| w.1),
        }
    }

    fn results_sha256(&self) -> String {
        let mut leaves: Vec<_> = self
            .table
            .iter()
            .filter(|e| matches!(e.state, State::Recorded(_)))
            .map(|e| e.leaf)
            .collect();
        leaves.sort_unstable();
        let mut hash = Sha256::new();
        hash.update(leaves.as_flattened());
        to_hex(&hash.finalize())
    }
}

/// Of the bounds by start.
const CONFIDENCE: f64 = 0.95;

struct Counts {
    totals: Totals,
    strata: Vec<StratumCounts>,
    cells: BTreeMap<u32, CellCounts>,
}

#[derive(Clone, Copy, Default)]
struct CellCounts {
    failed: u64,
    cancelled: u64,
}

#[derive(Clone, Default)]
struct StratumCounts {
    grid: VerdictCounts,
    search: VerdictCounts,
    at_baseline: u64,
    trivial: u64,
    /// Of certified runs of the grid.
    values: Vec<f64>,
}

impl StratumCounts {
    fn add(&mut self, entry: &Entry, verdict: Verdict, baseline: Option<f64>) {
        let certified = verdict.is_certified();
        let settled = match baseline {
            Some(b) if certified => Some(settle(Outcome::CertifiedMinimum, entry.value, b)),
            _ => None,
        };
        let verdict = settled.map_or(verdict, |s| s.verdict);
        if entry.search {
            *self.search.get_mut(verdict) += 1;
            return;
        }
        *self.grid.get_mut(verdict) += 1;
        if certified {
            self.values.push(entry.value);
            self.trivial += u64::from(entry.trivial);
            self.at_baseline += u64::from(settled.is_some_and(|s| s.at_baseline));
        }
    }
}

impl Cell {
    /// Lets a run take the places it deserves.
    fn consider(&mut self, run: &RecordedRun<'_>, stratum: u32, verdict: Verdict, trivial: bool) {
        let mut shared: Option<Arc<Standing>> = None;
        let mut offer = |place: &mut Option<Arc<Standing>>, better: fn(f64, f64) -> bool| {
            let value = run.evidence.value;
            let takes = place.as_deref().is_none_or(|old| {
                let held = old.evidence.value;
                better(value, held) || !better(held, value) && run.task < old.task
            });
            if takes {
                let standing = shared.get_or_insert_with(|| {
                    Arc::new(Standing {
                        task: run.task,
                        seed: run.seed,
                        stratum,
                        found_by: run.found_by,
                        evidence: RunEvidence {
                            curve: Vec::new(),
                            ..run.evidence.clone()
                        },
                    })
                });
                *place = Some(Arc::clone(standing));
            }
        };
        if verdict.is_certified() {
            offer(&mut self.worst, |a, b| a > b);
            offer(&mut self.best, |a, b| a < b);
            if !trivial {
                offer(&mut self.worst_nontrivial, |a, b| a > b);
            }
        } else {
            // Any finite value is worse than one that is not; those are all alike.
            offer(&mut self.worst_uncertified, |a, b| {
                a.is_finite() && (!b.is_finite() || a > b)
            });
        }
    }
}
