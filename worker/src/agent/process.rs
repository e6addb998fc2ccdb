//! Slots' processes: started, written to, listened to, buried.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::canon::NUMERICS_VERSION;
use common::decode::decode_start;
use common::pb::wire::{self, slot_request, slot_response};
use common::pb::{LeaseEncoder, reports_from_wire};
use common::protocol::{FailureKind, Lease, LeaseId, Work};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::blobs::Fetcher;
use super::{Inbox, Source, without_file};
use crate::files::{self, BlobFolder};
use crate::frame;
use crate::room::Room;
use crate::session::{Event, SlotNumber};
use crate::slot::VERSION;

/// Last lines of a slot's complaints that go into the message of its death.
const LINES: usize = 3;
/// Time that a process has to end after it has closed its pipe.
const DYING: Duration = Duration::from_secs(2);

/// What a slot is.
#[derive(Clone, Debug)]
pub enum SlotKind {
    /// A process of this program, which computes.
    Process(PathBuf),
    /// A part of this process that answers tasks that do nothing, and no others: what load tests
    /// have in the place of thousands of processes.
    Idle,
}

/// How slots are started.
#[derive(Debug)]
pub(super) struct Spawner {
    pub(super) kind: SlotKind,
    pub(super) blobs: BlobFolder,
    pub(super) threads: u32,
    pub(super) memory: Option<u64>,
}

/// A slot at work, nearly always a process.
#[derive(Debug)]
pub(super) struct SlotProcess {
    pub(super) number: u64,
    pub(super) pid: Option<u32>,
    /// Not bounded by itself, but by the tasks that a session lets a slot hold.
    requests: mpsc::UnboundedSender<Request>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
pub(super) enum Request {
    Assign(Vec<Lease>),
    Stop(Vec<LeaseId>),
}

impl SlotProcess {
    // A process that is gone says so by itself.
    pub(super) fn assign(&self, leases: Vec<Lease>) {
        let _ = self.requests.send(Request::Assign(leases));
    }

    pub(super) fn stop(&self, leases: Vec<LeaseId>) {
        let _ = self.requests.send(Request::Stop(leases));
    }

    /// Kills it.
    pub(super) async fn end(self) {
        self.task.abort();
        // The process is killed when the task that owns it is dropped.
        let _ = self.task.await;
    }
}

/// Everything that one process's task owns.
struct Keeper {
    slot: SlotNumber,
    source: Source,
    inbox: Inbox,
    fetcher: Fetcher,
    memory: Option<u64>,
    /// The last things it complained about.
    words: Arc<Mutex<VecDeque<String>>>,
}

impl Spawner {
    /// Starts a process; events about it carry `source`.
    pub(super) fn spawn(
        &self,
        slot: SlotNumber,
        number: u64,
        source: Source,
        inbox: &Inbox,
        fetcher: &Fetcher,
    ) -> io::Result<SlotProcess> {
        let (requests, from) = mpsc::unbounded_channel();
        let program = match &self.kind {
            SlotKind::Process(program) => program,
            SlotKind::Idle => {
                return Ok(SlotProcess {
                    number,
                    pid: None,
                    requests,
                    task: tokio::spawn(super::idle::answer(slot, source, inbox.clone(), from)),
                });
            }
        };
        let mut command = Command::new(program);
        command.arg("slot").arg("--blobs").arg(&self.blobs.0);
        command.arg("--threads").arg(self.threads.to_string());
        if let Some(memory) = self.memory {
            command.arg("--memory").arg(memory.to_string());
        }
        command
            // A slot talks to nobody.
            .env_remove("SWEEP_TOKEN")
            // Its last words say what it died of, and a backtrace is longer than what is kept.
            .env("RUST_BACKTRACE", "0")
            .env("RAYON_NUM_THREADS", self.threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C is for the worker, which stops its slots in its own way.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("`{}`: {error}", program.display()))
        })?;
        let pid = child.id();
        let keeper = Keeper {
            slot,
            source,
            inbox: inbox.clone(),
            fetcher: fetcher.clone(),
            memory: self.memory,
            words: Arc::default(),
        };
        let task = tokio::spawn(keeper.keep(child, from));
        Ok(SlotProcess {
            number,
            pid,
            requests,
            task,
        })
    }
}

