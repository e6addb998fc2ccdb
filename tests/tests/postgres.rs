//! Coordinators that share a PostgreSQL database: one leads, one stands by, and whatever is
//! killed or cut, the summary is the one of an undisturbed sweep on SQLite, byte for byte.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use coordinator::testing::PostgresServer;
use serde_json::Value;
use tempfile::TempDir;
use tests::processes::{RunningSweep, coordinator, output, wait, worker};

/// Tasks take their time and end by their budget, so that there is a middle of the sweep to disturb.
const GRID: &str = r#"
version: 1
name: shared
data: diabetes
axes:
  depth: [2, 4]
  activation: [tanh, softplus, sin, identity]
  seed: {start: 0, count: 10}
fixed: {body: mlp, width: 8, loss: squared}
training: {budget: {evaluations: 800}}
"#;
const TASKS: u64 = 80;
/// Runs and their one baseline.
const RESULTS: &str = "81";
const TOKEN: &str = "a token of the test's own";

struct Scene {
    folder: TempDir,
    server: PostgresServer,
    /// The store's address.
    store: String,
}

/// A worker by hand that does not outlive its test.
struct Joined(Child);

impl Drop for Joined {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Scene {
    fn new() -> Option<Self> {
        let server = PostgresServer::start(&["fsync = off"])?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("grid.yaml"), GRID).unwrap();
        let store = server.database();
        Some(Self {
            folder,
            server,
            store,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sql(&self, sql: &str) -> String {
        self.server.sql(&self.store, sql)
    }

    /// The results that the store has.
    fn results(&self) -> u64 {
        let count = self.sql("SELECT count(*) FROM sweeps.results");
        count.parse().unwrap()
    }

    /// A sweep on a store whose results have a name.
    fn command(&self, store: &str, name: &str) -> Command {
        let mut command = coordinator();
        command.arg("--grid").arg(self.path("grid.yaml"));
        command.args(["--store", store]);
        command.arg("--out").arg(self.path(name));
        command
    }

    /// A coordinator for workers from elsewhere, on a port of its own.
    fn start(&self, name: &str, listen: &str) -> RunningSweep {
        let mut command = self.command(&self.store, name);
        command.args(["--local-workers", "0", "--listen", listen]);
        command.env("SWEEP_TOKEN", TOKEN);
        RunningSweep::start(&mut command)
    }

    /// A coordinator with workers of its own.
    fn start_local(&self, name: &str) -> RunningSweep {
        let mut command = self.command(&self.store, name);
        RunningSweep::start(command.args(["--local-workers", "2"]))
    }

    fn summary(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name).join("summary.json")).unwrap()
    }

    /// The summary of an undisturbed sweep on SQLite.
    fn undisturbed(&self) -> String {
        let store = self.path("sqlite").display().to_string();
        let run = output(
            self.command(&store, "undisturbed")
                .args(["--local-workers", "2"]),
        );
        assert!(run.status.success(), "{run:?}");
        self.summary("undisturbed")
    }

    fn join(&self, urls: &[&str]) -> Joined {
        let mut command = worker();
        command.args([
            "--connect",
            &urls.join(","),
            "--slots",
            "1",
            "--threads",
            "1",
        ]);
        command.env("SWEEP_TOKEN", TOKEN);
        Joined(command.spawn().unwrap())
    }

