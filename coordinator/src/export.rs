//! What a sweep leaves behind as files.
//!
//! | file | what |
//! |---|---|
//! | `summary.json` | the summary, CONTRACT §4; its bytes depend on grid and numeric level alone |
//! | `summary.csv` | one row for each cell |
//! | `runs.parquet` | one row for each run: see [`runs`] |
//! | `run.json` | how it was computed: workers, hosts, failures, times, the chain of results |
//! | `report.html` | the same for people: see [`crate::report`] |
//! | `minima/` | θ by array, each task's full specification, the data: see [`crate::minima`] |
//!
//! Each file is written under another name and renamed: who reads one reads a whole one.

mod columns;
mod lines;
mod parquet;
pub mod runs;
pub mod whole;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use common::canon::NUMERICS_VERSION;
use common::ids::{TaskId, to_hex};
use common::math::NUMERIC_LEVEL;
use common::summary::Summary;
use serde_json::{Value, json};

use crate::report::{self, Provenance};
use crate::store::{Store, StoreError, StoredSweep};
use crate::sweep::GridSweep;

/// Why files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The disk.
    #[error("{} cannot be written: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Whoever takes the bytes.
    #[error("the rows cannot be written: {0}")]
    Write(#[from] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a sweep was computed, beside what the store knows.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Account {
    /// Arguments of the program, secrets left out.
    pub command: Vec<String>,
    /// Host of the coordinator.
    pub host: String,
    /// Seconds of this life of the coordinator.
    pub seconds: f64,
    /// Whether the sweep came to its end.
    pub finished: bool,
}

/// Writes all files of a sweep. Returns the kept minima whose parameters are not in the store, see
/// [`crate::minima::write_all`].
///
/// # Errors
/// [`ExportError`]; what was written before it stays.
pub async fn write_all<S: Store>(
    folder: &Path,
    store: &S,
    sweep: &StoredSweep,
    workload: &mut GridSweep,
    summary: &Summary,
    account: &Account,
) -> Result<Vec<TaskId>, ExportError> {
    let io = |path: &Path, source| ExportError::Io {
        path: path.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(|e| io(folder, e))?;
    write(&folder.join("summary.json"), summary.to_json().as_bytes())?;
    write(&folder.join("summary.csv"), summary.to_csv().as_bytes())?;
    let parquet = folder.join("runs.parquet");
    write_runs(&parquet, store, sweep, workload, runs::Format::Parquet).await?;
    let mut run = run_json(store, sweep, Some(account)).await?;
    keep_verification(&folder.join("run.json"), &mut run);
    let minima = folder.join("minima");
    let without = crate::minima::write_all(&minima, store, sweep, workload).await?;
    run["minima_without_parameters"] = serde_json::json!(without);
    let text = format!("{run:#}\n");
    write(&folder.join("run.json"), text.as_bytes())?;
    write_report(&folder.join("report.html"), sweep, summary, &run)?;
    Ok(without)
}

/// Writes one row for each run; returns how many.
///
/// # Errors
/// When the store cannot be read, or the disk does not take it.
pub async fn write_runs<S: Store>(
    path: &Path,
    store: &S,
    sweep: &StoredSweep,
    workload: &mut GridSweep,
    format: runs::Format,
) -> Result<u64, ExportError> {
    let io = |source| ExportError::Io {
        path: path.to_owned(),
        source,
    };
    let file = NewFile::beside(path)?;
    let rows = runs::write(store, sweep, workload, format, file.writer()?).await;
    let (rows, to) = rows.map_err(|error| match error {
        ExportError::Write(source) => io(source),
        other => other,
    })?;
    to.into_inner().map_err(|error| io(error.into_error()))?;
    file.done()?;
    Ok(rows)
}

/// Writes the report; the minima that it names as kept are those in `minima/` beside it.
///
/// # Errors
/// When the disk does not take it.
pub(crate) fn write_report(
    path: &Path,
    sweep: &StoredSweep,
    summary: &Summary,
    run: &Value,
) -> Result<(), ExportError> {
    let minima = path.with_file_name("minima");
    let kept = |task: &TaskId| minima.join(format!("{task}.npz")).exists();
    let provenance = Provenance {
        grid: &sweep.text.grid,
        created_at: sweep.created_at,
        run,
        kept: &kept,
    };
    write(path, report::render(summary, &provenance).as_bytes())
}

/// Writes a file as a whole.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), ExportError> {
    let mut file = NewFile::beside(path)?;
    let written = file.file.write_all(content);
    written.map_err(|source| file.failed(source))?;
    file.done()
}

