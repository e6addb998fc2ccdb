//! A worker on another host, kept alive through `ssh`.
//!
//! The token is the first line of the remote worker's standard input, so it is
//! in no argument and no environment. The input then stays open: when this
//! process, or the connection, ends in whatever way, the input ends and so does
//! the worker.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use super::backoff::pause;
use super::hosts::Host;
use super::{Invitation, Say, ends, quoted, without_secrets};

/// Shortest and longest pause between two tries on a host.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Failures in a row after which a host is given up on which no worker has
/// lived yet, or on which workers die at once.
const HOPELESS: u32 = 5;
/// A life that is no longer counts as a failure.
const SHORT: Duration = Duration::from_secs(10);
/// Time for a worker to end after its input has ended.
const GRACE: Duration = Duration::from_secs(5);
/// Lines of a worker's log that are kept to be shown when it fails.
const LAST_WORDS: usize = 4;

/// What `ssh` itself says when there is no connection.
const NO_CONNECTION: i32 = 255;

/// What to do after a worker has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// Start it again after a pause.
    Again(Duration),
    /// It was asked to leave on its own host, and stays away.
    Left,
    /// Another try would end the same way.
    GiveUp,
}

/// What is known of a host's workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Failures since the last life of some length.
    pub failures: u32,
    /// Whether a worker has lived there for a while.
    pub proven: bool,
}

/// Decides what follows the end of a worker that lived so long and left this
/// exit code (`None`: a signal ended `ssh`).
pub fn after(record: &mut Record, code: Option<i32>, lived: Duration) -> After {
    if lived >= SHORT {
        *record = Record {
            failures: 0,
            proven: true,
        };
    }
    match code {
        Some(0) => return After::Left,
        // Refused by the coordinator or bad settings; no such program.
        Some(2 | 126 | 127) => return After::GiveUp,
        _ => {}
    }
    record.failures += 1;
    // A host that worked once is worth waiting for: it restarts, say.
    let patient = record.proven && code == Some(NO_CONNECTION);
    if record.failures >= HOPELESS && !patient {
        return After::GiveUp;
    }
    After::Again(pause(record.failures, FIRST, LONGEST))
}

/// Keeps a worker alive on a host until the end, or until it is given up.
pub async fn keep(host: Host, invitation: Invitation, say: Say, mut end: watch::Receiver<bool>) {
    let mut record = Record::default();
    let tell = |text: String| {
        tracing::info!(host = %host.name, "{text}");
        // Nobody listens any more at the end.
        let _ = say.send(text);
    };
    while !*end.borrow() {
        let began = Instant::now();
        let (mut child, input) = match start(&host, &invitation).await {
            Ok(started) => started,
            Err(error) => {
                tell(format!("ssh to {} cannot be started: {error}", host.name));
                return;
            }
        };
        let words = tokio::spawn(last_words(child.stderr.take(), host.name.clone()));
        let status = tokio::select! {
            status = child.wait() => status,
            () = ends(&mut end) => {
                finish(child, input).await;
                words.abort();
                return;
            }
        };
        drop(input);
        let words = words.await.unwrap_or_default();
        let code = status.as_ref().ok().and_then(ExitStatus::code);
        let how = match (code, status) {
            // `ssh` says the same of a connection that broke and of a worker that
            // was killed.
            (Some(NO_CONNECTION), _) => "no connection, or killed there".to_owned(),
            (_, Ok(status)) => status.to_string(),
            (_, Err(error)) => error.to_string(),
        };
        let pause = match after(&mut record, code, began.elapsed()) {
            After::Left => {
                tell(format!("the worker on {} has left", host.name));
                return;
            }
            After::GiveUp => {
                tell(format!("{} is given up: {how}{words}", host.name));
                return;
            }
            After::Again(pause) => pause,
        };
        tell(format!(
            "the worker on {} ended, {how}; it is started again in {} s{words}",
            host.name,
            pause.as_secs()
        ));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = ends(&mut end) => return,
        }
    }
}

