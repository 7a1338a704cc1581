//! What is done with bad records, by the node's `onError`.

use std::sync::Arc;

use karez_core::metrics::NodeMetrics;
use karez_core::sink::SinkRunContext;
use karez_core::{BadRecord, Error, Generation, Letter, Result, dead_letter};
use karez_graph::OnError;

use crate::exchange::OutputGate;

/// The error policy of one subtask of a node.
pub struct Rejects {
    policy: OnError,
    stamp: Stamp,
}

/// What names the letters of one subtask of a node.
struct Stamp {
    job: Arc<str>,
    run: String,
    generation: Generation,
    node: String,
    subtask: usize,
    /// Letters without an origin so far.
    number: u64,
    /// The id of the last letter, and how many records had it in succession: a node may make equal rows of one record.
    last: (String, u64),
}

impl Stamp {
    fn letter(&mut self, bad: BadRecord, now_ms: i64) -> Letter {
        let id = self.id(&bad);
        let BadRecord { mut reason, origin, raw, row } = bad;
        if reason.contains('\0') {
            // A reason quotes the value at fault, and some databases have no text with a zero in it. In `row` it is written out, `raw` are bytes.
            reason = reason.replace('\0', "\\0");
        }
        let (job, run, node) = (self.job.to_string(), self.run.clone(), self.node.clone());
        Letter { id, time_ms: now_ms, job, run, node, reason, origin, raw, row }
    }

    fn id(&mut self, bad: &BadRecord) -> String {
        if bad.origin.is_none() {
            self.number += 1;
            return dead_letter::unique_id(&self.run, &self.node, self.generation.0, self.subtask, self.number);
        }
        let id = dead_letter::stable_id(&self.run, &self.node, bad, 0);
        if self.last.0 == id {
            self.last.1 += 1;
            return dead_letter::stable_id(&self.run, &self.node, bad, self.last.1);
        }
        self.last = (id.clone(), 0);
        id
    }
}

impl Rejects {
    /// The policy of a subtask of a node.
    pub fn new(policy: OnError, job: Arc<str>, run: &SinkRunContext, node: impl Into<String>, subtask: usize) -> Self {
        let last = (String::new(), 0);
        Self { policy, stamp: Stamp { job, run: run.run.0.clone(), generation: run.generation, node: node.into(), subtask, number: 0, last } }
    }

    /// Fails, counts, or sends letters to the error output.
    pub fn take(&mut self, bad: Vec<BadRecord>, now_ms: i64, metrics: &NodeMetrics, errors: &mut [OutputGate]) -> Result<()> {
        let Some(first) = bad.first() else { return Ok(()) };
        match self.policy {
            OnError::Fail => {
                let at = first.origin.as_ref().map_or(String::new(), |o| format!(" ({o})"));
                Err(Error::user(format!(
                    "bad record{at}: {}; `onError: skip` leaves such records out, `onError: dead-letter` keeps them aside",
                    first.reason
                ))
                .at(&self.stamp.node))
            }
            OnError::Skip => {
                metrics.skipped.add(bad.len() as u64);
                Ok(())
            }
            OnError::DeadLetter => {
                metrics.dead_lettered.add(bad.len() as u64);
                let letters: Vec<_> = bad.into_iter().map(|b| self.stamp.letter(b, now_ms)).collect();
                let batch = dead_letter::to_batch(&letters)?;
                errors.iter_mut().try_for_each(|gate| gate.send(batch.clone()))
            }
        }
    }

    /// The same for letters that were fed again and are bad still: they must not fail the job, which would be fed them again by its next start.
    pub fn take_replayed(&mut self, bad: Vec<BadRecord>, now_ms: i64, metrics: &NodeMetrics, errors: &mut [OutputGate]) -> Result<()> {
        if self.policy != OnError::Fail {
            return self.take(bad, now_ms, metrics, errors);
        }
        metrics.skipped.add(bad.len() as u64);
        for b in bad {
            tracing::warn!(node = %self.stamp.node, origin = b.origin.as_deref().unwrap_or_default(), "a dead letter fed again is bad still, and left out: {}", b.reason);
        }
        Ok(())
    }
}
