//! Commands that need no cluster, as a user types them.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn worker(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_worker"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

fn answer(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {errors}"))
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn golden_points() -> Vec<Value> {
    let text = include_str!("../../common/tests/golden/points.json");
    let golden: Value = serde_json::from_str(text).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        number => vec![
            number
                .as_f64()
                .unwrap_or_else(|| panic!("{number} is no number")),
        ],
    }
}

/// Equal to 1e-10 of the largest entry.
fn close(found: &Value, expected: &Value, what: &str) {
    let (found, expected) = (numbers(found), numbers(expected));
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    for (f, e) in found.iter().zip(&expected) {
        assert!((f - e).abs() <= 1e-10 * scale, "{what}: {f:e}, not {e:e}");
    }
}

#[test]
fn golden_points_are_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    for (number, case) in golden_points().iter().enumerate() {
        let file = folder.path().join("point.json");
        std::fs::write(&file, case["point"].to_string()).unwrap();
        let output = worker(folder.path(), &["evaluate", "point.json"]);
        assert!(output.status.success(), "case {number}: {output:?}");
        let found = answer(&output);
        for (key, expected) in case["expect"].as_object().unwrap() {
            let what = format!("case {number}: {key}");
            match expected {
                Value::Object(arrays) => {
                    let names =
                        |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
                    assert_eq!(names(&found[key]), names(expected), "{what}");
                    for (name, expected) in arrays {
                        close(&found[key][name], expected, &format!("{what}.{name}"));
                    }
                }
                Value::Null => assert_eq!(found[key], Value::Null, "{what}"),
                expected => close(&found[key], expected, &what),
            }
        }
        for key in ["baseline", "gap_bound", "induced"] {
            assert!(found.get(key).is_some(), "case {number} has no {key}");
        }
    }
}

#[test]
fn a_point_with_a_wrong_array_is_refused_with_its_name_and_both_shapes() {
    let point = golden_points()[0]["point"].clone();
    let changed = |path: &str, value: Value| {
        let mut point = point.clone();
        *point.pointer_mut(path).unwrap() = value;
        point
    };
    let mut extra = point.clone();
    extra["parameters"]["X9"] = json!([1.0]);
    let cases = [
        (
            changed("/parameters/b1", json!([1.0])),
            vec!["`b1`", "[1]", "[2]"],
        ),
        (
            changed("/direction/W", json!([[1.0]])),
            vec!["`direction`", "`W`", "[1, 1]", "[1, 2]"],
        ),
        (extra, vec!["`X9`", "W, V, A1, b1"]),
        (
            changed("/inputs/2/1", json!("NaN")),
            vec!["`inputs`", "NaN"],
        ),
        (
            changed("/targets", json!([[1.0]])),
            vec!["`targets`", "1 rows", "6"],
        ),
        (
            changed("/model/activation", json!("tanhh")),
            vec!["tanhh", "did you mean `tanh`"],
        ),
        (changed("/model", json!({})), vec![]),
    ];
    for (point, words) in cases {
        let folder = folder(&[("point.json", &point.to_string())]);
        let output = worker(folder.path(), &["evaluate", "point.json"]);
        let errors = String::from_utf8(output.stderr.clone()).unwrap();
        if words.is_empty() {
            // Everything of a model has a default, and these parameters do not fit it.
            assert!(
                errors.contains("shape") || errors.contains("missing"),
                "{errors}"
            );
        }
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        for word in words {
            assert!(errors.contains(word), "no {word} in: {errors}");
        }
    }
}

const GRID: &str = "
data: {file: d.csv, targets: [y]}
axes: {activation: [tanh, softplus], predictor_ridge: [0.001, 0.01], seed: [0, 1]}
fixed: {depth: 1, width: 2}
";
const DATA: &str = "a,b,y\n1,0,2\n2,1,1\n3,1,5\n4,3,3\n5,2,8\n6,5,4\n";

fn grid() -> tempfile::TempDir {
    let grid = GRID.replace("predictor_ridge:", "regularizer.predictor_ridge:");
    folder(&[("grid.yaml", &grid), ("d.csv", DATA)])
}