/// What runs on the other side: a line for whatever shell is there.
fn remote_line(host: &Host, url: &str) -> String {
    let mut words = host.worker.words(url);
    words.extend(["--local".into(), "--name".into(), host.name.clone()]);
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("exec {}", quoted.join(" "))
}

async fn start(host: &Host, invitation: &Invitation) -> std::io::Result<(Child, ChildStdin)> {
    let mut command = Command::new("ssh");
    without_secrets(&mut command);
    // Nobody is there to answer a question. A host that vanished is noticed.
    command.args(["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20"]);
    command.args([
        "-o",
        "ServerAliveInterval=15",
        "-o",
        "ServerAliveCountMax=3",
    ]);
    if let Some(port) = host.port {
        command.args(["-p", &port.to_string()]);
    }
    let mut child = command
        .args(["--", &host.name, &remote_line(host, &invitation.url)])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        // A terminal's Ctrl-C is for the coordinator to answer.
        .process_group(0)
        .spawn()?;
    let mut input = child
        .stdin
        .take()
        .ok_or_else(|| std::io::Error::other("it has no standard input"))?;
    // It may have ended already; its exit code says more than this error.
    let _ = input
        .write_all(format!("{}\n", invitation.token).as_bytes())
        .await;
    Ok((child, input))
}

/// Passes on what a worker logs, and returns its last lines, each begun anew.
async fn last_words(from: Option<tokio::process::ChildStderr>, host: String) -> String {
    let Some(from) = from else {
        return String::new();
    };
    let mut lines = BufReader::new(from).lines();
    let mut last = VecDeque::new();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::info!(host, "{line}");
        if last.len() == LAST_WORDS {
            last.pop_front();
        }
        last.push_back(line);
    }
    last.iter().map(|line| format!("\n  {line}")).collect()
}

/// Lets a worker end by ending its input, and ends the connection if it does
/// not.
async fn finish(mut child: Child, input: ChildStdin) {
    drop(input);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::WorkerCommand;

    const LONG: Duration = Duration::from_secs(3600);
    const BRIEF: Duration = Duration::from_millis(300);

    #[test]
    fn a_host_that_never_answered_is_given_up_and_one_that_worked_is_waited_for() {
        let mut never = Record::default();
        let tries = |record: &mut Record, code, n: u32| -> Vec<After> {
            (0..n).map(|_| after(record, code, BRIEF)).collect()
        };
        let seconds = |n| After::Again(Duration::from_secs(n));
        let expected = [
            seconds(1),
            seconds(2),
            seconds(4),
            seconds(8),
            After::GiveUp,
        ];
        assert_eq!(tries(&mut never, Some(255), 5), expected);

        let mut worked = Record::default();
        assert_eq!(after(&mut worked, Some(255), LONG), seconds(1));
        let tries = tries(&mut worked, Some(255), 50);
        assert_eq!(tries.last(), Some(&After::Again(LONGEST)));
    }

    #[test]
    fn a_worker_that_dies_at_once_again_and_again_is_given_up_also_where_one_has_lived() {
        let mut record = Record::default();
        for _ in 0..3 {
            assert!(matches!(after(&mut record, Some(1), LONG), After::Again(_)));
        }
        for _ in 0..3 {
            assert!(matches!(after(&mut record, None, BRIEF), After::Again(_)));
        }
        assert_eq!(after(&mut record, Some(1), BRIEF), After::GiveUp);
    }

    #[test]
    fn who_was_asked_to_leave_stays_away_and_bad_settings_are_not_tried_again() {
        let mut record = Record::default();
        assert_eq!(after(&mut record, Some(0), LONG), After::Left);
        for code in [2, 126, 127] {
            assert_eq!(after(&mut record, Some(code), LONG), After::GiveUp);
        }
    }

    #[test]
    fn no_argument_has_the_token() {
        let host = Host {
            name: "ada@node2".into(),
            port: None,
            worker: WorkerCommand {
                program: "worker".into(),
                slots: Some(8),
                ..WorkerCommand::default()
            },
        };
        assert_eq!(
            remote_line(&host, "https://c:7878"),
            "exec 'worker' '--connect' 'https://c:7878' '--slots' '8' '--local' '--name' 'ada@node2'"
        );
    }
}
