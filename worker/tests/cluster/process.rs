//! The program as a process.

use std::io::Write;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use common::pb::wire::{self, slot_request, slot_response};
use common::pb::{LeaseEncoder, reports_from_wire};
use common::protocol::{Lease, LeaseId, Report};
use rustix::process::{Pid, Signal, kill_process};
use worker::frame;

/// A running worker; killed when the test is over.
pub(crate) struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    /// What a killed worker leaves behind goes with it.
    _temporary: tempfile::TempDir,
}

fn command(url: &str, options: &[&str]) -> (Command, tempfile::TempDir) {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    command.args(["--connect", url]).args(options);
    command.env("TMPDIR", temporary.path());
    for variable in [
        "SWEEP_TOKEN",
        "SWEEP_SLOTS",
        "SWEEP_THREADS",
        "SWEEP_GRACE",
        "SWEEP_TOKEN_FILE",
    ] {
        command.env_remove(variable);
    }
    (command, temporary)
}

impl Worker {
    pub(crate) fn start(url: &str, token: &str, options: &[&str]) -> Self {
        let (mut command, temporary) = command(url, options);
        if !token.is_empty() {
            command.env("SWEEP_TOKEN", token);
        }
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        Self {
            child,
            input: None,
            _temporary: temporary,
        }
    }

    pub(crate) fn local(url: &str, token: &str, options: &[&str]) -> Self {
        let (mut command, temporary) = command(url, options);
        let mut child = command
            .arg("--local")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{token}").unwrap();
        Self {
            child,
            input: Some(input),
            _temporary: temporary,
        }
    }

    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn terminate(&self) {
        signal(self.pid(), Signal::TERM);
    }

    /// The processes of its slots.
    pub(crate) fn slots(&self) -> Vec<u32> {
        let own = self.pid().to_string();
        let children = format!("/proc/{own}/task");
        let threads = std::fs::read_dir(children).unwrap();
        let mut found: Vec<u32> = threads
            .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok())
            .flat_map(|list| {
                list.split_whitespace()
                    .map(|pid| pid.parse().unwrap())
                    .collect::<Vec<_>>()
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// Waits for its end; its exit code, if no signal ended it.
    pub(crate) async fn ended(mut self) -> Option<i32> {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// Kills a process, without a chance to say anything.
pub(crate) fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Waits until a process is no more, or only waits to be buried.
pub(crate) async fn gone(pid: u32) {
    loop {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Err(_) => return,
            Ok(stat) if stat.contains(") Z ") => return,
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// A slot's process, without a worker around it.
pub(crate) struct Slot {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
    encoder: LeaseEncoder,
    _blobs: tempfile::TempDir,
}

impl Slot {
    pub(crate) fn start(options: &[&str]) -> Self {
        let blobs = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_worker"))
            .args(["slot", "--blobs"])
            .arg(blobs.path())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let encoder = LeaseEncoder::default();
        let mut slot = Self {
            child,
            to,
            from,
            encoder,
            _blobs: blobs,
        };
        let Some(slot_response::Kind::Ready(ready)) = slot.next() else {
            panic!("a slot says first that it is ready")
        };
        assert_eq!(ready.program_version, env!("SWEEP_VERSION"));
        slot
    }

    fn next(&mut self) -> Option<slot_response::Kind> {
        let response: wire::SlotResponse = frame::read(&mut self.from).unwrap().unwrap();
        response.kind
    }

    fn say(&mut self, kind: slot_request::Kind) {
        frame::write(&mut self.to, &wire::SlotRequest { kind: Some(kind) }).unwrap();
    }

    pub(crate) fn assign(&mut self, leases: Vec<Lease>) {
        let batch = self.encoder.encode(leases);
        self.say(slot_request::Kind::Assign(batch));
    }

    pub(crate) fn stop(&mut self, lease: LeaseId) {
        self.say(slot_request::Kind::Stop(wire::SlotStop {
            leases: vec![lease.into()],
        }));
    }

    /// The next frame, which has one report.
    pub(crate) fn report(&mut self) -> Report {
        match self.next() {
            Some(slot_response::Kind::Reports(batch)) => {
                let mut reports = reports_from_wire(batch).unwrap();
                assert_eq!(reports.len(), 1, "{reports:?}");
                reports.remove(0)
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
