//! The commands of `coordinator`.

mod bench;
mod certs;
mod diff;
mod export;
mod help;
mod log;
mod plan;
mod remote;
mod report;
mod settings;
mod told;
mod verify;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, FromArgMatches, Parser, Subcommand};
use common::diagnostic::Mistakes;
use common::grid::{Folder, Grid};

pub use log::Log;

use crate::run;
use crate::sweep::{Contents, DataTable};
pub(crate) use settings::bare as bare_settings;
pub use settings::{FailOn, HttpSettings, Secret, Settings, check_configuration};

/// Exit codes of CONTRACT §3.
pub mod code {
    /// Done.
    pub const DONE: u8 = 0;
    /// An error of the program or the machine.
    pub const INTERNAL: u8 = 1;
    /// Bad input: nothing was started.
    pub const BAD_INPUT: u8 = 2;
    /// Done, with failed tasks.
    pub const FAILED_TASKS: u8 = 3;
    /// A violation inside the theorem, and `--fail-on violation`.
    pub const VIOLATION: u8 = 4;
    /// Interrupted; the same command continues.
    pub const INTERRUPTED: u8 = 130;
}

/// Sweeps residual networks over a grid and sets every certified minimum beside its baseline.
#[derive(Debug, Parser)]
#[command(
    name = "coordinator",
    version = env!("SWEEP_VERSION"),
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    sweep: SweepArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args, Debug)]
struct SweepArgs {
    /// The grid: run it to its end and print the summary
    #[arg(long, value_name = "FILE")]
    grid: Option<PathBuf>,
    #[command(flatten)]
    settings: settings::Flags,
    /// Show each setting with its value and where it came from, and do nothing
    #[arg(long)]
    print_config: bool,
}

#[derive(Args, Debug)]
struct ServeArgs {
    #[command(flatten)]
    settings: settings::Flags,
    /// Show each setting with its value and where it came from, and do nothing
    #[arg(long)]
    print_config: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a grid and show what it would run, and with --pilot what that would cost
    Plan(plan::PlanArgs),
    /// Stay up and carry out what is submitted
    Serve(Box<ServeArgs>),
    /// Send a grid, with the files it names, to a standing coordinator
    Submit(remote::SubmitArgs),
    /// All sweeps and workers
    Status(remote::StatusArgs),
    /// One sweep until it is over
    Watch(remote::StatusArgs),
    /// The summary of what is recorded of a sweep, finished or not, as JSON
    Summary(remote::SummaryArgs),
    /// Try the failed tasks of a sweep again, and nothing else
    Retry(remote::ChangeArgs),
    /// Give a sweep up; what is recorded is kept
    Cancel(remote::ChangeArgs),
    /// Hand out no more tasks of a sweep
    Pause(remote::ChangeArgs),
    /// Hand them out again
    Resume(remote::ChangeArgs),
    /// Why a task exists, what it waits for, what became of it
    Explain(remote::ExplainArgs),
    /// Compare two sweeps, or the values of an axis, over pairs of runs with the same draws
    Diff(diff::DiffArgs),
    /// Show that nothing is lost, doubled or changed, and compute a share of the runs again
    Verify(verify::VerifyArgs),
    /// Write the runs of a sweep, finished or not, as a table: Parquet, CSV or JSON lines
    Export(export::ExportArgs),
    /// Write what is recorded of a sweep, finished or not, as one HTML page
    Report(report::ReportArgs),
    /// Measure what the coordinator costs on this machine: time, memory and disk of a task
    Bench(bench::BenchArgs),
    /// Write a commented grid that runs as it is
    Init {
        /// Where
        #[arg(value_name = "FILE", default_value = "grid.yaml")]
        file: PathBuf,
    },
    /// The JSON Schema of the grid file, for editors
    Schema,
    /// Make an authority and certificates for the coordinator and its workers, to begin with
    Certs {
        /// Folder for the files; nothing in it is overwritten
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Name or address under which workers reach the coordinator; may be repeated
        #[arg(long, value_name = "NAME")]
        host: Vec<String>,
    },
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write manual pages
    #[command(hide = true)]
    Man {
        /// Folder for them
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    let matches = help::command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    if !matches!(cli.command, None | Some(Command::Serve(_))) {
        match Log::from_environment() {
            Ok(log) => log.start(),
            Err(message) => return ExitCode::from(fail(code::BAD_INPUT, &message)),
        }
    }
    ExitCode::from(match cli.command {
        Some(Command::Plan(args)) => {
            with_grid(&args.grid, |grid, data| plan::plan(&args, grid, data))
        }
        Some(Command::Serve(args)) => serve(&args),
        Some(Command::Submit(args)) => remote::submit(&args),
        Some(Command::Status(args)) => remote::status(&args),
        Some(Command::Watch(args)) => remote::watch(&args),
        Some(Command::Summary(args)) => remote::summary(&args),
        Some(Command::Retry(args)) => remote::change(&args, remote::Change::Retry),
        Some(Command::Cancel(args)) => remote::change(&args, remote::Change::Cancel),
        Some(Command::Pause(args)) => remote::change(&args, remote::Change::Pause),
        Some(Command::Resume(args)) => remote::change(&args, remote::Change::Resume),
        Some(Command::Explain(args)) => remote::explain(&args),
        Some(Command::Diff(args)) => diff::main(&args),
        Some(Command::Verify(args)) => verify::main(&args),
        Some(Command::Export(args)) => export::main(&args),
        Some(Command::Report(args)) => report::main(&args),
        Some(Command::Bench(args)) => bench::main(&args),
        Some(Command::Init { file }) => init(&file),
        Some(Command::Schema) => {
            print(&format!("{:#}\n", common::grid::schema()));
            code::DONE
        }
        Some(Command::Certs { out, host }) => certs::certs(&out, &host),
        Some(Command::Completions { shell }) => help::completions(shell),
        Some(Command::Man { out }) => help::man(&out),
        None => sweep(cli.sweep),
    })
}

fn sweep(args: SweepArgs) -> u8 {
    let settings = match settings::resolve(&args.settings) {
        Ok(resolved) => resolved,
        Err(message) => return fail(code::BAD_INPUT, &message),
    };
    if args.print_config {
        print(&settings.describe());
        return code::DONE;
    }
    settings.settings.log.start();
    let Some(path) = args.grid else {
        return fail(
            code::BAD_INPUT,
            "--grid FILE is needed; `coordinator init` writes one to begin with",
        );
    };
    warn(&settings.settings);
    with_grid(&path, |grid, data| {
        block_on(run::run(grid, data, settings.settings))
    })
}

fn warn(settings: &Settings) {
    for warning in &settings.warnings {
        crate::progress::warn(settings.progress, warning);
    }
}

fn serve(args: &ServeArgs) -> u8 {
    let settings = match settings::resolve(&args.settings) {
        Ok(resolved) => resolved,
        Err(message) => return fail(code::BAD_INPUT, &message),
    };
    if args.print_config {
        print(&settings.describe());
        return code::DONE;
    }
    settings.settings.log.start();
    warn(&settings.settings);
    block_on(crate::serve::serve(settings.settings))
}

/// Reads a grid, its files and its data; says all that is wrong with them.
fn with_grid(path: &Path, then: impl FnOnce(Arc<Grid>, DataTable) -> u8) -> u8 {
    match load_grid(path) {
        Ok((grid, data)) => then(Arc::new(grid), data),
        Err(message) => fail(code::BAD_INPUT, &message),
    }
}

fn load_grid(path: &Path) -> Result<(Grid, DataTable), String> {
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!(
            "the grid {} does not exist; `coordinator init` writes one to begin with",
            path.display()
        ),
        _ => format!("the grid {} cannot be read: {error}", path.display()),
    })?;
    let parent = path.parent().unwrap_or(Path::new("."));
    let folder = Folder {
        base: parent.to_owned(),
    };
    let shown = |mistakes: Mistakes| mistakes.render(colours_on_stderr());
    let name = path.display().to_string();
    let grid = Grid::load(&name, &bytes, &folder).map_err(shown)?;
    let mut contents = Contents::new();
    for file in grid.files() {
        let content =
            std::fs::read(parent.join(&file.path)).map_err(|e| format!("{}: {e}", file.path))?;
        contents.insert(file.id.to_string(), content.into());
    }
    let mut data = DataTable::new(contents);
    grid.check_data(|cell| data.facts(cell)).map_err(shown)?;
    grid.check_points(|cell, point| data.fits(cell, point))
        .map_err(shown)?;
    Ok((grid, data))
}

