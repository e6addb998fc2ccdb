//! σ and the losses on one number or one row.

use super::Scalar;
use crate::formula::{Function, FunctionOfTwo, Operator, Tree};
use crate::spec::{Activation, Loss};

/// λ and α of selu (Klambauer et al. 2017).
const SELU: (f64, f64) = (1.050_700_987_355_480_5, 1.673_263_242_354_377_3);

/// σ(t).
///
/// At a kink the derivative that a dual number carries is that of the left
/// piece, and 0 for `abs`. A NaN goes through every piece.
pub fn activate<S: Scalar>(activation: &Activation, t: S) -> S {
    let k = S::constant;
    let v = t.value();
    match activation {
        Activation::Identity => t,
        Activation::Relu => relu(t),
        Activation::LeakyRelu { .. } if v > 0.0 => t,
        Activation::LeakyRelu { slope } => k(*slope) * t,
        Activation::Elu if v > 0.0 => t,
        Activation::Elu => t.expm1(),
        Activation::Selu if v > 0.0 => k(SELU.0) * t,
        Activation::Selu => k(SELU.0 * SELU.1) * t.expm1(),
        Activation::Softplus => t.softplus(),
        Activation::Tanh => t.tanh(),
        Activation::Sigmoid => t.sigmoid(),
        Activation::Atan => t.atan(),
        Activation::Softsign if v < 0.0 => t / (k(1.0) - t),
        Activation::Softsign => t / (k(1.0) + t),
        Activation::Gelu => t * normal_distribution(t),
        Activation::GeluTanh => {
            // √(2/π)(t + 0.044715 t³)
            let inner = (t * t).mul_add(k(0.044715), k(1.0)) * t * k(0.797_884_560_802_865_4);
            k(0.5) * t * (k(1.0) + inner.tanh())
        }
        Activation::Silu => t * t.sigmoid(),
        Activation::Mish => t * t.softplus().tanh(),
        Activation::Sin => t.sin(),
        Activation::Gaussian => (-(t * t)).exp(),
        Activation::Quadratic => t * t,
        Activation::Cubic => t * t * t,
        Activation::Abs => absolute(t),
        Activation::Relu6 if v > 6.0 => k(6.0),
        Activation::Relu6 => relu(t),
        Activation::HardTanh if v > 1.0 => k(1.0),
        Activation::HardTanh if v <= -1.0 => k(-1.0),
        Activation::HardTanh => t,
        Activation::SquaredRelu => relu(t) * relu(t),
        Activation::Formula(formula) => evaluate(formula.tree(), t),
    }
}

/// Φ(t) = ½ erfc(−t/√2).
fn normal_distribution<S: Scalar>(t: S) -> S {
    let scaled = t * S::constant(-std::f64::consts::FRAC_1_SQRT_2);
    S::constant(0.5) * scaled.erfc()
}

fn relu<S: Scalar>(t: S) -> S {
    if t.value() <= 0.0 {
        S::constant(0.0)
    } else {
        t
    }
}

fn absolute<S: Scalar>(t: S) -> S {
    match t.value() {
        v if v > 0.0 => t,
        v if v < 0.0 => -t,
        // 0, or NaN.
        v => S::constant(v.abs()),
    }
}

/// A formula's tree, read literally.
fn evaluate<S: Scalar>(tree: &Tree, t: S) -> S {
    match tree {
        Tree::Number(x) => S::constant(*x),
        Tree::Variable => t,
        Tree::Negative(a) => -evaluate(a, t),
        Tree::Operation(Operator::Power, a, b) => power(evaluate(a, t), b, t),
        Tree::Operation(operator, a, b) => {
            let (a, b) = (evaluate(a, t), evaluate(b, t));
            match operator {
                Operator::Add => a + b,
                Operator::Subtract => a - b,
                Operator::Multiply => a * b,
                Operator::Divide => a / b,
                Operator::Power => unreachable!("matched above"),
            }
        }
        Tree::Call(function, a) => call(*function, evaluate(a, t)),
        Tree::CallTwo(function, a, b) => {
            let (a, b) = (evaluate(a, t), evaluate(b, t));
            let second = match function {
                FunctionOfTwo::Min => a.value() > b.value(),
                FunctionOfTwo::Max => a.value() < b.value(),
            };
            match (a.value().is_nan(), second) {
                (true, _) => a,
                (false, true) => b,
                (false, false) if b.value().is_nan() => b,
                (false, false) => a,
            }
        }
    }
}

