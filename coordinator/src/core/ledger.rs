//! What a sweep remembers of each recorded run: 24 bytes, and an index of about 6.

use common::compact::{Compact, Keyed};
use common::ids::TaskId;

/// Half of a task's identity: two of 10⁹ tasks share it with probability 10⁻²¹.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key([u64; 2]);

impl From<&TaskId> for Key {
    fn from(id: &TaskId) -> Self {
        let (words, _) = id.0.as_chunks::<8>();
        Self([u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])])
    }
}

#[derive(Debug)]
struct Line {
    key: [u64; 2],
    mark: u64,
}

impl Keyed for Line {
    fn key(&self) -> [u64; 2] {
        self.key
    }
}

/// Recorded runs, each with a mark of its evidence.
#[derive(Debug, Default)]
pub(super) struct Ledger(Compact<Line>);

impl Ledger {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.0.get(key.0).is_some()
    }

    /// The mark of a recorded run.
    pub(super) fn mark(&self, key: &Key) -> Option<u64> {
        self.0.get(key.0).map(|line| line.mark)
    }

    /// Enters a run; one that is there gets the new mark.
    pub(super) fn enter(&mut self, key: Key, mark: u64) {
        match self.0.get_mut(key.0) {
            Some(line) => line.mark = mark,
            None => self.0.push(Line { key: key.0, mark }),
        }
    }
}
