//! State on local disk: fjall, a log-structured tree. What is on disk is scratch, emptied at the start and filled from a checkpoint.

mod batches;
mod keyed;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, Snapshot};
use karez_core::{Error, Result};

pub(super) use batches::DiskBatches;
pub(super) use keyed::DiskKeyedTable;

/// How much of a table is held in memory before it goes to disk.
const WRITE_BUFFER_BYTES: u64 = 16 << 20;
/// Blocks read from disk, of all tables together.
const CACHE_BYTES: u64 = 64 << 20;

/// One database for all tables of a job.
pub struct DiskBackend {
    database: Database,
    folder: PathBuf,
    tables: AtomicU64,
}

impl fmt::Debug for DiskBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskBackend").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl DiskBackend {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let failed =
            |e: &dyn fmt::Display| Error::external(format!("cannot use the folder {} for state (state.backend: disk): {e}", folder.display()));
        match std::fs::remove_dir_all(folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(&e)),
            _ => {}
        }
        std::fs::create_dir_all(folder).map_err(|e| failed(&e))?;
        // Nothing here has to survive the process, so the journal is never synced and the folder goes with the database.
        let builder = Database::builder(folder).manual_journal_persist(true).temporary(true).cache_size(CACHE_BYTES).worker_threads(2);
        let database = builder.open().map_err(|e| failed(&e))?;
        Ok(Self { database, folder: folder.to_owned(), tables: AtomicU64::new(0) })
    }

    fn table(self: &Arc<Self>, kind: &str) -> Result<Arc<DiskTable>> {
        let name = format!("{kind}-{}", self.tables.fetch_add(1, Ordering::Relaxed));
        let options = || KeyspaceCreateOptions::default().manual_journal_persist(true).max_memtable_size(WRITE_BUFFER_BYTES);
        let keyspace = self.database.keyspace(&name, options).map_err(|e| self.failed(e))?;
        Ok(Arc::new(DiskTable { backend: Arc::clone(self), keyspace }))
    }

    fn failed(&self, e: fjall::Error) -> Error {
        let full = matches!(&e, fjall::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull);
        let hint = if full { ": the disk is full" } else { "" };
        Error::external(format!("state in {} (state.backend: disk){hint}", self.folder.display())).caused_by(e)
    }
}

/// A keyspace, deleted once neither table nor writer uses it.
struct DiskTable {
    backend: Arc<DiskBackend>,
    keyspace: Keyspace,
}

impl DiskTable {
    fn get(&self, key: &[u8]) -> Result<Option<fjall::UserValue>> {
        self.keyspace.get(key).map_err(|e| self.backend.failed(e))
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.keyspace.insert(key, value).map_err(|e| self.backend.failed(e))
    }

    fn remove(&self, key: &[u8]) -> Result<()> {
        self.keyspace.remove(key).map_err(|e| self.backend.failed(e))
    }

    fn snapshot(&self) -> Snapshot {
        self.backend.database.snapshot()
    }

    fn pair(&self, guard: fjall::Guard) -> Result<(fjall::UserKey, fjall::UserValue)> {
        guard.into_inner().map_err(|e| self.backend.failed(e))
    }
}

impl Drop for DiskTable {
    fn drop(&mut self) {
        if let Err(e) = self.backend.database.delete_keyspace(self.keyspace.clone()) {
            tracing::warn!(folder = %self.backend.folder.display(), error = %e, "cannot delete a table of state; the folder is emptied at the next start");
        }
    }
}

/// An `i64` whose bytes order as its values do.
fn ordered(value: i64) -> [u8; 8] {
    ((value as u64) ^ (1 << 63)).to_be_bytes()
}
