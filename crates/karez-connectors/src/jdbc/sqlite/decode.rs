//! Values of SQLite as Arrow columns. Any value may stand in any column: one that does not fit makes its row a bad record.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, BooleanBuilder, Decimal128Builder, Decimal256Builder, Float64Builder, Int64Builder, StringBuilder,
};
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::compute::{cast, filter};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use chrono::{NaiveDate, NaiveTime, Timelike, Utc};
use karez_core::dead_letter::row_record;
use karez_core::exact::{self, Misfit, decimal, per_second};
use karez_core::{BadRecord, Result};
use rusqlite::Row;
use rusqlite::types::ValueRef;

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

/// Collects the rows of a page.
pub(super) struct Page {
    schema: SchemaRef,
    columns: Vec<Column>,
    good: Vec<bool>,
    origins: Option<StringBuilder>,
    /// Rows of which a value cannot be read: which, why, and where they are from.
    bad: Vec<(usize, String, String)>,
    /// About how many bytes the rows hold.
    pub(super) bytes: usize,
}

impl Page {
    /// A page of rows of a schema; with `origins`, the schema ends in the origin column.
    pub(super) fn new(schema: SchemaRef, with_origin: bool) -> Result<Self, String> {
        let visible = schema.fields().len() - usize::from(with_origin);
        let columns = schema.fields()[..visible].iter().map(|f| Column::new(f)).collect::<Result<_, _>>()?;
        Ok(Self { columns, schema, good: Vec::new(), origins: with_origin.then(StringBuilder::new), bad: Vec::new(), bytes: 0 })
    }

    /// Rows taken, bad ones included.
    pub(super) fn rows(&self) -> usize {
        self.good.len()
    }

    /// Takes the first columns of a row.
    pub(super) fn push(&mut self, row: &Row<'_>, origin: impl FnOnce() -> String) -> rusqlite::Result<()> {
        let mut wrong: Option<String> = None;
        for (i, (column, field)) in self.columns.iter_mut().zip(self.schema.fields()).enumerate() {
            let value = row.get_ref(i)?;
            self.bytes += size(value);
            if let Err(why) = column.push(value, field)
                && wrong.is_none()
            {
                wrong = Some(format!("column `{}`: {why}", field.name()));
            }
        }
        self.good.push(wrong.is_none());
        if wrong.is_some() || self.origins.is_some() {
            let origin = origin();
            if let Some(origins) = &mut self.origins {
                origins.append_value(&origin);
            }
            if let Some(why) = wrong {
                self.bad.push((self.good.len() - 1, why, origin));
            }
        }
        Ok(())
    }

    /// The rows that are good, and those that are not.
    pub(super) fn finish(self) -> Result<(RecordBatch, Vec<BadRecord>)> {
        let mut arrays =
            self.columns.into_iter().zip(self.schema.fields()).map(|(c, f)| c.finish(f.data_type())).collect::<Result<Vec<ArrayRef>>>()?;
        let bad = letters(&self.schema, &arrays, self.bad)?;
        arrays.extend(self.origins.map(|mut o| Arc::new(o.finish()) as ArrayRef));
        let rows = self.good.iter().filter(|g| **g).count();
        if rows < self.good.len() {
            let good = BooleanArray::from(self.good);
            arrays = arrays.iter().map(|a| filter(a, &good)).collect::<Result<_, _>>()?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok((RecordBatch::try_new_with_options(self.schema, arrays, &options)?, bad))
    }
}

/// The bad rows, in the types of the columns; what could not be read is left out.
fn letters(schema: &SchemaRef, columns: &[ArrayRef], bad: Vec<(usize, String, String)>) -> Result<Vec<BadRecord>> {
    if bad.is_empty() {
        return Ok(Vec::new());
    }
    let nullable: Vec<_> = schema.fields().iter().take(columns.len()).map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let all = RecordBatch::try_new(Arc::new(Schema::new(nullable)), columns.to_vec())?;
    bad.into_iter().map(|(row, why, origin)| Ok(BadRecord { origin: Some(origin), ..row_record(&all, row, why)? })).collect()
}

fn size(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Null => 1,
        ValueRef::Integer(_) | ValueRef::Real(_) => 8,
        ValueRef::Text(b) | ValueRef::Blob(b) => b.len() + 4,
    }
}

enum Column {
    Boolean(BooleanBuilder),
    /// All integers, checked for the range of their type.
    Integer(Int64Builder, i64, i64),
    Real(Float64Builder),
    Decimal128(Decimal128Builder, u8, i8),
    Decimal256(Decimal256Builder, u8, i8),
    Text(StringBuilder),
    Blob(BinaryBuilder),
    /// Days since 1970-01-01.
    Date(Int64Builder),
    /// Units since midnight.
    Time(Int64Builder, TimeUnit),
    /// Units since 1970-01-01T00:00:00.
    Timestamp(Int64Builder, TimeUnit),
}

