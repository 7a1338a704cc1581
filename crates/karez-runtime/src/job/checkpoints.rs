//! The durable side of an attempt: the protocol, its storage, and the work that runs in the background for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use karez_core::sink::CommitPermit;
use karez_core::{CheckpointId, CommitOutcome, Committable, Committer, Epoch, Error, KeyGroupRange, Result};
use tokio::sync::mpsc;

use crate::checkpoint::{Ack, CheckpointStorage, CompletedCheckpoint, Participant, SubtaskState};
use crate::replay::Progress;
use crate::state::{WriteContext, file_prefix, write_snapshot};
use crate::task::{TaskId, TaskSnapshot};

/// What background work reports.
pub(super) enum Done {
    /// A task's part of a checkpoint is durable (or what it prepared, and why it is not), and the dead letters that have been fed to it.
    Acked(CheckpointId, TaskId, Acks, Vec<Progress>),
    /// A task's last state is durable.
    Ended(TaskId, Acks, Vec<Progress>),
    /// A manifest is complete, or is not.
    Manifest(CheckpointId, Result<CompletedCheckpoint>),
    /// A committer has answered.
    Committed(String, Box<dyn Committer>, Result<Vec<CommitOutcome>>),
    /// The savepoint of this checkpoint has been copied. Of two that are copied at the same time either may be the first.
    Exported(CheckpointId, Result<String>),
}

/// The acknowledgements of the nodes of a task; an error for a node whose state could not be written, with what it had prepared.
pub(super) type Acks = Vec<(Participant, Result<Ack, (Error, Vec<Committable>)>)>;

/// What a task's snapshot was taken for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Occasion {
    /// A barrier.
    Barrier,
    /// The end of its input.
    End,
}

/// Writes the snapshots of one task, in the order they were taken.
pub(super) struct SnapshotWriter {
    /// The task.
    pub(super) task: TaskId,
    /// How many subtasks its vertex has.
    pub(super) parallelism: usize,
    /// The job's key groups.
    pub(super) key_groups: u16,
    /// Where state files go.
    pub(super) storage: Arc<CheckpointStorage>,
    /// Where the acknowledgements go.
    pub(super) done: mpsc::UnboundedSender<Done>,
}

impl SnapshotWriter {
    /// Writes what comes in until the sender is gone.
    pub(super) async fn run(self, mut snapshots: mpsc::UnboundedReceiver<(Occasion, CheckpointId, Box<TaskSnapshot>)>) {
        while let Some((occasion, checkpoint, snapshot)) = snapshots.recv().await {
            let replays = snapshot.replays.clone();
            let acks = self.write(checkpoint, *snapshot).await;
            let done = match occasion {
                Occasion::Barrier => Done::Acked(checkpoint, self.task, acks, replays),
                Occasion::End => Done::Ended(self.task, acks, replays),
            };
            if self.done.send(done).is_err() {
                return;
            }
        }
    }

    async fn write(&self, checkpoint: CheckpointId, snapshot: TaskSnapshot) -> Acks {
        let subtask = self.task.subtask;
        let TaskSnapshot { operators, source, sink, .. } = snapshot;
        let mut acks: Acks = Vec::new();
        if let Some((node, ack)) = source {
            acks.push((Participant::subtask(node, subtask), Ok(Ack::Source(ack))));
        }
        let key_groups = KeyGroupRange::of_subtask(subtask, self.parallelism, self.key_groups);
        for (node, state) in operators {
            let prefix = file_prefix(&node, subtask);
            let written = self.storage.run_blocking(move |storage| {
                let context = WriteContext { storage, checkpoint, savepoint: false, prefix, key_groups };
                write_snapshot(state, &context)?.to_subtask_state()
            });
            let ack = written.await.map(Ack::Operator).map_err(|e| (e, Vec::new()));
            acks.push((Participant::subtask(node, subtask), ack));
        }
        if let Some(sink) = sink {
            let epoch = Epoch(checkpoint.0);
            let committables = sink.committables.into_iter().map(|payload| Committable { epoch, subtask, payload }).collect();
            acks.push((Participant::subtask(sink.node, subtask), Ok(Ack::Sink { writer: sink.states, committables })));
        }
        acks
    }
}

/// Commits what a sink has pending, in the background.
pub(super) async fn commit(
    sink: String,
    mut committer: Box<dyn Committer>,
    permit: Arc<CommitPermit>,
    committables: Vec<Committable>,
    done: mpsc::UnboundedSender<Done>,
) {
    let outcome = committer.commit(&permit, &committables).await;
    // Nobody to tell: the attempt is over, and recovery commits again.
    let _ = done.send(Done::Committed(sink, committer, outcome));
}

/// The states of an operator's former subtasks.
pub(super) fn operator_states(restored: Option<&CompletedCheckpoint>, node: &str) -> Vec<SubtaskState> {
    restored.and_then(|c| c.manifest().operators.get(node)).map(|o| o.subtasks.clone()).unwrap_or_default()
}

/// The writers' states of a sink, spread over its subtasks in turn.
pub(super) fn writer_states(restored: Option<&CompletedCheckpoint>) -> BTreeMap<String, Vec<serde_json::Value>> {
    restored.map(|c| c.manifest().sinks.iter().map(|(n, s)| (n.clone(), s.writers.clone())).collect()).unwrap_or_default()
}
