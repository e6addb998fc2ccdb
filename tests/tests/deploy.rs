//! deploy/: the manifests are valid, and the programs run with exactly what they say.
//!
//! Needs `kubectl`, `python3` with `venv` and packages from PyPI, PostgreSQL, and root for namespaces
//! and roots of the pods' own. Where these cannot be had the test says that it was skipped, unless
//! `SWEEP_REQUIRE_KUBE=1` asks for them.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::processes::{output, program};

const PACKAGES: [&str; 4] = ["kubernetes-validate", "checkov", "jsonschema", "PyYAML"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What is missing, if anything.
fn missing() -> Option<String> {
    let works = |command: &mut Command| command.output().is_ok_and(|run| run.status.success());
    if !works(Command::new("kubectl").args(["kustomize", "--help"])) {
        return Some("kubectl".to_owned());
    }
    let inside = ["--net", "--mount", "--pid", "--fork", "chroot", "/", "true"];
    if !works(Command::new("unshare").args(inside)) {
        return Some("the right to make namespaces".to_owned());
    }
    if !Path::new("/usr/lib/postgresql").exists() {
        return Some("PostgreSQL".to_owned());
    }
    None
}

/// A Python with what the scripts import.
fn python() -> Result<PathBuf, String> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deploy-venv");
    let python = venv.join("bin/python");
    let works = || {
        let imports = "import kubernetes_validate, jsonschema, yaml, checkov";
        let run = Command::new(&python).args(["-c", imports]).output();
        run.is_ok_and(|run| run.status.success())
    };
    if works() {
        return Ok(python);
    }
    let made = Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&venv)
        .output();
    let installed = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet"])
        .args(PACKAGES)
        .output();
    if works() {
        Ok(python)
    } else {
        Err(format!("Python packages: {made:?} {installed:?}"))
    }
}

#[test]
fn the_manifests_are_valid_and_the_programs_run_as_they_say() {
    let python = missing().map_or_else(python, Err);
    let python = match python {
        Ok(python) => python,
        Err(missing) => {
            let demanded = std::env::var_os("SWEEP_REQUIRE_KUBE").is_some_and(|v| v == "1");
            assert!(
                !demanded,
                "SWEEP_REQUIRE_KUBE is set, and there is no {missing}"
            );
            println!("skipped: no {missing}");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let scripts = repository().join("tests/deploy");
    let run = output(
        Command::new(&python)
            .arg(scripts.join("manifests.py"))
            .arg(repository().join("deploy"))
            .arg(folder.path()),
    );
    let error = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{error}");
    let objects = folder.path().join("objects.json");
    std::fs::write(&objects, &run.stdout).unwrap();
    let programs = [program("coordinator"), program("worker")];
    let run = output(
        Command::new(&python)
            .arg(scripts.join("others.py"))
            .arg(repository())
            .args(&programs),
    );
    let error = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{error}");
    let run = output(
        Command::new(&python)
            .arg(scripts.join("pods.py"))
            .arg(&objects)
            .args(&programs),
    );
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    let error = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{said}{error}");
    for target in ["embedded", "postgres", "keda", "job"] {
        assert!(
            said.contains(&format!("{target}: runs as written")),
            "{said}"
        );
    }
}
