//! Values that arrow-json would change in silence: it cuts off digits that a decimal's scale has no room for, what stands behind the point of a whole
//! number, the time of day of a date and digits behind the second; takes whole numbers beyond the 53 bits of a double through one, floating-point numbers
//! out of range for infinite, a leap second for another, any number for a time, and one hexadecimal digit for a byte; and overflows on decimals with more
//! digits than it can count (59.3).

use std::sync::Arc;

use arrow::array::types::{Date32Type, Decimal256Type, Float16Type, Float32Type, Float64Type};
use arrow::array::{Array, ArrayData, StringArray};
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime, string_to_time_nanoseconds};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use chrono::Utc;
use memchr::memchr2;

use super::decimal::Number;
use super::{Misfit, is_of_day, per_second, text};
use crate::sql_type::to_sql;

/// Digits of a whole number that 64 bits have room for.
const PLAIN_DIGITS: usize = 18;

/// Digits of a whole number that a double has room for.
const DOUBLE_DIGITS: usize = 15;

/// Digits of a whole number that is a time of day in any unit, and that 16 bits of floating point have room for.
const FEW_DIGITS: usize = 4;

/// Characters of a date without a time of day.
const DATE_CHARACTERS: usize = "2024-01-31".len();

/// Digits before the point beyond which arrow is not asked: no decimal has more than 76.
const WHOLE_DIGITS_LIMIT: usize = 127;

/// Digits behind the point beyond which arrow is not asked: it keeps no more than 76, but counts zeros before them.
const FRACTION_DIGITS_LIMIT: usize = 10_000;

/// Largest exponent that arrow is asked for, to either side.
const EXPONENT_LIMIT: u64 = 10_000;

/// Characters of a value that are shown in an error.
const SHOWN_CHARACTERS: usize = 64;

/// Reads the numbers, dates, times and bytes of records as they are written, before arrow-json makes values of them.
///
/// # Contract
///
/// Each record that arrow-json has taken is [held](Self::hold) here as well; before arrow-json makes rows of some, these are [judged](Self::judge).
pub struct JsonGuard {
    /// The columns with values that may not be read as they are written.
    columns: Vec<FieldRef>,
    /// The same, with text in the place of these values.
    texts: SchemaRef,
    plain: Plain,
    /// Holds records whose values are not plain, at most `capacity` of them.
    decoder: Option<Decoder>,
    capacity: usize,
}

/// What arrow reads as it is written in any of some columns.
#[derive(Debug)]
struct Plain {
    /// Digits of a whole number.
    digits: usize,
    /// Digits behind the point, zeros at the end not counted.
    fraction_digits: usize,
    has_times: bool,
    /// Whether numbers in texts are read.
    texts_are_numbers: bool,
    /// Digits behind the point of a second, if instants or times are read from texts.
    second_digits: Option<usize>,
    has_dates: bool,
    has_bytes: bool,
}

// ===== impl JsonGuard =====

impl JsonGuard {
    /// A guard of up to `capacity` records at a time; `None` if `schema` has none of these.
    ///
    /// # Errors
    ///
    /// A decimal with a negative scale: arrow-json reads every number in it wrong.
    pub fn of(schema: &Schema, capacity: usize) -> Result<Option<Self>, ArrowError> {
        if let Some(field) = read(schema.fields()).find(|field| has(field.data_type(), &|kind| scale(kind).is_some_and(|scale| scale < 0))) {
            let kind = to_sql(field.data_type());
            return Err(ArrowError::SchemaError(format!("column `{}`: {kind} cannot be read from JSON: its scale is negative", field.name())));
        }
        let (columns, texts): (Vec<_>, Vec<_>) = read(schema.fields()).filter_map(|field| Some((Arc::clone(field), as_text(field)?))).unzip();
        let plain = Plain::of(&columns);
        let guard = Self { columns, texts: Arc::new(Schema::new(texts)), plain, decoder: None, capacity };
        Ok((!guard.columns.is_empty()).then_some(guard))
    }

