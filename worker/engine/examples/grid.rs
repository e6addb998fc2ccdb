//! Runs a whole grid in this process, one line per cell: shares, times, work.
//!
//! `cargo run --release -p engine --example grid -- GRID [--misses]`

#![allow(clippy::print_stdout, reason = "printing is what it does")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use common::grid::{Folder, Grid};
use common::record::{BaselineEvidence, Outcome, RunEvidence};
use common::spec::CellSpec;
use engine::task::{Cell, Threads};

struct Row {
    cell: Arc<CellSpec>,
    baseline: f64,
    runs: Vec<(f64, RunEvidence)>,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let path = args.get(1).expect("a grid file");
    let misses = args.iter().any(|a| a == "--misses");
    let bytes = std::fs::read(path).expect("the grid file can be read");
    let folder = Folder {
        base: Path::new(path)
            .parent()
            .unwrap_or(Path::new("."))
            .to_owned(),
    };
    let grid = match Grid::load(path, &bytes, &folder) {
        Ok(grid) => grid,
        Err(mistakes) => panic!("{mistakes}"),
    };
    let mut rows: Vec<Row> = Vec::new();
    let mut open: BTreeMap<usize, (Cell, BaselineEvidence)> = BTreeMap::new();
    for n in 0..grid.len() {
        let task = grid.task(n).expect("n is below the length").spec;
        let at = match rows.iter().position(|r| r.cell == task.cell) {
            Some(at) => at,
            None => {
                let cell = Cell::new(task.cell.clone(), |_| None).expect("the cell can be run");
                let baseline = cell.baseline();
                rows.push(Row {
                    cell: task.cell.clone(),
                    baseline: baseline.value,
                    runs: Vec::new(),
                });
                open.insert(rows.len() - 1, (cell, baseline));
                rows.len() - 1
            }
        };
        let (cell, baseline) = &open[&at];
        let began = Instant::now();
        let evidence = cell
            .run(&task.start, task.seed, baseline, |_| None, Threads::ONE)
            .expect("the start fits")
            .to_end()
            .evidence;
        let seconds = began.elapsed().as_secs_f64();
        if misses && evidence.outcome != Outcome::CertifiedMinimum {
            println!(
                "  miss: {} {:?} {} seed {} {}: {:?} f {:.9} |g| {:.1e} eig {:?} newton {:?} work {} ({} g, {} h) {seconds:.3} s",
                task.cell.model.body.name(),
                task.cell.model.activation.to_string(),
                task.cell.model.depth,
                task.seed,
                task.start,
                evidence.outcome,
                evidence.objective,
                evidence.gradient_norm,
                evidence.min_eigenvalue.zip(evidence.max_eigenvalue),
                evidence.newton_step,
                evidence.evaluations,
                evidence.gradients,
                evidence.hessians,
            );
        }
        rows[at].runs.push((seconds, evidence));
    }
    report(&rows);
}

fn report(rows: &[Row]) {
    let median = |mut v: Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v.get(v.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let (mut total, mut certified, mut seconds) = (0, 0, 0.0);
    for row in rows {
        let done: Vec<&RunEvidence> = row.runs.iter().map(|r| &r.1).collect();
        let good: Vec<&&RunEvidence> = done
            .iter()
            .filter(|e| e.outcome == Outcome::CertifiedMinimum)
            .collect();
        let tolerance = 1e-9 * row.baseline.abs().max(1.0);
        let at = good
            .iter()
            .filter(|e| (e.value - row.baseline).abs() <= tolerance);
        let worst = good
            .iter()
            .map(|e| e.value)
            .fold(f64::NEG_INFINITY, f64::max);
        let time: f64 = row.runs.iter().map(|r| r.0).sum();
        println!(
            "{:8} {:2} {:10} {:13} certified {:3}/{:3}  at baseline {:3}  baseline {:.6} worst {:.6}  median {:.1} ms, total {time:.2} s",
            row.cell.model.body.name(),
            row.cell.model.depth,
            row.cell.model.activation.to_string(),
            row.cell.loss.name(),
            good.len(),
            done.len(),
            at.count(),
            row.baseline,
            worst,
            1e3 * median(row.runs.iter().map(|r| r.0).collect()),
        );
        total += done.len();
        certified += good.len();
        seconds += time;
    }
    println!(
        "certified {certified} of {total} ({:.2} %), {seconds:.2} s of computing",
        100.0 * certified as f64 / total.max(1) as f64
    );
}
