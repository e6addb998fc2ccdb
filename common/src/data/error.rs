//! What can be wrong with data, from file to arrays.

use super::read::ReadError;

/// Why a data set could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No such named set.
    #[error("there is no data set `{name}`; the shipped ones are {known}")]
    UnknownName {
        /// As asked for.
        name: String,
        /// Those that exist, separated by commas.
        known: String,
    },
    /// The content of a file has not been given.
    #[error("the content of `{path}` is not at hand")]
    NoContent {
        /// As the grid names it.
        path: String,
    },
    /// The bytes are no table.
    #[error("`{path}`: {source}")]
    Read {
        /// As the grid names it.
        path: String,
        /// What is wrong.
        source: ReadError,
    },
    /// The table is no data set.
    #[error("`{path}`: {source}")]
    Columns {
        /// As the grid names it.
        path: String,
        /// What is wrong.
        source: ColumnError,
    },
    /// A generator with impossible sizes.
    #[error(transparent)]
    Generator(#[from] GeneratorError),
}

/// Why columns of a file are no data set.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ColumnError {
    /// A name that no column has.
    #[error("there is no column `{name}`; the file has {known}")]
    UnknownColumn {
        /// As asked for.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// A position beyond the last column.
    #[error("there is no column {index}; the file has columns 0 to {last}")]
    ColumnRange {
        /// As asked for.
        index: usize,
        /// Of the last column.
        last: usize,
    },
    /// One column with two uses.
    #[error("column `{column}` is used twice: as {first} and as {second}")]
    UsedTwice {
        /// Which column.
        column: String,
        /// One use.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// No rows.
    #[error("the file has no rows of data")]
    NoRows,
    /// No columns are left to be inputs.
    #[error("no column is left for the inputs")]
    NoInputs,
    /// No columns at all.
    #[error("the file has no columns")]
    NoColumns,
    /// Something that is not a number where numbers are needed.
    #[error(
        "column `{column}` holds text (`{text}` in row {row}); leave it out of `inputs`, or make \
         it numbers"
    )]
    Text {
        /// Which column.
        column: String,
        /// First row with text, from 1.
        row: usize,
        /// That text.
        text: String,
    },
    /// A type that is neither number nor text.
    #[error("column `{column}` has the type {kind}; leave it out of `inputs`, or make it numbers")]
    Unsupported {
        /// Which column.
        column: String,
        /// Its type.
        kind: String,
    },
    /// An empty cell where there must be none.
    #[error("row {row} has no value in column `{column}`; only targets may be missing")]
    Missing {
        /// From 1.
        row: usize,
        /// Which column.
        column: String,
    },
    /// An infinity.
    #[error("row {row} has the value {value} in column `{column}`; numbers must be finite")]
    NonFinite {
        /// From 1.
        row: usize,
        /// Which column.
        column: String,
        /// As read.
        value: f64,
    },
    /// A mask entry that is neither 0 nor 1.
    #[error("row {row} of mask column `{column}` is {value}; a mask holds 0 and 1")]
    Mask {
        /// From 1.
        row: usize,
        /// Which column.
        column: String,
        /// As read.
        value: f64,
    },
    /// Not one mask column for each target.
    #[error("there are {found} mask columns for {expected} targets; give one for each target")]
    MaskColumns {
        /// Mask columns.
        found: usize,
        /// Targets.
        expected: usize,
    },
    /// Nothing to learn from.
    #[error("no target is observed in any row")]
    NothingObserved,
    /// Inputs and targets of different length.
    #[error("the inputs have {inputs} rows, the target file has {targets}")]
    RowsDiffer {
        /// Of the inputs.
        inputs: usize,
        /// Of the targets.
        targets: usize,
    },
    /// Classes in several columns.
    #[error("classes stand in one target column, {found} are named")]
    ClassColumns {
        /// How many.
        found: usize,
    },
    /// More than one of these.
    #[error("{}", joined(.0))]
    Several(Vec<Self>),
}

impl ColumnError {
    /// One error for all that is wrong, which is at least one thing.
    pub(super) fn all(mut wrong: Vec<Self>) -> Self {
        match wrong.len() {
            1 => wrong.remove(0),
            _ => Self::Several(wrong),
        }
    }
}

fn joined(wrong: &[ColumnError]) -> String {
    let texts: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    texts.join("; and ")
}

