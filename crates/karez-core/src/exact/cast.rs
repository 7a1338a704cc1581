//! Columns of one type as those of another.

use std::fmt::LowerExp;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::types::{ArrowPrimitiveType, Decimal128Type, Decimal256Type, DecimalType, Float32Type, Float64Type};
use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeBinaryBuilder, Int32Builder, ListArray, MapArray, PrimitiveArray, StringArray, StringBuilder,
    StructArray, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{can_cast_types, cast as arrow_cast, concat};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int32Type, Int64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions, array_value_to_string};

use super::{Misfit, decimal, text};

/// The key under which `arrow-avro` keeps the symbols of an enum (a JSON list) in a field's metadata.
const ENUM_SYMBOLS: &str = "avro.enum.symbols";

/// Whether values of one type can be those of another: whether each is, [`cast`] finds.
#[must_use]
pub fn can_cast(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    match (from, to) {
        (a, b) if a == b => true,
        (T::Null, _) => true,
        (T::Dictionary(_, values), _) => can_cast(values, to),
        (a, T::Dictionary(_, values)) => a.is_string() && values.is_string(),
        (T::Struct(a), T::Struct(b)) => b.iter().all(|to| match a.find(to.name()) {
            Some((_, from)) => can_cast(from.data_type(), to.data_type()),
            None => to.is_nullable(),
        }),
        (a, T::List(to)) => item(a).is_some_and(|from| can_cast(from.data_type(), to.data_type())),
        (T::Map(a, _), T::Map(b, _)) => match (entries(a), entries(b)) {
            (Some((key, value)), Some((to_key, to_value))) => {
                can_cast(key.data_type(), to_key.data_type()) && can_cast(value.data_type(), to_value.data_type())
            }
            _ => false,
        },
        (T::FixedSizeBinary(16), T::Utf8) | (T::Utf8, T::FixedSizeBinary(16)) => true,
        (a, b) if a.is_nested() || b.is_nested() => false,
        (a, b) => can_cast_types(a, b) && (!may_change(a, b) || can_cast_types(b, a)),
    }
}

/// A column as one of another type, for which [`can_cast`] has said yes.
///
/// A double or float takes the nearest number; everything else is kept as it is. A decimal of a double or float has the digits with which that is written,
/// the fewest that stand for it.
///
/// # Errors
/// The first value that the other type cannot hold.
pub fn cast(array: &ArrayRef, to: &Field) -> Result<ArrayRef, String> {
    use DataType as T;
    match (array.data_type(), to.data_type()) {
        (a, b) if a == b => Ok(Arc::clone(array)),
        (a, T::Dictionary(_, _)) if a.is_string() || matches!(a, T::Dictionary(_, _)) => symbols(array, to),
        (T::Dictionary(_, values), _) => cast(&arrow_cast(array, values).map_err(reason)?, to),
        (T::FixedSizeBinary(16), T::Utf8) => Ok(uuid_text(array)),
        (T::Utf8, T::FixedSizeBinary(16)) => uuid_bytes(array),
        (T::Struct(_), T::Struct(fields)) => {
            let rows = array.as_struct();
            let columns = fields.iter().map(|field| match rows.column_by_name(field.name()) {
                Some(column) => cast(column, field).map_err(|e| format!("`{}`: {e}", field.name())),
                None => Ok(new_null_array(field.data_type(), rows.len())),
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            if fields.is_empty() {
                return Ok(Arc::new(StructArray::new_empty_fields(rows.len(), rows.nulls().cloned())));
            }
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns, rows.nulls().cloned()).map_err(reason)?))
        }
        (T::List(_), T::List(item)) => {
            let list = array.as_list::<i32>();
            let (values, offsets) = own(list.values(), list.offsets());
            let values = cast(&values, item)?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, list.nulls().cloned()).map_err(reason)?))
        }
        (from, T::List(_)) if let Some(item) = item(from) => cast(&arrow_cast(array, &T::List(Arc::clone(item))).map_err(reason)?, to),
        (T::Map(_, _), T::Map(field, sorted)) => {
            let map = array.as_map();
            let Some((key, value)) = entries(field) else { return Err("a map of no keys and values".to_owned()) };
            let (keys, offsets) = own(map.keys(), map.offsets());
            let (values, _) = own(map.values(), map.offsets());
            let columns = vec![cast(&keys, key)?, cast(&values, value)?];
            let pairs = StructArray::try_new(Fields::from(vec![Arc::clone(key), Arc::clone(value)]), columns, None).map_err(reason)?;
            Ok(Arc::new(MapArray::try_new(Arc::clone(field), offsets, pairs, map.nulls().cloned(), *sorted).map_err(reason)?))
        }
        (T::Utf8 | T::LargeUtf8 | T::Utf8View, other) => parse_texts(array, other),
        (from, T::Decimal128(precision, scale)) if from.is_floating() => by_digits::<Decimal128Type>(array, to.data_type(), *precision, *scale),
        (from, T::Decimal256(precision, scale)) if from.is_floating() => by_digits::<Decimal256Type>(array, to.data_type(), *precision, *scale),
        // An instant is what it is in UTC: arrow would take its local date and time.
        (T::Timestamp(unit, Some(zone)), T::Timestamp(_, None) | T::Date32 | T::Date64) if !matches!(&**zone, "UTC" | "+00:00") => {
            cast(&arrow_cast(array, &T::Timestamp(*unit, Some("UTC".into()))).map_err(reason)?, to)
        }
        (_, other) => value_by_value(array, other),
    }
}

