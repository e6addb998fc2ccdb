//! The values of an axis: a list, or a rule.
//!
//! | notation | values |
//! |---|---|
//! | `[a, b, …]` | as listed |
//! | `{start: s, count: n}` | s, s + 1, …, n of them |
//! | `{from: a, to: b, step: d}` | a + i·d up to b + d/2 |
//! | `{log: {from: a, to: b, count: n}}` | n values with equal ratios; a and b exact, the others rounded to 12 significant digits |
//!
//! The rules `start` and `step` stay rules, however many values they have.

use crate::decode::{Decoder, Field, Given, Setting, Shape};
use crate::diagnostic::{Diagnostic, Span};
use crate::math::scalar;
use crate::node::{Map, Node, Value};

/// Most values of a `{log: …}`; more would be a list in all but name.
const MOST_LOG: u64 = 100_000;
/// Most values of one axis.
const MOST_VALUES: u64 = 1 << 53;

/// What an axis of one field can be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    /// As written.
    List(Vec<(Setting, Span)>),
    /// start + i·step, i < count.
    Whole { start: u64, step: u64, count: u64 },
    /// from + i·step, i < count.
    Real { from: f64, step: f64, count: u64 },
}

impl Values {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::List(list) => list.len() as u64,
            Self::Whole { count, .. } | Self::Real { count, .. } => *count,
        }
    }

    /// The value at a position before the end.
    pub(super) fn at(&self, position: u64) -> Setting {
        match self {
            Self::List(list) => list[position as usize].0.clone(),
            Self::Whole { start, step, .. } => Setting::Whole(start + position * step),
            Self::Real { from, step, .. } => Setting::Real((position as f64).mul_add(*step, *from)),
        }
    }

    /// Where the value at a position stands, if it stands by itself.
    pub(super) fn span(&self, position: u64) -> Option<Span> {
        match self {
            Self::List(list) => list.get(position as usize).map(|(_, span)| *span),
            _ => None,
        }
    }

    /// The positions that hold a value.
    pub(super) fn positions(&self, value: &Setting) -> Vec<u64> {
        match (self, value) {
            (Self::List(list), _) => {
                let same =
                    |(i, (v, _)): (usize, &(Setting, Span))| (v == value).then_some(i as u64);
                list.iter().enumerate().filter_map(same).collect()
            }
            (Self::Whole { start, step, count }, Setting::Whole(x)) => {
                let position = x
                    .checked_sub(*start)
                    .filter(|d| d % step == 0)
                    .map(|d| d / step);
                position.filter(|p| p < count).into_iter().collect()
            }
            (Self::Real { from, step, count }, Setting::Real(x)) => {
                let near = ((x - from) / step).round();
                let near = if near >= 0.0 { near as u64 } else { 0 };
                let around = near.saturating_sub(1)..near.saturating_add(2).min(*count);
                around.filter(|p| self.at(*p) == *value).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Reads the values of an axis of one field. Where `alone` is set a value that
/// stands alone is a list of one.
pub(super) fn read(
    decoder: &mut Decoder<'_>,
    field: Field,
    name: &str,
    node: &Node,
    alone: bool,
) -> Option<Values> {
    let is_number = matches!(field.info().shape, Shape::Whole { .. } | Shape::Real { .. });
    let is_image = |n: &Node| {
        field == Field::Image
            && n.as_seq()
                .is_some_and(|l| l.iter().all(|x| x.as_seq().is_none()))
    };
    match &node.value {
        Value::Seq(_) if !(alone && is_image(node)) => {
            let items = decoder.list(node, &format!("axis `{name}`"))?;
            let read: Vec<Option<(Setting, Span)>> = items
                .iter()
                .map(|n| decoder.setting(field, n).map(|s| (s, n.span)))
                .collect();
            read.into_iter().collect::<Option<_>>().map(Values::List)
        }
        Value::Map(map) if is_number => rule(decoder, field, name, node, map),
        _ if alone => {
            let setting = decoder.setting(field, node)?;
            Some(Values::List(vec![(setting, node.span)]))
        }
        Value::Invalid => None,
        _ => {
            let message = format!(
                "axis `{name}` needs a list of values, found {}",
                node.kind()
            );
            let help = format!("a single value of `{name}` belongs under `fixed`");
            decoder.error(Diagnostic::error(node.span, message).help(help));
            None
        }
    }
}

/// Reads the maps of an axis of a group: each value sets several fields.
pub(super) fn read_group<'n>(
    decoder: &mut Decoder<'_>,
    group: &str,
    node: &'n Node,
) -> Option<Vec<(Vec<Given<'n>>, Span)>> {
    if node.as_seq().is_none() {
        let message = format!("axis `{group}` needs a list of maps, found {}", node.kind());
        decoder.error(Diagnostic::error(node.span, message));
        return None;
    }
    let items = decoder.list(node, &format!("axis `{group}`"))?;
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        let map = decoder.map(item, &format!("a value of axis `{group}`"))?;
        values.push((decoder.fields(map, group, &[]), item.span));
    }
    Some(values)
}

fn rule(
    decoder: &mut Decoder<'_>,
    field: Field,
    name: &str,
    node: &Node,
    map: &Map,
) -> Option<Values> {
    let what = format!("axis `{name}`");
    if let Some(log) = map.get("log") {
        decoder.known_keys(map, &what, &["log"]);
        return logarithmic(decoder, field, name, log);
    }
    if map.get("from").is_some() || map.get("to").is_some() || map.get("step").is_some() {
        decoder.known_keys(map, &what, &["from", "to", "step"]);
        return stepped(decoder, field, name, node, map);
    }
    if map.get("start").is_some() || map.get("count").is_some() {
        decoder.known_keys(map, &what, &["start", "count"]);
        return counted(decoder, field, name, node, map);
    }
    let forms = "`{start, count}`, `{from, to, step}` or `{log: {from, to, count}}`";
    let message = format!("axis `{name}` is a list, {forms}");
    decoder.error(Diagnostic::error(node.span, message));
    None
}

fn part<'n>(decoder: &mut Decoder<'_>, owner: &Node, map: &'n Map, key: &str) -> Option<&'n Node> {
    let found = map.get(key);
    if found.is_none() {
        decoder.error(Diagnostic::error(owner.span, format!("`{key}` is missing")));
    }
    found
}

fn counted(
    decoder: &mut Decoder<'_>,
    field: Field,
    name: &str,
    node: &Node,
    map: &Map,
) -> Option<Values> {
    let Shape::Whole { min, max } = field.info().shape else {
        let message = format!("`{{start, count}}` counts whole numbers, `{name}` is none");
        let help = "use `{from, to, step}` or `{log: {from, to, count}}`";
        decoder.error(Diagnostic::error(node.span, message).help(help));
        return None;
    };
    let start = match map.get("start") {
        None => Some(min),
        Some(start) => decoder.whole(start, "`start`", min, max),
    };
    let count_node = part(decoder, node, map, "count")?;
    let count = decoder.whole(count_node, "`count`", 1, MOST_VALUES);
    let (start, count) = (start?, count?);
    if start.checked_add(count - 1).is_none_or(|last| last > max) {
        let message = format!("axis `{name}` goes beyond {max}");
        decoder.error(Diagnostic::error(node.span, message));
        return None;
    }
    Some(Values::Whole {
        start,
        step: 1,
        count,
    })
}

fn stepped(
    decoder: &mut Decoder<'_>,
    field: Field,
    name: &str,
    node: &Node,
    map: &Map,
) -> Option<Values> {
    let from = part(decoder, node, map, "from");
    let to = part(decoder, node, map, "to");
    let step = part(decoder, node, map, "step");
    let (from, to, step) = (from?, to?, step?);
    let (first, last) = (decoder.setting(field, from), decoder.setting(field, to));
    if matches!(field.info().shape, Shape::Whole { .. }) {
        let step = decoder.whole(step, "`step`", 1, MOST_VALUES);
        let (Setting::Whole(first), Setting::Whole(last)) = (first?, last?) else {
            return None;
        };
        let step = step?;
        if last < first {
            return descending(decoder, node, name);
        }
        // first + i·step ≤ last + step/2, in whole numbers.
        let twice = 2 * u128::from(last - first) + u128::from(step);
        let count = u64::try_from(twice / (2 * u128::from(step)))
            .ok()?
            .checked_add(1)?;
        let end = (count - 1)
            .checked_mul(step)
            .and_then(|d| d.checked_add(first));
        return match end {
            Some(end) if in_range(decoder, field, name, node, end as f64) => Some(Values::Whole {
                start: first,
                step,
                count,
            }),
            _ => None,
        };
    }
    let step = decoder.real_from(step, "`step`", 0.0, true);
    let (first, last) = (real(&first?)?, real(&last?)?);
    let step = step?;
    if last < first {
        return descending(decoder, node, name);
    }
    let count = ((last - first) / step + 0.5).floor() + 1.0;
    if count > MOST_VALUES as f64 {
        let message = format!("axis `{name}` has too many values");
        decoder.error(Diagnostic::error(node.span, message));
        return None;
    }
    let values = Values::Real {
        from: first,
        step,
        count: count as u64,
    };
    if field == Field::Seconds {
        let list = (0..values.len().min(MOST_LOG)).map(|i| real(&values.at(i)));
        let list = list.map(|x| (Setting::Seconds(x), node.span)).collect();
        return Some(Values::List(list));
    }
    Some(values)
}

fn descending(decoder: &mut Decoder<'_>, node: &Node, name: &str) -> Option<Values> {
    let message = format!("axis `{name}` ends before it begins");
    decoder.error(Diagnostic::error(node.span, message).help("let `from` be the smaller one"));
    None
}

fn real(setting: &Setting) -> Option<f64> {
    match setting {
        Setting::Real(x) | Setting::Seconds(Some(x)) => Some(*x),
        Setting::Whole(x) => Some(*x as f64),
        _ => None,
    }
}

fn in_range(decoder: &mut Decoder<'_>, field: Field, name: &str, node: &Node, last: f64) -> bool {
    let Shape::Whole { max, .. } = field.info().shape else {
        return true;
    };
    if last <= max as f64 {
        return true;
    }
    let message = format!("axis `{name}` goes up to {last}, beyond {max}");
    decoder.error(Diagnostic::error(node.span, message));
    false
}

fn logarithmic(decoder: &mut Decoder<'_>, field: Field, name: &str, node: &Node) -> Option<Values> {
    let map = decoder.map(node, "`log`")?;
    decoder.known_keys(map, "`log`", &["from", "to", "count"]);
    let from = part(decoder, node, map, "from");
    let to = part(decoder, node, map, "to");
    let count = part(decoder, node, map, "count");
    let mut end = |node: Option<&Node>, what: &str| {
        let node = node?;
        // Both: in the field's range, and with a logarithm.
        let setting = decoder.setting(field, node)?;
        decoder.real_from(node, what, 0.0, true)?;
        real(&setting)
    };
    let (from, to) = (end(from, "`from`"), end(to, "`to`"));
    let count = decoder.whole(count?, "`count`", 2, MOST_LOG);
    let (from, to, count) = (from?, to?, count?);
    let (a, b) = (scalar::ln(from), scalar::ln(to));
    let mut values = Vec::with_capacity(count as usize);
    for i in 0..count {
        let x = if i == 0 {
            from
        } else if i == count - 1 {
            to
        } else {
            let share = i as f64 / (count - 1) as f64;
            twelve_digits(scalar::exp(share.mul_add(b - a, a)))
        };
        let setting = match field.info().shape {
            Shape::Whole { .. } if x.fract() != 0.0 => {
                let message = format!("axis `{name}` holds whole numbers, and `log` gives {x}");
                let help = "choose ends and a count with whole ratios, or write a list";
                decoder.error(Diagnostic::error(node.span, message).help(help));
                return None;
            }
            Shape::Whole { .. } => Setting::Whole(x as u64),
            Shape::Real { null: true, .. } => Setting::Seconds(Some(x)),
            _ => Setting::Real(x),
        };
        values.push((setting, node.span));
    }
    Some(Values::List(values))
}

/// Rounded to 12 significant digits, to even as printed.
fn twelve_digits(x: f64) -> f64 {
    // Printing and reading decimals is exact arithmetic, the same everywhere.
    format!("{x:.11e}").parse().unwrap_or(x)
}
