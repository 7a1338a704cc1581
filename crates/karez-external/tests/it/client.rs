//! Clients that retry by themselves.

use std::sync::Arc;
use std::time::Duration;

use karez_core::config::Span;
use karez_core::metrics::NodeMetrics;
use karez_external::{ClientFigures, ClientMeter, ClientOptions, RetryOptions};

#[test]
fn what_a_client_counts_is_added_to_the_node_once() {
    let metrics = Arc::new(NodeMetrics::default());
    let (one, other) = (ClientMeter::new(Arc::clone(&metrics)), ClientMeter::new(Arc::clone(&metrics)));
    one.report(ClientFigures { retried: 3, timed_out: 1, throttled: 0 });
    one.report(ClientFigures { retried: 5, timed_out: 1, throttled: 2 });
    other.report(ClientFigures { retried: 1, timed_out: 0, throttled: 0 });
    let seen = metrics.read();
    assert_eq!((seen.retried, seen.timed_out, seen.throttled), (6, 1, 2));
}

#[test]
fn what_is_seen_of_a_client_request_by_request_is_counted_as_it_happens() {
    let metrics = Arc::new(NodeMetrics::default());
    let meter = ClientMeter::new(Arc::clone(&metrics));
    let call = meter.begin();
    assert_eq!((metrics.read().calls, metrics.read().in_flight), (1, 1));
    meter.not_in_time();
    drop(call);
    meter.again();
    let _second = meter.begin();
    meter.held_back();
    let seen = metrics.read();
    assert_eq!((seen.calls, seen.retried, seen.timed_out, seen.throttled, seen.in_flight), (2, 1, 1, 1, 1));
}

#[test]
fn a_client_with_one_limit_for_all_attempts_is_given_their_sum() {
    let retry = RetryOptions { attempts: 4, initial_delay: Span::millis(100), max_delay: Span::millis(200), jitter: false };
    let options = ClientOptions { timeout: Span::millis(1000), retry };
    assert_eq!(options.total(), Duration::from_millis(4 * 1000 + 100 + 200 + 200));
}
