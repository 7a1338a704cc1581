//! Retries, timeouts and the breaker around a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use karez_core::config::Span;
use karez_core::metrics::NodeMetrics;
use karez_core::{Error, Reach, Result};
use karez_external::{CircuitBreakerOptions, ExternalCalls, ExternalOptions, RetryOptions};

use crate::stepped_time::SteppedTime;

struct Kit {
    calls: ExternalCalls,
    time: Arc<SteppedTime>,
    metrics: Arc<NodeMetrics>,
    made: Arc<AtomicUsize>,
}

/// No breaker, no jitter, attempts as given, an hour's timeout so that the only sleeps to step are delays.
fn options(attempts: usize) -> ExternalOptions {
    ExternalOptions {
        timeout: Span(Duration::from_secs(3600)),
        retry: RetryOptions { attempts, initial_delay: Span::millis(100), max_delay: Span::millis(300), jitter: false },
        circuit_breaker: CircuitBreakerOptions { failures: 0, ..CircuitBreakerOptions::default() },
        ..ExternalOptions::default()
    }
}

fn kit(options: &ExternalOptions) -> Kit {
    let time = SteppedTime::new();
    let metrics = Arc::new(NodeMetrics::default());
    let calls = ExternalCalls::with_time("the test server", options, Arc::clone(&time) as _).counted_by(Arc::clone(&metrics));
    Kit { calls, time, metrics, made: Arc::default() }
}

impl Kit {
    /// A call that answers `answers(n)` the n-th time it is made, from 1.
    fn start(&self, answers: impl Fn(usize) -> Result<usize> + Send + Sync + 'static) -> tokio::task::JoinHandle<Result<usize>> {
        let (calls, made) = (self.calls.clone(), Arc::clone(&self.made));
        tokio::spawn(async move { calls.call("asking", || std::future::ready(answers(made.fetch_add(1, SeqCst) + 1))).await })
    }
}

/// Milliseconds: delays are doubled in floating point.
fn rounded(d: Duration) -> u64 {
    (d.as_secs_f64() * 1000.0).round() as u64
}

fn delays(d: Duration) -> bool {
    d < Duration::from_secs(600)
}

#[tokio::test]
async fn a_server_that_comes_back_is_asked_again_after_growing_delays() {
    let kit = kit(&options(10));
    let call = kit.start(|n| if n < 5 { Err(Error::connection("refused")) } else { Ok(n) });
    let mut waited = Vec::new();
    for _ in 0..4 {
        waited.push(rounded(kit.time.pass(delays).await));
    }
    assert_eq!(call.await.unwrap().unwrap(), 5);
    assert_eq!(waited, [100, 200, 300, 300]);
    assert_eq!(kit.metrics.read().retried, 4);
    assert_eq!(kit.metrics.read().in_flight, 0);
}

#[tokio::test]
async fn jitter_adds_up_to_as_much_again() {
    let mut options = options(40);
    options.retry.jitter = true;
    options.retry.max_delay = options.retry.initial_delay;
    let kit = kit(&options);
    let call = kit.start(|n| if n < 40 { Err(Error::connection("refused")) } else { Ok(n) });
    let mut waited = Vec::new();
    for _ in 0..39 {
        waited.push(kit.time.pass(delays).await);
    }
    call.await.unwrap().unwrap();
    assert!(waited.iter().all(|d| (100..=200).contains(&d.as_millis())), "{waited:?}");
    assert!(waited.iter().any(|d| *d != waited[0]));
}

#[tokio::test]
async fn what_trying_again_does_not_help_is_answered_at_once() {
    for error in [Error::user("no such table"), Error::external("wrong password"), Error::record("not a number"), Error::user("?").retryable(true)] {
        let text = error.to_string();
        let kit = kit(&options(10));
        let error = std::sync::Mutex::new(Some(error));
        let call = kit.start(move |_| Err(error.lock().unwrap().take().expect("asked once")));
        assert_eq!(call.await.unwrap().unwrap_err().to_string(), text);
        assert_eq!(kit.metrics.read().retried, 0);
    }
}