    /// Takes up to `capacity` records from now on, and holds none.
    pub fn clear(&mut self, capacity: usize) {
        self.decoder = None;
        self.capacity = capacity;
    }

    /// Holds `record`, which arrow-json has taken as one row, until it is judged.
    ///
    /// # Errors
    ///
    /// arrow-json does not take it again.
    pub fn hold(&mut self, record: &[u8]) -> Result<(), ArrowError> {
        if self.plain.is(record) {
            return Ok(());
        }
        if self.decoder.is_none() {
            let texts = ReaderBuilder::new(Arc::clone(&self.texts)).with_batch_size(self.capacity + 1);
            // What is no such value at all is left to the reader of the values.
            self.decoder = Some(texts.with_coerce_primitive(true).with_ignore_type_conflicts(true).build_decoder()?);
        }
        if let Some(decoder) = &mut self.decoder {
            decoder.decode(record)?;
        }
        Ok(())
    }

    /// Judges the records held, and holds none of them any more.
    ///
    /// # Errors
    ///
    /// The first value found that its column would change; or arrow-json fails on them.
    pub fn judge(&mut self) -> Result<(), ArrowError> {
        let Some(decoder) = &mut self.decoder else { return Ok(()) };
        let Some(texts) = decoder.flush().inspect_err(|_| self.decoder = None)? else { return Ok(()) };
        self.columns.iter().zip(texts.columns()).try_for_each(|(field, texts)| {
            let judged = judge(field.data_type(), &texts.to_data());
            judged.map_err(|reason| ArrowError::JsonError(format!("whilst decoding field '{}': {reason}", field.name())))
        })
    }
}

/// The fields that arrow-json fills: of those with one name, the first.
fn read(fields: &Fields) -> impl Iterator<Item = &FieldRef> {
    fields.iter().enumerate().filter(|(at, field)| fields[..*at].iter().all(|before| before.name() != field.name())).map(|(_, field)| field)
}

fn scale(data_type: &DataType) -> Option<i8> {
    match data_type {
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => {
            Some(*scale)
        }
        _ => None,
    }
}

/// Whether arrow-json counts the values of this type as whole numbers.
fn is_whole(data_type: &DataType) -> bool {
    data_type.is_integer() || (data_type.is_temporal() && !matches!(data_type, DataType::Interval(_)))
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

fn is_judged(data_type: &DataType) -> bool {
    scale(data_type).is_some() || is_whole(data_type) || data_type.is_floating() || is_bytes(data_type)
}

/// Whether `test` is true of `data_type` or something in it.
fn has(data_type: &DataType, test: &dyn Fn(&DataType) -> bool) -> bool {
    let within = |field: &FieldRef| has(field.data_type(), test);
    test(data_type)
        || match data_type {
            DataType::Struct(fields) => fields.iter().any(within),
            DataType::RunEndEncoded(_, values) => within(values),
            DataType::Map(item, _)
            | DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _) => within(item),
            _ => false,
        }
}

fn has_judged(field: &FieldRef) -> bool {
    has(field.data_type(), &is_judged)
}

