//! Batches to Protobuf messages.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Float32Type, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt32Type, UInt64Type,
};
use karez_core::{Error, Result};
use prost_reflect::MessageDescriptor;

use super::descriptor::{compile_registered, indexes, message};
use super::shape::{FieldShape, Repetition, Scalar, Shape, Value};
use super::wire::{put_length_at, put_tag, put_varint, zigzag};
use crate::message::conform::Conform;
use crate::message::{MessageEncoder, Payloads, RegisteredSchema, Registration, SchemaId, framing};

/// Writes rows as messages of one type.
pub(super) struct ProtobufEncoder {
    writing: Writing,
    input: SchemaRef,
    registration: Option<Registration>,
    /// The name of the message, to find it in a schema of the registry.
    name: String,
    /// What stands before each message; `None` while the schema's id is not known.
    header: Option<Vec<u8>>,
}

/// A type of messages, and how the columns become its fields.
struct Writing {
    shape: Shape,
    conform: Conform,
    indexes: Vec<u32>,
}

impl Writing {
    fn try_new(message: &MessageDescriptor, input: &SchemaRef) -> Result<Self, String> {
        if let Some(column) = input.fields().iter().find(|f| message.get_field_by_name(f.name()).is_none()) {
            return Err(format!("the message `{}` has no field for the column `{}`", message.full_name(), column.name()));
        }
        let shape = Shape::of(message, Some(input.fields()))?;
        let conform = Conform::by_name(input.fields(), &Arc::new(Schema::new(nullable(&shape.columns()))))?;
        Ok(Self { shape, conform, indexes: indexes(message) })
    }

    /// The columns of the rows, as the shape has them.
    fn columns(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, String> {
        Ok(self.conform.apply(batch)?.columns().to_vec())
    }
}

/// The same fields, all of which may be null: whether that has a form is for [`write`] to say.
fn nullable(fields: &Fields) -> Fields {
    fields.iter().map(of_nullable).collect()
}

fn of_nullable(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(nullable(fields)),
        DataType::List(item) => DataType::List(of_nullable(item)),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let pair = Fields::from(vec![Arc::clone(&pair[0]), of_nullable(&pair[1])]);
                DataType::Map(Arc::new(Field::new(entries.name(), DataType::Struct(pair), false)), *sorted)
            }
            _ => field.data_type().clone(),
        },
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, true))
}

impl ProtobufEncoder {
    pub(super) fn try_new(message: &MessageDescriptor, input: &SchemaRef, registration: Option<Registration>) -> Result<Self, String> {
        let writing = Writing::try_new(message, input)?;
        let header = registration.is_none().then(Vec::new);
        Ok(Self { writing, input: Arc::clone(input), registration, name: message.full_name().to_owned(), header })
    }
}

impl MessageEncoder for ProtobufEncoder {
    fn registration(&self) -> Option<&Registration> {
        self.registration.as_ref()
    }

    fn registered(&mut self, id: SchemaId, schema: Option<RegisteredSchema>) -> Result<()> {
        if let Some(schema) = schema {
            let file = compile_registered(&schema);
            // Without a schema of the job's own the message's name is one that was made up: then the first is meant.
            let found = file.and_then(|file| message(&file, Some(&self.name)).or_else(|e| message(&file, None).map_err(|_| e)));
            let writing = found.and_then(|message| Writing::try_new(&message, &self.input));
            self.writing = writing.map_err(|e| Error::user(format!("schema {id} of the registry does not fit the rows: {e}")))?;
        }
        let mut header = framing::header(id).to_vec();
        match self.writing.indexes.as_slice() {
            [0] => header.push(0),
            indexes => {
                put_varint(&mut header, zigzag(indexes.len() as i64));
                indexes.iter().for_each(|index| put_varint(&mut header, zigzag(i64::from(*index))));
            }
        }
        self.header = Some(header);
        Ok(())
    }

