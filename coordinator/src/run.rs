//! `coordinator --grid FILE`: one sweep from its grid to its summary.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::canon::NUMERICS_VERSION;
use common::grid::Grid;
use common::ids::{TaskId, to_hex};
use common::math::NUMERIC_LEVEL;
use common::record::Evidence;
use common::summary::{CellVerdict, Summary};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::cli::{FailOn, Settings, code, fail, print, table_style};
use crate::core::{Config, Control, Core, Lookup, NewSweep, Notice, SweepState};
use crate::door::{self, Doors};
use crate::driver::{self, Ended, Handle, Input};
use crate::export::{self, Account};
use crate::guard::Guard;
use crate::local::{self, LocalWorkers};
use crate::progress::{Moment, Progress};
use crate::rpc;
use crate::store::{Identity, SqliteStore, Store, StoreError, StoredSweep, SweepText};
use crate::sweep::{DataTable, GridSweep, KeepMinima, sweep_id};
use crate::table;
use crate::workload::{PlannedWork, Workload};

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

/// A sweep with everything that it runs on.
struct Sweep {
    settings: Settings,
    store: Arc<SqliteStore>,
    stored: StoredSweep,
    workload: GridSweep,
    doors: Doors,
    began: Instant,
}

impl Sweep {
    async fn open(grid: Arc<Grid>, data: DataTable, settings: Settings) -> Result<Self, Failure> {
        let began = Instant::now();
        if settings.local_workers > 0 {
            local::program().map_err(|message| (code::BAD_INPUT, message))?;
        }
        let doors = Doors::bind(settings.listen, settings.tls.clone())
            .await
            .map_err(|message| (code::BAD_INPUT, message))?;
        if settings.listen.is_some() && settings.token.is_none() {
            return Err((
                code::BAD_INPUT,
                "remote workers need a token: put one of at least 16 characters into SWEEP_TOKEN \
                 or a file for --token-file, here and at the workers"
                    .to_owned(),
            ));
        }
        let identity = Identity {
            host: host_name(),
            listen: settings.listen.map(|a| a.to_string()),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let store = SqliteStore::open(&settings.store, &identity).map_err(|e| store_failure(&e))?;
        let stored = add(&store, &grid, data.contents())
            .await
            .map_err(|e| store_failure(&e))?;
        let workload = GridSweep::new(grid, data, settings.minima);
        Ok(Self {
            settings,
            store: Arc::new(store),
            stored,
            workload,
            doors,
            began,
        })
    }

    async fn carry_out(self) -> u8 {
        let Self {
            settings,
            store,
            stored,
            workload,
            doors,
            began,
        } = self;
        let (notices, inbox) = mpsc::unbounded_channel();
        let config = Config {
            numerics_version: NUMERICS_VERSION,
            grace: if store.may_have_orphans() {
                Config::default().lease
            } else {
                Duration::ZERO
            },
            ..Config::default()
        };
        let (handle, driver) = driver::start(config, Arc::clone(&store), notices);
        let local_token = match random_token() {
            Ok(token) => token,
            Err(error) => return fail(code::INTERNAL, &error.to_string()),
        };
        let network_token = settings.token.as_ref().map(|t| t.0.as_str());
        let guard = Guard::new(&local_token, network_token);
        let local_url = match doors.local_url() {
            Ok(url) => url,
            Err(error) => return fail(code::INTERNAL, &error.to_string()),
        };
        let network_url = doors.network_url();
        let server = serve(doors, handle.clone(), Arc::clone(&store), guard);
        let progress = Progress::new(settings.progress);
        if let Some(url) = network_url {
            progress.say(&format!("listening for workers: worker --connect {url}"));
        }
        let (ended, end) = oneshot::channel();
        let new = NewSweep {
            number: stored.number,
            priority: stored.text.priority,
            paused: false,
            workload: Box::new(workload),
        };
        handle.send(Input::Sweep { new, ended });
        let local = start_local(&settings, local_url, local_token);
        let mut watch = Watch {
            handle: handle.clone(),
            stored: &stored,
            progress,
            notices: inbox,
            local_given_up: false,
        };
        let outcome = watch.until_the_end(end, local.as_ref()).await;
        let code = match outcome {
            Outcome::Ended(ended) => {
                dismiss(&handle).await;
                if let Some(local) = local {
                    local.stop().await;
                }
                watch.progress.finish();
                conclude(&settings, store.as_ref(), &stored, ended, began).await
            }
            Outcome::Interrupted => {
                let clean = watch.hand_back().await;
                if let Some(local) = local {
                    local.stop().await;
                }
                watch.progress.finish();
                let how = if clean {
                    ""
                } else {
                    ", what was running is lost"
                };
                fail(
                    code::INTERRUPTED,
                    &format!("interrupted{how}; the same command continues"),
                )
            }
            Outcome::NoWorkers => {
                watch.progress.finish();
                fail(
                    code::INTERNAL,
                    "no local worker stays alive; SWEEP_LOG=info shows why. What was recorded is \
                     kept: the same command continues",
                )
            }
        };
        server.abort();
        driver.abort();
        let _ = driver.await;
        code
    }
}

/// How the waiting ended.
enum Outcome {
    Ended(Ended),
    Interrupted,
    NoWorkers,
}

/// Shows a sweep until something ends it.
struct Watch<'a> {
    handle: Handle,
    stored: &'a StoredSweep,
    progress: Progress,
    notices: mpsc::UnboundedReceiver<Notice>,
    local_given_up: bool,
}

