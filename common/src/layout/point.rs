//! Points: a θ as a file, array by array.
//!
//! Two forms, told apart by their first bytes:
//!
//! * NPZ, as `minima/TASK.npz`: one array per name;
//! * JSON: `{"parameters": {"W": [[…]], …}}`, or the inner map alone; other
//!   keys beside `parameters` are left to whoever else reads the file.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::{ParamArray, parameters};
use crate::data::{ReadError, npz_arrays};

/// Why a file is no point of a network.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    /// Not an archive of arrays.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Not JSON.
    #[error("neither NPZ nor JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Something else than nested lists of numbers.
    #[error("array `{array}` is not a list of numbers, or of equally long lists of them")]
    NotAnArray {
        /// Its name.
        array: String,
    },
    /// Another shape.
    #[error("array `{array}` has shape {found:?}, the network needs {expected:?}")]
    Shape {
        /// Its name.
        array: String,
        /// In the file.
        found: Vec<usize>,
        /// Of the network.
        expected: Vec<usize>,
    },
    /// An array that the network has and the file has not.
    #[error("array `{array}` of shape {expected:?} is missing")]
    Missing {
        /// Its name.
        array: String,
        /// Of the network.
        expected: Vec<usize>,
    },
    /// An array that the network does not have.
    #[error("the network has no array `{array}`; it has {known}")]
    Unknown {
        /// Its name.
        array: String,
        /// Those of the network.
        known: String,
    },
    /// What stands for a number of JSON and is none that can be computed with.
    #[error("array `{array}` has {text} at position {position}, which is no finite number")]
    NoNumber {
        /// The key that it belongs to.
        array: String,
        /// Row-major.
        position: usize,
        /// As written.
        text: String,
    },
    /// A key of JSON that stands twice in one map.
    #[error("`{key}` stands twice")]
    Twice {
        /// The key.
        key: String,
    },
    /// A number that is none.
    #[error("array `{array}` has a number that is not finite, at position {position} of {shape:?}")]
    NotFinite {
        /// Its name.
        array: String,
        /// Row-major.
        position: usize,
        /// Its shape.
        shape: Vec<usize>,
    },
}

type Named = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

