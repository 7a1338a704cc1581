//! The predicting decoder gives what arrow-json gives, for every input, unless that is another number.

mod reference;

use std::panic::catch_unwind;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use karez_formats::RecordError;
use karez_formats::json::{JsonDecoder, JsonOptions};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use reference::{arrow_row, assert_same, decoded, expected, flushed};

/// What arrow-json makes of one record alone. Where it overflows, which is a panic in a debug build, the record is bad.
fn reference_row(schema: &SchemaRef, record: &[u8]) -> Option<RecordBatch> {
    catch_unwind(|| arrow_row(schema, record)).unwrap_or(None)
}

fn check_with(decoder: &mut JsonDecoder, schema: &SchemaRef, block: &[u8], step: usize, max_rows: usize) {
    assert_same(&decoded(decoder, schema, block, step, max_rows), &expected(schema, block, reference_row), block);
}

fn check(schema: &SchemaRef, block: &[u8]) {
    check_with(&mut decoder(schema), schema, block, block.len().max(1), 1 << 20);
}

fn decoder(schema: &SchemaRef) -> JsonDecoder {
    JsonDecoder::try_new(Arc::clone(schema), JsonOptions::default()).unwrap()
}

fn schema<'a>(fields: impl IntoIterator<Item = (&'a str, DataType, bool)>) -> SchemaRef {
    let fields: Vec<_> = fields.into_iter().map(|(name, kind, nullable)| Field::new(name, kind, nullable)).collect();
    Arc::new(Schema::new(fields))
}

fn bids() -> SchemaRef {
    schema([
        ("auction", DataType::Int64, true),
        ("price", DataType::Int64, true),
        ("url", DataType::Utf8, true),
        ("date_time", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ])
}

fn bid(row: usize) -> String {
    format!(
        "{{\"auction\":{row},\"bidder\":{},\"price\":{},\"channel\":\"Google\",\"url\":\"https://nexmark.com/{row}\",\
         \"date_time\":\"2024-01-01 00:00:{:02}.{:03}\",\"extra\":\"\"}}",
        row * 7,
        row * row,
        row / 1000 % 60,
        row % 1000
    )
}

/// All types that are read in place.
fn read_in_place() -> Vec<DataType> {
    let mut types = vec![
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float32,
        DataType::Float64,
        DataType::Boolean,
        DataType::Date32,
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Decimal128(5, 2),
        DataType::Decimal128(38, 10),
        DataType::Decimal128(10, 0),
    ];
    for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
        types.push(DataType::Timestamp(unit, None));
        types.push(DataType::Timestamp(unit, Some("UTC".into())));
        types.push(DataType::Timestamp(unit, Some("+00:00".into())));
        types.push(DataType::Timestamp(unit, Some("Europe/Berlin".into())));
        types.push(DataType::Timestamp(unit, Some("-03:30".into())));
    }
    types
}

/// Some types that only arrow-json decodes.
fn left_to_arrow() -> Vec<DataType> {
    vec![
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Date64,
        DataType::Float16,
        DataType::Decimal256(40, 3),
        DataType::Null,
        DataType::Binary,
        DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true))),
        DataType::Struct(vec![Field::new("x", DataType::Int64, true), Field::new("y", DataType::Utf8, true)].into()),
    ]
}

