//! When a call is made again.

use std::time::Duration;

use backon::ExponentialBackoff;
use karez_core::{Error, Reach, Result, Whose};

use crate::ExternalCalls;
use crate::counted::Counting;

/// The attempts of one call, for who makes them one by one: because something is taken along from one to the next, or because the waiting may be
/// interrupted and must go on where it was.
///
/// ```text
///  loop { retry.wait() ─► an attempt (`ExternalCalls::once`) ─► retry.succeeded(), or retry.failed(error)? }
/// ```
#[derive(Debug)]
pub struct Retry {
    calls: ExternalCalls,
    what: String,
    delays: ExponentialBackoff,
    /// When the next attempt may be made, on the layer's clock.
    due: Option<Due>,
}

#[derive(Debug)]
struct Due {
    at: Duration,
    _counted: Counting,
}

impl Retry {
    pub(crate) fn new(calls: ExternalCalls, what: &str) -> Self {
        Self { delays: calls.delays(), calls, what: what.to_owned(), due: None }
    }

    /// An attempt has failed: the next one is due after the back-off, and not while the circuit breaker is open.
    ///
    /// # Errors
    /// The error, at once where trying again does not help, else after the last attempt: then it reaches the job.
    pub fn failed(&mut self, error: Error) -> Result<()> {
        if !may_pass(&error) {
            return Err(error);
        }
        let Some(delay) = self.delays.next() else { return Err(self.calls.given_up(error)) };
        let delay = delay.max(self.calls.breaker_refuses_for());
        let (system, delay_ms) = (self.calls.system(), delay.as_millis() as u64);
        if is_outage(&error) {
            tracing::warn!(%system, what = %self.what, delay_ms, %error, "the server is away: trying again");
        } else {
            tracing::debug!(%system, what = %self.what, delay_ms, %error, "trying again");
        }
        let metrics = self.calls.metrics();
        metrics.retried.add(1);
        self.due = Some(Due { at: self.calls.time().now() + delay, _counted: Counting::waiting(metrics) });
        Ok(())
    }

    /// Waits until the next attempt may be made; at once before the first. Cancel-safe: called again, it waits for what is left.
    pub async fn wait(&mut self) {
        if let Some(due) = &self.due {
            let time = self.calls.time();
            time.sleep(due.at.saturating_sub(time.now())).await;
            self.due = None;
        }
    }

    /// [`Self::failed`], then [`Self::wait`].
    ///
    /// # Errors
    /// As [`Self::failed`].
    pub async fn again(&mut self, error: Error) -> Result<()> {
        self.failed(error)?;
        self.wait().await;
        Ok(())
    }

    /// An attempt has succeeded: the next failure is the first again.
    pub fn succeeded(&mut self) {
        self.delays = self.calls.delays();
    }
}

/// Whether the same call may succeed later: the server was away, or somebody else was in the way.
pub(crate) fn may_pass(error: &Error) -> bool {
    error.is_retryable() && error.whose() != Whose::User
}

/// Whether the server was away. Any other error is an answer: the server is there.
pub(crate) fn is_outage(error: &Error) -> bool {
    may_pass(error) && error.reach() == Reach::Connection
}
