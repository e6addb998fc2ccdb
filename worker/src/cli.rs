//! The commands of `worker`.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

use crate::agent::{self, Settings, Token};
use crate::session::Exit;
use crate::slot;

/// Exit codes of CONTRACT §3.
mod code {
    pub(super) const DONE: u8 = 0;
    pub(super) const INTERNAL: u8 = 1;
    pub(super) const BAD_INPUT: u8 = 2;
}

/// Computes tasks for a coordinator, or alone.
#[derive(Debug, Parser)]
#[command(
    name = "worker",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "A worker takes tasks from the coordinator that it connects to, until there are \
                  no more. SIGTERM lets it finish or hand back what it has."
)]
struct Cli {
    #[command(flatten)]
    join: Join,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The process that computes; started by the worker itself.
    #[command(hide = true)]
    Slot {
        /// Folder of file contents.
        #[arg(long)]
        folder: PathBuf,
        /// Threads of one task.
        #[arg(long)]
        threads: usize,
    },
}

#[derive(Args, Debug)]
struct Join {
    /// The coordinator, as http://HOST:PORT
    #[arg(long, value_name = "URL", env = "SWEEP_CONNECT", required = true)]
    connect: Option<String>,
    /// Tasks computed at a time [default: as many as cores, divided by --threads]
    #[arg(long, value_name = "N", env = "SWEEP_SLOTS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    slots: Option<u32>,
    /// Threads of one task; they change no result
    #[arg(long, value_name = "N", env = "SWEEP_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// Name for people [default: host and process number]
    #[arg(long, env = "SWEEP_NAME")]
    name: Option<String>,
    /// File with the token for joining; otherwise the environment's SWEEP_TOKEN
    #[arg(long, value_name = "FILE", env = "SWEEP_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Seconds for running tasks to end after SIGTERM; then they are handed back
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SWEEP_GRACE",
        default_value_t = 25
    )]
    grace: u64,
    /// Folder for contents of files [default: a temporary one]
    #[arg(long, value_name = "DIR", env = "SWEEP_CACHE")]
    cache: Option<PathBuf>,
    /// Started by a coordinator: the token is a line on standard input, whose end means that the
    /// coordinator is gone
    #[arg(long, hide = true)]
    local: bool,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("SWEEP_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match cli.command {
        Some(Command::Slot { folder, threads }) => slot::main(&folder, threads),
        None => ExitCode::from(join(cli.join)),
    }
}

fn fail(code: u8, message: &str) -> u8 {
    tracing::error!("{message}");
    code
}

fn join(options: Join) -> u8 {
    let Some(connect) = options.connect.clone() else {
        return fail(code::BAD_INPUT, "--connect URL is needed");
    };
    let token = match token(&options) {
        Ok(token) => token,
        Err(message) => return fail(code::BAD_INPUT, &message),
    };
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let settings = Settings {
        connect,
        name: options
            .name
            .unwrap_or_else(|| format!("{}/{}", agent::host_name(), std::process::id())),
        token,
        slots: options
            .slots
            .unwrap_or_else(|| (cores / options.threads).max(1)),
        threads: options.threads,
        grace: Duration::from_secs(options.grace),
        cache: options.cache,
    };
    // One thread: the slots' processes die with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(code::INTERNAL, &error.to_string()),
    };
    let exit = runtime.block_on(async {
        let leave = leave_on_signals(options.local)?;
        agent::run(settings, leave).await
    });
    match exit {
        Ok(Exit::Done) => code::DONE,
        Ok(Exit::Refused(message)) => {
            let message = format!("the coordinator refuses this worker: {message}");
            fail(code::BAD_INPUT, &message)
        }
        Ok(Exit::NoSlots(message)) => {
            let message = format!("no slot stays alive: {message}");
            fail(code::INTERNAL, &message)
        }
        Err(error) => fail(code::INTERNAL, &error.to_string()),
    }
}

/// The token from standard input (local workers), a file, or the environment.
fn token(options: &Join) -> Result<Token, String> {
    if options.local {
        let mut line = String::new();
        // Not `lock().lines()`: what follows the line is for the watcher.
        std::io::stdin()
            .lock()
            .read_line(&mut line)
            .map_err(|e| format!("the token cannot be read from standard input: {e}"))?;
        watch_standard_input();
        return Ok(Token(line.trim().to_owned()));
    }
    match &options.token_file {
        Some(path) => std::fs::read_to_string(path)
            .map(|text| Token(text.trim().to_owned()))
            .map_err(|e| format!("--token-file {}: {e}", path.display())),
        None => Ok(Token(std::env::var("SWEEP_TOKEN").unwrap_or_default())),
    }
}

/// Ends the process when its standard input ends; the slots end with it.
fn watch_standard_input() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(i32::from(code::INTERNAL));
    });
}

/// Fires when the worker is asked to leave. A local worker leaves SIGINT to its coordinator, which
/// gets it from the terminal as well.
fn leave_on_signals(local: bool) -> std::io::Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::channel(4);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv(), if !local => {}
                else => return,
            }
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
