//! The columns of `runs.*` and the row of one run.
//!
//! In this order: which run; the fields of its cell; what it found, which is
//! the same whoever computed it; and, under names that begin with
//! `telemetry_`, how it was computed, which is not. `docs/results.md` has them
//! for readers.

use std::collections::HashMap;

use bytes::Bytes;
use common::ids::{TaskId, WorkerId};
use common::record::{Attainment, EigenvalueMethod, RunEvidence};
use common::summary::{BaselineSummary, CellKey, FoundBy, is_trivial, plain, settle};

use crate::store::StoredResult;
use crate::sweep::{Listed, ListedCell};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    /// Seeds go up to 2⁶⁴ − 1.
    Unsigned,
    Float,
    Text,
    /// The task's identity as hexadecimal digits.
    Id,
    /// Milliseconds since 1970.
    Time,
}

/// A column's name and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Whether few values come again and again, so that a dictionary is worth its time.
    pub(super) repeats: bool,
}

/// An entry of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Float(f64),
    /// One of the [`Texts`].
    Text(u32),
    /// That of the row.
    Id,
    Time(u64),
}

impl From<Option<f64>> for Value {
    fn from(value: Option<f64>) -> Self {
        value.map_or(Self::Null, Self::Float)
    }
}

/// A row of the tables.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The task's identity.
    pub(super) id: [u8; Row::DIGITS],
    pub(super) values: Vec<Value>,
}

impl Row {
    /// Hexadecimal digits of an identity.
    pub(super) const DIGITS: usize = 2 * TaskId::BYTES;

    pub(super) fn new() -> Self {
        Self {
            id: [b'0'; Self::DIGITS],
            values: Vec::new(),
        }
    }
}

/// The texts of all rows so far, each once.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    all: Vec<Bytes>,
    numbers: HashMap<Bytes, u32>,
    /// Words of the program, by where they lie.
    words: Vec<(&'static str, u32)>,
}

impl Texts {
    /// A text by its number.
    pub(super) fn get(&self, number: u32) -> &[u8] {
        &self.all[number as usize]
    }

    /// All but the first so many.
    pub(super) fn after(&self, known: usize) -> Vec<Bytes> {
        self.all[known..].to_vec()
    }

    pub(super) fn text(&mut self, text: &str) -> Value {
        if let Some(number) = self.numbers.get(text.as_bytes()) {
            return Value::Text(*number);
        }
        let number = self.all.len() as u32;
        let text = Bytes::copy_from_slice(text.as_bytes());
        self.all.push(text.clone());
        self.numbers.insert(text, number);
        Value::Text(number)
    }

    fn word(&mut self, word: &'static str) -> Value {
        let known = self.words.iter().find(|known| std::ptr::eq(known.0, word));
        if let Some((_, number)) = known {
            return Value::Text(*number);
        }
        let value = self.text(word);
        if let Value::Text(number) = value {
            self.words.push((word, number));
        }
        value
    }
}

