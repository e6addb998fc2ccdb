//! Mistakes in a text: where, what, and the way out.
//!
//! Readers of a text (`node`, `decode`, `grid`) push what they find into a
//! [`Diagnostics`] and go on, so that all mistakes of a file are shown in one
//! go. Rendering is rustc's: line, column, the line itself, carets. Text that
//! comes from the file is shown without its control characters.
//!
//! This module does not know what the text means.

use std::fmt::{self, Write as _};
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Level, Origin, Renderer, Snippet};

/// Bytes of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Byte after the last one.
    pub end: u32,
}

impl Span {
    /// The bytes of a range; positions beyond 4 GiB are cut off there.
    pub fn new(range: Range<usize>) -> Self {
        let cut = |x: usize| u32::try_from(x).unwrap_or(u32::MAX);
        Self {
            start: cut(range.start),
            end: cut(range.end),
        }
    }

    /// As a range of positions.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// From the start of this to the end of `other`.
    pub fn to(self, other: Self) -> Self {
        Self {
            start: self.start,
            end: other.end.max(self.start),
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The text cannot be used.
    Error,
    /// The text can be used, but perhaps means something else.
    Warning,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: lower case, no final stop, with the offending value.
    pub message: String,
    /// Where.
    pub span: Span,
    /// A few words under the carets.
    pub label: Option<String>,
    /// Other places that belong to it.
    pub secondary: Vec<(Span, String)>,
    /// What else to know, for example the allowed values.
    pub notes: Vec<String>,
    /// What to write instead.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            span,
            label: None,
            secondary: Vec::new(),
            notes: Vec::new(),
            help: Vec::new(),
        }
    }

    /// A warning at a place.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(span, message)
        }
    }

    /// Adds words under the carets.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Self {
        self.secondary.push((span, label.into()));
        self
    }

    /// Adds a note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds a way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Adds a way out, if there is one.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<impl Into<String>>) -> Self {
        self.help.extend(help.map(Into::into));
        self
    }
}

/// A named text that diagnostics point into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// File name, as the user gave it.
    pub name: String,
    /// The text.
    pub text: String,
}

/// What has been found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

/// More than this many are counted, not shown.
const SHOWN: usize = 100;
/// Longer lines are shown in part only, bytes.
const LONG_LINE: usize = 240;
/// Places farther apart than this are not shown in one snippet, bytes.
const FAR: usize = 1 << 20;

impl Diagnostics {
    /// Nothing found yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    /// Takes over all of `other`.
    pub fn append(&mut self, mut other: Self) {
        self.list.append(&mut other.list);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|d| d.severity == Severity::Error)
    }

    /// All, in the order they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// All, as text for people, in the order of their places; ends with a
    /// newline unless there is none.
    pub fn render(&self, source: &Source, colours: bool) -> String {
        let renderer = if colours {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut order: Vec<&Diagnostic> = self.list.iter().collect();
        order.sort_by_key(|d| d.span);
        let mut out = String::new();
        for diagnostic in order.iter().take(SHOWN) {
            out.push_str(&one(diagnostic, source, &renderer));
            out.push_str("\n\n");
        }
        if order.len() > SHOWN {
            let _ = write!(out, "and {} more\n\n", order.len() - SHOWN);
        }
        out.truncate(out.trim_end().len());
        if !out.is_empty() {
            out.push('\n');
        }
        out
    }
}

/// A text that cannot be used, and everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    /// The text.
    pub source: Source,
    /// What is wrong with it.
    pub diagnostics: Diagnostics,
}

impl Mistakes {
    /// For people.
    pub fn render(&self, colours: bool) -> String {
        self.diagnostics.render(&self.source, colours)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Mistakes {}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn one(diagnostic: &Diagnostic, source: &Source, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let text = source.text.as_str();
    let at = on_one_line(text, diagnostic.span);
    let line = line_around(text, at.start);
    let name = printable(&source.name);
    let title = level.primary_title(printable(&diagnostic.message));
    let shown = snippet(diagnostic, text, at.clone());
    let mut group = if line.len() > LONG_LINE {
        // The excerpt's own columns would be wrong.
        let origin = Origin::path(name)
            .line(1 + text[..line.start].matches('\n').count())
            .char_column(1 + text[line.start..at.start].chars().count());
        title.element(origin).element(shown)
    } else {
        title.element(shown.path(name))
    };
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(printable(note)));
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(printable(help)));
    }
    renderer.render(&[group])
}

