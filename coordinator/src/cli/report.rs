//! `report`: the page of a sweep, from a live coordinator or a store at rest.

use std::path::PathBuf;

use clap::Args;

use super::remote::{Place, block_on_result, finish, reopen};
use super::{code, export::to_file, print};
use crate::at_rest;
use crate::export::{self, whole::Format};
use crate::run::{Failure, store_failure};
use crate::store::Store;

#[derive(Args, Debug)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    place: Place,
    /// The grid, to name the sweep by it
    #[arg(long, value_name = "FILE", conflicts_with = "sweep")]
    grid: Option<PathBuf>,
    /// The page; from a store, minima are looked for in the folder `minima` beside it
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
}

pub(super) fn main(args: &ReportArgs) -> u8 {
    finish(block_on_result(async {
        let place = args.place.of_grid(args.grid.as_deref())?;
        if place.is_live() {
            to_file(&place, Format::Report, &args.out).await?;
        } else {
            from_store(&place, args).await?;
        }
        print(&format!("Report: {}\n", args.out.display()));
        Ok(code::DONE)
    }))
}

async fn from_store(place: &Place, args: &ReportArgs) -> Result<(), Failure> {
    let (store, stored) = place.kept().await?;
    let kept = reopen(&store, stored.clone()).await?;
    let summary = at_rest::summary(&store, kept).await?;
    let run = export::run_json(&store, &stored, None).await;
    let run = run.map_err(|e| store_failure(&e))?;
    store.close().await.map_err(|e| store_failure(&e))?;
    export::write_report(&args.out, &stored, &summary, &run)
        .map_err(|error| (code::INTERNAL, error.to_string()))
}