/// `field` with text in the place of its judged values, and without what holds none; `None` if that is all of it. Anything may be null, so that only the
/// reader of the values finds that amiss.
fn as_text(field: &FieldRef) -> Option<FieldRef> {
    let data_type = match field.data_type() {
        kind if is_judged(kind) => DataType::Utf8,
        DataType::Struct(fields) if has_judged(field) => DataType::Struct(fields.iter().filter_map(as_text).collect()),
        DataType::List(item) => DataType::List(as_text(item)?),
        DataType::LargeList(item) => DataType::LargeList(as_text(item)?),
        DataType::ListView(item) => DataType::ListView(as_text(item)?),
        DataType::LargeListView(item) => DataType::LargeListView(as_text(item)?),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(as_text(item)?, *length),
        DataType::RunEndEncoded(ends, values) => DataType::RunEndEncoded(Arc::clone(ends), as_text(values)?),
        DataType::Map(entries, ordered) if has_judged(field) => {
            let DataType::Struct(pair) = entries.data_type() else { return None };
            // Both are needed for a map, and a key cannot be null.
            let text = |field: &FieldRef| Field::clone(as_text(field).as_ref().unwrap_or(field)).with_nullable(field.is_nullable());
            let pair: Vec<_> = pair.iter().map(text).collect();
            DataType::Map(Arc::new(Field::clone(entries).with_data_type(DataType::Struct(pair.into()))), *ordered)
        }
        _ => return None,
    };
    Some(Arc::new(Field::clone(field).with_data_type(data_type).with_nullable(true)))
}

/// Judges the values of `data_type`, as texts in `data`.
fn judge(data_type: &DataType, data: &ArrayData) -> Result<(), String> {
    if is_judged(data_type) {
        return StringArray::from(data.clone()).iter().flatten().try_for_each(|text| judge_text(data_type, text));
    }
    let judge_field = |(field, data): (&FieldRef, &ArrayData)| judge(field.data_type(), data);
    let children = data.child_data();
    match data_type {
        DataType::Struct(fields) => fields.iter().filter(|field| has_judged(field)).zip(children).try_for_each(judge_field),
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return Ok(()) };
            let texts = children.iter().flat_map(ArrayData::child_data);
            pair.iter().zip(texts).filter(|(field, _)| has_judged(field)).try_for_each(judge_field)
        }
        DataType::RunEndEncoded(_, values) => children.iter().skip(1).try_for_each(|data| judge(values.data_type(), data)),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => children.iter().try_for_each(|data| judge(item.data_type(), data)),
        _ => Ok(()),
    }
}

fn judge_text(data_type: &DataType, text: &str) -> Result<(), String> {
    match *data_type {
        DataType::Decimal32(_, scale) => judge_decimal(data_type, text, scale, 9),
        DataType::Decimal64(_, scale) => judge_decimal(data_type, text, scale, 18),
        DataType::Decimal128(_, scale) => judge_decimal(data_type, text, scale, 38),
        DataType::Decimal256(_, scale) => judge_decimal(data_type, text, scale, 76),
        DataType::Float32 => judge_float(data_type, text::float::<Float32Type>(text), text),
        DataType::Float16 => judge_float(data_type, text::float::<Float16Type>(text), text),
        DataType::Float64 => judge_float(data_type, text::float::<Float64Type>(text), text),
        _ if is_bytes(data_type) => match text.len() % 2 {
            0 => Ok(()),
            _ => Err(format!("`{}` has an odd number of hexadecimal digits", shown(text))),
        },
        _ if data_type.is_temporal() && Number::of(text).is_none() => judge_temporal(data_type, text),
        _ => judge_whole(data_type, text),
    }
}

/// What is no number at all is arrow's to refuse.
fn judge_float<T>(data_type: &DataType, number: Result<T, Misfit>, text: &str) -> Result<(), String> {
    match number {
        Err(Misfit::Size) => Err(Misfit::Size.of(shown(text), data_type)),
        Err(_) | Ok(_) => Ok(()),
    }
}

/// What arrow refuses is left to it.
fn judge_temporal(data_type: &DataType, text: &str) -> Result<(), String> {
    let misfit = match data_type {
        DataType::Date32 if Date32Type::parse(text).is_some() => text::date(text).err(),
        DataType::Time32(unit) | DataType::Time64(unit) if string_to_time_nanoseconds(text).is_ok() => text::time(text, *unit).err(),
        // The zone is nothing to the digits behind the second.
        DataType::Timestamp(unit, _) if string_to_datetime(&Utc, text).is_ok() => {
            text::timestamp(text, &Utc, *unit).err().filter(|misfit| *misfit != Misfit::Size)
        }
        _ => None,
    };
    misfit.map_or(Ok(()), |misfit| Err(misfit.of(shown(text), data_type)))
}

