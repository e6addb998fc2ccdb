//! `coordinator --grid FILE`: one sweep from its grid to its summary.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::canon::NUMERICS_VERSION;
use common::grid::Grid;
use common::summary::{CellVerdict, Summary};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::at_rest;
use crate::cli::{FailOn, Settings, code, fail, print, table_style};
use crate::core::{Config, Control, Core, NewSweep, Notice, SweepState, TakeUp};
use crate::driver::{self, Ended, Handle, Input};
use crate::export::{self, Account};
use crate::ground::Ground;
use crate::http::View;
use crate::launch;
use crate::local;
use crate::notify::Notices;
use crate::progress::{Moment, Progress};
use crate::store::{Address, AnyStore, Store, StoreError, StoredSweep};
use crate::submission;
use crate::sweep::{DataTable, GridSweep};
use crate::sweeps::Sweeps;
use crate::table;

/// Time between two looks at the sweep for the display.
const LOOK: Duration = Duration::from_millis(200);
/// Time that workers have to hand back what they hold when the sweep is interrupted.
const HAND_BACK: Duration = Duration::from_secs(30);
/// Time that workers have to leave when there is no more work.
const LEAVE: Duration = Duration::from_secs(3);

/// Runs a sweep to its end; returns the exit code.
pub async fn run(grid: Arc<Grid>, data: DataTable, settings: Settings) -> u8 {
    match Sweep::open(grid, data, settings).await {
        Ok(sweep) => sweep.carry_out().await,
        Err((code, message)) => fail(code, &message),
    }
}

/// An exit code and what to say.
pub(crate) type Failure = (u8, String);

/// An error of the store, with its causes, and the code that fits.
pub(crate) fn store_failure(error: &StoreError) -> Failure {
    let code = match error {
        StoreError::InUse { .. }
        | StoreError::NewerSchema { .. }
        | StoreError::Foreign { .. }
        | StoreError::NetworkFileSystem { .. } => code::BAD_INPUT,
        // No folder can be made there, or nothing be written into it.
        StoreError::Io {
            action: "create" | "open",
            ..
        } => code::BAD_INPUT,
        _ => code::INTERNAL,
    };
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    (code, text)
}

/// Makes a folder and shows that files can be written into it.
fn make_writable(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let probe = folder.join(format!(".writable-{}", std::process::id()));
    std::fs::File::create(&probe)?;
    std::fs::remove_file(&probe)
}

/// A sweep with everything that it runs on.
struct Sweep {
    settings: Settings,
    ground: Ground,
    stored: StoredSweep,
    workload: GridSweep,
    began: Instant,
}

impl Sweep {
    async fn open(grid: Arc<Grid>, data: DataTable, settings: Settings) -> Result<Self, Failure> {
        let began = Instant::now();
        if let Some(out) = &settings.out {
            // A long sweep is not to end with results that nobody can keep.
            make_writable(out).map_err(|error| {
                let message = format!("--out {}: {error}; name another folder", out.display());
                (code::BAD_INPUT, message)
            })?;
        }
        let ground = Ground::open(&settings).await?;
        let stored = submission::add(ground.store.as_ref(), &grid, data.contents(), 0)
            .await
            .map_err(|e| store_failure(&e))?;
        let workload = GridSweep::new(grid, data, settings.minima);
        Ok(Self {
            settings,
            ground,
            stored,
            workload,
            began,
        })
    }

