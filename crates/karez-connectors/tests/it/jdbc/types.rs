//! What is written is read back: every type, null, and values at the edge.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit, i256};
use arrow::record_batch::RecordBatch;
use karez_core::ManualClock;
use serde_json::{Value, json};

use super::{Base, Process, column, drain, open, source, table_config, try_source};

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns.iter().map(|(n, a)| Field::new(*n, a.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|c| c.1).collect()).unwrap()
}

fn everything() -> RecordBatch {
    batch(vec![
        ("boolean", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("tiny", Arc::new(Int8Array::from(vec![Some(i8::MIN), Some(i8::MAX), None]))),
        ("big", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None]))),
        ("uint", Arc::new(UInt32Array::from(vec![Some(0), Some(u32::MAX), None]))),
        ("float", Arc::new(Float32Array::from(vec![Some(0.1), Some(f32::MIN_POSITIVE), None]))),
        ("double", Arc::new(Float64Array::from(vec![Some(0.1 + 0.2), Some(f64::INFINITY), None]))),
        ("price", Arc::new(Decimal128Array::from(vec![Some(12_340), Some(-5), None]).with_precision_and_scale(10, 2).unwrap())),
        ("long", Arc::new(Decimal128Array::from(vec![Some(i128::pow(10, 37) + 1), Some(-1), None]).with_precision_and_scale(38, 10).unwrap())),
        (
            "longest",
            Arc::new(
                Decimal256Array::from(vec![Some(i256::MAX / i256::from(1_000)), Some(i256::MINUS_ONE), None])
                    .with_precision_and_scale(76, 3)
                    .unwrap(),
            ),
        ),
        ("text", Arc::new(StringArray::from(vec![Some("坎儿井 \u{1F42B} \"'\n"), Some(""), None]))),
        ("digits", Arc::new(StringArray::from(vec![Some("007"), Some("1e3"), None]))),
        ("bytes", Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0_u8, 255][..]), Some(b""), None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(15_706), Some(-719_162), None]))),
        ("at", Arc::new(Time64MicrosecondArray::from(vec![Some(86_399_999_999), Some(0), None]))),
        ("s", Arc::new(TimestampSecondArray::from(vec![Some(1_357_016_400), Some(-1), None]))),
        ("ms", Arc::new(TimestampMillisecondArray::from(vec![Some(1_357_016_400_007), Some(-1), None]))),
        ("us", Arc::new(TimestampMicrosecondArray::from(vec![Some(1_357_016_400_000_007), Some(-1), None]).with_timezone("UTC"))),
        ("ns", Arc::new(TimestampNanosecondArray::from(vec![Some(1_357_016_400_000_000_007), Some(-1), None]))),
    ])
}

async fn write(base: &Base, batch: &RecordBatch) -> Vec<karez_core::BadRecord> {
    let mut process = Process::start(&table_config(base), batch.schema(), 1, 1, &[]).await;
    process.write(0, batch.clone()).await;
    let manifest = process.barrier(1).await;
    process.commit(1, &manifest).await;
    process.rejects
}

async fn read(config: &Value, schema: Option<&SchemaRef>) -> (RecordBatch, Vec<karez_core::BadRecord>) {
    let source = try_source(config, schema).unwrap();
    let mut reader = open(source.as_ref(), Value::Null, false, Arc::new(ManualClock::new(0))).await;
    let (batches, bad, _) = drain(reader.as_mut(), 1_000).await;
    (arrow::compute::concat_batches(&source.schema().arrow, &batches).unwrap(), bad)
}

