//! Values of the binary protocol as Arrow columns.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder, Float32Builder, Float64Builder,
    Int8Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder, UInt8Builder, UInt16Builder, UInt32Builder, UInt64Builder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal256Type};
use karez_core::exact::{decimal, per_second};
use karez_core::{Error, Result};
use mysql_async::{Row, Value};

use super::super::server::driver::Chunk;
use super::super::server::table::Column;
use super::settings::ZeroDates;

/// Collects rows.
pub(super) struct Chunks {
    columns: Vec<(Column, Values)>,
    zero_dates: ZeroDates,
    rows: usize,
    bytes: usize,
    bad: Vec<(usize, String)>,
}

impl Chunks {
    pub(super) fn new(columns: &[Column], zero_dates: ZeroDates) -> Result<Self> {
        let columns = columns.iter().map(|c| Ok((c.clone(), Values::new(c)?))).collect::<Result<_>>()?;
        Ok(Self { columns, zero_dates, rows: 0, bytes: 0, bad: Vec::new() })
    }

    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, row: Row) {
        let mut wrong: Option<String> = None;
        for (i, (column, values)) in self.columns.iter_mut().enumerate() {
            let value = row.as_ref(i).unwrap_or(&Value::NULL);
            self.bytes += size(value);
            if let Err(why) = values.push(value, self.zero_dates) {
                values.null();
                wrong.get_or_insert_with(|| format!("column `{}`: {why}", column.name));
            }
        }
        if let Some(why) = wrong {
            self.bad.push((self.rows, why));
        }
        self.rows += 1;
    }

    /// What has been collected; the next rows begin anew.
    pub(super) fn take(&mut self) -> Result<Chunk> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (column, values) in &mut self.columns {
            let array = values.finish();
            columns.push(match data_type(column)? {
                same if array.data_type() == same => array,
                // Units are counted in 64 bits, of which these need fewer.
                time @ DataType::Time32(_) => cast(&cast(&array, &DataType::Int32)?, time)?,
                other => cast(&array, other)?,
            });
        }
        Ok(Chunk { rows: std::mem::take(&mut self.rows), columns, bad: std::mem::take(&mut self.bad), bytes: std::mem::take(&mut self.bytes) })
    }
}

fn data_type(column: &Column) -> Result<&DataType> {
    column.data_type.as_ref().ok_or_else(|| Error::internal(format!("column `{}` has no mapping, but is read", column.name)))
}

fn size(value: &Value) -> usize {
    match value {
        Value::Bytes(b) => b.len() + 4,
        Value::Date(..) | Value::Time(..) => 12,
        _ => 8,
    }
}

