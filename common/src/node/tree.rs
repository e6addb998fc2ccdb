//! The tree itself.

use std::collections::HashMap;

use crate::diagnostic::{Diagnostic, Diagnostics, Span};

/// A value and the bytes of the text it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it stood; for an alias, where its anchor stands.
    pub span: Span,
    /// What it is.
    pub value: Value,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true`, `false`
    Bool(bool),
    /// An integer between −2⁶³ and 2⁶⁴ − 1.
    Int(i128),
    /// A number with a point or an exponent; `.inf`, `.nan`.
    Float(f64),
    /// Text, quoted or not.
    Str(String),
    /// A list.
    Seq(Vec<Node>),
    /// A map.
    Map(Map),
    /// Something that has been reported already.
    Invalid,
}

/// A map, in the order of the text, without duplicate keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: Vec<Entry>,
}

/// One key with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stood.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

impl Node {
    /// What kind of thing it is, for a message: "a list", "the text `x`".
    pub fn kind(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Bool(b) => format!("`{b}`"),
            Value::Int(i) => format!("the number {i}"),
            Value::Float(x) => format!("the number {x}"),
            Value::Str(s) => format!("the text `{}`", crate::diagnostic::shown(s)),
            Value::Seq(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
            Value::Invalid => "something invalid".into(),
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The map, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub fn as_seq(&self) -> Option<&[Self]> {
        match &self.value {
            Value::Seq(list) => Some(list),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self.value {
            Value::Int(i) => Some(i as f64),
            Value::Float(x) => Some(x),
            _ => None,
        }
    }
}

impl Map {
    /// A map of entries; a key that stands twice is a mistake, and the first
    /// one stays.
    pub(super) fn new(entries: Vec<Entry>, diagnostics: &mut Diagnostics) -> Self {
        let mut map = Self {
            entries: Vec::with_capacity(entries.len()),
        };
        let mut places: HashMap<String, Span> = HashMap::new();
        for entry in entries {
            let first = if map.entries.len() < 16 {
                map.entry(&entry.key).map(|e| e.key_span)
            } else {
                if places.is_empty() {
                    places.extend(map.entries.iter().map(|e| (e.key.clone(), e.key_span)));
                }
                places.insert(entry.key.clone(), entry.key_span)
            };
            match first {
                None => map.entries.push(entry),
                Some(first) => {
                    places.insert(entry.key.clone(), first);
                    let key = crate::diagnostic::shown(&entry.key);
                    diagnostics.push(
                        Diagnostic::error(entry.key_span, format!("the key `{key}` stands twice"))
                            .also(first, "first here"),
                    );
                }
            }
        }
        map
    }

    /// All entries, in the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// The entry of a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.key == key)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.value)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Counts what a text costs while it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) nodes: usize,
    pub(super) bytes: usize,
}

/// Why reading stopped.
pub(super) fn too_much(span: Span, limits: super::Limits, depth: bool) -> Diagnostic {
    if depth {
        Diagnostic::error(
            span,
            format!("lists and maps nest at most {} deep here", limits.depth),
        )
    } else {
        Diagnostic::error(
            span,
            format!("the text has more than {} values", limits.nodes),
        )
        .note("every use of an alias counts as a copy of what its anchor names")
    }
}
