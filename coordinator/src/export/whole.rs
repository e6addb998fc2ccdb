//! One file of a sweep that a store has, as `export` and `report` ask for it.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use super::{ExportError, runs};
use crate::at_rest::{self, Kept};
use crate::cli::code;
use crate::report::{self, Provenance};
use crate::run::{Failure, store_failure};
use crate::store::Store;
use crate::sweep::{GridSweep, KeepMinima};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One row for each run.
    Runs(runs::Format),
    /// summary.json.
    Summary,
    /// summary.csv.
    SummaryCsv,
    /// report.html.
    Report,
}

impl Format {
    /// All, in the order to name them in.
    pub const ALL: [Self; 6] = [
        Self::Runs(runs::Format::Parquet),
        Self::Runs(runs::Format::Csv),
        Self::Runs(runs::Format::JsonLines),
        Self::Summary,
        Self::SummaryCsv,
        Self::Report,
    ];

    /// The name in commands and calls.
    pub fn name(self) -> &'static str {
        match self {
            Self::Runs(runs::Format::Parquet) => "parquet",
            Self::Runs(runs::Format::Csv) => "csv",
            Self::Runs(runs::Format::JsonLines) => "jsonl",
            Self::Summary => "summary",
            Self::SummaryCsv => "summary-csv",
            Self::Report => "report",
        }
    }
}

/// A name that no format has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoFormat(String);

impl fmt::Display for NoFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Format::ALL.map(Format::name);
        write!(f, "`{}` is none of {}", self.0, names.join(", "))
    }
}

impl std::error::Error for NoFormat {}

impl FromStr for Format {
    type Err = NoFormat;

    fn from_str(name: &str) -> Result<Self, NoFormat> {
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| NoFormat(name.to_owned()))
    }
}

/// Bytes of one write.
const PIECE: usize = 1 << 18;

/// Writes a file of a sweep.
///
/// # Errors
/// When the store cannot be read, or the file cannot be written.
pub async fn write<S: Store, W: Write + Send + 'static>(
    store: &S,
    kept: Kept,
    format: Format,
    mut to: W,
) -> Result<(), Failure> {
    let internal = |error: ExportError| (code::INTERNAL, error.to_string());
    let stored = kept.stored.clone();
    let text = match format {
        Format::Runs(format) => {
            let searches = kept.grid.search().is_some();
            let mut workload = GridSweep::new(kept.grid, kept.data, KeepMinima::None);
            if searches {
                // What a search decided follows from the results.
                at_rest::replay(store, &stored, &mut workload).await?;
            }
            let to = io::BufWriter::with_capacity(PIECE, to);
            let written = runs::write(store, &stored, &mut workload, format, to).await;
            let (_, to) = written.map_err(internal)?;
            return off_the_runtime(move || {
                to.into_inner()
                    .map_err(io::IntoInnerError::into_error)?
                    .flush()
            })
            .await;
        }
        Format::Summary => at_rest::summary(store, kept).await?.to_json(),
        Format::SummaryCsv => at_rest::summary(store, kept).await?.to_csv(),
        Format::Report => {
            let summary = at_rest::summary(store, kept).await?;
            let run = super::run_json(store, &stored, None).await;
            let run = run.map_err(|e| store_failure(&e))?;
            let provenance = Provenance {
                grid: &stored.text.grid,
                created_at: stored.created_at,
                run: &run,
                kept: &|_| false,
            };
            report::render(&summary, &provenance)
        }
    };
    off_the_runtime(move || {
        text.as_bytes()
            .chunks(PIECE)
            .try_for_each(|piece| to.write_all(piece))?;
        to.flush()
    })
    .await
}

/// Writing may wait for whoever reads.
async fn off_the_runtime(
    write: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), Failure> {
    let written = tokio::task::spawn_blocking(write).await;
    let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
    written.map_err(|error| (code::INTERNAL, ExportError::Write(error).to_string()))
}
