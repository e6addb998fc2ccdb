//! Values as canonical bytes.
//!
//! One value has one encoding, and two values have two:
//!
//! | value | bytes |
//! |---|---|
//! | nothing | `00` |
//! | false, true | `01`, `02` |
//! | integer | `03`, 8 bytes |
//! | number | `04`, the 8 bytes of the f64; −0 as 0, every NaN as the quiet one |
//! | text | `05`, length, UTF-8 |
//! | bytes | `06`, length, bytes |
//! | list | `07`, count, items |
//! | map | `08`, count, then key (length, UTF-8) and value, sorted by key |
//!
//! Integers, lengths (4 bytes) and counts (4 bytes) are big-endian. Tags and
//! lengths make the encoding prefix-free, so encodings can be joined.

use std::collections::BTreeMap;

/// A value to encode.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// Nothing.
    Null,
    /// A flag.
    Bool(bool),
    /// A size, a count, a seed.
    Int(u64),
    /// A number.
    Float(f64),
    /// A name.
    Str(String),
    /// A hash.
    Bytes(Vec<u8>),
    /// A list.
    Seq(Vec<Tree>),
    /// Fields.
    Map(BTreeMap<&'static str, Tree>),
}

impl Tree {
    /// A name.
    pub fn name(name: &str) -> Self {
        Self::Str(name.to_owned())
    }

    /// A size.
    pub fn size(n: usize) -> Self {
        Self::Int(n as u64)
    }

    /// A map of the given fields.
    pub fn map<const N: usize>(fields: [(&'static str, Self); N]) -> Self {
        Self::Map(fields.into_iter().collect())
    }

    /// Its canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Appends its canonical bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(0),
            Self::Bool(b) => out.push(1 + u8::from(*b)),
            Self::Int(n) => {
                out.push(3);
                out.extend(n.to_be_bytes());
            }
            Self::Float(x) => {
                out.push(4);
                out.extend(canonical_bits(*x).to_be_bytes());
            }
            Self::Str(s) => {
                out.push(5);
                block(out, s.as_bytes());
            }
            Self::Bytes(b) => {
                out.push(6);
                block(out, b);
            }
            Self::Seq(items) => {
                out.push(7);
                length(out, items.len());
                items.iter().for_each(|i| i.encode_into(out));
            }
            Self::Map(fields) => {
                out.push(8);
                length(out, fields.len());
                for (key, value) in fields {
                    block(out, key.as_bytes());
                    value.encode_into(out);
                }
            }
        }
    }
}

/// The bits of a number by which it is known.
pub fn canonical_bits(x: f64) -> u64 {
    if x.is_nan() {
        f64::NAN.to_bits()
    } else if x == 0.0 {
        0
    } else {
        x.to_bits()
    }
}

fn block(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len());
    out.extend(bytes);
}

fn length(out: &mut Vec<u8>, n: usize) {
    let n = u32::try_from(n).expect("specifications are smaller than 4 GiB");
    out.extend(n.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_encoding_is_the_documented_one() {
        let tree = Tree::map([
            (
                "b",
                Tree::Seq(vec![Tree::Null, Tree::Bool(true), Tree::Int(258)]),
            ),
            ("a", Tree::Float(-0.0)),
        ]);
        let want = [
            &[8, 0, 0, 0, 2, 0, 0, 0, 1, b'a', 4, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[
                0, 0, 0, 1, b'b', 7, 0, 0, 0, 3, 0, 2, 3, 0, 0, 0, 0, 0, 0, 1, 2,
            ],
        ]
        .concat();
        assert_eq!(tree.encode(), want);
        assert_eq!(Tree::Float(1.5).encode(), [4, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
    }

    fn trees() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![
            Just(Tree::Null),
            any::<bool>().prop_map(Tree::Bool),
            (0..5_u64).prop_map(Tree::Int),
            (0..5_u8).prop_map(|x| Tree::Float(f64::from(x))),
            "[ab]{0,2}".prop_map(Tree::Str),
            proptest::collection::vec(0..3_u8, 0..3).prop_map(Tree::Bytes),
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Tree::Seq),
                proptest::collection::btree_map(
                    proptest::sample::select(vec!["a", "b", "ab"]),
                    inner,
                    0..3
                )
                .prop_map(Tree::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn equal_bytes_mean_equal_values(a in trees(), b in trees()) {
            prop_assert_eq!(a.encode() == b.encode(), a == b);
        }

        #[test]
        fn no_encoding_begins_another(a in trees(), b in trees()) {
            let (x, y) = (a.encode(), b.encode());
            prop_assert!(x == y || !y.starts_with(&x));
        }
    }
}
