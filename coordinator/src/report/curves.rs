//! How the minima change along an axis of numbers, depth above all.

use std::fmt::Write;

use common::summary::CellSummary;

use super::View;
use super::heat::{self, Layout, Panel};
use super::html::{Html, count, escape, number};
use super::scale::Axis;

/// Size of a drawing, pixels.
const WIDTH: f64 = 512.0;
const HEIGHT: f64 = 250.0;
/// Room for the ticks on the left, the names on the right, the words above, the values below.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 118.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 22.0;
/// Curves of one drawing; more cannot be told apart.
const CURVES: usize = 12;
/// Values written below an axis at most.
const VALUES: usize = 12;
/// Least distance of two names, pixels.
const LINE: f64 = 13.0;

/// One value of the rows' field: what its cells have along the axis.
struct Curve<'a> {
    name: &'a str,
    /// Number of the column, and the cell that stands there.
    cells: Vec<(usize, &'a CellSummary)>,
}

/// Median and worst certified minimum along the columns of the heat map, where these are numbers.
pub(super) fn section(page: &mut Html, view: &View<'_>) {
    let layout = heat::layout(view);
    let numeric = |text: &String| text.parse::<f64>().is_ok();
    if layout.columns.len() < 2 || !layout.columns.iter().all(numeric) {
        return;
    }
    // Where nothing is certified there is no curve.
    let certified = |panel: &&Panel| {
        let mut cells = panel
            .cells
            .iter()
            .map(|(.., index)| &view.summary.cells[*index]);
        cells.any(|cell| cell.values.is_some())
    };
    let panels: Vec<&Panel> = layout.panels.iter().filter(certified).collect();
    if panels.is_empty() {
        return;
    }
    let along = &layout.column_field;
    page.section("curves", &format!("Minima along {along}"));
    page.paragraph(
        "note",
        "Solid line: median of the certified minima. Dotted line: the worst of them. Dashed line: \
         the baseline. A curve has a gap where no run is certified.",
    );
    page.raw("<div class=\"panels\">\n");
    for (index, panel) in panels.iter().enumerate() {
        if index == heat::PANELS {
            let more = count((panels.len() - index) as u64, "more drawing");
            page.raw(&format!(
                "</div>\n<details><summary>{more}</summary>\n<div class=\"panels\">\n"
            ));
        }
        page.raw(&draw(view, &layout, panel));
    }
    page.raw("</div>\n");
    if panels.len() > heat::PANELS {
        page.raw("</details>\n");
    }
    page.end();
}

fn curves<'a>(view: &View<'a>, layout: &'a Layout, panel: &Panel) -> Vec<Curve<'a>> {
    let of_row = |(row, name): (usize, &'a String)| {
        let own = panel.cells.iter().filter(|(r, ..)| *r == row);
        let mut cells: Vec<(usize, &CellSummary)> = own
            .map(|(_, column, index)| (*column, &view.summary.cells[*index]))
            .collect();
        cells.sort_unstable_by_key(|(column, _)| *column);
        Curve { name, cells }
    };
    let all = layout.rows.iter().enumerate().map(of_row);
    all.filter(|c| !c.cells.is_empty()).take(CURVES).collect()
}

fn median(cell: &CellSummary) -> Option<f64> {
    cell.values.map(|v| v.median.0)
}

fn worst(cell: &CellSummary) -> Option<f64> {
    cell.worst.as_ref().map(|run| run.value.0)
}

