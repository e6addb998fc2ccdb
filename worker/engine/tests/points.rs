//! Loss, gradient, Hessian-vector product and extreme eigenvalues at the golden points.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use common::math::Isa;
use common::spec::{Activation, Body, Loss, Regularizer, Skip};
use engine::objective::{Arrays, Chart, Objective, Problem};
use engine::program::BodyDims;
use ndarray::Array2;
use serde_json::Value;

fn matrix(v: &Value) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = serde_json::from_value(v.clone()).unwrap();
    let cols = rows[0].len();
    Array2::from_shape_vec((rows.len(), cols), rows.concat()).unwrap()
}

fn flat(v: &Value) -> Vec<f64> {
    match v {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

/// Array names in the flat order of CONTRACT §1.
fn names(dims: &BodyDims) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut push = |s: &str, l: usize| out.push(if l == 0 { s.into() } else { format!("{s}{l}") });
    match dims.skip {
        Skip::Chain => {
            push("W", 0);
            for l in 1..=dims.depth {
                for s in ["A", "b", "V"] {
                    push(s, l);
                }
            }
            return out;
        }
        Skip::Outer => ["W", "V"].map(|s| push(s, 0)),
        Skip::None => ["W", "c"].map(|s| push(s, 0)),
    };
    if matches!(dims.body, Body::Mlp | Body::Residual) {
        (1..=dims.depth).for_each(|l| ["A", "b"].iter().for_each(|s| push(s, l)));
    } else {
        out.extend(["A0".into(), "b0".into()]);
        let block: &[&str] = if dims.body == Body::Preact {
            &["C", "c", "B"]
        } else {
            &["C", "c", "D", "d", "B"]
        };
        for l in 1..=dims.depth {
            out.extend(block.iter().map(|s| format!("{s}{l}")));
        }
    }
    out
}

fn close(got: f64, want: f64, scale: f64, what: &str) {
    assert!(
        (got - want).abs() <= 1e-10 * scale.max(want.abs()),
        "{what}: {got:e}, not {want:e}"
    );
}

#[test]
fn golden_points_have_their_values_and_derivatives() {
    let text = include_str!("../../../common/tests/golden/points.json");
    let golden: Value = serde_json::from_str(text).unwrap();
    for (case, entry) in golden["cases"].as_array().unwrap().iter().enumerate() {
        let (point, expect) = (&entry["point"], &entry["expect"]);
        let model = &point["model"];
        let x = matrix(&point["inputs"]);
        let y = matrix(&point["targets"]);
        let size = |key: &str| model[key].as_u64().unwrap_or(0) as usize;
        let intercept = model["intercept"].as_bool().unwrap();
        let mut phi = x.clone();
        if intercept {
            phi.push_column(ndarray::Array1::ones(x.nrows()).view())
                .unwrap();
        }
        let activation = model["activation"].as_str().unwrap();
        let loss = match &point["loss"] {
            Value::Object(o) => Loss::Huber {
                delta: o["huber"].as_f64().unwrap(),
            },
            Value::String(s) => match s.as_str() {
                "squared" => Loss::Squared,
                "cross_entropy" => Loss::CrossEntropy,
                "logistic" => Loss::Logistic,
                "log_cosh" => Loss::LogCosh,
                "squared_hinge" => Loss::SquaredHinge,
                other => panic!("{other}"),
            },
            other => panic!("{other}"),
        };
        let dims = BodyDims {
            body: match model["body"].as_str().unwrap() {
                "mlp" => Body::Mlp,
                "residual" => Body::Residual,
                "preact" => Body::Preact,
                "bottleneck" => Body::Bottleneck,
                "aggregated" => Body::Aggregated,
                other => panic!("{other}"),
            },
            skip: match model["skip"].as_str().unwrap() {
                "outer" => Skip::Outer,
                "none" => Skip::None,
                _ => Skip::Chain,
            },
            depth: size("depth"),
            width: size("width"),
            bottleneck: size("bottleneck"),
            cardinality: size("cardinality"),
            activation: Activation::NAMED
                .iter()
                .find(|a| a.0 == activation)
                .unwrap()
                .1
                .clone(),
            inputs: x.ncols(),
            image: None,
            phi: phi.ncols(),
            outputs: y.ncols(),
            table: 0,
        };
        let strength = |key: &str| point["regularizer"][key].as_f64().unwrap_or(0.0);
        let regularizer = Regularizer {
            predictor_ridge: strength("predictor_ridge"),
            body_decay: strength("body_decay"),
            head_decay: strength("head_decay"),
        };
        let mask = point.get("mask").map(matrix);
        let arrays = Arrays {
            x: x.view(),
            phi: phi.view(),
            y: y.view(),
            mask: mask.as_ref().map(|m| m.view()),
            table: None,
        };
        let problem = Problem::new(&dims, loss, regularizer, arrays);
        let gather =
            |v: &Value| -> Vec<f64> { names(&dims).iter().flat_map(|n| flat(&v[n])).collect() };
        let theta = gather(&point["parameters"]);
        let direction = gather(&point["direction"]);
        let mut objective = Objective::new(&problem, Chart::Theta, None, Isa::current(), 1);
        let n = objective.len();
        assert_eq!(theta.len(), n, "case {case}");
        let mut gradient = vec![0.0; n];
        let value = objective.value_gradient(&theta, &mut gradient);
        if let Some(want) = expect.get("objective") {
            close(
                value,
                want.as_f64().unwrap(),
                0.0,
                &format!("case {case} objective"),
            );
        } else {
            close(
                value,
                expect["loss"].as_f64().unwrap(),
                0.0,
                &format!("case {case} loss"),
            );
        }
        let want = gather(&expect["gradient"]);
        let scale = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for i in 0..n {
            close(
                gradient[i],
                want[i],
                scale,
                &format!("case {case} gradient {i}"),
            );
        }
        let mut again = vec![0.0; n];
        let same = objective.linearize(&theta, &mut again);
        assert_eq!(same.to_bits(), value.to_bits());
        assert_eq!(gradient, again);
        let mut product = vec![0.0; n];
        objective.products(&direction, &mut product);
        let want = gather(&expect["hessian_vector"]);
        let scale = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for i in 0..n {
            close(
                product[i],
                want[i],
                scale,
                &format!("case {case} product {i}"),
            );
        }
        let mut h = vec![0.0; n * n];
        objective.hessian(&mut h);
        let eigenvalues = engine::linalg::eigenvalues(h, n);
        let scale = eigenvalues[n - 1].abs().max(eigenvalues[0].abs());
        close(
            eigenvalues[0],
            expect["min_eigenvalue"].as_f64().unwrap(),
            scale,
            "λ_min",
        );
        close(
            eigenvalues[n - 1],
            expect["max_eigenvalue"].as_f64().unwrap(),
            scale,
            "λ_max",
        );
    }
}
