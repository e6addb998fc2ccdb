//! A coordinator with its workers, for the length of one sweep.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::canon::NUMERICS_VERSION;
use common::math::NUMERIC_LEVEL;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};

use super::{internal, machine, store};
use crate::cli::bare_settings;
use crate::core::{Control, Core, NewSweep, Status, TakeUp};
use crate::driver::{self, Ended, Handle, Input};
use crate::ground::Ground;
use crate::local;
use crate::run::{Failure, config, store_failure};
use crate::store::{AnyStore, Store, StoredSweep, SweepText};
use crate::workload::Workload;

/// Time between two looks at the scheduler, that of the display.
const LOOK: Duration = Duration::from_millis(200);

/// Who computes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Crew {
    /// Local worker processes of one slot.
    Processes(u32),
    /// Workers without slots' processes, all in one process.
    Crowd(u32),
}

/// A sweep that was carried out.
#[derive(Debug)]
pub(super) struct Ran {
    /// From the open store to the durable end.
    pub(super) seconds: f64,
    /// Largest memory of this process, megabytes.
    pub(super) memory: f64,
    /// Longest look at the scheduler, milliseconds.
    pub(super) look_ms: f64,
    /// Most workers that were connected at a time.
    pub(super) connected: usize,
    /// Commits of results.
    pub(super) commits: usize,
    pub(super) workload: Box<dyn Workload>,
}

/// Opens a coordinator on the store of a folder.
pub(super) async fn open(folder: &Path, processes: u32) -> Result<Ground, Failure> {
    let settings = bare_settings(&store(folder), processes).map_err(internal)?;
    Ground::open(&settings).await
}

/// A driver over an open store, and the sweep's end.
pub(super) fn begin(
    ground: &Ground,
    stored: &StoredSweep,
    workload: Box<dyn Workload>,
) -> (Handle, oneshot::Receiver<Ended>) {
    let (notices, mut inbox) = mpsc::unbounded_channel();
    // The log has them.
    tokio::spawn(async move { while inbox.recv().await.is_some() {} });
    let opened = Arc::clone(&ground.store);
    let (handle, _) = driver::start(config(opened.as_ref()), Arc::clone(&opened), notices, None);
    ground.stage.lead(handle.clone(), opened);
    let (ended, end) = oneshot::channel();
    let new = NewSweep {
        number: stored.number,
        priority: 0,
        paused: false,
        take_up: TakeUp::Nothing,
        workload,
    };
    handle.send(Input::Sweep { new, ended });
    (handle, end)
}

/// Carries a workload out to its end.
pub(super) async fn run(
    folder: &Path,
    workload: Box<dyn Workload>,
    crew: Crew,
) -> Result<Ran, Failure> {
    let processes = match crew {
        Crew::Processes(count) => count,
        Crew::Crowd(_) => 0,
    };
    let settings = bare_settings(&store(folder), processes).map_err(internal)?;
    let ground = Ground::open(&settings).await?;
    let stored = add(ground.store.as_ref(), "no-ops", String::new()).await?;
    let began = Instant::now();
    let (handle, mut end) = begin(&ground, &stored, workload);
    let local = ground.start_local(&settings);
    let crowd = match crew {
        Crew::Processes(_) => None,
        Crew::Crowd(count) => Some(crowd(&ground, count).await?),
    };
    let mut looks = tokio::time::interval(LOOK);
    let (mut look_ms, mut connected) = (0.0_f64, 0);
    let ended = loop {
        tokio::select! {
            ended = &mut end => break ended.map_err(internal)?,
            _ = looks.tick() => {
                let (status, took) = look(&handle).await.ok_or_else(|| internal("no driver"))?;
                look_ms = look_ms.max(took);
                connected = connected.max(status.workers.iter().filter(|w| w.attached).count());
            }
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    let memory = machine::peak_memory();
    let links = ground.store.links().await.map_err(|e| store_failure(&e))?;
    let stop = Control::Stop {
        reason: "the measurement is over".to_owned(),
        finished: true,
        waits: None,
    };
    handle.control(stop).await;
    if let Some(local) = local {
        local.stop().await;
    }
    if let Some((mut child, input)) = crowd {
        // The end of its input ends it, should it not go by itself.
        let _ = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
        drop(input);
        let _ = child.wait().await;
    }
    ground.close();
    Ok(Ran {
        seconds,
        memory,
        look_ms,
        connected,
        commits: links.len(),
        workload: ended.workload,
    })
}

/// The scheduler's numbers, and how long it took to take them, milliseconds.
async fn look(handle: &Handle) -> Option<(Status, f64)> {
    handle
        .look(|core: &Core| {
            let began = Instant::now();
            let status = core.status();
            (status, began.elapsed().as_secs_f64() * 1e3)
        })
        .await
}

/// Adds a sweep that only this program knows.
pub(super) async fn add(
    store: &AnyStore,
    name: &str,
    grid: String,
) -> Result<StoredSweep, Failure> {
    let text = SweepText {
        id: name.to_owned(),
        name: name.to_owned(),
        grid,
        files: Default::default(),
        priority: 0,
        numerics_version: NUMERICS_VERSION,
        numeric_level: NUMERIC_LEVEL.to_owned(),
    };
    store.add_sweep(text).await.map_err(|e| store_failure(&e))
}

/// One process that is many workers.
async fn crowd(ground: &Ground, count: u32) -> Result<(Child, ChildStdin), Failure> {
    let program = local::program().map_err(internal)?;
    let mut child = Command::new(program)
        .args(["--connect", &ground.local_url, "--local", "--slots", "1"])
        .args(["--crowd", &count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(internal)?;
    let mut input = (child.stdin.take()).ok_or_else(|| internal("the crowd has no input"))?;
    let token = format!("{}\n", ground.local_token);
    input.write_all(token.as_bytes()).await.map_err(internal)?;
    Ok((child, input))
}
