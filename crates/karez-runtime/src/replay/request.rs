//! A replay as it stands in the state directory: `<state-dir>/<job>/replays/ID.ndjson`.
//!
//! The first line says what it is, each other line is a letter (its bytes in hexadecimal). A file is written whole, under its name last, and never
//! changed: the letters of a replay have numbers that checkpoints refer to.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use karez_core::{Error, Letter, Result, RunId};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::FOLDER;
use crate::checkpoint::store::local;

/// Letters of one replay, at most: they are in memory while they are fed.
pub const MAX_LETTERS: usize = 10_000;

/// Replays of one job, at most: each has a line in the manifest.
pub const MAX_REQUESTS: usize = 1_000;

/// The version of the file.
const VERSION: u32 = 1;

/// Letters that are to be fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayRequest {
    /// Names it; later ones sort behind earlier ones.
    pub id: String,
    /// The run they are fed into; none other.
    pub run: RunId,
    /// When it was asked for, milliseconds since the epoch.
    pub created_ms: i64,
    /// The letters.
    pub letters: Vec<Letter>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    karez_replay: u32,
    run: RunId,
    created_ms: i64,
    letters: usize,
}

impl ReplayRequest {
    fn new(run: &RunId, created_ms: i64, letters: &[Letter], taken: &HashSet<String>) -> Self {
        let mut salt = 0_u64;
        let id = loop {
            let text = letters.iter().map(|l| l.id.as_str()).chain([run.0.as_str(), &salt.to_string()]).collect::<String>();
            let id = format!("{created_ms:013}-{:08x}", xxh3_64(text.as_bytes()) >> 32);
            if !taken.contains(&id) {
                break id;
            }
            salt += 1;
        };
        Self { id, run: run.clone(), created_ms, letters: letters.to_vec() }
    }

    fn text(&self) -> Result<String> {
        let head = Head { karez_replay: VERSION, run: self.run.clone(), created_ms: self.created_ms, letters: self.letters.len() };
        let json = |e: serde_json::Error| Error::internal("a replay as JSON").caused_by(e);
        let mut text = serde_json::to_string(&head).map_err(json)? + "\n";
        for letter in &self.letters {
            text.push_str(&serde_json::to_string(letter).map_err(json)?);
            text.push('\n');
        }
        Ok(text)
    }

    fn parse(id: &str, text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let head: Head = serde_json::from_str(lines.next().unwrap_or_default()).map_err(|e| e.to_string())?;
        if head.karez_replay != VERSION {
            return Err(format!("it is of version {}, and this build reads version {VERSION}", head.karez_replay));
        }
        let letters = lines.map(|l| serde_json::from_str(l).map_err(|e| e.to_string())).collect::<Result<Vec<Letter>, _>>()?;
        if letters.len() != head.letters || letters.len() > MAX_LETTERS {
            return Err(format!("it holds {} letters and should hold {}", letters.len(), head.letters));
        }
        Ok(Self { id: id.to_owned(), run: head.run, created_ms: head.created_ms, letters })
    }
}

/// Queues letters for a run, durably: it is fed when the job hears of it, at the latest at its next start. More than [`MAX_LETTERS`] make several
/// replays. Letters that were given to this run before are left out, unless `again`.
///
/// Answers the replays, and the ids of letters left out.
///
/// # Errors
/// The state directory cannot be written to; there are too many replays.
pub fn queue(job: &Path, run: &RunId, letters: Vec<Letter>, again: bool, now_ms: i64) -> Result<(Vec<ReplayRequest>, Vec<String>)> {
    let folder = job.join(FOLDER);
    local::create_folders(&folder)?;
    // Two commands at once must not both find a letter not given yet.
    let _lock = lock(&folder)?;
    let before = requests(job)?;
    let given: HashSet<&str> = before.iter().filter(|r| r.run == *run).flat_map(|r| &r.letters).map(|l| l.id.as_str()).collect();
    let (fresh, left_out): (Vec<Letter>, Vec<Letter>) = letters.into_iter().partition(|l| again || !given.contains(l.id.as_str()));
    let left_out = left_out.into_iter().map(|l| l.id).collect();
    let needed = fresh.len().div_ceil(MAX_LETTERS);
    if before.len() + needed > MAX_REQUESTS {
        return Err(Error::user(format!(
            "{} replays of this job are kept in {}, and {needed} more would be more than {MAX_REQUESTS}: replay more letters at once, and remove the files of \
             runs that are over",
            before.len(),
            folder.display()
        )));
    }
    let mut taken: HashSet<String> = before.iter().map(|r| r.id.clone()).collect();
    let mut queued = Vec::new();
    for chunk in fresh.chunks(MAX_LETTERS) {
        let request = ReplayRequest::new(run, now_ms, chunk, &taken);
        taken.insert(request.id.clone());
        local::replace_file(&file(&folder, &request.id), &request.text()?)?;
        queued.push(request);
    }
    Ok((queued, left_out))
}

