//! The state directory: which run of a job goes on, and that only one process works on it (decision 11).
//!
//! ```text
//! <state-dir>/<job id>/
//!   lock                     held by the process that runs the job; says who that is
//!   current                  which run is the last one
//!   savepoints/              where savepoints go unless told otherwise
//!   replays/                 dead letters to be fed, or fed (`replay`)
//!   runs/<run>/
//!     run.json               when the run was started first, and where its checkpoints are
//!     finished               the run has ended and is not resumed
//!     checkpoints/           the run's checkpoint storage, unless the job names another
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use karez_core::{Error, Generation, Letter, Result, RunId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::recovery::Recovery;
use super::savepoint::Savepoint;
use super::storage::CheckpointStorage;
use super::store::{self, LocalStore, StoreCalls, local};
use crate::replay;

/// How a job is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The last run goes on if it has not finished; otherwise a new one begins.
    Resume,
    /// A new run begins (`--fresh`).
    Fresh,
    /// A new run begins, from a savepoint at this path or URL (`--from-savepoint`).
    FromSavepoint(String),
    /// A new run begins that reads nothing but these dead letters; only where no run is to be resumed.
    Letters(Vec<Letter>),
}

/// A run that this process may work on, under the job's lock.
#[derive(Debug)]
pub struct OpenedRun {
    /// Its directory; holds the lock until it is dropped.
    pub directory: RunDirectory,
    /// The run.
    pub run: RunId,
    /// This start of it.
    pub generation: Generation,
    /// Its checkpoints.
    pub storage: Arc<CheckpointStorage>,
    /// What to go on from.
    pub recovery: Recovery,
    /// When the run was started first, milliseconds since the epoch; the same over all its restarts.
    pub scheduled_ms: i64,
    /// Whether it is a run that had been started before.
    pub resumed: bool,
    /// Its sources read nothing: it was begun for dead letters alone.
    pub letters_only: bool,
}

/// The directory of a run, and the lock of its job.
#[derive(Debug)]
pub struct RunDirectory {
    job: PathBuf,
    run: PathBuf,
    checkpoints: String,
    calls: StoreCalls,
    _lock: File,
}

#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    since: String,
}

#[derive(Serialize, Deserialize)]
struct Current {
    run: RunId,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunFile {
    job: String,
    run: RunId,
    scheduled_ms: i64,
    /// `checkpoint.storage` of the job; none for the run's own directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    storage: Option<String>,
    /// The run was begun for dead letters alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    letters_only: bool,
    karez: String,
}

impl RunDirectory {
    /// Takes the job's lock and opens the run to go on with, or a new one. `storage` is the job's `checkpoint.storage`,
    /// and `calls` how it is called if it is an object store.
    ///
    /// # Errors
    /// Another process holds the lock (the message names it); the state directory or the storage cannot be used; the savepoint cannot be read;
    /// the run to go on with keeps its checkpoints elsewhere.
    pub fn open(state_dir: &Path, job_id: &str, start: &Start, storage: Option<&str>, calls: StoreCalls, now_ms: i64) -> Result<OpenedRun> {
        check_job_id(job_id)?;
        // A savepoint that is not there must not cost the run before it.
        let savepoint = match start {
            Start::FromSavepoint(location) => Some(Savepoint::open(location, &calls)?),
            Start::Resume | Start::Fresh | Start::Letters(_) => None,
        };
        let job = state_dir.join(job_id);
        local::create_folders(&job)?;
        let lock = take_lock(&job, job_id, now_ms)?;
        // A damaged `current` must not stop `--fresh`, which is the way out of it.
        let current = if matches!(start, Start::Resume | Start::Letters(_)) { read_json::<Current>(&job.join("current"))? } else { None };
        let last = match current {
            Some(current) => unfinished(&job, &current.run)?,
            None => None,
        };
        if let (Start::Letters(_), Some(last)) = (start, &last) {
            return Err(Error::user(format!("the run {} of the job is not over: its letters are to be fed into it", last.run)));
        }
        let resumed = last.is_some();
        let file = match last {
            Some(file) => file,
            None => new_run(&job, job_id, storage, matches!(start, Start::Letters(_)), now_ms)?,
        };
        check_same_storage(&file, storage)?;
        let run = job.join("runs").join(&file.run.0);
        let checkpoints = checkpoints_of(job_id, &run, file.storage.as_deref(), &file.run);
        let directory = Self { job, run, checkpoints, calls, _lock: lock };
        let (mut taken, mut recovery) = directory.take_over(now_ms)?;
        if let Some(savepoint) = savepoint {
            savepoint.import(&file.run, &taken, now_ms)?;
            // Read back as any later start would.
            (taken, recovery) = directory.take_over(now_ms)?;
        }
        if let Start::Letters(letters) = start {
            replay::queue(&directory.job, &file.run, letters.clone(), true, now_ms)?;
        }
        if !resumed {
            local::replace_file(&directory.job.join("current"), &json(&Current { run: file.run.clone() })?)?;
        }
        Ok(OpenedRun {
            directory,
            run: file.run,
            generation: taken.generation(),
            storage: taken,
            recovery,
            scheduled_ms: file.scheduled_ms,
            resumed,
            letters_only: file.letters_only,
        })
    }