impl Watch<'_> {
    async fn until_the_end(
        &mut self,
        mut end: oneshot::Receiver<Ended>,
        local: Option<&local::Running>,
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
                _ = looks.tick() => {
                    self.look().await;
                    if local.is_some_and(local::Running::is_hopeless) && !self.local_given_up {
                        self.local_given_up = true;
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
        if let Some(Some(moment)) = self.handle.look(move |core| Moment::of(core, number)).await {
            self.progress.show(&moment);
        }
    }

    fn tell(&self, notice: &Notice) {
        match notice {
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
                let kind = kind.name();
                self.progress
                    .say(&format!("{lease} failed ({kind}); {then}: {message}"));
            }
            Notice::Conflict { task, .. } => self.progress.say(&format!(
                "ALARM: task {task} has two results with different bits; the first one counts"
            )),
            Notice::StoreFailing { error } => self.progress.say(&format!(
                "the store takes no records, nothing is acknowledged until it does: {error}"
            )),
            Notice::StoreRecovered => self.progress.say("the store works again"),
            Notice::WorkerLost { name, requeued } => self.progress.say(&format!(
                "worker {name} is given up; {requeued} tasks go to others"
            )),
            Notice::WorkerDistrusted { name, .. } => self.progress.say(&format!(
                "worker {name} fails at everything and gets no more tasks"
            )),
            Notice::WorkerJoined { .. }
            | Notice::WorkerDetached { .. }
            | Notice::ReportRefused { .. } => {}
        }
    }

    /// Sends the workers away and waits until they have handed back what they
    /// hold; false if somebody did not want to wait.
    async fn hand_back(&mut self) -> bool {
        self.progress
            .say("interrupted: workers hand back what they hold; once more stops at once");
        let reason = "the coordinator was interrupted".to_owned();
        let stop = Control::Stop {
            reason,
            finished: false,
        };
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt()).ok(),
            signal(SignalKind::terminate()).ok(),
        );
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

