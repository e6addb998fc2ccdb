//! The summary as it is written: plain structs in the key order of `summary.json`.
//!
//! `common/schema/summary-1.json` describes the JSON form. Optional quantities
//! are null; numbers that are not finite are strings.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;

use super::{FoundBy, Verdict};
use crate::ids::TaskId;
use crate::record::{Attainment, EigenvalueMethod};

/// Name and version of the format.
pub const SCHEMA: &str = "summary/1";

/// JSON Schema of the format (draft 2020-12).
pub const JSON_SCHEMA: &str = include_str!("../../schema/summary-1.json");

/// A number of the summary: full precision in JSON, `"NaN"`, `"Infinity"` or
/// `"-Infinity"` where JSON has no number for it.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Number(pub f64);

impl Number {
    /// The text of a number that is not finite.
    pub fn non_finite(self) -> Option<&'static str> {
        match self.0 {
            x if x.is_nan() => Some("NaN"),
            f64::INFINITY => Some("Infinity"),
            f64::NEG_INFINITY => Some("-Infinity"),
            _ => None,
        }
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.non_finite() {
            Some(text) => s.serialize_str(text),
            None => s.serialize_f64(self.0),
        }
    }
}

/// Everything a sweep has found so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Which sweep.
    pub sweep: SweepSummary,
    /// Counts over all cells.
    pub totals: Totals,
    /// In the order of the grid.
    pub cells: Vec<CellSummary>,
    /// Over the cells with no broken assumption.
    pub overall: Overall,
}

impl Summary {
    /// The text of `summary.json`: indented, with a final newline.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("a summary has string keys and no failing part");
        text.push('\n');
        text
    }
}

/// Which sweep, and whether it is complete.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SweepSummary {
    /// Identity of the sweep.
    pub id: String,
    /// Its name.
    pub name: String,
    /// SHA-256 of the grid.
    pub grid_sha256: String,
    /// SHA-256 over the recorded results. Of each result the first 24 bytes of
    /// SHA-256(task identity ‖ evidence digest), in ascending order.
    pub results_sha256: String,
    /// What the bits depend on.
    pub numeric_level: String,
    /// False when runs were limited by seconds.
    pub reproducible: bool,
    /// Whether planned tasks are neither recorded, failed nor cancelled.
    pub partial: bool,
}

/// Counts over all cells, search included.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Totals {
    /// Tasks of the grid and of the search.
    pub planned: u64,
    /// With a result.
    pub recorded: u64,
    /// Given up.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// planned − recorded − failed − cancelled.
    pub missing: u64,
    /// Candidates for a minimum that a test turned down.
    pub refuted: u64,
    /// Recorded runs by verdict.
    pub verdicts: VerdictCounts,
}

/// How many runs ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "one field for each `Verdict`, documented there"
)]
pub struct VerdictCounts {
    pub certified_minimum: u64,
    pub violation: u64,
    pub saddle: u64,
    pub kink: u64,
    pub diverging: u64,
    pub budget_exhausted: u64,
    pub non_finite: u64,
}

impl VerdictCounts {
    /// The count of one verdict.
    pub fn get(&self, verdict: Verdict) -> u64 {
        let mut copy = *self;
        *copy.get_mut(verdict)
    }

    /// The same, to be counted up.
    pub fn get_mut(&mut self, verdict: Verdict) -> &mut u64 {
        match verdict {
            Verdict::CertifiedMinimum => &mut self.certified_minimum,
            Verdict::Violation => &mut self.violation,
            Verdict::Saddle => &mut self.saddle,
            Verdict::Kink => &mut self.kink,
            Verdict::Diverging => &mut self.diverging,
            Verdict::BudgetExhausted => &mut self.budget_exhausted,
            Verdict::NonFinite => &mut self.non_finite,
        }
    }

    /// Certified runs: minima and violations.
    pub fn certified(&self) -> u64 {
        self.certified_minimum + self.violation
    }

    /// All runs.
    pub fn total(&self) -> u64 {
        Verdict::ALL.iter().map(|v| self.get(*v)).sum()
    }

    pub(super) fn add(&mut self, other: &Self) {
        for verdict in Verdict::ALL {
            *self.get_mut(verdict) += other.get(verdict);
        }
    }
}

/// One cell of the grid.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellSummary {
    /// What the runs have in common, as the grid writes it.
    pub cell: Description,
    /// Assumptions of the theorem that do not hold here.
    pub assumptions_broken: Vec<String>,
    /// Remarks that break nothing.
    pub notes: Vec<String>,
    /// Recorded runs of the grid.
    pub runs: u64,
    /// Those by verdict.
    pub verdicts: VerdictCounts,
    /// Certified runs on the baseline to the tolerance; null without a baseline.
    pub at_baseline: Option<u64>,
    /// Certified runs with W V = 0.
    pub trivial: u64,
    /// The solved classical model; null until it is known.
    pub baseline: Option<BaselineSummary>,
    /// Largest value over certified runs.
    pub worst: Option<RunSummary>,
    /// Largest value over certified runs that are not trivial.
    pub worst_nontrivial: Option<RunSummary>,
    /// Largest value over the others, those that are not finite last.
    pub worst_uncertified: Option<RunSummary>,
    /// Smallest value over certified runs.
    pub best: Option<RunSummary>,
    /// Over certified runs of the grid; null if there is none.
    pub values: Option<Quantiles>,
    /// Median of baseline.value − value over certified runs of the grid.
    pub median_improvement: Option<Number>,
    /// By start, in the order of their names.
    pub by_start: Vec<StartSummary>,
    /// Adaptive runs, counted apart; null if there is none.
    pub search: Option<SearchSummary>,
    /// Tasks given up.
    pub failed: u64,
    /// Tasks cancelled one by one.
    pub cancelled: u64,
    /// What follows for the cell.
    pub verdict: CellVerdict,
}

