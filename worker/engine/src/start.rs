//! Where runs begin: θ₀ of every family of CONTRACT §2.
//!
//! | start | θ₀ | what it is for |
//! |---|---|---|
//! | `standard` | [`common::layout::standard_start`] | what people do |
//! | `small` | the standard start times 0.01·scale, all of it | the neighbourhood of θ = 0, where V z is flat (Saxe et al. 2014) |
//! | `large` | standard at scale 10·scale | the far field: steep or wildly oscillating bodies |
//! | `saturated` | biases ±10·scale, random signs | flat tails of bounded activations |
//! | `dead` | biases −10·scale | units that are off for every row (relu: zero gradient) |
//! | `zero_residual` | V = 0 (`none`: W = 0; `chain`: every V_l = 0) | the classical model embedded |
//! | `rank_deficient` | W of rank one (zero for one output) | the stratum that head coordinates cannot see (THEORY §1.7) |
//! | `duplicated` | units in equal pairs, in and out | the invariant subspaces of permutations (Fukumizu & Amari 2000) |
//! | `subnetwork` | odd units switched off: equal to the even ones going in, 0 going out | the embedded narrower network (Fukumizu & Amari 2000) |
//! | `sign_flipped` | V such that W V = −R₂, where (R₁, R₂) is the best head on z | the residual pulls the wrong way |
//! | `ascent` | steepest ascent from standard until the objective is 10 times as large | basins above the usual ones |
//! | `point` | a given θ | controls |
//!
//! Where a family draws, it draws the numbers of the standard start of the same seed.

use common::data::DataError;
use common::layout::{ArrayKind, ParamArray, standard_start};
use common::rng::{Philox, Purpose};
use common::spec::{Skip, Start, StartKind};

use crate::task::Cell;

/// Why a run cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The content of the point file is not at hand, or cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// θ₀ of a start.
pub(crate) fn theta<'b>(
    cell: &Cell,
    start: &Start,
    seed: u64,
    _content: impl Fn(&str) -> Option<&'b [u8]>,
) -> Result<Vec<f64>, StartError> {
    match start {
        Start::Drawn { kind: _, scale } => Ok(standard_start(cell.arrays(), seed, *scale)),
        Start::Point(file) => Err(DataError::NoContent {
            path: file.path.clone(),
        }
        .into()),
    }
}
