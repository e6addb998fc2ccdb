//! Summaries of sweeps, made once for all who look.
//!
//! A summary of a million tasks takes a good part of a second. So it is kept
//! for [`SHARE`] times as long as it took to make: whoever looks, however many
//! look, making summaries takes at most a twentieth of one processor a sweep.
//! The scheduler only copies what is recorded; the rest happens elsewhere. One of a
//! sweep that is over comes from the store, and is kept for [`OVER`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::ids::CellId;
use common::protocol::SweepNumber;
use common::summary::Summary;

use super::plan::Plan;
use super::reply::Refusal;
use crate::at_rest;
use crate::core::{Core, SweepState};
use crate::store::AnyStore;
use crate::sweep::{GridSweep, KeepMinima, Recorded};
use crate::sweeps::Sweeps;

/// How much longer a summary is kept than it took to make.
const SHARE: u32 = 20;
/// How long one is kept at least.
const LEAST: Duration = Duration::from_secs(1);
/// How long one of a sweep that is over is kept at least, if none is begun meanwhile: another sweep
/// may record tasks that the two have in common.
const OVER: Duration = Duration::from_secs(600);
/// Sweeps whose summaries are kept.
const SWEEPS: usize = 16;

/// A summary with the identities of its cells, in its order.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) summary: Summary,
    pub(super) cells: Vec<CellId>,
}

impl Snapshot {
    /// The place of the cell whose identity begins so.
    pub(super) fn find(&self, prefix: &str) -> Option<usize> {
        let starts = |id: &CellId| id.to_string().starts_with(prefix);
        (prefix.len() >= 8).then(|| self.cells.iter().position(starts))?
    }
}

type Slot = Arc<tokio::sync::Mutex<Option<Kept>>>;

#[derive(Debug)]
struct Kept {
    snapshot: Arc<Snapshot>,
    until: Instant,
    /// See [`Sweeps::begun`].
    begun: u64,
}

/// The summaries that were made last.
#[derive(Debug, Default)]
pub(super) struct Snapshots(Mutex<Vec<(SweepNumber, Slot)>>);

impl Snapshots {
    fn slot(&self, number: SweepNumber) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = slots.iter().position(|(n, _)| *n == number);
        let slot = match found {
            Some(at) => slots.remove(at),
            None => (number, Slot::default()),
        };
        let own = Arc::clone(&slot.1);
        // The one that was asked for longest ago makes room.
        slots.push(slot);
        if slots.len() > SWEEPS {
            slots.remove(0);
        }
        own
    }

    /// The summary of a sweep, with all cells of its plan, if that is known; `None` if there is no
    /// such sweep.
    pub(super) async fn of(
        &self,
        sweeps: &Sweeps<AnyStore>,
        number: SweepNumber,
        plan: Option<Arc<Plan>>,
    ) -> Result<Option<Arc<Snapshot>>, Refusal> {
        let slot = self.slot(number);
        // Whoever comes while one is made waits for it.
        let mut kept = slot.lock().await;
        let (began, begun) = (Instant::now(), sweeps.begun());
        let is_fresh = |kept: &&Kept| kept.until > began && kept.begun == begun;
        if let Some(kept) = kept.as_ref().filter(is_fresh) {
            return Ok(Some(Arc::clone(&kept.snapshot)));
        }
        let Some((recorded, over)) = recorded(sweeps, number).await? else {
            return Ok(None);
        };
        let make = move || {
            let (mut summary, mut cells) = recorded.summary();
            if let Some(plan) = plan {
                (summary.cells, cells) = plan.complete(summary.cells, cells);
            }
            (summary, cells)
        };
        let made = tokio::task::spawn_blocking(make).await;
        let (summary, cells) = made.map_err(Refusal::unavailable)?;
        let snapshot = Arc::new(Snapshot { summary, cells });
        *kept = Some(Kept {
            snapshot: Arc::clone(&snapshot),
            until: Instant::now() + (began.elapsed() * SHARE).max(if over { OVER } else { LEAST }),
            begun,
        });
        Ok(Some(snapshot))
    }
}

/// What is recorded of a sweep, from the scheduler if it is live, else from the store; and whether
/// it is over.
async fn recorded(
    sweeps: &Sweeps<AnyStore>,
    number: SweepNumber,
) -> Result<Option<(Recorded, bool)>, Refusal> {
    let live = sweeps.handle().look(move |core: &Core| {
        let status = core.status();
        let own = status.sweeps.iter().find(|s| s.number == number)?;
        let workload = core.workload(number)?;
        let grid = workload.as_any().downcast_ref::<GridSweep>()?;
        Some(grid.so_far(own.duplicates))
    });
    if let Some(Some(recorded)) = live.await {
        return Ok(Some((recorded, false)));
    }
    let kept = sweeps.kept(number).await.map_err(Refusal::unavailable)?;
    let Some(kept) = kept else {
        return Ok(None);
    };
    let mut workload = GridSweep::new(kept.grid, kept.data, KeepMinima::None);
    let store = sweeps.store().as_ref();
    let replayed = at_rest::replay(store, &kept.stored, &mut workload).await;
    let duplicates = replayed.map_err(|(_, message)| Refusal::unavailable(message))?;
    if kept.stored.state == SweepState::Cancelled {
        workload.cancel_rest();
    }
    let over = matches!(
        kept.stored.state,
        SweepState::Finished | SweepState::Cancelled
    );
    Ok(Some((workload.so_far(duplicates), over)))
}
