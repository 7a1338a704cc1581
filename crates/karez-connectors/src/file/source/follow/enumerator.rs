//! Decides what is a new file.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use async_trait::async_trait;
use karez_core::source::Discovery;
use karez_core::{Error, Result, Split, SplitEnumerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::glob::FILES_LIMIT;
use super::super::input::{Compression, Fingerprint, HEAD_BYTES, cannot_read, open};
use super::super::options::From;
use super::super::split::{FollowPosition, Position};
use super::super::{Follow, Plan};
use super::locate::{Facts, Known, is_related};

/// Files that have been read and are there no more, remembered at most: the oldest are forgotten first.
const MISSING_LIMIT: usize = 1_000;

/// What a checkpoint holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// The number of the next split.
    next: u64,
    /// Whether the first discovery has been.
    started: bool,
    files: Vec<Entry>,
}

/// Content that is being followed or was read.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    /// The number of its split.
    number: u64,
    /// Where it was found first.
    path: String,
    device: u64,
    inode: u64,
    head: Fingerprint,
    /// Bytes on disk when last seen.
    size: u64,
    /// The split has ended here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done: Option<u64>,
    /// The inode holds other content now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    left: bool,
    /// Size and time of change when its content was last compared.
    #[serde(skip)]
    compared: Option<(u64, i64)>,
    /// Where it is now.
    #[serde(skip)]
    present: Option<String>,
}

impl Entry {
    fn known(&self) -> Known<'_> {
        Known { path: &self.path, device: self.device, inode: self.inode, head: self.head, size: self.size }
    }
}

/// A file that matches.
struct Candidate {
    path: String,
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i64,
    /// Known content, or a copy of such.
    taken: bool,
    facts: Option<Facts>,
}

/// Finds files that are new.
pub(in super::super) struct FollowEnumerator {
    plan: Arc<Plan>,
    follow: Follow,
    state: State,
}

impl FollowEnumerator {
    pub(in super::super) fn new(plan: Arc<Plan>, follow: Follow, state: Option<Value>) -> Result<Self> {
        let state = state.map(serde_json::from_value).transpose();
        let state = state.map_err(|e| Error::user("the checkpoint is not one of a source that follows files; start afresh").caused_by(e))?;
        Ok(Self { plan, follow, state: state.unwrap_or_default() })
    }

    fn candidates(&self) -> Result<Vec<Candidate>> {
        let mut seen = HashSet::new();
        let mut candidates = Vec::new();
        for path in self.plan.patterns.list()? {
            let meta = match fs::metadata(&path) {
                Ok(meta) => meta,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(cannot_read(&path, e)),
            };
            // Two names of one inode are one file.
            if meta.is_file() && seen.insert((meta.dev(), meta.ino())) {
                let modified_ns = meta.mtime().wrapping_mul(1_000_000_000).wrapping_add(meta.mtime_nsec());
                let (device, inode, size) = (meta.dev(), meta.ino(), meta.len());
                candidates.push(Candidate { path, device, inode, size, modified_ns, taken: false, facts: None });
            }
        }
        Ok(candidates)
    }

    /// The content of inodes known from before: the same as before, grown, or another.
    fn compare(&mut self, candidates: &mut [Candidate], splits: &mut Vec<Split>) -> Result<()> {
        let by_inode: HashMap<_, _> = candidates.iter().enumerate().map(|(i, c)| ((c.device, c.inode), i)).collect();
        for entry in &mut self.state.files {
            entry.present = None;
            let Some(&i) = by_inode.get(&(entry.device, entry.inode)).filter(|_| !entry.left) else { continue };
            let candidate = &mut candidates[i];
            let stamp = (candidate.size, candidate.modified_ns);
            if entry.compared != Some(stamp) {
                let Some(facts) = load(candidate, &self.plan)? else { continue };
                if !entry.known().is_in(facts) {
                    entry.left = true;
                    continue;
                }
                entry.head = entry.head.longer(Fingerprint::of(&facts.head));
                entry.size = facts.size;
                entry.compared = Some(stamp);
                let has_grown = facts.compression == Compression::None && entry.done.is_some_and(|done| facts.size > done);
                if has_grown {
                    entry.number = self.state.next;
                    self.state.next += 1;
                    let offset = entry.done.take().unwrap_or_default();
                    splits.push(split(entry, offset)?);
                }
            }
            candidate.taken = true;
            entry.present = Some(candidate.path.clone());
        }
        Ok(())
    }

    /// Copies and compressed forms of known content are nothing new.
    fn take_copies(&mut self, candidates: &mut [Candidate]) -> Result<()> {
        for candidate in candidates.iter_mut().filter(|c| !c.taken) {
            let Some(facts) = load(candidate, &self.plan)? else { continue };
            let is_plain = facts.compression == Compression::None;
            let mut taken = false;
            for entry in &mut self.state.files {
                if entry.present.is_none() {
                    if entry.known().is_copied_to(facts) {
                        // Remembered as long as the copy is there.
                        entry.present = Some(facts.path.clone());
                        taken = true;
                    }
                } else if !is_plain {
                    let is_proof = entry.head.is_strong() || is_related(&entry.path, &facts.path);
                    taken |= is_proof && !entry.head.is_empty() && entry.head.matches(&facts.head);
                } else if entry.head.is_strong() && entry.head.matches(&facts.head) {
                    // Copied, and not yet truncated.
                    taken |= entry.present.as_ref().is_some_and(|p| is_beginning_of(&facts.path, p));
                }
                if taken {
                    break;
                }
            }
            candidate.taken = taken;
        }
        Ok(())
    }

