//! From the command to the first result: the quickstart, as a user starts it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::{Figure, internal, store};
use crate::run::Failure;

/// The grid of `coordinator init`, which is the quickstart with comments.
const GRID: &str = include_str!("../cli/init.yaml");
/// Time between two looks into the store.
const LOOK: Duration = Duration::from_millis(2);
/// Longest wait: only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn measure(folder: &Path, workers: u32) -> Result<Vec<Figure>, Failure> {
    let grid = folder.join("grid.yaml");
    std::fs::write(&grid, GRID).map_err(internal)?;
    let program = std::env::current_exe().map_err(internal)?;
    let began = Instant::now();
    let mut child = Command::new(program)
        .arg("--grid")
        .arg(&grid)
        .arg("--store")
        .arg(store(folder))
        .args([
            "--progress",
            "none",
            "--local-workers",
            &workers.to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(internal)?;
    let mut first = None;
    while began.elapsed() < PATIENCE && child.try_wait().map_err(internal)?.is_none() {
        if runs(&store(folder)).is_some_and(|runs| runs > 0) {
            first = Some(began.elapsed().as_secs_f64());
            break;
        }
        std::thread::sleep(LOOK);
    }
    let ended = match first {
        Some(_) => child.wait(),
        None => child.kill().and_then(|()| child.wait()),
    };
    let status = ended.map_err(internal)?;
    let all = began.elapsed().as_secs_f64();
    let first = first.ok_or_else(|| internal(format!("no result came: {status}")))?;
    Ok(vec![
        Figure::new("first durable run", first, "s").at_most(0.5),
        Figure::new("the whole grid", all, "s"),
    ])
}

/// Recorded runs; nothing while there is no store that can be read.
fn runs(store: &Path) -> Option<i64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(store.join("store.sqlite3"), flags).ok()?;
    let sql = "SELECT count(*) FROM results WHERE baseline = 0";
    connection.query_row(sql, [], |row| row.get(0)).ok()
}
