//! `verify` and `diff` on real sweeps: nothing lost, doubled or changed without being told, and
//! runs compared in pairs.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::PathBuf;
use std::process::{Command, Output};

use common::pb::{decode_evidence, encode_evidence};
use common::record::Evidence;
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;
use tests::processes::{RunningSweep, coordinator, output};

const GRID: &str = "
version: 1
name: small
data: diabetes
axes:
  depth: [1, 2]
  activation: [tanh, identity, softplus]
  seed: {start: 0, count: 5}
fixed: {body: mlp, width: 3, loss: squared}
";
const TASKS: u64 = 30;

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

    fn sweep(&self, grid: &str) -> Command {
        let mut command = coordinator();
        command
            .arg("--grid")
            .arg(self.path(grid))
            .arg("--store")
            .arg(self.path("store"))
            .arg("--out")
            .arg(self.path("out"))
            .args(["--local-workers", "2"]);
        command
    }

    fn run(&self, grid: &str) {
        let run = output(&mut self.sweep(grid));
        assert!(run.status.success(), "{run:?}");
    }

    /// The certificate and the exit code.
    fn verify(&self, arguments: &[&str]) -> (Value, Option<i32>) {
        let run = output(
            coordinator()
                .args(["verify", "--json", "--grid"])
                .arg(self.path("grid.yaml"))
                .arg("--store")
                .arg(self.path("store"))
                .args(arguments),
        );
        let text = String::from_utf8_lossy(&run.stdout);
        let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {run:?}"));
        (value, run.status.code())
    }

    fn database(&self) -> Connection {
        Connection::open(self.path("store").join("store.sqlite3")).unwrap()
    }

    fn diff(&self, arguments: &[&str]) -> Output {
        output(
            coordinator()
                .arg("diff")
                .arg(self.path("grid.yaml"))
                .arg("--store")
                .arg(self.path("store"))
                .args(arguments),
        )
    }
}

