//! Plain JSON (RFC 8259), fast; anything else is left to the YAML reader.

use super::tree::{Entry, Map, Node, Value};
use super::{Limits, scalar};
use crate::diagnostic::{Diagnostics, Span};

/// The tree of a JSON text; `None` if the text is not JSON, holds a number
/// that cannot be kept, or exceeds a limit. Only duplicate keys are reported.
pub(super) fn parse(text: &str, limits: Limits, diagnostics: &mut Diagnostics) -> Option<Node> {
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        at: if text.starts_with('\u{feff}') { 3 } else { 0 },
        nodes: limits.nodes,
        depth: limits.depth,
        diagnostics,
    };
    let node = reader.value()?;
    reader.space();
    (reader.at == text.len()).then_some(node)
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// How many more nodes and levels are allowed.
    nodes: usize,
    depth: usize,
    diagnostics: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn value(&mut self) -> Option<Node> {
        self.nodes = self.nodes.checked_sub(1)?;
        let first = self.peek()?;
        let start = self.at;
        let value = match first {
            b'{' => self.nested(Self::map)?,
            b'[' => self.nested(Self::list)?,
            b'"' => Value::Str(self.string()?),
            b'-' | b'0'..=b'9' => self.number()?,
            _ => self.word()?,
        };
        let span = Span::new(start..self.at);
        Some(Node { span, value })
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Option<Value>) -> Option<Value> {
        self.depth = self.depth.checked_sub(1)?;
        self.at += 1;
        let value = inner(self)?;
        self.depth += 1;
        Some(value)
    }

    fn list(&mut self) -> Option<Value> {
        let mut items = Vec::new();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(Value::Seq(items));
        }
        loop {
            items.push(self.value()?);
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Some(Value::Seq(items));
                }
                _ => return None,
            }
        }
    }

    fn map(&mut self) -> Option<Value> {
        let mut entries = Vec::new();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(Value::Map(Map::default()));
        }
        loop {
            self.peek()?;
            let start = self.at;
            let key = self.string()?;
            let key_span = Span::new(start..self.at);
            self.eat(b':')?;
            let value = self.value()?;
            entries.push(Entry {
                key,
                key_span,
                value,
            });
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(Value::Map(Map::new(entries, self.diagnostics)));
                }
                _ => return None,
            }
        }
    }

    fn word(&mut self) -> Option<Value> {
        for (word, value) in [
            ("null", Value::Null),
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
        ] {
            if self.bytes[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Some(value);
            }
        }
        None
    }

    /// `-? (0 | [1-9][0-9]*) (\.[0-9]+)? ([eE][-+]?[0-9]+)?`
    fn number(&mut self) -> Option<Value> {
        let start = self.at;
        self.at += usize::from(self.bytes[self.at] == b'-');
        let whole = self.at;
        self.digits()?;
        if self.bytes[whole] == b'0' && self.at > whole + 1 {
            return None;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'-' | b'+')));
            self.digits()?;
        }
        scalar::resolve(&self.text[start..self.at]).ok()
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn string(&mut self) -> Option<String> {
        (*self.bytes.get(self.at)? == b'"').then(|| self.at += 1)?;
        let mut out = String::new();
        loop {
            let start = self.at;
            while !matches!(self.bytes.get(self.at)?, b'"' | b'\\' | 0..=0x1f) {
                self.at += 1;
            }
            out.push_str(&self.text[start..self.at]);
            match self.bytes[self.at] {
                b'"' => {
                    self.at += 1;
                    return Some(out);
                }
                b'\\' => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let letter = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4()?;
                if !(0xd800..0xdc00).contains(&high) {
                    return char::from_u32(high);
                }
                self.bytes[self.at..]
                    .starts_with(b"\\u")
                    .then(|| self.at += 2)?;
                let low = self.hex4()?.checked_sub(0xdc00).filter(|l| *l < 0x400)?;
                return char::from_u32(0x10000 + ((high - 0xd800) << 10) + low);
            }
            _ => return None,
        })
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
        self.at += 4;
        u32::from_str_radix(digits, 16).ok().filter(|_| plain)
    }
}
