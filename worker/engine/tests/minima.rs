//! Minima and controls that independent solvers found: certified, or turned down, as they should be.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use common::record::Outcome;
use common::summary::settle;
use serde_json::{Value, json};
use support::{Files, cell, csv, numbers, point, run};

fn golden(text: &str) -> Vec<Value> {
    let golden: Value = serde_json::from_str(text).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

fn minima() -> Vec<Value> {
    golden(include_str!("../../../common/tests/golden/minima.json"))
}

fn control(name: &str) -> Value {
    let all = golden(include_str!("../../../common/tests/golden/controls.json"));
    all.into_iter().find(|c| c["name"] == name).unwrap()
}

fn minimum_spec(case: &Value) -> Value {
    let loss = match case["loss"].as_str().unwrap() {
        "softmax" => "cross_entropy",
        other => other,
    };
    json!({
        "data": case["dataset"], "body": case["kind"], "activation": case["act"],
        "depth": case["depth"], "width": case["width"], "loss": loss,
        "regularizer": {"predictor_ridge": case["predictor_ridge"], "body_decay": case["u_decay"]},
        "budget": {"evaluations": 0},
    })
}

fn close(got: f64, want: f64, tolerance: f64, what: &str) {
    assert!(
        (got - want).abs() <= tolerance * want.abs().max(1.0),
        "{what}: {got:e}, not {want:e}"
    );
}

#[test]
fn golden_minima_are_certified_with_their_values() {
    for case in minima() {
        let mut files = Files::default();
        let cell = cell(&minimum_spec(&case), &files);
        let file = files.add("theta.json", point(&cell, &numbers(&case["theta"])));
        let baseline = cell.baseline();
        let e = run(&cell, &json!({"point": file}), 0, &baseline, &files).evidence;
        assert_eq!(e.outcome, Outcome::CertifiedMinimum, "{e:?}");
        let number = |key: &str| case[key].as_f64().unwrap();
        close(e.objective, number("objective"), 1e-12, "objective");
        close(e.value, number("value_without_u_decay"), 1e-12, "value");
        close(baseline.value, number("baseline"), 1e-12, "baseline");
        close(
            e.induced_value.unwrap(),
            number("induced"),
            1e-12,
            "induced",
        );
        close(
            e.max_eigenvalue.unwrap(),
            number("eig_max"),
            1e-9,
            "largest eigenvalue",
        );
        assert!(
            e.min_eigenvalue.unwrap().abs() <= 1e-12,
            "the valley is flat"
        );
        assert!(e.norm_a.unwrap() <= 1e-10 && e.norm_b.unwrap() <= 1e-10);
    }
}

#[test]
fn points_beside_minima_are_not_certified() {
    for (number, case) in minima().iter().enumerate() {
        for distance in [1e-6, 1e-3] {
            let mut files = Files::default();
            let cell = cell(&minimum_spec(case), &files);
            let mut theta = numbers(&case["theta"]);
            // Away from the flat directions W → W Q⁻¹, V → Q V as well: all entries move.
            let length = (theta.len() as f64).sqrt();
            for (i, t) in theta.iter_mut().enumerate() {
                let sign = if (i * 7 + number) % 3 == 0 { -1.0 } else { 1.0 };
                *t += sign * distance / length;
            }
            let file = files.add("theta.json", point(&cell, &theta));
            let e = run(&cell, &json!({"point": file}), 0, &cell.baseline(), &files).evidence;
            assert_ne!(e.outcome, Outcome::CertifiedMinimum, "{distance:e}: {e:?}");
        }
    }
}

#[test]
fn a_strict_saddle_at_a_rank_deficient_head_is_refused_and_left() {
    for name in ["tanh", "softplus", "gelu"] {
        let case = control(&format!("rank_deficient_saddle_{name}"));
        let mut files = Files::default();
        let (targets, text) = table(&case["X"], &case["Y"]);
        let spec = |evaluations: u64| {
            json!({
                "data": {"targets": targets}, "standardize": false,
                "intercept": false, "activation": name, "depth": 1, "width": 3,
                "regularizer": {"predictor_ridge": 0, "body_decay": 0},
                "budget": {"evaluations": evaluations},
            })
        };
        let with_file = |evaluations: u64, files: &mut Files| {
            let mut s = spec(evaluations);
            files.name(&mut s["data"], "data.csv", text.clone());
            s
        };
        let still = cell(&with_file(0, &mut files), &files);
        let file = files.add("theta.json", point(&still, &numbers(&case["theta"])));
        let start = json!({"point": file});
        let baseline = still.baseline();
        let e = run(&still, &start, 0, &baseline, &files).evidence;
        assert_eq!(e.outcome, Outcome::Saddle, "{name}: {e:?}");
        close(e.value, case["f"].as_f64().unwrap(), 1e-12, "value");
        let moving = cell(&with_file(20_000, &mut files), &files);
        let e = run(&moving, &start, 0, &baseline, &files).evidence;
        assert!(
            e.value < case["f"].as_f64().unwrap() - 1e-3,
            "{name}: {e:?}"
        );
        assert_ne!(e.outcome, Outcome::Saddle, "{name}");
    }
}

/// Inputs and targets as CSV, with the names of the targets.
fn table(x: &Value, y: &Value) -> (Value, String) {
    let columns = |v: &Value, name: &str| -> (Vec<String>, Vec<Vec<f64>>) {
        let rows: Vec<Vec<f64>> = v.as_array().unwrap().iter().map(row).collect();
        let names = (0..rows[0].len()).map(|j| format!("{name}{j}")).collect();
        let columns = (0..rows[0].len())
            .map(|j| rows.iter().map(|r| r[j]).collect())
            .collect();
        (names, columns)
    };
    let (mut names, mut all) = columns(x, "x");
    let (targets, ys) = columns(y, "y");
    names.extend(targets.clone());
    all.extend(ys);
    (json!(targets), csv(&names, &all))
}

fn row(v: &Value) -> Vec<f64> {
    if v.is_array() {
        numbers(v)
    } else {
        vec![v.as_f64().unwrap()]
    }
}

/// One control of a fixed z: data, table of z and point; certified, and above its baseline.
fn bad_minimum(case: &Value, targets: &Value, extra: Value, mask: Option<&Value>) {
    let mut files = Files::default();
    let (names, mut text) = table(&case["x"], targets);
    let mut data = json!({"targets": names});
    if let Some(observed) = mask {
        // One 0/1 column per target: observed[i] names the target of row i.
        let observed: Vec<usize> = numbers(observed).iter().map(|o| *o as usize).collect();
        text = text
            .lines()
            .enumerate()
            .map(|(i, line)| match i {
                0 => format!("{line},m0,m1\n"),
                i => format!(
                    "{line},{},{}\n",
                    u8::from(observed[i - 1] == 0),
                    u8::from(observed[i - 1] == 1)
                ),
            })
            .collect();
        data["mask"] = json!(["m0", "m1"]);
    }
    files.name(&mut data, "data.csv", text);
    let z = files.add("z.csv", csv(&["z".into()], &[numbers(&case["z"])]));
    let mut spec = json!({
        "data": data, "standardize": false, "intercept": false, "body": {"table": z},
        "activation": "identity", "depth": 1, "width": 1,
        "regularizer": {"predictor_ridge": 0, "body_decay": 0},
        "budget": {"evaluations": 0},
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let cell = cell(&spec, &files);
    let file = files.add("theta.json", point(&cell, &numbers(&case["theta"])));
    let baseline = cell.baseline();
    let e = run(&cell, &json!({"point": file}), 0, &baseline, &files).evidence;
    let name = &case["name"];
    close(
        baseline.value,
        case["base"].as_f64().unwrap(),
        1e-9,
        "baseline",
    );
    close(e.objective, case["f"].as_f64().unwrap(), 1e-9, "objective");
    assert_eq!(e.outcome, Outcome::CertifiedMinimum, "{name}: {e:?}");
    let settled = settle(e.outcome, e.value, baseline.value);
    assert_eq!(settled.verdict.name(), "violation", "{name}");
}

#[test]
fn bad_minima_outside_the_assumptions_are_found_to_be_such() {
    let case = control("decay_all_fixed_z");
    let ridge = json!({"regularizer":
        {"predictor_ridge": 0, "body_decay": 0, "head_decay": case["rho"]}});
    bad_minimum(&case, &case["y"], ridge, None);
    let case = control("dy2_dx1_huber_fixed_z");
    bad_minimum(&case, &case["Y"], json!({"loss": "huber"}), None);
    let case = control("dy2_dx1_logistic_fixed_z");
    bad_minimum(&case, &case["Y"], json!({"loss": "logistic"}), None);
    let case = control("dy2_dx1_masked_squared_fixed_z");
    let y: Vec<[f64; 2]> = numbers(&case["y"]).iter().map(|v| [*v, *v]).collect();
    bad_minimum(&case, &json!(y), json!({}), Some(&case["observed"]));
}

#[test]
fn the_bad_minimum_of_a_chain_is_found_to_be_one() {
    // x1 = x + V0 cos(2x), f = W (x1 + V1 sin(2 x1)): a chain with A = 2, b = π/2 and 0, frozen.
    let case = control("chain2_frozen");
    let mut files = Files::default();
    let (names, text) = table(&case["x"], &case["y"]);
    let mut data = json!({"targets": names});
    files.name(&mut data, "data.csv", text);
    let spec = json!({
        "data": data, "standardize": false,
        "intercept": false, "skip": "chain", "activation": "sin", "depth": 2, "width": 1,
        "freeze": "body", "regularizer": {"predictor_ridge": 0, "body_decay": 0},
        "budget": {"evaluations": 0},
    });
    let cell = cell(&spec, &files);
    let [w, v0, v1] = numbers(&case["theta"])[..] else {
        panic!("three numbers")
    };
    let theta = [w, 2.0, std::f64::consts::FRAC_PI_2, v0, 2.0, 0.0, v1];
    let file = files.add("theta.json", point(&cell, &theta));
    let baseline = cell.baseline();
    let e = run(&cell, &json!({"point": file}), 0, &baseline, &files).evidence;
    close(
        baseline.value,
        case["base"].as_f64().unwrap(),
        1e-9,
        "baseline",
    );
    close(e.objective, case["f"].as_f64().unwrap(), 1e-9, "objective");
    assert_eq!(e.outcome, Outcome::CertifiedMinimum, "{e:?}");
    assert_eq!(
        settle(e.outcome, e.value, baseline.value).verdict.name(),
        "violation"
    );
}
