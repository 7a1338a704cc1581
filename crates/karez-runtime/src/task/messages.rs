//! What a task and the coordinator tell each other.

use karez_core::{BadRecord, Barrier, CheckpointId, Split, Watermark};

use super::chain::ChainSnapshot;
use super::replay::ReplayWork;
use super::sink::SinkAck;
use crate::checkpoint::{SourceAck, SplitState};
use crate::replay::Progress;

/// Names a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// The vertex (index in the job graph).
    pub vertex: usize,
    /// The subtask, from 0.
    pub subtask: usize,
}

/// What the coordinator tells a task. A task takes commands between elements, in order.
#[derive(Debug)]
pub enum Command {
    /// A checkpoint begins: for sources, and for tasks whose inputs have all ended.
    Trigger(Barrier),
    /// Read these splits too.
    Assign(Vec<SplitState>),
    /// Event time had come this far at the restored checkpoint.
    RestoreWatermark(Watermark),
    /// There will be no more splits.
    NoMoreSplits,
    /// Read nothing until `Resume`.
    Pause,
    /// Read on.
    Resume,
    /// End the input here.
    Drain,
    /// Rows that the sink's committer refused: letters of the next epoch.
    Letters(Vec<BadRecord>),
    /// Dead letters to be fed again.
    Replay(ReplayWork),
    /// All is committed: the task may go.
    Finish,
}

/// What a task tells the coordinator.
#[derive(Debug)]
pub enum TaskEvent {
    /// Its part of a checkpoint; what is frozen has yet to be written.
    Snapshot(TaskId, CheckpointId, Box<TaskSnapshot>),
    /// It wants a split.
    SplitRequest(TaskId),
    /// It has read a split to its end.
    SplitFinished(TaskId, Split),
    /// All its inputs have ended and everything behind them has been handed on: its last state, stamped with the checkpoint after the newest it has seen.
    Ended(TaskId, CheckpointId, Box<TaskSnapshot>),
    /// So many letters of a replay came when its input had ended: they are not fed.
    LettersTooLate(String, usize),
}

/// A task's part of a checkpoint.
pub struct TaskSnapshot {
    /// The operators' frozen states, by node.
    pub operators: ChainSnapshot,
    /// The source's node and its part.
    pub source: Option<(String, SourceAck)>,
    /// The sink's part.
    pub sink: Option<SinkAck>,
    /// The dead letters that have been fed to it.
    pub replays: Vec<Progress>,
}

impl std::fmt::Debug for TaskSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskSnapshot").field("source", &self.source).field("sink", &self.sink).finish_non_exhaustive()
    }
}