async fn fires(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Tells the workers that there is no more work, and lets them go.
async fn dismiss(handle: &Handle) {
    let stop = Control::Stop {
        reason: "the sweep is finished".to_owned(),
        finished: true,
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

fn start_local(settings: &Settings, url: String, token: String) -> Option<local::Running> {
    if settings.local_workers == 0 {
        return None;
    }
    // It was looked for before the store was opened.
    let program = local::program().ok()?;
    Some(local::start(&LocalWorkers {
        program,
        url,
        token,
        count: settings.local_workers,
    }))
}

fn serve(
    doors: Doors,
    handle: Handle,
    store: Arc<SqliteStore>,
    guard: Guard,
) -> tokio::task::JoinHandle<()> {
    let cluster = rpc::service(handle, store, guard);
    tokio::spawn(async move {
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter
            .set_serving::<common::pb::wire::cluster_server::ClusterServer<rpc::Service<SqliteStore>>>()
            .await;
        let served = door::server()
            .add_service(cluster)
            .add_service(health)
            .serve_with_incoming(doors.open())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the server for workers ended");
        }
    })
}

fn random_token() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(to_hex(&bytes))
}

pub(crate) fn host_name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

/// Puts a grid and its files into the store, or finds them there.
async fn add(
    store: &SqliteStore,
    grid: &Grid,
    contents: &std::collections::BTreeMap<String, Bytes>,
) -> Result<StoredSweep, StoreError> {
    for file in grid.files() {
        if let Some(content) = contents.get(&file.id.to_string()) {
            store.put_blob(file.id, content.clone()).await?;
        }
    }
    let text = SweepText {
        id: sweep_id(grid),
        name: grid.name().to_owned(),
        grid: grid.source().text.clone(),
        priority: 0,
        numerics_version: NUMERICS_VERSION,
        numeric_level: NUMERIC_LEVEL.to_owned(),
    };
    store.add_sweep(text).await
}

/// Summary, files, exit code.
async fn conclude(
    settings: &Settings,
    store: &SqliteStore,
    stored: &StoredSweep,
    ended: Ended,
    began: Instant,
) -> u8 {
    let Ok(mut workload) = ended.workload.into_any().downcast::<GridSweep>() else {
        return fail(code::INTERNAL, "the sweep came back as something else");
    };
    if ended.state == SweepState::Cancelled {
        workload.cancel_rest();
    }
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
        .unwrap_or_else(|| default_folder(&settings.store, stored));
    let account = Account {
        command: std::env::args().collect(),
        host: host_name(),
        seconds: began.elapsed().as_secs_f64(),
        finished: ended.state == SweepState::Finished,
    };
    let written = export::write_all(&folder, store, stored, &workload, &summary, &account).await;
    if let Err(error) = written {
        return fail(code::INTERNAL, &error.to_string());
    }
    print(&format!("Results: {}\n", folder.display()));
    exit_code(&summary, settings.fail_on)
}

/// `<store>/<name>-<first digits of the identity>`.
fn default_folder(store: &Path, stored: &StoredSweep) -> PathBuf {
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

/// Tasks that are looked up at a time.
const PAGE: usize = 2_000;

/// `summary`: what a store at rest holds of a grid.
pub async fn print_summary(grid: Arc<Grid>, data: DataTable, store: &Path) -> u8 {
    match read_summary(grid, data, store).await {
        Ok((summary, _)) => {
            print(&summary.to_json());
            code::DONE
        }
        Err((code, message)) => fail(code, &message),
    }
}

/// What a store at rest holds of a grid, finished or not.
pub(crate) async fn read_summary(
    grid: Arc<Grid>,
    data: DataTable,
    folder: &Path,
) -> Result<(Summary, StoredSweep), Failure> {
    if !folder.join("store.sqlite3").exists() {
        let message = format!("{} holds no store", folder.display());
        return Err((code::BAD_INPUT, message));
    }
    let identity = Identity {
        host: host_name(),
        listen: None,
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let store = SqliteStore::open(folder, &identity).map_err(|e| store_failure(&e))?;
    let id = sweep_id(&grid);
    let sweeps = store.sweeps().await.map_err(|e| store_failure(&e))?;
    let Some(stored) = sweeps.into_iter().find(|s| s.text.id == id) else {
        let message = format!("the store {} has no sweep of this grid", folder.display());
        return Err((code::BAD_INPUT, message));
    };
    let mut workload = GridSweep::new(grid, data, KeepMinima::None);
    let mut seen = std::collections::HashSet::new();
    let mut duplicates = 0;
    let (mut position, mut missing) = (0, 0);
    loop {
        let mut page: Vec<(u64, TaskId)> = Vec::new();
        while position < workload.len() {
            let planned = workload.task(position);
            position += 1;
            if !seen.insert(planned.id) {
                duplicates += 1;
                continue;
            }
            page.push((position - 1, planned.id));
            if let PlannedWork::Run { baseline, .. } = planned.work
                && seen.insert(baseline.into())
            {
                page.push((u64::MAX, baseline.into()));
            }
            if page.len() >= PAGE {
                let page = std::mem::take(&mut page);
                missing += fold_page(&store, &stored, &mut workload, page).await?;
            }
        }
        missing += fold_page(&store, &stored, &mut workload, page).await?;
        // A search decides its next round when everything before is settled, here as there.
        if missing > 0 || !workload.next_round() {
            break;
        }
    }
    store.close().await.map_err(|e| store_failure(&e))?;
    if stored.state == SweepState::Cancelled {
        workload.cancel_rest();
    }
    Ok((workload.summary(duplicates), stored))
}

/// Folds in what the store has of some tasks; baselines are those at `u64::MAX`. Returns how many
/// are neither recorded nor set aside.
async fn fold_page(
    store: &SqliteStore,
    stored: &StoredSweep,
    workload: &mut GridSweep,
    page: Vec<(u64, TaskId)>,
) -> Result<u64, Failure> {
    let lookup = Lookup {
        sweep: stored.number,
        tasks: page.iter().map(|(_, task)| *task).collect(),
    };
    let known = store.lookup(lookup).await.map_err(|e| store_failure(&e))?;
    let results: std::collections::HashMap<TaskId, Evidence> = known
        .results
        .into_iter()
        .map(|(task, opened)| (task, opened.evidence))
        .collect();
    let mut missing = 0;
    for (position, task) in page {
        match results.get(&task) {
            Some(Evidence::Baseline(evidence)) if position == u64::MAX => {
                workload.baseline_solved(common::ids::BaselineId(task.0), evidence);
            }
            Some(evidence) => {
                workload.recorded(position, &task, evidence);
            }
            None if known.set_aside.contains(&task) && position != u64::MAX => {
                let kind = common::protocol::FailureKind::Crash;
                workload.set_aside(position, &task, kind);
            }
            None => missing += 1,
        }
    }
    Ok(missing)
}
