//! Points that pass for minima at a glance, and are none: each has a way down that a test of the
//! gradient and of one piece's Hessian does not see.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use common::math::scalar;
use common::record::{Outcome, RunEvidence};
use engine::task::Cell;
use serde_json::{Value, json};
use support::{Files, cell, csv, point, run};

/// A task whose θ is made array by array, and what is said of it before anything moves it.
struct Scene {
    files: Files,
    spec: Value,
}

impl Scene {
    fn new(columns: &[(&str, Vec<f64>)], fields: Value) -> Self {
        let mut files = Files::default();
        let names: Vec<String> = columns.iter().map(|c| c.0.to_owned()).collect();
        let values: Vec<Vec<f64>> = columns.iter().map(|c| c.1.clone()).collect();
        let inputs = &names[..names.len() - 1];
        let mut data = json!({"inputs": inputs, "targets": [names.last()]});
        files.name(&mut data, "data.csv", csv(&names, &values));
        let mut spec = json!({
            "data": data, "body": "mlp", "depth": 1, "width": 1, "loss": "squared", "standardize": false,
            "budget": {"evaluations": 0},
        });
        for (name, value) in fields.as_object().unwrap() {
            spec[name] = value.clone();
        }
        Self { files, spec }
    }

    fn cell(&self) -> Cell {
        cell(&self.spec, &self.files)
    }

    fn theta(&self, arrays: &[(&str, Vec<f64>)]) -> Vec<f64> {
        let cell = self.cell();
        let mut theta = vec![0.0; cell.problem().theta_len()];
        for (name, values) in arrays {
            let array = cell.arrays().iter().find(|a| a.name == *name).unwrap();
            theta[array.range()].copy_from_slice(values);
        }
        theta
    }

    fn examine(&mut self, theta: &[f64]) -> RunEvidence {
        let cell = self.cell();
        let file = self.files.add("point.json", point(&cell, theta));
        let baseline = cell.baseline();
        let start = json!({"point": file});
        run(&cell, &start, 0, &baseline, &self.files).evidence
    }

    /// How much lower the objective is at `theta` moved by `step`, with no judgement of either.
    fn fall(&mut self, theta: &[f64], step: &[f64]) -> f64 {
        let moved: Vec<f64> = theta.iter().zip(step).map(|(t, s)| t + s).collect();
        self.examine(theta).objective - self.examine(&moved).objective
    }
}

fn wave(rows: usize, frequency: f64) -> Vec<f64> {
    (0..rows)
        .map(|i| scalar::sin(frequency * (i as f64 + 0.3)))
        .collect()
}

/// `v` without its part in the span of `columns`, twice.
fn orthogonal(v: &mut [f64], columns: &[Vec<f64>]) {
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for column in columns {
        let mut c = column.clone();
        for _ in 0..2 {
            for b in &basis {
                let share = dot(&c, b);
                c.iter_mut().zip(b).for_each(|(c, b)| *c -= share * b);
            }
        }
        let length = dot(&c, &c).sqrt();
        basis.push(c.iter().map(|c| c / length).collect());
    }
    for _ in 0..3 {
        for b in &basis {
            let share = dot(v, b);
            v.iter_mut().zip(b).for_each(|(v, b)| *v -= share * b);
        }
    }
}

/// Two inputs; the pre-activation x₁ + x₂/2 − ½ is exactly zero on row 3.
fn with_row_on_kink() -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut a, mut b) = (wave(20, 1.3), wave(20, 2.9));
    (a[3], b[3]) = (0.25, 0.5);
    let t = a.iter().zip(&b).map(|(a, b)| a + 0.5 * b - 0.5).collect();
    (a, b, t)
}

