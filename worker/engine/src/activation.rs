//! σ and its first two derivatives, entry by entry over a block.
//!
//! One pass reads the pre-activations and writes σ(t), σ′(t) and, where a
//! Hessian will be wanted, σ″(t). Convention at a kink: the derivative of the
//! left piece for the monotone ones (relu′(0) = 0, leaky_relu′(0) = slope) and
//! 0 for abs; second derivatives at a jump of the first are those of the same
//! piece.

use common::dispatch;
use common::math::Isa;
use common::math::elementary as e;
use common::math::simd::{LANES, Simd};
use common::spec::Activation;

use crate::formula::Compiled;
use crate::kernels::{Operand, Span};

/// An activation ready to be applied.
#[derive(Clone, Debug)]
pub struct Sigma {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Named(Named),
    Formula(Compiled),
}

#[derive(Clone, Copy, Debug)]
enum Named {
    Identity,
    Relu,
    LeakyRelu(f64),
    Elu,
    Selu,
    Softplus,
    Tanh,
    Sigmoid,
    Atan,
    Softsign,
    Gelu,
    GeluTanh,
    Silu,
    Mish,
    Sin,
    Gaussian,
    Quadratic,
    Cubic,
    Abs,
    Relu6,
    HardTanh,
    SquaredRelu,
}

/// λ and α of selu (Klambauer et al. 2017).
pub const SELU: (f64, f64) = (1.0507009873554805, 1.6732632423543772);

/// σ(t), σ′(t), σ″(t).
type Triple<S> = (<S as Simd>::V, <S as Simd>::V, <S as Simd>::V);

trait Entry: Copy {
    fn eval<S: Simd>(self, s: S, t: S::V) -> Triple<S>;
}

macro_rules! entries {
    ($($name:ident $(($param:ident))? |$s:ident, $t:ident, $zero:ident, $one:ident| $body:block)*) => {$(
        #[derive(Clone, Copy)]
        struct $name $((entries!(@ty $param)))?;
        impl Entry for $name {
            #[inline(always)]
            fn eval<S: Simd>(self, $s: S, $t: S::V) -> Triple<S> {
                $(let $param = self.0;)?
                let $zero = $s.splat(0.0);
                let $one = $s.splat(1.0);
                let _ = ($zero, $one);
                $body
            }
        }
    )*};
    (@ty $param:ident) => { f64 };
}

