//! Hands the splits of one source to its subtasks. Lives in the coordinator, beside the source's enumerator.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use karez_core::source::{Discovery, SplitAssignment};
use karez_core::{Reach, Result, Split, SplitEnumerator, Watermark};
use karez_graph::PlannedSource;
use serde_json::Value;
use tokio::time::Instant;

use crate::checkpoint::manifest::SourceManifest;
use crate::checkpoint::{Ack, SplitState};
use crate::task::Command;

/// Splits of one source.
pub(super) struct Splits {
    /// The source's name.
    pub(super) node: String,
    /// The vertex it heads.
    pub(super) vertex: usize,
    planned: Arc<PlannedSource>,
    /// Away while it looks for splits.
    enumerator: Option<Box<dyn SplitEnumerator>>,
    /// Its snapshot from before it went.
    before: Value,
    /// Splits finished since then.
    finished_meanwhile: Vec<Split>,
    one_at_a_time: bool,
    parallelism: usize,
    /// Found, not handed out.
    pending: VecDeque<SplitState>,
    /// One at a time: the splits that were open at the restored checkpoint, by the subtask that will go on with them. They are handed out all at once,
    /// however many there are, since each of them held the watermark back: one that waited for another to end would find its rows late.
    reopened: Vec<Vec<SplitState>>,
    /// Subtasks that asked for a split and have none.
    waiting: VecDeque<usize>,
    /// Subtasks that have been told that there will be no more.
    told: Vec<bool>,
    /// Whether splits have been looked for: before that a subtask without one is not idle.
    looked: bool,
    done: bool,
    next_discovery: Instant,
    /// Where event time stood at the restored checkpoint.
    pub(super) restored_watermark: Option<Watermark>,
}

/// An enumerator that has looked for splits, and what it found.
pub(super) struct Discovered {
    enumerator: Box<dyn SplitEnumerator>,
    found: Result<Discovery>,
}

/// A command for a subtask of the source.
pub(super) type Assignment = (usize, Command);

impl Splits {
    /// With the enumerator as the restored checkpoint left it.
    pub(super) async fn open(planned: &Arc<PlannedSource>, vertex: usize, parallelism: usize, restored: Option<&SourceManifest>) -> Result<Self> {
        let state = restored.map(|r| r.enumerator.clone()).filter(|s| *s != Value::Null);
        let mut enumerator = planned.source.enumerator(state).await.map_err(|e| e.at(&planned.name))?;
        let one_at_a_time = planned.source.assignment() == SplitAssignment::OneAtATime;
        let mut pending = VecDeque::new();
        let mut reopened = vec![Vec::new(); parallelism];
        if let Some(restored) = restored {
            for split in &restored.finished {
                enumerator.finished(split);
            }
            for (i, open) in restored.open.iter().cloned().enumerate() {
                if one_at_a_time {
                    reopened[i % parallelism].push(open);
                } else {
                    pending.push_back(open);
                }
            }
            pending.extend(restored.unassigned.iter().cloned().map(|split| SplitState { split, watermark_ms: None }));
        }
        Ok(Self {
            node: planned.name.clone(),
            vertex,
            planned: Arc::clone(planned),
            enumerator: Some(enumerator),
            before: Value::Null,
            finished_meanwhile: Vec::new(),
            one_at_a_time,
            parallelism,
            pending,
            reopened,
            waiting: VecDeque::new(),
            told: vec![false; parallelism],
            looked: restored.is_some_and(|r| r.discovery_done),
            done: restored.is_some_and(|r| r.discovery_done),
            next_discovery: Instant::now(),
            restored_watermark: restored.and_then(|r| r.watermark_ms).map(Watermark),
        })
    }

    /// When [`Self::discover`] wants to be called.
    #[must_use]
    pub(super) fn discovery_due(&self) -> Option<Instant> {
        (!self.done && self.enumerator.is_some()).then_some(self.next_discovery)
    }

    /// What looks for new splits, if it is time; its answer belongs into [`Self::discovered`]. One at a time.
    pub(super) fn discover(&mut self) -> Result<Option<impl Future<Output = Discovered> + Send + use<>>> {
        if self.discovery_due().is_none_or(|t| t > Instant::now()) {
            return Ok(None);
        }
        let Some(mut enumerator) = self.enumerator.take() else { return Ok(None) };
        self.before = self.snapshot_of(&*enumerator)?;
        Ok(Some(async move {
            let found = enumerator.discover().await;
            Discovered { enumerator, found }
        }))
    }