/// A column as [`cast`] makes it, with null in the place of what the other type cannot hold, and which rows these are, in order, and why.
///
/// # Errors
/// More text than one array can hold.
pub fn cast_rows(array: &ArrayRef, to: &Field) -> Result<(ArrayRef, Vec<(usize, String)>), ArrowError> {
    let (mut parts, mut misfits) = (Vec::new(), Vec::new());
    cast_half(array, 0, to, &mut parts, &mut misfits);
    let all = match &parts[..] {
        [all] => Arc::clone(all),
        parts => concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
    };
    Ok((all, misfits))
}

/// By halves, so that few misfits among many rows are found in few steps.
fn cast_half(array: &ArrayRef, first: usize, to: &Field, parts: &mut Vec<ArrayRef>, misfits: &mut Vec<(usize, String)>) {
    match cast(array, to) {
        Ok(part) => parts.push(part),
        Err(why) if array.len() <= 1 => {
            parts.push(new_null_array(to.data_type(), array.len()));
            misfits.push((first, why));
        }
        Err(_) => {
            let half = array.len() / 2;
            cast_half(&array.slice(0, half), first, to, parts, misfits);
            cast_half(&array.slice(half, array.len() - half), first + half, to, parts, misfits);
        }
    }
}

/// The values of lists, without those of rows before and behind, which a slice shares; and where each list begins among them.
fn own(values: &ArrayRef, offsets: &OffsetBuffer<i32>) -> (ArrayRef, OffsetBuffer<i32>) {
    let (first, end) = (offsets[0], offsets[offsets.len() - 1]);
    let begins = offsets.iter().map(|offset| offset - first).collect::<Vec<_>>();
    (values.slice(first as usize, (end - first) as usize), OffsetBuffer::new(begins.into()))
}

/// The item of a list, of whatever kind.
fn item(list: &DataType) -> Option<&FieldRef> {
    use DataType as T;
    match list {
        T::List(item) | T::LargeList(item) | T::ListView(item) | T::LargeListView(item) | T::FixedSizeList(item, _) => Some(item),
        _ => None,
    }
}

/// Key and value of a map's entries.
fn entries(field: &Field) -> Option<(&FieldRef, &FieldRef)> {
    match field.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Some((&fields[0], &fields[1])),
        _ => None,
    }
}

