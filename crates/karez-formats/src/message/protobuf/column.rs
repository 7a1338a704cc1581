//! Values of a column as they gather, of which the last can be taken back.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray, RecordBatchOptions, StringArray, StructArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Float32Type, Float64Type, Int32Type, Int64Type, TimeUnit, UInt32Type, UInt64Type};
use arrow::error::ArrowError;

/// A column.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) values: Values,
    valid: Vec<bool>,
}

/// The values, one for each row, nulls included.
#[derive(Debug)]
pub(super) enum Values {
    Bool(Vec<bool>),
    I32(Vec<i32>),
    U32(Vec<u32>),
    I64(Vec<i64>),
    U64(Vec<u64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    /// Text or binary: all bytes, and where each value ends.
    Bytes(Vec<u8>, Vec<i32>),
    Struct(Vec<Column>),
    /// Lists, and maps as lists of entries: all items, and where each list ends.
    List(Box<Column>, Vec<i32>),
}

macro_rules! each {
    ($values:expr, $v:ident => $fixed:expr, $bytes:pat => $on_bytes:expr, $fields:pat => $on_struct:expr, $list:pat => $on_list:expr) => {
        match $values {
            Values::Bool($v) => $fixed,
            Values::I32($v) => $fixed,
            Values::U32($v) => $fixed,
            Values::I64($v) => $fixed,
            Values::U64($v) => $fixed,
            Values::F32($v) => $fixed,
            Values::F64($v) => $fixed,
            $bytes => $on_bytes,
            $fields => $on_struct,
            $list => $on_list,
        }
    };
}

impl Column {
    /// An empty column of a type that a shape gives.
    pub(super) fn of(data_type: &DataType) -> Self {
        let values = match data_type {
            DataType::Boolean => Values::Bool(Vec::new()),
            DataType::Int32 => Values::I32(Vec::new()),
            DataType::UInt32 => Values::U32(Vec::new()),
            DataType::UInt64 => Values::U64(Vec::new()),
            DataType::Float32 => Values::F32(Vec::new()),
            DataType::Float64 => Values::F64(Vec::new()),
            DataType::Utf8 | DataType::Binary => Values::Bytes(Vec::new(), Vec::new()),
            DataType::Struct(fields) => Values::Struct(fields.iter().map(|f| Self::of(f.data_type())).collect()),
            DataType::List(item) => Values::List(Box::new(Self::of(item.data_type())), Vec::new()),
            DataType::Map(entries, _) => Values::List(Box::new(Self::of(entries.data_type())), Vec::new()),
            // 64-bit integers and timestamps.
            _ => Values::I64(Vec::new()),
        };
        Self { values, valid: Vec::new() }
    }

    pub(super) const fn rows(&self) -> usize {
        self.valid.len()
    }

    /// The value that has just been added to the values counts.
    #[inline]
    pub(super) fn keep(&mut self) {
        self.valid.push(true);
    }

    /// Ends a list at the items so far.
    pub(super) fn end_list(&mut self) -> Result<(), String> {
        if let Values::List(items, ends) = &mut self.values {
            ends.push(offset(items.rows())?);
        }
        self.valid.push(true);
        Ok(())
    }

    pub(super) fn push_bytes(&mut self, value: &[u8]) -> Result<(), String> {
        if let Values::Bytes(bytes, ends) = &mut self.values {
            bytes.extend_from_slice(value);
            ends.push(offset(bytes.len())?);
        }
        self.valid.push(true);
        Ok(())
    }

    pub(super) fn push_null(&mut self) {
        each!(&mut self.values,
            values => values.push(Default::default()),
            Values::Bytes(_, ends) => ends.push(ends.last().copied().unwrap_or(0)),
            Values::Struct(fields) => fields.iter_mut().for_each(Self::push_null),
            Values::List(_, ends) => ends.push(ends.last().copied().unwrap_or(0)));
        self.valid.push(false);
    }

    /// Takes back the rows behind the first `rows`, and what has been added of the next.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.valid.truncate(rows);
        each!(&mut self.values,
        values => values.truncate(rows),
        Values::Bytes(bytes, ends) => {
            ends.truncate(rows);
            bytes.truncate(ends.last().map_or(0, |end| *end as usize));
        },
        Values::Struct(fields) => fields.iter_mut().for_each(|field| field.truncate(rows)),
        Values::List(items, ends) => {
            ends.truncate(rows);
            items.truncate(ends.last().map_or(0, |end| *end as usize));
        });
    }