    fn encode(&mut self, batch: &RecordBatch, out: &mut Payloads) -> Result<()> {
        let Some(header) = &self.header else {
            return Err(Error::internal("rows are to be written with a schema whose id in the registry is not known"));
        };
        let write_row = |columns: &[ArrayRef], row: usize, to: &mut Vec<u8>| {
            to.extend_from_slice(header);
            write(&self.writing.shape, columns, row, to)
        };
        if let Ok(columns) = self.writing.columns(batch) {
            (0..batch.num_rows()).for_each(|row| out.write(|to| write_row(&columns, row, to)));
            return Ok(());
        }
        // One at a time, to tell the bad from the good.
        for row in 0..batch.num_rows() {
            match self.writing.columns(&batch.slice(row, 1)) {
                Ok(columns) => out.write(|to| write_row(&columns, 0, to)),
                Err(reason) => out.write(|_| Err(reason)),
            }
        }
        Ok(())
    }
}

/// Appends the fields of a message that are in `columns`.
fn write(shape: &Shape, columns: &[ArrayRef], row: usize, out: &mut Vec<u8>) -> Result<(), String> {
    for (field, column) in shape.fields.iter().zip(columns) {
        let inside = |e: String| format!("column `{}`: {e}", field.column.name());
        match field.repetition {
            _ if column.is_null(row) => match field.repetition {
                Repetition::Required => return Err(inside("is null, and its field is required".to_owned())),
                // Of a list, null and none are the same; of a field without presence, null and its default.
                _ => continue,
            },
            Repetition::Repeated => items(field, column, row, out).map_err(inside)?,
            Repetition::Map => {
                let map = column.as_map();
                let (start, end) = (map.value_offsets()[row] as usize, map.value_offsets()[row + 1] as usize);
                let Value::Message(entry) = &field.value else { return Err(inside("a map of no keys and values".to_owned())) };
                let pair = [Arc::clone(map.keys()), Arc::clone(map.values())];
                for at in start..end {
                    if map.values().is_null(at) {
                        return Err(inside("Protobuf has no null in a map".to_owned()));
                    }
                    put_tag(out, field.number, 2);
                    embed(out, |out| write(entry, &pair, at, out)).map_err(inside)?;
                }
            }
            Repetition::Implicit if is_default(&field.value, column, row) => {}
            _ => value(field, column, row, out).map_err(inside)?,
        }
    }
    Ok(())
}

/// Appends the items of a list.
fn items(field: &FieldShape, column: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let list = column.as_list::<i32>();
    let (start, end) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
    let values = list.values();
    if (start..end).any(|at| values.is_null(at)) {
        return Err("Protobuf has no null in a list".to_owned());
    }
    match &field.value {
        Value::Scalar(kind) if kind.wire_type() != 2 && start < end => {
            put_tag(out, field.number, 2);
            embed(out, |out| (start..end).try_for_each(|at| scalar(kind, values, at, out)))
        }
        _ => (start..end).try_for_each(|at| value(field, values, at, out)),
    }
}

/// Appends a field with its tag.
fn value(field: &FieldShape, column: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
    match &field.value {
        Value::Scalar(kind) => {
            put_tag(out, field.number, kind.wire_type());
            scalar(kind, column, row, out)
        }
        Value::Wrapper(kind) => {
            put_tag(out, field.number, 2);
            embed(out, |out| {
                put_tag(out, 1, kind.wire_type());
                scalar(kind, column, row, out)
            })
        }
        Value::Timestamp(unit) => {
            put_tag(out, field.number, 2);
            embed(out, |out| {
                let (seconds, nanos) = instant(column, row, *unit);
                put_tag(out, 1, 0);
                put_varint(out, seconds.cast_unsigned());
                if nanos > 0 {
                    put_tag(out, 2, 0);
                    put_varint(out, nanos.cast_unsigned());
                }
                Ok(())
            })
        }
        Value::Message(shape) => {
            put_tag(out, field.number, 2);
            embed(out, |out| write(shape, column.as_struct().columns(), row, out))
        }
    }
}

fn embed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), String>) -> Result<(), String> {
    let start = out.len();
    write(out)?;
    put_length_at(out, start);
    Ok(())
}