#[tokio::test]
async fn after_the_last_attempt_the_error_says_how_many_there_were_and_what_the_server_said() {
    let kit = kit(&options(2));
    let call = kit.start(|_| Err(Error::connection("connection refused")));
    kit.time.pass(delays).await;
    let e = call.await.unwrap().unwrap_err();
    assert_eq!(e.to_string(), "the test server: given up after 2 attempts (`external.retry`): connection refused");
    assert!(e.is_retryable() && e.reach() == Reach::Job, "the job restarts by its strategy");
    let kit = self::kit(&options(1));
    let e = kit.start(|_| Err(Error::connection("connection refused"))).await.unwrap().unwrap_err();
    assert!(e.is_retryable() && e.reach() == Reach::Job && e.to_string() == "connection refused", "{e}");
}

#[tokio::test]
async fn a_call_without_an_answer_is_given_up_and_made_again() {
    let kit = kit(&options(2));
    let (calls, made) = (kit.calls.clone(), Arc::clone(&kit.made));
    let call = tokio::spawn(async move {
        calls
            .call("asking", || {
                let first = made.fetch_add(1, SeqCst) == 0;
                async move {
                    if first {
                        std::future::pending::<()>().await;
                    }
                    Ok(7)
                }
            })
            .await
    });
    kit.time.pass(|d| d == Duration::from_secs(3600)).await;
    kit.time.pass(delays).await;
    assert_eq!(call.await.unwrap().unwrap(), 7);
    assert_eq!((kit.metrics.read().timed_out, kit.metrics.read().retried), (1, 1));
}

#[tokio::test]
async fn a_call_that_must_not_be_repeated_is_made_once() {
    let kit = kit(&options(10));
    let calls = kit.calls.clone();
    let call = tokio::spawn(async move { calls.once("committing", std::future::pending::<Result<()>>()).await });
    kit.time.pass(|_| true).await;
    let e = call.await.unwrap().unwrap_err();
    assert_eq!(e.to_string(), "the test server: committing: no answer within 1h (`external.timeout`)");
    assert_eq!(kit.metrics.read().retried, 0);
}

#[tokio::test]
async fn an_open_breaker_is_waited_for_instead_of_asking_the_server() {
    let mut options = options(10);
    options.circuit_breaker = CircuitBreakerOptions { failures: 2, window: Span::millis(10_000), open_for: Span::millis(5_000) };
    let kit = kit(&options);
    let call = kit.start(|n| if n < 3 { Err(Error::connection("refused")) } else { Ok(n) });
    assert_eq!(kit.time.pass(delays).await.as_millis(), 100);
    // It opened with the second failure: the third attempt is made when it has been open for 5 s, not 200 ms later.
    kit.time
        .pass(|d| {
            let is_due = rounded(d) == 5_000;
            assert!(!is_due || (kit.metrics.read().breaker_open, kit.metrics.read().calls_waiting) == (1, 1));
            is_due
        })
        .await;
    assert_eq!(call.await.unwrap().unwrap(), 3);
    let metrics = kit.metrics.read();
    assert_eq!((metrics.breaker_opened, metrics.breaker_open, metrics.calls, metrics.calls_waiting), (1, 0, 3, 0));
}

#[tokio::test]
async fn an_open_breaker_holds_for_all_clones() {
    let mut options = options(1);
    options.circuit_breaker.failures = 1;
    let kit = kit(&options);
    kit.start(|_| Err(Error::connection("refused"))).await.unwrap().unwrap_err();
    let e = kit.start(Ok).await.unwrap().unwrap_err();
    assert_eq!(e.to_string(), "the test server: asking: not tried, since the calls before failed (the circuit breaker is open)");
    assert_eq!(kit.made.load(SeqCst), 1);
}

