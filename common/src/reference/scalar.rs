//! The number types that the reference models run on.
//!
//! A network is one formula; what it is evaluated on decides what comes out:
//! f64 gives values, [`HyperDual`] gives exact first and second derivatives
//! along two directions (Fike & Alonso 2011).

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::math::scalar as m;

/// A number with the elementary functions of CONTRACT §1.
///
/// Decisions (which piece of `relu`, which class is largest) go by
/// [`Scalar::value`] alone; both pieces then carry their own derivatives.
pub trait Scalar:
    Copy
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// A number that does not depend on the variables.
    fn constant(x: f64) -> Self;
    /// The number without its derivatives.
    fn value(self) -> f64;
    /// self·factor + summand, rounded once where the type can.
    fn mul_add(self, factor: Self, summand: Self) -> Self;
    /// e^x
    fn exp(self) -> Self;
    /// e^x − 1
    fn expm1(self) -> Self;
    /// Natural logarithm
    fn ln(self) -> Self;
    /// log(1 + x)
    fn log1p(self) -> Self;
    /// √x
    fn sqrt(self) -> Self;
    /// sin x
    fn sin(self) -> Self;
    /// cos x
    fn cos(self) -> Self;
    /// tanh x
    fn tanh(self) -> Self;
    /// arctan x
    fn atan(self) -> Self;
    /// erf x
    fn erf(self) -> Self;
    /// erfc x
    fn erfc(self) -> Self;
    /// 1/(1 + e^{−x})
    fn sigmoid(self) -> Self;
    /// log(1 + e^x)
    fn softplus(self) -> Self;
    /// x^exponent, a constant exponent, as C's pow
    fn pow(self, exponent: f64) -> Self;
}

macro_rules! by_kernel {
    ($($name:ident)*) => {$(
        fn $name(self) -> Self {
            m::$name(self)
        }
    )*};
}

impl Scalar for f64 {
    fn constant(x: f64) -> Self {
        x
    }
    fn value(self) -> f64 {
        self
    }
    fn mul_add(self, factor: Self, summand: Self) -> Self {
        f64::mul_add(self, factor, summand)
    }
    fn pow(self, exponent: f64) -> Self {
        m::pow(self, exponent)
    }
    by_kernel! { exp expm1 ln log1p sqrt sin cos tanh atan erf erfc sigmoid softplus }
}

/// x + a ε₁ + b ε₂ + c ε₁ε₂ with ε₁² = ε₂² = 0.
///
/// With variables x_i + p_i ε₁ + q_i ε₂ a function comes out as
/// f + ∂_p f ε₁ + ∂_q f ε₂ + ∂_p∂_q f ε₁ε₂, exact to rounding.
///
/// ```
/// use common::reference::{HyperDual, Scalar};
/// let x = HyperDual { value: 2.0, first: 1.0, second: 1.0, mixed: 0.0 };
/// let y = x * x * x;
/// assert_eq!((y.value, y.first, y.mixed), (8.0, 12.0, 12.0));
/// assert!((x.exp().mixed - common::math::scalar::exp(2.0)).abs() < 1e-14);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HyperDual {
    /// x
    pub value: f64,
    /// Coefficient of ε₁.
    pub first: f64,
    /// Coefficient of ε₂.
    pub second: f64,
    /// Coefficient of ε₁ε₂.
    pub mixed: f64,
}

impl HyperDual {
    /// f(x) from f, f′ and f″ at the value.
    fn lift(self, f: f64, d: f64, d2: f64) -> Self {
        Self {
            value: f,
            first: d * self.first,
            second: d * self.second,
            mixed: d.mul_add(self.mixed, d2 * self.first * self.second),
        }
    }
}

impl Add for HyperDual {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self {
            value: self.value + o.value,
            first: self.first + o.first,
            second: self.second + o.second,
            mixed: self.mixed + o.mixed,
        }
    }
}

impl Neg for HyperDual {
    type Output = Self;
    fn neg(self) -> Self {
        Self {
            value: -self.value,
            first: -self.first,
            second: -self.second,
            mixed: -self.mixed,
        }
    }
}

impl Sub for HyperDual {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        self + -o
    }
}

impl Mul for HyperDual {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        Self {
            value: self.value * o.value,
            first: self.value.mul_add(o.first, self.first * o.value),
            second: self.value.mul_add(o.second, self.second * o.value),
            mixed: self.value.mul_add(o.mixed, self.mixed * o.value)
                + self.first.mul_add(o.second, self.second * o.first),
        }
    }
}

impl Div for HyperDual {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        let r = 1.0 / o.value;
        let mut quotient = self * o.lift(r, -r * r, 2.0 * r * r * r);
        quotient.value = self.value / o.value;
        quotient
    }
}

/// 2/√π
const TWO_OVER_SQRT_PI: f64 = std::f64::consts::FRAC_2_SQRT_PI;

