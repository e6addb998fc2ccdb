//! Networks with kinked activations: what is certified, and what is not.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use common::record::{Outcome, RunEvidence};
use engine::run::Finished;
use engine::task::Cell;
use serde_json::{Value, json};
use support::{Files, cell, point, run};

fn spec(body: &str, depth: usize, activation: &Value, loss: &str) -> Value {
    json!({
        "data": {"generate": "teacher", "rows": 60, "inputs": 3, "outputs": 2, "width": 3,
                 "noise": 0.1, "seed": 0},
        "body": body, "depth": depth, "width": 3, "activation": activation, "loss": loss,
        "regularizer": {"predictor_ridge": 1e-3, "body_decay": 1e-3},
    })
}

fn standard(spec: &Value, seed: u64) -> (Cell, Finished) {
    let files = Files::default();
    let cell = cell(spec, &files);
    let baseline = cell.baseline();
    let finished = run(&cell, &json!("standard"), seed, &baseline, &files);
    (cell, finished)
}

/// The evidence at a point, with no evaluation spent on moving it.
fn examined(spec: &Value, theta: &[f64]) -> RunEvidence {
    let mut spec = spec.clone();
    spec["budget"] = json!({"evaluations": 0});
    let mut files = Files::default();
    let empty = cell(&spec, &files);
    let file = files.add("point.json", point(&empty, theta));
    let cell = cell(&spec, &files);
    let baseline = cell.baseline();
    run(&cell, &json!({"point": file}), 0, &baseline, &files).evidence
}

fn at(spec: &Value, theta: &[f64]) -> f64 {
    examined(spec, theta).objective
}

fn noise(n: usize, draw: u32) -> Vec<f64> {
    let rng = common::rng::Philox::new(17);
    let d: Vec<f64> = (0..n)
        .map(|i| rng.normal(common::rng::Purpose::Estimate, 0, draw, i as u32))
        .collect();
    let length = common::math::slice::norm(&d);
    d.into_iter().map(|v| v / length).collect()
}

fn moved(theta: &[f64], size: f64, d: &[f64]) -> Vec<f64> {
    theta.iter().zip(d).map(|(t, d)| t + size * d).collect()
}

#[test]
fn every_kinked_activation_reaches_a_certificate_on_its_kinks() {
    let mut on_kinks = 0;
    for activation in [
        json!("relu"),
        json!("leaky_relu"),
        json!({"leaky_relu": 0.1}),
        json!("abs"),
        json!("relu6"),
        json!("hard_tanh"),
        json!("selu"),
        json!({"formula": "max(t, 0.3*t) + 0.1*tanh(t)"}),
        json!({"formula": "abs(t - 0.5)"}),
    ] {
        for loss in ["squared", "cross_entropy", "huber"] {
            let (_, f) = standard(&spec("mlp", 1, &activation, loss), 1);
            let e = &f.evidence;
            assert_eq!(
                e.outcome,
                Outcome::CertifiedMinimum,
                "{activation} {loss}: {e:?}"
            );
            if e.kinks > 0 {
                on_kinks += 1;
                assert!(e.kink_slack.is_none_or(|s| s > 0.0), "{activation} {loss}");
                assert!(
                    e.kink_margin.is_none_or(|m| m > 1e-6),
                    "{activation} {loss}"
                );
            }
        }
    }
    // Most of them sit on kinks: the test is about those.
    assert!(on_kinks >= 15, "{on_kinks}");
}

/// Nine networks with several kinked layers, three seeds each. A few runs may end
/// at degenerate points (a multiplier at its bound): those must say `kink`.
#[test]
fn bodies_with_several_kinked_layers_are_certified() {
    let mut certified = 0;
    for body in ["mlp", "residual", "preact"] {
        for activation in [json!("relu"), json!({"leaky_relu": 0.1}), json!("abs")] {
            for seed in 0..3 {
                let (_, f) = standard(&spec(body, 2, &activation, "squared"), seed);
                match f.evidence.outcome {
                    Outcome::CertifiedMinimum => certified += 1,
                    other => assert_eq!(other, Outcome::Kink, "{body} {activation} {seed}"),
                }
            }
        }
    }
    assert!(certified >= 25, "{certified} of 27");
}

