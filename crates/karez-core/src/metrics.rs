//! Counters of a node, shared by all its subtasks. Each dropped, late, rejected or retried row is visible here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, v: i64) {
        self.0.store(v, Relaxed);
    }

    /// Moves it up, or down.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// What a figure of a node is called, how it moves and what it says: the reference page and `/metrics` are made of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricInfo {
    /// Its name in reports.
    pub name: &'static str,
    /// `counter` (only grows) or `gauge`.
    pub kind: &'static str,
    /// What it says, with its unit.
    pub help: &'static str,
}

/// How a kind of figure is read.
trait Figure {
    const KIND: &'static str;
}

impl Figure for Counter {
    const KIND: &'static str = "counter";
}

impl Figure for Gauge {
    const KIND: &'static str = "gauge";
}

/// One list gives the live figures, what is read of them, and their description.
macro_rules! node_metrics {
    ($($(#[doc = $help:literal])+ $live:ident: $kind:ident => $read:ident: $type:ty $(, divided by $divisor:literal)?;)+) => {
        /// The counters of one node.
        #[derive(Debug, Default)]
        pub struct NodeMetrics {
            $($(#[doc = $help])+ pub $live: $kind,)+
            /// Others, of the operator's or connector's own, by name (`cache_hits`, …).
            custom: Mutex<BTreeMap<&'static str, u64>>,
        }

        /// The counters of a node at one instant; the fields are those of [`NodeMetrics`], times in milliseconds.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct NodeMetricsSnapshot {
            $($(#[doc = $help])+ pub $read: $type,)+
            /// Others, of the operator's or connector's own, by name.
            pub custom: BTreeMap<String, u64>,
        }

        impl NodeMetrics {
            /// What there is, in the order of the reference page.
            pub const INFO: &'static [MetricInfo] = &[
                $(MetricInfo { name: stringify!($read), kind: <$kind as Figure>::KIND, help: concat!($($help),+) },)+
            ];

            /// All of them at this instant.
            #[must_use]
            pub fn read(&self) -> NodeMetricsSnapshot {
                NodeMetricsSnapshot {
                    $($read: self.$live.get() $(/ $divisor)?,)+
                    custom: self.custom.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(),
                }
            }
        }
    };
}

node_metrics! {
    /// Rows taken.
    records_in: Counter => records_in: u64;
    /// Rows given, all outputs together.
    records_out: Counter => records_out: u64;
    /// Bytes taken (decoded), or read from outside by a source.
    bytes_in: Counter => bytes_in: u64;
    /// Bytes given (decoded), or written to the outside by a sink.
    bytes_out: Counter => bytes_out: u64;
    /// Batches taken.
    batches_in: Counter => batches_in: u64;
    /// Rows that came behind the watermark and were dropped or sent to the `late` output.
    late: Counter => late: u64;
    /// Rows dropped by `overflow: drop | latest`.
    dropped: Counter => dropped: u64;
    /// Bad records counted and left out (`onError: skip`).
    skipped: Counter => skipped: u64;
    /// Bad records sent to the dead-letter output.
    dead_lettered: Counter => dead_lettered: u64;
    /// Calls to the outside that were made, each attempt counted.
    calls: Counter => calls: u64;
    /// Calls to the outside that were tried again.
    retried: Counter => retried: u64;
    /// Calls or rows held back by a rate limit.
    throttled: Counter => throttled: u64;
    /// Calls to the outside that were not answered in time.
    timed_out: Counter => timed_out: u64;
    /// How often the circuit breaker opened, because calls to the outside kept failing.
    breaker_opened: Counter => breaker_opened: u64;
    /// 1 while the circuit breaker is open: no call is made, but for one now and then that finds out whether the server is back.
    breaker_open: Gauge => breaker_open: i64;
    /// Calls to the outside that are under way.
    in_flight: Gauge => in_flight: i64;
    /// Calls to the outside that wait: for a place among `maxConcurrency`, for the rate limit, or to be tried again.
    calls_waiting: Gauge => calls_waiting: i64;
    /// Rows of an operator that waits for the outside which have not been answered yet.
    rows_in_flight: Gauge => rows_in_flight: i64;
    /// Time spent working. Counted in nanoseconds, reported in milliseconds.
    busy_ns: Counter => busy_ms: u64, divided by 1_000_000;
    /// Time spent waiting for input. Counted in nanoseconds, reported in milliseconds.
    idle_ns: Counter => idle_ms: u64, divided by 1_000_000;
    /// Time spent waiting for room downstream. Counted in nanoseconds, reported in milliseconds.
    backpressured_ns: Counter => backpressured_ms: u64, divided by 1_000_000;
    /// Batches in the node's input queues.
    queue_batches: Gauge => queue_batches: i64;
    /// Bytes in the node's input queues.
    queue_bytes: Gauge => queue_bytes: i64;
    /// The node's watermark, milliseconds since the epoch; `i64::MIN` before the first.
    watermark_ms: Gauge => watermark_ms: i64;
    /// Bytes of state in memory.
    state_bytes: Gauge => state_bytes: i64;
}

impl NodeMetrics {
    /// Adds to a counter of the operator's or connector's own.
    pub fn add(&self, name: &'static str, n: u64) {
        *self.custom.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += n;
    }

    /// Sets a figure of the operator's or connector's own that goes up and down (`consumer_lag`).
    pub fn set(&self, name: &'static str, value: u64) {
        self.custom.lock().unwrap_or_else(PoisonError::into_inner).insert(name, value);
    }
}