const VALUES: &[&str] = &[
    "0",
    "-0",
    "00",
    "007",
    "-7",
    "1",
    "127",
    "128",
    "-128",
    "-129",
    "255",
    "256",
    "32767",
    "32768",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483648",
    "4294967295",
    "4294967296",
    "12345678",
    "123456789",
    "1234567890123456",
    "12345678901234567",
    "123456789012345678",
    "1234567890123456789",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999",
    "1.0",
    "1.5",
    "-1.5",
    "0.1",
    "0.5",
    "-0.0",
    "0.0",
    "1.",
    ".5",
    "1e3",
    "1E3",
    "1e+3",
    "1e-3",
    "1e400",
    "-1e400",
    "1e-400",
    "1.7976931348623157e308",
    "4.9e-324",
    "3.4028235e38",
    "3.5e38",
    "16777217",
    "0.3333333333333333333",
    "123456.789012",
    "9007199254740993",
    "9007199254740993.5",
    "1.00000005960464477539",
    "1.23",
    "123.45",
    "999.99",
    "1000.00",
    "1234.567",
    "0.001",
    "123456789012345678.5",
    "1-2",
    "1+2",
    "1..2",
    "-",
    "--1",
    "+1",
    "1e",
    "1e+",
    "0x10",
    "NaN",
    "Infinity",
    "1_000",
    "true",
    "false",
    "null",
    "True",
    "nul",
    "tru",
    "truee",
    "nullx",
    r#""""#,
    r#""a""#,
    r#""1""#,
    r#""-5""#,
    r#"" 5 ""#,
    r#""1.5""#,
    r#""12.34""#,
    r#""1.""#,
    r#""true""#,
    r#""null""#,
    r#""12345678901234567890""#,
    r#""a string longer than sixteen bytes, and than twelve""#,
    r#""exactly 16 bytes""#,
    r#""fifteen bytes..""#,
    r#""Grüße, 世界 🦀""#,
    r#""a\"b""#,
    r#""a\\""#,
    r#""\\""#,
    r#""\/\b\f\n\r\t""#,
    r#""\u0041\u00e9\u4e16""#,
    r#""\ud83e\udd80""#,
    r#""\ud83e""#,
    r#""\udd80\ud83e""#,
    r#""\u00""#,
    r#""\u00zz""#,
    r#""\x""#,
    r#""\u0000""#,
    r#""a long one with an escape in it \n and on it goes""#,
    "\"tab\tand \u{1} raw\"",
    "\"carriage\rreturn\"",
    "\"\u{7f}\"",
    r#""2024-02-29""#,
    r#""2023-02-29""#,
    r#""1900-02-29""#,
    r#""2000-02-29""#,
    r#""2024-13-01""#,
    r#""2024-00-10""#,
    r#""2024-01-00""#,
    r#""2024-04-31""#,
    r#""0000-01-01""#,
    r#""9999-12-31""#,
    r#""1969-12-31""#,
    r#""2024-1-1""#,
    r#""20240101""#,
    r#""+12024-01-01""#,
    r#""-0001-01-01""#,
    r#""2024-01-01 00:00:00""#,
    r#""2024-01-01T00:00:00""#,
    r#""2024-01-01t00:00:00z""#,
    r#""2024-01-01T00:00:00Z""#,
    r#""2024-01-01T12:34:56.7""#,
    r#""2024-01-01T12:34:56.78Z""#,
    r#""2024-01-01 12:34:56.789""#,
    r#""2024-01-01 12:34:56.7890""#,
    r#""2024-01-01 12:34:56.789012""#,
    r#""2024-01-01 12:34:56.7890123""#,
    r#""2024-01-01 12:34:56.78901234""#,
    r#""2024-01-01 12:34:56.789012345""#,
    r#""2024-01-01 12:34:56.7890123456""#,
    r#""2024-01-01 12:34:56.7890123456789Z""#,
    r#""2024-01-01 12:34:56.""#,
    r#""2024-01-01 12:34:56.Z""#,
    r#""2024-01-01T12:34:56+02:00""#,
    r#""2024-01-01T12:34:56.5 -03:30""#,
    r#""2024-01-01T12:34:56 Europe/Berlin""#,
    r#""2024-01-01T12:34:56Zz""#,
    r#""2024-01-01T12:34:56 ""#,
    r#""2024-01-01T12:34""#,
    r#""2024-01-01T12:34Z""#,
    r#""2024-01-01T123456""#,
    r#""2024-01-01T12:34:60""#,
    r#""2024-01-01T12:34:61""#,
    r#""2024-01-01T12:60:00""#,
    r#""2024-01-01T24:00:00""#,
    r#""2024-01-01X12:34:56""#,
    r#""1969-12-31T23:59:59.999999999""#,
    r#""1969-12-31 23:59:59.5Z""#,
    r#""0000-01-01T00:00:00""#,
    r#""9999-12-31T23:59:59.999Z""#,
    r#""1677-09-21T00:12:44""#,
    r#""1677-09-21T00:12:43""#,
    r#""2262-04-11T23:47:16.854775807""#,
    r#""2262-04-11T23:47:16.854775808""#,
    r#""1680-01-01T00:00:00""#,
    r#""1500-01-01T00:00:00""#,
    r#""2024-03-31T02:30:00""#,
    r#""2024-10-27T02:30:00""#,
    r#""2024-01-01T1a:00:00""#,
    "\"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0:00Z\"",
    "{}",
    "[]",
    "[1,2,3]",
    "[1,]",
    "[,]",
    r#"{"x":1}"#,
    r#"{"x":{"y":[{"z":"}"}]}}"#,
    r#"{"x":1,"y":"b"}"#,
    r#"{ "x" : [ 1 , { } , [ ] , "a\"b" ] , "y" : null }"#,
    r#"{"x":1,}"#,
    r#"{"x"}"#,
    "[1 2]",
    r#"{"x":1 "y":2}"#,
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
    "[}",
    "{]",
    "[1",
    r#"{"x":"#,
    "",
    "@",
];

// ===== Every type and every value =====

#[test]
fn every_value_in_every_type_is_what_arrow_json_makes_of_it() {
    for kind in read_in_place().into_iter().chain(left_to_arrow()) {
        for nullable in [true, false] {
            let schema = schema([("a", kind.clone(), nullable), ("z", DataType::Int64, true)]);
            let mut lines = String::new();
            for value in VALUES {
                lines.push_str(&format!("{{\"a\":{value},\"b\":1,\"z\":1}}\n{{\"b\":2,\"z\":2,\"a\":{value}}}\n"));
            }
            check(&schema, lines.as_bytes());
        }
    }
}

