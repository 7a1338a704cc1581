//! Gathers rows and hands them to the database while the next are gathered: one transaction under way, one batch being filled.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::schema::batch_bytes;
use karez_core::{BadRecord, Epoch, Result, SinkWriter};
use serde_json::Value;

use super::flush::{Flushed, Flusher};
use super::pool::Task;
use super::stage::Lot;

/// Rows are written when they hold so many bytes, however few they are.
const BUFFER_BYTES: usize = 8 << 20;

pub(super) struct Writer {
    flusher: Arc<Flusher>,
    buffer: Vec<RecordBatch>,
    buffered_rows: usize,
    buffered_bytes: usize,
    /// When the oldest buffered row must be written.
    due_ms: Option<i64>,
    /// A transaction that goes on beside the writer.
    under_way: Option<Task<Flushed>>,
    /// What has been staged since the last barrier.
    lot: Option<Lot>,
    /// The number of the next lot.
    next: u64,
    rejects: Vec<BadRecord>,
}

impl Writer {
    pub(super) fn new(flusher: Flusher) -> Self {
        Self {
            flusher: Arc::new(flusher),
            buffer: Vec::new(),
            buffered_rows: 0,
            buffered_bytes: 0,
            due_ms: None,
            under_way: None,
            lot: None,
            next: 0,
            rejects: Vec::new(),
        }
    }

    /// Waits for the transaction under way. One that has failed is not to be tried again: it was, as often as the options say.
    async fn settle(&mut self) -> Result<()> {
        let Some(under_way) = &mut self.under_way else { return Ok(()) };
        let flushed = under_way.done().await;
        self.under_way = None;
        let flushed = flushed?;
        self.lot = flushed.lot;
        self.rejects.extend(flushed.rejects);
        self.flusher.context.metrics.bytes_out.add(flushed.bytes as u64);
        Ok(())
    }

    /// Begins to write what is buffered, after what is under way.
    async fn start(&mut self, seal: Option<Epoch>) -> Result<()> {
        self.settle().await?;
        if self.buffer.is_empty() && (seal.is_none() || self.lot.is_none()) {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.buffer);
        (self.buffered_rows, self.buffered_bytes, self.due_ms) = (0, 0, None);
        let (flusher, lot, next) = (Arc::clone(&self.flusher), self.lot.clone(), self.next);
        self.under_way = Some(Task::start(async move { flusher.flush(&rows, lot, next, seal).await }));
        Ok(())
    }
}

#[async_trait]
impl SinkWriter for Writer {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.buffered_rows += batch.num_rows();
        self.buffered_bytes += batch_bytes(&batch);
        let context = &self.flusher.context;
        self.due_ms.get_or_insert_with(|| context.clock.now_ms().saturating_add(self.flusher.plan.flush_interval_ms));
        self.buffer.push(batch);
        if self.buffered_rows >= self.flusher.plan.batch_size || self.buffered_bytes >= BUFFER_BYTES {
            self.start(None).await?;
        }
        Ok(())
    }

    fn flush_due_ms(&self) -> Option<i64> {
        self.due_ms
    }

    async fn flush(&mut self) -> Result<()> {
        self.start(None).await?;
        self.settle().await
    }

    fn take_rejects(&mut self) -> Vec<BadRecord> {
        std::mem::take(&mut self.rejects)
    }

    async fn prepare_commit(&mut self, epoch: Epoch, _: bool) -> Result<Vec<Value>> {
        self.start(Some(epoch)).await?;
        self.settle().await?;
        let Some(lot) = self.lot.take() else { return Ok(Vec::new()) };
        self.next = lot.number + 1;
        // A lot whose rows were all refused stays empty; it is thrown away at the next start.
        if lot.rows == 0 { Ok(Vec::new()) } else { Ok(vec![lot.payload()?]) }
    }

    async fn close(&mut self) -> Result<()> {
        self.under_way = None;
        Ok(())
    }
}
