//! Writing: exactly once, refused rows alone, changes by key.

use arrow::array::{ArrayRef, Int8Array, Int64Array, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::record_batch::RecordBatch;
use karez_core::schema::{CHANGE_COLUMN, change_field};
use karez_core::sink::SinkGuarantee;
use karez_core::{ChangeKind, Committable, StreamSchema};

use super::*;

fn values(committables: &[Committable]) -> usize {
    committables.len()
}

#[tokio::test]
async fn rows_become_visible_with_their_commit_and_once() {
    let db = Db::new().await;
    let config = db.config(json!({ "table": "t", "createTable": true, "batchSize": 2 }));
    let mut process = Process::start(&config, two_columns(), 1, 2, &[]).await;
    assert_eq!(process.sink.guarantee(), SinkGuarantee::Transactional);
    process.write(0, rows(&[(1, "a"), (2, "b"), (3, "c")])).await;
    process.write(1, rows(&[(4, "d")])).await;
    let manifest = process.barrier(1).await;
    assert_eq!((values(&manifest), db.count("t").await, db.stages().await.len()), (2, 0, 2));
    assert_eq!(outcomes(&process.commit(1, &manifest).await), ["committed", "committed"]);
    assert_eq!(db.rows("SELECT id, name FROM t ORDER BY id").await, ["1|a", "2|b", "3|c", "4|d"]);
    // Repeated, also by another process, it changes nothing.
    assert_eq!(outcomes(&process.commit(1, &manifest).await), ["already", "already"]);
    let again = Process::start(&config, two_columns(), 2, 1, &manifest).await;
    assert_eq!((db.count("t").await, db.stages().await.len()), (4, 0));
    drop(again);
}

#[tokio::test]
async fn an_empty_epoch_commits_nothing_and_a_huge_one_whole() {
    let db = Db::new().await;
    let config = db.config(json!({ "table": "t", "createTable": true }));
    let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
    process.write(0, rows(&[])).await;
    assert!(process.barrier(1).await.is_empty());
    let ids: Vec<i64> = (0..300_000).collect();
    let names: Vec<String> = ids.iter().map(|i| format!("name {i} 井")).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids)), Arc::new(StringArray::from(names))];
    process.write(0, RecordBatch::try_new(two_columns(), columns).unwrap()).await;
    let manifest = process.barrier(2).await;
    process.commit(2, &manifest).await;
    assert_eq!(db.rows("SELECT count(*), count(DISTINCT id), min(name), max(id) FROM t").await, ["300000|300000|name 0 井|299999"]);
}

