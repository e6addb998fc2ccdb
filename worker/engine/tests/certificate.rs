//! The second-order certificate by each of its methods, where the Hessian and its scaled form
//! disagree.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use common::math::scalar;
use common::record::{EigenvalueMethod, Outcome, RunEvidence};
use serde_json::json;
use support::{Files, cell, csv, point, run};

/// A network whose classical part is fitted and whose body is off (V = 0 and a zero last layer):
/// a stationary point, at which V and the last layer together lead down, with a curvature of
/// about −‖mean g hᵀ‖. The inputs are large and the residuals g small.
fn with_its_body_off(width: usize, ridge: f64) -> RunEvidence {
    let rows = 60;
    let x: Vec<f64> = (0..rows)
        .map(|i| 40.0 * scalar::sin(0.7 * f64::from(i)))
        .collect();
    let y: Vec<f64> = x
        .iter()
        .map(|x| 2.0 * x + 1e-6 * scalar::cos(0.1 * x))
        .collect();
    let mut files = Files::default();
    let names = ["x", "y"].map(String::from);
    let mut data = json!({"inputs": ["x"], "targets": ["y"]});
    files.name(&mut data, "data.csv", csv(&names, &[x, y]));
    let spec = json!({
        "data": data, "body": "mlp", "depth": 2, "width": width, "activation": "tanh",
        "standardize": false, "loss": "squared", "regularizer": {"predictor_ridge": ridge, "body_decay": 0},
        "budget": {"evaluations": 0},
    });
    let empty = cell(&spec, &files);
    let mut theta = common::layout::standard_start(empty.arrays(), 3, 1.0);
    let baseline = empty.baseline();
    for array in empty.arrays() {
        let values = &mut theta[array.range()];
        match array.name.as_str() {
            "W" => values.copy_from_slice(&baseline.minimizer),
            "V" | "A2" | "b2" => values.fill(0.0),
            _ => {}
        }
    }
    let file = files.add("point.json", point(&empty, &theta));
    run(
        &cell(&spec, &files),
        &json!({"point": file}),
        0,
        &baseline,
        &files,
    )
    .evidence
}

#[test]
fn curvature_that_is_small_beside_the_largest_only_is_a_saddle_whatever_the_method() {
    let methods = [
        // 440 variables, 1,800 and 3,600.
        (20, 0.0, EigenvalueMethod::Dense),
        (40, 0.0, EigenvalueMethod::Lanczos),
        (58, 0.0, EigenvalueMethod::Lanczos),
        (40, 1e-9, EigenvalueMethod::Lanczos),
    ];
    for (width, ridge, method) in methods {
        let e = with_its_body_off(width, ridge);
        assert_eq!(e.outcome, Outcome::Saddle, "{width} {ridge}: {e:#?}");
        assert_eq!(e.eigenvalue_method, Some(method), "{width} {ridge}");
        // Beside λ_max it is nothing; beside the curvature along its own direction it is.
        let (low, high) = (e.min_eigenvalue.unwrap(), e.max_eigenvalue.unwrap());
        assert!(low < -1e-7, "{width} {ridge}: {low:e}");
        assert!(low > -1e-8 * high, "{width} {ridge}: {low:e} of {high:e}");
    }
}
