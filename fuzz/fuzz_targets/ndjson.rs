//! Any bytes as NDJSON: what arrow-json makes of each line alone, however the bytes are cut.
//!
//! The first three bytes of an input choose the columns, how fast the pieces grow and how large batches are; the rest is the block.
#![no_main]

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use karez_formats::json::{JsonDecoder, JsonOptions};
use libfuzzer_sys::{Corpus, fuzz_target};

#[path = "../../crates/karez-formats/tests/it/json/reference.rs"]
mod reference;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((&[columns, step, max_rows], block)) = data.split_first_chunk() else { return Corpus::Reject };
    let schema = &SCHEMAS[usize::from(columns) % SCHEMAS.len()];
    let (step, max_rows) = (1 + usize::from(step) * 3, 1 + usize::from(max_rows) % 32);
    let mut decoder = JsonDecoder::try_new(Arc::clone(schema), JsonOptions::default()).unwrap();
    let whole = reference::decoded(&mut decoder, schema, block, block.len().max(1), usize::MAX);
    // The same decoder, so that it has learnt the layouts; and a new one.
    reference::assert_same(&reference::decoded(&mut decoder, schema, block, step, max_rows), &whole, block);
    let mut decoder = JsonDecoder::try_new(Arc::clone(schema), JsonOptions::default()).unwrap();
    reference::assert_same(&reference::decoded(&mut decoder, schema, block, step, max_rows), &whole, block);
    // A panic ends the process here, so arrow-json is not asked what it may overflow on; the crate's own tests catch that.
    let is_comparable = !has_decimals(schema) || !may_overflow(block);
    if is_comparable {
        reference::assert_same(&whole, &reference::expected(schema, block, reference::arrow_row), block);
    }
    // Lines as messages, and the whole block as one.
    let mut decoder = JsonDecoder::try_new(Arc::clone(schema), JsonOptions::default()).unwrap();
    let (mut offset, mut good) = (0, whole.1.iter().peekable());
    for record in block.split(|byte| *byte == b'\n') {
        assert_eq!(decoder.decode_record(record).is_ok(), good.next_if_eq(&&offset).is_some(), "{}", String::from_utf8_lossy(record));
        offset += record.len() as u64 + 1;
    }
    let is_good = decoder.decode_record(block).is_ok();
    assert!(!is_comparable || is_good == reference::arrow_row(schema, block).is_some(), "{}", String::from_utf8_lossy(block));
    let rows = reference::flushed(&mut decoder).map_or(0, |batch| batch.num_rows());
    assert_eq!(rows, whole.1.len() + usize::from(is_good));
    let strict = JsonDecoder::try_new(Arc::clone(schema), JsonOptions { strict: true });
    let strict = reference::decoded(&mut strict.unwrap(), schema, block, step, max_rows);
    assert!(strict.0.num_rows() <= whole.0.num_rows());
    assert!(whole.2.iter().all(|bad| strict.2.contains(bad)), "strict takes what is bad");
    Corpus::Keep
});

fn has_decimals(schema: &Schema) -> bool {
    schema.fields().iter().any(|field| field.data_type().to_string().contains("Decimal"))
}

/// Whether a number may stand in `block` with more digits, or a larger exponent, than arrow-json can count: more than it takes, to be plain.
fn may_overflow(block: &[u8]) -> bool {
    let of_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    let is_long =
        |number: &[u8]| number.len() > 100 || number.iter().position(|byte| matches!(byte, b'e' | b'E')).is_some_and(|at| number.len() - at > 5);
    block.contains(&b'\\') || block.split(|byte| !of_number(byte)).any(is_long)
}

static SCHEMAS: LazyLock<Vec<SchemaRef>> = LazyLock::new(|| {
    use DataType::*;
    let timestamp = |unit, zone: Option<&str>| Timestamp(unit, zone.map(Into::into));
    let list = |item| List(Arc::new(Field::new_list_field(item, true)));
    let entries = Struct(vec![Field::new("key", Utf8, false), Field::new("value", Decimal128(10, 2), true)].into());
    [
        vec![("a", Int64), ("b", Utf8), ("c", Boolean), ("d", timestamp(TimeUnit::Millisecond, None)), ("e", Float64)],
        vec![("a", Int8), ("b", UInt64), ("c", Float32), ("d", Date32), ("e", Utf8View)],
        vec![("a", Decimal128(10, 2)), ("b", Decimal128(38, 10)), ("c", Decimal256(50, 3)), ("d", LargeUtf8)],
        vec![
            ("a", timestamp(TimeUnit::Second, Some("UTC"))),
            ("b", timestamp(TimeUnit::Microsecond, Some("Europe/Berlin"))),
            ("c", timestamp(TimeUnit::Nanosecond, None)),
        ],
        vec![("a", list(Int64)), ("b", Struct(vec![Field::new("x", Int64, true), Field::new("y", Utf8, true)].into())), ("c", Utf8)],
        vec![("a", Map(Arc::new(Field::new("entries", entries, false)), false)), ("b", list(Decimal128(5, 0))), ("c", Utf8)],
        vec![("a", Date64), ("b", Time64(TimeUnit::Microsecond)), ("c", Float16), ("d", Binary), ("e", Null)],
        vec![("a", UInt8), ("b", Int16), ("c", UInt32)],
        vec![],
    ]
    .into_iter()
    .enumerate()
    .map(|(at, columns)| {
        // In some, a column that must be there.
        let fields: Vec<_> = columns.into_iter().map(|(name, kind)| Field::new(name, kind, name != "a" || at % 2 == 0)).collect();
        Arc::new(Schema::new(fields))
    })
    .collect()
});
