//! Colours and axes.

use common::summary::{CellSummary, tolerance};

use super::html::decade;

/// A step of a colour scale: its class in the style sheet, and what it stands for.
pub(super) type Step = (&'static str, &'static str);

/// Steps of the excess, relative to max(1, |baseline|); the same in every report, so that two
/// reports can be laid side by side.
pub(super) const EXCESS: [Step; 11] = [
    ("b5", "below −1e-1"),
    ("b4", "−1e-1 to −1e-2"),
    ("b3", "−1e-2 to −1e-4"),
    ("b2", "−1e-4 to −1e-6"),
    ("b1", "−1e-6 to the tolerance"),
    ("n0", "at the baseline"),
    ("o1", "the tolerance to +1e-6"),
    ("o2", "+1e-6 to +1e-4"),
    ("o3", "+1e-4 to +1e-2"),
    ("o4", "+1e-2 to +1e-1"),
    ("o5", "above +1e-1"),
];

/// Steps of the certified share.
pub(super) const SHARE: [Step; 6] = [
    ("s0", "none"),
    ("s1", "under 25 %"),
    ("s2", "25 to 50 %"),
    ("s3", "50 to 75 %"),
    ("s4", "75 % and more"),
    ("s5", "all"),
];

/// The class of an excess; `None` if it is not a number.
pub(crate) fn excess_class(excess: f64, baseline: f64) -> Option<&'static str> {
    if excess.is_nan() {
        return None;
    }
    if excess.abs() <= tolerance(baseline) {
        return Some("n0");
    }
    let size = excess.abs() / baseline.abs().max(1.0);
    let step = [1e-6, 1e-4, 1e-2, 1e-1]
        .iter()
        .filter(|t| size > **t)
        .count();
    let index = if excess < 0.0 { 4 - step } else { 6 + step };
    Some(EXCESS[index].0)
}

/// The class of a certified share.
pub(crate) fn share_class(certified: u64, runs: u64) -> &'static str {
    if certified == 0 {
        return SHARE[0].0;
    }
    if certified == runs {
        return SHARE[5].0;
    }
    let quarter = (4.0 * certified as f64 / runs as f64) as usize;
    SHARE[1 + quarter.min(3)].0
}

/// The class of the worst certified minimum of a cell.
pub(super) fn worst_class(cell: &CellSummary) -> Option<&'static str> {
    let excess = cell.worst.as_ref()?.excess?;
    excess_class(excess.0, cell.baseline?.value.0)
}

/// A linear axis from a range of values to pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    /// Width of the drawing, pixels.
    width: f64,
}

/// Pixels left free on either side.
const MARGIN: f64 = 14.0;

impl Axis {
    /// Over some values; those that are not finite do not count.
    pub(super) fn over(values: impl Iterator<Item = f64>, width: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for x in values.filter(|x| x.is_finite()) {
            (low, high) = (low.min(x), high.max(x));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        // Differences that no one can see as such are not blown up to the whole width.
        let least = 1e-6 * low.abs().max(high.abs()).max(1e-6);
        if high - low < least {
            (low, high) = (low - least / 2.0, high + least / 2.0);
        }
        Self { low, high, width }
    }

    /// Pixel of a value; `None` outside the axis.
    pub(super) fn at(&self, x: f64) -> Option<f64> {
        let share = (x - self.low) / (self.high - self.low);
        (-1e-9..=1.0 + 1e-9)
            .contains(&share)
            .then_some(MARGIN + share * (self.width - 2.0 * MARGIN))
    }

    /// Whether a value lies left of the axis.
    pub(super) fn is_below(&self, x: f64) -> bool {
        x < self.low
    }

    /// Round values along the axis, with their text.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let rough = (self.high - self.low) / 4.0;
        let unit: f64 = format!("1e{}", decade(rough)).parse().unwrap_or(1.0);
        let step = unit
            * [1.0, 2.0, 5.0, 10.0]
                .into_iter()
                .find(|m| m * unit >= rough)
                .unwrap_or(10.0);
        let digits = (-decade(step)).clamp(0, 12) as usize;
        let first = (self.low / step).ceil();
        (0..6)
            .map(|k| (first + f64::from(k)) * step)
            .filter_map(|x| {
                let text = format!("{x:.digits$}").replace('-', "−");
                Some((self.at(x)?, text))
            })
            .collect()
    }
}
