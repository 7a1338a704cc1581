//! Reading: all modes, from every position, and rows that come later.

use std::sync::Arc;

use karez_core::source::{ReadLimit, Replay};
use karez_core::{Boundedness, ManualClock, Read};
use serde_json::{Value, json};

use super::{Base, column, drain, open, source};

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(1_357_016_400_000))
}

fn numbers(to: i64) -> Base {
    Base::with(&format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {to}) INSERT INTO t SELECT i * 3, 'v' || i FROM n"
    ))
}

/// Reads all rows of a column, but opens the split anew at its position (as a checkpoint would hold it) after each batch.
async fn with_restarts(config: &Value, name: &str, rows: usize) -> Vec<String> {
    let source = source(config);
    let mut position = Value::Null;
    let mut out = Vec::new();
    loop {
        let mut reader = open(source.as_ref(), serde_json::from_str(&position.to_string()).unwrap(), false, clock()).await;
        match reader.next(ReadLimit { rows, bytes: 1 << 20 }).await.unwrap() {
            Read::Rows { batch, .. } => out.extend(column(&[batch], name)),
            Read::Nothing | Read::Pending | Read::End => return out,
        }
        position = reader.position().unwrap();
    }
}

#[tokio::test]
async fn a_table_is_read_in_pages_and_resumed_at_any_of_them() {
    let base = numbers(1_000);
    let config = json!({ "url": base.url(), "table": "t" });
    let source = source(&config);
    assert_eq!((source.boundedness(), source.replay(), source.max_parallelism()), (Boundedness::Bounded, Replay::Exact, Some(1)));
    let expected: Vec<String> = (1..=1_000).map(|i| (i * 3).to_string()).collect();
    for rows in [1, 7, 1_000, 5_000] {
        assert_eq!(with_restarts(&config, "id", rows).await, expected);
    }
    let mut enumerator = source.enumerator(None).await.unwrap();
    assert_eq!(enumerator.discover().await.unwrap().splits.len(), 1);
    let restored = enumerator.snapshot().unwrap();
    let mut enumerator = source.enumerator(Some(restored)).await.unwrap();
    let found = enumerator.discover().await.unwrap();
    assert!(found.splits.is_empty() && found.done);
}

