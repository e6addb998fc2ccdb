//! The connection: made, lost, made again; what is said when.

use std::time::Duration;

use common::protocol::{
    CoordinatorMessage, Heartbeat, Hello, LeaseId, PROTOCOL, Welcome, WorkerMessage,
};

use super::Session;
use super::backoff::{next_random, pause};
use super::event::{Disconnect, Effect, Exit, Timestamp};
use super::leave::Leaving;

/// Time to hear a Welcome before a connection counts as broken.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Link {
    state: State,
    /// Failures in a row since the last Welcome.
    failures: u32,
}

#[derive(Debug)]
enum State {
    /// Not connected; the next try is due then.
    Down { next_try: Timestamp },
    /// A connection was asked for.
    Connecting,
    /// The Hello was sent.
    Greeting { until: Timestamp },
    /// The coordinator accepted.
    Up {
        heartbeat: Duration,
        next_heartbeat: Timestamp,
    },
}

impl Link {
    pub(super) fn down_until(next_try: Timestamp) -> Self {
        Self {
            state: State::Down { next_try },
            failures: 0,
        }
    }

    pub(super) fn is_welcome(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }
}

impl Session {
    pub(super) fn on_connected(&mut self) {
        if !matches!(self.link.state, State::Connecting) {
            return;
        }
        self.link.state = State::Greeting {
            until: self.now.after(PATIENCE),
        };
        let hello = Hello {
            protocol: PROTOCOL,
            worker: self.config.worker,
            profile: self.config.profile.clone(),
            held: self.held_leases(),
        };
        self.effects.push(Effect::Send(WorkerMessage::Hello(hello)));
    }

    pub(super) fn on_disconnected(&mut self, why: Disconnect) {
        match why {
            Disconnect::Refused(message) => self.exit(Exit::Refused(message)),
            Disconnect::Retry(_) | Disconnect::Elsewhere { .. } => {
                if self
                    .leaving
                    .as_ref()
                    .is_some_and(Leaving::ends_with_connection)
                {
                    self.exit(Exit::Done);
                } else {
                    self.link_down();
                }
            }
        }
    }

    pub(super) fn link_down(&mut self) {
        let pause = pause(self.link.failures, next_random(&mut self.random));
        self.link.failures = self.link.failures.saturating_add(1);
        self.link.state = State::Down {
            next_try: self.now.after(pause),
        };
    }

    pub(super) fn connect_when_due(&mut self) {
        if let State::Down { next_try } = self.link.state
            && next_try <= self.now
            && !self.exited
        {
            self.link.state = State::Connecting;
            self.effects.push(Effect::Connect);
        }
    }

    pub(super) fn on_message(&mut self, message: CoordinatorMessage) {
        match (&self.link.state, message) {
            (State::Greeting { .. }, CoordinatorMessage::Welcome(welcome)) => {
                self.on_welcome(&welcome);
            }
            (State::Up { .. }, CoordinatorMessage::Leases(leases)) => self.on_leases(leases),
            (State::Up { .. }, CoordinatorMessage::Receipts(receipts)) => {
                self.on_receipts(&receipts);
            }
            (State::Up { .. }, CoordinatorMessage::Revoke(leases)) => self.on_revoke(&leases),
            (State::Up { .. }, CoordinatorMessage::Recall(leases)) => self.on_recall(&leases),
            (
                State::Up { .. },
                CoordinatorMessage::Drain {
                    finished, waits, ..
                },
            ) => self.on_drain(finished, waits),
            // A second Welcome, or anything before the first one: whoever
            // speaks there is not in step with us, so begin anew.
            (State::Greeting { .. } | State::Up { .. }, _) => {
                self.effects.push(Effect::Disconnect);
                self.link_down();
            }
            // From a connection that has been given up.
            (State::Down { .. } | State::Connecting, _) => {}
        }
    }

    fn on_welcome(&mut self, welcome: &Welcome) {
        let heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_ms.max(1)));
        let next_heartbeat = self.now.after(heartbeat);
        self.link.state = State::Up {
            heartbeat,
            next_heartbeat,
        };
        self.link.failures = 0;
        for lease in &welcome.drop {
            self.forget(*lease);
        }
        self.tidy_queue();
        self.unsend_reports();
        self.window = 0;
        self.send_credit();
        if self.leaving.is_some() {
            self.effects.push(Effect::Send(WorkerMessage::Draining));
        }
    }

    fn on_revoke(&mut self, leases: &[LeaseId]) {
        for lease in leases {
            self.forget(*lease);
        }
        self.tidy_queue();
    }

    /// Says how many tasks are wanted, when it has changed enough to matter.
    pub(super) fn send_credit(&mut self) {
        if !self.link.is_welcome() || self.leaving.is_some() {
            return;
        }
        let pace = if self.pace.is_known() {
            self.pace
        } else {
            self.baselines
        };
        let window = pace.window(self.slots.len() as u32);
        let (low, high) = (self.window - self.window / 4, self.window + self.window / 4);
        if self.window == 0 || window < low || window > high {
            self.window = window;
            self.effects
                .push(Effect::Send(WorkerMessage::Credit { window }));
        }
    }

    /// Sends a heartbeat when it is due, and gives up a greeting that is not
    /// answered.
    pub(super) fn keep_alive(&mut self) {
        match &mut self.link.state {
            State::Up {
                heartbeat,
                next_heartbeat,
            } if *next_heartbeat <= self.now => {
                *next_heartbeat = self.now.after(*heartbeat);
                let running = self
                    .slots
                    .iter()
                    .filter_map(|slot| slot.assigned.front().copied());
                let heartbeat = Heartbeat {
                    running: running.collect(),
                    memory: self.memory,
                };
                self.effects
                    .push(Effect::Send(WorkerMessage::Heartbeat(heartbeat)));
            }
            State::Greeting { until } if *until <= self.now => {
                self.effects.push(Effect::Disconnect);
                self.link_down();
            }
            _ => {}
        }
    }

    pub(super) fn exit(&mut self, exit: Exit) {
        self.exited = true;
        self.effects.push(Effect::Exit(exit));
    }
}
