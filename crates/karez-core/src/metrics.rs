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

    /// Its value.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// The counters of one node.
#[derive(Debug, Default)]
pub struct NodeMetrics {
    /// Rows taken.
    pub records_in: Counter,
    /// Rows given, all outputs together.
    pub records_out: Counter,
    /// Bytes taken (decoded), or read from outside by a source.
    pub bytes_in: Counter,
    /// Bytes given (decoded), or written to the outside by a sink.
    pub bytes_out: Counter,
    /// Batches taken.
    pub batches_in: Counter,
    /// Rows that came behind the watermark and were dropped or sent to the `late` output.
    pub late: Counter,
    /// Rows dropped by `overflow: drop | latest`.
    pub dropped: Counter,
    /// Bad records counted and left out (`onError: skip`).
    pub skipped: Counter,
    /// Bad records sent to the dead-letter output.
    pub dead_lettered: Counter,
    /// Calls to the outside that were tried again.
    pub retried: Counter,
    /// Calls or rows held back by a rate limit.
    pub throttled: Counter,
    /// Nanoseconds spent working.
    pub busy_ns: Counter,
    /// Nanoseconds spent waiting for input.
    pub idle_ns: Counter,
    /// Nanoseconds spent waiting for room downstream.
    pub backpressured_ns: Counter,
    /// Batches in the node's input queues.
    pub queue_batches: Gauge,
    /// Bytes in the node's input queues.
    pub queue_bytes: Gauge,
    /// The node's watermark, milliseconds since the epoch; `i64::MIN` before the first.
    pub watermark_ms: Gauge,
    /// Bytes of state in memory.
    pub state_bytes: Gauge,
    /// Others, of the operator's or connector's own, by name (`cache_hits`, …).
    custom: Mutex<BTreeMap<&'static str, u64>>,
}

impl NodeMetrics {
    /// Adds to a counter of the operator's or connector's own.
    pub fn add(&self, name: &'static str, n: u64) {
        *self.custom.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += n;
    }

    /// All of them at this instant.
    #[must_use]
    pub fn read(&self) -> NodeMetricsSnapshot {
        NodeMetricsSnapshot {
            records_in: self.records_in.get(),
            records_out: self.records_out.get(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            batches_in: self.batches_in.get(),
            late: self.late.get(),
            dropped: self.dropped.get(),
            skipped: self.skipped.get(),
            dead_lettered: self.dead_lettered.get(),
            retried: self.retried.get(),
            throttled: self.throttled.get(),
            busy_ms: self.busy_ns.get() / 1_000_000,
            idle_ms: self.idle_ns.get() / 1_000_000,
            backpressured_ms: self.backpressured_ns.get() / 1_000_000,
            queue_batches: self.queue_batches.get(),
            queue_bytes: self.queue_bytes.get(),
            watermark_ms: self.watermark_ms.get(),
            state_bytes: self.state_bytes.get(),
            custom: self.custom.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(),
        }
    }
}

/// The counters of a node at one instant; the fields are those of [`NodeMetrics`], times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct NodeMetricsSnapshot {
    pub records_in: u64,
    pub records_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub batches_in: u64,
    pub late: u64,
    pub dropped: u64,
    pub skipped: u64,
    pub dead_lettered: u64,
    pub retried: u64,
    pub throttled: u64,
    pub busy_ms: u64,
    pub idle_ms: u64,
    pub backpressured_ms: u64,
    pub queue_batches: i64,
    pub queue_bytes: i64,
    pub watermark_ms: i64,
    pub state_bytes: i64,
    pub custom: BTreeMap<String, u64>,
}
