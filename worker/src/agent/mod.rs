//! What the session asks for, done: the connection to the coordinator, files,
//! slots' processes, the clock.
//!
//! One loop owns the [`Session`] and feeds it events; connection, downloads and
//! slots are tasks that send events to it. Nothing in the loop waits for a
//! computation, a disk or the network, so heartbeats are on time whatever the
//! slots do. Events of a connection or a process that has been replaced are
//! dropped by the number they carry.

mod blobs;
mod connect;
mod idle;
mod link;
mod process;
mod route;
mod spool;
mod trouble;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use common::decode::decode_cell;
use common::protocol::{CellText, FailureKind, Outcome, Report, STOPPING, TaskFailure};
use common::record::Telemetry;
use common::traces::{Part, Span, Traces};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::files::{self, BlobFolder};
use crate::session::{self, Disconnect, Effect, Event, Exit, Session, SlotNumber, Timestamp};
use blobs::Fetcher;
pub use connect::Target;
pub use link::Bearer;
use link::{Client, Link};
pub use process::SlotKind;
use process::{SlotProcess, Spawner};
pub use route::Route;
pub use spool::{Spool, SpoolError, decode as decode_spooled};

/// Time between two ticks of the session.
const TICK: Duration = Duration::from_millis(20);
/// Time between two measurements of memory.
const MEASURE: Duration = Duration::from_secs(1);
/// Events that wait for the loop. When it is full the tasks that bring events
/// wait, and so, in the end, do the coordinator and the slots.
const INBOX: usize = 1024;
/// Time that the last messages of a connection have to leave.
const FLUSH: Duration = Duration::from_secs(2);

/// Settings of an agent.
#[derive(Debug)]
pub struct Config {
    /// Where coordinators are.
    pub route: Route<Target>,
    /// What every call carries.
    pub bearer: Bearer,
    /// Who the worker is.
    pub session: session::Config,
    /// What its slots are.
    pub slots: SlotKind,
    /// A private folder for files.
    pub blobs: BlobFolder,
    /// Where results wait for a coordinator.
    pub spool: Option<Spool>,
    /// Where spans go.
    pub traces: Option<Arc<Traces>>,
}

/// What comes from outside beside the coordinator.
#[derive(Debug)]
pub struct Wishes {
    /// To leave within a time.
    pub leave: mpsc::Receiver<Duration>,
    /// To end at once: nobody waits for anything any more.
    pub end: oneshot::Receiver<()>,
}

/// How an agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The session came to its end.
    Session(Exit),
    /// It was told to end at once.
    AtOnce,
}

/// Who sends an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A connection, by number.
    Link(u64),
    /// A slot's process, by its number over all slots.
    Process(SlotNumber, u64),
    /// A download.
    Files,
}

type Inbox = mpsc::Sender<(Source, Event)>;

/// Works until there is a reason to end. All slots are gone when it returns.
pub async fn run(config: Config, wishes: Wishes) -> End {
    Agent::new(config).run(wishes).await
}

/// What a slot did, as a span; its beginning is reckoned from the time that it took.
fn trace(traces: &Traces, slot: SlotNumber, report: &Report) {
    let ended = SystemTime::now();
    let mut attributes = vec![("slot", slot.0.to_string())];
    let (took, failure) = match &report.outcome {
        Outcome::Result(result) => {
            let telemetry = &result.telemetry;
            attributes.push(("cpu_seconds", telemetry.cpu_seconds.to_string()));
            attributes.push(("peak_memory_bytes", telemetry.peak_memory.to_string()));
            (telemetry.seconds, None)
        }
        Outcome::Failure(failure) => {
            let why = format!("{}: {}", failure.kind.name(), failure.message);
            (0.0, Some(why))
        }
        Outcome::HandBack(_) | Outcome::Malformed { .. } => return,
    };
    let took = Duration::try_from_secs_f64(took).unwrap_or_default();
    traces.add(Span {
        lease: report.lease,
        part: Part::Execution,
        name: "execution".into(),
        began: ended.checked_sub(took).unwrap_or(ended),
        ended,
        attributes,
        failure,
    });
}

struct Agent {
    route: Route<Target>,
    /// Where the last connection goes.
    target: Target,
    /// Where files come from.
    source: Target,
    bearer: Bearer,
    session: Session,
    began: Instant,
    inbox: Inbox,
    events: mpsc::Receiver<(Source, Event)>,
    /// Events that effects gave at once.
    pending: VecDeque<Event>,
    spool: Option<spool::Keeper>,
    traces: Option<Arc<Traces>>,
    fetcher: Fetcher,
    spawner: Spawner,
    link: Option<Link>,
    slots: Vec<Option<SlotProcess>>,
    /// Connections and processes so far.
    born: u64,
    /// Why there was no connection last time: said once.
    complaint: String,
    /// The coordinator has welcomed this worker at some time.
    welcomed: bool,
}

