//! The schema of a stream: Arrow columns, which of them is event time, and whether rows may change.
//!
//! Columns whose name begins with [`HIDDEN_PREFIX`] are the engine's: they ride along through row-wise operators and are
//! not seen by users, expressions or sinks.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int8Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;

use crate::{Error, Result};

/// Columns of the engine begin with this.
pub const HIDDEN_PREFIX: &str = "__karez_";
/// The change kind of each row of a changelog: `Int8`, the values of [`ChangeKind`].
pub const CHANGE_COLUMN: &str = "__karez_change";
/// Where a row came from: `Utf8`, such as `file=/in/a.csv offset=1204`. Present only where something downstream has a dead-letter output.
pub const ORIGIN_COLUMN: &str = "__karez_origin";

/// What happened to a row (Flink's `RowKind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ChangeKind {
    /// `+I`
    Insert = 0,
    /// `-U`
    UpdateBefore = 1,
    /// `+U`
    UpdateAfter = 2,
    /// `-D`
    Delete = 3,
}

impl ChangeKind {
    /// The kind that a value of the change column stands for.
    pub fn from_i8(value: i8) -> Result<Self> {
        match value {
            0 => Ok(Self::Insert),
            1 => Ok(Self::UpdateBefore),
            2 => Ok(Self::UpdateAfter),
            3 => Ok(Self::Delete),
            other => Err(Error::internal(format!("{other} is no change kind"))),
        }
    }

    /// As Flink writes it.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }

    /// Whether the row is taken away (`-U`, `-D`).
    #[must_use]
    pub const fn is_retraction(self) -> bool {
        matches!(self, Self::UpdateBefore | Self::Delete)
    }
}

/// Whether a stream only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeMode {
    /// Every row is new.
    #[default]
    AppendOnly,
    /// Rows carry a [`ChangeKind`] in [`CHANGE_COLUMN`].
    Changelog,
}

/// The schema of one output of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSchema {
    /// All columns, hidden ones included (they come last).
    pub arrow: SchemaRef,
    /// The name of the event-time column (`Timestamp`, any unit), if there is one.
    pub event_time: Option<String>,
    /// Whether rows may change.
    pub change_mode: ChangeMode,
    /// For a changelog: the columns that identify a row. Empty where unknown.
    pub key: Vec<String>,
}

impl StreamSchema {
    /// An append-only stream without event time.
    #[must_use]
    pub const fn append_only(arrow: SchemaRef) -> Self {
        Self { arrow, event_time: None, change_mode: ChangeMode::AppendOnly, key: Vec::new() }
    }

    /// The same with an event-time column.
    #[must_use]
    pub fn with_event_time(mut self, column: Option<String>) -> Self {
        self.event_time = column;
        self
    }

    /// The columns a user sees.
    #[must_use]
    pub fn visible(&self) -> SchemaRef {
        visible_schema(&self.arrow)
    }
}

/// Whether a column is the engine's.
#[must_use]
pub fn is_hidden(field: &Field) -> bool {
    field.name().starts_with(HIDDEN_PREFIX)
}

/// The schema without the engine's columns. Cheap where there are none.
#[must_use]
pub fn visible_schema(schema: &SchemaRef) -> SchemaRef {
    if schema.fields().iter().any(|f| is_hidden(f)) {
        Arc::new(Schema::new(schema.fields().iter().filter(|f| !is_hidden(f)).cloned().collect::<Vec<_>>()))
    } else {
        Arc::clone(schema)
    }
}

/// The batch without the engine's columns. Cheap where there are none.
pub fn visible_batch(batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = batch.schema_ref();
    if !schema.fields().iter().any(|f| is_hidden(f)) {
        return Ok(batch.clone());
    }
    let keep: Vec<usize> = (0..schema.fields().len()).filter(|&i| !is_hidden(schema.field(i))).collect();
    Ok(batch.project(&keep)?)
}

/// The columns as a person reads them: the visible ones, behind a column `change` where the stream is a changelog.
#[must_use]
pub fn readable_schema(schema: &SchemaRef) -> SchemaRef {
    let visible = visible_schema(schema);
    if schema.column_with_name(CHANGE_COLUMN).is_none() {
        return visible;
    }
    let change = Arc::new(Field::new("change", DataType::Utf8, false));
    Arc::new(Schema::new(std::iter::once(change).chain(visible.fields().iter().cloned()).collect::<Vec<_>>()))
}

