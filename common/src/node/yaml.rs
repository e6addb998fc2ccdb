//! YAML events to a tree.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::Limits;
use super::scalar::{self, Unusable};
use super::tree::{Cost, Entry, Map, Node, Value, too_much};
use crate::diagnostic::{Diagnostic, Diagnostics, Span, shown};

/// The tree of a YAML text; `None` where none can be made.
pub(super) fn parse(text: &str, limits: Limits, diagnostics: &mut Diagnostics) -> Option<Node> {
    let places = Places::new(text);
    let mut builder = Builder {
        text,
        limits,
        diagnostics,
        stack: Vec::new(),
        anchors: HashMap::new(),
        cost: Cost { nodes: 0, bytes: 0 },
        root: None,
        documents: 0,
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => {
                let range = places.byte(span.start)..places.byte(span.end);
                builder.event(event, range)
            }
            Err(error) => {
                let at = places.byte(*error.marker());
                let mistake = syntax_error(text, at, error.info());
                Err(Box::new(builder.with_open_bracket(mistake)))
            }
        };
        if let Err(mistake) = step {
            builder.diagnostics.push(*mistake);
            return None;
        }
    }
    Some(builder.root.unwrap_or(Node {
        span: Span::default(),
        value: Value::Null,
    }))
}

fn syntax_error(text: &str, at: usize, info: &str) -> Diagnostic {
    let next = text[at..].chars().next().filter(|c| *c != '\n');
    let span = Span::new(at..at + next.map_or(0, char::len_utf8));
    let message = match info {
        "simple key expect ':'" | "simple key expected" => "expected `:` after this key".into(),
        "misplaced bracket" => "this bracket was never opened".into(),
        "recursion limit exceeded" => "lists and maps nest too deep here".into(),
        info => {
            let info = info.strip_prefix("while ").unwrap_or(info);
            format!("not YAML: {}", info.replace("did not find", "there is no"))
        }
    };
    let help = if info.contains("tab") {
        Some("indent with spaces, not with tabs")
    } else if info.contains("unknown anchor") {
        Some("an alias `*name` needs an anchor `&name` before it")
    } else if info.contains("handle wasn't declared") {
        Some("tags are not used here; quote a text that begins with `!`")
    } else {
        None
    };
    Diagnostic::error(span, message).maybe_help(help)
}

/// Positions of the parser (characters) as bytes.
struct Places<'a> {
    text: &'a str,
    /// Byte of every [`STEP`]-th character; empty for plain ASCII.
    steps: Vec<usize>,
}

const STEP: usize = 128;

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Self {
        let steps = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().step_by(STEP).map(|(i, _)| i).collect()
        };
        Self { text, steps }
    }

    fn byte(&self, marker: Marker) -> usize {
        let index = marker.index();
        let end = self.text.len();
        if self.steps.is_empty() {
            return index.min(end);
        }
        self.steps.get(index / STEP).map_or(end, |&start| {
            let mut rest = self.text[start..].char_indices();
            rest.nth(index % STEP).map_or(end, |(i, _)| start + i)
        })
    }
}

/// A list or map that is still being read.
struct Open {
    start: usize,
    end: usize,
    flow: bool,
    anchor: usize,
    before: Cost,
    /// Levels of the deepest child.
    levels: usize,
    kind: OpenKind,
}

enum OpenKind {
    Seq(Vec<Node>),
    Map(Vec<Entry>, Option<(String, Span)>),
}

/// What an anchor names, and what a copy of it costs.
struct Anchored {
    node: Node,
    cost: Cost,
    levels: usize,
}

struct Builder<'a> {
    text: &'a str,
    limits: Limits,
    diagnostics: &'a mut Diagnostics,
    stack: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    cost: Cost,
    root: Option<Node>,
    documents: usize,
}

