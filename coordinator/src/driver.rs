//! The only owner of the scheduler: feeds it events and carries out its effects.
//!
//! Sessions, the store's answers, the clock and requests from inside the
//! process all arrive as [`Input`]s on one channel; nothing else touches the
//! [`Core`]. What the core wants durable is presented to the store in the
//! order of the effects, and the store's answer comes back as an event.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::protocol::{CoordinatorMessage, SweepNumber};
use common::traces::Traces;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use crate::attempts::Attempts;
use crate::core::{
    CloseReason, Config, Control, Core, Denied, Done, Effect, Event, NewSweep, Notice, Refusal,
    SessionId, SweepState, Timestamp,
};
use crate::store::Store;
use crate::tally::Tally;
use crate::workload::Workload;

/// Time between two ticks of the core.
const TICK: Duration = Duration::from_millis(20);
/// Inputs that are taken before the store's and the sessions' tasks get a turn.
const BURST: usize = 256;

/// To one session's stream: messages, or its end.
pub type Outgoing = mpsc::UnboundedSender<Result<CoordinatorMessage, Status>>;

/// What reaches the driver.
#[expect(missing_debug_implementations, reason = "it holds a function")]
pub enum Input {
    /// A session's stream is there, and its Hello.
    Attach {
        /// Its number.
        session: SessionId,
        /// Where messages to it go.
        outgoing: Outgoing,
        /// The Hello.
        event: Event,
    },
    /// Something happened.
    Event(Event),
    /// A sweep to carry out; the answer comes when it is over.
    Sweep {
        /// The sweep.
        new: NewSweep,
        /// Told when it is over.
        ended: oneshot::Sender<Ended>,
    },
    /// A request to the core.
    Control {
        /// What is wanted.
        control: Control,
        /// Told what came of it.
        answer: oneshot::Sender<Result<Done, Denied>>,
    },
    /// A look at the core between two events.
    Look(Box<dyn FnOnce(&Core) + Send>),
}

/// A sweep that is over.
#[derive(Debug)]
pub struct Ended {
    /// Finished or cancelled.
    pub state: SweepState,
    /// Tasks that were equal to earlier ones.
    pub duplicates: u64,
    /// Its tasks and what was gathered.
    pub workload: Box<dyn Workload>,
}

/// A handle to the driver.
#[derive(Clone, Debug)]
pub struct Handle {
    inputs: mpsc::UnboundedSender<Input>,
    tally: Arc<Tally>,
}

impl Handle {
    /// What has happened since the driver was started.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Sends an input; one that comes after the driver's end is dropped.
    pub fn send(&self, input: Input) {
        let _ = self.inputs.send(input);
    }

    /// Sends an event.
    pub fn event(&self, event: Event) {
        self.send(Input::Event(event));
    }

    /// Asks the core for something; `None` when the driver has ended.
    pub async fn control(&self, control: Control) -> Option<Result<Done, Denied>> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Control { control, answer });
        answered.await.ok()
    }

    /// Looks at the core; `None` when the driver has ended.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Look(Box::new(move |core| {
            // Whoever asked may have lost interest.
            let _ = answer.send(look(core));
        })));
        answered.await.ok()
    }
}

/// Where notices go beside the log.
pub type Notices = mpsc::UnboundedSender<Notice>;

/// Starts the driver over a store; attempts are traced if there is a collector.
pub fn start<S: Store>(
    config: Config,
    store: Arc<S>,
    notices: Notices,
    traces: Option<Arc<Traces>>,
) -> (Handle, tokio::task::JoinHandle<()>) {
    let (inputs, inbox) = mpsc::unbounded_channel();
    let tally = Arc::new(Tally::default());
    let handle = Handle {
        inputs: inputs.clone(),
        tally: Arc::clone(&tally),
    };
    let driver = Driver {
        core: Core::new(config, store.epoch(), Timestamp(0)),
        began: Instant::now(),
        store,
        inputs,
        sessions: HashMap::new(),
        sweeps: HashMap::new(),
        requests: HashMap::new(),
        last_request: 0,
        notices,
        tally,
        attempts: traces.map(Attempts::new),
    };
    (handle, tokio::spawn(driver.run(inbox)))
}

struct Driver<S> {
    core: Core,
    began: Instant,
    store: Arc<S>,
    inputs: mpsc::UnboundedSender<Input>,
    sessions: HashMap<SessionId, Outgoing>,
    sweeps: HashMap<SweepNumber, oneshot::Sender<Ended>>,
    requests: HashMap<u64, oneshot::Sender<Result<Done, Denied>>>,
    last_request: u64,
    notices: Notices,
    tally: Arc<Tally>,
    attempts: Option<Attempts>,
}