#[tokio::test]
async fn what_was_staged_without_a_manifest_goes_at_the_next_start_whatever_the_parallelism() {
    let db = Db::new().await;
    let config = db.config(json!({ "table": "t", "createTable": true }));
    let mut first = Process::start(&config, two_columns(), 1, 3, &[]).await;
    for subtask in 0..3 {
        first.write(subtask, rows(&[(subtask as i64, "kept")])).await;
    }
    let manifest = first.barrier(1).await;
    first.write(1, rows(&[(7, "lost with the process")])).await;
    first.writers[1].flush().await.unwrap();
    assert_eq!(db.stages().await.len(), 4);
    let mut second = Process::start(&config, two_columns(), 2, 1, &manifest).await;
    assert_eq!(db.stages().await.len(), 0);
    assert_eq!(db.count("t").await, 3);
    second.write(0, rows(&[(7, "again")])).await;
    let manifest = second.barrier(2).await;
    second.commit(2, &manifest).await;
    assert_eq!(db.rows("SELECT name FROM t WHERE id = 7").await, ["again"]);
    // The first process wakes up: it can neither stage nor commit.
    first.writers[0].write(rows(&[(8, "zombie")])).await.unwrap();
    let error = first.writers[0].flush().await.err().unwrap();
    assert!(error.message().contains("was started again (generation 2)") && !error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_row_the_table_refuses_goes_alone_before_the_barrier_or_with_the_commit() {
    let db = Db::with("CREATE TABLE t (id bigint UNIQUE, name varchar(6) NOT NULL CHECK (name <> 'bad')); INSERT INTO t VALUES (3, 'there')").await;
    let config = db.config(json!({ "table": "t" }));
    let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
    let many: Vec<(i64, &str)> = (10..200).map(|i| (i, "ok")).collect();
    process.write(0, rows(&many)).await;
    process.write(0, rows(&[(1, "fine"), (2, "bad"), (3, "double"), (4, "too long"), (5, "z\0ro")])).await;
    let manifest = process.barrier(1).await;
    let mut reasons: Vec<String> = process.rejects.iter().map(|r| format!("{} {}", r.row.as_deref().unwrap(), r.reason)).collect();
    reasons.sort();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(
        reasons[0].starts_with("{\"id\":2,\"name\":\"bad\"}")
            && reasons[0].contains("table `t` refuses the row: new row for relation \"t\" violates check constraint"),
        "{reasons:?}"
    );
    assert!(reasons[1].contains("value too long for type character varying(6)"), "{reasons:?}");
    assert!(reasons[2].contains("zero byte"), "{reasons:?}");
    let outcome = process.commit(1, &manifest).await;
    let karez_core::CommitOutcome::CommittedExcept(bad) = &outcome[0] else { panic!("{outcome:?}") };
    assert_eq!(bad.len(), 1);
    assert!(
        bad[0].reason.contains("duplicate key value violates unique constraint") && bad[0].row.as_deref() == Some("{\"id\":3,\"name\":\"double\"}"),
        "{bad:?}"
    );
    assert_eq!(db.count("t").await, 192);
    // A repeated commit names the row again, until the next one.
    assert_eq!(outcomes(&process.commit(1, &manifest).await), ["except"]);
    process.write(0, rows(&[(1_000, "next")])).await;
    let next = process.barrier(2).await;
    process.commit(2, &next).await;
    assert_eq!(db.count("__karez_refused").await, 0);
}

/// PostgreSQL rounds without a word what its column has no digits for.
#[tokio::test]
async fn a_time_that_its_column_would_round_is_a_refused_row() {
    let db = Db::with("CREATE TABLE t (at timestamp(0), a timestamptz(3), t time(1))").await;
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    let schema = schema_of(vec![
        field("at", DataType::Timestamp(TimeUnit::Millisecond, None)),
        field("a", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        field("t", DataType::Time64(TimeUnit::Microsecond)),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from(vec![1_000, 1_600, 1_000, 1_000])),
        Arc::new(TimestampMicrosecondArray::from(vec![1_001_000, 1_000, 1_001, 1_000]).with_timezone("UTC")),
        Arc::new(Time64MicrosecondArray::from(vec![100_000, 0, 0, 150_000])),
    ];
    let mut process = Process::start(&db.config(json!({ "table": "t" })), Arc::clone(&schema), 1, 1, &[]).await;
    process.write(0, RecordBatch::try_new(schema, columns).unwrap()).await;
    let manifest = process.barrier(1).await;
    process.commit(1, &manifest).await;
    assert_eq!(db.rows("SELECT at, a AT TIME ZONE 'UTC', t FROM t").await, ["1970-01-01 00:00:01|1970-01-01 00:00:01.001|00:00:00.1"]);
    let reasons: Vec<&str> = process.rejects.iter().map(|r| r.reason.as_str()).collect();
    for (column, declared) in [("at", "timestamp(0)"), ("a", "timestamp(3)"), ("t", "time(1)")] {
        let named = |r: &&str| r.contains(&format!("column `{column}`")) && r.contains(&format!("more digits behind the second than {declared}"));
        assert_eq!(reasons.iter().copied().filter(named).count(), 1, "{reasons:?}");
    }
}

/// A foreign key that is checked at the commit would otherwise fail the commit as a whole, again after each restart.
#[tokio::test]
async fn a_row_that_breaks_a_deferred_constraint_goes_alone() {
    for (more, guarantee) in [(json!({}), "transactional"), (json!({ "key": ["id"] }), "transactional"), (json!({ "key": ["id"] }), "at-least-once")]
    {
        let db = Db::with(
            "CREATE TABLE p (id bigint PRIMARY KEY); INSERT INTO p SELECT * FROM generate_series(1, 50);
             CREATE TABLE t (id bigint PRIMARY KEY REFERENCES p DEFERRABLE INITIALLY DEFERRED, name text)",
        )
        .await;
        let mut config = db.config(json!({ "table": "t", "guarantee": guarantee }));
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
        let many: Vec<(i64, &str)> = (1..=51).map(|i| (i, "x")).collect();
        process.write(0, rows(&many)).await;
        let manifest = process.barrier(1).await;
        let mut refused = std::mem::take(&mut process.rejects);
        if guarantee == "transactional" {
            for outcome in process.commit(1, &manifest).await {
                let karez_core::CommitOutcome::CommittedExcept(bad) = outcome else { panic!("{outcome:?}") };
                refused.extend(bad);
            }
        }
        assert!(refused.len() == 1 && refused[0].reason.contains("violates foreign key constraint"), "{guarantee}: {refused:?}");
        assert_eq!(refused[0].row.as_deref(), Some("{\"id\":51,\"name\":\"x\"}"));
        assert_eq!(db.count("t").await, 50);
    }
}

#[tokio::test]
async fn at_least_once_writes_at_once_and_leaves_refused_rows_out() {
    let db = Db::with(
        "CREATE TABLE p (id bigint PRIMARY KEY); INSERT INTO p SELECT * FROM generate_series(1, 3);
         CREATE TABLE t (id bigint PRIMARY KEY REFERENCES p DEFERRABLE INITIALLY DEFERRED, name text NOT NULL)",
    )
    .await;
    for (config, guarantee) in [
        (json!({ "table": "t", "guarantee": "at-least-once" }), SinkGuarantee::AtLeastOnce),
        (json!({ "table": "t", "guarantee": "at-least-once", "key": ["id"] }), SinkGuarantee::Idempotent),
    ] {
        db.run("TRUNCATE t").await;
        let input = StreamSchema::append_only(two_columns());
        let config = db.config(config);
        let sink = karez_connectors::jdbc::JdbcConnector;
        let sink =
            karez_core::Connector::sink(&sink, karez_core::SinkContext { node: "out", config: &config, input: &input, exactly_once: false }).unwrap();
        assert_eq!(sink.guarantee(), guarantee);
        let context = karez_core::sink::WriterContext {
            run: super::super::jdbc::run(1),
            subtask: 0,
            parallelism: 1,
            schema: input.clone(),
            metrics: Arc::default(),
            clock: Arc::new(ManualClock::new(1_000)),
        };
        let mut writer = sink.writer(context, Vec::new()).await.unwrap();
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![1, 2, 3, 4])), Arc::new(StringArray::from(vec![Some("a"), None, Some("c"), Some("d")]))];
        writer.write(RecordBatch::try_new(two_columns(), columns).unwrap()).await.unwrap();
        assert_eq!(writer.flush_due_ms(), Some(2_000));
        writer.flush().await.unwrap();
        assert_eq!(db.rows("SELECT id FROM t ORDER BY id").await, ["1", "3"]);
        let rejects = writer.take_rejects();
        assert!(rejects.len() == 2 && rejects[0].reason.contains("name") && rejects[1].reason.contains("foreign key"), "{rejects:?}");
        assert!(writer.prepare_commit(karez_core::Epoch(1), true).await.unwrap().is_empty());
    }
}

