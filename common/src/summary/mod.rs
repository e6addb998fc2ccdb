//! The fold of a sweep: results in any order, any number of times, to one summary.
//!
//! [`Fold`] takes what has been recorded (baselines, runs, failures, cancellations)
//! and [`Fold::finish`] gives the [`Summary`] of what is there so far: CONTRACT §4.
//! The definitions that the numbers rest on live here and nowhere else:
//!
//! * **Excess** = value − baseline.value, both objectives without the body's decay.
//! * **Tolerance** tol = 1e-9·max(1, |baseline.value|). A certified run is a
//!   `violation` if its excess > tol, `at_baseline` if |excess| ≤ tol ([`settle`]).
//! * **Minimum of a run**: its certified end point. `worst`, `best` and `values`
//!   are over certified runs; uncertified runs stand beside them, never among them.
//! * **Trivial**: ‖W V‖ ≤ 1e-9·max(1, ‖W‖).
//! * A cell without a broken assumption **holds** with enough certified runs, a
//!   large enough certified share, no violation, and a baseline that is proved to tol;
//!   it is **violated** with a violation; else **inconclusive**. The other cells
//!   say `bad_minimum_found`, `none_found` or `inconclusive` by the same conditions.
//! * **Search**: adaptive runs ([`FoundBy::Search`]) can become `worst`,
//!   `worst_nontrivial`, `worst_uncertified` or `best` and can violate a cell. They
//!   are counted under `search` and enter no share, no quantile and no bound.
//! * **Bounds** ([`StartSummary`]): one-sided 95 % Clopper–Pearson bounds over the
//!   random-seed runs of one start; null for deterministic starts.
//!
//! What this module does not do: it knows no task specification, no wire, no
//! store and no clock, and it does not decide whether a result may be recorded.
//!
//! # Worked example
//!
//! One cell, baseline 0.5, three runs: one certified below the baseline, one
//! certified exactly on it, one that stopped at a saddle.
//!
//! ```
//! use common::ids::{BaselineId, TaskId};
//! use common::record::{Attainment, BaselineEvidence, Outcome, RunEvidence};
//! use common::summary::*;
//!
//! let sweep = SweepInfo {
//!     id: "5f0c".into(),
//!     name: "example".into(),
//!     grid_sha256: "77aa".into(),
//!     numeric_level: common::math::NUMERIC_LEVEL.into(),
//!     reproducible: true,
//! };
//! let mut fold = Fold::new(sweep, Rules { min_certified: 2, min_share: 0.5 });
//! fold.planned(4);
//! fold.cell(CellKey(0), CellInfo {
//!     description: vec![("data".into(), "diabetes".into()), ("depth".into(), 4.into())],
//!     assumptions_broken: vec![],
//!     notes: vec![],
//!     baseline: BaselineId([9; 32]),
//! });
//!
//! let evidence = |outcome, value, norm_wv| RunEvidence {
//!     outcome,
//!     objective: value,
//!     value,
//!     norm_w: 2.0,
//!     norm_wv: Some(norm_wv),
//!     ..RunEvidence::empty(outcome)
//! };
//! let runs = [
//!     (1, evidence(Outcome::CertifiedMinimum, 0.4, 1.0)),
//!     (2, evidence(Outcome::CertifiedMinimum, 0.5, 0.0)),
//!     (3, evidence(Outcome::Saddle, 0.7, 1.0)),
//! ];
//! for (id, evidence) in &runs {
//!     let run = RecordedRun {
//!         cell: CellKey(0),
//!         task: TaskId([*id; 32]),
//!         seed: u64::from(*id),
//!         start: "standard",
//!         random: true,
//!         found_by: FoundBy::Grid,
//!         evidence,
//!         digest: [*id; 32],
//!     };
//!     assert_eq!(fold.add_run(&run), Ok(Added::New));
//!     assert_eq!(fold.add_run(&run), Ok(Added::Repeated));
//! }
//! // The baseline may come last.
//! fold.add_baseline(BaselineId([9; 32]), &BaselineEvidence {
//!     value: 0.5,
//!     lower_bound: 0.5,
//!     status: Attainment::Attained,
//!     gradient_norm: 0.0,
//!     minimizer: vec![0.0],
//!     outputs: 1,
//!     features: 1,
//!     rows: 1,
//! }).unwrap();
//!
//! let summary = fold.finish();
//! assert!(summary.sweep.partial, "one of four planned tasks is missing");
//! let cell = &summary.cells[0];
//! assert_eq!((cell.runs, cell.verdicts.certified_minimum, cell.verdicts.saddle), (3, 2, 1));
//! assert_eq!((cell.at_baseline, cell.trivial), (Some(1), 1));
//! let worst = cell.worst.as_ref().unwrap();
//! assert_eq!((worst.seed, worst.excess), (2, Some(Number(0.0))));
//! assert_eq!(cell.worst_nontrivial.as_ref().unwrap().seed, 1);
//! assert_eq!(cell.worst_uncertified.as_ref().unwrap().seed, 3);
//! assert_eq!(cell.values.unwrap().median, Number(0.45));
//! assert!((cell.median_improvement.unwrap().0 - 0.05).abs() < 1e-15);
//! assert_eq!(cell.verdict, CellVerdict::Holds);
//! // Of 2 certified runs none violates: at most 1 − √0.05 with 95 % confidence.
//! let bound = cell.by_start[0].violation_share_upper95.unwrap().0;
//! assert!((bound - (1.0 - 0.05f64.sqrt())).abs() < 1e-12);
//! ```