#[test]
fn a_decimal_whose_digits_arrow_json_cannot_count_makes_its_record_bad_wherever_it_stands() {
    let zeros = |count: usize| "0".repeat(count);
    let beyond = [
        format!("1{}", zeros(127)),
        format!("1{}", zeros(256)),
        format!("\"1{}\"", zeros(256)),
        format!("\"{}\"", "\\u0031".repeat(300)),
        format!("-1{}.5", zeros(300)),
        "1e32768".to_owned(),
        "0E-40000".to_owned(),
        "1e-9223372036854775808".to_owned(),
        "\"1\\u006540000\"".to_owned(),
        format!("1.{}e1", zeros(40_000)),
    ];
    let within = [
        format!("{}1", zeros(300)),
        format!("\"0.1{}\"", zeros(300)),
        format!("1.{}", zeros(5_000)),
        "100e-2".to_owned(),
        "1e+000000".to_owned(),
        "1e-5000".to_owned(),
        "\"\\u0031.5\"".to_owned(),
    ];
    let field = |kind: &DataType| Arc::new(Field::new_list_field(kind.clone(), true));
    for decimal in [DataType::Decimal128(10, 2), DataType::Decimal128(10, 0), DataType::Decimal256(50, 3)] {
        let pair = |key: &DataType, value: &DataType| {
            let pair = vec![Field::new("key", key.clone(), false), Field::new("value", value.clone(), true)];
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair.into()), false)), false)
        };
        let pair_of_fields = DataType::Struct(vec![Field::new("t", DataType::Utf8, true), Field::new("d", decimal.clone(), true)].into());
        let places = [
            (decimal.clone(), "", ""),
            (DataType::List(field(&decimal)), "[1,", "]"),
            (DataType::List(field(&pair_of_fields)), "[{\"t\":\"1e99999\",\"d\":", "}]"),
            (pair(&DataType::Utf8, &decimal), "{\"1e99999\":", "}"),
        ];
        for (kind, before, behind) in places {
            let schema = schema([("x", DataType::Utf8, true), ("a", kind, true)]);
            let lines = |numbers: &[String]| numbers.iter().map(|n| format!("{{\"x\":\"1e99999\",\"a\":{before}{n}{behind}}}\n")).collect::<String>();
            let mut errors = Vec::new();
            let mut decoder = decoder(&schema);
            decoder.decode_lines(lines(&beyond).as_bytes(), true, usize::MAX, &mut errors);
            assert_eq!((decoder.rows(), errors.len()), (0, beyond.len()), "{schema}");
            let reason = "whilst decoding field 'a': a number has too many digits for a decimal";
            assert!(errors.iter().all(|error| error.reason == reason), "{errors:?}");
            check(&schema, (lines(&within) + "{\"a\":1}\n").as_bytes());
            assert!(decoder.decode_record(lines(&within).lines().next().unwrap().as_bytes()).is_ok());
        }
        let keys = schema([("a", pair(&decimal, &DataType::Int64), true)]);
        check(&keys, b"{\"a\":{\"1.5\":1,\"\\u0031\":2}}\n{\"a\":{\"1\\u006540000\":1}}\n{\"a\":{\"1e40000\":1}}\n");
    }
}

#[test]
fn a_decimal_of_another_kind_of_value_is_refused_in_the_same_words_when_escapes_stand_beside_it() {
    for value in ["[1]", "{}", "true", "\"x\""] {
        let reasons = ["plain", "esc\\nape"].map(|beside| {
            let schema = schema([("d", DataType::Decimal128(5, 2), true)]);
            let mut errors = Vec::new();
            decoder(&schema).decode_lines(format!("{{\"x\":\"{beside}\",\"d\":{value}}}").as_bytes(), true, 1, &mut errors);
            errors.pop().unwrap().reason
        });
        assert_eq!(reasons[0], reasons[1]);
    }
}

