//! Leaving: what has not begun is handed back at once, what runs may end
//! within the grace time and is then stopped, and the worker goes when
//! everything has been acknowledged.

use std::time::Duration;

use common::protocol::{LeaseId, WorkerMessage};

use super::Session;
use super::event::{Effect, Exit, SlotNumber, Timestamp};

/// Part of the grace time that is kept for checkpoints to be written and
/// acknowledged, at most.
const RESERVE: Duration = Duration::from_secs(5);
/// Part of the time that a coordinator waits in which it makes durable what has
/// come, at most.
const MARGIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Leaving {
    /// When running tasks are stopped.
    stop_at: Timestamp,
    /// When the worker goes, whatever is still open.
    gone_at: Timestamp,
    stopped: bool,
    /// The process ends afterwards; otherwise it connects again.
    for_good: bool,
    /// It was the coordinator's wish: when the connection ends, nobody waits
    /// for what is still held.
    dismissed: bool,
}

impl Leaving {
    pub(super) fn ends_with_connection(&self) -> bool {
        self.for_good && self.dismissed
    }
}

impl Session {
    /// The worker's own end.
    pub(super) fn on_leave(&mut self, grace: Duration) {
        self.leave(grace, true, false);
    }

    /// The coordinator sends the worker away, and may not wait as long as the
    /// worker would.
    pub(super) fn on_drain(&mut self, finished: bool, waits: Option<Duration>) {
        let waits = waits.map(|waits| waits.saturating_sub(MARGIN.min(waits / 10)));
        let grace = waits.map_or(self.config.grace, |waits| waits.min(self.config.grace));
        self.leave(grace, finished, true);
    }

    fn leave(&mut self, grace: Duration, for_good: bool, dismissed: bool) {
        let reserve = RESERVE.min(grace / 3);
        let stop_at = self.now.after(grace.saturating_sub(reserve));
        let gone_at = self.now.after(grace);
        match &mut self.leaving {
            Some(leaving) => {
                // A second request can only hasten it.
                leaving.stop_at = leaving.stop_at.min(stop_at);
                leaving.gone_at = leaving.gone_at.min(gone_at);
                leaving.for_good |= for_good;
                leaving.dismissed |= dismissed;
            }
            None => {
                let stopped = false;
                self.leaving = Some(Leaving {
                    stop_at,
                    gone_at,
                    stopped,
                    for_good,
                    dismissed,
                });
                if self.link.is_welcome() {
                    self.effects.push(Effect::Send(WorkerMessage::Draining));
                }
            }
        }
        self.hand_back_waiting();
    }

    /// Goes on with leaving, if that is what the worker does.
    pub(super) fn progress_leave(&mut self) {
        let Some(leaving) = &mut self.leaving else {
            return;
        };
        if leaving.gone_at <= self.now {
            self.end_leave();
            return;
        }
        if leaving.stop_at <= self.now && !leaving.stopped {
            leaving.stopped = true;
            for (number, slot) in self.slots.iter().enumerate() {
                let leases: Vec<LeaseId> = slot.assigned.iter().copied().collect();
                if !leases.is_empty() {
                    let slot = SlotNumber(number as u32);
                    self.effects.push(Effect::Stop { slot, leases });
                }
            }
        }
        if self.held.is_empty() {
            self.end_leave();
        }
    }

    fn end_leave(&mut self) {
        let Some(leaving) = self.leaving.take() else {
            return;
        };
        if self.link.is_welcome() {
            self.effects.push(Effect::Disconnect);
        }
        if leaving.for_good {
            self.exit(Exit::Done);
        } else {
            // The coordinator went away for a while; it will be back.
            self.link_down();
        }
    }
}
