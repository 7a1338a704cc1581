//! What is done with bad records, by the node's `onError`.

use std::sync::Arc;

use karez_core::metrics::NodeMetrics;
use karez_core::{BadRecord, Error, Result, dead_letter};
use karez_graph::OnError;

use crate::exchange::OutputGate;

/// The error policy of one node.
pub struct Rejects {
    policy: OnError,
    job: Arc<str>,
    node: String,
}

impl Rejects {
    /// The policy of a node.
    pub fn new(policy: OnError, job: Arc<str>, node: impl Into<String>) -> Self {
        Self { policy, job, node: node.into() }
    }

    /// Fails, counts, or sends letters to the error output.
    pub fn take(&self, bad: Vec<BadRecord>, now_ms: i64, metrics: &NodeMetrics, errors: &mut [OutputGate]) -> Result<()> {
        let Some(first) = bad.first() else { return Ok(()) };
        match self.policy {
            OnError::Fail => {
                let at = first.origin.as_ref().map_or(String::new(), |o| format!(" ({o})"));
                Err(Error::user(format!(
                    "bad record{at}: {}; `onError: skip` leaves such records out, `onError: dead-letter` keeps them aside",
                    first.reason
                ))
                .at(&self.node))
            }
            OnError::Skip => {
                metrics.skipped.add(bad.len() as u64);
                Ok(())
            }
            OnError::DeadLetter => {
                metrics.dead_lettered.add(bad.len() as u64);
                let batch = dead_letter::to_batch(&self.job, &self.node, now_ms, &bad)?;
                errors.iter_mut().try_for_each(|gate| gate.send(batch.clone()))
            }
        }
    }
}