fn changes(of: &[(ChangeKind, i64, &str)]) -> (StreamSchema, RecordBatch) {
    let mut fields: Vec<_> = two_columns().fields().iter().cloned().collect();
    fields.push(Arc::new(change_field()));
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(of.iter().map(|r| r.1))),
        Arc::new(StringArray::from_iter_values(of.iter().map(|r| r.2))),
        Arc::new(Int8Array::from_iter_values(of.iter().map(|r| r.0 as i8))),
    ];
    assert!(schema.field(2).name() == CHANGE_COLUMN);
    (
        StreamSchema { change_mode: karez_core::ChangeMode::Changelog, ..StreamSchema::append_only(two_columns()) },
        RecordBatch::try_new(schema, columns).unwrap(),
    )
}

#[tokio::test]
async fn a_changelog_leaves_the_last_of_each_key() {
    use ChangeKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    for (guarantee, batch_size) in [("transactional", 1_000), ("transactional", 1), ("at-least-once", 1_000), ("at-least-once", 1)] {
        let db = Db::with("CREATE TABLE t (id bigint PRIMARY KEY, name text NOT NULL, extra int DEFAULT 7); INSERT INTO t VALUES (1, 'old', 1), (2, 'old', 2), (9, 'kept', 9)").await;
        let config = db.config(json!({ "table": "t", "key": ["id"], "guarantee": guarantee, "batchSize": batch_size }));
        let (schema, _) = changes(&[]);
        let mut process = Process::start_stream(&config, schema, 1, 1, &[]).await;
        for part in [
            &[(Insert, 3, "three"), (UpdateBefore, 1, "old"), (UpdateAfter, 1, "new")][..],
            &[(Delete, 2, "old"), (Insert, 4, "gone"), (Delete, 4, "gone")],
            &[(Delete, 3, "three"), (Insert, 3, "three again"), (Insert, 5, "five")],
        ] {
            process.write(0, changes(part).1).await;
        }
        let manifest = process.barrier(1).await;
        if guarantee == "transactional" {
            assert_eq!(outcomes(&process.commit(1, &manifest).await), ["committed"]);
        }
        let rows = db.rows("SELECT id, name, extra FROM t ORDER BY id").await;
        assert_eq!(rows, ["1|new|1", "3|three again|7", "5|five|7", "9|kept|9"], "{guarantee} {batch_size}");
        assert!(process.rejects.is_empty(), "{:?}", process.rejects);
    }
}

