//! The notation `name` or `{name: value}`, which most fields share.

use super::Decoder;
use crate::diagnostic::{Diagnostic, Span};
use crate::node::{Node, Value};

/// The alternatives of one notation.
#[derive(Clone, Copy, Debug)]
pub struct Variants {
    /// What they are alternatives of, for messages: `activation`.
    pub what: &'static str,
    /// The alternatives.
    pub list: &'static [Variant],
}

/// One alternative.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// Its name.
    pub name: &'static str,
    /// Whether it takes a value.
    pub argument: Argument,
}

/// Whether an alternative takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Only `name`.
    None,
    /// `name` or `{name: value}`; with an example of a value.
    Optional(&'static str),
    /// Only `{name: value}`; with an example of a value.
    Required(&'static str),
}

impl Variants {
    /// All names.
    pub fn names(&self) -> Vec<&'static str> {
        self.list.iter().map(|v| v.name).collect()
    }
}

/// The alternative that a text names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen<'n> {
    pub(super) name: &'static str,
    pub(super) argument: Option<&'n Node>,
}

impl Decoder<'_> {
    /// The alternative that a node names, and its value.
    pub(super) fn variant<'n>(
        &mut self,
        node: &'n Node,
        variants: &Variants,
    ) -> Option<Chosen<'n>> {
        let what = variants.what;
        match &node.value {
            Value::Str(name) => {
                let variant = self.named(node.span, name, variants)?;
                if let Argument::Required(example) = variant.argument {
                    let message = format!("{what} `{name}` needs a value");
                    let help = format!("write `{{{name}: {example}}}`");
                    self.error(Diagnostic::error(node.span, message).help(help));
                    return None;
                }
                Some(Chosen {
                    name: variant.name,
                    argument: None,
                })
            }
            Value::Map(map) if map.len() == 1 => {
                let entry = map.iter().next()?;
                let variant = self.named(entry.key_span, &entry.key, variants)?;
                if variant.argument == Argument::None {
                    let name = variant.name;
                    let message = format!("{what} `{name}` takes no value");
                    self.error(
                        Diagnostic::error(node.span, message).help(format!("write `{name}`")),
                    );
                    return None;
                }
                Some(Chosen {
                    name: variant.name,
                    argument: Some(&entry.value),
                })
            }
            Value::Map(map) => {
                let message = format!(
                    "{what} must be a name or `{{name: value}}`, found a map with {} keys",
                    map.len()
                );
                self.error(Diagnostic::error(node.span, message));
                None
            }
            Value::Null => {
                let message = format!("{what} is missing its name");
                let mut mistake = Diagnostic::error(node.span, message);
                if variants.list.iter().any(|v| v.name == "none") {
                    mistake = mistake.help("write `none` for no such thing");
                }
                self.error(mistake.note(format!("known are {}", variants.names().join(", "))));
                None
            }
            _ => self.wrong_type(node, what, "a name"),
        }
    }

    fn named(&mut self, span: Span, name: &str, variants: &Variants) -> Option<Variant> {
        let found = variants.list.iter().find(|v| v.name == name);
        if found.is_none() {
            self.unknown(span, name, variants.what, &variants.names());
        }
        found.copied()
    }
}
