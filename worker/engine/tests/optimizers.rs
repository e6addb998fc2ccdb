//! Each first phase ends in a certified minimum after the polish, and counts its work.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use common::layout::standard_start;
use common::math::Isa;
use common::math::slice::{max_abs, norm};
use common::record::Outcome;
use engine::linalg::Tridiagonal;
use engine::objective::{Chart, Objective};
use serde_json::json;
use support::{Files, cell, run};

#[test]
fn every_first_phase_is_polished_to_a_certificate() {
    for optimizer in [
        "auto",
        "lbfgs",
        "newton",
        "levenberg_marquardt",
        "adam",
        "sgd",
        "gd",
    ] {
        let files = Files::default();
        let spec = json!({
            "data": {"generate": "teacher", "rows": 60, "inputs": 3, "outputs": 2},
            "activation": "tanh", "depth": 2, "width": 3, "optimizer": optimizer,
        });
        let cell = cell(&spec, &files);
        let baseline = cell.baseline();
        for seed in 0..3 {
            let e = run(&cell, &json!("standard"), seed, &baseline, &files).evidence;
            assert_eq!(
                e.outcome,
                Outcome::CertifiedMinimum,
                "{optimizer} {seed}: {e:?}"
            );
            assert!(e.value <= baseline.value + 1e-12);
            let p = e.parameters;
            let counted = e.gradients + 2 * e.products + 2 * p * e.hessians;
            assert!(
                e.evaluations <= counted,
                "{optimizer}: {} {counted}",
                e.evaluations
            );
        }
    }
}

#[test]
fn without_a_polish_the_first_phase_is_judged_as_it_is() {
    let files = Files::default();
    let spec = json!({
        "data": {"generate": "teacher", "rows": 60, "inputs": 3, "outputs": 2},
        "activation": "tanh", "depth": 2, "width": 3, "optimizer": "adam", "polish": false,
        "budget": {"evaluations": 300},
    });
    let cell = cell(&spec, &files);
    let e = run(&cell, &json!("standard"), 0, &cell.baseline(), &files).evidence;
    assert_eq!(e.outcome, Outcome::BudgetExhausted);
    assert!(e.evaluations >= 300);
}

/// Where the network is linear in its parameters (frozen body, one output map) and the loss
/// squared, the Gauss–Newton matrix is the Hessian; elsewhere it is positive semi-definite.
#[test]
fn the_gauss_newton_matrix_is_positive_and_exact_for_linear_models() {
    let files = Files::default();
    for (skip, loss) in [
        ("outer", "squared"),
        ("outer", "cross_entropy"),
        ("none", "squared"),
    ] {
        let outputs = if loss == "squared" { 2 } else { 3 };
        let spec = json!({
            "data": {"generate": "teacher", "rows": 40, "inputs": 3, "outputs": outputs},
            "activation": "tanh", "depth": 2, "width": 3, "skip": skip, "loss": loss,
            "freeze": if skip == "none" { json!("body") } else { json!(null) },
        });
        let cell = cell(&spec, &files);
        let theta = standard_start(cell.arrays(), 5, 1.0);
        let frozen = (skip == "none").then(|| cell.problem().body_of(&theta));
        let mut objective = Objective::new(cell.problem(), Chart::Theta, frozen, Isa::current(), 1);
        let x = objective.variables(&theta);
        let n = x.len();
        let (mut g, mut h, mut gauss) = (vec![0.0; n], vec![0.0; n * n], vec![0.0; n * n]);
        objective.gauss_newton(&x, &mut gauss);
        objective.linearize(&x, &mut g);
        objective.hessian(&mut h);
        let difference: Vec<f64> = h.iter().zip(&gauss).map(|(a, b)| a - b).collect();
        if skip == "none" {
            assert!(max_abs(&difference) <= 1e-14 * norm(&h), "linear: the same");
        } else {
            assert!(max_abs(&difference) > 1e-3, "not linear: not the same");
        }
        let (smallest, largest) = Tridiagonal::reduce(gauss, n).extreme_eigenvalues();
        assert!(smallest >= -1e-12 * largest, "{skip} {loss}: {smallest}");
    }
}
