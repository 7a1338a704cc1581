//! The options of the layer: `external: { … }` in everything that calls out.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use karez_core::config::{ConfigError, Span};
use karez_core::{Error, Reach};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the outside is called: what is waited for, tried again and held back.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalOptions {
    /// How long one attempt may take. Default: 30s.
    pub timeout: Span,
    /// How a call is tried again while the server is away.
    pub retry: RetryOptions,
    /// The most calls in a time. Default: no limit.
    pub rate_limit: Option<RateLimitOptions>,
    /// When a server that keeps failing is left alone for a while.
    pub circuit_breaker: CircuitBreakerOptions,
    /// The most calls under way at the same time, all subtasks of the node together. Default: 16.
    pub max_concurrency: usize,
}

impl Default for ExternalOptions {
    fn default() -> Self {
        Self {
            timeout: Span::millis(30_000),
            retry: RetryOptions::default(),
            rate_limit: None,
            circuit_breaker: CircuitBreakerOptions::default(),
            max_concurrency: 16,
        }
    }
}

/// How a call is tried again. Only what may pass is: a connection refused or lost, a server that is overloaded, no answer in time. What the user must
/// change is not.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryOptions {
    /// How often a call is made at most, the first time included; then the job fails, and restarts by its strategy. 1: no retries.
    /// Default: 12, which with the other defaults is a minute or two.
    pub attempts: usize,
    /// The delay before the second attempt; it doubles with each further one. Default: 100ms.
    pub initial_delay: Span,
    /// The longest delay, without jitter. Default: 10s.
    pub max_delay: Span,
    /// Add up to as much again to each delay, at random, so that many callers do not come back at the same instant. Default: true.
    pub jitter: bool,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self { attempts: 12, initial_delay: Span::millis(100), max_delay: Span::millis(10_000), jitter: true }
    }
}

/// The most calls in a time, all subtasks of the node together.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimitOptions {
    /// How many calls may begin within `per`, evenly spread.
    pub calls: u32,
    /// The time. Default: 1s.
    #[serde(default = "second")]
    pub per: Span,
    /// How many of them may begin at once after a pause. Default: 1.
    pub burst: Option<u32>,
}

/// When a server that keeps failing is left alone: no call is made while the breaker is open; then one goes through, and closes or opens it again.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct CircuitBreakerOptions {
    /// So many attempts that fail one after the other within `window` open it. 0: never. Default: 10.
    pub failures: usize,
    /// The time in which the failures must lie. Default: 30s.
    pub window: Span,
    /// How long it stays open. Default: 5s.
    pub open_for: Span,
}

impl Default for CircuitBreakerOptions {
    fn default() -> Self {
        Self { failures: 10, window: Span::millis(30_000), open_for: Span::millis(5_000) }
    }
}

/// How a client that retries by itself calls the outside: its settings are set by these.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientOptions {
    /// How long one request may take. Default: 30s.
    pub timeout: Span,
    /// How a request is tried again while the server is away.
    pub retry: RetryOptions,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { timeout: Span::millis(30_000), retry: RetryOptions::default() }
    }
}

impl ExternalOptions {
    /// Refuses what cannot be meant; errors are at keys below `external`.
    pub fn check(&self) -> Result<(), ConfigError> {
        some_time(self.timeout, "timeout")?;
        self.retry.check()?;
        if let Some(rate) = &self.rate_limit {
            at_least_one(rate.calls as usize, "rateLimit.calls")?;
            at_least_one(rate.burst.unwrap_or(1) as usize, "rateLimit.burst")?;
            some_time(rate.per, "rateLimit.per")?;
            if (rate.per.0 / rate.calls).is_zero() {
                return Err(ConfigError::new("rateLimit.calls", format!("{} calls in {} are more than can be told apart", rate.calls, rate.per))
                    .hint("leave `rateLimit` out"));
            }
        }
        some_time(self.circuit_breaker.window, "circuitBreaker.window")?;
        some_time(self.circuit_breaker.open_for, "circuitBreaker.openFor")?;
        at_least_one(self.max_concurrency, "maxConcurrency")
    }
}

impl ClientOptions {
    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<(), ConfigError> {
        some_time(self.timeout, "timeout")?;
        self.retry.check()
    }

    /// The longest time a request can take with all its attempts: for clients that have one limit for the whole (`delivery.timeout.ms`).
    #[must_use]
    pub fn total(&self) -> Duration {
        let without_jitter = RetryOptions { jitter: false, ..self.retry.clone() };
        let delays: Duration = without_jitter.delays().fold(Duration::ZERO, Duration::saturating_add);
        let attempts = u32::try_from(self.retry.attempts).unwrap_or(u32::MAX);
        let waits = if self.retry.jitter { delays.saturating_mul(2) } else { delays };
        self.timeout.0.saturating_mul(attempts).saturating_add(waits)
    }
}

impl RetryOptions {
    /// The delay behind so many failures in a row, for who counts them: from 1 on, and longer than [`Self::max_delay`] by jitter alone.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        // Doubled so often, any first delay has become the longest.
        let nth = failures.saturating_sub(1).min(64) as usize;
        self.backoff().without_max_times().build().nth(nth).unwrap_or(self.max_delay.0)
    }

    /// Whether so many failures in a row are as many as there may be attempts.
    #[must_use]
    pub const fn is_over(&self, failures: u32) -> bool {
        failures as usize >= self.attempts
    }

    /// The error of the last attempt at `what`. It reaches the job: whoever would try again has been told how often that is.
    #[must_use]
    pub fn given_up(&self, what: &str, last: Error) -> Error {
        let error = match self.attempts {
            1 => last,
            n => Error::connection(format!("{what}: given up after {n} attempts (`external.retry`)")).caused_by(last),
        };
        error.reaching(Reach::Job)
    }

    fn check(&self) -> Result<(), ConfigError> {
        at_least_one(self.attempts, "retry.attempts")?;
        if self.attempts > MAX_ATTEMPTS {
            return Err(ConfigError::new("retry.attempts", format!("at most {MAX_ATTEMPTS}")));
        }
        some_time(self.initial_delay, "retry.initialDelay")?;
        if self.initial_delay > self.max_delay {
            return Err(ConfigError::new("retry.initialDelay", format!("{} is more than `maxDelay`, {}", self.initial_delay, self.max_delay)));
        }
        Ok(())
    }

    /// The delays between the attempts.
    pub(crate) fn delays(&self) -> ExponentialBackoff {
        self.backoff().with_max_times(self.attempts.saturating_sub(1)).build()
    }

    fn backoff(&self) -> ExponentialBuilder {
        let delays = ExponentialBuilder::new().with_min_delay(self.initial_delay.0).with_max_delay(self.max_delay.0);
        if self.jitter { delays.with_jitter() } else { delays }
    }
}

/// A hundred thousand attempts are days of retrying: more is a slip of the pen.
const MAX_ATTEMPTS: usize = 100_000;

fn second() -> Span {
    Span::millis(1000)
}

fn at_least_one(n: usize, key: &str) -> Result<(), ConfigError> {
    if n == 0 { Err(ConfigError::new(key, "must be at least 1")) } else { Ok(()) }
}

fn some_time(span: Span, key: &str) -> Result<(), ConfigError> {
    if span.0.is_zero() { Err(ConfigError::new(key, "must be more than 0")) } else { Ok(()) }
}
