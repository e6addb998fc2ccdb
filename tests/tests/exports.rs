//! `runs.*` of real sweeps, opened as they are by a program that others wrote (DuckDB).
//!
//! Needs `python3` with `venv`, and DuckDB from PyPI. Where these cannot be had the test says that it
//! was skipped, unless `SWEEP_REQUIRE_PYTHON=1` asks for them.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tests::processes::{RunningSweep, coordinator, output};
use tests::python;

/// Runs that certify and runs that do not, a formula, and a search behind the grid.
const GRID: &str = "
version: 1
name: exported
data: diabetes
axes:
  depth: [1, 2]
  activation: [tanh, relu, {formula: \"t / (1 + abs(t))\"}]
  seed: {start: 0, count: 4}
fixed: {body: mlp, width: 3, loss: squared}
training: {budget: {evaluations: 3000}}
search: {worst: {runs: 6, round: 6, seed: 0}}
";

fn run(command: &mut Command) -> Output {
    let run = output(command);
    assert!(run.status.success(), "{run:?}");
    run
}

#[test]
fn tables_open_as_they_are_and_agree_with_the_summary() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("grid.yaml"), GRID).unwrap();
    let mut sweep = coordinator();
    sweep.arg("--grid").arg(path("grid.yaml"));
    sweep.arg("--store").arg(path("store"));
    sweep.arg("--out").arg(path("out"));
    run(sweep.args(["--local-workers", "2"]));

    let export = |name: &str| {
        let mut export = coordinator();
        export.arg("export").arg("--grid").arg(path("grid.yaml"));
        export.arg("--store").arg(path("store"));
        run(export.arg("--out").arg(path(name)));
        path(name)
    };
    let tables = [
        path("out").join("runs.parquet"),
        export("runs.csv"),
        export("runs.jsonl"),
    ];
    // The file of the sweep is what `export` writes.
    let again = std::fs::read(export("again.parquet")).unwrap();
    assert_eq!(std::fs::read(&tables[0]).unwrap(), again);
    let summary = std::fs::read_to_string(path("out").join("summary.json")).unwrap();
    assert_eq!(
        std::fs::read_to_string(export("summary.json")).unwrap(),
        summary
    );
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["totals"]["planned"], 2 * 3 * 4 + 6);

    let Some(python) = python::with("duckdb", Path::new(env!("CARGO_TARGET_TMPDIR"))) else {
        eprintln!("skipped: no Python with DuckDB");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports.py");
    let mut check = Command::new(python);
    check.arg(script).arg(path("out").join("summary.json"));
    run(check.args(&tables));
}

#[test]
fn an_unknown_format_and_a_name_without_one_are_told_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let ask = |arguments: &[&str]| {
        let mut export = coordinator();
        export.current_dir(folder.path()).arg("export");
        let run = output(export.args(arguments));
        assert_eq!(run.status.code(), Some(2), "{run:?}");
        String::from_utf8(run.stderr).unwrap()
    };
    let text = ask(&["--format", "xls", "--out", "runs.xls"]);
    assert!(
        text.contains("`xls` is none of parquet, csv, jsonl"),
        "{text}"
    );
    let text = ask(&["--out", "runs"]);
    assert!(text.contains("--format is one of parquet"), "{text}");
    let text = ask(&["--out", "runs.csv", "--store", "nowhere"]);
    assert!(text.contains("nowhere holds no store"), "{text}");
}

const TOKEN: &str = "a token of the test's administrator";

/// A standing coordinator and its address.
fn serve(store: &Path) -> (RunningSweep, String) {
    let mut command = coordinator();
    command.args(["serve", "--listen", "127.0.0.1:0", "--local-workers", "1"]);
    command.arg("--store").arg(store);
    command.env("SWEEP_TOKEN", "a token of the test's workers");
    command.env("SWEEP_ADMIN_TOKEN", TOKEN);
    let mut running = RunningSweep::start(&mut command);
    let line = running.wait_for(|line| {
        let message = line["message"].as_str();
        message.is_some_and(|m| m.contains("--connect "))
    });
    running.wait_for(|line| {
        let message = line["message"].as_str();
        message.is_some_and(|m| m.starts_with("serving "))
    });
    let message = line["message"].as_str().unwrap();
    let url = message.rsplit(' ').next().unwrap().to_owned();
    (running, url)
}

#[test]
fn a_live_coordinator_gives_the_same_table_and_page_as_its_store_at_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("grid.yaml"), GRID).unwrap();
    let admin = |url: &str, arguments: &[&str], file: Option<PathBuf>| {
        let mut command = coordinator();
        command.env("SWEEP_ADMIN_TOKEN", TOKEN).args(arguments);
        command
            .args(["--connect", url, "--grid"])
            .arg(path("grid.yaml"));
        if let Some(file) = file {
            command.arg("--out").arg(file);
        }
        output(&mut command)
    };
    let (running, url) = serve(&path("store"));
    let submitted = admin(&url, &["submit", "--wait"], None);
    assert!(submitted.status.success(), "{submitted:?}");
    for name in ["live.csv", "live.parquet", "live.html"] {
        let what = if name.ends_with("html") {
            "report"
        } else {
            "export"
        };
        let run = admin(&url, &[what], Some(path(name)));
        assert!(run.status.success(), "{run:?}");
    }
    let wrong = admin(&url, &["export", "--format", "xls"], Some(path("runs.xls")));
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(!path("runs.xls").exists());
    tests::processes::send_signal(running.pid(), "TERM");
    running.finish();

    for (what, name) in [
        ("export", "rest.csv"),
        ("export", "rest.parquet"),
        ("report", "rest.html"),
    ] {
        let mut command = coordinator();
        command.args([what, "--store"]).arg(path("store"));
        run(command.arg("--out").arg(path(name)));
    }
    for end in ["csv", "parquet", "html"] {
        let [live, rest] =
            ["live", "rest"].map(|n| std::fs::read(path(&format!("{n}.{end}"))).unwrap());
        assert!(
            live == rest,
            "{end}: {} and {} bytes",
            live.len(),
            rest.len()
        );
    }
}
