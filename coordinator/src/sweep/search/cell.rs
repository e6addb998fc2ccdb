//! What a search remembers of one cell.
//!
//! Everything in here is a function of the *set* of results, not of their order: counts, and the
//! highest distinct minima with the earliest finder of each, where earlier means a lower round and
//! within a round a smaller task.

use std::collections::BTreeMap;

use common::ids::TaskId;
use common::math::scalar;

use super::arms::{ARMS, Draw, Origin};

/// Most distinct minima that are remembered.
const TOP: usize = 16;

/// A distinct minimum.
#[derive(Clone, Copy, Debug)]
struct Finder {
    round: u32,
    task: TaskId,
    /// `None` for starts that are no candidates.
    arm: Option<u8>,
    /// `None` for given points.
    origin: Option<Origin>,
}

/// A certified or uncertified run, as the search sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// 0 for the grid's.
    pub(super) round: u32,
    pub(super) task: TaskId,
    pub(super) arm: Option<u8>,
    pub(super) origin: Option<Origin>,
    /// The value of a certified run.
    pub(super) minimum: Option<f64>,
}

/// What is known of one cell.
#[derive(Clone, Debug, Default)]
pub(super) struct CellStats {
    /// Pulls of each arm that are recorded or set aside.
    tried: [u32; ARMS],
    runs: u32,
    certified: u32,
    worst: Option<f64>,
    /// Distinct minima, by [`level`].
    top: BTreeMap<i64, Finder>,
}

/// Minima closer than 1e-9·max(1, |value|) are one. Monotone, and with no regard to which of them
/// came first.
fn level(value: f64) -> i64 {
    let size = value.abs();
    let scaled = if size <= 1.0 {
        size
    } else {
        1.0 + scalar::ln(size)
    };
    (scaled * 1e9).round().copysign(value) as i64
}

impl CellStats {
    pub(super) fn recorded(&mut self, found: &Found) {
        self.count(found.arm, 1);
        let Some(value) = found.minimum else {
            return;
        };
        self.certified += 1;
        self.worst = Some(self.worst.map_or(value, |worst| worst.max(value)));
        let level = level(value);
        let new = Finder {
            round: found.round,
            task: found.task,
            arm: found.arm,
            origin: found.origin,
        };
        let holder = self.top.entry(level).or_insert(new);
        if (new.round, new.task) < (holder.round, holder.task) {
            *holder = new;
        }
        if self.top.len() > TOP {
            self.top.pop_first();
        }
    }

    /// A pull that was given up: it found nothing.
    pub(super) fn set_aside(&mut self, arm: Option<u8>) {
        self.count(arm, 1);
    }

    /// A pull that was given up has a result after all.
    pub(super) fn taken_up(&mut self, arm: Option<u8>) {
        self.count(arm, -1);
    }

    fn count(&mut self, arm: Option<u8>, by: i32) {
        self.runs = self.runs.saturating_add_signed(by);
        if let Some(tried) = arm.and_then(|arm| self.tried.get_mut(usize::from(arm))) {
            *tried = tried.saturating_add_signed(by);
        }
    }

    /// The largest value of a certified run.
    pub(super) fn worst(&self) -> Option<f64> {
        self.worst
    }

    /// Runs that are recorded or set aside.
    pub(super) fn runs(&self) -> u32 {
        self.runs
    }

    /// Whether nothing has been certified.
    pub(super) fn is_barren(&self) -> bool {
        self.certified == 0
    }

    /// How many of the highest minima count as successes: an eighth of the certified runs, so that
    /// the bar rises as more is known.
    fn n_top(&self) -> usize {
        (self.certified as usize / 8).clamp(2, TOP)
    }

    /// How many of the minima above the bar each arm found first.
    fn successes(&self) -> [u32; ARMS] {
        let mut found = [0; ARMS];
        for finder in self.top.values().rev().take(self.n_top()) {
            if let Some(f) = finder.arm.and_then(|arm| found.get_mut(usize::from(arm))) {
                *f += 1;
            }
        }
        found
    }

    /// Where the runs began that found the minima above the bar, worst first.
    pub(super) fn parents(&self) -> Vec<Origin> {
        let top = self.top.values().rev().take(self.n_top());
        top.filter_map(|finder| finder.origin).collect()
    }

    /// Pulls and successes of each arm.
    pub(super) fn arms(&self) -> impl Iterator<Item = (usize, u32, u32)> {
        let successes = self.successes();
        (0..ARMS).map(move |arm| (arm, self.tried[arm], successes[arm]))
    }

    /// The arm to pull: a draw from each arm's posterior of finding a new minimum above the bar
    /// (a normal with the moments of a beta), the largest wins. `pending` pulls have been decided
    /// in this round and count as failures until they are known.
    pub(super) fn choose(&self, pending: &[u32; ARMS], draw: Draw) -> usize {
        let mut best = (f64::NEG_INFINITY, 0);
        for (arm, tried, successes) in self.arms() {
            let n = f64::from(tried + pending[arm]);
            let mean = (f64::from(successes) + 0.5) / (n + 1.0);
            let mean = mean.min(1.0);
            let deviation = (mean * (1.0 - mean) / (n + 2.0)).sqrt();
            let sample = deviation.mul_add(draw.normal(arm), mean);
            if sample > best.0 {
                best = (sample, arm);
            }
        }
        best.1
    }
}
