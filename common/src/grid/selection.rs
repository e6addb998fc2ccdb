//! `exclude` and `include`: what is taken from the product and added to it.

use std::collections::BTreeMap;

use super::axis::{self, Values};
use super::product::{Axis, Dimension, Product, intersect, shown};
use super::space::Exclusion;
use crate::decode::{Decoder, Draft, Field, Given, Setting};
use crate::diagnostic::{Diagnostic, Span};
use crate::node::{Node, Value};

/// The entries of a section that is a list of maps.
fn entries<'n>(decoder: &mut Decoder<'_>, node: Option<&'n Node>, section: &str) -> &'n [Node] {
    match node.map(|n| (n, &n.value)) {
        None | Some((_, Value::Null | Value::Invalid)) => &[],
        Some((_, Value::Seq(items))) => items,
        Some((node, _)) => {
            let message = format!("`{section}` is a list of maps, found {}", node.kind());
            decoder.error(Diagnostic::error(node.span, message));
            &[]
        }
    }
}

/// Reads `exclude`. With `sound` unset only its notation is looked at.
pub(super) fn exclusions(
    decoder: &mut Decoder<'_>,
    node: Option<&Node>,
    dimensions: &[Dimension],
    base: &Draft,
    sound: bool,
) -> Vec<Exclusion> {
    let mut exclusions = Vec::new();
    for entry in entries(decoder, node, "exclude") {
        let Some(map) = decoder.map(entry, "an entry of `exclude`") else {
            continue;
        };
        let given = decoder.fields(map, "", &[]);
        let mut asked = Vec::with_capacity(given.len());
        for g in &given {
            if let Some(values) = any_of(decoder, g) {
                asked.push((g, values));
            }
        }
        if sound && asked.len() == given.len() {
            exclusions.extend(exclusion(decoder, entry.span, &asked, dimensions, base));
        }
    }
    exclusions
}

/// A value, or a list of values of which any matches.
fn any_of(decoder: &mut Decoder<'_>, given: &Given<'_>) -> Option<Vec<Setting>> {
    match axis::read(decoder, given.field, given.field.name(), given.node, true)? {
        Values::List(list) => Some(list.into_iter().map(|(setting, _)| setting).collect()),
        rule => {
            const MOST: u64 = 10_000;
            if rule.len() > MOST {
                let message = format!("an entry of `exclude` names at most {MOST} values");
                decoder.error(Diagnostic::error(given.node.span, message));
                return None;
            }
            Some((0..rule.len()).map(|p| rule.at(p)).collect())
        }
    }
}

fn exclusion(
    decoder: &mut Decoder<'_>,
    span: Span,
    asked: &[(&Given<'_>, Vec<Setting>)],
    dimensions: &[Dimension],
    base: &Draft,
) -> Option<Exclusion> {
    let mut positions: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for (given, values) in asked {
        let field = given.field;
        let name = field.name();
        let values_text = values.iter().map(shown).collect::<Vec<_>>().join(" or ");
        let column = dimensions.iter().enumerate().find_map(|(i, d)| {
            let column = d.columns().find(|(f, _)| *f == field);
            column.map(|(_, values)| (i, values))
        });
        let Some((dimension, column)) = column else {
            let everywhere = base.get(field);
            if !values.contains(&everywhere) {
                let message = format!(
                    "this excludes nothing: `{name}` is never {values_text}, always {}",
                    shown(&everywhere)
                );
                decoder.error(Diagnostic::error(given.node.span, message));
                return None;
            }
            continue;
        };
        let found: Vec<u64> = values.iter().flat_map(|v| column.positions(v)).collect();
        if found.is_empty() {
            let message =
                format!("this excludes nothing: axis `{name}` has no value {values_text}");
            let axis = dimensions[dimension]
                .axes
                .iter()
                .find(|a| a.columns.iter().any(|(f, _)| *f == field));
            let mut mistake = Diagnostic::error(given.node.span, message);
            if let Some(axis) = axis {
                mistake = mistake.also(axis.span, "its values");
            }
            decoder.error(mistake);
            return None;
        }
        intersect(&mut positions, dimension, found);
    }
    if positions.values().any(Vec::is_empty) {
        let message = "this excludes nothing: these values never stand together";
        decoder.error(Diagnostic::error(span, message));
        return None;
    }
    if positions.is_empty() {
        let message = "this excludes every combination";
        decoder.error(Diagnostic::error(span, message).help("name values of axes"));
        return None;
    }
    Some(Exclusion { positions })
}

/// Reads `include`. With `sound` unset only its notation is looked at.
pub(super) fn includes(
    decoder: &mut Decoder<'_>,
    node: Option<&Node>,
    dimensions: &[Dimension],
    base: &Draft,
    sound: bool,
) -> Vec<Product> {
    let mut products = Vec::new();
    for entry in entries(decoder, node, "include") {
        let Some(map) = decoder.map(entry, "an entry of `include`") else {
            continue;
        };
        let given = decoder.fields(map, "", &[]);
        let mut read = Vec::with_capacity(given.len());
        for g in &given {
            let values = axis::read(decoder, g.field, g.field.name(), g.node, true);
            read.extend(values.map(|v| (*g, v)));
        }
        if sound && read.len() == given.len() && names_the_axes(decoder, entry, &given, dimensions)
        {
            products.extend(included(decoder, entry, read, base));
        }
    }
    products
}

/// Every axis and nothing else.
fn names_the_axes(
    decoder: &mut Decoder<'_>,
    entry: &Node,
    given: &[Given<'_>],
    dimensions: &[Dimension],
) -> bool {
    let axes = || dimensions.iter().flat_map(|d| &d.axes);
    let fields_of = |axis: &Axis| axis.columns.iter().map(|(f, _)| *f).collect::<Vec<Field>>();
    let missing: Vec<String> = axes()
        .filter(|axis| {
            !fields_of(axis)
                .iter()
                .any(|f| given.iter().any(|g| g.field == *f))
        })
        .map(|axis| format!("`{}`", axis.name))
        .collect();
    let mut good = missing.is_empty();
    if !good {
        let message = format!("this task has no {}", missing.join(", "));
        let mistake = Diagnostic::error(entry.span, message);
        decoder.error(mistake.note("an entry of `include` names every axis"));
    }
    for g in given {
        if !axes().any(|axis| fields_of(axis).contains(&g.field)) {
            let message = format!("`{}` is no axis of this grid", g.field.name());
            let mistake = Diagnostic::error(g.key, message);
            decoder.error(mistake.note("an entry of `include` names the axes and nothing else"));
            good = false;
        }
    }
    good
}

fn included(
    decoder: &mut Decoder<'_>,
    entry: &Node,
    read: Vec<(Given<'_>, Values)>,
    base: &Draft,
) -> Option<Product> {
    let axis = |(given, values): (Given<'_>, Values)| Axis {
        name: given.field.name().to_string(),
        span: given.node.span,
        columns: vec![(given.field, values)],
        rows: Vec::new(),
    };
    let dimensions = read
        .into_iter()
        .map(|r| Dimension::new(vec![axis(r)]))
        .collect();
    match Product::new(base.clone(), dimensions, &[]) {
        Ok(product) => Some(product),
        Err(why) => {
            decoder.error(Diagnostic::error(entry.span, why.to_string()));
            None
        }
    }
}
