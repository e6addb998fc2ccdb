//! `plan`: what a grid would run.

use std::collections::BTreeSet;
use std::fmt::Write;

use common::grid::{Grid, Search};

use super::{code, print};
use crate::sweep::{CANDIDATES, DataTable};

/// Tasks that are walked to count cells and duplicates.
const WALKED: usize = 1_000_000;
/// Tasks that are shown.
const SHOWN: u64 = 5;

pub(super) fn plan(grid: &Grid, mut data: DataTable) -> u8 {
    let mut text = String::new();
    let _ = writeln!(text, "{} tasks", grid.len());
    if grid.excluded() > 0 {
        let _ = writeln!(text, "{} combinations excluded", grid.excluded());
    }
    for axis in grid.axes() {
        let _ = writeln!(text, "  {}: {} values", axis.name, axis.len);
    }
    let mut cells = BTreeSet::new();
    let (mut largest, mut walked) = (0, 0);
    for task in grid.tasks(0).take(WALKED) {
        walked += 1;
        if cells.insert(task.cell)
            && let Ok(facts) = data.facts(&task.spec.cell)
        {
            largest = largest.max(facts.parameters);
        }
    }
    let more = if walked as u64 == grid.len() {
        ""
    } else {
        " in the first million tasks"
    };
    let _ = writeln!(
        text,
        "{} cells{more}; at most {largest} parameters",
        cells.len()
    );
    if let Some(search) = grid.search() {
        text.push_str(&search_plan(search));
    }
    let _ = writeln!(text, "sample:");
    let step = (grid.len() / SHOWN).max(1);
    for n in (0..grid.len()).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        if let Some(task) = grid.task(n) {
            let cell = &task.spec.cell;
            let fields: Vec<String> = common::canon::describe(cell)
                .iter()
                .filter(|(name, _)| grid.axes().any(|axis| axis.name.ends_with(name.as_str())))
                .map(|(name, value)| format!("{name} {value}"))
                .collect();
            let _ = writeln!(
                text,
                "  {n}: {} seed {} start {}",
                fields.join(", "),
                task.spec.seed,
                task.spec.start
            );
        }
    }
    print(&text);
    code::DONE
}

/// What the search will add, as far as can be said before any result.
fn search_plan(search: Search) -> String {
    let (fresh, refine) = CANDIDATES;
    let rounds = search.runs.div_ceil(search.round);
    let (runs, round) = (search.runs, search.round.min(search.runs));
    format!(
        "search: {runs} runs more after these, in {rounds} rounds of at most {round}, seed {}; \
         for each cell {fresh} starts and {refine} ways to go on from its worst minima\n",
        search.seed
    )
}
