//! Formula activations over vectors.
//!
//! The shared operations of a formula and its derivatives
//! ([`common::formula::Jet`]) are walked once for every eight samples. The
//! same operations in the same order as the scalar evaluation, so the bits are
//! those of `Formula::jet_at`.

use common::formula::{Binary, Formula, Function, Jet, Node, Unary};
use common::math::elementary as e;
use common::math::simd::Simd;

/// A formula ready for vector evaluation.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    jet: Jet,
}

impl Compiled {
    pub(crate) fn new(formula: &Formula) -> Self {
        Self {
            jet: formula.derivatives().clone(),
        }
    }

    /// Registers that [`Compiled::eval`] needs.
    pub(crate) fn registers(&self) -> usize {
        self.jet.nodes.len()
    }

    /// σ(t), σ′(t), σ″(t); `registers` is overwritten.
    #[inline(always)]
    pub(crate) fn eval<S: Simd>(
        &self,
        s: S,
        t: S::V,
        registers: &mut [S::V],
    ) -> (S::V, S::V, S::V) {
        for (i, node) in self.jet.nodes.iter().enumerate() {
            registers[i] = match *node {
                Node::Number(x) => s.splat(x),
                Node::Variable => t,
                Node::Unary(op, a) => unary(s, op, registers[a]),
                Node::Binary(op, a, b) => binary(s, op, registers[a], registers[b]),
                Node::Select {
                    over,
                    positive,
                    otherwise,
                } => {
                    let on = s.lt(s.splat(0.0), registers[over]);
                    s.select(on, registers[positive], registers[otherwise])
                }
            };
        }
        (
            registers[self.jet.value],
            registers[self.jet.first],
            registers[self.jet.second],
        )
    }
}

#[inline(always)]
fn unary<S: Simd>(s: S, op: Unary, a: S::V) -> S::V {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    match op {
        Unary::Negative => s.neg(a),
        Unary::Step => s.select(s.lt(zero, a), one, zero),
        Unary::Function(f) => match f {
            Function::Exp => e::exp(s, a),
            Function::Log => e::ln(s, a),
            Function::Log1p => e::log1p(s, a),
            Function::Sqrt => s.sqrt(a),
            Function::Sin => e::sin_cos(s, a).0,
            Function::Cos => e::sin_cos(s, a).1,
            Function::Tanh => e::tanh(s, a),
            Function::Atan => e::atan(s, a),
            Function::Erf => e::erf(s, a),
            Function::Sigmoid => e::sigmoid(s, a),
            Function::Softplus => e::softplus(s, a),
            Function::Relu => s.select(s.lt(a, zero), zero, a),
            Function::Abs => s.abs(a),
            Function::Sign => {
                let rest = s.mul(zero, a);
                let negative = s.select(s.lt(a, zero), s.splat(-1.0), rest);
                s.select(s.lt(zero, a), one, negative)
            }
        },
    }
}

#[inline(always)]
fn binary<S: Simd>(s: S, op: Binary, a: S::V, b: S::V) -> S::V {
    match op {
        Binary::Add => s.add(a, b),
        Binary::Subtract => s.sub(a, b),
        Binary::Multiply => s.mul(a, b),
        Binary::Divide => s.div(a, b),
        Binary::Power => e::pow(s, a, b),
        Binary::Min => s.select(s.le(a, b), a, s.select(s.lt(b, a), b, s.add(a, b))),
        Binary::Max => s.select(s.le(b, a), a, s.select(s.lt(a, b), b, s.add(a, b))),
    }
}