    /// Takes what has been found.
    pub(super) fn discovered(&mut self, Discovered { mut enumerator, found }: Discovered) -> Result<Vec<Assignment>> {
        self.finished_meanwhile.drain(..).for_each(|split| enumerator.finished(&split));
        self.next_discovery = Instant::now() + Duration::from_millis(enumerator.interval_ms());
        self.enumerator = Some(enumerator);
        match found {
            // Drained meanwhile: nothing is looked for any more.
            _ if self.done => {}
            Ok(found) => {
                self.looked = true;
                self.done = found.done;
                self.pending.extend(found.splits.into_iter().map(|split| SplitState { split, watermark_ms: None }));
            }
            Err(e) if e.reach() == Reach::Connection && e.is_retryable() => {
                tracing::warn!(node = %self.node, error = %e, "splits could not be listed, trying again");
            }
            Err(e) => return Err(e.at(&self.node)),
        }
        Ok(self.hand_out())
    }

    /// A subtask wants a split.
    pub(super) fn requested(&mut self, subtask: usize) -> Vec<Assignment> {
        if let Some(reopened) = self.reopened.get_mut(subtask).filter(|r| !r.is_empty()) {
            return vec![(subtask, Command::Assign(std::mem::take(reopened)))];
        }
        if !self.waiting.contains(&subtask) {
            self.waiting.push_back(subtask);
        }
        self.hand_out()
    }

    /// The input ends here: nothing is handed out or looked for any more.
    pub(super) fn drain(&mut self) {
        self.pending.clear();
        self.reopened.iter_mut().for_each(Vec::clear);
        self.done = true;
    }

    /// A subtask has read a split to its end.
    pub(super) fn finished(&mut self, split: &Split) {
        match &mut self.enumerator {
            Some(enumerator) => enumerator.finished(split),
            None => self.finished_meanwhile.push(split.clone()),
        }
    }

    fn hand_out(&mut self) -> Vec<Assignment> {
        let mut out = Vec::new();
        if self.one_at_a_time {
            while !self.pending.is_empty() {
                let Some(subtask) = self.waiting.pop_front() else { break };
                out.extend(self.pending.pop_front().map(|s| (subtask, Command::Assign(vec![s]))));
            }
        } else {
            let mut by_subtask = vec![Vec::new(); self.parallelism];
            for split in self.pending.drain(..) {
                let number = self.planned.source.spread(&split.split);
                by_subtask[place(number, &split.split.id, self.parallelism)].push(split);
            }
            // An empty assignment says: there is nothing for you now, count as idle.
            let given = by_subtask.into_iter().enumerate().filter(|(_, splits)| self.looked || !splits.is_empty());
            out.extend(given.map(|(s, splits)| (s, Command::Assign(splits))));
        }
        if self.done && self.pending.is_empty() {
            for subtask in 0..self.parallelism {
                let wants = !self.one_at_a_time || self.waiting.contains(&subtask);
                if wants && !std::mem::replace(&mut self.told[subtask], true) {
                    out.push((subtask, Command::NoMoreSplits));
                }
            }
            self.waiting.clear();
        }
        out
    }

    /// The enumerator's part of a checkpoint, taken when it is triggered: a split handed out later belongs to the next one.
    pub(super) fn acknowledge(&self) -> Result<Ack> {
        let state = self.enumerator.as_ref().map_or_else(|| Ok(self.before.clone()), |e| self.snapshot_of(&**e))?;
        // One that was open at the restored checkpoint stays open, whether it has been handed out again or not: it keeps its watermark.
        let (reopened, unassigned): (Vec<_>, Vec<_>) = self.pending.iter().cloned().partition(|s| s.watermark_ms.is_some());
        let open = self.reopened.iter().flatten().cloned().chain(reopened).collect();
        let unassigned = unassigned.into_iter().map(|s| s.split).collect();
        Ok(Ack::Enumerator { state, open, unassigned, finished: self.finished_meanwhile.clone(), done: self.done })
    }

    fn snapshot_of(&self, enumerator: &dyn SplitEnumerator) -> Result<Value> {
        enumerator.snapshot().map_err(|e| e.at(&self.node))
    }
}

/// The subtask that a split falls to: the same wherever and whenever it is found.
fn place(number: Option<u64>, id: &str, parallelism: usize) -> usize {
    let number = number.unwrap_or_else(|| xxhash_rust::xxh3::xxh3_64(id.as_bytes()));
    usize::try_from(number % parallelism as u64).unwrap_or(0)
}
