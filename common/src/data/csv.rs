//! CSV: numbers with or without a header.
//!
//! * The separator is whichever of comma, semicolon and tab is most frequent in
//!   the first line.
//! * The first line is a header when none of its fields is a number.
//! * A field that is empty, `NA`, `NaN` or `null` in any case is an empty cell.
//! * A column with any other text is a text column; only a column of class
//!   labels may be one.

use super::read::{ReadError, distinct, entries};
use super::table::{Cells, Table, TableColumn, Texts};

/// A cell's text.
enum Cell {
    Empty,
    Number(f64),
    Text,
}

fn cell(text: &str) -> Cell {
    if text.is_empty()
        || ["na", "nan", "null"]
            .iter()
            .any(|e| text.eq_ignore_ascii_case(e))
    {
        return Cell::Empty;
    }
    text.parse().map_or(Cell::Text, Cell::Number)
}

pub(super) fn read(bytes: &[u8]) -> Result<Table, ReadError> {
    let text = std::str::from_utf8(bytes).map_err(|e| ReadError::NotText {
        position: e.valid_up_to(),
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(position) = text.bytes().position(|b| b == 0) {
        return Err(ReadError::NotText { position });
    }
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(separator(text))
        .has_headers(false)
        .flexible(true)
        .trim(::csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut names: Option<Vec<Option<String>>> = None;
    let mut columns: Vec<Cells> = Vec::new();
    let mut rows = 0;
    for (i, record) in reader.records().enumerate() {
        let record = record?;
        if i == 0 {
            columns.resize(record.len(), Cells::Numbers(Vec::new()));
            if is_header(&record) {
                let name = |field: &str| (!field.is_empty()).then(|| field.to_owned());
                let header: Vec<_> = record.iter().map(name).collect();
                distinct(header.iter().map(Option::as_deref))?;
                names = Some(header);
                continue;
            }
        }
        rows += 1;
        if record.len() != columns.len() {
            return Err(ReadError::Ragged {
                row: rows,
                found: record.len(),
                expected: columns.len(),
            });
        }
        entries(&[rows as u64, columns.len() as u64])?;
        for (cells, field) in columns.iter_mut().zip(&record) {
            push(cells, field);
        }
    }
    let mut names = names.unwrap_or_default().into_iter();
    let columns = columns.into_iter().map(|cells| TableColumn {
        name: names.next().flatten(),
        cells,
    });
    Ok(Table {
        columns: columns.collect(),
        rows,
        image: None,
    })
}

fn separator(text: &str) -> u8 {
    let first = text.lines().next().unwrap_or_default();
    let count = |b: u8| first.bytes().filter(|c| *c == b).count();
    // The last of equals wins: a comma, if nothing separates at all.
    [b'\t', b';', b',']
        .into_iter()
        .max_by_key(|b| count(*b))
        .unwrap_or(b',')
}

fn is_header(record: &::csv::StringRecord) -> bool {
    let any_text = record.iter().any(|f| matches!(cell(f), Cell::Text));
    any_text && !record.iter().any(|f| matches!(cell(f), Cell::Number(_)))
}

fn push(cells: &mut Cells, field: &str) {
    match (&mut *cells, cell(field)) {
        (Cells::Numbers(values), Cell::Number(x)) => values.push(x),
        (Cells::Numbers(values), Cell::Empty) => values.push(f64::NAN),
        (Cells::Numbers(values), Cell::Text) => {
            // Numbers so far are labels like any other from here on.
            let mut texts = Texts::default();
            for x in values {
                texts.push((!x.is_nan()).then(|| x.to_string()).as_deref());
            }
            texts.push(Some(field));
            *cells = Cells::Text(texts);
        }
        (Cells::Text(texts), Cell::Empty) => texts.push(None),
        (Cells::Text(texts), _) => texts.push(Some(field)),
        (Cells::Unsupported(_), _) => {}
    }
}
