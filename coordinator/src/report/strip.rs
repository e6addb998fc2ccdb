//! The minima of each cell as a range beside the baseline.

use std::fmt::Write;

use common::summary::{CellSummary, CellVerdict, RunSummary};

use super::View;
use super::html::{Html, count, escape, name, number, signed};
use super::scale::{self, Axis};

/// Cells that are shown at once.
const MOST: usize = 60;
/// Size of a drawing, pixels.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 26.0;
/// Height of an axis, pixels.
const AXIS: f64 = 24.0;

/// The ranges of all cells, those with the largest worst excess at once.
pub(super) fn section(page: &mut Html, view: &View<'_>) {
    let cells = &view.summary.cells;
    if cells.is_empty() {
        return;
    }
    page.section("ranges", "Certified minima beside the baseline");
    page.paragraph(
        "note",
        "Line: smallest to largest certified value. Bar: the middle half. Tick: the median. Dot: \
         the worst. Dashed line: the baseline. Hollow mark: the worst run without a certificate; \
         an arrow where it lies outside the axis. Cells with one baseline share an axis.",
    );
    let mut order: Vec<usize> = (0..cells.len()).collect();
    if order.len() > MOST {
        order.sort_by(|a, b| rank(&cells[*b]).total_cmp(&rank(&cells[*a])));
    }
    let (first, rest) = order.split_at(order.len().min(MOST));
    let in_order = |part: &[usize]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part.into_iter().map(|i| &cells[i]).collect::<Vec<_>>()
    };
    if !rest.is_empty() {
        let text = format!("The {MOST} cells with the largest worst excess.");
        page.paragraph("note", &text);
    }
    table(page, view, &in_order(first));
    if !rest.is_empty() {
        let more = count(rest.len() as u64, "more cell");
        page.raw(&format!("<details><summary>{more}</summary>\n"));
        table(page, view, &in_order(rest));
        page.raw("</details>\n");
    }
    page.end();
}

/// What puts a cell before another; one that cannot be compared comes first.
fn rank(cell: &CellSummary) -> f64 {
    let Some(run) = &cell.worst else {
        return f64::NEG_INFINITY;
    };
    let excess = run.excess.map_or(f64::INFINITY, |e| e.0);
    if excess.is_nan() {
        f64::INFINITY
    } else {
        excess
    }
}

fn table(page: &mut Html, view: &View<'_>, cells: &[&CellSummary]) {
    page.raw("<div class=\"scroll\"><table class=\"ranges\">\n");
    page.heads(&[
        "cell",
        "certified values",
        "certified",
        "worst excess",
        "worst uncertified",
    ]);
    let mut groups: Vec<(Option<u64>, Vec<&CellSummary>)> = Vec::new();
    for cell in cells {
        let key = cell.baseline.map(|b| b.value.0.to_bits());
        match groups.iter_mut().find(|g| g.0 == key) {
            Some(group) => group.1.push(cell),
            None => groups.push((key, vec![cell])),
        }
    }
    for (_, group) in groups {
        rows(page, view, &group);
    }
    page.raw("</table></div>\n");
}

/// Cells with one baseline.
fn rows(page: &mut Html, view: &View<'_>, cells: &[&CellSummary]) {
    let baseline = cells.first().and_then(|c| c.baseline);
    let certified = cells
        .iter()
        .filter_map(|c| c.values)
        .flat_map(|v| [v.min.0, v.max.0]);
    let worst = cells
        .iter()
        .filter_map(|c| c.worst.as_ref())
        .map(|w| w.value.0);
    let base = baseline.map(|b| b.value.0);
    let known: Vec<f64> = certified
        .chain(worst)
        .chain(base)
        .filter(|x| x.is_finite())
        .collect();
    // A run without a certificate may stretch the axis, but not so far that nothing else is seen.
    let low = known.iter().copied().fold(f64::INFINITY, f64::min);
    let high = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let reach = (high - low).max(0.0);
    let near = cells
        .iter()
        .filter_map(|c| c.worst_uncertified.as_ref())
        .map(|w| w.value.0)
        .filter(|x| reach == 0.0 || (low - reach..=high + reach).contains(x));
    let axis = Axis::over(known.iter().copied().chain(near), WIDTH);
    let text = baseline.map_or_else(
        || "baseline not known".to_owned(),
        |b| format!("baseline {} ({})", number(b.value.0), name(&b.status)),
    );
    page.raw(&format!(
        "<tbody>\n<tr class=\"group\"><th scope=\"rowgroup\">{}</th><td>{}</td>\
         <td colspan=\"3\"></td></tr>\n",
        escape(&text),
        scale_drawing(&axis, base)
    ));
    for cell in cells {
        row(page, view, cell, &axis);
    }
    page.raw("</tbody>\n");
}

