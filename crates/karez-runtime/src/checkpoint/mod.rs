//! Checkpoints: pure decisions, and I/O at the edge (decisions 10 to 12 and 14 of the design).
//!
//! ```text
//!  RunDirectory ──open──► OpenedRun ── Recovery::choose ──► CompletedCheckpoint ── CommitRound::replay ──► committers
//!                            │                                       ▲
//!  Protocol (no I/O, no clock) ──Decision──► coordinator ──► CheckpointStorage::write_manifest
//! ```
//! * [`protocol`] decides when a checkpoint starts, has succeeded or failed, and what may be committed; it touches nothing.
//! * [`manifest`] is what a checkpoint consists of, [`codec`] how it stands on disk (`docs/src/checkpoint-format.md`).
//! * [`store`] keeps bytes durably; [`storage`] keeps one run's manifests, state files and fences on top of it.
//! * [`run`] is the state directory, its lock and which run goes on; [`recovery`] is which checkpoint it goes on from.
//! * [`retention`] deletes what nothing reaches any more; [`savepoint`] copies a checkpoint into a folder of its own.
//!
//! Everything that does I/O blocks. Call it on a blocking thread: [`storage::CheckpointStorage::run_blocking`].

pub mod ack;
pub mod codec;
pub mod commit;
pub mod compatible;
pub mod fault;
pub mod manifest;
pub mod protocol;
pub mod recovery;
pub mod retention;
pub mod run;
pub mod savepoint;
pub mod storage;
pub mod store;

pub use ack::{Ack, Participant, SourceAck, SplitState, SubtaskState};
pub use commit::CommitRound;
pub use compatible::check_compatible;
pub use manifest::{JobNode, JobShape, Manifest, ManifestKind, ManifestParts, NodeRole};
pub use protocol::{CheckpointRequest, Decision, Protocol, ProtocolSettings};
pub use recovery::{FallbackFacts, Recovery};
pub use run::{OpenedRun, RunDirectory, Start};
pub use storage::{CheckpointStorage, CompletedCheckpoint};
