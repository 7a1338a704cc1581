//! A savepoint: a checkpoint copied into a folder of its own. All names in it are relative, so the folder may be moved, also to another machine.
//!
//! ```text
//! <folder>/manifest     as in a run's log
//! <folder>/files/…      every file the manifest names
//! ```
//! It is copied after its checkpoint has completed in the run: a crash in between leaves a folder without `manifest`, and a run that has lost nothing.

use std::sync::Arc;

use bytes::Bytes;
use karez_core::{CheckpointId, Error, Result};

use super::codec::Entry;
use super::manifest::{Manifest, ManifestKind, Origin};
use super::storage::{CheckpointStorage, CompletedCheckpoint, file_name};
use super::store::{self, Creation, DurableStore, StoreCalls};

const MANIFEST: &str = "manifest";

/// Copies a completed checkpoint to `<folder>/savepoint-<job>-<run>-<number>`, and answers that location. `folder` is a path or a URL.
/// To be called before retention runs again, since what is copied must not be deleted meanwhile.
///
/// # Errors
/// The target cannot be written, or a savepoint stands there already. The run itself is not affected.
pub fn export(storage: &CheckpointStorage, completed: &CompletedCheckpoint, folder: &str, calls: &StoreCalls) -> Result<String> {
    let manifest = completed.manifest();
    let location = store::join(folder, &format!("savepoint-{}-{}-{}", manifest.job, manifest.run, manifest.checkpoint));
    let target = store::open(&location, calls)?;
    for name in manifest.files() {
        target.create(&file_name(name), &storage.get_file(name)?)?;
    }
    let bytes = Entry::Checkpoint(Box::new(Manifest { kind: ManifestKind::Savepoint, ..manifest.clone() })).encode()?;
    match target.create(MANIFEST, &Bytes::from(bytes))? {
        Creation::Created => Ok(location),
        Creation::Exists => Err(Error::user(format!("there is a savepoint at {location} already"))),
    }
}

/// A savepoint that has been opened.
#[derive(Debug)]
pub struct Savepoint {
    store: Arc<dyn DurableStore>,
    manifest: Manifest,
}

impl Savepoint {
    /// Opens the savepoint at a path or URL.
    ///
    /// # Errors
    /// There is none, it is incomplete, or another build's.
    pub fn open(location: &str, calls: &StoreCalls) -> Result<Self> {
        if !location.contains("://") && !std::path::Path::new(location).is_dir() {
            return Err(Error::user(format!("there is no savepoint at {location}: no such folder")));
        }
        let store = store::open(location, calls)?;
        let Some(bytes) = store.get(MANIFEST)? else {
            return Err(Error::user(format!("{location} is no savepoint, or one that was not completed: it has no `{MANIFEST}`")));
        };
        let manifest = match Entry::decode(&bytes) {
            Ok(Entry::Checkpoint(manifest)) => *manifest,
            Ok(Entry::Generation(_)) => return Err(Error::user(format!("{} is no manifest of a checkpoint", store.describe(MANIFEST)))),
            Err(reason) => return Err(Error::user(format!("the savepoint {} cannot be read: {reason}", store.describe(MANIFEST)))),
        };
        Ok(Self { store, manifest })
    }

    /// What it holds.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Copies it into the storage of a new run, as that run's first checkpoint: from then on the run needs the savepoint no more.
    pub fn import(&self, run: &karez_core::RunId, storage: &CheckpointStorage, now_ms: i64) -> Result<CompletedCheckpoint> {
        for name in self.manifest.files() {
            let path = file_name(name);
            let bytes = self
                .store
                .get(&path)?
                .ok_or_else(|| Error::user(format!("the savepoint is incomplete: {} is missing", self.store.describe(&path))))?;
            storage.put_file(name, &bytes)?;
        }
        let origin = Origin { run: self.manifest.run.clone(), checkpoint: self.manifest.checkpoint };
        // A number of its own, and behind the savepoint's, so that epochs grow across the two runs: its committables keep their epochs.
        let checkpoint = CheckpointId(self.manifest.checkpoint.0.max(storage.first_checkpoint_id().0));
        let manifest = Manifest {
            run: run.clone(),
            generation: storage.generation(),
            checkpoint,
            epoch: karez_core::Epoch(checkpoint.0),
            created_ms: now_ms,
            finished: false,
            stopped: false,
            origin: Some(origin),
            ..self.manifest.clone()
        };
        storage.write_manifest(manifest)
    }
}
