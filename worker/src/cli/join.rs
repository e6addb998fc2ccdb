//! `worker --connect URL`: joins a coordinator.

use std::io::{BufRead, Read};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use common::canon::NUMERICS_VERSION;
use common::ids::WorkerId;
use common::math::NUMERIC_LEVEL;
use common::protocol::Profile;
use common::secret;
use common::traces::Traces;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing_subscriber::EnvFilter;

use super::args::JoinArgs;
use super::endpoint::target;
use super::folder::Private;
use super::settings::{LogFormat, Settings, SettingsError, origins, resolve};
use super::{BadInput, Status};
use crate::agent::{self, Bearer, End, Route, SlotKind, Spool, Target, Wishes};
use crate::files::BlobFolder;
use crate::room::Room;
use crate::session::{self, Exit};
use crate::slot::VERSION;

/// The variable with the token.
const TOKEN: &str = "SWEEP_TOKEN";
/// The variable with the name of the configuration file.
const CONFIG: &str = "SWEEP_CONFIG";
/// Time to leave in after a second request.
const HURRY: Duration = Duration::from_secs(1);

pub(super) fn main(args: &JoinArgs) -> anyhow::Result<Status> {
    let (settings, origins) = settings(args)?;
    if args.print_config {
        #[expect(clippy::print_stdout, reason = "it is what was asked for")]
        {
            print!("{}", settings.to_yaml(&origins));
        }
        return Ok(Status::Done);
    }
    start_log(&settings, args.local)?;
    let Some(url) = &settings.connect else {
        let message = "where is the coordinator? give `--connect URL`, or a command (`--help`)";
        return Err(BadInput(message.to_owned()).into());
    };
    let route = route(url, &settings)?;
    for file in [&settings.token_file, &settings.key_file]
        .into_iter()
        .flatten()
    {
        if let Some(warning) = secret::exposed(file, rustix::process::geteuid().as_raw()) {
            tracing::warn!("{warning}");
        }
    }
    let (token, end) = token(args.local, &settings)?;
    let bearer = match token {
        None => Bearer::NONE,
        Some(token) => Bearer::new(&token).ok_or_else(|| {
            BadInput("the token has characters that no header may have".to_owned())
        })?,
    };
    // Readable by this user alone, gone with the worker.
    let folder =
        Private::make_in(&std::env::temp_dir()).context("cannot make a folder for files")?;
    if let Some(count) = args.crowd {
        let crowd = (0..count)
            .map(|_| {
                Ok(agent::Config {
                    route: self::route(url, &settings)?,
                    bearer: bearer.clone(),
                    session: session_config(&settings)?,
                    slots: SlotKind::Idle,
                    blobs: BlobFolder(folder.path().to_path_buf()),
                    spool: None,
                    traces: None,
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        return runtime()?.block_on(be_many(crowd, end));
    }
    let session = session_config(&settings)?;
    let runtime = runtime()?;
    let traces = {
        let _inside = runtime.enter();
        let name = &session.profile.name;
        let start = |url: &String| Traces::start(url, "depth-sweep-worker", name).map(Arc::new);
        settings.otlp.as_ref().map(start).transpose()
    };
    let traces = traces.map_err(BadInput)?;
    let spool = settings.spool.as_deref().map(Spool::open).transpose();
    let spool = spool.map_err(|error| BadInput(error.to_string()))?;
    let config = agent::Config {
        route,
        bearer,
        session,
        slots: SlotKind::Process(
            std::env::current_exe().context("this program cannot find itself")?,
        ),
        blobs: BlobFolder(folder.path().to_path_buf()),
        spool,
        traces: traces.clone(),
    };
    let grace = Duration::from_secs_f64(settings.grace);
    let end = runtime.block_on(work(config, args.local, grace, end));
    if let Some(traces) = traces {
        traces.finish();
    }
    // What is still open is of no use to anybody.
    runtime.shutdown_background();
    drop(folder);
    end
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        // Messages need little; the cores are for the slots.
        .worker_threads(2)
        .enable_all()
        .build()
}

/// The settings, and where each came from.
fn settings(args: &JoinArgs) -> anyhow::Result<(Settings, Vec<String>)> {
    let path = args.config.clone();
    let file = match path.or_else(|| std::env::var_os(CONFIG).map(Into::into)) {
        None => None,
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(&path)
                .map_err(|error| BadInput(format!("cannot read `{name}`: {error}")))?;
            Some((name, text))
        }
    };
    let file = file
        .as_ref()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    let environment = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let mut room = Room::of_this_process();
    if args.local {
        // Others share it, and the coordinator.
        room.memory = None;
    }
    let both = resolve(file, &environment, &args.flags, room).and_then(|settings| {
        let origins = origins(file, &environment, &args.flags)?;
        Ok((settings, origins))
    });
    both.map_err(|error| match error {
        SettingsError::File(mistakes) => mistakes.into(),
        SettingsError::Values(values) => BadInput(values.join("\n       ")).into(),
    })
}

fn start_log(settings: &Settings, local: bool) -> anyhow::Result<()> {
    // A local worker shares the terminal with its coordinator.
    let default = if local { "warn" } else { "info" };
    let filter = EnvFilter::try_new(settings.log.as_deref().unwrap_or(default))
        .map_err(|error| BadInput(format!("`log` is no filter: {error}")))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(super::colours_on_stderr())
        .with_writer(std::io::stderr)
        // Whoever read standard error may be gone; telling that there would panic.
        .log_internal_errors(false);
    let started = match settings.log_format {
        LogFormat::Text => log.with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}

/// Addresses with commas between them, tried in turn.
fn route(urls: &str, settings: &Settings) -> anyhow::Result<Route<Target>> {
    let mut listed = Vec::new();
    for url in urls.split(',').map(str::trim) {
        let (target, exposed) = target(url, settings)?;
        if exposed {
            tracing::warn!(%url, "--insecure: whoever can listen on the way reads the token and every result");
        }
        listed.push((url.to_owned(), target));
    }
    let settings = settings.clone();
    let make = move |url: &str| target(url, &settings).ok().map(|(target, _)| target);
    Route::new(listed, make).ok_or_else(|| BadInput("no address to connect to".to_owned()).into())
}
/// The token, and a wish that comes true when the coordinator of a local worker
/// is gone.
fn token(
    local: bool,
    settings: &Settings,
) -> anyhow::Result<(Option<String>, oneshot::Receiver<()>)> {
    let (end, ends) = oneshot::channel();
    if local {
        let mut line = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut line)
            .context("no token on standard input")?;
        std::thread::Builder::new()
            .name("coordinator".into())
            .spawn(move || {
                let mut rest = [0; 256];
                // Whatever else comes is not for us; only the end counts.
                while std::io::stdin().lock().read(&mut rest).is_ok_and(|n| n > 0) {}
                let _ = end.send(());
            })?;
        let token = line.trim();
        return Ok(((!token.is_empty()).then(|| token.to_owned()), ends));
    }
    // Kept, so that the wish never comes true.
    std::mem::forget(end);
    let token = match &settings.token_file {
        Some(file) => {
            let token = secret::read(file).map_err(|error| {
                BadInput(format!(
                    "cannot read the token `{}`: {error}",
                    file.display()
                ))
            })?;
            Some(token)
        }
        None => std::env::var(TOKEN)
            .ok()
            .map(|token| token.trim().to_owned()),
    };
    Ok((token.filter(|token| !token.is_empty()), ends))
}

fn session_config(settings: &Settings) -> anyhow::Result<session::Config> {
    let mut random = [0; 24];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut from| from.read_exact(&mut random))
        .context("no random numbers")?;
    let mut id = [0; WorkerId::BYTES];
    let mut seed = [0; 8];
    id.copy_from_slice(&random[..WorkerId::BYTES]);
    seed.copy_from_slice(&random[WorkerId::BYTES..]);
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let name = settings
        .name
        .clone()
        .unwrap_or_else(|| format!("{host}:{}", std::process::id()));
    Ok(session::Config {
        worker: WorkerId(id),
        profile: Profile {
            name,
            host,
            program_version: VERSION.to_owned(),
            numerics_version: NUMERICS_VERSION,
            numeric_levels: vec![NUMERIC_LEVEL.to_owned()],
            slots: settings.slots,
            threads_per_slot: settings.threads,
            memory_per_slot: settings.slot_memory,
        },
        seed: u64::from_le_bytes(seed),
        grace: Duration::from_secs_f64(settings.grace),
    })
}

/// Runs the agent beside the signals.
async fn work(
    config: agent::Config,
    local: bool,
    grace: Duration,
    end: oneshot::Receiver<()>,
) -> anyhow::Result<Status> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    // Two wishes: the second one is to hurry.
    let (leave, leaves) = mpsc::channel(2);
    let agent = agent::run(config, Wishes { leave: leaves, end });
    tokio::pin!(agent);
    let mut asked = false;
    let mut interrupted = false;
    loop {
        tokio::select! {
            ended = &mut agent => return conclude(ended, interrupted),
            // A Ctrl-C reaches all processes of a terminal; what becomes of a
            // local worker is its coordinator's decision.
            () = heard(&mut interrupts), if !local => interrupted = true,
            () = heard(&mut terminations) => {}
        }
        let _ = leave.try_send(if asked { grace.min(HURRY) } else { grace });
        asked = true;
    }
}

/// Runs many agents until all of them have come to their end, or nobody waits for them.
async fn be_many(crowd: Vec<agent::Config>, end: oneshot::Receiver<()>) -> anyhow::Result<Status> {
    let mut agents = tokio::task::JoinSet::new();
    // Wishes that never come true: a sender that is dropped would make them.
    let mut unwished = Vec::new();
    for config in crowd {
        let (_, leave) = mpsc::channel(1);
        let (keep, end) = oneshot::channel();
        unwished.push(keep);
        agents.spawn(agent::run(config, Wishes { leave, end }));
    }
    let all = async {
        while let Some(ended) = agents.join_next().await {
            conclude(ended?, false)?;
        }
        Ok(Status::Done)
    };
    tokio::select! {
        status = all => status,
        _ = end => Ok(Status::Done),
    }
}

async fn heard(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

fn conclude(end: End, interrupted: bool) -> anyhow::Result<Status> {
    match end {
        End::Session(Exit::Done) if interrupted => Ok(Status::Interrupted),
        End::Session(Exit::Done) | End::AtOnce => Ok(Status::Done),
        End::Session(Exit::Refused(why)) => {
            Err(BadInput(format!("this worker cannot join: {why}")).into())
        }
        End::Session(Exit::NoSlots(why)) => Err(anyhow::anyhow!("no slot can be started: {why}")),
    }
}
