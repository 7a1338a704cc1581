//! Every type, both ways.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, TimeUnit, i256};
use arrow::record_batch::RecordBatch;
use karez_core::{BadRecord, StreamSchema};
use serde_json::{Value, json};

use super::{Base, clock, on_both, write};
use crate::jdbc::{column, drain, open, try_sink, try_source};

async fn read(config: &Value) -> (RecordBatch, Vec<BadRecord>) {
    let source = try_source(config, None).unwrap();
    let mut reader = open(source.as_ref(), Value::Null, false, clock()).await;
    let (batches, bad, _) = drain(reader.as_mut(), 1_000).await;
    (arrow::compute::concat_batches(&source.schema().arrow, &batches).unwrap(), bad)
}

/// A column of each type that the server can hold: an extreme, an ordinary value, null.
fn everything() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("boolean", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("tiny", Arc::new(Int8Array::from(vec![Some(i8::MIN), Some(i8::MAX), None]))),
        ("small", Arc::new(Int16Array::from(vec![Some(i16::MIN), Some(0), None]))),
        ("int", Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), None]))),
        ("big", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None]))),
        ("utiny", Arc::new(UInt8Array::from(vec![Some(u8::MAX), Some(0), None]))),
        ("usmall", Arc::new(UInt16Array::from(vec![Some(u16::MAX), Some(0), None]))),
        ("uint", Arc::new(UInt32Array::from(vec![Some(u32::MAX), Some(0), None]))),
        ("ubig", Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(0), None]))),
        ("float", Arc::new(Float32Array::from(vec![Some(f32::MAX), Some(0.1), None]))),
        ("double", Arc::new(Float64Array::from(vec![Some(f64::MIN_POSITIVE), Some(0.1 + 0.2), None]))),
        ("price", Arc::new(Decimal128Array::from(vec![Some(-12_345), Some(5), None]).with_precision_and_scale(10, 2).unwrap())),
        ("long_price", Arc::new(Decimal128Array::from(vec![Some(i128::pow(10, 37) + 1), Some(-1), None]).with_precision_and_scale(38, 10).unwrap())),
        (
            "longest",
            Arc::new(
                Decimal256Array::from(vec![Some(i256::from_i128(10).pow_checked(64).unwrap()), Some(i256::MINUS_ONE), None])
                    .with_precision_and_scale(65, 30)
                    .unwrap(),
            ),
        ),
        ("text", Arc::new(StringArray::from(vec![Some("坎儿井 🐫 \"'\\\n\t\r\0%_ "), Some(""), None]))),
        ("bytes", Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0_u8, 255, b'\\', b'\'', 9, 10, 0xf0][..]), Some(b""), None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(15_706), Some(2_932_896), None]))),
        ("at_s", Arc::new(Time32SecondArray::from(vec![Some(86_399), Some(0), None]))),
        ("at_ms", Arc::new(Time32MillisecondArray::from(vec![Some(86_399_999), Some(0), None]))),
        ("at_us", Arc::new(Time64MicrosecondArray::from(vec![Some(86_399_999_999), Some(0), None]))),
        ("s", Arc::new(TimestampSecondArray::from(vec![Some(1_357_016_400), Some(-1), None]))),
        ("ms", Arc::new(TimestampMillisecondArray::from(vec![Some(1_357_016_400_007), Some(-1), None]))),
        ("us", Arc::new(TimestampMicrosecondArray::from(vec![Some(253_402_300_799_999_999), Some(-1), None]))),
        ("ltz_s", Arc::new(TimestampSecondArray::from(vec![Some(1_357_016_400), Some(1), None]).with_timezone("UTC"))),
        ("ltz_us", Arc::new(TimestampMicrosecondArray::from(vec![Some(1_357_016_400_000_007), Some(1_000_000), None]).with_timezone("UTC"))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, n != "id"))).unwrap()
}

