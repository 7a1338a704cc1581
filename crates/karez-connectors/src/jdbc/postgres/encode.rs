//! Arrow columns in the forms of COPY: binary where every type of the table can be written so, else text, which every type can be read from.

use std::borrow::Cow;
use std::fmt::Write;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int16Array, Int32Array, Int64Array, ListArray, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DECIMAL256_MAX_PRECISION, DataType, Decimal256Type, Field, Time64MicrosecondType, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use bytes::BufMut;
use karez_core::exact::{Misfit, cast_rows, decimal, is_of_day};

use super::super::rows::{hex, json};
use super::super::server::failure::{Failure, Kind};
use super::super::server::table::Column;
use super::super::temporal;
use super::decode::{EPOCH_DAYS, EPOCH_MICROS};
use super::types::{self, JSONB, UUID};
use super::{numeric, text};

/// Rows ready to be written.
pub(super) enum Encoder {
    Binary(Vec<Cell>),
    Text(Vec<ArrayRef>),
}

const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

impl Encoder {
    /// For rows whose columns are those of a table. The failure names the first row with a value that does not fit its column.
    pub(super) fn new(columns: &[Column], rows: &RecordBatch) -> Result<Self, Failure> {
        let of_type = |(c, a): (&Column, &ArrayRef)| types::canonical(a.data_type(), c);
        let known: Vec<Option<DataType>> = columns.iter().zip(rows.columns()).map(of_type).collect();
        let mut arrays = Vec::with_capacity(columns.len());
        for ((column, array), known) in columns.iter().zip(rows.columns()).zip(&known) {
            let words = if column.element_id != 0 && array.data_type().is_nested() { types::array_of(DataType::Utf8) } else { DataType::Utf8 };
            arrays.push(fitted(array, column, known.as_ref().unwrap_or(&words))?);
        }
        if known.iter().all(Option::is_some) {
            let cells = columns.iter().zip(&arrays).map(|(c, a)| Cell::of(a, c)).collect::<Option<Vec<_>>>();
            return cells.map(Self::Binary).ok_or_else(|| Failure::new(Kind::Server, "a column has no binary form"));
        }
        Ok(Self::Text(arrays))
    }

    /// What COPY is told.
    pub(super) const fn format(&self) -> &'static str {
        match self {
            Self::Binary(_) => "binary",
            Self::Text(_) => "text",
        }
    }

    pub(super) fn begin(&self, out: &mut Vec<u8>) {
        if let Self::Binary(_) = self {
            out.extend(HEAD);
        }
    }

    /// Appends a row; the error says why it cannot be written.
    pub(super) fn row(&self, out: &mut Vec<u8>, row: usize) -> Result<(), String> {
        match self {
            Self::Binary(cells) => {
                out.put_i16(i16::try_from(cells.len()).map_err(|_| "a table of so many columns has no binary form")?);
                cells.iter().try_for_each(|cell| cell.write(out, row))
            }
            Self::Text(arrays) => {
                let mut value = String::new();
                for (i, array) in arrays.iter().enumerate() {
                    if i > 0 {
                        out.push(b'\t');
                    }
                    if array.is_null(row) || *array.data_type() == DataType::Null {
                        out.extend(b"\\N");
                        continue;
                    }
                    value.clear();
                    words(array, row, &mut value);
                    no_zero(value.as_bytes())?;
                    text::escape(out, &value);
                }
                out.push(b'\n');
                Ok(())
            }
        }
    }

    pub(super) fn end(&self, out: &mut Vec<u8>) {
        if let Self::Binary(_) = self {
            out.put_i16(-1);
        }
    }
}

/// A column in the type it is written in; a value that would be changed or lost is a row's fault.
fn fitted(array: &ArrayRef, column: &Column, to: &DataType) -> Result<ArrayRef, Failure> {
    let server = |e: &dyn std::fmt::Display| Failure::new(Kind::Server, format!("column `{}`: {e}", column.name));
    if array.data_type() == to {
        unchanged(array, column)?;
        return Ok(ArrayRef::clone(array));
    }
    if array.data_type().is_nested() && *to == DataType::Utf8 {
        return Ok(std::sync::Arc::new(json(array).map_err(|e| server(&e))?));
    }
    let (out, misfits) = cast_rows(array, &Field::new("", to.clone(), true)).map_err(|e| server(&e))?;
    if let Some((row, why)) = misfits.into_iter().next() {
        return Err(Failure::new(Kind::Row(Some(row)), format!("column `{}` ({}): {why}", column.name, column.declared)));
    }
    unchanged(&out, column)?;
    Ok(out)
}

