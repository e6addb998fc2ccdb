//! A standing coordinator: sweeps come, are watched, paused, cancelled, tried again.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use tests::processes::{RunningSweep, coordinator, output, wait, worker};

const TOKEN: &str = "a token of the test's workers";
const ADMIN: &str = "a token of the test's administrator";

fn grid(name: &str, data: &str, seeds: u32) -> String {
    format!(
        "version: 1\nname: {name}\ndata: {data}\naxes:\n  activation: [tanh, softplus]\n  \
         depth: [1, 2]\n  seed: {{start: 0, count: {seeds}}}\nfixed: {{body: mlp, width: 4}}\n"
    )
}

struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A standing coordinator and its address.
    fn serve(&self, address: &str) -> (RunningSweep, String) {
        let mut command = coordinator();
        command
            .args([
                "serve",
                "--listen",
                address,
                "--local-workers",
                "0",
                "--store",
            ])
            .arg(self.path("store"))
            .env("SWEEP_TOKEN", TOKEN)
            .env("SWEEP_ADMIN_TOKEN", ADMIN);
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

    fn admin(&self, arguments: &[&str], url: &str) -> Output {
        let mut command = coordinator();
        command.args(arguments).args(["--connect", url]);
        output(command.env("SWEEP_ADMIN_TOKEN", ADMIN))
    }

    fn ask(&self, arguments: &[&str], url: &str) -> String {
        let run = self.admin(arguments, url);
        assert!(run.status.success(), "{arguments:?}: {run:?}");
        String::from_utf8(run.stdout).unwrap()
    }

    fn submit(&self, name: &str, text: &str, url: &str) {
        let file = self.write(&format!("{name}.yaml"), text);
        self.ask(&["submit", "--grid", file.to_str().unwrap()], url);
    }

    fn status(&self, name: &str, url: &str) -> Value {
        let all: Value = serde_json::from_str(&self.ask(&["status", "--json"], url)).unwrap();
        let sweeps = all["sweeps"].as_array().unwrap();
        sweeps.iter().find(|s| s["name"] == name).unwrap().clone()
    }

    /// The summary that `coordinator --grid` has of a grid.
    fn undisturbed(&self, name: &str) -> String {
        let mut command = coordinator();
        command
            .arg("--grid")
            .arg(self.path(&format!("{name}.yaml")))
            .args(["--local-workers", "1", "--progress", "none", "--store"])
            .arg(self.path(&format!("{name}-alone")))
            .arg("--out")
            .arg(self.path(&format!("{name}-alone-out")));
        let run = output(&mut command);
        assert!(run.status.success(), "{run:?}");
        let folder = self.path(&format!("{name}-alone-out"));
        fs::read_to_string(folder.join("summary.json")).unwrap()
    }
}

/// A worker that goes when the test does.
struct Helper(Child);