#[tokio::test]
async fn every_type_comes_back_as_it_was_written() {
    let base = Base::new();
    let written = everything();
    assert_eq!(write(&base, &written).await, []);
    let config = json!({ "url": base.url(), "table": "t" });
    let (read_back, bad) = read(&config, Some(&written.schema())).await;
    assert_eq!(bad, []);
    for (i, field) in written.schema().fields().iter().enumerate() {
        assert_eq!(written.column(i), read_back.column(i), "{}", field.name());
    }
    // The inferred types are as wide as SQLite's own.
    let (inferred, bad) = read(&config, None).await;
    assert_eq!(bad, []);
    for (name, data_type) in [
        ("boolean", DataType::Boolean),
        ("tiny", DataType::Int64),
        ("float", DataType::Float64),
        ("price", DataType::Decimal128(10, 2)),
        ("longest", DataType::Decimal256(76, 3)),
        ("digits", DataType::Utf8),
        ("bytes", DataType::Binary),
        ("day", DataType::Date32),
        ("at", DataType::Time64(TimeUnit::Microsecond)),
        ("ms", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ("us", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ] {
        assert_eq!(inferred.schema().field_with_name(name).unwrap().data_type(), &data_type, "{name}");
    }
}

#[tokio::test]
async fn values_are_stored_so_that_sqlite_can_use_them() {
    let base = Base::new();
    write(&base, &everything()).await;
    assert_eq!(
        base.rows("SELECT s, ms, us, day, at, price FROM t WHERE boolean = 1"),
        ["2013-01-01 05:00:00|2013-01-01 05:00:00.007|2013-01-01T05:00:00.000007Z|2013-01-01|23:59:59.999999|123.4"]
    );
    assert_eq!(base.rows("SELECT datetime(ms), strftime('%s', us), price > 100 FROM t WHERE boolean = 1"), ["2013-01-01 05:00:00|1357016400|1"]);
}

#[tokio::test]
async fn dictionaries_views_and_nested_values_are_written_as_what_they_hold() {
    let base = Base::new();
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    let dictionary: DictionaryArray<Int32Type> = ["x", "x"].into_iter().collect();
    let written = batch(vec![
        ("list", Arc::new(list)),
        ("dictionary", Arc::new(dictionary)),
        ("view", Arc::new(StringViewArray::from(vec![Some("a longer text than twelve"), None]))),
        ("fixed", Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8, 2], [3, 4]].into_iter()).unwrap())),
        ("nothing", Arc::new(NullArray::new(2))),
    ]);
    write(&base, &written).await;
    assert_eq!(base.rows("SELECT * FROM t"), ["[1,null]|x|a longer text than twelve|[1, 2]|NULL", "NULL|x|NULL|[3, 4]|NULL"]);
}

#[tokio::test]
async fn an_unsigned_integer_beyond_sqlite_is_a_refused_row() {
    let base = Base::new();
    let rejects = write(&base, &batch(vec![("u", Arc::new(UInt64Array::from(vec![1, u64::MAX])))])).await;
    assert_eq!(rejects.len(), 1);
    assert!(rejects[0].reason.contains("18446744073709551615 is greater than 9223372036854775807"), "{}", rejects[0].reason);
    assert_eq!(base.rows("SELECT u FROM t"), ["1"]);
}

#[tokio::test]
async fn an_integer_that_a_double_does_not_hold_is_a_refused_row() {
    let base = Base::with("CREATE TABLE t (r DOUBLE, n NUMERIC)");
    let past = (1 << 53) + 1;
    let integers = |values: &[i64]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    let values = [1 << 53, past, i64::MIN, i64::MAX];
    let rejects = write(&base, &batch(vec![("r", integers(&values)), ("n", integers(&[past; 4]))])).await;
    assert_eq!(
        base.rows("SELECT r, n FROM t"),
        ["9007199254740992.0|9007199254740993", "-9.223372036854775808e18|9007199254740993"]
            .map(|r| { r.replace("-9.223372036854775808e18", &format!("{:?}", -(2_f64.powi(63)))) })
    );
    assert_eq!(rejects.len(), 2);
    assert!(rejects[0].reason.contains("9007199254740993 has more digits than a double keeps"), "{}", rejects[0].reason);
}

#[tokio::test]
async fn a_double_is_all_of_its_digits_in_a_column_of_texts() {
    let base = Base::with("CREATE TABLE t (d TEXT, f TEXT)");
    let doubles = [0.1 + 0.2, 9_007_199_254_740_994.0, 1e22, f64::NEG_INFINITY, f64::NAN];
    let floats = Float32Array::from(vec![0.1, 16_777_216.0, 0.5, f32::INFINITY, 1.0]);
    write(&base, &batch(vec![("d", Arc::new(Float64Array::from(doubles.to_vec()))), ("f", Arc::new(floats.clone()))])).await;
    assert_eq!(
        base.rows("SELECT * FROM t"),
        ["0.30000000000000004|0.1", "9007199254740994.0|16777216.0", "1e22|0.5", "-Infinity|Infinity", "NULL|1.0"]
    );
    let declared = Arc::new(Schema::new(vec![Field::new("d", DataType::Float64, true), Field::new("f", DataType::Float32, true)]));
    let (back, bad) = read(&json!({ "url": base.url(), "table": "t" }), Some(&declared)).await;
    assert_eq!(bad, []);
    assert_eq!(back.column(0).as_ref(), &Float64Array::from(doubles.map(|d| (!d.is_nan()).then_some(d)).to_vec()) as &dyn Array);
    assert_eq!(back.column(1).as_ref(), &floats as &dyn Array);
}

