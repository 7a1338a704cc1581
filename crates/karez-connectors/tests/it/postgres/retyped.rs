//! A column that is given another type while a job writes at least once, straight into its table: COPY would take the bytes of an integer for those of a
//! float, and either for a time.

use karez_core::sink::WriterContext;
use karez_core::{Connector, SinkContext, SinkWriter, StreamSchema};

use super::*;

const TABLE: &str = "CREATE TABLE t (id bigint, name text)";

/// A writer that inserts at once.
async fn inserting(db: &Db) -> Box<dyn SinkWriter> {
    let (config, input) = (db.config(json!({ "table": "t", "guarantee": "at-least-once" })), StreamSchema::append_only(two_columns()));
    let context = SinkContext { node: "out", config: &config, input: &input, exactly_once: false };
    let sink = karez_connectors::jdbc::JdbcConnector.sink(context).unwrap();
    let (run, clock) = (super::super::jdbc::run(1), Arc::new(ManualClock::new(1_000)));
    sink.prepare(&run, &[]).await.unwrap();
    let context = WriterContext { run, subtask: 0, parallelism: 1, schema: input.clone(), metrics: Arc::default(), clock };
    sink.writer(context, Vec::new()).await.unwrap()
}

#[tokio::test]
async fn rows_are_not_written_as_what_the_column_was() {
    let db = Db::with(TABLE).await;
    let mut writer = inserting(&db).await;
    writer.write(rows(&[(1, "before")])).await.unwrap();
    writer.flush().await.unwrap();
    db.run("ALTER TABLE t ALTER id TYPE double precision").await;
    writer.write(rows(&[(2, "after")])).await.unwrap();
    let error = writer.flush().await.unwrap_err();
    assert!(error.message().contains("column `id` of `") && error.message().contains("has become double precision; it was bigint"), "{error}");
    assert_ne!(error.whose(), karez_core::Whose::User, "the job starts again");
    assert_eq!(db.rows("SELECT id, name FROM t").await, ["1|before"]);
}

#[tokio::test]
async fn nobody_changes_the_type_between_the_look_at_it_and_the_rows() {
    let db = Db::with(TABLE).await;
    // Rows wait here, in the middle of the transaction.
    db.run("CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(7391); RETURN NEW; END'").await;
    db.run("CREATE TRIGGER wait BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION wait()").await;
    let (holder, other) = (db.another().await, db.another().await);
    holder.batch_execute("SELECT pg_advisory_lock(7391)").await.unwrap();
    let mut writer = inserting(&db).await;
    writer.write(rows(&[(1, "during")])).await.unwrap();
    let writing = tokio::spawn(async move { writer.flush().await });
    while db.rows("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 7391").await.is_empty() {
        tokio::task::yield_now().await;
    }
    let error = other.batch_execute("SET lock_timeout = '100ms'; ALTER TABLE t ALTER id TYPE double precision").await.unwrap_err();
    assert_eq!(error.code().map(|c| c.code()), Some("55P03"), "{error}");
    holder.batch_execute("SELECT pg_advisory_unlock(7391)").await.unwrap();
    writing.await.unwrap().unwrap();
    assert_eq!(db.rows("SELECT id, name FROM t").await, ["1|during"]);
}
