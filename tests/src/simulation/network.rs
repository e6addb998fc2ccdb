//! Connections: ordered and reliable until they break.

use std::collections::VecDeque;

use common::pb::{LeaseDecoder, LeaseEncoder, wire};
use common::protocol::{CoordinatorMessage, WorkerMessage};
use coordinator::core::{Event, Incoming, SessionId};
use prost::Message;
use worker::session::{Disconnect, Event as WorkerEvent};

use super::world::{What, World};

/// Number of a connection; the session of the same number belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkId(pub(super) u64);

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Coordinator,
    Worker,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) worker: usize,
    pub(super) worker_life: u32,
    coordinator_life: u32,
    to_coordinator: Lane<WorkerMessage>,
    to_worker: Lane<CoordinatorMessage>,
    broken: bool,
    encoder: LeaseEncoder,
    decoder: LeaseDecoder,
}

/// One direction.
#[derive(Debug)]
struct Lane<T> {
    on_the_way: VecDeque<T>,
    /// When the last of them arrives.
    last: u64,
    /// Silent until then.
    stalled: u64,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self {
            on_the_way: VecDeque::new(),
            last: 0,
            stalled: 0,
        }
    }
}

impl World {
    /// A worker's call is answered, if there is somebody.
    pub(super) fn dialled(&mut self, worker: usize, life: u32) {
        if self.workers[worker].life != life || self.workers[worker].session.is_none() {
            return;
        }
        if self.coordinator.core.is_none() {
            let event = WorkerEvent::Disconnected(Disconnect::Retry("nobody there".into()));
            self.at(
                self.now,
                What::WorkerHears {
                    worker,
                    life,
                    event,
                },
            );
            return;
        }
        self.last_link += 1;
        let id = LinkId(self.last_link);
        let link = Link {
            worker,
            worker_life: life,
            coordinator_life: self.coordinator.life,
            to_coordinator: Lane::default(),
            to_worker: Lane::default(),
            broken: false,
            encoder: LeaseEncoder::default(),
            decoder: LeaseDecoder::default(),
        };
        self.links.insert(id, link);
        self.workers[worker].link = Some(id);
        self.at(
            self.now,
            What::WorkerHears {
                worker,
                life,
                event: WorkerEvent::Connected,
            },
        );
    }

    pub(super) fn send_to_coordinator(&mut self, id: LinkId, message: WorkerMessage) {
        if self.goes_wrong(id) {
            return;
        }
        let moment = self.now + self.latency().as_micros() as u64;
        let message = self.through_the_wire_up(message);
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.broken {
            self.stats.messages_lost += 1;
            return;
        }
        let lane = &mut link.to_coordinator;
        lane.last = moment.max(lane.last).max(lane.stalled);
        lane.on_the_way.push_back(message);
        let moment = lane.last;
        self.at(
            moment,
            What::Arrives {
                link: id,
                at: Side::Coordinator,
            },
        );
    }

    pub(super) fn send_to_worker(&mut self, id: LinkId, message: CoordinatorMessage) {
        if self.goes_wrong(id) {
            return;
        }
        let moment = self.now + self.latency().as_micros() as u64;
        let encode = self.scenario.encode;
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.broken {
            self.stats.messages_lost += 1;
            return;
        }
        let message = if encode {
            link.through_the_wire_down(message)
        } else {
            message
        };
        let lane = &mut link.to_worker;
        lane.last = moment.max(lane.last).max(lane.stalled);
        lane.on_the_way.push_back(message);
        let moment = lane.last;
        self.at(
            moment,
            What::Arrives {
                link: id,
                at: Side::Worker,
            },
        );
    }

    fn through_the_wire_up(&self, message: WorkerMessage) -> WorkerMessage {
        if !self.scenario.encode {
            return message;
        }
        let bytes = wire::WorkerMessage::from(message).encode_to_vec();
        let decoded = wire::WorkerMessage::decode(bytes.as_slice()).expect("encoded just now");
        decoded
            .try_into()
            .expect("a session says what can be understood")
    }

