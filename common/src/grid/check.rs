//! Demands on combinations of values: of fields on each other, and of data.
//!
//! A demand involves few fields. It is checked once for every combination of
//! *their* values, and what it turns down is reported only if some task that
//! is not excluded has that combination. Long axes of numbers are represented
//! by their ends and by what exclusions name: the rules' limits on a number
//! are one-sided, so if any value breaks a rule, one of these does.

use std::collections::HashSet;

use super::Grid;
use super::product::{Product, shown};
use crate::decode::{Draft, Field, RULES};
use crate::diagnostic::{Diagnostic, Diagnostics, Mistakes, Span};
use crate::spec::{CellSpec, FileRef, Start};

/// Most combinations that are looked at before axes are represented.
const MOST_COMBINATIONS: u64 = 200_000;
/// Reports of one rule.
const MOST_REPORTS: usize = 20;
/// What decides how data are read and whether they fit.
const DATA_FIELDS: [Field; 10] = [
    Field::Data,
    Field::Standardize,
    Field::Features,
    Field::Intercept,
    Field::Body,
    Field::Bottleneck,
    Field::Cardinality,
    Field::Skip,
    Field::Image,
    Field::Loss,
];

/// Checks what fields demand of each other.
pub(super) fn rules(grid: &Grid, diagnostics: &mut Diagnostics) {
    for rule in RULES {
        let mut reported: HashSet<(Span, String)> = HashSet::new();
        for product in &grid.parts {
            let mut visit = |fixed: &[Option<u64>], draft: &Draft| {
                let Some(problem) = (rule.check)(&draft.finish()) else {
                    return true;
                };
                if !product.space.exists(fixed) {
                    return true;
                }
                let places = places(grid, product, rule.fields, fixed, draft);
                let mistake = at(&places, problem.field, problem.message.clone());
                if reported.insert((mistake.span, problem.message)) {
                    diagnostics.push(mistake.maybe_help(problem.help));
                }
                reported.len() < MOST_REPORTS
            };
            projections(product, rule.fields, &mut visit);
        }
    }
}

impl Grid {
    /// Asks, once for every combination of values that decides it, whether
    /// the data can be read and fit the model and the loss. Returns what
    /// `read` found out, with a cell of that combination.
    ///
    /// # Errors
    /// What `read` said, each at the values it is about.
    pub fn check_data<T>(
        &self,
        mut read: impl FnMut(&CellSpec) -> Result<T, String>,
    ) -> Result<Vec<(CellSpec, T)>, Mistakes> {
        let mut diagnostics = Diagnostics::new();
        let mut found = Vec::new();
        let mut seen: HashSet<String> = HashSet::new();
        for product in &self.parts {
            let mut visit = |fixed: &[Option<u64>], draft: &Draft| {
                let values = DATA_FIELDS.map(|field| draft.get(field));
                if !product.space.exists(fixed) || !seen.insert(format!("{values:?}")) {
                    return true;
                }
                let cell = draft.finish_cell();
                match read(&cell) {
                    Ok(facts) => found.push((cell, facts)),
                    Err(message) => {
                        let places = places(self, product, &DATA_FIELDS, fixed, draft);
                        diagnostics.push(at(&places, Field::Data, message));
                    }
                }
                diagnostics.len() < MOST_REPORTS
            };
            projections(product, &DATA_FIELDS, &mut visit);
        }
        self.mistakes(diagnostics).map(|()| found)
    }

