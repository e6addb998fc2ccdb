//! Audits by other workers than those that recorded: processes of this machine, workers that
//! connect, and of a coordinator that is live.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::processes::{RunningSweep, coordinator, output, wait, worker};

/// A search behind the grid: its runs have no number in the grid.
const GRID: &str = "
version: 1
name: audited
data: diabetes
axes:
  activation: [tanh, softplus]
  seed: {start: 0, count: 5}
fixed: {body: mlp, depth: 1, width: 3, loss: squared}
search: {worst: {runs: 4, round: 4, seed: 0}}
";
const TOKEN: &str = "a token of the test's workers";
const ADMIN: &str = "a token of the test's administrator";

struct Scene {
    folder: tempfile::TempDir,
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

    fn run(&self) {
        let mut sweep = coordinator();
        sweep.arg("--grid").arg(self.path("grid.yaml"));
        sweep.arg("--store").arg(self.path("store"));
        sweep.arg("--out").arg(self.path("out"));
        let run = output(sweep.args(["--local-workers", "1"]));
        assert!(run.status.success(), "{run:?}");
    }

    fn verify(&self) -> Command {
        let mut verify = coordinator();
        verify
            .arg("verify")
            .arg("--grid")
            .arg(self.path("grid.yaml"));
        verify
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path("out").join(name)).unwrap()
    }
}

#[test]
fn workers_that_connect_compute_the_audit_and_the_report_tells() {
    let scene = Scene::new();
    scene.run();
    assert!(
        scene
            .text("report.html")
            .contains("Not yet: coordinator verify")
    );
    let mut verify = scene.verify();
    verify.arg("--store").arg(scene.path("store"));
    verify.arg("--out").arg(scene.path("out"));
    verify.args([
        "--audit",
        "1",
        "--local-workers",
        "0",
        "--listen",
        "127.0.0.1:0",
    ]);
    verify.env("SWEEP_TOKEN", TOKEN);
    let mut verify = verify
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(verify.stderr.take().unwrap()).lines();
    let line = lines.by_ref().map(Result::unwrap);
    let mut line = line.filter(|line| line.contains("--connect "));
    let line = line.next().expect("it says where workers connect");
    let url = line.rsplit(' ').next().unwrap().to_owned();
    let mut other = worker();
    other.args(["--connect", &url, "--slots", "2"]);
    let mut other = other.env("SWEEP_TOKEN", TOKEN).spawn().unwrap();
    let status = wait(&mut verify);
    assert!(status.success(), "{status}");
    wait(&mut other);

    let account: Value = serde_json::from_str(&scene.text("run.json")).unwrap();
    let audit = &account["verification"]["audit"];
    // The search's runs, too.
    assert_eq!(audit["audited"], 14, "{audit:#}");
    assert_eq!(
        (&audit["mismatches"], &audit["not_computed"]),
        (&0.into(), &0.into())
    );
    let page = scene.text("report.html");
    assert!(
        page.contains("14 runs computed again by other workers"),
        "{page}"
    );

    // The same sweep, given again, keeps what was verified of the same records.
    scene.run();
    let again: Value = serde_json::from_str(&scene.text("run.json")).unwrap();
    assert_eq!(again["verification"], account["verification"]);
    assert!(scene.text("report.html").contains("14 runs computed again"));
}

#[test]
fn a_live_coordinator_is_verified_and_its_runs_are_computed_again_elsewhere() {
    let scene = Scene::new();
    let mut serve = coordinator();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--local-workers", "1"]);
    serve.arg("--store").arg(scene.path("store"));
    serve
        .env("SWEEP_TOKEN", TOKEN)
        .env("SWEEP_ADMIN_TOKEN", ADMIN);
    let mut running = RunningSweep::start(&mut serve);
    let line = running.wait_for(|line| {
        let message = line["message"].as_str();
        message.is_some_and(|m| m.contains("--connect "))
    });
    let message = line["message"].as_str().unwrap();
    let url = message.rsplit(' ').next().unwrap().to_owned();
    running.wait_for(|line| {
        let message = line["message"].as_str();
        message.is_some_and(|m| m.starts_with("serving "))
    });
    let mut submit = coordinator();
    submit.args(["submit", "--wait", "--connect", &url, "--grid"]);
    submit
        .arg(scene.path("grid.yaml"))
        .env("SWEEP_ADMIN_TOKEN", ADMIN);
    let run = output(&mut submit);
    assert!(run.status.success(), "{run:?}");

    let mut verify = scene.verify();
    verify.args([
        "--connect",
        &url,
        "--audit",
        "0.5",
        "--json",
        "--local-workers",
        "1",
    ]);
    let run = output(verify.env("SWEEP_ADMIN_TOKEN", ADMIN));
    assert!(run.status.success(), "{run:?}");
    let certificate: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(certificate["holds"], true, "{certificate:#}");
    assert_eq!(certificate["completeness"]["recorded"], 14);
    // Half of the grid's runs; those of the search are not drawn here.
    assert_eq!(certificate["audit"]["audited"], 5);
    assert_eq!(certificate["audit"]["mismatches"], 0);
    running.signal("TERM");
    running.finish();
}
