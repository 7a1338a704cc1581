//! A checkpoint as it is written: what every node needs to go on, and what has been prepared and not yet acknowledged as committed.
//! How it stands on disk is `docs/src/checkpoint-format.md`.

use std::collections::{BTreeMap, BTreeSet};

use karez_core::{CheckpointId, Committable, Epoch, Error, Generation, Result, RunId, Split};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ack::{Ack, Participant, SplitState, SubtaskState};
use crate::replay::Progress;

/// What a node is to a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeRole {
    /// It reads.
    Source,
    /// It works.
    Operator,
    /// It writes.
    Sink,
}

/// A node of the job that runs now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobNode {
    /// Its name, unique in the job.
    pub name: String,
    /// What it is.
    pub role: NodeRole,
    /// The operator's or connector's type name.
    pub type_name: String,
    /// What its state depends on (`OperatorSpec::identity`); compared as text.
    pub identity: String,
    /// How many subtasks.
    pub parallelism: usize,
}

/// The job that runs now, as far as a manifest holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobShape {
    /// The id of the job.
    pub job: String,
    /// The number of key groups (`maxParallelism`).
    pub key_groups: u16,
    /// Its nodes.
    pub nodes: Vec<JobNode>,
}

impl JobShape {
    /// Everyone who must acknowledge: every subtask of every node, and every source's enumerator.
    #[must_use]
    pub fn participants(&self) -> BTreeSet<Participant> {
        let subtasks = self.nodes.iter().flat_map(|n| (0..n.parallelism).map(|s| Participant::subtask(&n.name, s)));
        let enumerators = self.nodes.iter().filter(|n| n.role == NodeRole::Source).map(|n| Participant::enumerator(&n.name));
        subtasks.chain(enumerators).collect()
    }
}

/// Whether a checkpoint was asked for by the clock or by a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ManifestKind {
    /// By the clock.
    Checkpoint,
    /// By a person: refers to no file of another checkpoint.
    Savepoint,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The id of the job.
    pub job: String,
    /// The run it belongs to.
    pub run: RunId,
    /// The start of the run that wrote it.
    pub generation: Generation,
    /// Its number.
    pub checkpoint: CheckpointId,
    /// The newest epoch it permits to commit: the number again.
    pub epoch: Epoch,
    /// Checkpoint or savepoint.
    pub kind: ManifestKind,
    /// When it was completed, milliseconds since the epoch.
    pub created_ms: i64,
    /// The version of Karez that wrote it.
    pub karez: String,
    /// The number of key groups that keyed state is cut by.
    pub key_groups: u16,
    /// All input has been read and nothing will follow: the last checkpoint of a bounded job.
    #[serde(default)]
    pub finished: bool,
    /// The job was stopped behind it and can be resumed.
    #[serde(default)]
    pub stopped: bool,
    /// Where it was restored from, if this is the first manifest of a run that a savepoint opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The operators, by name.
    pub operators: BTreeMap<String, OperatorManifest>,
    /// The sources, by name.
    pub sources: BTreeMap<String, SourceManifest>,
    /// The sinks, by name.
    pub sinks: BTreeMap<String, SinkManifest>,
    /// The dead letters that have been fed again: what they did is in the states above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replays: Vec<Progress>,
}

/// The checkpoint a savepoint was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The run it was taken from. Committables of the savepoint bear this run's marks.
    pub run: RunId,
    /// Its number there.
    pub checkpoint: CheckpointId,
}

/// An operator's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorManifest {
    /// The operator type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What the state depends on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub identity: String,
    /// How many subtasks it had.
    pub parallelism: usize,
    /// Their states, by subtask.
    pub subtasks: Vec<SubtaskState>,
}

/// A source's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceManifest {
    /// The connector.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What the positions depend on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub identity: String,
    /// How many subtasks it had.
    pub parallelism: usize,
    /// The enumerator's snapshot; splits it has found once it does not find again.
    pub enumerator: Value,
    /// The enumerator will never find another split.
    #[serde(default)]
    pub discovery_done: bool,
    /// Splits found and not yet read, in order of reading.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unassigned: Vec<Split>,
    /// Splits that were being read, at their positions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<SplitState>,
    /// Splits read to their end that the enumerator's snapshot does not know of: it is told after a restore.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished: Vec<Split>,
    /// The least watermark over its subtasks, milliseconds since the epoch; none while one of them has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_ms: Option<i64>,
}

/// A sink's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkManifest {
    /// The connector.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What the writers' states depend on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub identity: String,
    /// How many subtasks it had.
    pub parallelism: usize,
    /// What its writers go on with, all subtasks together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writers: Vec<Value>,
    /// What was durable at this checkpoint and not yet known to be committed: of this epoch, of attempts that failed, and of older epochs.
    /// By epoch and subtask, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub committables: Vec<Committable>,
}

impl Manifest {
    /// Every file of the checkpoint storage that it names.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.operators.values().flat_map(|o| &o.subtasks).flat_map(|s| &s.files).map(String::as_str)
    }

    /// What it permits to commit, by sink.
    #[must_use]
    pub fn committables(&self) -> BTreeMap<String, Vec<Committable>> {
        let pending = self.sinks.iter().filter(|(_, s)| !s.committables.is_empty());
        pending.map(|(name, s)| (name.clone(), s.committables.clone())).collect()
    }
}