impl Helper {
    fn start(url: &str, more: &[&str]) -> Self {
        let mut command: Command = worker();
        command
            .args(["--connect", url, "--slots", "1"])
            .args(more)
            .env("SWEEP_TOKEN", TOKEN)
            // What a slot died of is told whatever this says.
            .env("RUST_BACKTRACE", "1")
            .stderr(std::process::Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn error_of(run: &Output) -> String {
    String::from_utf8_lossy(&run.stderr).into_owned()
}

#[test]
fn sweeps_survive_a_killed_coordinator_and_end_with_the_bytes_of_a_sweep_alone() {
    let scene = Scene::new();
    let (running, url) = scene.serve("127.0.0.1:0");
    scene.submit("first", &grid("first", "diabetes", 8), &url);
    scene.submit("second", &grid("second", "linnerud", 4), &url);
    // Held back, so that the kill finds it undone.
    scene.ask(&["pause", "--sweep", "first"], &url);
    assert_eq!(scene.status("first", &url)["state"], "paused");
    let _worker = Helper::start(&url, &[]);
    scene.ask(&["watch", "--sweep", "second"], &url);
    assert_eq!(scene.status("second", &url)["state"], "finished");
    assert_eq!(scene.status("first", &url)["recorded"], 0);
    let before = scene.status("second", &url);
    assert_eq!(before["recorded"], 16);

    // One of them can be asked for alone.
    let named = |name: &str| scene.admin(&["status", "--json", "--sweep", name], &url);
    let alone: Value = serde_json::from_slice(&named("second").stdout).unwrap();
    assert_eq!(alone["sweeps"].as_array().unwrap().len(), 1);
    assert_eq!(alone["sweeps"][0]["name"], "second");
    assert_eq!(named("third").status.code(), Some(2));

    // The worker finds the coordinator again at the same address.
    let address = url.trim_start_matches("http://").to_owned();
    running.kill();
    let (_running, url) = scene.serve(&address);
    assert_eq!(scene.status("first", &url)["state"], "paused");
    // What was over before is known as before.
    let after = scene.status("second", &url);
    for name in [
        "planned",
        "recorded",
        "failed",
        "certified",
        "violations",
        "verdicts",
    ] {
        assert_eq!(after[name], before[name], "{name}");
    }
    scene.ask(&["resume", "--sweep", "first"], &url);
    scene.ask(&["watch", "--sweep", "first"], &url);
    for name in ["first", "second"] {
        let summary = scene.ask(&["summary", "--sweep", name], &url);
        assert_eq!(summary, scene.undisturbed(name), "{name}");
    }
    // The same grid once more is the same sweep.
    scene.submit("again", &grid("first", "diabetes", 8), &url);
    let all: Value = serde_json::from_str(&scene.ask(&["status", "--json"], &url)).unwrap();
    assert_eq!(all["sweeps"].as_array().unwrap().len(), 2);
}

#[test]
fn a_cancelled_sweep_keeps_what_it_has_and_says_so() {
    let scene = Scene::new();
    let (_running, url) = scene.serve("127.0.0.1:0");
    scene.submit("given-up", &grid("given-up", "diabetes", 3), &url);
    scene.ask(&["cancel"], &url);
    assert_eq!(scene.status("given-up", &url)["state"], "cancelled");
    let summary: Value = serde_json::from_str(&scene.ask(&["summary"], &url)).unwrap();
    assert_eq!(summary["totals"]["cancelled"], 12);
    let told: Value = serde_json::from_str(&scene.ask(&["explain", "0", "--json"], &url)).unwrap();
    assert!(
        told["state"].as_str().unwrap().starts_with("cancelled"),
        "{told}"
    );
    let again = scene.admin(&["resume"], &url);
    assert_eq!(again.status.code(), Some(2), "{again:?}");
}

/// While the files of so many tasks are written.
#[test]
fn a_grid_that_is_submitted_right_after_it_was_cancelled_is_taken_up_again() {
    let scene = Scene::new();
    let (_running, url) = scene.serve("127.0.0.1:0");
    let text = grid("wanted", "diabetes", 25_000);
    scene.submit("wanted", &text, &url);
    for _ in 0..2 {
        scene.ask(&["cancel"], &url);
        scene.submit("wanted", &text, &url);
        assert_eq!(scene.status("wanted", &url)["state"], "running");
    }
}

#[test]
fn failed_tasks_and_only_they_are_tried_again() {
    let scene = Scene::new();
    let (_running, url) = scene.serve("127.0.0.1:0");
    let text = grid("cramped", "digits", 1).replace("width: 4", "width: 32, loss: cross_entropy")
        + "training: {budget: {evaluations: 20}}\n";
    scene.submit("cramped", &text, &url);
    let cramped = Helper::start(&url, &["--slot-memory", "12000000", "--name", "cramped"]);
    let watched = scene.admin(&["watch"], &url);
    assert_eq!(watched.status.code(), Some(3), "failed tasks: {watched:?}");
    assert_eq!(
        scene.status("cramped", &url)["failed"],
        4,
        "the fault fired"
    );
    let told: Value = serde_json::from_str(&scene.ask(&["explain", "0", "--json"], &url)).unwrap();
    assert!(
        told["state"].as_str().unwrap().contains("baseline failed"),
        "{told}"
    );
    let failures = told["baseline"]["failures"].as_array().unwrap();
    assert_eq!(failures.last().unwrap()["kind"], "out_of_memory", "{told}");
    let error = error_of(&scene.admin(&["explain", "cell=99"], &url));
    assert!(error.contains("no cell 99; it has"), "{error}");
    drop(cramped);
    let said = scene.ask(&["retry"], &url);
    assert!(said.contains("tried again"), "{said}");
    let _roomy = Helper::start(&url, &[]);
    scene.ask(&["watch"], &url);
    let status = scene.status("cramped", &url);
    assert_eq!(
        (&status["failed"], &status["recorded"]),
        (&0.into(), &4.into())
    );
    let said = scene.ask(&["retry"], &url);
    assert!(said.starts_with("0 "), "nothing is left to try: {said}");
}

#[test]
fn who_shows_another_token_changes_nothing() {
    let scene = Scene::new();
    let (_running, url) = scene.serve("127.0.0.1:0");
    scene.submit("guarded", &grid("guarded", "diabetes", 1), &url);
    for token in [TOKEN, "some other token of this length"] {
        let mut command = coordinator();
        command.args(["cancel", "--connect", &url]);
        let run = output(command.env("SWEEP_ADMIN_TOKEN", token));
        assert_eq!(run.status.code(), Some(2), "{run:?}");
        assert!(error_of(&run).contains("administration token"), "{run:?}");
    }
    let mut command = coordinator();
    let run = output(command.args(["cancel", "--connect", &url]));
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    assert_eq!(scene.status("guarded", &url)["state"], "running");
    // Nor does the administrator's token let a worker in.
    let mut command = worker();
    command
        .args(["--connect", &url, "--slots", "1"])
        .env("SWEEP_TOKEN", ADMIN);
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    assert_eq!(wait(&mut child).code(), Some(2));
}

#[test]
fn a_submitted_grid_brings_its_files_and_opens_none_of_the_coordinators() {
    let scene = Scene::new();
    let (_running, url) = scene.serve("127.0.0.1:0");
    let table: String = (0..30).map(|i| format!("{i},{}\n", i * i % 7)).collect();
    scene.write("mine.csv", &format!("x,y\n{table}"));
    let text = "version: 1\nname: mine\ndata: {file: mine.csv, targets: [y]}\naxes:\n  seed: \
                {start: 0, count: 2}\nfixed: {body: mlp, depth: 1, width: 2, activation: tanh}\n";
    scene.submit("mine", text, &url);
    let _worker = Helper::start(&url, &[]);
    scene.ask(&["watch"], &url);
    // The file is not needed any more.
    fs::remove_file(scene.path("mine.csv")).unwrap();
    let summary = scene.ask(&["summary"], &url);
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["totals"]["recorded"], 2);

    // By hand: a grid that names a file of the coordinator's machine, which was not uploaded.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let refused = runtime.block_on(async {
        use common::pb::wire;
        use tonic::Request;
        let channel = tonic::transport::Endpoint::from_shared(url.clone()).unwrap();
        let channel = channel.connect().await.unwrap();
        let mut client = wire::admin_client::AdminClient::new(channel);
        let mut request = Request::new(wire::SubmitRequest {
            name: "grid.yaml".to_owned(),
            grid: text.replace("mine.csv", "/etc/passwd"),
            ..wire::SubmitRequest::default()
        });
        let token = format!("Bearer {ADMIN}").parse().unwrap();
        request.metadata_mut().insert("authorization", token);
        client.submit(request).await.unwrap_err()
    });
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("/etc/passwd"), "{refused:?}");
}

