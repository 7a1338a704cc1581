//! Exactly once: kills at every point, replays, generations, subtasks; upserts, deletes; tables made and widened.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int8Array, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use karez_core::schema::change_field;
use karez_core::sink::{CommitPermit, SinkGuarantee};
use karez_core::{ChangeKind, ChangeMode, Epoch, StreamSchema};
use karez_testkit::{OwnServer, Server};
use serde_json::json;

use super::{Base, on_both, write};
use crate::jdbc::{Process, outcomes, rows, try_sink, two_columns};

/// Rows `from..to` of a table of two columns.
pub fn many(from: i64, to: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(from..to));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((from..to).map(|i| format!("name\t{i}\\"))));
    RecordBatch::try_new(two_columns(), vec![ids, names]).unwrap()
}

fn changelog() -> StreamSchema {
    let fields = [two_columns().fields().to_vec(), vec![Arc::new(change_field())]].concat();
    StreamSchema { change_mode: ChangeMode::Changelog, ..StreamSchema::append_only(Arc::new(Schema::new(fields))) }
}

fn changes(of: &[(i64, &str, ChangeKind)]) -> RecordBatch {
    let visible = rows(&of.iter().map(|(id, name, _)| (*id, *name)).collect::<Vec<_>>());
    let kinds: ArrayRef = Arc::new(Int8Array::from_iter_values(of.iter().map(|(.., kind)| *kind as i8)));
    RecordBatch::try_new(changelog().arrow, [visible.columns().to_vec(), vec![kinds]].concat()).unwrap()
}

/// MariaDB before 10.10 has `explicit_defaults_for_timestamp` off: a `TIMESTAMP` that does not say NULL makes the present of a null.
#[tokio::test]
async fn own_server_null_stays_null_where_timestamps_have_defaults_of_their_own() {
    let server = OwnServer::start(Server::Mariadb).unwrap();
    server.client(&["-e", "SET GLOBAL explicit_defaults_for_timestamp = OFF"]).unwrap();
    let base = Base::at(Server::Mariadb, server.address()).await;
    let at = Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true);
    let schema = Arc::new(Schema::new([two_columns().fields().to_vec(), vec![Arc::new(at)]].concat()));
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![None, Some(86_400_000)]).with_timezone("UTC"));
    let batch = RecordBatch::try_new(schema, [rows(&[(1, "a"), (2, "b")]).columns().to_vec(), vec![times]].concat()).unwrap();
    // Made with the table, and added to one that is there.
    base.sql("CREATE TABLE u (id BIGINT, name TEXT)").await;
    for (table, make) in [("t", "createTable"), ("u", "evolveTable")] {
        assert_eq!(write(&base.sink(json!({ "table": table, make: true })), std::slice::from_ref(&batch)).await, []);
        assert_eq!(base.rows(&format!("SELECT id, at FROM {table} ORDER BY id")).await, ["1|NULL", "2|1970-01-02 00:00:00.000"], "{table}");
    }
    base.close().await;
}

