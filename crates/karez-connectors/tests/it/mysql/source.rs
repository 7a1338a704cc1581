//! Reading: all modes, from every position, and rows that come later.

use std::sync::Arc;
use std::time::Duration;

use karez_core::source::{ReadLimit, Replay};
use karez_core::{Boundedness, Clock, ManualClock, Read, SplitReader};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

use super::{Base, clock, on_both};
use crate::jdbc::{column, drain, open, source};

/// Reads all rows of a column, but opens the split anew at its position (as a checkpoint would hold it) after each batch.
async fn with_restarts(config: &Value, name: &str, rows: usize) -> Vec<String> {
    let source = source(config);
    let mut position = Value::Null;
    let mut out = Vec::new();
    loop {
        let mut reader = open(source.as_ref(), serde_json::from_str(&position.to_string()).unwrap(), false, clock()).await;
        match reader.next(ReadLimit { rows, bytes: 1 << 20 }).await.unwrap() {
            Read::Rows { batch, .. } => out.extend(column(&[batch], name)),
            _ => return out,
        }
        position = reader.position().unwrap();
    }
}

async fn numbers(base: &Base, to: i64) {
    base.sql(&format!(
        "CREATE TABLE t (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, v VARCHAR(20));
         INSERT INTO t SELECT i * 3, CONCAT('v', i) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT (a.i - 1) * 1000 + b.i AS i FROM n a, n b) x WHERE i <= {to}"
    ))
    .await;
}

fn advance(clock: &ManualClock, by_ms: i64) {
    clock.set(clock.now_ms() + by_ms);
}

/// What a reader gives now.
async fn now(reader: &mut dyn SplitReader, name: &str) -> Vec<String> {
    let (batches, bad, _) = drain(reader, 1_000).await;
    assert_eq!(bad, []);
    column(&batches, name)
}

/// What a reader gives until there is nothing more: time passes, and transactions of other tests on the same server end.
async fn settled(reader: &mut dyn SplitReader, clock: &ManualClock, name: &str) -> Vec<String> {
    let mut seen = Vec::new();
    until(async || {
        advance(clock, 60_000);
        match reader.next(ReadLimit { rows: 1_000, bytes: 1 << 20 }).await.unwrap() {
            Read::Rows { batch, bad } => {
                assert_eq!(bad, []);
                seen.extend(column(&[batch], name));
                false
            }
            Read::Pending => false,
            Read::Nothing | Read::End => true,
        }
    })
    .await;
    seen
}

