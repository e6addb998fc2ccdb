//! `search: worst` with real processes: interrupted or not, the same runs and the same summary.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use tests::processes::{RunningSweep, coordinator, output};

/// Two cells outside the theorem, where bad minima exist and the search has something to find.
const GRID: &str = "
version: 1
name: hunt
data: diabetes
axes:
  skip: [outer, none]
  seed: {start: 0, count: 10}
fixed: {body: mlp, depth: 4, width: 5, activation: tanh, loss: squared, regularizer: {predictor_ridge: 1e-3, body_decay: 1e-3}}
search: {worst: {runs: 120, round: 30, seed: 1}}
";
const LISTED: u64 = 20;
const SEARCHED: u64 = 120;

struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("grid.yaml"), GRID).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, name: &str, workers: &str) -> Command {
        let mut command = coordinator();
        command
            .arg("--grid")
            .arg(self.path("grid.yaml"))
            .arg("--store")
            .arg(self.path(name))
            .arg("--out")
            .arg(self.path(&format!("{name}-out")))
            .args(["--local-workers", workers]);
        command
    }

    fn summary(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}-out")).join("summary.json")).unwrap()
    }
}

#[test]
fn a_killed_search_goes_on_to_the_same_bytes() {
    let scene = Scene::new();
    let run = output(&mut scene.command("undisturbed", "1"));
    assert!(run.status.success(), "{run:?}");
    let undisturbed = scene.summary("undisturbed");

    // Killed within the grid, in an early round and in a late one.
    for goal in [5, LISTED + 20, LISTED + 60] {
        let mut sweep = RunningSweep::start(&mut scene.command("killed", "2"));
        let seen = sweep.wait_for_recorded(goal);
        assert!(seen < LISTED + SEARCHED, "the kill comes before the end");
        sweep.kill();
    }
    let run = output(&mut scene.command("killed", "3"));
    assert!(run.status.success(), "{run:?}");
    assert_eq!(scene.summary("killed"), undisturbed);

    let summary: Value = serde_json::from_str(&undisturbed).unwrap();
    assert_eq!(summary["totals"]["planned"], LISTED + SEARCHED);
    assert_eq!(summary["totals"]["recorded"], LISTED + SEARCHED);
    assert_eq!(summary["totals"]["missing"], 0);
    let cells = summary["cells"].as_array().unwrap();
    let searched: u64 = cells
        .iter()
        .map(|cell| cell["search"]["runs"].as_u64().unwrap())
        .sum();
    assert_eq!(searched, SEARCHED);
    for cell in cells {
        assert_eq!(cell["runs"], LISTED / 2, "shares are the grid's alone");
    }
    let found_by = |cell: &Value| cell["worst"]["found_by"].as_str() == Some("search");
    let worst = cells.iter().find(|cell| found_by(cell)).unwrap()["worst"].clone();

    // What the search planned is explained like what the grid did, by identity and by place.
    let explain = |what: &str| -> Value {
        let mut command = coordinator();
        command.args(["explain", what, "--json", "--store"]);
        let run = output(command.arg(scene.path("killed")));
        assert!(run.status.success(), "{what}: {run:?}");
        serde_json::from_slice(&run.stdout).unwrap()
    };
    let told = explain(worst["task"].as_str().unwrap());
    assert_eq!(told["found_by"], "search");
    assert_eq!(told["seed"], worst["seed"]);
    let place = told["position"].as_u64().unwrap();
    assert!(place >= LISTED, "{place}");
    assert_eq!(explain(&place.to_string())["task"], worst["task"]);
}
