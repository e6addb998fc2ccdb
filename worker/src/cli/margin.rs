//! How near a point is to a kink: CONTRACT §5 `kink_margin`.
//!
//! The reference models run on any number; here they run on one that knows
//! whether an affine map made it. Such a number, when an activation looks at
//! it to choose its piece, is a pre-activation.

use std::cell::RefCell;
use std::ops::{Add, Div, Mul, Neg, Sub};

use common::formula::evaluate;
use common::math::scalar as m;
use common::reference::{Network, Sample, Scalar};
use common::spec::Activation;

thread_local! {
    /// Pre-activations of one row.
    static SEEN: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
}

/// The distance of the nearest pre-activation from a place where the
/// activation's first derivative jumps; nothing if there is no such place.
pub(super) fn margin<'a>(
    network: &Network,
    activation: &Activation,
    theta: &[f64],
    rows: impl Iterator<Item = Sample<'a>>,
) -> Option<f64> {
    if !common::canon::has_kinks(activation) {
        return None;
    }
    let theta: Vec<Probe> = theta.iter().map(|x| Probe::constant(*x)).collect();
    let mut nearest = f64::INFINITY;
    for row in rows {
        SEEN.with_borrow_mut(Vec::clear);
        let _ = network.output(&theta, row);
        SEEN.with_borrow(|seen| {
            nearest = seen
                .iter()
                .fold(nearest, |d, t| d.min(distance(activation, *t)));
        });
    }
    // A network without pre-activations is nowhere near a kink.
    nearest.is_finite().then_some(nearest)
}

/// |t − the nearest kink|; for a kink of a formula whose place is not known in
/// closed form, to first order.
fn distance(activation: &Activation, t: f64) -> f64 {
    match activation {
        Activation::Relu6 => t.abs().min((t - 6.0).abs()),
        Activation::HardTanh => (t - 1.0).abs().min((t + 1.0).abs()),
        Activation::Formula(formula) => {
            let mut values = Vec::new();
            evaluate(&formula.derivatives().nodes, t, &mut values);
            let of = |kink: &common::formula::Kink| match kink.position {
                Some(position) => (t - position).abs(),
                None => (values[kink.argument] / values[kink.slope]).abs(),
            };
            formula.kinks().iter().map(of).fold(f64::INFINITY, f64::min)
        }
        _ => t.abs(),
    }
}

/// A number, and whether an affine map made it.
#[derive(Clone, Copy)]
struct Probe {
    x: f64,
    affine: bool,
}

fn plain(x: f64) -> Probe {
    Probe { x, affine: false }
}

macro_rules! operators {
    ($($name:ident $method:ident)*) => {$(
        impl $name for Probe {
            type Output = Self;
            fn $method(self, o: Self) -> Self {
                plain(self.x.$method(o.x))
            }
        }
    )*};
}

operators! { Add add Sub sub Mul mul Div div }

impl Neg for Probe {
    type Output = Self;
    fn neg(self) -> Self {
        plain(-self.x)
    }
}

macro_rules! functions {
    ($($name:ident)*) => {$(
        fn $name(self) -> Self {
            plain(m::$name(self.x))
        }
    )*};
}

impl Scalar for Probe {
    fn constant(x: f64) -> Self {
        plain(x)
    }
    fn value(self) -> f64 {
        if self.affine {
            SEEN.with_borrow_mut(|seen| seen.push(self.x));
        }
        self.x
    }
    fn mul_add(self, factor: Self, summand: Self) -> Self {
        Self {
            x: self.x.mul_add(factor.x, summand.x),
            affine: true,
        }
    }
    fn pow(self, exponent: f64) -> Self {
        plain(m::pow(self.x, exponent))
    }
    functions! { exp expm1 ln log1p sqrt sin cos tanh atan erf erfc sigmoid softplus }
}

#[cfg(test)]
mod tests {
    use common::layout::LayoutDims;
    use common::spec::{Body, Features, ModelSpec, Skip};

    use super::*;

    /// z = σ(a x + b) for the rows x = 1 and x = 2.
    fn found(activation: Activation, a: f64, b: f64) -> Option<f64> {
        let model = ModelSpec {
            features: Features::Linear,
            intercept: true,
            body: Body::Mlp,
            depth: 1,
            width: 1,
            bottleneck: 0,
            cardinality: 0,
            activation: activation.clone(),
            skip: Skip::Outer,
            freeze: false,
            image: None,
        };
        let dims = LayoutDims {
            inputs: 1,
            phi: 2,
            outputs: 1,
            table: 0,
        };
        let network = Network::new(&model, dims).unwrap();
        let phi = [[1.0, 1.0], [2.0, 1.0]];
        let rows = phi.iter().map(|phi| Sample {
            x: &phi[..1],
            phi,
            table: &[],
        });
        margin(&network, &activation, &[1.0, 0.0, 0.0, 0.0, a, b], rows)
    }

    #[test]
    fn the_nearest_kink_of_any_row_counts() {
        let formula = |text: &str| Activation::Formula(text.parse().unwrap());
        assert_eq!(found(Activation::Relu, 1.0, -1.75), Some(0.25));
        assert_eq!(found(Activation::Abs, 0.0, 0.0), Some(0.0));
        assert_eq!(found(Activation::HardTanh, 1.0, 1.0), Some(1.0));
        assert_eq!(found(Activation::Relu6, 1.0, 3.5), Some(0.5));
        assert_eq!(found(formula("max(t, 2*t - 3)"), 1.0, 1.5), Some(0.5));
        assert_eq!(
            found(formula("relu(t) * tanh(relu(t - 1)) + abs(t)"), 1.0, -0.25),
            Some(0.25)
        );
    }

    #[test]
    fn smooth_activations_have_no_margin() {
        for activation in [Activation::Tanh, Activation::Elu, Activation::SquaredRelu] {
            assert_eq!(found(activation, 1.0, -1.0), None);
        }
    }
}