#[test]
fn a_kink_that_only_a_weight_of_zero_hides_from_the_loss_is_no_support() {
    let (a, b, t) = with_row_on_kink();
    assert!(t[3] == 0.0);
    // Stationary with W = 0: the residual is orthogonal to what is active, and large on row 3.
    let active: Vec<f64> = t.iter().map(|t| f64::from(*t > 0.0)).collect();
    let times = |x: &[f64]| -> Vec<f64> { x.iter().zip(&active).map(|(x, a)| x * a).collect() };
    let mut y = wave(20, 4.1);
    y[3] += 3.0;
    let columns = [vec![1.0; 20], times(&a), times(&b), active];
    orthogonal(&mut y, &columns);
    let mut scene = Scene::new(
        &[("a", a), ("b", b), ("y", y)],
        json!({"activation": "relu", "skip": "none",
               "regularizer": {"predictor_ridge": 1e-3, "body_decay": 0}}),
    );
    let theta = scene.theta(&[("A1", vec![1.0, 0.5]), ("b1", vec![-0.5])]);
    let e = scene.examine(&theta);
    assert!(e.gradient_norm < 1e-9, "{e:?}");
    assert_eq!(e.kinks, 1, "{e:?}");
    assert_eq!(e.outcome, Outcome::Kink, "{e:?}");
    // W and a shift of the kink together lead down.
    let falls = [1.0, -1.0].iter().any(|sign| {
        (0..40).any(|k| {
            let w = sign * 1e-2 * scalar::exp(-0.2 * f64::from(k));
            let mut step = scene.theta(&[
                ("A1", vec![0.25e-2, 0.5e-2]),
                ("b1", vec![1e-2]),
                ("W", vec![w]),
            ]);
            step.truncate(theta.len());
            scene.fall(&theta, &step) > 1e-8
        })
    });
    assert!(falls, "there is a way down");
}

#[test]
fn descent_that_w_hides_is_looked_for_on_kinks_as_well() {
    for shift in [0.0, 0.013] {
        let (a, b, t) = with_row_on_kink();
        let z: Vec<f64> = t.iter().map(|t| (t + shift).max(0.0)).collect();
        // y is orthogonal to φ, and −E[y z] = B is small: curvature ±|B| with V.
        let mut y = z;
        orthogonal(&mut y, &[vec![1.0; 20], a.clone(), b.clone()]);
        let size: f64 = y.iter().map(|y| y * y).sum();
        y.iter_mut().for_each(|y| *y *= 4e-5 * 20.0 / size);
        let mut scene = Scene::new(
            &[("a", a), ("b", b), ("y", y)],
            json!({"activation": "relu", "regularizer": {"predictor_ridge": 1e-3, "body_decay": 0}}),
        );
        let theta = scene.theta(&[("A1", vec![1.0, 0.5]), ("b1", vec![-0.5 + shift])]);
        let e = scene.examine(&theta);
        assert!(e.gradient_norm < 1e-9, "{e:?}");
        assert_eq!(e.kinks, u32::from(shift == 0.0), "{e:?}");
        assert_ne!(e.outcome, Outcome::CertifiedMinimum, "{shift}: {e:?}");
    }
}

#[test]
fn kinks_of_a_formula_are_seen_wherever_they_are() {
    for formula in [
        "abs(t^2 - 1)",
        "abs(sin(t-1))",
        "abs(exp(t-1)-1)",
        "abs(log(t))",
    ] {
        let y = vec![1.0, 0.2, 0.3, 1.0, 0.0, 0.1];
        let mean = y.iter().sum::<f64>() / 6.0;
        let mut scene = Scene::new(
            &[("a", vec![-1.0, -0.5, 0.5, 1.0, 0.25, -0.25]), ("y", y)],
            json!({"activation": {"formula": formula}, "skip": "none",
                   "regularizer": {"predictor_ridge": 0, "body_decay": 0}}),
        );
        // All rows on the kink at t = 1, where σ is zero.
        let theta = scene.theta(&[("b1", vec![1.0]), ("W", vec![0.7]), ("c", vec![mean])]);
        let e = scene.examine(&theta);
        assert_eq!(e.kink_margin, Some(0.0), "{formula}: {e:?}");
        assert_eq!(e.outcome, Outcome::Kink, "{formula}: {e:?}");
    }
}