/// u^v; a constant exponent needs no logarithm, so u may be negative.
fn power<S: Scalar>(base: S, exponent: &Tree, t: S) -> S {
    if mentions_variable(exponent) {
        (evaluate(exponent, t) * base.ln()).exp()
    } else {
        base.pow(evaluate(exponent, 0.0))
    }
}

fn mentions_variable(tree: &Tree) -> bool {
    match tree {
        Tree::Number(_) => false,
        Tree::Variable => true,
        Tree::Negative(a) | Tree::Call(_, a) => mentions_variable(a),
        Tree::Operation(_, a, b) | Tree::CallTwo(_, a, b) => {
            mentions_variable(a) || mentions_variable(b)
        }
    }
}

fn call<S: Scalar>(function: Function, a: S) -> S {
    match function {
        Function::Exp => a.exp(),
        Function::Log => a.ln(),
        Function::Log1p => a.log1p(),
        Function::Sqrt => a.sqrt(),
        Function::Sin => a.sin(),
        Function::Cos => a.cos(),
        Function::Tanh => a.tanh(),
        Function::Atan => a.atan(),
        Function::Erf => a.erf(),
        Function::Sigmoid => a.sigmoid(),
        Function::Softplus => a.softplus(),
        Function::Relu => relu(a),
        Function::Abs => absolute(a),
        Function::Sign => S::constant(match a.value() {
            v if v > 0.0 => 1.0,
            v if v < 0.0 => -1.0,
            v => 0.0 * v,
        }),
    }
}

/// The loss of one row, summed over its observed outputs; see [`Loss`].
///
/// `f`, `y` and `mask` have d_y entries; an entry of `mask` other than 0 means
/// observed. `cross_entropy` couples the outputs and takes no mask.
pub fn row_loss<S: Scalar>(loss: Loss, f: &[S], y: &[f64], mask: Option<&[f64]>) -> S {
    if loss == Loss::CrossEntropy {
        return cross_entropy(f, y);
    }
    let mut sum = S::constant(0.0);
    for (j, (f, y)) in f.iter().zip(y).enumerate() {
        if mask.is_none_or(|m| m[j] != 0.0) {
            sum = sum + output_loss(loss, *f, *y);
        }
    }
    sum
}

fn output_loss<S: Scalar>(loss: Loss, f: S, y: f64) -> S {
    let k = S::constant;
    let e = f - k(y);
    match loss {
        Loss::Squared => k(0.5) * e * e,
        Loss::Huber { delta } if e.value().abs() > delta => {
            k(delta) * (absolute(e) - k(0.5 * delta))
        }
        Loss::Huber { .. } => k(0.5) * e * e,
        Loss::LogCosh if e.value().abs() < 1.0 => {
            // log1p(2 sinh²(e/2)) keeps small values exact.
            let m = (k(0.5) * e).expm1();
            let sinh = k(0.5) * (m + m / (m + k(1.0)));
            (k(2.0) * sinh * sinh).log1p()
        }
        Loss::LogCosh => {
            let a = absolute(e);
            a + (k(-2.0) * a).exp().log1p() - k(std::f64::consts::LN_2)
        }
        Loss::Logistic => k(1.0 - y) * f.softplus() + k(y) * (-f).softplus(),
        Loss::SquaredHinge => {
            let slack = relu(k(1.0) - k(y) * f);
            slack * slack
        }
        Loss::Poisson => f.exp() - k(y) * f,
        Loss::CrossEntropy => unreachable!("couples the outputs; see `cross_entropy`"),
    }
}

