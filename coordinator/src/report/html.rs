//! Text of the page: escaping, and numbers as people read them.

use std::fmt::Write;

use common::summary::Number;
use serde::Serialize;

/// A page that grows.
#[derive(Default)]
pub(super) struct Html(String);

impl Html {
    /// Adds markup as it is.
    pub(super) fn raw(&mut self, markup: &str) {
        self.0.push_str(markup);
    }

    /// Begins a section; `end` closes it.
    pub(super) fn section(&mut self, id: &str, title: &str) {
        // Writing to a string cannot fail.
        let _ = write!(
            self.0,
            "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{}</h2>\n",
            escape(title)
        );
    }

    /// Ends a section.
    pub(super) fn end(&mut self) {
        self.raw("</section>\n");
    }

    /// A paragraph of plain text.
    pub(super) fn paragraph(&mut self, class: &str, text: &str) {
        let _ = writeln!(self.0, "<p class=\"{class}\">{}</p>", escape(text));
    }

    /// The row of heads of a table.
    pub(super) fn heads(&mut self, heads: &[&str]) {
        self.raw("<thead><tr>");
        for head in heads {
            let _ = write!(self.0, "<th scope=\"col\">{}</th>", escape(head));
        }
        self.raw("</tr></thead>\n");
    }

    /// The page.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Text with nothing left that markup could be made of.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Control characters are not allowed in a document.
            c if c.is_control() && c != '\n' && c != '\t' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A number that is not finite, in the words of `summary.json`.
fn non_finite(x: f64) -> Option<&'static str> {
    match x {
        x if x.is_nan() => Some("NaN"),
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        _ => None,
    }
}

/// The k of 10^k ≤ x < 10^(k + 1), for positive x, as its shortest decimal form has it.
pub(super) fn decade(x: f64) -> i32 {
    let text = format!("{x:e}");
    let exponent = text.rsplit_once('e').map(|(_, e)| e.parse());
    exponent.and_then(Result::ok).unwrap_or(0)
}

/// Six significant digits: `0.264031`, `3.1e-12`.
pub(super) fn number(x: f64) -> String {
    if let Some(text) = non_finite(x) {
        return text.to_owned();
    }
    let size = x.abs();
    let text = if x == 0.0 {
        "0".to_owned()
    } else if (1e-4..1e6).contains(&size) {
        // At most 5 digits before the point, so from 0 to 9 behind it.
        let digits = (5 - decade(size)).clamp(0, 9) as usize;
        format!("{x:.digits$}")
    } else {
        format!("{x:.2e}")
    };
    text.replace('-', "−").replace("e−", "e-")
}

/// The same, `–` for nothing.
pub(super) fn optional(x: Option<Number>) -> String {
    x.map_or_else(|| "–".to_owned(), |x| number(x.0))
}

/// Two significant digits with a sign: `−4.6e-2`; 0 has none.
pub(super) fn signed(x: f64) -> String {
    if let Some(text) = non_finite(x) {
        return text.to_owned();
    }
    if x == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{x:+.1e}");
    text.strip_prefix('-')
        .map_or(text.clone(), |rest| format!("−{rest}"))
}

/// The name that a value has in the results: `infimum_not_attained`, without underscores.
pub(super) fn name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text.replace('_', " "),
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

/// `1 run`, `2 runs`.
pub(super) fn count(n: u64, what: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{n} {what}{ending}")
}
