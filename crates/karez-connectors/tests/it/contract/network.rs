//! What holds of every system behind a network: outages, lost answers, slowness.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use karez_core::Error;
use karez_testkit::Proxy;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::process::{Manifest, Process};
use super::reader::{next, open, plan_source, splits};
use super::{Remote, as_lines, by_id, lines, numbered, rows, rows_schema};

/// The server is gone while rows are written, and comes back. A writer may wait for it or give up with an error that says so; then the job restarts from
/// its last checkpoint, as the engine would.
pub async fn rows_written_through_an_outage_arrive_once<E: Remote>() {
    written(&E::fresh().await).await;
}

pub async fn written<E: Remote>(end: &E) {
    let (config, proxy) = end.through(end.sink());
    written_through_outages(end, &config, || {
        proxy.gone();
        back_once_missed(&proxy)
    })
    .await;
}

/// `outage` begins one, which ends with its task.
pub async fn written_through_outages<E: Remote>(end: &E, config: &Value, outage: impl Fn() -> JoinHandle<()>) {
    let connector = end.connector();
    let mut outages = Vec::new();
    let mut last: Option<Manifest> = None;
    let mut generation = 1;
    let mut process = Process::first(connector.as_ref(), config, &rows_schema(), 1).await;
    for epoch in 1..=4_u64 {
        let range = (epoch.cast_signed() - 1) * 500..epoch.cast_signed() * 500;
        if epoch % 2 == 0 {
            outages.push(outage());
        }
        let manifest = loop {
            let attempt = async {
                process.write(0, numbered(range.clone())).await?;
                process.flush().await?;
                process.barrier(epoch).await
            };
            match attempt.await {
                Ok(manifest) => break manifest,
                Err(error) => {
                    assert!(error.is_retryable(), "an outage is not for ever: {error}");
                    generation += 1;
                    process = restart(connector.as_ref(), config, generation, last.as_ref()).await;
                }
            }
        };
        last = Some(manifest.clone());
        if epoch == 3 {
            outages.push(outage());
        }
        let since = Instant::now();
        while let Err(error) = process.commit(&manifest).await {
            assert!(error.is_retryable() && since.elapsed() < Duration::from_secs(60), "an outage is not for ever: {error}");
        }
    }
    for outage in outages {
        outage.await.unwrap();
    }
    assert_eq!(end.visible().await, lines(0..2_000));
}

