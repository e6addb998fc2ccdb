//! A set of identities that may say "perhaps" but never a wrong "no".
//!
//! Most tasks of a new sweep are not in the store; this spares the look.

use std::sync::atomic::{AtomicU64, Ordering};

use common::ids::TaskId;

/// Bits for each identity that is expected: four probes then give a wrong
/// "perhaps" in 2 of 100 cases.
const BITS_EACH: usize = 8;
const PROBES: usize = 4;

/// A Bloom filter whose probes are the identity's own bytes.
#[derive(Debug)]
pub(super) struct Filter {
    words: Vec<AtomicU64>,
}

impl Filter {
    /// A filter for about this many identities; more make it slower, not wrong.
    pub(super) fn for_about(expected: usize) -> Self {
        let words = (expected * BITS_EACH).next_power_of_two() / 64;
        Self {
            words: (0..words.max(1)).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub(super) fn insert(&self, id: &TaskId) {
        for (word, bit) in self.probes(id) {
            // Who looks after being told of a commit sees its bits: the message
            // orders them.
            self.words[word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether the identity may be in the set.
    pub(super) fn may_contain(&self, id: &TaskId) -> bool {
        self.probes(id)
            .all(|(word, bit)| self.words[word].load(Ordering::Relaxed) & bit != 0)
    }

    fn probes(&self, id: &TaskId) -> impl Iterator<Item = (usize, u64)> {
        let mask = self.words.len() * 64 - 1;
        let (chunks, _) = id.0.as_chunks::<8>();
        let numbers: [u64; PROBES] = std::array::from_fn(|i| u64::from_le_bytes(chunks[i]));
        numbers.into_iter().map(move |number| {
            let bit = number as usize & mask;
            (bit / 64, 1 << (bit % 64))
        })
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn id(n: u32) -> TaskId {
        TaskId(Sha256::digest(n.to_le_bytes()).into())
    }

    #[test]
    fn what_was_put_in_is_never_denied_and_little_else_is_affirmed() {
        let filter = Filter::for_about(2000);
        for n in 0..2000 {
            filter.insert(&id(n));
        }
        assert!((0..2000).all(|n| filter.may_contain(&id(n))));
        let wrong = (2000..12_000)
            .filter(|n| filter.may_contain(&id(*n)))
            .count();
        assert!(wrong < 500, "{wrong} of 10000");
    }
}
