//! A line search to the strong Wolfe conditions, as a state machine.
//!
//! Along φ(α) = f(x + α d) with φ′(0) < 0 a step is accepted when
//!
//! * φ(α) ≤ φ(0) + c₁ α φ′(0) and |φ′(α)| ≤ c₂ |φ′(0)| (strong Wolfe), or
//! * φ(α) ≤ φ(0) + ε, φ′(α) ≤ (2c₁ − 1)·φ′(0) and |φ′(α)| ≤ c₂ |φ′(0)| (approximate
//!   Wolfe, Hager & Zhang 2005), which still works when φ(α) − φ(0) is rounding.
//!
//! Until a bracket is found steps grow; then the cubic through both ends is
//! minimised, safeguarded by bisection (Moré & Thuente 1994). A step with a
//! value that is not a finite number is an upper end without a cubic.

use serde::{Deserialize, Serialize};

const C1: f64 = 1e-4;
const C2: f64 = 0.9;
/// Evaluations before giving up.
const LIMIT: u32 = 40;

/// One end of the bracket: α, φ(α), φ′(α).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct End {
    step: f64,
    value: f64,
    slope: f64,
}

/// What to do after an evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Take the step that was just evaluated.
    Accept,
    /// Evaluate at this step.
    Try(f64),
    /// No acceptable step exists within the limit.
    Fail,
}

/// State of one search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LineSearch {
    origin: End,
    low: End,
    /// None while unbracketed; a value that is not finite when nothing is known there.
    high: Option<End>,
    step: f64,
    evaluations: u32,
    /// Widths of the bracket, the last and the one before.
    widths: [f64; 2],
    epsilon: f64,
}

impl LineSearch {
    /// A search from φ(0) = `value`, φ′(0) = `slope` < 0, first trying `step`.
    pub fn new(value: f64, slope: f64, step: f64) -> Self {
        let origin = End {
            step: 0.0,
            value,
            slope,
        };
        Self {
            origin,
            low: origin,
            high: None,
            step,
            evaluations: 0,
            widths: [f64::INFINITY; 2],
            epsilon: 1e-15 * value.abs(),
        }
    }

    /// The step to evaluate.
    pub fn step(&self) -> f64 {
        self.step
    }

    /// Takes φ and φ′ at [`LineSearch::step`].
    pub fn tell(&mut self, value: f64, slope: f64) -> Verdict {
        self.evaluations += 1;
        let end = End {
            step: self.step,
            value,
            slope,
        };
        let o = self.origin;
        if !(value.is_finite() && slope.is_finite()) {
            self.high = Some(End {
                value: f64::INFINITY,
                ..end
            });
        } else {
            let wolfe = value <= o.value + C1 * self.step * o.slope;
            let approximate =
                value <= o.value + self.epsilon && slope <= (2.0 * C1 - 1.0) * o.slope;
            let flat = slope.abs() <= C2 * o.slope.abs();
            if (wolfe || approximate) && flat {
                return Verdict::Accept;
            }
            let decreases = (wolfe || approximate) && value <= self.low.value + self.epsilon;
            if !decreases || slope >= 0.0 {
                self.high = Some(end);
            } else {
                self.low = end;
            }
        }
        if self.evaluations >= LIMIT {
            return Verdict::Fail;
        }
        let next = match self.high {
            None => self.extrapolate(),
            Some(high) => self.interpolate(high),
        };
        let width = (next - self.low.step).abs();
        if !(width > 4.0 * f64::EPSILON * next.abs()) || !next.is_finite() {
            return Verdict::Fail;
        }
        self.step = next;
        Verdict::Try(next)
    }

    /// A longer step: the cubic's minimiser if it lies within 2 to 10 times.
    fn extrapolate(&self) -> f64 {
        let (a, b) = (self.origin, self.low);
        let cubic = cubic_minimizer(a, b);
        let (least, most) = (2.0 * b.step, 10.0 * b.step);
        if cubic.is_finite() {
            cubic.clamp(least, most)
        } else {
            most
        }
    }

    fn interpolate(&mut self, high: End) -> f64 {
        let width = high.step - self.low.step;
        let slow = width > 0.66 * self.widths[1];
        self.widths = [width, self.widths[0]];
        if !high.value.is_finite() {
            return self.low.step + 0.1 * width;
        }
        let middle = self.low.step + 0.5 * width;
        if slow {
            return middle;
        }
        let cubic = cubic_minimizer(self.low, high);
        let margin = 0.05 * width;
        if cubic.is_finite() {
            cubic.clamp(self.low.step + margin, high.step - margin)
        } else {
            middle
        }
    }
}

/// Minimiser of the cubic with the values and slopes of two points
/// (Nocedal & Wright, *Numerical Optimization*, eq. 3.59).
fn cubic_minimizer(a: End, b: End) -> f64 {
    let d1 = a.slope + b.slope - 3.0 * (a.value - b.value) / (a.step - b.step);
    let square = d1.mul_add(d1, -(a.slope * b.slope));
    if !(square >= 0.0) {
        return f64::NAN;
    }
    let d2 = square.sqrt().copysign(b.step - a.step);
    b.step - (b.step - a.step) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2.0 * d2))
}
