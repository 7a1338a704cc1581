//! The circuit breaker as a machine of states.

use std::time::Duration;

use karez_core::config::Span;
use karez_external::{CircuitBreaker, CircuitBreakerOptions, Refused};

const SECOND: Duration = Duration::from_secs(1);

fn breaker(failures: usize) -> CircuitBreaker {
    CircuitBreaker::new(&CircuitBreakerOptions { failures, window: Span(10 * SECOND), open_for: Span(5 * SECOND) })
}

fn fail(breaker: &CircuitBreaker, at: Duration) -> bool {
    breaker.admit(at).expect("closed").failed(at)
}

#[test]
fn failures_in_a_row_open_it_for_a_while() {
    let breaker = breaker(3);
    assert!(!fail(&breaker, SECOND));
    assert!(!fail(&breaker, 2 * SECOND));
    assert!(fail(&breaker, 3 * SECOND), "the third opens it");
    assert_eq!(breaker.admit(4 * SECOND).unwrap_err(), Refused { wait: 4 * SECOND });
}

#[test]
fn a_success_between_them_keeps_it_closed() {
    let breaker = breaker(2);
    assert!(!fail(&breaker, SECOND));
    breaker.admit(SECOND).unwrap().succeeded();
    assert!(!fail(&breaker, SECOND));
}

#[test]
fn failures_further_apart_than_the_window_keep_it_closed() {
    let breaker = breaker(2);
    assert!(!fail(&breaker, SECOND));
    assert!(!fail(&breaker, 12 * SECOND));
    assert!(fail(&breaker, 13 * SECOND));
}

#[test]
fn after_its_time_one_call_goes_through_and_its_success_closes_it() {
    let breaker = breaker(1);
    assert!(fail(&breaker, SECOND));
    let probe = breaker.admit(6 * SECOND).unwrap();
    assert_eq!(breaker.admit(6 * SECOND).unwrap_err(), Refused { wait: Duration::ZERO }, "one at a time");
    probe.succeeded();
    breaker.admit(6 * SECOND).unwrap().succeeded();
}

#[test]
fn a_probe_that_fails_opens_it_again() {
    let breaker = breaker(3);
    (0..3).for_each(|_| _ = fail(&breaker, SECOND));
    assert!(breaker.admit(6 * SECOND).unwrap().failed(7 * SECOND), "one failure is enough now");
    assert_eq!(breaker.admit(8 * SECOND).unwrap_err(), Refused { wait: 4 * SECOND });
}

#[test]
fn a_probe_that_is_cancelled_makes_room_for_another() {
    let breaker = breaker(1);
    assert!(fail(&breaker, SECOND));
    drop(breaker.admit(6 * SECOND).unwrap());
    breaker.admit(6 * SECOND).unwrap().succeeded();
    breaker.admit(6 * SECOND).unwrap().succeeded();
}

#[test]
fn the_end_of_a_call_from_before_it_opened_changes_nothing() {
    let breaker = breaker(1);
    let (early, late) = (breaker.admit(SECOND).unwrap(), breaker.admit(SECOND).unwrap());
    assert!(fail(&breaker, SECOND));
    early.succeeded();
    assert!(!late.failed(2 * SECOND));
    assert_eq!(breaker.admit(2 * SECOND).unwrap_err(), Refused { wait: 4 * SECOND });
}

#[test]
fn zero_failures_mean_that_it_never_opens() {
    let breaker = breaker(0);
    assert!((0..100).all(|_| !fail(&breaker, SECOND)));
}
