//! One run's checkpoints in a [`DurableStore`]: a log of manifests and fences, and the state files that they name.
//!
//! ```text
//! log/00000000000000000001   a process took over (generation 1)
//! log/00000000000000000002   checkpoint 1
//! log/00000000000000000003   a process took over (generation 2)
//! ids/00000000000000000032   checkpoint ids up to 32 may have been used by an attempt
//! files/…                    state files, named by the state backend, never changed
//! ```
//! **The fence.** Entries are created at the next free number, if absent. A process that takes over creates an entry of its own there, so whatever an
//! older process adds afterwards meets a number that is taken, and fails: there is no moment between a check and a write. Such an entry is never
//! deleted, so the number stays taken. (Delta Lake's and Iceberg's logs commit in the same way.)

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use karez_core::{CheckpointId, Error, Generation, Result};

use super::codec::{Entry, GenerationStart, Unreadable};
use super::fault;
use super::manifest::Manifest;
use super::recovery::{Recovery, UnreadableManifest};
use super::store::{Creation, DurableStore};

pub(super) const LOG: &str = "log";
pub(super) const FILES: &str = "files";
const IDS: &str = "ids";
/// How many checkpoint ids are reserved at a time: a start skips what is left of the block, an attempt needs no write of its own.
const ID_BLOCK: u64 = 32;

/// A checkpoint whose manifest is whole and durable: what permits a commit.
#[derive(Clone, Debug)]
pub struct CompletedCheckpoint {
    manifest: Arc<Manifest>,
}

impl CompletedCheckpoint {
    pub(super) const fn new(manifest: Arc<Manifest>) -> Self {
        Self { manifest }
    }

    /// What it holds.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

/// The checkpoints of one run, as one generation of it may use them.
#[derive(Debug)]
pub struct CheckpointStorage {
    store: Arc<dyn DurableStore>,
    generation: Generation,
    first_id: CheckpointId,
    log: Mutex<Log>,
    /// Files written by this process, and the newest attempt at the time: they may be named by a manifest yet to come.
    pub(super) written: Mutex<HashMap<String, u64>>,
    attempt: AtomicU64,
}

#[derive(Debug)]
struct Log {
    next: u64,
    reserved: u64,
    completed: BTreeMap<u64, Arc<Manifest>>,
}

impl CheckpointStorage {
    /// Takes over a run's storage: reads its log, and fences every process that used it before.
    ///
    /// # Errors
    /// The storage cannot be read or written; a manifest is of another format version; another process keeps taking over.
    pub fn take_over(store: Arc<dyn DurableStore>, now_ms: i64) -> Result<(Self, Recovery)> {
        // Each failed round means that someone else took over or wrote in between.
        for _ in 0..16 {
            let read = ReadLog::read(&*store)?;
            let generation = Generation(read.newest_generation + 1);
            let start = GenerationStart { generation, created_ms: now_ms, karez: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() };
            let sequence = read.last + 1;
            if store.create(&entry_name(sequence), &Entry::Generation(start).encode()?.into())? == Creation::Exists {
                continue;
            }
            let reserved = reserved_ids(&*store)?;
            let newest = read.completed.values().map(|m| m.checkpoint.0).max().unwrap_or(0);
            // A task that ends prepares its last commit for the id after the newest it has seen, so one more than the reserved may be in use.
            let first_id = if reserved == 0 && newest == 0 { 1 } else { reserved.max(newest) + 2 };
            // At once, so that no id is used by two generations, even if the one before is still at work and has used none.
            let upto = first_id + ID_BLOCK - 1;
            store.create(&ids_name(upto), &Bytes::new())?;
            let recovery = Recovery::new(&*store, &read.completed, read.unreadable, first_id - 1)?;
            let log = Log { next: sequence + 1, reserved: upto, completed: read.completed };
            let storage = Self {
                store,
                generation,
                first_id: CheckpointId(first_id),
                log: Mutex::new(log),
                written: Mutex::default(),
                attempt: AtomicU64::new(first_id - 1),
            };
            return Ok((storage, recovery));
        }
        Err(Error::external(format!("{}: other processes keep taking over this run; stop them", store.describe(LOG))))
    }

    /// The newest manifest that can be read, for whoever only looks: nobody is fenced.
    pub(crate) fn newest(store: &dyn DurableStore) -> Result<Option<Arc<Manifest>>> {
        Ok(ReadLog::read(store)?.completed.into_values().next_back())
    }