/// All replays of a job, in order.
///
/// # Errors
/// One cannot be read: its letters may have been fed, so it is not left out in silence.
pub fn requests(job: &Path) -> Result<Vec<ReplayRequest>> {
    let folder = job.join(FOLDER);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(local::failed("read", &folder, e)),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| local::failed("read", &folder, e))?.file_name();
        ids.extend(name.to_str().and_then(|n| n.strip_suffix(".ndjson")).filter(|n| !n.starts_with('.')).map(str::to_owned));
    }
    ids.sort_unstable();
    if ids.len() > MAX_REQUESTS {
        return Err(Error::user(format!("there are more than {MAX_REQUESTS} replays in {}: remove those of runs that are over", folder.display())));
    }
    let read = |id: &String| {
        let path = file(&folder, id);
        let text = std::fs::read_to_string(&path).map_err(|e| local::failed("read", &path, e))?;
        ReplayRequest::parse(id, &text)
            .map_err(|e| Error::external(format!("the replay {} is damaged: {e}; restore it, or remove it", path.display())))
    };
    ids.iter().map(read).collect()
}

fn file(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.ndjson"))
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(|e| local::failed("open", &path, e))?;
    file.lock().map_err(|e| local::failed("lock", &path, e))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn letter(id: &str) -> Letter {
        Letter { id: id.into(), node: "n".into(), raw: Some(b"\xff\n"[..].into()), ..Letter::default() }
    }

    #[test]
    fn a_letter_is_queued_once_for_a_run_unless_asked_for_again() {
        let job = tempfile::tempdir().unwrap();
        let (one, two) = (RunId("one".into()), RunId("two".into()));
        let queue = |run, ids: &[&str], again| super::queue(job.path(), run, ids.iter().map(|i| letter(i)).collect(), again, 5).unwrap();
        let (queued, left_out) = queue(&one, &["a", "b"], false);
        assert_eq!((queued.len(), left_out.len()), (1, 0));
        let (queued, left_out) = queue(&one, &["b", "c"], false);
        assert_eq!((queued[0].letters.clone(), left_out), (vec![letter("c")], vec!["b".to_owned()]));
        assert_eq!(queue(&one, &["b"], true).0.len(), 1);
        assert_eq!(queue(&two, &["b"], false).0.len(), 1, "another run has its own");
        assert_eq!(queue(&one, &["a"], false).0, []);
        let all = requests(job.path()).unwrap();
        assert_eq!(all.iter().map(|r| r.letters.len()).collect::<Vec<_>>().iter().sum::<usize>(), 5);
    }

    #[test]
    fn many_letters_make_several_replays() {
        let job = tempfile::tempdir().unwrap();
        let letters = (0..MAX_LETTERS + 1).map(|i| letter(&i.to_string())).collect();
        let (queued, _) = queue(job.path(), &RunId("r".into()), letters, false, 7).unwrap();
        assert_eq!(queued.iter().map(|r| r.letters.len()).collect::<Vec<_>>(), [MAX_LETTERS, 1]);
        let mut read = requests(job.path()).unwrap();
        read.sort_by_key(|r| std::cmp::Reverse(r.letters.len()));
        assert_eq!(read, queued);
    }

    #[test]
    fn a_damaged_replay_is_an_error_that_names_it() {
        let job = tempfile::tempdir().unwrap();
        let (queued, _) = queue(job.path(), &RunId("r".into()), vec![letter("a")], false, 7).unwrap();
        let path = file(&job.path().join(FOLDER), &queued[0].id);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.lines().next().unwrap()).unwrap();
        let error = requests(job.path()).unwrap_err().to_string();
        assert!(error.contains(&queued[0].id) && error.contains("should hold 1"), "{error}");
    }
}