/// Refuses the first row with a value, or an array with one, that the server would change without a word, or that is none.
fn unchanged(array: &ArrayRef, column: &Column) -> Result<(), Failure> {
    match misfit(array, column) {
        None => Ok(()),
        Some((row, why)) => Err(Failure::new(Kind::Row(Some(row)), format!("column `{}`: {why}", column.name))),
    }
}

fn misfit(array: &ArrayRef, column: &Column) -> Option<(usize, String)> {
    let first = |why: &dyn Fn(usize) -> Option<String>| (0..array.len()).filter(|r| array.is_valid(*r)).find_map(|r| Some((r, why(r)?)));
    let unit = types::second_digits(column).map_or(1, |digits| 10_i64.pow(6 - digits));
    let rounded = |row, micros: i64| {
        let value = || arrow::util::display::array_value_to_string(array, row).unwrap_or_default();
        (micros % unit != 0).then(|| format!("{} has more digits behind the second than {}", value(), column.declared))
    };
    match array.data_type() {
        DataType::List(_) => {
            let (list, elements) = (array.as_list::<i32>(), types::of_elements(column));
            // All together, and one by one only where it must be known which.
            misfit(list.values(), &elements)?;
            first(&|row| misfit(&list.value(row), &elements).map(|(_, why)| why))
        }
        DataType::Time64(_) => {
            let times = array.as_primitive::<Time64MicrosecondType>().values();
            let none = |row| (!is_of_day(times[row], 1_000_000)).then(|| format!("{} is no time of a day", times[row]));
            first(&|row| none(row).or_else(|| rounded(row, times[row])))
        }
        DataType::Timestamp(..) => {
            let instants = array.as_primitive::<TimestampMicrosecondType>().values();
            first(&|row| rounded(row, instants[row]))
        }
        DataType::Utf8 if column.type_id == types::NUMERIC => {
            // Beyond 127 digits behind the point a text is refused whatever the column keeps.
            let scale = i8::try_from(types::scale(column)?).unwrap_or(i8::MAX);
            let texts = array.as_string::<i32>();
            first(&|row| {
                let text = texts.value(row).trim();
                match decimal::parse::<Decimal256Type>(text, DECIMAL256_MAX_PRECISION, scale) {
                    Err(Misfit::Fraction) => Some(format!("`{text}` has more digits behind the point than {}", column.declared)),
                    Err(Misfit::Form) if !numeric::is_word(text) => Some(format!("`{text}` is no number")),
                    // The server finds what is out of range.
                    _ => None,
                }
            })
        }
        _ => None,
    }
}

/// A column whose values are written one by one.
pub(super) enum Cell {
    Null,
    Boolean(BooleanArray),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    Oid(Int64Array, String),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal128(Decimal128Array, i8),
    Decimal256(Decimal256Array, i8),
    Numeric(StringArray, String),
    Text(StringArray, String),
    Jsonb(StringArray, String),
    Uuid(StringArray, String),
    UuidBytes(FixedSizeBinaryArray),
    Blob(BinaryArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray),
    List(ListArray, u32, Box<Cell>),
}

macro_rules! put {
    ($out:ident, $array:ident, $row:ident, |$v:ident| $bytes:expr) => {{
        if $array.is_null($row) {
            $out.put_i32(-1);
        } else {
            let $v = $array.value($row);
            let bytes = $bytes;
            $out.put_i32(bytes.len() as i32);
            $out.extend_from_slice(&bytes);
        }
        Ok(())
    }};
}

