//! The programs as processes: started, watched, killed for real.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest that anything is waited for: only a hang takes so long.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// A program of the workspace, built in the profile of the tests.
///
/// # Panics
/// If it is not built: `cargo test --workspace` builds it.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test is a program");
    let mut folder = own.parent();
    if folder.is_some_and(|folder| folder.ends_with("deps")) {
        // Tests lie beside what they are linked with, programs one up.
        folder = folder.and_then(Path::parent);
    }
    let path = folder.expect("programs lie in target/PROFILE").join(name);
    assert!(
        path.exists(),
        "{} is not built; run `cargo test --workspace`, or build it first",
        path.display()
    );
    path
}

/// `coordinator` with no setting from outside.
pub fn coordinator() -> Command {
    clean(Command::new(program("coordinator")))
}

/// `worker` with no setting from outside.
pub fn worker() -> Command {
    clean(Command::new(program("worker")))
}

fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SWEEP_") {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A coordinator that runs a grid, with its progress as JSON.
#[derive(Debug)]
pub struct RunningSweep {
    child: Child,
    lines: Receiver<String>,
    /// What it has said so far on standard error.
    pub said: Vec<String>,
}

impl RunningSweep {
    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .args(["--progress", "json"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the coordinator starts");
        let stderr = child.stderr.take().expect("standard error is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            said: Vec::new(),
        }
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of its progress that `wanted` accepts.
    ///
    /// # Panics
    /// If it ends, or hangs, before.
    pub fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let value = serde_json::from_str(&line).unwrap_or(Value::Null);
                    self.said.push(line);
                    if wanted(&value) {
                        return value;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended before: {:#?}", self.said)
                }
                Err(RecvTimeoutError::Timeout) => panic!("it hangs: {:#?}", self.said),
            }
        }
    }

    /// Waits until it says something that has these words.
    ///
    /// # Panics
    /// If it ends, or hangs, before.
    pub fn wait_for_words(&mut self, words: &str) -> String {
        let said = |moment: &Value| {
            let message = moment["message"].as_str();
            message.filter(|m| m.contains(words)).map(str::to_owned)
        };
        let moment = self.wait_for(|moment| said(moment).is_some());
        said(&moment).unwrap_or_default()
    }

    /// Waits until at least this many tasks are recorded.
    ///
    /// # Panics
    /// If it ends, or hangs, before.
    pub fn wait_for_recorded(&mut self, count: u64) -> u64 {
        let moment = self.wait_for(|m| m["recorded"].as_u64().is_some_and(|r| r >= count));
        moment["recorded"].as_u64().unwrap_or(0)
    }

    /// Waits until this many tasks are recorded beyond those that were when it first said that
    /// tasks are at work. What it found recorded is counted by then, so its workers did these.
    ///
    /// # Panics
    /// If it ends, or hangs, before.
    pub fn wait_for_more(&mut self, count: u64) -> u64 {
        let at_work = self.wait_for(|m| m["leased"].as_u64().is_some_and(|leased| leased > 0));
        self.wait_for_recorded(at_work["recorded"].as_u64().unwrap_or(0) + count)
    }

    /// The tasks recorded when it last said so.
    pub fn last_recorded(&self) -> u64 {
        let moments = self.said.iter().rev();
        let recorded = |line: &String| {
            let moment: Value = serde_json::from_str(line).ok()?;
            moment["recorded"].as_u64()
        };
        moments.filter_map(recorded).next().unwrap_or(0)
    }

    /// Kills it with SIGKILL.
    ///
    /// # Panics
    /// If it had ended already: then the kill would have proved nothing.
    pub fn kill(mut self) {
        let ended = self.child.try_wait().expect("a child can be asked");
        assert!(ended.is_none(), "it had ended already: {ended:?}");
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a killed child ends");
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, signal: &str) {
        send_signal(self.pid(), signal);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it hangs.
    pub fn finish(mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// Waits for its end; also all that it has said on standard error.
    ///
    /// # Panics
    /// If it hangs.
    pub fn finish_with_words(mut self) -> (ExitStatus, Vec<String>) {
        let status = wait(&mut self.child);
        let mut said = std::mem::take(&mut self.said);
        said.extend(self.lines.iter());
        (status, said)
    }
}

impl Drop for RunningSweep {
    fn drop(&mut self) {
        // Nothing outlives a test that fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
///
/// # Panics
/// If there is no such process.
pub fn send_signal(pid: u32, signal: &str) {
    let status = Command::new("kill")
        .args([format!("-{signal}"), pid.to_string()])
        .status()
        .expect("kill can be run");
    assert!(status.success(), "process {pid} is not there");
}

/// Waits for the end of a process.
///
/// # Panics
/// If it hangs.
pub fn wait(child: &mut Child) -> ExitStatus {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be asked") {
            return status;
        }
        assert!(Instant::now() < until, "it hangs");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started.
pub fn output(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

/// Process numbers of the children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries
        .filter_map(Result::ok)
        .filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|n| parent(*n) == Some(pid)).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have spaces; what follows it is the state and the parent.
    let after = stat.rsplit_once(')')?.1;
    after.split_whitespace().nth(1)?.parse().ok()
}

/// Whether a process runs (one that has ended and was not waited for does not).
pub fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|s| !s.starts_with('Z'))
}

/// Waits until none of these processes runs.
///
/// # Panics
/// If one goes on.
pub fn wait_until_gone(pids: &[u32]) {
    let until = Instant::now() + PATIENCE;
    while pids.iter().any(|pid| is_running(*pid)) {
        assert!(Instant::now() < until, "{pids:?} go on");
        std::thread::sleep(Duration::from_millis(5));
    }
}
