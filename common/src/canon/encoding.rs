//! Canonical values and their bytes.
//!
//! | value | bytes |
//! |---|---|
//! | nothing | `00` |
//! | false, true | `01`, `02` |
//! | whole number | `03`, 8 bytes |
//! | real number | `04`, the 8 bytes of the f64; −0 as 0, every NaN as one |
//! | text | `05`, length, UTF-8 |
//! | bytes | `06`, length, bytes |
//! | list | `07`, count, the elements |
//! | map | `08`, count, key (length, UTF-8) and value for each, keys ascending |
//!
//! Lengths and counts have 4 bytes; all numbers are big-endian. Every value
//! says where it ends, so no two different values have the same bytes and a
//! sequence of values is as unambiguous as one.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// A value whose bytes do not depend on how it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Canonical {
    /// Nothing.
    Null,
    /// A truth value.
    Flag(bool),
    /// A whole number.
    Whole(u64),
    /// A real number.
    Real(f64),
    /// A text.
    Text(String),
    /// Bytes, for example a hash.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Canonical>),
    /// A map.
    Map(BTreeMap<&'static str, Canonical>),
}

impl Canonical {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A list of a name and more.
    pub fn tagged(name: &str, rest: impl IntoIterator<Item = Self>) -> Self {
        let mut list = vec![Self::text(name)];
        list.extend(rest);
        Self::List(list)
    }

    /// Appends the bytes of the value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(0),
            Self::Flag(flag) => out.push(1 + u8::from(*flag)),
            Self::Whole(x) => {
                out.push(3);
                out.extend(x.to_be_bytes());
            }
            Self::Real(x) => {
                out.push(4);
                let x = if x.is_nan() { f64::NAN } else { x + 0.0 };
                out.extend(x.to_bits().to_be_bytes());
            }
            Self::Text(text) => {
                out.push(5);
                sized(text.as_bytes(), out);
            }
            Self::Bytes(bytes) => {
                out.push(6);
                sized(bytes, out);
            }
            Self::List(list) => {
                out.push(7);
                length(list.len(), out);
                list.iter().for_each(|value| value.encode(out));
            }
            Self::Map(map) => {
                out.push(8);
                length(map.len(), out);
                for (key, value) in map {
                    sized(key.as_bytes(), out);
                    value.encode(out);
                }
            }
        }
    }

    /// The bytes of the value.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// SHA-256 of the bytes.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }
}

fn sized(bytes: &[u8], out: &mut Vec<u8>) {
    length(bytes.len(), out);
    out.extend(bytes);
}

fn length(length: usize, out: &mut Vec<u8>) {
    // The texts of a specification are bounded by the budgets of `node`, far
    // below 4 GiB.
    let length = u32::try_from(length).expect("specifications are small");
    out.extend(length.to_be_bytes());
}
