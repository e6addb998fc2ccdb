//! A grid whose runs are recorded without being computed: the numbers are drawn, the tasks, their
//! identities, cells and baselines are those of a real sweep.

use std::time::Instant;

use common::pb::encode_evidence;
use common::record::{
    Attainment, BaselineEvidence, CurvePoint, EigenvalueMethod, Evidence, Outcome, RunEvidence,
};

use super::{Figure, internal, machine};
use crate::core::Opened;
use crate::run::Failure;
use crate::submission::Submission;
use crate::sweep::{GridSweep, KeepMinima};
use crate::workload::{PlannedWork, Workload};

/// Cells of the grid: 10 depths, 10 widths, 10 activations.
pub(super) const CELLS: u64 = 1000;
/// Points of a loss curve. Runs of `grids/theorem.yaml` have as many on average.
const POINTS: u64 = 32;

/// The grid as text.
pub(super) fn grid(seeds: u64) -> String {
    format!(
        "version: 1
name: bench
data: diabetes
axes:
  depth: {{from: 1, to: 10, step: 1}}
  width: {{from: 1, to: 10, step: 1}}
  activation: [identity, relu, elu, softplus, tanh, sigmoid, atan, gelu, silu, sin]
  seed: {{start: 0, count: {seeds}}}
fixed:
  body: mlp
  loss: squared
"
    )
}

/// A sweep of about this many tasks.
pub(super) fn sweep(tasks: u64) -> Result<GridSweep, Failure> {
    let submission = Submission {
        name: "bench".to_owned(),
        text: grid(tasks.div_ceil(CELLS)),
        files: Default::default(),
    };
    let (grid, data) = submission.read().map_err(internal)?;
    Ok(GridSweep::new(grid.into(), data, KeepMinima::Worst))
}

/// What a run could have left behind.
fn run(position: u64) -> RunEvidence {
    let draw = |purpose: u64| {
        let word = mix(position.wrapping_mul(64).wrapping_add(purpose));
        (word >> 11) as f64 / (1_u64 << 53) as f64
    };
    // Nine of ten are certified, none above the baseline of 1.
    let outcome = if draw(0) < 0.9 {
        Outcome::CertifiedMinimum
    } else {
        Outcome::BudgetExhausted
    };
    let value = 0.5 + 0.4 * draw(1);
    RunEvidence {
        objective: value + 0.01 * draw(2),
        value,
        gradient_norm: 1e-10 * draw(3),
        min_eigenvalue: Some(1e-6 * draw(4)),
        max_eigenvalue: Some(10.0 * draw(5)),
        eigenvalue_method: Some(EigenvalueMethod::Dense),
        norm_a: Some(1e-9 * draw(6)),
        norm_b: Some(1e-9 * draw(7)),
        gap_bound: Some(1e-9 * draw(8)),
        induced_value: Some(value),
        sigma_min_w: Some(draw(9)),
        norm_theta: 3.0 * draw(10),
        norm_u: 2.0 * draw(11),
        norm_w: draw(12),
        norm_wv: Some(draw(13)),
        newton_step: Some(1e-9 * draw(14)),
        evaluations: 1000,
        gradients: 400,
        products: 200,
        hessians: 2,
        parameters: 100,
        curve: (0..POINTS)
            .map(|point| CurvePoint {
                evaluations: 1 + 31 * point,
                objective: (1.0 - value.mul_add(point as f64, draw(15)) / 64.0) as f32,
                gradient_norm: draw(20 + point) as f32,
            })
            .collect(),
        ..RunEvidence::empty(outcome)
    }
}

fn baseline() -> BaselineEvidence {
    BaselineEvidence {
        value: 1.0,
        lower_bound: 1.0,
        status: Attainment::Attained,
        gradient_norm: 0.0,
        minimizer: vec![0.0; 11],
        outputs: 1,
        features: 11,
        rows: 442,
    }
}

fn opened(evidence: &Evidence) -> Result<Opened, Failure> {
    Opened::open(encode_evidence(evidence)).map_err(internal)
}

/// A mixing function of Steele, Lea and Flood (2014): drawn numbers that cost nothing.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// The result of a run at a position.
///
/// # Errors
/// When what was drawn is no evidence.
pub(super) fn run_at(position: u64) -> Result<Opened, Failure> {
    opened(&Evidence::Run(Box::new(run(position))))
}

/// The result of a baseline.
///
/// # Errors
/// When it is no evidence.
pub(super) fn solved() -> Result<Opened, Failure> {
    opened(&Evidence::Baseline(Box::new(baseline())))
}

/// Folds runs in and makes the summary, in memory.
pub(super) fn measure(tasks: u64) -> Result<Vec<Figure>, Failure> {
    let mut sweep = sweep(tasks)?;
    let before = machine::peak_memory();
    let mut folding = 0.0;
    for position in 0..sweep.len() {
        let planned = sweep.task(position);
        if let PlannedWork::Run { baseline: id, .. } = planned.work {
            sweep.baseline_solved(id, &baseline());
        }
        let evidence = run_at(position)?;
        let began = Instant::now();
        sweep.recorded(position, &planned.id, &evidence);
        folding += began.elapsed().as_secs_f64();
    }
    let tasks = sweep.len() as f64;
    let memory = machine::peak_memory() - before;
    let began = Instant::now();
    let summary = sweep.summary(0);
    let text = summary.to_json();
    let took = began.elapsed().as_secs_f64();
    Ok(vec![
        Figure::new("summary", took, "s").at_most(1.0),
        Figure::new("folding of a run", folding * 1e6 / tasks, "µs"),
        Figure::new("memory of a run in the fold", memory * 1e6 / tasks, "bytes"),
        Figure::new("cells", summary.cells.len() as f64, ""),
        Figure::new("summary.json", text.len() as f64 / 1e6, "MB"),
    ])
}