fn count(value: u64) -> Value {
    // A count of work, tasks or bytes; 2⁶³ of anything is out of reach.
    Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Before the fields of the cell.
const WHICH: [(&str, Kind, bool); 5] = [
    ("task", Kind::Id, false),
    ("position", Kind::Int, false),
    ("status", Kind::Text, true),
    ("found_by", Kind::Text, true),
    ("cell", Kind::Int, true),
];

/// After the fields of the cell.
const FOUND: [(&str, Kind, bool); 40] = [
    ("seed", Kind::Unsigned, true),
    ("start", Kind::Text, true),
    ("assumptions_broken", Kind::Text, true),
    ("verdict", Kind::Text, true),
    ("certified", Kind::Bool, false),
    ("objective", Kind::Float, false),
    ("value", Kind::Float, false),
    ("excess", Kind::Float, false),
    ("at_baseline", Kind::Bool, false),
    ("trivial", Kind::Bool, false),
    ("baseline_value", Kind::Float, true),
    ("baseline_lower_bound", Kind::Float, true),
    ("baseline_status", Kind::Text, true),
    ("induced_value", Kind::Float, false),
    ("induced_gap", Kind::Float, false),
    ("gap_bound", Kind::Float, false),
    ("gradient_norm", Kind::Float, false),
    ("newton_step", Kind::Float, false),
    ("min_eigenvalue", Kind::Float, false),
    ("max_eigenvalue", Kind::Float, false),
    ("eigenvalue_method", Kind::Text, true),
    ("eigenvalue_failure_probability", Kind::Float, true),
    ("norm_A", Kind::Float, false),
    ("norm_B", Kind::Float, false),
    ("sigma_min_W", Kind::Float, false),
    ("norm_theta", Kind::Float, false),
    ("norm_u", Kind::Float, false),
    ("norm_W", Kind::Float, false),
    ("norm_WV", Kind::Float, false),
    ("kinks", Kind::Int, true),
    ("kink_margin", Kind::Float, false),
    ("kink_slack", Kind::Float, false),
    ("kink_cluster", Kind::Int, true),
    ("refuted", Kind::Int, true),
    ("refuted_excess", Kind::Float, false),
    ("parameters", Kind::Int, true),
    ("evaluations", Kind::Int, false),
    ("gradients", Kind::Int, false),
    ("products", Kind::Int, false),
    ("hessians", Kind::Int, false),
];

/// What differs between honest executions of one task.
const TELEMETRY: [(&str, Kind, bool); 12] = [
    ("telemetry_epoch", Kind::Int, true),
    ("telemetry_attempt", Kind::Int, false),
    ("telemetry_worker", Kind::Text, true),
    ("telemetry_host", Kind::Text, true),
    ("telemetry_program_version", Kind::Text, true),
    ("telemetry_seconds", Kind::Float, false),
    ("telemetry_cpu_seconds", Kind::Float, false),
    ("telemetry_peak_memory", Kind::Int, false),
    ("telemetry_recorded_at", Kind::Time, false),
    ("telemetry_failures", Kind::Int, true),
    ("telemetry_failure_kind", Kind::Text, true),
    ("telemetry_failure_message", Kind::Text, true),
];

/// What became of a planned task.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate<'r> {
    Recorded(&'r StoredResult),
    Failed,
    Cancelled,
    Missing,
}

/// Failed executions of a task.
#[derive(Clone, Debug)]
pub(super) struct Failures {
    pub(super) count: u64,
    /// Of the last one.
    pub(super) kind: &'static str,
    pub(super) message: String,
}

/// What the rows of a cell have in common.
#[derive(Debug)]
struct CellValues {
    number: i64,
    fields: Vec<Value>,
    assumptions_broken: Value,
    baseline: Option<BaselineSummary>,
}

/// The columns of a sweep, and what its rows share.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) columns: Vec<Column>,
    pub(super) texts: Texts,
    cells: HashMap<CellKey, CellValues>,
    workers: HashMap<WorkerId, [Value; 3]>,
}