on_both! {
    async fn rows_are_visible_after_their_commit_and_not_before(base: &Base) {
        let mut process = Process::start(&base.sink(json!({ "createTable": true })), two_columns(), 1, 1, &[]).await;
        process.write(0, rows(&[(1, "a"), (2, "b")])).await;
        process.writers[0].flush().await.unwrap();
        assert_eq!((base.count("t").await, base.staged().await), (0, 2));
        let manifest = process.barrier(1).await;
        assert_eq!(base.count("t").await, 0);
        assert_eq!(outcomes(&process.commit(1, &manifest).await), ["committed"]);
        assert_eq!(base.rows("SELECT * FROM t").await, ["1|a", "2|b"]);
        assert_eq!(base.staged().await, 0);
    }

    async fn a_kill_before_the_manifest_leaves_nothing(base: &Base) {
        let config = base.sink(json!({ "createTable": true }));
        let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
        process.write(0, rows(&[(1, "lost")])).await;
        let _never_in_a_manifest = process.barrier(1).await;
        process.write(0, rows(&[(2, "lost")])).await;
        process.writers[0].flush().await.unwrap();
        drop(process);
        let mut process = Process::start(&config, two_columns(), 2, 1, &[]).await;
        assert_eq!((base.count("t").await, base.staged().await), (0, 0));
        process.write(0, rows(&[(1, "again")])).await;
        let manifest = process.barrier(2).await;
        process.commit(2, &manifest).await;
        assert_eq!(base.rows("SELECT * FROM t").await, ["1|again"]);
    }

    async fn a_kill_between_manifest_and_commit_is_made_good_by_the_next_start_at_another_parallelism(base: &Base) {
        let config = base.sink(json!({ "createTable": true }));
        let mut process = Process::start(&config, two_columns(), 1, 2, &[]).await;
        process.write(0, rows(&[(1, "a")])).await;
        process.write(1, rows(&[(2, "b")])).await;
        let manifest = process.barrier(1).await;
        assert_eq!(manifest.len(), 2);
        drop(process);
        Process::start(&config, two_columns(), 2, 1, &manifest).await;
        assert_eq!(base.rows("SELECT * FROM t ORDER BY id").await, ["1|a", "2|b"]);
        Process::start(&config, two_columns(), 3, 3, &manifest).await;
        assert_eq!(base.count("t").await, 2);
    }

    async fn a_commit_that_is_repeated_changes_nothing(base: &Base) {
        let mut process = Process::start(&base.sink(json!({ "createTable": true })), two_columns(), 1, 2, &[]).await;
        process.write(0, rows(&[(1, "a")])).await;
        process.write(1, rows(&[(2, "b")])).await;
        let first = process.barrier(1).await;
        assert_eq!(outcomes(&process.commit(1, &first).await), ["committed", "committed"]);
        process.write(1, rows(&[(3, "c")])).await;
        let both = [first, process.barrier(2).await].concat();
        assert_eq!(outcomes(&process.commit(2, &both).await), ["already", "already", "committed"]);
        assert_eq!(outcomes(&process.commit(2, &both).await), ["already", "already", "already"]);
        assert_eq!(base.rows("SELECT id FROM t ORDER BY id").await, ["1", "2", "3"]);
        let mut committer = process.sink.committer(&process.run).await.unwrap().unwrap();
        assert_eq!(committer.is_committed(Epoch(2)).await.unwrap(), Some(true));
        assert_eq!(committer.is_committed(Epoch(3)).await.unwrap(), Some(false));
    }

    async fn an_older_generation_can_neither_stage_nor_commit(base: &Base) {
        let config = base.sink(json!({ "createTable": true }));
        let mut old = Process::start(&config, two_columns(), 1, 1, &[]).await;
        old.write(0, rows(&[(1, "a")])).await;
        let manifest = old.barrier(1).await;
        old.write(0, rows(&[(2, "b")])).await;
        let new = Process::start(&config, two_columns(), 2, 1, &[]).await;
        let error = old.writers[0].flush().await.unwrap_err();
        assert!(error.message().contains("was started again (generation 2) while this process (generation 1)"), "{error}");
        let mut committer = old.sink.committer(&old.run).await.unwrap().unwrap();
        let error = committer.commit(&CommitPermit::from_completed_manifest(Epoch(1)), &manifest).await.unwrap_err();
        assert!(error.message().contains("generation 2"), "{error}");
        assert_eq!(outcomes(&new.commit(1, &manifest).await), ["lost"]);
        assert_eq!(base.count("t").await, 0);
    }

    async fn a_changelog_upserts_and_deletes_and_the_last_change_of_a_key_counts(base: &Base) {
        use ChangeKind::{Delete, Insert, UpdateAfter, UpdateBefore};
        let config = base.sink(json!({ "createTable": true, "key": ["id"] }));
        let mut process = Process::start_stream(&config, changelog(), 1, 1, &[]).await;
        process.write(0, changes(&[(1, "a", Insert), (2, "b", Insert), (3, "c", Insert), (1, "a", UpdateBefore), (1, "A", UpdateAfter)])).await;
        process.writers[0].flush().await.unwrap();
        process.write(0, changes(&[(2, "b", Delete), (4, "d", Insert)])).await;
        process.writers[0].flush().await.unwrap();
        process.write(0, changes(&[(4, "d", Delete), (2, "again", Insert)])).await;
        let manifest = process.barrier(1).await;
        process.commit(1, &manifest).await;
        assert_eq!(base.rows("SELECT * FROM t ORDER BY id").await, ["1|A", "2|again", "3|c"]);
        process.write(0, changes(&[(3, "c", Delete), (1, "a", UpdateBefore), (1, "a2", UpdateAfter)])).await;
        let manifest = process.barrier(2).await;
        process.commit(2, &manifest).await;
        assert_eq!(base.rows("SELECT * FROM t ORDER BY id").await, ["1|a2", "2|again"]);
        assert_eq!(process.rejects, []);
    }

    async fn at_least_once_writes_at_once(base: &Base) {
        let config = base.sink(json!({ "createTable": true, "key": ["id"], "guarantee": "at-least-once" }));
        let mut process = Process::start_stream(&config, changelog(), 1, 1, &[]).await;
        assert_eq!(process.sink.guarantee(), SinkGuarantee::Idempotent);
        process.write(0, changes(&[(1, "a", ChangeKind::Insert), (2, "b", ChangeKind::Insert), (1, "c", ChangeKind::Insert)])).await;
        process.writers[0].flush().await.unwrap();
        assert_eq!(base.rows("SELECT * FROM t ORDER BY id").await, ["1|c", "2|b"]);
        process.write(0, changes(&[(2, "b", ChangeKind::Delete), (3, "x", ChangeKind::Insert)])).await;
        process.writers[0].flush().await.unwrap();
        assert_eq!(base.rows("SELECT * FROM t ORDER BY id").await, ["1|c", "3|x"]);
        assert_eq!(process.barrier(1).await, []);
        assert!(process.sink.committer(&process.run).await.unwrap().is_none());
    }

    async fn huge_and_empty_batches_go_through_the_bulk_path(base: &Base) {
        let config = base.sink(json!({ "createTable": true }));
        let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
        process.write(0, many(0, 0)).await;
        assert_eq!(process.barrier(1).await, []);
        process.write(0, many(0, 150_000)).await;
        process.write(0, many(150_000, 200_000)).await;
        let manifest = process.barrier(2).await;
        process.commit(2, &manifest).await;
        assert_eq!(base.rows("SELECT COUNT(*), COUNT(DISTINCT id), SUM(name = CONCAT('name\\t', id, '\\\\')) FROM t").await, ["200000|200000|200000"]);
    }

    async fn columns_that_the_rows_lack_are_left_to_the_server(base: &Base) {
        // Scenario P6: the key is a number that the table gives.
        base.sql("CREATE TABLE t (customer_id BIGINT AUTO_INCREMENT PRIMARY KEY, id BIGINT, name VARCHAR(20) NOT NULL,
                  initial CHAR(1) AS (LEFT(name, 1)) STORED, since DATETIME DEFAULT '2013-01-01', source VARCHAR(9) NOT NULL DEFAULT 'karez')").await;
        assert_eq!(write(&base.sink(json!({})), &[rows(&[(7, "ann"), (8, "bob")]), many(100, 200)]).await, []);
        assert_eq!(
            base.rows("SELECT id, name, initial, since, source FROM t ORDER BY customer_id LIMIT 2").await,
            ["7|ann|a|2013-01-01 00:00:00|karez", "8|bob|b|2013-01-01 00:00:00|karez"]
        );
        assert_eq!(base.rows("SELECT COUNT(DISTINCT customer_id) FROM t WHERE customer_id IS NOT NULL").await, ["102"]);
    }

    async fn a_table_is_made_and_widened_on_request_and_holds_all_of_unicode(base: &Base) {
        base.sql(&format!("ALTER DATABASE {} CHARACTER SET latin1", base.name)).await;
        assert_eq!(write(&base.sink(json!({ "createTable": true, "key": ["id"] })), &[rows(&[(1, "坎儿井 🐫")])]).await, []);
        let wider = RecordBatch::try_new(
            Arc::new(Schema::new(vec![
                Field::new("id", DataType::Int64, true),
                Field::new("name", DataType::Utf8, true),
                Field::new("note", DataType::Utf8, true),
            ])),
            vec![Arc::new(Int64Array::from(vec![2])), Arc::new(StringArray::from(vec!["b"])), Arc::new(StringArray::from(vec!["🦀"]))],
        )
        .unwrap();
        let input = StreamSchema::append_only(wider.schema());
        let narrow = try_sink(&base.sink(json!({ "key": ["id"] })), &input).unwrap().check().await.unwrap_err();
        assert!(narrow.message().contains("no column `note`") && narrow.message().contains("evolveTable"), "{narrow}");
        assert_eq!(write(&base.sink(json!({ "evolveTable": true, "key": ["id"] })), &[wider]).await, []);
        assert_eq!(base.rows("SELECT * FROM t ORDER BY id").await, ["1|坎儿井 🐫|NULL", "2|b|🦀"]);
    }

    async fn checking_a_sink_changes_nothing(base: &Base) {
        let input = StreamSchema::append_only(two_columns());
        try_sink(&base.sink(json!({ "createTable": true })), &input).unwrap().check().await.unwrap();
        assert_eq!(base.rows("SHOW TABLES").await, [] as [&str; 0]);
    }

    async fn an_upsert_needs_an_index_over_its_key(base: &Base) {
        base.sql("CREATE TABLE t (id BIGINT, name TEXT)").await;
        let sink = try_sink(&base.sink(json!({ "key": ["id"] })), &StreamSchema::append_only(two_columns())).unwrap();
        let error = sink.check().await.unwrap_err();
        assert!(error.message().contains("CREATE UNIQUE INDEX"), "{error}");
    }

    async fn a_table_without_transactions_is_refused(base: &Base) {
        base.sql("CREATE TABLE t (id BIGINT, name TEXT) ENGINE = MyISAM").await;
        let error = try_sink(&base.sink(json!({})), &StreamSchema::append_only(two_columns())).unwrap().check().await.unwrap_err();
        assert!(error.message().contains("MyISAM") && error.message().contains("ENGINE = InnoDB"), "{error}");
    }
}

#[tokio::test]
async fn without_local_infile_rows_are_inserted() {
    let mut own = karez_testkit::OwnServer::start(karez_testkit::Server::Mariadb).unwrap();
    let base = Base::at(karez_testkit::Server::Mariadb, own.address()).await;
    base.sql("SET GLOBAL local_infile = 0").await;
    assert_eq!(write(&base.sink(json!({ "createTable": true, "key": ["id"] })), &[many(0, 30_000), many(10, 20)]).await, []);
    assert_eq!(base.rows("SELECT COUNT(*), SUM(name = CONCAT('name\\t', id, '\\\\')) FROM t").await, ["30000|30000"]);
    drop(base);
    own.up().unwrap();
}
