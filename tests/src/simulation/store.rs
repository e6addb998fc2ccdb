//! A store that takes its time, fails, and now and then does what it says it
//! has not done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use common::ids::TaskId;
use common::protocol::{Attempt, FailureKind};
use coordinator::core::{Event, Exception, Lookup, Record, Ticket};
use coordinator::testing::MemoryStore;

use super::world::{What, World};

#[derive(Debug, Default)]
pub(super) struct SimStore {
    pub(super) durable: MemoryStore,
    jobs: VecDeque<(Ticket, Arc<[Record]>)>,
    busy: bool,
    /// The next ticket of this life.
    expected: u64,
    failing_until: u64,
    /// Failures and checkpoints that were ever durable: later records may have
    /// taken them away again.
    pub(super) failures: BTreeMap<(TaskId, Attempt), FailureKind>,
    pub(super) checkpoints: BTreeSet<TaskId>,
}

impl SimStore {
    fn apply(&mut self, records: &[Record]) -> Vec<Exception> {
        for record in records {
            match record {
                Record::Failure {
                    task,
                    attempt,
                    kind,
                    ..
                } => {
                    self.failures.insert((*task, *attempt), *kind);
                }
                Record::Checkpoint { task, .. } => {
                    self.checkpoints.insert(*task);
                }
                _ => {}
            }
        }
        self.durable.persist(records)
    }

    /// A coordinator opens the store.
    pub(super) fn open(&mut self) {
        self.expected = 1;
    }

    /// The coordinator died: what was being committed is durable or not.
    pub(super) fn interrupted(&mut self, committed: bool) {
        for (ticket, records) in std::mem::take(&mut self.jobs) {
            if committed && ticket.0 <= self.expected {
                self.apply(&records);
                self.expected = self.expected.max(ticket.0 + 1);
            }
        }
        self.busy = false;
    }
}

impl World {
    pub(super) fn store_persists(&mut self, ticket: Ticket, records: Arc<[Record]>) {
        self.store.jobs.push_back((ticket, records));
        if !self.store.busy {
            self.store.busy = true;
            let (low, high) = self.scenario.commit;
            let wait = self.dice.duration(low, high);
            self.after(
                wait,
                What::StoreWorks {
                    life: self.coordinator.life,
                },
            );
        }
    }

    /// Commits everything that is queued.
    pub(super) fn store_works(&mut self, life: u32) {
        if life != self.coordinator.life {
            return;
        }
        self.store.busy = false;
        if self.fault(self.scenario.faults.commit_fails) {
            let lasts = self.wait(0, 5000).as_micros() as u64;
            self.store.failing_until = self.now + lasts;
        }
        let failing = self.now < self.store.failing_until && self.now < self.trouble_ends();
        // The connection to the database broke after the commit.
        let unnoticed = failing && self.dice.below(4) == 0;
        for (ticket, records) in std::mem::take(&mut self.store.jobs) {
            let in_order = ticket.0 <= self.store.expected;
            let mut exceptions = Vec::new();
            if in_order && (!failing || unnoticed) {
                exceptions = self.store.apply(&records);
                self.store.expected = self.store.expected.max(ticket.0 + 1);
            }
            let event = if failing || !in_order {
                self.stats.commits_failed += 1;
                self.stats.commits_unnoticed += u64::from(unnoticed && in_order);
                Event::PersistFailed {
                    ticket,
                    error: "simulated".into(),
                }
            } else {
                Event::Persisted { ticket, exceptions }
            };
            self.after(
                Duration::from_micros(20),
                What::CoordinatorHears { life, event },
            );
        }
    }

    pub(super) fn store_looks_up(&mut self, ticket: Ticket, lookup: &Lookup) {
        let (low, high) = self.scenario.commit;
        let wait = self.dice.duration(low, high);
        let event = if self.fault(self.scenario.faults.lookup_fails) {
            self.stats.lookups_failed += 1;
            Event::LookupFailed {
                ticket,
                error: "simulated".into(),
            }
        } else {
            Event::Found {
                ticket,
                known: self.store.durable.lookup(lookup),
            }
        };
        let life = self.coordinator.life;
        self.after(wait, What::CoordinatorHears { life, event });
    }
}
