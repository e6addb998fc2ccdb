//! What is going on, in numbers that a page shows all the time: made once a
//! second for all who watch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use common::protocol::SweepNumber;
use serde_json::Value;

use super::reply::{Refusal, json};
use super::{Shared, View};
use crate::core::{Core, Status, SweepState};
use crate::notify;
use crate::pace::Estimate;
use crate::progress::{self, Moment};
use crate::rpc::Role;
use crate::store::{Store, StoredSweep};

/// How old what is shown may be.
const FRESH: Duration = Duration::from_millis(900);
/// Sweeps that are shown: all active ones, and the youngest of the others.
const SWEEPS: usize = 200;

/// What was shown last.
#[derive(Debug, Default)]
pub(super) struct Pulse(tokio::sync::Mutex<Option<(Instant, Arc<Value>)>>);

/// What the scheduler says of a sweep.
struct Live {
    number: SweepNumber,
    state: &'static str,
    priority: i32,
    moment: Moment,
}

fn live(core: &Core) -> (Status, Vec<Live>) {
    let status = core.status();
    let live = status.sweeps.iter().filter_map(|sweep| {
        Some(Live {
            number: sweep.number,
            state: sweep.state.name(),
            priority: sweep.priority,
            moment: Moment::of(core, sweep.number)?,
        })
    });
    let live = live.collect();
    (status, live)
}

/// `/api/state`: what is going on.
pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Result<Response, Refusal> {
    json(&*state(&shared).await?)
}

/// What is going on.
pub(super) async fn state(shared: &Shared) -> Result<Arc<Value>, Refusal> {
    let mut shown = shared.pulse.0.lock().await;
    if let Some((_, value)) = shown.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
        return Ok(Arc::clone(value));
    }
    let value = Arc::new(match shared.window.view() {
        Some(view) => seen(shared, view).await?,
        None => serde_json::json!({"role": role(shared), "sweeps": [], "workers": {}}),
    });
    *shown = Some((Instant::now(), Arc::clone(&value)));
    Ok(value)
}

fn role(shared: &Shared) -> &'static str {
    match shared.stage.role() {
        Role::Starting => "starting",
        Role::StandingBy => "standing by",
        Role::Leading => "leading",
    }
}

async fn seen(shared: &Shared, view: &View) -> Result<Value, Refusal> {
    let stored = view.sweeps.store().sweeps().await;
    let stored = stored.map_err(Refusal::unavailable)?;
    let looked = view.sweeps.handle().look(live).await;
    let (status, live) = looked.unwrap_or_default();
    let more = stored.len().saturating_sub(SWEEPS);
    let mut sweeps = Vec::new();
    for (at, stored) in stored.iter().enumerate() {
        let active = live.iter().find(|l| l.number == stored.number);
        if at >= more || active.is_some() {
            sweeps.push(sweep(view, stored, active));
        }
    }
    let count = |wanted: &dyn Fn(bool, bool) -> bool| {
        let found = status.workers.iter();
        found.filter(|w| wanted(w.attached, w.draining)).count()
    };
    let attached = status.workers.iter().filter(|w| w.attached);
    Ok(serde_json::json!({
        "role": role(shared),
        "store_failing": status.store_failing,
        "only": view.only.map(|n| n.0),
        "sweeps": sweeps,
        "not_shown": stored.len() - sweeps.len(),
        "workers": {
            "attached": count(&|attached, draining| attached && !draining),
            "draining": count(&|attached, draining| attached && draining),
            "detached": count(&|attached, _| !attached),
            "slots": attached.map(|w| u64::from(w.profile.slots)).sum::<u64>(),
        },
    }))
}

fn sweep(view: &View, stored: &StoredSweep, live: Option<&Live>) -> Value {
    let moment = match live {
        Some(live) => {
            let mut moment = live.moment.clone();
            view.sweeps.paces().tell(stored.number, &mut moment);
            Some(moment)
        }
        None => view.sweeps.over(stored.number),
    };
    // Begun by an earlier coordinator, and not the one grid that this one carries out.
    let at_rest = match stored.state {
        SweepState::Running | SweepState::Paused => "at rest",
        over => over.name(),
    };
    serde_json::json!({
        "number": stored.number.0,
        "id": stored.text.id,
        "name": stored.text.name,
        "created_at": stored.created_at,
        "state": live.map_or(at_rest, |l| l.state),
        "active": live.is_some(),
        "priority": live.map_or(stored.text.priority, |l| l.priority),
        "moment": moment.as_ref().map(notify::numbers),
        "verdicts": live.map(|l| l.moment.verdicts),
        "rate": moment.as_ref().and_then(|m| m.rate),
        "left": moment.as_ref().and_then(|m| m.left).map(left),
    })
}

/// The time to the end, in numbers and in the words of the terminal.
fn left(left: Estimate) -> Value {
    serde_json::json!({
        "seconds": left.seconds,
        "low95": left.interval.map(|(low, _)| low),
        "high95": left.interval.map(|(_, high)| high),
        "text": progress::duration(left.seconds),
        "range": progress::range(left),
    })
}
