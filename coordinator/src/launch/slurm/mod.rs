//! Workers as batch jobs of Slurm.
//!
//! The token is in a file that only this user can read, in a folder that all
//! nodes see, and that is removed at the end. It is not in the script, in an
//! argument, or in the environment of a job, which Slurm may keep in its
//! database. `sbatch` is run without this program's settings.
//!
//! A job is one worker. Ahead of its time limit Slurm sends the worker SIGTERM:
//! it finishes what it can, hands back the rest with checkpoints, and the next
//! job goes on from there.

pub mod keeper;
pub mod options;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::watch;

pub use options::Options;

use self::keeper::{Acts, JobName, Keeper, Phase, View};
use super::{Invitation, Say, demand, ends, quoted, without_secrets};
use crate::core::Core;
use crate::driver::Handle;

/// Time between two questions to Slurm, which serves others, too.
const LOOK: Duration = Duration::from_secs(10);
/// The same until the first worker has joined.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// Ahead of its time limit a job is told to end.
const AHEAD: Duration = Duration::from_secs(90);
/// Of it the worker has this much to finish tasks and hand back the rest.
const GRACE: Duration = Duration::from_secs(60);
/// Time for jobs to end by themselves at the end.
const LEAVE: Duration = Duration::from_secs(10);
/// How workers of jobs are called, in front of the job's name.
const PREFIX: &str = "slurm-";

