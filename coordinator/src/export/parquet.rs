//! Rows to a Parquet file, one group of rows after another.
//!
//! Written for every reader: plain pages of version 1, dictionaries where
//! values repeat, Zstandard, no nested types. Rows are gathered by column; a
//! thread of the file's own encodes one group while the next one is gathered.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type};

use super::columns::{Column, Kind, Row, Texts, Value};

/// Rows of a group; two of them are held in memory.
const GROUP: usize = 1 << 15;

/// A Parquet file being written.
pub(super) struct Parquet<W> {
    group: Group,
    /// Texts that the thread has been told.
    told: usize,
    full: SyncSender<Group>,
    empty: Receiver<Group>,
    encoder: JoinHandle<Result<W, ParquetError>>,
}

/// Rows on their way to the file.
struct Group {
    rows: usize,
    columns: Vec<Buffer>,
    /// Texts that no group before had.
    texts: Vec<Bytes>,
}

/// A column of a group.
enum Buffer {
    Bool(Filled<bool>),
    Int(Filled<i64>),
    Float(Filled<f64>),
    /// Numbers of texts.
    Text(Filled<u32>),
    /// Identities as digits, one behind the other.
    Id(Vec<u8>),
}

/// Values that are there, and for each row whether it has one.
struct Filled<T> {
    values: Vec<T>,
    levels: Vec<i16>,
}

impl<T> Filled<T> {
    fn new() -> Self {
        Self {
            values: Vec::with_capacity(GROUP),
            levels: Vec::with_capacity(GROUP),
        }
    }

    fn push(&mut self, value: Option<T>) {
        self.levels.push(i16::from(value.is_some()));
        self.values.extend(value);
    }

    fn clear(&mut self) {
        self.values.clear();
        self.levels.clear();
    }
}

impl Group {
    fn new(columns: &[Column]) -> Self {
        Self {
            rows: 0,
            columns: columns.iter().map(|c| Buffer::new(c.kind)).collect(),
            texts: Vec::new(),
        }
    }
}

impl<W: Write + Send + 'static> Parquet<W> {
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
        let file = SerializedFileWriter::new(to, Arc::new(schema), Arc::new(properties.build()))?;
        let (full, inbox) = sync_channel(1);
        let (outbox, empty) = sync_channel(1);
        // The other of the two groups.
        let _ = outbox.send(Group::new(columns));
        let encoder = std::thread::Builder::new()
            .name("export encoder".to_owned())
            .spawn(move || encode(file, &inbox, &outbox))?;
        Ok(Self {
            group: Group::new(columns),
            told: 0,
            full,
            empty,
            encoder,
        })
    }

    pub(super) fn row(&mut self, row: &Row, texts: &Texts) -> Result<(), ParquetError> {
        for (buffer, value) in self.group.columns.iter_mut().zip(&row.values) {
            buffer.push(*value, &row.id);
        }
        self.group.rows += 1;
        if self.group.rows == GROUP {
            self.flush(texts)?;
        }
        Ok(())
    }

    /// Hands the group over. That the encoder has ended shows here; why, in `finish`.
    fn flush(&mut self, texts: &Texts) -> Result<(), ParquetError> {
        let ended = || ParquetError::General("the thread that encodes has ended".to_owned());
        let next = self.empty.recv().map_err(|_| ended())?;
        let mut group = std::mem::replace(&mut self.group, next);
        group.texts = texts.after(self.told);
        self.told += group.texts.len();
        self.full.send(group).map_err(|_| ended())
    }

    /// Writes what is left and what closes the file.
    pub(super) fn finish(mut self, texts: &Texts) -> Result<W, ParquetError> {
        let sent = match self.group.rows {
            0 => Ok(()),
            _ => self.flush(texts),
        };
        drop(self.full);
        let panicked = |_| ParquetError::General("the thread that encodes has panicked".to_owned());
        let to = self.encoder.join().map_err(panicked)??;
        sent.map(|()| to)
    }
}

/// Writes one group after the other, and then what closes the file.
fn encode<W: Write + Send>(
    mut file: SerializedFileWriter<W>,
    inbox: &Receiver<Group>,
    outbox: &SyncSender<Group>,
) -> Result<W, ParquetError> {
    let mut texts: Vec<ByteArray> = Vec::new();
    let mut scratch: Vec<ByteArray> = Vec::new();
    for mut group in inbox {
        texts.extend(group.texts.drain(..).map(ByteArray::from));
        let mut writer = file.next_row_group()?;
        for buffer in &mut group.columns {
            let Some(mut column) = writer.next_column()? else {
                break;
            };
            match buffer {
                Buffer::Bool(filled) => write(column.typed::<BoolType>(), filled)?,
                Buffer::Int(filled) => write(column.typed::<Int64Type>(), filled)?,
                Buffer::Float(filled) => write(column.typed::<DoubleType>(), filled)?,
                Buffer::Text(filled) => {
                    scratch.extend(filled.values.iter().map(|n| texts[*n as usize].clone()));
                    let column = column.typed::<ByteArrayType>();
                    column.write_batch(&scratch, Some(&filled.levels), None)?;
                    scratch.clear();
                    filled.clear();
                }
                Buffer::Id(digits) => {
                    let all = Bytes::copy_from_slice(digits);
                    let each = (0..group.rows).map(|n| n * Row::DIGITS..(n + 1) * Row::DIGITS);
                    scratch.extend(each.map(|range| ByteArray::from(all.slice(range))));
                    let levels = vec![1; group.rows];
                    let column = column.typed::<ByteArrayType>();
                    column.write_batch(&scratch, Some(&levels), None)?;
                    scratch.clear();
                    digits.clear();
                }
            }
            column.close()?;
        }
        writer.close()?;
        group.rows = 0;
        // Nobody waits for the last ones.
        let _ = outbox.try_send(group);
    }
    file.into_inner()
}

fn write<T: DataType>(
    column: &mut ColumnWriterImpl<'_, T>,
    filled: &mut Filled<T::T>,
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
        Kind::Text | Kind::Id => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
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
            Kind::Id => Self::Id(Vec::with_capacity(GROUP * Row::DIGITS)),
        }
    }

    /// A value of another kind than the column's does not occur.
    fn push(&mut self, value: Value, id: &[u8; Row::DIGITS]) {
        match self {
            Self::Bool(filled) => filled.push(match value {
                Value::Bool(b) => Some(b),
                _ => None,
            }),
            Self::Int(filled) => filled.push(match value {
                Value::Int(n) => Some(n),
                Value::Unsigned(n) | Value::Time(n) => Some(n as i64),
                _ => None,
            }),
            Self::Float(filled) => filled.push(match value {
                Value::Float(x) => Some(x),
                _ => None,
            }),
            Self::Text(filled) => filled.push(match value {
                Value::Text(number) => Some(number),
                _ => None,
            }),
            Self::Id(digits) => digits.extend_from_slice(id),
        }
    }
}