#[test]
fn a_number_that_its_column_would_change_makes_its_record_bad_and_says_why() {
    let reason = |kind: DataType, value: &str| {
        let schema = schema([("a", kind, true)]);
        let mut errors = Vec::new();
        let mut decoder = decoder(&schema);
        decoder.decode_lines(format!("{{\"a\":{value}}}\n{{\"a\":null}}\n").as_bytes(), true, 10, &mut errors);
        assert_eq!(decoder.rows(), 2 - errors.len());
        errors.pop().map(|error| error.reason.strip_prefix("whilst decoding field 'a': ").unwrap().to_owned())
    };
    let list = |kind| DataType::List(Arc::new(Field::new_list_field(kind, true)));
    let milliseconds = DataType::Timestamp(TimeUnit::Millisecond, None);
    for (kind, value, expected) in [
        (DataType::Decimal128(12, 2), "1.239", "`1.239` has more digits behind the point than decimal(12, 2) keeps"),
        (DataType::Decimal128(12, 2), "\"1.239\"", "`1.239` has more digits behind the point than decimal(12, 2) keeps"),
        (DataType::Decimal128(12, 2), "\"1.\\u0032\\u00339\"", "`1.239` has more digits behind the point than decimal(12, 2) keeps"),
        (list(DataType::Decimal128(12, 2)), "[1, 1e-3]", "`1e-3` has more digits behind the point than decimal(12, 2) keeps"),
        (DataType::Int64, "8.5", "8.5 is no whole number, as bigint needs"),
        (list(DataType::Int8), "[8.0, 1e-1]", "1e-1 is no whole number, as tinyint needs"),
        (DataType::Int64, "9007199254740993.0", "9007199254740993.0 cannot be read exactly as bigint: write it without point and exponent"),
        (milliseconds.clone(), "1.5", "1.5 is no whole number, as timestamp(3) needs"),
        (milliseconds.clone(), "\"1970-01-01T00:00:00.1239\"", "`1970-01-01T00:00:00.1239` has more digits behind the point than timestamp(3) keeps"),
        (
            milliseconds.clone(),
            "\"1970-01-01T00:00:00.0001+01:00\"",
            "`1970-01-01T00:00:00.0001+01:00` has more digits behind the point than timestamp(3) keeps",
        ),
        (DataType::Date32, "\"1970-01-01T12:00:00\"", "`1970-01-01T12:00:00` has a time of day, which a date does not keep"),
        (DataType::Time32(TimeUnit::Millisecond), "86400000", "`86400000` is out of the range of time(3)"),
        (DataType::Time32(TimeUnit::Millisecond), "\"86400000\"", "`86400000` is out of the range of time(3)"),
        (DataType::Time32(TimeUnit::Second), "-1", "`-1` is out of the range of time(0)"),
        (DataType::Time32(TimeUnit::Second), "\"23:59:60\"", "`23:59:60` is out of the range of time(0)"),
        (DataType::Time32(TimeUnit::Second), "\"00:00:00.5\"", "`00:00:00.5` has more digits behind the point than time(0) keeps"),
        (DataType::Binary, "\"abc\"", "`abc` has an odd number of hexadecimal digits"),
        (list(DataType::Binary), "[\"\\u0061b\", \"\", \"1\"]", "`1` has an odd number of hexadecimal digits"),
        (DataType::Float64, "1e400", "`1e400` is out of the range of double"),
        (DataType::Float64, "\"-1e400\"", "`-1e400` is out of the range of double"),
        (list(DataType::Float32), "[1.5, 1e40]", "`1e40` is out of the range of float"),
        (milliseconds, "9223372036854775808", "9223372036854775808 is too large for timestamp(3)"),
    ] {
        assert_eq!(reason(kind, value).as_deref(), Some(expected));
    }
    for (kind, value) in [
        (DataType::Decimal128(12, 2), "1.2300"),
        (DataType::Decimal128(12, 2), "125e-1"),
        (DataType::Int64, "8.0"),
        (DataType::UInt64, "1e19"),
        (DataType::Binary, "\"ABcd\""),
        (DataType::Float64, "\"Infinity\""),
        (DataType::Float64, "1e-400"),
        (DataType::Timestamp(TimeUnit::Millisecond, None), "\"1970-01-01T00:00:00.123000Z\""),
        (DataType::Date32, "\"1970-01-01T00:00:00Z\""),
        (DataType::Time32(TimeUnit::Second), "\"23:59:59\""),
    ] {
        assert_eq!(reason(kind, value), None, "{value}");
    }
}

#[test]
fn a_decimal_with_a_negative_scale_is_refused() {
    let error = JsonDecoder::try_new(schema([("a", DataType::Decimal128(10, -2), true)]), JsonOptions::default()).unwrap_err();
    assert!(error.to_string().contains("column `a`: decimal(10, -2) cannot be read from JSON: its scale is negative"), "{error}");
}

#[test]
fn every_value_that_is_not_read_is_skipped_as_arrow_json_skips_it() {
    let schema = schema([("z", DataType::Int64, true)]);
    let lines: String = VALUES.iter().map(|value| format!("{{\"a\":{value},\"z\":1}}\n")).collect();
    check(&schema, lines.as_bytes());
}

