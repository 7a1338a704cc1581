//! What is said over the socket of a running job: one JSON line each way (`docs/src/reference/control-socket.md`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request may be this long, in bytes.
pub(super) const MAX_REQUEST_BYTES: u64 = 64 * 1024;

/// What a running job is asked for.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Request {
    /// State and figures.
    Status,
    /// Let the sources wait.
    Pause,
    /// Let them go on.
    Resume,
    /// Take a savepoint.
    Savepoint {
        /// The folder it is put into.
        #[serde(default)]
        folder: Option<PathBuf>,
    },
    /// Stop behind a last checkpoint. Answered when the job has ended.
    Stop {
        /// Whether that is a savepoint.
        #[serde(default)]
        savepoint: bool,
        /// The folder it is put into.
        #[serde(default)]
        folder: Option<PathBuf>,
    },
    /// End the input, so that windows fire. Answered when the job has ended.
    Drain,
    /// Feed the dead letters that have been queued in the state directory.
    Replay,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// Done.
    Ok(Value),
    /// Not done, and why.
    Error(String),
}
