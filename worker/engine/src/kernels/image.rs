//! Patches, their adjoint, and pooling, for convolutional bodies.
//!
//! Layout: `[groups, positions, channels, 8]`, positions row by row. A patch
//! lists the 3 × 3 neighbours in reading order, zeros outside the image.

use common::math::Isa;
use common::math::simd::LANES;

use super::{Operand, Place};

fn arena_offset(o: &Operand<'_>) -> usize {
    match o.place {
        Place::Arena(at) => at,
        Place::Shared(_) => unreachable!("written and gathered blocks are in the arena"),
    }
}

/// The neighbour of a position at one of nine taps, if inside the image.
fn neighbour([height, width]: [usize; 2], position: usize, tap: usize) -> Option<usize> {
    let (row, col) = (position / width + tap / 3, position % width + tap % 3);
    // Shifted by one: tap (1, 1) is the position itself.
    let inside = (1..=height).contains(&row) && (1..=width).contains(&col);
    inside.then(|| (row - 1) * width + col - 1)
}

/// dst\[p, tap, c\] = src\[p + tap, c\].
///
/// # Panics
/// If a range lies outside its slice.
pub fn gather(
    arena: &mut [f64],
    image: [usize; 2],
    channels: usize,
    src: Operand<'_>,
    dst: Operand<'_>,
    groups: usize,
) {
    let positions = image[0] * image[1];
    let run = channels * LANES;
    let to = arena_offset(&dst);
    for g in 0..groups {
        for p in 0..positions {
            for tap in 0..9 {
                let at = to + ((g * positions + p) * 9 + tap) * run;
                match neighbour(image, p, tap) {
                    None => arena[at..at + run].fill(0.0),
                    Some(q) => {
                        let from = (g * positions + q) * run;
                        match src.place {
                            Place::Arena(base) => {
                                arena.copy_within(base + from..base + from + run, at);
                            }
                            Place::Shared(x) => {
                                arena[at..at + run].copy_from_slice(&x[from..from + run]);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// dst\[p + tap, c\] += src\[p, tap, c\], positions and taps in ascending order.
///
/// # Panics
/// If a range lies outside its slice.
pub fn scatter(
    isa: Isa,
    arena: &mut [f64],
    image: [usize; 2],
    channels: usize,
    src: Operand<'_>,
    dst: Operand<'_>,
    groups: usize,
) {
    let positions = image[0] * image[1];
    let run = channels * LANES;
    let (from, to) = (arena_offset(&src), arena_offset(&dst));
    for g in 0..groups {
        for p in 0..positions {
            for tap in 0..9 {
                if let Some(q) = neighbour(image, p, tap) {
                    let a = Operand::arena(from + ((g * positions + p) * 9 + tap) * run, channels);
                    let d = Operand::arena(to + (g * positions + q) * run, channels);
                    super::add_into(isa, arena, d, a, d, channels, 1);
                }
            }
        }
    }
}

/// dst\[c\] = (1/positions)·Σ_p src\[p, c\], in ascending order.
///
/// # Panics
/// If a range lies outside its slice.
pub fn pool(
    isa: Isa,
    arena: &mut [f64],
    positions: usize,
    src: Operand<'_>,
    dst: Operand<'_>,
    features: usize,
    groups: usize,
) {
    let run = features * LANES;
    let (from, to) = (arena_offset(&src), arena_offset(&dst));
    let scale = 1.0 / positions as f64;
    for g in 0..groups {
        let d = Operand::arena(to + g * run, features);
        super::zero(arena, d, features, 1);
        for p in 0..positions {
            let a = Operand::arena(from + (g * positions + p) * run, features);
            super::add_into(isa, arena, d, a, d, features, 1);
        }
        for v in &mut arena[to + g * run..][..run] {
            *v *= scale;
        }
    }
}

/// dst\[p, c\] (+)= (1/positions)·src\[c\].
///
/// # Panics
/// If a range lies outside its slice.
pub fn spread(
    arena: &mut [f64],
    positions: usize,
    src: Operand<'_>,
    dst: Operand<'_>,
    features: usize,
    groups: usize,
    accumulate: bool,
) {
    let run = features * LANES;
    let (from, to) = (arena_offset(&src), arena_offset(&dst));
    let scale = 1.0 / positions as f64;
    for g in 0..groups {
        for p in 0..positions {
            for i in 0..run {
                let v = arena[from + g * run + i] * scale;
                let at = to + (g * positions + p) * run + i;
                arena[at] = if accumulate { arena[at] + v } else { v };
            }
        }
    }
}