    async fn carry_out(self) -> u8 {
        let Self {
            settings,
            ground,
            stored,
            workload,
            began,
        } = self;
        let store = Arc::clone(&ground.store);
        let (notices, inbox) = mpsc::unbounded_channel();
        let (handle, driver) = driver::start(
            config(store.as_ref()),
            Arc::clone(&store),
            notices,
            ground.traces.clone(),
        );
        ground.stage.lead(handle.clone(), Arc::clone(&store));
        let address = settings.store.clone();
        let (shown, keep) = (Arc::clone(&store), settings.minima);
        // What is over is told of below.
        let sweeps = Sweeps::new(handle.clone(), shown, address, keep, None);
        let told = settings.notify.clone().map(Notices::new);
        let violations = (told.clone()).map(|told| tokio::spawn(told.watch(handle.clone())));
        let progress = Progress::new(settings.progress);
        let (say, said) = mpsc::unbounded_channel();
        let (ended, end) = oneshot::channel();
        let new = NewSweep {
            number: stored.number,
            priority: stored.text.priority,
            paused: false,
            take_up: TakeUp::Nothing,
            workload: Box::new(workload),
        };
        handle.send(Input::Sweep { new, ended });
        // Whoever looks finds the sweep.
        ground.window.open(View {
            sweeps: Arc::clone(&sweeps),
            only: Some(stored.number),
        });
        let helpers = Helpers {
            local: ground.start_local(&settings),
            launched: ground.launch(&settings, &handle, &say),
        };
        drop(say);
        let mut watch = Watch {
            handle: handle.clone(),
            sweeps,
            stored: &stored,
            progress,
            notices: inbox,
            said,
            given_up: false,
        };
        let outcome = tokio::select! {
            outcome = watch.until_the_end(end, &helpers) => outcome,
            error = store.lost() => Outcome::StoreLost(error),
        };
        let code = match outcome {
            Outcome::Ended(ended) => {
                dismiss(&handle).await;
                helpers.stop().await;
                watch.progress.finish();
                let told = told.as_deref();
                conclude(
                    &settings,
                    store.as_ref(),
                    stored.clone(),
                    ended,
                    began,
                    told,
                )
                .await
            }
            Outcome::Interrupted => {
                let clean = watch.hand_back().await;
                watch.progress.finish();
                helpers.stop_after(clean).await;
                let anew = handle.look(Core::begun_anew).await.unwrap_or(0);
                let how = what_is_lost(clean, anew);
                let command = shell_words(std::env::args());
                fail(
                    code::INTERRUPTED,
                    &format!("interrupted{how}; the same command continues:\n  {command}"),
                )
            }
            Outcome::StoreLost(error) => {
                helpers.stop().await;
                watch.progress.finish();
                let (code, message) = store_failure(&error);
                fail(code, &message)
            }
            Outcome::NoWorkers => {
                // Why is said just before the end.
                while let Ok(text) = watch.said.try_recv() {
                    watch.progress.say(&text);
                }
                watch.progress.finish();
                fail(
                    code::INTERNAL,
                    "no worker stays alive; SWEEP_LOG=info shows why. What was recorded is kept: the \
                     same command continues",
                )
            }
        };
        ground.close();
        if let Some(violations) = violations {
            violations.abort();
        }
        driver.abort();
        let _ = driver.await;
        code
    }
}

/// Workers that this process has started.
struct Helpers {
    local: Option<local::Running>,
    launched: Option<launch::Running>,
}

impl Helpers {
    /// Whether there were any, and all have been given up.
    fn are_hopeless(&self) -> bool {
        let local = self.local.as_ref().map(local::Running::is_hopeless);
        let launched = self.launched.as_ref().map(launch::Running::is_hopeless);
        matches!(
            (local, launched),
            (Some(true), None | Some(true)) | (None, Some(true))
        )
    }

    async fn stop(self) {
        self.stop_after(true).await;
    }

    /// If they did not hand back what they hold (`clean`), nobody has time left
    /// to wait for local ones.
    async fn stop_after(self, clean: bool) {
        match self.local {
            Some(local) if clean => local.stop().await,
            Some(local) => local.kill().await,
            None => {}
        }
        if let Some(launched) = self.launched {
            launched.stop().await;
        }
    }
}

/// How the waiting ended.
enum Outcome {
    Ended(Ended),
    Interrupted,
    NoWorkers,
    /// Another coordinator leads.
    StoreLost(StoreError),
}

/// Shows a sweep until something ends it.
struct Watch<'a> {
    handle: Handle,
    sweeps: Arc<Sweeps<AnyStore>>,
    stored: &'a StoredSweep,
    progress: Progress,
    notices: mpsc::UnboundedReceiver<Notice>,
    /// What becomes of launched workers.
    said: mpsc::UnboundedReceiver<String>,
    given_up: bool,
}