entries! {
    Identity |s, t, zero, one| { (t, one, zero) }
    Relu |s, t, zero, one| {
        let on = s.lt(zero, t);
        // A NaN must stay visible: max_keep keeps it.
        (s.max_keep(t, zero), s.select(on, one, zero), zero)
    }
    LeakyRelu(slope) |s, t, zero, one| {
        let on = s.lt(zero, t);
        let a = s.splat(slope);
        (s.select(on, t, s.mul(a, t)), s.select(on, one, a), zero)
    }
    Elu |s, t, zero, one| {
        let on = s.lt(zero, t);
        let m = e::expm1(s, s.min_keep(t, zero));
        let d = s.add(m, one);
        (s.select(on, t, m), s.select(on, one, d), s.select(on, zero, d))
    }
    Selu |s, t, zero, one| {
        let on = s.lt(zero, t);
        let (scale, alpha) = SELU;
        let m = e::expm1(s, s.min_keep(t, zero));
        let d = s.mul(s.splat(scale * alpha), s.add(m, one));
        (
            s.select(on, s.mul(s.splat(scale), t), s.mul(s.splat(scale * alpha), m)),
            s.select(on, s.splat(scale), d),
            s.select(on, zero, d),
        )
    }
    Softplus |s, t, zero, one| {
        let x = e::exp_neg_abs(s, t);
        let d = s.div(s.select(s.le(zero, t), one, x), s.add(one, x));
        let q = s.add(one, x);
        (e::softplus_with(s, t, x), d, s.div(x, s.mul(q, q)))
    }
    Tanh |s, t, zero, one| {
        let h = e::tanh(s, t);
        let d = s.fnma(h, h, one);
        (h, d, s.mul(s.mul(s.splat(-2.0), h), d))
    }
    Sigmoid |s, t, zero, one| {
        let x = e::exp_neg_abs(s, t);
        let q = s.add(one, x);
        let h = s.div(s.select(s.le(zero, t), one, x), q);
        let d = s.div(x, s.mul(q, q));
        (h, d, s.mul(d, s.fnma(s.splat(2.0), h, one)))
    }
    Atan |s, t, zero, one| {
        let d = s.div(one, s.fma(t, t, one));
        (e::atan(s, t), d, s.mul(s.mul(s.splat(-2.0), t), s.mul(d, d)))
    }
    Softsign |s, t, zero, one| {
        let r = s.div(one, s.add(one, s.abs(t)));
        let d = s.mul(r, r);
        let sign = s.select(s.lt(zero, t), one, s.select(s.lt(t, zero), s.splat(-1.0), zero));
        (s.mul(t, r), d, s.mul(s.mul(s.splat(-2.0), sign), s.mul(d, r)))
    }
    Gelu |s, t, zero, one| {
        let cdf = s.mul(s.splat(0.5), e::erfc(s, s.mul(t, s.splat(-std::f64::consts::FRAC_1_SQRT_2))));
        let pdf = s.mul(s.splat(0.3989422804014327), e::exp(s, s.mul(s.mul(s.splat(-0.5), t), t)));
        // t·Φ(t) → 0 at −∞, where the product is −∞·0.
        let h = s.select(s.eq(cdf, zero), zero, s.mul(t, cdf));
        let d = s.fma(t, pdf, cdf);
        (h, d, s.mul(pdf, s.fnma(t, t, s.splat(2.0))))
    }
    GeluTanh |s, t, zero, one| {
        let k = s.splat(0.7978845608028654);
        let c = 0.044715;
        let tt = s.mul(t, t);
        let u = s.mul(s.mul(k, t), s.fma(s.splat(c), tt, one));
        let u1 = s.mul(k, s.fma(s.splat(3.0 * c), tt, one));
        let u2 = s.mul(k, s.mul(s.splat(6.0 * c), t));
        let w = e::tanh(s, u);
        let q = s.fnma(w, w, one);
        let half = s.splat(0.5);
        let half_t = s.mul(half, t);
        let cdf = s.fma(half, w, half);
        let qu1 = s.mul(q, u1);
        let inner = s.fnma(s.mul(s.splat(2.0), w), s.mul(qu1, u1), s.mul(q, u2));
        (s.mul(t, cdf), s.fma(half_t, qu1, cdf), s.fma(half_t, inner, qu1))
    }
    Silu |s, t, zero, one| {
        let g = e::sigmoid(s, t);
        let x = e::exp_neg_abs(s, t);
        let q = s.add(one, x);
        let gg = s.div(x, s.mul(q, q));
        let d = s.fma(t, gg, g);
        let d2 = s.mul(gg, s.fma(t, s.fnma(s.splat(2.0), g, one), s.splat(2.0)));
        (s.mul(t, g), d, d2)
    }
    Mish |s, t, zero, one| {
        let x = e::exp_neg_abs(s, t);
        let q = s.add(one, x);
        let g = s.div(s.select(s.le(zero, t), one, x), q);
        let gg = s.div(x, s.mul(q, q));
        let w = e::tanh(s, e::softplus_with(s, t, x));
        let c = s.fnma(w, w, one);
        let d = s.fma(t, s.mul(c, g), w);
        let inner = s.fnma(s.mul(s.splat(2.0), w), s.mul(s.mul(c, g), g), s.mul(c, gg));
        (s.mul(t, w), d, s.fma(t, inner, s.mul(s.splat(2.0), s.mul(c, g))))
    }
    Sin |s, t, zero, one| {
        let (sin, cos) = e::sin_cos(s, t);
        (sin, cos, s.neg(sin))
    }
    Gaussian |s, t, zero, one| {
        let tt = s.mul(t, t);
        let h = e::exp(s, s.neg(tt));
        (h, s.mul(s.mul(s.splat(-2.0), t), h), s.mul(s.fma(s.splat(4.0), tt, s.splat(-2.0)), h))
    }
    Quadratic |s, t, zero, one| { (s.mul(t, t), s.add(t, t), s.splat(2.0)) }
    Cubic |s, t, zero, one| {
        let tt = s.mul(t, t);
        (s.mul(tt, t), s.mul(s.splat(3.0), tt), s.mul(s.splat(6.0), t))
    }
    Abs |s, t, zero, one| {
        let sign = s.select(s.lt(zero, t), one, s.select(s.lt(t, zero), s.splat(-1.0), zero));
        (s.abs(t), sign, zero)
    }
    Relu6 |s, t, zero, one| {
        let six = s.splat(6.0);
        let on = s.and(s.lt(zero, t), s.le(t, six));
        (s.min_keep(s.max_keep(t, zero), six), s.select(on, one, zero), zero)
    }
    HardTanh |s, t, zero, one| {
        let low = s.splat(-1.0);
        let on = s.and(s.lt(low, t), s.le(t, one));
        (s.min_keep(s.max_keep(t, low), one), s.select(on, one, zero), zero)
    }
    SquaredRelu |s, t, zero, one| {
        let p = s.max_keep(t, zero);
        (s.mul(p, p), s.add(p, p), s.select(s.lt(zero, t), s.splat(2.0), zero))
    }
}

