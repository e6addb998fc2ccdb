//! Columns of a file to a data set: which are inputs, targets and mask.

use ndarray::Array2;

use super::dataset::{Dataset, TargetKind};
use super::error::ColumnError;
use super::table::{Cells, Table, TableColumn, Texts};
use crate::spec::{Column, FileData};

/// Makes a data set of a file's columns.
///
/// * Targets: the columns that `targets` names (a name of an NPZ file means all
///   columns of that array), else all columns of the target file, else the last
///   column, or all that share its name.
/// * Mask: 0/1 columns, one for each target, from the file of the targets. An
///   empty target cell is not observed, mask or no mask.
/// * Inputs: the columns that `inputs` names, else all that are left.
/// * Classes: as `classes` says; a target column of text holds classes unless
///   `classes: false`. Classes are numbered in ascending order of their labels.
pub(super) fn assemble(
    table: &Table,
    target_table: Option<&Table>,
    spec: &FileData,
) -> Result<Dataset, ColumnError> {
    let source = target_table.unwrap_or(table);
    if table.columns.is_empty() || source.columns.is_empty() {
        return Err(ColumnError::NoColumns);
    }
    if source.rows != table.rows {
        return Err(ColumnError::RowsDiffer {
            inputs: table.rows,
            targets: source.rows,
        });
    }
    if table.rows == 0 {
        return Err(ColumnError::NoRows);
    }
    // All that is wrong with what is named, then all that is wrong with what it holds.
    let mut wrong = Vec::new();
    let mask = match &spec.mask {
        Some(columns) => select(source, columns, &mut wrong),
        None => Vec::new(),
    };
    let targets = match (spec.targets.as_slice(), target_table) {
        ([], Some(_)) => (0..source.columns.len())
            .filter(|j| !mask.contains(j))
            .collect(),
        ([], None) => last_group(source),
        (columns, _) => select(source, columns, &mut wrong),
    };
    let taken: &[(&'static str, &[usize])] = match target_table {
        None => &[("a target", &targets), ("mask", &mask)],
        Some(_) => &[],
    };
    let inputs = match &spec.inputs {
        Some(columns) => select(table, columns, &mut wrong),
        None => (0..table.columns.len())
            .filter(|j| !taken.iter().any(|(_, own)| own.contains(j)))
            .collect(),
    };
    if inputs.is_empty() && wrong.is_empty() {
        return Err(ColumnError::NoInputs);
    }
    let twice = |table: &Table, j: usize, first, second| ColumnError::UsedTwice {
        column: name(table, j),
        first,
        second,
    };
    for (use_, own) in taken {
        if let Some(j) = own.iter().find(|j| inputs.contains(j)) {
            wrong.push(twice(table, *j, "an input", use_));
        }
    }
    if let Some(j) = targets.iter().find(|j| mask.contains(j)) {
        wrong.push(twice(source, *j, "a target", "mask"));
    }
    // A column that is more than a mask need not hold 0 and 1.
    let is_twice = |error: &ColumnError| matches!(error, ColumnError::UsedTwice { .. });
    let given = if wrong.iter().any(is_twice) {
        Ok(Array2::default((0, 0)))
    } else {
        mask_matrix(source, &mask)
    };
    let given = match given {
        Ok(given) if wrong.is_empty() => given,
        given => {
            wrong.extend(given.err());
            return Err(ColumnError::all(wrong));
        }
    };
    let read = (
        matrix(table, &inputs, false),
        target_matrix(source, &targets, spec.classes),
    );
    let (x, (y, kind, class_names)) = match read {
        (Ok(x), Ok(y)) => (x, y),
        (x, y) => {
            let wrong = [x.err(), y.err()];
            return Err(ColumnError::all(wrong.into_iter().flatten().collect()));
        }
    };
    let observed = observed(&given, &y)?;
    let mut set = Dataset::new(
        x,
        y.mapv(|v| if v.is_nan() { 0.0 } else { v }),
        kind,
        observed,
    );
    if set
        .mask
        .as_ref()
        .is_some_and(|m| m.iter().all(|v| *v == 0.0))
    {
        return Err(ColumnError::NothingObserved);
    }
    // Pixels keep their shape while all of them, and nothing else, are inputs.
    let pixels = |image: &[usize; 3]| image.iter().product::<usize>();
    set.image = table.image.filter(|i| pixels(i) == inputs.len());
    set.input_names = inputs.iter().map(|j| name(table, *j)).collect();
    set.target_names = targets.iter().map(|j| name(source, *j)).collect();
    set.class_names = class_names;
    if let (None, [only]) = (spec.classes, targets.as_slice())
        && let Cells::Text(texts) = &source.columns[*only].cells
    {
        set.text_target = text_among_numbers(texts);
    }
    Ok(set)
}

/// All columns of a table as numbers (a given representation z, row by row).
pub(super) fn numbers(table: &Table) -> Result<Array2<f64>, ColumnError> {
    if table.columns.is_empty() {
        return Err(ColumnError::NoColumns);
    }
    if table.rows == 0 {
        return Err(ColumnError::NoRows);
    }
    let all: Vec<usize> = (0..table.columns.len()).collect();
    matrix(table, &all, false)
}

/// What to call a column in messages: its name, else its position.
fn name(table: &Table, j: usize) -> String {
    let own = table.columns[j].name.clone();
    own.unwrap_or_else(|| j.to_string())
}

/// Positions of the columns that are named; what is wrong with the names goes to `wrong`.
fn select(table: &Table, wanted: &[Column], wrong: &mut Vec<ColumnError>) -> Vec<usize> {
    let mut chosen = Vec::new();
    for column in wanted {
        let found: Vec<usize> = match column {
            Column::Index(j) if *j < table.columns.len() => vec![*j],
            Column::Index(index) => {
                wrong.push(ColumnError::ColumnRange {
                    index: *index,
                    last: table.columns.len() - 1,
                });
                continue;
            }
            Column::Name(wanted) => {
                let named = |c: &TableColumn| c.name.as_ref() == Some(wanted);
                (0..table.columns.len())
                    .filter(|j| named(&table.columns[*j]))
                    .collect()
            }
        };
        if found.is_empty() {
            wrong.push(ColumnError::UnknownColumn {
                name: match column {
                    Column::Name(name) => name.clone(),
                    Column::Index(j) => j.to_string(),
                },
                known: known_names(table),
            });
        }
        chosen.extend(found);
    }
    let mut sorted = chosen.clone();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|w| w[0] == w[1]) {
        wrong.push(ColumnError::UsedTwice {
            column: name(table, pair[0]),
            first: "one entry",
            second: "another entry of one list",
        });
    }
    chosen
}

