//! Which checkpoints and files are deleted: what nothing reaches any more, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use karez_core::Epoch;

use super::fault;
use super::manifest::Manifest;
use super::storage::{CheckpointStorage, FILES};

/// What to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How many of the newest completed checkpoints; at least one is kept.
    pub newest: usize,
    /// The epochs of committables not yet acknowledged: the newest manifest that names them stays, whatever its age.
    pub unacknowledged: BTreeSet<Epoch>,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Manifests deleted.
    pub manifests: usize,
    /// Files deleted.
    pub files: usize,
    /// Deletions that failed; logged, and tried again next time.
    pub failures: usize,
}

/// Deletes old checkpoints, and then the files that no manifest names. A failure is logged and counted, never fatal.
///
/// Manifests go first: a crash in between leaves files that nothing names, never a manifest that names a file which is gone.
pub fn collect(storage: &CheckpointStorage, keep: &Keep) -> Retained {
    let mut done = Retained::default();
    for sequence in old_manifests(&storage.log_entries(), keep) {
        if let Err(e) = storage.delete_manifest(sequence).and_then(|()| fault::point(fault::RETENTION)) {
            tracing::warn!(manifest = storage.describe_manifest(sequence), error = %e, "cannot delete an old checkpoint; it is tried again after the next");
            done.failures += 1;
        } else {
            done.manifests += 1;
        }
    }
    let files = match storage.store().list(FILES) {
        Ok(files) => files,
        Err(e) => {
            tracing::warn!(error = %e, "cannot list the files of old checkpoints; they are deleted after the next");
            done.failures += 1;
            return done;
        }
    };
    let garbage = {
        let mut written = storage.written.lock().unwrap_or_else(PoisonError::into_inner);
        let garbage = garbage(&storage.log_entries(), &files, &written);
        for name in &garbage {
            written.remove(name);
        }
        garbage
    };
    for name in garbage {
        let path = super::storage::file_name(&name);
        if let Err(e) = storage.store().delete(&path).and_then(|()| fault::point(fault::RETENTION)) {
            tracing::warn!(file = storage.store().describe(&path), error = %e, "cannot delete a file of an old checkpoint; it is tried again after the next");
            done.failures += 1;
        } else {
            done.files += 1;
        }
    }
    done
}

/// The log's numbers of the manifests that may go.
fn old_manifests(completed: &BTreeMap<u64, Arc<Manifest>>, keep: &Keep) -> Vec<u64> {
    let mut waiting = keep.unacknowledged.clone();
    let mut old = Vec::new();
    for (age, (&sequence, manifest)) in completed.iter().rev().enumerate() {
        let named: Vec<Epoch> = manifest.sinks.values().flat_map(|s| &s.committables).map(|c| c.epoch).filter(|e| waiting.contains(e)).collect();
        if age >= keep.newest.max(1) && named.is_empty() {
            old.push(sequence);
        }
        for epoch in named {
            waiting.remove(&epoch);
        }
    }
    old
}

/// The files that may go: no manifest names them, and none to come will.
///
/// A manifest to come names a file that the newest one does not only if it was written since that checkpoint began: a state backend carries a file
/// over from one checkpoint to the next or lets go of it. Files of older processes that no manifest names are leftovers of attempts that failed.
fn garbage(completed: &BTreeMap<u64, Arc<Manifest>>, files: &[String], written: &HashMap<String, u64>) -> Vec<String> {
    let named: BTreeSet<&str> = completed.values().flat_map(|m| m.files()).collect();
    let newest = completed.values().next_back().map_or(0, |m| m.checkpoint.0);
    let names = files.iter().filter_map(|path| path.strip_prefix("files/"));
    names.filter(|name| !named.contains(name) && written.get(*name).is_none_or(|&attempt| attempt < newest)).map(str::to_owned).collect()
}
