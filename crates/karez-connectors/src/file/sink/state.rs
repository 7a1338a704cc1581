//! What the file sink writes into checkpoints: open files for the next start, finished ones for the commit.

use std::path::PathBuf;

use karez_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One value of a writer's snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(super) enum FileState {
    /// A file of lines that goes on.
    Open {
        run: String,
        temporary: PathBuf,
        target: PathBuf,
        /// The path rows are routed by: the folder, or the one file.
        place: PathBuf,
        /// Bytes that are durable and belong to this checkpoint; what lies behind them is cut off.
        length: u64,
        created_ms: i64,
        /// The length of the file appended to, `ifExists: append`.
        base: Option<u64>,
        layout: String,
    },
    /// A finished Parquet file that becomes part of the one file when the input ends.
    Segment { run: String, temporary: PathBuf, target: PathBuf, length: u64, layout: String },
    /// The one file has been handed over for commit: nothing is written to it any more.
    Done { target: PathBuf },
}

impl FileState {
    pub(super) fn parse(value: &Value) -> Result<Self> {
        Self::deserialize(value).map_err(|e| Error::internal("the file sink's state in the checkpoint cannot be read").caused_by(e))
    }

    pub(super) fn to_value(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|e| Error::internal("the file sink's state cannot be written").caused_by(e))
    }

    /// The file under its hidden name, if the state is about one.
    pub(super) const fn temporary(&self) -> Option<&PathBuf> {
        match self {
            Self::Open { temporary, .. } | Self::Segment { temporary, .. } => Some(temporary),
            Self::Done { .. } => None,
        }
    }
}

/// The payload of a committable: a durable file that waits for its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FinishedFile {
    pub(super) temporary: PathBuf,
    pub(super) target: PathBuf,
    /// Bytes.
    pub(super) length: u64,
    /// May take the place of an existing file.
    pub(super) replace: bool,
    /// The length the existing file must still have, `ifExists: append`.
    pub(super) base: Option<u64>,
    /// Files that are contained in this one and go when it has its name.
    pub(super) segments: Vec<PathBuf>,
}

impl FinishedFile {
    pub(super) fn parse(value: &Value) -> Result<Self> {
        Self::deserialize(value).map_err(|e| Error::internal("the file sink's committable cannot be read").caused_by(e))
    }

    pub(super) fn to_value(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|e| Error::internal("the file sink's committable cannot be written").caused_by(e))
    }
}