    /// Every task once, whatever happened.
    fn assert_recorded_once(&self) {
        assert_eq!(self.sql("SELECT count(*) FROM sweeps.results"), RESULTS);
        assert_eq!(self.sql("SELECT max(result) FROM sweeps.results"), RESULTS);
        assert_eq!(
            self.sql("SELECT max(last_result) FROM sweeps.links"),
            RESULTS
        );
        assert_eq!(self.sql("SELECT count(*) FROM sweeps.conflicts"), "0");
    }
}

fn says(sweep: &mut RunningSweep, part: &str) -> String {
    let line = sweep.wait_for(|line| line["message"].as_str().is_some_and(|m| m.contains(part)));
    line["message"].as_str().unwrap().to_owned()
}

/// The address that a listening coordinator tells.
fn url_of(sweep: &mut RunningSweep) -> String {
    let message = says(sweep, "--connect ");
    message.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn kill_after_kill_a_standby_takes_over_and_the_summary_is_that_of_sqlite() {
    let Some(scene) = Scene::new() else { return };
    let undisturbed = scene.undisturbed();
    let any_port = "127.0.0.1:0";
    let mut leader = scene.start("leader-0", any_port);
    let first_url = url_of(&mut leader);
    leader.wait_for_recorded(0);
    let mut standby = scene.start("leader-1", any_port);
    let second_url = url_of(&mut standby);
    let told = says(&mut standby, "standing by");
    assert!(
        told.contains(&format!("process {}", leader.pid())),
        "{told}"
    );
    // One knows both addresses, one that of the standby alone, which tells it where to go.
    let one = scene.join(&[&first_url, &second_url]);
    let two = scene.join(&[&second_url]);
    let mut free = first_url.clone();
    let mut slowest = Duration::ZERO;
    let mut steps = vec![1, 10, 15];
    let mut moment = u64::from(std::process::id());
    for life in 2.. {
        let Some(more) = (!steps.is_empty()).then(|| steps.remove(0)) else {
            break;
        };
        let seen = leader.wait_for_more(more);
        assert!(seen < TASKS, "the kill comes before the last result");
        // At some moment of the few milliseconds that a commit and its receipts take.
        moment = moment
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        std::thread::sleep(Duration::from_micros(moment >> 50));
        leader.kill();
        let killed = Instant::now();
        says(&mut standby, "leading");
        slowest = slowest.max(killed.elapsed());
        let recorded = scene.results();
        assert!(recorded >= seen, "{recorded} of the {seen} that were seen");
        let listen = free.trim_start_matches("http://").to_owned();
        let next = scene.start(&format!("leader-{life}"), &listen);
        leader = std::mem::replace(&mut standby, next);
        free = if free == first_url {
            second_url.clone()
        } else {
            first_url.clone()
        };
        says(&mut standby, "standing by");
    }
    assert!(leader.finish().success());
    for mut joined in [one, two] {
        let status = wait(&mut joined.0);
        assert!(
            status.success(),
            "the worker leaves when there is no more work"
        );
    }
    // The last standby finds that all is done.
    assert!(standby.finish().success());
    assert_eq!(scene.summary("leader-3"), undisturbed);
    assert_eq!(scene.summary("leader-4"), undisturbed);
    scene.assert_recorded_once();
    assert_eq!(
        scene.sql("SELECT count(*), max(epoch) FROM sweeps.epochs"),
        "5|5"
    );
    // Shown, not judged: a machine under load is not the place to measure it.
    eprintln!("slowest takeover: {slowest:?}");
}

#[test]
fn local_workers_of_a_killed_coordinator_end_and_the_next_one_continues() {
    let Some(scene) = Scene::new() else { return };
    let undisturbed = scene.undisturbed();
    for more in [1, 20] {
        let mut sweep = scene.start_local("local");
        let seen = sweep.wait_for_more(more);
        assert!(seen < TASKS, "the kill comes before the last result");
        sweep.kill();
    }
    assert!(scene.start_local("local").finish().success());
    assert_eq!(scene.summary("local"), undisturbed);
    scene.assert_recorded_once();
}

#[test]
fn cut_sessions_and_a_server_that_crashes_cost_nothing_but_time() {
    let Some(scene) = Scene::new() else { return };
    let undisturbed = scene.undisturbed();
    let mut sweep = scene.start_local("cut");
    let mut seen = sweep.wait_for_recorded(1);
    for _ in 0..3 {
        let cut = scene.sql(
            "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name LIKE 'sweep %'",
        );
        assert_eq!(cut, "t", "there was a session to be cut");
        // A result beyond those that the store has now comes through a new session.
        let recorded = scene.results();
        seen = sweep.wait_for_recorded(recorded + 1);
    }
    assert!(seen < TASKS, "the crash comes before the last result");
    scene.server.stop("immediate");
    says(&mut sweep, "nothing is acknowledged");
    scene.server.go();
    says(&mut sweep, "the store works again");
    assert!(sweep.finish().success());
    assert_eq!(scene.summary("cut"), undisturbed);
    scene.assert_recorded_once();
    assert_eq!(scene.sql("SELECT max(epoch) FROM sweeps.epochs"), "1");
}

#[test]
fn a_leader_that_slept_through_a_takeover_ends_and_acknowledges_nothing() {
    let Some(scene) = Scene::new() else { return };
    let undisturbed = scene.undisturbed();
    let mut sleeper = scene.start_local("sleeper");
    let seen = sleeper.wait_for_recorded(5);
    assert!(seen < TASKS, "the sleep comes before the last result");
    sleeper.signal("STOP");
    let mut standby = scene.start_local("standby");
    says(&mut standby, "standing by");
    // A machine that is gone looks like this to the server.
    let cut = scene.sql(
        "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'sweep coordinator'",
    );
    assert_eq!(cut, "t");
    says(&mut standby, "leading");
    sleeper.signal("CONT");
    let (status, said) = sleeper.finish_with_words();
    assert_eq!(status.code(), Some(1), "{said:#?}");
    let told = said
        .iter()
        .any(|line| line.contains("another coordinator has taken the store over"));
    assert!(told, "{said:#?}");
    assert!(standby.finish().success());
    assert_eq!(scene.summary("standby"), undisturbed);
    scene.assert_recorded_once();
}

#[test]
fn a_second_coordinator_that_only_reads_is_told_who_leads() {
    let Some(scene) = Scene::new() else { return };
    let mut leader = scene.start_local("leader");
    leader.wait_for_recorded(1);
    let mut command = coordinator();
    command
        .arg("summary")
        .arg("--grid")
        .arg(scene.path("grid.yaml"));
    let run = output(command.args(["--store", &scene.store]));
    let text = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{text}");
    assert!(
        text.contains(&format!("process {}", leader.pid())),
        "{text}"
    );
    assert!(leader.finish().success());
    let run = output(&mut command);
    let rest: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(rest["totals"]["recorded"], TASKS);
}

#[test]
fn a_password_stays_out_of_arguments_and_out_of_what_is_printed() {
    let secret = "hunter22hunter22";
    let address = format!("postgres://me:{secret}@db.example/sweeps");
    let run = output(coordinator().args(["--store", &address, "--print-config"]));
    let text = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{text}");
    assert!(
        text.contains("SWEEP_STORE") && !text.contains(secret),
        "{text}"
    );
    let run = output(
        coordinator()
            .arg("--print-config")
            .env("SWEEP_STORE", &address),
    );
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{run:?}");
    assert!(
        text.contains("postgres://me@db.example") && !text.contains(secret),
        "{text}"
    );
}