/// `width` is the number of digits that arrow has room for while it reads an exponent.
fn judge_decimal(data_type: &DataType, text: &str, scale: i8, width: usize) -> Result<(), String> {
    let Some(number) = Number::of(text) else {
        // arrow takes some that are none; other texts it refuses.
        return if text.bytes().all(is_of_number) && !text.is_empty() { Err(format!("{} is no number", shown(text))) } else { Ok(()) };
    };
    let (whole, fraction) = number.digits();
    let is_countable = match text.contains(['e', 'E']) {
        true => whole + fraction <= width && number.exponent().unsigned_abs() <= EXPONENT_LIMIT,
        false => whole <= WHOLE_DIGITS_LIMIT && fraction <= FRACTION_DIGITS_LIMIT,
    };
    if !is_countable {
        return Err("a number has too many digits for a decimal".to_owned());
    }
    match number.value::<Decimal256Type>(76, scale) {
        Err(misfit @ Misfit::Fraction) => Err(misfit.of(shown(text), data_type)),
        // What is too large is arrow's to refuse.
        Err(_) | Ok(_) => Ok(()),
    }
}

fn judge_whole(data_type: &DataType, text: &str) -> Result<(), String> {
    // Other texts, of a date say, are arrow's to read; and it counts these well.
    let Some(number) = Number::of(text) else { return Ok(()) };
    if let Ok(value) = text.parse::<i64>() {
        let unit = match data_type {
            DataType::Time32(unit) | DataType::Time64(unit) => *unit,
            _ => return Ok(()),
        };
        return if is_of_day(value, per_second(unit)) { Ok(()) } else { Err(Misfit::Size.of(value, data_type)) };
    }
    let value = match number.value::<Decimal256Type>(38, 0) {
        Ok(value) => value.to_i128(),
        Err(Misfit::Fraction) => return Err(format!("{} is no whole number, as {} needs", shown(text), to_sql(data_type))),
        Err(_) => None,
    };
    // arrow takes what is larger than an instant can be for the last one.
    let limit = if data_type.is_integer() { i128::MAX } else { i64::MAX.into() };
    match value.filter(|value| value.abs() <= limit) {
        // arrow reads it through a double, unless it is a `u64` without point and exponent.
        Some(value) if text.parse::<u64>().is_ok() || text.parse::<f64>().is_ok_and(|double| double as i128 == value) => Ok(()),
        Some(_) => Err(format!("{} cannot be read exactly as {}: write it without point and exponent", shown(text), to_sql(data_type))),
        None => Err(format!("{} is too large for {}", shown(text), to_sql(data_type))),
    }
}

/// `text` as an error shows it.
fn shown(text: &str) -> String {
    let end = text.char_indices().nth(SHOWN_CHARACTERS).map_or(text.len(), |(at, _)| at);
    format!("{}{}", &text[..end], if end < text.len() { "…" } else { "" })
}

fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

// ===== impl Plain =====

