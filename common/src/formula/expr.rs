//! Expressions as shared nodes: what a formula and its derivatives compute.
//!
//! A list of nodes in which each operand stands before its use and no node
//! stands twice. One walk over the list evaluates everything; an engine
//! compiles the same list to vector operations. Evaluation performs exactly
//! the listed IEEE 754 operations and the kernels of [`crate::math`], nothing
//! is reordered or fused, so every evaluator gives the same bits.

use crate::math::scalar;

use super::tree::Function;

/// Position of a node in its list.
pub type Index = usize;

/// One operation; operands are positions of earlier nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Node {
    /// A number.
    Number(f64),
    /// `t`
    Variable,
    /// One operand.
    Unary(Unary, Index),
    /// Two operands.
    Binary(Binary, Index, Index),
    /// `positive` where `over > 0`, else `otherwise` (also where `over` is NaN).
    Select {
        /// The number whose sign decides.
        over: Index,
        /// Its value where `over > 0`.
        positive: Index,
        /// Its value elsewhere.
        otherwise: Index,
    },
}

/// Operations on one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unary {
    /// −a
    Negative,
    /// A function of the language, as [`apply`](Self::apply) computes it.
    Function(Function),
    /// 1 where a > 0, else 0 (also where a is NaN)
    Step,
}

/// Operations on two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// a + b
    Add,
    /// a − b
    Subtract,
    /// a·b
    Multiply,
    /// a/b
    Divide,
    /// `math::scalar::pow`: C's pow, NaN for negative a and fractional b
    Power,
    /// a where a ≤ b, b where b < a, else a + b, which is NaN
    Min,
    /// a where a ≥ b, b where b > a, else a + b, which is NaN
    Max,
}

impl Unary {
    /// The operation on one number.
    ///
    /// `sign` is `0·a` where `a` is neither positive nor negative, so that a
    /// NaN stays one; `relu` is `a` where `a > 0` or `a` is NaN, else `0`.
    pub fn apply(self, a: f64) -> f64 {
        match self {
            Self::Negative => -a,
            Self::Step => f64::from(u8::from(a > 0.0)),
            Self::Function(function) => match function {
                Function::Exp => scalar::exp(a),
                Function::Log => scalar::ln(a),
                Function::Log1p => scalar::log1p(a),
                Function::Sqrt => scalar::sqrt(a),
                Function::Sin => scalar::sin(a),
                Function::Cos => scalar::cos(a),
                Function::Tanh => scalar::tanh(a),
                Function::Atan => scalar::atan(a),
                Function::Erf => scalar::erf(a),
                Function::Sigmoid => scalar::sigmoid(a),
                Function::Softplus => scalar::softplus(a),
                Function::Relu if a < 0.0 => 0.0,
                Function::Relu => a,
                Function::Abs => a.abs(),
                Function::Sign if a > 0.0 => 1.0,
                Function::Sign if a < 0.0 => -1.0,
                Function::Sign => 0.0 * a,
            },
        }
    }
}

impl Binary {
    /// The operation on two numbers.
    pub fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
            Self::Power => scalar::pow(a, b),
            Self::Min if a <= b => a,
            Self::Min if b < a => b,
            Self::Max if a >= b => a,
            Self::Max if b > a => b,
            Self::Min | Self::Max => a + b,
        }
    }
}

/// The value of every node at `t`, in `values` (cleared first).
pub fn evaluate(nodes: &[Node], t: f64, values: &mut Vec<f64>) {
    values.clear();
    for node in nodes {
        let value = match *node {
            Node::Number(x) => x,
            Node::Variable => t,
            Node::Unary(operation, a) => operation.apply(values[a]),
            Node::Binary(operation, a, b) => operation.apply(values[a], values[b]),
            Node::Select {
                over,
                positive,
                otherwise,
            } => {
                values[if values[over] > 0.0 {
                    positive
                } else {
                    otherwise
                }]
            }
        };
        values.push(value);
    }
}