/// No point near a certified one is lower, along random directions and along
/// each coordinate, at sizes from 1e-1 to 1e-6.
#[test]
fn around_a_certified_point_nothing_is_lower() {
    for (body, depth, activation) in [("mlp", 2, "relu"), ("preact", 1, "abs")] {
        let spec = spec(body, depth, &json!(activation), "squared");
        let (_, f) = standard(&spec, 2);
        assert_eq!(f.evidence.outcome, Outcome::CertifiedMinimum);
        assert!(f.evidence.kinks > 0);
        let n = f.theta.len();
        for draw in 0..12 {
            let d = noise(n, draw);
            for size in [1e-1, 1e-2, 1e-3, 1e-4, 1e-6] {
                for sign in [1.0, -1.0] {
                    let near = at(&spec, &moved(&f.theta, sign * size, &d));
                    assert!(
                        near >= f.evidence.objective - 1e-15,
                        "{body} draw {draw} size {size}: {near} < {}",
                        f.evidence.objective
                    );
                }
            }
        }
    }
}

#[test]
fn points_near_a_minimum_on_kinks_are_not_certified() {
    for activation in ["relu", "abs"] {
        let spec = spec("mlp", 1, &json!(activation), "squared");
        let (_, f) = standard(&spec, 3);
        assert_eq!(f.evidence.outcome, Outcome::CertifiedMinimum);
        assert!(f.evidence.kinks > 0);
        assert_eq!(examined(&spec, &f.theta).outcome, Outcome::CertifiedMinimum);
        for (draw, size) in [(0, 1e-6), (1, 1e-3), (2, 1e-6), (3, 1e-3)] {
            let near = moved(&f.theta, size, &noise(f.theta.len(), draw));
            let e = examined(&spec, &near);
            assert_ne!(
                e.outcome,
                Outcome::CertifiedMinimum,
                "{activation} {size}: {e:?}"
            );
        }
    }
}

/// At depth 1 the dead network is stationary for every one-sided derivative, and
/// not a minimum: a unit revived in the right direction leads down.
#[test]
fn the_dead_network_of_depth_one_is_refused_and_left() {
    let spec = spec("mlp", 1, &json!("relu"), "squared");
    let files = Files::default();
    let empty = cell(&spec, &files);
    let baseline = empty.baseline();
    // W = the baseline's minimiser, everything else zero.
    let mut theta = baseline.minimizer.clone();
    theta.resize(empty.problem().theta_len(), 0.0);
    let e = examined(&spec, &theta);
    assert!(e.gradient_norm < 1e-9, "{}", e.gradient_norm);
    assert_eq!(e.outcome, Outcome::Kink, "{e:?}");

    let mut files = Files::default();
    let file = files.add("dead.json", point(&empty, &theta));
    let f = run(&empty, &json!({"point": file}), 0, &baseline, &files);
    assert_eq!(f.evidence.outcome, Outcome::CertifiedMinimum);
    assert!(f.evidence.value < baseline.value - 1e-6, "revived");
}

/// At depth 2 the dead network is a strict local minimum, exactly at the baseline.
#[test]
fn the_dead_network_of_depth_two_is_a_minimum() {
    let spec = spec("mlp", 2, &json!("relu"), "squared");
    let files = Files::default();
    let empty = cell(&spec, &files);
    let baseline = empty.baseline();
    let mut theta = baseline.minimizer.clone();
    theta.resize(empty.problem().theta_len(), 0.0);
    let e = examined(&spec, &theta);
    assert_eq!(e.outcome, Outcome::CertifiedMinimum, "{e:?}");
    assert_eq!(e.kinks, 60 * 6);
}

#[test]
fn a_run_stopped_and_restored_gives_the_same_bits() {
    let spec = spec("mlp", 2, &json!("relu"), "huber");
    let files = Files::default();
    let cell = cell(&spec, &files);
    let baseline = cell.baseline();
    let start = common::decode::decode_start(r#""standard""#).unwrap();
    let fresh = || {
        cell.run(&start, 5, &baseline, |_| None, engine::task::Threads::ONE)
            .unwrap()
    };
    let whole = fresh().to_end();
    // Paused after every step and moved to another object.
    let mut state = fresh().checkpoint();
    let mut pauses = 0;
    let stepped = loop {
        let mut moved = fresh();
        moved.restore(&state).unwrap();
        let mut asked = 0;
        let progress = moved.advance(&mut || {
            asked += 1;
            asked > 1
        });
        match progress {
            engine::run::Progress::Finished(f) => break f,
            engine::run::Progress::Paused => {
                pauses += 1;
                state = moved.checkpoint();
            }
        }
    };
    assert!(pauses > 5);
    assert_eq!(whole.theta, stepped.theta);
    assert_eq!(whole.evidence, stepped.evidence);
}
