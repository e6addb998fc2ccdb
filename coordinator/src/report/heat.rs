//! Heat maps over two axes of the grid, further axes as small multiples.

use std::fmt::Write;

use common::summary::{CellSummary, CellVerdict};

use super::html::{Html, count, escape, number, signed};
use super::scale::{self, Step};
use super::{View, label};

/// Small multiples that are shown at once.
pub(super) const PANELS: usize = 12;
/// Rows of a list of cells that is shown at once.
const ROWS: usize = 60;
/// Height of a cell, pixels.
const HEIGHT: usize = 28;

/// The two axes and what lies where.
pub(super) struct Layout {
    pub(super) row_field: String,
    pub(super) column_field: String,
    pub(super) rows: Vec<String>,
    pub(super) columns: Vec<String>,
    pub(super) panels: Vec<Panel>,
}

/// Cells that differ in the two axes alone.
pub(super) struct Panel {
    pub(super) title: String,
    /// Row, column, index of the cell.
    pub(super) cells: Vec<(usize, usize, usize)>,
}

/// What is drawn for a cell.
struct Mark {
    class: &'static str,
    text: String,
    /// A certified minimum above its baseline: drawn with a border as well.
    above: bool,
}

/// The two heat maps.
pub(super) fn section(page: &mut Html, view: &View<'_>) {
    if view.summary.cells.is_empty() {
        return;
    }
    let layout = layout(view);
    page.section("heat", "Where the minima lie");
    page.raw("<h3>Worst excess of a certified minimum</h3>\n");
    page.paragraph(
        "note",
        "Value minus baseline. The colour goes by the excess relative to max(1, |baseline|): blue \
         below, orange above, grey on the baseline to the tolerance.",
    );
    legend(page, &scale::EXCESS);
    panels(page, view, &layout, &worst, "worst excess");
    page.raw("<h3>Certified share of the runs</h3>\n");
    page.paragraph(
        "note",
        "Certified of recorded runs of the grid. The map above says nothing about the others: \
         certified runs are not a fair sample.",
    );
    legend(page, &scale::SHARE);
    panels(page, view, &layout, &share, "certified share");
    page.end();
}

fn worst(cell: &CellSummary) -> Mark {
    let above = matches!(
        cell.verdict,
        CellVerdict::Violated | CellVerdict::BadMinimumFound
    );
    let (class, text) = match (&cell.worst, cell.baseline) {
        (None, _) => ("none", "none".to_owned()),
        (Some(_), None) => ("none", "no baseline".to_owned()),
        (Some(run), Some(_)) => (
            scale::worst_class(cell).unwrap_or("none"),
            run.excess.map_or_else(|| "–".to_owned(), |e| signed(e.0)),
        ),
    };
    Mark { class, text, above }
}

fn share(cell: &CellSummary) -> Mark {
    let certified = cell.verdicts.certified();
    Mark {
        class: scale::share_class(certified, cell.runs),
        text: format!("{certified} / {}", cell.runs),
        above: false,
    }
}