#[tokio::test]
async fn a_null_in_the_key_is_refused_and_a_key_without_an_index_before_the_start() {
    let db = Db::with("CREATE TABLE t (id bigint, name text)").await;
    let config = db.config(json!({ "table": "t", "key": ["id"] }));
    let sink = try_sink(&config, &StreamSchema::append_only(two_columns())).unwrap();
    let error = sink.check().await.err().unwrap().to_string();
    assert!(error.contains("nothing says that (\"id\") identifies a row") && error.contains("CREATE UNIQUE INDEX \"t_key\""), "{error}");
    db.run("CREATE UNIQUE INDEX ON t (id)").await;
    sink.check().await.unwrap();
    let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![None, Some(1)])), Arc::new(StringArray::from(vec!["x", "y"]))];
    process.write(0, RecordBatch::try_new(two_columns(), columns).unwrap()).await;
    let manifest = process.barrier(1).await;
    process.commit(1, &manifest).await;
    assert_eq!(db.rows("SELECT * FROM t").await, ["1|y"]);
    assert!(process.rejects[0].reason.contains("column `id` is part of the key, but null"));
}

#[tokio::test]
async fn a_table_is_made_and_widened_only_when_asked_and_checking_changes_nothing() {
    let db = Db::new().await;
    let missing = try_sink(&db.config(json!({ "table": "t" })), &StreamSchema::append_only(two_columns())).unwrap();
    let error = missing.check().await.err().unwrap().to_string();
    assert!(error.contains("there is no table `t`") && error.contains("CREATE TABLE \"t\" (\n  \"id\" BIGINT,\n  \"name\" TEXT\n)"), "{error}");
    let made = try_sink(&db.config(json!({ "table": "t", "createTable": true, "key": ["id"] })), &StreamSchema::append_only(two_columns())).unwrap();
    made.check().await.unwrap();
    assert_eq!(db.rows("SELECT to_regclass('t')").await, ["NULL"]);
    made.prepare(&super::super::jdbc::run(1), &[]).await.unwrap();
    assert_eq!(db.count("t").await, 0);
    let wider = schema_of(vec![Field::new("id", DataType::Int64, true), Field::new("more", DataType::Date32, true)]);
    let config = |evolve: bool| db.config(json!({ "table": "t", "evolveTable": evolve }));
    let refused = try_sink(&config(false), &StreamSchema::append_only(Arc::clone(&wider))).unwrap();
    let error = refused.check().await.err().unwrap().to_string();
    assert!(error.contains("it has no column `more`: add it (ALTER TABLE") && error.contains("evolveTable"), "{error}");
    let evolved = try_sink(&config(true), &StreamSchema::append_only(wider)).unwrap();
    evolved.check().await.unwrap();
    evolved.prepare(&super::super::jdbc::run(1), &[]).await.unwrap();
    assert_eq!(db.rows("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 't' AND table_schema = current_schema() ORDER BY ordinal_position").await, [
        "id|bigint",
        "name|text",
        "more|date"
    ]);
}

#[tokio::test]
async fn rows_go_into_partitions_and_into_a_schema_named_with_the_table() {
    let db = Db::with("CREATE TABLE \"Odd.Name\" (id bigint, name text) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF \"Odd.Name\" FOR VALUES FROM (0) TO (10)").await;
    let table = format!("{}.\"Odd.Name\"", db.schema);
    let config = json!({ "url": service("POSTGRES_URL"), "table": table });
    let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
    process.write(0, rows(&[(1, "in"), (99, "nowhere"), (2, "in")])).await;
    let manifest = process.barrier(1).await;
    let outcome = process.commit(1, &manifest).await;
    let karez_core::CommitOutcome::CommittedExcept(bad) = &outcome[0] else { panic!("{outcome:?}") };
    assert!(bad[0].reason.contains("no partition of relation"), "{bad:?}");
    assert_eq!(db.rows("SELECT id FROM p1 ORDER BY id").await, ["1", "2"]);
}

