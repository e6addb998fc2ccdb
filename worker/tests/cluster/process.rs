//! The program as a process.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A running worker; killed when the test is over.
pub struct Worker {
    child: Child,
    input: Option<ChildStdin>,
}

fn command(url: &str, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    command.args(["--connect", url]).args(options);
    for variable in [
        "SWEEP_TOKEN",
        "SWEEP_SLOTS",
        "SWEEP_THREADS",
        "SWEEP_GRACE",
        "SWEEP_TOKEN_FILE",
    ] {
        command.env_remove(variable);
    }
    command
}

impl Worker {
    pub fn start(url: &str, token: &str, options: &[&str]) -> Self {
        let mut command = command(url, options);
        if !token.is_empty() {
            command.env("SWEEP_TOKEN", token);
        }
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        Self { child, input: None }
    }

    pub fn local(url: &str, token: &str, options: &[&str]) -> Self {
        let mut command = command(url, options);
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
        }
    }

    pub fn close_input(&mut self) {
        self.input = None;
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn terminate(&self) {
        signal(self.pid(), Signal::TERM);
    }

    /// The processes of its slots.
    pub fn slots(&self) -> Vec<u32> {
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
    pub async fn ended(mut self) -> Option<i32> {
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
pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Waits until a process is no more, or only waits to be buried.
pub async fn gone(pid: u32) {
    loop {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Err(_) => return,
            Ok(stat) if stat.contains(") Z ") => return,
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