/// The axes: depth and activation where both vary, else the two with most values. Where no two
/// cells differ in these alone, as in zipped axes, the cells are one under the other.
pub(super) fn layout(view: &View<'_>) -> Layout {
    let cells = &view.summary.cells;
    let values = |name: &str| distinct(cells.iter().map(|c| View::field(c, name)));
    let has = |name: &str| view.fields.iter().any(|f| f == name);
    let (column, row) = if has("depth") && has("activation") {
        ("depth".to_owned(), "activation".to_owned())
    } else {
        let mut fields: Vec<(&String, usize)> =
            view.fields.iter().map(|f| (f, values(f).len())).collect();
        fields.sort_by_key(|f| std::cmp::Reverse(f.1));
        let name = |i: usize| fields.get(i).map_or(String::new(), |f| f.0.clone());
        (name(0), name(1))
    };
    let rows = if row.is_empty() {
        vec![String::new()]
    } else {
        values(&row)
    };
    let columns = values(&column);
    let others: Vec<String> = view
        .fields
        .iter()
        .filter(|f| **f != row && **f != column && !follows(cells, f, [&row, &column]))
        .cloned()
        .collect();
    let mut panels: Vec<Panel> = Vec::new();
    for (index, cell) in cells.iter().enumerate() {
        let title = if others.is_empty() {
            String::new()
        } else {
            label(cell, &others)
        };
        let place = |all: &[String], name: &str| {
            let value = View::field(cell, name);
            all.iter().position(|v| *v == value).unwrap_or(0)
        };
        let entry = (place(&rows, &row), place(&columns, &column), index);
        match panels.iter_mut().find(|p| p.title == title) {
            Some(panel) => panel.cells.push(entry),
            None => panels.push(Panel {
                title,
                cells: vec![entry],
            }),
        }
    }
    if panels.len() * 2 > cells.len() {
        return list(view);
    }
    Layout {
        row_field: row,
        column_field: column,
        rows,
        columns,
        panels,
    }
}

/// All cells one under the other.
fn list(view: &View<'_>) -> Layout {
    let cells = &view.summary.cells;
    let rows: Vec<String> = cells.iter().map(|c| view.label(c)).collect();
    let panels = (0..cells.len()).collect::<Vec<_>>();
    Layout {
        row_field: String::new(),
        column_field: String::new(),
        rows,
        columns: vec![String::new()],
        panels: panels
            .chunks(ROWS)
            .map(|part| Panel {
                title: String::new(),
                cells: part.iter().map(|i| (*i, 0, *i)).collect(),
            })
            .collect(),
    }
}

