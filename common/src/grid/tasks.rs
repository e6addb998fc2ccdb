//! Tasks one after another.

use std::collections::HashMap;
use std::sync::Arc;

use super::Grid;
use super::product::ProductWalk;
use crate::canon::reads_seed;
use crate::spec::{CellSpec, Start, TaskSpec};

/// Names a cell within one grid: equal for tasks that share it. Different
/// indices may still describe equal cells; identities tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CellIndex {
    part: u32,
    number: u64,
}

impl CellIndex {
    pub(super) fn new(part: usize, number: u64) -> Self {
        // A part stands for an entry of a text of bounded size.
        let part = u32::try_from(part).unwrap_or(u32::MAX);
        Self { part, number }
    }
}

/// Where a task stands, without its cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spot<'a> {
    /// Its cell.
    pub cell: CellIndex,
    /// The seed as the grid lists it, also where a run does not read it.
    pub seed: u64,
    /// The start.
    pub start: &'a Start,
}

/// Where somebody stands who asks for spots in order; of one grid.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    /// The task it is at, if it is at one.
    pub(super) at: Option<u64>,
    pub(super) part: usize,
    /// Its position on each dimension of the part.
    pub(super) positions: Vec<u64>,
}

/// A task and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct GridTask {
    /// Its number in the grid.
    pub position: u64,
    /// Its cell.
    pub cell: CellIndex,
    /// What is to be run. Where nothing is drawn the seed is 0, so that equal
    /// tasks have equal specifications.
    pub spec: TaskSpec,
}

impl GridTask {
    pub(super) fn new(
        position: u64,
        index: CellIndex,
        cell: Arc<CellSpec>,
        seed: u64,
        start: &Start,
    ) -> Self {
        let seed = if reads_seed(&cell, start) { seed } else { 0 };
        let start = start.clone();
        let spec = TaskSpec { cell, seed, start };
        Self {
            position,
            cell: index,
            spec,
        }
    }
}

/// Cells remembered while walking, for grids whose cells change faster than
/// their seeds.
const REMEMBERED: usize = 65_536;

/// Walks the tasks of a grid in order.
#[derive(Debug)]
pub struct Tasks<'a> {
    grid: &'a Grid,
    position: u64,
    part: usize,
    walk: Option<ProductWalk<'a>>,
    current: Option<(CellIndex, Arc<CellSpec>)>,
    remembered: HashMap<u64, Arc<CellSpec>>,
}

impl<'a> Tasks<'a> {
    pub(super) fn new(grid: &'a Grid, from: u64) -> Self {
        let at = grid.part_of(from);
        Self {
            grid,
            position: from,
            part: at.map_or(grid.parts.len(), |(part, _)| part),
            walk: at.map(|(part, rest)| grid.parts[part].walk(rest)),
            current: None,
            remembered: HashMap::new(),
        }
    }
}

impl Iterator for Tasks<'_> {
    type Item = GridTask;

    fn next(&mut self) -> Option<GridTask> {
        loop {
            let walk = self.walk.as_mut()?;
            let Some(stepped) = walk.step() else {
                self.part += 1;
                self.walk = self.grid.parts.get(self.part).map(|p| p.walk(0));
                self.current = None;
                self.remembered.clear();
                continue;
            };
            let index = CellIndex::new(self.part, stepped.cell);
            let cell = match &self.current {
                Some((last, cell)) if !stepped.entered && *last == index => Arc::clone(cell),
                _ => {
                    if self.remembered.len() >= REMEMBERED {
                        self.remembered.clear();
                    }
                    let made = self.remembered.entry(stepped.cell);
                    let cell = made.or_insert_with(|| self.grid.finish_cell(&walk.draft));
                    self.current = Some((index, Arc::clone(cell)));
                    Arc::clone(cell)
                }
            };
            let task = GridTask::new(
                self.position,
                index,
                cell,
                walk.draft.seed,
                &walk.draft.start,
            );
            self.position += 1;
            return Some(task);
        }
    }
}