impl Columns {
    /// For the cells of a sweep, in the order of the summary.
    pub(super) fn new(cells: &[ListedCell]) -> Self {
        let mut names: Vec<&str> = Vec::new();
        for cell in cells {
            for (name, _) in &cell.info.description {
                if !names.contains(&name.as_str()) {
                    names.push(name);
                }
            }
        }
        fn of<'c>(cell: &'c ListedCell, name: &str) -> Option<&'c serde_json::Value> {
            let found = cell.info.description.iter().find(|(own, _)| own == name);
            found.map(|(_, value)| value)
        }
        let kinds: Vec<Kind> = names
            .iter()
            .map(|name| kind_of(cells.iter().filter_map(|cell| of(cell, name))))
            .collect();
        let fixed = |all: &[(&str, Kind, bool)]| -> Vec<Column> {
            all.iter()
                .map(|(name, kind, repeats)| Column {
                    name: (*name).to_owned(),
                    kind: *kind,
                    repeats: *repeats,
                })
                .collect()
        };
        let taken = |name: &str| {
            let all = WHICH.iter().chain(&FOUND).chain(&TELEMETRY);
            all.into_iter().any(|(own, ..)| *own == name)
        };
        let own = names.iter().zip(&kinds).map(|(name, kind)| Column {
            name: if taken(name) {
                format!("cell.{name}")
            } else {
                (*name).to_owned()
            },
            kind: *kind,
            repeats: true,
        });
        let mut columns = fixed(&WHICH);
        columns.extend(own);
        columns.extend(fixed(&FOUND));
        columns.extend(fixed(&TELEMETRY));
        let mut texts = Texts::default();
        let values = |(number, cell): (usize, &ListedCell)| {
            let fields = names.iter().zip(&kinds).map(|(name, kind)| {
                of(cell, name).map_or(Value::Null, |v| value_of(v, *kind, &mut texts))
            });
            let values = CellValues {
                number: number as i64,
                fields: fields.collect(),
                assumptions_broken: texts.text(&cell.info.assumptions_broken.join("; ")),
                baseline: cell.baseline,
            };
            (cell.key, values)
        };
        let cells = cells.iter().enumerate().map(values).collect();
        Self {
            columns,
            texts,
            cells,
            workers: HashMap::new(),
        }
    }

    /// The row of a task; `None` if its cell is not one of the summary's.
    pub(super) fn row(
        &mut self,
        task: &Listed,
        fate: Fate<'_>,
        evidence: Option<&RunEvidence>,
        failures: Option<&Failures>,
        row: &mut Row,
    ) -> Option<()> {
        let texts = &mut self.texts;
        let cell = self.cells.get(&task.cell)?;
        common::ids::hex_digits(&task.id.0, &mut row.id);
        let row = &mut row.values;
        row.clear();
        row.extend([
            Value::Id,
            count(task.position),
            texts.word(match fate {
                Fate::Recorded(_) => "recorded",
                Fate::Failed => "failed",
                Fate::Cancelled => "cancelled",
                Fate::Missing => "missing",
            }),
            texts.word(match task.found_by {
                FoundBy::Grid => "grid",
                FoundBy::Search => "search",
            }),
            Value::Int(cell.number),
        ]);
        row.extend_from_slice(&cell.fields);
        row.extend([
            Value::Unsigned(task.seed),
            texts.text(task.start()),
            cell.assumptions_broken,
        ]);
        found(evidence, cell.baseline.as_ref(), texts, row);
        let result = match fate {
            Fate::Recorded(result) => Some(result),
            _ => None,
        };
        match result {
            Some(result) => {
                let worker = self.workers.entry(result.worker).or_insert_with(|| {
                    [
                        texts.text(&result.worker.to_string()),
                        texts.text(&result.host),
                        texts.text(&result.program_version),
                    ]
                });
                row.push(count(result.attempt.epoch().into()));
                row.push(count(result.attempt.counter().into()));
                row.extend_from_slice(worker);
                row.extend([
                    Value::Float(result.telemetry.seconds),
                    Value::Float(result.telemetry.cpu_seconds),
                    count(result.telemetry.peak_memory),
                    Value::Time(result.recorded_at),
                ]);
            }
            None => row.extend(std::iter::repeat_n(Value::Null, 9)),
        }
        row.push(count(failures.map_or(0, |f| f.count)));
        row.push(failures.map_or(Value::Null, |f| texts.word(f.kind)));
        row.push(failures.map_or(Value::Null, |f| texts.text(&f.message)));
        debug_assert_eq!(row.len(), self.columns.len());
        Some(())
    }
}

/// [`FOUND`] from `verdict` on.
fn found(
    evidence: Option<&RunEvidence>,
    baseline: Option<&BaselineSummary>,
    texts: &mut Texts,
    row: &mut Vec<Value>,
) {
    let number = baseline.map(|b| b.value.0);
    let settled = evidence.map(|e| settle(e.outcome, e.value, number.unwrap_or(f64::NAN)));
    let excess = settled.filter(|_| number.is_some()).map(|s| s.excess);
    let of = |pick: fn(&RunEvidence) -> Option<f64>| Value::from(evidence.and_then(pick));
    let counted = |pick: fn(&RunEvidence) -> u64| evidence.map_or(Value::Null, |e| count(pick(e)));
    row.extend([
        settled.map_or(Value::Null, |s| texts.word(s.verdict.name())),
        settled.map_or(Value::Null, |s| Value::Bool(s.verdict.is_certified())),
        of(|e| Some(e.objective)),
        of(|e| Some(e.value)),
        excess.into(),
        match settled {
            Some(s) if number.is_some() => Value::Bool(s.at_baseline),
            _ => Value::Null,
        },
        evidence.map_or(Value::Null, |e| Value::Bool(is_trivial(e))),
        number.into(),
        baseline.map(|b| b.lower_bound.0).into(),
        baseline.map_or(Value::Null, |b| {
            texts.word(match b.status {
                Attainment::Attained => "attained",
                Attainment::InfimumNotAttained => "infimum_not_attained",
            })
        }),
        of(|e| e.induced_value),
        of(|e| e.induced_value.map(|v| e.value - v)),
        of(|e| e.gap_bound),
        of(|e| Some(e.gradient_norm)),
        of(|e| e.newton_step),
        of(|e| e.min_eigenvalue),
        of(|e| e.max_eigenvalue),
        match evidence.and_then(|e| e.eigenvalue_method) {
            None => Value::Null,
            Some(EigenvalueMethod::Dense) => texts.word("dense"),
            Some(EigenvalueMethod::Cholesky) => texts.word("cholesky"),
            Some(EigenvalueMethod::Lanczos) => texts.word("lanczos"),
        },
        of(|e| e.eigenvalue_failure_probability),
        of(|e| e.norm_a),
        of(|e| e.norm_b),
        of(|e| e.sigma_min_w),
        of(|e| Some(e.norm_theta)),
        of(|e| Some(e.norm_u)),
        of(|e| Some(e.norm_w)),
        of(|e| e.norm_wv),
        counted(|e| e.kinks.into()),
        of(|e| e.kink_margin),
        of(|e| e.kink_slack),
        counted(|e| e.kink_cluster.into()),
        counted(|e| e.refuted.into()),
        of(|e| e.refuted_excess),
        counted(|e| e.parameters),
        counted(|e| e.evaluations),
        counted(|e| e.gradients),
        counted(|e| e.products),
        counted(|e| e.hessians),
    ]);
}

