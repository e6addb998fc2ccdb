//! A kept minimum can be checked with NumPy alone: `docs/check_minimum.py` on real output.
//!
//! Needs `python3` with `venv`, and NumPy from PyPI. Where these cannot be had the test says that it
//! was skipped, unless `SWEEP_REQUIRE_PYTHON=1` asks for them.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tests::processes::{coordinator, output, worker};
use tests::python;

/// Each body and each kind of loss; runs that end, and runs whose gradients are not small.
const GRID: &str = "
version: 1
name: claims
axes:
  data:
    - iris
    - {generate: teacher, rows: 40, inputs: 3, outputs: 2, body: preact, depth: 1, width: 3, activation: tanh, noise: 0.1, seed: 0}
  body: [mlp, residual, preact]
  activation: [tanh, gelu, relu, softplus, {leaky_relu: 0.1}]
  loss: [squared, cross_entropy, logistic, {huber: 0.5}, squared_hinge]
  training.budget.evaluations: [10, 2000]
fixed: {width: 3, depth: 2}
";
const TASKS: usize = 2 * 3 * 5 * 5 * 2;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/check_minimum.py")
}

/// A Python that has NumPy.
fn python() -> Option<PathBuf> {
    python::with("numpy", Path::new(env!("CARGO_TARGET_TMPDIR")))
}

fn check(python: &Path, minima: &[PathBuf]) -> Output {
    output(Command::new(python).arg(script()).args(minima))
}

/// The minima of a folder.
fn minima(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path());
    let json = entries.filter(|path| path.extension().is_some_and(|e| e == "json"));
    json.map(|path| path.with_extension("npz")).collect()
}

#[test]
fn a_claim_is_recomputed_with_numpy_alone_to_1e_12() {
    let Some(python) = python() else {
        eprintln!("skipped: no Python with NumPy");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let grid = folder.path().join("grid.yaml");
    std::fs::write(&grid, GRID).unwrap();
    let out = folder.path().join("out");
    let run = output(
        coordinator()
            .arg("--grid")
            .arg(&grid)
            .arg("--store")
            .arg(folder.path().join("store"))
            .arg("--out")
            .arg(&out)
            .args(["--minima", "all", "--local-workers", "2"]),
    );
    assert!(run.status.success(), "{run:?}");
    let minima = minima(&out.join("minima"));
    assert_eq!(minima.len(), TASKS);
    // As `minima/*.npz` names them: the data of the minima lie among them.
    let files = std::fs::read_dir(out.join("minima")).unwrap();
    let files = files.map(|e| e.unwrap().path());
    let named: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "npz"))
        .collect();
    assert!(named.len() > TASKS, "the data are among them");
    let run = check(&python, &named);
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}\n{run:?}");
    assert_eq!(text.matches("\nagrees with its record").count(), TASKS);
    // Gradients that are not small were compared, and so were certified minima.
    let large = |line: &&str| {
        let mut words = line.split_whitespace();
        words.next() == Some("gradient_norm")
            && line.ends_with("ok")
            && words
                .nth(1)
                .is_some_and(|g| g.parse::<f64>().unwrap() > 1e-3)
    };
    assert!(text.lines().filter(large).count() > TASKS / 3);
    assert!(text.matches("outcome certified_minimum").count() > TASKS / 4);

    // A claim that is not true is told.
    let path = minima[0].with_extension("json");
    let mut claim: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let value = claim["evidence"]["value"].as_f64().unwrap();
    claim["evidence"]["value"] = (value + 1e-9 * value.abs().max(1.0)).into();
    std::fs::write(&path, claim.to_string()).unwrap();
    let run = check(&python, &minima[..1]);
    let text = String::from_utf8_lossy(&run.stdout);
    assert_eq!(run.status.code(), Some(1), "{text}");
    assert!(
        text.lines()
            .any(|l| l.starts_with("value ") && l.ends_with("DISAGREES"))
    );
}

#[test]
fn what_the_script_does_not_cover_it_says() {
    let Some(python) = python() else {
        eprintln!("skipped: no Python with NumPy");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let grid = folder.path().join("grid.yaml");
    let text = "version: 1\ndata: linnerud\naxes: {depth: [1]}\nfixed: {body: mlp, width: 2, skip: chain, \
                activation: tanh}\ntraining: {budget: {evaluations: 5}}\n";
    std::fs::write(&grid, text).unwrap();
    let out = folder.path().join("minima");
    let run = output(
        worker()
            .args(["run", "--task", "0", "--grid"])
            .arg(&grid)
            .arg("--out")
            .arg(&out),
    );
    assert!(run.status.success(), "{run:?}");
    let run = check(&python, &minima(&out));
    let text = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{text}");
    assert!(text.contains("skip: chain"), "{text}");

    // `worker run` writes what the script reads.
    let covered = std::fs::read_to_string(&grid)
        .unwrap()
        .replace("skip: chain, ", "");
    std::fs::write(&grid, covered).unwrap();
    let out = folder.path().join("others");
    let run = output(
        worker()
            .args(["run", "--task", "0", "--grid"])
            .arg(&grid)
            .arg("--out")
            .arg(&out),
    );
    assert!(run.status.success(), "{run:?}");
    let run = check(&python, &minima(&out));
    assert!(run.status.success(), "{run:?}");
}
