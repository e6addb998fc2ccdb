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