#[derive(Clone, Copy)]
struct Call {
    src: *const f64,
    src_stride: usize,
    dst: *mut f64,
    dst_stride: usize,
    first: *mut f64,
    first_stride: usize,
    /// Null when σ″ is not wanted.
    second: *mut f64,
    second_stride: usize,
    /// What σ(t) is added to; null for nothing.
    base: *const f64,
    base_stride: usize,
    features: usize,
    groups: usize,
}

#[inline(always)]
fn pass<S: Simd, E: Entry>(s: S, entry: E, c: Call) {
    for g in 0..c.groups {
        // SAFETY: `Sigma::apply` checked the ranges; source and target may coincide.
        #[expect(unsafe_code, reason = "raw pass over checked ranges")]
        unsafe {
            let src = c.src.add(g * c.src_stride);
            let dst = c.dst.add(g * c.dst_stride);
            let first = c.first.add(g * c.first_stride);
            let second = c.second.wrapping_add(g * c.second_stride);
            let base = c.base.wrapping_add(g * c.base_stride);
            for f in 0..c.features {
                let (mut h, d, d2) = entry.eval(s, s.load_ptr(src.add(f * LANES)));
                if !c.base.is_null() {
                    h = s.add(s.load_ptr(base.add(f * LANES)), h);
                }
                s.store_ptr(h, dst.add(f * LANES));
                s.store_ptr(d, first.add(f * LANES));
                if !c.second.is_null() {
                    s.store_ptr(d2, second.add(f * LANES));
                }
            }
        }
    }
}

impl Sigma {
    /// Prepares an activation.
    pub fn new(activation: &Activation) -> Self {
        let named = match activation {
            Activation::Identity => Named::Identity,
            Activation::Relu => Named::Relu,
            Activation::LeakyRelu { slope } => Named::LeakyRelu(*slope),
            Activation::Elu => Named::Elu,
            Activation::Selu => Named::Selu,
            Activation::Softplus => Named::Softplus,
            Activation::Tanh => Named::Tanh,
            Activation::Sigmoid => Named::Sigmoid,
            Activation::Atan => Named::Atan,
            Activation::Softsign => Named::Softsign,
            Activation::Gelu => Named::Gelu,
            Activation::GeluTanh => Named::GeluTanh,
            Activation::Silu => Named::Silu,
            Activation::Mish => Named::Mish,
            Activation::Sin => Named::Sin,
            Activation::Gaussian => Named::Gaussian,
            Activation::Quadratic => Named::Quadratic,
            Activation::Cubic => Named::Cubic,
            Activation::Abs => Named::Abs,
            Activation::Relu6 => Named::Relu6,
            Activation::HardTanh => Named::HardTanh,
            Activation::SquaredRelu => Named::SquaredRelu,
            Activation::Formula(formula) => {
                return Self {
                    kind: Kind::Formula(Compiled::new(formula)),
                };
            }
        };
        Self {
            kind: Kind::Named(named),
        }
    }

    /// σ(t) of one number: any lane of [`Sigma::apply`].
    pub fn value(&self, t: f64) -> f64 {
        self.jet(t)[0]
    }

    /// σ(t), σ′(t), σ″(t) of one number.
    pub fn jet(&self, t: f64) -> [f64; 3] {
        let mut arena = [0.0; 4 * LANES];
        arena[..LANES].fill(t);
        let place = |i: usize| Operand::arena(i * LANES, 1);
        let isa = Isa::current();
        self.apply(
            isa,
            &mut arena,
            place(0),
            place(1),
            place(2),
            Some(place(3)),
            None,
            1,
            1,
        );
        [arena[LANES], arena[2 * LANES], arena[3 * LANES]]
    }

