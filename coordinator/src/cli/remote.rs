//! Commands about sweeps of a live coordinator (`--connect`) or of a store at
//! rest (`--store`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use common::grid::Folder;
use common::grid::Grid;
use common::pb::wire;
use common::protocol::SweepNumber;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tonic::Code;

use super::told::{self, list_json, list_text, show};
use super::{block_on, code, fail, print};
use crate::at_rest::{self, Kept};
use crate::client::{self, Access, Client, failure};
use crate::core::{Record, SweepState, Ticket};
use crate::explain::{self, What};
use crate::progress::{Display, Moment, Progress};
use crate::run::{Failure, store_failure};
use crate::store::{Address, AnyStore, Store, StoredSweep};
use crate::submission;
use crate::sweeps::Seen;

/// Bytes of a piece of a file.
const PIECE: usize = 1 << 20;

/// Where sweeps are.
#[derive(Args, Clone, Debug)]
pub(super) struct Source {
    #[command(flatten)]
    access: Access,
    /// The store of a coordinator that does not run: a folder or postgres://… [default: ./sweeps]
    #[arg(
        long,
        value_name = "WHERE",
        conflicts_with = "connect",
        env = "SWEEP_STORE",
        hide_env_values = true
    )]
    store: Option<String>,
}

impl Source {
    /// Of a store at rest.
    pub(super) fn at_rest(store: &str) -> Self {
        Self {
            access: Access::default(),
            store: Some(store.to_owned()),
        }
    }

    fn address(&self) -> Result<Address, Failure> {
        let text = self.store.as_deref().unwrap_or("./sweeps");
        text.parse()
            .map_err(|e| (code::BAD_INPUT, format!("--store: {e}")))
    }
}

/// Where sweeps are, and which one is meant.
#[derive(Args, Clone, Debug)]
pub(super) struct Place {
    #[command(flatten)]
    source: Source,
    /// The sweep: its number, name, or first digits of its identity; needed if there are several
    #[arg(long, value_name = "SWEEP")]
    sweep: Option<String>,
    /// The grid that named it instead.
    #[arg(skip)]
    grid: Option<PathBuf>,
}

impl Place {
    /// A sweep by the file of its grid, by its number, name, or first digits of its identity.
    pub(super) fn of(source: &Source, sweep: &str) -> Result<Self, Failure> {
        let place = Self {
            source: source.clone(),
            sweep: Some(sweep.to_owned()),
            grid: None,
        };
        let path = Path::new(sweep);
        let end = path.extension().and_then(|end| end.to_str());
        let a_grid = path.is_file() || matches!(end, Some("yaml" | "yml" | "json"));
        place.of_grid(a_grid.then_some(path))
    }

    /// With a grid to name the sweep by, if there is one.
    pub(super) fn of_grid(&self, grid: Option<&Path>) -> Result<Self, Failure> {
        let mut place = self.clone();
        if let Some(path) = grid {
            let (grid, _) = super::load_grid(path).map_err(|m| (code::BAD_INPUT, m))?;
            place.sweep = Some(crate::sweep::sweep_id(&grid));
            place.grid = Some(path.to_owned());
        }
        Ok(place)
    }

    /// Whether a live coordinator is meant.
    pub(super) fn is_live(&self) -> bool {
        self.source.access.connect.is_some()
    }

    fn address(&self) -> Result<Address, Failure> {
        self.source.address()
    }

    pub(super) async fn client(&self) -> Option<Result<Client, Failure>> {
        let access = &self.source.access;
        let url = access.connect.as_ref()?;
        Some(client::connect(url, access).await)
    }

