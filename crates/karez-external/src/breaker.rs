//! A circuit breaker (Nygard, *Release It!*): a server that is down is left alone for a while, instead of being asked by every call.
//!
//! ```text
//!        `failures` in a row within `window`
//!   ┌────────┐ ─────────────────────────────► ┌──────┐
//!   │ closed │                                │ open │ ◄──────────────┐
//!   └────────┘ ◄──┐                           └──────┘                │ the probe fails
//!                 │ the probe succeeds            │ openFor has passed │
//!                 │                               ▼                   │
//!                 └─────────────────────── ┌───────────┐ ─────────────┘
//!                                          │ half-open │  one call goes through, the others are refused
//!                                          └───────────┘
//! ```
//!
//! Pure: time is an argument, so that tests need none.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::CircuitBreakerOptions;

/// The breaker of one outside system.
#[derive(Debug)]
pub struct CircuitBreaker {
    failures: usize,
    window: Duration,
    open_for: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// When the calls since the last success failed, oldest first; fewer than would open it.
    Closed(VecDeque<Duration>),
    Open {
        until: Duration,
    },
    HalfOpen {
        /// Whether the one call that may go through is under way.
        probing: bool,
    },
}

/// The breaker does not let a call through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// How long it will not, at least; zero while a probe is under way.
    pub wait: Duration,
}

/// A call was let through. Say how it ended; one that is dropped without (the call was cancelled) counts as neither.
#[derive(Debug)]
#[must_use]
pub struct Admission<'a> {
    breaker: &'a CircuitBreaker,
    probe: bool,
}

impl CircuitBreaker {
    /// A closed breaker. With zero failures it never opens.
    #[must_use]
    pub fn new(options: &CircuitBreakerOptions) -> Self {
        Self { failures: options.failures, window: options.window.0, open_for: options.open_for.0, state: Mutex::new(State::Closed(VecDeque::new())) }
    }

    /// Asks to make a call.
    pub fn admit(&self, now: Duration) -> Result<Admission<'_>, Refused> {
        let mut state = self.lock();
        match &mut *state {
            State::Closed(_) => Ok(Admission { breaker: self, probe: false }),
            State::Open { until } if now < *until => Err(Refused { wait: *until - now }),
            State::HalfOpen { probing: true } => Err(Refused { wait: Duration::ZERO }),
            State::Open { .. } | State::HalfOpen { probing: false } => {
                *state = State::HalfOpen { probing: true };
                Ok(Admission { breaker: self, probe: true })
            }
        }
    }

    /// How long it lets nothing through, at least.
    #[must_use]
    pub fn refuses_for(&self, now: Duration) -> Duration {
        match &*self.lock() {
            State::Open { until } => until.saturating_sub(now),
            State::Closed(_) | State::HalfOpen { .. } => Duration::ZERO,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this failure opened it.
    fn failed(&self, now: Duration, probe: bool) -> bool {
        let mut state = self.lock();
        let opens = match &mut *state {
            State::Closed(failures) if self.failures > 0 => {
                while failures.front().is_some_and(|at| *at + self.window < now) {
                    failures.pop_front();
                }
                failures.push_back(now);
                failures.len() >= self.failures
            }
            State::HalfOpen { .. } => probe,
            // A call let through before it opened: it is open already.
            State::Closed(_) | State::Open { .. } => false,
        };
        if opens {
            *state = State::Open { until: now + self.open_for };
        }
        opens
    }

    /// Whether that closed it.
    fn succeeded(&self, probe: bool) -> bool {
        let mut state = self.lock();
        match &mut *state {
            State::Closed(failures) => failures.clear(),
            State::HalfOpen { .. } if probe => {
                *state = State::Closed(VecDeque::new());
                return true;
            }
            State::HalfOpen { .. } | State::Open { .. } => {}
        }
        false
    }
}

impl Admission<'_> {
    /// The server answered, be it with an error of the caller's making. Answers whether that closed the breaker.
    pub fn succeeded(mut self) -> bool {
        self.breaker.succeeded(std::mem::take(&mut self.probe))
    }

    /// The server is away. Answers whether that opened the breaker.
    pub fn failed(mut self, now: Duration) -> bool {
        self.breaker.failed(now, std::mem::take(&mut self.probe))
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.probe
            && let State::HalfOpen { probing } = &mut *self.breaker.lock()
        {
            *probing = false;
        }
    }
}
