//! The contract of a sink: a writer per subtask that makes rows durable, and one committer that makes them visible.
//!
//! ```text
//!  write* ─► flush ─► [barrier] prepare_commit ─► snapshot ─► manifest complete ─► Committer::commit (permit) ─► …
//! ```
//! Everything an epoch will commit is durable when `prepare_commit` returns; every commit can be repeated (Flink FLIP-143, FLIP-191;
//! RisingWave's sink coordinator). At-least-once and idempotent sinks return no committables.

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::NodeMetrics;
use crate::{BadRecord, Clock, Epoch, Generation, Result, RunId, StreamSchema};

/// What a sink promises over crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SinkGuarantee {
    /// Rows since the last checkpoint are written again.
    AtLeastOnce,
    /// The same rows written again leave the same result (upsert by key): exactly once behind a deterministic path.
    Idempotent,
    /// Rows become visible when their checkpoint has completed, once.
    Transactional,
}

/// A sink as planned: its options have been validated against its input, nothing is open.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// What it promises as configured.
    fn guarantee(&self) -> SinkGuarantee;

    /// The columns by which it upserts and deletes; empty for a sink that only appends. The planner hashes by them.
    fn key(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether a new run removes or replaces what earlier runs wrote: then rows cannot be added by a run of their own.
    fn replaces_earlier_runs(&self) -> bool {
        false
    }

    /// Whether it takes a changelog.
    fn accepts_changelog(&self) -> bool {
        false
    }

    /// The highest parallelism it can take (a fixed path: 1).
    fn max_parallelism(&self) -> Option<usize> {
        None
    }

    /// Tries to reach what it writes to, without side effects: creates no table and no file.
    async fn check(&self) -> Result<()>;

    /// How the job takes checkpoints, said when it is planned: what a sink keeps prepared outside may not live for ever there.
    ///
    /// # Errors
    /// It would not live until its commit.
    fn checkpoints(&self, timing: CheckpointTiming) -> Result<()> {
        let _ = timing;
        Ok(())
    }

    /// Once per start, before any writer opens: creates what is asked for, removes leftovers of older generations of this run alone.
    /// `committed` are the committables of the restored manifest; they have been committed when this is called.
    async fn prepare(&self, context: &SinkRunContext, committed: &[Committable]) -> Result<()> {
        let _ = (context, committed);
        Ok(())
    }

    /// What the engine calls: like [`Self::prepare`], for sinks whose leftovers can only be told from what a checkpoint still names. `states` is what
    /// all writers of this sink returned from [`SinkWriter::snapshot`] at the restored checkpoint (of a savepoint of another run, too); empty for a
    /// start without one.
    async fn prepare_restored(&self, context: &SinkRunContext, committed: &[Committable], states: &[Value]) -> Result<()> {
        let _ = states;
        self.prepare(context, committed).await
    }

    /// A writer. `state` holds what the writers of this sink returned from [`SinkWriter::snapshot`] at the restored checkpoint and that falls to this subtask.
    async fn writer(&self, context: WriterContext, state: Vec<Value>) -> Result<Box<dyn SinkWriter>>;

    /// Once, when the job has been cancelled and no writer of it lives any more: ends what writers have prepared or left open and no manifest will name, so
    /// that nothing stays open outside until the job is started again, or for ever. `named` are the committables of this sink in the newest manifest, which
    /// have been committed if that was possible. The engine waits only for a few seconds: what is not reached then, the next start removes.
    async fn cancelled(&self, named: &[Committable]) -> Result<()> {
        let _ = named;
        Ok(())
    }

    /// The committer, for sinks that return committables. One per sink and process: two subtasks never wait for each other's lock.
    async fn committer(&self, context: &SinkRunContext) -> Result<Option<Box<dyn Committer>>> {
        let _ = context;
        Ok(None)
    }
}

/// Who writes.
#[derive(Clone, Debug)]
pub struct SinkRunContext {
    /// The run.
    pub run: RunId,
    /// This start of it.
    pub generation: Generation,
    /// The id of the job.
    pub job: String,
    /// The sink's node name.
    pub node: String,
    /// The instant the run was scheduled for (`{date}`), milliseconds since the epoch.
    pub scheduled_ms: i64,
}

