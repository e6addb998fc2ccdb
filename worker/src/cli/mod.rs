//! What people type: options, commands, exit codes.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | internal error |
//! | 2 | bad input |
//! | 3 | done, with something that failed |
//! | 130 | interrupted |

mod args;
mod baseline;
mod bench;
mod endpoint;
mod evaluate;
mod folder;
mod grid;
mod join;
mod json;
mod margin;
mod minimum;
mod point;
mod run;
mod settings;
mod slot;
mod verify;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches};
use common::diagnostic::Mistakes;

pub use crate::room::Room;
pub use args::Cli;
use args::Command;
pub use evaluate::evaluate;
pub use settings::{Flags, LogFormat, Settings, SettingsError, resolve};

/// What a command says beside what it prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Everything is as it should be.
    Done,
    /// Done, and the answer is that something failed.
    Failed,
    /// Stopped by an interrupt.
    Interrupted,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        match status {
            Status::Done => Self::SUCCESS,
            Status::Failed => Self::from(3),
            Status::Interrupted => Self::from(130),
        }
    }
}

/// The input is to blame, exit code 2; everything else is exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadInput(pub String);

/// The program.
pub fn main() -> ExitCode {
    let cli = match Cli::from_arg_matches(&command().get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let outcome = match cli.command {
        None => join::main(&cli.join),
        Some(Command::Slot(args)) => slot::main(&args),
        Some(Command::Run(args)) => run::main(&args),
        Some(Command::Baseline(args)) => baseline::main(&args),
        Some(Command::Evaluate(args)) => evaluate::main(&args),
        Some(Command::Verify(args)) => verify::main(&args),
        Some(Command::Completions { shell }) => completions(shell),
        Some(Command::Man { out }) => man(&out),
        Some(Command::Bench(args)) => bench::main(&args),
    };
    match outcome {
        Ok(status) => status.into(),
        Err(error) => complain(&error),
    }
}

/// The command line, with all that its help says.
fn command() -> clap::Command {
    settings::with_variables(Cli::command())
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<Status> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "worker", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Status::Done)
}

/// A page for the program and for each command.
fn man(out: &std::path::Path) -> anyhow::Result<Status> {
    std::fs::create_dir_all(out)
        .and_then(|()| clap_mangen::generate_to(command(), out))
        .with_context(|| format!("cannot write to {}", out.display()))?;
    Ok(Status::Done)
}

/// On a terminal, unless NO_COLOR is set to something.
fn colours_on_stderr() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !unwanted
}

/// Says what went wrong, and whose fault it is.
fn complain(error: &anyhow::Error) -> ExitCode {
    let mut to = std::io::stderr();
    let colours = colours_on_stderr();
    let mistakes = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Mistakes>());
    // Nowhere to complain about complaints.
    let _ = match mistakes {
        Some(mistakes) => write!(to, "{}", mistakes.render(colours)),
        None => writeln!(to, "error: {error:#}"),
    };
    ExitCode::from(if is_bad_input(error) { 2 } else { 1 })
}

/// Whether the input is to blame.
pub fn is_bad_input(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.is::<BadInput>() || cause.is::<Mistakes>())
}

/// Prints a JSON value on standard output.
fn print(value: &serde_json::Value) -> anyhow::Result<()> {
    match writeln!(std::io::stdout().lock(), "{value:#}") {
        // Whoever reads has read enough (`| head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
