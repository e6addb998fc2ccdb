//! The slots' processes: started, fed, listened to, buried.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use common::canon::NUMERICS_VERSION;
use common::pb::{LeaseEncoder, reports_from_wire, wire};
use common::protocol::{FailureKind, Lease, LeaseId};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use super::fetch::Fetcher;
use super::{Input, Settings};
use crate::frame;
use crate::session::{Event, SlotNumber};

/// All slots of a worker.
pub(super) struct Slots {
    threads: u32,
    fetcher: Fetcher,
    inputs: mpsc::UnboundedSender<Input>,
    running: BTreeMap<u32, Running>,
}

struct Running {
    requests: mpsc::UnboundedSender<Request>,
    pid: Option<u32>,
}

/// To a slot.
enum Request {
    Assign(Vec<Lease>),
    Stop(Vec<LeaseId>),
}

impl Slots {
    pub(super) fn new(
        settings: &Settings,
        fetcher: Fetcher,
        inputs: mpsc::UnboundedSender<Input>,
    ) -> Self {
        Self {
            threads: settings.threads,
            fetcher,
            inputs,
            running: BTreeMap::new(),
        }
    }

    pub(super) fn start(&mut self, slot: SlotNumber) {
        let spawned = std::env::current_exe().and_then(|program| {
            Command::new(program)
                .arg("slot")
                .arg("--folder")
                .arg(self.fetcher.cache().folder())
                .args(["--threads", &self.threads.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                // A terminal's Ctrl-C is for the coordinator to answer.
                .process_group(0)
                .spawn()
        });
        let inputs = self.inputs.clone();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                let message = format!("a slot's process cannot be started: {error}");
                tell(&inputs, died(slot, FailureKind::Crash, message));
                return;
            }
        };
        let (requests, inbox) = mpsc::unbounded_channel();
        let pid = child.id();
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            let message = "a slot's process has no pipes".to_owned();
            tell(&inputs, died(slot, FailureKind::Crash, message));
            return;
        };
        self.running.insert(slot.0, Running { requests, pid });
        tokio::spawn(write(stdin, inbox, self.fetcher.clone()));
        tokio::spawn(listen(slot, child, stdout, inputs));
    }

    pub(super) fn assign(&mut self, slot: SlotNumber, leases: Vec<Lease>) {
        self.request(slot, Request::Assign(leases));
    }

    pub(super) fn stop(&mut self, slot: SlotNumber, leases: Vec<LeaseId>) {
        self.request(slot, Request::Stop(leases));
    }

    fn request(&mut self, slot: SlotNumber, request: Request) {
        if let Some(running) = self.running.get(&slot.0) {
            // A process that has just died says so itself.
            let _ = running.requests.send(request);
        }
    }

    /// Resident memory of this process and the slots', bytes.
    pub(super) fn memory(&self) -> u64 {
        let slots = self.running.values().filter_map(|r| r.pid);
        slots.map(resident).sum::<u64>() + resident(std::process::id())
    }
}

fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|p| p.parse().ok());
    pages.unwrap_or(0_u64) * rustix::param::page_size() as u64
}

fn died(slot: SlotNumber, kind: FailureKind, message: String) -> Event {
    Event::SlotDied {
        slot,
        kind,
        message,
    }
}

fn tell(inputs: &mpsc::UnboundedSender<Input>, event: Event) {
    // Nobody listens any more when the worker is ending.
    let _ = inputs.send(Input::Session(event));
}

async fn write(
    mut stdin: ChildStdin,
    mut inbox: mpsc::UnboundedReceiver<Request>,
    fetcher: Fetcher,
) {
    let mut encoder = LeaseEncoder::default();
    while let Some(request) = inbox.recv().await {
        use wire::slot_request::Kind;
        let kind = match request {
            Request::Assign(leases) => {
                fetcher.files_of_starts(&leases).await;
                Kind::Assign(encoder.encode(leases))
            }
            Request::Stop(leases) => Kind::Stop(wire::SlotStop {
                leases: leases.into_iter().map(Into::into).collect(),
            }),
        };
        let frame = frame::encode(&wire::SlotRequest { kind: Some(kind) });
        if stdin.write_all(&frame).await.is_err() {
            // The process is gone; whoever listens to it says so.
            return;
        }
    }
}

async fn listen(
    slot: SlotNumber,
    mut child: Child,
    stdout: ChildStdout,
    inputs: mpsc::UnboundedSender<Input>,
) {
    let nonsense = read_all(slot, stdout, &inputs).await.err();
    if nonsense.is_some() {
        // What it says cannot be understood: it is of no use any more.
        let _ = child.start_kill();
    }
    let (kind, message) = match (nonsense, child.wait().await) {
        (Some(error), _) => (FailureKind::Crash, error.to_string()),
        (None, Ok(status)) => cause_of_death(status),
        (None, Err(error)) => (FailureKind::Crash, error.to_string()),
    };
    tracing::warn!(slot = slot.0, message, "a slot's process ended");
    tell(&inputs, died(slot, kind, message));
}

fn cause_of_death(status: ExitStatus) -> (FailureKind, String) {
    /// What the system sends when memory has run out.
    const KILL: i32 = 9;
    match status.signal() {
        Some(KILL) => (
            FailureKind::OutOfMemory,
            "the slot's process was killed, as the system does when memory has run out".into(),
        ),
        Some(signal) => {
            let message = format!("the slot's process was ended by signal {signal}");
            (FailureKind::Crash, message)
        }
        None => {
            let message = format!("the slot's process ended with {status}");
            (FailureKind::Crash, message)
        }
    }
}

/// Passes on what a slot says until its pipe ends.
async fn read_all(
    slot: SlotNumber,
    stdout: ChildStdout,
    inputs: &mpsc::UnboundedSender<Input>,
) -> io::Result<()> {
    use wire::slot_response::Kind;
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut head = [0; 4];
        match stdout.read_exact(&mut head).await {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        };
        let mut bytes = vec![0; frame::length(head)?];
        if stdout.read_exact(&mut bytes).await.is_err() {
            // It died in the middle of an answer.
            return Ok(());
        }
        let response: wire::SlotResponse = frame::decode(&bytes)?;
        let event = match response.kind {
            Some(Kind::Ready(ready)) => {
                if ready.numerics_version != NUMERICS_VERSION
                    || ready.program_version != env!("CARGO_PKG_VERSION")
                {
                    return Err(invalid(format!(
                        "the slot's process is version {}, the worker {}: the program was replaced",
                        ready.program_version,
                        env!("CARGO_PKG_VERSION")
                    )));
                }
                Event::SlotReady(slot)
            }
            Some(Kind::Reports(batch)) => Event::SlotReports {
                slot,
                reports: reports_from_wire(batch).map_err(|e| invalid(e.to_string()))?,
            },
            None => return Err(invalid("an empty answer".into())),
        };
        tell(inputs, event);
    }
}
