//! Trees to specifications, all mistakes collected with their places.
//!
//! One decoder reads what people write in grid files and what the programs
//! send each other: the notation that [`crate::spec`] serialises is the grid's
//! own, with the SHA-256 of every file filled in. On the wire that hash is
//! required and no path is ever opened; in a grid it is computed through a
//! [`Files`].
//!
//! A reader that finds a mistake reports it and returns `None`; its caller
//! goes on with the next value.

mod data;
mod field;
mod rules;
mod value;
mod variant;
mod wire;

pub use field::{Draft, FIELDS, Field, FieldInfo, Name, Setting, Shape, names_below, resolve};
pub use rules::{Problem, RULES, Rule};
pub use variant::{Argument, Variant, Variants};
pub use wire::{decode_cell, decode_start, decode_task};

pub(crate) use data::{DATA_KEYS, GENERATOR_KEYS, TEACHER_KEYS};
pub(crate) use value::{ACTIVATION, BODY, FEATURES, FREEZE, LOSS, OPTIMIZER, SKIP, START};

use crate::diagnostic::{Diagnostic, Diagnostics, Span, shown};
use crate::ids::{self, BlobId};
use crate::node::{Map, Node, Value};
use crate::spec::FileRef;
use crate::suggest::nearest;

/// Where the content of a file that a grid names comes from.
pub trait Files {
    /// The SHA-256 of a file's content, or why it cannot be read.
    ///
    /// # Errors
    /// A few words for people, without the path.
    fn hash(&mut self, path: &str) -> Result<BlobId, String>;
}

/// Reads values and collects mistakes.
pub struct Decoder<'a> {
    /// Where the mistakes go.
    pub diagnostics: &'a mut Diagnostics,
    /// `None` on the wire: hashes are given, paths are only names.
    files: Option<&'a mut dyn Files>,
}

impl std::fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.files.is_some() { "grid" } else { "wire" };
        write!(f, "Decoder({kind}, {} mistakes)", self.diagnostics.len())
    }
}

/// A field that a map gives, and where.
#[derive(Clone, Copy, Debug)]
pub struct Given<'n> {
    /// The field.
    pub field: Field,
    /// Where its name stood.
    pub key: Span,
    /// Its value.
    pub node: &'n Node,
}

const LONGEST_PATH: usize = 4096;

impl<'a> Decoder<'a> {
    /// For a grid.
    pub fn grid(diagnostics: &'a mut Diagnostics, files: &'a mut dyn Files) -> Self {
        Self {
            diagnostics,
            files: Some(files),
        }
    }

    /// For what another program sent.
    pub fn wire(diagnostics: &'a mut Diagnostics) -> Self {
        Self {
            diagnostics,
            files: None,
        }
    }

    /// Reports a mistake.
    pub fn error(&mut self, mistake: Diagnostic) {
        self.diagnostics.push(mistake);
    }

    fn wrong_type<T>(&mut self, node: &Node, what: &str, expected: &str) -> Option<T> {
        if node.value != Value::Invalid {
            let message = format!("{what} must be {expected}, found {}", node.kind());
            self.error(Diagnostic::error(node.span, message).label(format!("expected {expected}")));
        }
        None
    }

    /// `true` or `false`.
    pub fn flag(&mut self, node: &Node, what: &str) -> Option<bool> {
        match &node.value {
            Value::Bool(x) => Some(*x),
            Value::Str(s) if matches!(s.as_str(), "yes" | "no" | "on" | "off") => {
                let truth = matches!(s.as_str(), "yes" | "on");
                let message = format!("{what} must be `true` or `false`, found the text `{s}`");
                self.error(Diagnostic::error(node.span, message).help(format!("write `{truth}`")));
                None
            }
            _ => self.wrong_type(node, what, "`true` or `false`"),
        }
    }

    /// A whole number of `min ..= max`.
    pub fn whole(&mut self, node: &Node, what: &str, min: u64, max: u64) -> Option<u64> {
        let found = match node.value {
            Value::Int(i) => i,
            // 1e6 is a float to YAML and a whole number to everybody else.
            Value::Float(x) if x.fract() == 0.0 && x.abs() < 9_007_199_254_740_992.0 => x as i128,
            _ => return self.wrong_type(node, what, "a whole number"),
        };
        let message = if found < i128::from(min) {
            format!("{what} must be at least {min}, found {found}")
        } else if found > i128::from(max) {
            format!("{what} must be at most {max}, found {found}")
        } else {
            return u64::try_from(found).ok();
        };
        self.error(Diagnostic::error(node.span, message));
        None
    }

