//! Runs a whole grid in this process, one line per cell: shares, times, work. Times are the
//! thread's own processor time, so that a busy neighbour counts less.
//!
//! `cargo run --release -p engine --example grid -- GRID [--misses] [--plain]`
//!
//! `--misses` lists the runs without a certificate. `--plain` also runs L-BFGS in θ from
//! the same starts, without a polish, and counts how many of them end at the baseline: the
//! share that the pipeline must not exceed by much, or certificates would be bought by collapse.

#![allow(clippy::print_stdout, reason = "printing is what it does")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use common::grid::{Folder, Grid};
use common::record::{BaselineEvidence, Outcome, RunEvidence};
use common::spec::{CellSpec, Optimizer, Start};
use engine::task::{Cell, Threads};
use rustix::time::{ClockId, clock_gettime};

struct Row {
    cell: Arc<CellSpec>,
    baseline: f64,
    runs: Vec<(f64, RunEvidence)>,
    /// Plain L-BFGS from the same starts.
    plain: Vec<RunEvidence>,
}

impl Row {
    /// Ends within 1e-6 of the baseline: plain L-BFGS comes no nearer.
    fn near_baseline(&self, e: &RunEvidence) -> bool {
        (e.value - self.baseline).abs() <= 1e-6 * self.baseline.abs().max(1.0)
    }
}

/// A cell made ready, with its baseline, and its twin for plain L-BFGS.
struct Open {
    cell: Cell,
    baseline: BaselineEvidence,
    plain: Option<Cell>,
}

impl Open {
    fn new(spec: &Arc<CellSpec>, plain: bool) -> Self {
        let cell = Cell::new(spec.clone(), |_| None).expect("the cell can be run");
        let baseline = cell.baseline();
        let plain = plain.then(|| {
            let spec = CellSpec {
                optimizer: Optimizer::Lbfgs,
                polish: false,
                ..CellSpec::clone(spec)
            };
            Cell::new(Arc::new(spec), |_| None).expect("so can its twin")
        });
        Self {
            cell,
            baseline,
            plain,
        }
    }

    fn run(&self, cell: &Cell, start: &Start, seed: u64) -> RunEvidence {
        cell.run(start, seed, &self.baseline, |_| None, Threads::ONE)
            .expect("the start fits")
            .to_end()
            .evidence
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let path = args.get(1).expect("a grid file");
    let misses = args.iter().any(|a| a == "--misses");
    let plain = args.iter().any(|a| a == "--plain");
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
    let mut open: BTreeMap<usize, Open> = BTreeMap::new();
    for n in 0..grid.len() {
        let task = grid.task(n).expect("n is below the length").spec;
        let at = match rows.iter().position(|r| r.cell == task.cell) {
            Some(at) => at,
            None => {
                let ready = Open::new(&task.cell, plain);
                rows.push(Row {
                    cell: task.cell.clone(),
                    baseline: ready.baseline.value,
                    runs: Vec::new(),
                    plain: Vec::new(),
                });
                open.insert(rows.len() - 1, ready);
                rows.len() - 1
            }
        };
        let ready = &open[&at];
        let began = processor_seconds();
        let evidence = ready.run(&ready.cell, &task.start, task.seed);
        let seconds = processor_seconds() - began;
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
        if let Some(cell) = &ready.plain {
            let evidence = ready.run(cell, &task.start, task.seed);
            rows[at].plain.push(evidence);
        }
    }
    report(&rows);
}

fn processor_seconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + 1e-9 * now.tv_nsec as f64
}

fn report(rows: &[Row]) {
    let median = |mut v: Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v.get(v.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let (mut total, mut certified, mut near, mut plain) = (0, 0, 0, 0);
    let mut times = Vec::new();
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
        near += good.iter().filter(|e| row.near_baseline(e)).count();
        plain += row.plain.iter().filter(|e| row.near_baseline(e)).count();
        times.extend(row.runs.iter().map(|r| r.0));
    }
    println!(
        "certified {certified} of {total} ({:.2} %), {near} of them at the baseline{}; {:.2} s of \
         computing, median {:.1} ms a run",
        100.0 * certified as f64 / total.max(1) as f64,
        if rows.iter().all(|r| r.plain.is_empty()) {
            String::new()
        } else {
            format!(" (plain L-BFGS: {plain})")
        },
        times.iter().sum::<f64>(),
        1e3 * median(times),
    );
}