impl Cell {
    fn of(array: &ArrayRef, column: &Column) -> Option<Self> {
        let name = || column.name.clone();
        Some(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            DataType::Int16 => Self::Int16(array.as_primitive().clone()),
            DataType::Int32 => Self::Int32(array.as_primitive().clone()),
            DataType::Int64 if column.type_id == types::OID => Self::Oid(array.as_primitive().clone(), name()),
            DataType::Int64 => Self::Int64(array.as_primitive().clone()),
            DataType::Float32 => Self::Float32(array.as_primitive().clone()),
            DataType::Float64 => Self::Float64(array.as_primitive().clone()),
            DataType::Decimal128(_, s) => Self::Decimal128(array.as_primitive().clone(), *s),
            DataType::Decimal256(_, s) => Self::Decimal256(array.as_primitive().clone(), *s),
            DataType::Utf8 => {
                let array = array.as_string::<i32>().clone();
                match column.type_id {
                    types::NUMERIC => Self::Numeric(array, name()),
                    JSONB => Self::Jsonb(array, name()),
                    UUID => Self::Uuid(array, name()),
                    _ => Self::Text(array, name()),
                }
            }
            DataType::FixedSizeBinary(16) => Self::UuidBytes(array.as_fixed_size_binary().clone()),
            DataType::Binary => Self::Blob(array.as_binary().clone()),
            DataType::Date32 => Self::Date(array.as_primitive().clone()),
            DataType::Time64(_) => Self::Time(array.as_primitive::<Time64MicrosecondType>().clone()),
            DataType::Timestamp(..) => Self::Timestamp(array.as_primitive::<TimestampMicrosecondType>().clone()),
            DataType::List(_) => {
                let list = array.as_list::<i32>().clone();
                let element = Self::of(list.values(), &types::of_elements(column))?;
                Self::List(list, column.element_id, Box::new(element))
            }
            _ => return None,
        })
    }

    /// Appends the length of a value and the value.
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // Lengths of fixed types.
    fn write(&self, out: &mut Vec<u8>, row: usize) -> Result<(), String> {
        match self {
            Self::Null => {
                out.put_i32(-1);
                Ok(())
            }
            Self::Boolean(a) => put!(out, a, row, |v| [u8::from(v)]),
            Self::Int16(a) => put!(out, a, row, |v| v.to_be_bytes()),
            Self::Int32(a) => put!(out, a, row, |v| v.to_be_bytes()),
            Self::Int64(a) => put!(out, a, row, |v| v.to_be_bytes()),
            Self::Oid(a, name) => {
                put!(out, a, row, |v| u32::try_from(v).map_err(|_| format!("column `{name}`: {v} is out of range for oid"))?.to_be_bytes())
            }
            Self::Float32(a) => put!(out, a, row, |v| v.to_be_bytes()),
            Self::Float64(a) => put!(out, a, row, |v| v.to_be_bytes()),
            Self::Date(a) => put!(out, a, row, |v| v.checked_sub(EPOCH_DAYS).ok_or("a date beyond PostgreSQL's")?.to_be_bytes()),
            Self::Time(a) => put!(out, a, row, |v| v.to_be_bytes()),
            Self::Timestamp(a) => put!(out, a, row, |v| v.checked_sub(EPOCH_MICROS).ok_or("a timestamp beyond PostgreSQL's")?.to_be_bytes()),
            Self::UuidBytes(a) => put!(out, a, row, |v| v),
            Self::Uuid(a, name) => put!(out, a, row, |v| text::parse_uuid(v).ok_or_else(|| format!("column `{name}`: `{v}` is no uuid"))?),
            Self::Blob(a) => {
                if a.is_null(row) {
                    out.put_i32(-1);
                    return Ok(());
                }
                bytes(out, &[], a.value(row))
            }
            Self::Text(a, name) | Self::Jsonb(a, name) => {
                if a.is_null(row) {
                    out.put_i32(-1);
                    return Ok(());
                }
                let value = a.value(row).as_bytes();
                no_zero(value).map_err(|e| format!("column `{name}`: {e}"))?;
                bytes(out, if matches!(self, Self::Jsonb(..)) { &[1] } else { &[] }, value)
            }
            Self::Numeric(a, name) => {
                if a.is_null(row) {
                    out.put_i32(-1);
                    return Ok(());
                }
                if numeric::write_text(out, a.value(row)) { Ok(()) } else { Err(format!("column `{name}`: `{}` is no number", a.value(row))) }
            }
            Self::Decimal128(a, scale) => {
                if a.is_null(row) {
                    out.put_i32(-1);
                } else {
                    let value = a.value(row);
                    put_decimal(out, value < 0, &value.unsigned_abs().to_string(), *scale);
                }
                Ok(())
            }
            Self::Decimal256(a, scale) => {
                if a.is_null(row) {
                    out.put_i32(-1);
                } else {
                    let digits = a.value(row).to_string();
                    put_decimal(out, digits.starts_with('-'), digits.trim_start_matches('-'), *scale);
                }
                Ok(())
            }
            Self::List(a, element_type, element) => {
                if a.is_null(row) {
                    out.put_i32(-1);
                    return Ok(());
                }
                let at = out.len();
                out.put_i32(0);
                let offsets = a.value_offsets();
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                if from == to {
                    out.put_i32(0);
                    out.put_i32(0);
                    out.put_u32(*element_type);
                } else {
                    out.put_i32(1);
                    out.put_i32(1);
                    out.put_u32(*element_type);
                    out.put_i32((to - from) as i32);
                    out.put_i32(1);
                    (from..to).try_for_each(|i| element.write(out, i))?;
                }
                let length = i32::try_from(out.len() - at - 4).map_err(|_| too_long())?;
                out[at..at + 4].copy_from_slice(&length.to_be_bytes());
                Ok(())
            }
        }
    }
}

