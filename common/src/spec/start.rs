//! Where a run begins.

use std::fmt;

use serde::Serialize;
use serde::ser::Serializer;

use super::{FileRef, entry};

/// How the first θ is drawn or given, CONTRACT §2.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// A draw from a family.
    Drawn {
        /// Which family.
        kind: StartKind,
        /// Multiplies the family's own size; 1 by default.
        scale: f64,
    },
    /// A given θ, from a point file.
    Point(FileRef),
}

impl Start {
    /// `standard` at scale 1.
    pub const STANDARD: Self = Self::Drawn {
        kind: StartKind::Standard,
        scale: 1.0,
    };

    /// Whether two different seeds give two different starts.
    pub fn is_random(&self) -> bool {
        matches!(self, Self::Drawn { .. })
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Scale {
            scale: f64,
        }
        match self {
            Self::Drawn { kind, scale } if *scale == 1.0 => s.serialize_str(kind.name()),
            Self::Drawn { kind, scale } => entry(s, kind.name(), &Scale { scale: *scale }),
            Self::Point(file) => entry(s, "point", file),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drawn { kind, scale } if *scale == 1.0 => f.write_str(kind.name()),
            Self::Drawn { kind, scale } => write!(f, "{}(scale {scale})", kind.name()),
            Self::Point(file) => write!(f, "point({})", file.path),
        }
    }
}

/// The families of starts; `docs/engine.md` gives purpose and source of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(
    missing_docs,
    reason = "the names are the contract's; docs/engine.md describes them"
)]
pub enum StartKind {
    Standard,
    Small,
    Large,
    Saturated,
    Dead,
    ZeroResidual,
    RankDeficient,
    Duplicated,
    Subnetwork,
    SignFlipped,
    Ascent,
}

impl StartKind {
    /// All, in the contract's order.
    pub const ALL: [Self; 11] = [
        Self::Standard,
        Self::Small,
        Self::Large,
        Self::Saturated,
        Self::Dead,
        Self::ZeroResidual,
        Self::RankDeficient,
        Self::Duplicated,
        Self::Subnetwork,
        Self::SignFlipped,
        Self::Ascent,
    ];

    /// The name used in grids, results and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Small => "small",
            Self::Large => "large",
            Self::Saturated => "saturated",
            Self::Dead => "dead",
            Self::ZeroResidual => "zero_residual",
            Self::RankDeficient => "rank_deficient",
            Self::Duplicated => "duplicated",
            Self::Subnetwork => "subnetwork",
            Self::SignFlipped => "sign_flipped",
            Self::Ascent => "ascent",
        }
    }
}