mod csv;
mod finish;
mod fold;
mod output;
mod table;

pub use csv::plain;
pub use fold::{Added, CellInfo, CellKey, Fold, FoldError, FoundBy, RecordedRun, Rules, SweepInfo};
pub use output::{
    BaselineSummary, CellSummary, CellVerdict, Description, JSON_SCHEMA, Number, Overall,
    Quantiles, RunSummary, SCHEMA, SearchSummary, StartSummary, Summary, SweepSummary, Totals,
    VerdictCounts,
};

use serde::Serialize;

use crate::record::{Outcome, RunEvidence};

/// The verdict of a run, CONTRACT §4: its outcome, set beside its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Certified, and not above the baseline by more than the tolerance.
    CertifiedMinimum,
    /// Certified, and above it.
    Violation,
    /// See [`Outcome::Saddle`].
    Saddle,
    /// See [`Outcome::Kink`].
    Kink,
    /// See [`Outcome::Diverging`].
    Diverging,
    /// See [`Outcome::BudgetExhausted`].
    BudgetExhausted,
    /// See [`Outcome::NonFinite`].
    NonFinite,
}

impl Verdict {
    /// All, in the order of the contract.
    pub const ALL: [Self; 7] = [
        Self::CertifiedMinimum,
        Self::Violation,
        Self::Saddle,
        Self::Kink,
        Self::Diverging,
        Self::BudgetExhausted,
        Self::NonFinite,
    ];

    /// The name used in results and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::CertifiedMinimum => "certified_minimum",
            Self::Violation => "violation",
            Self::Saddle => "saddle",
            Self::Kink => "kink",
            Self::Diverging => "diverging",
            Self::BudgetExhausted => "budget_exhausted",
            Self::NonFinite => "non_finite",
        }
    }

    /// Whether the run has its certificate.
    pub fn is_certified(self) -> bool {
        matches!(self, Self::CertifiedMinimum | Self::Violation)
    }
}

/// A run beside its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Settled {
    /// The verdict.
    pub verdict: Verdict,
    /// value − baseline.value.
    pub excess: f64,
    /// Certified with |excess| ≤ tol.
    pub at_baseline: bool,
}

/// tol = 1e-9·max(1, |baseline|).
///
/// ```
/// assert_eq!(common::summary::tolerance(0.25), 1e-9);
/// assert_eq!(common::summary::tolerance(-20.0), 20.0 * 1e-9);
/// ```
pub fn tolerance(baseline: f64) -> f64 {
    1e-9 * baseline.abs().max(1.0)
}

/// Sets a run beside its baseline's value.
///
/// A certificate with a value that is not finite is none: `non_finite`.
pub fn settle(outcome: Outcome, value: f64, baseline: f64) -> Settled {
    let excess = value - baseline;
    let tol = tolerance(baseline);
    let verdict = match verdict_alone(outcome, value) {
        Verdict::CertifiedMinimum if excess > tol => Verdict::Violation,
        other => other,
    };
    Settled {
        verdict,
        excess,
        at_baseline: verdict.is_certified() && excess.abs() <= tol,
    }
}

/// The verdict as far as it does not need the baseline.
fn verdict_alone(outcome: Outcome, value: f64) -> Verdict {
    match outcome {
        Outcome::CertifiedMinimum if value.is_finite() => Verdict::CertifiedMinimum,
        Outcome::CertifiedMinimum | Outcome::NonFinite => Verdict::NonFinite,
        Outcome::Saddle => Verdict::Saddle,
        Outcome::Kink => Verdict::Kink,
        Outcome::Diverging => Verdict::Diverging,
        Outcome::BudgetExhausted => Verdict::BudgetExhausted,
    }
}

/// Whether W V = 0 to 1e-9·max(1, ‖W‖); false where the network has no W V.
pub fn is_trivial(evidence: &RunEvidence) -> bool {
    evidence
        .norm_wv
        .is_some_and(|norm| norm <= 1e-9 * evidence.norm_w.max(1.0))
}