/// Starts again until the server is there.
async fn restart(connector: &dyn karez_core::Connector, config: &Value, generation: u64, from: Option<&Manifest>) -> Process {
    let since = Instant::now();
    loop {
        match Process::start(connector, config, &rows_schema(), generation, 1, from).await {
            Ok(process) => return process,
            Err(error) => {
                assert!(error.is_retryable() && since.elapsed() < Duration::from_secs(60), "{error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Lets the server be gone until somebody has tried to reach it twice in vain: an outage that ends on a condition, however slow the machine is.
fn back_once_missed(proxy: &Arc<Proxy>) -> JoinHandle<()> {
    let (proxy, before) = (Arc::clone(proxy), proxy.connections());
    tokio::task::spawn_blocking(move || {
        proxy.wait(Duration::from_secs(3), |p| p.connections() >= before + 2);
        proxy.back();
    })
}

pub async fn rows_read_through_an_outage_come_once<E: Remote>() {
    read(&E::fresh().await).await;
}

pub async fn read<E: Remote>(end: &E) {
    end.create().await;
    let names: Vec<String> = (0..3_000).map(|id| format!("n{id}")).collect();
    let inserted: Vec<_> = (0..).zip(&names).map(|(id, name)| (id, Some(name.as_str()))).collect();
    end.insert(&inserted).await;
    let (config, proxy) = end.through(end.source());
    let source = plan_source(end, &config).unwrap();
    let mut found = Vec::new();
    let outages = AtomicUsize::new(0);
    for mut split in splits(source.as_ref()).await.unwrap() {
        let since = Instant::now();
        'restart: loop {
            let patience = |error: &Error| assert!(error.is_retryable() && since.elapsed() < Duration::from_secs(60), "{error}");
            let mut reader = match open(source.as_ref(), &split).await {
                Ok(reader) => reader,
                Err(error) => {
                    patience(&error);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            loop {
                match next(reader.as_mut(), 100).await {
                    Ok(Some(batch)) => {
                        found.extend(as_lines(&[batch]));
                        split.position = reader.position().unwrap();
                        if outages.load(Ordering::Relaxed) < 2 && found.len() >= 500 * (outages.load(Ordering::Relaxed) + 1) {
                            outages.fetch_add(1, Ordering::Relaxed);
                            proxy.gone();
                            back_once_missed(&proxy);
                        }
                    }
                    Ok(None) => break 'restart,
                    Err(error) => {
                        patience(&error);
                        continue 'restart;
                    }
                }
            }
        }
    }
    assert_eq!(outages.into_inner(), 2);
    by_id(&mut found);
    assert_eq!(found, lines(0..3_000));
}

/// The server commits, and its answer is lost with the connection: whoever asks again finds that it was done.
pub async fn a_commit_whose_answer_is_lost_is_made_once<E: Remote>() {
    lost_answers(&E::fresh().await).await;
}

pub async fn lost_answers<E: Remote>(end: &E) {
    let (connector, (config, proxy)) = (end.connector(), end.through(end.sink()));
    let mut process = Process::first(connector.as_ref(), &config, &rows_schema(), 1).await;
    process.write(0, numbered(0..100)).await.unwrap();
    let manifest = process.barrier(1).await.unwrap();
    // Answers are let through one by one, and each time another is the one that is lost.
    for lost in 0..6 {
        let own = Arc::clone(&proxy);
        let (sent, answered) = (proxy.to_server_bytes(), proxy.to_client_bytes());
        let cutting = tokio::task::spawn_blocking(move || {
            // So many answers pass.
            own.wait(Duration::from_secs(1), |p| p.to_client_bytes() >= answered + lost * 40);
            own.hold_answers();
            let before = own.from_server_bytes();
            own.wait(Duration::from_secs(2), |p| p.to_server_bytes() > sent);
            // Where it was the last, none comes.
            own.wait(Duration::from_millis(300), |p| p.from_server_bytes() > before);
            own.cut();
            own.back();
        });
        if let Err(error) = process.commit(&manifest).await {
            assert!(error.is_retryable(), "{error}");
        }
        cutting.await.unwrap();
    }
    process.commit(&manifest).await.unwrap();
    assert_eq!(end.visible().await, lines(0..100));
}

/// Rows that the server does not take are not gathered here without bound: the writer waits.
pub async fn a_slow_server_holds_the_writer_back<E: Remote>() {
    slow(&E::fresh().await).await;
}

pub async fn slow<E: Remote>(end: &E) {
    /// More than any buffer of a writer and its connection may hold.
    const LIMIT_BYTES: u64 = 96 << 20;
    const ROW_BYTES: usize = 8_000;
    const ROWS: i64 = 500;
    let (connector, (config, proxy)) = (end.connector(), end.through(end.sink()));
    let mut process = Process::first(connector.as_ref(), &config, &rows_schema(), 1).await;
    proxy.throttle(200_000);
    let before = proxy.to_server_bytes();
    let text = "x".repeat(ROW_BYTES);
    let given = Arc::new(AtomicUsize::new(0));
    let writing = async {
        for n in 0.. {
            let part: Vec<_> = (0..ROWS).map(|id| (n * ROWS + id, Some(text.as_str()))).collect();
            if process.write(0, rows(&part)).await.is_err() {
                break;
            }
            given.fetch_add(part.len() * ROW_BYTES, Ordering::SeqCst);
            assert!(given.load(Ordering::SeqCst) as u64 - (proxy.to_server_bytes() - before) < LIMIT_BYTES, "the writer takes whatever it is given");
        }
    };
    // Held back: within this time it has not come to the end of what nobody takes.
    let ended = tokio::time::timeout(Duration::from_secs(3), writing).await;
    assert!(ended.is_err(), "the writer has given up on a server that is slow but there");
    assert!((given.load(Ordering::SeqCst) as u64) < LIMIT_BYTES);
}
