//! Rows to a Parquet file, one group of rows after another.
//!
//! Written for every reader: plain pages of version 1, dictionaries where
//! values repeat, Zstandard, no nested types.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type};

use super::columns::{Column, Kind, Value};

/// Rows of a group, which is what is held in memory.
const GROUP: usize = 1 << 15;

/// A Parquet file being written.
pub(super) struct Parquet<W: Write + Send> {
    file: SerializedFileWriter<W>,
    buffers: Vec<Buffer>,
    rows: usize,
}

/// A column of the group being gathered.
enum Buffer {
    Bool(Filled<BoolType>),
    Int(Filled<Int64Type>),
    Float(Filled<DoubleType>),
    Text(Filled<ByteArrayType>),
}

/// Values that are there, and for each row whether it has one.
struct Filled<T: DataType> {
    values: Vec<T::T>,
    levels: Vec<i16>,
}

impl<T: DataType> Filled<T> {
    fn new() -> Self {
        Self {
            values: Vec::with_capacity(GROUP),
            levels: Vec::with_capacity(GROUP),
        }
    }

    fn push(&mut self, value: Option<T::T>) {
        self.levels.push(i16::from(value.is_some()));
        self.values.extend(value);
    }

    fn clear(&mut self) {
        self.values.clear();
        self.levels.clear();
    }
}

impl<W: Write + Send> Parquet<W> {
    pub(super) fn new(to: W, columns: &[Column]) -> Result<Self, ParquetError> {
        let fields: Result<Vec<_>, _> = columns.iter().map(|c| field(c).map(Arc::new)).collect();
        let schema = Type::group_type_builder("run")
            .with_fields(fields?)
            .build()?;
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("depth-sweep ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_dictionary_enabled(false);
        for column in columns.iter().filter(|column| column.repeats) {
            let path = ColumnPath::from(column.name.as_str().to_owned());
            properties = properties.set_column_dictionary_enabled(path, true);
        }
        Ok(Self {
            file: SerializedFileWriter::new(to, Arc::new(schema), Arc::new(properties.build()))?,
            buffers: columns.iter().map(|c| Buffer::new(c.kind)).collect(),
            rows: 0,
        })
    }

    pub(super) fn row(&mut self, row: &[Value]) -> Result<(), ParquetError> {
        for (buffer, value) in self.buffers.iter_mut().zip(row) {
            buffer.push(value);
        }
        self.rows += 1;
        if self.rows == GROUP {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        if self.rows == 0 {
            return Ok(());
        }
        self.rows = 0;
        let mut group = self.file.next_row_group()?;
        let mut buffers = self.buffers.iter_mut();
        while let Some(mut column) = group.next_column()? {
            match buffers.next() {
                Some(Buffer::Bool(filled)) => write(column.typed::<BoolType>(), filled)?,
                Some(Buffer::Int(filled)) => write(column.typed::<Int64Type>(), filled)?,
                Some(Buffer::Float(filled)) => write(column.typed::<DoubleType>(), filled)?,
                Some(Buffer::Text(filled)) => write(column.typed::<ByteArrayType>(), filled)?,
                None => {}
            }
            column.close()?;
        }
        group.close()?;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<W, ParquetError> {
        self.flush()?;
        // Writes what closes the file, too.
        self.file.into_inner()
    }
}

fn write<T: DataType>(
    column: &mut parquet::column::writer::ColumnWriterImpl<'_, T>,
    filled: &mut Filled<T>,
) -> Result<(), ParquetError> {
    column.write_batch(&filled.values, Some(&filled.levels), None)?;
    filled.clear();
    Ok(())
}

fn field(column: &Column) -> Result<Type, ParquetError> {
    let (physical, logical) = match column.kind {
        Kind::Bool => (Physical::BOOLEAN, None),
        Kind::Int => (Physical::INT64, None),
        Kind::Unsigned => (Physical::INT64, Some(LogicalType::integer(64, false))),
        Kind::Float => (Physical::DOUBLE, None),
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Time => {
            let unit = parquet::basic::TimeUnit::MILLIS;
            (Physical::INT64, Some(LogicalType::timestamp(true, unit)))
        }
    };
    Type::primitive_type_builder(&column.name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical)
        .build()
}

impl Buffer {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool(Filled::new()),
            Kind::Int | Kind::Unsigned | Kind::Time => Self::Int(Filled::new()),
            Kind::Float => Self::Float(Filled::new()),
            Kind::Text => Self::Text(Filled::new()),
        }
    }

    /// A value of another kind than the column's does not occur.
    fn push(&mut self, value: &Value) {
        match self {
            Self::Bool(filled) => filled.push(match value {
                Value::Bool(b) => Some(*b),
                _ => None,
            }),
            Self::Int(filled) => filled.push(match value {
                Value::Int(n) => Some(*n),
                Value::Unsigned(n) | Value::Time(n) => Some(*n as i64),
                _ => None,
            }),
            Self::Float(filled) => filled.push(match value {
                Value::Float(x) => Some(*x),
                _ => None,
            }),
            Self::Text(filled) => filled.push(match value {
                Value::Text(text) => Some(ByteArray::from(Bytes::clone(text))),
                _ => None,
            }),
        }
    }
}
