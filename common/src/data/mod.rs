//! Data: named sets, files and generators to the arrays that a network reads.
//!
//! The way of a data set: bytes or draws → [`Dataset`] (inputs and targets as
//! they are, with a content hash) → [`prepare()`] (standardised inputs, φ,
//! targets encoded for the loss). All arithmetic is plain loops in row order,
//! so the same data give the same bits everywhere.
//!
//! What this module does not do: it opens no file (content comes as bytes, by
//! hash), and it knows no task and no cell.
//!
//! ```
//! use common::data::{Preparation, facts, named, prepare};
//! use common::spec::{Features, Loss};
//!
//! let iris = named("iris").unwrap();
//! let how = Preparation {
//!     loss: Loss::CrossEntropy,
//!     standardize: true,
//!     features: Features::Polynomial { degree: 2 },
//!     intercept: true,
//! };
//! let prepared = prepare(&iris, &how).unwrap();
//! // 4 linear and 10 quadratic monomials and the constant; three classes.
//! assert_eq!((prepared.phi.dim(), prepared.y.dim()), ((150, 15), (150, 3)));
//! assert_eq!(facts(&iris, &how).unwrap().phi, 15);
//! ```

mod csv;
mod dataset;
mod error;
mod features;
mod file;
mod generate;
mod idx;
mod named;
mod npy;
mod npz;
#[cfg(feature = "parquet")]
mod parquet;
mod portable;
mod prepare;
mod read;
mod table;

pub use dataset::{Dataset, TargetKind};
pub use error::{ColumnError, DataError, GeneratorError, PrepareError};
pub use features::feature_count;
pub use generate::{defaults, generate};
pub use named::named;
pub use npz::{NamedArray, arrays as npz_arrays};
pub use portable::{Portable, portable};
pub use prepare::{ClassLabels, Facts, Preparation, Prepared, Scale, facts, prepare};
pub use read::{Format, ReadError, read};
pub use table::{Cells, MAX_ENTRIES, Table, TableColumn, Texts};

use ndarray::Array2;

use crate::spec::{DataSpec, FileRef};

/// Makes the data set that a specification names.
///
/// `content` gives the bytes of a file by the SHA-256 that the specification
/// has for it; nothing is opened here.
///
/// # Errors
/// [`DataError`], with the file, row and column to blame.
pub fn load<'b>(
    spec: &DataSpec,
    content: impl Fn(&str) -> Option<&'b [u8]>,
) -> Result<Dataset, DataError> {
    let table = |path: &str, sha256: &str| -> Result<Table, DataError> {
        let bytes = content(sha256).ok_or_else(|| DataError::NoContent {
            path: path.to_owned(),
        })?;
        read(bytes).map_err(|source| DataError::Read {
            path: path.to_owned(),
            source,
        })
    };
    match spec {
        DataSpec::Named(name) => named(name),
        DataSpec::Generate(generator) => Ok(generate(generator)?),
        DataSpec::File(spec) => {
            let inputs = table(&spec.file.file, &spec.file.sha256)?;
            let targets = match &spec.target_file {
                None => None,
                Some(file) => Some(table(&file.path, &file.sha256)?),
            };
            file::assemble(&inputs, targets.as_ref(), spec).map_err(|source| DataError::Columns {
                path: spec.file.file.clone(),
                source,
            })
        }
    }
}

/// Reads a matrix: all columns of a file as numbers (`body: {table: FILE}`).
///
/// # Errors
/// [`DataError`], with the row and column to blame.
pub fn matrix(file: &FileRef, bytes: &[u8]) -> Result<Array2<f64>, DataError> {
    let path = || file.path.clone();
    let table = read(bytes).map_err(|source| DataError::Read {
        path: path(),
        source,
    })?;
    file::numbers(&table).map_err(|source| DataError::Columns {
        path: path(),
        source,
    })
}