/// The rows as a person reads them, of [`readable_schema`]: changes are `+I`, `-U`, `+U`, `-D`.
pub fn readable_batch(batch: &RecordBatch) -> Result<RecordBatch> {
    let visible = visible_batch(batch)?;
    let Some(kinds) = change_kinds(batch) else {
        return Ok(visible);
    };
    let symbols = kinds.values().iter().map(|k| ChangeKind::from_i8(*k).map(ChangeKind::symbol));
    let change: Arc<dyn Array> = Arc::new(StringArray::from(symbols.collect::<Result<Vec<_>>>()?));
    let columns = std::iter::once(change).chain(visible.columns().iter().cloned()).collect();
    Ok(RecordBatch::try_new(readable_schema(batch.schema_ref()), columns)?)
}

/// The change kinds of a batch; `None` for an append-only one.
pub fn change_kinds(batch: &RecordBatch) -> Option<&Int8Array> {
    batch.column_by_name(CHANGE_COLUMN).and_then(|c| c.as_any().downcast_ref())
}

/// The field of [`CHANGE_COLUMN`].
#[must_use]
pub fn change_field() -> Field {
    Field::new(CHANGE_COLUMN, DataType::Int8, false)
}

/// The field of [`ORIGIN_COLUMN`].
#[must_use]
pub fn origin_field() -> Field {
    Field::new(ORIGIN_COLUMN, DataType::Utf8, true)
}

/// Whether a column can be event time.
#[must_use]
pub const fn is_event_time_type(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, _))
}

/// What one unit of a timestamp column is in milliseconds: `(multiply, divide)`.
#[must_use]
pub const fn to_millis(unit: TimeUnit) -> (i64, i64) {
    match unit {
        TimeUnit::Second => (1_000, 1),
        TimeUnit::Millisecond => (1, 1),
        TimeUnit::Microsecond => (1, 1_000),
        TimeUnit::Nanosecond => (1, 1_000_000),
    }
}

/// An estimate of the bytes a batch holds, counting slices by their share and not by the buffers behind them.
#[must_use]
pub fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(array_bytes).sum()
}

/// What `ArrayData::get_slice_memory_size` says; that of common types without making an `ArrayData`, which costs more than the engine's own work.
fn array_bytes(array: &ArrayRef) -> usize {
    let rows = array.len();
    let nulls = if array.nulls().is_some() { rows.div_ceil(8) } else { 0 };
    let offsets =
        |offsets: &[i32]| (rows + 1) * size_of::<i32>() + offsets.last().zip(offsets.first()).map_or(0, |(end, start)| (end - start) as usize);
    match array.data_type() {
        DataType::Boolean => nulls + rows.div_ceil(8),
        DataType::Utf8 => nulls + offsets(array.as_string::<i32>().value_offsets()),
        DataType::Binary => nulls + offsets(array.as_binary::<i32>().value_offsets()),
        other => match other.primitive_width() {
            Some(width) => nulls + rows * width,
            None => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray, StringViewArray};

    use super::array_bytes;

    #[test]
    fn the_bytes_of_a_slice_are_what_arrow_says() {
        let columns: [ArrayRef; 7] = [
            Arc::new(Int64Array::from_iter_values(0..100)),
            Arc::new((0..100).map(|n| (n % 3 > 0).then_some(f64::from(n))).collect::<Float64Array>()),
            Arc::new((0..100).map(|n| Some(n % 3 > 0)).collect::<BooleanArray>()),
            Arc::new((0..100).map(|n| (n % 3 > 0).then(|| "x".repeat(n))).collect::<StringArray>()),
            Arc::new(StringArray::from_iter_values((0..100).map(|n| n.to_string()))),
            Arc::new((0..100).map(|n| Some(vec![1; n])).collect::<BinaryArray>()),
            Arc::new((0..100).map(|n| Some("y".repeat(n))).collect::<StringViewArray>()),
        ];
        for column in columns {
            for part in [column.slice(0, 100), column.slice(7, 20), column.slice(50, 0)] {
                assert_eq!(array_bytes(&part), part.to_data().get_slice_memory_size().unwrap(), "{:?}", part.data_type());
            }
        }
    }
}
