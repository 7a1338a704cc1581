//! Arrow columns as values of SQLite.

use arrow::array::types::{ArrowPrimitiveType, Float32Type, Float64Type};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array, LargeBinaryArray, LargeStringArray, PrimitiveArray, StringArray, StringBuilder,
    UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use karez_core::exact::{is_of_day, per_second};
use karez_core::{Error, Result};
use rusqlite::types::ValueRef;

use super::super::rows::json;
use super::super::temporal;
use super::types::{Affinity, EXACT_DIGITS};

/// A column whose values can be bound one by one.
#[derive(Debug)]
pub(super) enum Values {
    Null,
    Integer(Int64Array, Affinity),
    Unsigned(UInt64Array, Affinity),
    Real(Float64Array),
    Text(StringArray),
    /// Texts of which those that are numbers become numbers.
    Number(StringArray, Affinity),
    /// Times; an empty text stands for what is none.
    Time(StringArray),
    LargeText(LargeStringArray),
    Blob(BinaryArray),
    LargeBlob(LargeBinaryArray),
}

impl Values {
    /// Values for a column of an affinity.
    pub(super) fn of(array: &ArrayRef, affinity: Affinity) -> Result<Self> {
        let to = |t: &DataType| Ok::<_, Error>(cast(array, t)?);
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            t if t.is_signed_integer() || matches!(t, DataType::Boolean | DataType::UInt8 | DataType::UInt16 | DataType::UInt32) => {
                Self::Integer(to(&DataType::Int64)?.as_primitive().clone(), affinity)
            }
            DataType::UInt64 => Self::Unsigned(array.as_primitive().clone(), affinity),
            // SQLite's own texts of them have 15 digits.
            DataType::Float16 | DataType::Float32 if affinity == Affinity::Text => {
                Self::Text(digits(to(&DataType::Float32)?.as_primitive::<Float32Type>()))
            }
            DataType::Float64 if affinity == Affinity::Text => Self::Text(digits(array.as_primitive::<Float64Type>())),
            t if t.is_floating() => Self::Real(to(&DataType::Float64)?.as_primitive().clone()),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View if matches!(affinity, Affinity::Numeric | Affinity::Real) => {
                Self::Number(to(&DataType::Utf8)?.as_string().clone(), affinity)
            }
            DataType::Utf8 => Self::Text(array.as_string().clone()),
            DataType::LargeUtf8 => Self::LargeText(array.as_string().clone()),
            DataType::Utf8View => Self::Text(to(&DataType::Utf8)?.as_string().clone()),
            DataType::Binary => Self::Blob(array.as_binary().clone()),
            DataType::LargeBinary => Self::LargeBlob(array.as_binary().clone()),
            DataType::BinaryView | DataType::FixedSizeBinary(_) => Self::Blob(to(&DataType::Binary)?.as_binary().clone()),
            DataType::Dictionary(_, value) => Self::of(&to(value)?, affinity)?,
            DataType::RunEndEncoded(_, values) => Self::of(&to(values.data_type())?, affinity)?,
            t if t.is_decimal() => Self::Text(to(&DataType::Utf8)?.as_string().clone()),
            DataType::Date32 | DataType::Date64 => {
                let days = cast(&to(&DataType::Date32)?, &DataType::Int32)?;
                Self::text(&cast(&days, &DataType::Int64)?, temporal::date)
            }
            DataType::Time32(unit) => {
                let units = per_second(*unit);
                let ints = cast(&to(&DataType::Int32)?, &DataType::Int64)?;
                Self::Time(Self::texts(&ints, |out, v| time(out, v, units)))
            }
            DataType::Time64(unit) => {
                let units = per_second(*unit);
                Self::Time(Self::texts(&to(&DataType::Int64)?, |out, v| time(out, v, units)))
            }
            DataType::Timestamp(unit, zone) => {
                let (units, utc) = (per_second(*unit), zone.is_some());
                Self::text(&to(&DataType::Int64)?, |out, v| temporal::timestamp(out, v, units, utc))
            }
            t if t.is_nested() => Self::Text(json(array)?),
            _ => Self::Text(to(&DataType::Utf8)?.as_string().clone()),
        })
    }

    fn text(ints: &ArrayRef, write: impl Fn(&mut String, i64)) -> Self {
        Self::Text(Self::texts(ints, write))
    }

    fn texts(ints: &ArrayRef, write: impl Fn(&mut String, i64)) -> StringArray {
        let ints = ints.as_primitive::<Int64Type>();
        let mut out = StringBuilder::with_capacity(ints.len(), ints.len() * 24);
        let mut text = String::with_capacity(32);
        for value in ints {
            match value {
                None => out.append_null(),
                Some(value) => {
                    text.clear();
                    write(&mut text, value);
                    out.append_value(&text);
                }
            }
        }
        out.finish()
    }

    /// The value of a row, or why SQLite cannot hold it.
    pub(super) fn get(&self, row: usize) -> Result<ValueRef<'_>, String> {
        Ok(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(a, affinity) if a.is_valid(row) => integer(a.value(row), *affinity)?,
            Self::Unsigned(a, affinity) if a.is_valid(row) => integer(
                i64::try_from(a.value(row)).map_err(|_| format!("{} is greater than {}, the greatest integer of SQLite", a.value(row), i64::MAX))?,
                *affinity,
            )?,
            Self::Number(a, affinity) if a.is_valid(row) => {
                let text = a.value(row);
                if becomes_another(text, *affinity) {
                    return Err(format!(
                        "SQLite would make another number of the text `{text}`: declare the column TEXT, or cast the values in a `map`"
                    ));
                }
                ValueRef::Text(text.as_bytes())
            }
            Self::Real(a) if a.is_valid(row) => ValueRef::Real(a.value(row)),
            Self::Time(a) if a.is_valid(row) && a.value(row).is_empty() => return Err("it is no time of a day".to_owned()),
            Self::Text(a) | Self::Time(a) if a.is_valid(row) => ValueRef::Text(a.value(row).as_bytes()),
            Self::LargeText(a) if a.is_valid(row) => ValueRef::Text(a.value(row).as_bytes()),
            Self::Blob(a) if a.is_valid(row) => ValueRef::Blob(a.value(row)),
            Self::LargeBlob(a) if a.is_valid(row) => ValueRef::Blob(a.value(row)),
            _ => ValueRef::Null,
        })
    }
}

