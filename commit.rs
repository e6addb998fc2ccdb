//! Which commit a program is built from, for the provenance of its results.
//!
//! Sets `SWEEP_VERSION` for the compiler: the version, and the commit behind a `+` where it is known;
//! `SWEEP_COMMIT` is the commit alone. It is asked from git, or given in the environment as
//! `SWEEP_COMMIT` where there is no git: in a container, from an archive.

#![allow(
    clippy::print_stdout,
    reason = "this is how a build script speaks to cargo"
)]

use std::path::Path;
use std::process::Command;

/// What the numbers come from: a change in any of these is a change of what is built.
const SOURCES: [&str; 4] = [
    "common/src",
    "coordinator/src",
    "worker/src",
    "worker/engine/src",
];

fn main() {
    println!("cargo:rerun-if-env-changed=SWEEP_COMMIT");
    println!("cargo:rerun-if-changed=../commit.rs");
    let given = std::env::var("SWEEP_COMMIT").ok();
    let commit = given.filter(|c| !c.trim().is_empty()).or_else(from_git);
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    match commit {
        Some(commit) => {
            println!("cargo:rustc-env=SWEEP_COMMIT={commit}");
            println!("cargo:rustc-env=SWEEP_VERSION={version}+{commit}");
        }
        None => println!("cargo:rustc-env=SWEEP_VERSION={version}"),
    }
}

/// The commit of this repository, `-dirty` if tracked files differ from it.
fn from_git() -> Option<String> {
    // In the repository of somebody who has copied these sources into theirs, its commit says nothing.
    let package = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    let name = Path::new(&package).file_name()?.to_str()?;
    if git(&["rev-parse", "--show-prefix"])? != format!("{name}/") {
        return None;
    }
    // The log of HEAD grows with every commit and every change of branch.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo:rerun-if-changed={log}");
    }
    for folder in SOURCES {
        println!("cargo:rerun-if-changed=../{folder}");
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() {
        commit
    } else {
        format!("{commit}-dirty")
    })
}

fn git(arguments: &[&str]) -> Option<String> {
    let run = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(run.stdout).ok()?;
    run.status.success().then(|| text.trim().to_owned())
}
