//! `axes` and `zip`: what a grid is the product of.

use super::axis::{self, Values};
use super::product::{Axis, Dimension};
use super::sections::{Taken, TakenFields};
use crate::decode::{Decoder, Draft, Field, Name, names_below, resolve};
use crate::diagnostic::{Diagnostic, Span, shown};
use crate::node::{Entry, Node, Value};

/// Most axes of a grid.
const MOST_AXES: usize = 64;

/// Reads `axes`. A field that is taken already is a mistake; the fields of the
/// axes are added to `taken`. Axes with mistakes are left out.
pub(super) fn read_axes(
    decoder: &mut Decoder<'_>,
    node: &Node,
    base: &Draft,
    taken: &mut TakenFields,
) -> Vec<Axis> {
    if node.value == Value::Null {
        return Vec::new();
    }
    let Some(map) = decoder.map(node, "`axes`") else {
        return Vec::new();
    };
    if map.len() > MOST_AXES {
        let message = format!("a grid has at most {MOST_AXES} axes");
        decoder.error(Diagnostic::error(node.span, message));
        return Vec::new();
    }
    let mut axes = Vec::new();
    for entry in map {
        let columns = match resolve(&entry.key) {
            Some(Name::Field(field)) => one_field(decoder, entry, field, taken),
            Some(Name::Group) => group(decoder, entry, base, taken),
            None => {
                decoder.unknown(entry.key_span, &entry.key, "field", &names_below(""));
                look_through(decoder, entry);
                None
            }
        };
        if let Some((columns, rows)) = columns {
            axes.push(Axis {
                name: entry.key.clone(),
                span: entry.value.span,
                columns,
                rows,
            });
        }
    }
    axes
}

type Columns = (Vec<(Field, Values)>, Vec<Span>);

fn one_field(
    decoder: &mut Decoder<'_>,
    entry: &Entry,
    field: Field,
    taken: &mut TakenFields,
) -> Option<Columns> {
    claim(decoder, field, &entry.key, entry.key_span, taken);
    let values = axis::read(decoder, field, &entry.key, &entry.value, false)?;
    Some((vec![(field, values)], Vec::new()))
}

/// An axis whose values are maps. Every field that one of them sets is a field
/// of the axis; where a value does not set it, it has its default.
fn group(
    decoder: &mut Decoder<'_>,
    entry: &Entry,
    base: &Draft,
    taken: &mut TakenFields,
) -> Option<Columns> {
    let rows = axis::read_group(decoder, &entry.key, &entry.value)?;
    let mut fields: Vec<Field> = rows
        .iter()
        .flat_map(|(given, _)| given)
        .map(|g| g.field)
        .collect();
    fields.sort_unstable();
    fields.dedup();
    for &field in &fields {
        claim(decoder, field, field.name(), entry.key_span, taken);
    }
    if fields.is_empty() {
        let message = format!("the values of axis `{}` set nothing", entry.key);
        decoder.error(Diagnostic::error(entry.value.span, message));
        return None;
    }
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        let mut list = Vec::with_capacity(rows.len());
        for (given, span) in &rows {
            let value = match given.iter().find(|g| g.field == field) {
                Some(g) => decoder.setting(field, g.node).map(|s| (s, g.node.span)),
                None => Some((base.get(field), *span)),
            };
            list.push(value?);
        }
        columns.push((field, Values::List(list)));
    }
    Some((columns, rows.iter().map(|(_, span)| *span).collect()))
}

fn claim(decoder: &mut Decoder<'_>, field: Field, name: &str, key: Span, taken: &mut TakenFields) {
    match taken.get(&field) {
        None => {
            taken.insert(field, Taken { key, by_axis: true });
        }
        Some(other) => {
            let message = if other.by_axis {
                format!("`{name}` is the field of two axes")
            } else {
                format!("`{name}` is an axis and has a fixed value")
            };
            let label = if other.by_axis {
                "the other axis"
            } else {
                "fixed here"
            };
            decoder.error(Diagnostic::error(key, message).also(other.key, label));
        }
    }
}

