//! Carries out what the [`Session`] asks for.
//!
//! One task owns the session; everything else (the stream, the slots' pipes,
//! downloads, the clock) runs beside it and sends it events.

mod fetch;
mod link;
mod slots;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::canon::NUMERICS_VERSION;
use common::ids::WorkerId;
use common::math::NUMERIC_LEVEL;
use common::protocol::Profile;
use tokio::sync::mpsc;

use crate::files::Cache;
use crate::session::{self, Effect, Event, Exit, Session, Timestamp};
use fetch::Fetcher;
use link::{FromLink, Link};
use slots::Slots;

/// Settings of an agent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The coordinator, `http://host:port`.
    pub connect: String,
    /// Name for people.
    pub name: String,
    /// Sent with every call.
    pub token: Token,
    /// Tasks at a time.
    pub slots: u32,
    /// Threads of one task.
    pub threads: u32,
    /// Time for running tasks to end when the worker is asked to leave.
    pub grace: Duration,
    /// Where contents of files are kept; a private temporary folder if `None`.
    pub cache: Option<PathBuf>,
}

/// A secret that is never printed.
#[derive(Clone, Default)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What reaches the task that owns the session.
enum Input {
    Session(Event),
    Link(FromLink),
}

/// Time between two ticks of the session.
const TICK: Duration = Duration::from_millis(20);
/// Ticks between two looks at the memory in use.
const MEMORY_TICKS: u32 = 50;

/// Works until the session ends. `leave` fires when the worker is asked to leave.
///
/// # Errors
/// When the process cannot be set up: no folder for files, no randomness.
pub async fn run(settings: Settings, mut leave: mpsc::Receiver<()>) -> io::Result<Exit> {
    let temporary;
    let folder = match &settings.cache {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            folder.clone()
        }
        None => {
            temporary = tempfile::Builder::new().prefix("sweep-worker-").tempdir()?;
            temporary.path().to_owned()
        }
    };
    let mut agent = Agent::new(&settings, Cache::new(&folder))?;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut until_memory = 0;
    loop {
        let event = tokio::select! {
            Some(input) = agent.inbox.recv() => agent.event_of(input),
            Some(()) = leave.recv() => Some(Event::Leave { grace: settings.grace }),
            _ = ticks.tick() => {
                if until_memory == 0 {
                    until_memory = MEMORY_TICKS;
                    agent.session.set_memory(agent.slots.memory());
                }
                until_memory -= 1;
                Some(Event::Tick)
            }
        };
        if let Some(exit) = event.and_then(|event| agent.step(event)) {
            return Ok(exit);
        }
    }
}

struct Agent {
    session: Session,
    began: Instant,
    inbox: mpsc::UnboundedReceiver<Input>,
    inputs: mpsc::UnboundedSender<Input>,
    link: Link,
    slots: Slots,
    fetcher: Fetcher,
}

impl Agent {
    fn new(settings: &Settings, cache: Cache) -> io::Result<Self> {
        let random = random_bytes()?;
        let mut seed = [0; 8];
        seed.copy_from_slice(&random[..8]);
        let config = session::Config {
            worker: WorkerId(random),
            profile: Profile {
                name: settings.name.clone(),
                host: host_name(),
                program_version: env!("CARGO_PKG_VERSION").to_owned(),
                numerics_version: NUMERICS_VERSION,
                numeric_levels: vec![NUMERIC_LEVEL.to_owned()],
                slots: settings.slots,
                threads_per_slot: settings.threads,
                memory_per_slot: None,
            },
            seed: u64::from_le_bytes(seed),
            grace: settings.grace,
        };
        let (inputs, inbox) = mpsc::unbounded_channel();
        let fetcher = Fetcher::new(settings.token.clone(), cache);
        Ok(Self {
            session: Session::new(config, Timestamp(0)),
            began: Instant::now(),
            inbox,
            link: Link::new(settings, inputs.clone()),
            slots: Slots::new(settings, fetcher.clone(), inputs.clone()),
            inputs,
            fetcher,
        })
    }

    /// The session's event in an input, if it still concerns it.
    fn event_of(&mut self, input: Input) -> Option<Event> {
        match input {
            Input::Session(event) => Some(event),
            Input::Link(news) => {
                let (event, channel) = self.link.news(news)?;
                if let Some(channel) = channel {
                    self.fetcher.use_channel(channel);
                }
                Some(event)
            }
        }
    }

    fn step(&mut self, event: Event) -> Option<Exit> {
        let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut effects = Vec::new();
        self.session.step(Timestamp(now), event, &mut effects);
        effects
            .into_iter()
            .find_map(|effect| self.carry_out(effect))
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Exit> {
        match effect {
            Effect::Connect => self.link.connect(),
            Effect::Send(message) => self.link.send(message),
            Effect::Disconnect => self.link.disconnect(),
            Effect::Prepare(cell) => {
                let (fetcher, inputs) = (self.fetcher.clone(), self.inputs.clone());
                tokio::spawn(async move {
                    let event = match fetcher.files_of_cell(&cell).await {
                        Ok(()) => Event::CellReady(cell.id),
                        Err(message) => Event::CellFailed {
                            cell: cell.id,
                            message,
                        },
                    };
                    // Nobody listens any more when the worker is ending.
                    let _ = inputs.send(Input::Session(event));
                });
            }
            Effect::StartSlot(slot) => self.slots.start(slot),
            Effect::Assign { slot, leases } => self.slots.assign(slot, leases),
            Effect::Stop { slot, leases } => self.slots.stop(slot, leases),
            Effect::Exit(exit) => return Some(exit),
        }
        None
    }
}

fn random_bytes() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes)
}

/// This machine's name, for people.
pub fn host_name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}
