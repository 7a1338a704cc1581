//! Rows that the table refuses: each alone, with the reason, and the others written; nothing changed in silence.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::record_batch::RecordBatch;
use karez_core::StreamSchema;
use serde_json::json;

use super::sink::many;
use super::{Base, on_both, write};
use crate::jdbc::{rows, try_sink};

fn with_ids(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..columns[0].1.len() as i64));
    RecordBatch::try_from_iter_with_nullable([("id", ids)].into_iter().chain(columns).map(|(n, a)| (n, a, true))).unwrap()
}

on_both! {
    async fn a_row_that_is_there_already_is_refused_and_the_others_written(base: &Base) {
        base.sql("CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR(30));\nINSERT INTO t VALUES (17, 'here'), (99, 'here')").await;
        for (guarantee, from) in [("at-least-once", 0), ("transactional", 1_000)] {
            base.sql(&format!("INSERT IGNORE INTO t VALUES ({}, 'here')", from + 17)).await;
            base.sql(&format!("INSERT IGNORE INTO t VALUES ({}, 'here')", from + 99)).await;
            let config = base.sink(json!({ "guarantee": guarantee }));
            let refused = if guarantee == "transactional" { write(&config, &[many(from, from + 200)]).await } else { write_at_least_once(&config, many(from, from + 200)).await };
            let reasons: Vec<&str> = refused.iter().map(|r| r.reason.as_str()).collect();
            assert_eq!(reasons.len(), 2, "{reasons:?}");
            assert!(reasons.iter().all(|r| r.contains("Duplicate entry")), "{reasons:?}");
            assert!(refused[0].row.as_deref().unwrap().contains(&format!("\"id\":{}", from + 17)), "{refused:?}");
            assert_eq!(base.rows(&format!("SELECT COUNT(*) FROM t WHERE id BETWEEN {from} AND {}", from + 199)).await, ["200"]);
        }
        assert_eq!(base.rows("SELECT COUNT(*) FROM t WHERE name = 'here'").await, ["4"]);
    }

    async fn nothing_is_cut_rounded_padded_or_taken_for_something_else(base: &Base) {
        base.sql("CREATE TABLE t (id BIGINT PRIMARY KEY, short VARCHAR(3), n TINYINT, price DECIMAL(5,2), at DATETIME(3), fixed BINARY(2), kind ENUM('a','b'),
                  year YEAR, real_number DOUBLE)").await;
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("坎儿井"), Some("坎儿井x"), Some("a"), Some("a"), Some("a"), Some("a"), Some("a"), Some("a"), Some("a  \t"), None]));
        let n: ArrayRef = Arc::new(Int32Array::from(vec![-128, 1, 128, 1, 1, 1, 1, 1, 1, 1]));
        let price: ArrayRef = Arc::new(
            Decimal128Array::from(vec![999_990, 0, 0, 1_005, 0, 0, 0, 0, 0, 0]).with_precision_and_scale(9, 3).unwrap(),
        );
        let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_000, 0, 0, 0, 1, 0, 0, 0, 0, 0]));
        let fixed: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"\xff\0", b"ab", b"ab", b"ab", b"ab", b"a", b"ab", b"ab", b"ab", b"ab"]));
        let kind: ArrayRef = Arc::new(StringArray::from(vec!["a", "a", "a", "a", "a", "a", "2", "a", "a", "b"]));
        let year: ArrayRef = Arc::new(Int32Array::from(vec![2013, 2013, 2013, 2013, 2013, 2013, 2013, 99, 2013, 2155]));
        let double: ArrayRef = Arc::new(Float64Array::from(vec![0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, f64::NAN]));
        let batch = with_ids(vec![
            ("short", text), ("n", n), ("price", price), ("at", at), ("fixed", fixed), ("kind", kind), ("year", year), ("real_number", double),
        ]);
        let refused = write(&base.sink(json!({})), &[batch]).await;
        let reasons: Vec<&str> = refused.iter().map(|r| r.reason.strip_prefix("table `").and_then(|r| r.split_once("` refuses the row: ")).unwrap().1).collect();
        assert_eq!(
            reasons,
            [
                "column `short`: '坎儿井x' is longer than 3 characters",
                "column `n`: 128 is out of range: -128 to 127",
                "column `price`: 1.005 has more than 2 digits behind the point",
                "column `at`: 1970-01-01 00:00:00.000001 has more than 3 digits behind the second",
                "column `fixed`: has 1 bytes, the column 2",
                "column `kind`: '2' is none of a, b",
                "column `year`: 99 is out of range: 1901 to 2155",
                "column `short`: 'a  \t' is longer than 3 characters",
                "column `real_number`: NaN is no number to MySQL",
            ]
        );
        assert_eq!(base.rows("SELECT id, short, n, price, at, HEX(fixed), kind, year, real_number FROM t").await, ["0|坎儿井|-128|999.99|1970-01-01 00:00:00.001|FF00|a|2013|0.1"]);
    }

    async fn what_only_the_server_knows_is_found_among_many_rows(base: &Base) {
        // A text that its character set lacks, a check, JSON, and an instant that TIMESTAMP cannot hold.
        base.sql("CREATE TABLE t (id BIGINT PRIMARY KEY, latin VARCHAR(9) CHARACTER SET latin1, positive BIGINT CHECK (positive > 0), doc JSON, at TIMESTAMP(3) NULL)").await;
        let rows = 100;
        let latin: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|i| if i == 20 { "坎" } else { "é" })));
        let positive: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(|i| if i == 40 { 0 } else { i + 1 })));
        let doc: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|i| if i == 60 { "{" } else { "{\"a\": [1, \"坎\"]}" })));
        let at: ArrayRef = Arc::new(
            TimestampMillisecondArray::from_iter_values((0..rows).map(|i| if i == 80 { 253_402_300_799_000 } else { 1_357_016_400_000 })).with_timezone("UTC"),
        );
        let refused = write(&base.sink(json!({})), &[with_ids(vec![("latin", latin), ("positive", positive), ("doc", doc), ("at", at)])]).await;
        let ids: Vec<String> = refused.iter().map(|r| r.row.as_deref().unwrap().split(',').next().unwrap().to_owned()).collect();
        assert_eq!(ids, ["{\"id\":20", "{\"id\":40", "{\"id\":60", "{\"id\":80"], "{refused:?}");
        assert_eq!(base.rows("SELECT COUNT(*), SUM(latin = 'é'), SUM(at = '2013-01-01 05:00:00') FROM t").await, ["96|96|96"]);
    }

    async fn nulls_are_refused_where_the_column_has_none_but_not_of_rows_to_be_deleted(base: &Base) {
        base.sql("CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR(30) NOT NULL)").await;
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..50));
        let names: ArrayRef = Arc::new(StringArray::from_iter((0..50).map(|i| (i != 7).then_some("x"))));
        let batch = RecordBatch::try_new(crate::jdbc::two_columns(), vec![ids, names]).unwrap();
        for key in [json!([]), json!(["id"])] {
            base.sql("TRUNCATE TABLE t").await;
            let refused = write(&base.sink(json!({ "key": key })), std::slice::from_ref(&batch)).await;
            assert_eq!(refused.len(), 1);
            assert!(refused[0].reason.contains("column `name` cannot be null"), "{refused:?}");
            assert_eq!(base.count("t").await, 49);
        }
    }

    async fn an_upsert_does_not_replace_the_row_of_another_key(base: &Base) {
        base.sql("CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR(30) UNIQUE);\nINSERT INTO t VALUES (1, 'ann'), (2, 'bob')").await;
        let refused = write(&base.sink(json!({ "key": ["id"] })), &[rows(&[(1, "anna"), (3, "bob"), (4, "dora")])]).await;
        assert_eq!(refused.len(), 1);
        assert!(refused[0].reason.contains("another row has its values in a unique index that is not the `key`"), "{refused:?}");
        assert_eq!(base.rows("SELECT * FROM t ORDER BY id").await, ["1|anna", "2|bob", "4|dora"]);
    }

    async fn types_that_would_be_converted_are_refused_before_anything_is_written(base: &Base) {
        base.sql("CREATE TABLE t (id BIGINT PRIMARY KEY, n INT, f FLOAT, at TIMESTAMP NULL, place POINT)").await;
        let batch = with_ids(vec![
            ("n", Arc::new(StringArray::from(vec!["1.5"])) as ArrayRef),
            ("f", Arc::new(Float64Array::from(vec![0.1]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![0]))),
            ("place", Arc::new(StringArray::from(vec!["x"]))),
        ]);
        let error = try_sink(&base.sink(json!({})), &StreamSchema::append_only(batch.schema())).unwrap().check().await.unwrap_err();
        for part in ["column `n`", "column `f`", "declare the column DOUBLE", "column `at`", "needs a DATETIME column", "column `place`"] {
            assert!(error.message().contains(part), "{error}");
        }
    }

    async fn a_trigger_and_a_foreign_key_refuse_rows_at_the_commit(base: &Base) {
        base.sql("CREATE TABLE parent (id BIGINT PRIMARY KEY);\nINSERT INTO parent VALUES (1), (2), (3);
                  CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR(30), CONSTRAINT known FOREIGN KEY (id) REFERENCES parent (id));
                  CREATE TRIGGER no_bob BEFORE INSERT ON t FOR EACH ROW BEGIN IF NEW.name = 'bob' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no bobs'; END IF; END").await;
        let refused = write(&base.sink(json!({})), &[rows(&[(1, "ann"), (2, "bob"), (9, "zoe"), (3, "cat")])]).await;
        let reasons: Vec<&str> = refused.iter().map(|r| r.reason.as_str()).collect();
        assert_eq!(reasons.len(), 2, "{reasons:?}");
        assert!(reasons[0].contains("no bobs") && reasons[1].contains("foreign key"), "{reasons:?}");
        assert_eq!(base.rows("SELECT * FROM t ORDER BY id").await, ["1|ann", "3|cat"]);
    }
}

async fn write_at_least_once(config: &serde_json::Value, batch: RecordBatch) -> Vec<karez_core::BadRecord> {
    use karez_core::metrics::NodeMetrics;
    use karez_core::sink::WriterContext;
    let schema = StreamSchema::append_only(batch.schema());
    let context = karez_core::SinkContext { node: "out", config, input: &schema, exactly_once: false };
    let sink = karez_core::Connector::sink(&karez_connectors::jdbc::JdbcConnector, context).unwrap();
    let run = crate::jdbc::run(1);
    sink.prepare(&run, &[]).await.unwrap();
    let context = WriterContext { run, subtask: 0, parallelism: 1, schema, metrics: Arc::new(NodeMetrics::default()), clock: super::clock() };
    let mut writer = sink.writer(context, Vec::new()).await.unwrap();
    writer.write(batch).await.unwrap();
    writer.flush().await.unwrap();
    writer.take_rejects()
}
