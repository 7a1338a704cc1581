//! The server goes away, answers get lost, others are in the way.

use std::sync::Arc;
use std::time::Duration;

use karez_core::metrics::NodeMetrics;
use karez_core::sink::{CommitPermit, WriterContext};
use karez_core::source::ReadLimit;
use karez_core::{Epoch, Read, SplitReader, StreamSchema};
use karez_testkit::{OwnServer, Proxy, Server};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

use super::sink::many;
use super::source::until;
use super::{Base, clock, on_both};
use crate::jdbc::{Process, column, open, outcomes, rows, source, try_sink, two_columns};

/// The base behind a network that fails on request; without TLS, so that nothing is between.
fn proxied(base: &Base, more: Value) -> (Proxy, Value) {
    let address = base.url.rsplit_once('@').unwrap().1.split('/').next().unwrap().to_owned();
    let proxy = Proxy::to(address);
    let mut config = base.sink(more);
    config["url"] = json!(proxy.url(&base.url));
    config["tls"] = json!({ "mode": "disable" });
    (proxy, config)
}

on_both! {
    async fn the_lost_answer_to_a_commit_is_settled_by_the_marker(base: &Base) {
        let (proxy, config) = proxied(base, json!({ "createTable": true }));
        let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
        process.write(0, many(0, 1_000)).await;
        let manifest = process.barrier(1).await;
        let mut committer = process.sink.committer(&process.run).await.unwrap().unwrap();
        committer.is_committed(Epoch(0)).await.unwrap();
        // The line is cut a little later each time, so that once it is between the commit and its answer; the engine asks again each time.
        for step in 0..200 {
            let permit = CommitPermit::from_completed_manifest(Epoch(1));
            let mut commit = std::pin::pin!(committer.commit(&permit, &manifest));
            let in_time = tokio::select! {
                outcome = &mut commit => Some(outcome.unwrap()),
                () = tokio::time::sleep(Duration::from_millis(step)) => None,
            };
            let Some(outcome) = in_time else {
                proxy.hold_answers();
                proxy.cut();
                proxy.back();
                let outcome = commit.await.unwrap();
                assert!(matches!(outcomes(&outcome)[0], "committed" | "already" | "later"), "{outcome:?}");
                continue;
            };
            assert!(matches!(outcomes(&outcome)[0], "committed" | "already"), "{outcome:?}");
            break;
        }
        assert_eq!(base.rows("SELECT COUNT(*), COUNT(DISTINCT id) FROM t").await, ["1000|1000"]);
        assert_eq!(outcomes(&committer.commit(&CommitPermit::from_completed_manifest(Epoch(1)), &manifest).await.unwrap()), ["already"]);
    }

    async fn a_line_that_is_cut_while_rows_are_staged_neither_loses_nor_repeats_them(base: &Base) {
        let (proxy, config) = proxied(base, json!({ "createTable": true, "batchSize": 500 }));
        let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
        let writer = &mut process.writers[0];
        for part in 0..20 {
            writer.write(many(part * 500, part * 500 + 500)).await.unwrap();
            if part % 3 == 0 {
                proxy.cut();
            }
        }
        let manifest = process.barrier(1).await;
        assert_eq!(outcomes(&process.commit(1, &manifest).await), ["committed"]);
        assert_eq!(base.rows("SELECT COUNT(*), COUNT(DISTINCT id) FROM t").await, ["10000|10000"]);
    }

    async fn a_deadlock_is_tried_again(base: &Base) {
        base.sql("CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR(30));\nINSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')").await;
        let config = base.sink(json!({ "key": ["id"], "guarantee": "at-least-once" }));
        let schema = StreamSchema::append_only(two_columns());
        let context = karez_core::SinkContext { node: "out", config: &config, input: &schema, exactly_once: false };
        let sink = karez_core::Connector::sink(&karez_connectors::jdbc::JdbcConnector, context).unwrap();
        let run = crate::jdbc::run(1);
        sink.prepare(&run, &[]).await.unwrap();
        let metrics = Arc::new(NodeMetrics::default());
        let context = WriterContext { run, subtask: 0, parallelism: 1, schema, metrics: Arc::clone(&metrics), clock: clock() };
        let mut writer = sink.writer(context, Vec::new()).await.unwrap();
        // The other transaction holds row 2 and has more to lose; ours takes row 1 and waits for 2; then the other asks for 1.
        let mut other = base.connect().await;
        other.query_drop("START TRANSACTION").await.unwrap();
        other.query_drop("UPDATE t SET name = 'other' WHERE id = 2").await.unwrap();
        for _ in 0..20 {
            other.query_drop("UPDATE t SET name = CONCAT('other', RAND()) WHERE id = 3").await.unwrap();
        }
        let writing = tokio::spawn(async move {
            writer.write(rows(&[(1, "ours"), (2, "ours")])).await.unwrap();
            writer.flush().await.unwrap();
            writer
        });
        let waits = format!("SELECT COUNT(*) FROM information_schema.innodb_trx x JOIN information_schema.processlist p ON p.id = x.trx_mysql_thread_id
                             WHERE p.db = '{}' AND x.trx_state = 'LOCK WAIT'", base.name);
        // The server makes this list anew only when nobody has asked for it for a tenth of a second.
        until(async || {
            tokio::time::sleep(Duration::from_millis(150)).await;
            base.rows(&waits).await == ["1"]
        })
        .await;
        other.query_drop("UPDATE t SET name = 'other' WHERE id = 1").await.unwrap();
        other.query_drop("COMMIT").await.unwrap();
        let mut writer = writing.await.unwrap();
        assert_eq!(writer.take_rejects(), []);
        assert!(metrics.retried.get() >= 1);
        assert_eq!(base.rows("SELECT * FROM t WHERE id < 3 ORDER BY id").await, ["1|ours", "2|ours"]);
    }

    async fn a_server_that_is_gone_too_long_fails_the_writer_so_that_the_job_restarts(base: &Base) {
        let (proxy, config) = proxied(base, json!({ "createTable": true, "external": { "retry": { "attempts": 3 } } }));
        let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
        process.write(0, rows(&[(1, "a")])).await;
        proxy.gone();
        let error = process.writers[0].flush().await.unwrap_err();
        assert!(error.is_retryable() && error.reach() == karez_core::Reach::Job, "{error}");
        proxy.back();
        let mut process = Process::start(&config, two_columns(), 2, 1, &[]).await;
        process.write(0, rows(&[(1, "a")])).await;
        let manifest = process.barrier(1).await;
        assert_eq!(outcomes(&process.commit(1, &manifest).await), ["committed"]);
    }

    async fn checking_a_server_that_is_gone_can_be_tried_again(base: &Base) {
        let (proxy, config) = proxied(base, json!({ "createTable": true, "connectTimeout": "2s" }));
        let sink = try_sink(&config, &StreamSchema::append_only(two_columns())).unwrap();
        proxy.gone();
        assert!(sink.check().await.unwrap_err().is_retryable());
        proxy.back();
        sink.check().await.unwrap();
    }
}

async fn killed_in_the_middle(server: Server) {
    let mut own = OwnServer::start(server).unwrap();
    let base = Base::at(server, own.address()).await;
    // A source in the middle of a table, a sink with staged and with sealed rows.
    base.sql("CREATE TABLE numbers (id BIGINT PRIMARY KEY, name VARCHAR(200));\nINSERT INTO numbers WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
              SELECT (a.i - 1) * 100 + b.i, REPEAT('x', 200) FROM n a, n b WHERE b.i <= 100").await;
    let reading = json!({ "url": base.url, "table": "numbers" });
    let source = source(&reading);
    let mut reader: Box<dyn SplitReader> = open(source.as_ref(), Value::Null, false, clock()).await;
    let mut seen = Vec::new();
    let Read::Rows { batch, .. } = reader.next(ReadLimit { rows: 100, bytes: 1 << 20 }).await.unwrap() else { panic!("no rows") };
    seen.extend(column(&[batch], "id"));
    let config = base.sink(json!({ "createTable": true }));
    let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
    process.write(0, many(0, 5_000)).await;
    let manifest = process.barrier(1).await;
    process.write(0, many(5_000, 10_000)).await;
    process.writers[0].flush().await.unwrap();
    own.crash().unwrap();
    let starting = tokio::task::spawn_blocking(move || {
        own.up().unwrap();
        own
    });
    // While it is away, the reader waits for it.
    let (batches, ..) = crate::jdbc::drain(reader.as_mut(), 10_000).await;
    seen.extend(column(&batches, "id"));
    let own = starting.await.unwrap();
    assert_eq!(seen, (1..=100_000).map(|i| i.to_string()).collect::<Vec<_>>());
    // The job goes on where it was: nothing staged was lost, nothing is there twice.
    process.write(0, many(10_000, 12_000)).await;
    let all = [manifest, process.barrier(2).await].concat();
    assert_eq!(outcomes(&process.commit(2, &all).await), ["committed", "committed"]);
    assert_eq!(base.rows("SELECT COUNT(*), COUNT(DISTINCT id) FROM t").await, ["12000|12000"]);
    drop((process, own));
}

#[tokio::test]
async fn mysql_killed_in_the_middle_loses_and_repeats_nothing() {
    killed_in_the_middle(Server::Mysql).await;
}

#[tokio::test]
async fn mariadb_killed_in_the_middle_loses_and_repeats_nothing() {
    killed_in_the_middle(Server::Mariadb).await;
}

/// The process that is killed in the next test.
#[cfg(feature = "failpoints")]
#[tokio::test]
#[ignore = "run by `a_kill_at_each_step_is_made_good_by_the_next_start`"]
async fn killed_at_a_step() {
    let (Ok(config), Ok(point), Ok(manifest)) = (std::env::var("KAREZ_CONFIG"), std::env::var("KAREZ_POINT"), std::env::var("KAREZ_MANIFEST")) else {
        return;
    };
    let mut process = Process::start(&serde_json::from_str(&config).unwrap(), two_columns(), 1, 2, &[]).await;
    process.write(0, rows(&[(1, "a")])).await;
    process.write(1, rows(&[(2, "b")])).await;
    if point == "jdbc-seal-before" {
        fail::cfg_callback(point, || std::process::abort()).unwrap();
        process.barrier(1).await;
        return;
    }
    let committables = process.barrier(1).await;
    std::fs::write(manifest, serde_json::to_string(&committables).unwrap()).unwrap();
    fail::cfg_callback(point, || std::process::abort()).unwrap();
    process.commit(1, &committables).await;
}

#[cfg(feature = "failpoints")]
on_both! {
    async fn a_kill_at_each_step_is_made_good_by_the_next_start(base: &Base) {
        let config = base.sink(json!({ "createTable": true }));
        for (point, visible_after) in [("jdbc-seal-before", 0), ("jdbc-commit-before", 0), ("jdbc-commit-between", 0), ("jdbc-commit-after", 2)] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("manifest");
            base.sql("DROP TABLE IF EXISTS t, __karez_generations, __karez_lots, __karez_commits, __karez_refused").await;
            let status = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "mysql::failures::killed_at_a_step", "--ignored"])
                .env("KAREZ_CONFIG", config.to_string())
                .env("KAREZ_POINT", point)
                .env("KAREZ_MANIFEST", &file)
                .output()
                .unwrap()
                .status;
            assert!(!status.success(), "{point} was not reached");
            assert_eq!(base.count("t").await, visible_after, "{point}");
            let manifest: Vec<karez_core::Committable> =
                std::fs::read(&file).map_or_else(|_| Vec::new(), |text| serde_json::from_slice(&text).unwrap());
            let mut next = Process::start(&config, two_columns(), 2, 1, &manifest).await;
            if manifest.is_empty() {
                next.write(0, rows(&[(1, "a"), (2, "b")])).await;
                let sealed = next.barrier(1).await;
                next.commit(1, &sealed).await;
            }
            assert_eq!(base.rows("SELECT * FROM t ORDER BY id").await, ["1|a", "2|b"], "{point}");
            assert_eq!(base.staged().await, 0, "{point}");
        }
    }
}