fn init(file: &Path) -> u8 {
    const GRID: &str = include_str!("cli/init.yaml");
    use std::io::Write;
    let written = std::fs::File::create_new(file).and_then(|mut f| f.write_all(GRID.as_bytes()));
    match written {
        Ok(()) => {
            print(&format!(
                "wrote {0}; run it with: coordinator --grid {0}\n",
                file.display()
            ));
            code::DONE
        }
        Err(error) => fail(code::BAD_INPUT, &format!("{}: {error}", file.display())),
    }
}

fn block_on(future: impl Future<Output = u8>) -> u8 {
    runtime().map_or_else(
        |error| fail(code::INTERNAL, &error.to_string()),
        |runtime| runtime.block_on(future),
    )
}

/// What carries the coordinator: one thread to decide, one for connections.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}

/// Says why, and gives the code back.
pub(crate) fn fail(code: u8, message: &str) -> u8 {
    use std::io::Write;
    let message = message.trim_end();
    let prefix = if message.starts_with("error") || message.contains("error: ") {
        ""
    } else {
        "error: "
    };
    // Standard error may be closed; the exit code still says it.
    let _ = writeln!(std::io::stderr(), "{prefix}{message}");
    code
}

/// Prints on standard output; a reader that has gone is no error.
pub(crate) fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}

fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
}

pub(crate) fn colours_on_stderr() -> bool {
    std::io::stderr().is_terminal() && !no_color()
}

/// How the table on standard output is drawn.
pub(crate) fn table_style() -> crate::table::Style {
    let terminal = std::io::stdout().is_terminal();
    crate::table::Style {
        width: terminal
            .then(|| rustix::termios::tcgetwinsize(std::io::stdout()).ok())
            .flatten()
            .map(|size| size.ws_col)
            .filter(|columns| *columns >= 40),
        colours: terminal && !no_color(),
    }
}
