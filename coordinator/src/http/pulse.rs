//! What is going on, in numbers that a page shows all the time: made once a
//! second for all who watch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use common::protocol::SweepNumber;
use serde_json::Value;

use super::reply::{Refusal, json};
use super::{Shared, View};
use crate::core::{Core, Status};
use crate::notify;
use crate::progress::Moment;
use crate::rpc::Role;
use crate::store::{Store, StoredSweep};

/// Time between two looks at how many tasks are done.
const LOOK: Duration = Duration::from_secs(1);
/// The rate is that of so many looks.
const LOOKS: usize = 60;
/// How old what is shown may be.
const FRESH: Duration = Duration::from_millis(900);
/// Sweeps that are shown: all active ones, and the youngest of the others.
const SWEEPS: usize = 200;

/// How many tasks were done when, for each active sweep.
#[derive(Debug, Default)]
struct Rates(BTreeMap<SweepNumber, VecDeque<(Instant, u64)>>);

impl Rates {
    fn look(&mut self, now: Instant, done: &[(SweepNumber, u64)]) {
        self.0
            .retain(|number, _| done.iter().any(|d| d.0 == *number));
        for (number, done) in done {
            let looks = self.0.entry(*number).or_default();
            looks.push_back((now, *done));
            if looks.len() > LOOKS {
                looks.pop_front();
            }
        }
    }

    /// Tasks done in the last minute, and the seconds they took.
    fn of(&self, number: SweepNumber) -> Option<(u64, f64)> {
        let looks = self.0.get(&number)?;
        let ((then, before), (now, done)) = (looks.front()?, looks.back()?);
        let seconds = now.duration_since(*then).as_secs_f64();
        (seconds > 0.0).then_some((done.saturating_sub(*before), seconds))
    }
}

/// What was shown last, and how fast it goes.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    rates: Mutex<Rates>,
    shown: tokio::sync::Mutex<Option<(Instant, Arc<Value>)>>,
}

/// Looks once a second, for as long as there is somebody who could ask.
pub(super) async fn beat(shared: std::sync::Weak<Shared>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let Some(handle) = shared.window.handle() else {
            continue;
        };
        let done = |core: &Core| {
            let sweeps = core.status().sweeps.into_iter();
            sweeps
                .map(|s| (s.number, s.recorded + s.failed))
                .collect::<Vec<_>>()
        };
        let Some(done) = handle.look(done).await else {
            return;
        };
        let mut rates = shared
            .pulse
            .rates
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        rates.look(Instant::now(), &done);
    }
}

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
    let mut shown = shared.pulse.shown.lock().await;
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
            sweeps.push(sweep(shared, view, stored, active));
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

fn sweep(shared: &Shared, view: &View, stored: &StoredSweep, live: Option<&Live>) -> Value {
    let moment = match live {
        Some(live) => Some(live.moment.clone()),
        None => view.sweeps.over(stored.number),
    };
    let rates = shared
        .pulse
        .rates
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let rate = live.and_then(|l| rates.of(l.number));
    let left = live.zip(rate).and_then(|(live, (done, seconds))| {
        let m = &live.moment;
        let left = m.planned.saturating_sub(m.recorded + m.failed);
        time_left(left, done, seconds)
    });
    serde_json::json!({
        "number": stored.number.0,
        "id": stored.text.id,
        "name": stored.text.name,
        "created_at": stored.created_at,
        "state": live.map_or(stored.state.name(), |l| l.state),
        "active": live.is_some(),
        "priority": live.map_or(stored.text.priority, |l| l.priority),
        "moment": moment.as_ref().map(notify::numbers),
        "verdicts": live.map(|l| l.moment.verdicts),
        "rate": rate.map(|(done, seconds)| done as f64 / seconds),
        "left": left,
    })
}

/// Seconds until so many tasks are done, from and to: two standard deviations
/// of a count either way. `None` while too few are done to say anything.
fn time_left(left: u64, done: u64, seconds: f64) -> Option<[f64; 2]> {
    if done < 5 {
        return None;
    }
    let (left, done) = (left as f64, done as f64);
    let spread = 2.0 * done.sqrt();
    Some([
        left * seconds / (done + spread),
        left * seconds / (done - spread).max(1.0),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        let (mut rates, one) = (Rates::default(), SweepNumber(1));
        let began = Instant::now();
        assert_eq!(rates.of(one), None);
        for second in 0..100_u64 {
            let now = began + Duration::from_secs(second);
            rates.look(
                now,
                &[(one, if second < 50 { 0 } else { 10 * (second - 50) })],
            );
        }
        let (done, seconds) = rates.of(one).unwrap();
        assert_eq!((done, seconds), (490, 59.0));
        rates.look(began, &[]);
        assert_eq!(rates.of(one), None, "a sweep that is over has no rate");
    }

    #[test]
    fn the_time_left_is_a_range_that_narrows() {
        assert_eq!(time_left(100, 4, 10.0), None);
        let wide = time_left(100, 25, 25.0).unwrap();
        let narrow = time_left(100, 2500, 2500.0).unwrap();
        for [from, to] in [wide, narrow] {
            assert!(from < 100.0 && 100.0 < to);
        }
        assert!(narrow[1] - narrow[0] < wide[1] - wide[0]);
    }
}
