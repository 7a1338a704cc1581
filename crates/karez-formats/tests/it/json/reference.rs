//! The reference of the JSON decoder: what arrow-json makes of each record alone, unless it changes a value. Shared with the fuzz target `ndjson`.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayData, RecordBatch, StringArray, make_array};
use arrow::compute::concat_batches;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::json::ReaderBuilder;
use arrow::util::display::array_value_to_string;
use karez_formats::RecordError;
use karez_formats::json::JsonDecoder;

/// What came out of a block: the rows, the offset of each, and the offset and length of the bad records.
pub(super) type Decoded = (RecordBatch, Vec<u64>, Vec<(usize, usize)>);

/// What arrow-json makes of one record alone; `None` if it is not exactly one row, or has another value than the record.
pub(super) fn arrow_row(schema: &SchemaRef, record: &[u8]) -> Option<RecordBatch> {
    let one_row = |builder: ReaderBuilder| {
        let mut decoder = builder.with_batch_size(4).build_decoder().unwrap();
        let read = decoder.decode(record).ok()?;
        let batch = decoder.flush().ok()??;
        (read == record.len() && batch.num_rows() == 1).then_some(batch)
    };
    let row = one_row(ReaderBuilder::new(Arc::clone(schema)))?;
    let texts: Vec<_> = schema.fields().iter().map(as_text).collect();
    let texts = one_row(ReaderBuilder::new(Arc::new(Schema::new(texts))).with_coerce_primitive(true)).expect("texts of what was read");
    // Of two columns with one name, the other is not read.
    let read = |at: usize| schema.fields()[..at].iter().all(|field| field.name() != schema.field(at).name());
    let same = (0..row.num_columns()).filter(|at| read(*at)).all(|at| are_same(&row.column(at).to_data(), &texts.column(at).to_data()));
    same.then_some(row)
}

/// `field` with text in the place of numbers, dates and times.
fn as_text(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        kind if kind.is_numeric() || kind.is_temporal() || is_bytes(kind) => DataType::Utf8,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(as_text).collect()),
        DataType::List(item) => DataType::List(as_text(item)),
        DataType::Map(entries, ordered) => DataType::Map(as_text(entries), *ordered),
        kind => kind.clone(),
    };
    Arc::new(Field::clone(field).with_data_type(data_type))
}

fn is_bytes(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_))
}

/// Whether the values in `values` are those in `texts`.
fn are_same(values: &ArrayData, texts: &ArrayData) -> bool {
    let kind = values.data_type();
    if !matches!(texts.data_type(), DataType::Utf8) || matches!(kind, DataType::Utf8) {
        return values.child_data().iter().zip(texts.child_data()).all(|(values, texts)| are_same(values, texts));
    }
    if is_bytes(kind) {
        return StringArray::from(texts.clone()).iter().flatten().all(|text| text.len() % 2 == 0);
    }
    let counted = match kind {
        DataType::Date32 | DataType::Time32(_) => values.clone().into_builder().data_type(DataType::Int32).build().unwrap(),
        kind if kind.is_temporal() => values.clone().into_builder().data_type(DataType::Int64).build().unwrap(),
        _ => values.clone(),
    };
    let (counted, texts) = (make_array(counted), StringArray::from(texts.clone()));
    (0..counted.len()).filter(|row| counted.is_valid(*row)).all(|row| {
        let shown = array_value_to_string(&counted, row).unwrap();
        let (value, text) = (written(&shown), written(texts.value(row)));
        match kind {
            kind if kind.is_floating() => !shown.contains("inf") || texts.value(row).to_lowercase().contains("inf"),
            DataType::Time32(unit) | DataType::Time64(unit) if !(0..86_400 * 10_i64.pow(digits(*unit))).contains(&shown.parse().unwrap()) => false,
            kind if kind.is_temporal() && text.is_none() => keeps(kind, texts.value(row)),
            // It can be counted only while all its digits fit.
            DataType::Decimal128(..) if text.as_ref().is_some_and(|text| text.digits_before_exponent > Some(38)) => false,
            DataType::Decimal256(..) if text.as_ref().is_some_and(|text| text.digits_before_exponent > Some(76)) => false,
            kind if kind.is_decimal() => text.is_some() && text == value,
            // A text that is no number, or digits that are a date.
            kind if kind.is_temporal() && texts.value(row).parse::<i64>().is_ok() => true,
            _ => text.is_none() || text == value,
        }
    })
}

/// Digits behind the point of a second.
fn digits(unit: TimeUnit) -> u32 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// Whether a type keeps all of a date or time that is written so.
fn keeps(kind: &DataType, text: &str) -> bool {
    let behind = text.split_once('.').map_or("", |(_, behind)| behind);
    let end = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
    let fraction = behind[..end].trim_end_matches('0').len();
    match kind {
        // A leap second is none that is counted.
        DataType::Timestamp(..)
            if string_to_datetime(&"+00:00".parse::<Tz>().unwrap(), text).is_ok_and(|at| at.timestamp_subsec_nanos() >= 1_000_000_000) =>
        {
            false
        }
        DataType::Time32(unit) | DataType::Time64(unit) | DataType::Timestamp(unit, _) => fraction <= digits(*unit) as usize,
        // A year with a sign has no time.
        DataType::Date32 if text.len() > 10 && !text.starts_with(['-', '+']) => {
            let instant = string_to_datetime(&"+00:00".parse::<Tz>().unwrap(), text).unwrap();
            fraction == 0 && instant.timestamp() % 86_400 == 0
        }
        _ => true,
    }
}

