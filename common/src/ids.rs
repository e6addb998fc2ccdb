//! Identities: what names a task, a cell or a baseline everywhere.
//!
//! An identity is the SHA-256 of a canonical specification; computing it is
//! the business of `crate::canon`. Here it is only a value that can be
//! compared, printed and parsed. Identities order as their bytes do, and the
//! order of their hexadecimal forms is the same.

use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text or a byte string is not an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not the right number of hexadecimal digits.
    #[error("an identity has {expected} hexadecimal digits, this one has {found}")]
    Length {
        /// Digits an identity of this kind has.
        expected: usize,
        /// Characters found.
        found: usize,
    },
    /// A character that is no hexadecimal digit.
    #[error("`{found}` at position {position} is not a hexadecimal digit")]
    Digit {
        /// The character.
        found: char,
        /// Its position, in characters from 0.
        position: usize,
    },
}

/// Puts the lower-case hexadecimal digits of bytes into `digits`, as many as go in.
pub fn hex_digits(bytes: &[u8], digits: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Writes bytes as lower-case hexadecimal digits.
pub fn write_hex(f: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    for some in bytes.chunks(32) {
        let mut digits = [0; 64];
        hex_digits(some, &mut digits);
        let text = std::str::from_utf8(&digits[..2 * some.len()]).map_err(|_| fmt::Error)?;
        f.write_str(text)?;
    }
    Ok(())
}

/// Bytes as lower-case hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    write_hex(&mut text, bytes).expect("writing to a string cannot fail");
    text
}

/// Reads exactly `N` bytes from `2 N` hexadecimal digits of either case.
///
/// # Errors
/// [`IdError`] with the offending character or length.
pub fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    let found = text.chars().count();
    if found != 2 * N {
        return Err(IdError::Length {
            expected: 2 * N,
            found,
        });
    }
    let mut bytes = [0_u8; N];
    for (position, found) in text.chars().enumerate() {
        let digit = found
            .to_digit(16)
            .ok_or(IdError::Digit { found, position })?;
        bytes[position / 2] = (bytes[position / 2] << 4) | digit.to_le_bytes()[0];
    }
    Ok(bytes)
}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// Length in bytes.
            pub const BYTES: usize = $bytes;

            /// The bytes.
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                state.write(&self.0);
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "("))?;
                write_hex(f, &self.0[..6])?;
                f.write_str("…)")
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                from_hex(text).map(Self)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                let found = 2 * bytes.len();
                bytes
                    .try_into()
                    .map(Self)
                    .map_err(|_| IdError::Length { expected: 2 * $bytes, found })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

identity! {
    /// Identity of a task: a run or a baseline.
    TaskId, 32
}
identity! {
    /// Identity of a cell: everything of a run but its seed and start.
    CellId, 32
}
identity! {
    /// Identity of a baseline; as a task it has the same bytes.
    BaselineId, 32
}
identity! {
    /// SHA-256 of a file's content.
    BlobId, 32
}
identity! {
    /// Drawn at random by a worker process when it starts; names it over all
    /// its connections.
    WorkerId, 16
}

impl From<BaselineId> for TaskId {
    /// A baseline is computed by a task of the same identity.
    fn from(id: BaselineId) -> Self {
        Self(id.0)
    }
}

/// Hashes identities by eight of their own bytes, which are uniform already.
///
/// Only for keys that are SHA-256 or random bytes: a key chosen by somebody
/// else could be made to collide.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0_u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(5) ^ u64::from_le_bytes(word);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A hash map keyed by identities.
pub type IdMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<IdHasher>>;
/// A hash set of identities.
pub type IdSet<K> = std::collections::HashSet<K, BuildHasherDefault<IdHasher>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_what_it_prints() {
        let id = TaskId(std::array::from_fn(|i| (i * 37) as u8));
        assert_eq!(id.to_string().parse::<TaskId>(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse::<TaskId>(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<TaskId>(&json).unwrap(), id);
    }

    #[test]
    fn a_text_that_is_no_identity_is_refused_with_its_mistake() {
        assert_eq!(
            "12".parse::<CellId>(),
            Err(IdError::Length {
                expected: 64,
                found: 2
            })
        );
        let text = format!("{}g{}", "0".repeat(10), "0".repeat(53));
        assert_eq!(
            text.parse::<CellId>(),
            Err(IdError::Digit {
                found: 'g',
                position: 10
            })
        );
        assert_eq!(
            TaskId::try_from(&[0_u8; 31][..]),
            Err(IdError::Length {
                expected: 64,
                found: 62
            })
        );
    }

    #[test]
    fn identities_order_as_their_hexadecimal_forms_do() {
        let (a, b) = (TaskId([9; 32]), TaskId([0x10; 32]));
        assert!(a < b && a.to_string() < b.to_string());
    }
}
