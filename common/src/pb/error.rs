//! What is wrong with a field of a received message.

use std::fmt;

/// A field of a received message does not hold what it must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Names from the outermost field to the innermost.
    path: Vec<Step>,
    /// What is wrong with it.
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(&'static str),
    Index(usize),
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not there, or no alternative of a oneof set.
    #[error("is missing")]
    Missing,
    /// Bytes of another length than the field's kind has.
    #[error("has {found} bytes instead of {expected}")]
    Length {
        /// Bytes it must have.
        expected: usize,
        /// Bytes it has.
        found: usize,
    },
    /// More than a message may hold.
    #[error("has {found} entries or bytes, more than {limit}")]
    TooLong {
        /// Most it may have.
        limit: usize,
        /// What it has.
        found: usize,
    },
    /// A number of an enum that this version does not know.
    #[error("has the unknown value {value}")]
    UnknownValue {
        /// The value.
        value: i32,
    },
    /// A number outside its range.
    #[error("is {value}, which must be {required}")]
    Range {
        /// The value.
        value: String,
        /// The range in words.
        required: &'static str,
    },
    /// A key of a cell or baseline that was not sent or has been forgotten.
    #[error("names the unknown key {key}")]
    UnknownKey {
        /// The key.
        key: u32,
    },
    /// Bytes that cannot be decoded.
    #[error("cannot be decoded: {reason}")]
    Undecodable {
        /// The decoder's words.
        reason: String,
    },
}

impl FieldError {
    /// `problem` at the field `name`.
    pub(crate) fn new(name: &'static str, problem: Problem) -> Self {
        Self {
            path: vec![Step::Field(name)],
            problem,
        }
    }

    /// The field `name` is missing.
    pub(crate) fn missing(name: &'static str) -> Self {
        Self::new(name, Problem::Missing)
    }

    /// The same error seen from the message that holds this one in `name`.
    pub(crate) fn within(mut self, name: &'static str) -> Self {
        self.path.insert(0, Step::Field(name));
        self
    }

    /// The same error seen from the list that holds this message at `index`.
    pub(crate) fn at(mut self, index: usize) -> Self {
        self.path.insert(0, Step::Index(index));
        self
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("field `")?;
        for (position, step) in self.path.iter().enumerate() {
            match step {
                Step::Field(name) if position == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        write!(f, "` {}", self.problem)
    }
}

impl std::error::Error for FieldError {}
