//! The contract of an operator that waits for the outside: a look-up, a request to a service.
//!
//! An [`crate::Operator`] is called and answers. One of this kind is given a batch and answers later, while the engine gives it further ones: so many
//! are in flight at the same time, and the answers' latency does not limit the rows per second.
//!
//! ```text
//!  batch, batch, watermark, batch ─► ┌──────────────────────────────┐ ─► rows, rows, watermark, …
//!                                    │ in flight, in order of input │
//!                                    └──────────────────────────────┘
//! ```
//! What the engine does, once for all of them (Flink's `AsyncDataStream`, FLIP-12):
//!
//! - **Order.** Results leave in the order of their batches, or as they come ([`OutputOrder`]). A watermark never overtakes rows, nor rows a watermark.
//! - **Bounds.** No more batches and rows are in flight than [`AsyncSettings`] says; then no more input is taken, which is the back-pressure.
//! - **Checkpoints.** At a barrier everything in flight is awaited and handed on before it is passed on: nothing in flight is part of a checkpoint, and
//!   after a restart the rows behind it are asked for again.
//! - **Cancel.** Futures are dropped when the job is cancelled or fails.
//!
//! Timeouts and retries are the operator's own, by the layer around external calls (`karez-external`): an error that it answers is an error of the job.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;

use crate::metrics::NodeMetrics;
use crate::{BadRecord, Clock, Error, Result};

/// In which order results leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OutputOrder {
    /// That of the input.
    #[default]
    Input,
    /// That in which they come, between two watermarks. Not for changelogs.
    Completion,
}

/// How an asynchronous operator is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsyncSettings {
    /// The order of the results.
    pub order: OutputOrder,
    /// The most batches in flight, for each subtask.
    pub batches: usize,
    /// The most rows in flight, for each subtask; one batch always is.
    pub rows: usize,
}

impl Default for AsyncSettings {
    /// In order, 16 batches, 65,536 rows.
    fn default() -> Self {
        Self { order: OutputOrder::Input, batches: 16, rows: 65_536 }
    }
}

/// The part of a spec that makes an operator asynchronous: see [`crate::OperatorSpec::asynchronous`]. It has one input, one output and no state.
#[async_trait]
pub trait AsyncSpec: Send + Sync {
    /// How it is run.
    fn settings(&self) -> AsyncSettings {
        AsyncSettings::default()
    }

    /// A running operator. Opens nothing: what it needs is opened with its first batch.
    fn create(&self, context: AsyncContext) -> Result<Arc<dyn AsyncOperator>>;

    /// Tries to reach what it asks, without side effects.
    async fn check(&self) -> Result<()>;
}

/// What a running asynchronous operator may use.
#[derive(Clone, Debug)]
pub struct AsyncContext {
    /// Which subtask this is, from 0.
    pub subtask: usize,
    /// How many there are.
    pub parallelism: usize,
    /// Counters of the operator.
    pub metrics: Arc<NodeMetrics>,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Answer {
    /// Its rows; batches should hold at most [`crate::operator::MAX_BATCH_ROWS`] rows.
    pub batches: Vec<RecordBatch>,
    /// Rows at fault: the node's error policy decides.
    pub bad: Vec<BadRecord>,
}

/// A running asynchronous operator.
#[async_trait]
pub trait AsyncOperator: Send + Sync + 'static {
    /// What becomes of a batch. Called again while earlier calls are under way. May be dropped at any await, and may be called with the same rows again
    /// after a restart.
    ///
    /// # Errors
    /// The job fails, and restarts by its strategy if that may help: an outage is retried in here first, not turned into bad records.
    async fn process(&self, batch: RecordBatch) -> Result<Answer>;

    /// Bytes of memory that it holds itself (a cache), beside the batches in flight. Cheap.
    fn memory_bytes(&self) -> usize {
        0
    }
}

/// What [`crate::OperatorSpec::create`] answers for an asynchronous operator, of which it is never asked.
pub(crate) fn not_synchronous() -> Error {
    Error::internal("an asynchronous operator was made as a synchronous one")
}
