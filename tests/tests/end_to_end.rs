//! The programs as users run them: one sweep, disturbed in every way that counts, and always the
//! same summary.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tests::processes::{
    RunningSweep, children, coordinator, output, send_signal, wait, wait_until_gone, worker,
};

/// The quickstart with fewer depths and seeds.
const GRID: &str = r#"
version: 1
name: small
data: diabetes
axes:
  depth: [1, 4]
  activation: [tanh, softplus, sin, identity]
  seed: {start: 0, count: 10}
fixed: {body: mlp, width: 4, loss: squared}
"#;
const TASKS: u64 = 80;

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

    /// Tasks that take their time and end by their budget: there is a middle of the sweep to disturb.
    fn slow() -> Self {
        let scene = Self::new();
        let grid = GRID.replace("depth: [1, 4]", "depth: [2, 4]");
        let grid = grid.replace("width: 4", "width: 8");
        let slow = grid + "training: {budget: {evaluations: 800}}\n";
        std::fs::write(scene.path("grid.yaml"), slow).unwrap();
        scene
    }

    /// The command of a sweep whose store and results have a name.
    fn command(&self, name: &str) -> Command {
        let mut command = coordinator();
        command
            .arg("--grid")
            .arg(self.path("grid.yaml"))
            .arg("--store")
            .arg(self.path(name))
            .arg("--out")
            .arg(self.path(&format!("{name}-out")));
        command
    }

    fn summary(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}-out")).join("summary.json")).unwrap()
    }

    /// An undisturbed run with one worker; its summary.
    fn undisturbed(&self) -> String {
        let run = output(self.command("undisturbed").args(["--local-workers", "1"]));
        assert!(run.status.success(), "{run:?}");
        self.summary("undisturbed")
    }

    /// What the store of a sweep at rest holds.
    fn at_rest(&self, name: &str) -> Value {
        let run = output(
            coordinator()
                .arg("summary")
                .arg("--grid")
                .arg(self.path("grid.yaml"))
                .arg("--store")
                .arg(self.path(name)),
        );
        assert!(run.status.success(), "{run:?}");
        serde_json::from_slice(&run.stdout).unwrap()
    }
}

#[test]
fn workers_and_threads_change_no_byte_of_the_summary() {
    let scene = Scene::new();
    let one = scene.undisturbed();
    let summary: Value = serde_json::from_str(&one).unwrap();
    assert_eq!(summary["schema"], "summary/1");
    assert_eq!(summary["totals"]["recorded"], TASKS);
    assert_eq!(summary["totals"]["verdicts"]["certified_minimum"], TASKS);
    assert_eq!(summary["overall"]["verdict"], "holds");

    let run = output(scene.command("three").args(["--local-workers", "3"]));
    assert!(run.status.success(), "{run:?}");
    assert_eq!(scene.summary("three"), one);

    // One worker of one slot with two threads, joined by hand.
    let token = "a token of the test's own";
    let mut command = scene.command("threads");
    command
        .args(["--local-workers", "0", "--listen", "127.0.0.1:0"])
        .env("SWEEP_TOKEN", token);
    let mut sweep = RunningSweep::start(&mut command);
    let url = url_of(&mut sweep);
    let mut joined = worker()
        .args(["--connect", &url, "--slots", "1", "--threads", "2"])
        .env("SWEEP_TOKEN", token)
        .spawn()
        .unwrap();
    assert!(sweep.finish().success());
    assert!(
        wait(&mut joined).success(),
        "the worker leaves when there is no more work"
    );
    assert_eq!(scene.summary("threads"), one);
}