type Step<T> = Result<T, Box<Diagnostic>>;

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, range: Range<usize>) -> Step<()> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let mistake = Diagnostic::error(
                        Span::new(range),
                        "a second document begins here, a file holds one",
                    );
                    return Err(Box::new(mistake));
                }
            }
            Event::Alias(id) => self.alias(id, range)?,
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(&text, style, anchor, tag.as_deref(), range)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(
                    OpenKind::Seq(Vec::new()),
                    anchor,
                    tag.as_deref(),
                    "seq",
                    range,
                )?;
            }
            Event::MappingStart(anchor, tag) => {
                self.open(
                    OpenKind::Map(Vec::new(), None),
                    anchor,
                    tag.as_deref(),
                    "map",
                    range,
                )?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(range)?,
        }
        Ok(())
    }

    /// Points to the bracket that is still open where reading stopped.
    fn with_open_bracket(&self, mistake: Diagnostic) -> Diagnostic {
        match self.stack.last() {
            Some(open) if open.flow => mistake.also(
                Span::new(open.start..open.start + 1),
                "this bracket is still open",
            ),
            _ => mistake,
        }
    }

    fn pay(&mut self, nodes: usize, bytes: usize, span: &Range<usize>) -> Step<()> {
        self.cost.nodes += nodes;
        self.cost.bytes += bytes;
        if self.cost.nodes > self.limits.nodes || self.cost.bytes > 4 * self.limits.bytes {
            return Err(Box::new(too_much(
                Span::new(span.clone()),
                self.limits,
                false,
            )));
        }
        Ok(())
    }

    fn open(
        &mut self,
        kind: OpenKind,
        anchor: usize,
        tag: Option<&Tag>,
        own: &str,
        range: Range<usize>,
    ) -> Step<()> {
        let before = self.cost;
        self.pay(1, 0, &range)?;
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == own)
        {
            self.unknown_tag(tag, &range);
        }
        if self.stack.len() == self.limits.depth {
            return Err(Box::new(too_much(Span::new(range), self.limits, true)));
        }
        self.stack.push(Open {
            start: range.start,
            end: range.end,
            flow: self.text[range.start..].starts_with(['[', '{']),
            anchor,
            before,
            levels: 0,
            kind,
        });
        Ok(())
    }

    fn close(&mut self, range: Range<usize>) -> Step<()> {
        let Some(open) = self.stack.pop() else {
            return Ok(());
        };
        let end = if open.flow { range.end } else { open.end };
        let span = Span::new(open.start..end.max(open.start));
        let value = match open.kind {
            OpenKind::Seq(items) => Value::Seq(items),
            OpenKind::Map(entries, _) => Value::Map(Map::new(entries, self.diagnostics)),
        };
        let cost = Cost {
            nodes: self.cost.nodes - open.before.nodes,
            bytes: self.cost.bytes - open.before.bytes,
        };
        let node = Node { span, value };
        self.finish(node, open.anchor, cost, open.levels + 1)
    }

    fn alias(&mut self, id: usize, range: Range<usize>) -> Step<()> {
        let Some(anchored) = self.anchors.get(&id) else {
            let mistake = Diagnostic::error(
                Span::new(range),
                "this alias stands inside what its anchor names",
            );
            return Err(Box::new(mistake));
        };
        let (cost, levels) = (anchored.cost, anchored.levels);
        self.pay(cost.nodes, cost.bytes, &range)?;
        if self.stack.len() + levels > self.limits.depth {
            return Err(Box::new(too_much(Span::new(range), self.limits, true)));
        }
        let node = self.anchors[&id].node.clone();
        if let Some(open) = self.stack.last_mut() {
            open.end = open.end.max(range.end);
        }
        self.finish(node, 0, cost, levels)
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        range: Range<usize>,
    ) -> Step<()> {
        self.pay(1, text.len(), &range)?;
        let plain = style == ScalarStyle::Plain;
        let is_key = matches!(
            self.stack.last(),
            Some(Open {
                kind: OpenKind::Map(_, None),
                ..
            })
        );
        let written = self.text.get(range.clone()).unwrap_or("");
        let end = if plain {
            range.start + written.trim_end().len()
        } else {
            range.end
        };
        let mut span = Span::new(range.start..end);
        if plain && text.is_empty() && !is_key {
            // Nothing has no place of its own: show the key it belongs to.
            if let Some(Open {
                kind: OpenKind::Map(_, Some((_, key))),
                ..
            }) = self.stack.last()
            {
                span = *key;
            }
        }
        let value = match tag {
            _ if is_key && plain => Value::Str(text.to_string()),
            None if plain => self.resolved(text, span),
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix != "str" => {
                let value = self.resolved(text, span);
                if !tag_fits(&tag.suffix, &value) {
                    self.unknown_tag(tag, &span.range());
                }
                value
            }
            Some(tag)
                if !(tag.is_yaml_core_schema() || tag.handle.is_empty() && tag.suffix == "!") =>
            {
                self.unknown_tag(tag, &span.range());
                Value::Invalid
            }
            _ => Value::Str(text.to_string()),
        };
        let cost = Cost {
            nodes: 1,
            bytes: text.len(),
        };
        self.finish(Node { span, value }, anchor, cost, 0)
    }

    fn resolved(&mut self, word: &str, span: Span) -> Value {
        match scalar::resolve(word) {
            Ok(value) => value,
            Err(why) => {
                let word = shown(word);
                let message = match why {
                    Unusable::Integer => format!("the integer `{word}` does not fit into 64 bits"),
                    Unusable::Float => format!("the number `{word}` is too large for a float"),
                };
                self.diagnostics.push(Diagnostic::error(span, message));
                Value::Invalid
            }
        }
    }

    fn unknown_tag(&mut self, tag: &Tag, range: &Range<usize>) {
        let tag = shown(&tag.to_string().replace("tag:yaml.org,2002:!", "!!"));
        self.diagnostics.push(
            Diagnostic::error(
                Span::new(range.clone()),
                format!("the tag `{tag}` is not known here"),
            )
            .help("leave the tag out"),
        );
    }

    /// Puts a finished value where it belongs.
    fn finish(&mut self, node: Node, anchor: usize, cost: Cost, levels: usize) -> Step<()> {
        if anchor > 0 {
            self.pay(0, cost.bytes, &node.span.range())?;
            let node = node.clone();
            self.anchors.insert(anchor, Anchored { node, cost, levels });
        }
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.levels = open.levels.max(levels);
        if node.span.start as usize >= open.start {
            open.end = open.end.max(node.span.end as usize);
        }
        match &mut open.kind {
            OpenKind::Seq(items) => items.push(node),
            OpenKind::Map(entries, pending) => match pending.take() {
                Some((key, key_span)) => entries.push(Entry {
                    key,
                    key_span,
                    value: node,
                }),
                None => *pending = Some(key(node)?),
            },
        }
        Ok(())
    }
}

fn key(node: Node) -> Step<(String, Span)> {
    let span = node.span;
    let mistake = match node.value {
        Value::Str(key) if key == "<<" => {
            Diagnostic::error(span, "merge keys are not used here").help("write the keys out")
        }
        Value::Str(key) => return Ok((key, span)),
        _ => Diagnostic::error(span, format!("a key is a word, not {}", node.kind())),
    };
    Err(Box::new(mistake))
}

fn tag_fits(suffix: &str, value: &Value) -> bool {
    matches!(
        (suffix, value),
        ("null", Value::Null)
            | ("bool", Value::Bool(_))
            | ("int", Value::Int(_))
            | ("float", Value::Float(_) | Value::Int(_))
            | (_, Value::Invalid)
    )
}
