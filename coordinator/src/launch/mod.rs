//! Workers on other machines, started by the coordinator: `--launch`.
//!
//! | `--launch` | what starts them | how many |
//! |---|---|---|
//! | `ssh:FILE` | a connection to each host of a file | one a host, all the time |
//! | `slurm:KEY=VALUE,…` | batch jobs | as many as the queue needs, up to a limit |
//!
//! What to do next is decided by plain functions ([`demand`], [`backoff`],
//! [`ssh::after`], [`slurm::keeper`]), which tests ask without a process. The
//! owners beside them run `ssh`, `sbatch`, `squeue` and `scancel`.
//!
//! Whatever becomes of the coordinator, no worker stays for long. One that was
//! started through ssh ends with its connection. A batch job outlives a
//! coordinator that was killed; the same command finds it again, and its time
//! limit ends it at the latest.

pub mod backoff;
pub mod demand;
pub mod hosts;
pub mod slurm;
pub mod ssh;

use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, watch};

use crate::driver::Handle;

/// What `--launch` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Workers on a list of hosts.
    Ssh(Vec<hosts::Host>),
    /// Workers as batch jobs.
    Slurm(slurm::Options),
}

impl Plan {
    /// Reads `ssh:FILE` or `slurm:KEY=VALUE,…`, and the file.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn read(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("ssh", file)) if !file.is_empty() => {
                let content = std::fs::read_to_string(file)
                    .map_err(|error| format!("the list of hosts {file}: {error}"))?;
                hosts::parse(file, &content).map(Self::Ssh)
            }
            Some(("slurm", options)) => {
                let mut options = slurm::Options::parse(options)?;
                if options.worker.program.as_os_str().is_empty() {
                    // Nodes see the same programs as the machine that submits.
                    let own = std::env::current_exe().map_err(|e| e.to_string())?;
                    options.worker.program = own.with_file_name("worker");
                }
                Ok(Self::Slurm(options))
            }
            _ => Err(format!(
                "`{text}` starts nothing; write ssh:FILE with a host a line, or \
                 slurm:workers=N,cpus=N,time=HH:MM:SS"
            )),
        }
    }
}

/// Where launched workers go, and what lets them in.
#[derive(Clone)]
pub struct Invitation {
    /// The coordinator's address as they see it.
    pub url: String,
    /// The token for joining.
    pub token: String,
    /// What this coordinator works on: jobs are known by it after a restart.
    pub purpose: String,
}

impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invitation")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// What people are told, a line at a time.
pub type Say = mpsc::UnboundedSender<String>;

/// The owners of what was launched.
#[derive(Debug)]
pub struct Running {
    end: watch::Sender<bool>,
    owners: Vec<tokio::task::JoinHandle<()>>,
}

/// Begins to launch.
pub fn start(plan: &Plan, invitation: &Invitation, handle: &Handle, say: &Say) -> Running {
    let (end, ended) = watch::channel(false);
    let owners = match plan {
        Plan::Ssh(hosts) => (hosts.iter())
            .map(|host| {
                let (host, invitation) = (host.clone(), invitation.clone());
                let ended = ended.clone();
                tokio::spawn(ssh::keep(host, invitation, say.clone(), ended))
            })
            .collect(),
        Plan::Slurm(options) => {
            let (options, invitation) = (options.clone(), invitation.clone());
            let keep = slurm::keep(options, invitation, handle.clone(), say.clone(), ended);
            vec![tokio::spawn(keep)]
        }
    };
    Running { end, owners }
}

impl Running {
    /// Lets all workers end, and waits until nothing of them is left.
    pub async fn stop(self) {
        // All receivers may be gone: owners that have given up.
        let _ = self.end.send(true);
        for owner in self.owners {
            let _ = owner.await;
        }
    }

    /// Whether everything that was to be launched has been given up.
    pub fn is_hopeless(&self) -> bool {
        self.owners.iter().all(tokio::task::JoinHandle::is_finished)
    }
}

/// How a worker is started, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct WorkerCommand {
    /// The program.
    pub program: PathBuf,
    /// Tasks at a time; as the worker chooses if `None`.
    pub slots: Option<u32>,
    /// Threads of a task.
    pub threads: Option<u32>,
    /// A file with its other settings, on its machine.
    pub config: Option<PathBuf>,
}

impl WorkerCommand {
    /// The program and its arguments.
    fn words(&self, url: &str) -> Vec<String> {
        let shown = |path: &Path| path.display().to_string();
        let mut words = vec![shown(&self.program), "--connect".into(), url.into()];
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([name.to_owned(), value]);
            }
        };
        option("--slots", self.slots.map(|n| n.to_string()));
        option("--threads", self.threads.map(|n| n.to_string()));
        option("--config", self.config.as_deref().map(shown));
        words
    }
}

/// A word that any shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Settings of this process that no program it starts elsewhere need know: secrets, and those of
/// a worker that would be taken for its own.
fn without_secrets(command: &mut tokio::process::Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("SWEEP_") || text == "PGPASSWORD" || text == "PGPASSFILE" {
            command.env_remove(&name);
        }
    }
}

/// Waits until everything is to end.
async fn ends(end: &mut watch::Receiver<bool>) {
    // An error means that whoever could have said so is gone.
    let _ = end.wait_for(|end| *end).await.map(|end| *end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_starts_nothing_is_said_with_a_way_out() {
        for text in ["", "ssh", "ssh:", "pbs:workers=3", "slurm"] {
            let error = Plan::read(text).unwrap_err();
            assert!(error.contains("ssh:FILE"), "{text}: {error}");
        }
        let error = Plan::read("ssh:/no/such/hosts.txt").unwrap_err();
        assert!(error.contains("/no/such/hosts.txt"), "{error}");
    }

    #[test]
    fn words_reach_the_other_side_as_they_are() {
        let command = WorkerCommand {
            program: "/opt/it's here/worker".into(),
            slots: Some(4),
            ..WorkerCommand::default()
        };
        let words = command.words("https://c:7878");
        assert_eq!(words[1..], ["--connect", "https://c:7878", "--slots", "4"]);
        let line: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("printf '%s\\n' {}", line.join(" "))])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.lines().collect::<Vec<_>>(), words);
    }

    #[test]
    fn an_invitation_shows_no_token() {
        let invitation = Invitation {
            url: "https://c:7878".into(),
            token: "very secret".into(),
            purpose: String::new(),
        };
        assert!(!format!("{invitation:?}").contains("secret"));
    }
}