/// The address that a listening coordinator tells.
fn url_of(sweep: &mut RunningSweep) -> String {
    let line = sweep.wait_for(|line| {
        let message = line["message"].as_str();
        message.is_some_and(|m| m.contains("--connect "))
    });
    let message = line["message"].as_str().unwrap();
    message.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn a_killed_coordinator_continues_to_the_same_bytes() {
    let scene = Scene::slow();
    let undisturbed = scene.undisturbed();
    let mut before = 0;
    for more in [1, 10, 20] {
        let mut sweep = RunningSweep::start(scene.command("killed").args(["--local-workers", "2"]));
        let seen = sweep.wait_for_more(more);
        assert!(seen < TASKS, "the kill comes before the last result");
        let workers = children(sweep.pid());
        assert!(!workers.is_empty(), "there are workers to be orphaned");
        let slots: Vec<u32> = workers.iter().flat_map(|pid| children(*pid)).collect();
        sweep.kill();
        wait_until_gone(&workers);
        wait_until_gone(&slots);
        // What was acknowledged is there, and nothing that was not planned.
        let rest = scene.at_rest("killed");
        let recorded = rest["totals"]["recorded"].as_u64().unwrap();
        assert!(recorded >= seen, "{recorded} of the {seen} that were seen");
        assert!(
            recorded >= before && recorded < TASKS,
            "{before} {recorded}"
        );
        assert_eq!(rest["sweep"]["partial"], true);
        before = recorded;
    }
    let run = output(scene.command("killed").args(["--local-workers", "2"]));
    assert!(run.status.success(), "{run:?}");
    assert_eq!(scene.summary("killed"), undisturbed);
}

#[test]
fn killed_workers_and_slots_cost_nothing_but_time() {
    let scene = Scene::slow();
    let undisturbed = scene.undisturbed();
    let mut sweep = RunningSweep::start(scene.command("hurt").args(["--local-workers", "2"]));
    sweep.wait_for_recorded(5);
    let workers = children(sweep.pid());
    let slot = workers
        .iter()
        .find_map(|pid| children(*pid).first().copied());
    send_signal(slot.expect("a slot runs"), "KILL");
    sweep.wait_for_recorded(20);
    let worker = *children(sweep.pid()).first().expect("a worker runs");
    send_signal(worker, "KILL");
    assert!(sweep.finish().success());
    assert_eq!(scene.summary("hurt"), undisturbed);
    let run: Value =
        serde_json::from_slice(&std::fs::read(scene.path("hurt-out").join("run.json")).unwrap())
            .unwrap();
    let workers = run["workers"].as_object().unwrap().len();
    assert!(workers >= 2, "{run:#}");
}

#[test]
fn an_interrupted_sweep_says_how_to_go_on_and_does() {
    let scene = Scene::slow();
    let undisturbed = scene.undisturbed();
    let mut sweep =
        RunningSweep::start(scene.command("interrupted").args(["--local-workers", "2"]));
    sweep.wait_for_recorded(3);
    let workers = children(sweep.pid());
    sweep.signal("INT");
    assert_eq!(sweep.finish().code(), Some(130));
    wait_until_gone(&workers);
    let recorded = scene.at_rest("interrupted")["totals"]["recorded"]
        .as_u64()
        .unwrap();
    assert!((3..TASKS).contains(&recorded), "{recorded}");
    let run = output(scene.command("interrupted").args(["--local-workers", "2"]));
    assert!(run.status.success(), "{run:?}");
    assert_eq!(scene.summary("interrupted"), undisturbed);
}

#[test]
fn a_second_interrupt_ends_everything_at_once_and_the_command_to_go_on_is_printed() {
    let scene = Scene::slow();
    let mut sweep = RunningSweep::start(scene.command("hurried").args(["--local-workers", "2"]));
    sweep.wait_for_recorded(1);
    let workers = children(sweep.pid());
    // Workers that answer nothing: without the second interrupt they would be waited for.
    for worker in &workers {
        send_signal(*worker, "STOP");
    }
    sweep.signal("INT");
    sweep.wait_for(|line| {
        let message = line["message"].as_str();
        message.is_some_and(|m| m.contains("once more stops at once"))
    });
    sweep.signal("INT");
    let (status, said) = sweep.finish_with_words();
    assert_eq!(status.code(), Some(130), "{said:?}");
    let command = said.iter().rev().find(|line| line.contains("--grid"));
    let command = command.unwrap_or_else(|| panic!("no command: {said:?}"));
    assert!(command.contains("--local-workers 2"), "{command}");
    wait_until_gone(&workers);
}

#[test]
fn an_extended_grid_computes_only_what_is_new() {
    let scene = Scene::new();
    let run = output(scene.command("grown").args(["--local-workers", "2"]));
    assert!(run.status.success(), "{run:?}");
    let grown = GRID.replace("count: 10", "count: 12");
    std::fs::write(scene.path("grid.yaml"), grown).unwrap();
    let run = output(scene.command("grown").args(["--local-workers", "2"]));
    assert!(run.status.success(), "{run:?}");
    let summary: Value = serde_json::from_str(&scene.summary("grown")).unwrap();
    assert_eq!(summary["totals"]["recorded"], 96);
    let path = scene.path("grown-out").join("run.json");
    let account: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    // 96 runs and one baseline, each recorded once.
    assert_eq!(account["store_chain"]["results"], 97);
}

#[test]
fn minima_recorded_without_their_parameters_are_named_and_can_be_computed_once_more() {
    let scene = Scene::new();
    let run = output(
        scene
            .command("bare")
            .args(["--local-workers", "2", "--minima", "none"]),
    );
    assert!(run.status.success(), "{run:?}");
    let run = output(scene.command("bare").args(["--local-workers", "2"]));
    assert!(run.status.success(), "{run:?}");
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(told.contains("without their parameters"), "{told}");
    let account = std::fs::read(scene.path("bare-out").join("run.json")).unwrap();
    let account: Value = serde_json::from_slice(&account).unwrap();
    let task = account["minima_without_parameters"][0].as_str().unwrap();
    let minima = scene.path("bare-out").join("minima");
    let archive = minima.join(format!("{task}.npz"));
    assert!(!archive.exists());
    let mut again = worker();
    again.args(["run", "--minimum"]);
    again.arg(minima.join(format!("{task}.json")));
    let run = output(again.arg("--out").arg(&minima));
    assert!(run.status.success(), "{run:?}");
    let run = output(worker().arg("verify").arg(&archive));
    assert!(run.status.success(), "{run:?}");
}

#[test]
fn a_second_coordinator_on_one_store_is_told_who_has_it() {
    let scene = Scene::slow();
    let mut first = RunningSweep::start(scene.command("shared").args(["--local-workers", "1"]));
    first.wait_for_recorded(1);
    let second = output(scene.command("shared").args(["--local-workers", "1"]));
    let text = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(2), "{text}");
    assert!(text.contains(&format!("process {}", first.pid())), "{text}");
    assert!(first.finish().success());
}