#[test]
fn a_record_nested_beyond_the_limit_is_bad_and_does_not_overflow_the_stack() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}\n", "[".repeat(depth), "]".repeat(depth));
    let brackets_in_a_text = format!("{{\"z\":\"\\\"{}\",\"a\":[2]}}\n", "[{".repeat(200_000));
    let wide = format!("{{\"z\":[{}[]],\"a\":[3]}}\n", "[],".repeat(2_000));
    let block = format!("{}{{\"a\":[1]}}\n{}{}{brackets_in_a_text}{wide}", nested(200_000), nested(999), nested(1_000));
    let schema = schema([("a", DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true))), true)]);
    let mut decoder = decoder(&schema);
    let mut errors = Vec::new();
    assert_eq!(decoder.decode_lines(block.as_bytes(), true, usize::MAX, &mut errors), block.len());
    assert_eq!(decoder.rows(), 3);
    let too_deep = "the record is nested more than 1000 levels deep";
    assert_eq!((errors.len(), errors[0].reason.as_str(), errors[2].reason.as_str()), (3, too_deep, too_deep));
    assert!(errors[1].reason.contains("expected primitive"), "999 levels are arrow-json's to judge: {}", errors[1].reason);
    // What nobody reads may not be deeper either.
    let read_beside = format!("{{\"z\":1,{}", &nested(200_000)[1..]);
    let z = self::schema([("z", DataType::Int64, true)]);
    assert!(self::decoder(&z).decode_record(read_beside.trim_end().as_bytes()).is_err());
}

#[test]
fn records_of_no_columns_are_counted() {
    let schema = schema([]);
    check(&schema, b"{\"a\":1}\n{}\n[]\n{ }\n");
    let mut decoder = decoder(&schema);
    decoder.decode_lines(b"{\"a\":1}\n{}\n", false, 10, &mut Vec::new());
    assert_eq!(decoder.flush().unwrap().unwrap().num_rows(), 2);
}

#[test]
fn of_two_columns_with_one_name_the_first_is_filled() {
    check(&schema([("a", DataType::Int64, true), ("a", DataType::Int64, true)]), b"{\"a\":1}\n{\"a\":2}\n");
    // The other is not even looked at.
    let long = format!("{{\"a\":0.{}1}}\n", "0".repeat(300));
    check(&schema([("a", DataType::Float64, true), ("a", DataType::Decimal128(10, -2), true)]), long.as_bytes());
}

// ===== Layouts =====

#[test]
fn the_last_of_two_values_of_a_key_counts() {
    let schema = bids();
    check(&schema, b"{\"price\":1,\"price\":2}\n{\"price\":1}\n{\"price\":null,\"price\":3,\"x\":1,\"x\":2}\n");
}

#[test]
fn a_missing_key_is_null_or_an_error() {
    let fields = |nullable| schema([("a", DataType::Int64, true), ("b", DataType::Utf8, nullable)]);
    let block = b"{\"a\":1,\"b\":\"x\"}\n{\"a\":2}\n{\"b\":\"y\"}\n{}\n{\"a\":null,\"b\":null}\n";
    check(&fields(true), block);
    check(&fields(false), block);
}

#[test]
fn an_escaped_key_is_found() {
    check(&bids(), b"{\"pri\\u0063e\":1}\n{\"price\":2}\n{\"pri\\u0063e\":3,\"price\":4}\n");
}

#[test]
fn rows_stay_in_order_among_records_of_the_general_path() {
    let block: String = (0..2000)
        .map(|row| match row % 7 {
            0 => bid(row).replace("\"price\":", "\"price\":0") + "\n",
            1 => bid(row).replace("\"bidder\"", "\"price\"") + "\n",
            2 => bid(row).replace("https", "\\ud83e\\udd80") + "\r\n",
            3 if row % 5 == 0 => bid(row)[..row % 100].to_owned() + "\n",
            _ => bid(row) + "\n",
        })
        .collect();
    for (step, max_rows) in [(1 << 20, 1 << 20), (1000, 1 << 20), (5000, 100), (1 << 20, 7), (333, 1)] {
        check_with(&mut decoder(&bids()), &bids(), block.as_bytes(), step, max_rows);
    }
}

#[test]
fn more_layouts_than_are_kept_are_read_all_the_same() {
    let schema = bids();
    let block: String = (0..3000).map(|row| format!("{{\"k{row}\":1,\"price\":{row},\"{}\":\"x\"}}\n", "long".repeat(row % 80))).collect();
    check(&schema, block.as_bytes());
}

#[test]
fn after_many_records_that_do_not_fit_those_that_do_are_found_again() {
    let odd = |row| bid(row).replace("\"price\":", "\"price\":00");
    let block: String = (0..5000).map(|row| if row < 3000 { odd(row) } else { bid(row) } + "\n").collect();
    check(&bids(), block.as_bytes());
}

// ===== Framing =====

#[test]
fn a_line_with_two_values_is_one_bad_record() {
    check(&bids(), b"{\"price\":1}{\"price\":2}\n{\"price\":3} {\"price\":4}\n{\"price\":5} 6\n{\"price\":7}\n{\"price\":8}x\n");
}

