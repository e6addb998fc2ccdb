//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::bench::{Case, Measure};
use super::settings::Flags;

/// Computes tasks for a coordinator, or without one.
#[derive(Debug, Parser)]
#[command(name = "worker", version = env!("SWEEP_VERSION"), args_conflicts_with_subcommands = true)]
#[command(
    after_help = "`--help` says more, and `worker COMMAND --help` on a command.",
    after_long_help = "Examples:\n  \
    worker --connect http://127.0.0.1:7878\n  \
    worker --connect https://sweeps.example.org:7878 --ca-file ca.pem --token-file token\n  \
    worker run --grid grids/quickstart.yaml --task 17\n\n\
    Settings: flags win over the environment (SWEEP_SLOTS=4), the environment over the file of \
    --config (YAML, `slots: 4`), and that over defaults. --print-config shows each value and where \
    it came from.\n\n\
    Exit codes: 0 done; 1 internal error; 2 bad input; 3 done, with something that failed; \
    130 interrupted."
)]
pub struct Cli {
    #[command(flatten)]
    pub(super) join: JoinArgs,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Args, Debug, Default)]
pub(super) struct JoinArgs {
    #[command(flatten)]
    pub(super) flags: Flags,
    /// Read options from this file [env: SWEEP_CONFIG].
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print each option with its value and where it came from, and end.
    #[arg(long)]
    pub(super) print_config: bool,
    /// Started by a coordinator of this machine: the token is the first line of standard input,
    /// and the end of standard input ends the worker.
    #[arg(long)]
    pub(super) local: bool,
    /// Be this many workers that compute nothing: for load tests of a coordinator.
    #[arg(long, value_name = "N", hide = true)]
    pub(super) crowd: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Compute one task, of a grid or of a recorded minimum, and print its evidence as JSON.
    #[command(after_long_help = "Examples:\n  \
    worker run --grid grids/quickstart.yaml --task 17\n  \
    worker run --minimum minima/TASK.json --out again")]
    Run(RunArgs),
    /// Solve every distinct baseline of a grid and print them as a JSON array.
    #[command(after_long_help = "Example:\n  worker baseline --grid grids/quickstart.yaml")]
    Baseline(BaselineArgs),
    /// Evaluate objective, derivatives and certificate quantities at one point.
    #[command(after_long_help = "Example:\n  worker evaluate point.json")]
    Evaluate(EvaluateArgs),
    /// Check the claim of a recorded minimum, twice and independently.
    #[command(after_long_help = "Example:\n  worker verify minima/TASK.npz")]
    Verify(VerifyArgs),
    /// Print a completion script for a shell.
    #[command(after_long_help = "Example:\n  \
    worker completions bash > /etc/bash_completion.d/worker")]
    Completions {
        /// Which shell.
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write manual pages.
    #[command(hide = true)]
    Man {
        /// Folder for them.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Measure how fast this machine computes: evaluations, certified minima, slots, threads.
    Bench(BenchArgs),
    /// The process of one slot; started by a worker.
    #[command(hide = true)]
    Slot(SlotArgs),
}

#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// The grid.
    #[arg(long, value_name = "FILE", requires = "task")]
    #[arg(required_unless_present = "minimum", conflicts_with = "minimum")]
    pub(super) grid: Option<PathBuf>,
    /// Number of the task, from 0, or first digits of its identity (at least 6).
    #[arg(long, value_name = "N", requires = "grid")]
    pub(super) task: Option<String>,
    /// Compute the task of this TASK.json of a folder `minima` once more: any task, also those
    /// that `search` added to a grid.
    #[arg(long, value_name = "TASK.json")]
    pub(super) minimum: Option<PathBuf>,
    /// Folder of the data files that the minimum's task names [default: the one of the minimum,
    /// then the current one].
    #[arg(long, value_name = "DIR", requires = "minimum")]
    pub(super) files: Option<PathBuf>,
    /// Also write TASK.npz and TASK.json there, for `worker verify`.
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Also write the records of the run and its baseline there, bit for bit, as JSON with the
    /// encoded evidence in hexadecimal.
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,
    /// Threads; they do not change a bit of the result.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) threads: u16,
}

#[derive(Args, Debug)]
pub(super) struct BaselineArgs {
    /// The grid.
    #[arg(long, value_name = "FILE")]
    pub(super) grid: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct EvaluateArgs {
    /// The point as JSON: model, loss, regularizer, inputs, targets, parameters, perhaps mask and
    /// direction.
    pub(super) file: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// The parameters; the task lies beside it as TASK.json.
    pub(super) minimum: PathBuf,
    /// Folder of the data files that the task names [default: the one of the minimum].
    #[arg(long, value_name = "DIR")]
    pub(super) files: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct BenchArgs {
    /// Only these cases, with commas between them [default: all].
    #[arg(
        long,
        value_enum,
        ignore_case = true,
        value_delimiter = ',',
        value_name = "CASE"
    )]
    pub(super) case: Vec<Case>,
    /// Only these measurements, with commas between them [default: all].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub(super) measure: Vec<Measure>,
    /// Seconds for each evaluation that is measured; each is measured at least three times.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    pub(super) seconds: f64,
    /// Print JSON, all figures in seconds.
    #[arg(long)]
    pub(super) json: bool,
    /// Measure nothing: write data, starts and expected values of the cases there (CASE.npz and
    /// CASE.json), for programs to be compared with.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["json", "measure"])]
    pub(super) export: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(s) if (0.0..=3600.0).contains(&s) => Ok(s),
        Ok(s) => Err(format!("{s} is not between 0 and 3600")),
        Err(_) => Err("this is no number".to_owned()),
    }
}

#[derive(Args, Debug)]
pub(super) struct SlotArgs {
    #[arg(long)]
    pub(super) blobs: PathBuf,
    #[arg(long, default_value_t = 1)]
    pub(super) threads: usize,
    #[arg(long)]
    pub(super) memory: Option<u64>,
}
