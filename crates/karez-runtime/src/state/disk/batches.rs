//! Batches of pane tables on disk: `pane ‖ sequence` → an Arrow IPC stream of one batch.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use fjall::{Readable, Snapshot};
use karez_core::{Error, Result};

use super::super::panes::{BatchReader, BatchStore};
use super::{DiskBackend, DiskTable, ordered};

/// Keeps batches on disk.
pub(crate) struct DiskBatches {
    table: Arc<DiskTable>,
    next: u64,
}

impl DiskBatches {
    pub(crate) fn new(backend: &Arc<DiskBackend>) -> Result<Self> {
        Ok(Self { table: backend.table("panes")?, next: 0 })
    }
}

impl BatchStore for DiskBatches {
    type Ref = [u8; 16];
    type Reader = DiskBatchReader;

    fn put(&mut self, pane: i64, batch: RecordBatch) -> Result<[u8; 16]> {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&ordered(pane));
        key[8..].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
        writer.write(&batch)?;
        writer.finish()?;
        self.table.insert(&key, &writer.into_inner()?)?;
        Ok(key)
    }

    fn reader(&self) -> DiskBatchReader {
        DiskBatchReader { snapshot: self.table.snapshot(), table: Arc::clone(&self.table) }
    }

    fn get(&self, batch: &[u8; 16]) -> Result<RecordBatch> {
        decode(self.table.get(batch)?)
    }

    fn remove(&mut self, batch: &[u8; 16]) -> Result<()> {
        self.table.remove(batch)
    }

    fn memory_bytes(_bytes: usize) -> usize {
        64
    }
}

/// Batches as of an instant.
pub(crate) struct DiskBatchReader {
    // Dropped before the table, which it reads.
    snapshot: Snapshot,
    table: Arc<DiskTable>,
}

impl BatchReader<[u8; 16]> for DiskBatchReader {
    fn get(&self, batch: &[u8; 16]) -> Result<RecordBatch> {
        decode(self.snapshot.get(&self.table.keyspace, batch).map_err(|e| self.table.backend.failed(e))?)
    }
}

fn decode(bytes: Option<fjall::UserValue>) -> Result<RecordBatch> {
    let lost = || Error::internal("a batch of state is not on disk");
    let bytes = bytes.ok_or_else(lost)?;
    StreamReader::try_new(&*bytes, None)?.next().ok_or_else(lost)?.map_err(Error::from)
}