/// θ in the flat order of `arrays` from the bytes of a file.
///
/// # Errors
/// [`PointError`]: the array to blame, with both shapes.
pub fn read_point(bytes: &[u8], arrays: &[ParamArray]) -> Result<Vec<f64>, PointError> {
    let mut named = if bytes.starts_with(b"PK") {
        from_npz(bytes)?
    } else {
        from_json(bytes)?
    };
    let mut theta = Vec::with_capacity(parameters(arrays));
    for array in arrays {
        let expected = array.shape.clone();
        let Some((found, values)) = named.remove(&array.name) else {
            return Err(PointError::Missing {
                array: array.name.clone(),
                expected,
            });
        };
        if found != expected {
            return Err(PointError::Shape {
                array: array.name.clone(),
                found,
                expected,
            });
        }
        if let Some(position) = values.iter().position(|v| !v.is_finite()) {
            return Err(PointError::NotFinite {
                array: array.name.clone(),
                position,
                shape: found,
            });
        }
        theta.extend(values);
    }
    match named.into_keys().next() {
        None => Ok(theta),
        Some(array) => Err(PointError::Unknown {
            array,
            known: arrays
                .iter()
                .map(|a| a.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

fn from_npz(bytes: &[u8]) -> Result<Named, PointError> {
    let list = npz_arrays(bytes)?;
    Ok(list
        .into_iter()
        .map(|(name, shape, values)| (name, (shape.iter().map(|s| *s as usize).collect(), values)))
        .collect())
}

/// JSON whose keys stand once and whose numbers are finite, both of which the parser would leave
/// unsaid, or say without a name.
///
/// # Errors
/// [`PointError`]: the key or array to blame, or where it is no JSON.
pub fn read_json(bytes: &[u8]) -> Result<Value, PointError> {
    look_through(bytes)?;
    Ok(serde_json::from_slice(bytes)?)
}

/// Finds keys that stand twice and numbers that are none, in what may be JSON.
fn look_through(bytes: &[u8]) -> Result<(), PointError> {
    // The maps and lists that are open, with the keys of the maps.
    let mut open: Vec<HashSet<String>> = Vec::new();
    let (mut key, mut position) = (String::new(), 0);
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let length = match byte {
            b'"' => text_length(rest),
            b'{' | b'[' | b'}' | b']' | b',' | b':' => 1,
            space if space.is_ascii_whitespace() => 1,
            _ => {
                let ends = |b: &u8| b"{}[],:\"".contains(b) || b.is_ascii_whitespace();
                rest.iter().position(ends).unwrap_or(rest.len())
            }
        };
        let (token, after) = rest.split_at(length);
        at += length;
        match byte {
            b'{' | b'[' => open.push(HashSet::new()),
            b'}' | b']' => drop(open.pop()),
            b',' | b':' => {}
            space if space.is_ascii_whitespace() => {}
            b'"' if after.trim_ascii_start().starts_with(b":") => {
                key = serde_json::from_slice(token)?;
                position = 0;
                if open
                    .last_mut()
                    .is_some_and(|keys| !keys.insert(key.clone()))
                {
                    return Err(PointError::Twice { key });
                }
            }
            b'"' => position += 1,
            _ => {
                let text = String::from_utf8_lossy(token);
                if text.parse::<f64>().is_ok_and(|number| !number.is_finite()) {
                    return Err(PointError::NoNumber {
                        array: key,
                        position,
                        text: text.chars().take(40).collect(),
                    });
                }
                position += 1;
            }
        }
    }
    Ok(())
}

/// Bytes of the text that begins here, with its quotes; all there are if it does not end.
fn text_length(bytes: &[u8]) -> usize {
    let mut escaped = true;
    for (i, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return i + 1,
            _ => {}
        }
    }
    bytes.len()
}

fn from_json(bytes: &[u8]) -> Result<Named, PointError> {
    let value = read_json(bytes)?;
    let map = value.get("parameters").unwrap_or(&value);
    let Some(map) = map.as_object() else {
        return Err(PointError::NotAnArray {
            array: "parameters".into(),
        });
    };
    let mut named = Named::new();
    for (name, value) in map {
        let (mut shape, mut values) = (Vec::new(), Vec::new());
        if !flatten(value, 0, &mut shape, &mut values) {
            return Err(PointError::NotAnArray {
                array: name.clone(),
            });
        }
        named.insert(name.clone(), (shape, values));
    }
    Ok(named)
}

/// Appends the numbers of nested lists; false if their lengths differ.
fn flatten(value: &Value, depth: usize, shape: &mut Vec<usize>, values: &mut Vec<f64>) -> bool {
    match value {
        Value::Array(items) if depth < 4 => {
            match shape.get(depth) {
                None if values.is_empty() => shape.push(items.len()),
                Some(length) if *length == items.len() => {}
                _ => return false,
            }
            items
                .iter()
                .all(|item| flatten(item, depth + 1, shape, values))
        }
        Value::Number(number) if depth == shape.len() => {
            values.push(number.as_f64().unwrap_or(f64::NAN));
            true
        }
        // How results write numbers that JSON cannot.
        Value::String(text) if depth == shape.len() && text.parse::<f64>().is_ok() => {
            values.push(f64::NAN);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::arrays;
    use super::*;
    use crate::spec::{Body, FileRef, Skip};

    fn table() -> Vec<ParamArray> {
        let file = FileRef {
            path: String::new(),
            sha256: String::new(),
        };
        // W [2, 13], V [13, 7]
        arrays(Body::Table(file), Skip::Outer)
    }

    fn json(w: (usize, usize), v: (usize, usize)) -> String {
        let rows = |(r, c): (usize, usize)| vec![vec![0.5; c]; r];
        serde_json::json!({"parameters": {"W": rows(w), "V": rows(v)}, "loss": "squared"})
            .to_string()
    }

    #[test]
    fn a_point_is_read_in_the_flat_order() {
        let theta = read_point(json((2, 13), (13, 7)).as_bytes(), &table()).unwrap();
        assert_eq!(theta, vec![0.5; 2 * 13 + 13 * 7]);
    }

    #[test]
    fn mistakes_name_the_array_and_both_shapes() {
        let error = |text: &str| {
            read_point(text.as_bytes(), &table())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            error(&json((2, 12), (13, 7))),
            "array `W` has shape [2, 12], the network needs [2, 13]"
        );
        assert_eq!(
            error(r#"{"W": [[1, 2], [3]]}"#),
            "array `W` is not a list of numbers, or of equally long lists of them"
        );
        assert_eq!(
            error(r#"{"V": []}"#),
            "array `W` of shape [2, 13] is missing"
        );
        let extra = json((2, 13), (13, 7)).replace("\"V\"", "\"A1\": [1], \"V\"");
        assert_eq!(error(&extra), "the network has no array `A1`; it has W, V");
        let inf = json((2, 13), (13, 7)).replacen("0.5", "\"NaN\"", 1);
        assert_eq!(
            error(&inf),
            "array `V` has a number that is not finite, at position 0 of [13, 7]"
        );
        for (written, shown) in [
            ("NaN", "NaN"),
            ("-Infinity", "-Infinity"),
            ("1e999", "1e999"),
        ] {
            let text = json((2, 13), (13, 7)).replacen("0.5,0.5", &format!("0.5, {written}"), 1);
            assert_eq!(
                error(&text),
                format!("array `V` has {shown} at position 1, which is no finite number")
            );
        }
        let twice = json((2, 13), (13, 7)).replace("\"V\"", "\"W\": [[1]], \"\\u0056\"");
        assert_eq!(error(&twice), "`W` stands twice");
        assert!(error(r#"{"W": [1, "no end"#).starts_with("neither NPZ nor JSON"));
        assert!(error("PK nonsense").contains("NPZ"));
        assert!(error("nonsense").starts_with("neither NPZ nor JSON"));
    }
}