/// Keeps as many jobs as the queue needs, until the end or until it is given up.
pub async fn keep(
    options: Options,
    invitation: Invitation,
    handle: Handle,
    say: Say,
    mut end: watch::Receiver<bool>,
) {
    let tell = |text: String| {
        tracing::info!("{text}");
        // Nobody listens any more at the end.
        let _ = say.send(text);
    };
    let batch = match Batch::new(&options, &invitation) {
        Ok(batch) => batch,
        Err(error) => {
            let folder = options.folder.display();
            tell(format!(
                "no jobs: the token cannot be put into {folder}: {error}"
            ));
            return;
        }
    };
    let mut keeper = Keeper::new(options.limit, options.slots());
    let began = Instant::now();
    let mut joined = false;
    let mut silent = false;
    while !*end.borrow() {
        match batch.view(&handle).await {
            Ok(None) => break,
            Ok(Some(view)) => {
                silent = false;
                joined |= !view.held.is_empty();
                let acts = keeper.look(began.elapsed(), &view);
                batch.carry_out(&acts, &mut keeper, began, &tell).await;
                if keeper.is_hopeless() {
                    tell(format!(
                        "{} jobs ended without their worker having joined; no more are \
                         submitted. Their logs: {}",
                        keeper::HOPELESS,
                        batch.folder.join(format!("{}-*.log", batch.name)).display()
                    ));
                    break;
                }
            }
            // The controller restarts, say: the jobs are not affected.
            Err(error) => {
                if !silent {
                    tell(format!("Slurm does not say which jobs there are: {error}"));
                }
                silent = true;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(if joined { LOOK } else { FIRST_LOOK }) => {}
            () = ends(&mut end) => {}
        }
    }
    if let Err(error) = batch.end().await {
        tell(format!(
            "jobs may be left, `scancel --name={}` ends them: {error}",
            batch.name
        ));
    }
}

/// What the jobs have in common.
struct Batch {
    /// Name of the jobs. The same sweep at the same place has the same, so that
    /// a coordinator that was killed finds its jobs again.
    name: String,
    folder: PathBuf,
    /// Gone with this value.
    token: PathBuf,
    script: String,
    arguments: Vec<String>,
}

impl Drop for Batch {
    fn drop(&mut self) {
        // Where it is gone already there is nothing to do.
        let _ = std::fs::remove_file(&self.token);
    }
}

impl Batch {
    fn new(options: &Options, invitation: &Invitation) -> std::io::Result<Self> {
        let name = name(invitation);
        let folder = std::path::absolute(&options.folder)?;
        let token = folder.join(format!("{name}.token"));
        // Never through a link that somebody laid there, never readable by others.
        let _ = std::fs::remove_file(&token);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&token)?;
        writeln!(file, "{}", invitation.token)?;
        Ok(Self {
            script: script(options, &invitation.url, &token),
            arguments: arguments(options, &name, &folder),
            name,
            folder,
            token,
        })
    }

    /// `None` when the coordinator has ended.
    async fn view(&self, handle: &Handle) -> Result<Option<View>, String> {
        let jobs = self.jobs().await?;
        let look = handle.look(|core: &Core| {
            let status = core.status();
            let attached = status.workers.iter().filter(|w| w.attached);
            let held = attached.filter_map(|w| {
                let job = w.profile.name.strip_prefix(PREFIX)?;
                Some((job.to_owned(), w.held))
            });
            (demand::unfinished(&status), held.collect())
        });
        Ok(look.await.map(|(unfinished, held)| View {
            jobs,
            held,
            unfinished,
        }))
    }

    async fn jobs(&self) -> Result<BTreeMap<JobName, Phase>, String> {
        let user = rustix::process::geteuid().as_raw().to_string();
        let arguments = ["--noheader", "--array", "--format=%i|%T", "--user", &user];
        let mut command = Command::new("squeue");
        command.args(arguments).args(["--name", &self.name]);
        run(&mut command, None).await.map(|text| parse_jobs(&text))
    }

    async fn carry_out(
        &self,
        acts: &Acts,
        keeper: &mut Keeper,
        began: Instant,
        tell: &impl Fn(String),
    ) {
        if acts.submit > 0 {
            match self.submit(acts.submit).await {
                Ok(job) => {
                    keeper.submitted();
                    tell(format!(
                        "{} workers submitted, job {}",
                        acts.submit,
                        job.trim()
                    ));
                }
                Err(error) => {
                    let pause = keeper.submit_failed(began.elapsed()).as_secs();
                    tell(format!("no job submitted, next try in {pause} s: {error}"));
                }
            }
        }
        if cancel(&acts.cancel, &[]).await.is_ok() {
            keeper.forget(&acts.cancel);
        }
        // They leave as if their time were over. One that does not is found
        // idle again.
        let _ = cancel(&acts.dismiss, &["--batch", "--signal=TERM"]).await;
    }

    async fn submit(&self, count: u32) -> Result<String, String> {
        let mut command = Command::new("sbatch");
        command
            .args(&self.arguments)
            .arg(format!("--array=0-{}", count - 1));
        run(&mut command, Some(&self.script)).await
    }

    /// Lets nothing be left: workers have been sent away by now, and jobs that
    /// still wait have nothing to wait for.
    async fn end(&self) -> Result<(), String> {
        let until = Instant::now() + LEAVE;
        loop {
            let jobs = self.jobs().await?;
            let of = |phase: Phase| -> Vec<JobName> {
                let matching = jobs.iter().filter(|(_, p)| **p == phase);
                matching.map(|(name, _)| name.clone()).collect()
            };
            let (waiting, running) = (of(Phase::Waiting), of(Phase::Running));
            if waiting.is_empty() && running.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                // Slurm says SIGTERM, and SIGKILL some time later.
                return cancel(&[waiting, running].concat(), &[]).await;
            }
            // What has ended meanwhile cannot be cancelled; the next look shows it.
            let _ = cancel(&waiting, &[]).await;
            let _ = cancel(&running, &["--batch", "--signal=TERM"]).await;
            tokio::time::sleep(FIRST_LOOK).await;
        }
    }
}

/// By what it works on and where it is reached.
fn name(invitation: &Invitation) -> String {
    let mut hash = Sha256::new();
    hash.update(&invitation.purpose);
    hash.update([0]);
    hash.update(&invitation.url);
    format!("sweep-{}", &common::ids::to_hex(&hash.finalize())[..12])
}

fn arguments(options: &Options, name: &str, folder: &Path) -> Vec<String> {
    let mut arguments = vec![
        "--parsable".to_owned(),
        format!("--job-name={name}"),
        "--ntasks=1".to_owned(),
        format!("--cpus-per-task={}", options.cpus),
        // To the worker itself, which takes the place of the script's shell.
        format!("--signal=B:TERM@{}", AHEAD.as_secs()),
        format!("--output={}/%x-%A_%a.log", folder.display()),
        // A job that is put back in the queue is one that this program did not ask for.
        "--no-requeue".to_owned(),
    ];
    if let Some(time) = &options.time {
        arguments.push(format!("--time={time}"));
    }
    arguments.extend(options.passed_on.iter().cloned());
    arguments
}

