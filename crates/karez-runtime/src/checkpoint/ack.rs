//! What the parts of a job hand to a checkpoint.

use std::fmt;

use karez_core::{Committable, Split};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who must acknowledge a checkpoint before it is complete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Participant {
    /// A subtask of a node.
    Subtask {
        /// The node's name.
        node: String,
        /// From 0.
        subtask: usize,
    },
    /// The split enumerator of a source, which lives in the coordinator.
    Enumerator {
        /// The source's name.
        node: String,
    },
}

impl Participant {
    /// Subtask `subtask` of `node`.
    pub fn subtask(node: impl Into<String>, subtask: usize) -> Self {
        Self::Subtask { node: node.into(), subtask }
    }

    /// The enumerator of `node`.
    pub fn enumerator(node: impl Into<String>) -> Self {
        Self::Enumerator { node: node.into() }
    }

    /// The node it belongs to.
    #[must_use]
    pub fn node(&self) -> &str {
        match self {
            Self::Subtask { node, .. } | Self::Enumerator { node } => node,
        }
    }
}

impl fmt::Display for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subtask { node, subtask } => write!(f, "{node}[{subtask}]"),
            Self::Enumerator { node } => write!(f, "{node} (enumerator)"),
        }
    }
}

/// The state of one subtask: what the state backend needs to find it again, and the files that this refers to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubtaskState {
    /// In the state backend's words.
    pub state: Value,
    /// Names of files in the run's checkpoint storage; retention keeps them as long as a manifest names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// A split that is being read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SplitState {
    /// The split, its position behind the last row before the barrier.
    pub split: Split,
    /// Its watermark, milliseconds since the epoch; none before its first row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_ms: Option<i64>,
}

/// What a subtask of a source acknowledges with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceAck {
    /// The splits it reads.
    pub splits: Vec<SplitState>,
    /// The splits it has finished that the enumerator's snapshot of this checkpoint does not know of yet.
    pub finished: Vec<Split>,
    /// The watermark it has sent, milliseconds since the epoch.
    pub watermark_ms: Option<i64>,
}

/// An acknowledgement.
#[derive(Clone, Debug, PartialEq)]
pub enum Ack {
    /// Of an operator's subtask.
    Operator(SubtaskState),
    /// Of a source's subtask.
    Source(SourceAck),
    /// Of a source's enumerator.
    Enumerator {
        /// Its own snapshot.
        state: Value,
        /// The splits that were open at the restored checkpoint and that no reader has taken over yet. One that a reader of the same checkpoint knows is
        /// the reader's.
        open: Vec<SplitState>,
        /// The splits it has found and not handed out, in order of reading. A split that a reader of the same checkpoint knows is the reader's.
        unassigned: Vec<Split>,
        /// The splits that readers have finished and its snapshot, taken before it began to look for splits, does not know of yet.
        finished: Vec<Split>,
        /// It will never find another.
        done: bool,
    },
    /// Of a sink's subtask.
    Sink {
        /// What its writer goes on with.
        writer: Vec<Value>,
        /// What its writer has prepared since the acknowledgement before, stamped with the epoch it was prepared for.
        committables: Vec<Committable>,
    },
}

impl Ack {
    /// Takes the committables out: they have a life of their own once the attempt is over.
    pub(super) fn take_committables(&mut self) -> Vec<Committable> {
        match self {
            Self::Sink { committables, .. } => std::mem::take(committables),
            _ => Vec::new(),
        }
    }
}