/// A cell in the grid's own words: name and value of each field, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Description(pub Vec<(String, Value)>);

impl Serialize for Description {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, &Sorted(value))?;
        }
        map.end()
    }
}

/// A JSON value with sorted keys, whatever map `serde_json` was built with.
pub(super) struct Sorted<'a>(pub(super) &'a Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                s.collect_map(entries.into_iter().map(|(key, value)| (key, Sorted(value))))
            }
            Value::Array(items) => s.collect_seq(items.iter().map(Sorted)),
            other => other.serialize(s),
        }
    }
}

/// The solved classical model of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BaselineSummary {
    /// Its minimum, or infimum.
    pub value: Number,
    /// A dual lower bound on it.
    pub lower_bound: Number,
    /// Whether it is attained.
    pub status: Attainment,
}

/// One run that stands for its cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunSummary {
    /// Identity.
    pub task: TaskId,
    /// Seed.
    pub seed: u64,
    /// Start, by name.
    pub start: String,
    /// Who asked for it.
    pub found_by: FoundBy,
    /// Objective without the body's decay.
    pub value: Number,
    /// value − baseline.value; null without a baseline.
    pub excess: Option<Number>,
    /// value − minimum of the induced model.
    pub induced_gap: Option<Number>,
    /// ‖∇‖∞.
    pub gradient_norm: Number,
    /// λ_min.
    pub min_eigenvalue: Option<Number>,
    /// λ_max.
    pub max_eigenvalue: Option<Number>,
    /// How λ_min was bounded.
    pub eigenvalue_method: Option<EigenvalueMethod>,
    /// ‖A‖.
    #[serde(rename = "norm_A")]
    pub norm_a: Option<Number>,
    /// ‖B‖.
    #[serde(rename = "norm_B")]
    pub norm_b: Option<Number>,
    /// Smallest singular value of W that is not zero by construction.
    #[serde(rename = "sigma_min_W")]
    pub sigma_min_w: Option<Number>,
    /// ‖u‖.
    pub norm_u: Number,
    /// Kinks the point sits on.
    pub kinks: u32,
    /// Distance to the nearest kink it does not sit on.
    pub kink_margin: Option<Number>,
    /// Verdict of the run.
    pub verdict: Verdict,
    /// Upper bound on the excess, certificate or not.
    pub gap_bound: Option<Number>,
    /// Probability that a Lanczos bound missed a lower eigenvalue.
    pub eigenvalue_failure_probability: Option<Number>,
}

/// Quantiles of type 7 (Hyndman & Fan 1996): linear between order statistics.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are the definition")]
pub struct Quantiles {
    pub min: Number,
    pub q25: Number,
    pub median: Number,
    pub q75: Number,
    pub max: Number,
}

impl Quantiles {
    /// Of ascending values; `None` if there is none.
    pub(super) fn of_sorted(values: &[f64]) -> Option<Self> {
        let last = values.len().checked_sub(1)?;
        let at = |q: f64| {
            let h = last as f64 * q;
            let low = h.floor();
            let i = low as usize;
            let next = values[(i + 1).min(last)];
            Number((h - low).mul_add(next - values[i], values[i]))
        };
        Some(Self {
            min: Number(values[0]),
            q25: at(0.25),
            median: at(0.5),
            q75: at(0.75),
            max: Number(values[last]),
        })
    }
}

/// The grid's runs of one start, with bounds on what a fresh one would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StartSummary {
    /// Name.
    pub start: String,
    /// Certified runs.
    pub certified: u64,
    /// Recorded runs.
    pub runs: u64,
    /// Bound on the probability that a fresh run, given that it certifies, is a
    /// violation. Null for deterministic starts and without a baseline.
    pub violation_share_upper95: Option<Number>,
    /// The same with every uncertified run counted as a violation.
    pub worst_case_upper95: Option<Number>,
}

/// Adaptive runs of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SearchSummary {
    /// Recorded.
    pub runs: u64,
    /// Those by verdict.
    pub verdicts: VerdictCounts,
}

/// What follows for a cell; the first three inside the theorem's assumptions,
/// the last two and `Inconclusive` outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CellVerdict {
    /// Enough certified runs, none above the baseline.
    Holds,
    /// A certified minimum above the baseline, inside the assumptions.
    Violated,
    /// Not enough certified runs, or a baseline that is not proved.
    Inconclusive,
    /// A certified minimum above the baseline, outside the assumptions.
    BadMinimumFound,
    /// Enough certified runs, none above the baseline, outside the assumptions.
    NoneFound,
}

impl CellVerdict {
    /// The name used in results and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Violated => "violated",
            Self::Inconclusive => "inconclusive",
            Self::BadMinimumFound => "bad_minimum_found",
            Self::NoneFound => "none_found",
        }
    }
}

/// Over the cells with no broken assumption.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Overall {
    /// Violated if one cell is, holds if all do; inconclusive else, and when
    /// there is no such cell.
    pub verdict: CellVerdict,
    /// Largest excess of a certified run.
    pub worst_excess: Option<Number>,
    /// The run that has it.
    pub worst_task: Option<TaskId>,
}
