//! The CSV decoder.

mod cuts;

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Field, Int64Type, Schema, TimeUnit, TimestampMillisecondType};
use arrow::util::pretty::pretty_format_batches;
use karez_formats::RecordError;
use karez_formats::csv::{CsvDecoder, CsvOptions, Inference, first_record};
use proptest::prelude::*;

use cuts::decoded;

fn schema(columns: &[(&str, DataType)]) -> Arc<Schema> {
    Arc::new(Schema::new(columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
}

fn decode(columns: &[(&str, DataType)], options: &CsvOptions, text: &[u8]) -> (Option<RecordBatch>, Vec<RecordError>) {
    let sources: Vec<_> = (0..columns.len()).collect();
    let mut decoder = CsvDecoder::try_new(schema(columns), &sources, columns.len(), options).unwrap();
    let mut errors = Vec::new();
    assert_eq!(decoder.decode_lines(text, true, usize::MAX, &mut errors), text.len());
    (decoder.flush().unwrap(), errors)
}

fn texts(batch: &RecordBatch, column: usize) -> Vec<Option<String>> {
    batch.column(column).as_string::<i32>().iter().map(|v| v.map(str::to_owned)).collect()
}

const TEXT: DataType = DataType::Utf8;

#[test]
fn quotes_line_feeds_and_carriage_returns() {
    let text = b"a,\"x,\"\"y\"\"\"\r\n\"line 1\nline 2\",z\n\n\"\",\nlast,\"end\"";
    let (batch, errors) = decode(&[("a", TEXT), ("b", TEXT)], &CsvOptions::default(), text);
    assert_eq!(errors, []);
    let batch = batch.unwrap();
    let some = |v: &[Option<&str>]| v.iter().map(|v| v.map(str::to_owned)).collect::<Vec<_>>();
    assert_eq!(texts(&batch, 0), some(&[Some("a"), Some("line 1\nline 2"), Some(""), Some("last")]));
    assert_eq!(texts(&batch, 1), some(&[Some("x,\"y\""), Some("z"), None, Some("end")]));
}

#[test]
fn an_escape_character_works_beside_doubling() {
    let options = CsvOptions { escape: Some(b'\\'), ..CsvOptions::default() };
    let (batch, errors) = decode(&[("a", TEXT)], &options, b"\"a\\\"b\\\\\"\n\"c\"\"d\"\n");
    assert_eq!(errors, []);
    assert_eq!(texts(&batch.unwrap(), 0), [Some("a\"b\\".to_owned()), Some("c\"d".to_owned())]);
}

#[test]
fn only_the_bad_record_is_left_out() {
    let columns = [("id", DataType::Int64), ("t", DataType::Timestamp(TimeUnit::Millisecond, None)), ("s", TEXT)];
    let text =
        b"1,2013-01-01T10:00:00Z,a\n2,yesterday,b\nx,2013-01-01,c\n3,2013-01-01 10:00:00.123,d\n4,,e,f\n5,\n6,,\xff\n7,,\"open\n8,,g\n9,,\"a\"b\n";
    let options = CsvOptions { multiline: false, ..CsvOptions::default() };
    let (batch, errors) = decode(&columns, &options, text);
    let batch = batch.unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[1, 3, 8]);
    assert_eq!(batch.column(1).as_primitive::<TimestampMillisecondType>().values()[..2], [1_357_034_400_000, 1_357_034_400_123]);
    assert_eq!(texts(&batch, 2), [Some("a".to_owned()), Some("d".to_owned()), Some("g".to_owned())]);
    let records: Vec<_> = errors.iter().map(|e| String::from_utf8_lossy(&text[e.offset..e.offset + e.length]).into_owned()).collect();
    insta::assert_debug_snapshot!(errors.iter().zip(records).map(|(e, r)| format!("{r} -> {}", e.reason)).collect::<Vec<_>>(), @r#"
    [
        "2,yesterday,b -> column `t`: `yesterday` is not a timestamp(3)",
        "x,2013-01-01,c -> column `id`: `x` is not a bigint",
        "4,,e,f -> the record has 4 fields, expected 3",
        "5, -> the record has 2 fields, expected 3",
        "6,,� -> byte 3 of the record is not UTF-8",
        "7,,\"open -> a quote is not closed",
        "9,,\"a\"b -> there is text between a closing quote and the next delimiter",
    ]
    "#);
}

#[test]
fn a_value_that_its_column_would_change_makes_its_record_bad_and_says_why() {
    let reason = |kind: DataType, value: &str| decode(&[("a", kind)], &CsvOptions::default(), value.as_bytes()).1.pop().map(|e| e.reason);
    let milliseconds = DataType::Timestamp(TimeUnit::Millisecond, None);
    for (kind, value, why) in [
        (DataType::Decimal128(12, 2), "1.239", "has more digits behind the point than decimal(12, 2) keeps"),
        (DataType::Decimal256(40, 2), "1.239", "has more digits behind the point than decimal(40, 2) keeps"),
        (DataType::Decimal128(4, 2), "100", "is out of the range of decimal(4, 2)"),
        (DataType::Float64, "1e400", "is out of the range of double"),
        (DataType::Float32, "-1e40", "is out of the range of float"),
        (milliseconds.clone(), "2024-01-01T00:00:00.1239Z", "has more digits behind the point than timestamp(3) keeps"),
        (DataType::Date32, "2024-01-01 12:00:00", "has a time of day, which a date does not keep"),
        (DataType::Time32(TimeUnit::Second), "86400", "is out of the range of time(0)"),
        (DataType::Time64(TimeUnit::Microsecond), "23:59:60", "is out of the range of time(6)"),
        (DataType::Time32(TimeUnit::Millisecond), "00:00:00.0001", "has more digits behind the point than time(3) keeps"),
        (DataType::Int64, "8.0", "is not a bigint"),
    ] {
        assert_eq!(reason(kind, value), Some(format!("column `a`: `{value}` {why}")));
    }
    let digits = "9".repeat(70);
    for (kind, value) in [
        (DataType::Decimal256(76, 2), digits.as_str()),
        (DataType::Float64, "-inf"),
        (milliseconds, "2024-01-01 00:00:00.123000"),
        (DataType::Date32, "2024-01-01T00:00:00"),
        (DataType::Time64(TimeUnit::Nanosecond), "86399999999999"),
    ] {
        assert_eq!(reason(kind, value), None, "{value}");
    }
}

#[test]
fn a_quote_never_closed_costs_one_line() {
    let (batch, errors) = decode(&[("a", TEXT)], &CsvOptions::default(), b"x\n\"open\ny\nz\n");
    assert_eq!(texts(&batch.unwrap(), 0), ["x", "y", "z"].map(|v| Some(v.to_owned())));
    assert_eq!((errors[0].offset, errors[0].length), (2, 5));
}

#[test]
fn null_markers_are_null_unless_they_are_quoted_text() {
    let options = CsvOptions { null_markers: vec!["NA".to_owned(), String::new()], ..CsvOptions::default() };
    let (batch, errors) = decode(&[("n", DataType::Int64), ("s", TEXT)], &options, b"NA,NA\n\"NA\",\"NA\"\n 7 , NA\n,\n");
    assert_eq!(errors, []);
    let batch = batch.unwrap();
    let n: Vec<_> = batch.column(0).as_primitive::<Int64Type>().iter().collect();
    assert_eq!(n, [None, None, Some(7), None]);
    assert_eq!(texts(&batch, 1), [None, Some("NA".to_owned()), Some(" NA".to_owned()), None]);
    let options = CsvOptions { null_markers: vec![], ..CsvOptions::default() };
    let (batch, errors) = decode(&[("n", DataType::Int64), ("s", TEXT)], &options, b"1,\n,x\n");
    assert_eq!(texts(&batch.unwrap(), 1), [Some(String::new())]);
    assert_eq!(errors[0].reason, "column `n`: `` is not a bigint");
}

#[test]
fn a_null_where_none_may_be_is_a_bad_record() {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let mut decoder = CsvDecoder::try_new(schema, &[0], 2, &CsvOptions::default()).unwrap();
    let mut errors = Vec::new();
    decoder.decode_lines(b"1,\n,a\n2,\n", true, 10, &mut errors);
    assert_eq!(decoder.flush().unwrap().unwrap().num_rows(), 2);
    assert_eq!(errors[0].reason, "column `n` is null but must not be");
}

#[test]
fn comments_are_skipped_and_no_column_still_counts_rows() {
    let options = CsvOptions { comment: Some(b'#'), ..CsvOptions::default() };
    let mut decoder = CsvDecoder::try_new(schema(&[]), &[], 2, &options).unwrap();
    decoder.track_offsets(true);
    let read = decoder.decode_lines(b"# a \"\n1,2\n#\n3,4\n5,6", false, 10, &mut Vec::new());
    assert_eq!(read, 16);
    assert_eq!(decoder.take_offsets(), [6, 12]);
    assert_eq!(decoder.flush().unwrap().unwrap().num_rows(), 2);
}

#[test]
fn every_type_with_a_form_in_csv_parses() {
    let columns = [
        ("b", DataType::Boolean),
        ("i", DataType::Int8),
        ("f", DataType::Float64),
        ("d", DataType::Date32),
        ("m", DataType::Decimal128(10, 2)),
        ("z", DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into()))),
        ("l", DataType::LargeUtf8),
        ("v", DataType::Utf8View),
    ];
    let (batch, errors) = decode(&columns, &CsvOptions::default(), b"true,-5,1.5e3,2024-02-29,12.34,2024-01-01 01:00:00,x,y\n");
    assert_eq!(errors, []);
    let table = pretty_format_batches(&[batch.unwrap()]).unwrap().to_string();
    assert!(table.contains("| true | -5 | 1500.0 | 2024-02-29 | 12.34 | 2024-01-01T01:00:00+01:00 | x | y |"), "{table}");
    let nested = schema(&[("n", DataType::Struct(vec![Field::new("x", TEXT, true)].into()))]);
    assert!(CsvDecoder::try_new(nested, &[0], 1, &CsvOptions::default()).unwrap_err().to_string().contains("`n`"));
}