    fn add(&mut self, facts: &Facts, stamp: (u64, i64), splits: &mut Vec<Split>) -> Result<()> {
        let mut entry = Entry {
            number: self.state.next,
            path: facts.path.clone(),
            device: facts.device,
            inode: facts.inode,
            head: Fingerprint::of(&facts.head),
            size: facts.size,
            done: None,
            left: false,
            compared: Some(stamp),
            present: Some(facts.path.clone()),
        };
        self.state.next += 1;
        let from_end = !self.state.started && self.follow.from == From::End;
        if from_end && facts.compression != Compression::None {
            entry.done = Some(u64::MAX);
        } else {
            let offset = if from_end { behind_last_line(&facts.path, facts.size)? } else { 0 };
            splits.push(split(&entry, offset)?);
        }
        self.state.files.push(entry);
        if self.state.files.len() > FILES_LIMIT {
            return Err(Error::user(format!("more than {FILES_LIMIT} files are followed; narrow {}", self.plan.patterns.text())));
        }
        Ok(())
    }

    /// Forgets files that were read and of which nothing is left.
    fn forget(&mut self) {
        let is_missing = |e: &Entry| e.present.is_none() && e.done.is_some();
        let mut excess = self.state.files.iter().filter(|e| is_missing(e)).count().saturating_sub(MISSING_LIMIT);
        self.state.files.retain(|e| {
            let forgotten = excess > 0 && is_missing(e);
            excess -= usize::from(forgotten);
            !forgotten
        });
    }
}

#[async_trait]
impl SplitEnumerator for FollowEnumerator {
    async fn discover(&mut self) -> Result<Discovery> {
        let mut splits = Vec::new();
        let mut candidates = self.candidates()?;
        self.compare(&mut candidates, &mut splits)?;
        self.take_copies(&mut candidates)?;
        for mut candidate in candidates.into_iter().filter(|c| !c.taken) {
            let stamp = (candidate.size, candidate.modified_ns);
            // An empty file has no content yet by which a copy of it could be told.
            if let Some(facts) = load(&mut candidate, &self.plan)?.filter(|f| !f.head.is_empty()).cloned() {
                self.add(&facts, stamp, &mut splits)?;
            }
        }
        self.state.started = true;
        self.forget();
        Ok(Discovery { splits, done: false })
    }

    fn interval_ms(&self) -> u64 {
        self.follow.interval_ms
    }

    fn finished(&mut self, finished: &Split) {
        let Ok(Position::Follow(position)) = Position::of(finished) else { return };
        let number = finished.id.rsplit_once('#').and_then(|(_, n)| n.parse::<u64>().ok());
        if let Some(entry) = self.state.files.iter_mut().find(|e| Some(e.number) == number) {
            entry.done = Some(position.offset);
            entry.head = entry.head.longer(position.head);
            entry.left |= position.left;
            entry.compared = None;
        }
    }

    fn snapshot(&self) -> Result<Value> {
        serde_json::to_value(&self.state).map_err(|e| Error::internal("the state of followed files as JSON").caused_by(e))
    }
}

fn split(entry: &Entry, offset: u64) -> Result<Split> {
    let position = FollowPosition { path: entry.path.clone(), device: entry.device, inode: entry.inode, head: entry.head, offset, left: false };
    Ok(Split { id: format!("{}#{}", entry.path, entry.number), position: Position::Follow(position).to_value()? })
}

/// What a candidate is, looked at once. Another inode may have come into its place in between: then that one waits for the next discovery.
fn load<'a>(candidate: &'a mut Candidate, plan: &Plan) -> Result<Option<&'a Facts>> {
    if candidate.facts.is_none() {
        let facts = Facts::of(&candidate.path, plan.compression).map_err(|e| cannot_read(&candidate.path, e))?;
        candidate.facts = facts.filter(|f| (f.device, f.inode) == (candidate.device, candidate.inode));
    }
    Ok(candidate.facts.as_ref())
}

/// Whether all of a file is how another begins.
fn is_beginning_of(path: &str, longer: &str) -> bool {
    let (Ok(mut a), Ok(mut b)) = (File::open(path), File::open(longer)) else { return false };
    let (mut left, mut right) = (vec![0; 64 * HEAD_BYTES], vec![0; 64 * HEAD_BYTES]);
    loop {
        match a.read(&mut left) {
            Ok(0) => return true,
            Ok(n) if b.read_exact(&mut right[..n]).is_ok() && left[..n] == right[..n] => {}
            _ => return false,
        }
    }
}

/// The offset behind the last line feed of the first `size` bytes.
fn behind_last_line(path: &str, size: u64) -> Result<u64> {
    use std::os::unix::fs::FileExt;
    let file = open(path)?;
    let mut end = size;
    let mut block = vec![0; 64 << 10];
    while end > 0 {
        let begin = end.saturating_sub(block.len() as u64);
        let part = &mut block[..usize::try_from(end - begin).unwrap_or_default()];
        file.read_exact_at(part, begin).map_err(|e| cannot_read(path, e))?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}
