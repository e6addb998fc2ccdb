//! What must be true between any two steps.
//!
//! Tests and the simulation call [`Core::check_invariants`] after every step;
//! a running coordinator does not pay for it.

use std::collections::BTreeMap;

use common::protocol::SweepNumber;

use super::Core;
use super::journal::Record;
use super::sweep::{NeedState, Parked, Ready};
use super::task::State;

/// Turns a broken rule into an error with the numbers.
macro_rules! require {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

/// Live tasks of a sweep, counted from the tasks.
#[derive(Default)]
struct Count {
    runs: u64,
    baselines: u64,
    leased: u64,
    ready: u64,
}

impl Core {
    /// Checks that the state makes sense.
    ///
    /// # Errors
    /// The broken rule in words, with the numbers.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_tasks()?;
        self.check_workers()?;
        self.check_journal()?;
        let counts = self.count()?;
        for number in self.sweeps.keys() {
            self.check_sweep(*number, counts.get(number).unwrap_or(&Count::default()))?;
        }
        Ok(())
    }

    /// Each live task is where its state says, and nowhere else.
    fn check_tasks(&self) -> Result<(), String> {
        let mut n_tasks = 0;
        for (idx, task) in self.tasks.iter() {
            n_tasks += 1;
            let id = task.id;
            require!(
                self.tasks.find(&id) == Some(idx),
                "{id} is not indexed where it lives"
            );
            require!(!task.owners.is_empty(), "{id} has no owner");
            for place in &task.owners {
                require!(
                    self.sweeps.contains_key(&place.sweep),
                    "{id} is owned by no sweep"
                );
                let ready = self.sweeps[&place.sweep]
                    .ready
                    .contains(&Ready::new(*place, idx));
                let should = matches!(task.state, State::Ready);
                require!(
                    ready == should,
                    "{id} in the ready set: {ready}, should be {should}"
                );
            }
            match &task.state {
                State::Ready => {}
                State::Delayed { until } => {
                    require!(self.delayed.contains(&(*until, idx)), "{id} is not delayed");
                }
                State::Waiting => {
                    let parked = self.sweeps.values().flat_map(|sweep| sweep.needs.values());
                    let parked = parked.flat_map(|need| &need.parked).any(
                        |parked| matches!(parked, Parked::Live(i, t) if *i == idx && *t == id),
                    );
                    require!(parked, "{id} waits for nothing");
                }
                State::Leased(grant) => {
                    let worker = self.workers.get(&grant.worker);
                    let held = worker.and_then(|worker| worker.held.get(grant.position as usize));
                    require!(held == Some(&idx), "{id} is not held where its lease says");
                    let attempt = grant.attempt;
                    require!(
                        attempt.epoch() < self.epoch || attempt.counter() <= self.last_attempt,
                        "{id} is leased under attempt {attempt}, which was never granted"
                    );
                }
                State::Recording { ticket, record } => {
                    let flight = self.journal.in_flight.get(ticket);
                    let found = flight.and_then(|flight| flight.records.get(*record as usize));
                    require!(
                        matches!(found, Some(Record::Result { task, .. }) if *task == id),
                        "{id} is not among the records of ticket {ticket}"
                    );
                }
            }
        }
        require!(
            n_tasks == self.tasks.len(),
            "{n_tasks} tasks, {} indexed",
            self.tasks.len()
        );
        for (until, idx) in &self.delayed {
            let task = self.tasks.get(*idx);
            require!(
                task.is_some_and(
                    |task| matches!(task.state, State::Delayed { until: u } if u == *until)
                ),
                "a delayed entry has no delayed task"
            );
        }
        Ok(())
    }

    fn check_workers(&self) -> Result<(), String> {
        for (number, worker) in &self.workers {
            let id = worker.id;
            require!(self.by_id.get(&id) == Some(number), "{id} is not indexed");
            if let Some(session) = worker.session {
                require!(
                    self.sessions.get(&session) == Some(number),
                    "{id} has a lost session"
                );
            }
            for (position, idx) in worker.held.iter().enumerate() {
                let task = self.tasks.get(*idx);
                require!(
                    task.is_some_and(|task| matches!(
                        &task.state,
                        State::Leased(grant)
                            if grant.worker == *number && grant.position as usize == position
                    )),
                    "{id} holds a task that is not leased to it"
                );
            }
        }
        require!(
            self.by_id.len() == self.workers.len(),
            "workers and identities differ"
        );
        for (session, number) in &self.sessions {
            let worker = self.workers.get(number);
            require!(
                worker.is_some_and(|worker| worker.session == Some(*session)),
                "a session has no worker"
            );
        }
        Ok(())
    }

    fn check_journal(&self) -> Result<(), String> {
        require!(
            self.journal.records.is_empty(),
            "records were left behind by a step"
        );
        let resting = &self.journal.resting;
        require!(
            resting.results.is_empty()
                && resting.receipts.is_empty()
                && resting.requests.is_empty(),
            "something rests on records that were never sent"
        );
        let flights = self.journal.in_flight.values();
        let n_records: usize = flights.clone().map(|flight| flight.records.len()).sum();
        require!(
            n_records == self.journal.n_records,
            "records in flight are miscounted"
        );
        let n_waiting = flights
            .clone()
            .filter(|flight| flight.due.is_some())
            .count();
        require!(
            n_waiting == self.journal.n_waiting,
            "waiting tickets are miscounted"
        );
        let n_failed = flights.filter(|flight| flight.failures > 0).count();
        require!(
            n_failed == self.journal.n_failed,
            "failed tickets are miscounted"
        );
        Ok(())
    }

    fn count(&self) -> Result<BTreeMap<SweepNumber, Count>, String> {
        let mut counts: BTreeMap<SweepNumber, Count> = BTreeMap::new();
        for (_, task) in self.tasks.iter() {
            for place in &task.owners {
                let count = counts.entry(place.sweep).or_default();
                if place.baseline {
                    count.baselines += 1;
                } else {
                    count.runs += 1;
                }
                count.leased += u64::from(matches!(task.state, State::Leased(_)));
                count.ready += u64::from(matches!(task.state, State::Ready));
            }
            let mut sweeps: Vec<_> = task.owners.iter().map(|place| place.sweep).collect();
            sweeps.dedup();
            require!(
                sweeps.len() == task.owners.len(),
                "{} has one owner twice",
                task.id
            );
        }
        Ok(counts)
    }

    /// Every position of a sweep is in one place.
    fn check_sweep(&self, number: SweepNumber, count: &Count) -> Result<(), String> {
        let sweep = &self.sweeps[&number];
        require!(
            sweep.live == count.runs,
            "sweep {number}: {} live, {}",
            sweep.live,
            count.runs
        );
        require!(
            sweep.live_baselines == count.baselines,
            "sweep {number}: {} live baselines, {}",
            sweep.live_baselines,
            count.baselines
        );
        require!(
            sweep.leased == count.leased,
            "sweep {number}: {} leased, {}",
            sweep.leased,
            count.leased
        );
        require!(
            sweep.ready.len() as u64 == count.ready,
            "sweep {number}: {} ready, {}",
            sweep.ready.len(),
            count.ready
        );
        let fresh = sweep.needs.values().flat_map(|need| &need.parked);
        let fresh = fresh
            .filter(|parked| matches!(parked, Parked::Fresh(_)))
            .count() as u64;
        require!(
            fresh == sweep.n_parked,
            "sweep {number}: {} parked, {fresh}",
            sweep.n_parked
        );
        for need in sweep.needs.values() {
            let over = matches!(need.state, NeedState::Solved { .. } | NeedState::Failed);
            require!(
                !over || need.parked.is_empty(),
                "sweep {number}: something waits for a baseline that is over"
            );
        }
        let lookups: Vec<_> = self
            .lookups
            .values()
            .filter(|p| p.sweep == number)
            .collect();
        let in_lookup: u64 = lookups
            .iter()
            .map(|pending| pending.runs.len() as u64)
            .sum();
        require!(
            (lookups.len(), in_lookup) == (sweep.n_lookups, sweep.n_in_lookup),
            "sweep {number}: lookups are miscounted"
        );
        if !sweep.is_active() {
            return Ok(());
        }
        let failed = sweep
            .failed
            .values()
            .filter(|failed| !failed.place.baseline)
            .count() as u64;
        let places = in_lookup
            + sweep.again.len() as u64
            + sweep.ahead.len() as u64
            + fresh
            + sweep.live
            + sweep.recorded.len() as u64
            + failed
            + sweep.duplicates;
        let met = sweep.walked + sweep.adopted.len() as u64;
        require!(
            met == places,
            "sweep {number}: {} positions walked and {} adopted, but {in_lookup} in lookups, {} to \
             be looked up again, {} ahead, {fresh} parked, {} live, {} recorded, {failed} failed, \
             {} duplicates",
            sweep.walked,
            sweep.adopted.len(),
            sweep.again.len(),
            sweep.ahead.len(),
            sweep.live,
            sweep.recorded.len(),
            sweep.duplicates
        );
        Ok(())
    }
}
