//! IDX: the format of MNIST (yann.lecun.com/exdb/mnist).
//!
//! Two zero bytes, a type, the number of dimensions, each size as a big-endian
//! u32, then big-endian numbers. `[n, height, width]` are images of one channel.

use super::read::{Format, ReadError, array, entries};
use super::table::Table;

fn malformed(what: &'static str) -> ReadError {
    let format = Format::Idx;
    ReadError::Malformed { format, what }
}

pub(super) fn read(bytes: &[u8]) -> Result<Table, ReadError> {
    let &[_, _, kind, dimensions, ref rest @ ..] = bytes else {
        return Err(malformed("it ends within its header"));
    };
    let dimensions = usize::from(dimensions);
    let (sizes, data) = rest
        .split_at_checked(4 * dimensions)
        .ok_or_else(|| malformed("it ends within its header"))?;
    let (sizes, _) = sizes.as_chunks::<4>();
    let shape: Vec<u64> = sizes
        .iter()
        .map(|b| u64::from(u32::from_be_bytes(*b)))
        .collect();
    let (size, number): (usize, fn(&[u8]) -> f64) = match kind {
        0x08 => (1, |b| f64::from(b[0])),
        0x09 => (1, |b| f64::from(b[0].cast_signed())),
        0x0B => (2, |b| f64::from(i16::from_be_bytes([b[0], b[1]]))),
        0x0C => (4, |b| {
            f64::from(i32::from_be_bytes([b[0], b[1], b[2], b[3]]))
        }),
        0x0D => (4, |b| {
            f64::from(f32::from_be_bytes([b[0], b[1], b[2], b[3]]))
        }),
        0x0E => (8, |b| {
            f64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
        }),
        _ => return Err(malformed("its type is none of 8, 9, 11, 12, 13, 14")),
    };
    let announced = entries(&shape)? as u64 * size as u64;
    if announced != data.len() as u64 {
        return Err(ReadError::Length {
            format: Format::Idx,
            announced,
            found: data.len() as u64,
        });
    }
    let values: Vec<f64> = data.chunks_exact(size).map(number).collect();
    array(None, &shape, &values)
}
