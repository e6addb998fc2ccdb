//! YAML 1.2 or JSON text as a tree that remembers where each value stood.
//!
//! Scalars follow the YAML core schema: `1e-3` is a number, `.inf` and `.nan`
//! too, `no` and `"1"` are strings. Strict where configuration should be:
//! duplicate keys, merge keys, unknown tags, several documents and numbers
//! beyond 64 bits are mistakes. Everything is bounded by [`Limits`]: bytes,
//! depth, and the size *after* aliases are expanded, so that an alias bomb is
//! refused while it is still small.
//!
//! JSON is YAML, but a megabyte of numbers should not pay for that: a text
//! that begins with a bracket is first read by a plain JSON reader, and by the
//! YAML reader if that one does not understand it.
//!
//! This module knows nothing of what the values mean; see [`crate::decode`].

mod json;
mod scalar;
mod tree;
mod yaml;

pub use tree::{Entry, Map, Node, Value};

use crate::diagnostic::{Diagnostic, Diagnostics, Source, Span};

/// What a text may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest text, in bytes.
    pub bytes: usize,
    /// Deepest nesting of lists and maps.
    pub depth: usize,
    /// Most values, every alias counted in full.
    pub nodes: usize,
}

impl Limits {
    /// For grid files and configuration.
    pub const GRID: Self = Self {
        bytes: 4 << 20,
        depth: 24,
        nodes: 200_000,
    };
    /// For files of numbers: points, minima.
    pub const POINT: Self = Self {
        bytes: 256 << 20,
        depth: 24,
        nodes: 20_000_000,
    };
    /// For what one program sends another.
    pub const WIRE: Self = Self {
        bytes: 1 << 20,
        depth: 24,
        nodes: 50_000,
    };
}

/// Bytes of a file as a text; a mistake if they are not UTF-8.
pub fn source(name: &str, bytes: &[u8], diagnostics: &mut Diagnostics) -> Source {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(error) => {
            let at = error.valid_up_to();
            let found = bytes.get(at).copied().unwrap_or(0);
            diagnostics.push(
                Diagnostic::error(
                    Span::new(at..at + 1),
                    format!("the text is not UTF-8: byte 0x{found:02x}"),
                )
                .help("save the file in the encoding UTF-8"),
            );
            String::from_utf8_lossy(bytes).into_owned()
        }
    };
    Source {
        name: name.to_string(),
        text,
    }
}

/// Reads a text.
///
/// Mistakes go to `diagnostics`. Where a tree could still be made (after a
/// duplicate key, for example: the first one stays) it is returned, so that
/// its reader can look for more mistakes.
pub fn parse(text: &str, limits: Limits, diagnostics: &mut Diagnostics) -> Option<Node> {
    if text.len() > limits.bytes {
        diagnostics.push(Diagnostic::error(
            Span::default(),
            format!(
                "the text has {} bytes, at most {} are read",
                text.len(),
                limits.bytes
            ),
        ));
        return None;
    }
    let body = text.trim_start_matches('\u{feff}').trim_start();
    if body.starts_with(['{', '[']) {
        let mut found = Diagnostics::new();
        if let Some(node) = json::parse(text, limits, &mut found) {
            diagnostics.append(found);
            return Some(node);
        }
    }
    yaml::parse(text, limits, diagnostics)
}

#[cfg(test)]
mod tests;