/// Where an axis' name is misspelt its values may be, too: look at them as
/// those of the field that was meant, if that is clear.
fn look_through(decoder: &mut Decoder<'_>, entry: &Entry) {
    let meant = crate::suggest::nearest(&entry.key, names_below(""));
    if let Some(Name::Field(field)) = meant.and_then(resolve) {
        axis::read(decoder, field, &entry.key, &entry.value, false);
    }
}

/// Joins the axes that `zip` names to dimensions, in the order of the axes. `written` are the names
/// of all axes, those that were left out for their mistakes among them.
pub(super) fn zip(
    decoder: &mut Decoder<'_>,
    node: Option<&Node>,
    axes: Vec<Axis>,
    written: &[&str],
) -> Vec<Dimension> {
    let groups = node.map_or_else(Vec::new, |node| zip_groups(decoder, node, &axes, written));
    let mut joined: Vec<Option<usize>> = vec![None; axes.len()];
    for (g, group) in groups.iter().enumerate() {
        for &axis in group {
            joined[axis] = Some(g);
        }
    }
    let mut pending: Vec<Option<Axis>> = axes.into_iter().map(Some).collect();
    let mut dimensions = Vec::new();
    for i in 0..pending.len() {
        let members = match joined[i] {
            None => pending[i].take().into_iter().collect(),
            Some(g) => {
                let members = groups[g].iter().filter_map(|&a| pending[a].take());
                members.collect::<Vec<Axis>>()
            }
        };
        if !members.is_empty() {
            dimensions.push(Dimension::new(members));
        }
    }
    dimensions
}

fn zip_groups(
    decoder: &mut Decoder<'_>,
    node: &Node,
    axes: &[Axis],
    written: &[&str],
) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let items = match &node.value {
        Value::Null => return groups,
        Value::Seq(items) => items,
        _ => {
            decoder.list(node, "`zip`");
            return groups;
        }
    };
    let mut places: Vec<(usize, Span)> = Vec::new();
    for item in items {
        if let Value::Str(name) = &item.value {
            let message = "`zip` is a list of lists of axes".to_string();
            let help = format!("write `zip: [[{}, …]]`", shown(name));
            decoder.error(Diagnostic::error(item.span, message).help(help));
            return Vec::new();
        }
        let Some(names) = decoder.list(item, "a group of `zip`") else {
            continue;
        };
        let mut group: Vec<usize> = Vec::new();
        for name in names {
            let Some(axis) = named_axis(decoder, name, axes, written) else {
                continue;
            };
            if let Some((_, first)) = places.iter().find(|(a, _)| *a == axis) {
                let message = format!("axis `{}` is zipped twice", axes[axis].name);
                decoder.error(Diagnostic::error(name.span, message).also(*first, "first here"));
                continue;
            }
            places.push((axis, name.span));
            group.push(axis);
        }
        if names.len() == 1 {
            let message = "a group of `zip` needs at least two axes";
            decoder.error(Diagnostic::error(item.span, message));
        }
        if let Some((&first, rest)) = group.split_first() {
            for &other in rest {
                let (a, b) = (&axes[first], &axes[other]);
                if a.len() != b.len() {
                    let message = format!(
                        "zipped axes must be equally long: `{}` has {} values, `{}` has {}",
                        a.name,
                        a.len(),
                        b.name,
                        b.len()
                    );
                    let mistake = Diagnostic::error(item.span, message)
                        .also(a.span, format!("{} values", a.len()))
                        .also(b.span, format!("{} values", b.len()));
                    decoder.error(mistake);
                }
            }
        }
        group.sort_unstable();
        groups.push(group);
    }
    groups
}

fn named_axis(
    decoder: &mut Decoder<'_>,
    node: &Node,
    axes: &[Axis],
    written: &[&str],
) -> Option<usize> {
    let name = decoder.text(node, "the name of an axis")?;
    let wanted = resolve(name);
    let is_meant =
        |own: &str| own == name || matches!(wanted, Some(Name::Field(_))) && resolve(own) == wanted;
    let found = axes.iter().position(|axis| is_meant(&axis.name));
    // What is wrong with an axis that was left out has been said.
    if found.is_none() && !written.iter().any(|own| is_meant(own)) {
        decoder.unknown(node.span, name, "axis", written);
    }
    found
}
