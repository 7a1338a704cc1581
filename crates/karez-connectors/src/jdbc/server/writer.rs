//! Gathers rows and hands them to the database while the next are gathered: one transaction under way, one batch being filled.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::schema::batch_bytes;
use karez_core::{BadRecord, Epoch, Error, Result, SinkWriter};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::flush::{Flushed, Flusher};
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
    under_way: Option<UnderWay>,
    /// The buffer holds rows of a transaction whose connection was lost: what became of it is not known.
    again: bool,
    /// What has been staged since the last barrier.
    lot: Option<Lot>,
    /// The number of the next lot.
    next: u64,
    rejects: Vec<BadRecord>,
}

/// A transaction that goes on beside the writer, and ends with it.
struct UnderWay {
    task: JoinHandle<Result<Flushed>>,
    rows: Arc<Vec<RecordBatch>>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.task.abort();
    }
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
            again: false,
            lot: None,
            next: 0,
            rejects: Vec::new(),
        }
    }

    /// Waits for the transaction under way. Its rows are buffered again where its connection was lost.
    async fn settle(&mut self) -> Result<()> {
        let Some(under_way) = &mut self.under_way else { return Ok(()) };
        let flushed = (&mut under_way.task).await.map_err(|e| Error::internal("a write to the database was interrupted").caused_by(e))?;
        let rows = Arc::clone(&under_way.rows);
        self.under_way = None;
        match flushed {
            Ok(flushed) => {
                self.lot = flushed.lot;
                self.rejects.extend(flushed.rejects);
                self.flusher.context.metrics.bytes_out.add(rows.iter().map(batch_bytes).sum::<usize>() as u64);
                self.again = false;
                Ok(())
            }
            Err(e) => {
                self.buffer.splice(0..0, rows.iter().cloned());
                self.again = true;
                Err(e)
            }
        }
    }

    /// Begins to write what is buffered, after what is under way.
    async fn start(&mut self, seal: Option<Epoch>) -> Result<()> {
        self.settle().await?;
        if self.buffer.is_empty() && (seal.is_none() || self.lot.is_none()) {
            return Ok(());
        }
        let rows = Arc::new(std::mem::take(&mut self.buffer));
        (self.buffered_rows, self.buffered_bytes, self.due_ms) = (0, 0, None);
        let (flusher, lot, next, again) = (Arc::clone(&self.flusher), self.lot.clone(), self.next, self.again);
        let batches = Arc::clone(&rows);
        let task = tokio::spawn(async move { flusher.flush(&batches, lot, next, seal, again).await });
        self.under_way = Some(UnderWay { task, rows });
        Ok(())
    }
}

#[async_trait]
impl SinkWriter for Writer {
    fn keeps_rows_on_lost_connection(&self) -> bool {
        true
    }

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
