//! Values, columns and rows as the reference has them, and their way to Arrow and back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, Int64Builder, ListBuilder, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

/// What a column holds. Every column may hold nulls, but for event times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Int,
    Text,
    /// Milliseconds.
    Time,
    /// Of integers.
    List,
    Float,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Value {
    Null,
    Int(i64),
    Text(String),
    Time(i64),
    List(Vec<Option<i64>>),
    /// By its bits.
    Float(u64),
}

/// A column of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
}

impl Column {
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), kind }
    }
}

/// A row, and the watermark of its source when it came: what decides whether it is late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub values: Vec<Value>,
    /// `i64::MIN` where no row can be late.
    pub watermark: i64,
}

impl Row {
    pub fn of(values: Vec<Value>) -> Self {
        Self { values, watermark: i64::MIN }
    }
}

pub fn schema(columns: &[Column], event_time: Option<&str>) -> SchemaRef {
    let field = |c: &Column| {
        let data_type = match c.kind {
            Kind::Int => DataType::Int64,
            Kind::Text => DataType::Utf8,
            Kind::Time => DataType::Timestamp(TimeUnit::Millisecond, None),
            Kind::List => DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true))),
            Kind::Float => DataType::Float64,
        };
        Field::new(&c.name, data_type, event_time != Some(&c.name))
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// A column of the rows.
pub fn array(kind: Kind, at: usize, rows: &[Row]) -> ArrayRef {
    let values = rows.iter().map(|r| &r.values[at]);
    match kind {
        Kind::Int => Arc::new(values.map(|v| if let Value::Int(i) = v { Some(*i) } else { None }).collect::<Int64Array>()),
        Kind::Text => Arc::new(values.map(|v| if let Value::Text(t) = v { Some(t.as_str()) } else { None }).collect::<StringArray>()),
        Kind::Time => Arc::new(values.map(|v| if let Value::Time(t) = v { Some(*t) } else { None }).collect::<TimestampMillisecondArray>()),
        Kind::Float => Arc::new(values.map(|v| if let Value::Float(f) = v { Some(f64::from_bits(*f)) } else { None }).collect::<Float64Array>()),
        Kind::List => {
            let mut lists = ListBuilder::new(Int64Builder::new());
            for value in values {
                lists.append_option(if let Value::List(items) = value { Some(items.iter().copied()) } else { None });
            }
            Arc::new(lists.finish())
        }
    }
}

fn value(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::Utf8 => Value::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::Timestamp(TimeUnit::Millisecond, None) => Value::Time(array.as_primitive::<TimestampMillisecondType>().value(row)),
        DataType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::List(_) => Value::List(array.as_list::<i32>().value(row).as_primitive::<Int64Type>().iter().collect()),
        other => panic!("a column of type {other}"),
    }
}

/// The rows of a batch, their columns in the order of `columns`.
pub fn values(batch: &RecordBatch, columns: &[Column]) -> Vec<Vec<Value>> {
    let arrays: Vec<&ArrayRef> = columns.iter().map(|c| batch.column_by_name(&c.name).unwrap_or_else(|| panic!("no column `{}`", c.name))).collect();
    (0..batch.num_rows()).map(|row| arrays.iter().map(|a| value(a, row)).collect()).collect()
}
