//! Parquet: plain columns of numbers, booleans or strings, nulls as empty cells.
//!
//! Columns of other types (dates, decimals, binary) are kept by name and
//! refused only when they are used.
//!
//! The decoder trusts a file more than we may: it allocates what a page header
//! claims and panics on some contradictions. So every page passes through
//! `CheckedPages` first, and a panic of the decoder counts as a broken file.
//! What remains is that one page may claim, and briefly take, 2 GiB.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ::parquet::basic::{ConvertedType, LogicalType};
use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use ::parquet::data_type::DataType;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::schema::types::ColumnDescriptor;

use super::read::{Format, ReadError, distinct, entries};
use super::table::{Cells, Table, TableColumn, Texts};

/// Records decoded at a time: bounds what a broken header can make us allocate.
const BATCH: usize = 4096;

pub(super) fn read(bytes: &[u8]) -> Result<Table, ReadError> {
    // Nothing outlives a panic but its message: the closure owns all it changes.
    catch_unwind(AssertUnwindSafe(|| decode_file(bytes)))
        .unwrap_or_else(|_| Err(broken("its pages contradict its header")))
}

fn broken(what: &'static str) -> ReadError {
    let format = Format::Parquet;
    ReadError::Malformed { format, what }
}

fn decode_file(bytes: &[u8]) -> Result<Table, ReadError> {
    let file = SerializedFileReader::new(bytes::Bytes::copy_from_slice(bytes))?;
    let metadata = file.metadata();
    let schema = metadata.file_metadata().schema_descr_ptr();
    let announced = metadata.file_metadata().num_rows();
    let rows = u64::try_from(announced).map_err(|_| broken("its number of rows is negative"))?;
    entries(&[rows, schema.num_columns() as u64])?;
    let rows = rows as usize;
    let mut columns = Vec::new();
    for (index, descriptor) in schema.columns().iter().enumerate() {
        if descriptor.max_rep_level() > 0 || descriptor.path().parts().len() > 1 {
            let column = descriptor.path().string();
            return Err(ReadError::Nested { column });
        }
        let mut cells = empty(descriptor);
        for group in 0..metadata.num_row_groups() {
            if !matches!(cells, Cells::Unsupported(_)) {
                let pages = CheckedPages {
                    inner: file.get_row_group(group)?.get_column_page_reader(index)?,
                    rows,
                };
                let reader = get_column_reader(schema.column(index), Box::new(pages));
                extend(&mut cells, reader, descriptor, rows)?;
            }
        }
        let found = match &cells {
            Cells::Numbers(values) => values.len(),
            Cells::Text(texts) => texts.cells.len(),
            Cells::Unsupported(_) => rows,
        };
        if found != rows {
            return Err(broken("a column has another number of rows than the file"));
        }
        columns.push(TableColumn {
            name: Some(descriptor.name().to_owned()),
            cells,
        });
    }
    distinct(columns.iter().map(|column| column.name.as_deref()))?;
    Ok(Table {
        columns,
        rows,
        image: None,
    })
}

/// Pages that claim no more values than there can be.
struct CheckedPages {
    inner: Box<dyn PageReader>,
    rows: usize,
}

impl CheckedPages {
    fn check(&self, page: Page) -> Result<Page, ParquetError> {
        // A dictionary entry takes a byte at least; a value of a plain column is a row.
        let possible = match &page {
            Page::DictionaryPage { buf, .. } => buf.len(),
            Page::DataPage { .. } | Page::DataPageV2 { .. } => self.rows,
        };
        if page.num_values() as usize <= possible {
            Ok(page)
        } else {
            let claim = format!("a page claims {} values", page.num_values());
            Err(ParquetError::General(claim))
        }
    }
}

impl Iterator for CheckedPages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let page = self.inner.get_next_page()?;
        page.map(|page| self.check(page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.inner.skip_next_page()
    }
}

/// The kind of cells that a column gives.
fn empty(descriptor: &ColumnDescriptor) -> Cells {
    use ::parquet::basic::Type;
    let unsupported = || Cells::Unsupported(described(descriptor));
    match descriptor.physical_type() {
        Type::BOOLEAN | Type::FLOAT | Type::DOUBLE => Cells::Numbers(Vec::new()),
        Type::INT32 | Type::INT64 if is_integer(descriptor) => Cells::Numbers(Vec::new()),
        Type::BYTE_ARRAY if is_text(descriptor) => Cells::Text(Texts::default()),
        _ => unsupported(),
    }
}

