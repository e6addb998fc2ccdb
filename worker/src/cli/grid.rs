//! A grid of this machine with the files that it names.

use std::path::Path;
use std::sync::Arc;

use common::canon::DataIdentity;
use common::data::{self, Preparation};
use common::grid::{FileSource, Folder, Grid};
use common::spec::{Body, CellSpec};
use engine::task::Cell;
use ndarray::Array2;

use super::BadInput;
use crate::files::Contents;

/// A grid that was accepted, and its files.
pub(super) struct LoadedGrid {
    pub(super) grid: Grid,
    pub(super) contents: Contents,
}

/// Reads and checks a grid, its files and what the data say to it.
pub(super) fn load(path: &Path) -> anyhow::Result<LoadedGrid> {
    let name = path.display().to_string();
    let bytes =
        std::fs::read(path).map_err(|error| BadInput(format!("cannot read `{name}`: {error}")))?;
    let base = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let folder = Folder { base };
    let grid = Grid::load(&name, &bytes, &folder)?;
    let mut contents = Contents::default();
    for file in grid.files() {
        let content = folder
            .content(&file.path)
            .map_err(|error| BadInput(format!("cannot read `{}`: {error}", file.path)))?;
        contents.insert(file.id.to_string(), content.to_vec());
    }
    let check = |cell: &CellSpec| -> Result<(), String> {
        let set =
            data::load(&cell.data, |sha256| contents.get(sha256)).map_err(|e| e.to_string())?;
        let how = Preparation {
            loss: cell.loss,
            standardize: cell.standardize,
            features: cell.model.features,
            intercept: cell.model.intercept,
        };
        data::facts(&set, &how)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    grid.check_data(check)?;
    Ok(LoadedGrid { grid, contents })
}

impl LoadedGrid {
    /// The content of a file by its hash.
    pub(super) fn content(&self, sha256: &str) -> Option<&[u8]> {
        self.contents.get(sha256)
    }

    /// A cell made ready.
    pub(super) fn cell(&self, spec: &Arc<CellSpec>) -> anyhow::Result<Cell> {
        let cell = Cell::new(Arc::clone(spec), |sha256| self.content(sha256));
        cell.map_err(|error| BadInput(error.to_string()).into())
    }

    /// What identities need to know of a cell's data.
    pub(super) fn data_identity(&self, spec: &CellSpec) -> anyhow::Result<DataIdentity> {
        let set = data::load(&spec.data, |sha256| self.content(sha256))
            .map_err(|error| BadInput(error.to_string()))?;
        Ok(DataIdentity {
            arrays: set.content_hash(),
            image: set.image,
        })
    }
}

/// The given representation of a cell, if it has one.
pub(super) fn table<'a>(
    spec: &CellSpec,
    content: impl Fn(&str) -> Option<&'a [u8]>,
) -> anyhow::Result<Option<Array2<f64>>> {
    let Body::Table(file) = &spec.model.body else {
        return Ok(None);
    };
    let bytes = content(&file.sha256).unwrap_or_default();
    let table = data::matrix(file, bytes).map_err(|error| BadInput(error.to_string()))?;
    Ok(Some(table))
}
