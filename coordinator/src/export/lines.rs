//! Rows as CSV and as JSON lines.
//!
//! Numbers are written so that reading them gives the same bits. Those that
//! are not finite are `NaN`, `Infinity`, `-Infinity` in CSV and these words as
//! strings in JSON, as in summary.json; what is absent is empty and null.

use std::io::{self, Write};

use common::summary::Number;

use super::columns::{Column, Row, Texts, Value};
use crate::when;

/// A CSV file being written.
pub(super) struct Csv<W: Write> {
    to: csv::Writer<W>,
    scratch: Vec<u8>,
}

impl<W: Write> Csv<W> {
    pub(super) fn new(to: W, columns: &[Column]) -> io::Result<Self> {
        let mut to = csv::WriterBuilder::new()
            .buffer_capacity(1 << 18)
            .from_writer(to);
        to.write_record(columns.iter().map(|c| c.name.as_bytes()))?;
        Ok(Self {
            to,
            scratch: Vec::new(),
        })
    }

    pub(super) fn row(&mut self, row: &Row, texts: &Texts) -> io::Result<()> {
        for value in &row.values {
            match value {
                Value::Text(number) => self.to.write_field(texts.get(*number))?,
                Value::Id => self.to.write_field(row.id)?,
                other => {
                    self.scratch.clear();
                    plain(other, &mut self.scratch)?;
                    self.to.write_field(&self.scratch)?;
                }
            }
        }
        self.to.write_record(None::<&[u8]>)?;
        Ok(())
    }

    pub(super) fn finish(self) -> io::Result<W> {
        self.to
            .into_inner()
            .map_err(csv::IntoInnerError::into_error)
    }
}

/// A file of JSON objects, one a line.
pub(super) struct JsonLines<W: Write> {
    to: W,
    /// `"name":` of each column.
    keys: Vec<Vec<u8>>,
    line: Vec<u8>,
}

impl<W: Write> JsonLines<W> {
    pub(super) fn new(to: W, columns: &[Column]) -> io::Result<Self> {
        let key = |column: &Column| {
            let mut key = serde_json::to_vec(&column.name)?;
            key.push(b':');
            Ok(key)
        };
        Ok(Self {
            to,
            keys: columns.iter().map(key).collect::<io::Result<_>>()?,
            line: Vec::new(),
        })
    }

    pub(super) fn row(&mut self, row: &Row, texts: &Texts) -> io::Result<()> {
        let mut mark = b'{';
        let string = |text: &[u8], line: &mut Vec<u8>| {
            serde_json::to_writer(line, &String::from_utf8_lossy(text))
        };
        for (key, value) in self.keys.iter().zip(&row.values) {
            self.line.push(mark);
            mark = b',';
            self.line.extend_from_slice(key);
            match value {
                Value::Null => self.line.extend_from_slice(b"null"),
                Value::Text(number) => string(texts.get(*number), &mut self.line)?,
                Value::Id => string(&row.id, &mut self.line)?,
                Value::Float(x) => serde_json::to_writer(&mut self.line, &Number(*x))?,
                Value::Time(_) => {
                    self.line.push(b'"');
                    plain(value, &mut self.line)?;
                    self.line.push(b'"');
                }
                other => plain(other, &mut self.line)?,
            }
        }
        self.line.extend_from_slice(b"}\n");
        if self.line.len() > 1 << 18 {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.write_all(&self.line)?;
        self.line.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        self.to.flush()?;
        Ok(self.to)
    }
}

/// A value that is no text, without quotes.
fn plain(value: &Value, to: &mut Vec<u8>) -> io::Result<()> {
    match value {
        Value::Null | Value::Text(_) | Value::Id => Ok(()),
        Value::Bool(b) => write!(to, "{b}"),
        Value::Int(n) => write!(to, "{n}"),
        Value::Unsigned(n) => write!(to, "{n}"),
        Value::Float(x) => match Number(*x).non_finite() {
            Some(word) => to.write_all(word.as_bytes()),
            None => Ok(serde_json::to_writer(to, x)?),
        },
        Value::Time(millis) => to.write_all(when::utc(*millis).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::columns::Kind;

    fn columns(names: &[&str]) -> Vec<Column> {
        let column = |name: &&str| Column {
            name: (*name).to_owned(),
            kind: Kind::Text,
            repeats: false,
        };
        names.iter().map(column).collect()
    }

    fn row() -> (Row, Texts) {
        let mut texts = Texts::default();
        let mut row = Row::new();
        row.values = vec![
            Value::Float(f64::NEG_INFINITY),
            Value::Float(0.1),
            Value::Null,
            Value::Bool(true),
            Value::Unsigned(u64::MAX),
            texts.text("a \"b\", c"),
        ];
        (row, texts)
    }

    #[test]
    fn numbers_that_are_not_finite_are_words_and_what_is_absent_is_empty() {
        let columns = columns(&["a", "b", "c.d", "e", "f", "g"]);
        let (row, texts) = row();
        let mut csv = Csv::new(Vec::new(), &columns).unwrap();
        csv.row(&row, &texts).unwrap();
        let text = String::from_utf8(csv.finish().unwrap()).unwrap();
        assert_eq!(
            text,
            "a,b,c.d,e,f,g\n-Infinity,0.1,,true,18446744073709551615,\"a \"\"b\"\", c\"\n"
        );
        let mut lines = JsonLines::new(Vec::new(), &columns).unwrap();
        lines.row(&row, &texts).unwrap();
        let text = String::from_utf8(lines.finish().unwrap()).unwrap();
        assert_eq!(
            text,
            "{\"a\":\"-Infinity\",\"b\":0.1,\"c.d\":null,\"e\":true,\"f\":18446744073709551615,\
             \"g\":\"a \\\"b\\\", c\"}\n"
        );
    }
}