#[tokio::test]
async fn a_text_that_sqlite_would_make_another_number_of_is_a_refused_row() {
    for (declared, texts, kept) in [
        ("INTEGER", ["7", "-7", "1.5", "x", "2013-01-31", ""].as_slice(), 6),
        ("NUMERIC", &["010.000", " 7 ", "+7", "-0", "1e5", "99999999999999999999", "5.0", ".5", "0.1234567890123456"], 0),
        ("REAL", &["1.5", "7.0", "7", "07.0", "Infinity"], 3),
        ("DATE", &["2013-01-31", "2013", "02013"], 2),
        ("VARCHAR(9)", &["010.000", " 7 ", "1e5"], 3),
        ("", &["010.000"], 1),
    ] {
        let base = Base::with(&format!("CREATE TABLE t (v {declared})"));
        let rejects = write(&base, &batch(vec![("v", Arc::new(StringArray::from(texts.to_vec())))])).await;
        assert_eq!(rejects.len(), texts.len() - kept, "{declared}: {rejects:?}");
        assert!(rejects.iter().all(|r| r.reason.contains("SQLite would make another number of the text")), "{rejects:?}");
        assert!(base.rows("SELECT v FROM t").iter().all(|v| texts.contains(&v.as_str())), "{declared}");
    }
}

#[tokio::test]
async fn a_decimal_with_more_digits_than_a_column_of_doubles_keeps_is_refused_before_the_job_starts() {
    let decimals = Decimal128Array::from(vec![123_456_789_012_345_678]).with_precision_and_scale(18, 0).unwrap();
    let rows = batch(vec![("v", Arc::new(decimals))]);
    let base = Base::with("CREATE TABLE t (v DOUBLE)");
    let input = karez_core::StreamSchema::append_only(rows.schema());
    let error = super::try_sink(&table_config(&base), &input).err().unwrap();
    assert!(error.contains("declare it DECIMAL_TEXT(18, 0)"), "{error}");
    let base = Base::with("CREATE TABLE t (v INTEGER)");
    assert_eq!(write(&base, &rows).await, []);
    assert_eq!(base.rows("SELECT v FROM t"), ["123456789012345678"]);
}

#[tokio::test]
async fn a_value_that_does_not_fit_its_column_is_a_bad_record_with_column_and_rowid() {
    let base = Base::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, day DATE, price DECIMAL(6, 2), name TEXT);
         INSERT INTO t VALUES (1, 5, '2013-01-01', 1.5, 'a'), (2, 'five', '2013-01-01', 1, 'b'), (3, 6, 'yesterday', 1, 'c'),
                              (4, 7, '2013-01-01', 1.234, 'd'), (5, 8, '2013-01-01', '99999.99', 'e'), (6, 9, NULL, NULL, x'ff')",
    );
    let (good, bad) = read(&json!({ "url": base.url(), "table": "t" }), None).await;
    assert_eq!(column(&[good], "id"), ["1"]);
    let reasons: Vec<&str> = bad.iter().map(|b| b.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "column `n`: 'five' (TEXT) is not a bigint",
            "column `day`: 'yesterday' (TEXT) is not a date",
            "column `price`: 1.234 (REAL) has more digits behind the point than decimal(6, 2) keeps",
            "column `price`: 99999.99 (REAL) is out of the range of decimal(6, 2)",
            "column `name`: a BLOB of 1 bytes is not a string",
        ]
    );
    assert_eq!(bad[0].origin.as_deref(), Some("table=t id=2"));
    assert_eq!(bad[0].row.as_deref(), Some(r#"{"id":2,"day":"2013-01-01","price":1.00,"name":"b"}"#));
}

/// A declared column as it is read: the values, and the reasons and rows of the letters.
async fn read_as(data_type: DataType, values: &str) -> (Vec<String>, Vec<String>, Vec<String>) {
    let base = Base::with(&format!("CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t (v) VALUES {values}"));
    let declared = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("v", data_type, true)]));
    let (good, bad) = read(&json!({ "url": base.url(), "table": "t" }), Some(&declared)).await;
    let rows = bad.iter().map(|b| b.row.clone().unwrap()).collect();
    (column(&[good], "v"), bad.into_iter().map(|b| b.reason).collect(), rows)
}

