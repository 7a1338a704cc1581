//! What is written is read back: all types, each format, empty and big.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use karez_formats::message::{DecodePlan, DecodeRequest, EncodePlan, EncodeRequest};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Registry, batch, columns, format, id, json_rows, payloads, registered, run};

/// Writes rows and reads them back, with a registry and without.
fn back(json: &str, schema: &SchemaRef, rows: &RecordBatch, registry: bool) -> Vec<Value> {
    let written_by = format(json);
    let mut encoder = EncodePlan::new(EncodeRequest { format: &written_by, schema, registry }).unwrap().encoder().unwrap();
    let mut schemas = Registry::new();
    if let Some(registration) = encoder.registration().cloned() {
        encoder.registered(id(77), None).unwrap();
        schemas.insert(77, registered(registration.kind, &registration.text, &[]));
    }
    let written = payloads(encoder.as_mut(), rows);
    let plan = DecodePlan::new(DecodeRequest { format: &written_by, schema: Some(schema), registry, latest: None, null_payload: None }).unwrap();
    let messages: Vec<&[u8]> = written.iter().map(Vec::as_slice).collect();
    let made = run(plan.decoder().unwrap().as_mut(), &schemas, &messages);
    assert_eq!(made.bad, []);
    made.rows.into_iter().map(|(_, row)| row).collect()
}

const ALL: &str = "b boolean; i8 tinyint; i16 smallint; i32 int; i64 bigint; f32 float; f64 double; s string; x binary; d date; tm time(3); tu time(6); \
    t3 timestamp(3); t6 timestamp(6); z3 timestamp_ltz(3); z9 timestamp_ltz(9); l array<bigint>; m map<string, string>; r row<a int, b row<c string>>; dec decimal(20, 4)";

/// A row of those columns.
fn row() -> impl Strategy<Value = Value> {
    let instant = 0..4_000_000_000_000_i64;
    let numbers = (any::<bool>(), any::<i8>(), any::<i16>(), any::<i32>(), any::<i64>(), -1_000_000..1_000_000_i32, -1e300..1e300_f64);
    let texts = (".{0,12}", proptest::collection::vec(any::<u8>(), 0..6), proptest::collection::vec((".{0,4}", ".{0,4}"), 0..3));
    let others = (proptest::collection::vec(any::<i64>(), 0..4), instant, any::<i32>(), -1_000_000_000..1_000_000_000_i64, any::<u32>());
    (numbers, texts, others).prop_map(|((b, i8, i16, i32, i64, f32, f64), (s, x, m), (l, at, a, dec, nulls))| {
        let hex: String = x.iter().map(|b| format!("{b:02x}")).collect();
        let mut row = json!({
            "b": b, "i8": i8, "i16": i16, "i32": i32, "i64": i64, "f32": f64::from(f32) / 4.0, "f64": f64, "s": s, "x": hex,
            "d": at / 86_400_000, "tm": at % 86_400_000, "tu": at % 86_400_000_000, "t3": at, "t6": at, "z3": at, "z9": at, "l": l,
            "m": m.into_iter().collect::<std::collections::BTreeMap<_, _>>(), "r": { "a": a, "b": { "c": s } }, "dec": format!("{}.{:04}", dec, dec.unsigned_abs() % 10_000),
        });
        for (bit, value) in row.as_object_mut().into_iter().flat_map(|o| o.values_mut()).enumerate() {
            if nulls >> bit & 1 == 1 && nulls % 3 > 0 {
                *value = Value::Null;
            }
        }
        row
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn all_types_are_read_back(rows in proptest::collection::vec(row(), 1..20)) {
        let schema = columns(ALL);
        let texts: Vec<String> = rows.iter().map(Value::to_string).collect();
        let rows = batch(&schema, &texts.iter().map(String::as_str).collect::<Vec<_>>());
        let expected = json_rows(&rows);
        prop_assert_eq!(&back(r#""json""#, &schema, &rows, false), &expected);
        prop_assert_eq!(&back(r#""json""#, &schema, &rows, true), &expected);
        prop_assert_eq!(&back(r#""avro""#, &schema, &rows, true), &expected);

        // Protobuf has no dates, times and decimals, and of lists and maps no null.
        let kept: Vec<usize> = (0..schema.fields().len()).filter(|&c| {
            !matches!(schema.field(c).data_type(), DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) | DataType::Decimal128(_, _))
        }).collect();
        let kept: Vec<usize> = kept.into_iter().filter(|&c| !matches!(schema.field(c).data_type(), DataType::List(_) | DataType::Map(_, _)) || rows.column(c).null_count() == 0).collect();
        let rows = rows.project(&kept).unwrap();
        prop_assert_eq!(&back(r#""protobuf""#, &Arc::clone(&rows.schema()), &rows, true), &json_rows(&rows));

        // CSV holds no nested values and no bytes.
        let flat: Vec<usize> = (0..rows.num_columns()).filter(|&c| !rows.column(c).data_type().is_nested() && rows.column(c).data_type() != &DataType::Binary).collect();
        let flat = rows.project(&flat).unwrap();
        prop_assert_eq!(&back(r#"{"type":"csv","nullValue":"NULL"}"#, &Arc::clone(&flat.schema()), &flat, false), &json_rows(&flat));
    }
}

#[test]
fn no_rows_are_no_messages_and_a_big_one_is_one() {
    let schema = columns("s string");
    let big = json!({ "s": "é".repeat(3 << 20) }).to_string();
    for format in [r#""json""#, r#""avro""#, r#""protobuf""#] {
        for registry in [true, false] {
            if !registry && format != r#""json""# {
                continue;
            }
            let rows = batch(&schema, &[&big, r#"{"s":"x"}"#]);
            assert_eq!(back(format, &schema, &rows.slice(0, 0), registry), [] as [Value; 0]);
            assert_eq!(back(format, &schema, &rows, registry), json_rows(&rows));
        }
    }
}
