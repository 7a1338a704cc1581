//! What travels on an edge.

use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::Watermark;

/// One element of a stream. Control travels in the same queue as the rows, in order.
#[derive(Clone, Debug)]
pub enum Element {
    /// Rows.
    Batch(RecordBatch),
    /// Event time has reached this point on this input.
    Watermark(Watermark),
    /// This input has nothing at present and does not hold the watermark back until its next element
    /// (Flink's `WatermarkStatus`, FLIP-180).
    Idle,
    /// A checkpoint begins here.
    Barrier(Barrier),
    /// Nothing follows. Comes after the last watermark and takes part in later checkpoints as an acknowledged input.
    EndOfInput,
}

/// The number of a checkpoint: grows by one with every attempt of a run, also over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckpointId(pub u64);

impl std::fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A checkpoint barrier (Carbone et al., "Lightweight Asynchronous Snapshots for Distributed Dataflows", 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// The checkpoint that this barrier belongs to.
    pub checkpoint: CheckpointId,
    /// What follows behind it.
    pub kind: BarrierKind,
}

/// What the barrier asks for besides a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierKind {
    /// The job goes on.
    Checkpoint,
    /// A savepoint: the snapshot is complete in itself and refers to no file of another checkpoint.
    Savepoint,
    /// The last one: sources emit nothing behind it, no window fires.
    Stop,
    /// The last one, and a savepoint.
    StopWithSavepoint,
}

impl BarrierKind {
    /// Whether the job stops behind this barrier.
    #[must_use]
    pub const fn stops(self) -> bool {
        matches!(self, Self::Stop | Self::StopWithSavepoint)
    }

    /// Whether the snapshot must stand for itself.
    #[must_use]
    pub const fn is_savepoint(self) -> bool {
        matches!(self, Self::Savepoint | Self::StopWithSavepoint)
    }
}
