//! Reading a table or query once.

use karez_core::source::Replay;
use karez_core::{Boundedness, Source};

use super::*;

async fn all(source: &dyn Source, name: &str) -> Vec<String> {
    let mut reader = open(source, Value::Null).await;
    let (batches, bad, ended) = drain(reader.as_mut(), 1_000).await;
    assert!(ended && bad.is_empty(), "{bad:?}");
    column(&batches, name)
}

#[tokio::test]
async fn a_table_is_read_in_the_order_of_its_key_and_goes_on_where_it_stood() {
    let db = Db::with("CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t SELECT 100 - i, 'v' || i FROM generate_series(0, 99) i").await;
    let source = db.source(json!({ "table": "t", "fetchSize": 7 }));
    assert_eq!((source.boundedness(), source.replay()), (Boundedness::Bounded, Replay::Exact));
    let expected: Vec<String> = (1..=100).map(|i: i32| i.to_string()).collect();
    assert_eq!(all(source.as_ref(), "id").await, expected);
    // From every position the rest, and nothing else.
    let mut reader = open(source.as_ref(), Value::Null).await;
    let mut read = 0;
    while let Read::Rows { batch, .. } = reader.next(ReadLimit { rows: 13, bytes: 1 << 20 }).await.unwrap() {
        read += batch.num_rows();
        let mut resumed = open(source.as_ref(), reader.position().unwrap()).await;
        let (batches, _, _) = drain(resumed.as_mut(), 1_000).await;
        assert_eq!(column(&batches, "id"), expected[read..]);
    }
    assert_eq!(read, 100);
}

#[tokio::test]
async fn keys_of_any_type_and_of_several_columns_are_gone_on_from() {
    let db = Db::with(
        "CREATE TABLE t (a text, b numeric(12, 3), c timestamptz, d uuid, e bytea, n int, PRIMARY KEY (a, b, c, d, e)); \
         INSERT INTO t SELECT 'k''\\' || (i % 3), (i % 2) / 8.0, timestamptz '2020-01-01 00:00:00.000001Z' + (i % 5) * interval '1 us', \
           md5((i % 7)::text)::uuid, ('\\x0' || (i % 9))::bytea, i FROM generate_series(1, 200) i",
    )
    .await;
    let source = db.source(json!({ "table": "t", "fetchSize": 9 }));
    let expected = db.rows("SELECT n FROM t ORDER BY a, b, c, d, e").await;
    assert_eq!(all(source.as_ref(), "n").await, expected);
}

#[tokio::test]
async fn only_the_columns_asked_for_are_read_and_none_of_them_still_counts() {
    let db = Db::with("CREATE TABLE t (id int PRIMARY KEY, a text, b point); INSERT INTO t VALUES (1, 'x', '(1,2)'), (2, 'y', NULL)").await;
    let schema = schema_of(vec![arrow::datatypes::Field::new("a", arrow::datatypes::DataType::Utf8, true)]);
    let source = try_source(&db.config(json!({ "table": "t" })), Some(&schema)).unwrap();
    assert_eq!(all(source.as_ref(), "a").await, ["x", "y"]);
    let none = source.project(&[]).unwrap();
    let mut reader = open(none.as_ref(), Value::Null).await;
    let (batches, _, _) = drain(reader.as_mut(), 1_000).await;
    assert_eq!(batches.iter().map(arrow::record_batch::RecordBatch::num_rows).sum::<usize>(), 2);
}

