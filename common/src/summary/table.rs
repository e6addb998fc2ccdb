//! What the fold remembers of each task: 56 bytes, and an index of about 6
//! ([`crate::compact`]).

use sha2::{Digest, Sha256};

use super::Verdict;
use crate::compact::{Compact, Keyed};
use crate::ids::TaskId;

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

impl Keyed for Entry {
    fn key(&self) -> [u64; 2] {
        self.key
    }
}

/// All tasks that something has happened to.
#[derive(Clone, Debug, Default)]
pub(super) struct Table(Compact<Entry>);

impl Table {
    /// The entry of a task.
    pub(super) fn find(&mut self, task: TaskId) -> Option<&mut Entry> {
        self.0.get_mut(key(task))
    }

    /// Whether a task is there.
    pub(super) fn contains(&self, task: TaskId) -> bool {
        self.0.get(key(task)).is_some()
    }

    /// Adds a task that is not there yet.
    pub(super) fn push(&mut self, entry: Entry) {
        self.0.push(entry);
    }

    /// All entries, in order of arrival.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// Heap bytes in use.
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes()
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
                    table.bytes() <= 64 * (entries + 4096),
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