fn known_names(table: &Table) -> String {
    const SHOWN: usize = 20;
    let mut names: Vec<&str> = table
        .columns
        .iter()
        .filter_map(|c| c.name.as_deref())
        .collect();
    names.dedup();
    if names.is_empty() {
        return format!("no names, only positions 0 to {}", table.columns.len() - 1);
    }
    let more = if names.len() > SHOWN { ", …" } else { "" };
    names.truncate(SHOWN);
    format!("{}{more}", names.join(", "))
}

/// The last column and those before it that share its name.
fn last_group(table: &Table) -> Vec<usize> {
    let last = table.columns.len() - 1;
    let name = &table.columns[last].name;
    let same = |j: &usize| name.is_some() && table.columns[*j].name == *name;
    let first = (0..last).rev().take_while(same).last().unwrap_or(last);
    (first..=last).collect()
}

/// Numbers of some columns, row-major; NaN where a cell is empty, if that is allowed.
fn matrix(
    table: &Table,
    columns: &[usize],
    may_be_empty: bool,
) -> Result<Array2<f64>, ColumnError> {
    let mut out = Array2::zeros((table.rows, columns.len()));
    for (to, j) in columns.iter().enumerate() {
        let column = || name(table, *j);
        let values = match &table.columns[*j].cells {
            Cells::Numbers(values) => values,
            Cells::Text(texts) => {
                let is_text = |text: &str| text.parse::<f64>().is_err();
                let cells = texts.cells.iter().enumerate();
                let code_of = |code: u32| texts.codes.iter().find(|c| *c.1 == code);
                let first = cells
                    .filter_map(|(i, code)| Some((i, code_of((*code)?)?.0)))
                    .find(|(_, text)| is_text(text));
                let (row, text) = first.map_or((1, ""), |(i, text)| (i + 1, text.as_str()));
                return Err(ColumnError::Text {
                    column: column(),
                    row,
                    text: text.chars().take(40).collect(),
                });
            }
            Cells::Unsupported(kind) => {
                return Err(ColumnError::Unsupported {
                    column: column(),
                    kind: kind.clone(),
                });
            }
        };
        for (i, value) in values.iter().enumerate() {
            if value.is_nan() && !may_be_empty {
                return Err(ColumnError::Missing {
                    row: i + 1,
                    column: column(),
                });
            }
            if value.is_infinite() {
                return Err(ColumnError::NonFinite {
                    row: i + 1,
                    column: column(),
                    value: *value,
                });
            }
            out[[i, to]] = *value;
        }
    }
    Ok(out)
}

