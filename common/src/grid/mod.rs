//! A grid file to axes, cells and tasks, lazily.
//!
//! A grid is a number and a rule: [`Grid::len`] tasks, of which
//! [`Grid::task`] makes the n-th and [`Grid::tasks`] walks all, without a list
//! anywhere; a thousand million tasks take as much memory as four. All
//! mistakes of a file are found before anything starts and reported together
//! ([`Mistakes`]): in its notation, in combinations of values that are not
//! excluded, and, through [`Grid::check_data`], in what the data say to them.
//!
//! Order: the product of the axes as written, the last one fastest, zipped
//! axes where the first of them stands; then the `include`s as written.
//!
//! What this module does not do: read data sets, compute identities of tasks
//! ([`crate::canon`]), or know that equal tasks are one.

mod axis;
mod check;
mod dimensions;
mod files;
mod identity;
mod product;
mod schema;
mod sections;
mod selection;
pub mod space;
mod tasks;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use files::{FileSource, Folder, Uploaded};
pub use schema::schema;
pub use tasks::{CellIndex, Cursor, GridTask, Spot, Tasks};

use crate::canon::reads_seed;
use crate::decode::{Draft, Field};
use crate::diagnostic::{Diagnostics, Mistakes, Source, Span};
use crate::ids::BlobId;
use crate::spec::{CellSpec, TaskSpec};
use crate::summary::Rules;
use product::Product;

/// A checked grid.
#[derive(Debug)]
pub struct Grid {
    name: String,
    source: Source,
    /// The product of the axes, then one for each `include`.
    parts: Vec<Product>,
    /// Where the fields stand that have one value.
    fixed: HashMap<Field, Span>,
    rules: Rules,
    search: Option<Search>,
    files: Vec<GridFile>,
    sha256: [u8; 32],
    cells: Mutex<HashMap<CellIndex, Arc<CellSpec>>>,
}

/// `search: {worst: …}`: adaptive runs beside the listed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// How many.
    pub runs: u64,
    /// Runs between two decisions.
    pub round: u64,
    /// Key of the decisions' draws.
    pub seed: u64,
}

/// A file that a grid names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GridFile {
    /// As written.
    pub path: String,
    /// SHA-256 of its content.
    pub id: BlobId,
}

/// What a grid says about one of its axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AxisInfo<'a> {
    /// Its name, as written.
    pub name: &'a str,
    /// The fields it sets.
    pub fields: Vec<Field>,
    /// How many values it has.
    pub len: u64,
}

/// Cells kept by [`Grid::task`]; a random walk over more makes them anew.
const KEPT_CELLS: usize = 1024;

impl Grid {
    /// Reads a grid.
    ///
    /// `name` is shown in messages. Files that the grid names are asked from
    /// `files`, hashed, and not kept.
    ///
    /// # Errors
    /// Everything that is wrong with it, with places.
    pub fn load(name: &str, bytes: &[u8], files: &dyn FileSource) -> Result<Self, Mistakes> {
        sections::load(name, bytes, files)
    }

    /// The sweep's name for people; empty if the grid gives none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many tasks there are, equal ones counted each.
    pub fn len(&self) -> u64 {
        self.parts.iter().map(|p| p.space.len()).sum()
    }

    /// Whether there is none; a grid that was accepted has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many combinations of the axes `exclude` leaves out.
    pub fn excluded(&self) -> u64 {
        self.parts.iter().map(|p| p.space.excluded()).sum()
    }

    /// The n-th task; its cell is shared with other tasks of it made lately.
    pub fn task(&self, n: u64) -> Option<GridTask> {
        let (part, rest) = self.part_of(n)?;
        let product = &self.parts[part];
        let positions = product.space.get(rest)?;
        let draft = product.draft(&positions);
        let index = CellIndex::new(part, product.cell(&positions));
        let cell = self.kept_cell(index, &draft);
        Some(GridTask::new(n, index, cell, draft.seed, &draft.start))
    }

