//! A data file as columns, before anyone says what they are for.

use std::collections::BTreeMap;

/// Most numbers a data set may have: 1 GiB of f64.
pub const MAX_ENTRIES: u64 = 1 << 27;

/// The columns of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// In the order of the file; all have `rows` cells.
    pub columns: Vec<TableColumn>,
    /// n.
    pub rows: usize,
    /// `[height, width, channels]` when the columns are the pixels of images.
    pub image: Option<[usize; 3]>,
}

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub struct TableColumn {
    /// Header name, or name of the array that the column belongs to.
    pub name: Option<String>,
    /// What it holds.
    pub cells: Cells,
}

/// The cells of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Cells {
    /// Numbers; NaN where a cell is empty.
    Numbers(Vec<f64>),
    /// A column with something that is not a number.
    Text(Texts),
    /// A type that is neither, by name.
    Unsupported(String),
}

/// A column of texts, each distinct text stored once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Texts {
    /// The distinct texts and their codes, 0, 1, … in order of appearance.
    pub codes: BTreeMap<String, u32>,
    /// The code of each cell; `None` where it is empty.
    pub cells: Vec<Option<u32>>,
}

impl Texts {
    pub(super) fn push(&mut self, text: Option<&str>) {
        let code = text.map(|text| match self.codes.get(text) {
            Some(code) => *code,
            None => {
                let code = self.codes.len() as u32;
                self.codes.insert(text.to_owned(), code);
                code
            }
        });
        self.cells.push(code);
    }
}

impl Table {
    /// Columns of one name from a row-major matrix.
    pub(super) fn from_matrix(name: Option<&str>, rows: usize, values: &[f64]) -> Self {
        let width = values.len().checked_div(rows).unwrap_or(0);
        let column = |j: usize| TableColumn {
            name: name.map(str::to_owned),
            cells: Cells::Numbers((0..rows).map(|i| values[i * width + j]).collect()),
        };
        Self {
            columns: (0..width).map(column).collect(),
            rows,
            image: None,
        }
    }
}
