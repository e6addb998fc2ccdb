//! A product of axes over fixed values: the listed part of a grid.

use std::collections::BTreeMap;

use super::axis::Values;
use super::space::{Exclusion, Space, SpaceError, Walk};
use crate::decode::{Draft, Field, Setting};
use crate::diagnostic::Span;
use crate::spec::{Body, DataSpec, Loss, Start};

/// One axis as written: a name and its values.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// As written.
    pub(super) name: String,
    /// Where the values stand.
    pub(super) span: Span,
    /// The fields it sets, each with a value per position.
    pub(super) columns: Vec<(Field, Values)>,
    /// Where each value stands, for an axis of several fields.
    pub(super) rows: Vec<Span>,
}

impl Axis {
    pub(super) fn len(&self) -> u64 {
        self.columns.first().map_or(0, |(_, values)| values.len())
    }

    /// Where the value at a position stands.
    pub(super) fn span_at(&self, position: u64) -> Span {
        let row = self.rows.get(position as usize).copied();
        let own = || {
            self.columns
                .first()
                .and_then(|(_, values)| values.span(position))
        };
        row.or_else(own).unwrap_or(self.span)
    }

    /// Whether every value is in a list of its own.
    pub(super) fn is_list(&self) -> bool {
        self.columns
            .iter()
            .all(|(_, v)| matches!(v, Values::List(_)))
    }
}

/// Axes that advance together; most stand alone.
#[derive(Clone, Debug)]
pub(super) struct Dimension {
    pub(super) axes: Vec<Axis>,
    pub(super) len: u64,
    /// Whether a cell depends on the position.
    pub(super) of_cell: bool,
    /// Whether seed or start do.
    of_run: bool,
}

impl Dimension {
    /// Of axes of one length.
    pub(super) fn new(axes: Vec<Axis>) -> Self {
        let len = axes.iter().map(Axis::len).min().unwrap_or(0);
        let columns = || axes.iter().flat_map(|a| &a.columns);
        let of_cell = columns().any(|(field, _)| !field.is_of_run());
        let of_run = columns().any(|(field, _)| field.is_of_run());
        Self {
            axes,
            len,
            of_cell,
            of_run,
        }
    }

    pub(super) fn columns(&self) -> impl Iterator<Item = &(Field, Values)> {
        self.axes.iter().flat_map(|a| &a.columns)
    }

    pub(super) fn sets(&self, field: Field) -> bool {
        self.columns().any(|(f, _)| *f == field)
    }

    pub(super) fn apply(&self, position: u64, draft: &mut Draft) {
        for (field, values) in self.columns() {
            match values {
                // The innermost loop of a sweep: no clone of the setting.
                Values::List(list) => draft.set(*field, &list[position as usize].0),
                rule => draft.set(*field, &rule.at(position)),
            }
        }
    }
}

/// The combinations of some dimensions, in order, without the excluded ones.
#[derive(Clone, Debug)]
pub(super) struct Product {
    /// Everything that no dimension sets.
    pub(super) base: Draft,
    pub(super) dimensions: Vec<Dimension>,
    pub(super) space: Space,
    /// The factor of each dimension's position in the number of a cell; 0
    /// where the cell does not depend on it.
    factors: Vec<u64>,
}

impl Product {
    /// Whether a run may begin at a given point.
    pub(super) fn has_points(&self) -> bool {
        let is_point = |setting: &Setting| matches!(setting, Setting::Start(Start::Point(_)));
        let columns = || self.dimensions.iter().flat_map(Dimension::columns);
        matches!(self.base.start, Start::Point(_))
            || columns().any(|(_, values)| match values {
                Values::List(list) => list.iter().any(|(setting, _)| is_point(setting)),
                Values::Whole { .. } | Values::Real { .. } => false,
            })
    }

    pub(super) fn new(
        base: Draft,
        dimensions: Vec<Dimension>,
        exclusions: &[Exclusion],
    ) -> Result<Self, SpaceError> {
        let lens = dimensions.iter().map(|d| d.len).collect();
        let space = Space::new(lens, exclusions)?;
        let mut factors = vec![0; dimensions.len()];
        let mut factor = 1_u64;
        for (i, dimension) in dimensions.iter().enumerate().rev() {
            if dimension.of_cell {
                factors[i] = factor;
                // No overflow: the space has at most 2⁶³ combinations.
                factor = factor.saturating_mul(dimension.len);
            }
        }
        Ok(Self {
            base,
            dimensions,
            space,
            factors,
        })
    }

    /// The number of the cell that a combination belongs to.
    pub(super) fn cell(&self, positions: &[u64]) -> u64 {
        positions
            .iter()
            .zip(&self.factors)
            .map(|(p, f)| p * f)
            .sum()
    }

    /// The values of a combination.
    pub(super) fn draft(&self, positions: &[u64]) -> Draft {
        let mut draft = self.base.clone();
        for (dimension, &position) in self.dimensions.iter().zip(positions) {
            dimension.apply(position, &mut draft);
        }
        draft
    }

