//! One small sweep in a folder of its own: what the tests that disturb it share.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tempfile::TempDir;

use crate::processes::{RunningSweep, coordinator, output, worker};

/// The quickstart with fewer depths. Tasks take their time and end by their budget, so that there
/// is a middle of the sweep to disturb.
const GRID: &str = r#"
version: 1
name: small
data: diabetes
axes:
  depth: [2, 4]
  activation: [tanh, softplus, sin, identity]
  seed: {start: 0, count: 10}
fixed: {body: mlp, width: 8, loss: squared}
training: {budget: {evaluations: 2000}}
"#;

/// Its tasks.
pub const TASKS: u64 = 80;
/// Its results: the runs and their baseline.
pub const RESULTS: u64 = TASKS + 1;
/// The token of its workers.
pub const TOKEN: &str = "a token of the test's own";

/// A folder with the grid; stores and results in it have names.
#[derive(Debug)]
pub struct Scene {
    folder: TempDir,
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

impl Scene {
    /// A folder with nothing but the grid.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("grid.yaml"), GRID).expect("a file in it");
        Self { folder }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command of the sweep, over a store of any place.
    pub fn sweep_in(&self, mut coordinator: Command, store: &Path, name: &str) -> Command {
        coordinator
            .arg("--grid")
            .arg(self.path("grid.yaml"))
            .arg("--store")
            .arg(store)
            .arg("--out")
            .arg(self.path(&format!("{name}-out")))
            .env("SWEEP_TOKEN", TOKEN);
        coordinator
    }

    /// The command of the sweep; the name is that of its store and its results.
    pub fn sweep(&self, name: &str) -> Command {
        self.sweep_in(coordinator(), &self.path(name), name)
    }

    /// What a sweep that is over has written.
    ///
    /// # Panics
    /// If it has not.
    pub fn summary(&self, name: &str) -> String {
        let path = self.path(&format!("{name}-out")).join("summary.json");
        std::fs::read_to_string(path).expect("a summary")
    }

    /// What a store at rest holds.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn at_rest(&self, store: &Path) -> Value {
        let mut command = coordinator();
        command
            .args(["summary", "--grid"])
            .arg(self.path("grid.yaml"));
        let run = output(command.arg("--store").arg(store));
        assert!(run.status.success(), "{run:?}");
        serde_json::from_slice(&run.stdout).expect("a summary")
    }
}

/// The summary of the sweep when nobody disturbs it; computed once.
///
/// # Panics
/// If it cannot be.
pub fn undisturbed() -> &'static str {
    static SUMMARY: OnceLock<String> = OnceLock::new();
    SUMMARY.get_or_init(|| {
        let scene = Scene::new();
        let run = output(scene.sweep("undisturbed").args(["--local-workers", "2"]));
        assert!(run.status.success(), "{run:?}");
        scene.summary("undisturbed")
    })
}

/// The address that a listening coordinator tells.
///
/// # Panics
/// If it ends before.
pub fn url_of(sweep: &mut RunningSweep) -> String {
    let line = sweep.wait_for_words("--connect ");
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// A worker with one slot and the token; killed with the value.
#[derive(Debug)]
pub struct Helper(pub Child);

impl Helper {
    /// Starts one.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(url: &str, name: &str) -> Self {
        Self::start_as(worker(), url, name)
    }

    /// Starts one by a command.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_as(mut worker: Command, url: &str, name: &str) -> Self {
        worker
            .args(["--connect", url, "--slots", "1", "--name", name])
            .env("SWEEP_TOKEN", TOKEN)
            .stderr(Stdio::null());
        Self(worker.spawn().expect("a worker starts"))
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Nothing outlives a test that fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A number that a query gives, of a store that may be in use.
///
/// # Panics
/// If there is no such store or number.
pub fn count(store: &Path, query: &str) -> u64 {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(store.join("store.sqlite3"), flags)
        .expect("a store that can be read");
    let patience = std::time::Duration::from_secs(10);
    connection.busy_timeout(patience).expect("a setting");
    let found: i64 = connection
        .query_row(query, [], |row| row.get(0))
        .expect("a number");
    found.unsigned_abs()
}
