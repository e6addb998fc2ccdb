//! Where activations have kinks, and the pieces that meet there.

use common::formula::{Formula, evaluate};
use common::spec::Activation;

use crate::activation::SELU;
use crate::program::KinkShape;

/// The kinks of an activation, in ascending order of position; empty for a
/// smooth one. Formulas: those kinks whose argument is a straight line in t.
pub fn kinks_of(activation: &Activation) -> Vec<KinkShape> {
    let line = |position: f64, value: f64, left: f64, right: f64| KinkShape {
        position,
        value,
        left: [left, 0.0],
        right: [right, 0.0],
    };
    match activation {
        Activation::Relu => vec![line(0.0, 0.0, 0.0, 1.0)],
        Activation::LeakyRelu { slope } if *slope != 1.0 => vec![line(0.0, 0.0, *slope, 1.0)],
        Activation::Abs => vec![line(0.0, 0.0, -1.0, 1.0)],
        Activation::Relu6 => vec![line(0.0, 0.0, 0.0, 1.0), line(6.0, 6.0, 1.0, 0.0)],
        Activation::HardTanh => vec![line(-1.0, -1.0, 0.0, 1.0), line(1.0, 1.0, 1.0, 0.0)],
        Activation::Selu => {
            let (scale, alpha) = SELU;
            vec![KinkShape {
                position: 0.0,
                value: 0.0,
                left: [scale * alpha, scale * alpha],
                right: [scale, 0.0],
            }]
        }
        Activation::Formula(formula) => formula
            .one_sided_jets()
            .into_iter()
            // A jump of the value itself (`sign`) is no kink that a minimum can sit on.
            .filter(|k| (k.left[0] - k.right[0]).abs() <= 1e-12 * k.left[0].abs().max(1.0))
            .map(|k| KinkShape {
                position: k.position,
                value: k.left[0],
                left: [k.left[1], k.left[2]],
                right: [k.right[1], k.right[2]],
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Intervals on which the activation is constant, as far as they are known.
pub fn flat_pieces(activation: &Activation) -> Vec<(f64, f64)> {
    let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
    match activation {
        Activation::Relu | Activation::SquaredRelu => vec![(low, 0.0)],
        Activation::Relu6 => vec![(low, 0.0), (6.0, high)],
        Activation::HardTanh => vec![(low, -1.0), (1.0, high)],
        // Between kinks a formula is analytic: constant where its derivatives vanish at several places.
        Activation::Formula(formula) if unplaced_kinks(activation).is_none() => {
            let mut ends: Vec<f64> = kinks_of(activation).iter().map(|k| k.position).collect();
            if ends.is_empty() {
                return Vec::new();
            }
            ends.insert(0, low);
            ends.push(high);
            let flat = |&(low, high): &(f64, f64)| {
                [0.137, 0.371, 0.618, 0.853].iter().all(|share| {
                    let t = match (low.is_finite(), high.is_finite()) {
                        (true, true) => low + share * (high - low),
                        (true, false) => low + 8.0 * share,
                        _ => high - 8.0 * share,
                    };
                    let [_, first, second] = formula.jet_at(t);
                    first == 0.0 && second == 0.0
                })
            };
            let pieces = ends.windows(2).map(|w| (w[0], w[1]));
            pieces.filter(flat).collect()
        }
        _ => Vec::new(),
    }
}

/// The formula, if some of its kinks are not at places known in closed form.
pub fn unplaced_kinks(activation: &Activation) -> Option<Formula> {
    match activation {
        Activation::Formula(formula) if formula.kinks().iter().any(|k| k.position.is_none()) => {
            Some(formula.clone())
        }
        _ => None,
    }
}

/// The distance of t from the nearest kink without a known place, to first order.
pub(crate) fn distance_from_unplaced(formula: &Formula, t: f64, values: &mut Vec<f64>) -> f64 {
    evaluate(&formula.derivatives().nodes, t, values);
    let unplaced = formula.kinks().iter().filter(|k| k.position.is_none());
    unplaced
        .map(|k| (values[k.argument] / values[k.slope]).abs())
        // On the kink with a slope of zero there: 0/0.
        .map(|d| if d.is_nan() { 0.0 } else { d })
        .fold(f64::INFINITY, f64::min)
}