    /// Which of several is meant.
    fn choose(&self, all: &[(u32, String, String)]) -> Result<u32, Failure> {
        let listed = || {
            let lines = all.iter().map(|(n, name, _)| format!("{n} ({name})"));
            lines.collect::<Vec<_>>().join(", ")
        };
        let bad = |message: String| Err((code::BAD_INPUT, message));
        let matching: Vec<u32> = match &self.sweep {
            None => all.iter().map(|s| s.0).collect(),
            Some(text) => all
                .iter()
                .filter(|(number, name, id)| {
                    number.to_string() == *text
                        || name == text
                        || (text.len() >= 6 && id.starts_with(text.as_str()))
                })
                .map(|s| s.0)
                .collect(),
        };
        match (matching.as_slice(), &self.sweep) {
            ([number], _) => Ok(*number),
            ([], None) => bad("there is no sweep".to_owned()),
            ([], Some(_)) if all.is_empty() => bad("there is no sweep".to_owned()),
            ([], Some(text)) => bad(match &self.grid {
                Some(grid) => {
                    let grid = grid.display();
                    format!("no sweep is of the grid {grid}; there are {}", listed())
                }
                None => format!("no sweep is `{text}`; there are {}", listed()),
            }),
            (_, None) => bad(format!("which one? --sweep names one of {}", listed())),
            (_, Some(text)) => bad(format!("`{text}` may be any of {}", listed())),
        }
    }

    /// The one that was named, if one was.
    fn named(&self, all: &[(u32, String, String)]) -> Result<Option<u32>, Failure> {
        self.sweep.as_ref().map(|_| self.choose(all)).transpose()
    }

    pub(super) async fn remote_number(&self, client: &mut Client) -> Result<u32, Failure> {
        let reply = client.list(wire::ListRequest {}).await;
        let sweeps = reply.map_err(|s| failure(&s))?.into_inner().sweeps;
        let all: Vec<_> = (sweeps.into_iter())
            .map(|s| (s.sweep, s.name, s.id))
            .collect();
        self.choose(&all)
    }

    pub(super) async fn kept(&self) -> Result<(AnyStore, StoredSweep), Failure> {
        let store = at_rest::open_store(&self.address()?).await?;
        let sweeps = store.sweeps().await.map_err(|e| store_failure(&e))?;
        let number = SweepNumber(self.choose(&names(&sweeps))?);
        let stored = sweeps.into_iter().find(|s| s.number == number);
        stored
            .map(|stored| (store, stored))
            .ok_or_else(|| (code::INTERNAL, "the sweep is gone".to_owned()))
    }
}

/// Number, name and identity of each.
fn names(sweeps: &[StoredSweep]) -> Vec<(u32, String, String)> {
    let name = |s: &StoredSweep| (s.number.0, s.text.name.clone(), s.text.id.clone());
    sweeps.iter().map(name).collect()
}

pub(super) async fn reopen(store: &AnyStore, stored: StoredSweep) -> Result<Kept, Failure> {
    let opened = submission::reopen(store, &stored).await;
    let (grid, data) = opened.map_err(|e| (code::BAD_INPUT, e.to_string()))?;
    Ok(Kept { stored, grid, data })
}

pub(super) fn finish(outcome: Result<u8, Failure>) -> u8 {
    match outcome {
        Ok(code) => code,
        Err((code, message)) => fail(code, &message),
    }
}

#[derive(Args, Debug)]
pub(super) struct SubmitArgs {
    #[command(flatten)]
    access: Access,
    /// The grid; the files it names go along
    #[arg(long, value_name = "FILE")]
    grid: PathBuf,
    /// Higher ones are served first
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    priority: i32,
    /// Wait for the end; the exit code is that of `--grid`
    #[arg(long)]
    wait: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `submit`: sends a grid and its files.
pub(super) fn submit(args: &SubmitArgs) -> u8 {
    finish(block_on_result(async {
        let url = args.access.connect.clone().ok_or_else(|| {
            let message = "--connect URL is needed: where the coordinator is";
            (code::BAD_INPUT, message.to_owned())
        })?;
        let grid = read_grid(&args.grid).map_err(|message| (code::BAD_INPUT, message))?;
        let mut client = client::connect(&url, &args.access).await?;
        upload(&mut client, &grid, &args.grid).await?;
        let request = wire::SubmitRequest {
            name: args.grid.display().to_string(),
            grid: grid.source().text.clone(),
            files: grid
                .files()
                .iter()
                .map(|f| wire::GridFile {
                    path: f.path.clone(),
                    sha256: bytes::Bytes::copy_from_slice(&f.id.0),
                })
                .collect(),
            priority: args.priority,
        };
        let status = client.submit(request).await;
        let status = status.map_err(|s| failure(&s))?.into_inner();
        show(&status, args.json);
        if args.wait {
            follow(&mut client, status.sweep, args.json).await
        } else {
            Ok(code::DONE)
        }
    }))
}

/// Mistakes are told here, before anything is sent.
fn read_grid(path: &Path) -> Result<Grid, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let base = path.parent().unwrap_or(Path::new(".")).to_owned();
    Grid::load(&path.display().to_string(), &bytes, &Folder { base })
        .map_err(|mistakes| mistakes.render(super::colours_on_stderr()))
}