on_both! {
    async fn a_table_is_read_in_pages_and_resumed_at_any_row(base: &Base) {
        numbers(base, 500).await;
        let config = base.sink(json!({ "fetchSize": 64 }));
        let source = source(&config);
        assert_eq!((source.boundedness(), source.replay(), source.max_parallelism()), (Boundedness::Bounded, Replay::Exact, Some(1)));
        let expected: Vec<String> = (1..=500).map(|i| (i * 3).to_string()).collect();
        for rows in [7, 100, 5_000] {
            assert_eq!(with_restarts(&config, "id", rows).await, expected);
        }
    }

    async fn a_key_of_several_columns_of_any_type_gives_the_order(base: &Base) {
        base.sql("CREATE TABLE t (kind ENUM('z','a') NOT NULL, name VARCHAR(9) NOT NULL, price DECIMAL(30,12) NOT NULL, at DATETIME(6) NOT NULL, seen TIMESTAMP(3) NOT NULL,
                  code VARBINARY(4) NOT NULL, u BIGINT UNSIGNED NOT NULL, d DOUBLE NOT NULL, flag BOOL NOT NULL, v INT, PRIMARY KEY (kind, name, price, at, seen, code, u, d, flag));
                  INSERT INTO t VALUES ('z', 'x''\\\\', 1, '2013-01-01', '2013-01-01', x'ff', 1, 1, 0, 1), ('z', 'x''\\\\', 1.000000000001, '2013-01-01', '2013-01-01', x'ff', 1, 1, 0, 2),
                   ('z', 'x''\\\\', 1.000000000001, '2013-01-01 00:00:00.000001', '2013-01-01', x'ff', 1, 1, 0, 3),
                   ('z', 'x''\\\\', 1.000000000001, '2013-01-01 00:00:00.000001', '2013-01-01 00:00:00.001', x'ff', 1, 1, 0, 4),
                   ('z', '坎', 1, '2013-01-01', '2013-01-01', x'00', 1, 1, 0, 5), ('z', '坎', 1, '2013-01-01', '2013-01-01', x'00ff', 18446744073709551614, 1, 0, 6),
                   ('z', '坎', 1, '2013-01-01', '2013-01-01', x'00ff', 18446744073709551615, 0.1, 0, 7), ('z', '坎', 1, '2013-01-01', '2013-01-01', x'00ff', 18446744073709551615, 0.30000000000000004, 0, 8),
                   ('z', '坎', 1, '2013-01-01', '2013-01-01', x'00ff', 18446744073709551615, 0.30000000000000004, 1, 9), ('a', 'a', -1, '2013-01-01', '2013-01-01', x'', 0, -1, 0, 10)").await;
        let expected: Vec<String> = (1..=10).map(|i| i.to_string()).collect();
        for rows in [1, 3] {
            assert_eq!(with_restarts(&base.sink(json!({})), "v", rows).await, expected);
        }
        assert_eq!(with_restarts(&base.sink(json!({ "fetchSize": 1 })), "v", 100).await, expected);
    }

    async fn parts_of_a_table_are_read_beside_each_other(base: &Base) {
        numbers(base, 1_000).await;
        let config = base.sink(json!({ "numPartitions": 4 }));
        let source = source(&config);
        assert_eq!(source.max_parallelism(), Some(4));
        let splits = source.enumerator(None).await.unwrap().discover().await.unwrap().splits;
        assert_eq!(splits.len(), 4);
        let mut all = Vec::new();
        for split in splits {
            let mut reader = open(source.as_ref(), split.position, false, clock()).await;
            let part = now(reader.as_mut(), "id").await;
            assert!((200..=300).contains(&part.len()), "{}", part.len());
            all.extend(part);
        }
        assert_eq!(all, (1..=1_000).map(|i| (i * 3).to_string()).collect::<Vec<_>>());
    }

    async fn a_query_without_key_is_read_but_cannot_be_replayed(base: &Base) {
        numbers(base, 3_000).await;
        let config = json!({ "url": base.url, "query": "SELECT v, id FROM t WHERE id % 2 = 0 ORDER BY id;" });
        assert!(matches!(source(&config).replay(), Replay::No(why) if why.contains("give a `key`")));
        let expected: Vec<String> = (1..=3_000).filter(|i| i % 2 == 0).map(|i| format!("v{i}")).collect();
        assert_eq!(with_restarts(&config, "v", 400).await, expected);
        base.sql("CREATE TABLE bare (v INT);\nINSERT INTO bare VALUES (1), (1), (2)").await;
        assert!(matches!(source(&base.sink(json!({ "table": "bare" }))).replay(), Replay::No(_)));
        let keyed = json!({ "url": base.url, "query": "SELECT v, id FROM t", "key": ["id"] });
        assert_eq!(source(&keyed).replay(), Replay::Exact);
        assert_eq!(with_restarts(&keyed, "v", 999).await.len(), 3_000);
    }

    async fn a_query_gives_the_types_of_its_expressions(base: &Base) {
        base.sql("CREATE TABLE t (id INT PRIMARY KEY, d DECIMAL(10,2), at TIMESTAMP(3) NULL);\nINSERT INTO t VALUES (1, 1.5, '2013-01-01 05:00:00.007')").await;
        let source = source(&json!({ "url": base.url, "query": "SELECT COUNT(*) AS n, SUM(d) AS total, MAX(at) AS at, CONCAT('坎', id) AS label, id / 3 AS third, d * 1e0 AS real_number FROM t GROUP BY id" }));
        let types: Vec<String> = source.schema().arrow.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
        assert_eq!(types, ["n Int64", "total Decimal128(32, 2)", "at Timestamp(ms, \"UTC\")", "label Utf8", "third Decimal128(14, 4)", "real_number Float64"]);
        let mut reader = open(source.as_ref(), Value::Null, false, clock()).await;
        let (batches, bad, _) = drain(reader.as_mut(), 10).await;
        assert_eq!(bad, []);
        let row: Vec<String> = source.schema().arrow.fields().iter().map(|f| column(&batches, f.name())[0].clone()).collect();
        assert_eq!(row, ["1", "1.50", "2013-01-01T05:00:00.007Z", "坎1", "0.3333", "1.5"]);
    }

    async fn incrementing_goes_on_with_rows_that_come_later_and_a_restart_repeats_none(base: &Base) {
        numbers(base, 10).await;
        let config = base.sink(json!({ "mode": "incrementing", "incrementingColumn": "id" }));
        let source = source(&config);
        assert_eq!((source.boundedness(), source.replay()), (Boundedness::Unbounded, Replay::Exact));
        let clock = clock();
        let mut reader = open(source.as_ref(), Value::Null, false, Arc::clone(&clock)).await;
        assert_eq!(settled(reader.as_mut(), &clock, "id").await.len(), 10);
        base.sql("INSERT INTO t (v) VALUES ('new'), ('newer')").await;
        let position = reader.position().unwrap();
        let mut reader = open(source.as_ref(), position, false, Arc::clone(&clock)).await;
        assert_eq!(settled(reader.as_mut(), &clock, "v").await, ["new", "newer"]);
        assert_eq!(settled(reader.as_mut(), &clock, "v").await, [] as [&str; 0]);
    }

    async fn the_lower_id_committed_last_is_not_missed(base: &Base) {
        numbers(base, 1).await;
        let source = source(&base.sink(json!({ "mode": "incrementing", "incrementingColumn": "id" })));
        let clock = clock();
        let mut reader = open(source.as_ref(), Value::Null, false, Arc::clone(&clock)).await;
        assert_eq!(settled(reader.as_mut(), &clock, "v").await, ["v1"]);
        let (mut slow, mut fast) = (base.connect().await, base.connect().await);
        slow.query_drop("START TRANSACTION").await.unwrap();
        slow.query_drop("INSERT INTO t (v) VALUES ('lower, last')").await.unwrap();
        fast.query_drop("INSERT INTO t (v) VALUES ('higher, first')").await.unwrap();
        // However long the slow one takes: it can be seen that it is still running.
        for _ in 0..3 {
            advance(&clock, 60_000);
            assert_eq!(now(reader.as_mut(), "v").await, [] as [&str; 0]);
        }
        slow.query_drop("COMMIT").await.unwrap();
        let seen = settled(reader.as_mut(), &clock, "v").await;
        assert_eq!(seen, ["lower, last", "higher, first"]);
    }

    async fn a_delay_set_by_hand_holds_rows_back_so_long_and_no_longer(base: &Base) {
        numbers(base, 1).await;
        let source = source(&base.sink(json!({ "mode": "incrementing", "incrementingColumn": "id", "visibilityDelay": "30s" })));
        let clock = clock();
        let mut reader = open(source.as_ref(), Value::Null, false, Arc::clone(&clock)).await;
        assert_eq!(now(reader.as_mut(), "v").await, [] as [&str; 0]);
        advance(&clock, 29_999);
        assert_eq!(now(reader.as_mut(), "v").await, [] as [&str; 0]);
        let (mut slow, mut fast) = (base.connect().await, base.connect().await);
        slow.query_drop("START TRANSACTION").await.unwrap();
        slow.query_drop("INSERT INTO t (v) VALUES ('lower')").await.unwrap();
        fast.query_drop("INSERT INTO t (v) VALUES ('higher')").await.unwrap();
        advance(&clock, 1);
        assert_eq!(now(reader.as_mut(), "v").await, ["v1"]);
        assert_eq!(now(reader.as_mut(), "v").await, [] as [&str; 0]);
        slow.query_drop("COMMIT").await.unwrap();
        advance(&clock, 30_000);
        assert_eq!(now(reader.as_mut(), "v").await, ["lower", "higher"]);
    }

    async fn timestamp_mode_reads_changed_rows_and_tells_those_of_one_instant_apart(base: &Base) {
        base.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9), at DATETIME NULL);
                  INSERT INTO t VALUES (1, 'a', '2013-01-01 05:00:00'), (2, 'b', '2013-01-01 05:00:00'), (3, 'never', NULL)").await;
        let source = source(&base.sink(json!({ "mode": "timestamp", "timestampColumn": "at" })));
        let clock = clock();
        let mut reader = open(source.as_ref(), Value::Null, false, Arc::clone(&clock)).await;
        assert_eq!(settled(reader.as_mut(), &clock, "v").await, ["a", "b"]);
        // The same instant, later; a changed row; and a restart in between.
        base.sql("INSERT INTO t VALUES (0, 'c', '2013-01-01 05:00:00')").await;
        assert_eq!(settled(reader.as_mut(), &clock, "v").await, ["c"]);
        base.sql("UPDATE t SET v = 'a2', at = '2013-01-01 06:00:00' WHERE id = 1").await;
        let position = serde_json::from_str(&reader.position().unwrap().to_string()).unwrap();
        let mut reader = open(source.as_ref(), position, false, Arc::clone(&clock)).await;
        assert_eq!(settled(reader.as_mut(), &clock, "v").await, ["a2"]);
        assert_eq!(settled(reader.as_mut(), &clock, "v").await, [] as [&str; 0]);
    }

    async fn timestamp_and_incrementing_reads_new_and_changed_rows(base: &Base) {
        base.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9), at TIMESTAMP(3) NOT NULL DEFAULT '2013-01-01 05:00:00.000');
                  INSERT INTO t (id, v) VALUES (2, 'b'), (1, 'a')").await;
        let source = source(&base.sink(json!({ "mode": "timestamp+incrementing", "timestampColumn": "at", "incrementingColumn": "id" })));
        let clock = clock();
        let mut reader = open(source.as_ref(), Value::Null, false, Arc::clone(&clock)).await;
        assert_eq!(settled(reader.as_mut(), &clock, "v").await, ["a", "b"]);
        base.sql("INSERT INTO t VALUES (3, 'c', '2013-01-01 05:00:00.001');\nUPDATE t SET v = 'a2', at = '2013-01-01 05:00:00.002' WHERE id = 1").await;
        assert_eq!(settled(reader.as_mut(), &clock, "v").await, ["c", "a2"]);
    }

    async fn a_bounded_read_of_new_rows_ends(base: &Base) {
        numbers(base, 5).await;
        let source = source(&base.sink(json!({ "mode": "incrementing", "incrementingColumn": "id", "bounded": true })));
        let mut reader = open(source.as_ref(), Value::Null, false, clock()).await;
        let (batches, _, ended) = drain(reader.as_mut(), 100).await;
        assert!(ended && column(&batches, "id").len() == 5);
    }

    async fn only_the_columns_asked_for_are_read_and_rows_know_their_origin(base: &Base) {
        numbers(base, 3).await;
        let source = source(&base.sink(json!({}))).project(&[1]).unwrap();
        let mut reader = open(source.as_ref(), Value::Null, true, clock()).await;
        let (batches, ..) = drain(reader.as_mut(), 2).await;
        assert_eq!(column(&batches, "v"), ["v1", "v2", "v3"]);
        assert!(column(&batches, "__karez_origin")[2].ends_with("id=9"), "{:?}", column(&batches, "__karez_origin"));
        let none = crate::jdbc::source(&base.sink(json!({}))).project(&[]).unwrap();
        let mut reader = open(none.as_ref(), Value::Null, false, clock()).await;
        assert_eq!(drain(reader.as_mut(), 100).await.0[0].num_rows(), 3);
    }

    async fn a_result_is_never_taken_from_the_server_as_a_whole(base: &Base) {
        numbers(base, 20_000).await;
        base.sql("ALTER TABLE t ADD COLUMN filler VARCHAR(4000);\nUPDATE t SET filler = REPEAT('x', 4000)").await;
        let address = base.url.rsplit_once('@').unwrap().1.split('/').next().unwrap().to_owned();
        let proxy = karez_testkit::Proxy::to(address);
        let mut config = base.sink(json!({ "table": null, "query": "SELECT * FROM t", "tls": { "mode": "disable" } }));
        config.as_object_mut().unwrap().remove("table");
        config["url"] = json!(proxy.url(&base.url));
        let source = source(&config);
        let mut reader = open(source.as_ref(), Value::Null, false, clock()).await;
        assert!(matches!(reader.next(ReadLimit { rows: 10, bytes: 1 << 20 }).await.unwrap(), Read::Rows { .. }));
        // 80 MB wait on the server: what has come is a few chunks and what the sockets between hold.
        let mut before = 0;
        until(async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = proxy.to_client_bytes();
            now == std::mem::replace(&mut before, now)
        })
        .await;
        assert!(proxy.to_client_bytes() < 30 << 20, "{}", proxy.to_client_bytes());
        let (batches, ..) = drain(reader.as_mut(), 10_000).await;
        assert_eq!(batches.iter().map(|b| b.num_rows()).sum::<usize>(), 19_990);
    }
}

/// Waits for a condition.
pub async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition().await {
        assert!(started.elapsed() < Duration::from_secs(30), "waited for 30 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
