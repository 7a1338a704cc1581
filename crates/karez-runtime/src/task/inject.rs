//! Puts dead letters that are fed again in where they belong.

use std::sync::Arc;

use karez_core::{Error, Result};

use super::chain::Item;
use super::replay::{Entry, Injection};
use super::{Flow, Head, Task};

impl Task {
    /// Whether dead letters may be fed now: not while event time has yet to come to where the restored checkpoint had it.
    pub(super) fn may_replay(&self, flow: &Flow) -> bool {
        match &self.head {
            Head::Source(head) => !head.source.restores_watermark() && !self.replays.is_empty(),
            Head::Inputs(_) => self.replays.is_ready(flow.watermark),
        }
    }

    pub(super) fn planned_source(&self) -> Option<Arc<dyn karez_core::Source>> {
        match &self.head {
            Head::Source(head) => Some(head.source.planned()),
            Head::Inputs(_) => None,
        }
    }

    /// Puts dead letters in where they belong.
    pub(super) async fn inject(&mut self, injection: Injection, flow: &Flow) -> Result<()> {
        let letters = injection.letters();
        let Injection { entry, mut batch, mut bad, .. } = injection;
        let now_ms = self.clock.now_ms();
        match (entry, &mut self.head, &mut self.sink) {
            (Entry::Source, Head::Source(head), _) => {
                batch = head.source.replayed(batch, &mut bad)?;
                head.metrics.add("replayed", letters as u64);
                head.rejects.take_replayed(bad, now_ms, &head.metrics, &mut head.gates.errors)?;
                if batch.num_rows() > 0 {
                    self.pump(Some(Item::Batch(0, batch))).await?;
                }
            }
            (Entry::Operator(at), ..) => {
                self.chain.inject(at, batch, bad, letters)?;
                self.pump(None).await?;
            }
            (Entry::Sink, _, Some(sink)) => {
                sink.metrics.add("replayed", letters as u64);
                sink.rejects.take_replayed(bad, now_ms, &sink.metrics, &mut sink.gates.errors)?;
                sink.gates.drain().await;
                if batch.num_rows() > 0 {
                    sink.write(batch).await?;
                }
            }
            _ => return Err(Error::internal("dead letters for a task without their node")),
        }
        self.replays.fed(letters);
        if flow.idle {
            // Rows have woken the tasks behind this one, and it has nothing more for them.
            self.pump(Some(Item::Idle)).await?;
        }
        Ok(())
    }

    /// Feeds what is left before the input ends.
    pub(super) async fn inject_all(&mut self, flow: &Flow) -> Result<()> {
        let source = self.planned_source();
        while !self.replays.is_empty() {
            let injection = self.replays.next(source.as_ref()).await?;
            self.inject(injection, flow).await?;
        }
        Ok(())
    }
}