/// The values of a column, as a builder of its type or of one that is cast to it without loss.
enum Values {
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt8(UInt8Builder),
    UInt16(UInt16Builder),
    UInt32(UInt32Builder),
    UInt64(UInt64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Decimal128(Decimal128Builder, u8, u8),
    Decimal256(Decimal256Builder, u8, i8),
    Text(StringBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    /// Units since midnight.
    Time(Int64Builder, i64),
    /// Units since 1970-01-01T00:00:00.
    Timestamp(Int64Builder, i64),
}

macro_rules! each {
    ($self:expr, $b:ident => $body:expr) => {
        match $self {
            Values::Boolean($b) => $body,
            Values::Int8($b) => $body,
            Values::Int16($b) => $body,
            Values::Int32($b) => $body,
            Values::Int64($b) => $body,
            Values::UInt8($b) => $body,
            Values::UInt16($b) => $body,
            Values::UInt32($b) => $body,
            Values::UInt64($b) => $body,
            Values::Float($b) => $body,
            Values::Double($b) => $body,
            Values::Decimal128($b, ..) => $body,
            Values::Decimal256($b, ..) => $body,
            Values::Text($b) => $body,
            Values::Binary($b) => $body,
            Values::Date($b) => $body,
            Values::Time($b, _) => $body,
            Values::Timestamp($b, _) => $body,
        }
    };
}

macro_rules! integer {
    ($builder:expr, $value:expr) => {
        match $value {
            Value::Int(i) => $builder.append_value((*i).try_into().map_err(|_| unfit($value))?),
            Value::UInt(u) => $builder.append_value((*u).try_into().map_err(|_| unfit($value))?),
            _ => return Err(unfit($value)),
        }
    };
}

impl Values {
    fn new(column: &Column) -> Result<Self> {
        let data_type = data_type(column)?;
        Ok(match data_type {
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int8 => Self::Int8(Int8Builder::new()),
            DataType::Int16 => Self::Int16(Int16Builder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::UInt8 => Self::UInt8(UInt8Builder::new()),
            DataType::UInt16 => Self::UInt16(UInt16Builder::new()),
            DataType::UInt32 => Self::UInt32(UInt32Builder::new()),
            DataType::UInt64 => Self::UInt64(UInt64Builder::new()),
            DataType::Float32 => Self::Float(Float32Builder::new()),
            DataType::Float64 => Self::Double(Float64Builder::new()),
            DataType::Decimal128(p, s) => {
                Self::Decimal128(Decimal128Builder::new().with_data_type(data_type.clone()), *p, u8::try_from(*s).unwrap_or(0))
            }
            DataType::Decimal256(p, s) => Self::Decimal256(Decimal256Builder::new().with_data_type(data_type.clone()), *p, *s),
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Time32(unit) | DataType::Time64(unit) => Self::Time(Int64Builder::new(), per_second(*unit)),
            DataType::Timestamp(unit, _) => Self::Timestamp(Int64Builder::new(), per_second(*unit)),
            other => return Err(Error::internal(format!("column `{}` is read as {other}", column.name))),
        })
    }

    fn null(&mut self) {
        each!(self, b => b.append_null());
    }

    /// Appends a value; appends nothing where it does not fit, and says why.
    fn push(&mut self, value: &Value, zero_dates: ZeroDates) -> Result<(), String> {
        if *value == Value::NULL {
            self.null();
            return Ok(());
        }
        match self {
            Self::Boolean(b) => b.append_value(match value {
                Value::Int(0) | Value::UInt(0) => false,
                Value::Int(1) | Value::UInt(1) => true,
                Value::Bytes(bit) => matches!(bit[..], [1]),
                _ => return Err(format!("{}; read such a column by a `query` with `CAST(… AS SIGNED)`", unfit(value))),
            }),
            Self::Int8(b) => integer!(b, value),
            Self::Int16(b) => integer!(b, value),
            Self::Int32(b) => integer!(b, value),
            Self::Int64(b) => integer!(b, value),
            Self::UInt8(b) => integer!(b, value),
            Self::UInt16(b) => integer!(b, value),
            Self::UInt32(b) => integer!(b, value),
            Self::UInt64(b) => match value {
                // A BIT column: its bits, the highest first.
                Value::Bytes(bits) if bits.len() <= 8 => b.append_value(bits.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))),
                _ => integer!(b, value),
            },
            Self::Float(b) => match value {
                Value::Float(f) => b.append_value(*f),
                _ => return Err(unfit(value)),
            },
            Self::Double(b) => match value {
                Value::Double(d) => b.append_value(*d),
                Value::Float(f) => b.append_value(f64::from(*f)),
                _ => return Err(unfit(value)),
            },
            Self::Decimal128(b, p, s) => b.append_value(match value {
                Value::Bytes(digits) => small_decimal(digits, *p, *s).ok_or_else(|| unfit(value))?,
                _ => return Err(unfit(value)),
            }),
            Self::Decimal256(b, p, s) => b.append_value(match value {
                Value::Bytes(digits) => {
                    std::str::from_utf8(digits).ok().and_then(|t| decimal::parse::<Decimal256Type>(t, *p, *s).ok()).ok_or_else(|| unfit(value))?
                }
                _ => return Err(unfit(value)),
            }),
            Self::Text(b) => match value {
                Value::Bytes(text) => b.append_value(std::str::from_utf8(text).map_err(|_| "the text is not UTF-8".to_owned())?),
                _ => return Err(unfit(value)),
            },
            Self::Binary(b) => match value {
                Value::Bytes(bytes) => b.append_value(bytes),
                _ => return Err(unfit(value)),
            },
            Self::Date(b) => match instant(value, 1) {
                Some(seconds) => b.append_value(i32::try_from(seconds.div_euclid(86_400)).map_err(|_| unfit(value))?),
                None => return zero_date(value, zero_dates).map(|()| b.append_null()),
            },
            Self::Timestamp(b, units) => match instant(value, *units) {
                Some(at) => b.append_value(at),
                None => return zero_date(value, zero_dates).map(|()| b.append_null()),
            },
            Self::Time(b, units) => match value {
                Value::Time(false, 0, hours @ 0..24, minutes, seconds, micros) => {
                    let seconds = i64::from(*hours) * 3_600 + i64::from(*minutes) * 60 + i64::from(*seconds);
                    b.append_value(seconds * *units + i64::from(*micros) / (1_000_000 / *units));
                }
                _ => return Err(format!("{} is no time of day; read such a column by a `query` with `CAST(… AS CHAR)`", value.as_sql(true))),
            },
        }
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        each!(self, b => Arc::new(ArrayBuilder::finish(b)) as ArrayRef)
    }
}

fn unfit(value: &Value) -> String {
    let text: String = value.as_sql(true).chars().take(64).collect();
    format!("{text} does not fit the column's type")
}

/// A date that is none: `0000-00-00`, `2013-01-00`.
fn zero_date(value: &Value, zero_dates: ZeroDates) -> Result<(), String> {
    match (value, zero_dates) {
        (Value::Date(..), ZeroDates::Null) => Ok(()),
        (Value::Date(..), ZeroDates::Refused) => {
            Err(format!("{} is no date; `zeroDateTimeBehavior=CONVERT_TO_NULL` in `url` reads such dates as null", value.as_sql(true)))
        }
        _ => Err(unfit(value)),
    }
}

/// Units since 1970; `None` where it is no date.
fn instant(value: &Value, units: i64) -> Option<i64> {
    let Value::Date(year, month, day, hour, minute, second, micros) = value else { return None };
    let seconds = days(*year, *month, *day)? * 86_400 + i64::from(*hour) * 3_600 + i64::from(*minute) * 60 + i64::from(*second);
    Some(seconds * units + i64::from(*micros) * units / 1_000_000)
}

/// Days since 1970-01-01 (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(year: u16, month: u8, day: u8) -> Option<i64> {
    const LENGTHS: [u8; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = *LENGTHS.get(usize::from(month).checked_sub(1)?)? + u8::from(is_leap && month == 2);
    if day == 0 || day > length {
        return None;
    }
    let y = i64::from(year) - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let month_from_march = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// A decimal as the server writes it, `-12.50`, with at most `scale` digits behind the point.
fn small_decimal(text: &[u8], precision: u8, scale: u8) -> Option<i128> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    let mut value: i128 = 0;
    let mut behind: Option<u8> = None;
    for &c in digits {
        match (c, &mut behind) {
            (b'0'..=b'9', behind) => {
                value = value.checked_mul(10)?.checked_add(i128::from(c - b'0'))?;
                if let Some(n) = behind {
                    *n += 1;
                }
            }
            (b'.', None) => behind = Some(0),
            _ => return None,
        }
    }
    value = value.checked_mul(10_i128.checked_pow(u32::from(scale.checked_sub(behind.unwrap_or(0))?))?)?;
    let fits = precision >= 38 || value < 10_i128.pow(u32::from(precision));
    fits.then_some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_what_chrono_counts() {
        for (y, m, d) in [(1970, 1, 1), (2000, 2, 29), (1, 1, 1), (9999, 12, 31), (1900, 3, 1), (2024, 12, 31)] {
            let expected = chrono::NaiveDate::from_ymd_opt(i32::from(y), u32::from(m), u32::from(d))
                .map(|date| date.signed_duration_since(chrono::NaiveDate::default()).num_days());
            assert_eq!(days(y, m, d), expected);
        }
        for (y, m, d) in [(0, 0, 0), (2013, 0, 1), (2013, 1, 0), (1900, 2, 29), (2013, 13, 1)] {
            assert_eq!(days(y, m, d), None);
        }
    }

    #[test]
    fn decimals_keep_every_digit() {
        assert_eq!(small_decimal(b"-0.05", 5, 2), Some(-5));
        assert_eq!(small_decimal(b"12", 5, 2), Some(1_200));
        assert_eq!(small_decimal(b"99999999999999999999999999999999999999", 38, 0), Some(99_999_999_999_999_999_999_999_999_999_999_999_999));
        assert_eq!(small_decimal(b"1.234", 5, 2), None);
        assert_eq!(small_decimal(b"1000", 3, 0), None);
    }
}