impl<S: Store> Driver<S> {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Input>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BURST);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.step(Event::Tick),
                count = inbox.recv_many(&mut batch, BURST) => {
                    if count == 0 {
                        return;
                    }
                    for input in batch.drain(..) {
                        self.take(input);
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Attach {
                session,
                outgoing,
                event,
            } => {
                self.sessions.insert(session, outgoing);
                self.tally.sessions_opened.inc();
                self.count_sessions();
                self.step(event);
            }
            Input::Event(event) => {
                if let Event::Closed { session } = &event {
                    self.sessions.remove(session);
                    self.count_sessions();
                }
                self.step(event);
            }
            Input::Sweep { new, ended } => {
                self.sweeps.insert(new.number, ended);
                self.step(Event::Sweep(new));
            }
            Input::Control { control, answer } => {
                self.last_request += 1;
                let request = self.last_request;
                self.requests.insert(request, answer);
                self.step(Event::Control { request, control });
            }
            Input::Look(look) => look(&self.core),
        }
    }

    fn step(&mut self, event: Event) {
        let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(attempts) = &mut self.attempts {
            attempts.before(&event);
        }
        let mut effects = Vec::new();
        self.core.step(Timestamp(now), event, &mut effects);
        for effect in effects {
            if let Some(attempts) = &mut self.attempts {
                attempts.after(&effect);
            }
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send { session, message } => {
                if let Some(outgoing) = self.sessions.get(&session) {
                    // A stream that has just ended says so itself.
                    let _ = outgoing.send(Ok(message));
                }
            }
            Effect::Refuse { session, refusal } => {
                tracing::warn!(%refusal, "a worker was refused");
                self.tally.sessions_refused.inc();
                self.end_session(session, status_of_refusal(&refusal));
            }
            Effect::Close { session, reason } => {
                tracing::info!(%reason, "a session is closed");
                self.end_session(session, status_of_close(reason));
            }
            Effect::Persist { ticket, records } => {
                let began = Instant::now();
                let count = records.len() as u64;
                let answer = self.store.persist(ticket, records);
                let inputs = self.inputs.clone();
                let tally = Arc::clone(&self.tally);
                tokio::spawn(async move {
                    let answer = answer.await;
                    tally.commit(began.elapsed(), count, answer.is_ok());
                    let event = match answer {
                        Ok(exceptions) => Event::Persisted { ticket, exceptions },
                        Err(error) => Event::PersistFailed {
                            ticket,
                            error: error.to_string(),
                        },
                    };
                    // Nobody listens when the process is ending.
                    let _ = inputs.send(Input::Event(event));
                });
            }
            Effect::Lookup { ticket, lookup } => {
                let answer = self.store.lookup(lookup);
                let inputs = self.inputs.clone();
                tokio::spawn(async move {
                    let event = match answer.await {
                        Ok(known) => Event::Found { ticket, known },
                        Err(error) => Event::LookupFailed {
                            ticket,
                            error: error.to_string(),
                        },
                    };
                    let _ = inputs.send(Input::Event(event));
                });
            }
            Effect::SweepEnded {
                sweep,
                state,
                duplicates,
                workload,
            } => {
                self.tally.sweep_ended(state);
                if let Some(ended) = self.sweeps.remove(&sweep) {
                    // Whoever asked may have lost interest.
                    let _ = ended.send(Ended {
                        state,
                        duplicates,
                        workload,
                    });
                }
            }
            Effect::Answer { request, result } => {
                if let Some(answer) = self.requests.remove(&request) {
                    let _ = answer.send(result);
                }
            }
            Effect::Notice(notice) => {
                log(&notice);
                self.tally.notice(&notice);
                let _ = self.notices.send(notice);
            }
        }
    }

    fn end_session(&mut self, session: SessionId, status: Status) {
        if let Some(outgoing) = self.sessions.remove(&session) {
            let _ = outgoing.send(Err(status));
        }
        self.count_sessions();
    }

    fn count_sessions(&self) {
        let open = i64::try_from(self.sessions.len()).unwrap_or(i64::MAX);
        self.tally.sessions.set(open);
    }
}

fn status_of_refusal(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::Protocol { .. }
        | Refusal::NumericsVersion { .. }
        | Refusal::NumericLevel { .. } => Status::failed_precondition(text),
        Refusal::TooMany { .. } => Status::resource_exhausted(text),
        Refusal::Stopping => Status::unavailable(text),
    }
}

fn status_of_close(reason: CloseReason) -> Status {
    let text = reason.to_string();
    match reason {
        CloseReason::Superseded | CloseReason::Silent => Status::aborted(text),
        CloseReason::SecondHello => Status::invalid_argument(text),
    }
}

fn log(notice: &Notice) {
    match notice {
        Notice::WorkerJoined { name, kept, .. } => {
            tracing::info!(worker = name, kept, "a worker joined");
        }
        Notice::WorkerDetached { name, held } => {
            tracing::info!(worker = name, held, "a worker's connection broke");
        }
        Notice::WorkerLost { name, requeued } => {
            tracing::warn!(worker = name, requeued, "a worker is given up");
        }
        Notice::WorkerDistrusted { name, failures } => {
            tracing::warn!(worker = name, failures, "a worker fails at everything");
        }
        Notice::TaskFailed {
            lease,
            kind,
            message,
            again,
        } => {
            tracing::warn!(%lease, kind = kind.name(), message, again, "an execution failed");
        }
        Notice::Conflict { task, worker } => {
            tracing::error!(%task, %worker, "a task has two results with different bits");
        }
        Notice::ReportRefused { lease, detail } => {
            tracing::warn!(%lease, detail, "a report was turned down");
        }
        Notice::StoreFailing { error } => {
            tracing::error!(error, "the store takes no records; nothing is acknowledged");
        }
        Notice::StoreRecovered => tracing::info!("the store works again"),
    }
}
