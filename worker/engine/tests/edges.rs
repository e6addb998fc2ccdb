//! Small, constant, separable, deep, broken: the right answer or one clear error.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use common::decode::decode_cell;
use common::layout::standard_start;
use common::math::slice::norm;
use common::record::{Attainment, Outcome};
use engine::task::Cell;
use serde_json::{Value, json};
use support::{Files, cell, csv, run};

fn with(data: Value, changes: Value) -> Value {
    let mut spec = json!({"data": data, "activation": "tanh", "depth": 2, "width": 3});
    for (key, value) in changes.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

fn file(files: &mut Files, x: &[f64], y: &[f64]) -> Value {
    let mut data = json!({"targets": ["y"]});
    let text = csv(&["x".into(), "y".into()], &[x.to_vec(), y.to_vec()]);
    files.name(&mut data, "data.csv", text);
    data
}

#[test]
fn one_row_one_unit_and_a_constant_target_are_certified_at_the_baseline() {
    let mut files = Files::default();
    for (x, y) in [(vec![2.0], vec![5.0]), (vec![1.0, 2.0, 4.0], vec![3.0; 3])] {
        let data = file(&mut files, &x, &y);
        let cell = cell(&with(data, json!({"width": 1, "depth": 1})), &files);
        let baseline = cell.baseline();
        // Standardised, the target is 0.
        assert_eq!(baseline.value, 0.0);
        let e = run(&cell, &json!("standard"), 0, &baseline, &files).evidence;
        assert_eq!(e.outcome, Outcome::CertifiedMinimum, "{e:?}");
        assert!(e.value.abs() <= 1e-12, "{e:?}");
    }
}

#[test]
fn sixty_four_layers_end_with_a_verdict() {
    let files = Files::default();
    for body in ["mlp", "residual", "preact"] {
        let spec = with(
            json!({"generate": "teacher", "rows": 30, "inputs": 3}),
            json!({"depth": 64, "width": 2, "body": body, "budget": {"evaluations": 2000}}),
        );
        let cell = cell(&spec, &files);
        let e = run(&cell, &json!("standard"), 0, &cell.baseline(), &files).evidence;
        assert!(
            e.objective.is_finite() && e.gradient_norm.is_finite(),
            "{body}: {e:?}"
        );
        let expected = [
            Outcome::CertifiedMinimum,
            Outcome::BudgetExhausted,
            Outcome::Saddle,
        ];
        assert!(expected.contains(&e.outcome), "{body}: {e:?}");
    }
}

#[test]
fn separable_classes_without_a_regulariser_are_no_minimum() {
    let files = Files::default();
    for loss in ["cross_entropy", "logistic"] {
        let spec = with(
            json!("iris"),
            json!({"loss": loss, "features": {"polynomial": 2},
                   "regularizer": {"predictor_ridge": 0, "body_decay": 0},
                   "budget": {"evaluations": 5000}}),
        );
        let cell = cell(&spec, &files);
        let baseline = cell.baseline();
        assert_eq!(
            baseline.status,
            Attainment::InfimumNotAttained,
            "{loss}: {baseline:?}"
        );
        assert!(baseline.lower_bound <= baseline.value);
        for seed in 0..2 {
            let e = run(&cell, &json!("standard"), seed, &baseline, &files).evidence;
            assert_ne!(e.outcome, Outcome::CertifiedMinimum, "{loss}: {e:?}");
        }
    }
}

#[test]
fn runs_without_a_regulariser_are_never_called_minima_by_mistake() {
    let files = Files::default();
    for activation in ["tanh", "softplus", "sin"] {
        let spec = with(
            json!({"generate": "teacher", "rows": 40, "inputs": 3}),
            json!({"activation": activation, "budget": {"evaluations": 20_000},
                   "regularizer": {"predictor_ridge": 0, "body_decay": 0}}),
        );
        let cell = cell(&spec, &files);
        let baseline = cell.baseline();
        for seed in 0..3 {
            let e = run(&cell, &json!("standard"), seed, &baseline, &files).evidence;
            if e.outcome == Outcome::CertifiedMinimum {
                assert!(e.gradient_norm <= 1e-9 * e.objective.abs().max(1.0));
                assert!(e.value <= baseline.value + 1e-9, "{activation}: {e:?}");
            }
            if e.outcome == Outcome::Diverging {
                let start = standard_start(cell.arrays(), seed, 1.0);
                assert!(e.norm_theta > norm(&start), "{activation}: {e:?}");
                let half = e.curve[e.curve.len() / 2].objective;
                assert!(e.objective < f64::from(half), "{activation}: {e:?}");
            }
        }
    }
}

#[test]
fn broken_data_are_one_clear_error() {
    let cases = [
        ("a,y\n1,2\n3,4\n", "x", "squared", "there is no column `x`"),
        ("x,y\n1,2\nred,4\n", "x", "squared", "red"),
        ("x,y\n1,2\nnan,4\n", "x", "squared", "row"),
        ("x,y\n1,2\n,4\n", "x", "squared", "row"),
        ("x,y\n1,0.5\n2,4.5\n", "x", "cross_entropy", "cross_entropy"),
        ("x,y\n1,-2\n2,4\n", "x", "poisson", "-2"),
    ];
    for (text, input, loss, part) in cases {
        let mut files = Files::default();
        let mut data = json!({"targets": ["y"], "inputs": [input]});
        files.name(&mut data, "data.csv", text.to_owned());
        let spec = with(data, json!({"loss": loss}));
        let spec = decode_cell(&spec.to_string()).unwrap();
        let error = Cell::new(spec, |sha| files.get(sha))
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{text:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

/// Saved in the middle, continued in a new run: the same bits.
#[test]
fn a_checkpoint_continues_to_the_same_bits() {
    use common::decode::decode_start;
    use engine::run::Progress;
    use engine::task::Threads;
    let files = Files::default();
    for optimizer in ["auto", "adam", "sgd", "levenberg_marquardt"] {
        let spec = with(
            json!({"generate": "teacher", "rows": 60, "inputs": 3}),
            json!({"body": "preact", "optimizer": optimizer}),
        );
        let cell = cell(&spec, &files);
        let baseline = cell.baseline();
        let start = decode_start("\"standard\"").unwrap();
        let fresh = || {
            cell.run(&start, 1, &baseline, |_| None, Threads::ONE)
                .unwrap()
        };
        let whole = fresh().to_end();
        let (mut state, mut pauses) = (fresh().checkpoint(), 0);
        let pieces = loop {
            let mut part = fresh();
            part.restore(&state).unwrap();
            let mut left = 7;
            let progress = part.advance(&mut || {
                left -= 1;
                left < 0
            });
            match progress {
                Progress::Paused => state = part.checkpoint(),
                Progress::Finished(finished) => break finished,
            }
            pauses += 1;
        };
        assert!(pauses > 2, "{optimizer}: {pauses}");
        // There is nothing to go on from a finished run.
        let mut over = fresh();
        over.to_end();
        let state = over.checkpoint();
        assert!(fresh().restore(&state).is_err(), "{optimizer}");
        assert_eq!(pieces.theta, whole.theta, "{optimizer}");
        assert_eq!(pieces.evidence, whole.evidence, "{optimizer}");
    }
}

/// Beyond the size of the kink certificate a point on kinks is never called a minimum: with
/// all units dead, gradient and Hessian of one linear piece are those of a minimum.
#[test]
fn a_large_dead_network_on_its_kinks_is_not_certified() {
    let mut files = Files::default();
    let mut spec = with(
        json!({"generate": "teacher", "rows": 40, "inputs": 3, "outputs": 2}),
        json!({"activation": "relu", "depth": 2, "width": 40, "budget": {"evaluations": 3000}}),
    );
    let large = cell(&spec, &files);
    let baseline = large.baseline();
    let e = run(&large, &json!("standard"), 0, &baseline, &files).evidence;
    assert!(e.parameters > 1000);
    assert!(e.kink_margin.is_some(), "{e:?}");
    assert_ne!(e.outcome, Outcome::CertifiedMinimum, "{e:?}");
    // W = R*, everything else 0: every pre-activation is exactly 0.
    let mut theta = vec![0.0; e.parameters as usize];
    theta[..baseline.minimizer.len()].copy_from_slice(&baseline.minimizer);
    let start = json!({"point": files.add("theta.json", support::point(&large, &theta))});
    spec["budget"] = json!({"evaluations": 0});
    let still = cell(&spec, &files);
    let dead = run(&still, &start, 0, &baseline, &files).evidence;
    assert_eq!(dead.outcome, Outcome::Kink, "{dead:?}");
    assert_eq!(dead.kinks as usize, 40 * 40 * 2);
}
