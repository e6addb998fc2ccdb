//! The grids of the literature: each plans without a mistake, and tasks from all over it end with a
//! verdict that the theorem allows. Budgets are cut, so that all of them together take seconds.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::grid::{Folder, Grid};
use common::record::{Attainment, Outcome};
use common::spec::{Budget, CellSpec};
use common::summary::{Verdict, settle, tolerance};
use engine::task::{Cell, Threads};

/// Evaluations of a run: enough for the small ones to certify.
const BUDGET: u64 = 1_500;
/// Tasks of each grid that are run, from its first to its last.
const TASKS: u64 = 5;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../grids/literature")
}

fn grids() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let mut grids: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    grids.sort();
    grids
}

/// A grid and the files that it names, by hash.
fn load(path: &Path) -> (Grid, HashMap<String, Vec<u8>>) {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).unwrap();
    let files = Folder { base: folder() };
    let grid = Grid::load(&name, &bytes, &files).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let contents: HashMap<String, Vec<u8>> = grid
        .files()
        .iter()
        .map(|f| {
            (
                f.id.to_string(),
                std::fs::read(folder().join(&f.path)).unwrap(),
            )
        })
        .collect();
    let content = |sha: &str| contents.get(sha).map(Vec::as_slice);
    let read = |cell: &CellSpec| {
        let cell = Cell::new(Arc::new(cell.clone()), content);
        cell.map(drop).map_err(|error| error.to_string())
    };
    grid.check_data(read)
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    (grid, contents)
}

/// Runs some tasks of a grid; how many of them certified.
fn run(path: &Path) -> (u64, u64) {
    let (grid, contents) = load(path);
    let content = |sha: &str| contents.get(sha).map(Vec::as_slice);
    let count = TASKS.min(grid.len());
    let mut certified = 0;
    for i in 0..count {
        let position = i * (grid.len() - 1) / (count - 1).max(1);
        let task = grid.task(position).unwrap().spec;
        let spec = CellSpec {
            budget: Budget {
                evaluations: BUDGET,
                seconds: None,
            },
            ..(*task.cell).clone()
        };
        let about = format!("task {position} of {}", path.display());
        let cell = Cell::new(Arc::new(spec), content).unwrap_or_else(|e| panic!("{about}: {e}"));
        let baseline = cell.baseline();
        assert_eq!(baseline.status, Attainment::Attained, "{about}");
        assert!(
            baseline.value - baseline.lower_bound <= tolerance(baseline.value),
            "{about}"
        );
        let evidence = cell
            .run(&task.start, task.seed, &baseline, content, Threads::ONE)
            .unwrap_or_else(|e| panic!("{about}: {e}"))
            .to_end()
            .evidence;
        assert_ne!(evidence.outcome, Outcome::NonFinite, "{about}");
        let settled = settle(evidence.outcome, evidence.value, baseline.value);
        certified += u64::from(settled.verdict.is_certified());
        // The gap bound exists for the theorem's network, and holds at any point of it.
        if let Some(bound) = evidence.gap_bound {
            assert!(
                settled.excess <= bound + tolerance(baseline.value),
                "{about}: excess {} above the bound {bound}",
                settled.excess
            );
            assert_ne!(settled.verdict, Verdict::Violation, "{about}");
        }
    }
    (certified, count)
}

#[test]
fn every_grid_of_the_literature_plans_and_its_tasks_end_with_a_verdict() {
    let grids = grids();
    assert!(grids.len() >= 20, "{}", grids.len());
    let (mut certified, mut all) = (0, 0);
    for path in &grids {
        let (good, count) = run(path);
        certified += good;
        all += count;
    }
    // Not a race: the budget is counted in evaluations, and bits are the same everywhere.
    assert!(2 * certified > all, "{certified} of {all} certified");
}

#[test]
fn every_grid_says_what_it_is_about_and_has_its_line_in_the_docs() {
    let page = folder().join("../../docs/literature.md");
    let page = std::fs::read_to_string(page).unwrap();
    for path in grids() {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in ["# Paper: ", "# Claim: ", "# Expect: ", "# Takes: "] {
            let found = text.lines().any(|l| l.starts_with(line));
            assert!(found, "{} has no line `{line}`", path.display());
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            page.contains(&name),
            "docs/literature.md does not name {name}"
        );
    }
}