fn script(options: &Options, url: &str, token: &Path) -> String {
    let mut words = options.worker.words(url);
    let token = token.display().to_string();
    words.extend(["--token-file".into(), token]);
    words.extend(["--grace".into(), GRACE.as_secs().to_string()]);
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    let job = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}";
    format!(
        "#!/bin/sh\nexec {} --name \"{PREFIX}{job}\"\n",
        words.join(" ")
    )
}

/// `squeue`'s lines.
fn parse_jobs(text: &str) -> BTreeMap<JobName, Phase> {
    let job = |line: &str| {
        let (name, state) = line.trim().split_once('|')?;
        let phase = match state {
            "PENDING" | "SUSPENDED" | "REQUEUED" => Phase::Waiting,
            "RUNNING" | "CONFIGURING" => Phase::Running,
            _ => Phase::Leaving,
        };
        Some((name.to_owned(), phase))
    };
    text.lines().filter_map(job).collect()
}

async fn cancel(jobs: &[JobName], how: &[&str]) -> Result<(), String> {
    if jobs.is_empty() {
        return Ok(());
    }
    let mut command = Command::new("scancel");
    run(command.args(how).args(jobs), None).await.map(|_| ())
}

/// Runs one of Slurm's commands and returns what it prints.
async fn run(command: &mut Command, input: Option<&str>) -> Result<String, String> {
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    without_secrets(command);
    let mut child = command
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        // A terminal's Ctrl-C is for the coordinator to answer.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // It may have ended already; what it says is worth more than this error.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = (child.wait_with_output().await).map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} says: {}", said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        Options::parse(text).unwrap()
    }

    fn invitation() -> Invitation {
        Invitation {
            url: "https://login1:7878".into(),
            token: "the token of this test".into(),
            purpose: "./sweeps".into(),
        }
    }

    #[test]
    fn the_script_becomes_the_worker_and_has_no_token() {
        let options = options("workers=2,cpus=4,worker=/opt/worker,config=/opt/worker.yaml");
        assert_eq!(
            script(
                &options,
                "https://login1:7878",
                Path::new("/shared/sweep-1.token")
            ),
            "#!/bin/sh\nexec '/opt/worker' '--connect' 'https://login1:7878' '--slots' '4' \
             '--config' '/opt/worker.yaml' '--token-file' '/shared/sweep-1.token' '--grace' '60' \
             --name \"slurm-${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}\"\n"
        );
    }

    #[test]
    fn a_job_is_told_to_end_ahead_of_its_limit_for_longer_than_its_worker_needs() {
        let options = options("workers=2,cpus=4,time=01:00:00,partition=long");
        let arguments = arguments(&options, "sweep-1", Path::new("/shared"));
        for part in [
            "--signal=B:TERM@90",
            "--time=01:00:00",
            "--partition=long",
            "--cpus-per-task=4",
            "--output=/shared/%x-%A_%a.log",
        ] {
            assert!(arguments.iter().any(|a| a == part), "{part}: {arguments:?}");
        }
        assert!(GRACE < AHEAD);
    }

    #[test]
    fn the_token_lies_in_a_file_of_its_owner_and_is_gone_at_the_end() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mut options = options("workers=2");
        options.folder = folder.path().to_owned();
        let batch = Batch::new(&options, &invitation()).unwrap();
        let file = folder.path().join(format!("{}.token", batch.name));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.trim(), invitation().token);
        assert!(!batch.script.contains("the token of"));
        assert_eq!(
            name(&invitation()),
            batch.name,
            "the same sweep, the same name"
        );
        drop(batch);
        assert!(!file.exists());
    }

    #[test]
    fn what_squeue_prints() {
        let jobs = parse_jobs("12_0|RUNNING\n12_1|PENDING\n 13_0|COMPLETING\n\nnonsense\n");
        let expected = [
            ("12_0", Phase::Running),
            ("12_1", Phase::Waiting),
            ("13_0", Phase::Leaving),
        ];
        assert_eq!(jobs, expected.map(|(n, p)| (n.to_owned(), p)).into());
    }
}
