//! The start `standard`.

use super::{ArrayKind, ParamArray, parameters};
use crate::rng::Philox;

/// The start `standard` of CONTRACT §2: θ with
///
/// * weights N(0, scale²/fan_in) and biases N(0, (0.1·scale)²);
/// * the last matrix of a block (B_l; V_l of a chain) divided by √H, so that
///   the sum over H blocks keeps its size at any depth;
/// * W and V with scale 1 instead of `scale`.
///
/// The V_l of a chain take part in both rules: they are the chain's V (the
/// contract counts them to the head in `head_decay` and not to the body in
/// `body_decay`), and they are what a block ends with. c of `skip: none` is a bias.
///
/// Each entry is the normal draw of its own address, so one seed draws the same
/// numbers in every cell; see [`ParamArray::address`].
pub fn standard_start(arrays: &[ParamArray], seed: u64, scale: f64) -> Vec<f64> {
    let rng = Philox::new(seed);
    let ends_block = |a: &ParamArray| {
        a.kind == ArrayKind::BlockOutWeight || a.kind == ArrayKind::SkipWeight && a.layer > 0
    };
    let blocks = arrays.iter().filter(|a| ends_block(a)).count();
    let mut theta = Vec::with_capacity(parameters(arrays));
    for array in arrays {
        let own_scale = match array.kind {
            ArrayKind::OutputWeight | ArrayKind::SkipWeight => 1.0,
            _ => scale,
        };
        let deviation = if array.kind.is_bias() {
            0.1 * own_scale
        } else if ends_block(array) {
            own_scale / (array.fan_in() as f64).sqrt() / (blocks as f64).sqrt()
        } else {
            own_scale / (array.fan_in() as f64).sqrt()
        };
        theta.extend((0..array.len()).map(|position| {
            let (row, column) = array.address(position);
            deviation * rng.normal(array.kind.purpose(), array.layer as u32, row, column)
        }));
    }
    theta
}

#[cfg(test)]
mod tests {
    use super::super::tests::{DIMS, arrays, model};
    use super::*;
    use crate::layout::layout;
    use crate::spec::{Body, ModelSpec, Skip};

    /// Standard deviation of the drawn entries of one array.
    fn deviation(body: Body, skip: Skip, name: &str, scale: f64) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        let list = arrays(body, skip);
        let array = list.iter().find(|a| a.name == name).unwrap();
        for seed in 0..400 {
            let theta = standard_start(&list, seed, scale);
            for v in &theta[array.range()] {
                sum += v * v;
                count += 1.0;
            }
        }
        (sum / count).sqrt()
    }

    #[test]
    fn the_standard_start_has_the_deviations_of_the_contract() {
        let half = 0.5f64.sqrt();
        for (body, skip, name, want) in [
            (Body::Mlp, Skip::Outer, "W", 1.0 / 13f64.sqrt()),
            (Body::Mlp, Skip::Outer, "V", 1.0 / 4f64.sqrt()),
            (Body::Mlp, Skip::Outer, "A1", 3.0 / 12f64.sqrt()),
            (Body::Mlp, Skip::Outer, "b2", 0.3),
            (Body::Mlp, Skip::None, "c", 0.3),
            (Body::Mlp, Skip::Chain, "V1", half / 4f64.sqrt()),
            (Body::Mlp, Skip::Chain, "A2", 3.0 / 13f64.sqrt()),
            (Body::Aggregated, Skip::Outer, "D1", 3.0 / 2f64.sqrt()),
            (
                Body::Aggregated,
                Skip::Outer,
                "B2",
                3.0 * half / 6f64.sqrt(),
            ),
            (Body::Conv, Skip::Outer, "A0", 3.0 / 27f64.sqrt()),
            (Body::Conv, Skip::Outer, "B1", 3.0 * half / 36f64.sqrt()),
        ] {
            let got = deviation(body.clone(), skip, name, 3.0);
            // At least 400·2 draws: five standard errors.
            assert!(
                (got / want - 1.0).abs() < 0.125,
                "{name} of {body:?}: {got}, not {want}"
            );
        }
    }

    #[test]
    fn one_seed_draws_the_same_numbers_in_networks_of_any_size() {
        let small = model(Body::Mlp, Skip::Outer);
        let large = ModelSpec {
            depth: 5,
            width: 6,
            ..small.clone()
        };
        let of = |spec: &ModelSpec| {
            let list = layout(spec, DIMS).unwrap();
            let theta = standard_start(&list, 11, 1.0);
            move |name: &str, row: usize, column: usize| {
                let array = list.iter().find(|a| a.name == name).unwrap();
                let at = array.offset + row * array.shape[1] + column;
                theta[at] * (array.fan_in() as f64).sqrt()
            }
        };
        let (a, b) = (of(&small), of(&large));
        for (name, row, column) in [("W", 1, 3), ("V", 2, 3), ("A1", 3, 11), ("A2", 3, 2)] {
            let (x, y) = (a(name, row, column), b(name, row, column));
            assert!(
                (x - y).abs() <= 4.0 * f64::EPSILON * x.abs(),
                "{name}: {x} and {y}"
            );
        }
    }

    #[test]
    fn the_first_numbers_of_a_seed_are_part_of_the_numeric_level() {
        let list = arrays(Body::Preact, Skip::Outer);
        let theta = standard_start(&list, 0, 1.0);
        let first = list.iter().map(|a| theta[a.offset]).collect::<Vec<_>>();
        insta::assert_debug_snapshot!(first);
    }
}