    /// Seed and start of a combination.
    pub(super) fn of_run(&self, positions: &[u64]) -> (u64, &Start) {
        let (mut seed, mut start) = (self.base.seed, &self.base.start);
        for (dimension, &position) in self.dimensions.iter().zip(positions) {
            if !dimension.of_run {
                continue;
            }
            for (field, values) in dimension.columns().filter(|(field, _)| field.is_of_run()) {
                match values {
                    Values::Whole {
                        start: first, step, ..
                    } => seed = first + position * step,
                    Values::List(list) => match &list[position as usize].0 {
                        Setting::Whole(x) => seed = *x,
                        Setting::Start(x) => start = x,
                        other => debug_assert!(false, "{field:?} cannot be {other:?}"),
                    },
                    Values::Real { .. } => debug_assert!(false, "{field:?} is no real number"),
                }
            }
        }
        (seed, start)
    }

    /// The dimension that sets a field.
    pub(super) fn dimension_of(&self, field: Field) -> Option<usize> {
        self.dimensions.iter().position(|d| d.sets(field))
    }

    /// The combination of a set of values, if it is one.
    pub(super) fn find(&self, draft: &Draft) -> Option<Vec<u64>> {
        let mut positions = Vec::with_capacity(self.dimensions.len());
        for dimension in &self.dimensions {
            let mut columns = dimension
                .columns()
                .map(|(f, v)| v.positions(&draft.get(*f)));
            let first = columns.next()?;
            let rest: Vec<Vec<u64>> = columns.collect();
            positions.push(
                first
                    .into_iter()
                    .find(|p| rest.iter().all(|r| r.contains(p)))?,
            );
        }
        let same = self.draft(&positions) == *draft;
        same.then_some(positions)
    }

    pub(super) fn walk(&self, from: u64) -> ProductWalk<'_> {
        ProductWalk {
            product: self,
            walk: self.space.walk(from),
            draft: self.base.clone(),
            last: Vec::new(),
        }
    }
}

/// Walks the combinations and keeps the values that changed up to date.
#[derive(Clone, Debug)]
pub(super) struct ProductWalk<'a> {
    product: &'a Product,
    walk: Walk<'a>,
    pub(super) draft: Draft,
    last: Vec<u64>,
}

/// What a step of a walk did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stepped {
    /// The number of the cell it came to.
    pub(super) cell: u64,
    /// Whether that is another one than before (or the first).
    pub(super) entered: bool,
}

impl ProductWalk<'_> {
    pub(super) fn step(&mut self) -> Option<Stepped> {
        let positions = self.walk.next_positions()?;
        let mut entered = self.last.is_empty();
        if self.last.len() == positions.len() {
            for (i, (&new, old)) in positions.iter().zip(&mut self.last).enumerate() {
                if new != *old {
                    *old = new;
                    let dimension = &self.product.dimensions[i];
                    dimension.apply(new, &mut self.draft);
                    entered |= dimension.of_cell;
                }
            }
        } else {
            self.last = positions.to_vec();
            self.draft = self.product.draft(positions);
        }
        let cell = self.product.cell(&self.last);
        Some(Stepped { cell, entered })
    }
}

/// Positions on one dimension that an exclusion asks for.
pub(super) fn intersect(into: &mut BTreeMap<usize, Vec<u64>>, dimension: usize, new: Vec<u64>) {
    match into.get_mut(&dimension) {
        None => {
            into.insert(dimension, new);
        }
        Some(old) => old.retain(|p| new.contains(p)),
    }
}

/// The value that a list axis of one field has at a position, for messages.
pub(super) fn shown(setting: &Setting) -> String {
    let text = match setting {
        Setting::Flag(x) => x.to_string(),
        Setting::Whole(x) => x.to_string(),
        Setting::Real(x) | Setting::Seconds(Some(x)) => x.to_string(),
        Setting::Seconds(None) | Setting::Image(None) => "null".into(),
        Setting::Data(data) => match data.as_ref() {
            DataSpec::Named(name) => name.clone(),
            DataSpec::File(file) => file.file.file.clone(),
            DataSpec::Generate(generator) => format!("generated ({})", generator.generate.name()),
        },
        Setting::Features(x) => notation(x),
        Setting::Body(Body::Table(file)) => format!("{{table: {}}}", file.path),
        Setting::Body(x) => x.name().into(),
        Setting::Activation(x) => notation(x),
        Setting::Skip(x) => x.name().into(),
        Setting::Image(Some(x)) => notation(x),
        Setting::Loss(Loss::Huber { delta: 1.0 }) => "huber".into(),
        Setting::Loss(x) => notation(x),
        Setting::Optimizer(x) => x.name().into(),
        Setting::Start(Start::Point(file)) => format!("{{point: {}}}", file.path),
        Setting::Start(x) => notation(x),
    };
    crate::diagnostic::shown(&text)
}

/// As a person would write it in a grid, without the quotes.
fn notation<T: serde::Serialize>(value: &T) -> String {
    let json = serde_json::to_string(value).unwrap_or_default();
    json.replace('"', "").replace(':', ": ").replace(',', ", ")
}