fn bytes(out: &mut Vec<u8>, head: &[u8], value: &[u8]) -> Result<(), String> {
    out.put_i32(i32::try_from(head.len() + value.len()).ok().filter(|n| *n <= 0x3fff_ffff).ok_or_else(too_long)?);
    out.extend_from_slice(head);
    out.extend_from_slice(value);
    Ok(())
}

fn too_long() -> String {
    "a value of more than 1 GB, the most PostgreSQL can hold".to_owned()
}

fn no_zero(text: &[u8]) -> Result<(), String> {
    match memchr::memchr(0, text) {
        None => Ok(()),
        Some(_) => Err("PostgreSQL has no text with a zero byte in it".to_owned()),
    }
}

fn put_decimal(out: &mut Vec<u8>, negative: bool, digits: &str, scale: i8) {
    let digits = if digits == "0" { "" } else { digits };
    let mut padded = Cow::Borrowed(digits);
    if scale < 0 && !digits.is_empty() {
        padded = Cow::Owned(format!("{digits}{}", "0".repeat(usize::from(scale.unsigned_abs()))));
    }
    numeric::write(out, negative, padded.as_bytes(), i32::from(scale.max(0)));
}

/// A value in the words that PostgreSQL reads it from.
fn words(array: &dyn Array, row: usize, out: &mut String) {
    match array.data_type() {
        DataType::Boolean => out.push(if array.as_boolean().value(row) { 't' } else { 'f' }),
        DataType::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        DataType::Binary => {
            out.push_str("\\x");
            out.push_str(&hex(array.as_binary::<i32>().value(row)));
        }
        DataType::FixedSizeBinary(_) => out.push_str(&hex(array.as_fixed_size_binary().value(row))),
        DataType::Date32 => temporal::date(out, i64::from(array.as_primitive::<arrow::datatypes::Date32Type>().value(row))),
        DataType::Time64(_) => temporal::time(out, array.as_primitive::<Time64MicrosecondType>().value(row), 1_000_000),
        DataType::Timestamp(_, zone) => {
            temporal::timestamp(out, array.as_primitive::<TimestampMicrosecondType>().value(row), 1_000_000, zone.is_some());
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.push('{');
            for i in 0..items.len() {
                if i > 0 {
                    out.push(',');
                }
                if items.is_null(i) {
                    out.push_str("NULL");
                    continue;
                }
                let mut item = String::new();
                words(items.as_ref(), i, &mut item);
                let _ = write!(out, "\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\""));
            }
            out.push('}');
        }
        // Numbers are written alike everywhere.
        _ => out.push_str(&arrow::util::display::array_value_to_string(array, row).unwrap_or_default()),
    }
}