#[test]
fn a_record_does_not_go_on_in_the_next_line() {
    let schema = schema([("price", DataType::Int64, true), ("url", DataType::Utf8, true)]);
    check(&schema, b"{\"price\":1\n}\n{\"url\":\"a\nb\"}\n{\"price\":\n1}\n{\"price\":1,\"x\":\"\n\"}\n{\"x\":[\n]}\n{\"price\":2}");
    check(&schema, b"{\"url\":\"a");
    check(&schema, b"{\"url\":\"a\\");
    check(&schema, b"{\"price\":12345678");
}

#[test]
fn blank_lines_are_skipped_and_carriage_returns_are_space() {
    check(&bids(), b"\n\r\n  \n{\"price\":1}\r\n \t{\"price\":2} \t\r\n\n{\"price\":3}\r");
}

#[test]
fn the_last_line_waits_for_its_end_unless_it_is_the_last() {
    let mut decoder = decoder(&bids());
    let block = b"{\"price\":1}\n{\"price\":2}";
    assert_eq!(decoder.decode_lines(block, false, 10, &mut Vec::new()), 12);
    assert_eq!(decoder.decode_lines(&block[12..], false, 10, &mut Vec::new()), 0);
    assert_eq!(decoder.decode_lines(&block[12..], true, 10, &mut Vec::new()), 11);
    assert_eq!(decoder.rows(), 2);
}

#[test]
fn invalid_utf8_makes_its_record_bad_and_no_other() {
    let mut block = Vec::new();
    for row in 0..50 {
        let mut line = bid(row).into_bytes();
        if row % 10 == 3 {
            let at = line.len() - row;
            line[at] = 0xff;
        }
        block.extend(line);
        block.push(b'\n');
    }
    check(&bids(), &block);
    check(&bids(), b"{\"x\":\"\xc3\"}\n{\"x\":\"\xa9\"}\n{\"url\":\"\xe4\xb8\"}\n{\"\xff\":1}\n{\"price\":1}\xff\n{\"price\":2}\n");
}

#[test]
fn a_bad_record_says_why() {
    let mut errors = Vec::new();
    decoder(&bids()).decode_lines(b"{\"price\":\"many\"}\n", false, 10, &mut errors);
    let expected = "whilst decoding field 'price': failed to parse \"many\" as bigint";
    assert_eq!(errors, [RecordError { offset: 0, length: 16, reason: expected.to_owned() }]);
}

