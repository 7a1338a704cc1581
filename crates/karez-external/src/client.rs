//! Clients that retry by themselves: they are given their settings and counted, not wrapped (design, decision 21).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use karez_core::metrics::{Counter, NodeMetrics};

use crate::counted::Counting;

/// What a client has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientFigures {
    /// Requests it sent again.
    pub retried: u64,
    /// Requests that were not answered in time.
    pub timed_out: u64,
    /// Requests it, or the server, held back.
    pub throttled: u64,
}

/// Carries a client's own counts over into a node's. One for each client.
#[derive(Debug)]
pub struct ClientMeter {
    metrics: Arc<NodeMetrics>,
    retried: AtomicU64,
    timed_out: AtomicU64,
    throttled: AtomicU64,
}

/// A request that is under way, counted for as long as it lives.
#[derive(Debug)]
pub struct ClientCall {
    _counted: Counting,
}

impl ClientMeter {
    /// A meter of a new client.
    #[must_use]
    pub fn new(metrics: Arc<NodeMetrics>) -> Self {
        Self { metrics, retried: AtomicU64::default(), timed_out: AtomicU64::default(), throttled: AtomicU64::default() }
    }

    /// A request is sent.
    #[must_use]
    pub fn begin(&self) -> ClientCall {
        self.metrics.calls.add(1);
        ClientCall { _counted: Counting::in_flight(Arc::clone(&self.metrics)) }
    }

    /// A request will be sent again by whoever uses the client.
    pub fn again(&self) {
        self.metrics.retried.add(1);
    }

    /// A request was not answered in time.
    pub fn not_in_time(&self) {
        self.metrics.timed_out.add(1);
    }

    /// The server asks for fewer requests.
    pub fn held_back(&self) {
        self.metrics.throttled.add(1);
    }

    /// Takes the client's sums at this instant; what is new since the last call is added to the node's. Cheap: call it after each batch.
    pub fn report(&self, now: ClientFigures) {
        let add = |seen: &AtomicU64, now: u64, to: &Counter| to.add(now.saturating_sub(seen.fetch_max(now, Relaxed)));
        add(&self.retried, now.retried, &self.metrics.retried);
        add(&self.timed_out, now.timed_out, &self.metrics.timed_out);
        add(&self.throttled, now.throttled, &self.metrics.throttled);
    }
}
