//! Numbers and records as JSON; numbers that are not finite as texts, as in
//! `summary.json`.

use common::layout::ParamArray;
use common::record::{BaselineEvidence, RunEvidence};
use common::summary::Number;
use serde_json::{Map, Value, json};

/// A number, or its name.
pub(super) fn number(x: f64) -> Value {
    json!(Number(x))
}

/// A number that may not be there.
pub(super) fn maybe(x: Option<f64>) -> Value {
    x.map_or(Value::Null, number)
}

/// Row-major entries as nested lists.
pub(super) fn nested(values: &[f64], shape: &[usize]) -> Value {
    match shape {
        [] | [_] => values.iter().map(|x| number(*x)).collect(),
        [first, rest @ ..] => {
            let size = rest.iter().product::<usize>();
            (0..*first)
                .map(|i| nested(&values[i * size..][..size], rest))
                .collect()
        }
    }
}

/// A vector in the order of θ, by array.
pub(super) fn by_array(theta: &[f64], arrays: &[ParamArray]) -> Value {
    let entries = arrays
        .iter()
        .map(|a| (a.name.clone(), nested(&theta[a.range()], &a.shape)));
    Value::Object(entries.collect())
}

/// The evidence of a run, all of it.
pub(super) fn run(e: &RunEvidence) -> Value {
    let mut value = json!(e);
    let certain = [
        ("objective", e.objective),
        ("value", e.value),
        ("gradient_norm", e.gradient_norm),
        ("norm_theta", e.norm_theta),
        ("norm_u", e.norm_u),
        ("norm_w", e.norm_w),
    ];
    let optional = [
        ("min_eigenvalue", e.min_eigenvalue),
        ("max_eigenvalue", e.max_eigenvalue),
        (
            "eigenvalue_failure_probability",
            e.eigenvalue_failure_probability,
        ),
        ("norm_a", e.norm_a),
        ("norm_b", e.norm_b),
        ("gap_bound", e.gap_bound),
        ("induced_value", e.induced_value),
        ("sigma_min_w", e.sigma_min_w),
        ("norm_wv", e.norm_wv),
        ("newton_step", e.newton_step),
        ("kink_margin", e.kink_margin),
        ("kink_slack", e.kink_slack),
        ("refuted_excess", e.refuted_excess),
    ];
    if let Value::Object(map) = &mut value {
        let rest = optional.into_iter().map(|(name, x)| (name, maybe(x)));
        let all = certain
            .into_iter()
            .map(|(name, x)| (name, number(x)))
            .chain(rest);
        map.extend(all.map(|(name, x)| (name.to_owned(), x)));
    }
    value
}

/// What a baseline claims, without its minimiser.
pub(super) fn baseline(e: &BaselineEvidence) -> Map<String, Value> {
    let fields = [
        ("value", number(e.value)),
        ("lower_bound", number(e.lower_bound)),
        ("status", json!(e.status)),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use common::record::Outcome;

    use super::*;

    #[test]
    fn numbers_that_are_not_finite_are_texts_everywhere_in_a_record() {
        let evidence = RunEvidence {
            objective: f64::NAN,
            norm_w: f64::INFINITY,
            gap_bound: Some(f64::NEG_INFINITY),
            ..RunEvidence::empty(Outcome::NonFinite)
        };
        let value = run(&evidence);
        assert_eq!(value["objective"], "NaN");
        assert!(
            value["norm_w"].is_string() && value["gap_bound"].is_string(),
            "{value}"
        );
        assert_eq!(
            (&value["value"], &value["norm_a"]),
            (&json!(0.0), &Value::Null)
        );
    }

    #[test]
    fn arrays_keep_their_shape() {
        let six = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(
            nested(&six, &[2, 3]),
            json!([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        );
        assert_eq!(
            nested(&six, &[1, 3, 2]),
            json!([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
        );
        assert_eq!(nested(&[], &[0, 3]), json!([]));
    }
}