/// The narrowest kind that takes all values of a field.
fn kind_of<'v>(values: impl Iterator<Item = &'v serde_json::Value>) -> Kind {
    let own = |value: &serde_json::Value| match value {
        serde_json::Value::Bool(_) => Kind::Bool,
        serde_json::Value::Number(n) if n.is_i64() => Kind::Int,
        serde_json::Value::Number(n) if n.is_u64() => Kind::Unsigned,
        serde_json::Value::Number(_) => Kind::Float,
        _ => Kind::Text,
    };
    let mut found: Option<Kind> = None;
    for value in values.filter(|value| !value.is_null()) {
        found = Some(match (found, own(value)) {
            (None, kind) => kind,
            (Some(one), other) if one == other => one,
            (Some(Kind::Bool | Kind::Text), _) | (_, Kind::Bool | Kind::Text) => Kind::Text,
            _ => Kind::Float,
        });
    }
    found.unwrap_or(Kind::Text)
}

/// A field's value in its column.
fn value_of(value: &serde_json::Value, kind: Kind, texts: &mut Texts) -> Value {
    match kind {
        _ if value.is_null() => Value::Null,
        Kind::Bool => value.as_bool().map_or(Value::Null, Value::Bool),
        Kind::Int | Kind::Time => value.as_i64().map_or(Value::Null, Value::Int),
        Kind::Unsigned => value.as_u64().map_or(Value::Null, Value::Unsigned),
        Kind::Float => value.as_f64().into(),
        Kind::Text | Kind::Id => texts.text(&plain(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_gets_the_narrowest_kind_that_takes_all_its_values() {
        let kind = |values: &[serde_json::Value]| kind_of(values.iter());
        assert_eq!(kind(&[json!(1), json!(null), json!(-2)]), Kind::Int);
        assert_eq!(kind(&[json!(1), json!(0.5)]), Kind::Float);
        assert_eq!(kind(&[json!(true), json!(false)]), Kind::Bool);
        assert_eq!(kind(&[json!(true), json!(1)]), Kind::Text);
        assert_eq!(kind(&[json!("tanh"), json!({"formula": "t"})]), Kind::Text);
        assert_eq!(kind(&[json!(u64::MAX)]), Kind::Unsigned);
        assert_eq!(kind(&[json!(null)]), Kind::Text);
        let mut texts = Texts::default();
        let two = value_of(&json!(2), Kind::Float, &mut texts);
        assert_eq!(two, Value::Float(2.0));
        let object = value_of(&json!({"b": 1, "a": [2]}), Kind::Text, &mut texts);
        assert_eq!(object, texts.text(r#"{"a":[2],"b":1}"#));
        assert_eq!(texts.get(0), br#"{"a":[2],"b":1}"#);
    }

    #[test]
    fn a_run_without_evidence_has_as_many_entries_as_one_with() {
        let mut with = Vec::new();
        let mut without = Vec::new();
        let run = RunEvidence::empty(common::record::Outcome::Saddle);
        let mut texts = Texts::default();
        found(Some(&run), None, &mut texts, &mut with);
        found(None, None, &mut texts, &mut without);
        assert_eq!(with.len(), FOUND.len() - 3);
        assert_eq!(without, vec![Value::Null; with.len()]);
    }
}