/// log Σ e^{f_k} − Σ y_k f_k for Σ y_k = 1, arranged in terms that are not negative.
fn cross_entropy<S: Scalar>(f: &[S], y: &[f64]) -> S {
    let Some(first) = f.first() else {
        return S::constant(0.0);
    };
    let (mut at, mut top) = (0, *first);
    for (k, v) in f.iter().enumerate() {
        // A NaN becomes the top and stays it.
        if !(v.value() <= top.value() || top.value().is_nan()) {
            (at, top) = (k, *v);
        }
    }
    let mut rest = S::constant(0.0);
    let mut linear = S::constant(0.0);
    for (k, (f, y)) in f.iter().zip(y).enumerate() {
        if k != at {
            rest = rest + (*f - top).exp();
        }
        linear = S::constant(*y).mul_add(top - *f, linear);
    }
    rest.log1p() + linear
}

#[cfg(test)]
mod tests {
    use super::super::HyperDual;
    use super::*;
    use crate::formula::Formula;

    fn jet(activation: &Activation, t: f64) -> (f64, f64, f64) {
        let x = HyperDual {
            value: t,
            first: 1.0,
            second: 1.0,
            mixed: 0.0,
        };
        let y = activate(activation, x);
        (y.value, y.first, y.mixed)
    }

    #[test]
    fn a_formula_read_literally_has_the_derivatives_of_its_symbolic_form() {
        for text in [
            "t * tanh(t)",
            "t / (1 + abs(t))",
            "max(t, 0.1 * t) + min(t^2, 3)",
            "t^3 - 2 * t^-2 + (1 + t^2)^1.5",
            "(2 + sin(t))^(t / 2)",
            "exp(-t^2) * erf(t) + log1p(t^2) - sqrt(3 + cos(t))",
            "relu(t)^2 + sign(t) * sigmoid(t) + softplus(-t) + atan(log(5 + t))",
        ] {
            let formula = Formula::parse(text).unwrap();
            for t in [-2.3, -0.7, 0.4, 1.9] {
                let [v, d, d2] = formula.jet_at(t);
                let (a, b, c) = jet(&Activation::Formula(formula.clone()), t);
                for (got, want) in [(a, v), (b, d), (c, d2)] {
                    assert!(
                        (got - want).abs() <= 1e-13 * (1.0 + want.abs()),
                        "{text} at {t}"
                    );
                }
            }
        }
    }

    #[test]
    fn named_activations_are_the_formulas_that_define_them() {
        for (name, text) in [
            ("elu", "max(t, 0) + min(exp(t) - 1, 0)"),
            ("softplus", "log(1 + exp(t))"),
            ("softsign", "t / (1 + abs(t))"),
            ("gelu", "t * (1 + erf(t / sqrt(2))) / 2"),
            (
                "gelu_tanh",
                "t * (1 + tanh(sqrt(2 / pi) * (t + 0.044715 * t^3))) / 2",
            ),
            ("silu", "t * sigmoid(t)"),
            ("mish", "t * tanh(softplus(t))"),
            ("gaussian", "exp(-t^2)"),
            ("quadratic", "t^2"),
            ("cubic", "t^3"),
            ("abs", "abs(t)"),
            ("relu6", "min(relu(t), 6)"),
            ("hard_tanh", "min(max(t, -1), 1)"),
            ("squared_relu", "relu(t)^2"),
            ("leaky_relu", "max(t, 0.01 * t)"),
            (
                "selu",
                "1.0507009873554805 * (relu(t) + 1.6732632423543772 * min(exp(t) - 1, 0))",
            ),
            ("sigmoid", "1 / (1 + exp(-t))"),
            ("atan", "atan(t)"),
            ("sin", "sin(t)"),
            ("tanh", "tanh(t)"),
            ("relu", "relu(t)"),
            ("identity", "t"),
        ] {
            let named = Activation::NAMED.iter().find(|n| n.0 == name).unwrap();
            let formula = Activation::Formula(Formula::parse(text).unwrap());
            for t in [-7.5, -1.3, -0.2, 0.6, 2.5, 6.5] {
                let (a, b) = (jet(&named.1, t), jet(&formula, t));
                for (x, y) in [(a.0, b.0), (a.1, b.1), (a.2, b.2)] {
                    assert!(
                        (x - y).abs() <= 1e-12 * (1.0 + y.abs()),
                        "{name} at {t}: {x} and {y}"
                    );
                }
            }
        }
    }