#[tokio::test]
async fn a_page_stops_at_the_byte_limit_but_gives_one_row_at_least() {
    let base = numbers(10);
    let source = source(&json!({ "url": base.url(), "table": "t" }));
    let mut reader = open(source.as_ref(), Value::Null, false, clock()).await;
    match reader.next(ReadLimit { rows: 100, bytes: 1 }).await.unwrap() {
        Read::Rows { batch, .. } => assert_eq!(batch.num_rows(), 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(drain(reader.as_mut(), 100).await.0[0].num_rows(), 9);
}

#[tokio::test]
async fn a_table_without_rowid_is_read_by_its_primary_key() {
    let base = Base::with(
        "CREATE TABLE t (a TEXT, b REAL, v INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID;
         INSERT INTO t VALUES ('x', 2.5, 3), ('x', 0.1, 2), ('a', 9.0, 1), ('坎', -1.0, 4)",
    );
    let config = json!({ "url": base.url(), "table": "t" });
    assert_eq!(with_restarts(&config, "v", 1).await, ["1", "2", "3", "4"]);
    assert_eq!(source(&config).replay(), Replay::Exact);
}

#[tokio::test]
async fn a_table_whose_columns_hide_the_rowid_is_read_by_another_name_of_it() {
    let base = Base::with("CREATE TABLE t (rowid TEXT, oid TEXT); INSERT INTO t VALUES ('z', '1'), ('a', '2')");
    assert_eq!(with_restarts(&json!({ "url": base.url(), "table": "t" }), "rowid", 1).await, ["z", "a"]);
}

#[tokio::test]
async fn only_the_columns_asked_for_are_read() {
    let base = numbers(3);
    let source = source(&json!({ "url": base.url(), "table": "t" })).project(&[1]).unwrap();
    let mut reader = open(source.as_ref(), Value::Null, true, clock()).await;
    let (batches, ..) = drain(reader.as_mut(), 2).await;
    assert_eq!(column(&batches, "v"), ["v1", "v2", "v3"]);
    assert_eq!(column(&batches, "__karez_origin"), ["table=t id=3", "table=t id=6", "table=t id=9"]);
    assert_eq!(batches[0].num_columns(), 2);
    let none = super::source(&json!({ "url": base.url(), "table": "t" })).project(&[]).unwrap();
    let mut reader = open(none.as_ref(), Value::Null, false, clock()).await;
    assert_eq!(drain(reader.as_mut(), 100).await.0[0].num_rows(), 3);
}

#[tokio::test]
async fn a_query_without_key_is_read_but_cannot_be_replayed() {
    let base = numbers(5_000);
    let config = json!({ "url": base.url(), "query": "SELECT v, id FROM t WHERE id % 2 = 0;" });
    let replay = source(&config).replay();
    assert!(matches!(&replay, Replay::No(why) if why.contains("give a `key`")), "{replay:?}");
    let expected: Vec<String> = (1..=5_000).filter(|i| i % 2 == 0).map(|i| format!("v{i}")).collect();
    assert_eq!(with_restarts(&config, "v", 400).await, expected);
    let source = source(&config);
    let mut reader = open(source.as_ref(), Value::Null, true, clock()).await;
    let (batches, _, end) = drain(reader.as_mut(), 10).await;
    assert!(end);
    assert_eq!(column(&batches, "v"), expected);
    assert_eq!(column(&batches[..1], "__karez_origin")[..2], ["query row=1", "query row=2"]);
    // None but the key of another order: exact.
    let keyed = super::source(&json!({ "url": base.url(), "query": "SELECT v, id FROM t", "key": ["id"] }));
    assert_eq!(keyed.replay(), Replay::Exact);
    assert_eq!(with_restarts(&json!({ "url": base.url(), "query": "SELECT v, id FROM t", "key": ["id"] }), "v", 999).await.len(), 5_000);
}

#[tokio::test]
async fn incrementing_goes_on_with_rows_that_come_later() {
    let base = numbers(10);
    let config = json!({ "url": base.url(), "table": "t", "mode": "incrementing", "incrementingColumn": "id" });
    let source = source(&config);
    assert_eq!(source.boundedness(), Boundedness::Unbounded);
    let mut reader = open(source.as_ref(), Value::Null, false, clock()).await;
    assert_eq!(reader.poll_interval_ms(), 5_000);
    let (batches, _, end) = drain(reader.as_mut(), 4).await;
    assert_eq!((column(&batches, "id").len(), end), (10, false));
    base.open().execute_batch("INSERT INTO t VALUES (100, 'later'), (1, 'too late')").unwrap();
    let (batches, ..) = drain(reader.as_mut(), 4).await;
    assert_eq!(column(&batches, "v"), ["later"]);
    // From a checkpoint that was taken before.
    let position = reader.position().unwrap();
    base.open().execute_batch("INSERT INTO t VALUES (101, 'last')").unwrap();
    let mut reader = open(source.as_ref(), position, false, clock()).await;
    assert_eq!(column(&drain(reader.as_mut(), 4).await.0, "v"), ["last"]);
}

#[tokio::test]
async fn a_bounded_incrementing_source_ends() {
    let base = numbers(10);
    let source = source(&json!({ "url": base.url(), "table": "t", "mode": "incrementing", "incrementingColumn": "id", "bounded": true }));
    assert_eq!(source.boundedness(), Boundedness::Bounded);
    let mut reader = open(source.as_ref(), Value::Null, false, clock()).await;
    assert!(drain(reader.as_mut(), 100).await.2);
}

fn changes() -> Base {
    Base::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at TIMESTAMP(3), v TEXT);
         INSERT INTO t VALUES (5, '2013-01-01 04:00:00.000', 'a'), (2, '2013-01-01 04:00:00.000', 'b'), (9, '2013-01-01 03:00:00.000', 'c'), (1, NULL, 'never')",
    )
}

