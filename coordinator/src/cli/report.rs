//! `report`: the page of a sweep, from a store at rest.

use std::path::PathBuf;

use clap::Args;

use super::{block_on, code, fail, print, with_grid};
use crate::at_rest;
use crate::export;
use crate::store::Address;

#[derive(Args, Debug)]
pub(super) struct ReportArgs {
    /// The grid
    #[arg(long, value_name = "FILE")]
    grid: PathBuf,
    /// The store
    #[arg(
        long,
        value_name = "STORE",
        default_value = "./sweeps",
        env = "SWEEP_STORE",
        hide_env_values = true
    )]
    store: Address,
    /// The page; minima are looked for in the folder `minima` beside it
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
}

pub(super) fn main(args: &ReportArgs) -> u8 {
    with_grid(&args.grid, |grid, data| {
        block_on(async {
            let (summary, stored) = match at_rest::of_grid(grid, data, &args.store).await {
                Ok(read) => read,
                Err((code, message)) => return fail(code, &message),
            };
            match export::write_report(&args.out, &stored, &summary, None) {
                Ok(()) => {
                    print(&format!("Report: {}\n", args.out.display()));
                    code::DONE
                }
                Err(error) => fail(code::INTERNAL, &error.to_string()),
            }
        })
    })
}
