//! What the fold remembers of each task: 56 bytes, and an index of about 6.
//!
//! Entries lie in chunks, so growing never copies them. The index is an open
//! hash table of positions with linear probing; it grows by a quarter, which
//! keeps it between two thirds and 85 % full.

use sha2::{Digest, Sha256};

use super::Verdict;
use crate::ids::TaskId;

/// Entries of one chunk.
const CHUNK: usize = 4096;
/// Bytes of a leaf: enough that no two results share one (2⁹⁶ work to force it).
const LEAF: usize = 24;

/// What has happened to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Recorded, with the verdict that needs no baseline.
    Recorded(Verdict),
    /// Failed for good.
    Failed,
    /// Cancelled on its own.
    Cancelled,
}

/// One task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    key: [u64; 2],
    /// Fingerprint of identity and evidence; zero unless recorded.
    pub(super) leaf: [u8; LEAF],
    /// Value of the run.
    pub(super) value: f64,
    /// Stratum of a recorded run, else the cell.
    pub(super) place: u32,
    pub(super) state: State,
    pub(super) trivial: bool,
    pub(super) search: bool,
}

const _: () = assert!(size_of::<Entry>() <= 56);

impl Entry {
    /// A task without a result.
    pub(super) fn unrecorded(task: TaskId, cell: u32, state: State) -> Self {
        Self {
            key: key(task),
            leaf: [0; LEAF],
            value: 0.0,
            place: cell,
            state,
            trivial: false,
            search: false,
        }
    }

    /// A task with a result.
    pub(super) fn recorded(
        task: TaskId,
        digest: &[u8; 32],
        verdict: Verdict,
        value: f64,
        stratum: u32,
        trivial: bool,
        search: bool,
    ) -> Self {
        let hash = Sha256::new()
            .chain_update(task.0)
            .chain_update(digest)
            .finalize();
        let mut leaf = [0; LEAF];
        leaf.copy_from_slice(&hash[..LEAF]);
        Self {
            key: key(task),
            leaf,
            value,
            place: stratum,
            state: State::Recorded(verdict),
            trivial,
            search,
        }
    }

    /// Whether two recordings of one task say the same.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        self.leaf == other.leaf && self.place == other.place && self.search == other.search
    }
}

/// 128 bits of an identity. Identities are SHA-256, so any 128 would do; all
/// 256 take part, so that identities made by hand stay apart too.
fn key(task: TaskId) -> [u64; 2] {
    let (words, _) = task.0.as_chunks::<8>();
    let word = |i: usize| u64::from_le_bytes(words[i]);
    [
        word(0) ^ word(2).rotate_left(23),
        word(1) ^ word(3).rotate_left(41),
    ]
}

/// All tasks that something has happened to.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    chunks: Vec<Vec<Entry>>,
    len: usize,
    /// Position + 1 in the chunks; 0 is free.
    index: Vec<u32>,
}

impl Table {
    /// The entry of a task.
    pub(super) fn find(&mut self, task: TaskId) -> Option<&mut Entry> {
        let position = self.slot(key(task)).ok()?;
        Some(&mut self.chunks[position / CHUNK][position % CHUNK])
    }

    /// Whether a task is there.
    pub(super) fn contains(&self, task: TaskId) -> bool {
        self.slot(key(task)).is_ok()
    }

    /// Adds a task that is not there yet.
    pub(super) fn push(&mut self, entry: Entry) {
        debug_assert!(self.slot(entry.key).is_err(), "a task is added once");
        if (self.len + 1) * 20 > self.index.len() * 17 {
            self.grow();
        }
        let Err(slot) = self.slot(entry.key) else {
            return;
        };
        self.index[slot] = u32::try_from(self.len + 1).expect("fewer than 2³² tasks are recorded");
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // The first chunk grows by itself, so that a small fold stays small.
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        self.chunks.last_mut().expect("pushed above").push(entry);
        self.len += 1;
    }

    /// All entries, in order of arrival.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.chunks.iter().flatten()
    }

    /// Heap bytes in use.
    pub(super) fn bytes(&self) -> usize {
        let entries: usize = self.chunks.iter().map(Vec::capacity).sum();
        entries * size_of::<Entry>() + self.index.capacity() * size_of::<u32>()
    }

    /// Position of a key's entry, or the index slot where it belongs.
    fn slot(&self, key: [u64; 2]) -> Result<usize, usize> {
        let size = self.index.len();
        if size == 0 {
            return Err(0);
        }
        let mixed = (key[0] ^ key[1]).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut slot = ((u128::from(mixed) * size as u128) >> 64) as usize;
        loop {
            match self.index[slot] {
                0 => return Err(slot),
                position => {
                    let position = position as usize - 1;
                    if self.chunks[position / CHUNK][position % CHUNK].key == key {
                        return Ok(position);
                    }
                }
            }
            slot = if slot + 1 == size { 0 } else { slot + 1 };
        }
    }

    fn grow(&mut self) {
        let size = (self.index.len() / 4 * 5).max(64);
        self.index = Vec::new();
        self.index.reserve_exact(size);
        self.index.resize(size, 0);
        for position in 0..self.len {
            let key = self.chunks[position / CHUNK][position % CHUNK].key;
            if let Err(slot) = self.slot(key) {
                self.index[slot] = position as u32 + 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(i: u64) -> TaskId {
        let mut bytes = [0; 32];
        bytes[24..].copy_from_slice(&i.to_be_bytes());
        TaskId(bytes)
    }

    #[test]
    fn a_task_takes_at_most_64_bytes() {
        let mut table = Table::default();
        for i in 0..100_000 {
            table.push(Entry::unrecorded(id(i), 0, State::Failed));
            let entries = i as usize + 1;
            if entries > 8192 {
                assert!(
                    table.bytes() <= 64 * (entries + CHUNK),
                    "{} at {entries}",
                    table.bytes()
                );
            }
        }
        assert!(table.bytes() <= 64 * 100_000, "{}", table.bytes());
    }

    #[test]
    fn every_task_is_found_again_and_no_other() {
        let mut table = Table::default();
        for i in 0..20_000 {
            assert!(table.find(id(i)).is_none());
            table.push(Entry::unrecorded(id(i), i as u32, State::Failed));
        }
        for i in 0..20_000 {
            assert_eq!(table.find(id(i)).map(|e| e.place), Some(i as u32));
        }
        assert!(table.find(id(20_000)).is_none());
        assert_eq!(table.iter().count(), 20_000);
    }
}