async fn upload(client: &mut Client, grid: &Grid, path: &Path) -> Result<(), Failure> {
    let hashes = (grid.files().iter())
        .map(|f| bytes::Bytes::copy_from_slice(&f.id.0))
        .collect();
    let missing = client
        .missing(wire::MissingRequest { sha256: hashes })
        .await;
    let missing = missing.map_err(|s| failure(&s))?.into_inner().sha256;
    let base = path.parent().unwrap_or(Path::new("."));
    for file in grid.files() {
        if !missing.iter().any(|m| m.as_ref() == file.id.0) {
            continue;
        }
        let content = std::fs::read(base.join(&file.path));
        let content = content.map_err(|e| (code::BAD_INPUT, format!("{}: {e}", file.path)))?;
        if Sha256::digest(&content).as_slice() != file.id.0 {
            let message = format!("{} changed while it was read", file.path);
            return Err((code::BAD_INPUT, message));
        }
        let content = bytes::Bytes::from(content);
        let starts = (0..content.len().max(1)).step_by(PIECE);
        let chunks: Vec<_> = starts
            .map(|start| wire::UploadChunk {
                content: content.slice(start..content.len().min(start + PIECE)),
            })
            .collect();
        let sent = client.upload(tokio_stream::iter(chunks)).await;
        sent.map_err(|s| failure(&s))?;
    }
    Ok(())
}

#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `status`: all sweeps, or the one that is named, and the workers.
pub(super) fn status(args: &StatusArgs) -> u8 {
    finish(block_on_result(async {
        match args.place.client().await {
            Some(client) => {
                let reply = client?.list(wire::ListRequest {}).await;
                let mut reply = reply.map_err(|s| failure(&s))?.into_inner();
                let all = reply.sweeps.iter();
                let all: Vec<_> = all
                    .map(|s| (s.sweep, s.name.clone(), s.id.clone()))
                    .collect();
                if let Some(wanted) = args.place.named(&all)? {
                    reply.sweeps.retain(|s| s.sweep == wanted);
                }
                if args.json {
                    print(&format!("{:#}\n", list_json(&reply)));
                } else {
                    print(&list_text(&reply));
                }
            }
            None => at_rest_status(args).await?,
        }
        Ok(code::DONE)
    }))
}

async fn at_rest_status(args: &StatusArgs) -> Result<(), Failure> {
    let store = at_rest::open_store(&args.place.address()?).await?;
    let mut reply = wire::ListReply::default();
    let sweeps = store.sweeps().await.map_err(|e| store_failure(&e))?;
    let wanted = args.place.named(&names(&sweeps))?;
    let is_wanted = |s: &StoredSweep| wanted.is_none_or(|wanted| s.number.0 == wanted);
    for stored in sweeps.into_iter().filter(is_wanted) {
        reply.sweeps.push(status_at_rest(&store, stored).await?);
    }
    store.close().await.map_err(|e| store_failure(&e))?;
    if args.json {
        print(&format!("{:#}\n", list_json(&reply)));
    } else {
        print(&list_text(&reply));
    }
    Ok(())
}

async fn status_at_rest(
    store: &AnyStore,
    stored: StoredSweep,
) -> Result<wire::SweepStatus, Failure> {
    let seen = Seen {
        stored: stored.clone(),
        // One that this version cannot read is listed all the same.
        moment: match reopen(store, stored).await {
            Ok(kept) => Moment::of_summary(&at_rest::summary(store, kept).await?),
            Err(_) => Moment::default(),
        },
    };
    Ok(crate::admin::status(&seen))
}

