//! Numbers on cache-line boundaries, so that no vector load crosses one.

#![allow(unsafe_code, reason = "a slice of lines seen as a slice of numbers")]

use std::ops::{Deref, DerefMut};

use super::LANES;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f64; LANES]);

/// A growable slice of f64 that starts on a 64-byte boundary.
#[derive(Clone, Debug, Default)]
pub struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self {
            lines: vec![Line([0.0; LANES]); len.div_ceil(LANES)],
            len,
        }
    }

    /// Makes room for `len` numbers; what was there stays, the rest is 0.
    pub fn grow(&mut self, len: usize) {
        if len > self.len {
            self.lines.resize(len.div_ceil(LANES), Line([0.0; LANES]));
            self.len = len;
        }
    }
}

impl Deref for Aligned {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        // SAFETY: `Line` is `repr(C)` of exactly eight f64 and has no padding
        // (8 · 8 = 64 bytes); `len` never exceeds the numbers in `lines`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f64] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
