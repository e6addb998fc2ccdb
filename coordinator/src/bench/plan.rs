//! A grid's tasks without anybody to compute them.

use std::time::Instant;

use super::recorded::{self, CELLS};
use super::{Figure, internal};
use crate::run::Failure;
use crate::submission::Submission;
use crate::sweep::{GridSweep, KeepMinima};
use crate::workload::Workload;

/// Seeds of each cell of the grid of 10⁹ tasks.
const SEEDS: u64 = 1_000_000;

pub(super) fn measure(tasks: u64) -> Result<Vec<Figure>, Failure> {
    let mut sweep = recorded::sweep(tasks)?;
    let began = Instant::now();
    let mut bits = 0;
    for position in 0..sweep.len() {
        bits ^= sweep.task(position).id.0[0];
    }
    // Looked at, so that the work is done.
    std::hint::black_box(bits);
    let planning = began.elapsed().as_secs_f64();
    let text = recorded::grid(SEEDS);
    let began = Instant::now();
    let submission = Submission {
        name: "bench".to_owned(),
        text,
        files: Default::default(),
    };
    let (grid, data) = submission.read().map_err(internal)?;
    let mut sweep = GridSweep::new(grid.into(), data, KeepMinima::Worst);
    std::hint::black_box(sweep.task(0));
    let accepting = began.elapsed().as_secs_f64() * 1e3;
    let tasks = sweep.len() as f64;
    debug_assert_eq!(sweep.len(), CELLS * SEEDS);
    Ok(vec![
        Figure::new("planning, identities included", planning, "s").at_most(0.2),
        Figure::new("accepting a large grid", accepting, "ms").at_most(10.0),
        Figure::new("tasks of the large grid", tasks, ""),
    ])
}
