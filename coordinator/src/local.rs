//! Local workers: started, watched, gone at the end.
//!
//! Each is a child process with one slot of one thread. It gets its token as a
//! line on its standard input, which then stays open: when this process ends
//! in whatever way, the input ends, and so does the worker.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use crate::progress::{LogWriter, is_drawable};

/// How local workers are started.
#[derive(Clone, Debug)]
pub struct LocalWorkers {
    /// The `worker` program.
    pub program: PathBuf,
    /// Where the coordinator listens, `http://…`.
    pub url: String,
    /// The token for joining.
    pub token: String,
    /// How many.
    pub count: u32,
    /// What they log and whom they tell of their work: the coordinator's own wishes, if it has any.
    pub variables: Vec<(&'static str, String)>,
}

/// Deaths in a row, each soon after the start, after which a worker is not
/// started again.
const HOPELESS: u32 = 5;
/// A life shorter than this counts towards [`HOPELESS`].
const SHORT: Duration = Duration::from_secs(10);
/// Time to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// Settings that are the coordinator's, or a remote worker's: a local one has
/// no use for them, and need not know a secret.
const NOT_FOR_LOCAL: [&str; 15] = [
    "SWEEP_TOKEN",
    "SWEEP_TOKEN_FILE",
    "SWEEP_ADMIN_TOKEN",
    "SWEEP_ADMIN_TOKEN_FILE",
    "SWEEP_HTTP_TOKEN",
    "SWEEP_HTTP_TOKEN_FILE",
    "SWEEP_NOTIFY",
    "SWEEP_STORE",
    "SWEEP_CONFIG",
    "SWEEP_CA_FILE",
    "SWEEP_CERT_FILE",
    "SWEEP_KEY_FILE",
    "SWEEP_SERVER_NAME",
    "PGPASSWORD",
    "PGPASSFILE",
];

/// Whether workers are to end, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    Gently,
    AtOnce,
}

/// The running workers.
#[derive(Debug)]
pub struct Running {
    end: watch::Sender<End>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// The `worker` program beside this one.
///
/// # Errors
/// Where it was looked for, and the way out.
pub fn program() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let program = own.with_file_name("worker");
    if program.exists() {
        return Ok(program);
    }
    Err(format!(
        "the program `worker` is not at {}; build it (`cargo build --release` builds both), or \
         use --local-workers 0 and connect workers by hand",
        program.display()
    ))
}

/// Starts all workers.
pub fn start(settings: &LocalWorkers) -> Running {
    let (end, ended) = watch::channel(End::NotYet);
    let tasks = (0..settings.count)
        .map(|number| tokio::spawn(keep(settings.clone(), number, ended.clone())))
        .collect();
    Running { end, tasks }
}

impl Running {
    /// Lets all workers end, and waits until they are gone.
    pub async fn stop(self) {
        self.end(End::Gently).await;
    }

    /// Ends all workers at once.
    pub async fn kill(self) {
        self.end(End::AtOnce).await;
    }

    async fn end(self, how: End) {
        // All receivers may be gone: workers that were given up.
        let _ = self.end.send(how);
        for task in self.tasks {
            let _ = task.await;
        }
    }

    /// Whether every worker has been given up.
    pub fn is_hopeless(&self) -> bool {
        !self.tasks.is_empty() && self.tasks.iter().all(tokio::task::JoinHandle::is_finished)
    }
}

/// Keeps one worker alive.
async fn keep(settings: LocalWorkers, number: u32, mut end: watch::Receiver<End>) {
    let mut short_lives = 0;
    while *end.borrow() == End::NotYet {
        let began = Instant::now();
        let (mut child, input) = match spawn(&settings, number).await {
            Ok(started) => started,
            Err(error) => {
                tracing::error!(%error, program = %settings.program.display(), "a local worker cannot be started");
                return;
            }
        };
        tokio::select! {
            status = child.wait() => {
                let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                tracing::warn!(number, status, "a local worker ended");
            }
            () = ends(&mut end) => {
                if *end.borrow() == End::AtOnce {
                    // It may have ended just now.
                    let _ = child.kill().await;
                } else {
                    finish(child, input).await;
                }
                return;
            }
        }
        short_lives = if began.elapsed() < SHORT {
            short_lives + 1
        } else {
            0
        };
        if short_lives >= HOPELESS {
            tracing::error!(
                number,
                "a local worker ends again and again; it is given up"
            );
            return;
        }
        let pause = Duration::from_millis(100) * (1 << short_lives);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = ends(&mut end) => return,
        }
    }
}

/// Waits until the workers are to end.
async fn ends(end: &mut watch::Receiver<End>) {
    // An error means that whoever could have said so is gone.
    let _ = end
        .wait_for(|end| *end != End::NotYet)
        .await
        .map(|end| *end);
}

async fn spawn(settings: &LocalWorkers, number: u32) -> std::io::Result<(Child, ChildStdin)> {
    let mut command = Command::new(&settings.program);
    for name in NOT_FOR_LOCAL {
        command.env_remove(name);
    }
    let mut child = command
        .envs(settings.variables.iter().cloned())
        .args(["--connect", &settings.url, "--local"])
        .args(["--slots", "1", "--threads", "1"])
        .args(["--name", &format!("local-{number}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(if is_drawable() {
            Stdio::piped()
        } else {
            Stdio::inherit()
        })
        .kill_on_drop(true)
        // A terminal's Ctrl-C is for the coordinator to answer.
        .process_group(0)
        .spawn()?;
    if let Some(log) = child.stderr.take() {
        tokio::spawn(pass_on(log, LogWriter));
    }
    let mut input = child
        .stdin
        .take()
        .ok_or_else(|| std::io::Error::other("it has no standard input"))?;
    input
        .write_all(format!("{}\n", settings.token).as_bytes())
        .await?;
    Ok((child, input))
}

/// Writes what a worker logs line by line, so that none runs into the progress bar.
async fn pass_on(log: impl AsyncRead + Unpin, mut to: impl std::io::Write) {
    let mut lines = BufReader::new(log).split(b'\n');
    while let Ok(Some(mut line)) = lines.next_segment().await {
        line.push(b'\n');
        // A terminal that is gone reads nothing; the worker must not wait for it.
        let _ = to.write_all(&line);
    }
}

/// Asks a worker to end, and ends it if it does not.
async fn finish(mut child: Child, input: ChildStdin) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok())
        && let Some(pid) = rustix::process::Pid::from_raw(pid)
    {
        // It may have ended just now.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        drop(input);
        let _ = child.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps what each write wrote.
    #[derive(Default)]
    struct Writes(Vec<String>);

    impl std::io::Write for &mut Writes {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.push(String::from_utf8_lossy(text).into_owned());
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn each_line_of_a_worker_is_one_write() {
        let (mut worker, log) = tokio::io::duplex(64);
        let said = async {
            for part in ["one\ntw", "o\n", "cut off"] {
                worker.write_all(part.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(worker);
        };
        let mut writes = Writes::default();
        tokio::join!(said, pass_on(log, &mut writes));
        assert_eq!(writes.0, ["one\n", "two\n", "cut off\n"]);
    }
}
