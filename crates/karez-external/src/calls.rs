//! Calls to one outside system.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBackoff;
use futures::future::{Either, select};
use karez_core::config::Span;
use karez_core::metrics::NodeMetrics;
use karez_core::{Error, Result};
use tokio::sync::Semaphore;

use crate::counted::{Counted, Counting};
use crate::rate::RateLimit;
use crate::retry::is_outage;
use crate::{CircuitBreaker, ExternalOptions, MachineTime, Retry, RetryOptions, Time};

/// Calls to one outside system by one node. Clones share the limits, the breaker and the counters.
///
/// Everything is cancel-safe in the layer: a call that is dropped gives back its place and counts neither as success nor as failure.
#[derive(Clone, Debug)]
pub struct ExternalCalls {
    shared: Arc<Shared>,
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
    counted: Counted,
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
            counted: Counted::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The same, counted in the metrics of a node from now on, with all its clones; what has been counted before the first time is carried over.
    #[must_use]
    pub fn counted_by(&self, metrics: Arc<NodeMetrics>) -> Self {
        self.shared.counted.set(metrics);
        self.clone()
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
        let mut retry = self.retry(what);
        loop {
            // The call is not even begun where it is not admitted.
            let attempt = async { call().await };
            match self.once(what, attempt).await {
                Ok(answer) => return Ok(answer),
                Err(error) => retry.again(error).await?,
            }
        }
    }

    /// The attempts of a call that the caller makes one by one, by [`Self::once`] or [`Self::once_while`].
    #[must_use]
    pub fn retry(&self, what: &str) -> Retry {
        Retry::new(self.clone(), what)
    }

    /// Makes a call that must not be repeated, or one attempt of it, with everything but the retries.
    ///
    /// # Errors
    /// What the call answered; that it was not answered in time; that the breaker is open.
    pub async fn once<T>(&self, what: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.once_while(what, call, || std::future::ready(false)).await
    }

    /// The same for a call that may take long, such as a statement that sorts a table: when the timeout has passed, the server is asked (in another way
    /// than by this call) whether it is `at_work` on it, and while it is, the call is waited for. Answering that may take as long as the timeout.
    ///
    /// # Errors
    /// As [`Self::once`].
    pub async fn once_while<T, Fut>(&self, what: &str, call: impl Future<Output = Result<T>>, at_work: impl Fn() -> Fut) -> Result<T>
    where
        Fut: Future<Output = bool>,
    {
        let shared = &*self.shared;
        let waiting = Counting::waiting(self.metrics());
        let closed = |_| Error::internal("the limit of concurrent calls was closed");
        let _place = shared.concurrency.acquire().await.map_err(closed)?;
        self.wait_for_rate().await;
        drop(waiting);
        let admission = shared.breaker.admit(shared.time.now()).map_err(|_| self.open(what))?;
        self.metrics().calls.add(1);
        let in_flight = Counting::in_flight(self.metrics());
        let answer = self.in_time(what, call, at_work).await;
        drop(in_flight);
        match &answer {
            Err(e) if is_outage(e) => {
                if admission.failed(shared.time.now()) {
                    self.metrics().breaker_opened.add(1);
                    self.metrics().breaker_open.set(1);
                    tracing::warn!(system = %shared.system, what, error = %e, "the circuit breaker has opened: calls wait");
                }
            }
            _ => {
                if admission.succeeded() {
                    self.metrics().breaker_open.set(0);
                }
            }
        }
        answer
    }

    async fn wait_for_rate(&self) {
        let Some(rate) = &self.shared.rate else { return };
        let mut held_back = false;
        while let Err(wait) = rate.take() {
            if !std::mem::replace(&mut held_back, true) {
                self.metrics().throttled.add(1);
            }
            self.shared.time.sleep(wait).await;
        }
    }

    async fn in_time<T, Fut>(&self, what: &str, call: impl Future<Output = Result<T>>, at_work: impl Fn() -> Fut) -> Result<T>
    where
        Fut: Future<Output = bool>,
    {
        let Shared { system, timeout, time, .. } = &*self.shared;
        let mut call = std::pin::pin!(call);
        loop {
            if let Either::Left((answer, _)) = select(call.as_mut(), time.sleep(*timeout)).await {
                return answer;
            }
            let asking = std::pin::pin!(at_work());
            let is_at_work = match select(call.as_mut(), select(asking, time.sleep(*timeout))).await {
                Either::Left((answer, _)) => return answer,
                Either::Right((Either::Left((is_at_work, _)), _)) => is_at_work,
                Either::Right((Either::Right(_), _)) => false,
            };
            if !is_at_work {
                self.metrics().timed_out.add(1);
                return Err(Error::connection(format!("{system}: {what}: no answer within {} (`external.timeout`)", Span(*timeout))));
            }
        }
    }

    fn open(&self, what: &str) -> Error {
        Error::connection(format!("{}: {what}: not tried, since the calls before failed (the circuit breaker is open)", self.shared.system))
    }

    pub(crate) fn given_up(&self, last: Error) -> Error {
        self.shared.retry.given_up(&self.shared.system, last)
    }

    pub(crate) fn system(&self) -> &str {
        &self.shared.system
    }

    pub(crate) fn time(&self) -> &Arc<dyn Time> {
        &self.shared.time
    }

    pub(crate) fn metrics(&self) -> Arc<NodeMetrics> {
        self.shared.counted.metrics()
    }

    pub(crate) fn delays(&self) -> ExponentialBackoff {
        self.shared.retry.delays()
    }

    pub(crate) fn breaker_refuses_for(&self) -> Duration {
        self.shared.breaker.refuses_for(self.shared.time.now())
    }
}
