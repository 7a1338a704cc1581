//! Keyed, list and broadcast state: the backends that hold it while a job runs, and the files that keep it.
//!
//! ```text
//!  operator ──► PaneTable / KeyedTable ──freeze──► Frozen ──write_snapshot──► state files + StateHandle ──► manifest
//!                 (memory | disk)                   (at the barrier)  (background thread)                      │
//!                       ▲───────────────────────────── Backend::store ◄── RestoredState ◄──────────────────────┘
//! ```
//! **Incremental.** A table's `lineage` is the list of files that make up its state, oldest first, and the frozen changes that
//! are in none of them yet. A checkpoint writes the changes, appends the file, and refers to the others by name. A change leaves the
//! queue only once its file is durable, so an attempt that failed, or whose manifest was never written, loses nothing. Files are
//! immutable; now and then a tail of small ones is merged into one (a log-structured tree whose levels are the runs of files).
//!
//! **Rescaling.** Rows of a file are ordered by key group, and a handle names the key groups for which a file counts. A subtask of
//! another parallelism takes the handles of all old subtasks and reads its range; files that it shares with a neighbour stay shared.
//!
//! **Deleting files.** A name that a handle has given may stand in every later handle of that table until a newer one leaves it out;
//! after that it never comes back. A file written by an attempt that failed may be named by the next attempt.

mod batches;
mod budget;
mod disk;
mod file;
mod handle;
mod lineage;
mod list;
mod memory;
mod merge;
mod pane_file;
mod panes;
mod restore;
mod snapshot;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use karez_core::Result;

pub use budget::{MemoryAccount, MemoryBudget};
pub use disk::DiskBackend;
pub use handle::{PaneSet, StateFile, StateHandle, TableHandle, TableKind};
pub use restore::{OperatorState, RestoredState, StoreContext};
pub use snapshot::{WriteContext, file_prefix, write_snapshot};

use crate::checkpoint::CheckpointStorage;

/// Where state files are kept. All calls block.
pub trait StateFileStore: Send + Sync {
    /// Writes a file, whole and durably. A name is used once.
    fn put(&self, name: &str, bytes: Bytes) -> Result<()>;

    /// Reads a file. Fails, naming it, if there is none.
    fn get(&self, name: &str) -> Result<Bytes>;
}

impl StateFileStore for CheckpointStorage {
    fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.put_file(name, &bytes)
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        self.get_file(name)
    }
}

/// What holds a job's state while it runs.
#[derive(Clone, Debug)]
pub enum Backend {
    /// Memory.
    Memory,
    /// Local disk; memory holds caches and what changed since the last checkpoint.
    Disk(Arc<DiskBackend>),
}

impl Backend {
    /// The disk backend in a folder of its own, which is emptied: what counts is in the checkpoints.
    ///
    /// # Errors
    /// The folder cannot be made or emptied, or another process uses it.
    pub fn disk(folder: &Path) -> Result<Self> {
        Ok(Self::Disk(Arc::new(DiskBackend::open(folder)?)))
    }

    /// The state of one operator subtask.
    ///
    /// # Errors
    /// What is restored was cut into another number of key groups.
    pub fn store(&self, context: StoreContext, restored: RestoredState) -> Result<OperatorState> {
        OperatorState::new(self.clone(), context, restored)
    }
}