on_both! {
    async fn every_type_comes_back_as_it_was_written(base: &Base) {
        let written = everything();
        // A few rows are inserted, many loaded.
        let copies: Vec<RecordBatch> = (0..20)
            .map(|i| {
                let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((0..3).map(|row| i * 3 + row + 1)));
                RecordBatch::try_new(written.schema(), [vec![ids], written.columns()[1..].to_vec()].concat()).unwrap()
            })
            .collect();
        let many = arrow::compute::concat_batches(&written.schema(), &copies).unwrap();
        for (table, batch) in [("few", written), ("many", many)] {
            assert_eq!(write(&base.sink(json!({ "table": table, "createTable": true, "key": ["id"] })), std::slice::from_ref(&batch)).await, []);
            let (back, bad) = read(&base.sink(json!({ "table": table }))).await;
            assert_eq!(bad, []);
            for (i, field) in batch.schema().fields().iter().enumerate() {
                assert_eq!(batch.column(i), back.column(i), "{table}.{}", field.name());
            }
        }
    }

    async fn a_table_is_made_with_decimals_as_long_as_the_server_holds_and_refused_beyond(base: &Base) {
        let batch = |scale: i8| {
            let smallest: ArrayRef = Arc::new(Decimal128Array::from(vec![1]).with_precision_and_scale(38, scale).unwrap());
            RecordBatch::try_from_iter([("d", smallest)]).unwrap()
        };
        let most = if base.server == karez_testkit::Server::Mariadb { 38 } else { 30 };
        assert_eq!(write(&base.sink(json!({ "createTable": true })), &[batch(most)]).await, []);
        assert_eq!(base.rows("SELECT d FROM t").await, [format!("0.{}1", "0".repeat(most as usize - 1))]);
        if most == 30 {
            let sink = try_sink(&base.sink(json!({ "table": "longer", "createTable": true })), &StreamSchema::append_only(batch(38).schema())).unwrap();
            for refused in [sink.check().await.unwrap_err(), sink.prepare(&crate::jdbc::run(1), &[]).await.unwrap_err()] {
                let said = "column `d` (decimal(38, 38)): a DECIMAL of MySQL has at most 65 digits, 30 of them behind the point";
                assert!(refused.message().contains(said) && !refused.is_retryable(), "{refused}");
            }
            assert_eq!(base.rows("SHOW TABLES LIKE 'longer'").await, Vec::<String>::new());
        }
    }

    async fn dictionaries_views_and_nested_values_are_written_as_what_they_hold(base: &Base) {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        let dictionary: DictionaryArray<Int32Type> = ["x", "x"].into_iter().collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("list", Arc::new(list)),
            ("dictionary", Arc::new(dictionary)),
            ("view", Arc::new(StringViewArray::from(vec![Some("a longer text than twelve"), None]))),
            ("fixed", Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8, 2], [3, 4]].into_iter()).unwrap())),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
        assert_eq!(write(&base.sink(json!({ "createTable": true })), &[batch]).await, []);
        assert_eq!(
            base.rows("SELECT REPLACE(list, ' ', ''), dictionary, view, HEX(fixed) FROM t").await,
            ["[1,null]|x|a longer text than twelve|0102", "NULL|x|NULL|0304"]
        );
    }

    async fn decimals_within_json_are_kept_or_refused_before_the_job_starts(base: &Base) {
        let nested = |precision, scale| {
            let decimals = Decimal128Array::from(vec![12_345]).with_precision_and_scale(precision, scale).unwrap();
            let fields = vec![Arc::new(Field::new("d", decimals.data_type().clone(), true))];
            RecordBatch::try_from_iter([("v", Arc::new(StructArray::new(fields.into(), vec![Arc::new(decimals)], None)) as ArrayRef)]).unwrap()
        };
        let check = async |table: &str, batch: RecordBatch| {
            let config = base.sink(json!({ "table": table, "createTable": true }));
            try_sink(&config, &StreamSchema::append_only(batch.schema())).unwrap().check().await.map_err(|e| e.to_string())
        };
        base.sql("CREATE TABLE kept (v JSON);\nCREATE TABLE texts (v LONGTEXT)").await;
        for table in ["kept", "missing"] {
            for (precision, scale) in [(16, 1), (19, 0)] {
                let checked = check(table, nested(precision, scale)).await;
                if base.server == karez_testkit::Server::Mariadb {
                    checked.unwrap();
                } else {
                    let error = checked.unwrap_err();
                    assert!(error.contains("declare the column LONGTEXT, or cast the decimals within to `string`"), "{error}");
                }
            }
            check(table, nested(15, 3)).await.unwrap();
            check(table, nested(18, 0)).await.unwrap();
        }
        assert_eq!(write(&base.sink(json!({ "table": "texts" })), &[nested(38, 3)]).await, []);
        assert_eq!(base.rows("SELECT v FROM texts").await, ["{\"d\":12.345}"]);
    }

    async fn a_column_that_rounds_its_doubles_is_refused_before_the_job_starts(base: &Base) {
        base.sql("CREATE TABLE t (d DOUBLE(10, 2), f FLOAT(7, 2), i DOUBLE(10, 2))").await;
        let columns: [(&str, ArrayRef); 3] = [
            ("d", Arc::new(Float64Array::from(vec![0.125]))),
            ("f", Arc::new(Float32Array::from(vec![0.125]))),
            ("i", Arc::new(Int32Array::from(vec![7]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let error = try_sink(&base.sink(json!({})), &StreamSchema::append_only(batch.schema())).unwrap().check().await.unwrap_err().to_string();
        assert_eq!(error.matches("it would be rounded").count(), 2, "{error}");
        assert_eq!(write(&base.sink(json!({})), &[batch.project(&[2]).unwrap()]).await, []);
    }

    async fn types_of_the_server_alone_are_read_and_written(base: &Base) {
        base.sql("CREATE TABLE t (id INT PRIMARY KEY, m MEDIUMINT UNSIGNED, y YEAR, one BIT(1), bits BIT(12), c CHAR(5), latin VARCHAR(9) CHARACTER SET latin1, e ENUM('a','b''c'),
                  s SET('x','y'), j JSON, fixed BINARY(3), clock TIME);
                  INSERT INTO t VALUES (1, 16777215, 1901, 1, 3001, 'ab', 'é', 'b''c', 'y,x', '{\"a\": [1, \"坎\"]}', x'0102', '23:59:59'), (2, 0, 2155, 0, 0, '', '', 'a', '', 'null', x'', '00:00:00'),
                                       (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)").await;
        let (rows, bad) = read(&base.sink(json!({}))).await;
        assert_eq!(bad, []);
        let types: Vec<String> = rows.schema().fields()[1..6].iter().map(|f| f.data_type().to_string()).collect();
        assert_eq!(types, ["UInt32", "Int16", "Boolean", "UInt64", "Utf8"]);
        let of = |name: &str| column(std::slice::from_ref(&rows), name);
        for (name, values) in [
            ("m", ["16777215", "0", "NULL"]), ("y", ["1901", "2155", "NULL"]), ("one", ["true", "false", "NULL"]), ("bits", ["3001", "0", "NULL"]),
            ("c", ["ab", "", "NULL"]), ("latin", ["é", "", "NULL"]), ("e", ["b'c", "a", "NULL"]), ("s", ["x,y", "", "NULL"]),
            ("j", ["{\"a\": [1, \"坎\"]}", "null", "NULL"]), ("fixed", ["010200", "000000", "NULL"]), ("clock", ["23:59:59", "00:00:00", "NULL"]),
        ] {
            assert_eq!(of(name), values, "{name}");
        }
        for copies in [1, 10] {
            base.sql("DROP TABLE IF EXISTS back;\nCREATE TABLE back LIKE t;\nALTER TABLE back DROP PRIMARY KEY").await;
            let all = vec![rows.clone(); copies];
            let all = arrow::compute::concat_batches(&rows.schema(), &all).unwrap();
            assert_eq!(write(&base.sink(json!({ "table": "back" })), &[all]).await, []);
            assert_eq!(base.rows("SELECT DISTINCT b.id FROM back b JOIN t ON (t.id, t.m, t.y, t.one, t.bits, t.c, t.latin, t.e, t.s, t.fixed, t.clock) <=>
                                  (b.id, b.m, b.y, b.one, b.bits, b.c, b.latin, b.e, b.s, b.fixed, b.clock) ORDER BY b.id").await, ["1", "2", "3"]);
            assert_eq!(base.count("back").await, 3 * copies);
        }
    }

    async fn dates_that_are_none_are_bad_records_or_null_on_request(base: &Base) {
        base.sql("CREATE TABLE t (id INT PRIMARY KEY, day DATE, at DATETIME);
                  INSERT INTO t VALUES (1, '0000-00-00', '2013-01-01'), (2, '2013-01-00', '2013-01-01'), (3, '2013-01-01', '0000-00-00'), (4, '2013-01-01', '2013-01-01')").await;
        let (good, bad) = read(&base.sink(json!({}))).await;
        assert_eq!(column(&[good], "id"), ["4"]);
        assert_eq!(bad.len(), 3);
        assert!(bad[0].reason.contains("column `day`") && bad[0].reason.contains("0000-00-00") && bad[0].reason.contains("zeroDateTimeBehavior=CONVERT_TO_NULL"), "{bad:?}");
        let mut config = base.sink(json!({}));
        config["url"] = json!(format!("{}?zeroDateTimeBehavior=CONVERT_TO_NULL", base.url));
        let (good, bad) = read(&config).await;
        assert_eq!(bad, []);
        assert_eq!(column(&[good], "day"), ["NULL", "NULL", "2013-01-01", "2013-01-01"]);
    }

    async fn what_no_time_of_day_is_is_a_bad_record(base: &Base) {
        base.sql("CREATE TABLE t (id INT PRIMARY KEY, span TIME, flag BOOL);\nINSERT INTO t VALUES (1, '-01:00:00', 1), (2, '838:59:59', 1), (3, '05:00:00', 1), (4, '05:00:00', 2)").await;
        let (good, bad) = read(&base.sink(json!({}))).await;
        assert_eq!(column(&[good], "id"), ["3"]);
        assert_eq!(bad.len(), 3);
        assert!(bad[0].reason.contains("no time of day") && bad[2].reason.contains("CAST"), "{bad:?}");
    }

    async fn a_narrower_type_neither_rounds_nor_cuts_off(base: &Base) {
        base.sql("CREATE TABLE t (id INT PRIMARY KEY, price DECIMAL(10, 3), share DOUBLE, at DATETIME(6));
                  INSERT INTO t VALUES (1, 1.230, 8, '2024-01-01 00:00:00.001'), (2, 1.239, 8, '2024-01-01'), (3, 1, 8.5, '2024-01-01'),
                                       (4, 1, 1e300, '2024-01-01'), (5, 1, 8, '2024-01-01 00:00:00.0001')").await;
        let declared = [("price", DataType::Decimal128(10, 2)), ("share", DataType::Int64), ("at", DataType::Timestamp(TimeUnit::Millisecond, None))];
        let declared = Arc::new(Schema::new(declared.map(|(name, kind)| Field::new(name, kind, true)).to_vec()));
        let source = try_source(&base.sink(json!({})), Some(&declared)).unwrap();
        let (batches, bad, _) = drain(open(source.as_ref(), Value::Null, false, clock()).await.as_mut(), 100).await;
        assert_eq!(["price", "share", "at"].map(|name| column(&batches, name).concat()), ["1.23", "8", "2024-01-01T00:00:00.001"]);
        let at_fault = [(2, "price"), (3, "share"), (4, "share"), (5, "at")];
        assert_eq!(bad.len(), at_fault.len(), "{bad:?}");
        for (bad, (id, name)) in bad.iter().zip(at_fault) {
            assert!(bad.origin.as_ref().unwrap().ends_with(&format!(".t id={id}")), "{:?}", bad.origin);
            assert!(bad.reason.starts_with(&format!("column `{name}`: ")), "{}", bad.reason);
        }
    }

    async fn a_tinyint_of_one_digit_that_is_declared_as_an_integer_is_one(base: &Base) {
        base.sql("CREATE TABLE t (id INT PRIMARY KEY, flag TINYINT(1)); INSERT INTO t VALUES (1, 2), (2, -1), (3, 1), (4, NULL)").await;
        for kind in [DataType::Int8, DataType::Int64] {
            let declared = Arc::new(Schema::new(vec![Field::new("flag", kind, true)]));
            let source = try_source(&base.sink(json!({})), Some(&declared)).unwrap();
            let (batches, bad, _) = drain(open(source.as_ref(), Value::Null, false, clock()).await.as_mut(), 100).await;
            assert_eq!((column(&batches, "flag"), bad), (["2", "-1", "1", "NULL"].map(str::to_owned).to_vec(), vec![]));
        }
    }

    async fn a_type_without_mapping_is_an_error_before_the_job_runs(base: &Base) {
        base.sql("CREATE TABLE t (id INT PRIMARY KEY, place POINT)").await;
        let error = try_source(&base.sink(json!({})), None).err().unwrap();
        assert!(error.contains("`place`") && error.contains("point"), "{error}");
        let declared = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        try_source(&base.sink(json!({})), Some(&declared)).unwrap();
        try_source(&json!({ "url": base.url, "query": "SELECT id, ST_AsText(place) AS place FROM t", "key": ["id"] }), None).unwrap();
    }

    async fn an_instant_is_the_same_whatever_zone_the_server_lives_in(base: &Base) {
        base.sql("CREATE TABLE t (id INT PRIMARY KEY, at TIMESTAMP NULL);\nSET time_zone = '+08:00';\nINSERT INTO t VALUES (1, '2013-01-01 13:00:00')").await;
        let (rows, _) = read(&base.sink(json!({}))).await;
        assert_eq!(column(&[rows], "at"), ["2013-01-01T05:00:00Z"]);
    }

    async fn values_of_megabytes_go_both_ways(base: &Base) {
        let long = "坎".repeat(3 << 20);
        let batch = crate::jdbc::rows(&[(1, &long), (2, "short")]);
        assert_eq!(write(&base.sink(json!({ "createTable": true })), std::slice::from_ref(&batch)).await, []);
        let (back, _) = read(&base.sink(json!({}))).await;
        assert_eq!((back.column(0), back.column(1)), (batch.column(0), batch.column(1)));
    }
}

#[tokio::test]
async fn mariadbs_uuid_and_addresses_are_texts() {
    let base = Base::new(karez_testkit::Server::Mariadb).await;
    base.sql("CREATE TABLE t (id UUID PRIMARY KEY, six INET6);\nINSERT INTO t VALUES ('123e4567-e89b-12d3-a456-426655440000', '2001:db8::1'), ('023e4567-e89b-12d3-a456-426655440000', NULL)").await;
    let (rows, bad) = read(&base.sink(json!({ "fetchSize": 1 }))).await;
    assert_eq!((bad.len(), rows.num_rows()), (0, 2));
    base.sql("CREATE TABLE back LIKE t").await;
    assert_eq!(write(&base.sink(json!({ "table": "back", "key": ["id"] })), &[rows]).await, []);
    assert_eq!(base.rows("SELECT COUNT(*) FROM t JOIN back USING (id) WHERE t.six <=> back.six").await, ["2"]);
    let wrong = RecordBatch::try_from_iter([("id", Arc::new(StringArray::from(vec!["no uuid"])) as ArrayRef)]).unwrap();
    assert_eq!(write(&base.sink(json!({ "table": "back", "key": ["id"] })), &[wrong]).await.len(), 1);
}