impl Watch<'_> {
    async fn until_the_end(
        &mut self,
        mut end: oneshot::Receiver<Ended>,
        helpers: &Helpers,
    ) -> Outcome {
        let mut looks = tokio::time::interval(LOOK);
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt()).ok(),
            signal(SignalKind::terminate()).ok(),
        );
        loop {
            tokio::select! {
                ended = &mut end => {
                    return match ended {
                        Ok(ended) => Outcome::Ended(ended),
                        // The driver has gone: only at the end of the process.
                        Err(_) => Outcome::Interrupted,
                    };
                }
                () = fires(&mut interrupt) => return Outcome::Interrupted,
                () = fires(&mut terminate) => return Outcome::Interrupted,
                Some(notice) = self.notices.recv() => self.tell(&notice),
                Some(text) = self.said.recv() => self.progress.say(&text),
                _ = looks.tick() => {
                    self.look().await;
                    if helpers.are_hopeless() && !self.given_up {
                        self.given_up = true;
                        let workers = self.handle.look(|core: &Core| {
                            core.status().workers.iter().filter(|w| w.attached).count()
                        });
                        if workers.await == Some(0) {
                            return Outcome::NoWorkers;
                        }
                    }
                }
            }
        }
    }

    async fn look(&mut self) {
        let number = self.stored.number;
        let moment = self.handle.look(move |core| Moment::of(core, number));
        if let Some(Some(mut moment)) = moment.await {
            self.sweeps.paces().saw(Instant::now(), number, &moment);
            self.sweeps.paces().tell(number, &mut moment);
            self.progress.show(&moment);
        }
    }

    fn tell(&self, notice: &Notice) {
        if let Some(line) = line_of(notice) {
            self.progress.say(&line);
        }
    }

    /// Sends the workers away and waits until they have handed back what they
    /// hold; false if somebody did not want to wait.
    async fn hand_back(&mut self) -> bool {
        // Before it is said: whoever reads it may act on it.
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt()).ok(),
            signal(SignalKind::terminate()).ok(),
        );
        self.progress
            .say("interrupted: workers hand back what they hold; once more stops at once");
        let reason = "the coordinator was interrupted".to_owned();
        let stop = Control::Stop {
            reason,
            finished: false,
            waits: Some(HAND_BACK),
        };
        let quiet = async {
            self.handle.control(stop).await;
            while self.handle.look(Core::is_quiet).await == Some(false) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = quiet => true,
            () = tokio::time::sleep(HAND_BACK) => false,
            () = fires(&mut interrupt) => false,
            () = fires(&mut terminate) => false,
        }
    }
}

/// What an interruption costs, after "interrupted".
fn what_is_lost(clean: bool, begun_anew: u64) -> String {
    match (clean, begun_anew) {
        (false, _) => "; only what was running is lost".to_owned(),
        (true, 0) => ", nothing is lost".to_owned(),
        (true, 1) => "; 1 running task begins anew".to_owned(),
        (true, n) => format!("; {n} running tasks begin anew"),
    }
}

/// A command as a shell takes it.
fn shell_words(words: impl Iterator<Item = String>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quoted = words.map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// A notice for people; `None` for those that only the log has.
pub(crate) fn line_of(notice: &Notice) -> Option<String> {
    Some(match notice {
        Notice::TaskFailed {
            lease,
            kind,
            message,
            again,
        } => {
            let then = if *again {
                "it is tried again"
            } else {
                "it is set aside"
            };
            format!("{lease} failed ({}); {then}: {message}", kind.name())
        }
        Notice::Conflict { task, .. } => {
            format!("ALARM: task {task} has two results with different bits; the first one counts")
        }
        Notice::StoreFailing { error } => {
            format!("the store takes no records, nothing is acknowledged until it does: {error}")
        }
        Notice::StoreRecovered => "the store works again".to_owned(),
        Notice::WorkerLost { name, requeued } => {
            format!("worker {name} is given up; {requeued} tasks go to others")
        }
        Notice::WorkerDistrusted { name, .. } => {
            format!("worker {name} fails at everything and gets no more tasks")
        }
        Notice::WorkerJoined { .. }
        | Notice::WorkerDetached { .. }
        | Notice::ReportRefused { .. } => return None,
    })
}

/// Comes when somebody wants the program to end.
pub(crate) async fn interrupted() {
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt()).ok(),
        signal(SignalKind::terminate()).ok(),
    );
    tokio::select! {
        () = fires(&mut interrupt) => {}
        () = fires(&mut terminate) => {}
    }
}