impl Plain {
    fn of(columns: &[FieldRef]) -> Self {
        let any = |test: &dyn Fn(&DataType) -> bool| columns.iter().any(|field| has(field.data_type(), test));
        let reads_unit = |wanted: TimeUnit| {
            any(&|kind| matches!(kind, DataType::Time32(unit) | DataType::Time64(unit) | DataType::Timestamp(unit, _) if *unit == wanted))
        };
        let units = [(TimeUnit::Second, 0), (TimeUnit::Millisecond, 3), (TimeUnit::Microsecond, 6), (TimeUnit::Nanosecond, 9)];
        let has_times = any(&|kind| matches!(kind, DataType::Time32(_) | DataType::Time64(_)));
        let has_halves = any(&|kind| *kind == DataType::Float16);
        let fits = |digits: usize| {
            let is_too_long = |kind: &DataType| is_whole(kind) || scale(kind).is_some_and(|scale| usize::try_from(scale).is_ok_and(|s| s < digits));
            !any(&is_too_long)
        };
        Self {
            digits: if has_times || has_halves { FEW_DIGITS } else { PLAIN_DIGITS },
            fraction_digits: (1..=PLAIN_DIGITS).take_while(|digits| fits(*digits)).count(),
            has_times,
            texts_are_numbers: has_times || any(&|kind| scale(kind).is_some() || kind.is_floating()),
            second_digits: units.into_iter().find(|(unit, _)| reads_unit(*unit)).map(|(_, digits)| digits),
            has_dates: any(&|kind| matches!(kind, DataType::Date32)),
            has_bytes: any(&is_bytes),
        }
    }

    /// Whether all values in `record`, which is JSON, are plain.
    fn is(&self, record: &[u8]) -> bool {
        let mut rest = record;
        while let [byte, behind @ ..] = rest {
            rest = match byte {
                b'"' => {
                    let Some((end, has_escapes)) = text_end(behind) else { return false };
                    let (text, behind) = behind.split_at(end);
                    if !self.is_plain_text(text, has_escapes) {
                        return false;
                    }
                    &behind[1..]
                }
                b'0'..=b'9' | b'-' => {
                    let end = rest.iter().position(|byte| !is_of_number(*byte)).unwrap_or(rest.len());
                    let (number, behind) = rest.split_at(end);
                    if !self.is_plain_number(number) {
                        return false;
                    }
                    behind
                }
                _ => behind,
            };
        }
        true
    }

    fn is_plain_number(&self, number: &[u8]) -> bool {
        let unsigned = number.strip_prefix(b"-").filter(|_| !self.has_times).unwrap_or(number);
        let is_all_digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
        let Some(point) = unsigned.iter().position(|byte| *byte == b'.') else {
            return unsigned.len() <= self.digits && is_all_digits(unsigned);
        };
        // arrow reads a whole number with a point through a double.
        let (whole, fraction) = (&unsigned[..point], &unsigned[point + 1..]);
        let kept = fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        let is_short = (1..=DOUBLE_DIGITS.min(self.digits)).contains(&whole.len()) && kept <= self.fraction_digits && unsigned.len() <= PLAIN_DIGITS;
        is_short && is_all_digits(whole) && is_all_digits(fraction)
    }

    fn is_plain_text(&self, text: &[u8], has_escapes: bool) -> bool {
        // An escape may stand for a digit.
        if has_escapes {
            return !self.texts_are_numbers && self.second_digits.is_none() && !self.has_dates && !self.has_bytes;
        }
        if self.has_bytes && text.len() % 2 == 1 && text.iter().all(u8::is_ascii_hexdigit) {
            return false;
        }
        let text = text.trim_ascii();
        if !text.first().is_some_and(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.')) {
            return true;
        }
        if self.texts_are_numbers && text.iter().copied().all(is_of_number) && !self.is_plain_number(text) {
            return false;
        }
        let is_plain_second = self.second_digits.is_none_or(|digits| {
            let behind = text.iter().position(|byte| *byte == b'.').map_or(&[][..], |point| &text[point + 1..]);
            let may_leap = text.windows(2).any(|second| second == b"60");
            !may_leap && behind.iter().take_while(|byte| byte.is_ascii_digit()).count() <= digits
        });
        is_plain_second && !(self.has_dates && text.len() > DATE_CHARACTERS)
    }
}

/// Where the quotation mark stands that closes a text, and whether there are escapes before; `None` if nothing closes it.
fn text_end(text: &[u8]) -> Option<(usize, bool)> {
    let (mut at, mut has_escapes) = (0, false);
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some((at, has_escapes));
        }
        has_escapes = true;
        at += 2;
    }
}
