//! From what the fold remembers to the summary.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::fold::{Cell, Fold, Standing, Stratum};
use super::output::{
    BaselineSummary, CellSummary, CellVerdict, Description, Number, Overall, Quantiles, RunSummary,
    SCHEMA, SearchSummary, StartSummary, Summary, SweepSummary, Totals, VerdictCounts,
};
use super::table::{Entry, State};
use super::{Verdict, settle, tolerance, verdict_alone};
use crate::ids::{TaskId, to_hex};
use crate::math::special::binomial_upper;
use crate::record::Outcome;

/// Of the bounds by start.
const CONFIDENCE: f64 = 0.95;

impl Fold {
    /// The summary of what has been folded so far.
    ///
    /// Cost: sorting the fingerprints and the certified values of all runs.
    pub fn finish(&self) -> Summary {
        self.finish_of(self.planned)
    }

    /// The summary if the grid and the search have this many tasks in all.
    pub fn finish_of(&self, planned: u64) -> Summary {
        let counts = self.count();
        let mut totals = counts.totals;
        totals.planned = planned;
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
            totals.cancelled += planned.saturating_sub(settled);
        } else {
            totals.missing = planned.saturating_sub(settled);
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
            planned: 0,
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