    /// Where the n-th task stands and what its run begins with: [`Grid::task`] without the cell,
    /// which most who ask have already.
    pub fn spot(&self, n: u64) -> Option<Spot<'_>> {
        self.spot_from(n, &mut Cursor::default())
    }

    /// The same for who asks for one after the other: a step from the last one costs less than
    /// the way from the start.
    pub fn spot_from(&self, n: u64, cursor: &mut Cursor) -> Option<Spot<'_>> {
        let follows = cursor.at.take().is_some_and(|at| at + 1 == n);
        if !follows || !self.parts[cursor.part].space.step(&mut cursor.positions) {
            let (part, rest) = self.part_of(n)?;
            cursor.part = part;
            cursor.positions = self.parts[part].space.get(rest)?;
        }
        cursor.at = Some(n);
        let product = &self.parts[cursor.part];
        let (seed, start) = product.of_run(&cursor.positions);
        Some(Spot {
            cell: CellIndex::new(cursor.part, product.cell(&cursor.positions)),
            seed,
            start,
        })
    }

    /// All tasks in order, from the n-th on.
    pub fn tasks(&self, from: u64) -> Tasks<'_> {
        Tasks::new(self, from)
    }

    /// The number of a task, if the grid lists it.
    pub fn find(&self, task: &TaskSpec) -> Option<u64> {
        if task.cell.sweep.is_some_and(|grid| grid != self.sha256) {
            return None;
        }
        let mut before = 0;
        for product in &self.parts {
            let mut draft = Draft {
                cell: CellSpec::clone(&task.cell),
                seed: task.seed,
                start: task.start.clone(),
            };
            draft.cell.sweep = None;
            // What the grid leaves open and a task has: the image of shipped
            // data, and the seed of a task that draws nothing.
            if product.dimension_of(Field::Image).is_none() {
                draft.cell.model.image = product.base.cell.model.image;
            }
            if !reads_seed(&task.cell, &task.start) {
                draft.seed = product.space.get(0).map_or(0, |p| product.draft(&p).seed);
            }
            if let Some(n) = product.find(&draft).and_then(|p| product.space.rank(&p)) {
                return Some(before + n);
            }
            before += product.space.len();
        }
        None
    }

    /// The axes, in the order of the file.
    pub fn axes(&self) -> impl Iterator<Item = AxisInfo<'_>> {
        let axes = self.parts[0].dimensions.iter().flat_map(|d| &d.axes);
        axes.map(|axis| AxisInfo {
            name: &axis.name,
            fields: axis.columns.iter().map(|(field, _)| *field).collect(),
            len: axis.len(),
        })
    }

    /// The factors of the product: the names of the axes that advance together, mostly one, and
    /// how many values they have.
    pub fn factors(&self) -> impl Iterator<Item = (Vec<&str>, u64)> {
        let dimensions = self.parts[0].dimensions.iter();
        dimensions.map(|d| (d.axes.iter().map(|a| a.name.as_str()).collect(), d.len))
    }

    /// When a cell has been tried enough.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// The adaptive search, if one is wanted.
    pub fn search(&self) -> Option<Search> {
        self.search
    }

    /// The files it names, by path.
    pub fn files(&self) -> &[GridFile] {
        &self.files
    }

    /// Whether no run is limited by seconds.
    pub fn is_reproducible(&self) -> bool {
        self.parts.iter().all(|p| {
            p.base.cell.budget.seconds.is_none() && p.dimension_of(Field::Seconds).is_none()
        })
    }

    /// SHA-256 of what the grid says, not of how it says it.
    ///
    /// Enters: the axes with their values in order, fixed values with
    /// defaults, `exclude`, `include`, `search`, the sweep's rules, files by
    /// content. Does not enter: `name`, comments, layout, notation of a value,
    /// the order of sections and of fixed fields, file names. So renaming or
    /// reformatting a grid leaves it the same grid, and anything that changes
    /// a task, their order, or a verdict makes it another.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The text it was read from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    fn part_of(&self, n: u64) -> Option<(usize, u64)> {
        let mut rest = n;
        for (i, part) in self.parts.iter().enumerate() {
            if rest < part.space.len() {
                return Some((i, rest));
            }
            rest -= part.space.len();
        }
        None
    }

    fn kept_cell(&self, index: CellIndex, draft: &Draft) -> Arc<CellSpec> {
        // A panic elsewhere cannot leave the map in a bad state.
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        if cells.len() >= KEPT_CELLS && !cells.contains_key(&index) {
            cells.clear();
        }
        let cell = cells
            .entry(index)
            .or_insert_with(|| self.finish_cell(draft));
        Arc::clone(cell)
    }

    /// The cell of a task. What seconds limit belongs to this grid alone.
    fn finish_cell(&self, draft: &Draft) -> Arc<CellSpec> {
        let mut cell = draft.finish_cell();
        if cell.budget.seconds.is_some() {
            cell.sweep = Some(self.sha256);
        }
        Arc::new(cell)
    }

    fn mistakes(&self, diagnostics: Diagnostics) -> Result<(), Mistakes> {
        if diagnostics.has_errors() {
            return Err(Mistakes {
                source: self.source.clone(),
                diagnostics,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