/// `watch`: one sweep until it is over.
pub(super) fn watch(args: &StatusArgs) -> u8 {
    finish(block_on_result(async {
        if let Some(client) = args.place.client().await {
            let mut client = client?;
            let number = args.place.remote_number(&mut client).await?;
            return follow(&mut client, number, args.json).await;
        }
        // A store at rest does not change: there is one thing to see.
        let (store, stored) = args.place.kept().await?;
        let state = stored.state;
        let status = status_at_rest(&store, stored).await?;
        store.close().await.map_err(|e| store_failure(&e))?;
        show(&status, args.json);
        if matches!(state, SweepState::Running | SweepState::Paused) && !args.json {
            print("No coordinator carries it on; --connect URL watches one that runs.\n");
        }
        Ok(if status.failed > 0 {
            code::FAILED_TASKS
        } else {
            code::DONE
        })
    }))
}

/// Shows a sweep until it is over: as `--grid` does, or as JSON lines. The exit code of `--grid`.
async fn follow(client: &mut Client, number: u32, json: bool) -> Result<u8, Failure> {
    let statuses = client.watch(wire::SweepRequest { sweep: number }).await;
    let mut statuses = statuses.map_err(|s| failure(&s))?.into_inner();
    let mut progress = Progress::new(if json { Display::None } else { Display::Auto });
    let mut last: Option<wire::SweepStatus> = None;
    loop {
        let status = match statuses.message().await {
            Ok(Some(status)) => status,
            Ok(None) => break,
            // The connection broke: what is said of that below is more use than why it did.
            Err(error) if matches!(error.code(), Code::Unknown | Code::Unavailable) => break,
            Err(error) => {
                progress.finish();
                return Err(failure(&error));
            }
        };
        if last.as_ref().is_none_or(|last| last.state != status.state) {
            progress.say(&format!(
                "{} {}: {}",
                status.sweep, status.name, status.state
            ));
        }
        if !json && told::is_known(&status) {
            progress.show(&told::moment(&status));
        } else if !json {
            // There is nothing to draw.
        } else if last.as_ref() != Some(&status) {
            show(&status, true);
        }
        last = Some(status);
    }
    progress.finish();
    if let Some(status) = last.as_ref().filter(|_| !json) {
        show(status, false);
    }
    match last {
        Some(status) if status.state == SweepState::Finished.name() => Ok(if status.failed > 0 {
            code::FAILED_TASKS
        } else {
            code::DONE
        }),
        Some(status) if status.state == SweepState::Cancelled.name() => Ok(code::DONE),
        _ => Err((
            code::INTERNAL,
            "the coordinator ended, or cannot be reached any more; what is recorded is kept"
                .to_owned(),
        )),
    }
}

#[derive(Args, Debug)]
pub(super) struct SummaryArgs {
    #[command(flatten)]
    place: Place,
    /// The grid, to name the sweep by it
    #[arg(long, value_name = "FILE")]
    grid: Option<PathBuf>,
}

/// `summary`: what is recorded of a sweep so far, as JSON.
pub(super) fn summary(args: &SummaryArgs) -> u8 {
    if !args.place.is_live()
        && let Some(path) = &args.grid
    {
        let address = match args.place.address() {
            Ok(address) => address,
            Err((code, message)) => return fail(code, &message),
        };
        return super::with_grid(path, |grid, data| {
            block_on(crate::run::print_summary(grid, data, &address))
        });
    }
    finish(block_on_result(async {
        let place = args.place.of_grid(args.grid.as_deref())?;
        let json = match place.client().await {
            Some(client) => {
                let mut client = client?;
                let number = place.remote_number(&mut client).await?;
                let reply = client.summary(wire::SweepRequest { sweep: number }).await;
                let json = reply.map_err(|s| failure(&s))?.into_inner().json;
                String::from_utf8_lossy(&json).into_owned()
            }
            None => {
                let (store, stored) = place.kept().await?;
                let kept = reopen(&store, stored).await?;
                at_rest::summary(&store, kept).await?.to_json()
            }
        };
        print(&json);
        Ok(code::DONE)
    }))
}

/// What is done to a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Pause,
    Resume,
    Cancel,
    Retry,
}

#[derive(Args, Debug)]
pub(super) struct ChangeArgs {
    #[command(flatten)]
    place: Place,
}

