//! The contract of an operator, and of the spec that validates once and makes it.
//!
//! Operators are synchronous: a chain is called from one task, which alone awaits. They are **resumable**: when [`Output::is_full`]
//! the operator keeps the rest of its work, answers [`Progress::More`], and gets [`Operator::resume`] once there is room.
//! Nothing else is called in between.
//!
//! An operator that waits for the outside is of another kind: see [`crate::async_operator`].

use arrow::record_batch::RecordBatch;
use std::sync::Arc;

use crate::async_operator::not_synchronous;
use crate::metrics::NodeMetrics;
use crate::state::{Snapshot, StateStore};
use crate::{AsyncSpec, BadRecord, Clock, Result, StreamSchema, Watermark};

/// How rows must be spread over the subtasks of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Any way will do.
    Any,
    /// Rows with equal values in these columns (indices into the input) meet in one subtask.
    Hash(Vec<usize>),
    /// All rows meet in one subtask.
    Global,
    /// Every subtask sees every row.
    Broadcast,
}

/// Whether the same input gives the same output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Determinism {
    /// It does, whatever the batch boundaries and the interleaving of inputs.
    Deterministic,
    /// It does not, and why.
    No(String),
}

/// One output of an operator. The first is the main one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPort {
    /// `main`, or the name a user connects to (`late`, a route's name). Errors are not a port: see [`Output::reject`].
    pub name: String,
    /// The rows it gives.
    pub schema: StreamSchema,
}

/// The name of an operator's first output.
pub const MAIN: &str = "main";

/// Begins what an [`OperatorSpec::identity`] has had in the end only since some build.
pub const IDENTITY_DETAIL: &str = " with states ";

/// An operator as planned: validated against its inputs; makes running operators that cannot meet a bad spec.
pub trait OperatorSpec: Send + Sync + 'static {
    /// The outputs; the first is the main one.
    fn outputs(&self) -> &[OutputPort];

    /// What each input needs.
    fn distribution(&self, input: usize) -> Distribution {
        let _ = input;
        Distribution::Any
    }

    /// Whether it keeps state.
    fn is_stateful(&self) -> bool {
        false
    }

    /// Whether it holds rows back that the end of the input makes it give, such as those of a window that more input would have changed.
    fn gives_at_end(&self) -> bool {
        self.is_stateful()
    }

    /// Whether the same input gives the same output.
    fn determinism(&self) -> Determinism {
        Determinism::Deterministic
    }

    /// The columns of an input it reads, for projection push-down; `None`: all of them.
    fn required_columns(&self, input: usize) -> Option<Vec<usize>> {
        let _ = input;
        None
    }

    /// Whether rows go through on some output with all their columns unchanged (filter, split, union, deduplicate, late rows of a window): then
    /// an input needs [`Self::required_columns`] and whatever is needed of the outputs, not all of its columns.
    fn passes_columns(&self) -> bool {
        false
    }

    /// For a filter that only drops rows: its predicate as SQL, for push-down.
    fn predicate(&self) -> Option<&str> {
        None
    }

    /// What its state depends on (key columns, aggregate texts, window): compared with the manifest's when state is restored. What stands behind
    /// [`IDENTITY_DETAIL`] is compared only with manifests that have it, too: those of older builds may not.
    fn identity(&self) -> String {
        String::new()
    }

    /// For an operator that waits for the outside: how it does so. It is made by that, not by [`Self::create`], and has one input, one output, no state.
    fn asynchronous(&self) -> Option<&dyn AsyncSpec> {
        None
    }

    /// A running operator, its state as `context.state` restores it. For every operator that is not [`Self::asynchronous`].
    fn create(&self, context: OperatorContext<'_>) -> Result<Box<dyn Operator>> {
        let _ = context;
        Err(not_synchronous())
    }
}

/// What a running operator may use.
pub struct OperatorContext<'a> {
    /// Which subtask this is, from 0.
    pub subtask: usize,
    /// How many there are.
    pub parallelism: usize,
    /// Its state, restored for this subtask's key groups.
    pub state: &'a mut dyn StateStore,
    /// Counters of the operator.
    pub metrics: Arc<NodeMetrics>,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
}

/// Whether a call is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// All work of this call is done.
    Done,
    /// The output is full (or a step has taken long enough); call [`Operator::resume`].
    More,
}

/// Where an operator puts its results.
pub trait Output {
    /// Emits rows on a port. Empty batches are dropped. One batch may be emitted although [`Self::is_full`]; a second is a broken contract.
    fn emit(&mut self, port: usize, batch: RecordBatch);

    /// Whether the operator should answer [`Progress::More`] before it emits again.
    fn is_full(&self) -> bool;

    /// A record at fault: fails, is counted, or becomes a dead letter, as the node's `onError` says. Return the error.
    fn reject(&mut self, bad: BadRecord) -> Result<()>;
}

/// A running operator. Emitted batches should hold at most [`MAX_BATCH_ROWS`] rows.
pub trait Operator: Send {
    /// Takes rows of an input.
    fn process(&mut self, input: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress>;

    /// The minimum watermark over the inputs has risen to this. It is forwarded when the call is through.
    fn on_watermark(&mut self, watermark: Watermark, out: &mut dyn Output) -> Result<Progress> {
        let _ = (watermark, out);
        Ok(Progress::Done)
    }

    /// When [`Self::on_timer`] wants to be called, milliseconds of processing time.
    fn next_timer_ms(&self) -> Option<i64> {
        None
    }

    /// Processing time has reached [`Self::next_timer_ms`].
    fn on_timer(&mut self, now_ms: i64, out: &mut dyn Output) -> Result<Progress> {
        let _ = (now_ms, out);
        Ok(Progress::Done)
    }

    /// Every input has ended (after [`Watermark::MAX`]): the last chance to emit. Not called on a stop.
    fn on_end(&mut self, out: &mut dyn Output) -> Result<Progress> {
        let _ = out;
        Ok(Progress::Done)
    }

    /// Goes on with the work of the last call.
    fn resume(&mut self, out: &mut dyn Output) -> Result<Progress> {
        let _ = out;
        Ok(Progress::Done)
    }

    /// Bytes of memory the operator holds itself (accumulators, buffered rows), beside the tables of its [`StateStore`]. Cheap: asked for after
    /// every few batches, for the job's memory budget.
    fn memory_bytes(&self) -> usize {
        0
    }

    /// Puts the state at this barrier into `snapshot`, without writing it: freeze, do not copy. Never called with work pending.
    fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        let _ = snapshot;
        Ok(())
    }
}

/// The most rows a batch between operators should hold.
pub const MAX_BATCH_ROWS: usize = 8192;
