//! Drives the synchronous chain: until it is at rest, room is awaited and what leaves it handed on.

use karez_core::{Element, Error, Result};
use tokio::time::Instant;

use super::chain::{Item, RUN_SLICE, control};
use super::sink::SinkAck;
use super::{Head, Task};

impl Task {
    /// Puts an item in and works until the chain is at rest. Cancel-safe in the only way that matters: the task is dropped as a whole.
    pub(super) async fn pump(&mut self, item: Option<Item>) -> Result<()> {
        self.pump_barrier(item).await.map(drop)
    }

    /// The same, with the sink's part of the checkpoint where the item is a barrier.
    pub(super) async fn pump_barrier(&mut self, item: Option<Item>) -> Result<Option<SinkAck>> {
        if let Some(item) = item {
            if let Head::Source(head) = &mut self.head {
                if let Some(element) = control(&item) {
                    for gate in &mut head.gates.errors {
                        gate.send_control(element.clone())?;
                    }
                }
                head.gates.drain().await;
            }
            self.chain.push(item);
        }
        let mut ack = None;
        let mut turn = Instant::now();
        loop {
            // A sink that is always ready awaits nothing: a watermark that fires for a minute into it would not be cancelled before its end.
            if self.chain.run()? || turn.elapsed() > RUN_SLICE {
                tokio::task::yield_now().await;
                turn = Instant::now();
                continue;
            }
            if let Some(item) = self.chain.take_tail() {
                if let Some(a) = self.tail(item).await? {
                    ack = Some(a);
                }
            } else if self.chain.is_at_rest() {
                self.check_memory()?;
                return Ok(ack);
            } else {
                let blocked = Instant::now();
                self.chain.wait().await;
                if let Some(metrics) = self.chain.head_metrics() {
                    metrics.backpressured_ns.add(u64::try_from(blocked.elapsed().as_nanos()).unwrap_or(u64::MAX));
                }
            }
        }
    }

    /// What left the last operator: to the sink, or out of a source that is a vertex of its own.
    async fn tail(&mut self, item: Item) -> Result<Option<SinkAck>> {
        if let Some(sink) = &mut self.sink {
            return match item {
                Item::Batch(_, batch) => sink.write(batch).await.map(|()| None),
                Item::Barrier(barrier) => sink.barrier(barrier).await.map(Some),
                Item::Watermark(w) => {
                    sink.metrics.watermark_ms.set(w.0);
                    sink.control(&Element::Watermark(w)).await.map(|()| None)
                }
                Item::Idle => sink.control(&Element::Idle).await.map(|()| None),
                Item::End => sink.control(&Element::EndOfInput).await.map(|()| None),
            };
        }
        let Head::Source(head) = &mut self.head else { return Err(Error::internal("a chain without operators, source and sink")) };
        for (_, gate) in &mut head.gates.ports {
            match (&item, control(&item)) {
                (_, Some(element)) => gate.send_control(element)?,
                (Item::Batch(_, batch), None) => gate.send(batch.clone())?,
                _ => {}
            }
        }
        let blocked = Instant::now();
        head.gates.drain().await;
        head.metrics.backpressured_ns.add(u64::try_from(blocked.elapsed().as_nanos()).unwrap_or(u64::MAX));
        Ok(None)
    }

    fn check_memory(&self) -> Result<()> {
        for ((_, bytes, metrics), account) in self.chain.memory().zip(&self.memory.operators) {
            account.set(bytes);
            metrics.state_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        self.memory.budget.check()
    }
}
