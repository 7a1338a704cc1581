//! Rows that the table refuses, and changelogs into keyed tables.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int8Array, Int64Array, StringArray};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use karez_core::schema::change_field;
use karez_core::{ChangeMode, CommitOutcome, StreamSchema};
use serde_json::{Value, json};

use super::{Base, Process, outcomes, rows, two_columns};

fn config(base: &Base) -> Value {
    json!({ "url": base.url(), "table": "t" })
}

fn reasons(rejects: &[karez_core::BadRecord]) -> Vec<(&str, &str)> {
    rejects.iter().map(|r| (r.reason.as_str(), r.row.as_deref().unwrap())).collect()
}

#[tokio::test]
async fn a_row_that_breaks_not_null_or_a_check_is_refused_before_the_barrier_alone() {
    let base = Base::with("CREATE TABLE t (id INTEGER CHECK (id < 100), name TEXT NOT NULL)");
    let mut process = Process::start(&config(&base), two_columns(), 1, 1, &[]).await;
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 200, 3]));
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("b"), None]));
    process.write(0, RecordBatch::try_new(two_columns(), vec![ids, names]).unwrap()).await;
    let manifest = process.barrier(1).await;
    assert_eq!(
        reasons(&process.rejects),
        [
            ("table `t` refuses the row: CHECK constraint failed: id < 100", r#"{"id":200,"name":"b"}"#),
            ("table `t` refuses the row: NOT NULL constraint failed: t.name", r#"{"id":3}"#),
        ]
    );
    assert_eq!(outcomes(&process.commit(1, &manifest).await), ["committed"]);
    assert_eq!(base.rows("SELECT * FROM t"), ["1|a"]);
}

#[tokio::test]
async fn without_checks_not_null_is_kept_by_the_staging_table() {
    let base = Base::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL)");
    let mut process = Process::start(&config(&base), two_columns(), 1, 1, &[]).await;
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    process.write(0, RecordBatch::try_new(two_columns(), vec![Arc::new(Int64Array::from(vec![1, 2])), names]).unwrap()).await;
    process.barrier(1).await;
    assert_eq!(reasons(&process.rejects), [("table `t` refuses the row: CHECK constraint failed: name is NOT NULL", r#"{"id":2}"#)]);
}

#[tokio::test]
async fn rows_that_collide_at_the_commit_are_letters_and_the_others_are_committed() {
    let base = Base::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let mut process = Process::start(&config(&base), two_columns(), 1, 1, &[]).await;
    let many: Vec<(i64, &str)> = (0..1_000).map(|i| (if i == 700 { 3 } else { i }, "x")).collect();
    process.write(0, rows(&many)).await;
    let manifest = process.barrier(1).await;
    for _repeated in 0..2 {
        match &process.commit(1, &manifest).await[..] {
            [CommitOutcome::CommittedExcept(bad)] => {
                assert_eq!(reasons(bad), [("refused at the commit: UNIQUE constraint failed: t.id", r#"{"id":3,"name":"x"}"#)]);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(base.count("t"), 999);
    // Once the engine does not ask for them any more, they are forgotten.
    process.write(0, rows(&[(5_000, "y")])).await;
    let manifest = process.barrier(2).await;
    assert_eq!(outcomes(&process.commit(2, &manifest).await), ["committed"]);
    assert_eq!(base.count("__karez_refused"), 0);
}

#[tokio::test]
async fn text_for_a_rowid_is_refused_at_once() {
    let base = Base::with("CREATE TABLE t (id TEXT, name INTEGER PRIMARY KEY)");
    let mut process = Process::start(&config(&base), two_columns(), 1, 1, &[]).await;
    process.write(0, rows(&[(1, "7"), (2, "seven")])).await;
    let manifest = process.barrier(1).await;
    assert_eq!(process.rejects.len(), 1);
    assert!(process.rejects[0].reason.contains("name is an integer"), "{}", process.rejects[0].reason);
    process.commit(1, &manifest).await;
    assert_eq!(base.rows("SELECT * FROM t"), ["1|7"]);
}

fn changelog() -> StreamSchema {
    let mut fields: Vec<Arc<Field>> = two_columns().fields().iter().cloned().collect();
    fields.push(Arc::new(change_field()));
    StreamSchema { change_mode: ChangeMode::Changelog, key: vec!["id".into()], ..StreamSchema::append_only(Arc::new(Schema::new(fields))) }
}

/// Kinds as Flink writes them.
fn changes(of: &[(&str, i64, &str)]) -> RecordBatch {
    let kinds = of.iter().map(|(k, ..)| ["+I", "-U", "+U", "-D"].iter().position(|x| x == k).unwrap() as i8);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(of.iter().map(|c| c.1))),
        Arc::new(StringArray::from_iter_values(of.iter().map(|c| c.2))),
        Arc::new(Int8Array::from_iter_values(kinds)),
    ];
    RecordBatch::try_new(changelog().arrow, columns).unwrap()
}

#[tokio::test]
async fn a_changelog_upserts_and_deletes_by_key() {
    for guarantee in ["transactional", "at-least-once"] {
        let base = Base::new();
        let config = json!({ "url": base.url(), "table": "t", "createTable": true, "key": ["id"], "batchSize": 1, "guarantee": guarantee });
        let mut process = Process::start_stream(&config, changelog(), 1, 1, &[]).await;
        assert!(process.sink.accepts_changelog());
        process.write(0, changes(&[("+I", 1, "a"), ("+I", 2, "b"), ("-U", 1, "a"), ("+U", 1, "A")])).await;
        process.write(0, changes(&[("-D", 2, "b"), ("+I", 3, "c")])).await;
        let manifest = process.barrier(1).await;
        if !manifest.is_empty() {
            process.commit(1, &manifest).await;
        }
        assert_eq!(base.rows("SELECT * FROM t ORDER BY id"), ["1|A", "3|c"]);
        // A key that changes is a delete and an insert; a key that comes back stays; all in several batches of one epoch.
        process.write(0, changes(&[("-U", 1, "A"), ("+U", 10, "A")])).await;
        process.write(0, changes(&[("-D", 3, "c")])).await;
        process.write(0, changes(&[("+I", 3, "again")])).await;
        process.write(0, changes(&[("+I", 4, "short")])).await;
        process.write(0, changes(&[("-D", 4, "short")])).await;
        let manifest = process.barrier(2).await;
        if !manifest.is_empty() {
            process.commit(2, &manifest).await;
        }
        assert_eq!(base.rows("SELECT * FROM t ORDER BY id"), ["3|again", "10|A"]);
    }
}

#[tokio::test]
async fn a_batch_is_folded_to_the_last_change_of_each_key_before_it_is_staged() {
    let base = Base::new();
    let config = json!({ "url": base.url(), "table": "t", "createTable": true, "key": ["id"] });
    let mut process = Process::start_stream(&config, changelog(), 1, 1, &[]).await;
    for i in 0..100 {
        process.write(0, changes(&[("+U", i % 3, "x")])).await;
    }
    process.writers[0].flush().await.unwrap();
    assert_eq!(base.staged(), 3);
}

#[tokio::test]
async fn a_row_without_key_is_refused() {
    let base = Base::new();
    let config = json!({ "url": base.url(), "table": "t", "createTable": true, "key": ["id"] });
    let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(1)]));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    process.write(0, RecordBatch::try_new(two_columns(), vec![ids, names]).unwrap()).await;
    let manifest = process.barrier(1).await;
    assert_eq!(reasons(&process.rejects), [("column `id` is part of the key, but null", r#"{"name":"a"}"#)]);
    process.commit(1, &manifest).await;
    assert_eq!(base.rows("SELECT * FROM t"), ["1|b"]);
}

#[tokio::test]
async fn an_upsert_keeps_columns_that_the_rows_do_not_have() {
    let base = Base::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, note TEXT); INSERT INTO t VALUES (1, 'a', 'keep me')");
    let config = json!({ "url": base.url(), "table": "t", "key": ["id"] });
    let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
    process.write(0, rows(&[(1, "b")])).await;
    let manifest = process.barrier(1).await;
    process.commit(1, &manifest).await;
    assert_eq!(base.rows("SELECT * FROM t"), ["1|b|keep me"]);
}