    /// Opens the next generation of the same run: for a restart inside the process. Whatever the one before still writes is fenced.
    pub fn take_over(&self, now_ms: i64) -> Result<(Arc<CheckpointStorage>, Recovery)> {
        if !self.checkpoints.contains("://") {
            // The lock is ours: nobody else is writing.
            LocalStore::open(Path::new(&self.checkpoints))?.remove_temporary()?;
        }
        let (storage, recovery) = CheckpointStorage::take_over(store::open(&self.checkpoints, &self.calls)?, now_ms)?;
        Ok((Arc::new(storage), recovery))
    }

    /// Marks the run as finished: it is not resumed. To be called after its last commits.
    pub fn finish(&self, now_ms: i64) -> Result<()> {
        local::replace_file(&self.run.join("finished"), &format!("{}\n", time_text(now_ms)))
    }

    /// How its object stores are called.
    #[must_use]
    pub const fn calls(&self) -> &StoreCalls {
        &self.calls
    }

    /// The directory of the run.
    #[must_use]
    pub fn run_path(&self) -> &Path {
        &self.run
    }

    /// The directory of the job: where the control socket is.
    #[must_use]
    pub fn job_path(&self) -> &Path {
        &self.job
    }

    /// Where savepoints go unless told otherwise.
    #[must_use]
    pub fn savepoints_path(&self) -> PathBuf {
        self.job.join("savepoints")
    }
}

/// A run of a job, as it stands in the state directory.
#[derive(Debug)]
pub(crate) struct KnownRun {
    /// The run.
    pub(crate) run: RunId,
    /// It is not resumed.
    pub(crate) finished: bool,
    /// Where its checkpoints are: a folder or a URL.
    pub(crate) checkpoints: String,
}

/// Looks at a run of a job, or at its last one, without its lock. `None` where there is none, or nothing is left of it.
pub(crate) fn look_at(state_dir: &Path, job_id: &str, run: Option<&RunId>) -> Result<Option<KnownRun>> {
    check_job_id(job_id)?;
    let job = state_dir.join(job_id);
    let run = match run {
        Some(run) => run.clone(),
        None => match read_json(&job.join("current"))? {
            Some(Current { run }) => run,
            None => return Ok(None),
        },
    };
    let path = job.join("runs").join(&run.0);
    let Some(file) = read_json::<RunFile>(&path.join("run.json"))? else { return Ok(None) };
    let checkpoints = checkpoints_of(job_id, &path, file.storage.as_deref(), &run);
    Ok(Some(KnownRun { finished: path.join("finished").exists(), run, checkpoints }))
}

fn checkpoints_of(job_id: &str, run_path: &Path, storage: Option<&str>, run: &RunId) -> String {
    match storage {
        Some(location) => store::join(location, &format!("{job_id}/{run}")),
        None => run_path.join("checkpoints").display().to_string(),
    }
}

fn check_job_id(id: &str) -> Result<()> {
    let sound = !id.is_empty() && id.len() <= 128 && !id.starts_with('.') && id.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if sound {
        Ok(())
    } else {
        Err(Error::user(format!("`{id}` is no job id: use up to 128 letters, digits, `-`, `_` and `.`, not beginning with `.`")))
    }
}

fn take_lock(job: &Path, job_id: &str, now_ms: i64) -> Result<File> {
    let path = job.join("lock");
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(|e| local::failed("open", &path, e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let holder = file.read_to_string(&mut text).ok().and_then(|_| serde_json::from_str::<Holder>(&text).ok());
            let who = holder.map_or("another process".to_owned(), |h| format!("process {} (since {})", h.pid, h.since));
            return Err(Error::user(format!(
                "the job `{job_id}` is being run by {who}, which holds {}; stop it with `karez stop {job_id}`, or give this job another `id`",
                path.display()
            )));
        }
        Err(TryLockError::Error(e)) => return Err(local::failed("lock", &path, e)),
    }
    let text = json(&Holder { pid: std::process::id(), since: time_text(now_ms) })?;
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
    written.map_err(|e| local::failed("write", &path, e))?;
    Ok(file)
}

/// The run, unless it has finished.
fn unfinished(job: &Path, run: &RunId) -> Result<Option<RunFile>> {
    let path = job.join("runs").join(&run.0);
    if path.join("finished").exists() {
        return Ok(None);
    }
    let file = read_json(&path.join("run.json"))?;
    file.map(Some).ok_or_else(|| {
        Error::external(format!(
            "the run {run} was not finished, and {} is missing: put it back, or start with --fresh",
            path.join("run.json").display()
        ))
    })
}

fn new_run(job: &Path, job_id: &str, storage: Option<&str>, letters_only: bool, now_ms: i64) -> Result<RunFile> {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    for attempt in 0_u64.. {
        let seed = format!("{job_id} {nanos} {} {attempt}", std::process::id());
        let run = RunId(format!("{:012x}", xxh3_64(seed.as_bytes()) >> 16));
        let path = job.join("runs").join(&run.0);
        if path.exists() {
            continue;
        }
        local::create_folders(&path)?;
        let file = RunFile {
            job: job_id.to_owned(),
            run,
            scheduled_ms: now_ms,
            storage: storage.map(str::to_owned),
            letters_only,
            karez: env!("CARGO_PKG_VERSION").to_owned(),
        };
        local::replace_file(&path.join("run.json"), &json(&file)?)?;
        return Ok(file);
    }
    Err(Error::internal("no free name for a run"))
}

fn check_same_storage(file: &RunFile, storage: Option<&str>) -> Result<()> {
    if file.storage.as_deref() == storage {
        return Ok(());
    }
    let name = |s: Option<&str>| s.map_or("the state directory".to_owned(), |s| format!("`{s}`"));
    Err(Error::user(format!(
        "the run {} keeps its checkpoints in {}, and the job now says {}; set `checkpoint.storage` back, or move on with a savepoint (--from-savepoint) or --fresh",
        file.run,
        name(file.storage.as_deref()),
        name(storage)
    )))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(local::failed("read", path, e)),
    };
    let parsed = serde_json::from_str(&text);
    parsed.map(Some).map_err(|e| Error::external(format!("{} is damaged: restore it, or start with --fresh", path.display())).caused_by(e))
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map(|s| s + "\n").map_err(|e| Error::internal("JSON").caused_by(e))
}

fn time_text(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms).map_or_else(|| format!("{ms} ms"), |t| t.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}