impl Column {
    fn new(field: &Field) -> Result<Self, String> {
        let int = |min, max| Self::Integer(Int64Builder::new(), min, max);
        Ok(match field.data_type() {
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int8 => int(i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => int(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => int(i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => int(i64::MIN, i64::MAX),
            DataType::UInt8 => int(0, u8::MAX.into()),
            DataType::UInt16 => int(0, u16::MAX.into()),
            DataType::UInt32 => int(0, u32::MAX.into()),
            DataType::UInt64 => int(0, i64::MAX),
            DataType::Float32 | DataType::Float64 => Self::Real(Float64Builder::new()),
            DataType::Decimal128(p, s) => Self::Decimal128(Decimal128Builder::new().with_data_type(field.data_type().clone()), *p, *s),
            DataType::Decimal256(p, s) => Self::Decimal256(Decimal256Builder::new().with_data_type(field.data_type().clone()), *p, *s),
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::Binary => Self::Blob(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(Int64Builder::new()),
            DataType::Time32(unit) | DataType::Time64(unit) => Self::Time(Int64Builder::new(), *unit),
            DataType::Timestamp(unit, _) => Self::Timestamp(Int64Builder::new(), *unit),
            other => {
                return Err(format!(
                    "column `{}` cannot be read as {}; declare it as `string` and take it apart in the job",
                    field.name(),
                    karez_core::sql_type::to_sql(other)
                ));
            }
        })
    }

    /// Whether a column of this type can be read.
    pub(super) fn check(field: &Field) -> Result<(), String> {
        Self::new(field).map(drop)
    }

    /// Appends a value, or a null where it does not fit and says why.
    fn push(&mut self, value: ValueRef<'_>, field: &Field) -> Result<(), String> {
        let result = self.value(value, field);
        if result.is_err() || value == ValueRef::Null {
            self.null();
        }
        match value {
            ValueRef::Null if !field.is_nullable() => Err("is null, but the column is `not null`".to_owned()),
            _ => result,
        }
    }

    /// Appends a value that is not null and fits; else appends nothing.
    fn value(&mut self, value: ValueRef<'_>, field: &Field) -> Result<(), String> {
        if value == ValueRef::Null {
            return Ok(());
        }
        let why = |misfit: Misfit| format!("{} {}", shown(value), misfit.says(field.data_type()));
        let unfit = || why(Misfit::Form);
        match self {
            Self::Boolean(b) => b.append_value(match value {
                ValueRef::Integer(0) => false,
                ValueRef::Integer(1) => true,
                ValueRef::Text(t) if t.eq_ignore_ascii_case(b"true") => true,
                ValueRef::Text(t) if t.eq_ignore_ascii_case(b"false") => false,
                _ => return Err(unfit()),
            }),
            Self::Integer(b, min, max) => {
                let integer = match value {
                    ValueRef::Integer(i) => i,
                    ValueRef::Real(r) if r.is_finite() && r.fract() != 0.0 => return Err(why(Misfit::Fraction)),
                    // Up to here, and no further, each is one of 64 bits.
                    ValueRef::Real(r) if (-TWO_TO_63..TWO_TO_63).contains(&r) => r as i64,
                    ValueRef::Real(_) => return Err(why(Misfit::Size)),
                    _ => return Err(unfit()),
                };
                if !(*min..=*max).contains(&integer) {
                    return Err(why(Misfit::Size));
                }
                b.append_value(integer);
            }
            Self::Real(b) => b.append_value(match value {
                ValueRef::Real(r) if *field.data_type() == DataType::Float32 && r.is_finite() && (r as f32).is_infinite() => {
                    return Err(why(Misfit::Size));
                }
                ValueRef::Real(r) => r,
                ValueRef::Integer(i) => i as f64,
                ValueRef::Text(_) => {
                    let text = text(value).ok_or_else(unfit)?;
                    let is_float = *field.data_type() == DataType::Float32;
                    if is_float { exact::text::float::<Float32Type>(text).map(f64::from) } else { exact::text::float::<Float64Type>(text) }
                        .map_err(why)?
                }
                _ => return Err(unfit()),
            }),
            Self::Decimal128(b, p, s) => {
                let text = decimal_text(value).ok_or_else(unfit)?;
                b.append_value(decimal::parse::<Decimal128Type>(&text, *p, *s).map_err(why)?);
            }
            Self::Decimal256(b, p, s) => {
                let text = decimal_text(value).ok_or_else(unfit)?;
                b.append_value(decimal::parse::<Decimal256Type>(&text, *p, *s).map_err(why)?);
            }
            Self::Text(b) => match value {
                ValueRef::Text(t) => b.append_value(std::str::from_utf8(t).map_err(|_| "the text is not UTF-8".to_owned())?),
                _ => return Err(unfit()),
            },
            Self::Blob(b) => match value {
                ValueRef::Blob(v) | ValueRef::Text(v) => b.append_value(v),
                _ => return Err(unfit()),
            },
            Self::Date(b) => {
                let date = text(value).and_then(|t| NaiveDate::parse_from_str(t, "%Y-%m-%d").ok()).ok_or_else(unfit)?;
                b.append_value(date.signed_duration_since(NaiveDate::default()).num_days());
            }
            Self::Time(b, unit) => {
                let parse = |t: &str| NaiveTime::parse_from_str(t, "%H:%M:%S%.f").or_else(|_| NaiveTime::parse_from_str(t, "%H:%M")).ok();
                let time = text(value).and_then(parse).ok_or_else(unfit)?;
                let nanos = i64::from(time.num_seconds_from_midnight()) * per_second(TimeUnit::Nanosecond) + i64::from(time.nanosecond());
                let unit = per_second(TimeUnit::Nanosecond) / per_second(*unit);
                if nanos % unit != 0 {
                    return Err(why(Misfit::Fraction));
                }
                b.append_value(nanos / unit);
            }
            // A text without zone is taken as it is, in UTC where the column has one.
            Self::Timestamp(b, unit) => match value {
                ValueRef::Integer(_) | ValueRef::Real(_) => {
                    return Err(format!("{}; declare the column as `bigint` or `double` and convert it in the job", unfit()));
                }
                _ => {
                    let text = text(value).ok_or_else(unfit)?;
                    b.append_value(exact::text::timestamp(text.trim(), &Utc, *unit).map_err(why)?);
                }
            },
        }
        Ok(())
    }

    fn null(&mut self) {
        match self {
            Self::Boolean(b) => b.append_null(),
            Self::Integer(b, ..) | Self::Date(b) | Self::Time(b, _) | Self::Timestamp(b, _) => b.append_null(),
            Self::Real(b) => b.append_null(),
            Self::Decimal128(b, ..) => b.append_null(),
            Self::Decimal256(b, ..) => b.append_null(),
            Self::Text(b) => b.append_null(),
            Self::Blob(b) => b.append_null(),
        }
    }

    fn finish(self, data_type: &DataType) -> Result<ArrayRef> {
        let array: ArrayRef = match self {
            Self::Boolean(mut b) => Arc::new(b.finish()),
            Self::Integer(mut b, ..) | Self::Timestamp(mut b, _) => Arc::new(b.finish()),
            Self::Real(mut b) => Arc::new(b.finish()),
            Self::Decimal128(mut b, ..) => Arc::new(b.finish()),
            Self::Decimal256(mut b, ..) => Arc::new(b.finish()),
            Self::Text(mut b) => Arc::new(b.finish()),
            Self::Blob(mut b) => Arc::new(b.finish()),
            Self::Date(mut b) => cast(&(Arc::new(b.finish()) as ArrayRef), &DataType::Int32)?,
            Self::Time(mut b, _) => {
                let ints: ArrayRef = Arc::new(b.finish());
                if matches!(data_type, DataType::Time32(_)) { cast(&ints, &DataType::Int32)? } else { ints }
            }
        };
        Ok(if array.data_type() == data_type { array } else { cast(&array, data_type)? })
    }
}

/// Whether a column of this type can be read; else what to do.
pub(super) fn check(field: &Field) -> Result<(), String> {
    Column::check(field)
}

/// A timestamp in milliseconds since 1970, begun ones not counted. A text without zone is taken for UTC.
pub(super) fn instant_ms(value: ValueRef<'_>) -> Option<i64> {
    Some(string_to_datetime(&Utc, text(value)?.trim()).ok()?.timestamp_millis())
}

fn text(value: ValueRef<'_>) -> Option<&str> {
    match value {
        ValueRef::Text(t) => std::str::from_utf8(t).ok(),
        _ => None,
    }
}

/// A number as decimal digits; `None` where it is none.
fn decimal_text(value: ValueRef<'_>) -> Option<String> {
    let text = match value {
        ValueRef::Integer(i) => i.to_string(),
        // The shortest digits that stand for this double: those that were written, up to 15.
        ValueRef::Real(r) if r.is_finite() => r.to_string(),
        ValueRef::Text(t) => std::str::from_utf8(t).ok()?.trim().to_owned(),
        _ => return None,
    };
    let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let (whole, behind) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = (!whole.is_empty() || !behind.is_empty()) && whole.bytes().chain(behind.bytes()).all(|b| b.is_ascii_digit());
    plain.then_some(text)
}

fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(i) => format!("{i} (INTEGER)"),
        ValueRef::Real(r) => format!("{r} (REAL)"),
        ValueRef::Text(t) => {
            let text = String::from_utf8_lossy(t);
            let cut: String = text.chars().take(64).collect();
            format!("'{cut}{}' (TEXT)", if cut.len() < text.len() { "…" } else { "" })
        }
        ValueRef::Blob(b) => format!("a BLOB of {} bytes", b.len()),
    }
}