fn draw(view: &View<'_>, layout: &Layout, panel: &Panel) -> String {
    let curves = curves(view, layout, panel);
    let cells = || curves.iter().flat_map(|c| &c.cells).map(|(_, cell)| *cell);
    let baselines = || cells().filter_map(|c| c.baseline).map(|b| b.value.0);
    let values = cells().flat_map(|c| [median(c), worst(c)]).flatten();
    let axis = Axis::over(values.chain(baselines()), HEIGHT - TOP - BOTTOM);
    let y = |value: f64| axis.at(value).map(|up| HEIGHT - BOTTOM - up);
    let used: Vec<usize> = (0..layout.columns.len())
        .filter(|column| panel.cells.iter().any(|c| c.1 == *column))
        .collect();
    let step = (WIDTH - LEFT - RIGHT) / used.len().max(1) as f64;
    let x = |column: usize| {
        let place = used.iter().position(|c| *c == column).unwrap_or(0);
        LEFT + step * (place as f64 + 0.5)
    };
    let label = escape(&in_words(layout, panel, &curves));
    let mut svg = format!(
        "<figure>{}<div class=\"scroll\"><svg class=\"curves\" role=\"img\" \
         aria-label=\"{label}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         viewBox=\"0 0 {WIDTH} {HEIGHT}\"><title>{label}</title>\n",
        if panel.title.is_empty() {
            String::new()
        } else {
            format!("<figcaption>{}</figcaption>", escape(&panel.title))
        },
    );
    let right = WIDTH - RIGHT;
    // Writing to a string cannot fail.
    for (up, text) in axis.ticks() {
        let y = HEIGHT - BOTTOM - up;
        let _ = write!(
            svg,
            "<path class=\"rule\" d=\"M{LEFT} {y:.1}H{right}\"/>\
             <text class=\"small end\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    // As many values as have room beside each other.
    let every = used.len().div_ceil(VALUES).max(1);
    for column in used.iter().step_by(every) {
        let _ = write!(
            svg,
            "<text class=\"middle small\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x(*column),
            HEIGHT - 6.0,
            escape(&layout.columns[*column])
        );
    }
    let _ = write!(
        svg,
        "<text class=\"axis\" x=\"4\" y=\"12\">value ↑</text>\
         <text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\">{} →</text>",
        right + 8.0,
        HEIGHT - 6.0,
        escape(&layout.column_field)
    );
    let mut levels: Vec<f64> = baselines().filter_map(y).collect();
    levels.sort_unstable_by(f64::total_cmp);
    levels.dedup();
    for y in levels {
        let _ = write!(
            svg,
            "<path class=\"baseline\" d=\"M{LEFT} {y:.1}H{right}\"/>"
        );
    }
    let mut names: Vec<(f64, String)> = Vec::new();
    for (index, curve) in curves.iter().enumerate() {
        let line = |pick: fn(&CellSummary) -> Option<f64>| path(curve, pick, &x, &y);
        let _ = write!(
            svg,
            "<g class=\"k{index}\"><path class=\"dotted\" d=\"{}\"/><path class=\"solid\" \
             d=\"{}\"/>",
            line(worst),
            line(median)
        );
        let mut last = None;
        for (column, cell) in &curve.cells {
            if let Some(y) = median(cell).and_then(y) {
                let x = x(*column);
                let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>");
                last = Some(y);
            }
        }
        svg.push_str("</g>\n");
        if let Some(y) = last.filter(|_| !curve.name.is_empty()) {
            let name = shortened(curve.name);
            names.push((
                y,
                format!("<tspan class=\"k{index}\">●</tspan> {}", escape(&name)),
            ));
        }
    }
    spread(&mut names);
    for (y, name) in names {
        let _ = write!(
            svg,
            "<text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
            right + 8.0,
            y + 4.0
        );
    }
    svg.push_str("</svg></div></figure>\n");
    svg
}

/// The segments of a curve; a cell without a value breaks it.
fn path(
    curve: &Curve<'_>,
    pick: fn(&CellSummary) -> Option<f64>,
    x: &dyn Fn(usize) -> f64,
    y: &dyn Fn(f64) -> Option<f64>,
) -> String {
    let mut path = String::new();
    let mut pen = 'M';
    for (column, cell) in &curve.cells {
        match pick(cell).and_then(y) {
            Some(y) => {
                let _ = write!(path, "{pen}{:.1} {y:.1}", x(*column));
                pen = 'L';
            }
            None => pen = 'M',
        }
    }
    path
}

/// Moves names apart that would lie on each other, within the drawing.
fn spread(names: &mut [(f64, String)]) {
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = TOP;
    for name in names.iter_mut() {
        name.0 = name.0.max(free);
        free = name.0 + LINE;
    }
    // Above the name of the axis.
    let mut limit = HEIGHT - BOTTOM - 4.0;
    for name in names.iter_mut().rev() {
        name.0 = name.0.min(limit);
        limit = name.0 - LINE;
    }
}

fn shortened(name: &str) -> String {
    const LONGEST: usize = 16;
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    name.chars().take(LONGEST - 1).chain(['…']).collect()
}

fn in_words(layout: &Layout, panel: &Panel, curves: &[Curve<'_>]) -> String {
    let mut text = format!("Median certified minimum along {}", layout.column_field);
    if !panel.title.is_empty() {
        let _ = write!(text, ", {}", panel.title);
    }
    for curve in curves {
        let points = curve.cells.iter().map(|(column, cell)| {
            let value = median(cell).map_or_else(|| "none".to_owned(), number);
            format!("{} at {}", value, layout.columns[*column])
        });
        let points = points.collect::<Vec<_>>().join(", ");
        let _ = write!(text, "; {} {points}", curve.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_move_apart_and_stay_within_the_drawing() {
        let mut names: Vec<(f64, String)> = [240.0, 100.0, 101.0, 239.0]
            .map(|y| (y, String::new()))
            .to_vec();
        spread(&mut names);
        let at: Vec<f64> = names.iter().map(|n| n.0).collect();
        assert_eq!(at, [100.0, 113.0, 211.0, 224.0]);
    }
}