/// Number, task and evidence of a recorded run.
fn some_run(database: &Connection) -> (i64, Vec<u8>, Vec<u8>) {
    database
        .query_row(
            "SELECT result, task, evidence FROM results WHERE baseline = 0 LIMIT 1 OFFSET 7",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap()
}

fn faults(certificate: &Value) -> Vec<&str> {
    let faults = certificate["completeness"]["faults"].as_array().unwrap();
    faults.iter().map(|f| f.as_str().unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    common::ids::to_hex(bytes)
}

#[test]
fn an_honest_sweep_has_its_certificate_in_run_json() {
    let scene = Scene::new();
    scene.run("grid.yaml");
    let out = scene.path("out");
    let (certificate, code) = scene.verify(&[
        "--audit",
        "0.2",
        "--seed",
        "7",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert_eq!(code, Some(0), "{certificate:#}");
    let complete = &certificate["completeness"];
    assert_eq!(complete["planned"], TASKS);
    assert_eq!(complete["recorded"], TASKS);
    assert_eq!(complete["missing"], 0);
    // The runs and one baseline.
    assert_eq!(complete["records"], TASKS + 1);
    assert!(complete["links"].as_u64().unwrap() > 0);
    let audit = &certificate["audit"];
    assert_eq!(audit["audited"], 6);
    assert_eq!(audit["mismatches"], 0);
    // 1 − 0.05^(1/6).
    let bound = audit["mismatch_rate_upper95"].as_f64().unwrap();
    assert!((bound - 0.393_037_7).abs() < 1e-6, "{bound}");
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(out.join(name)).unwrap()).unwrap()
    };
    let account = read("run.json");
    assert_eq!(account["verification"], certificate);
    assert_eq!(account["store_chain"]["head"], complete["head"]);
    let summary = read("summary.json");
    assert_eq!(
        summary["sweep"]["results_sha256"],
        complete["results_sha256"]
    );
}

#[test]
fn a_record_that_was_changed_by_hand_is_found_and_named() {
    let scene = Scene::new();
    scene.run("grid.yaml");
    let database = scene.database();
    let (number, task, evidence) = some_run(&database);
    let Evidence::Run(mut run) = decode_evidence(&evidence).unwrap() else {
        panic!("a run is recorded as something else");
    };
    // The smallest change there is: one bit of the value.
    run.value = f64::from_bits(run.value.to_bits() ^ 1);
    let forged = encode_evidence(&Evidence::Run(run)).to_vec();
    assert_ne!(forged, evidence);
    let changed = database
        .execute(
            "UPDATE results SET evidence = ?1 WHERE result = ?2",
            rusqlite::params![&forged[..], number],
        )
        .unwrap();
    assert_eq!(changed, 1, "the fault was injected");
    drop(database);
    let out = scene.path("out");
    let (certificate, code) = scene.verify(&["--out", out.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{certificate:#}");
    assert_eq!(certificate["holds"], false);
    let faults = faults(&certificate);
    let named = format!("{number} (task {})", hex(&task));
    assert!(
        faults
            .iter()
            .any(|f| f.contains("does not come out") && f.contains(&named)),
        "{faults:?}"
    );
    assert!(
        faults.iter().any(|f| f.contains("results_sha256")),
        "{faults:?}"
    );
    // No share was asked for; the suspects of the broken link are computed again, and only
    // the forged one comes out differently.
    let audit = &certificate["audit"];
    assert!(audit["suspects"].as_u64().unwrap() >= 1);
    let mismatched = audit["mismatched"].as_array().unwrap();
    assert_eq!(mismatched.len(), 1, "{audit:#}");
    assert!(mismatched[0].as_str().unwrap().contains(&hex(&task)));
}

#[test]
fn an_audit_finds_a_wrong_result_even_under_a_chain_that_fits_it() {
    let scene = Scene::new();
    scene.run("grid.yaml");
    let database = scene.database();
    let (number, task, evidence) = some_run(&database);
    let Evidence::Run(mut run) = decode_evidence(&evidence).unwrap() else {
        panic!("a run is recorded as something else");
    };
    run.value += 1e-3;
    let forged = encode_evidence(&Evidence::Run(run)).to_vec();
    let sql = "UPDATE results SET evidence = ?1 WHERE result = ?2";
    assert_eq!(
        database
            .execute(sql, rusqlite::params![&forged[..], number])
            .unwrap(),
        1
    );
    // Somebody who knows the chain writes it anew, as one link.
    let mut chain = coordinator::store::Chain::default();
    {
        use sha2::{Digest, Sha256};
        let mut all = database
            .prepare("SELECT task, evidence FROM results ORDER BY result")
            .unwrap();
        let mut rows = all.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let task: Vec<u8> = row.get(0).unwrap();
            let evidence: Vec<u8> = row.get(1).unwrap();
            let task = common::ids::TaskId::try_from(task.as_slice()).unwrap();
            chain = chain.with(&task, &Sha256::digest(&evidence).into());
        }
    }
    database.execute("DELETE FROM links", []).unwrap();
    database
        .execute(
            "INSERT INTO links (last_result, link, committed_at) VALUES (?1, ?2, 0)",
            rusqlite::params![chain.results as i64, chain.head],
        )
        .unwrap();
    drop(database);
    let (certificate, code) = scene.verify(&[]);
    assert_eq!(code, Some(0), "the chain fits: {certificate:#}");
    let (certificate, code) = scene.verify(&["--audit", "1"]);
    assert_eq!(code, Some(1), "{certificate:#}");
    assert!(faults(&certificate).is_empty());
    assert_eq!(certificate["audit"]["mismatches"], 1);
    let rate = certificate["audit"]["mismatch_rate"].as_f64().unwrap();
    assert!((rate - 1.0 / TASKS as f64).abs() < 1e-15);
    let mismatched = &certificate["audit"]["mismatched"][0];
    assert!(mismatched.as_str().unwrap().contains(&hex(&task)));
}

#[test]
fn a_record_that_was_removed_is_found_and_named() {
    let scene = Scene::new();
    scene.run("grid.yaml");
    let database = scene.database();
    let (number, task, _) = some_run(&database);
    let removed = database
        .execute("DELETE FROM results WHERE result = ?1", [number])
        .unwrap();
    assert_eq!(removed, 1, "the fault was injected");
    drop(database);
    let (certificate, code) = scene.verify(&[]);
    assert_eq!(code, Some(1), "{certificate:#}");
    let faults = faults(&certificate);
    let named = format!("record {number} has been removed");
    assert!(faults.contains(&named.as_str()), "{faults:?}");
    assert!(
        faults
            .iter()
            .any(|f| f.contains("is finished") && f.contains(&hex(&task))),
        "{faults:?}"
    );
    assert_eq!(certificate["completeness"]["missing"], 1);
}

#[test]
fn an_unfinished_sweep_misses_tasks_and_nothing_else() {
    let scene = Scene::new();
    let slow = GRID.replace("count: 5", "count: 400");
    std::fs::write(scene.path("grid.yaml"), slow).unwrap();
    let mut sweep = RunningSweep::start(&mut scene.sweep("grid.yaml"));
    sweep.wait_for_recorded(10);
    sweep.kill();
    let (certificate, code) = scene.verify(&["--audit", "0.01"]);
    assert_eq!(code, Some(0), "{certificate:#}");
    let complete = &certificate["completeness"];
    assert_eq!(complete["finished"], false);
    let count = |name: &str| complete[name].as_u64().unwrap();
    assert!(count("missing") > 0 && count("recorded") >= 10);
    assert_eq!(count("recorded") + count("missing"), 2400);
    assert!(certificate["audit"]["audited"].as_u64().unwrap() > 0);
}

#[test]
fn wrong_arguments_of_verify_are_told() {
    let scene = Scene::new();
    for (arguments, part) in [
        (vec!["--audit", "2"], "not in 0 to 1"),
        (vec![], "holds no store"),
        (vec!["--out", "/no/such/folder"], "run.json"),
    ] {
        let run = output(
            coordinator()
                .args(["verify", "--grid"])
                .arg(scene.path("grid.yaml"))
                .arg("--store")
                .arg(scene.path("store"))
                .args(&arguments),
        );
        let text = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{text}");
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn values_of_an_axis_are_compared_over_pairs_of_equal_draws() {
    let scene = Scene::new();
    scene.run("grid.yaml");
    let run = scene.diff(&["--by", "activation", "--json"]);
    assert!(run.status.success(), "{run:?}");
    let found: Value = serde_json::from_slice(&run.stdout).unwrap();
    let comparisons = found["comparisons"].as_array().unwrap();
    assert_eq!(comparisons.len(), 2, "two values beside the first");
    let identity = &comparisons[0];
    assert_eq!(identity["a"]["activation"], "tanh");
    assert_eq!(identity["b"]["activation"], "identity");
    assert_eq!(identity["pairs"], 10);
    assert_eq!(identity["certified_both"], 10);
    // A linear body cannot get below the baseline; tanh at its certified minima does.
    assert_eq!(identity["b_lower"], 0);
    assert!(identity["b_higher"].as_u64().unwrap() >= 5);
    let difference = &identity["difference"];
    let number = |name: &str| difference[name].as_f64().unwrap();
    assert!(number("median") > 0.0 && number("lower95") <= number("median"));
    assert!(number("median") <= number("upper95"));
    assert_eq!(identity["baselines_differ"], false);
    // The same seed, the same interval.
    assert_eq!(
        run.stdout,
        scene.diff(&["--by", "activation", "--json"]).stdout
    );
    let run = scene.diff(&["--by", "depth"]);
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(text.contains("tasks equal in all but depth"), "{text}");
    let run = scene.diff(&["--by", "dept"]);
    let text = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{text}");
    assert!(text.contains("`dept`") && text.contains("depth"), "{text}");
}

#[test]
fn a_plan_says_what_a_store_has_already() {
    let scene = Scene::new();
    let plan = |grid: &str, more: &[&str]| {
        let mut command = coordinator();
        command.args(["plan", "--grid"]).arg(scene.path(grid));
        command.arg("--store").arg(scene.path("store"));
        let run = output(command.args(more));
        assert!(run.status.success(), "{run:?}");
        String::from_utf8(run.stdout).unwrap()
    };
    let stored = |grid: &str| -> Value {
        let plan: Value = serde_json::from_str(&plan(grid, &["--json"])).unwrap();
        plan["stored"].clone()
    };
    let has = |recorded: u64, new: u64, baselines: u64| serde_json::json!({"recorded": recorded, "new": new, "baselines": baselines});
    assert_eq!(stored("grid.yaml"), has(0, TASKS, 0));
    assert!(!scene.path("store").exists(), "a plan makes no store");
    scene.run("grid.yaml");
    assert_eq!(stored("grid.yaml"), has(TASKS, 0, 1));
    // More of one thing, less of another.
    let other = GRID
        .replace("count: 5", "count: 7")
        .replace("depth: [1, 2]", "depth: [2, 3]");
    std::fs::write(scene.path("other.yaml"), other).unwrap();
    assert_eq!(stored("other.yaml"), has(15, 27, 1));
    let text = plan("other.yaml", &[]);
    assert!(
        text.contains("stored      15, which leaves 27 to compute"),
        "{text}"
    );
}

#[test]
fn two_sweeps_are_compared_in_what_they_differ_in() {
    let scene = Scene::new();
    scene.run("grid.yaml");
    // Another optimiser, one seed less and one depth more.
    let other = GRID
        .replace("count: 5", "count: 4")
        .replace("depth: [1, 2]", "depth: [1, 2, 3]")
        + "training: {optimizer: lbfgs}\n";
    std::fs::write(scene.path("other.yaml"), other).unwrap();
    scene.run("other.yaml");
    let other = scene.path("other.yaml");
    let run = scene.diff(&[other.to_str().unwrap(), "--json"]);
    assert!(run.status.success(), "{run:?}");
    let found: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(found["by"], serde_json::json!(["optimizer"]));
    let c = &found["comparisons"][0];
    assert_eq!(c["a"]["optimizer"], "auto");
    assert_eq!(c["b"]["optimizer"], "lbfgs");
    assert_eq!(c["pairs"], 24);
    assert_eq!(
        (&c["unpaired_a"], &c["unpaired_b"]),
        (&6.into(), &12.into())
    );
}
