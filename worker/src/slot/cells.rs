//! Prepared cells, kept while tasks of them may come.

use std::sync::Arc;

use common::canon::{CellIdentity, baseline_id};
use common::data::DataError;
use common::decode::decode_cell;
use common::ids::BaselineId;
use common::protocol::{CellText, FailureKind};
use engine::task::{Cell, CellError};

use super::Failed;
use crate::files::{self, BlobFolder, Contents};

/// Cells that are kept, at most.
const KEPT: usize = 32;
/// Numbers of the data of the cells that are kept beside the newest, at most.
const KEPT_NUMBERS: usize = 1 << 25;

/// A cell that can be computed, and who it is.
#[derive(Debug)]
pub struct ReadyCell {
    /// Data, network and baseline.
    pub cell: Cell,
    /// Its identity, and that of its tasks.
    pub identity: CellIdentity,
    /// The identity of its baseline.
    pub baseline: BaselineId,
}

/// The cells of a slot, the last one used at the end.
#[derive(Debug)]
pub struct Cells {
    blobs: BlobFolder,
    kept: Vec<Arc<ReadyCell>>,
}

impl Cells {
    /// Nothing kept yet; files are read from `blobs`.
    pub fn new(blobs: BlobFolder) -> Self {
        Self {
            blobs,
            kept: Vec::new(),
        }
    }

    /// The folder of files.
    pub fn blobs(&self) -> &BlobFolder {
        &self.blobs
    }

    /// The cell of a lease.
    ///
    /// # Errors
    /// [`Failed`]: it cannot be read, its data are not there, or it is another
    /// cell than it says.
    pub fn get(&mut self, text: &CellText) -> Result<Arc<ReadyCell>, Failed> {
        if let Some(at) = self
            .kept
            .iter()
            .position(|ready| ready.identity.id() == text.id)
        {
            let ready = self.kept.remove(at);
            self.kept.push(Arc::clone(&ready));
            return Ok(ready);
        }
        let ready = Arc::new(self.prepare(text)?);
        self.kept.push(Arc::clone(&ready));
        self.trim();
        Ok(ready)
    }

    fn prepare(&self, text: &CellText) -> Result<ReadyCell, Failed> {
        let invalid = |message: String| Failed {
            kind: FailureKind::InvalidTask,
            message,
        };
        let spec = decode_cell(&text.json).map_err(|mistakes| invalid(mistakes.to_string()))?;
        let contents = Contents::read(&self.blobs, &files::of_cell(&spec));
        let cell = Cell::new(spec, |sha256| contents.get(sha256)).map_err(cell_failed)?;
        let (spec, data) = (cell.spec(), cell.data_identity());
        let identity = CellIdentity::new(spec, data).map_err(|e| invalid(e.to_string()))?;
        if identity.id() != text.id {
            return Err(mismatch(
                "cell",
                &text.id.to_string(),
                &identity.id().to_string(),
            ));
        }
        let baseline = baseline_id(spec, data);
        Ok(ReadyCell {
            cell,
            identity,
            baseline,
        })
    }

    /// Forgets what was used longest ago. The newest stays, however large.
    fn trim(&mut self) {
        let mut numbers = 0;
        let mut keep = 0;
        for ready in self.kept.iter().rev().take(KEPT) {
            let data = ready.cell.data();
            numbers += data.x_body.len() + data.phi.len() + data.y.len();
            if keep > 0 && numbers > KEPT_NUMBERS {
                break;
            }
            keep += 1;
        }
        self.kept.drain(..self.kept.len() - keep);
    }
}

/// Worker and coordinator disagree about who something is.
pub(super) fn mismatch(what: &str, said: &str, computed: &str) -> Failed {
    Failed {
        kind: FailureKind::IdentityMismatch,
        message: format!("the lease says {what} {said}, its specification is {computed}"),
    }
}

/// Whether data could not be had or cannot be used.
pub(super) fn data_failed(error: DataError) -> Failed {
    let kind = match error {
        DataError::NoContent { .. } => FailureKind::DataUnavailable,
        _ => FailureKind::InvalidTask,
    };
    Failed {
        kind,
        message: error.to_string(),
    }
}

fn cell_failed(error: CellError) -> Failed {
    match error {
        CellError::Data(error) => data_failed(error),
        error => Failed {
            kind: FailureKind::InvalidTask,
            message: error.to_string(),
        },
    }
}
