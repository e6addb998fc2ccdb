//! `worker slot`: see [`crate::slot`].

use super::Status;
use super::args::SlotArgs;
use crate::files::BlobFolder;
use crate::slot::{Config, run};

pub(super) fn main(args: &SlotArgs) -> anyhow::Result<Status> {
    run(&Config {
        blobs: BlobFolder(args.blobs.clone()),
        threads: args.threads.max(1),
        memory: args.memory,
    })?;
    Ok(Status::Done)
}