#[tokio::test]
async fn parts_by_ranges_give_every_row_once() {
    let db =
        Db::with("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT i * i FROM generate_series(-20, 100) i ON CONFLICT DO NOTHING").await;
    let source = db.source(json!({ "table": "t", "numPartitions": 4 }));
    assert_eq!(source.max_parallelism(), Some(4));
    let mut enumerator = source.enumerator(None).await.unwrap();
    let found = enumerator.discover().await.unwrap();
    assert!(found.done && found.splits.len() == 4);
    assert!(source.enumerator(Some(enumerator.snapshot().unwrap())).await.unwrap().discover().await.unwrap().splits.is_empty());
    db.run("INSERT INTO t VALUES (-5), (1000000)").await;
    let mut ids = Vec::new();
    for split in &found.splits {
        let mut reader = open_at(source.as_ref(), &split.id, split.position.clone(), false).await;
        // In the middle of a part another process goes on.
        if let Read::Rows { batch, .. } = reader.next(ReadLimit { rows: 3, bytes: 1 << 20 }).await.unwrap() {
            ids.extend(column(&[batch], "id"));
        }
        let mut rest = open_at(source.as_ref(), &split.id, reader.position().unwrap(), false).await;
        ids.extend(column(&drain(rest.as_mut(), 1_000).await.0, "id"));
    }
    let mut ids: Vec<i32> = ids.iter().map(|i| i.parse().unwrap()).collect();
    ids.sort_unstable();
    let expected: Vec<i32> = db.rows("SELECT id FROM t ORDER BY id").await.iter().map(|i| i.parse().unwrap()).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn rows_without_a_unique_order_cannot_be_read_again() {
    let db = Db::with("CREATE TABLE t (a int); INSERT INTO t SELECT i FROM generate_series(1, 20000) i; CREATE VIEW w AS SELECT a FROM t").await;
    for config in [json!({ "table": "t" }), json!({ "table": "w" }), json!({ "query": "SELECT a FROM t WHERE a > 0" })] {
        let source = db.source(config);
        let Replay::No(why) = source.replay() else { panic!() };
        assert!(why.contains("no order in which they could be read again"), "{why}");
        assert_eq!(all(source.as_ref(), "a").await.len(), 20_000);
    }
    let keyed = db.source(json!({ "query": "SELECT a, a * 2 AS b FROM t;", "key": ["a"] }));
    assert_eq!(keyed.replay(), Replay::Exact);
    assert_eq!(all(keyed.as_ref(), "b").await[19_999], "40000");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_a_bad_record_with_its_origin_and_the_rest_comes() {
    let db = Db::with(
        "CREATE TABLE t (id int PRIMARY KEY, n numeric(5, 2), d date, t time);
         INSERT INTO t VALUES (1, 1.5, 'infinity', NULL), (2, 2.5, '2020-02-02', '23:59:59.999999'), (3, 'NaN', NULL, NULL), (4, NULL, NULL, '24:00')",
    )
    .await;
    let source = db.source(json!({ "table": "t" }));
    let mut reader = open_at(source.as_ref(), "0", Value::Null, true).await;
    let (batches, bad, _) = drain(reader.as_mut(), 2).await;
    assert_eq!(column(&batches, "id"), ["2"]);
    let reasons: Vec<&str> = bad.iter().map(|b| b.reason.as_str()).collect();
    let table = format!("table={}.t", db.schema);
    assert_eq!(reasons[..2], ["column `d`: infinity is no date", "column `n`: NaN is no decimal(5, 2)"]);
    assert!(reasons[2].starts_with("column `t`: 24:00:00 is no time of day") && reasons.len() == 3, "{reasons:?}");
    assert_eq!((bad[0].origin.clone(), bad[0].row.as_deref()), (Some(format!("{table} id=1")), Some("{\"id\":1,\"n\":1.50}")));
}

#[tokio::test]
async fn what_is_wrong_is_said_when_the_job_is_planned() {
    let db = Db::with("CREATE TABLE orders (id int PRIMARY KEY, place point, note text)").await;
    let wrong = |more: Value| try_source(&db.config(more), None).err().unwrap();
    assert!(wrong(json!({ "table": "order" })).contains("there is no table `order`"), "{}", wrong(json!({ "table": "order" })));
    assert!(wrong(json!({ "table": "order" })).contains("did you mean `orders`?"));
    let unmapped = wrong(json!({ "table": "orders" }));
    assert!(unmapped.contains("column `place` has the type `point`, which is not supported; cast it"), "{unmapped}");
    assert!(wrong(json!({ "query": "SELECT nothing FROM orders" })).contains("column \"nothing\" does not exist"));
    assert!(wrong(json!({ "query": "SELECT 1 AS a, 2 AS a" })).contains("gives two columns `a`"));
    for query in ["DELETE FROM orders RETURNING id", "SELECT 1 AS a; -- that is all"] {
        let error = wrong(json!({ "query": query }));
        assert!(error.contains("`query`: cannot be read from: syntax error") && error.contains("one SELECT"), "{error}");
    }
    assert!(wrong(json!({ "table": "orders", "mode": "incrementing" })).contains("`incrementingColumn`: is missing"));
    assert!(wrong(json!({ "query": "SELECT id, note FROM orders", "mode": "timestamp", "timestampColumn": "note" })).contains("is no instant"));
    assert!(wrong(json!({ "query": "SELECT note FROM orders", "numPartitions": 3, "partitionColumn": "note" })).contains("must be an integer"));
    assert!(wrong(json!({ "table": "orders", "properties": { "sslmod": "require" } })).contains("did you mean `sslmode`?"));
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_right_are_told_apart() {
    let db = Db::with("CREATE TABLE t (id int PRIMARY KEY)").await;
    let place = db.url.split('@').nth(1).unwrap().to_owned();
    let wrong = try_source(&json!({ "url": format!("postgres://karez:secret@{place}"), "table": "t" }), None).err().unwrap();
    assert!(wrong.contains("password authentication failed for user \"karez\"") && !wrong.contains("secret"), "{wrong}");
    let wrong = try_source(
        &json!({ "url": format!("postgres://{place}"), "username": "plain", "password": "plain", "table": format!("{}.t", db.schema) }),
        None,
    )
    .err()
    .unwrap();
    let said = format!("permission denied for schema {0}; GRANT the user USAGE ON SCHEMA {0}", db.schema);
    assert!(wrong.contains(&said), "{wrong}");
    db.run(&format!("GRANT USAGE ON SCHEMA {} TO plain", db.schema)).await;
    let source = try_source(&json!({ "url": format!("postgres://plain:plain@{place}"), "table": "t" }), None).unwrap();
    let checked = source.check().await.err().unwrap();
    assert!(checked.message().contains("permission denied for table t; GRANT the user SELECT ON t"), "{checked}");
    let mut reader = open(source.as_ref(), Value::Null).await;
    let read = reader.next(ReadLimit { rows: 1, bytes: 1 }).await.err().unwrap();
    assert!(read.message().contains("permission denied for table t; GRANT the user SELECT ON t"), "{read}");
}
