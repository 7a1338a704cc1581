//! Calls to one outside system.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use karez_core::metrics::{Gauge, NodeMetrics};
use karez_core::{Error, Result, Whose};
use tokio::sync::Semaphore;

use crate::rate::RateLimit;
use crate::{CircuitBreaker, ExternalOptions, MachineTime, RetryOptions, Time};

/// Calls to one outside system by one node. Clones share the limits, the breaker and the counters.
///
/// Everything is cancel-safe in the layer: a call that is dropped gives back its place and counts neither as success nor as failure.
#[derive(Clone, Debug)]
pub struct ExternalCalls {
    shared: Arc<Shared>,
    metrics: Arc<NodeMetrics>,
}

#[derive(Debug)]
struct Shared {
    system: String,
    timeout: Duration,
    retry: RetryOptions,
    concurrency: Semaphore,
    rate: Option<RateLimit>,
    breaker: CircuitBreaker,
    time: Arc<dyn Time>,
}

/// An attempt that did not succeed.
struct Failed {
    error: Error,
    /// How long not to try again, whatever the back-off says.
    wait: Duration,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, wait: Duration::ZERO }
    }
}

impl ExternalCalls {
    /// Calls to `system`, as messages name it (`the schema registry http://…`; no secrets), with checked options. Counted nowhere, as when
    /// a connection is tried by `check`, until [`Self::counted_by`].
    #[must_use]
    pub fn new(system: impl Into<String>, options: &ExternalOptions) -> Self {
        Self::with_time(system, options, Arc::new(MachineTime::default()))
    }

    /// The same on injected time.
    #[must_use]
    pub fn with_time(system: impl Into<String>, options: &ExternalOptions, time: Arc<dyn Time>) -> Self {
        let shared = Shared {
            system: system.into(),
            timeout: options.timeout.0,
            retry: options.retry.clone(),
            concurrency: Semaphore::new(options.max_concurrency.min(Semaphore::MAX_PERMITS)),
            rate: options.rate_limit.as_ref().and_then(|o| RateLimit::new(o, &time)),
            breaker: CircuitBreaker::new(&options.circuit_breaker),
            time,
        };
        Self { shared: Arc::new(shared), metrics: Arc::default() }
    }

    /// The same limits and breaker, counted in the metrics of a node.
    #[must_use]
    pub fn counted_by(&self, metrics: Arc<NodeMetrics>) -> Self {
        Self { shared: Arc::clone(&self.shared), metrics }
    }

    /// Makes a call, and makes it again while the server is away. `what` says what it does in messages (`looking up 20 keys`).
    ///
    /// A call must bear being repeated: an attempt that was not answered in time may have been carried out.
    ///
    /// # Errors
    /// What the call answered, at once where trying again does not help, else of the last attempt.
    pub async fn call<T, F, Fut>(&self, what: &str, mut call: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let mut delays = self.shared.retry.delays();
        loop {
            let failed = match self.attempt(what, &mut call).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if !may_pass(&failed.error) {
                return Err(failed.error);
            }
            let Some(delay) = delays.next() else { return Err(self.given_up(failed.error)) };
            let delay = delay.max(failed.wait);
            tracing::debug!(system = %self.shared.system, what, delay_ms = delay.as_millis() as u64, error = %failed.error, "trying again");
            self.metrics.retried.add(1);
            self.shared.time.sleep(delay).await;
        }
    }

    /// Makes a call that must not be repeated, with everything but the retries.
    ///
    /// # Errors
    /// What the call answered; that it was not answered in time; that the breaker is open.
    pub async fn once<T>(&self, what: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.attempt(what, || call).await.map_err(|failed| failed.error)
    }

    async fn attempt<T, Fut>(&self, what: &str, call: impl FnOnce() -> Fut) -> Result<T, Failed>
    where
        Fut: Future<Output = Result<T>>,
    {
        let shared = &*self.shared;
        let closed = |_| Error::internal("the limit of concurrent calls was closed");
        let _place = shared.concurrency.acquire().await.map_err(closed)?;
        self.wait_for_rate().await;
        let admission = shared.breaker.admit(shared.time.now()).map_err(|refused| Failed { error: self.open(what), wait: refused.wait })?;
        let in_flight = InFlight::new(&self.metrics.in_flight);
        let answer = self.in_time(what, call()).await;
        drop(in_flight);
        match &answer {
            Err(e) if may_pass(e) => {
                if admission.failed(shared.time.now()) {
                    self.metrics.breaker_opened.add(1);
                    tracing::warn!(system = %shared.system, what, error = %e, "the circuit breaker has opened: calls wait");
                }
            }
            // Any other error is an answer too: the server is there.
            _ => admission.succeeded(),
        }
        Ok(answer?)
    }

    async fn wait_for_rate(&self) {
        let Some(rate) = &self.shared.rate else { return };
        let mut held_back = false;
        while let Err(wait) = rate.take() {
            if !std::mem::replace(&mut held_back, true) {
                self.metrics.throttled.add(1);
            }
            self.shared.time.sleep(wait).await;
        }
    }

    async fn in_time<T>(&self, what: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let Shared { system, timeout, time, .. } = &*self.shared;
        match select(std::pin::pin!(call), time.sleep(*timeout)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => {
                self.metrics.timed_out.add(1);
                Err(Error::connection(format!("{system}: {what}: no answer within {} (`external.timeout`)", karez_core::config::Span(*timeout))))
            }
        }
    }

    fn open(&self, what: &str) -> Error {
        Error::connection(format!("{}: {what}: not tried, since the calls before failed (the circuit breaker is open)", self.shared.system))
    }

    fn given_up(&self, last: Error) -> Error {
        match self.shared.retry.attempts {
            1 => last,
            n => Error::connection(format!("{}: given up after {n} attempts (`external.retry`)", self.shared.system)).caused_by(last),
        }
    }
}

/// Whether the server was away, and may come back.
fn may_pass(error: &Error) -> bool {
    error.is_retryable() && error.whose() != Whose::User
}

/// Counts a call as under way, for as long as it lives.
struct InFlight<'a>(&'a Gauge);

impl<'a> InFlight<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.add(1);
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}