#[tokio::test]
async fn timestamp_remembers_which_rows_of_the_latest_instant_it_has_read() {
    let base = changes();
    let config = json!({ "url": base.url(), "table": "t", "mode": "timestamp", "timestampColumn": "at" });
    let source = source(&config);
    let mut reader = open(source.as_ref(), Value::Null, false, clock()).await;
    assert_eq!(column(&drain(reader.as_mut(), 2).await.0, "v"), ["c", "b", "a"]);
    // The same instant, smaller key; a later instant; an earlier one, which is never seen.
    base.open()
        .execute_batch(
            "INSERT INTO t VALUES (3, '2013-01-01 04:00:00.000', 'same instant'), (4, '2013-01-01 02:00:00.000', 'too late');
             UPDATE t SET at = '2013-01-01 04:30:00.000', v = 'C' WHERE id = 9",
        )
        .unwrap();
    let position = reader.position().unwrap();
    assert_eq!(column(&drain(reader.as_mut(), 1).await.0, "v"), ["same instant", "C"]);
    assert!(drain(reader.as_mut(), 1).await.0.is_empty());
    let mut again = open(source.as_ref(), position, false, clock()).await;
    assert_eq!(column(&drain(again.as_mut(), 1).await.0, "v"), ["same instant", "C"]);
}

#[tokio::test]
async fn timestamp_is_resumed_at_any_row() {
    let base = Base::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at TIMESTAMP(3));
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) INSERT INTO t SELECT i, '2013-01-01 0' || (i * 7 % 4) || ':00:00.000' FROM n",
    );
    for rows in [1, 13, 1_000] {
        let read = with_restarts(&json!({ "url": base.url(), "table": "t", "mode": "timestamp", "timestampColumn": "at" }), "id", rows).await;
        assert_eq!(read, base.rows("SELECT id FROM t ORDER BY at, id"), "{rows}");
    }
}

#[tokio::test]
async fn timestamp_and_incrementing_gives_changed_rows_again() {
    let base = changes();
    let config = json!({ "url": base.url(), "table": "t", "mode": "timestamp+incrementing", "timestampColumn": "at", "incrementingColumn": "id" });
    assert_eq!(with_restarts(&config, "v", 1).await, ["c", "b", "a"]);
    let source = source(&config);
    let mut reader = open(source.as_ref(), Value::Null, false, clock()).await;
    drain(reader.as_mut(), 100).await;
    base.open()
        .execute_batch("UPDATE t SET at = '2013-01-01 04:30:00.000', v = 'B' WHERE id = 2; INSERT INTO t VALUES (10, '2013-01-01 04:00:00.000', 'd')")
        .unwrap();
    assert_eq!(column(&drain(reader.as_mut(), 100).await.0, "v"), ["d", "B"]);
}

#[tokio::test]
async fn rows_younger_than_the_visibility_delay_wait() {
    let base = changes();
    let config = json!({
        "url": base.url(), "table": "t", "mode": "timestamp", "timestampColumn": "at", "visibilityDelay": "90m"
    });
    let source = source(&config);
    let clock = clock(); // 05:00
    let mut reader = open(source.as_ref(), Value::Null, false, Arc::clone(&clock)).await;
    assert_eq!(column(&drain(reader.as_mut(), 100).await.0, "v"), ["c"]);
    clock.set(1_357_016_400_000 + 30 * 60_000);
    assert_eq!(column(&drain(reader.as_mut(), 100).await.0, "v"), ["b", "a"]);
}

#[tokio::test]
async fn a_read_that_is_dropped_loses_nothing() {
    let base = numbers(10);
    for config in [json!({ "url": base.url(), "table": "t" }), json!({ "url": base.url(), "query": "SELECT * FROM t" })] {
        let source = source(&config);
        // The reader's thread may have rows before they are asked for: then there is no read to be dropped, and another reader is opened.
        let mut readers = 0;
        let (mut reader, before) = loop {
            let mut reader = open(source.as_ref(), Value::Null, false, clock()).await;
            let before = reader.position().unwrap();
            if futures::poll!(reader.next(ReadLimit { rows: 3, bytes: 1 << 20 }).as_mut()).is_pending() {
                break (reader, before);
            }
            readers += 1;
            assert!(readers < 1_000, "no read ever waits");
        };
        assert_eq!(reader.position().unwrap(), before);
        assert_eq!(column(&drain(reader.as_mut(), 3).await.0, "id").len(), 10);
    }
}