fn integer(value: i64, affinity: Affinity) -> Result<ValueRef<'static>, String> {
    if affinity == Affinity::Real && value as f64 as i128 != i128::from(value) {
        return Err(format!("{value} has more digits than a double keeps, which the column would make of it: declare it INTEGER"));
    }
    Ok(ValueRef::Integer(value))
}

/// The fewest digits that stand for each number; none for NaN, which SQLite has not.
fn digits<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>) -> StringArray
where
    T::Native: Into<f64> + std::fmt::Debug,
{
    let text = |v: T::Native| {
        let value: f64 = v.into();
        match value {
            v if v.is_nan() => None,
            f64::INFINITY => Some("Infinity".to_owned()),
            f64::NEG_INFINITY => Some("-Infinity".to_owned()),
            _ => Some(format!("{v:?}")),
        }
    };
    array.iter().map(|v| v.and_then(text)).collect()
}

/// Whether a text is a number to SQLite, and not in the form in which that number is shown.
fn becomes_another(text: &str, affinity: Affinity) -> bool {
    let trimmed = text.trim_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let digits = trimmed.bytes().filter(u8::is_ascii_digit).count();
    let Some(value) = trimmed.parse::<f64>().ok().filter(|_| digits > 0) else { return false };
    let is_same = match text.parse::<i64>() {
        Ok(integer) => affinity == Affinity::Numeric && integer.to_string() == text,
        Err(_) => digits <= EXACT_DIGITS.into() && format!("{value:?}") == text && (affinity == Affinity::Real || value.fract() != 0.0),
    };
    !is_same
}

/// Appends a time; nothing where it is none of a day.
fn time(out: &mut String, time: i64, units: i64) {
    if is_of_day(time, units) {
        temporal::time(out, time, units);
    }
}