    #[test]
    fn at_a_kink_the_derivative_is_that_of_the_left_piece() {
        let slope = |name: &str, t: f64| {
            let named = Activation::NAMED.iter().find(|n| n.0 == name).unwrap();
            jet(&named.1, t).1
        };
        assert_eq!(slope("relu", 0.0), 0.0);
        assert_eq!(slope("leaky_relu", 0.0), 0.01);
        assert_eq!(slope("abs", 0.0), 0.0);
        assert_eq!((slope("relu6", 0.0), slope("relu6", 6.0)), (0.0, 1.0));
        assert_eq!(
            (slope("hard_tanh", -1.0), slope("hard_tanh", 1.0)),
            (0.0, 1.0)
        );
    }

    #[test]
    fn a_nan_goes_through_every_activation_and_loss() {
        for (name, activation) in &Activation::NAMED {
            assert!(activate(activation, f64::NAN).is_nan(), "{name}");
        }
        for loss in LOSSES {
            assert!(
                row_loss(loss, &[0.5, f64::NAN], &[1.0, 0.0], None).is_nan(),
                "{loss:?}"
            );
        }
    }

    const LOSSES: [Loss; 7] = [
        Loss::Squared,
        Loss::CrossEntropy,
        Loss::Logistic,
        Loss::Huber { delta: 1.0 },
        Loss::LogCosh,
        Loss::SquaredHinge,
        Loss::Poisson,
    ];

    #[test]
    fn losses_have_their_values() {
        let ln = crate::math::scalar::ln;
        let exp = crate::math::scalar::exp;
        let one = |loss, f: f64, y: f64| row_loss(loss, &[f], &[y], None);
        let cosh = |x: f64| 0.5 * (exp(x) + exp(-x));
        for (got, want) in [
            (one(Loss::Squared, 3.0, 1.0), 2.0),
            (one(Loss::Huber { delta: 0.5 }, 1.2, 1.0), 0.5 * 0.2 * 0.2),
            (
                one(Loss::Huber { delta: 0.5 }, -1.0, 1.0),
                0.5 * (2.0 - 0.25),
            ),
            (one(Loss::LogCosh, 0.3, 0.0), ln(cosh(0.3))),
            (one(Loss::LogCosh, -2.0, 1.0), ln(cosh(3.0))),
            (one(Loss::Logistic, 0.7, 1.0), ln(1.0 + exp(-0.7))),
            (one(Loss::Logistic, 0.7, 0.0), ln(1.0 + exp(0.7))),
            (one(Loss::SquaredHinge, 0.25, -1.0), 1.5625),
            (one(Loss::SquaredHinge, 2.0, 1.0), 0.0),
            (one(Loss::Poisson, 0.5, 3.0), exp(0.5) - 1.5),
            (
                row_loss(
                    Loss::CrossEntropy,
                    &[0.1, 2.0, -1.0],
                    &[0.2, 0.5, 0.3],
                    None,
                ),
                ln(exp(0.1) + exp(2.0) + exp(-1.0)) - (0.02 + 1.0 - 0.3),
            ),
        ] {
            assert!(
                (got - want).abs() <= 4e-16 * (1.0 + want.abs()),
                "{got}, not {want}"
            );
        }
    }

    #[test]
    fn unobserved_outputs_do_not_count() {
        let f = [1.0, 5.0];
        assert_eq!(
            row_loss(Loss::Squared, &f, &[0.0, 0.0], Some(&[1.0, 0.0])),
            0.5
        );
    }
}
