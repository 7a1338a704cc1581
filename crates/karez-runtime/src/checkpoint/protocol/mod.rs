//! The checkpoint protocol as pure decisions: events go in, [`Decision`]s come out. No I/O, no clock: every event brings the time, in milliseconds.
//!
//! ```text
//!           Trigger            all acknowledged         manifest_written        every sink answered
//!   Idle ───────────► InProgress ──────────► WritingManifest ──────────► Committing ───────────────► Idle, or Done
//!     ▲                  │ timeout, decline, failure    │ manifest_failed
//!     └──────────────────┴──────────────────────────────┘  nothing is lost: its committables belong to the next attempt
//! ```
//! One checkpoint at a time. Ended participants count as acknowledged with their final state; when all have ended, a last checkpoint is made without
//! any barrier, and the job has finished when that is committed. (The split into decisions and I/O is Arroyo's; the rules are Flink's.)
//!
//! What the coordinator must keep to:
//! * carry out decisions in order, and report back what the decision says;
//! * deliver one participant's messages in the order they were sent. A participant acknowledges or declines each barrier it gets once, hands every
//!   committable over exactly once, with that or with its end, and does so for an aborted attempt as well;
//! * a task that ends stamps its last committables with the epoch after the newest barrier it has seen (at first: after
//!   [`super::storage::CheckpointStorage::first_checkpoint_id`] minus 1).

mod machine;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use karez_core::sink::CommitPermit;
use karez_core::{BadRecord, Barrier, BarrierKind, CheckpointId, Committable, Epoch, Error};

use super::ack::Participant;
use super::manifest::ManifestParts;
use super::retention::Keep;

pub use machine::Protocol;

/// When checkpoints are made, and how many may fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolSettings {
    /// Between the starts of two checkpoints, milliseconds; `None`: only on request and at the end.
    pub interval_ms: Option<i64>,
    /// An attempt that takes longer has failed, milliseconds.
    pub timeout_ms: i64,
    /// The least time between the end of one and the start of the next, milliseconds. Requests do not wait for it.
    pub min_pause_ms: i64,
    /// How many may fail in a row before the job does.
    pub tolerable_failures: u32,
    /// How many completed checkpoints are kept.
    pub retained: usize,
}

impl From<&karez_graph::settings::CheckpointSettings> for ProtocolSettings {
    fn from(s: &karez_graph::settings::CheckpointSettings) -> Self {
        Self {
            interval_ms: Some(s.interval.as_millis()),
            timeout_ms: s.timeout.as_millis(),
            min_pause_ms: s.min_pause.as_millis(),
            tolerable_failures: s.tolerable_failures,
            retained: s.retained,
        }
    }
}

/// A checkpoint that someone asked for; its answer is [`Decision::Completed`] or [`Decision::RequestFailed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointRequest(pub u64);

/// Why the job is over, as far as checkpoints go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All input was read, and everything is committed.
    Finished,
    /// It was stopped and can be resumed.
    Stopped,
}

/// What the coordinator is to do.
#[derive(Debug)]
pub enum Decision {
    /// `CheckpointStorage::begin_attempt`, then take the enumerators' snapshots and send the barrier to the sources. Report `ack`, `decline` or `failed`.
    Trigger {
        /// The barrier.
        barrier: Barrier,
        /// Who has not ended and must acknowledge.
        pending: BTreeSet<Participant>,
    },
    /// Assemble and write the manifest. Report `manifest_written` or `manifest_failed`.
    WriteManifest(ManifestParts),
    /// Tell state backends and sources that the checkpoint has completed.
    NotifyCompleted(CheckpointId),
    /// Commit, each sink on its own, in the order given. Report `committed` or `commit_failed` for every sink named.
    Commit {
        /// The permit.
        permit: CommitPermit,
        /// What, by sink.
        committables: BTreeMap<String, Vec<Committable>>,
    },
    /// Some commits of a sink have to be tried again later: log and count.
    CommitDelayed {
        /// The sink.
        sink: String,
        /// Why, each.
        errors: Vec<Error>,
    },
    /// Rows refused at commit: letters of the next epoch.
    DeadLetters {
        /// The sink.
        sink: String,
        /// The epoch they were written for.
        epoch: Epoch,
        /// The rows.
        rows: Vec<BadRecord>,
    },
    /// A checkpoint is over, commits included. Copy the savepoint now if it is one, then answer the request.
    Completed {
        /// The checkpoint.
        id: CheckpointId,
        /// What was asked for.
        kind: BarrierKind,
        /// Who asked, if someone did.
        request: Option<CheckpointRequest>,
        /// From its start to its end, milliseconds.
        duration_ms: i64,
        /// How many committables stay for the next checkpoint, or, after a stop, for the next start.
        uncommitted: usize,
    },
    /// Delete what is not needed any more.
    DeleteOld(Keep),
    /// Tell the tasks to forget this attempt, and the state files not yet written.
    Abort {
        /// The attempt.
        id: CheckpointId,
        /// Why.
        reason: String,
    },
    /// A request got no checkpoint.
    RequestFailed {
        /// Which.
        request: CheckpointRequest,
        /// Why.
        reason: String,
    },
    /// No further checkpoint follows: let the tasks go.
    Ended(End),
    /// The job fails, and restarts by its strategy.
    FailJob(Error),
}