#[tokio::test]
async fn what_cannot_be_read_is_left_out_of_its_letter() {
    let (_, reasons, rows) = read_as(DataType::Timestamp(TimeUnit::Millisecond, None), "(1700000000)").await;
    assert!(reasons[0].starts_with("column `v`: 1700000000 (INTEGER) is not a timestamp"), "{reasons:?}");
    assert_eq!(rows, [r#"{"id":1}"#]);
    assert_eq!(read_as(DataType::Utf8, "(x'ff')").await.2, [r#"{"id":1}"#]);
    assert_eq!(read_as(DataType::Decimal128(10, 2), "(9e999), (-9e999)").await.2, [r#"{"id":1}"#, r#"{"id":2}"#]);
    let base = Base::with("CREATE TABLE t (id INTEGER PRIMARY KEY, r REAL, b BLOB, n INT); INSERT INTO t VALUES (1, 9e999, x'00ff', 'x')");
    let (_, bad) = read(&json!({ "url": base.url(), "table": "t" }), None).await;
    assert_eq!(bad[0].row.as_deref(), Some(r#"{"id":1,"r":"Infinity","b":"00ff"}"#));
}

#[tokio::test]
async fn a_whole_real_is_an_integer_and_a_text_of_a_number_a_double() {
    let (good, reasons, _) = read_as(DataType::Int32, "(2.0), (2147483647.0), (2.5), (2147483648.0), (9e999), ('2')").await;
    assert_eq!(good, ["2", "2147483647"]);
    let why = ["2.5 (REAL) has more digits behind the point than int keeps", "2147483648 (REAL) is out of the range of int"];
    assert_eq!(reasons[..2], why.map(|why| format!("column `v`: {why}")));
    assert_eq!(reasons.len(), 4);
    assert_eq!(read_as(DataType::Int64, "(9223372036854775808.0), (-9223372036854775808.0)").await.0, ["-9223372036854775808"]);
    let (good, reasons, _) = read_as(DataType::Float64, "('1.239'), ('1e3'), ('x'), ('1e999')").await;
    assert_eq!(good, ["1.239", "1000.0"]);
    assert_eq!(reasons, ["column `v`: 'x' (TEXT) is not a double", "column `v`: '1e999' (TEXT) is out of the range of double"]);
    assert_eq!(read_as(DataType::Float32, "('0.1')").await.0, ["0.1"]);
}

#[tokio::test]
async fn a_decimal_of_hundreds_of_digits_is_a_bad_record() {
    let digits = "0".repeat(255);
    let base = Base::with(&format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, price DECIMAL(6, 2), big DECIMAL(60, 0));
         INSERT INTO t VALUES (1, 1e300, 1), (2, 2, 2), (3, 3, 'x'); CREATE TABLE u (id INTEGER PRIMARY KEY, price TEXT); INSERT INTO u VALUES (1, '1{digits}0')"
    ));
    let (good, bad) = read(&json!({ "url": base.url(), "table": "t" }), None).await;
    assert_eq!(column(&[good], "id"), ["2"]);
    assert!(bad[0].reason.starts_with("column `price`: 1000000000"), "{}", bad[0].reason);
    assert_eq!(bad.len(), 2);
    let declared = Arc::new(Schema::new(vec![Field::new("price", DataType::Decimal256(60, 0), true)]));
    let (good, bad) = read(&json!({ "url": base.url(), "table": "u" }), Some(&declared)).await;
    assert_eq!((good.num_rows(), bad.len()), (0, 1));
}

#[tokio::test]
async fn a_declared_schema_narrows_and_its_not_null_is_checked() {
    let base = Base::with("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (1, 127), (2, 128), (3, NULL)");
    let declared = Arc::new(Schema::new(vec![Field::new("n", DataType::Int8, false)]));
    let (good, bad) = read(&json!({ "url": base.url(), "table": "t" }), Some(&declared)).await;
    assert_eq!(column(&[good], "n"), ["127"]);
    assert_eq!(
        bad.iter().map(|b| b.reason.as_str()).collect::<Vec<_>>(),
        ["column `n`: 128 (INTEGER) is out of the range of tinyint", "column `n`: is null, but the column is `not null`"]
    );
}

#[tokio::test]
async fn columns_without_a_declared_type_get_the_type_of_their_values() {
    let base = Base::with("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b NUMERIC); INSERT INTO t VALUES (1, 'x', 1), (2, NULL, 2.5)");
    let schema = source(&json!({ "url": base.url(), "query": "SELECT id, a, b, a || b AS c, count(*) OVER () AS n FROM t" })).schema().arrow;
    let types: Vec<&DataType> = schema.fields().iter().map(|f| f.data_type()).collect();
    assert_eq!(types, [&DataType::Int64, &DataType::Utf8, &DataType::Float64, &DataType::Utf8, &DataType::Int64]);
}
