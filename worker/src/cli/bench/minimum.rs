//! Time to a certified minimum.

use common::decode::decode_start;
use common::record::Outcome;
use engine::task::Threads;

use super::cases::Ready;
use super::clock::{Times, once};
use super::{Measure, Row};

/// One run a seed, from θ₀ to the evidence.
pub(super) fn row(ready: &Ready) -> anyhow::Result<Row> {
    let start = decode_start(r#""standard""#)?;
    let baseline = ready.cell.baseline();
    let mut seconds = Vec::new();
    let mut certified = 0;
    for seed in 0..ready.case.seeds() {
        let mut run = ready
            .cell
            .run(&start, seed, &baseline, |_| None, Threads::ONE)?;
        let mut outcome = Outcome::NonFinite;
        seconds.push(once(|| outcome = run.to_end().evidence.outcome));
        certified += usize::from(outcome == Outcome::CertifiedMinimum);
    }
    let times = Times::new(seconds);
    let runs = times.samples();
    Ok(Row {
        measure: Measure::Minimum,
        case: ready.case,
        what: format!("certified {certified} of {runs}"),
        figures: vec![("certified", certified as f64), ("slowest", times.max())],
        times,
    })
}