    /// Takes all rows as an array of `field`'s type.
    pub(super) fn finish(&mut self, field: &Field) -> Result<ArrayRef, ArrowError> {
        let valid = std::mem::take(&mut self.valid);
        let rows = valid.len();
        let nulls = if valid.iter().all(|v| *v) { None } else { Some(NullBuffer::new(BooleanBuffer::from(valid))) };
        fn fixed<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> Result<PrimitiveArray<T>, ArrowError> {
            PrimitiveArray::try_new(ScalarBuffer::from(std::mem::take(values)), nulls)
        }
        Ok(match &mut self.values {
            Values::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(std::mem::take(values)), nulls)),
            Values::I32(values) => Arc::new(fixed::<Int32Type>(values, nulls)?),
            Values::U32(values) => Arc::new(fixed::<UInt32Type>(values, nulls)?),
            Values::U64(values) => Arc::new(fixed::<UInt64Type>(values, nulls)?),
            Values::F32(values) => Arc::new(fixed::<Float32Type>(values, nulls)?),
            Values::F64(values) => Arc::new(fixed::<Float64Type>(values, nulls)?),
            Values::I64(values) => match field.data_type() {
                DataType::Timestamp(unit, zone) => {
                    let values = ScalarBuffer::from(std::mem::take(values));
                    match unit {
                        TimeUnit::Second => Arc::new(TimestampSecondArray::try_new(values, nulls)?.with_timezone_opt(zone.clone())),
                        TimeUnit::Millisecond => Arc::new(TimestampMillisecondArray::try_new(values, nulls)?.with_timezone_opt(zone.clone())),
                        TimeUnit::Microsecond => Arc::new(TimestampMicrosecondArray::try_new(values, nulls)?.with_timezone_opt(zone.clone())),
                        TimeUnit::Nanosecond => Arc::new(TimestampNanosecondArray::try_new(values, nulls)?.with_timezone_opt(zone.clone())),
                    }
                }
                _ => Arc::new(fixed::<Int64Type>(values, nulls)?),
            },
            Values::Bytes(bytes, ends) => {
                let (bytes, offsets) = (std::mem::take(bytes).into(), offsets(ends));
                match field.data_type() {
                    DataType::Utf8 => Arc::new(StringArray::try_new(offsets, bytes, nulls)?),
                    _ => Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?),
                }
            }
            Values::Struct(columns) => match field.data_type() {
                DataType::Struct(fields) if fields.is_empty() => Arc::new(StructArray::new_empty_fields(rows, nulls)),
                DataType::Struct(fields) => {
                    let arrays = columns.iter_mut().zip(fields).map(|(c, f)| c.finish(f)).collect::<Result<Vec<_>, _>>()?;
                    Arc::new(StructArray::try_new(fields.clone(), arrays, nulls)?)
                }
                other => return Err(ArrowError::SchemaError(format!("rows as {other}"))),
            },
            Values::List(items, ends) => match field.data_type() {
                DataType::List(item) => {
                    let values = items.finish(item)?;
                    Arc::new(ListArray::try_new(Arc::clone(item), offsets(ends), values, nulls)?)
                }
                DataType::Map(entries, sorted) => {
                    let values = items.finish(entries)?;
                    let values = arrow::array::AsArray::as_struct(&values).clone();
                    Arc::new(MapArray::try_new(Arc::clone(entries), offsets(ends), values, nulls, *sorted)?)
                }
                other => return Err(ArrowError::SchemaError(format!("lists as {other}"))),
            },
        })
    }
}

fn offset(length: usize) -> Result<i32, String> {
    i32::try_from(length).map_err(|_| "the batch is full: a column holds more than 2 GiB".to_owned())
}

fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(std::iter::once(0).chain(std::mem::take(ends)).collect())
}

/// Rows without columns, which know their number alone.
pub(super) fn row_count(rows: usize) -> RecordBatchOptions {
    RecordBatchOptions::new().with_row_count(Some(rows))
}