    /// Asks, once for every combination of values that decides it, whether a given θ is one of
    /// the cell's network. Costs nothing where no start is a point.
    ///
    /// # Errors
    /// What `fits` said, each at the values it is about.
    pub fn check_points(
        &self,
        mut fits: impl FnMut(&CellSpec, &FileRef) -> Result<(), String>,
    ) -> Result<(), Mistakes> {
        let own = [Field::Start, Field::Depth, Field::Width];
        let fields: Vec<Field> = own.into_iter().chain(DATA_FIELDS).collect();
        let mut diagnostics = Diagnostics::new();
        let mut seen: HashSet<String> = HashSet::new();
        let mut reported: HashSet<(Span, String)> = HashSet::new();
        for product in self.parts.iter().filter(|part| part.has_points()) {
            let mut visit = |fixed: &[Option<u64>], draft: &Draft| {
                let Start::Point(file) = &draft.start else {
                    return true;
                };
                let values: Vec<_> = fields.iter().map(|field| draft.get(*field)).collect();
                if !product.space.exists(fixed) || !seen.insert(format!("{values:?}")) {
                    return true;
                }
                if let Err(message) = fits(&draft.finish_cell(), file) {
                    let places = places(self, product, &fields, fixed, draft);
                    let mistake = at(&places, Field::Start, message.clone());
                    if reported.insert((mistake.span, message)) {
                        diagnostics.push(mistake);
                    }
                }
                reported.len() < MOST_REPORTS
            };
            projections(product, &fields, &mut visit);
        }
        self.mistakes(diagnostics)
    }
}

/// Visits every combination of values of some fields, with the positions of
/// the dimensions that set them; stops when the visitor says so.
fn projections(
    product: &Product,
    fields: &[Field],
    visit: &mut dyn FnMut(&[Option<u64>], &Draft) -> bool,
) {
    let involved: Vec<usize> = (0..product.dimensions.len())
        .filter(|&i| fields.iter().any(|f| product.dimensions[i].sets(*f)))
        .collect();
    let mut choices: Vec<Vec<u64>> = Vec::with_capacity(involved.len());
    let mut total = 1_u64;
    for &i in &involved {
        let dimension = &product.dimensions[i];
        let listed = dimension.axes.iter().all(super::product::Axis::is_list);
        let fits = total
            .checked_mul(dimension.len)
            .is_some_and(|t| t <= MOST_COMBINATIONS);
        let positions = if listed && fits {
            (0..dimension.len).collect()
        } else {
            product.space.representatives(i)
        };
        total = total.saturating_mul(positions.len() as u64);
        choices.push(positions);
    }
    let mut at = vec![0_usize; choices.len()];
    let mut fixed = vec![None; product.dimensions.len()];
    if choices.iter().any(Vec::is_empty) {
        return;
    }
    loop {
        let mut draft = product.base.clone();
        for ((&i, choice), &position) in involved.iter().zip(&choices).zip(&at) {
            fixed[i] = Some(choice[position]);
            product.dimensions[i].apply(choice[position], &mut draft);
        }
        if !visit(&fixed, &draft) {
            return;
        }
        let mut i = choices.len();
        loop {
            if i == 0 {
                return;
            }
            i -= 1;
            at[i] += 1;
            if at[i] < choices[i].len() {
                break;
            }
            at[i] = 0;
        }
    }
}

struct Place {
    field: Field,
    span: Span,
    label: String,
}

/// Where the values of some fields stand; fields left at their default stand
/// nowhere.
fn places(
    grid: &Grid,
    product: &Product,
    fields: &[Field],
    fixed: &[Option<u64>],
    draft: &Draft,
) -> Vec<Place> {
    let mut places = Vec::new();
    for &field in fields {
        let of_axis = || {
            let dimension = product.dimension_of(field)?;
            let position = fixed[dimension]?;
            let axes = &product.dimensions[dimension].axes;
            let axis = axes
                .iter()
                .find(|a| a.columns.iter().any(|(f, _)| *f == field))?;
            Some(axis.span_at(position))
        };
        if let Some(span) = of_axis().or_else(|| grid.fixed.get(&field).copied()) {
            let label = format!("`{}` is {} here", field.name(), shown(&draft.get(field)));
            places.push(Place { field, span, label });
        }
    }
    places
}

/// A mistake at the place of a field, or else at the first place there is.
fn at(places: &[Place], field: Field, message: String) -> Diagnostic {
    let own = places.iter().position(|p| p.field == field).unwrap_or(0);
    let span = places.get(own).map_or(Span::default(), |p| p.span);
    let mut mistake = Diagnostic::error(span, message);
    for (i, place) in places.iter().enumerate() {
        if i != own {
            mistake = mistake.also(place.span, place.label.clone());
        }
    }
    mistake
}