fn scale_drawing(axis: &Axis, baseline: Option<f64>) -> String {
    let mut svg = format!(
        "<svg aria-hidden=\"true\" width=\"{WIDTH}\" height=\"{AXIS}\" \
         viewBox=\"0 0 {WIDTH} {AXIS}\">"
    );
    for (x, text) in axis.ticks() {
        let _ = write!(
            svg,
            "<path class=\"tick\" d=\"M{x:.1} 18V{AXIS}\"/><text class=\"middle small\" \
             x=\"{x:.1}\" y=\"13\">{text}</text>"
        );
    }
    if let Some(x) = baseline.and_then(|b| axis.at(b)) {
        let _ = write!(svg, "<path class=\"baseline\" d=\"M{x:.1} 16V{AXIS}\"/>");
    }
    svg.push_str("</svg>");
    svg
}

fn row(page: &mut Html, view: &View<'_>, cell: &CellSummary, axis: &Axis) {
    let worst = cell.worst.as_ref().map_or_else(
        || "none certified".to_owned(),
        |run| {
            run.excess
                .map_or_else(|| format!("value {}", number(run.value.0)), |e| signed(e.0))
        },
    );
    let uncertified = cell.worst_uncertified.as_ref().map_or_else(
        || "–".to_owned(),
        |run| format!("{} ({})", number(run.value.0), name(&run.verdict)),
    );
    let above = matches!(
        cell.verdict,
        CellVerdict::Violated | CellVerdict::BadMinimumFound
    );
    page.raw(&format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{} / {}</td>\
         <td class=\"n{}\">{}</td><td>{}</td></tr>\n",
        escape(&view.label(cell)),
        drawing(cell, axis),
        cell.verdicts.certified(),
        cell.runs,
        if above { " bad" } else { "" },
        escape(&worst),
        escape(&uncertified),
    ));
}

/// The range of one cell.
fn drawing(cell: &CellSummary, axis: &Axis) -> String {
    let label = escape(&in_words(cell));
    let middle = HEIGHT / 2.0;
    let mut svg = format!(
        "<svg role=\"img\" aria-label=\"{label}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         viewBox=\"0 0 {WIDTH} {HEIGHT}\"><title>{label}</title>"
    );
    if let Some(x) = cell.baseline.and_then(|b| axis.at(b.value.0)) {
        let _ = write!(svg, "<path class=\"baseline\" d=\"M{x:.1} 0V{HEIGHT}\"/>");
    }
    if let Some(v) = cell.values {
        let at = [v.min, v.q25, v.median, v.q75, v.max].map(|x| axis.at(x.0));
        if let [Some(min), Some(q25), Some(median), Some(q75), Some(max)] = at {
            let _ = write!(
                svg,
                "<path class=\"whisker\" d=\"M{min:.1} {middle}H{max:.1}\"/><rect class=\"box\" \
                 x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"8\"/><path class=\"median\" \
                 d=\"M{median:.1} {:.1}V{:.1}\"/>",
                q25 - 0.5,
                middle - 4.0,
                q75 - q25 + 1.0,
                middle - 7.0,
                middle + 7.0,
            );
        }
    }
    if let Some(x) = cell.worst.as_ref().and_then(|run| axis.at(run.value.0)) {
        let class = scale::worst_class(cell).unwrap_or("none");
        let _ = write!(
            svg,
            "<g class=\"dot {class}\"><circle cx=\"{x:.1}\" cy=\"{middle}\" r=\"5\"/></g>"
        );
    }
    if let Some(run) = &cell.worst_uncertified {
        svg.push_str(&hollow(run, axis, middle));
    }
    svg.push_str("</svg>");
    svg
}

/// The worst run without a certificate.
fn hollow(run: &RunSummary, axis: &Axis, y: f64) -> String {
    if let Some(x) = axis.at(run.value.0) {
        return format!("<circle class=\"hollow\" cx=\"{x:.1}\" cy=\"{y}\" r=\"5\"/>");
    }
    // A value below the axis points left; all others, and what is no number, point right.
    let (x, tip) = if axis.is_below(run.value.0) {
        (9.0, -7.0)
    } else {
        (WIDTH - 9.0, 7.0)
    };
    format!(
        "<path class=\"hollow\" d=\"M{x} {}L{} {y}L{x} {}Z\"/>",
        y - 5.0,
        x + tip,
        y + 5.0
    )
}

fn in_words(cell: &CellSummary) -> String {
    let mut text = match cell.values {
        None => "no certified run of the grid".to_owned(),
        Some(v) => format!(
            "certified values: smallest {}, quarter {}, median {}, three quarters {}, largest {}",
            number(v.min.0),
            number(v.q25.0),
            number(v.median.0),
            number(v.q75.0),
            number(v.max.0)
        ),
    };
    if let Some(baseline) = cell.baseline {
        let _ = write!(text, "; baseline {}", number(baseline.value.0));
    }
    if let Some(run) = &cell.worst_uncertified {
        let (value, verdict) = (number(run.value.0), name(&run.verdict));
        let _ = write!(text, "; worst uncertified {value}, {verdict}");
    }
    text
}