#[tokio::test]
async fn a_user_who_may_only_insert_writes_at_least_once_and_is_told_why_not_exactly_once() {
    let db = Db::with("CREATE TABLE t (id bigint, name text)").await;
    db.run(&format!("GRANT USAGE ON SCHEMA {0} TO plain; GRANT INSERT ON t TO plain", db.schema)).await;
    let url = db.url.replace("karez:karez@", "plain:plain@");
    let exactly = try_sink(&json!({ "url": url, "table": "t" }), &StreamSchema::append_only(two_columns())).unwrap();
    let error = exactly.check().await.err().unwrap().to_string();
    assert!(error.contains("may not create tables in the schema") && error.contains("guarantee: at-least-once"), "{error}");
    let error = exactly.prepare(&super::super::jdbc::run(1), &[]).await.err().unwrap().to_string();
    let said = format!("permission denied for schema {0}; GRANT the user USAGE and CREATE ON SCHEMA {0}", db.schema);
    assert!(error.contains(&said) && error.contains("guarantee: at-least-once"), "{error}");
    let staging = Db::new().await;
    staging.run(&format!("GRANT ALL ON SCHEMA {} TO plain", staging.schema)).await;
    let config = json!({ "url": url, "table": "t", "stagingSchema": staging.schema });
    try_sink(&config, &StreamSchema::append_only(two_columns())).unwrap().check().await.unwrap();
    let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
    process.write(0, rows(&[(1, "a")])).await;
    let manifest = process.barrier(1).await;
    assert_eq!(outcomes(&process.commit(1, &manifest).await), ["committed"]);
    assert_eq!(db.count("t").await, 1);
}

#[tokio::test]
async fn rows_that_are_all_key_are_put_in_without_the_right_to_update() {
    let db = Db::with("CREATE TABLE t (id bigint PRIMARY KEY)").await;
    db.run(&format!("GRANT USAGE ON SCHEMA {} TO plain; GRANT INSERT ON t TO plain", db.schema)).await;
    let config = json!({ "url": db.url.replace("karez:karez@", "plain:plain@"), "table": "t", "key": ["id"], "guarantee": "at-least-once" });
    let ids = rows(&[(1, "")]).project(&[0]).unwrap();
    let sink = try_sink(&config, &StreamSchema::append_only(ids.schema())).unwrap();
    let refused = sink.check().await.unwrap_err().to_string();
    assert!(refused.contains("GRANT the user SELECT and INSERT ON t"), "{refused}");
    db.run("GRANT SELECT ON t TO plain").await;
    sink.check().await.unwrap();
    let mut process = Process::start(&config, ids.schema(), 1, 1, &[]).await;
    process.write(0, ids).await;
    process.barrier(1).await;
    assert_eq!((db.count("t").await, process.rejects), (1, vec![]));
}

#[tokio::test]
async fn a_right_that_is_missing_is_said_before_the_job_starts() {
    let db = Db::with("CREATE TABLE t (id bigint PRIMARY KEY, name text, at timestamptz NOT NULL DEFAULT now())").await;
    let (schema, url) = (&db.schema, db.url.replace("karez:karez@", "plain:plain@"));
    db.run(&format!("GRANT USAGE ON SCHEMA {schema} TO plain; GRANT SELECT ON t TO plain")).await;
    let changes = StreamSchema { change_mode: karez_core::ChangeMode::Changelog, ..StreamSchema::append_only(two_columns()) };
    let check = async |more: Value| {
        let mut config = json!({ "url": url, "table": "t", "key": ["id"] });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let checked = try_sink(&config, &changes).unwrap().check().await;
        checked.map_err(|e| if e.is_retryable() { format!("{e} is retryable") } else { e.to_string() })
    };
    let lossy = || json!({ "guarantee": "at-least-once" });
    let upserts = "SELECT, INSERT and UPDATE";
    for (right, needed) in [("INSERT (id, name)", upserts), ("UPDATE", upserts), ("DELETE", "SELECT and DELETE")] {
        let cannot = format!("rows cannot be written to `t`: permission denied for table t; GRANT the user {needed} ON t");
        let refused = check(lossy()).await.unwrap_err();
        assert!(refused.contains(&cannot), "{right}: {refused}");
        db.run(&format!("GRANT {right} ON t TO plain")).await;
    }
    check(lossy()).await.unwrap();
    for more in [json!({}), json!({ "table": "missing", "createTable": true, "guarantee": "at-least-once" })] {
        let error = check(more).await.unwrap_err();
        assert!(error.contains(&format!("the user plain may not create tables in the schema {schema}; GRANT")), "{error}");
    }
    db.run(&format!("GRANT CREATE ON SCHEMA {schema} TO plain")).await;
    check(json!({})).await.unwrap();
    check(json!({ "table": "missing", "createTable": true })).await.unwrap();
    assert_eq!((db.count("t").await, db.rows("SELECT to_regclass('missing')").await), (0, vec!["NULL".to_owned()]));
}
