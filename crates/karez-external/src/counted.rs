//! Where the layer counts: in the metrics of a node, once it is known.

use std::sync::{Arc, Mutex, PoisonError};

use karez_core::metrics::{Gauge, NodeMetrics};

/// The metrics of the node that calls, or of nobody yet.
#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    metrics: Arc<NodeMetrics>,
    /// They are a node's.
    known: bool,
}

impl Counted {
    pub(crate) fn metrics(&self) -> Arc<NodeMetrics> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner).metrics)
    }

    /// From now on in these; what was counted before anybody knew whose it is, such as the calls that prepare a sink, is carried over.
    pub(crate) fn set(&self, metrics: Arc<NodeMetrics>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut state.metrics, metrics);
        if !std::mem::replace(&mut state.known, true) {
            let now = &state.metrics;
            for (from, to) in [
                (&before.calls, &now.calls),
                (&before.retried, &now.retried),
                (&before.throttled, &now.throttled),
                (&before.timed_out, &now.timed_out),
                (&before.breaker_opened, &now.breaker_opened),
            ] {
                to.add(from.get());
            }
        }
    }
}

/// Something that is counted for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counting {
    metrics: Arc<NodeMetrics>,
    gauge: fn(&NodeMetrics) -> &Gauge,
}

impl Counting {
    /// A call that waits.
    pub(crate) fn waiting(metrics: Arc<NodeMetrics>) -> Self {
        Self::new(metrics, |m| &m.calls_waiting)
    }

    /// A call that is under way.
    pub(crate) fn in_flight(metrics: Arc<NodeMetrics>) -> Self {
        Self::new(metrics, |m| &m.in_flight)
    }

    fn new(metrics: Arc<NodeMetrics>, gauge: fn(&NodeMetrics) -> &Gauge) -> Self {
        gauge(&metrics).add(1);
        Self { metrics, gauge }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        (self.gauge)(&self.metrics).add(-1);
    }
}