#[test]
fn a_live_coordinator_compares_sweeps_with_the_bytes_of_its_store_at_rest() {
    let scene = Scene::new();
    let (running, url) = scene.serve("127.0.0.1:0");
    let first = grid("first", "diabetes", 3);
    scene.submit("first", &first, &url);
    // Another optimiser, and one seed less.
    let other = grid("other", "diabetes", 2) + "training: {optimizer: lbfgs}\n";
    scene.submit("other", &other, &url);
    // A search: its runs are in no grid file.
    let search = grid("found", "linnerud", 2) + "search: {worst: {runs: 4, round: 2, seed: 0}}\n";
    scene.submit("found", &search, &url);
    let _worker = Helper::start(&url, &[]);
    for name in ["first", "other", "found"] {
        scene.ask(&["watch", "--sweep", name], &url);
    }
    let file = |name: &str| scene.path(name).to_str().unwrap().to_owned();
    let (a, b) = (file("first.yaml"), file("other.yaml"));
    let questions: [&[&str]; 5] = [
        &["diff", &a, &b, "--json"],
        &["diff", &a, &b],
        &["diff", "first", "2", "--json"],
        &["diff", &a, "--by", "activation,depth", "--json"],
        &["diff", "found", "--by", "depth", "--json"],
    ];
    let live = questions.map(|question| scene.ask(question, &url));
    let found: Value = serde_json::from_str(&live[0]).unwrap();
    assert_eq!(found["by"], serde_json::json!(["optimizer"]));
    let compared = &found["comparisons"][0];
    assert_eq!(
        (&compared["pairs"], &compared["unpaired_a"]),
        (&8.into(), &4.into())
    );
    assert_eq!(live[2], live[0], "by name and number");
    let found: Value = serde_json::from_str(&live[4]).unwrap();
    let compared = &found["comparisons"][0];
    let runs = |side: &str| compared["pairs"].as_u64().unwrap() + compared[side].as_u64().unwrap();
    assert_eq!(runs("unpaired_a") + runs("unpaired_b"), 8 + 4, "{found}");
    let unknown = scene.admin(&["diff", "nobody", "first"], &url);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        error_of(&unknown).contains("no sweep is `nobody`; there are 1 (first), 2 (other)"),
        "{unknown:?}"
    );
    running.kill();
    for (question, live) in questions.iter().zip(&live) {
        let mut command = coordinator();
        command.args(*question).arg("--store");
        let run = output(command.arg(scene.path("store")));
        assert!(run.status.success(), "{question:?}: {run:?}");
        assert_eq!(String::from_utf8_lossy(&run.stdout), **live, "{question:?}");
    }
}

