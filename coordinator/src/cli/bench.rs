//! `bench`: cases in processes of their own, and their numbers as a table.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde_json::json;

use super::{code, fail, print};
use crate::bench::{self, Case, Figure, Machine, Measured, Order};
use crate::run::Failure;

#[derive(Args, Debug)]
pub(super) struct BenchArgs {
    /// What is measured, with commas between [default: everything, some minutes]
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    case: Vec<Case>,
    /// Tasks [default: 1000000; sleep 2000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    tasks: Option<u64>,
    /// Workers [default: noop 2, sleep 16, load 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    workers: Option<u32>,
    /// A folder on the disk that is to be measured [default: that of temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The one case, in this folder: started by the command itself
    #[arg(long, value_name = "DIR", hide = true)]
    at: Option<PathBuf>,
    /// The folder was prepared before
    #[arg(long, hide = true, requires = "at")]
    prepared: bool,
}

pub(super) fn main(args: &BenchArgs) -> u8 {
    let done = match &args.at {
        Some(folder) => alone(args, folder),
        None => all(args),
    };
    match done {
        Ok(text) => {
            print(&text);
            code::DONE
        }
        Err((code, message)) => fail(code, &message),
    }
}

/// One case, in this process.
fn alone(args: &BenchArgs, folder: &Path) -> Result<String, Failure> {
    let [case] = args.case[..] else {
        return Err((code::BAD_INPUT, "--at is for one --case".to_owned()));
    };
    let order = Order {
        case,
        tasks: args.tasks.unwrap_or_else(|| case.tasks()),
        workers: args.workers.unwrap_or_else(|| case.workers()),
        folder: folder.to_owned(),
        prepared: args.prepared,
    };
    let measured = bench::measure(&order)?;
    serde_json::to_string(&measured).map_err(|e| (code::INTERNAL, e.to_string()))
}

fn all(args: &BenchArgs) -> Result<String, Failure> {
    let internal = |error: std::io::Error| (code::INTERNAL, error.to_string());
    let folder = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    };
    let bad = |error| {
        (
            code::BAD_INPUT,
            format!("no folder can be made there: {error}"),
        )
    };
    let folder = folder.map_err(bad)?;
    let machine = Machine::look(folder.path()).map_err(internal)?;
    let cases = if args.case.is_empty() {
        Case::ALL.to_vec()
    } else {
        args.case.clone()
    };
    let mut measured = Vec::new();
    for (number, case) in cases.into_iter().enumerate() {
        let place = folder.path().join(number.to_string());
        std::fs::create_dir(&place).map_err(internal)?;
        let mut done = child(args, case, &place, false)?;
        if case.has_two_halves() {
            let second = child(args, case, &place, true)?;
            done.figures.extend(second.figures);
        }
        std::fs::remove_dir_all(&place).map_err(internal)?;
        measured.push(done);
    }
    Ok(if args.json {
        format!("{:#}\n", json!({"machine": machine, "cases": measured}))
    } else {
        table(&machine, &measured)
    })
}

/// A case in a process of its own.
fn child(args: &BenchArgs, case: Case, place: &Path, prepared: bool) -> Result<Measured, Failure> {
    let internal = |error: String| (code::INTERNAL, error);
    let program = std::env::current_exe().map_err(|e| internal(e.to_string()))?;
    let mut command = Command::new(program);
    let name = clap::ValueEnum::to_possible_value(&case).map(|v| v.get_name().to_owned());
    command.args(["bench", "--case", &name.unwrap_or_default()]);
    command.arg("--at").arg(place);
    if let Some(tasks) = args.tasks {
        command.args(["--tasks", &tasks.to_string()]);
    }
    if let Some(workers) = args.workers {
        command.args(["--workers", &workers.to_string()]);
    }
    if prepared {
        command.arg("--prepared");
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| internal(e.to_string()))?;
    if !output.status.success() {
        return Err(internal(format!(
            "the case {case:?} ended with {}",
            output.status
        )));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| internal(e.to_string()))
}

fn table(machine: &Machine, measured: &[Measured]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED.with_rounded_corners());
    table.force_no_tty();
    table.set_header([
        "case", "tasks", "workers", "what", "measured", "", "bar", "",
    ]);
    for case in measured {
        let name = clap::ValueEnum::to_possible_value(&case.case);
        let mut head = [
            name.map_or(String::new(), |v| v.get_name().to_owned()),
            case.tasks.to_string(),
            if case.workers > 0 {
                case.workers.to_string()
            } else {
                String::new()
            },
        ];
        // A bar holds for the size that it was set for.
        let barred = case.tasks == case.case.tasks();
        for figure in &case.figures {
            let bar = figure.bar.filter(|_| barred);
            let met = bar.map(|bar| if figure.value <= bar { "met" } else { "MISSED" });
            let [name, tasks, workers] = std::mem::take(&mut head);
            table.add_row([
                name,
                tasks,
                workers,
                figure.what.clone(),
                shown(figure),
                figure.unit.clone(),
                bar.map_or(String::new(), |bar| format!("≤ {bar}")),
                met.unwrap_or_default().to_owned(),
            ]);
        }
    }
    for column in [1, 2, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!(
        "{table}\n{}, {} cores; a write of 4 KiB with a sync takes {:.2} ms here.\n",
        machine.processor, machine.cores, machine.sync_ms
    )
}

/// Three digits that mean something, or a whole number.
fn shown(figure: &Figure) -> String {
    let value = figure.value;
    if value.fract() == 0.0 || value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else if value.abs() >= 0.01 {
        format!("{value:.3}")
    } else {
        format!("{value:.1e}")
    }
}
