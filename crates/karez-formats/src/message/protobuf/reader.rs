//! One message to a row, from the wire straight into the columns.

use std::fmt::Write as _;

use arrow::datatypes::{DataType, TimeUnit};
use karez_core::exact::{Misfit, per_second};

use super::column::{Column, Values};
use super::shape::{FieldShape, Repetition, Scalar, Shape, Value};
use super::wire::{self, Wire};

/// Reads messages of the lifetime `'a`.
#[derive(Default)]
pub(super) struct Reader<'a> {
    /// What has been found of the fields that stand once, for each message from the outermost to the one at hand.
    slots: Vec<Option<Wire<'a>>>,
    /// Further pieces of an embedded message that stands more than once, to be read as one: with the slot that they belong to.
    more: Vec<(usize, &'a [u8])>,
    text: String,
}

impl<'a> Reader<'a> {
    /// Adds the row of a message. On an error the columns have to be truncated.
    pub(super) fn read(&mut self, shape: &Shape, columns: &mut [Column], message: &'a [u8]) -> Result<(), String> {
        self.slots.clear();
        self.more.clear();
        self.message(shape, columns, &[message])
    }

    /// Reads the pieces of a message as if they stood end to end, which is how Protobuf merges.
    fn message(&mut self, shape: &Shape, columns: &mut [Column], pieces: &[&'a [u8]]) -> Result<(), String> {
        let base = self.slots.len();
        self.slots.resize(base + shape.fields.len(), None);
        let mut near = 0;
        for mut bytes in pieces.iter().copied() {
            while !bytes.is_empty() {
                let (number, wire_type) = wire::tag(&mut bytes)?;
                let value = wire::value(&mut bytes, number, wire_type)?;
                let Some(at) = shape.find(number, near) else { continue };
                let field = &shape.fields[at];
                match field.repetition {
                    Repetition::Repeated | Repetition::Map => {
                        near = at;
                        self.item(field, &mut columns[at], value).map_err(|e| inside(field, &e))?;
                    }
                    _ => {
                        near = at + 1;
                        self.slot(field, base + at, value);
                        for rival in &field.rivals {
                            self.slots[base + rival] = None;
                        }
                    }
                }
            }
        }
        for (at, (field, column)) in shape.fields.iter().zip(columns).enumerate() {
            match field.repetition {
                Repetition::Repeated | Repetition::Map => column.end_list()?,
                _ => self.single(field, column, base + at).map_err(|e| inside(field, &e))?,
            }
        }
        self.slots.truncate(base);
        Ok(())
    }

    /// Keeps the value of a field that stands once: the last one, of messages all.
    fn slot(&mut self, field: &FieldShape, slot: usize, value: Wire<'a>) {
        let embedded = !matches!(field.value, Value::Scalar(_));
        match (self.slots[slot], value) {
            (Some(_), Wire::Bytes(piece)) if embedded => self.more.push((slot, piece)),
            _ => {
                self.more.retain(|(of, _)| *of != slot);
                self.slots[slot] = Some(value);
            }
        }
    }

    /// Adds the value of a field that stands once.
    fn single(&mut self, field: &FieldShape, column: &mut Column, slot: usize) -> Result<(), String> {
        let Some(value) = self.slots[slot] else {
            return match field.repetition {
                Repetition::Implicit => self.default(field, column),
                Repetition::Required => Err("is required, and missing".to_owned()),
                _ => {
                    column.push_null();
                    Ok(())
                }
            };
        };
        if self.more.iter().any(|(of, _)| *of == slot) {
            let Wire::Bytes(first) = value else { return Err(unfit(value)) };
            let pieces: Vec<&[u8]> = std::iter::once(first).chain(self.more.iter().filter(|(of, _)| *of == slot).map(|(_, piece)| *piece)).collect();
            self.more.retain(|(of, _)| *of != slot);
            return self.embedded(&field.value, column, &pieces);
        }
        match (&field.value, value) {
            (Value::Scalar(scalar), value) => self.scalar(scalar, column, value),
            (embedded, Wire::Bytes(bytes)) => self.embedded(embedded, column, &[bytes]),
            (_, other) => Err(unfit(other)),
        }
    }

    /// Adds what a field has that is not there.
    fn default(&mut self, field: &FieldShape, column: &mut Column) -> Result<(), String> {
        match &field.value {
            Value::Scalar(scalar @ (Scalar::String | Scalar::Bytes)) => self.scalar(scalar, column, Wire::Bytes(&[])),
            Value::Scalar(scalar) => match scalar.wire_type() {
                0 => self.scalar(scalar, column, Wire::Varint(0)),
                1 => self.scalar(scalar, column, Wire::Fixed64(0)),
                _ => self.scalar(scalar, column, Wire::Fixed32(0)),
            },
            _ => {
                column.push_null();
                Ok(())
            }
        }
    }

    /// Adds items of a list, or an entry of a map: several where they are packed.
    fn item(&mut self, field: &FieldShape, column: &mut Column, value: Wire<'a>) -> Result<(), String> {
        let Values::List(items, _) = &mut column.values else { return Err("is no list".to_owned()) };
        match (&field.value, value) {
            (Value::Scalar(scalar), Wire::Bytes(mut packed)) if scalar.wire_type() != 2 => {
                while !packed.is_empty() {
                    let one = wire::value(&mut packed, field.number, scalar.wire_type())?;
                    self.scalar(scalar, items, one)?;
                }
                Ok(())
            }
            (Value::Scalar(scalar), value) => self.scalar(scalar, items, value),
            (embedded, Wire::Bytes(bytes)) => self.embedded(embedded, items, &[bytes]),
            (_, other) => Err(unfit(other)),
        }
    }

    /// Adds the value of an embedded message.
    fn embedded(&mut self, value: &Value, column: &mut Column, pieces: &[&'a [u8]]) -> Result<(), String> {
        match value {
            Value::Message(shape) => {
                let Values::Struct(columns) = &mut column.values else { return Err("is no row".to_owned()) };
                self.message(shape, columns, pieces)?;
                column.keep();
                Ok(())
            }
            Value::Timestamp(unit) => {
                let (seconds, nanos) = timestamp(pieces)?;
                let instant = instant(seconds, nanos, *unit)
                    .map_err(|misfit| misfit.of(format!("{seconds}.{nanos:09} s"), &DataType::Timestamp(*unit, None)))?;
                if let Values::I64(values) = &mut column.values {
                    values.push(instant);
                }
                column.keep();
                Ok(())
            }
            Value::Wrapper(scalar) => {
                let mut found = None;
                for mut bytes in pieces.iter().copied() {
                    while !bytes.is_empty() {
                        let (number, wire_type) = wire::tag(&mut bytes)?;
                        let value = wire::value(&mut bytes, number, wire_type)?;
                        found = if number == 1 { Some(value) } else { found };
                    }
                }
                let zero = match scalar.wire_type() {
                    0 => Wire::Varint(0),
                    1 => Wire::Fixed64(0),
                    2 => Wire::Bytes(&[]),
                    _ => Wire::Fixed32(0),
                };
                self.scalar(scalar, column, found.unwrap_or(zero))
            }
            Value::Scalar(_) => Err("is no message".to_owned()),
        }
    }

    /// Adds a value of no parts.
    #[inline]
    fn scalar(&mut self, scalar: &Scalar, column: &mut Column, value: Wire<'a>) -> Result<(), String> {
        match (scalar, value, &mut column.values) {
            (Scalar::Bool, Wire::Varint(v), Values::Bool(to)) => to.push(v != 0),
            // A negative one has 64 bits, or 32 from some writers.
            (Scalar::Int32, Wire::Varint(v), Values::I32(to)) => {
                to.push(i32::try_from(v.cast_signed()).or_else(|_| u32::try_from(v).map(u32::cast_signed)).map_err(|_| beyond_32_bits(v))?)
            }
            (Scalar::Sint32, Wire::Varint(v), Values::I32(to)) => {
                to.push(i32::try_from(wire::unzigzag(v)).map_err(|_| beyond_32_bits(v))?);
            }
            (Scalar::Sfixed32, Wire::Fixed32(v), Values::I32(to)) => to.push(v.cast_signed()),
            (Scalar::Uint32, Wire::Varint(v), Values::U32(to)) => to.push(u32::try_from(v).map_err(|_| beyond_32_bits(v))?),
            (Scalar::Fixed32, Wire::Fixed32(v), Values::U32(to)) => to.push(v),
            (Scalar::Int64, Wire::Varint(v), Values::I64(to)) | (Scalar::Sfixed64, Wire::Fixed64(v), Values::I64(to)) => to.push(v.cast_signed()),
            (Scalar::Sint64, Wire::Varint(v), Values::I64(to)) => to.push(wire::unzigzag(v)),
            (Scalar::Uint64, Wire::Varint(v), Values::U64(to)) | (Scalar::Fixed64, Wire::Fixed64(v), Values::U64(to)) => to.push(v),
            (Scalar::Float, Wire::Fixed32(v), Values::F32(to)) => to.push(f32::from_bits(v)),
            (Scalar::Double, Wire::Fixed64(v), Values::F64(to)) => to.push(f64::from_bits(v)),
            (Scalar::Bytes, Wire::Bytes(v), _) => return column.push_bytes(v),
            (Scalar::String, Wire::Bytes(v), _) => {
                let text = simdutf8::compat::from_utf8(v).map_err(|e| format!("byte {} of the text is not UTF-8", e.valid_up_to()))?;
                return column.push_bytes(text.as_bytes());
            }
            (Scalar::Enum(names), Wire::Varint(v), _) => {
                let number = v as i32;
                if let Some(name) = names.names.get(&number) {
                    return column.push_bytes(name.as_bytes());
                }
                self.text.clear();
                // Writing to a string does not fail.
                let _ = write!(self.text, "{number}");
                return column.push_bytes(self.text.as_bytes());
            }
            (_, other, _) => return Err(unfit(other)),
        }
        column.keep();
        Ok(())
    }
}

/// Protobuf takes the lower 32 bits, which is another number.
fn beyond_32_bits(varint: u64) -> String {
    format!("{varint} has more than the 32 bits of its field: it may be written by another schema")
}

fn inside(field: &FieldShape, error: &str) -> String {
    format!("field `{}` ({}): {error}", field.column.name(), field.number)
}

fn unfit(value: Wire<'_>) -> String {
    let found = match value {
        Wire::Varint(_) => "a varint",
        Wire::Fixed64(_) => "8 bytes",
        Wire::Fixed32(_) => "4 bytes",
        Wire::Bytes(_) => "a length and bytes",
    };
    format!("the message has {found} for it, which is not of its type")
}

/// Seconds and nanoseconds of a `google.protobuf.Timestamp`.
fn timestamp(pieces: &[&[u8]]) -> Result<(i64, i64), String> {
    let (mut seconds, mut nanos) = (0, 0);
    for mut bytes in pieces.iter().copied() {
        while !bytes.is_empty() {
            let (number, wire_type) = wire::tag(&mut bytes)?;
            match (number, wire::value(&mut bytes, number, wire_type)?) {
                (1, Wire::Varint(v)) => seconds = v.cast_signed(),
                (2, Wire::Varint(v)) => nanos = i64::from(v as i32),
                (1 | 2, other) => return Err(unfit(other)),
                _ => {}
            }
        }
    }
    if (0..1_000_000_000).contains(&nanos) { Ok((seconds, nanos)) } else { Err(format!("{nanos} nanoseconds are no part of a second")) }
}

/// An instant in a unit.
fn instant(seconds: i64, nanos: i64, unit: TimeUnit) -> Result<i64, Misfit> {
    let per_unit = per_second(TimeUnit::Nanosecond) / per_second(unit);
    if nanos % per_unit != 0 {
        return Err(Misfit::Fraction);
    }
    seconds.checked_mul(per_second(unit)).and_then(|units| units.checked_add(nanos / per_unit)).ok_or(Misfit::Size)
}