fn distinct(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

/// Whether a field is the same in all cells that agree in the two axes.
fn follows(cells: &[CellSummary], field: &str, axes: [&str; 2]) -> bool {
    let mut seen = std::collections::HashMap::new();
    cells.iter().all(|cell| {
        let key = axes.map(|axis| View::field(cell, axis));
        let value = View::field(cell, field);
        *seen.entry(key).or_insert_with(|| value.clone()) == value
    })
}

fn legend(page: &mut Html, steps: &[Step]) {
    page.raw("<ul class=\"legend\">");
    for (class, text) in steps {
        page.raw(&format!(
            "<li><span class=\"swatch {class}\"></span>{}</li>",
            escape(text)
        ));
    }
    page.raw("</ul>\n");
}

fn panels(
    page: &mut Html,
    view: &View<'_>,
    layout: &Layout,
    mark: &dyn Fn(&CellSummary) -> Mark,
    what: &str,
) {
    let most = if layout.row_field.is_empty() && layout.column_field.is_empty() {
        1
    } else {
        PANELS
    };
    for (number, panel) in layout.panels.iter().enumerate() {
        if number == 0 {
            page.raw("<div class=\"panels\">\n");
        } else if number == most {
            let more = count((layout.panels.len() - most) as u64, "more map");
            page.raw(&format!(
                "</div>\n<details><summary>{more}</summary>\n<div class=\"panels\">\n"
            ));
        }
        page.raw(&draw(view, layout, panel, mark, what));
    }
    page.raw("</div>\n");
    if layout.panels.len() > most {
        page.raw("</details>\n");
    }
}

/// Width that a text needs, pixels.
fn width(text: &str) -> usize {
    text.chars().count() * 7 + 12
}

/// Longest text of a head.
const LONGEST: usize = 80;

fn shortened(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

fn draw(
    view: &View<'_>,
    layout: &Layout,
    panel: &Panel,
    mark: &dyn Fn(&CellSummary) -> Mark,
    what: &str,
) -> String {
    // Rows and columns without a cell in this panel are left out.
    let used = |pick: fn(&(usize, usize, usize)) -> usize, n: usize| -> Vec<usize> {
        (0..n)
            .filter(|i| panel.cells.iter().any(|c| pick(c) == *i))
            .collect()
    };
    let rows = used(|c| c.0, layout.rows.len());
    let columns = used(|c| c.1, layout.columns.len());
    let both = !layout.row_field.is_empty() && !layout.column_field.is_empty();
    let corner = if both {
        format!("{} ↓", layout.row_field)
    } else {
        layout.column_field.clone()
    };
    let heads = rows.iter().map(|r| shortened(&layout.rows[*r]));
    let left = heads
        .clone()
        .map(|h| width(&h))
        .max()
        .unwrap_or(0)
        .max(width(&corner));
    let texts = panel
        .cells
        .iter()
        .map(|c| mark(&view.summary.cells[c.2]).text);
    let wide = columns
        .iter()
        .map(|c| shortened(&layout.columns[*c]))
        .chain(texts)
        .map(|text| width(&text))
        .max()
        .unwrap_or(0)
        .max(56);
    // Names of the fields, then the values of the columns.
    let line = if both { 35 } else { 17 };
    let top = if corner.is_empty() { 4 } else { line + 8 };
    let (all, high) = (
        left + wide * columns.len() + 2,
        top + HEIGHT * rows.len() + 2,
    );
    let title = [what, &panel.title].join(if panel.title.is_empty() { "" } else { ": " });
    let mut svg = format!(
        "<figure>{}<div class=\"scroll\"><svg role=\"img\" aria-label=\"{label}\" width=\"{all}\" \
         height=\"{high}\" viewBox=\"0 0 {all} {high}\"><title>{label}</title>\n",
        if panel.title.is_empty() {
            String::new()
        } else {
            format!("<figcaption>{}</figcaption>", escape(&panel.title))
        },
        label = escape(&title),
    );
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<text class=\"axis\" x=\"4\" y=\"{line}\">{}</text>",
        escape(&corner)
    );
    if both {
        let _ = writeln!(
            svg,
            "<text class=\"axis\" x=\"{}\" y=\"15\">{} →</text>",
            left + 4,
            escape(&layout.column_field)
        );
    }
    for (i, column) in columns.iter().enumerate() {
        let x = left + wide * i + wide / 2;
        let text = escape(&shortened(&layout.columns[*column]));
        let _ = writeln!(
            svg,
            "<text class=\"middle\" x=\"{x}\" y=\"{line}\">{text}</text>"
        );
    }
    for (i, head) in heads.enumerate() {
        let y = top + HEIGHT * i + HEIGHT / 2 + 4;
        let _ = writeln!(svg, "<text x=\"4\" y=\"{y}\">{}</text>", escape(&head));
    }
    for (row, column, index) in &panel.cells {
        let (Some(i), Some(j)) = (
            rows.iter().position(|r| r == row),
            columns.iter().position(|c| c == column),
        ) else {
            continue;
        };
        let cell = &view.summary.cells[*index];
        let at = (left + wide * j, top + HEIGHT * i);
        svg.push_str(&square(view, cell, &mark(cell), at, wide));
    }
    svg.push_str("</svg></div></figure>\n");
    svg
}

fn square(
    view: &View<'_>,
    cell: &CellSummary,
    mark: &Mark,
    (x, y): (usize, usize),
    wide: usize,
) -> String {
    let mut hint = format!(
        "{}: {}; {} of {} certified",
        view.label(cell),
        mark.text,
        cell.verdicts.certified(),
        count(cell.runs, "run"),
    );
    if let (Some(run), Some(baseline)) = (&cell.worst, cell.baseline) {
        let (value, baseline) = (number(run.value.0), number(baseline.value.0));
        let _ = write!(hint, "; worst minimum {value}, baseline {baseline}");
    }
    format!(
        "<g class=\"{}{}\"><title>{}</title><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" \
         rx=\"2\"/><text class=\"middle\" x=\"{}\" y=\"{}\">{}</text></g>\n",
        mark.class,
        if mark.above { " above" } else { "" },
        escape(&hint),
        x + 1,
        y + 1,
        wide - 2,
        HEIGHT - 2,
        x + wide / 2,
        y + HEIGHT / 2 + 4,
        escape(&mark.text),
    )
}