#[test]
fn a_run_is_computed_alone_and_its_claim_is_verified_until_it_is_tampered_with() {
    let folder = grid();
    let run = |threads: &str| {
        let arguments = [
            "run",
            "--grid",
            "grid.yaml",
            "--task",
            "3",
            "--out",
            "minima",
            "--threads",
            threads,
        ];
        let output = worker(folder.path(), &arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        answer(&output)
    };
    let found = run("1");
    assert_eq!(
        (&found["verdict"], &found["seed"]),
        (&json!("certified_minimum"), &json!(1))
    );
    assert_eq!(found["baseline"]["status"], "attained");
    assert_eq!(found, run("2"), "threads change nothing");

    let task = found["task"].as_str().unwrap();
    let npz = format!("minima/{task}.npz");
    let verified = worker(folder.path(), &["verify", &npz]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    let claim = answer(&verified);
    for key in ["holds", "certifies", "agree", "is_the_task"] {
        assert_eq!(claim[key], true, "{key}");
    }
    assert_eq!(claim["evidence"]["value"], found["evidence"]["value"]);

    // The same θ as the answer to another task.
    let json = folder.path().join(format!("minima/{task}.json"));
    let text = std::fs::read_to_string(&json).unwrap();
    let tampered = text.replace("\"body_decay\": 0.001", "\"body_decay\": 0.002");
    assert_ne!(tampered, text);
    std::fs::write(&json, tampered).unwrap();
    let refused = worker(folder.path(), &["verify", &npz]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let claim = answer(&refused);
    assert_eq!(
        (&claim["holds"], &claim["is_the_task"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(
        (&claim["certifies"], &claim["agree"]),
        (&json!(false), &json!(true))
    );
}

#[test]
fn data_that_have_changed_are_not_taken_for_those_of_the_claim() {
    let folder = grid();
    let arguments = [
        "run",
        "--grid",
        "grid.yaml",
        "--task",
        "0",
        "--out",
        "minima",
    ];
    let task = answer(&worker(folder.path(), &arguments))["task"]
        .as_str()
        .unwrap()
        .to_owned();
    std::fs::write(folder.path().join("d.csv"), DATA.replace('8', "9")).unwrap();
    let output = worker(folder.path(), &["verify", &format!("minima/{task}.npz")]);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("`d.csv`") && errors.contains("--files"),
        "{errors}"
    );
}

#[test]
fn every_distinct_baseline_is_solved_once() {
    let folder = grid();
    let output = worker(folder.path(), &["baseline", "--grid", "grid.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let found = answer(&output);
    let ridges: Vec<&Value> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|b| &b["ridge"])
        .collect();
    assert_eq!(ridges, [&json!(0.001), &json!(0.01)]);
    for baseline in found.as_array().unwrap() {
        assert_eq!(
            (&baseline["loss"], &baseline["status"]),
            (&json!("squared"), &json!("attained"))
        );
        let gap = baseline["value"].as_f64().unwrap() - baseline["lower_bound"].as_f64().unwrap();
        assert!((0.0..1e-12).contains(&gap), "{gap:e}");
    }
}

#[test]
fn mistakes_of_a_grid_are_shown_in_their_place() {
    let folder = folder(&[("bad.yaml", "data: diabetes\naxes: {depht: [1], seed: []}\n")]);
    for command in [vec!["run", "--task", "0"], vec!["baseline"]] {
        let arguments = [&command[..], &["--grid", "bad.yaml"]].concat();
        let output = worker(folder.path(), &arguments);
        assert_eq!(output.status.code(), Some(2));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(
            errors.contains("bad.yaml:2:8") && errors.contains("did you mean `depth`"),
            "{errors}"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_task_beyond_the_grid_and_a_file_that_is_not_there_are_bad_input() {
    let folder = grid();
    let cases: [(&[&str], &str); 4] = [
        (
            &["run", "--grid", "grid.yaml", "--task", "8"],
            "the grid has 8",
        ),
        (&["run", "--grid", "no.yaml", "--task", "0"], "`no.yaml`"),
        (&["evaluate", "no.json"], "`no.json`"),
        (&["verify", "no.npz"], "`no.json`"),
    ];
    for (arguments, word) in cases {
        let output = worker(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(
            String::from_utf8(output.stderr).unwrap().contains(word),
            "{arguments:?}"
        );
    }
}

#[test]
fn mistakes_of_a_point_file_are_told_under_its_own_names() {
    let right = golden_points()[0]["point"].clone();
    let told = |text: String| {
        let folder = folder(&[("point.json", &text)]);
        let output = worker(folder.path(), &["evaluate", "point.json"]);
        let errors = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(
            !errors.contains("-->"),
            "no text that nobody wrote: {errors}"
        );
        errors
    };
    let mut misspelt = right.clone();
    misspelt["model"]["widht"] = 3.into();
    let errors = told(misspelt.to_string());
    let words = "`point.json`: model: unknown field `widht`; did you mean `width`?";
    assert!(errors.contains(words), "{errors}");
    let mut misspelt = right.clone();
    misspelt["loss"] = "sqared".into();
    let errors = told(misspelt.to_string());
    assert!(
        errors.contains("`point.json`: loss: ") && errors.contains("`sqared`"),
        "{errors}"
    );
    let mut infinite = right.clone();
    infinite["inputs"][0][0] = "HERE".into();
    let errors = told(infinite.to_string().replace("\"HERE\"", "1e999"));
    assert!(
        errors.contains("`inputs` has 1e999 at position 0"),
        "{errors}"
    );
    let twice = right.to_string().replacen('{', "{\"loss\": \"huber\",", 1);
    let errors = told(twice);
    assert!(errors.contains("`loss` stands twice"), "{errors}");
}

#[test]
fn options_are_printed_as_they_come_out_of_file_environment_and_flags() {
    let folder = folder(&[("w.yaml", "slots: 2\nname: from the file\ngrace: 7\n")]);
    let output = Command::new(env!("CARGO_BIN_EXE_worker"))
        .current_dir(folder.path())
        .args(["--config", "w.yaml", "--print-config", "--slots", "5"])
        .env("SWEEP_GRACE", "9")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "slots: 5",
        "name: \"from the file\"",
        "grace: 9",
        "threads: 1",
    ] {
        assert!(
            text.lines().any(|found| found.starts_with(line)),
            "no `{line}` in:\n{text}"
        );
    }
    for origin in [
        "# --slots\n",
        "# w.yaml\n",
        "# SWEEP_GRACE\n",
        "# default\n",
    ] {
        assert!(text.contains(origin), "no `{origin}` in:\n{text}");
    }
    // The file may be named by the environment; one that is named by a flag wins.
    std::fs::write(folder.path().join("other.yaml"), "slots: 3\n").unwrap();
    let with = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
        command.current_dir(folder.path()).args(arguments);
        let output = command.env("SWEEP_CONFIG", "w.yaml").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(with(&["--print-config"]).contains("slots: 2"));
    let flag = with(&["--print-config", "--config", "other.yaml"]);
    assert!(
        flag.contains("slots: 3") && !flag.contains("w.yaml"),
        "{flag}"
    );
    let path: PathBuf = folder.path().join("w.yaml");
    std::fs::write(path, "slotz: 2\n").unwrap();
    let output = worker(folder.path(), &["--config", "w.yaml", "--print-config"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("w.yaml:1:1")
    );
}

#[test]
fn the_bench_measures_and_shows_what_it_measured() {
    let folder = tempfile::tempdir().unwrap();
    let chosen = ["bench", "--case", "s", "--seconds", "0", "--measure"];
    let measured = |what: &str, more: &[&str]| {
        let arguments: Vec<&str> = chosen.iter().chain([&what]).chain(more).copied().collect();
        let output = worker(folder.path(), &arguments);
        assert!(output.status.success(), "{output:?}");
        output
    };
    let value = answer(&measured(
        "floor,gradient,product,products,slots",
        &["--json"],
    ));
    assert_eq!(value["schema"], "worker-bench/1");
    let rows = value["measurements"].as_array().unwrap();
    let slots = if value["cores"] == 1 { 0 } else { 2 };
    assert_eq!(rows.len(), 3 + 3 + slots, "{value}");
    for row in rows {
        let (median, min) = (row["median"].as_f64(), row["min"].as_f64());
        assert!(median >= min && min > Some(0.0), "{row}");
        assert!(row["samples"].as_u64() >= Some(3), "{row}");
    }
    let table = measured("gradient", &[]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("loss and gradient"), "{table}");

    let nothing = worker(
        folder.path(),
        &["bench", "--case", "XL", "--measure", "product"],
    );
    assert_eq!(nothing.status.code(), Some(2), "{nothing:?}");
}

#[test]
fn the_cases_of_the_bench_are_written_for_others_to_compute() {
    let folder = tempfile::tempdir().unwrap();
    let output = worker(
        folder.path(),
        &["bench", "--case", "S", "--export", "cases"],
    );
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(folder.path().join("cases/S.json")).unwrap();
    let case: Value = serde_json::from_str(&text).unwrap();
    let names: Vec<&str> = case["arrays"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["W", "V", "A1", "b1", "A2", "b2"]);
    let archive = std::fs::File::open(folder.path().join("cases/S.npz")).unwrap();
    let mut archive = ndarray_npy::NpzReader::new(archive).unwrap();
    let starts: ndarray::Array2<f64> = archive.by_name("starts").unwrap();
    assert_eq!(
        starts.dim(),
        (20, 2 * 6 + 6 * 10 + 10 * 5 + 10 + 10 * 10 + 10)
    );
}

/// `slots` and `threads` that a worker takes when nobody says how many, started by this script.
fn slots_under(script: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_worker")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    // Each line ends with where its value came from.
    let values = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or(line).trim_end());
    values
        .filter(|line| {
            let told = ["slots:", "threads:", "slot_memory:"];
            told.iter().any(|name| line.starts_with(name))
        })
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn a_worker_takes_no_more_slots_than_cores_that_it_may_run_on() {
    // The first core that this process itself may use.
    let one = "core=$(taskset -pc $$ | sed 's/.*: //; s/[-,].*//'); ";
    let bound = slots_under(&format!(
        "{one} exec taskset -c $core \"$1\" --print-config"
    ));
    assert!(bound.starts_with("slots: 1, threads: 1, "), "{bound}");
}

/// A control group with a limit, as a container has one.
struct Group(PathBuf);

impl Group {
    /// Nothing where this user may make none. Version 1 knows the file by another name.
    fn new(
        controller: &str,
        (v1_file, v1): (&str, &str),
        (v2_file, v2): (&str, &str),
    ) -> Option<Self> {
        let name = format!("worker-test-{controller}-{}", std::process::id());
        let root = PathBuf::from("/sys/fs/cgroup");
        let settings = [
            (root.join(controller).join(&name), v1_file, v1),
            (root.join(&name), v2_file, v2),
        ];
        settings.into_iter().find_map(|(folder, file, limit)| {
            std::fs::create_dir(&folder).ok()?;
            let group = Self(folder);
            // A folder that is no control group has no such file yet.
            let limited =
                group.0.join(file).exists() && std::fs::write(group.0.join(file), limit).is_ok();
            limited.then_some(group)
        })
    }

    /// What a worker in it decides; nothing, and a word, where there is no group.
    fn settings(group: Option<Self>) -> Option<String> {
        let Some(group) = group else {
            assert!(
                std::env::var_os("SWEEP_REQUIRE_CGROUP").is_none(),
                "no control group can be made here"
            );
            #[expect(clippy::print_stderr, reason = "a skipped test says so")]
            {
                eprintln!("skipped: no control group can be made here");
            }
            return None;
        };
        let enter = format!("echo $$ > {}/cgroup.procs", group.0.display());
        Some(slots_under(&format!(
            "{enter} && exec \"$1\" --print-config"
        )))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_worker_takes_no_more_slots_than_the_quota_of_its_container() {
    let v1 = ("cpu.cfs_quota_us", "150000");
    let group = Group::new("cpu", v1, ("cpu.max", "150000 100000"));
    if let Some(limited) = Group::settings(group) {
        assert_eq!(limited, "slots: 1, threads: 1, slot_memory: null");
    }
}

#[test]
fn slots_share_the_memory_of_the_container() {
    let limit = (192 << 20).to_string();
    let v1 = ("memory.limit_in_bytes", limit.as_str());
    let group = Group::new("memory", v1, ("memory.max", &limit));
    if let Some(limited) = Group::settings(group) {
        let slots = std::thread::available_parallelism().unwrap().get();
        let share = (128 << 20) / slots;
        let expected = format!("slots: {slots}, threads: 1, slot_memory: {share}");
        assert_eq!(limited, expected);
    }
}