#[test]
fn a_decimal_of_more_digits_than_can_be_counted_is_a_bad_record() {
    let columns = [("d", DataType::Decimal128(10, 2))];
    let zeros = "0".repeat(300);
    let text = format!("1{zeros}\n1e40000\n0.1{zeros}\n{zeros}2\n");
    let (batch, errors) = decode(&columns, &CsvOptions::default(), text.as_bytes());
    assert_eq!(errors.iter().map(|e| e.length).collect::<Vec<_>>(), [301, 7]);
    assert_eq!(batch.unwrap().column(0).as_primitive::<Decimal128Type>().values(), &[10, 200]);
}

#[test]
fn a_decimal_with_digits_that_its_scale_has_no_room_for_is_a_bad_record() {
    let columns = [("d", DataType::Decimal128(10, 2))];
    let (batch, errors) = decode(&columns, &CsvOptions::default(), b"1.239\n1.2300\n0.001\n12e-1\n");
    assert_eq!(errors.iter().map(|e| e.length).collect::<Vec<_>>(), [5, 5]);
    assert!(errors[0].reason.contains("`d`") && errors[0].reason.contains("1.239"), "{}", errors[0].reason);
    assert_eq!(batch.unwrap().column(0).as_primitive::<Decimal128Type>().values(), &[123, 120]);
}