#[test]
fn what_serve_needs_is_told_at_once() {
    let scene = Scene::new();
    let mut command = coordinator();
    command.args(["serve", "--store"]).arg(scene.path("store"));
    let run = output(&mut command);
    assert_eq!(run.status.code(), Some(2));
    let error = error_of(&run);
    assert!(
        error.contains("--listen") && error.contains("SWEEP_ADMIN_TOKEN"),
        "{error}"
    );
    assert!(!scene.path("store").exists(), "nothing was begun");
}

#[test]
fn a_store_at_rest_can_be_asked_and_changed() {
    let scene = Scene::new();
    let (running, url) = scene.serve("127.0.0.1:0");
    scene.submit("rest", &grid("rest", "diabetes", 2), &url);
    running.kill();
    let at_rest = |arguments: &[&str]| {
        let mut command = coordinator();
        command
            .args(arguments)
            .arg("--store")
            .arg(scene.path("store"));
        output(&mut command)
    };
    let status = at_rest(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["sweeps"][0]["planned"], 8, "{status}");
    let told = at_rest(&["explain", "7", "--json"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(
        (&told["state"], &told["seed"]),
        (&"planned".into(), &1.into())
    );
    assert!(at_rest(&["cancel"]).status.success());
    let again = at_rest(&["cancel"]);
    assert_eq!(again.status.code(), Some(2), "{again:?}");
    assert!(error_of(&again).contains("cancelled"), "{again:?}");
}