#[test]
fn units_of_zeros_are_tested_whatever_the_penalties() {
    for (ridge, decay) in [(1e-3, 0.0), (0.0, 1e-3), (0.0, 0.0)] {
        for skip in ["none", "outer"] {
            let (a, b, _) = with_row_on_kink();
            let y: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a * b + 0.3).collect();
            let mut scene = Scene::new(
                &[("a", a), ("b", b), ("y", y.clone())],
                json!({"activation": "relu", "skip": skip,
                       "regularizer": {"predictor_ridge": ridge, "body_decay": decay}}),
            );
            // The classical optimum, or the mean, with a body of zeros.
            let theta = if skip == "outer" {
                let minimizer = scene.cell().baseline().minimizer;
                scene.theta(&[("W", minimizer)])
            } else {
                scene.theta(&[("c", vec![y.iter().sum::<f64>() / 20.0])])
            };
            let e = scene.examine(&theta);
            let what = format!("{skip} {ridge} {decay}: {e:?}");
            assert!(e.gradient_norm < 1e-9, "{what}");
            assert_eq!(e.outcome, Outcome::Kink, "{what}");
            // Training leaves it.
            scene.spec["budget"] = json!({"evaluations": 20000});
            let left = scene.examine(&theta);
            assert!(left.objective < e.objective - 1e-6, "{what}: {left:?}");
        }
    }
}

/// Without a decay a dead unit away from zero is a minimum, flat in its own weights; zeros are not.
#[test]
fn a_dead_unit_without_decay_stays_where_it_is() {
    let (a, b, _) = with_row_on_kink();
    let y: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a * b + 0.3).collect();
    let mean = y.iter().sum::<f64>() / 20.0;
    let mut scene = Scene::new(
        &[("a", a), ("b", b), ("y", y)],
        json!({"activation": "relu", "skip": "none",
               "regularizer": {"predictor_ridge": 0, "body_decay": 0},
               "budget": {"evaluations": 20000}}),
    );
    let theta = scene.theta(&[("b1", vec![-10.0]), ("W", vec![0.4]), ("c", vec![mean])]);
    let e = scene.examine(&theta);
    assert_eq!(e.outcome, Outcome::CertifiedMinimum, "{e:?}");
    assert!(e.kink_margin.is_some_and(|m| m > 1.0), "{e:?}");
    assert_eq!(e.kinks, 0, "{e:?}");
}

/// Where all rows are on their right side, more of W is always better: nothing is a minimum, however
/// small the gradient has become.
#[test]
fn separated_classes_without_a_ridge_are_never_certified() {
    let files = Files::default();
    for loss in ["cross_entropy", "logistic"] {
        for skip in ["outer", "none", "chain"] {
            let spec = json!({
                "data": {"generate": "random_labels", "rows": 24, "inputs": 2, "seed": 1},
                "body": "mlp", "depth": 1, "width": 8, "activation": "tanh", "loss": loss, "skip": skip,
                "regularizer": {"predictor_ridge": 0, "body_decay": 0},
                "budget": {"evaluations": 20000},
            });
            let spec = if skip == "chain" {
                let mut chain = spec;
                chain["body"] = json!("preact");
                chain
            } else {
                spec
            };
            let cell = cell(&spec, &files);
            let baseline = cell.baseline();
            let mut separated = 0;
            for seed in 0..3 {
                let e = run(&cell, &json!("standard"), seed, &baseline, &files).evidence;
                // A body that saturates on rows of both classes stops short of that.
                if e.value < 1e-3 {
                    assert_eq!(e.outcome, Outcome::Diverging, "{loss} {skip}: {e:?}");
                    separated += 1;
                }
            }
            assert!(separated > 0, "{loss} {skip}: the classes can be separated");
        }
    }
}