    /// The generation that may write here.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The first checkpoint id that no attempt of this run has used, failed ones included.
    #[must_use]
    pub const fn first_checkpoint_id(&self) -> CheckpointId {
        self.first_id
    }

    /// The completed checkpoints that have not been deleted, oldest first.
    #[must_use]
    pub fn completed(&self) -> Vec<CompletedCheckpoint> {
        self.log().completed.values().cloned().map(CompletedCheckpoint::new).collect()
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn DurableStore> {
        &self.store
    }

    /// Makes sure that no later process uses this id again. To be called before the barrier leaves.
    ///
    /// # Errors
    /// Another process has taken over, or the storage failed.
    pub fn begin_attempt(&self, id: CheckpointId) -> Result<()> {
        let mut log = self.log();
        if id.0 > log.reserved {
            self.check_fence_at(log.next)?;
            let upto = id.0 + ID_BLOCK - 1;
            self.store.create(&ids_name(upto), &Bytes::new())?;
            // Only the newest counts; one that stays behind does no harm.
            let _ = self.store.delete(&ids_name(log.reserved));
            log.reserved = upto;
        }
        self.attempt.fetch_max(id.0, Ordering::SeqCst);
        Ok(())
    }

    /// Writes a state file, durably. Names are never used twice; the same bytes again (a lost answer) are fine.
    pub fn put_file(&self, name: &str, bytes: &Bytes) -> Result<()> {
        // Marked before, lest retention lists it unmarked, and after, since the manifest that names it may be that of an attempt begun meanwhile.
        self.mark_written(name);
        let path = file_name(name);
        if self.store.create(&path, bytes)? == Creation::Exists && self.store.get(&path)?.as_ref() != Some(bytes) {
            return Err(Error::internal(format!(
                "the state file {} exists with other content: names of state files must not be used twice",
                self.store.describe(&path)
            )));
        }
        self.mark_written(name);
        Ok(())
    }

    /// Reads a state file.
    ///
    /// # Errors
    /// There is none by this name: a checkpoint is incomplete.
    pub fn get_file(&self, name: &str) -> Result<Bytes> {
        let path = file_name(name);
        self.store.get(&path)?.ok_or_else(|| {
            Error::external(format!("the state file {} is missing: the checkpoint that names it cannot be restored", self.store.describe(&path)))
        })
    }

    /// Completes a checkpoint: writes its manifest, last, under the next number of the log.
    ///
    /// # Errors
    /// Another process has taken over (not retryable: this process must stop), or the storage failed. In the second case the manifest may have been
    /// written nevertheless; that is sound, since all it names is durable and stays part of the manifests to come.
    pub fn write_manifest(&self, manifest: Manifest) -> Result<CompletedCheckpoint> {
        if manifest.generation != self.generation {
            return Err(Error::internal(format!(
                "a manifest of generation {} was given to the storage of generation {}",
                manifest.generation, self.generation
            )));
        }
        self.begin_attempt(manifest.checkpoint)?;
        fault::point(fault::BEFORE_MANIFEST)?;
        let entry = Entry::Checkpoint(Box::new(manifest));
        let bytes = Bytes::from(entry.encode()?);
        let Entry::Checkpoint(manifest) = entry else { return Err(Error::internal("a manifest is no manifest")) };
        let manifest: Arc<Manifest> = Arc::from(manifest);
        let mut log = self.log();
        while self.store.create(&entry_name(log.next), &bytes)? == Creation::Exists {
            // Taken: by a newer process, or by an attempt of ours whose success was reported as a failure.
            let name = entry_name(log.next);
            match self.store.get(&name)?.as_deref().map(Entry::decode) {
                Some(Ok(Entry::Checkpoint(ours))) if ours.generation == self.generation => {
                    let same = *ours == *manifest;
                    let sequence = log.next;
                    log.completed.insert(sequence, Arc::from(ours));
                    log.next += 1;
                    if same {
                        return Ok(CompletedCheckpoint::new(manifest));
                    }
                }
                Some(Ok(other)) => return Err(self.fenced(other.generation())),
                Some(Err(reason)) => {
                    return Err(Error::external(format!(
                        "{} is in the way of checkpoint {}: {reason}",
                        self.store.describe(&name),
                        manifest.checkpoint
                    )));
                }
                None => {
                    return Err(Error::external(format!(
                        "{} was deleted while checkpoint {} was written",
                        self.store.describe(&name),
                        manifest.checkpoint
                    )));
                }
            }
        }
        let sequence = log.next;
        log.completed.insert(sequence, Arc::clone(&manifest));
        log.next += 1;
        drop(log);
        fault::point(fault::AFTER_MANIFEST)?;
        Ok(CompletedCheckpoint::new(manifest))
    }

    /// Fails if another process has taken over.
    pub fn check_not_fenced(&self) -> Result<()> {
        let next = self.log().next;
        self.check_fence_at(next)
    }

    fn check_fence_at(&self, sequence: u64) -> Result<()> {
        match self.store.get(&entry_name(sequence))?.as_deref().map(Entry::decode) {
            Some(Ok(other)) if other.generation() > self.generation => Err(self.fenced(other.generation())),
            _ => Ok(()),
        }
    }

    /// Runs something that blocks on a blocking thread.
    pub async fn run_blocking<T: Send + 'static>(self: &Arc<Self>, work: impl FnOnce(&Self) -> Result<T> + Send + 'static) -> Result<T> {
        let storage = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&storage)).await;
        done.unwrap_or_else(|e| Err(Error::internal(format!("writing a checkpoint: {e}"))))
    }

    pub(super) fn log_entries(&self) -> BTreeMap<u64, Arc<Manifest>> {
        self.log().completed.clone()
    }

    /// Forgets and deletes a manifest.
    pub(super) fn delete_manifest(&self, sequence: u64) -> Result<()> {
        self.store.delete(&entry_name(sequence))?;
        self.log().completed.remove(&sequence);
        Ok(())
    }

    pub(super) fn describe_manifest(&self, sequence: u64) -> String {
        self.store.describe(&entry_name(sequence))
    }

    fn mark_written(&self, name: &str) {
        let attempt = self.attempt.load(Ordering::SeqCst);
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), attempt);
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fenced(&self, by: Generation) -> Error {
        Error::external(format!(
            "another process has taken over this run (generation {by}; this one is {}): this one must stop and has committed nothing since",
            self.generation
        ))
    }
}