#[test]
fn a_worker_without_the_token_is_refused() {
    let scene = Scene::new();
    let mut command = scene.command("closed");
    command
        .args(["--local-workers", "0", "--listen", "127.0.0.1:0"])
        .env("SWEEP_TOKEN", "a token of the test's own");
    let mut sweep = RunningSweep::start(&mut command);
    let url = url_of(&mut sweep);
    for token in [None, Some("another token altogether")] {
        let mut command = worker();
        command.args(["--connect", &url, "--slots", "1"]);
        command.envs(token.map(|t| ("SWEEP_TOKEN", t)));
        let run = output(&mut command);
        let text = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{text}");
        assert!(text.contains("token"), "{text}");
    }
    sweep.kill();
}

fn refused(scene: &Scene, arguments: &[&str]) -> String {
    let run = output(
        scene
            .command("refused")
            .args(arguments)
            .stdout(Stdio::null()),
    );
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(2), "{text}");
    assert!(
        !scene.path("refused").exists(),
        "nothing was started: {text}"
    );
    text
}

#[test]
fn mistakes_are_told_at_once_with_their_places_and_nothing_is_started() {
    let scene = Scene::new();
    let grid = "version: 1\ndata: diabets\naxes:\n  activaton: [tanh]\n  depth: []\n";
    std::fs::write(scene.path("grid.yaml"), grid).unwrap();
    let text = refused(&scene, &[]);
    for part in [
        "`diabets`",
        "diabetes",
        "`activaton`",
        "activation",
        "depth",
        ":2:",
        ":4:",
        ":5:",
        "^",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    let grid = GRID.replace("data: diabetes", "data: {file: no-such.csv, targets: [y]}");
    std::fs::write(scene.path("grid.yaml"), grid).unwrap();
    let text = refused(&scene, &[]);
    assert!(text.contains("no-such.csv"), "{text}");
    std::fs::write(scene.path("x.csv"), "a,b\n1,2\n3,4\n").unwrap();
    let grid = GRID.replace("data: diabetes", "data: {file: x.csv, targets: [y]}");
    std::fs::write(scene.path("grid.yaml"), grid).unwrap();
    let text = refused(&scene, &[]);
    assert!(text.contains("`y`") && text.contains("a, b"), "{text}");
    std::fs::remove_file(scene.path("grid.yaml")).unwrap();
    assert!(refused(&scene, &[]).contains("does not exist"));
}

#[test]
fn wrong_settings_are_told_at_once_with_their_origin() {
    let scene = Scene::new();
    let text = refused(
        &scene,
        &[
            "--minima",
            "some",
            "--progress",
            "loud",
            "--listen",
            "nowhere",
        ],
    );
    for part in [
        "--minima: `some`",
        "--progress: `loud`",
        "--listen: `nowhere`",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let text = refused(&scene, &["--listen", "0.0.0.0:0"]);
    assert!(text.contains("--insecure"), "{text}");
}

/// Each file and each network that it does not fit, all at once.
#[test]
fn given_points_of_other_networks_are_told_before_anything_starts() {
    let scene = Scene::new();
    let grid = "data: diabetes\naxes:\n  width: [2, 3]\n  start: [standard, {point: two.json}, {point: none.json}]\n";
    std::fs::write(scene.path("grid.yaml"), grid).unwrap();
    let matrix = |rows: usize, columns: usize| vec![vec![0.5; columns]; rows];
    let two = serde_json::json!({
        "W": matrix(1, 11), "V": matrix(11, 2), "A1": matrix(2, 10), "b1": [0.5, 0.5],
    });
    std::fs::write(scene.path("two.json"), two.to_string()).unwrap();
    let none = serde_json::json!({"W": [vec!["NaN"; 11]]});
    std::fs::write(scene.path("none.json"), none.to_string()).unwrap();
    let text = refused(&scene, &[]);
    for part in [
        "`two.json`: array `V` has shape [11, 2], the network needs [11, 3]",
        "`none.json`: array `W` has a number that is not finite",
        ":4:",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    assert!(!text.contains("needs [11, 2]"), "it fits that one: {text}");
    // Where it fits it runs.
    let fits = grid
        .replace("width: [2, 3]", "width: [2]")
        .replace(", {point: none.json}", "");
    std::fs::write(scene.path("grid.yaml"), fits).unwrap();
    let plan = output(
        coordinator()
            .args(["plan", "--grid"])
            .arg(scene.path("grid.yaml")),
    );
    assert!(plan.status.success(), "{plan:?}");
}

/// A sweep that could not keep what it finds is not begun.
#[test]
fn folders_that_can_be_none_are_told_before_anything_starts() {
    let scene = Scene::new();
    let file = scene.path("a-file");
    std::fs::write(&file, "mine").unwrap();
    let below = file.join("results");
    let (store, out) = (scene.path("store"), scene.path("out"));
    let told = |store: &Path, out: &Path| {
        let run = output(
            coordinator()
                .arg("--grid")
                .arg(scene.path("grid.yaml"))
                .arg("--store")
                .arg(store)
                .arg("--out")
                .arg(out),
        );
        let text = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(2), "{text}");
        text
    };
    let nowhere = Path::new("/proc/no-such-folder");
    for (out, words) in [
        (file.as_path(), "is a file"),
        (&below, "is below the file"),
        (nowhere, "/proc/no-such-folder"),
    ] {
        let text = told(&store, out);
        assert!(text.contains("--out") && text.contains(words), "{text}");
        assert!(!store.exists(), "nothing was started: {text}");
    }
    for (store, words) in [
        (file.as_path(), "is a file"),
        (nowhere, "could not create"),
        (Path::new("mysql://localhost/x"), "mysql://"),
    ] {
        let text = told(store, &out);
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn the_first_grid_that_is_written_runs_as_it_is() {
    let scene = Scene::new();
    let file = scene.path("first.yaml");
    let run = output(coordinator().arg("init").arg(&file));
    assert!(run.status.success(), "{run:?}");
    let run = output(coordinator().args(["plan", "--grid"]).arg(&file));
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(text.contains("tasks       88\n"), "{text}");
    let again = output(coordinator().arg("init").arg(&file));
    assert_eq!(again.status.code(), Some(2), "it does not overwrite");
    assert!(Path::new(&file).exists());
}

#[test]
fn a_pilot_computes_a_few_tasks_and_prices_the_sweep_by_them() {
    let scene = Scene::new();
    let run = output(
        coordinator()
            .args([
                "plan",
                "--pilot",
                "9",
                "--workers",
                "1,1000",
                "--json",
                "--grid",
            ])
            .arg("grid.yaml")
            .current_dir(scene.folder.path()),
    );
    assert!(run.status.success(), "{run:?}");
    let plan: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(
        (&plan["tasks"], &plan["duplicates"]),
        (&TASKS.into(), &0.into())
    );
    let pilot = &plan["pilot"];
    assert_eq!(
        (&pilot["tasks"], &pilot["failed"]),
        (&9.into(), &0.into()),
        "{pilot}"
    );
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(
        number(&pilot["cpu"]["low95"]) <= number(&pilot["cpu"]["seconds"]),
        "{pilot}"
    );
    let wall = |i: usize| number(&pilot["wall"][i]["wall"]["seconds"]);
    // Many workers help, but the longest task stays as long as it is.
    assert!(
        wall(0) >= wall(1) && wall(1) >= number(&pilot["longest_task_seconds"]),
        "{pilot}"
    );
    let left = std::fs::read_dir(scene.folder.path()).unwrap().count();
    assert_eq!(left, 1, "a pilot leaves nothing behind");
}

/// The grid of the repository, with its points and data from files.
#[test]
fn the_controls_are_found_or_cleared_as_the_theory_says() {
    let scene = Scene::new();
    let grid = Path::new(env!("CARGO_MANIFEST_DIR")).join("../grids/controls.yaml");
    let run = output(
        coordinator()
            .arg("--grid")
            .arg(grid)
            .arg("--store")
            .arg(scene.path("controls"))
            .arg("--out")
            .arg(scene.path("controls-out"))
            .args(["--local-workers", "2", "--fail-on", "violation"]),
    );
    assert!(run.status.success(), "{run:?}");
    let summary: Value = serde_json::from_str(&scene.summary("controls")).unwrap();
    let cells = summary["cells"].as_array().unwrap();
    let found: Vec<&str> = cells
        .iter()
        .map(|cell| cell["verdict"].as_str().unwrap())
        .collect();
    let bad = "bad_minimum_found";
    let expected = [
        bad,
        "none_found",
        bad,
        bad,
        bad,
        bad,
        bad,
        "inconclusive",
        "inconclusive",
        "inconclusive",
    ];
    assert_eq!(found, expected);
    assert_eq!(cells[1]["at_baseline"], 1, "spurious, and on the baseline");
    for cell in &cells[7..] {
        assert_eq!(cell["verdicts"]["saddle"], 1);
        assert!(cell["worst_uncertified"]["excess"].as_f64().unwrap() > 0.1);
    }
}