/// A number, written one way.
struct Written {
    negative: bool,
    /// Without zeros at either end.
    digits: String,
    /// Of the last digit.
    exponent: i64,
    /// How many digits stood before an exponent.
    digits_before_exponent: Option<usize>,
}

impl PartialEq for Written {
    fn eq(&self, other: &Self) -> bool {
        (self.negative, &self.digits, self.exponent) == (other.negative, &other.digits, other.exponent)
    }
}

fn written(text: &str) -> Option<Written> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(mantissa, exponent)| (mantissa, Some(exponent)));
    let unsigned = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let all = format!("{}{fraction}", whole.trim_start_matches('0'));
    if whole.len() + fraction.len() == 0 || !format!("{whole}{fraction}").bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let power: i64 = exponent.map_or(Ok(0), str::parse).ok()?;
    let digits = all.trim_end_matches('0');
    let last = power - fraction.len() as i64 + (all.len() - digits.len()) as i64;
    let digits = digits.trim_start_matches('0').to_owned();
    let zero = digits.is_empty();
    let negative = mantissa.starts_with('-') && !zero;
    Some(Written { negative, digits, exponent: if zero { 0 } else { last }, digits_before_exponent: exponent.map(|_| all.len()) })
}

/// What is to come out of `block`, where `row` gives the row of a good record.
pub(super) fn expected(schema: &SchemaRef, block: &[u8], row: impl Fn(&SchemaRef, &[u8]) -> Option<RecordBatch>) -> Decoded {
    let (mut rows, mut offsets, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    let mut offset = 0;
    for line in block.split(|&byte| byte == b'\n') {
        if !line.iter().all(|byte| b" \t\r".contains(byte)) {
            match row(schema, line) {
                Some(row) => {
                    rows.push(row);
                    offsets.push(offset as u64);
                }
                None => bad.push((offset, line.len())),
            }
        }
        offset += line.len() + 1;
    }
    (concat_batches(schema, &rows).unwrap(), offsets, bad)
}

/// Decodes `block` in pieces that grow by `step`, in batches of at most `max_rows`.
pub(super) fn decoded(decoder: &mut JsonDecoder, schema: &SchemaRef, block: &[u8], step: usize, max_rows: usize) -> Decoded {
    let (mut batches, mut offsets, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    let (mut begin, mut end) = (0, step.min(block.len()));
    decoder.track_offsets(true);
    loop {
        let mut errors = Vec::new();
        let last = end == block.len();
        let read = decoder.decode_lines(&block[begin..end], last, max_rows, &mut errors);
        bad.extend(errors.iter().map(|error: &RecordError| (begin + error.offset, error.length)));
        offsets.extend(decoder.take_offsets().into_iter().map(|offset| offset + begin as u64));
        begin += read;
        assert!(decoder.rows() <= max_rows);
        if decoder.rows() == max_rows {
            batches.extend(flushed(decoder));
        } else if begin == block.len() {
            break;
        } else {
            assert!(!last, "stopped at {begin} of {} for no reason", block.len());
            end = (end + step).min(block.len());
        }
    }
    batches.extend(flushed(decoder));
    (concat_batches(schema, &batches).unwrap(), offsets, bad)
}

/// Takes the rows, and checks that they are well formed.
pub(super) fn flushed(decoder: &mut JsonDecoder) -> Option<RecordBatch> {
    let rows = decoder.rows();
    let batch = decoder.flush().unwrap();
    assert_eq!(batch.as_ref().map_or(0, RecordBatch::num_rows), rows);
    if let Some(batch) = &batch {
        // Built unchecked in part: check it here.
        batch.columns().iter().for_each(|column| column.to_data().validate_full().unwrap());
    }
    assert_eq!((decoder.rows(), decoder.bytes()), (0, 0));
    batch
}

/// Asserts that what came out is what was to come out.
pub(super) fn assert_same(found: &Decoded, expected: &Decoded, block: &[u8]) {
    let text = String::from_utf8_lossy(block);
    assert_eq!(found.2, expected.2, "bad records of:\n{text}");
    assert_eq!(found.1, expected.1, "offsets of:\n{text}");
    assert_eq!(found.0, expected.0, "rows of:\n{text}");
    for (ours, theirs) in found.0.columns().iter().zip(expected.0.columns()) {
        // `==` takes NaN and the two zeros for what they are in bits, so this is as good as byte for byte.
        assert_eq!(ours.data_type(), theirs.data_type());
        assert_eq!(ours.null_count(), theirs.null_count());
    }
}