#[tokio::test]
async fn others_in_the_way_are_waited_for_and_do_not_open_the_breaker() {
    let mut options = options(10);
    options.circuit_breaker = CircuitBreakerOptions { failures: 2, ..CircuitBreakerOptions::default() };
    let kit = kit(&options);
    let call = kit.start(|n| if n < 4 { Err(Error::external("deadlock").retryable(true)) } else { Ok(n) });
    for expected in [100, 200, 300] {
        assert_eq!(rounded(kit.time.pass(delays).await), expected);
    }
    assert_eq!(call.await.unwrap().unwrap(), 4);
    assert_eq!((kit.metrics.read().retried, kit.metrics.read().breaker_opened), (3, 0));
}

#[tokio::test]
async fn a_call_that_takes_long_is_waited_for_while_the_server_says_that_it_is_at_work() {
    let kit = kit(&options(1));
    let (calls, asked) = (kit.calls.clone(), Arc::new(AtomicUsize::new(0)));
    let own = Arc::clone(&asked);
    let call = tokio::spawn(async move {
        calls.once_while("sorting", std::future::pending::<Result<()>>(), || std::future::ready(own.fetch_add(1, SeqCst) < 2)).await
    });
    for _ in 0..3 {
        kit.time.pass(|d| d == Duration::from_secs(3600)).await;
    }
    let e = call.await.unwrap().unwrap_err();
    assert_eq!(e.to_string(), "the test server: sorting: no answer within 1h (`external.timeout`)");
    assert_eq!((asked.load(SeqCst), kit.metrics.read().timed_out), (3, 1));
}

#[tokio::test]
async fn a_server_that_does_not_say_whether_it_is_at_work_is_away() {
    let kit = kit(&options(1));
    let calls = kit.calls.clone();
    let call = tokio::spawn(async move { calls.once_while("sorting", std::future::pending::<Result<()>>(), std::future::pending::<bool>).await });
    for _ in 0..2 {
        kit.time.pass(|d| d == Duration::from_secs(3600)).await;
    }
    assert!(call.await.unwrap().unwrap_err().is_retryable());
    assert_eq!(kit.metrics.read().timed_out, 1);
}

#[tokio::test]
async fn a_wait_that_is_interrupted_goes_on_where_it_was_and_attempts_are_counted_over_interruptions() {
    let kit = kit(&options(3));
    let mut retry = kit.calls.retry("reading");
    retry.wait().await;
    for expected in [100, 200] {
        retry.failed(Error::connection("lost")).unwrap();
        for _ in 0..3 {
            assert!(futures::poll!(std::pin::pin!(retry.wait())).is_pending());
            kit.time.advance(Duration::from_millis(expected / 4));
        }
        assert_eq!(kit.metrics.read().calls_waiting, 1);
        let (wait, pass) = (retry.wait(), kit.time.pass(delays));
        assert_eq!(rounded(tokio::join!(wait, pass).1), expected / 4);
    }
    let e = retry.failed(Error::connection("lost")).unwrap_err();
    assert_eq!(e.to_string(), "the test server: given up after 3 attempts (`external.retry`): lost");
    assert_eq!(kit.metrics.read().calls_waiting, 0);
    retry.succeeded();
    retry.failed(Error::connection("lost")).unwrap();
}

#[tokio::test]
async fn what_was_counted_before_the_node_was_known_is_carried_over() {
    let calls = ExternalCalls::with_time("the test server", &options(1), SteppedTime::new());
    calls.once("asking", std::future::ready(Ok(()))).await.unwrap();
    let metrics = Arc::new(NodeMetrics::default());
    let known = calls.counted_by(Arc::clone(&metrics));
    let _ = calls.counted_by(Arc::clone(&metrics));
    for calls in [calls, known] {
        calls.once("asking", std::future::ready(Ok(()))).await.unwrap();
    }
    assert_eq!(metrics.read().calls, 3);
}