impl Keeper {
    /// From the first breath to the report of the death.
    async fn keep(self, mut child: Child, requests: mpsc::UnboundedReceiver<Request>) {
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(to), Some(from), Some(complaints)) = pipes else {
            return;
        };
        let listener = tokio::spawn(listen(complaints, self.slot, Arc::clone(&self.words)));
        let heard = {
            let answers = self.read(from);
            tokio::pin!(answers);
            tokio::select! {
                heard = &mut answers => heard,
                // Its pipe is closed: the last answers may still be on their way.
                () = self.write(to, requests) => match tokio::time::timeout(DYING, answers).await {
                    Ok(heard) => heard,
                    Err(_) => Err("it does not read any more".to_owned()),
                },
            }
        };
        if heard.is_err() || tokio::time::timeout(DYING, child.wait()).await.is_err() {
            let _ = child.start_kill();
        }
        let status = child.wait().await;
        let _ = tokio::time::timeout(DYING, listener).await;
        let (kind, message) = self.obituary(status, heard);
        let died = Event::SlotDied {
            slot: self.slot,
            kind,
            message,
        };
        let _ = self.inbox.send((self.source, died)).await;
    }

    async fn say(&self, event: Event) {
        // If nobody listens the worker has ended.
        let _ = self.inbox.send((self.source, event)).await;
    }

    /// Answers until the pipe ends; an error if they make no sense.
    async fn read(&self, from: ChildStdout) -> Result<(), String> {
        let mut from = BufReader::with_capacity(1 << 16, from);
        loop {
            let frame = frame::read_async::<wire::SlotResponse>(&mut from).await;
            let Some(response) = frame.map_err(|error| error.to_string())? else {
                return Ok(());
            };
            match response.kind {
                Some(slot_response::Kind::Ready(ready)) => {
                    if ready.program_version != VERSION
                        || ready.numerics_version != NUMERICS_VERSION
                    {
                        return Err(format!("it is of another build: {}", ready.program_version));
                    }
                    self.say(Event::SlotReady(self.slot)).await;
                }
                Some(slot_response::Kind::Reports(batch)) => {
                    let reports = reports_from_wire(batch).map_err(|error| error.to_string())?;
                    self.say(Event::SlotReports {
                        slot: self.slot,
                        reports,
                    })
                    .await;
                }
                None => return Err("an answer of an unknown kind".to_owned()),
            }
        }
    }

    /// Writes requests until the pipe is closed.
    async fn write(&self, mut to: ChildStdin, mut requests: mpsc::UnboundedReceiver<Request>) {
        let mut encoder = LeaseEncoder::default();
        while let Some(request) = requests.recv().await {
            let kind = match request {
                Request::Assign(leases) => {
                    slot_request::Kind::Assign(encoder.encode(self.with_files(leases).await))
                }
                Request::Stop(leases) => {
                    let leases = leases.into_iter().map(Into::into).collect();
                    slot_request::Kind::Stop(wire::SlotStop { leases })
                }
            };
            let written = match frame::encode(&wire::SlotRequest { kind: Some(kind) }) {
                Ok(frame) => to.write_all(&frame).await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                tracing::debug!(%error, slot = self.slot.0, "a slot cannot be written to");
                return;
            }
        }
    }

    /// The leases whose starts are at hand; the others are reported as failed.
    async fn with_files(&self, leases: Vec<Lease>) -> Vec<Lease> {
        let mut ready = Vec::with_capacity(leases.len());
        for lease in leases {
            match self.fetch_start(&lease.work).await {
                Ok(()) => ready.push(lease),
                Err(message) => {
                    let reports = vec![without_file(lease.id, message)];
                    self.say(Event::SlotReports {
                        slot: self.slot,
                        reports,
                    })
                    .await;
                }
            }
        }
        ready
    }

    async fn fetch_start(&self, work: &Work) -> Result<(), String> {
        let Work::Run { start, .. } = work else {
            return Ok(());
        };
        // Names of starts are short texts; only a file is a map. What cannot be
        // read is for the slot to complain about.
        if !start.trim_start().starts_with('{') {
            return Ok(());
        }
        match decode_start(start) {
            Ok(start) => match files::of_start(&start) {
                Some(file) => self.fetcher.ensure(file).await,
                None => Ok(()),
            },
            Err(_) => Ok(()),
        }
    }

    /// What it died of.
    fn obituary(
        &self,
        status: io::Result<ExitStatus>,
        heard: Result<(), String>,
    ) -> (FailureKind, String) {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let last: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut message = match (&heard, &status) {
            (Err(why), _) => format!("the slot was killed: {why}"),
            (Ok(()), Ok(status)) => format!("the slot ended with {status}"),
            (Ok(()), Err(error)) => format!("the slot is gone: {error}"),
        };
        if !last.is_empty() {
            message = format!("{message}: {}", last.join("; "));
        }
        let signal = status.ok().and_then(|status| signal_of(&status));
        let starved = last
            .iter()
            .any(|line| line.contains("memory allocation of"));
        let limited = self.memory.is_some() || Room::of_this_process().memory.is_some();
        let kind = if starved || heard.is_ok() && signal == Some(9) && limited {
            FailureKind::OutOfMemory
        } else {
            FailureKind::Crash
        };
        (kind, message)
    }
}

fn signal_of(status: &ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(status)
}

/// Passes on what a slot complains about, and remembers the end of it.
async fn listen(
    from: impl AsyncRead + Unpin,
    slot: SlotNumber,
    words: Arc<Mutex<VecDeque<String>>>,
) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::warn!(slot = slot.0, "{line}");
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() >= LINES {
            words.pop_front();
        }
        words.push_back(line);
    }
}
