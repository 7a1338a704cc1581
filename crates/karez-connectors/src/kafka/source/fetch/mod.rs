//! Fetching: one task for all partitions of a source in this process. It keeps one request under way to each broker that leads some of them, and puts
//! what comes into a bounded buffer per partition, from which the readers take without waiting.
//!
//! ```text
//!  reader ◄─take── Partition.buffer ◄──┐
//!  reader ◄─take── Partition.buffer ◄──┼── answers ◄── broker 1      (one request under way to each)
//!  reader ◄─take── Partition.buffer ◄──┘           ◄── broker 2
//!     └────────── wake: there is room ──► rounds ──►
//! ```
//!
//! A lost broker is tried again here, so that partitions of other brokers go on; its own are [`Taken::Pending`] meanwhile and hold the watermark back.

mod answer;
mod partition;
mod round;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use karez_core::metrics::NodeMetrics;
use karez_external::{ClientMeter, RetryOptions};
use krafka::Kafka;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

pub(super) use partition::{Chunk, Failure, Partition, Taken};

use super::position::Position;

/// What an answer may be late by before it is missed.
const SLACK: Duration = Duration::from_secs(1);

/// How records are asked for.
#[derive(Clone, Debug)]
pub(super) struct FetchSettings {
    pub(super) read_committed: bool,
    /// A broker waits until there are so many bytes, or `max_wait` has passed.
    pub(super) min_bytes: i32,
    pub(super) max_wait: Duration,
    /// What an answer may take beyond that.
    pub(super) request_timeout: Duration,
    /// Of an answer.
    pub(super) max_bytes: i32,
    /// Of a partition in an answer.
    pub(super) partition_max_bytes: i32,
    /// Of everything that is held.
    pub(super) buffer_bytes: usize,
    /// Where the job runs, for brokers that know of nearer replicas.
    pub(super) rack: Option<String>,
    pub(super) retry: RetryOptions,
}

/// The task, and who it fetches for. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Fetcher {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What the task and the readers share.
#[derive(Debug)]
struct Shared {
    kafka: Arc<Kafka>,
    settings: FetchSettings,
    metrics: Arc<NodeMetrics>,
    meter: Arc<ClientMeter>,
    partitions: Mutex<Vec<Arc<Partition>>>,
    wake: Notify,
    /// Bytes of answers of which something is still held.
    held: Arc<AtomicUsize>,
}

impl Fetcher {
    /// Begins; to be called on the runtime of the job.
    pub(super) fn start(kafka: Arc<Kafka>, settings: FetchSettings, metrics: Arc<NodeMetrics>) -> Self {
        let meter = Arc::new(ClientMeter::new(Arc::clone(&metrics)));
        let shared = Arc::new(Shared { kafka, settings, metrics, meter, partitions: Mutex::default(), wake: Notify::new(), held: Arc::default() });
        let task = tokio::spawn(round::run(Arc::clone(&shared))).abort_handle();
        Self { shared, task }
    }

    pub(super) fn kafka(&self) -> &Arc<Kafka> {
        &self.shared.kafka
    }

    /// Fetches a partition from a position on, until [`Self::close`].
    pub(super) fn open(&self, position: &Position) -> Arc<Partition> {
        let partition = Arc::new(Partition::new(position, 2 * self.shared.settings.max_wait + SLACK));
        self.shared.partitions().push(Arc::clone(&partition));
        self.shared.wake.notify_one();
        partition
    }

    /// Takes what comes next of a partition.
    pub(super) fn take(&self, partition: &Partition) -> Taken {
        let taken = partition.take();
        if matches!(taken, Taken::Chunk(_)) {
            // There is room.
            self.shared.wake.notify_one();
        }
        taken
    }

    pub(super) fn close(&self, partition: &Partition) {
        partition.closed.store(true, Relaxed);
        self.shared.wake.notify_one();
    }

    /// How far each partition has been handed to the job.
    pub(super) fn consumed(&self) -> Vec<(super::start::TopicPartition, i64)> {
        self.shared.partitions().iter().map(|p| (p.at.clone(), p.consumed.load(Relaxed))).collect()
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn partitions(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Partition>>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those whose readers live.
    fn live(&self) -> Vec<Arc<Partition>> {
        let mut partitions = self.partitions();
        partitions.retain(|p| !p.closed.load(Relaxed));
        partitions.clone()
    }

    fn show_lag(&self, partitions: &[Arc<Partition>]) {
        let lags = partitions.iter().filter_map(|p| p.lag());
        self.metrics.set("consumer_lag", lags.fold(0, u64::saturating_add));
    }
}
