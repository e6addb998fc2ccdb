//! NPY: one NumPy array.
//!
//! Format: `\x93NUMPY`, version, length of the header, a Python dictionary with
//! `descr`, `fortran_order` and `shape`, then the numbers
//! (numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
//! Versions 1 to 3; float, integer and boolean types of either byte order.

use ndarray::{ArrayD, IxDyn, ShapeBuilder};

use super::read::{Format, ReadError, array, entries};
use super::table::Table;

fn malformed(what: &'static str) -> ReadError {
    let format = Format::Npy;
    ReadError::Malformed { format, what }
}

pub(super) fn read(bytes: &[u8]) -> Result<Table, ReadError> {
    read_named(None, bytes)
}

/// Reads an array whose columns get a name.
pub(super) fn read_named(name: Option<&str>, bytes: &[u8]) -> Result<Table, ReadError> {
    let (shape, values) = parse(bytes)?;
    array(name, &shape, &values)
}

/// Shape and values, row-major.
pub(super) fn parse(bytes: &[u8]) -> Result<(Vec<u64>, Vec<f64>), ReadError> {
    let (header, data) = split(bytes)?;
    let number = Number::parse(text_value(header, "descr")?)?;
    let fortran = match word_value(header, "fortran_order")? {
        "True" => true,
        "False" => false,
        _ => return Err(malformed("`fortran_order` is neither True nor False")),
    };
    let shape = shape_value(header)?;
    if shape.is_empty() {
        return Err(ReadError::Dimensions { dimensions: 0 });
    }
    let count = entries(&shape)?;
    let announced = count as u64 * number.size as u64;
    if announced != data.len() as u64 {
        return Err(ReadError::Length {
            format: Format::Npy,
            announced,
            found: data.len() as u64,
        });
    }
    let mut values: Vec<f64> = data
        .chunks_exact(number.size)
        .map(|b| number.get(b))
        .collect();
    if fortran {
        values = row_major(&shape, values);
    }
    Ok((shape, values))
}

/// The header's text, and what follows it.
fn split(bytes: &[u8]) -> Result<(&str, &[u8]), ReadError> {
    let short = || malformed("it ends within its header");
    let version = *bytes.get(6).ok_or_else(short)?;
    let (length, start) = match version {
        1 => {
            let b = bytes.get(8..10).ok_or_else(short)?;
            (u64::from(u16::from_le_bytes([b[0], b[1]])), 10)
        }
        2 | 3 => {
            let b = bytes.get(8..12).ok_or_else(short)?;
            (u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]])), 12)
        }
        _ => return Err(malformed("its version is none of 1, 2, 3")),
    };
    let end = usize::try_from(length)
        .ok()
        .and_then(|l| l.checked_add(start))
        .ok_or_else(short)?;
    let header = bytes.get(start..end).ok_or_else(short)?;
    let header = std::str::from_utf8(header).map_err(|_| malformed("its header is not text"))?;
    Ok((header, &bytes[end..]))
}

/// What follows `'key':` in the header.
fn value_of<'h>(header: &'h str, key: &str) -> Result<&'h str, ReadError> {
    let found = ['\'', '"'].iter().find_map(|quote| {
        let (_, rest) = header.split_once(&format!("{quote}{key}{quote}"))?;
        rest.trim_start().strip_prefix(':')
    });
    found
        .map(str::trim_start)
        .ok_or_else(|| malformed("its header lacks `descr`, `fortran_order` or `shape`"))
}

fn text_value<'h>(header: &'h str, key: &str) -> Result<&'h str, ReadError> {
    let value = value_of(header, key)?;
    let quoted = ['\'', '"'].iter().find_map(|quote| {
        let rest = value.strip_prefix(*quote)?;
        rest.split_once(*quote).map(|(inner, _)| inner)
    });
    // A structured type is a list of fields: show how it begins.
    quoted.ok_or_else(|| ReadError::Dtype {
        descr: value.chars().take(40).collect(),
    })
}

fn word_value<'h>(header: &'h str, key: &str) -> Result<&'h str, ReadError> {
    let value = value_of(header, key)?;
    Ok(value.split([',', '}']).next().unwrap_or_default().trim())
}

fn shape_value(header: &str) -> Result<Vec<u64>, ReadError> {
    let wrong = || malformed("its shape is not a tuple of sizes");
    let value = value_of(header, "shape")?;
    let inner = value
        .strip_prefix('(')
        .and_then(|v| v.split_once(')'))
        .ok_or_else(wrong)?
        .0;
    let sizes = inner.split(',').map(str::trim).filter(|s| !s.is_empty());
    // Python 2 wrote long integers as `3L`.
    sizes
        .map(|s| s.trim_end_matches('L').parse().map_err(|_| wrong()))
        .collect()
}

/// A NumPy type of real numbers.
#[derive(Clone, Copy)]
struct Number {
    kind: u8,
    size: usize,
    big: bool,
}

impl Number {
    fn parse(descr: &str) -> Result<Self, ReadError> {
        let unsupported = || ReadError::Dtype {
            descr: descr.chars().take(40).collect(),
        };
        let (big, rest) = match descr.as_bytes() {
            [b'>', rest @ ..] => (true, rest),
            [b'<' | b'|' | b'=', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let (kind, size) = match rest {
            [kind @ (b'b' | b'i' | b'u'), b'1'] => (*kind, 1),
            [kind @ (b'i' | b'u'), b'2'] => (*kind, 2),
            [kind @ (b'f' | b'i' | b'u'), b'4'] => (*kind, 4),
            [kind @ (b'f' | b'i' | b'u'), b'8'] => (*kind, 8),
            _ => return Err(unsupported()),
        };
        Ok(Self { kind, size, big })
    }

    /// The number in `size` bytes. Integers beyond 2⁵³ are rounded.
    fn get(self, bytes: &[u8]) -> f64 {
        let mut word = [0; 8];
        let own = &mut word[..self.size];
        own.copy_from_slice(bytes);
        if self.big {
            own.reverse();
        }
        let bits = u64::from_le_bytes(word);
        match (self.kind, self.size) {
            (b'f', 4) => f64::from(f32::from_bits(bits as u32)),
            (b'f', _) => f64::from_bits(bits),
            (b'i', 1) => f64::from(bits as i8),
            (b'i', 2) => f64::from(bits as i16),
            (b'i', 4) => f64::from(bits as i32),
            (b'i', _) => bits.cast_signed() as f64,
            (b'b', _) => f64::from(u8::from(bits != 0)),
            _ => bits as f64,
        }
    }
}

/// Column-major numbers in row-major order.
fn row_major(shape: &[u64], values: Vec<f64>) -> Vec<f64> {
    let sizes: Vec<usize> = shape.iter().map(|s| *s as usize).collect();
    let array =
        ArrayD::from_shape_vec(IxDyn(&sizes).f(), values).expect("as many values as the sizes say");
    array.iter().copied().collect()
}