pub(crate) async fn fires(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Tells the workers that there is no more work, and lets them go.
pub(crate) async fn dismiss(handle: &Handle) {
    let stop = Control::Stop {
        reason: "the sweep is finished".to_owned(),
        finished: true,
        waits: Some(LEAVE),
    };
    handle.control(stop).await;
    let all_gone = async {
        let attached = |core: &Core| core.status().workers.iter().any(|w| w.attached);
        while handle.look(attached).await == Some(true) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Whoever does not go is not waited for: nothing is owed any more.
    let _ = tokio::time::timeout(LEAVE, all_gone).await;
}

/// Time that workers of an earlier coordinator have to return with what they hold before tasks are
/// granted again: they try at least every 2 s. One that comes later costs a task that is computed
/// twice, never a result.
const RETURN: Duration = Duration::from_secs(3);

/// How the scheduler works over a store.
pub(crate) fn config<S: Store>(store: &S) -> Config {
    Config {
        numerics_version: NUMERICS_VERSION,
        grace: if store.may_have_orphans() {
            RETURN
        } else {
            Duration::ZERO
        },
        ..Config::default()
    }
}

pub(crate) fn host_name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

/// Summary, files, exit code.
async fn conclude(
    settings: &Settings,
    store: &AnyStore,
    mut stored: StoredSweep,
    ended: Ended,
    began: Instant,
    told: Option<&Notices>,
) -> u8 {
    let Ok(mut workload) = ended.workload.into_any().downcast::<GridSweep>() else {
        return fail(code::INTERNAL, "the sweep came back as something else");
    };
    if ended.state == SweepState::Cancelled {
        workload.cancel_rest();
    }
    stored.state = ended.state;
    let summary = workload.summary(ended.duplicates);
    print(&table::render(&summary, table_style()));
    if workload.is_search_stale() {
        print(
            "The search decided before a task that had failed was tried again with success; the \
             same command decides anew.\n",
        );
    }
    let folder = settings
        .out
        .clone()
        .unwrap_or_else(|| default_folder(&settings.store, &stored));
    let account = Account {
        command: std::env::args().collect(),
        host: host_name(),
        seconds: began.elapsed().as_secs_f64(),
        finished: ended.state == SweepState::Finished,
    };
    let written =
        export::write_all(&folder, store, &stored, &mut workload, &summary, &account).await;
    let without = match written {
        Ok(without) => without.len(),
        Err(error) => return fail(code::INTERNAL, &error.to_string()),
    };
    if without > 0 {
        print(&format!(
            "{without} of the minima were recorded without their parameters, by another sweep or \
             under another --minima; `worker run --minimum TASK.json --out minima` computes one once \
             more, to the same bits. run.json names them.\n"
        ));
    }
    print(&format!("Results: {}\n", folder.display()));
    if let Some(told) = told {
        told.sweep_over(&stored, ended.state, &summary).await;
    }
    exit_code(&summary, settings.fail_on)
}

/// `<store>/<name>-<first digits of the identity>`; below `./sweeps` if the store is a database.
pub(crate) fn default_folder(store: &Address, stored: &StoredSweep) -> PathBuf {
    let store = match store {
        Address::Directory(directory) => directory,
        Address::Postgres(_) => Path::new("./sweeps"),
    };
    let name: String = stored
        .text
        .name
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || c == '-' || c == '_' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let name = if name.is_empty() {
        "sweep"
    } else {
        name.as_str()
    };
    let digits: String = stored.text.id.chars().take(8).collect();
    store.join(format!("{name}-{digits}"))
}

fn exit_code(summary: &Summary, fail_on: FailOn) -> u8 {
    let violated = summary.overall.verdict == CellVerdict::Violated;
    if violated && fail_on == FailOn::Violation {
        code::VIOLATION
    } else if summary.totals.failed > 0 {
        code::FAILED_TASKS
    } else {
        code::DONE
    }
}

/// `summary`: what a store at rest holds of a grid.
pub async fn print_summary(grid: Arc<Grid>, data: DataTable, store: &Address) -> u8 {
    match at_rest::of_grid(grid, data, store).await {
        Ok((summary, _)) => {
            print(&summary.to_json());
            code::DONE
        }
        Err((code, message)) => fail(code, &message),
    }
}

#[cfg(test)]
mod tests {
    use super::what_is_lost;

    #[test]
    fn nothing_is_said_to_be_lost_only_if_nothing_is() {
        assert_eq!(what_is_lost(true, 0), ", nothing is lost");
        assert_eq!(what_is_lost(true, 1), "; 1 running task begins anew");
        assert_eq!(what_is_lost(true, 3), "; 3 running tasks begin anew");
        assert_eq!(what_is_lost(false, 0), "; only what was running is lost");
    }
}
