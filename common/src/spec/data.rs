//! Where inputs and targets come from.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::{Activation, Body, FileRef};

/// Where inputs and targets come from.
#[derive(Clone, Debug, PartialEq)]
pub enum DataSpec {
    /// A data set shipped with the program.
    Named(String),
    /// A file of the user's.
    File(FileData),
    /// Drawn by the program.
    Generate(Generator),
}

impl Serialize for DataSpec {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(name) => s.serialize_str(name),
            Self::File(file) => file.serialize(s),
            Self::Generate(generator) => generator.serialize(s),
        }
    }
}

/// The data sets shipped with the program.
pub const NAMED_DATA: [&str; 6] = [
    "diabetes",
    "linnerud",
    "iris",
    "wine",
    "breast_cancer",
    "digits",
];

/// Image shape `[height, width, channels]` of a shipped data set's rows.
pub fn named_image(name: &str) -> Option<[usize; 3]> {
    (name == "digits").then_some([8, 8, 1])
}

/// A data file and how to read it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FileData {
    /// Path and content hash.
    #[serde(flatten)]
    pub file: NamedFile,
    /// Target columns, by name or position; when empty, the last column (or
    /// all of `target_file`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Column>,
    /// Input columns; all columns that are neither target nor mask by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<Column>>,
    /// 0/1 columns, one per target: which targets are observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Vec<Column>>,
    /// `Some(true)`: the target column holds classes; `None`: decided by the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<bool>,
    /// A second file that holds the targets (IDX, NPY).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_file: Option<FileRef>,
}

/// A [`FileRef`] whose path is written under the key `file`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedFile {
    /// As written in the grid.
    pub file: String,
    /// SHA-256 of the file's bytes, lower-case hexadecimal; empty until read.
    pub sha256: String,
}

/// One column of a data file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Column {
    /// By header name (or array name of an NPZ).
    Name(String),
    /// By position, from 0.
    Index(usize),
}

/// A drawn data set, CONTRACT §2 "Generators".
#[derive(Clone, Debug, PartialEq)]
pub struct Generator {
    /// Which family.
    pub generate: GeneratorKind,
    /// n.
    pub rows: usize,
    /// d_in.
    pub inputs: usize,
    /// Columns of the regression target, or classes.
    pub outputs: usize,
    /// Standard deviation of the noise added to the targets.
    pub noise: f64,
    /// Key of the draws.
    pub seed: u64,
    /// The network that labels the inputs (`teacher`).
    pub teacher: Option<Teacher>,
    /// The family's own number, see [`GeneratorKind::parameter`].
    pub parameter: Option<f64>,
}

impl Serialize for Generator {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("generate", self.generate.name())?;
        map.serialize_entry("rows", &self.rows)?;
        map.serialize_entry("inputs", &self.inputs)?;
        map.serialize_entry("outputs", &self.outputs)?;
        if let Some(teacher) = &self.teacher {
            map.serialize_entry("body", &teacher.body)?;
            map.serialize_entry("depth", &teacher.depth)?;
            map.serialize_entry("width", &teacher.width)?;
            if teacher.bottleneck > 0 {
                map.serialize_entry("bottleneck", &teacher.bottleneck)?;
            }
            if teacher.cardinality > 0 {
                map.serialize_entry("cardinality", &teacher.cardinality)?;
            }
            map.serialize_entry("activation", &teacher.activation)?;
        }
        if let (Some((key, _)), Some(value)) = (self.generate.parameter(), self.parameter) {
            map.serialize_entry(key, &value)?;
        }
        map.serialize_entry("noise", &self.noise)?;
        map.serialize_entry("seed", &self.seed)?;
        map.end()
    }
}

/// The families of generated data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "`crate::data` gives formula and source of each"
)]
pub enum GeneratorKind {
    Teacher,
    Linear,
    Polynomial,
    Sawtooth,
    RidgeFunction,
    Spirals,
    RandomLabels,
}

impl GeneratorKind {
    /// All, with their names, in the contract's order.
    pub const NAMED: [(&'static str, Self); 7] = [
        ("teacher", Self::Teacher),
        ("linear", Self::Linear),
        ("polynomial", Self::Polynomial),
        ("sawtooth", Self::Sawtooth),
        ("ridge_function", Self::RidgeFunction),
        ("spirals", Self::Spirals),
        ("random_labels", Self::RandomLabels),
    ];

    /// The name used in grids, results and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Linear => "linear",
            Self::Polynomial => "polynomial",
            Self::Sawtooth => "sawtooth",
            Self::RidgeFunction => "ridge_function",
            Self::Spirals => "spirals",
            Self::RandomLabels => "random_labels",
        }
    }

    /// Name and default of the family's own number: the degree of a
    /// polynomial, the folds of a sawtooth, the frequency of a ridge function,
    /// the turns of a spiral.
    pub fn parameter(self) -> Option<(&'static str, f64)> {
        match self {
            Self::Polynomial => Some(("degree", 3.0)),
            Self::Sawtooth => Some(("folds", 3.0)),
            Self::RidgeFunction => Some(("frequency", 1.0)),
            Self::Spirals => Some(("turns", 1.0)),
            Self::Teacher | Self::Linear | Self::RandomLabels => None,
        }
    }
}

/// The network of `generate: teacher`.
#[derive(Clone, Debug, PartialEq)]
pub struct Teacher {
    /// Any body but `table`; `conv` reads square images of one channel, or lines.
    pub body: Body,
    /// H.
    pub depth: usize,
    /// m.
    pub width: usize,
    /// b, for the bodies that have it; else 0.
    pub bottleneck: usize,
    /// κ, for `aggregated`; else 0.
    pub cardinality: usize,
    /// σ.
    pub activation: Activation,
}