impl Scalar for HyperDual {
    fn constant(x: f64) -> Self {
        Self {
            value: x,
            ..Self::default()
        }
    }
    fn value(self) -> f64 {
        self.value
    }
    fn mul_add(self, factor: Self, summand: Self) -> Self {
        let mut sum = self * factor + summand;
        sum.value = self.value.mul_add(factor.value, summand.value);
        sum
    }
    fn exp(self) -> Self {
        let e = m::exp(self.value);
        self.lift(e, e, e)
    }
    fn expm1(self) -> Self {
        let e = m::exp(self.value);
        self.lift(m::expm1(self.value), e, e)
    }
    fn ln(self) -> Self {
        let r = 1.0 / self.value;
        self.lift(m::ln(self.value), r, -r * r)
    }
    fn log1p(self) -> Self {
        let r = 1.0 / (1.0 + self.value);
        self.lift(m::log1p(self.value), r, -r * r)
    }
    fn sqrt(self) -> Self {
        let s = self.value.sqrt();
        self.lift(s, 0.5 / s, -0.25 / (s * self.value))
    }
    fn sin(self) -> Self {
        let (s, c) = (m::sin(self.value), m::cos(self.value));
        self.lift(s, c, -s)
    }
    fn cos(self) -> Self {
        let (s, c) = (m::sin(self.value), m::cos(self.value));
        self.lift(c, -s, -c)
    }
    fn tanh(self) -> Self {
        let h = m::tanh(self.value);
        let d = (-h).mul_add(h, 1.0);
        self.lift(h, d, -2.0 * h * d)
    }
    fn atan(self) -> Self {
        let d = 1.0 / self.value.mul_add(self.value, 1.0);
        self.lift(m::atan(self.value), d, -2.0 * self.value * d * d)
    }
    fn erf(self) -> Self {
        let d = TWO_OVER_SQRT_PI * m::exp(-self.value * self.value);
        self.lift(m::erf(self.value), d, -2.0 * self.value * d)
    }
    fn erfc(self) -> Self {
        let d = -TWO_OVER_SQRT_PI * m::exp(-self.value * self.value);
        self.lift(m::erfc(self.value), d, -2.0 * self.value * d)
    }
    fn sigmoid(self) -> Self {
        let (up, down) = (m::sigmoid(self.value), m::sigmoid(-self.value));
        let d = up * down;
        self.lift(up, d, d * (down - up))
    }
    fn softplus(self) -> Self {
        let (up, down) = (m::sigmoid(self.value), m::sigmoid(-self.value));
        self.lift(m::softplus(self.value), up, up * down)
    }
    fn pow(self, y: f64) -> Self {
        // The first exponents apart: 0·x^{y−2} is no number at x = 0.
        if y == 0.0 {
            return Self::constant(1.0);
        }
        if y == 1.0 {
            return self;
        }
        let d = y * m::pow(self.value, y - 1.0);
        let d2 = y * (y - 1.0) * m::pow(self.value, y - 2.0);
        self.lift(m::pow(self.value, y), d, d2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Derivatives by central differences of order h⁴, h = 10⁻³: errors near 1e-11 and 1e-8.
    fn check(f: fn(HyperDual) -> HyperDual, at: f64) {
        let one = HyperDual {
            value: at,
            first: 1.0,
            second: 1.0,
            mixed: 0.0,
        };
        let g = |x: f64| f(HyperDual::constant(x)).value;
        let h = 1e-3;
        let (a, b, c, d) = (g(at - 2.0 * h), g(at - h), g(at + h), g(at + 2.0 * h));
        let first = (a - 8.0 * b + 8.0 * c - d) / (12.0 * h);
        let second = (-a + 16.0 * b - 30.0 * g(at) + 16.0 * c - d) / (12.0 * h * h);
        let got = f(one);
        let scale = 1.0 + first.abs() + second.abs();
        assert!(
            (got.first - first).abs() < 1e-9 * scale,
            "{got:?}, not {first} at {at}"
        );
        assert!(
            (got.mixed - second).abs() < 1e-7 * scale,
            "{got:?}, not {second} at {at}"
        );
        assert_eq!(got.first, got.second);
    }

    #[test]
    fn every_function_carries_its_two_derivatives() {
        let functions: [fn(HyperDual) -> HyperDual; 18] = [
            Scalar::exp,
            Scalar::expm1,
            Scalar::ln,
            Scalar::log1p,
            Scalar::sqrt,
            Scalar::sin,
            Scalar::cos,
            Scalar::tanh,
            Scalar::atan,
            Scalar::erf,
            Scalar::erfc,
            Scalar::sigmoid,
            Scalar::softplus,
            |x| x.pow(2.5),
            |x| x.pow(-3.0),
            |x| x * x / (x + HyperDual::constant(2.0)) - x,
            |x| x.mul_add(x.sin(), -x),
            |x| x.pow(0.0) + x.pow(1.0) * x.pow(2.0),
        ];
        for f in functions {
            for at in [0.3, 0.9, 1.7] {
                check(f, at);
            }
        }
    }

    #[test]
    fn the_mixed_part_is_the_derivative_along_both_directions() {
        // f(x, y) = x² y³ at (2, 3): ∂_x∂_y f = 6 x y² = 108.
        let x = HyperDual {
            value: 2.0,
            first: 1.0,
            ..HyperDual::default()
        };
        let y = HyperDual {
            value: 3.0,
            second: 1.0,
            ..HyperDual::default()
        };
        let f = x * x * y * y * y;
        assert_eq!(
            (f.value, f.first, f.second, f.mixed),
            (108.0, 108.0, 108.0, 108.0)
        );
    }
}