#[test]
fn a_bad_record_names_its_column_where_one_of_arrows_parsers_refuses_the_value() {
    let instant = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let pair = DataType::Struct(vec![Field::new("at", instant.clone(), true)].into());
    let schema = schema([("n", DataType::Int64, true), ("price", DataType::Decimal128(4, 2), true), ("at", instant, true), ("pair", pair, true)]);
    let values = [
        ("price", r#""1.2.3""#, "1.2.3"),
        ("price", "12345", "12345"),
        ("at", r#""9999-01-01T00:00:00""#, "9999-01-01"),
        ("pair", r#"{"at":"9999-01-01T00:00:00"}"#, "9999-01-01"),
    ];
    for (column, value, shown) in values {
        let mut errors = Vec::new();
        decoder(&schema).decode_lines(format!("{{\"n\":1,\"{column}\":{value}}}\n").as_bytes(), false, 10, &mut errors);
        let [RecordError { reason, .. }] = &errors[..] else { panic!("{column} {value}: {errors:?}") };
        assert!(reason.starts_with(&format!("whilst decoding field '{column}': ")) && reason.contains(shown), "{reason}");
        assert!(!reason.contains("error: "), "{reason}");
    }
}

#[test]
fn a_strict_decoder_takes_no_unknown_key() {
    let options = JsonOptions { strict: true };
    let mut decoder = JsonDecoder::try_new(bids(), options).unwrap();
    let mut errors = Vec::new();
    decoder.decode_lines(b"{\"price\":1}\n{\"prize\":1}\n{\"price\":2}\n", false, 10, &mut errors);
    assert_eq!((decoder.rows(), errors.len()), (2, 1));
    assert!(errors[0].reason.contains("prize"), "{}", errors[0].reason);
}

// ===== Messages =====

/// What `decode_record` makes of each of `records`, against arrow-json.
fn check_records(schema: &SchemaRef, records: &[Vec<u8>]) {
    let mut decoder = decoder(schema);
    let mut rows = Vec::new();
    for record in records {
        let before = decoder.rows();
        let result = decoder.decode_record(record);
        let expected = reference_row(schema, record);
        assert_eq!(result.is_ok(), expected.is_some(), "{}", String::from_utf8_lossy(record));
        assert_eq!(decoder.rows() - before, usize::from(result.is_ok()));
        if let Err(error) = result {
            assert_eq!((error.offset, error.length), (0, record.len()));
        }
        rows.extend(expected);
    }
    let expected = concat_batches(schema, &rows).unwrap();
    assert_eq!(flushed(&mut decoder).unwrap_or(RecordBatch::new_empty(Arc::clone(schema))), expected);
}

#[test]
fn a_message_may_hold_line_feeds() {
    let records = ["{\n  \"price\": 1,\n  \"url\": \"a\"\n}\n", "{\"price\":2}", "\n{\"price\":3\n}\n\n", "{\"url\":\"a\nb\"}"];
    check_records(&bids(), &records.map(|record| record.as_bytes().to_vec()));
    // What a message taught must not lead over the end of a line.
    let mut decoder = decoder(&bids());
    decoder.decode_record(b"{\"price\":1,\n\"url\":\"a\"}").unwrap();
    let block = b"{\"price\":1,\n\"url\":\"a\"}\n";
    let mut errors = Vec::new();
    decoder.decode_lines(block, true, 10, &mut errors);
    assert_eq!((decoder.rows(), errors.len()), (1, 2));
}

#[test]
fn a_message_that_is_not_one_object_is_an_error() {
    let records = ["", " ", "\n", "{}{}", "{} {}", "1", "\"a\"", "null", "[]", "[{}]", "{", "}", "{}x", "{\"price\":1}\n{\"price\":2}"];
    let records: Vec<_> = records.iter().map(|record| record.as_bytes().to_vec()).collect();
    check_records(&bids(), &records);
    let decoder = &mut decoder(&bids());
    assert_eq!(decoder.decode_record(b" ").unwrap_err().reason, "the record is empty");
    assert_eq!(decoder.decode_record(b"{}{}").unwrap_err().reason, "more than one JSON value in the record");
}

#[test]
fn a_decoder_goes_on_after_a_flush() {
    let mut decoder = decoder(&bids());
    for row in 0..3 {
        decoder.decode_record(bid(row).as_bytes()).unwrap();
        let batch = flushed(&mut decoder).unwrap();
        assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(0), row as i64);
        assert_eq!(batch.column(3).as_primitive::<TimestampMillisecondType>().value(0), 1_704_067_200_000 + row as i64);
    }
    assert!(decoder.flush().unwrap().is_none());
}

#[test]
fn a_type_that_arrow_json_does_not_know_is_refused() {
    let kind = DataType::Interval(arrow::datatypes::IntervalUnit::DayTime);
    assert!(JsonDecoder::try_new(schema([("a", kind, true)]), JsonOptions::default()).is_err());
}

// ===== Properties =====

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![20 => Just(""), 1 => select(vec![" ", "  ", "\t", "\r", " \t "])]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => any::<i32>().prop_map(|value| value.to_string()),
        2 => any::<i64>().prop_map(|value| value.to_string()),
        1 => any::<u64>().prop_map(|value| value.to_string()),
        2 => any::<f64>().prop_map(|value| format!("{value}")),
        1 => any::<f32>().prop_map(|value| format!("{value:e}")),
        2 => (-1_000_000_i64..1_000_000, 0_u32..6).prop_map(|(value, scale)| format!("{value}.{value:0$}", scale as usize).replace(".-", ".")),
        3 => "[a-z ]{0,40}".prop_map(|value| format!("\"{value}\"")),
        1 => "\\PC{0,20}".prop_map(|value| serde_json::to_string(&value).unwrap()),
        1 => ".{0,20}".prop_map(|value| serde_json::to_string(&value).unwrap()),
        3 => (0..3_000_000_000_i64, 0..1000_u32, select(vec!["", "Z", "+01:00"]), select(vec!["T", " "])).prop_map(|(at, ms, zone, separator)| {
            let at = arrow::temporal_conversions::timestamp_s_to_datetime(at).unwrap();
            format!("\"{}.{ms:03}{zone}\"", at.format(&format!("%Y-%m-%d{separator}%H:%M:%S")))
        }),
        3 => select(VALUES.to_vec()).prop_map(str::to_owned),
    ]
}

/// Members and white space of a record; now and then one is lost, doubled or nested.
fn record() -> impl Strategy<Value = String> {
    let keys = vec!["a", "b", "c", "d", "e", "f", "g", "unread", "a key longer than sixteen bytes", "é", "a\\u0062"];
    let member = (select(keys), value(), space(), space(), space());
    (vec(member, 0..9), space(), space()).prop_map(|(members, begin, end)| {
        let members: Vec<_> =
            members.into_iter().map(|(key, value, before, around, behind)| format!("{before}\"{key}\"{around}:{around}{value}{behind}")).collect();
        format!("{begin}{{{}}}{end}", members.join(","))
    })
}

