//! The end of a chain: hands rows to the writer, and asks for its rejects and its part of the checkpoint.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use karez_core::metrics::NodeMetrics;
use karez_core::schema::{CHANGE_COLUMN, batch_bytes, is_hidden};
use karez_core::{BadRecord, Barrier, Clock, Element, Epoch, Error, Reach, Result, SinkWriter};
use serde_json::Value;

use super::chain::NodeGates;
use super::reject::Rejects;

/// The first and the longest wait before a writer whose connection is lost is asked again; doubled each time.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// What a sink subtask gives to a checkpoint.
#[derive(Debug)]
pub struct SinkAck {
    /// The node's name.
    pub node: String,
    /// What its writer goes on from.
    pub states: Vec<Value>,
    /// What waits to be committed.
    pub committables: Vec<Value>,
}

/// The sink of one subtask.
pub struct SinkDriver {
    /// The node's name.
    pub name: String,
    /// The writer.
    pub writer: Box<dyn SinkWriter>,
    /// Its counters.
    pub metrics: Arc<NodeMetrics>,
    /// Its error output.
    pub gates: NodeGates,
    /// What is done with rows it refuses.
    pub rejects: Rejects,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
    /// Whether the end of the input has been seen.
    pub ended: bool,
}

impl SinkDriver {
    /// Hands rows over.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let batch = without_hidden(batch)?;
        self.metrics.records_in.add(batch.num_rows() as u64);
        self.metrics.batches_in.add(1);
        self.metrics.bytes_in.add(batch_bytes(&batch) as u64);
        let started = std::time::Instant::now();
        let written = self.writer.write(batch).await;
        self.flushed(written).await?;
        self.metrics.busy_ns.add(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        self.take_rejects().await
    }

    /// Writes what is buffered, if it is time.
    pub async fn flush_if_due(&mut self) -> Result<()> {
        if self.writer.flush_due_ms().is_some_and(|t| t <= self.clock.now_ms()) {
            let flushed = self.writer.flush().await;
            self.flushed(flushed).await?;
            self.take_rejects().await?;
        }
        Ok(())
    }

    /// What comes of a write or a flush: after a lost connection the writer is asked to flush again, until it can or says something else. Nothing is read
    /// meanwhile: that is the back-pressure. Dropping this (a cancel) drops the task.
    async fn flushed(&mut self, mut outcome: Result<()>) -> Result<()> {
        let mut wait = BACKOFF.0;
        while let Err(e) = &outcome
            && self.outlasts(e)
        {
            self.wait_out(e, &mut wait).await;
            outcome = self.writer.flush().await;
        }
        outcome.map_err(|e| e.at(&self.name))
    }

    fn outlasts(&self, e: &Error) -> bool {
        e.reach() == Reach::Connection && e.is_retryable() && self.writer.keeps_rows_on_lost_connection()
    }

    async fn wait_out(&mut self, e: &Error, wait: &mut Duration) {
        self.metrics.retried.add(1);
        tracing::warn!(node = %self.name, error = %e, wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "connection lost, writing again");
        tokio::time::sleep(*wait).await;
        *wait = (*wait * 2).min(BACKOFF.1);
    }

    /// Makes everything before the barrier durable; rejects go out before the barrier does, so they belong to the same epoch.
    pub async fn barrier(&mut self, barrier: Barrier) -> Result<SinkAck> {
        let epoch = Epoch(barrier.checkpoint.0);
        let mut wait = BACKOFF.0;
        let committables = loop {
            match self.writer.prepare_commit(epoch, self.ended).await {
                Ok(committables) => break committables,
                Err(e) if self.outlasts(&e) => self.wait_out(&e, &mut wait).await,
                Err(e) => return Err(e.at(&self.name)),
            }
        };
        self.take_rejects().await?;
        let states = self.writer.snapshot().await.map_err(|e| e.at(&self.name))?;
        self.control(&Element::Barrier(barrier)).await?;
        Ok(SinkAck { node: self.name.clone(), states, committables })
    }

    /// Forwards a control element on the error output.
    pub async fn control(&mut self, element: &Element) -> Result<()> {
        if let Element::EndOfInput = element {
            let flushed = self.writer.flush().await;
            self.flushed(flushed).await?;
            self.take_rejects().await?;
            self.ended = true;
        }
        self.gates.send_control(element)?;
        self.gates.drain().await;
        Ok(())
    }

    async fn take_rejects(&mut self) -> Result<()> {
        let bad = self.writer.take_rejects();
        self.reject(bad).await
    }

    /// Rows that the outside refused.
    pub async fn reject(&mut self, bad: Vec<BadRecord>) -> Result<()> {
        if !bad.is_empty() {
            self.rejects.take(bad, self.clock.now_ms(), &self.metrics, &mut self.gates.errors)?;
            self.gates.drain().await;
        }
        Ok(())
    }
}

/// A writer sees no column of the engine but the change kind.
fn without_hidden(batch: RecordBatch) -> Result<RecordBatch> {
    let schema = batch.schema_ref();
    let keeps = |i: &usize| !is_hidden(schema.field(*i)) || schema.field(*i).name() == CHANGE_COLUMN;
    let keep: Vec<usize> = (0..schema.fields().len()).filter(keeps).collect();
    if keep.len() == schema.fields().len() { Ok(batch) } else { Ok(batch.project(&keep)?) }
}