/// The lines that the places stand on, each place cut to its first line. Of a
/// line too long to be read only the surroundings of the mistake are shown.
fn snippet<'a>(
    diagnostic: &Diagnostic,
    text: &'a str,
    at: Range<usize>,
) -> Snippet<'a, Annotation<'a>> {
    let secondary = || {
        let places = diagnostic.secondary.iter();
        places.map(|(span, label)| (on_one_line(text, *span), label))
    };
    let mut window = line_around(text, at.start);
    if window.len() > LONG_LINE {
        let start = at.start.saturating_sub(LONG_LINE / 4).max(window.start);
        let end = (at.start + LONG_LINE / 2).min(window.end);
        window = boundary(text, start)..boundary(text, end);
    } else {
        for (place, _) in secondary() {
            let line = line_around(text, place.start);
            let joined = window.start.min(line.start)..window.end.max(line.end);
            if line.len() <= LONG_LINE && joined.len() <= FAR {
                window = joined;
            }
        }
    }
    let inside = |place: Range<usize>| {
        let clip = |x: usize| x.clamp(window.start, window.end) - window.start;
        clip(place.start)..clip(place.end)
    };
    let label = diagnostic.label.as_deref().map(printable);
    let mut snippet = Snippet::source(&text[window.clone()])
        .line_start(1 + text[..window.start].matches('\n').count())
        .annotation(AnnotationKind::Primary.span(inside(at)).label(label));
    for (place, label) in secondary() {
        if window.start <= place.start && place.start <= window.end {
            let kind = AnnotationKind::Context;
            snippet = snippet.annotation(kind.span(inside(place)).label(printable(label)));
        }
    }
    snippet
}

/// The bytes of the line that a position is on.
fn line_around(text: &str, at: usize) -> Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
    let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
    start..end
}

fn on_one_line(text: &str, span: Span) -> Range<usize> {
    let start = boundary(text, span.range().start);
    let end = boundary(text, span.range().end.max(start));
    let end = text[start..end].find('\n').map_or(end, |i| start + i);
    start..end
}

/// The last character boundary at or before a position.
fn boundary(text: &str, position: usize) -> usize {
    let mut at = position.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Without control characters.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A piece of somebody's text for a message: on one line, of bounded length.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut out: String = printable(text).chars().take(LONGEST).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(text: &str) -> Source {
        Source {
            name: "grid.yaml".into(),
            text: text.into(),
        }
    }

    fn at(text: &str, part: &str) -> Span {
        let start = text.find(part).unwrap();
        Span::new(start..start + part.len())
    }

    #[test]
    fn mistakes_are_shown_in_the_order_of_their_places_with_carets() {
        let text = "axes:\n  activaton: [tanhh]\n  depth: 1\n";
        let mut found = Diagnostics::new();
        found.push(
            Diagnostic::error(at(text, "depth"), "`depth` stands twice")
                .also(at(text, "axes"), "first here"),
        );
        found.push(
            Diagnostic::error(at(text, "activaton"), "unknown field `activaton`")
                .label("no such field")
                .note("allowed: …")
                .help("did you mean `activation`?"),
        );
        insta::assert_snapshot!(found.render(&source(text), false), @r"
        error: unknown field `activaton`
         --> grid.yaml:2:3
          |
        2 |   activaton: [tanhh]
          |   ^^^^^^^^^ no such field
          |
          = note: allowed: …
          = help: did you mean `activation`?

        error: `depth` stands twice
         --> grid.yaml:3:3
          |
        1 | axes:
          | ---- first here
        2 |   activaton: [tanhh]
        3 |   depth: 1
          |   ^^^^^
        ");
        assert!(found.render(&source(text), true).contains("\u{1b}["));
    }

    #[test]
    fn a_mistake_in_a_very_long_line_shows_its_surroundings_and_its_column() {
        let text = format!(
            "{{\"W\": [{}x, {}]}}",
            "1.5, ".repeat(1000),
            "1.5, ".repeat(1000)
        );
        let mut found = Diagnostics::new();
        found.push(Diagnostic::error(at(&text, "x"), "expected a number"));
        let shown = found.render(&source(&text), false);
        assert!(shown.contains("grid.yaml:1:5008"), "{shown}");
        assert!(shown.len() < 1_500, "{shown}");
    }

    #[test]
    fn control_characters_of_the_file_do_not_reach_the_terminal() {
        let text = "a: \u{1b}[2J\u{7}\n";
        let mut found = Diagnostics::new();
        found.push(Diagnostic::error(at(text, "a"), "bad \u{1b}[2J").label("\u{7}"));
        let shown = found.render(&source(text), false);
        assert!(!shown.contains(['\u{1b}', '\u{7}']), "{shown:?}");
    }

    #[test]
    fn a_flood_of_mistakes_is_cut_off_with_a_count() {
        let mut found = Diagnostics::new();
        for _ in 0..150 {
            found.push(Diagnostic::error(Span::default(), "no"));
        }
        let shown = found.render(&source("x"), false);
        assert!(shown.ends_with("and 50 more\n"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_place_in_any_text_can_be_shown(
            text in "(.|\n|\t|é|漢|\r){0,40}",
            spans in prop::collection::vec((0u32..60, 0u32..60), 1..4),
        ) {
            let span = |(start, end)| Span { start, end };
            let mut mistake = Diagnostic::error(span(spans[0]), "no").label("here");
            for &place in &spans[1..] {
                mistake = mistake.also(span(place), "and here");
            }
            let mut found = Diagnostics::new();
            found.push(mistake);
            prop_assert!(found.render(&source(&text), false).contains("no"));
        }
    }
}