/// What a log holds.
struct ReadLog {
    last: u64,
    newest_generation: u64,
    completed: BTreeMap<u64, Arc<Manifest>>,
    unreadable: Vec<UnreadableManifest>,
}

impl ReadLog {
    fn read(store: &dyn DurableStore) -> Result<Self> {
        let mut read = Self { last: 0, newest_generation: 0, completed: BTreeMap::new(), unreadable: Vec::new() };
        for name in store.list(LOG)? {
            let Some(sequence) = sequence_of(&name) else { continue };
            // Deleted between the listing and now: by retention of a process about to be fenced.
            let Some(bytes) = store.get(&name)? else { continue };
            read.last = read.last.max(sequence);
            let described = store.describe(&name);
            match Entry::decode(&bytes) {
                Ok(Entry::Generation(start)) => read.newest_generation = read.newest_generation.max(start.generation.0),
                Ok(Entry::Checkpoint(manifest)) => {
                    read.newest_generation = read.newest_generation.max(manifest.generation.0);
                    read.completed.insert(sequence, Arc::from(manifest));
                }
                Err(Unreadable::Version(reason)) => return Err(Error::user(format!("{described}: {reason}"))),
                Err(Unreadable::Damaged(reason)) => {
                    // It may have been a fence, of the generation after.
                    read.newest_generation += 1;
                    read.unreadable.push(UnreadableManifest { sequence, location: described, reason });
                }
            }
        }
        Ok(read)
    }
}

fn entry_name(sequence: u64) -> String {
    format!("{LOG}/{sequence:020}")
}

fn sequence_of(name: &str) -> Option<u64> {
    name.rsplit('/').next()?.parse().ok()
}

pub(super) fn file_name(name: &str) -> String {
    format!("{FILES}/{name}")
}

fn ids_name(upto: u64) -> String {
    format!("{IDS}/{upto:020}")
}

fn reserved_ids(store: &dyn DurableStore) -> Result<u64> {
    Ok(store.list(IDS)?.iter().filter_map(|n| sequence_of(n)).max().unwrap_or(0))
}
