//! A network and a server that fail.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use karez_core::{Epoch, StreamSchema};
use karez_testkit::{OwnServer, Proxy, Server};

use super::tls::address;
use super::*;

/// A proxy in front of the shared server, and the URL through it, without encryption, so that small answers are small.
fn proxied(db: &Db) -> (Proxy, String) {
    let proxy = Proxy::to(address(&db.url));
    let url = format!("{}&sslmode=disable", proxy.url(&db.url));
    (proxy, url)
}

/// Waits until a condition holds in the database.
async fn until(db: &Db, sql: &str, expected: &str) {
    for _ in 0..20_000 {
        if db.rows(sql).await == [expected] {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{sql} never gave {expected}: {:?}", db.rows(sql).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_the_commit_is_settled_by_the_marker() {
    let db = Db::with("CREATE TABLE t (id bigint, name text)").await;
    let (proxy, url) = proxied(&db);
    let config = json!({ "url": url, "table": "t" });
    let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
    process.write(0, rows(&[(1, "a"), (2, "b")])).await;
    let manifest = process.barrier(1).await;
    // Answers are kept back from the moment at which the transaction waits for a lock of ours: its last statements and COMMIT go out one by one, so the
    // table is locked for reading until the proxy holds.
    let lock = db.another().await;
    lock.batch_execute("BEGIN; LOCK TABLE t IN SHARE MODE").await.unwrap();
    let sink = Arc::clone(&process.sink);
    let (run, committables) = (process.run.clone(), manifest.clone());
    let commit = tokio::spawn(async move { super::super::jdbc::commit(sink.as_ref(), &run, Epoch(1), &committables).await });
    until(&db, "SELECT count(*) > 0 FROM pg_locks WHERE relation = 't'::regclass AND NOT granted", "t").await;
    proxy.hold_answers();
    lock.batch_execute("COMMIT").await.unwrap();
    // The insert is done and its answer held: the connection goes, and the transaction with it.
    let done = format!("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO \"{}\"%' AND state = 'idle in transaction'", db.schema);
    until(&db, &done, "1").await;
    proxy.cut();
    proxy.back();
    assert_eq!(outcomes(&commit.await.unwrap()), ["committed"]);
    assert_eq!(outcomes(&process.commit(1, &manifest).await), ["already"]);
    assert_eq!(db.count("t").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_the_connection_breaks_during_staging_and_commit_rows_are_there_once() {
    let db = Db::with("CREATE TABLE t (id bigint, name text)").await;
    let (proxy, url) = proxied(&db);
    let config = json!({ "url": url, "table": "t", "batchSize": 3, "external": { "retry": { "initialDelay": "1ms" } } });
    let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
    let mut written = 0_i64;
    // Each round the connection is cut a few bytes of traffic later than in the last.
    for round in 1..=80_u64 {
        let (start, cut) = (proxy.to_server_bytes() + proxy.to_client_bytes(), AtomicUsize::new(0));
        let breaking = async {
            while proxy.to_server_bytes() + proxy.to_client_bytes() < start + round * 250 {
                if cut.load(Ordering::SeqCst) == 2 {
                    return;
                }
                tokio::task::yield_now().await;
            }
            proxy.cut();
        };
        let working = async {
            let batch: Vec<(i64, &str)> = (0..10).map(|i| (written + i, "x")).collect();
            process.write(0, rows(&batch)).await;
            let committables = process.barrier(round).await;
            assert!(matches!(outcomes(&process.commit(round, &committables).await)[0], "committed" | "already"));
            cut.store(2, Ordering::SeqCst);
        };
        tokio::join!(breaking, working);
        written += 10;
        assert_eq!(db.rows("SELECT count(*), count(DISTINCT id) FROM t").await, [format!("{written}|{written}")], "round {round}");
    }
    assert!(process.rejects.is_empty() && process.writers[0].take_rejects().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_goes_on_after_the_connection_was_cut() {
    let db =
        Db::with("CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i").await;
    let (proxy, url) = proxied(&db);
    let source = try_source(&json!({ "url": url, "table": "t" }), None).unwrap();
    let metrics = Arc::<karez_core::metrics::NodeMetrics>::default();
    let context = ReaderContext { with_origin: false, metrics: Arc::clone(&metrics), clock: Arc::new(ManualClock::new(1_000)) };
    let mut reader = source.open(&Split { id: "0".into(), position: Value::Null }, context).await.unwrap();
    let (mut ids, mut cut_at) = (Vec::new(), 3_000);
    loop {
        match reader.next(ReadLimit { rows: 1_000, bytes: 1 << 20 }).await {
            Ok(Read::Rows { batch, .. }) => {
                ids.extend(column(&[batch], "id"));
                if ids.len() >= cut_at {
                    proxy.cut();
                    cut_at += 3_000;
                }
            }
            Ok(Read::End) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(metrics.retried.get() > 0);
    assert_eq!(ids, (1..=20_000).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_not_asked_does_not_read_ahead_without_end() {
    let db =
        Db::with("CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat(md5(i::text), 40) FROM generate_series(1, 60000) i")
            .await;
    let (proxy, url) = proxied(&db);
    let source = try_source(&json!({ "url": url, "query": "SELECT id, v FROM t" }), None).unwrap();
    let mut reader = open(source.as_ref(), Value::Null).await;
    let before = proxy.to_client_bytes();
    reader.next(ReadLimit { rows: 1, bytes: 1 }).await.unwrap();
    // The whole is 78 MB; what is under way are a few chunks of 1 MiB and the buffers of the network.
    let mut last = 0;
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        last = proxy.to_client_bytes() - before;
    }
    assert!(last < 24 << 20, "{last} bytes have been read ahead");
    let (batches, _, _) = drain(reader.as_mut(), 8_192).await;
    assert_eq!(batches.iter().map(arrow::record_batch::RecordBatch::num_rows).sum::<usize>(), 59_999);
}

#[tokio::test(flavor = "multi_thread")]
async fn own_server_killed_between_the_steps_keeps_what_was_sealed() {
    let mut server = OwnServer::start(Server::Postgres).unwrap();
    let db = Db::at(server.address()).await;
    db.run("CREATE TABLE t (id bigint PRIMARY KEY, name text)").await;
    let config = json!({ "url": db.url, "table": "t", "batchSize": 2 });
    let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
    process.write(0, rows(&[(1, "a"), (2, "b"), (3, "c")])).await;
    let manifest = process.barrier(1).await;
    // What was staged and not sealed may go; the writer still has it.
    process.write(0, rows(&[(4, "d")])).await;
    server.crash().unwrap();
    // While it is away, both wait for it.
    let (sink, run, first) = (Arc::clone(&process.sink), process.run.clone(), manifest.clone());
    let commit = tokio::spawn(async move { super::super::jdbc::commit(sink.as_ref(), &run, Epoch(1), &first).await });
    let flush = tokio::spawn(async move {
        process.writers[0].flush().await.unwrap();
        process
    });
    let mut server = tokio::task::spawn_blocking(move || {
        server.up().unwrap();
        server
    })
    .await
    .unwrap();
    let mut process = flush.await.unwrap();
    assert_eq!(outcomes(&commit.await.unwrap()), ["committed"]);
    let manifest = process.barrier(2).await;
    assert_eq!(outcomes(&process.commit(2, &manifest).await), ["committed"]);
    server.crash().unwrap();
    server.up().unwrap();
    // Committed stays committed, and a repeated commit knows it.
    assert_eq!(outcomes(&process.commit(2, &manifest).await), ["already"]);
    let client = connect(server.address()).await;
    let ids = client.query(&format!("SELECT id FROM {}.t ORDER BY id", db.schema), &[]).await.unwrap();
    assert_eq!(ids.iter().map(|r| r.get::<_, i64>(0)).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn own_server_that_forgets_staged_rows_in_a_crash_fails_the_job() {
    // Transactions before the seal are on disk within 30 s.
    let mut server = OwnServer::start_with(Server::Postgres, &[("POSTGRES_EXTRA", "wal_writer_delay = 10s")]).unwrap();
    let db = Db::at(server.address()).await;
    db.run("CREATE TABLE t (id bigint PRIMARY KEY, name text)").await;
    let config = json!({ "url": db.url, "table": "t", "batchSize": 2 });
    let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
    for id in [1, 3, 5] {
        process.write(0, rows(&[(id, "a"), (id + 1, "b")])).await;
    }
    process.writers[0].flush().await.unwrap();
    server.crash().unwrap();
    server.up().unwrap();
    let client = connect(server.address()).await;
    client.batch_execute(&format!("SET search_path = {}", db.schema)).await.unwrap();
    let count = async |table: &str| client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get::<_, i64>(0);
    let stage = client.query_one("SELECT stage FROM __karez_lots", &[]).await.unwrap().get::<_, String>(0);
    let survived = count(&stage).await;
    process.write(0, rows(&[(7, "a")])).await;
    let sealed = loop {
        match process.writers[0].prepare_commit(Epoch(1), false).await {
            Err(e) if e.reach() == karez_core::Reach::Connection => {}
            other => break other,
        }
    };
    if survived == 6 {
        assert!(sealed.is_ok(), "{sealed:?}");
        return;
    }
    let error = sealed.err().unwrap();
    assert!(error.message().contains(&format!("of 7 rows staged for `t` {} are there", survived + 1)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_with_another_program_is_tried_again() {
    let db = Db::with("CREATE TABLE t (id bigint PRIMARY KEY, name text); INSERT INTO t VALUES (1, 'one'), (2, 'two')").await;
    let input = StreamSchema::append_only(two_columns());
    let sink = try_sink(&db.config(json!({ "table": "t", "key": ["id"], "guarantee": "at-least-once" })), &input).unwrap();
    let metrics = Arc::<karez_core::metrics::NodeMetrics>::default();
    let context = karez_core::sink::WriterContext {
        run: super::super::jdbc::run(1),
        subtask: 0,
        parallelism: 1,
        schema: input,
        metrics: Arc::clone(&metrics),
        clock: Arc::new(ManualClock::new(1_000)),
    };
    let mut writer = sink.writer(context, Vec::new()).await.unwrap();
    let other = db.another().await;
    // The other holds 2 and wants 1; the sink holds 1 and wants 2. The sink's wait is the one that finds the deadlock.
    other.batch_execute("SET deadlock_timeout = '60s'; BEGIN; UPDATE t SET name = 'other' WHERE id = 2").await.unwrap();
    writer.write(rows(&[(1, "sink"), (2, "sink")])).await.unwrap();
    let flushing = tokio::spawn(async move {
        writer.flush().await.unwrap();
        writer
    });
    until(&db, "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.query LIKE '%__karez_rows%' AND l.locktype = 'transactionid'", "t").await;
    other.batch_execute("UPDATE t SET name = 'other' WHERE id = 1; COMMIT").await.unwrap();
    let mut writer = flushing.await.unwrap();
    assert!(writer.take_rejects().is_empty());
    assert_eq!(db.rows("SELECT name FROM t ORDER BY id").await, ["sink", "sink"]);
    assert!(metrics.retried.get() >= 1);
}

/// A user's error would end the job for good; the next try may find the table free.
#[tokio::test]
async fn a_statement_that_took_too_long_restarts_the_job() {
    let db = Db::with("CREATE TABLE t (id bigint PRIMARY KEY, name text)").await;
    let config = db.config(json!({ "table": "t", "key": ["id"], "guarantee": "at-least-once", "statementTimeout": "1s" }));
    let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
    let lock = db.another().await;
    lock.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    process.writers[0].write(rows(&[(1, "a")])).await.unwrap();
    let error = process.writers[0].flush().await.err().unwrap();
    assert!(error.whose() == karez_core::Whose::External && error.message().contains("raise `statementTimeout`"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_of_the_connection() {
    let input = StreamSchema::append_only(two_columns());
    let sink = try_sink(&json!({ "url": "postgres://karez@127.0.0.1:1/none", "table": "t" }), &input).unwrap();
    let error = sink.check().await.err().unwrap();
    assert!(
        error.reach() == karez_core::Reach::Connection && error.message().contains("cannot connect to `postgresql://127.0.0.1:1/none`"),
        "{error}"
    );
}

/// As `tls` and `statementTimeout` do; MySQL and MariaDB alike.
#[tokio::test]
async fn the_option_connect_timeout_comes_before_what_the_url_says() {
    // Connections come about here, and nobody answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let input = StreamSchema::append_only(two_columns());
    for (url, in_url) in [(format!("postgres://karez@{address}/shop"), "1"), (format!("mysql://karez@{address}/shop"), "1000")] {
        let said = async |more: Value| {
            let mut config = json!({ "url": format!("{url}?connectTimeout={in_url}"), "table": "t" });
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            try_sink(&config, &input).unwrap().check().await.unwrap_err().to_string()
        };
        let error = said(json!({ "connectTimeout": "70ms" })).await;
        assert!(error.contains("70ms"), "{error}");
        let error = said(json!({})).await;
        assert!(error.contains("1s"), "{error}");
    }
}
