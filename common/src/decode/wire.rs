//! What one program sends another: specifications as JSON.

use std::sync::Arc;

use super::{Decoder, Draft, Field, Given, RULES};
use crate::diagnostic::{Diagnostic, Diagnostics, Mistakes, Source};
use crate::ids::from_hex;
use crate::node::{self, Limits, Map, Node};
use crate::spec::{CellSpec, Start, TaskSpec};

/// Reads a task: `{"cell": {…}, "seed": 0, "start": "standard"}`.
///
/// # Errors
/// All mistakes of the text, and combinations of values that no engine runs.
pub fn decode_task(json: &str) -> Result<TaskSpec, Mistakes> {
    decode("task", json, |decoder, node| {
        let map = decoder.map(node, "a task")?;
        decoder.known_keys(map, "a task", &["cell", "seed", "start"]);
        let mut draft = Draft::default();
        if let Some(cell) = required(decoder, node, map, "cell", "a task") {
            let map = decoder.map(cell, "a cell")?;
            fill(decoder, cell, map, &mut draft);
        }
        for field in [Field::Seed, Field::Start] {
            if let Some(node) = required(decoder, node, map, field.name(), "a task")
                && let Some(setting) = decoder.setting(field, node)
            {
                draft.set(field, &setting);
            }
        }
        check(decoder, node, &draft)
    })
}

/// Reads a cell.
///
/// # Errors
/// All mistakes of the text, and combinations of values that no engine runs.
pub fn decode_cell(json: &str) -> Result<Arc<CellSpec>, Mistakes> {
    decode("cell", json, |decoder, node| {
        let map = decoder.map(node, "a cell")?;
        let mut draft = Draft::default();
        fill(decoder, node, map, &mut draft);
        check(decoder, node, &draft).map(|task| task.cell)
    })
}

/// Reads a start.
///
/// # Errors
/// All mistakes of the text.
pub fn decode_start(json: &str) -> Result<Start, Mistakes> {
    decode("start", json, |decoder, node| decoder.start(node))
}

fn decode<T>(
    name: &str,
    json: &str,
    read: impl FnOnce(&mut Decoder<'_>, &Node) -> Option<T>,
) -> Result<T, Mistakes> {
    let mut diagnostics = Diagnostics::new();
    let value = node::parse(json, Limits::WIRE, &mut diagnostics)
        .and_then(|node| read(&mut Decoder::wire(&mut diagnostics), &node));
    match value {
        Some(value) if !diagnostics.has_errors() => Ok(value),
        _ => Err(Mistakes {
            source: Source {
                name: name.to_string(),
                text: json.to_string(),
            },
            diagnostics,
        }),
    }
}

fn required<'n>(
    decoder: &mut Decoder<'_>,
    owner: &Node,
    map: &'n Map,
    key: &str,
    what: &str,
) -> Option<&'n Node> {
    let found = map.get(key);
    if found.is_none() {
        decoder.error(Diagnostic::error(
            owner.span,
            format!("{what} has no `{key}`"),
        ));
    }
    found
}

fn fill(decoder: &mut Decoder<'_>, node: &Node, map: &Map, draft: &mut Draft) {
    let given = decoder.fields(map, "", &["sweep"]);
    if let Some(node) = map.get("sweep") {
        draft.cell.sweep = sweep(decoder, node);
    }
    if !given.iter().any(|g| g.field == Field::Data) {
        decoder.error(Diagnostic::error(node.span, "a cell has no `data`"));
    }
    for Given { field, key, node } in given {
        if field.is_of_run() {
            let message = format!("`{}` is not part of a cell", field.name());
            decoder.error(Diagnostic::error(key, message));
        } else if let Some(setting) = decoder.setting(field, node) {
            draft.set(field, &setting);
        }
    }
}

/// The hash of the grid that a cell belongs to.
fn sweep(decoder: &mut Decoder<'_>, node: &Node) -> Option<[u8; 32]> {
    match from_hex(decoder.text(node, "`sweep`")?) {
        Ok(hash) => Some(hash),
        Err(why) => {
            let message = format!("`sweep` is no SHA-256: {why}");
            decoder.error(Diagnostic::error(node.span, message));
            None
        }
    }
}

fn check(decoder: &mut Decoder<'_>, node: &Node, draft: &Draft) -> Option<TaskSpec> {
    let task = draft.finish();
    if !decoder.diagnostics.has_errors() {
        for problem in RULES.iter().filter_map(|rule| (rule.check)(&task)) {
            let mistake = Diagnostic::error(node.span, problem.message);
            decoder.error(mistake.maybe_help(problem.help));
        }
    }
    Some(task)
}