fn described(descriptor: &ColumnDescriptor) -> String {
    match descriptor.converted_type() {
        ConvertedType::NONE => descriptor.physical_type().to_string(),
        converted => converted.to_string(),
    }
}

fn is_integer(descriptor: &ColumnDescriptor) -> bool {
    use ConvertedType as C;
    let converted = matches!(
        descriptor.converted_type(),
        C::NONE | C::INT_8 | C::INT_16 | C::INT_32 | C::INT_64
    ) || is_unsigned(descriptor);
    let logical = descriptor.logical_type_ref();
    converted && logical.is_none_or(|l| matches!(l, LogicalType::Integer(_)))
}

fn is_unsigned(descriptor: &ColumnDescriptor) -> bool {
    use ConvertedType as C;
    matches!(
        descriptor.converted_type(),
        C::UINT_8 | C::UINT_16 | C::UINT_32 | C::UINT_64
    ) || matches!(descriptor.logical_type_ref(), Some(LogicalType::Integer(i)) if !i.is_signed)
}

fn is_text(descriptor: &ColumnDescriptor) -> bool {
    matches!(
        descriptor.converted_type(),
        ConvertedType::UTF8 | ConvertedType::ENUM
    ) || matches!(descriptor.logical_type_ref(), Some(LogicalType::String))
}

fn extend(
    cells: &mut Cells,
    reader: ColumnReader,
    descriptor: &ColumnDescriptor,
    rows: usize,
) -> Result<(), ReadError> {
    let unsigned = is_unsigned(descriptor);
    let levels = descriptor.max_def_level();
    match (cells, reader) {
        (Cells::Numbers(out), ColumnReader::BoolColumnReader(r)) => {
            let number = |x: &bool| f64::from(u8::from(*x));
            decode(r, levels, rows - out.len(), |x| {
                out.push(x.map_or(f64::NAN, number))
            })
        }
        (Cells::Numbers(out), ColumnReader::FloatColumnReader(r)) => {
            decode(r, levels, rows - out.len(), |x| {
                out.push(x.map_or(f64::NAN, |x| (*x).into()))
            })
        }
        (Cells::Numbers(out), ColumnReader::DoubleColumnReader(r)) => {
            decode(r, levels, rows - out.len(), |x| {
                out.push(x.map_or(f64::NAN, |x| *x))
            })
        }
        (Cells::Numbers(out), ColumnReader::Int32ColumnReader(r)) => {
            let number = |x: &i32| match unsigned {
                true => f64::from(x.cast_unsigned()),
                false => f64::from(*x),
            };
            decode(r, levels, rows - out.len(), |x| {
                out.push(x.map_or(f64::NAN, number))
            })
        }
        (Cells::Numbers(out), ColumnReader::Int64ColumnReader(r)) => {
            let number = |x: &i64| match unsigned {
                true => x.cast_unsigned() as f64,
                false => *x as f64,
            };
            decode(r, levels, rows - out.len(), |x| {
                out.push(x.map_or(f64::NAN, number))
            })
        }
        (Cells::Text(out), ColumnReader::ByteArrayColumnReader(r)) => {
            decode(r, levels, rows - out.cells.len(), |x| {
                out.push(x.map(|x| String::from_utf8_lossy(x.data())).as_deref());
            })
        }
        _ => Err(broken("a column changes its type between row groups")),
    }
}

/// All records of one column chunk, at most `room`, `None` for a null.
fn decode<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    max_level: i16,
    mut room: usize,
    mut push: impl FnMut(Option<&T::T>),
) -> Result<(), ReadError> {
    loop {
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        // One more than there is room for, to notice it.
        let wanted = BATCH.min(room + 1);
        let (records, ..) = reader.read_records(wanted, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            return Ok(());
        }
        let full = || broken("a column has more rows than the file");
        room = room.checked_sub(records).ok_or_else(full)?;
        let mut present = values.iter();
        for i in 0..records {
            let is_null = max_level > 0 && levels.get(i) != Some(&max_level);
            push(if is_null { None } else { present.next() });
        }
    }
}
