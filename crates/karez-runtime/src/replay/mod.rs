//! Dead letters that go back into a job: queued durably, fed once (`docs/src/dead-letters.md`).
//!
//! ```text
//!  karez dlq replay ──queue()──► <state-dir>/<job>/replays/ID.ndjson      immutable, durable before the job hears of it
//!                                      │  at each start, and when told
//!  coordinator (`job/replays.rs`) ─────┴──► the node's tasks (`task/replay.rs`): fed between two elements
//!  manifest.replays ◄── Progress: which letters have been fed before this barrier
//! ```
//! A letter counts once because what it did and that it has been fed stand in the same checkpoint: after a crash both are there, or neither.

mod progress;
mod request;
mod view;

pub use crate::job::replays::check;
pub use progress::Progress;
pub use request::{MAX_LETTERS, MAX_REQUESTS, ReplayRequest, queue, requests};
pub use view::{RunView, view};

/// The folder of queued replays below a job's directory.
pub(crate) const FOLDER: &str = "replays";