/// Whether arrow may make another value of one. Of texts nothing is known before they are read.
fn may_change(from: &DataType, to: &DataType) -> bool {
    let to_bytes = matches!(to, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    let keeps = from.is_string() || to.is_string() || to.is_floating() || to_bytes || (from.is_integer() && to.is_integer());
    !keeps
}

/// Values as those of another type. arrow gives null for what it finds too large; the rest is made what it was again, and compared.
fn value_by_value(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    let values = arrow_cast(array, to).map_err(reason)?;
    if values.null_count() > array.logical_null_count()
        && let Some(row) = (0..array.len()).find(|&row| array.is_valid(row) && values.is_null(row))
    {
        return Err(Misfit::Form.of(shown(array, row)?, to));
    }
    if to.is_floating() {
        return match changed_to_infinite(array, &values)? {
            Some(row) => Err(Misfit::Size.of(shown(array, row)?, to)),
            None => Ok(values),
        };
    }
    if may_change(array.data_type(), to)
        && let Some(row) = first_change(array, &arrow_cast(&values, array.data_type()).map_err(reason)?)?
    {
        return Err(format!("{}: it would become `{}`", Misfit::Form.of(shown(array, row)?, to), shown(&values, row)?));
    }
    Ok(values)
}

/// A value as text, or as its number where it has none.
fn shown(array: &ArrayRef, row: usize) -> Result<String, String> {
    const OPTIONS: FormatOptions<'static> = FormatOptions::new().with_display_error(false);
    let text = ArrayFormatter::try_new(array, &OPTIONS).map_err(reason)?.value(row).try_to_string();
    text.or_else(|_| array_value_to_string(&arrow_cast(&array.slice(row, 1), &DataType::Int64)?, 0)).map_err(reason)
}

/// Floating-point numbers as decimals.
fn by_digits<D: DecimalType>(array: &ArrayRef, to: &DataType, precision: u8, scale: i8) -> Result<ArrayRef, String> {
    fn parsed<F: ArrowPrimitiveType<Native: LowerExp>, D: DecimalType>(
        array: &ArrayRef,
        parse: impl Fn(&str) -> Result<D::Native, Misfit>,
        to: &DataType,
    ) -> Result<ArrayRef, String> {
        let numbers = array.as_primitive::<F>().iter().map(|number| match number {
            Some(number) => parse(&format!("{number:e}")).map(Some).map_err(|misfit| misfit.of(format!("{number:?}"), to)),
            None => Ok(None),
        });
        let numbers = numbers.collect::<Result<PrimitiveArray<D>, String>>()?;
        Ok(Arc::new(numbers.with_data_type(to.clone())))
    }
    let parse = |text: &str| decimal::parse::<D>(text, precision, scale);
    if *array.data_type() == DataType::Float64 {
        return parsed::<Float64Type, D>(array, parse, to);
    }
    parsed::<Float32Type, D>(&arrow_cast(array, &DataType::Float32).map_err(reason)?, parse, to)
}

/// The first row in which a finite value has become infinite.
fn changed_to_infinite(array: &ArrayRef, floats: &ArrayRef) -> Result<Option<usize>, String> {
    let floats = doubles(floats)?;
    if !floats.iter().flatten().any(f64::is_infinite) {
        return Ok(None);
    }
    let was = if array.data_type().is_floating() { Some(doubles(array)?) } else { None };
    let is_finite = |row: usize| was.as_ref().is_none_or(|was| was.value(row).is_finite());
    Ok((0..floats.len()).find(|&row| floats.is_valid(row) && floats.value(row).is_infinite() && is_finite(row)))
}

/// The first row whose value is not what it was. Zero is zero, whatever its sign.
fn first_change(array: &ArrayRef, again: &ArrayRef) -> Result<Option<usize>, String> {
    if array.data_type().is_floating() {
        return Ok(doubles(array)?.iter().zip(doubles(again)?.iter()).position(|(was, is)| was != is));
    }
    Ok(distinct(array, again).map_err(reason)?.values().set_indices().next())
}

fn doubles(array: &ArrayRef) -> Result<PrimitiveArray<Float64Type>, String> {
    Ok(arrow_cast(array, &DataType::Float64).map_err(reason)?.as_primitive().clone())
}

/// Texts as values.
fn parse_texts(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    use DataType as T;
    let texts = arrow_cast(array, &T::Utf8).map_err(reason)?;
    let texts = texts.as_string::<i32>();
    fn decimals<D: DecimalType>(texts: &StringArray, to: &DataType, precision: u8, scale: i8) -> Result<ArrayRef, String> {
        each::<D>(texts, to, |t| decimal::parse::<D>(t, precision, scale))
    }
    match to {
        T::Decimal128(precision, scale) => decimals::<Decimal128Type>(texts, to, *precision, *scale),
        T::Decimal256(precision, scale) => decimals::<Decimal256Type>(texts, to, *precision, *scale),
        T::Float32 => each::<Float32Type>(texts, to, text::float::<Float32Type>),
        T::Float64 => each::<Float64Type>(texts, to, text::float::<Float64Type>),
        T::Date32 => each::<Int32Type>(texts, to, text::date),
        T::Time32(unit) => each::<Int32Type>(texts, to, |t| text::time(t, *unit).and_then(|v| i32::try_from(v).map_err(|_| Misfit::Size))),
        T::Time64(unit) => each::<Int64Type>(texts, to, |t| text::time(t, *unit)),
        T::Timestamp(unit, zone) => {
            let zone: Tz = zone.as_deref().unwrap_or("+00:00").parse().map_err(reason)?;
            each::<Int64Type>(texts, to, |t| text::timestamp(t, &zone, *unit))
        }
        _ => value_by_value(array, to),
    }
}

/// Texts as numbers of `to`, which is `T` or counts in it.
fn each<T: ArrowPrimitiveType>(texts: &StringArray, to: &DataType, parse: impl Fn(&str) -> Result<T::Native, Misfit>) -> Result<ArrayRef, String> {
    let values = texts.iter().map(|text| text.map(|text| parse(text).map_err(|misfit| misfit.of(text, to))).transpose());
    let values = values.collect::<Result<PrimitiveArray<T>, String>>()?;
    if to.is_temporal() { arrow_cast(&values, to).map_err(reason) } else { Ok(Arc::new(values.with_data_type(to.clone()))) }
}

#[allow(clippy::needless_pass_by_value)] // it is a function for `map_err`
fn reason(error: ArrowError) -> String {
    match error {
        ArrowError::CastError(why) | ArrowError::ParseError(why) | ArrowError::InvalidArgumentError(why) | ArrowError::ArithmeticOverflow(why) => why,
        other => other.to_string(),
    }
}

/// Texts as the symbols of an enum, in the order of its schema.
fn symbols(array: &ArrayRef, to: &Field) -> Result<ArrayRef, String> {
    let known: Vec<String> = to.metadata().get(ENUM_SYMBOLS).and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default();
    let texts = arrow_cast(array, &DataType::Utf8).map_err(reason)?;
    let mut keys = Int32Builder::new();
    for value in texts.as_string::<i32>() {
        match value.map(|value| (value, known.iter().position(|k| k == value))) {
            None => keys.append_null(),
            Some((_, Some(place))) => keys.append_value(i32::try_from(place).map_err(|e| e.to_string())?),
            Some((value, None)) => return Err(format!("`{value}` is none of the symbols {}", known.join(", "))),
        }
    }
    let values = Arc::new(StringArray::from_iter_values(&known));
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys.finish(), values).map_err(reason)?))
}