/// The job's checkpoints, as far as a sink must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointTiming {
    /// Between the starts of two.
    pub interval: Duration,
    /// One that takes longer has failed.
    pub timeout: Duration,
}

/// What a writer may use.
#[derive(Clone, Debug)]
pub struct WriterContext {
    /// Who writes.
    pub run: SinkRunContext,
    /// Which subtask of the sink this is, from 0.
    pub subtask: usize,
    /// How many there are.
    pub parallelism: usize,
    /// The rows it will get.
    pub schema: StreamSchema,
    /// Counters of the sink.
    pub metrics: Arc<NodeMetrics>,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
}

/// Something durable that waits to become visible. Part of the manifest: no secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Committable {
    /// The epoch it belongs to.
    pub epoch: Epoch,
    /// The subtask that wrote it.
    pub subtask: usize,
    /// What it is, in the sink's own words.
    pub payload: Value,
}

/// Writes rows. Not shared: one task calls one method at a time.
#[async_trait]
pub trait SinkWriter: Send {
    /// Whether a retryable error that reaches one connection ([`crate::Reach::Connection`]) leaves the writer able to go on: it still holds all rows it
    /// was given and has not written, those of the call that failed included, and has reported no row of them as rejected. Then the engine calls
    /// [`Self::flush`] (after `write` and `flush`) or [`Self::prepare_commit`] again, with growing pauses, while back-pressure holds the sources. Without it
    /// such an error fails the attempt, and the job restarts by its strategy. Either way it is never a row's fault: no letter is written.
    fn keeps_rows_on_lost_connection(&self) -> bool {
        false
    }

    /// Takes rows; may buffer them. Waits while the outside is slow: that is the back-pressure.
    async fn write(&mut self, batch: RecordBatch) -> Result<()>;

    /// When buffered rows want to be written even though no batch comes, milliseconds of processing time.
    fn flush_due_ms(&self) -> Option<i64> {
        None
    }

    /// Writes what is buffered.
    async fn flush(&mut self) -> Result<()>;

    /// Rows refused since the last call. The engine asks after every write and flush and before it forwards a barrier.
    fn take_rejects(&mut self) -> Vec<BadRecord> {
        Vec::new()
    }

    /// Flushes, and makes everything written since the last call durable, to be made visible by a commit.
    async fn prepare_commit(&mut self, epoch: Epoch, end_of_input: bool) -> Result<Vec<Value>>;

    /// What goes on after this barrier (open files and their durable length, …): each value can be restored into any subtask.
    async fn snapshot(&mut self) -> Result<Vec<Value>> {
        Ok(Vec::new())
    }

    /// Ends without a commit: what is not prepared is left to be cleaned up or aborted now.
    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Evidence that the manifest that names the committables is complete. Only the checkpoint protocol makes one.
#[derive(Debug)]
pub struct CommitPermit {
    epoch: Epoch,
}

impl CommitPermit {
    /// For the checkpoint protocol alone, after the manifest has been written or read back whole.
    #[must_use]
    pub const fn from_completed_manifest(epoch: Epoch) -> Self {
        Self { epoch }
    }

    /// The newest epoch that may be committed.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// How a commit of one committable ended.
#[derive(Debug)]
pub enum CommitOutcome {
    /// It is visible now.
    Committed,
    /// It had been visible before: a repeated commit.
    AlreadyCommitted,
    /// Not now; it stays in the next manifest and is tried again.
    RetryLater(crate::Error),
    /// Committed but for these rows, which become letters of the next epoch.
    CommittedExcept(Vec<BadRecord>),
    /// It can never be committed: rows are lost. The job stops and says so.
    Lost(crate::Error),
}

/// Makes durable things visible, in epoch order.
#[async_trait]
pub trait Committer: Send {
    /// Commits; may be asked again for what it has committed already, also by another process, and then answers [`CommitOutcome::AlreadyCommitted`].
    /// One outcome for each committable, in order.
    async fn commit(&mut self, permit: &CommitPermit, committables: &[Committable]) -> Result<Vec<CommitOutcome>>;

    /// Whether the marker of this epoch or of a later one stands in the target (decision 12); `None` where the sink keeps none.
    async fn is_committed(&mut self, epoch: Epoch) -> Result<Option<bool>> {
        let _ = epoch;
        Ok(None)
    }
}
