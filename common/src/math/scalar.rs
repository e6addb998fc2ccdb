//! The elementary functions on one number.
//!
//! Same kernels, same bits as the vector forms: `scalar::tanh(x)` is any lane
//! of the vector `tanh`. For code that is not hot: data generation, starts,
//! statistics, the scalar reference models.

use super::Isa;
use super::elementary as e;
use super::simd::Simd;

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident => $kernel:path;)*) => {$(
        $(#[$doc])*
        pub fn $name(x: f64) -> f64 {
            #[inline(always)]
            fn one<S: Simd>(s: S, x: f64) -> f64 {
                s.to_array($kernel(s, s.splat(x)))[0]
            }
            $crate::dispatch!(Isa::current() => f64, one, x: f64)
        }
    )*};
}

unary! {
    /// e^x
    exp => e::exp;
    /// e^x − 1
    expm1 => e::expm1;
    /// Natural logarithm
    ln => e::ln;
    /// log(1 + x)
    log1p => e::log1p;
    /// tanh x
    tanh => e::tanh;
    /// 1/(1 + e^{−x})
    sigmoid => e::sigmoid;
    /// log(1 + e^x)
    softplus => e::softplus;
    /// arctan x
    atan => e::atan;
    /// erf x
    erf => e::erf;
    /// erfc x
    erfc => e::erfc;
    /// sin x
    sin => sin_only;
    /// cos x
    cos => cos_only;
}

#[inline(always)]
fn sin_only<S: Simd>(s: S, x: S::V) -> S::V {
    e::sin_cos(s, x).0
}

#[inline(always)]
fn cos_only<S: Simd>(s: S, x: S::V) -> S::V {
    e::sin_cos(s, x).1
}

/// x^y, as C's pow
pub fn pow(x: f64, y: f64) -> f64 {
    libm::pow(x, y)
}

/// √x, correctly rounded
pub fn sqrt(x: f64) -> f64 {
    x.sqrt()
}