/// Targets with NaN where they are empty, what they mean, and names of classes.
fn target_matrix(
    table: &Table,
    columns: &[usize],
    classes: Option<bool>,
) -> Result<(Array2<f64>, TargetKind, Vec<String>), ColumnError> {
    let is_text = |j: &usize| matches!(table.columns[*j].cells, Cells::Text(_));
    let as_classes = classes.unwrap_or_else(|| columns.iter().any(is_text));
    if !as_classes {
        let kind = match classes {
            Some(_) => TargetKind::Values,
            None => TargetKind::Undecided,
        };
        return Ok((matrix(table, columns, true)?, kind, Vec::new()));
    }
    let &[only] = columns else {
        let found = columns.len();
        return Err(ColumnError::ClassColumns { found });
    };
    let (indices, names) = match &table.columns[only].cells {
        Cells::Text(texts) => {
            // Texts in their own order, whatever row had one first.
            let mut rank = vec![0; texts.codes.len()];
            for (r, code) in texts.codes.values().enumerate() {
                rank[*code as usize] = r;
            }
            let index = |code: &Option<u32>| code.map_or(f64::NAN, |c| rank[c as usize] as f64);
            let indices: Vec<f64> = texts.cells.iter().map(index).collect();
            (indices, texts.codes.keys().cloned().collect::<Vec<_>>())
        }
        _ => {
            let values = matrix(table, columns, true)?;
            let (indices, labels) = rank_labels(values.iter().copied());
            (indices, labels.iter().map(f64::to_string).collect())
        }
    };
    let classes = names.len();
    let indices = Array2::from_shape_vec((table.rows, 1), indices).expect("one index for each row");
    Ok((indices, TargetKind::Classes { classes }, names))
}

/// The position of each label among the distinct ones in ascending order, and
/// those; NaN stays NaN.
pub(super) fn rank_labels(labels: impl Iterator<Item = f64> + Clone) -> (Vec<f64>, Vec<f64>) {
    // Adding +0 makes −0 and 0 one label.
    let known = labels.clone().filter(|v| !v.is_nan()).map(|v| v + 0.0);
    let mut distinct: Vec<f64> = known.collect();
    distinct.sort_unstable_by(f64::total_cmp);
    distinct.dedup();
    let rank = |v: f64| match distinct.binary_search_by(|d| d.total_cmp(&(v + 0.0))) {
        Ok(rank) => rank as f64,
        Err(_) => f64::NAN,
    };
    (labels.map(rank).collect(), distinct)
}

/// The first text of a column that holds numbers else, with its row: text that a reader of numbers
/// takes for one (`1,234`, `$ 5`) is no name of a class, whatever else it is.
fn text_among_numbers(texts: &Texts) -> Option<(usize, String)> {
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    let looks_like_one = |text: &str| {
        let bare = |c: &char| !",'_$€£%".contains(*c) && !c.is_whitespace();
        is_number(&text.chars().filter(bare).collect::<String>())
    };
    let mut by_code = vec![""; texts.codes.len()];
    for (text, code) in &texts.codes {
        by_code[*code as usize] = text;
    }
    let cells = || {
        texts
            .cells
            .iter()
            .map(|code| Some(by_code[(*code)? as usize]))
    };
    let numbers = cells()
        .flatten()
        .filter(|text| looks_like_one(text))
        .count();
    if 2 * numbers <= cells().flatten().count() {
        return None;
    }
    let text_at = |(i, text): (usize, Option<&str>)| {
        let text = text.filter(|text| !is_number(text))?;
        Some((i + 1, text.chars().take(40).collect()))
    };
    cells().enumerate().find_map(text_at)
}

/// Columns of 0 and 1.
fn mask_matrix(table: &Table, mask: &[usize]) -> Result<Array2<f64>, ColumnError> {
    let given = matrix(table, mask, false)?;
    let wrong = given.indexed_iter().find(|(_, v)| **v != 0.0 && **v != 1.0);
    match wrong {
        Some(((i, j), value)) => Err(ColumnError::Mask {
            row: i + 1,
            column: name(table, mask[j]),
            value: *value,
        }),
        None => Ok(given),
    }
}

/// 1 where a target is there and its mask, if there is one, says so.
fn observed(mask: &Array2<f64>, targets: &Array2<f64>) -> Result<Option<Array2<f64>>, ColumnError> {
    let out = targets.mapv(|v| if v.is_nan() { 0.0 } else { 1.0 });
    if mask.ncols() == 0 {
        return Ok(Some(out));
    }
    if mask.ncols() != targets.ncols() {
        return Err(ColumnError::MaskColumns {
            found: mask.ncols(),
            expected: targets.ncols(),
        });
    }
    Ok(Some(out * mask))
}