    /// dst = base + σ(src), first = σ′(src), second = σ″(src) where wanted.
    ///
    /// All blocks are `[groups, features, 8]`; `dst` may be `src` or `base`.
    ///
    /// # Panics
    /// If a range lies outside its slice.
    #[expect(clippy::too_many_arguments, reason = "a pass over up to four blocks")]
    pub fn apply(
        &self,
        isa: Isa,
        arena: &mut [f64],
        src: Operand<'_>,
        dst: Operand<'_>,
        first: Operand<'_>,
        second: Option<Operand<'_>>,
        base: Option<Operand<'_>>,
        features: usize,
        groups: usize,
    ) {
        let span = Span::new(arena);
        let call = Call {
            src: src.read(&span, groups, features),
            src_stride: src.stride,
            dst: dst.write(&span, groups, features),
            dst_stride: dst.stride,
            first: first.write(&span, groups, features),
            first_stride: first.stride,
            second: second.map_or(std::ptr::null_mut(), |x| x.write(&span, groups, features)),
            second_stride: second.map_or(0, |x| x.stride),
            base: base.map_or(std::ptr::null(), |x| x.read(&span, groups, features)),
            base_stride: base.map_or(0, |x| x.stride),
            features,
            groups,
        };
        macro_rules! run {
            ($ty:ident, $entry:expr) => {{
                let entry = $entry;
                dispatch!(isa => (), pass, entry: $ty, call: Call)
            }};
        }
        match &self.kind {
            Kind::Formula(compiled) => {
                dispatch!(isa => (), formula_pass, compiled: &Compiled, call: Call);
            }
            Kind::Named(named) => match *named {
                Named::Identity => run!(Identity, Identity),
                Named::Relu => run!(Relu, Relu),
                Named::LeakyRelu(slope) => run!(LeakyRelu, LeakyRelu(slope)),
                Named::Elu => run!(Elu, Elu),
                Named::Selu => run!(Selu, Selu),
                Named::Softplus => run!(Softplus, Softplus),
                Named::Tanh => run!(Tanh, Tanh),
                Named::Sigmoid => run!(Sigmoid, Sigmoid),
                Named::Atan => run!(Atan, Atan),
                Named::Softsign => run!(Softsign, Softsign),
                Named::Gelu => run!(Gelu, Gelu),
                Named::GeluTanh => run!(GeluTanh, GeluTanh),
                Named::Silu => run!(Silu, Silu),
                Named::Mish => run!(Mish, Mish),
                Named::Sin => run!(Sin, Sin),
                Named::Gaussian => run!(Gaussian, Gaussian),
                Named::Quadratic => run!(Quadratic, Quadratic),
                Named::Cubic => run!(Cubic, Cubic),
                Named::Abs => run!(Abs, Abs),
                Named::Relu6 => run!(Relu6, Relu6),
                Named::HardTanh => run!(HardTanh, HardTanh),
                Named::SquaredRelu => run!(SquaredRelu, SquaredRelu),
            },
        }
    }
}

/// As [`pass`], with the formula interpreted.
#[inline(always)]
fn formula_pass<S: Simd>(s: S, compiled: &Compiled, c: Call) {
    /// Formulas up to this size need no heap.
    const SMALL: usize = 64;
    let mut small = [s.splat(0.0); SMALL];
    let mut large = Vec::new();
    let registers: &mut [S::V] = if compiled.registers() <= SMALL {
        &mut small
    } else {
        large.resize(compiled.registers(), s.splat(0.0));
        &mut large
    };
    for g in 0..c.groups {
        // SAFETY: as in `pass`.
        #[expect(unsafe_code, reason = "raw pass over checked ranges")]
        unsafe {
            for f in 0..c.features {
                let t = s.load_ptr(c.src.add(g * c.src_stride + f * LANES));
                let (mut h, d, d2) = compiled.eval(s, t, registers);
                if !c.base.is_null() {
                    h = s.add(s.load_ptr(c.base.add(g * c.base_stride + f * LANES)), h);
                }
                s.store_ptr(h, c.dst.add(g * c.dst_stride + f * LANES));
                s.store_ptr(d, c.first.add(g * c.first_stride + f * LANES));
                if !c.second.is_null() {
                    s.store_ptr(d2, c.second.add(g * c.second_stride + f * LANES));
                }
            }
        }
    }
}
