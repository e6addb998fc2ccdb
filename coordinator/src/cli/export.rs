//! `export`: a sweep as a table or another file, from a live coordinator or a store at rest.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use common::pb::wire;

use super::remote::{Place, block_on_result, finish, reopen};
use super::{code, print};
use crate::client::{self, failure};
use crate::export::whole::{self, Format, NoFormat};
use crate::export::{self};
use crate::run::{Failure, store_failure};
use crate::store::Store;

#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    place: Place,
    /// The grid, to name the sweep by it
    #[arg(long, value_name = "FILE", conflicts_with = "sweep")]
    grid: Option<PathBuf>,
    /// parquet, csv, jsonl: one row for each run; summary, summary-csv, report: the files of these
    /// names [default: what the name of --out ends in]
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The file; `-` for standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn main(args: &ExportArgs) -> u8 {
    finish(block_on_result(async {
        let bad = |error: NoFormat| (code::BAD_INPUT, format!("--format: {error}"));
        let format = match &args.format {
            Some(name) => name.parse().map_err(bad)?,
            None => format_of(&args.out)?,
        };
        let place = args.place.of_grid(args.grid.as_deref())?;
        if args.out == Path::new("-") {
            write(&place, format, io::stdout()).await?;
        } else {
            to_file(&place, format, &args.out).await?;
            print(&format!("Export: {}\n", args.out.display()));
        }
        Ok(code::DONE)
    }))
}

/// What the name of a file asks for.
fn format_of(path: &Path) -> Result<Format, Failure> {
    let end = path.extension().and_then(|end| end.to_str()).unwrap_or("");
    let name = match end {
        "json" => "summary",
        "html" => "report",
        "ndjson" => "jsonl",
        other => other,
    };
    name.parse().map_err(|_| {
        let names = Format::ALL.map(Format::name).join(", ");
        let message = format!(
            "--out {} does not tell the format; --format is one of {names}",
            path.display()
        );
        (code::BAD_INPUT, message)
    })
}

/// Writes a file of a sweep as a whole, or not at all.
pub(super) async fn to_file(place: &Place, format: Format, path: &Path) -> Result<(), Failure> {
    let failed = |error: export::ExportError| (code::INTERNAL, error.to_string());
    let file = export::NewFile::beside(path).map_err(failed)?;
    write(place, format, file.writer().map_err(failed)?).await?;
    file.done().map_err(failed)
}

async fn write<W: Write + Send + 'static>(
    place: &Place,
    format: Format,
    mut to: W,
) -> Result<(), Failure> {
    let Some(client) = place.client().await else {
        let (store, stored) = place.kept().await?;
        let kept = reopen(&store, stored).await?;
        whole::write(&store, kept, format, to).await?;
        return store.close().await.map_err(|e| store_failure(&e));
    };
    let mut client: client::Client = client?;
    let sweep = place.remote_number(&mut client).await?;
    let request = wire::ExportRequest {
        sweep,
        format: format.name().to_owned(),
    };
    let chunks = client.export(request).await.map_err(|s| failure(&s))?;
    let mut chunks = chunks.into_inner();
    let failed = |e: io::Error| (code::INTERNAL, export::ExportError::Write(e).to_string());
    while let Some(chunk) = chunks.message().await.map_err(|s| failure(&s))? {
        to.write_all(&chunk.content).map_err(failed)?;
    }
    to.flush().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_tells_its_format() {
        let name = |path: &str| format_of(Path::new(path)).map(Format::name);
        assert_eq!(name("a/runs.parquet"), Ok("parquet"));
        assert_eq!(name("runs.csv"), Ok("csv"));
        assert_eq!(name("runs.jsonl"), Ok("jsonl"));
        assert_eq!(name("summary.json"), Ok("summary"));
        assert_eq!(name("page.html"), Ok("report"));
        let (code, message) = name("-").unwrap_err();
        assert_eq!(code, code::BAD_INPUT);
        assert!(
            message.contains("parquet, csv, jsonl, summary"),
            "{message}"
        );
    }
}