/// UUIDs as texts.
fn uuid_text(array: &ArrayRef) -> ArrayRef {
    let mut out = StringBuilder::new();
    for value in array.as_fixed_size_binary() {
        out.append_option(value.map(|bytes| {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
        }));
    }
    Arc::new(out.finish())
}

/// Texts as UUIDs.
fn uuid_bytes(array: &ArrayRef) -> Result<ArrayRef, String> {
    let mut out = FixedSizeBinaryBuilder::new(16);
    for value in array.as_string::<i32>() {
        let Some(value) = value else {
            out.append_null();
            continue;
        };
        let digits: String = value.chars().filter(|c| *c != '-').collect();
        let number = if digits.len() == 32 { u128::from_str_radix(&digits, 16).ok() } else { None };
        let number = number.ok_or_else(|| format!("`{value}` is no UUID"))?;
        out.append_value(number.to_be_bytes()).map_err(reason)?;
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{Float32Array, Float64Array, Int32Array, Int64Array, StringViewArray, TimestampMicrosecondArray};
    use arrow::datatypes::TimeUnit;

    use super::*;
    use crate::sql_type;

    fn column(sql: &str) -> Field {
        Field::new("c", sql_type::parse(sql).unwrap(), true)
    }

    /// The texts as a column of a type.
    fn of(sql: &str, texts: &[Option<&str>]) -> ArrayRef {
        let texts: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        cast(&texts, &column(sql)).unwrap()
    }

    /// What becomes of one value: its text, or why it is refused.
    fn become_of(array: &ArrayRef, sql: &str) -> Result<String, String> {
        let to = column(sql);
        assert!(can_cast(array.data_type(), to.data_type()), "{} to {sql}", array.data_type());
        let value = cast(array, &to)?;
        assert_eq!(value.data_type(), to.data_type());
        Ok(array_value_to_string(&value, 0).unwrap())
    }

    fn doubles_of(value: f64) -> ArrayRef {
        Arc::new(Float64Array::from(vec![value]))
    }

    #[test]
    fn decimals_are_neither_rounded_nor_cut_off() {
        let amount = |text| of("decimal(12, 3)", &[Some(text)]);
        assert_eq!(become_of(&amount("1.230"), "decimal(12, 2)").unwrap(), "1.23");
        assert_eq!(become_of(&amount("1.239"), "decimal(12, 2)").unwrap_err(), "`1.239` is not a decimal(12, 2): it would become `1.24`");
        assert_eq!(become_of(&amount("1.239"), "decimal(40, 4)").unwrap(), "1.2390");
        assert_eq!(become_of(&amount("100"), "decimal(4, 2)").unwrap_err(), "`100.000` is not a decimal(4, 2)");
        assert_eq!(become_of(&amount("-7"), "int").unwrap(), "-7");
        assert!(become_of(&amount("7.5"), "int").is_err());
        assert!(become_of(&amount("300"), "tinyint").is_err());
        assert_eq!(become_of(&amount("0.1"), "double").unwrap(), "0.1");
        assert_eq!(become_of(&amount("1.239"), "string").unwrap(), "1.239");
        let large = of("decimal(76, 0)", &[Some(&"9".repeat(76))]);
        assert!(become_of(&large, "decimal(38, 0)").is_err());
        assert!(become_of(&large, "float").is_err());
    }

    #[test]
    fn doubles_become_what_they_are_exactly() {
        assert_eq!(become_of(&doubles_of(70.32), "decimal(10, 2)").unwrap(), "70.32");
        assert_eq!(
            become_of(&doubles_of(1.239), "decimal(10, 2)").unwrap_err(),
            "`1.239` has more digits behind the point than decimal(10, 2) keeps"
        );
        assert!(become_of(&doubles_of(1e-10), "decimal(10, 2)").is_err());
        assert!(become_of(&doubles_of(f64::NAN), "decimal(10, 2)").is_err());
        for sql in ["decimal(20, 10)", "decimal(38, 20)", "decimal(76, 40)"] {
            for (double, digits) in [(2_147_483_647.0, "2147483647"), (586_141_258.5, "586141258.5"), (99_999_999.99, "99999999.99"), (-0.1, "-0.1")]
            {
                let decimal = become_of(&doubles_of(double), sql).unwrap();
                assert_eq!(decimal.trim_end_matches('0').trim_end_matches('.'), digits);
            }
        }
        assert_eq!(become_of(&doubles_of(1e22), "decimal(38, 0)").unwrap(), format!("1{}", "0".repeat(22)));
        assert_eq!(become_of(&doubles_of(8.0), "bigint").unwrap(), "8");
        assert_eq!(become_of(&doubles_of(-0.0), "bigint").unwrap(), "0");
        for no_whole in [8.5, 1e19, f64::NAN, f64::INFINITY] {
            assert!(become_of(&doubles_of(no_whole), "bigint").is_err(), "{no_whole}");
        }
        assert_eq!(become_of(&doubles_of(0.1), "float").unwrap(), "0.1");
        assert_eq!(become_of(&doubles_of(1e300), "float").unwrap_err(), "`1e300` is out of the range of float");
        assert_eq!(become_of(&doubles_of(f64::NEG_INFINITY), "float").unwrap(), "-inf");
        let float: ArrayRef = Arc::new(Float32Array::from(vec![1.1]));
        assert_eq!(become_of(&float, "decimal(10, 2)").unwrap(), "1.10");
        let float: ArrayRef = Arc::new(Float32Array::from(vec![38_502.3]));
        assert_eq!(become_of(&float, "decimal(14, 4)").unwrap(), "38502.3000");
    }

    #[test]
    fn whole_numbers_stay_within_their_range() {
        let number: ArrayRef = Arc::new(Int64Array::from(vec![300]));
        assert_eq!(become_of(&number, "smallint").unwrap(), "300");
        assert_eq!(become_of(&number, "tinyint").unwrap_err(), "`300` is not a tinyint");
        assert_eq!(become_of(&number, "decimal(5, 2)").unwrap(), "300.00");
        assert!(become_of(&number, "decimal(4, 2)").is_err());
        assert!(become_of(&number, "boolean").is_err());
    }

    #[test]
    fn instants_keep_their_digits_and_their_time_of_day() {
        let at = |micros| Arc::new(TimestampMicrosecondArray::from(vec![micros])) as ArrayRef;
        assert_eq!(become_of(&at(1_500_000), "timestamp(3)").unwrap(), "1970-01-01T00:00:01.500");
        assert_eq!(
            become_of(&at(-1), "timestamp(3)").unwrap_err(),
            "`1969-12-31T23:59:59.999999` is not a timestamp(3): it would become `1970-01-01T00:00:00`"
        );
        assert_eq!(become_of(&at(86_400_000_000), "date").unwrap(), "1970-01-02");
        assert!(become_of(&at(86_400_000_001), "date").is_err());
        assert!(become_of(&at(i64::MAX), "timestamp(9)").is_err());
        assert_eq!(
            become_of(&at(i64::MAX), "timestamp(3)").unwrap_err(),
            "`9223372036854775807` is not a timestamp(3): it would become `9223372036854775`"
        );
        for zone in ["Europe/Berlin", "+01:00"] {
            let berlin: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![86_400_000_000]).with_timezone(zone));
            assert_eq!(become_of(&berlin, "timestamp(3)").unwrap(), "1970-01-02T00:00:00");
            assert_eq!(become_of(&berlin, "date").unwrap(), "1970-01-02");
            assert_eq!(become_of(&berlin, "timestamp_ltz(3)").unwrap(), "1970-01-02T00:00:00Z");
        }
        assert!(!can_cast(at(0).data_type(), &DataType::Time64(TimeUnit::Microsecond)), "the date would be lost");
        let time = of("time(6)", &[Some("12:00:00.000001")]);
        assert!(become_of(&time, "time(3)").is_err());
    }

    #[test]
    fn texts_are_read_exactly() {
        let text = |text| Arc::new(StringViewArray::from(vec![text])) as ArrayRef;
        assert_eq!(become_of(&text("1.5"), "decimal(10, 2)").unwrap(), "1.50");
        for (value, sql) in [("1.239", "decimal(10, 2)"), ("1e400", "double"), ("1e40", "float"), ("8.5", "int"), ("x", "boolean")] {
            assert!(become_of(&text(value), sql).is_err(), "{value} as {sql}");
        }
        for (value, sql) in
            [("2024-01-01T00:00:00.0001", "timestamp(3)"), ("2024-01-01T01:00:00", "date"), ("24:00:00", "time"), ("00:00:00.1", "time")]
        {
            assert!(become_of(&text(value), sql).is_err(), "{value} as {sql}");
        }
        assert_eq!(become_of(&text("2024-01-01 01:00:00+01:00"), "timestamp_ltz(3)").unwrap(), "2024-01-01T00:00:00Z");
        assert_eq!(become_of(&text("23:59:59.5"), "time(3)").unwrap(), "23:59:59.500");
    }

    #[test]
    fn rows_that_do_not_fit_are_told_and_null_and_no_others() {
        let numbers: Vec<_> = (0..1_000).map(|i| if i % 7 == 3 { None } else { Some(if i % 400 == 399 { 1_000 + i } else { i % 100 }) }).collect();
        let array: ArrayRef = Arc::new(Int32Array::from(numbers.clone()));
        let (column, misfits) = cast_rows(&array, &column("tinyint")).unwrap();
        assert_eq!(misfits.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [399, 799]);
        assert_eq!(misfits[0].1, "`1399` is not a tinyint");
        let again = cast(&column, &Field::new("c", DataType::Int32, true)).unwrap();
        let expected: Vec<_> = numbers.into_iter().map(|n| n.filter(|n| *n < 1_000)).collect();
        assert_eq!(again.as_primitive::<arrow::datatypes::Int32Type>().iter().collect::<Vec<_>>(), expected);
        let (all, misfits) = cast_rows(&array.slice(0, 0), &Field::new("c", DataType::Int8, true)).unwrap();
        assert_eq!((all.len(), misfits.len()), (0, 0));
    }

    #[test]
    fn what_lies_within_is_looked_at_as_well() {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![Some(300)]), Some(vec![Some(2)])]);
        let list: ArrayRef = Arc::new(list);
        let to = column("array<tinyint>");
        assert!(can_cast(list.data_type(), to.data_type()));
        let (column, misfits) = cast_rows(&list, &to).unwrap();
        assert_eq!(misfits, [(2, "`300` is not a tinyint".to_owned())]);
        assert_eq!(column.null_count(), 2);
        assert_eq!(array_value_to_string(&column, 0).unwrap(), "[1, ]");
        assert_eq!(array_value_to_string(&column, 3).unwrap(), "[2]");
        // A slice answers for its own rows alone.
        assert!(cast(&list.slice(3, 1), &to).is_ok());

        let rows = StructArray::from(vec![(Arc::new(Field::new("a", DataType::Float64, true)), doubles_of(1.5))]);
        let rows: ArrayRef = Arc::new(rows);
        assert_eq!(become_of(&rows, "row<b int, a decimal(5, 2)>").unwrap(), "{b: , a: 1.50}");
        assert_eq!(become_of(&rows, "row<a int>").unwrap_err(), "`a`: `1.5` is not an int: it would become `1`");
        assert!(!can_cast(rows.data_type(), &sql_type::parse("row<b int not null>").unwrap()));
        assert!(!can_cast(rows.data_type(), &DataType::Int32));
    }
}
