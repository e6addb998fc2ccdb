//! Cells over any two of their fields, for the heat map.

use std::collections::HashMap;

use common::ids::CellId;
use common::summary::{CellSummary, Number};
use serde::Serialize;

use super::plan::Plan;
use super::snapshot::Snapshot;
use crate::report::{excess_class, share_class};
use crate::table::{shown, varying};

/// Values of one axis that are shown.
const VALUES: usize = 100;

/// A field in which cells differ.
#[derive(Clone, Debug, Serialize)]
pub(super) struct FieldInfo {
    name: String,
    values: usize,
}

/// The map.
#[derive(Debug, Serialize)]
pub(super) struct Heat {
    /// Fields that may be axes.
    fields: Vec<FieldInfo>,
    x: Axis,
    y: Axis,
    squares: Vec<Square>,
}

#[derive(Debug, Default, Serialize)]
struct Axis {
    /// Empty if there is no such axis: the cells are in one line.
    name: String,
    values: Vec<String>,
    /// Values that are not shown.
    more: usize,
}

/// The cells that agree in both fields, as one.
#[derive(Debug, Default, Serialize)]
struct Square {
    x: usize,
    y: usize,
    cells: u64,
    /// The cell, if it is one.
    cell: Option<CellId>,
    planned: Option<u64>,
    runs: u64,
    failed: u64,
    certified: u64,
    /// The largest, and the step of the colour scale of each measure.
    worst_excess: Option<Number>,
    excess_step: Option<&'static str>,
    share_step: &'static str,
    /// Cells with a certified minimum above their baseline.
    above: u64,
}

/// The value of a field of a cell; `–` where it has none.
pub(super) fn field(cell: &CellSummary, name: &str) -> String {
    let found = cell.cell.0.iter().find(|(field, _)| field == name);
    found.map_or_else(|| "–".to_owned(), |(_, value)| shown(value))
}

fn distinct(cells: &[CellSummary], name: &str) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let values = cells.iter().map(|cell| field(cell, name));
    values.filter(|value| seen.insert(value.clone())).collect()
}

/// The map over two fields; where they are not named, over depth and
/// activation, or those with most values.
pub(super) fn map(snapshot: &Snapshot, plan: Option<&Plan>, x: &str, y: &str) -> Heat {
    let cells = &snapshot.summary.cells;
    let values: HashMap<String, Vec<String>> = (varying(cells).into_iter())
        .map(|name| {
            let found = distinct(cells, &name);
            (name, found)
        })
        .collect();
    let mut fields: Vec<FieldInfo> = varying(cells)
        .into_iter()
        .map(|name| FieldInfo {
            values: values[&name].len(),
            name,
        })
        .collect();
    let by_preference = |wanted: &str, usual: &str, not: &str| -> String {
        let known = |name: &str| values.contains_key(name) && name != not;
        if known(wanted) {
            return wanted.to_owned();
        }
        if known(usual) {
            return usual.to_owned();
        }
        let others = fields.iter().filter(|f| f.name != not);
        let most = others.max_by_key(|f| f.values);
        most.map_or_else(String::new, |f| f.name.clone())
    };
    let x = by_preference(x, "depth", y);
    let y = by_preference(y, "activation", &x);
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    let axis = |name: String| {
        let mut all = values.get(&name).cloned().unwrap_or_default();
        let more = all.len().saturating_sub(VALUES);
        all.truncate(VALUES);
        Axis {
            name,
            values: all,
            more,
        }
    };
    let (x, y) = (axis(x), axis(y));
    let squares = squares(snapshot, plan, &x, &y);
    Heat {
        fields,
        x,
        y,
        squares,
    }
}

fn squares(snapshot: &Snapshot, plan: Option<&Plan>, x: &Axis, y: &Axis) -> Vec<Square> {
    let places = |axis: &Axis| -> HashMap<String, usize> {
        let values = axis.values.iter().cloned();
        values.enumerate().map(|(at, value)| (value, at)).collect()
    };
    let (columns, rows) = (places(x), places(y));
    let place = |axis: &Axis, places: &HashMap<String, usize>, cell: &CellSummary| {
        if axis.name.is_empty() {
            return Some(0);
        }
        places.get(&field(cell, &axis.name)).copied()
    };
    let mut squares: Vec<Square> = Vec::new();
    let mut found: HashMap<(usize, usize), usize> = HashMap::new();
    for (cell, id) in snapshot.summary.cells.iter().zip(&snapshot.cells) {
        let (Some(x), Some(y)) = (place(x, &columns, cell), place(y, &rows, cell)) else {
            continue;
        };
        let at = *found.entry((x, y)).or_insert_with(|| {
            squares.push(Square {
                x,
                y,
                planned: Some(0),
                ..Square::default()
            });
            squares.len() - 1
        });
        add(&mut squares[at], cell, id, plan);
    }
    for square in &mut squares {
        square.share_step = share_class(square.certified, square.runs);
    }
    squares
}

fn add(square: &mut Square, cell: &CellSummary, id: &CellId, plan: Option<&Plan>) {
    square.cells += 1;
    square.cell = (square.cells == 1).then_some(*id);
    let planned = plan
        .and_then(|p| p.cell(id))
        .map(|c| c.positions.len() as u64);
    square.planned = square.planned.zip(planned).map(|(a, b)| a + b);
    square.runs += cell.runs;
    square.failed += cell.failed;
    square.certified += cell.verdicts.certified();
    square.above += u64::from(cell.verdicts.violation > 0);
    let excess = cell.worst.as_ref().and_then(|run| run.excess);
    if let (Some(excess), Some(baseline)) = (excess, cell.baseline)
        && square.worst_excess.is_none_or(|worst| excess.0 > worst.0)
    {
        square.worst_excess = Some(excess);
        square.excess_step = excess_class(excess.0, baseline.value.0);
    }
}