impl Agent {
    fn new(config: Config) -> Self {
        let (inbox, events) = mpsc::channel(INBOX);
        let profile = &config.session.profile;
        // A channel of its own: a large download must not hold up heartbeats.
        let target = config.route.target();
        let files = Client::new(target.connect_lazily(), config.bearer.clone());
        let slots = (0..profile.slots).map(|_| None).collect();
        let seed = config.session.seed;
        let spawner = Spawner {
            kind: config.slots,
            blobs: config.blobs.clone(),
            threads: profile.threads_per_slot,
            memory: profile.memory_per_slot,
        };
        let mut session = Session::new(config.session, Timestamp(0));
        let spool = config.spool.and_then(|spool| {
            spool::Keeper::start(spool, &mut session)
                .inspect_err(|error| tracing::warn!(%error, "there is no spool"))
                .ok()
        });
        Self {
            route: config.route,
            source: target.clone(),
            target,
            bearer: config.bearer,
            began: Instant::now(),
            fetcher: Fetcher::new(files, config.blobs, seed),
            session,
            spool,
            traces: config.traces,
            inbox,
            events,
            pending: VecDeque::new(),
            spawner,
            link: None,
            slots,
            born: 0,
            complaint: String::new(),
            welcomed: false,
        }
    }

    async fn run(mut self, mut wishes: Wishes) -> End {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut measure = tokio::time::interval(MEASURE);
        measure.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut leaves = true;
        let end = loop {
            let event = tokio::select! {
                biased;
                _ = &mut wishes.end => break End::AtOnce,
                grace = wishes.leave.recv(), if leaves => match grace {
                    Some(grace) => Event::Leave { grace },
                    None => {
                        leaves = false;
                        continue;
                    }
                },
                _ = tick.tick() => Event::Tick,
                _ = measure.tick() => {
                    self.measure();
                    continue;
                }
                Some((source, event)) = self.events.recv() => {
                    if !self.is_current(source) {
                        continue;
                    }
                    event
                }
            };
            if let Some(exit) = self.apply(event) {
                break End::Session(exit);
            }
        };
        self.finish(&end).await;
        end
    }

    fn is_current(&self, source: Source) -> bool {
        match source {
            Source::Link(number) => self.link.as_ref().is_some_and(|link| link.number == number),
            Source::Process(slot, number) => {
                let process = self.slots.get(slot.0 as usize).and_then(Option::as_ref);
                process.is_some_and(|process| process.number == number)
            }
            Source::Files => true,
        }
    }

