//! Baselines against independently computed values.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use common::record::Attainment;
use serde_json::{Value, json};
use support::{Files, cell};

#[test]
fn golden_baselines() {
    let text = include_str!("../../../common/tests/golden/baselines.json");
    let golden: Value = serde_json::from_str(text).unwrap();
    let rows = golden["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 37);
    for row in rows {
        let ridge = row["predictor_ridge"].as_f64().unwrap_or(0.0);
        let features = if row["features"].is_object() {
            row["features"].clone()
        } else {
            json!("linear")
        };
        let spec = json!({
            "data": row["data"], "features": features, "intercept": row["intercept"],
            "loss": loss(&row["loss"]), "regularizer": {"predictor_ridge": ridge},
            "depth": 1, "width": 1, "activation": "tanh", "body": "mlp",
        });
        let baseline = cell(&spec, &Files::default()).baseline();
        let want = row["value"].as_f64().unwrap();
        let status = if row["status"] == "attained" {
            Attainment::Attained
        } else {
            Attainment::InfimumNotAttained
        };
        let scale = want.abs().max(1.0);
        assert!(
            (baseline.value - want).abs() <= 1e-10 * scale,
            "{row}: {baseline:?}"
        );
        assert_eq!(baseline.status, status, "{row}");
        let gap = baseline.value - baseline.lower_bound;
        assert!((0.0..=1e-9 * scale).contains(&gap), "{row}: gap {gap:e}");
    }
}

fn loss(v: &Value) -> Value {
    match v.as_str() {
        Some("softmax") => json!("cross_entropy"),
        _ => v.clone(),
    }
}
