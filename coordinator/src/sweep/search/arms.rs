//! What a search may try in a cell: the candidate arms, and what a pull of one runs.

use common::math::scalar;
use common::rng::{Philox, Purpose};
use common::spec::{Start, StartKind};

/// Starts with a fresh seed, by kind and scale. THEORY §3 found worst minima from dead biases,
/// sub-networks, flipped signs and small weights, for tanh also from saturated, huge and ascending
/// starts; the others are there because a search that never tries them would not know.
pub(super) const FRESH: [(StartKind, f64); 22] = [
    (StartKind::Standard, 1.0),
    (StartKind::Standard, 0.3),
    (StartKind::Standard, 3.0),
    (StartKind::Small, 1.0),
    (StartKind::Small, 10.0),
    (StartKind::Large, 0.5),
    (StartKind::Large, 1.0),
    (StartKind::Saturated, 0.1),
    (StartKind::Saturated, 0.3),
    (StartKind::Saturated, 1.0),
    (StartKind::Dead, 0.1),
    (StartKind::Dead, 0.3),
    (StartKind::Dead, 1.0),
    (StartKind::ZeroResidual, 1.0),
    (StartKind::RankDeficient, 1.0),
    (StartKind::Duplicated, 1.0),
    (StartKind::Duplicated, 3.0),
    (StartKind::Subnetwork, 1.0),
    (StartKind::SignFlipped, 1.0),
    (StartKind::SignFlipped, 3.0),
    (StartKind::Ascent, 1.0),
    (StartKind::Ascent, 10.0),
];

/// Arms that begin at a known bad minimum's start instead of a fresh one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refine {
    /// The same draws, the scale up to an eighth of an octave away.
    Near,
    /// The same draws, the scale up to an octave away.
    Far,
    /// The same draws and scale in another family.
    Kind,
}

pub(super) const REFINE: [Refine; 3] = [Refine::Near, Refine::Far, Refine::Kind];

/// Number of arms in a cell.
pub(super) const ARMS: usize = FRESH.len() + REFINE.len();

/// What an arm is called in logs.
pub(super) fn name(arm: usize) -> String {
    match FRESH.get(arm) {
        Some((kind, scale)) => {
            let (kind, scale) = (*kind, *scale);
            Start::Drawn { kind, scale }.to_string()
        }
        None => match REFINE[arm - FRESH.len()] {
            Refine::Near => "near a worst".to_owned(),
            Refine::Far => "around a worst".to_owned(),
            Refine::Kind => "a worst's draws, other kind".to_owned(),
        },
    }
}

/// The arm whose fresh runs begin so, if there is one.
pub(super) fn arm_of(start: &Start) -> Option<u8> {
    let Start::Drawn { kind, scale } = start else {
        return None;
    };
    let at = FRESH.iter().position(|fresh| fresh == &(*kind, *scale))?;
    u8::try_from(at).ok()
}

/// Where a run begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Origin {
    pub(super) kind: StartKind,
    pub(super) scale: f64,
    pub(super) seed: u64,
}

impl Origin {
    pub(super) fn start(self) -> Start {
        Start::Drawn {
            kind: self.kind,
            scale: self.scale,
        }
    }
}

/// Draws of one attempt to choose a run, each at an address of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    pub(super) rng: Philox,
    /// Number of the run among those of the search.
    pub(super) run: u32,
    /// Counts up when a choice has been run already.
    pub(super) attempt: u32,
}

/// What the draws of an attempt are for; the last part of their address.
const SEED: u32 = 0;
const PARENT: u32 = 1;
const STEP: u32 = 2;
const OTHER: u32 = 3;
/// Those of the arms follow.
const ARM: u32 = 16;

impl Draw {
    fn word(self, what: u32) -> u64 {
        self.rng
            .words(Purpose::Search, self.run, self.attempt, what)[0]
    }

    fn below(self, bound: usize, what: u32) -> usize {
        let bound = bound.max(1) as u64;
        self.rng
            .below(bound, Purpose::Search, self.run, self.attempt, what) as usize
    }

    /// A standard normal number for an arm.
    pub(super) fn normal(self, arm: usize) -> f64 {
        let what = ARM + arm as u32;
        self.rng
            .normal(Purpose::Search, self.run, self.attempt, what)
    }

    /// A seed in 2⁵²..2⁵³: no grid counts that far by habit, and every reader of JSON keeps it
    /// exactly.
    pub(super) fn fresh_seed(self) -> u64 {
        (1 << 52) | (self.word(SEED) >> 12)
    }

    /// One of the parents, the first ones more often: the density falls as 1/√.
    fn parent(self, parents: &[Origin]) -> Option<Origin> {
        let last = parents.len().checked_sub(1)?;
        let u = self
            .rng
            .uniform(Purpose::Search, self.run, self.attempt, PARENT);
        parents
            .get(((u * u * parents.len() as f64) as usize).min(last))
            .copied()
    }

    /// What a pull of an arm runs. `parents` are the starts of the worst minima, worst first;
    /// without any, refinement draws a fresh standard start.
    pub(super) fn origin(self, arm: usize, parents: &[Origin]) -> Origin {
        let fresh = |(kind, scale)| Origin {
            kind,
            scale,
            seed: self.fresh_seed(),
        };
        if let Some(start) = FRESH.get(arm) {
            return fresh(*start);
        }
        let Some(parent) = self.parent(parents) else {
            return fresh(FRESH[0]);
        };
        let step = |from: i32, to: i32| {
            let size = from + self.below((to - from + 1) as usize, STEP) as i32;
            if self.word(OTHER) & 1 == 0 {
                size
            } else {
                -size
            }
        };
        match REFINE.get(arm - FRESH.len()) {
            Some(Refine::Near) => Origin {
                scale: shifted(parent.scale, step(1, 2)),
                ..parent
            },
            Some(Refine::Far) => Origin {
                scale: shifted(parent.scale, step(3, 16)),
                ..parent
            },
            Some(Refine::Kind) | None => Origin {
                kind: StartKind::ALL[self.below(StartKind::ALL.len(), OTHER)],
                ..parent
            },
        }
    }
}

/// Steps of the scale to an octave.
const STEPS: f64 = 16.0;
/// Smallest and largest scale, in steps.
const RANGE: (i32, i32) = (-112, 112);

/// A scale some steps away, on the lattice 2^(i/16), rounded to four digits. A lattice keeps the
/// number of different starts small however long the search.
pub(super) fn shifted(scale: f64, steps: i32) -> f64 {
    let octaves = scalar::ln(scale) / std::f64::consts::LN_2;
    let at = (octaves * STEPS).round() as i32 + steps;
    let at = at.clamp(RANGE.0, RANGE.1);
    let scale = scalar::exp(f64::from(at) / STEPS * std::f64::consts::LN_2);
    format!("{scale:.3e}").parse().unwrap_or(scale)
}