/// A file under another name until it is whole.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    file: tempfile::NamedTempFile,
}

impl NewFile {
    pub(crate) fn beside(path: &Path) -> Result<Self, ExportError> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let made = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
        let path = path.to_owned();
        match made {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(ExportError::Io { path, source }),
        }
    }

    fn failed(&self, source: io::Error) -> ExportError {
        ExportError::Io {
            path: self.path.clone(),
            source,
        }
    }

    /// Another handle to it.
    pub(crate) fn writer(&self) -> Result<io::BufWriter<std::fs::File>, ExportError> {
        let handle = self.file.as_file().try_clone();
        let handle = handle.map_err(|source| self.failed(source))?;
        Ok(io::BufWriter::with_capacity(1 << 18, handle))
    }

    /// Makes it durable and gives it its name.
    pub(crate) fn done(self) -> Result<(), ExportError> {
        let Self { path, file } = self;
        let attempt = || -> io::Result<()> {
            file.as_file().sync_all()?;
            set_readable(file.as_file())?;
            file.persist(&path).map_err(|e| e.error)?;
            Ok(())
        };
        attempt().map_err(|source| ExportError::Io {
            path: path.clone(),
            source,
        })
    }
}

/// Temporary files are private; these are results.
fn set_readable(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

/// What was verified before about the same records stays verified.
fn keep_verification(path: &Path, run: &mut Value) {
    let before = std::fs::read(path).ok();
    let before = before.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let Some(verification) = before.as_ref().and_then(|run| run.get("verification")) else {
        return;
    };
    if verification["completeness"]["head"] == run["store_chain"]["head"] {
        run["verification"] = verification.clone();
    }
}

/// How a sweep was computed, as far as the store and whoever carried it out know.
///
/// # Errors
/// When the store cannot be read.
pub async fn run_json<S: Store>(
    store: &S,
    sweep: &StoredSweep,
    account: Option<&Account>,
) -> Result<Value, StoreError> {
    let shares = store.shares(sweep.number).await?;
    let workers = shares.iter().map(|share| {
        let account = json!({
            "host": share.host,
            "program_version": share.program_version,
            "results": share.results,
            "cpu_seconds": share.cpu_seconds,
            "peak_memory": share.peak_memory,
        });
        (share.worker.to_string(), account)
    });
    let workers: serde_json::Map<String, Value> = workers.collect();
    let failures: Vec<_> = store
        .failures(sweep.number)
        .await?
        .iter()
        .map(|f| {
            json!({
                "task": f.task, "position": f.place.position, "baseline": f.place.baseline,
                "attempt": f.attempt.to_string(), "worker": f.worker, "kind": f.kind.name(),
                "message": f.message, "failed_at_ms": f.failed_at, "set_aside": f.set_aside,
            })
        })
        .collect();
    let chain = store.chain().await?;
    Ok(json!({
        "schema": "run/1",
        "sweep": sweep.text.id,
        "name": sweep.text.name,
        "created_at_ms": sweep.created_at,
        "first_recorded_at_ms": shares.iter().map(|share| share.first_recorded_at).min(),
        "last_recorded_at_ms": shares.iter().map(|share| share.last_recorded_at).max(),
        "program_version": env!("SWEEP_VERSION"),
        "commit": option_env!("SWEEP_COMMIT"),
        "numerics_version": NUMERICS_VERSION,
        "numeric_level": NUMERIC_LEVEL,
        "coordinator": account,
        "workers": workers,
        "failures": failures,
        "store_chain": {"results": chain.results, "head": to_hex(&chain.head)},
    }))
}