    /// [`whole`](Self::whole) for sizes in memory.
    pub(crate) fn size(&mut self, node: &Node, what: &str, max: u64) -> Option<usize> {
        let x = self.whole(node, what, 1, max)?;
        usize::try_from(x).ok()
    }

    /// A finite number; −0 is 0.
    pub fn real(&mut self, node: &Node, what: &str) -> Option<f64> {
        match node.as_f64() {
            Some(x) if x.is_finite() => Some(x + 0.0),
            Some(x) => {
                let message = format!("{what} must be a finite number, found {x}");
                self.error(Diagnostic::error(node.span, message));
                None
            }
            None => self.wrong_type(node, what, "a number"),
        }
    }

    /// A finite number, at least (or, with `above`, greater than) `min`.
    pub fn real_from(&mut self, node: &Node, what: &str, min: f64, above: bool) -> Option<f64> {
        let x = self.real(node, what)?;
        if x > min || x == min && !above {
            return Some(x);
        }
        let bound = if above { "greater than" } else { "at least" };
        let message = format!("{what} must be {bound} {min}, found {x}");
        self.error(Diagnostic::error(node.span, message));
        None
    }

    /// A text.
    pub fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Str(s) => Some(s),
            _ => self.wrong_type(node, what, "a text"),
        }
    }

    /// A list with at least one element.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        match &node.value {
            Value::Seq(items) if items.is_empty() => {
                let message = format!("{what} is an empty list");
                self.error(Diagnostic::error(node.span, message).label("nothing in it"));
                None
            }
            Value::Seq(items) => Some(items),
            _ => self.wrong_type(node, what, "a list"),
        }
    }

    /// A map.
    pub fn map<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n Map> {
        match &node.value {
            Value::Map(map) => Some(map),
            _ => self.wrong_type(node, what, "a map"),
        }
    }

    /// Reports the keys of a map that are not among `known`; `owner` says
    /// what the map is.
    pub fn known_keys(&mut self, map: &Map, owner: &str, known: &[&str]) {
        for entry in map {
            if !known.contains(&entry.key.as_str()) {
                let message = format!("unknown key `{}` in {owner}", shown(&entry.key));
                self.unknown_name(entry.key_span, &entry.key, message, known);
            }
        }
    }

    /// Reports an unknown name of something.
    pub fn unknown(&mut self, span: Span, name: &str, what: &str, known: &[&str]) {
        let message = format!("unknown {what} `{}`", shown(name));
        self.unknown_name(span, name, message, known);
    }

    fn unknown_name(&mut self, span: Span, name: &str, message: String, known: &[&str]) {
        let mistake = Diagnostic::error(span, message);
        self.error(match nearest(name, known.iter().copied()) {
            Some(meant) => mistake.help(format!("did you mean `{meant}`?")),
            None => {
                let plain: Vec<&str> = known.iter().copied().filter(|n| !n.contains('.')).collect();
                mistake.note(format!("known are {}", plain.join(", ")))
            }
        });
    }

    /// A file: `PATH`, or `{path: PATH, sha256: HASH}`.
    pub fn file(&mut self, node: &Node, what: &str) -> Option<FileRef> {
        match &node.value {
            Value::Str(_) => self.file_parts(node, None, what),
            Value::Map(map) => {
                self.known_keys(map, "a file", &["path", "sha256"]);
                let Some(path) = map.get("path") else {
                    let message = format!("{what} has no `path`");
                    self.error(Diagnostic::error(node.span, message));
                    return None;
                };
                self.file_parts(path, map.get("sha256"), what)
            }
            _ => self.wrong_type(node, what, "the path of a file"),
        }
    }

    /// A file whose path and hash stand apart.
    pub(crate) fn file_parts(
        &mut self,
        path: &Node,
        hash: Option<&Node>,
        what: &str,
    ) -> Option<FileRef> {
        let name = self.text(path, what)?;
        if name.is_empty() || name.len() > LONGEST_PATH || name.contains('\0') {
            let message = format!("`{}` is not the path of a file", shown(name));
            self.error(Diagnostic::error(path.span, message));
            return None;
        }
        let given = match hash {
            Some(node) => Some(self.hash(node)?),
            None => None,
        };
        let id = match (&mut self.files, given) {
            (None, Some(given)) => given,
            (None, None) => {
                let message = format!("the file `{}` has no `sha256`", shown(name));
                self.error(Diagnostic::error(path.span, message));
                return None;
            }
            (Some(files), given) => match (files.hash(name), given) {
                (Ok(found), Some(given)) if found != given => {
                    let message =
                        format!("`{}` has another content than `sha256` says", shown(name));
                    let span = hash.map_or(path.span, |h| h.span);
                    self.error(
                        Diagnostic::error(span, message).note(format!("its SHA-256 is {found}")),
                    );
                    return None;
                }
                (Ok(found), _) => found,
                (Err(why), _) => {
                    let message = format!("cannot read `{}`: {why}", shown(name));
                    self.error(Diagnostic::error(path.span, message));
                    return None;
                }
            },
        };
        Some(FileRef {
            path: name.to_string(),
            sha256: ids::to_hex(id.as_bytes()),
        })
    }

    fn hash(&mut self, node: &Node) -> Option<BlobId> {
        let text = self.text(node, "`sha256`")?;
        match text.parse() {
            Ok(id) => Some(id),
            Err(why) => {
                let message = format!("`sha256` is no SHA-256: {why}");
                self.error(Diagnostic::error(node.span, message));
                None
            }
        }
    }

    /// The fields of a map: dotted names and nested maps below `prefix`
    /// (empty, or a group), in the order of the text. `others` are keys that
    /// the caller reads itself.
    pub fn fields<'n>(&mut self, map: &'n Map, prefix: &str, others: &[&str]) -> Vec<Given<'n>> {
        let mut given = Vec::new();
        self.collect(map, prefix, others, &mut given);
        let mut unique: Vec<Given<'n>> = Vec::with_capacity(given.len());
        for new in given {
            match unique.iter().find(|g| g.field == new.field) {
                None => unique.push(new),
                Some(old) => {
                    let message = format!("`{}` is given twice", new.field.name());
                    self.error(Diagnostic::error(new.key, message).also(old.key, "first here"));
                }
            }
        }
        unique
    }

    fn collect<'n>(
        &mut self,
        map: &'n Map,
        prefix: &str,
        others: &[&str],
        given: &mut Vec<Given<'n>>,
    ) {
        for entry in map {
            if others.contains(&entry.key.as_str()) {
                continue;
            }
            let path = if prefix.is_empty() {
                entry.key.clone()
            } else {
                format!("{prefix}.{}", entry.key)
            };
            match resolve(&path) {
                Some(Name::Field(field)) => given.push(Given {
                    field,
                    key: entry.key_span,
                    node: &entry.value,
                }),
                Some(Name::Group) => {
                    if let Some(inner) = self.map(&entry.value, &format!("`{path}`")) {
                        self.collect(inner, &path, &[], given);
                    }
                }
                None => {
                    let mut known = names_below(prefix);
                    known.extend(others);
                    self.unknown(entry.key_span, &entry.key, "field", &known);
                }
            }
        }
    }

    /// The value of a field.
    pub fn setting(&mut self, field: Field, node: &Node) -> Option<Setting> {
        let what = format!("`{}`", field.name());
        match field.info().shape {
            Shape::Flag => self.flag(node, &what).map(Setting::Flag),
            Shape::Whole { min, max } => self.whole(node, &what, min, max).map(Setting::Whole),
            Shape::Real { null: true, .. } if node.value == Value::Null => {
                Some(Setting::Seconds(None))
            }
            Shape::Real { min, above, null } => {
                let x = self.real_from(node, &what, min, above)?;
                Some(if null {
                    Setting::Seconds(Some(x))
                } else {
                    Setting::Real(x)
                })
            }
            Shape::Own => self.own(field, node),
        }
    }
}

#[cfg(test)]
mod tests;
