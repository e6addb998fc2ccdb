//! Python with a package from PyPI, in a virtual environment of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// One environment is made at a time: tests of one program run side by side.
static TURN: Mutex<()> = Mutex::new(());

/// A Python that has a package, in an environment below a folder; `None`, with the reason said, if
/// it cannot be had.
///
/// # Panics
/// If it cannot be had and `SWEEP_REQUIRE_PYTHON=1` demands it.
pub fn with(package: &str, folder: &Path) -> Option<PathBuf> {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let venv = folder.join(format!("{package}-venv"));
    let python = venv.join("bin/python");
    let works = || {
        let import = format!("import {package}");
        let run = Command::new(&python).args(["-c", &import]).output();
        run.is_ok_and(|run| run.status.success())
    };
    if works() {
        return Some(python);
    }
    let made = Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&venv)
        .output();
    let installed = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", package])
        .output();
    if works() {
        return Some(python);
    }
    let demanded = std::env::var_os("SWEEP_REQUIRE_PYTHON").is_some_and(|v| v == "1");
    assert!(
        !demanded,
        "no Python with {package}: {made:?} {installed:?}"
    );
    None
}
