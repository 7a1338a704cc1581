//! What the layer around external calls does for a database: timeouts, retries, the breaker, the limits, and that each is counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use karez_core::metrics::NodeMetrics;
use karez_core::source::{ReadLimit, ReaderContext};
use karez_core::{Reach, Read, SourceContext, StreamSchema, SystemClock};
use karez_testkit::Database;
use serde_json::{Value, json};

use super::process::Process;
use super::reader::{plan_source, splits};
use super::{Remote, as_lines, by_id, lines, numbered, rows_schema};

/// Short, so that much happens in little time; the breaker opens with the second failure.
fn impatient(mut config: Value) -> Value {
    config["external"] = json!({
        "timeout": "300ms",
        "retry": { "attempts": 1000, "initialDelay": "10ms", "maxDelay": "50ms" },
        "circuitBreaker": { "failures": 2, "openFor": "100ms" },
    });
    config
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn nothing_is_under_way(metrics: &NodeMetrics) {
    let m = metrics.read();
    assert_eq!((m.in_flight, m.calls_waiting, m.breaker_open), (0, 0, 0), "{m:?}");
}

/// A server whose answers do not come: each attempt is given up in time, and what it may have done is not done twice.
pub async fn a_stalled_server_is_given_up_in_time_and_written_to_once<E: Remote>() {
    let end = E::fresh().await;
    let (config, proxy) = end.through(impatient(end.sink()));
    let mut process = Process::first(end.connector().as_ref(), &config, &rows_schema(), 1).await;
    let metrics = Arc::clone(&process.metrics);
    let prepared = metrics.read();
    assert!(prepared.calls >= 2, "preparing and looking at the table are calls of this node: {prepared:?}");
    for epoch in 1..=3_u64 {
        let before = metrics.read();
        process.write(0, numbered((epoch.cast_signed() - 1) * 10..epoch.cast_signed() * 10)).await.unwrap();
        proxy.hold_answers();
        let barrier = async { process.barrier(epoch).await.unwrap() };
        let outage = async {
            until("two attempts are given up", || metrics.timed_out.get() >= before.timed_out + 2).await;
            until("the breaker opens", || metrics.breaker_opened.get() > before.breaker_opened).await;
            until("it is seen to be open", || metrics.breaker_open.get() == 1).await;
            until("a call waits", || metrics.calls_waiting.get() == 1).await;
            proxy.cut();
            proxy.back();
        };
        let (manifest, ()) = tokio::join!(barrier, outage);
        assert!(metrics.retried.get() >= before.retried + 2);
        process.commit(&manifest).await.unwrap();
        nothing_is_under_way(&metrics);
    }
    assert_eq!(end.visible().await, lines(0..30));
}

/// The same for a reader that is interrupted by barriers more often than an attempt takes.
pub async fn a_stalled_server_is_given_up_though_the_reader_is_interrupted<E: Remote>() {
    for mode in [json!({}), json!({ "mode": "incrementing", "incrementingColumn": "id", "visibilityDelay": "1ms", "pollInterval": "10ms" })] {
        let end = E::fresh().await;
        end.create().await;
        let names: Vec<String> = (0..300).map(|id| format!("n{id}")).collect();
        end.insert(&(0..).zip(&names).map(|(id, name)| (id, Some(name.as_str()))).collect::<Vec<_>>()).await;
        let (mut config, proxy) = end.through(impatient(end.source()));
        config.as_object_mut().unwrap().extend(mode.as_object().unwrap().clone());
        let source = end.connector().source(SourceContext { node: "in", config: &config, schema: None, batch: false }).unwrap();
        let split = splits(source.as_ref()).await.unwrap().remove(0);
        let metrics = Arc::<NodeMetrics>::default();
        let context = ReaderContext { with_origin: false, metrics: Arc::clone(&metrics), clock: Arc::new(SystemClock) };
        let mut reader = source.open(&split, context).await.unwrap();
        proxy.hold_answers();
        let since = Instant::now();
        while metrics.timed_out.get() < 2 || metrics.retried.get() < 2 {
            assert!(since.elapsed() < Duration::from_secs(60), "no attempt is given up: {:?}", metrics.read());
            let read = tokio::time::timeout(Duration::from_millis(20), reader.next(ReadLimit { rows: 100, bytes: 1 << 20 })).await;
            assert!(read.is_err(), "{read:?}");
        }
        proxy.cut();
        proxy.back();
        let mut found = Vec::new();
        while found.len() < 300 {
            assert!(since.elapsed() < Duration::from_secs(60), "{} rows have come", found.len());
            match reader.next(ReadLimit { rows: 100, bytes: 1 << 20 }).await.unwrap() {
                Read::Rows { batch, .. } => found.extend(as_lines(&[batch])),
                Read::End => break,
                Read::Nothing | Read::Pending => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        by_id(&mut found);
        assert_eq!(found, lines(0..300), "{config}");
    }
}

/// A reader that nobody asks for more than the timeout is not the server's fault.
pub async fn rows_that_wait_to_be_taken_are_no_silence_of_the_server<E: Remote>() {
    let end = E::fresh().await;
    end.create().await;
    let name = "x".repeat(100);
    end.insert(&(0..40_000).map(|id| (id, Some(name.as_str()))).collect::<Vec<_>>()).await;
    let mut config = impatient(end.source());
    config["external"]["timeout"] = "700ms".into();
    config["fetchSize"] = 9_000.into();
    let source = plan_source(&end, &config).unwrap();
    let split = splits(source.as_ref()).await.unwrap().remove(0);
    let metrics = Arc::<NodeMetrics>::default();
    let context = ReaderContext { with_origin: false, metrics: Arc::clone(&metrics), clock: Arc::new(SystemClock) };
    let mut reader = source.open(&split, context).await.unwrap();
    let mut rows = 0;
    while let Read::Rows { batch, .. } = reader.next(ReadLimit { rows: 8_000, bytes: 8 << 20 }).await.unwrap() {
        if rows == 0 {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        rows += batch.num_rows();
    }
    let m = metrics.read();
    assert_eq!((rows, m.timed_out, m.retried), (40_000, 0, 0));
    assert!(m.calls >= 5, "each page is a call: {m:?}");
}

/// Statements that take longer than the timeout are waited for while the server is at work on them.
pub async fn a_statement_that_takes_long_is_no_silence_of_the_server<E: Remote>(database: Database) {
    let sleep = if database == Database::Postgres { "CAST(pg_sleep(2.5) AS text)" } else { "SLEEP(2.5)" };
    let end = E::fresh().await;
    let mut config = impatient(end.source());
    config.as_object_mut().unwrap().remove("table");
    config["query"] = format!("SELECT 1 AS id, {sleep} AS slept").into();
    config["external"]["timeout"] = "700ms".into();
    config["external"]["retry"] = json!({ "attempts": 1 });
    let source = end.connector().source(SourceContext { node: "in", config: &config, schema: None, batch: true }).unwrap();
    let split = splits(source.as_ref()).await.unwrap().remove(0);
    let metrics = Arc::<NodeMetrics>::default();
    let context = ReaderContext { with_origin: false, metrics: Arc::clone(&metrics), clock: Arc::new(SystemClock) };
    let mut reader = source.open(&split, context).await.unwrap();
    let Read::Rows { batch, .. } = reader.next(ReadLimit { rows: 10, bytes: 1 << 20 }).await.unwrap() else { panic!("no row") };
    assert_eq!((batch.num_rows(), metrics.timed_out.get()), (1, 0));
}

/// All subtasks together keep to the limits.
pub async fn writers_keep_to_the_limits_together<E: Remote>() {
    let end = E::fresh().await;
    let (mut config, proxy) = end.through(end.sink());
    config["external"] = json!({ "maxConcurrency": 2, "rateLimit": { "calls": 20, "per": "1s" } });
    let mut process = Process::first(end.connector().as_ref(), &config, &rows_schema(), 4).await;
    let metrics = Arc::clone(&process.metrics);
    proxy.delay(Duration::from_millis(10));
    for subtask in 0..4_usize {
        process.write(subtask, numbered(subtask as i64 * 10..(subtask as i64 + 1) * 10)).await.unwrap();
    }
    let mut most = (0, 0);
    let (calls, since) = (metrics.calls.get(), Instant::now());
    {
        let mut flushing = std::pin::pin!(process.flush_all());
        loop {
            tokio::select! {
                flushed = &mut flushing => break flushed.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(1)) => {
                    most = (most.0.max(metrics.in_flight.get()), most.1.max(metrics.calls_waiting.get()));
                }
            }
        }
    }
    assert_eq!(most.0, 2, "two calls at a time");
    assert!(most.1 >= 2, "the others wait: {most:?}");
    assert_eq!(metrics.calls.get() - calls, 4);
    assert!(metrics.throttled.get() >= 1 && since.elapsed() >= Duration::from_millis(150), "four calls, one in 50 ms");
    let manifest = process.barrier(1).await.unwrap();
    process.commit(&manifest).await.unwrap();
    assert_eq!(end.visible().await, lines(0..40));
}

/// After the last attempt the error says so, and reaches the job: nobody tries once more behind the layer's back.
pub async fn a_server_that_stays_away_fails_the_job_after_the_attempts_it_was_given<E: Remote>() {
    let end = E::fresh().await;
    let (mut config, proxy) = end.through(end.sink());
    config["external"] = json!({ "retry": { "attempts": 3, "initialDelay": "1ms", "maxDelay": "1ms" } });
    let mut process = Process::first(end.connector().as_ref(), &config, &rows_schema(), 1).await;
    process.write(0, numbered(0..10)).await.unwrap();
    let before = process.metrics.read();
    proxy.gone();
    let e = process.flush().await.unwrap_err();
    assert!(e.is_retryable() && e.reach() == Reach::Job, "the job restarts by its strategy: {e}");
    assert!(e.to_string().contains("given up after 3 attempts (`external.retry`)"), "{e}");
    let m = process.metrics.read();
    assert_eq!((m.calls - before.calls, m.retried - before.retried), (3, 2));
    nothing_is_under_way(&process.metrics);
}

/// Options that cannot be honoured are refused when the job is planned.
pub async fn what_cannot_be_honoured_is_refused<E: Remote>() {
    let end = E::fresh().await;
    let input = StreamSchema::append_only(rows_schema());
    for (key, value, expected) in [
        ("lockTimeout", json!("1s"), "`lockTimeout`: is for SQLite"),
        ("external", json!({ "retry": { "attempts": 0 } }), "`external.retry.attempts`"),
        ("external", json!({ "timeout": "0s" }), "`external.timeout`"),
        ("external", json!({ "timeOut": "1s" }), "timeOut"),
    ] {
        let mut config = end.sink();
        config[key] = value;
        let context = karez_core::SinkContext { node: "out", config: &config, input: &input, exactly_once: true };
        let e = end.connector().sink(context).err().unwrap().to_string();
        assert!(e.contains(expected), "{e}");
    }
}
