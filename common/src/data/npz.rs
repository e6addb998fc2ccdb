//! NPZ: a zip archive of NumPy arrays, as `numpy.savez` writes it.
//!
//! Each array gives columns of its name, in the order of the archive; all
//! arrays have the same number of rows. A single array of images keeps its shape.

use std::io::{Cursor, Read};

use zip::ZipArchive;

use super::npy;
use super::read::{Format, ReadError};
use super::table::{MAX_ENTRIES, Table};

/// Most bytes of one unpacked array: all the numbers a data set may have, and a header.
const MAX_BYTES: u64 = 8 * MAX_ENTRIES + (1 << 16);

/// Name, shape and row-major values of an array.
pub type NamedArray = (String, Vec<u64>, Vec<f64>);

/// The arrays of an archive by name, with their shapes.
///
/// # Errors
/// [`ReadError`]; never a panic, whatever the bytes are.
pub fn arrays(bytes: &[u8]) -> Result<Vec<NamedArray>, ReadError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    let mut entries = 0;
    let mut list = Vec::new();
    for i in 0..archive.len() {
        let (name, content) = member(&mut archive, i)?;
        let (shape, values) = npy::parse(&content)?;
        entries += values.len() as u64;
        if entries > MAX_ENTRIES {
            return Err(ReadError::TooLarge { entries });
        }
        list.push((name, shape, values));
    }
    Ok(list)
}

/// Name and unpacked bytes of one array.
fn member(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    i: usize,
) -> Result<(String, Vec<u8>), ReadError> {
    let mut file = archive.by_index(i)?;
    let Some(name) = file.name().strip_suffix(".npy").map(str::to_owned) else {
        return Err(ReadError::Malformed {
            format: Format::Npz,
            what: "it holds a file that is not .npy",
        });
    };
    // The size in the directory is only a claim: read no further than allowed.
    let mut content = Vec::new();
    file.by_ref()
        .take(MAX_BYTES + 1)
        .read_to_end(&mut content)?;
    if content.len() as u64 > MAX_BYTES {
        let entries = MAX_ENTRIES + 1;
        return Err(ReadError::TooLarge { entries });
    }
    Ok((name, content))
}

pub(super) fn read(bytes: &[u8]) -> Result<Table, ReadError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    let mut table = Table::default();
    let mut entries = 0;
    for i in 0..archive.len() {
        let (name, content) = member(&mut archive, i)?;
        let part = npy::read_named(Some(&name), &content)?;
        entries += part.rows as u64 * part.columns.len() as u64;
        if entries > MAX_ENTRIES {
            return Err(ReadError::TooLarge { entries });
        }
        if i == 0 {
            table.rows = part.rows;
        } else if part.rows != table.rows {
            return Err(ReadError::Rows {
                array: name,
                found: part.rows,
                expected: table.rows,
            });
        }
        // Images, if exactly one array is: then the others are targets and masks.
        table.image = table.image.or(part.image);
        table.columns.extend(part.columns);
    }
    Ok(table)
}