    /// Sending is when connections break or fall silent. Returns whether this
    /// one broke.
    fn goes_wrong(&mut self, id: LinkId) -> bool {
        if self.fault(self.scenario.faults.link_breaks) {
            self.stats.links_broken += 1;
            self.cut(id, None);
            return true;
        }
        if self.fault(self.scenario.faults.link_stalls) {
            self.stats.links_stalled += 1;
            let until = self.now + self.wait(10, 20_000).as_micros() as u64;
            if let Some(link) = self.links.get_mut(&id) {
                link.to_coordinator.stalled = until;
                link.to_worker.stalled = until;
            }
        }
        false
    }

    /// Breaks a connection. Some of what is on its way still arrives; then
    /// each side learns of it in its own time, unless it is the one that left.
    pub(super) fn cut(&mut self, id: LinkId, left: Option<Side>) {
        let lose = |dice: &mut super::Dice, n: usize| dice.below(n as u64 + 1) as usize;
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.broken {
            return;
        }
        link.broken = true;
        let lost_up = lose(&mut self.dice, link.to_coordinator.on_the_way.len());
        let lost_down = lose(&mut self.dice, link.to_worker.on_the_way.len());
        let up = link.to_coordinator.on_the_way.len() - lost_up;
        link.to_coordinator.on_the_way.truncate(up);
        let down = link.to_worker.on_the_way.len() - lost_down;
        link.to_worker.on_the_way.truncate(down);
        self.stats.messages_lost += (lost_up + lost_down) as u64;
        let (up, down) = (link.to_coordinator.last, link.to_worker.last);
        for (side, last) in [(Side::Coordinator, up), (Side::Worker, down)] {
            if left != Some(side) {
                let wait = self.wait(0, 3000).as_micros() as u64;
                self.at(
                    (self.now + wait).max(last + 1),
                    What::Breaks { link: id, at: side },
                );
            }
        }
    }

    pub(super) fn arrives(&mut self, id: LinkId, at: Side) -> Result<(), String> {
        let Some(link) = self.links.get_mut(&id) else {
            return Ok(());
        };
        let (worker, life) = (link.worker, link.worker_life);
        match at {
            Side::Coordinator => {
                let of_this_life = link.coordinator_life == self.coordinator.life;
                let Some(message) = link.to_coordinator.on_the_way.pop_front() else {
                    return Ok(());
                };
                if of_this_life && self.coordinator.core.is_some() {
                    let event = event_of(SessionId(id.0), message);
                    return self.step_coordinator(event);
                }
                Ok(())
            }
            Side::Worker => {
                let Some(message) = link.to_worker.on_the_way.pop_front() else {
                    return Ok(());
                };
                if self.workers[worker].life == life && self.workers[worker].link == Some(id) {
                    return self.step_worker(worker, WorkerEvent::Message(message));
                }
                Ok(())
            }
        }
    }

    pub(super) fn breaks(&mut self, id: LinkId, at: Side) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        let (worker, life) = (link.worker, link.worker_life);
        match at {
            Side::Coordinator => {
                if link.coordinator_life == self.coordinator.life {
                    let event = Event::Closed {
                        session: SessionId(id.0),
                    };
                    let life = self.coordinator.life;
                    self.at(self.now, What::CoordinatorHears { life, event });
                }
            }
            Side::Worker => {
                if self.workers[worker].life == life && self.workers[worker].link == Some(id) {
                    self.workers[worker].link = None;
                    let event = WorkerEvent::Disconnected(Disconnect::Retry("broken".into()));
                    self.at(
                        self.now,
                        What::WorkerHears {
                            worker,
                            life,
                            event,
                        },
                    );
                }
            }
        }
    }
}

impl Link {
    fn through_the_wire_down(&mut self, message: CoordinatorMessage) -> CoordinatorMessage {
        let bytes = self.encoder.message(message).encode_to_vec();
        let decoded = wire::CoordinatorMessage::decode(bytes.as_slice()).expect("encoded just now");
        self.decoder
            .message(decoded)
            .expect("a coordinator says what can be understood")
    }
}

fn event_of(session: SessionId, message: WorkerMessage) -> Event {
    match message {
        WorkerMessage::Hello(hello) => Event::Hello { session, hello },
        WorkerMessage::Credit { window } => Event::Credit { session, window },
        WorkerMessage::Heartbeat(heartbeat) => Event::Heartbeat { session, heartbeat },
        WorkerMessage::Reports(reports) => Event::Reports {
            session,
            reports: reports.into_iter().map(Incoming::from).collect(),
        },
        WorkerMessage::Draining => Event::Draining { session },
    }
}