/// `pause`, `resume`, `cancel`, `retry`.
pub(super) fn change(args: &ChangeArgs, change: Change) -> u8 {
    finish(block_on_result(async {
        let tasks = match args.place.client().await {
            Some(client) => {
                let mut client = client?;
                let number = args.place.remote_number(&mut client).await?;
                remote_change(&mut client, number, change).await?
            }
            None => at_rest_change(&args.place, change).await?,
        };
        print(&match change {
            Change::Pause => "paused; what runs is finished\n".to_owned(),
            Change::Resume => "resumed\n".to_owned(),
            Change::Cancel => "cancelled; what is recorded is kept\n".to_owned(),
            Change::Retry => format!("{tasks} failed tasks are tried again\n"),
        });
        Ok(code::DONE)
    }))
}

async fn remote_change(client: &mut Client, sweep: u32, change: Change) -> Result<u64, Failure> {
    use wire::change_request::Change as Wire;
    let change = match change {
        Change::Pause => Wire::Pause(true),
        Change::Resume => Wire::Resume(true),
        Change::Cancel => Wire::Cancel(true),
        Change::Retry => Wire::Retry(wire::Retry::default()),
    };
    let request = wire::ChangeRequest {
        sweep,
        change: Some(change),
    };
    let reply = client.change(request).await.map_err(|s| failure(&s))?;
    Ok(reply.into_inner().tasks)
}

async fn at_rest_change(place: &Place, change: Change) -> Result<u64, Failure> {
    let (store, stored) = place.kept().await?;
    let sweep = stored.number;
    let state = |state| Record::Sweep {
        sweep,
        state,
        priority: stored.text.priority,
    };
    let over = |what: &str| (code::BAD_INPUT, format!("the sweep is {what}"));
    let mut tasks = 0;
    let records = match (change, stored.state) {
        (Change::Pause, SweepState::Running) => vec![state(SweepState::Paused)],
        (Change::Resume, SweepState::Paused | SweepState::Running) => {
            vec![state(SweepState::Running)]
        }
        (Change::Cancel, SweepState::Running | SweepState::Paused) => {
            vec![state(SweepState::Cancelled)]
        }
        (Change::Retry, SweepState::Running | SweepState::Paused | SweepState::Finished) => {
            let failures = store.failures(sweep).await.map_err(|e| store_failure(&e))?;
            let aside: std::collections::BTreeSet<_> = (failures.iter())
                .filter(|f| f.set_aside)
                .map(|f| f.task)
                .collect();
            tasks = aside.len() as u64;
            if aside.is_empty() {
                Vec::new()
            } else {
                vec![
                    Record::TakenUpAgain {
                        sweep,
                        tasks: aside.into_iter().collect(),
                    },
                    state(SweepState::Running),
                ]
            }
        }
        (_, found) => return Err(over(found.name())),
    };
    if !records.is_empty() {
        let done = store.persist(Ticket(1), Arc::from(records)).await;
        done.map_err(|e| store_failure(&e))?;
    }
    store.close().await.map_err(|e| store_failure(&e))?;
    Ok(tasks)
}

#[derive(Args, Debug)]
pub(super) struct ExplainArgs {
    /// A position in the grid, first digits of a task's identity, or cell=N
    what: String,
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `explain`: why a task exists, what it waits for, what became of it.
pub(super) fn explain(args: &ExplainArgs) -> u8 {
    finish(block_on_result(async {
        let what: What =
            (args.what.parse()).map_err(|e: explain::NotATask| (code::BAD_INPUT, e.to_string()))?;
        let found: Value = match args.place.client().await {
            Some(client) => {
                let mut client = client?;
                let sweep = args.place.remote_number(&mut client).await?;
                let request = wire::ExplainRequest {
                    sweep,
                    what: args.what.clone(),
                };
                let reply = client.explain(request).await.map_err(|s| failure(&s))?;
                serde_json::from_slice(&reply.into_inner().json)
                    .map_err(|e| (code::INTERNAL, format!("the answer cannot be read: {e}")))?
            }
            None => {
                let (store, stored) = args.place.kept().await?;
                let kept = reopen(&store, stored).await?;
                explain::explain(&store, kept, &what, async |_| {
                    std::collections::HashMap::new()
                })
                .await?
            }
        };
        print(&if args.json {
            format!("{found:#}\n")
        } else {
            told::explanation(&found)
        });
        Ok(code::DONE)
    }))
}

pub(super) fn block_on_result<T>(
    future: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| (code::INTERNAL, e.to_string()))?
        .block_on(future)
}
