//! `report.html`: the summary of a sweep as one page for people.
//!
//! One file that needs neither network nor script: tables, and drawings as inline SVG. It shows
//! what `summary.json` holds and adds nothing to it but the provenance.

mod certificates;
mod curves;
mod heat;
mod html;
mod scale;
mod sections;
mod strip;

use common::ids::TaskId;
use common::summary::{CellSummary, Summary};
use serde_json::Value;

use crate::table::{shown, varying};
use html::{Html, escape};
pub(crate) use scale::{excess_class, share_class};

/// What the page says beside the summary.
#[expect(missing_debug_implementations, reason = "it holds a function")]
pub struct Provenance<'a> {
    /// Text of the grid.
    pub grid: &'a str,
    /// When the sweep was created, milliseconds since 1970.
    pub created_at: u64,
    /// run.json: how it was computed.
    pub run: &'a Value,
    /// Whether the parameters of a task lie in `minima/`.
    pub kept: &'a dyn Fn(&TaskId) -> bool,
}

/// The text of `report.html`.
pub fn render(summary: &Summary, provenance: &Provenance<'_>) -> String {
    let fields = varying(&summary.cells);
    let telling = telling(&summary.cells, &fields);
    let view = View {
        summary,
        fields,
        telling,
    };
    let title = escape(&summary.sweep.name);
    let mut page = Html::default();
    page.raw(&format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} – sweep report</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n",
        include_str!("style.css")
    ));
    sections::verdict(&mut page, &view);
    sections::coverage(&mut page, &view);
    heat::section(&mut page, &view);
    curves::section(&mut page, &view);
    strip::section(&mut page, &view);
    sections::cells(&mut page, &view);
    certificates::section(&mut page, &view, provenance);
    sections::provenance(&mut page, &view, provenance);
    sections::glossary(&mut page);
    page.raw("</main>\n</body>\n</html>\n");
    page.finish()
}

/// A summary and the fields in which its cells differ.
struct View<'a> {
    summary: &'a Summary,
    fields: Vec<String>,
    /// Those of them that suffice to tell the cells apart.
    telling: Vec<String>,
}

impl View<'_> {
    /// The value of a field of a cell in few characters; `–` where it has none.
    fn field(cell: &CellSummary, name: &str) -> String {
        let found = cell.cell.0.iter().find(|(field, _)| field == name);
        found.map_or_else(|| "–".to_owned(), |(_, value)| shown(value))
    }

    /// A cell in the fields that tell it from the others: `depth 4 · tanh`.
    fn label(&self, cell: &CellSummary) -> String {
        label(cell, &self.telling)
    }
}

/// Few fields that tell all cells apart, in their order: the one that leaves most cells different
/// is taken first, and so on. In a grid of crossed axes these are all, in one of zipped axes few.
fn telling(cells: &[CellSummary], fields: &[String]) -> Vec<String> {
    let different = |chosen: &[usize]| {
        let keys = cells.iter().map(|cell| {
            let values = chosen.iter().map(|i| View::field(cell, &fields[*i]));
            values.collect::<Vec<_>>()
        });
        keys.collect::<std::collections::HashSet<_>>().len()
    };
    let mut chosen: Vec<usize> = Vec::new();
    let mut reached = 1;
    while reached < cells.len() {
        let next = (0..fields.len())
            .filter(|i| !chosen.contains(i))
            .map(|i| (different(&[chosen.as_slice(), &[i]].concat()), i))
            .max_by_key(|(n, i)| (*n, std::cmp::Reverse(*i)));
        let Some((n, i)) = next else { break };
        chosen.push(i);
        reached = n;
    }
    chosen.sort_unstable();
    chosen.into_iter().map(|i| fields[i].clone()).collect()
}

/// A cell in some of its fields. Words stand alone, numbers with the name of their field.
fn label(cell: &CellSummary, fields: &[String]) -> String {
    let parts: Vec<String> = fields
        .iter()
        .filter_map(|name| {
            let (_, value) = cell.cell.0.iter().find(|(field, _)| field == name)?;
            Some(if value.is_string() || name == "data" {
                shown(value)
            } else {
                format!("{name} {}", shown(value))
            })
        })
        .collect();
    if parts.is_empty() {
        return "the only cell".to_owned();
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests;