/// Seconds and nanoseconds of an instant.
fn instant(column: &ArrayRef, row: usize, unit: TimeUnit) -> (i64, i64) {
    let (value, per_second) = match unit {
        TimeUnit::Second => (column.as_primitive::<TimestampSecondType>().value(row), 1),
        TimeUnit::Millisecond => (column.as_primitive::<TimestampMillisecondType>().value(row), 1_000),
        TimeUnit::Microsecond => (column.as_primitive::<TimestampMicrosecondType>().value(row), 1_000_000),
        TimeUnit::Nanosecond => (column.as_primitive::<TimestampNanosecondType>().value(row), 1_000_000_000),
    };
    (value.div_euclid(per_second), value.rem_euclid(per_second) * (1_000_000_000 / per_second))
}

/// Whether a value is what a reader takes a field without presence to be.
fn is_default(value: &Value, column: &ArrayRef, row: usize) -> bool {
    let Value::Scalar(kind) = value else { return false };
    match kind {
        Scalar::Bool => !column.as_boolean().value(row),
        Scalar::Int32 | Scalar::Sint32 | Scalar::Sfixed32 => column.as_primitive::<Int32Type>().value(row) == 0,
        Scalar::Uint32 | Scalar::Fixed32 => column.as_primitive::<UInt32Type>().value(row) == 0,
        Scalar::Int64 | Scalar::Sint64 | Scalar::Sfixed64 => column.as_primitive::<Int64Type>().value(row) == 0,
        Scalar::Uint64 | Scalar::Fixed64 => column.as_primitive::<UInt64Type>().value(row) == 0,
        // Minus zero is written.
        Scalar::Float => column.as_primitive::<Float32Type>().value(row).to_bits() == 0,
        Scalar::Double => column.as_primitive::<Float64Type>().value(row).to_bits() == 0,
        Scalar::String => column.as_string::<i32>().value(row).is_empty(),
        Scalar::Bytes => column.as_binary::<i32>().value(row).is_empty(),
        Scalar::Enum(_) => false,
    }
}

/// Appends a value of no parts.
fn scalar(kind: &Scalar, column: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let bytes = |out: &mut Vec<u8>, value: &[u8]| {
        put_varint(out, value.len() as u64);
        out.extend_from_slice(value);
    };
    match kind {
        Scalar::Bool => out.push(column.as_boolean().value(row).into()),
        // Negative ones are ten bytes long, as the wire format wants it.
        Scalar::Int32 => put_varint(out, i64::from(column.as_primitive::<Int32Type>().value(row)).cast_unsigned()),
        Scalar::Sint32 => put_varint(out, zigzag(i64::from(column.as_primitive::<Int32Type>().value(row)))),
        Scalar::Sfixed32 => out.extend_from_slice(&column.as_primitive::<Int32Type>().value(row).to_le_bytes()),
        Scalar::Uint32 => put_varint(out, u64::from(column.as_primitive::<UInt32Type>().value(row))),
        Scalar::Fixed32 => out.extend_from_slice(&column.as_primitive::<UInt32Type>().value(row).to_le_bytes()),
        Scalar::Int64 => put_varint(out, column.as_primitive::<Int64Type>().value(row).cast_unsigned()),
        Scalar::Sint64 => put_varint(out, zigzag(column.as_primitive::<Int64Type>().value(row))),
        Scalar::Sfixed64 => out.extend_from_slice(&column.as_primitive::<Int64Type>().value(row).to_le_bytes()),
        Scalar::Uint64 => put_varint(out, column.as_primitive::<UInt64Type>().value(row)),
        Scalar::Fixed64 => out.extend_from_slice(&column.as_primitive::<UInt64Type>().value(row).to_le_bytes()),
        Scalar::Float => out.extend_from_slice(&column.as_primitive::<Float32Type>().value(row).to_le_bytes()),
        Scalar::Double => out.extend_from_slice(&column.as_primitive::<Float64Type>().value(row).to_le_bytes()),
        Scalar::String => bytes(out, column.as_string::<i32>().value(row).as_bytes()),
        Scalar::Bytes => bytes(out, column.as_binary::<i32>().value(row)),
        Scalar::Enum(names) => {
            let name = column.as_string::<i32>().value(row);
            let number = names.numbers.get(name).copied().or_else(|| name.parse().ok());
            let number = number.ok_or_else(|| format!("`{name}` is no value of the enum"))?;
            put_varint(out, i64::from(number).cast_unsigned());
        }
    }
    Ok(())
}
