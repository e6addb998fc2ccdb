//! Bytes of a file to a [`Table`], by what the bytes are.
//!
//! The format is told by its first bytes, never by a name: NPY, NPZ (a zip
//! archive), Parquet, IDX, else text that is read as CSV. Sizes found in a
//! header are checked against the bytes that are there, and against
//! [`MAX_ENTRIES`], before anything of that size is allocated.

use std::collections::HashMap;
use std::fmt;

use super::table::{MAX_ENTRIES, Table};
use super::{csv, idx, npy, npz};

/// The formats that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma, semicolon or tab separated text.
    Csv,
    /// One NumPy array.
    Npy,
    /// A zip archive of NumPy arrays.
    Npz,
    /// Apache Parquet.
    Parquet,
    /// The format of MNIST.
    Idx,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Csv => "CSV",
            Self::Npy => "NPY",
            Self::Npz => "NPZ",
            Self::Parquet => "Parquet",
            Self::Idx => "IDX",
        })
    }
}

/// Why bytes are no table.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing there.
    #[error("the file is empty")]
    Empty,
    /// Packed as a whole.
    #[error("the file is compressed with gzip; unpack it first")]
    Gzip,
    /// Neither a known binary format nor text.
    #[error("byte {position} is not UTF-8 text, and the file is not NPY, NPZ, Parquet or IDX")]
    NotText {
        /// Offset of the first such byte.
        position: usize,
    },
    /// Rows of different lengths.
    #[error("row {row} has {found} fields, the first row has {expected}")]
    Ragged {
        /// Data row, from 1.
        row: usize,
        /// Its fields.
        found: usize,
        /// Those of the first row.
        expected: usize,
    },
    /// A name that two columns have.
    #[error(
        "columns {first} and {second}, counted from 0, are both called `{name}`; give each its \
         own name"
    )]
    SameName {
        /// The name.
        name: String,
        /// Position of the first that has it.
        first: usize,
        /// Position of the next one.
        second: usize,
    },
    /// A file whose header contradicts its format.
    #[error("not a valid {format} file: {what}")]
    Malformed {
        /// Which format.
        format: Format,
        /// What is wrong.
        what: &'static str,
    },
    /// Fewer or more bytes than the header says.
    #[error("the {format} header announces {announced} bytes of data, the file has {found}")]
    Length {
        /// Which format.
        format: Format,
        /// By the header.
        announced: u64,
        /// In the file.
        found: u64,
    },
    /// Too many numbers.
    #[error("{entries} numbers are more than the {MAX_ENTRIES} a data set may have")]
    TooLarge {
        /// How many.
        entries: u64,
    },
    /// A NumPy type that holds no real numbers.
    #[error("numpy type `{descr}` is not supported; use a float, integer or boolean type")]
    Dtype {
        /// As NumPy writes it.
        descr: String,
    },
    /// An array that is no list of rows.
    #[error("an array of {dimensions} dimensions has no rows and columns; use 1 to 4 dimensions")]
    Dimensions {
        /// How many it has.
        dimensions: usize,
    },
    /// Arrays of one NPZ file with different numbers of rows.
    #[error("array `{array}` has {found} rows, the first array has {expected}")]
    Rows {
        /// Its name.
        array: String,
        /// Its rows.
        found: usize,
        /// Those of the first array.
        expected: usize,
    },
    /// A broken CSV record.
    #[error(transparent)]
    Csv(#[from] ::csv::Error),
    /// A broken archive.
    #[error("not a valid NPZ file: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// An archive that cannot be unpacked.
    #[error("not a valid NPZ file: {0}")]
    Unpack(#[from] std::io::Error),
    /// A broken Parquet file.
    #[cfg(feature = "parquet")]
    #[error("not a valid Parquet file: {0}")]
    Parquet(#[from] ::parquet::errors::ParquetError),
    /// Parquet columns inside columns.
    #[error("Parquet column `{column}` is nested or repeated; store plain columns")]
    Nested {
        /// Its path.
        column: String,
    },
    /// Built without the decoder.
    #[error("this build reads no Parquet files; use CSV, NPY or NPZ")]
    NoParquet,
}

/// Reads a table.
///
/// # Errors
/// [`ReadError`]; never a panic, whatever the bytes are.
pub fn read(bytes: &[u8]) -> Result<Table, ReadError> {
    match bytes {
        [] => Err(ReadError::Empty),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => npy::read(bytes),
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => npz::read(bytes),
        [b'P', b'A', b'R', b'1', ..] => parquet(bytes),
        [0, 0, 8..=14, 1..=8, ..] => idx::read(bytes),
        [0x1f, 0x8b, ..] => Err(ReadError::Gzip),
        _ => csv::read(bytes),
    }
}

#[cfg(feature = "parquet")]
fn parquet(bytes: &[u8]) -> Result<Table, ReadError> {
    super::parquet::read(bytes)
}

#[cfg(not(feature = "parquet"))]
fn parquet(_: &[u8]) -> Result<Table, ReadError> {
    Err(ReadError::NoParquet)
}

/// Names of columns: nobody could tell which of two is meant.
pub(super) fn distinct<'n>(names: impl Iterator<Item = Option<&'n str>>) -> Result<(), ReadError> {
    let mut known = HashMap::new();
    for (second, name) in names.enumerate() {
        let Some(name) = name else { continue };
        if let Some(first) = known.insert(name, second) {
            return Err(ReadError::SameName {
                name: name.to_owned(),
                first,
                second,
            });
        }
    }
    Ok(())
}

/// The product of an array's sizes, if a data set may have as many numbers.
pub(super) fn entries(sizes: &[u64]) -> Result<usize, ReadError> {
    let entries = sizes.iter().try_fold(1u64, |p, s| p.checked_mul(*s));
    match entries {
        Some(entries) if entries <= MAX_ENTRIES => Ok(entries as usize),
        entries => Err(ReadError::TooLarge {
            entries: entries.unwrap_or(u64::MAX),
        }),
    }
}

/// An array of 1 to 4 dimensions, row-major, as a table: the first dimension
/// counts rows; three or four dimensions are images.
pub(super) fn array(name: Option<&str>, shape: &[u64], values: &[f64]) -> Result<Table, ReadError> {
    let size = |i: usize| shape[i] as usize;
    let image = match shape.len() {
        1 | 2 => None,
        3 => Some([size(1), size(2), 1]),
        4 => Some([size(1), size(2), size(3)]),
        dimensions => return Err(ReadError::Dimensions { dimensions }),
    };
    let table = Table::from_matrix(name, size(0), values);
    Ok(Table { image, ..table })
}
