//! Writing a snapshot in the background.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use karez_core::state::Snapshot;
use karez_core::{CheckpointId, Error, KeyGroupRange, Result};

use super::StateFileStore;
use super::handle::StateHandle;
use super::lineage::{FrozenTable, Target};

/// Where and as what a snapshot is written.
pub struct WriteContext<'a> {
    /// Where files go, and where those of earlier checkpoints are.
    pub storage: &'a dyn StateFileStore,
    /// The checkpoint. No two attempts of a run have the same number.
    pub checkpoint: CheckpointId,
    /// Whether the state is written anew, so that the handle refers to no file of another checkpoint.
    pub savepoint: bool,
    /// The first part of the names of files, from [`file_prefix`]: of this operator subtask alone.
    pub prefix: String,
    /// The key groups of the subtask.
    pub key_groups: KeyGroupRange,
}

/// A prefix of file names for an operator subtask. What a file name cannot hold is written as `=` and two hexadecimal digits.
#[must_use]
pub fn file_prefix(node: &str, subtask: usize) -> String {
    format!("{}/{subtask}/", plain(node))
}

fn plain(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    for byte in name.bytes() {
        // No dot at the beginning, so no `.` and `..`.
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && !plain.is_empty()) {
            plain.push(char::from(byte));
        } else {
            let _ = write!(plain, "={byte:02x}");
        }
    }
    plain
}

/// Writes a snapshot; blocks. Only what no earlier file holds is written, unless it is for a savepoint.
///
/// After a failure, or if the attempt fails elsewhere, nothing is lost: the next snapshot of the same tables writes it, or names the files that were
/// written. Snapshots of one operator subtask may be written at the same time; one that has been overtaken by a later one fails.
///
/// # Errors
/// The storage fails, or a file to be merged is damaged; a table was not made by this backend.
pub fn write_snapshot(snapshot: Snapshot, context: &WriteContext<'_>) -> Result<StateHandle> {
    let mut tables = BTreeMap::new();
    for (name, frozen) in snapshot.tables {
        let frozen = frozen.0.downcast::<FrozenTable>().map_err(|_| Error::internal(format!("table `{name}` was not frozen by a state backend")))?;
        let target = Target {
            storage: context.storage,
            checkpoint: context.checkpoint.0,
            prefix: format!("{}{}", context.prefix, plain(&name)),
            whole: context.savepoint,
        };
        tables.insert(name, frozen.write(&target)?);
    }
    Ok(StateHandle {
        key_groups: context.key_groups,
        tables,
        lists: snapshot.lists.into_iter().collect(),
        broadcasts: snapshot.broadcasts.into_iter().collect(),
    })
}