/// Records of one layout, their values of fixed kinds: what the decoder predicts.
fn regular() -> impl Strategy<Value = Vec<String>> {
    vec((any::<i32>(), "[a-z]{0,30}", any::<bool>(), 0..2_000_000_000_i64), 1..40).prop_map(|rows| {
        rows.into_iter()
            .map(|(number, text, flag, at)| {
                let at = arrow::temporal_conversions::timestamp_s_to_datetime(at).unwrap();
                let at = at.format("%Y-%m-%dT%H:%M:%S.5Z");
                format!(
                    "{{\"a\":{number},\"b\":\"{text}\",\"unread\":{{\"x\":[{number}]}},\"c\":{flag},\"d\":\"{at}\",\"e\":{number}.25,\"g\":null}}"
                )
            })
            .collect()
    })
}

/// A byte of some line changed, taken away or put in, or the line cut off.
#[derive(Debug, Clone)]
enum Damage {
    Set(usize, u8),
    Remove(usize),
    Insert(usize, u8),
    Cut(usize),
    Double(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let byte = || prop_oneof![any::<u8>(), select(b"\"\\{}[]:, \n\r\t0-+.eE1tfnu\xff\xc3".to_vec())];
    prop_oneof![
        (any::<usize>(), byte()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        any::<usize>().prop_map(Damage::Remove),
        (any::<usize>(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        any::<usize>().prop_map(Damage::Cut),
        (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Damage::Double(from, to)),
    ]
}

fn damaged(mut line: Vec<u8>, damage: &Damage) -> Vec<u8> {
    let length = line.len().max(1);
    if line.is_empty() {
        return line;
    }
    match *damage {
        Damage::Set(at, byte) => line[at % length] = byte,
        Damage::Remove(at) => drop(line.remove(at % length)),
        Damage::Insert(at, byte) => line.insert(at % length, byte),
        Damage::Cut(at) => line.truncate(at % length),
        Damage::Double(from, to) => {
            let (from, to) = (from % length, to % length);
            line.extend_from_within(from.min(to)..from.max(to));
        }
    }
    line
}

/// Lines of all sorts in one block.
fn block() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let bytes = |line: String| line.into_bytes();
    let some = prop_oneof![
        3 => regular().prop_map(move |lines| lines.into_iter().map(bytes).collect::<Vec<_>>()),
        2 => vec(record().prop_map(bytes), 1..8),
        2 => (regular(), vec(damage(), 1..4)).prop_map(move |(lines, damages)| {
            let mut lines: Vec<_> = lines.into_iter().map(bytes).collect();
            for (at, damage) in damages.iter().enumerate() {
                let at = at * 7 % lines.len();
                lines[at] = damaged(std::mem::take(&mut lines[at]), damage);
            }
            lines
        }),
        1 => (record(), vec(damage(), 1..4)).prop_map(move |(line, damages)| vec![damages.iter().fold(bytes(line), damaged)]),
        1 => vec(vec(any::<u8>(), 0..30), 1..3),
    ];
    vec(some, 1..6).prop_map(|parts| parts.concat())
}

fn any_schema() -> impl Strategy<Value = SchemaRef> {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let fixed = Just(schema([
        ("a", DataType::Int64, true),
        ("b", DataType::Utf8, true),
        ("c", DataType::Boolean, true),
        ("d", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ("e", DataType::Float64, true),
        ("g", DataType::Int32, true),
    ]));
    let kinds = prop_oneof![30 => select(read_in_place()), 1 => select(left_to_arrow())];
    let random = vec((select(names.to_vec()), kinds, prop::bool::weighted(0.9)), 0..6).prop_map(schema);
    prop_oneof![fixed, random]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(768)))]

    #[test]
    fn lines_are_what_arrow_json_makes_of_them(
        schema in any_schema(),
        blocks in vec(block(), 1..3),
        step in 1_usize..3000,
        max_rows in 1_usize..100,
    ) {
        let mut decoder = decoder(&schema);
        for lines in blocks {
            let block = lines.join(&b'\n');
            check_with(&mut decoder, &schema, &block, step, max_rows);
        }
    }

    #[test]
    fn messages_are_what_arrow_json_makes_of_them(schema in any_schema(), records in block()) {
        check_records(&schema, &records);
    }

    #[test]
    fn numbers_are_what_arrow_json_makes_of_them(
        kind in select(read_in_place()),
        numbers in vec("-?[0-9]{1,20}(\\.[0-9]{1,12})?([eE][-+]?[0-9]{1,3})?", 1..50),
    ) {
        let schema = schema([("a", kind, true)]);
        let lines: Vec<_> = numbers.iter().map(|number| format!("{{\"a\":{number}}}")).collect();
        check(&schema, lines.join("\n").as_bytes());
    }

    #[test]
    fn timestamps_are_what_arrow_json_makes_of_them(
        kind in select(read_in_place()),
        times in vec("[0-9]{4}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,10})?(Z|z|\\+02:00)?)?", 1..50),
    ) {
        let schema = schema([("a", kind, true)]);
        let lines: Vec<_> = times.iter().map(|time| format!("{{\"a\":\"{time}\"}}")).collect();
        check(&schema, lines.join("\n").as_bytes());
    }
}
