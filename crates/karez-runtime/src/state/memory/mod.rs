//! State in memory.

mod keyed;
mod shard;

use arrow::array::RecordBatch;
use karez_core::Result;

use super::panes::{BatchReader, BatchStore};

pub(super) use keyed::MemoryKeyedTable;

/// Batches are kept as they are.
pub(super) struct MemoryBatches;

impl BatchStore for MemoryBatches {
    type Ref = RecordBatch;
    type Reader = Self;

    fn put(&mut self, _pane: i64, batch: RecordBatch) -> Result<RecordBatch> {
        Ok(batch)
    }

    fn reader(&self) -> Self {
        Self
    }

    fn get(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        Ok(batch.clone())
    }

    fn remove(&mut self, _batch: &RecordBatch) -> Result<()> {
        Ok(())
    }

    fn memory_bytes(bytes: usize) -> usize {
        bytes
    }
}

impl BatchReader<RecordBatch> for MemoryBatches {
    fn get(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        Ok(batch.clone())
    }
}