    /// One event and everything that follows from it at once.
    fn apply(&mut self, event: Event) -> Option<Exit> {
        let mut effects = Vec::new();
        self.pending.push_back(event);
        while let Some(event) = self.pending.pop_front() {
            self.note(&event);
            let now =
                Timestamp(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX));
            self.session.step(now, event, &mut effects);
            for effect in effects.drain(..) {
                if let Some(exit) = self.carry_out(effect) {
                    return Some(exit);
                }
            }
        }
        if let Some(spool) = &mut self.spool {
            spool.follow(&self.session, self.session.is_connected());
        }
        None
    }

    /// Tells people what they may want to know.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Disconnected(Disconnect::Retry(why)) => {
                self.link = None;
                self.route.failed();
                self.complain(why);
            }
            Event::Disconnected(Disconnect::Elsewhere { leader, why }) => {
                self.link = None;
                self.route.follow(leader);
                self.complain(why);
            }
            Event::Disconnected(Disconnect::Refused(_)) => self.link = None,
            Event::Message(common::protocol::CoordinatorMessage::Welcome(welcome)) => {
                self.complaint.clear();
                self.welcomed = true;
                self.route.welcomed();
                self.fetch_from_here();
                tracing::info!(epoch = welcome.epoch, "welcomed by the coordinator");
            }
            Event::SlotDied {
                slot,
                kind,
                message,
            } => {
                if let Some(place) = self.slots.get_mut(slot.0 as usize) {
                    *place = None;
                }
                tracing::warn!(slot = slot.0, kind = kind.name(), %message, "a slot died");
            }
            Event::CellFailed { cell, message } => {
                tracing::warn!(%cell, %message, "a cell's files cannot be had");
            }
            Event::SlotReports { slot, reports } => {
                if let Some(traces) = &self.traces {
                    reports
                        .iter()
                        .for_each(|report| trace(traces, *slot, report));
                }
            }
            Event::Leave { grace } => {
                tracing::info!(grace_seconds = grace.as_secs_f64(), "leaving");
            }
            _ => {}
        }
    }

    fn complain(&mut self, why: &str) {
        if *why != *self.complaint {
            // A coordinator that stops is nothing to warn of.
            if why == STOPPING {
                tracing::debug!(%why, "no connection to the coordinator, trying again");
            } else {
                tracing::warn!(%why, "no connection to the coordinator, trying again");
            }
            why.clone_into(&mut self.complaint);
        }
    }

    /// Has files come from the coordinator that has just welcomed this worker.
    fn fetch_from_here(&mut self) {
        let at = |target: &Target| (target.host.clone(), target.port);
        if at(&self.target) != at(&self.source) {
            self.source = self.target.clone();
            let client = Client::new(self.source.connect_lazily(), self.bearer.clone());
            self.fetcher.follow(client);
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Exit> {
        match effect {
            Effect::Connect => {
                self.born += 1;
                self.target = self.route.target();
                let (target, bearer) = (self.target.clone(), self.bearer.clone());
                let inbox = self.inbox.clone();
                let link = Link::open(self.born, target, bearer, self.welcomed, inbox);
                self.link = Some(link);
            }
            Effect::Send(message) => {
                if let Some(link) = &self.link
                    && let Err(why) = link.send(message)
                {
                    self.pending
                        .push_back(Event::Disconnected(Disconnect::Retry(why)));
                }
            }
            Effect::Disconnect => {
                self.route.failed();
                if let Some(link) = self.link.take() {
                    tokio::spawn(link.close(FLUSH));
                }
            }
            Effect::Prepare(cell) => self.prepare(&cell),
            Effect::StartSlot(slot) => self.start(slot),
            Effect::Assign { slot, leases } => {
                if let Some(process) = self.process(slot) {
                    process.assign(leases);
                }
            }
            Effect::Stop { slot, leases } => {
                if let Some(process) = self.process(slot) {
                    process.stop(leases);
                }
            }
            Effect::Exit(exit) => return Some(exit),
        }
        None
    }

    fn process(&self, slot: SlotNumber) -> Option<&SlotProcess> {
        self.slots.get(slot.0 as usize)?.as_ref()
    }

    /// In the loop and not in a task: a process dies with the *thread* that
    /// started it, and this one lives as long as the worker.
    fn start(&mut self, slot: SlotNumber) {
        self.born += 1;
        let source = Source::Process(slot, self.born);
        match self
            .spawner
            .spawn(slot, self.born, source, &self.inbox, &self.fetcher)
        {
            Ok(process) => {
                if let Some(place) = self.slots.get_mut(slot.0 as usize) {
                    *place = Some(process);
                }
            }
            Err(error) => self.pending.push_back(Event::SlotDied {
                slot,
                kind: FailureKind::Crash,
                message: format!("cannot start {error}"),
            }),
        }
    }

    fn prepare(&mut self, cell: &CellText) {
        // A cell that cannot be read needs no files; the slot will say what is
        // wrong with it.
        let files = decode_cell(&cell.json)
            .map(|spec| files::of_cell(&spec))
            .unwrap_or_default();
        let id = cell.id;
        if files.is_empty() {
            self.pending.push_back(Event::CellReady(id));
            return;
        }
        let (fetcher, inbox) = (self.fetcher.clone(), self.inbox.clone());
        tokio::spawn(async move {
            let mut event = Event::CellReady(id);
            for file in &files {
                if let Err(message) = fetcher.ensure(file).await {
                    event = Event::CellFailed { cell: id, message };
                    break;
                }
            }
            // If nobody listens the worker has ended.
            let _ = inbox.send((Source::Files, event)).await;
        });
    }

    fn measure(&mut self) {
        let slots = self
            .slots
            .iter()
            .flatten()
            .filter_map(|process| process.pid);
        let processes = std::iter::once(std::process::id()).chain(slots);
        self.session
            .set_memory(processes.filter_map(crate::slot::resident).sum());
    }

    /// Ends connection and slots.
    async fn finish(&mut self, end: &End) {
        for process in self.slots.iter_mut().filter_map(Option::take) {
            process.end().await;
        }
        if let Some(mut spool) = self.spool.take() {
            // Whoever ends is not connected any more.
            spool.follow(&self.session, false);
            // Seconds at most, and nothing else is left to do.
            let _ = tokio::task::spawn_blocking(move || spool.finish()).await;
        }
        if let Some(link) = self.link.take()
            && *end != End::AtOnce
        {
            link.close(FLUSH).await;
        }
    }
}

/// The report of a task whose file cannot be had.
fn without_file(lease: common::protocol::LeaseId, message: String) -> Report {
    let failure = TaskFailure {
        kind: FailureKind::DataUnavailable,
        message,
        telemetry: Telemetry::default(),
    };
    Report {
        lease,
        outcome: Outcome::Failure(failure),
    }
}
