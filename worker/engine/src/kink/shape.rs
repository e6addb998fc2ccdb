//! Where activations have kinks, and the pieces that meet there.

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
