//! `worker slot`: see [`crate::slot`].

use tracing::Level;

use super::Status;
use super::args::SlotArgs;
use crate::files::BlobFolder;
use crate::slot::{Config, run};

pub(super) fn main(args: &SlotArgs) -> anyhow::Result<Status> {
    // The worker repeats each line in its own log, with a time and the slot.
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(Level::WARN)
        .with_ansi(false)
        .without_time()
        .with_level(false)
        .with_target(false)
        .log_internal_errors(false)
        .try_init();
    if let Err(error) = log {
        anyhow::bail!("cannot start the log: {error}");
    }
    run(&Config {
        blobs: BlobFolder(args.blobs.clone()),
        threads: args.threads.max(1),
        memory: args.memory,
    })?;
    Ok(Status::Done)
}
