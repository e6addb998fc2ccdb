//! What a sweep must know of its data: identities and sizes, each found once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use common::data::{self, Dataset, Preparation, facts};
use common::layout::{LayoutDims, ParamArray, layout, read_point, representation_width};
use common::spec::{Body, CellSpec, FileRef, ModelSpec};

/// Contents of the files that a grid names, by their SHA-256 in hexadecimal.
pub type Contents = BTreeMap<String, Bytes>;

/// Facts about a cell's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellFacts {
    /// SHA-256 of the parsed arrays.
    pub arrays: [u8; 32],
    /// Shape of one row that comes with the data.
    pub image: Option<[usize; 3]>,
    /// n.
    pub rows: usize,
    /// d_φ.
    pub phi: usize,
    /// d_y.
    pub outputs: usize,
    /// d_z.
    pub z: usize,
    /// Entries of θ.
    pub parameters: usize,
    /// Whether some target is not observed.
    pub masked: bool,
}

/// Data sets and facts that were asked for.
#[derive(Clone, Debug, Default)]
pub struct DataTable {
    contents: Contents,
    /// By specification as text. Loaded to be measured and let go.
    known: HashMap<String, Result<CellFacts, String>>,
    /// The last set: cells that differ in their networks come one after the other.
    last: Option<(String, Arc<Dataset>, [u8; 32])>,
}

impl DataTable {
    /// A table over these contents.
    pub fn new(contents: Contents) -> Self {
        Self {
            contents,
            ..Self::default()
        }
    }

    /// The contents.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The facts of a cell.
    ///
    /// # Errors
    /// Why its data cannot be read, or do not fit its loss or network.
    pub fn facts(&mut self, cell: &CellSpec) -> Result<CellFacts, String> {
        // What decides the facts, and little else.
        let key = serde_json::to_string(&(&cell.data, cell.standardize, &cell.model, cell.loss))
            .map_err(|e| e.to_string())?;
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let found = self.find(cell);
        self.known.insert(key, found.clone());
        found
    }

    /// Whether a given θ is one of the cell's network.
    ///
    /// # Errors
    /// What is wrong with it, or why the network cannot be laid out.
    pub fn fits(&mut self, cell: &CellSpec, point: &FileRef) -> Result<(), String> {
        let (_, arrays) = self.lay_out(cell)?;
        let bytes = self
            .contents
            .get(&point.sha256)
            .ok_or_else(|| format!("the content of `{}` is not at hand", point.path))?;
        match read_point(bytes, &arrays) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("`{}`: {error}", point.path)),
        }
    }

    fn find(&mut self, cell: &CellSpec) -> Result<CellFacts, String> {
        self.lay_out(cell).map(|(facts, _)| facts)
    }

    /// The facts of a cell, and the arrays of its θ.
    fn lay_out(&mut self, cell: &CellSpec) -> Result<(CellFacts, Vec<ParamArray>), String> {
        let (set, arrays) = self.dataset(cell)?;
        let how = Preparation {
            loss: cell.loss,
            standardize: cell.standardize,
            features: cell.model.features,
            intercept: cell.model.intercept,
        };
        let facts = facts(&set, &how).map_err(|e| e.to_string())?;
        let table = match &cell.model.body {
            Body::Table(file) => {
                let bytes = self
                    .contents
                    .get(&file.sha256)
                    .ok_or_else(|| format!("the content of `{}` is not at hand", file.path))?;
                let matrix = data::matrix(file, bytes).map_err(|e| e.to_string())?;
                if matrix.nrows() != facts.rows {
                    return Err(format!(
                        "the table `{}` has {} rows, the data have {}",
                        file.path,
                        matrix.nrows(),
                        facts.rows
                    ));
                }
                matrix.ncols()
            }
            _ => 0,
        };
        let model = ModelSpec {
            image: cell.model.image.or(set.image),
            ..cell.model.clone()
        };
        let dims = LayoutDims {
            inputs: if model.body == Body::Conv {
                facts.columns
            } else {
                facts.inputs
            },
            phi: facts.phi,
            outputs: facts.outputs,
            table,
        };
        let list = layout(&model, dims).map_err(|e| e.to_string())?;
        let facts = CellFacts {
            arrays,
            image: set.image,
            rows: facts.rows,
            phi: facts.phi,
            outputs: facts.outputs,
            z: representation_width(&model, dims),
            parameters: common::layout::parameters(&list),
            masked: facts.has_mask,
        };
        Ok((facts, list))
    }

    fn dataset(&mut self, cell: &CellSpec) -> Result<(Arc<Dataset>, [u8; 32]), String> {
        let key = serde_json::to_string(&cell.data).map_err(|e| e.to_string())?;
        if let Some((known, set, arrays)) = &self.last
            && *known == key
        {
            return Ok((Arc::clone(set), *arrays));
        }
        let content = |sha: &str| self.contents.get(sha).map(AsRef::as_ref);
        let set = Arc::new(data::load(&cell.data, content).map_err(|e| e.to_string())?);
        let arrays = set.content_hash();
        self.last = Some((key, Arc::clone(&set), arrays));
        Ok((set, arrays))
    }
}
