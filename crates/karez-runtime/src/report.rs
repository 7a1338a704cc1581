//! The figures of a job: counters per node, checkpoints, restarts; read in-process and printed at the end of a run.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use karez_core::Clock;
use karez_core::metrics::{Counter, NodeMetrics, NodeMetricsSnapshot};
use serde::Serialize;

use crate::handle::JobStatus;

/// What a node is, for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeRole {
    /// A source.
    Source,
    /// An operator.
    Operator,
    /// A sink.
    Sink,
}

/// The live figures of a job.
pub struct JobMetrics {
    nodes: Vec<(String, NodeRole, Arc<NodeMetrics>)>,
    clock: Arc<dyn Clock>,
    started_ms: i64,
    ended_ms: AtomicI64,
    /// Restarts so far.
    pub restarts: Counter,
    checkpoints: Mutex<CheckpointFigures>,
    store: Arc<NodeMetrics>,
}

/// The figures of a job's checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckpointFigures {
    /// How many completed.
    pub completed: u64,
    /// How many failed.
    pub failed: u64,
    /// The newest completed one.
    pub last_id: Option<u64>,
    /// How long it took, milliseconds.
    pub last_duration_ms: u64,
    /// What it wrote, bytes: the files that are new in it.
    pub last_bytes: u64,
    /// What all of them wrote, bytes.
    pub total_bytes: u64,
    /// Why the last failed one failed.
    pub last_failure: Option<String>,
}

/// The requests to the object store in which a job keeps its checkpoints and savepoints. The words are those of a node's calls to the outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ObjectStoreFigures {
    /// Requests that were sent, each attempt counted.
    pub calls: u64,
    /// Requests that were sent again.
    pub retried: u64,
    /// Requests that were not answered in time.
    pub timed_out: u64,
    /// Requests that the store refused because there were too many (429).
    pub throttled: u64,
    /// Requests that are under way.
    pub in_flight: i64,
}

/// The figures of a job at one instant.
#[derive(Clone, Debug, Serialize)]
pub struct JobReport {
    /// Its state.
    pub status: JobStatus,
    /// Milliseconds since its start.
    pub running_ms: i64,
    /// Restarts so far.
    pub restarts: u64,
    /// Its checkpoints.
    pub checkpoints: CheckpointFigures,
    /// The object store that they are kept in; none where no request has been sent to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStoreFigures>,
    /// Its nodes, in topological order.
    pub nodes: Vec<NodeReport>,
}

/// The figures of a node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: NodeRole,
    /// Its counters.
    #[serde(flatten)]
    pub metrics: NodeMetricsSnapshot,
}

impl JobMetrics {
    /// For these nodes, started now. The requests to an object store are counted in `store`, since before there is a job to count for.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = (String, NodeRole)>, store: Arc<NodeMetrics>, clock: Arc<dyn Clock>) -> Self {
        let nodes = nodes
            .into_iter()
            .map(|(name, role)| {
                let metrics = Arc::new(NodeMetrics::default());
                metrics.watermark_ms.set(i64::MIN);
                (name, role, metrics)
            })
            .collect();
        let started_ms = clock.now_ms();
        Self { nodes, clock, started_ms, ended_ms: AtomicI64::new(0), restarts: Counter::default(), checkpoints: Mutex::default(), store }
    }

    /// The counters of a node.
    #[must_use]
    pub fn node(&self, name: &str) -> Arc<NodeMetrics> {
        self.nodes.iter().find(|(n, _, _)| n == name).map_or_else(Arc::default, |(_, _, m)| Arc::clone(m))
    }

    /// Changes the figures of the checkpoints.
    pub fn checkpoints(&self, change: impl FnOnce(&mut CheckpointFigures)) {
        change(&mut self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The clock of the figures stops.
    pub fn end(&self) {
        self.ended_ms.store(self.clock.now_ms(), Relaxed);
    }

    fn object_store(&self) -> Option<ObjectStoreFigures> {
        let m = self.store.read();
        let figures =
            ObjectStoreFigures { calls: m.calls, retried: m.retried, timed_out: m.timed_out, throttled: m.throttled, in_flight: m.in_flight };
        (m.calls > 0).then_some(figures)
    }

    /// All of them.
    #[must_use]
    pub fn read(&self, status: JobStatus) -> JobReport {
        let end = match self.ended_ms.load(Relaxed) {
            0 => self.clock.now_ms(),
            ended => ended,
        };
        JobReport {
            status,
            running_ms: end - self.started_ms,
            restarts: self.restarts.get(),
            checkpoints: self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            object_store: self.object_store(),
            nodes: self.nodes.iter().map(|(name, role, m)| NodeReport { name: name.clone(), role: *role, metrics: m.read() }).collect(),
        }
    }
}
