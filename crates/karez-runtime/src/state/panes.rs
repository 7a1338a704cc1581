//! Pane tables over any place to keep batches.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use karez_core::schema::batch_bytes;
use karez_core::state::{Frozen, PaneTable};
use karez_core::{Error, Result};

use super::budget::MemoryAccount;
use super::lineage::{Delta, FileSet, FrozenTable, Lineage, LivePanes};
use super::pane_file::{PaneKey, write_batches};

/// How much of a delta is brought into memory at a time.
const CHUNK_BYTES: usize = 64 << 20;

/// Keeps batches.
pub(super) trait BatchStore: Send {
    /// Finds a batch again.
    type Ref: Clone + Send + Sync + 'static;
    /// Reads batches as they are now, whatever is removed later.
    type Reader: BatchReader<Self::Ref>;

    /// Keeps a batch of a pane.
    fn put(&mut self, pane: i64, batch: RecordBatch) -> Result<Self::Ref>;

    /// A reader as of now.
    fn reader(&self) -> Self::Reader;

    /// Reads a batch.
    fn get(&self, batch: &Self::Ref) -> Result<RecordBatch>;

    /// Forgets a batch.
    fn remove(&mut self, batch: &Self::Ref) -> Result<()>;

    /// The bytes of memory that a batch of `bytes` takes.
    fn memory_bytes(bytes: usize) -> usize;
}

/// Reads batches in the background.
pub(super) trait BatchReader<R>: Send + Sync + 'static {
    /// A batch.
    fn get(&self, batch: &R) -> Result<RecordBatch>;
}

/// A pane table.
pub(super) struct Panes<S: BatchStore> {
    store: S,
    schema: SchemaRef,
    key: PaneKey,
    panes: BTreeMap<i64, Pane<S::Ref>>,
    /// The number that the changes since the last barrier will get.
    open: u64,
    lineage: Arc<Lineage>,
    memory: usize,
    account: MemoryAccount,
}

struct Pane<R> {
    /// The first delta of its present life.
    since: u64,
    /// Batches, and their bytes.
    batches: Vec<(R, usize)>,
    /// How many of them are in frozen deltas.
    frozen: usize,
}

impl<S: BatchStore> Panes<S> {
    /// An empty table.
    pub(super) fn new(store: S, schema: SchemaRef, key: PaneKey, lineage: Arc<Lineage>, account: MemoryAccount) -> Self {
        Self { store, schema, key, panes: BTreeMap::new(), open: 1, lineage, memory: 0, account }
    }

    /// Adds restored rows: files hold them already.
    pub(super) fn load(&mut self, pane: i64, partials: RecordBatch) -> Result<()> {
        self.add(pane, partials, 0)?;
        if let Some(pane) = self.panes.get_mut(&pane) {
            pane.frozen = pane.batches.len();
        }
        Ok(())
    }

    fn add(&mut self, pane: i64, partials: RecordBatch, since: u64) -> Result<()> {
        if partials.num_rows() == 0 {
            return Ok(());
        }
        let bytes = batch_bytes(&partials) + 128;
        let batch = self.store.put(pane, partials)?;
        self.memory += S::memory_bytes(bytes);
        self.account.follow(self.memory);
        let pane = self.panes.entry(pane).or_insert_with(|| Pane { since, batches: Vec::new(), frozen: 0 });
        pane.batches.push((batch, bytes));
        Ok(())
    }

    fn check(&self, partials: &RecordBatch) -> Result<()> {
        let types = |s: &SchemaRef| s.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        if Arc::ptr_eq(&partials.schema(), &self.schema) || types(partials.schema_ref()) == types(&self.schema) {
            return Ok(());
        }
        Err(Error::internal(format!("partials of another schema than their table's: {} instead of {}", partials.schema(), self.schema)))
    }
}

impl<S: BatchStore> PaneTable for Panes<S> {
    fn append(&mut self, pane: i64, partials: RecordBatch) -> Result<()> {
        self.check(&partials)?;
        self.add(pane, partials, self.open)
    }

    fn panes(&self) -> Vec<i64> {
        self.panes.keys().copied().collect()
    }

    fn read(&self, pane: i64) -> Result<Vec<RecordBatch>> {
        let batches = self.panes.get(&pane).map_or(&[][..], |p| &p.batches);
        batches.iter().map(|(b, _)| self.store.get(b)).collect()
    }

    fn drop_pane(&mut self, pane: i64) -> Result<()> {
        let Some(dropped) = self.panes.remove(&pane) else { return Ok(()) };
        for (batch, bytes) in dropped.batches {
            self.memory -= S::memory_bytes(bytes);
            self.store.remove(&batch)?;
        }
        self.account.follow(self.memory);
        Ok(())
    }

    fn replace(&mut self, pane: i64, partials: Vec<RecordBatch>) -> Result<()> {
        partials.iter().try_for_each(|p| self.check(p))?;
        self.drop_pane(pane)?;
        partials.into_iter().try_for_each(|p| self.add(pane, p, self.open))
    }

    fn freeze(&mut self) -> Result<Frozen> {
        let mut batches = Vec::new();
        let mut live = LivePanes::new();
        for (&at, pane) in &mut self.panes {
            live.insert(at, pane.since);
            batches.extend(pane.batches[pane.frozen..].iter().map(|(b, bytes)| (at, b.clone(), *bytes)));
            pane.frozen = pane.batches.len();
        }
        let through = self.open;
        self.open += 1;
        if !batches.is_empty() {
            let delta = PaneDelta { number: through, reader: self.store.reader(), batches, schema: Arc::clone(&self.schema), key: self.key };
            self.lineage.push(through, Arc::new(delta));
        }
        self.account.set(self.memory);
        let frozen = FrozenTable { lineage: Arc::clone(&self.lineage), through, live, expired_through_ms: i64::MIN };
        Ok(Frozen(Box::new(frozen) as Box<dyn Any + Send>))
    }

    fn memory_bytes(&self) -> usize {
        self.memory
    }
}

struct PaneDelta<R, B> {
    number: u64,
    reader: B,
    batches: Vec<(i64, R, usize)>,
    schema: SchemaRef,
    key: PaneKey,
}

impl<R: Clone + Send + Sync, B: BatchReader<R>> Delta for PaneDelta<R, B> {
    fn write(&self, live: &LivePanes, out: &mut FileSet<'_>) -> Result<()> {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        for (pane, batch, size) in &self.batches {
            // Of an attempt that failed, and dropped since.
            if live.get(pane).is_none_or(|&since| since > self.number) {
                continue;
            }
            chunk.push((*pane, self.reader.get(batch)?));
            bytes += size;
            if bytes >= CHUNK_BYTES {
                write_batches(&std::mem::take(&mut chunk), &self.schema, self.key, out)?;
                bytes = 0;
            }
        }
        write_batches(&chunk, &self.schema, self.key, out)
    }
}
