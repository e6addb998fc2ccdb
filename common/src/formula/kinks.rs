//! Where the first derivative of a formula jumps.
//!
//! `relu`, `abs`, `sign`, `min` and `max` change their piece where their
//! argument `u` is zero (`a − b` for two arguments). Whether the formula as a
//! whole has a kink there is another question: `t/(1 + abs(t))`, `t*abs(t)`
//! and `relu(t) - relu(-t)` have none. The answer comes from evaluating the
//! symbolic value and derivative twice, with `u` exactly zero and the pieces
//! forced to one side and to the other:
//!
//! * where `u` is a straight line, at its root, together with every other
//!   straight line that has the same root;
//! * elsewhere at a set of sample points: the jump as a function of t is
//!   piecewise analytic, and one that vanishes at all of them, on both sides
//!   of 0 and at several sizes, is taken to vanish.
//!
//! In doubt a kink is kept: an engine then treats a smooth point with more
//! care than it needs.

use super::expr::{Index, Node, Unary};
use super::tree::Function;

/// A place where the first derivative (or the value, for `sign`) jumps:
/// wherever node `argument` is zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kink {
    /// The node whose sign decides the piece.
    pub argument: Index,
    /// Its derivative by t: |argument/slope| is, near the kink, the distance
    /// of t from it.
    pub slope: Index,
    /// The t of the kink, where `argument` is a straight line in t.
    pub position: Option<f64>,
}

/// Value, first and second derivative on either side of a kink.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneSided {
    /// The t of the kink.
    pub position: f64,
    /// Value, first and second derivative as t comes from below.
    pub left: [f64; 3],
    /// The same as t comes from above.
    pub right: [f64; 3],
}

/// One-sided values of the `observed` nodes at every kink with a known position, ascending.
pub(super) fn one_sided(nodes: &[Node], observed: [Index; 3], kinks: &[Kink]) -> Vec<OneSided> {
    let mut positions: Vec<f64> = kinks.iter().filter_map(|k| k.position).collect();
    positions.sort_by(f64::total_cmp);
    positions.dedup_by(|a, b| same_place(*a, *b));
    let mut plain = Vec::new();
    let jets = positions.into_iter().map(|t| {
        super::evaluate(nodes, t, &mut plain);
        let right: Vec<(Index, bool)> = kinks
            .iter()
            .filter(|k| k.position.is_some_and(|s| same_place(s, t)))
            .map(|k| (k.argument, plain[k.slope] > 0.0))
            .collect();
        let left: Vec<(Index, bool)> = right.iter().map(|&(u, side)| (u, !side)).collect();
        let at = |sides: &[(Index, bool)]| {
            let values = forced(nodes, t, sides);
            observed.map(|i| values[i])
        };
        OneSided {
            position: t,
            left: at(&left),
            right: at(&right),
        }
    });
    jets.collect()
}

/// Relative size below which a difference is rounding, not a jump.
const ROUNDING: f64 = 1e-13;

const SAMPLES: [f64; 8] = [
    -7.389_056,
    -1.618_034,
    -0.577_215_7,
    -0.031_415_93,
    0.027_182_82,
    0.812_345_6,
    1.732_051,
    5.196_152,
];

/// The kinks among candidates at which value or first derivative jump.
///
/// Each candidate comes with the slope of its argument where that is a line.
pub(super) fn real_kinks(
    nodes: &[Node],
    observed: [Index; 2],
    candidates: &[(Kink, Option<f64>)],
) -> Vec<Kink> {
    let mut kinks = Vec::new();
    let jumps = |t: f64, right: &[(Index, bool)]| {
        let left: Vec<(Index, bool)> = right.iter().map(|&(u, side)| (u, !side)).collect();
        let (a, b) = (forced(nodes, t, right), forced(nodes, t, &left));
        observed.iter().any(|&i| differ(a[i], b[i]))
    };
    for &(kink, slope) in candidates {
        let real = match (kink.position, slope) {
            (Some(t), Some(_)) => {
                let together: Vec<(Index, bool)> = candidates
                    .iter()
                    .filter(|(other, _)| other.position.is_some_and(|s| same_place(s, t)))
                    .filter_map(|(other, slope)| slope.map(|s| (other.argument, s > 0.0)))
                    .collect();
                jumps(t, &together)
            }
            _ => SAMPLES.iter().any(|&t| jumps(t, &[(kink.argument, true)])),
        };
        if real {
            kinks.push(kink);
        }
    }
    kinks
}

fn same_place(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-14 * a.abs().max(1.0)
}

fn differ(a: f64, b: f64) -> bool {
    // Not `>`: a NaN on either side counts as a jump.
    let same = (a - b).abs() <= ROUNDING * a.abs().max(b.abs()).max(1.0);
    !same
}

/// All values at `t` with each `(u, positive)` zero and its pieces forced.
fn forced(nodes: &[Node], t: f64, sides: &[(Index, bool)]) -> Vec<f64> {
    let side = |u: Index| {
        sides
            .iter()
            .find(|(v, _)| *v == u)
            .map(|(_, positive)| *positive)
    };
    let mut values = Vec::with_capacity(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        let value = match *node {
            _ if side(i).is_some() => 0.0,
            Node::Number(x) => x,
            Node::Variable => t,
            Node::Unary(operation, a) => match (operation, side(a)) {
                (Unary::Step, Some(positive)) => f64::from(u8::from(positive)),
                (Unary::Function(Function::Sign), Some(positive)) => {
                    if positive {
                        1.0
                    } else {
                        -1.0
                    }
                }
                _ => operation.apply(values[a]),
            },
            Node::Binary(operation, a, b) => operation.apply(values[a], values[b]),
            Node::Select {
                over,
                positive,
                otherwise,
            } => {
                let on = side(over).unwrap_or_else(|| values[over] > 0.0);
                values[if on { positive } else { otherwise }]
            }
        };
        values.push(value);
    }
    values
}
