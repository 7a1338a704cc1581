//! How many calls at once, and how many in a time.

use std::sync::Arc;
use std::time::Duration;

use karez_core::config::Span;
use karez_core::metrics::NodeMetrics;
use karez_external::{ExternalCalls, ExternalOptions, RateLimitOptions, Time};
use tokio::sync::{mpsc, oneshot};

use crate::stepped_time::SteppedTime;

fn calls(options: &ExternalOptions) -> (ExternalCalls, Arc<SteppedTime>, Arc<NodeMetrics>) {
    let (time, metrics) = (SteppedTime::new(), Arc::new(NodeMetrics::default()));
    let calls = ExternalCalls::with_time("the test server", options, Arc::clone(&time) as _).counted_by(Arc::clone(&metrics));
    (calls, time, metrics)
}

#[tokio::test]
async fn no_more_calls_are_under_way_than_allowed() {
    let (calls, _, metrics) = calls(&ExternalOptions { max_concurrency: 2, ..ExternalOptions::default() });
    let (begun, mut begins) = mpsc::unbounded_channel();
    let mut ends = Vec::new();
    let mut running = Vec::new();
    for n in 0..3 {
        let (end, ended) = oneshot::channel::<()>();
        ends.push(Some(end));
        let (calls, begun) = (calls.clone(), begun.clone());
        running.push(tokio::spawn(async move {
            calls
                .once("asking", async move {
                    begun.send(n).unwrap();
                    ended.await.unwrap();
                    Ok(())
                })
                .await
        }));
    }
    let first = begins.recv().await.unwrap();
    begins.recv().await.unwrap();
    assert_eq!(metrics.read().in_flight, 2);
    assert!(begins.try_recv().is_err(), "the third waits");
    ends[first].take().unwrap().send(()).unwrap();
    let third = begins.recv().await.unwrap();
    for end in ends.into_iter().flatten() {
        end.send(()).unwrap();
    }
    for call in running {
        call.await.unwrap().unwrap();
    }
    assert_eq!(third, 2, "places are given in the order of asking");
    assert_eq!(metrics.read().in_flight, 0);
}

#[tokio::test]
async fn a_call_that_is_dropped_gives_its_place_back() {
    let (calls, ..) = calls(&ExternalOptions { max_concurrency: 1, ..ExternalOptions::default() });
    let mut dropped = Box::pin(calls.once("asking", std::future::pending::<karez_core::Result<()>>()));
    assert!(futures::poll!(&mut dropped).is_pending());
    let mut waiting = Box::pin(calls.once("asking", std::future::ready(Ok(1))));
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(dropped);
    assert_eq!(waiting.await.unwrap(), 1);
}

#[tokio::test]
async fn calls_begin_no_faster_than_the_rate() {
    let rate = RateLimitOptions { calls: 10, per: Span::millis(1000), burst: Some(2) };
    let (calls, time, metrics) = calls(&ExternalOptions { rate_limit: Some(rate), ..ExternalOptions::default() });
    let made = tokio::spawn({
        let time = Arc::clone(&time);
        async move {
            let mut at = Vec::new();
            for _ in 0..4 {
                let call = async {
                    at.push(time.now().as_millis());
                    Ok(())
                };
                calls.once("asking", call).await.unwrap();
            }
            at
        }
    });
    for _ in 0..2 {
        time.pass(|d| d <= Duration::from_millis(100)).await;
    }
    assert_eq!(made.await.unwrap(), [0, 0, 100, 200], "two at once, then one each tenth of a second");
    assert_eq!(metrics.read().throttled, 2);
}