#[test]
fn types_are_inferred_from_values_and_null_markers_do_not_count() {
    let options = CsvOptions { null_markers: vec!["NA".to_owned(), String::new()], ..CsvOptions::default() };
    let text = b"n,d,b,t,day,zip,none,mixed\nNA,NA,true,2013-01-01T10:00:00Z,2013-01-01,01234,NA,1\n1,1,false,2013-01-01 10:00:00.123456,2013-01-02,5,,x\n2,1.5,,,,7,,\n";
    let (names, header) = first_record(text, true, &options).unwrap().unwrap();
    let mut inference = Inference::new(names.len());
    assert_eq!(inference.look(&text[header..], true, 100, &options), 3);
    let types: Vec<_> = inference.schema(&names).fields().iter().map(|f| f.data_type().clone()).collect();
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    assert_eq!(types, [DataType::Int64, DataType::Float64, DataType::Boolean, timestamp, DataType::Date32, TEXT, TEXT, TEXT]);
}

#[test]
fn what_no_type_holds_as_it_is_is_inferred_as_text() {
    for value in ["1e999", "9223372036854775808", "2016-12-31T23:59:60", "2024-01-01T00:00:00.0123456789", "9999-12-31", "2024-02-30"] {
        let text = format!("{value}\n");
        let mut inference = Inference::new(1);
        assert_eq!(inference.look(text.as_bytes(), true, 1, &CsvOptions::default()), 1);
        assert_eq!(inference.schema(&["a".to_owned()]).field(0).data_type(), &TEXT, "{value}");
    }
}

/// Text that is hard on a CSV reader.
fn field() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just('a'), Just('"'), Just(','), Just('\n'), Just('\r'), Just('é'), Just(' ')], 0..6)
        .prop_map(|c| c.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(768)))]

    #[test]
    fn what_was_quoted_comes_back_however_it_is_cut(
        rows in proptest::collection::vec((field(), field()), 0..20), crlf: bool,
        cuts in proptest::collection::vec(0_usize..500, 0..5), max_rows in 1_usize..5,
    ) {
        let quoted = |s: &str| format!("\"{}\"", s.replace('"', "\"\""));
        let text: String = rows.iter().map(|(a, b)| format!("{},{}{}", quoted(a), quoted(b), if crlf { "\r\n" } else { "\n" })).collect();
        let (read, _, bad) = decoded(&schema(&[("a", TEXT), ("b", TEXT)]), 2, &CsvOptions::default(), text.as_bytes(), &cuts, max_rows);
        prop_assert_eq!(bad, vec![]);
        let read: Vec<_> = texts(&read, 0).into_iter().zip(texts(&read, 1)).collect();
        let expected: Vec<_> = rows.into_iter().map(|(a, b)| (Some(a), Some(b))).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn any_bytes_give_the_same_however_they_are_cut(
        text in proptest::collection::vec(proptest::sample::select(b"a1\",\n\r\xff\xc3\xa9\\# ".to_vec()), 0..60),
        cuts in proptest::collection::vec(0_usize..60, 0..5), max_rows in 1_usize..5, multiline: bool, escape: bool,
    ) {
        let options = CsvOptions { multiline, escape: escape.then_some(b'\\'), comment: Some(b'#'), ..CsvOptions::default() };
        let schema = schema(&[("a", TEXT), ("n", DataType::Int64)]);
        let whole = decoded(&schema, 2, &options, &text, &[], usize::MAX);
        prop_assert_eq!(decoded(&schema, 2, &options, &text, &cuts, max_rows), whole);
    }
}
