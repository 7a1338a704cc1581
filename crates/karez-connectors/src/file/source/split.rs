//! Positions of splits, as they stand in checkpoints.

use karez_core::{Error, Result, Split};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::input::{Compression, Fingerprint};

/// What a split is, and where reading goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum Position {
    Lines(LinesPosition),
    Parquet(ParquetPosition),
    Follow(FollowPosition),
}

/// A file of a bounded run, as it was when it was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FileAsFound {
    pub(super) path: String,
    /// Bytes on disk.
    pub(super) size: u64,
    /// Of its first bytes on disk.
    pub(super) head: Fingerprint,
}

/// Lines that begin in a range of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct LinesPosition {
    pub(super) file: FileAsFound,
    pub(super) compression: Compression,
    /// The next byte to read, decompressed.
    pub(super) offset: u64,
    /// Lines that begin here or behind it belong to the next split; `None`: there is none.
    pub(super) end: Option<u64>,
    /// Whether a record begins at `offset`; if not, the first one is behind the next line feed at or after the byte before it.
    pub(super) aligned: bool,
}

/// Row groups of a Parquet file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ParquetPosition {
    pub(super) file: FileAsFound,
    /// The row group being read.
    pub(super) group: usize,
    /// Its next row.
    pub(super) row: u64,
    /// The first row group that belongs to the next split.
    pub(super) end: usize,
}

/// A file that is followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FollowPosition {
    /// Where it was found first.
    pub(super) path: String,
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Of its first bytes, decompressed.
    pub(super) head: Fingerprint,
    /// The next byte to read, decompressed.
    pub(super) offset: u64,
    /// Whether the inode holds this content no more: truncated, or read on from a copy.
    pub(super) left: bool,
}

impl Position {
    pub(super) fn of(split: &Split) -> Result<Self> {
        serde_json::from_value(split.position.clone())
            .map_err(|e| Error::internal(format!("the position of the split `{}` is not one of a file", split.id)).caused_by(e))
    }

    pub(super) fn to_value(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|e| Error::internal("a position as JSON").caused_by(e))
    }
}