/// Why a generator cannot draw.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GeneratorError {
    /// A size outside its range.
    #[error("`{field}` of `{generator}` is {value}; it must be from {min} to {max}")]
    Range {
        /// Which family.
        generator: &'static str,
        /// Which field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// Smallest allowed.
        min: f64,
        /// Largest allowed.
        max: f64,
    },
    /// A teacher without a network.
    #[error("`teacher` needs the fields of a network: body, depth, width, activation")]
    NoTeacher,
    /// A teacher whose network cannot be laid out.
    #[error("the teacher's network: {0}")]
    Teacher(#[from] crate::layout::LayoutError),
    /// A teacher read from a file.
    #[error("a teacher's body cannot be a table")]
    TableTeacher,
    /// More numbers than a data set may have, or monomials than a target.
    #[error("{entries} numbers are more than a generator draws; use fewer rows or inputs")]
    TooLarge {
        /// How many.
        entries: u64,
    },
    /// A teacher that would label for hours.
    #[error("a teacher of {parameters} parameters is too large for {rows} rows")]
    TeacherTooLarge {
        /// Entries of its θ.
        parameters: usize,
        /// n.
        rows: usize,
    },
    /// A teacher whose outputs overflow.
    #[error("the target of row {row} is {value}; use a smaller teacher")]
    NonFinite {
        /// From 1.
        row: usize,
        /// As computed.
        value: f64,
    },
}

/// Why a data set does not suit a loss, or features cannot be made of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PrepareError {
    /// Classes under a loss for counts.
    #[error("loss `{loss}` needs counts, these data have classes")]
    ClassesUnderCounts {
        /// The loss.
        loss: &'static str,
    },
    /// Text among the numbers of a regression's target.
    #[error(
        "target `{column}` holds text (`{text}` in row {row}) among its numbers, and loss `{loss}` \
         is a regression's; write plain numbers, leave cells without a value empty, or say \
         `classes: true` if these are names of classes"
    )]
    TextTarget {
        /// Which column.
        column: String,
        /// First row with text, from 1.
        row: usize,
        /// That text.
        text: String,
        /// The loss.
        loss: &'static str,
    },
    /// Numbers where classes are needed.
    #[error(
        "loss `{loss}` needs {needed}, and target {target} is {value} in row {row}; use \
         `squared`, `huber` or `log_cosh` for regression"
    )]
    NotClasses {
        /// The loss.
        loss: &'static str,
        /// What it needs.
        needed: &'static str,
        /// Column of the target, from 0.
        target: usize,
        /// From 1.
        row: usize,
        /// As given.
        value: f64,
    },
    /// Distributions that are none.
    #[error("loss `cross_entropy` needs rows that sum to 1, row {row} sums to {sum}")]
    RowSum {
        /// From 1.
        row: usize,
        /// Its sum.
        sum: f64,
    },
    /// Counts below 0.
    #[error("loss `poisson` needs targets ≥ 0, and target {target} is {value} in row {row}")]
    NegativeCount {
        /// Column of the target, from 0.
        target: usize,
        /// From 1.
        row: usize,
        /// As given.
        value: f64,
    },
    /// Nothing to tell apart.
    #[error("all rows are of one class; there is nothing to tell apart")]
    OneClass,
    /// A mask under a loss that couples the outputs.
    #[error("loss `cross_entropy` couples its outputs and takes no mask; use `logistic`")]
    MaskUnderCrossEntropy,
    /// φ without entries.
    #[error("every input column is constant and there is no intercept: nothing is left for φ")]
    NoFeatures,
    /// φ with too many entries.
    #[error(
        "φ would have {count} columns on {rows} rows, more numbers than the {} allowed",
        super::MAX_ENTRIES
    )]
    TooManyFeatures {
        /// d_φ.
        count: u64,
        /// n.
        rows: usize,
    },
    /// A column whose variance leaves the f64.
    #[error(
        "{what} {column} cannot be standardised: mean {mean}, standard deviation {deviation}; \
         rescale it"
    )]
    Unscalable {
        /// `input column` or `target`.
        what: &'static str,
        /// Its position, from 0.
        column: usize,
        /// As computed.
        mean: f64,
        /// As computed.
        deviation: f64,
    },
    /// A feature that overflows.
    #[error("feature {feature} of row {row} is {value}; lower the degree, or standardise")]
    NonFiniteFeature {
        /// Its position in φ.
        feature: usize,
        /// From 1.
        row: usize,
        /// As computed.
        value: f64,
    },
}
