//! Many small records by key, in little more memory than they take.
//!
//! Entries lie in chunks, so growing never copies them. The index is an open
//! hash table of positions with linear probing; it grows by a quarter, which
//! keeps it between two thirds and 85 % full: about 6 bytes an entry. A million
//! of them in a hash map of the standard library would take half as much again,
//! and three times as much while it grows.

/// Entries of one chunk.
const CHUNK: usize = 4096;

/// What is found by 128 bits that are as good as random.
pub trait Keyed {
    /// The bits.
    fn key(&self) -> [u64; 2];
}

/// Entries by key; none is ever taken out.
#[derive(Clone, Debug)]
pub struct Compact<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
    /// Position + 1 in the chunks; 0 is free.
    index: Vec<u32>,
}

impl<T> Default for Compact<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
            index: Vec::new(),
        }
    }
}

impl<T: Keyed> Compact<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry of a key.
    pub fn get(&self, key: [u64; 2]) -> Option<&T> {
        let position = self.slot(key).ok()?;
        Some(&self.chunks[position / CHUNK][position % CHUNK])
    }

    /// The same, to be changed; its key must stay.
    pub fn get_mut(&mut self, key: [u64; 2]) -> Option<&mut T> {
        let position = self.slot(key).ok()?;
        Some(&mut self.chunks[position / CHUNK][position % CHUNK])
    }

    /// Adds an entry whose key is not there yet.
    pub fn push(&mut self, entry: T) {
        debug_assert!(self.slot(entry.key()).is_err(), "a key is added once");
        if (self.len + 1) * 20 > self.index.len() * 17 {
            self.grow();
        }
        let Err(slot) = self.slot(entry.key()) else {
            return;
        };
        self.index[slot] = u32::try_from(self.len + 1).expect("fewer than 2³² entries are kept");
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // The first chunk grows by itself, so that a small table stays small.
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        self.chunks.last_mut().expect("pushed above").push(entry);
        self.len += 1;
    }

    /// All entries, in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// Heap bytes in use.
    pub fn bytes(&self) -> usize {
        let entries: usize = self.chunks.iter().map(Vec::capacity).sum();
        entries * size_of::<T>() + self.index.capacity() * size_of::<u32>()
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
                    if self.chunks[position / CHUNK][position % CHUNK].key() == key {
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
            let key = self.chunks[position / CHUNK][position % CHUNK].key();
            if let Err(slot) = self.slot(key) {
                self.index[slot] = position as u32 + 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Pair(u64, u32);

    impl Keyed for Pair {
        fn key(&self) -> [u64; 2] {
            [self.0, self.0.rotate_left(9)]
        }
    }

    fn key(number: u64) -> [u64; 2] {
        Pair(number, 0).key()
    }

    #[test]
    fn an_entry_takes_its_own_size_and_eight_bytes_at_most() {
        let mut table = Compact::default();
        for i in 0..100_000 {
            table.push(Pair(i, 0));
            let entries = i as usize + 1;
            if entries > 2 * CHUNK {
                let most = 24 * (entries + CHUNK);
                assert!(table.bytes() <= most, "{} at {entries}", table.bytes());
            }
        }
    }

    #[test]
    fn every_key_is_found_again_and_no_other() {
        let mut table = Compact::default();
        assert!(table.is_empty() && table.get(key(0)).is_none());
        for i in 0..20_000 {
            assert!(table.get_mut(key(i)).is_none());
            table.push(Pair(i, i as u32));
        }
        for i in 0..20_000 {
            assert_eq!(table.get(key(i)).map(|e| e.1), Some(i as u32));
        }
        assert!(table.get(key(20_000)).is_none());
        assert_eq!((table.iter().count(), table.len()), (20_000, 20_000));
    }
}