/// What the protocol has collected for a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestParts {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Its kind.
    pub kind: ManifestKind,
    /// Nothing will follow.
    pub finished: bool,
    /// The job stops behind it.
    pub stopped: bool,
    /// An acknowledgement of every participant, their committables taken out.
    pub acks: BTreeMap<Participant, Ack>,
    /// What is prepared and not yet known to be committed, by sink.
    pub committables: BTreeMap<String, Vec<Committable>>,
}

impl ManifestParts {
    /// Puts a manifest together.
    ///
    /// # Errors
    /// A broken invariant: an acknowledgement that does not fit its node, or committables of a node that is no sink of the job.
    pub fn assemble(self, shape: &JobShape, run: &RunId, generation: Generation, now_ms: i64) -> Result<Manifest> {
        let Self { checkpoint, kind, finished, stopped, mut acks, mut committables } = self;
        let mut manifest = Manifest {
            job: shape.job.clone(),
            run: run.clone(),
            generation,
            checkpoint,
            epoch: Epoch(checkpoint.0),
            kind,
            created_ms: now_ms,
            karez: env!("CARGO_PKG_VERSION").to_owned(),
            key_groups: shape.key_groups,
            finished,
            stopped,
            origin: None,
            operators: BTreeMap::new(),
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
            replays: Vec::new(),
        };
        for node in &shape.nodes {
            let acked: Vec<Option<Ack>> = (0..node.parallelism).map(|s| acks.remove(&Participant::subtask(&node.name, s))).collect();
            match node.role {
                NodeRole::Operator => {
                    // A node that takes no part (it keeps no state) has nothing to restore.
                    if acked.iter().any(Option::is_some) {
                        manifest.operators.insert(node.name.clone(), operator(node, acked)?);
                    }
                }
                NodeRole::Source => {
                    let enumerator = acks.remove(&Participant::enumerator(&node.name));
                    manifest.sources.insert(node.name.clone(), source(node, enumerator, acked)?);
                }
                NodeRole::Sink => {
                    let mut pending = committables.remove(&node.name).unwrap_or_default();
                    pending.sort_by_key(|c| (c.epoch, c.subtask));
                    manifest.sinks.insert(node.name.clone(), sink(node, acked, pending)?);
                }
            }
        }
        if let Some(who) = acks.keys().next() {
            return Err(Error::internal(format!("checkpoint {checkpoint}: {who} acknowledged, but the job has no such part")));
        }
        if let Some((node, pending)) = committables.iter().find(|(_, c)| !c.is_empty()) {
            return Err(Error::internal(format!("checkpoint {checkpoint}: {} committables of `{node}`, which is no sink of the job", pending.len())));
        }
        Ok(manifest)
    }
}

fn misfit(node: &JobNode, subtask: usize) -> Error {
    Error::internal(format!("subtask {subtask} gave no acknowledgement, or that of another kind of node")).at(&node.name)
}

fn operator(node: &JobNode, acked: Vec<Option<Ack>>) -> Result<OperatorManifest> {
    let states = acked.into_iter().enumerate().map(|(subtask, ack)| match ack {
        Some(Ack::Operator(state)) => Ok(state),
        _ => Err(misfit(node, subtask)),
    });
    Ok(OperatorManifest {
        type_name: node.type_name.clone(),
        identity: node.identity.clone(),
        parallelism: node.parallelism,
        subtasks: states.collect::<Result<_>>()?,
    })
}

fn source(node: &JobNode, enumerator: Option<Ack>, acked: Vec<Option<Ack>>) -> Result<SourceManifest> {
    let Some(Ack::Enumerator { state, open: mut reopened, mut unassigned, mut finished, done }) = enumerator else {
        return Err(Error::internal("its enumerator gave no acknowledgement").at(&node.name));
    };
    let mut open = Vec::new();
    let mut watermark_ms = Some(i64::MAX);
    // By a reader to the enumerator before the barrier.
    let told: BTreeSet<String> = finished.iter().map(|s| s.id.clone()).collect();
    for (subtask, ack) in acked.into_iter().enumerate() {
        let Some(Ack::Source(ack)) = ack else { return Err(misfit(node, subtask)) };
        open.extend(ack.splits);
        finished.extend(ack.finished.into_iter().filter(|new| !told.contains(&new.id)));
        watermark_ms = watermark_ms.zip(ack.watermark_ms).map(|(a, b)| a.min(b));
    }
    // A split handed out between the enumerator's snapshot and the reader's barrier: what the reader has read of it lies before the barrier.
    let known: BTreeSet<&str> = open.iter().map(|s: &SplitState| s.split.id.as_str()).chain(finished.iter().map(|s: &Split| s.id.as_str())).collect();
    reopened.retain(|s| !known.contains(s.split.id.as_str()));
    unassigned.retain(|s| !known.contains(s.id.as_str()));
    open.extend(reopened);
    Ok(SourceManifest {
        type_name: node.type_name.clone(),
        identity: node.identity.clone(),
        parallelism: node.parallelism,
        enumerator: state,
        discovery_done: done,
        unassigned,
        open,
        finished,
        watermark_ms,
    })
}

fn sink(node: &JobNode, acked: Vec<Option<Ack>>, committables: Vec<Committable>) -> Result<SinkManifest> {
    let mut writers = Vec::new();
    for (subtask, ack) in acked.into_iter().enumerate() {
        let Some(Ack::Sink { writer, .. }) = ack else { return Err(misfit(node, subtask)) };
        writers.extend(writer);
    }
    Ok(SinkManifest { type_name: node.type_name.clone(), identity: node.identity.clone(), parallelism: node.parallelism, writers, committables })
}
