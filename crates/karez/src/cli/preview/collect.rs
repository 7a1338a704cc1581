//! A sink that keeps the first rows in memory.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::sink::{SinkGuarantee, WriterContext};
use karez_core::{Epoch, Result, Sink, SinkWriter};
use serde_json::Value;
use tokio::sync::watch;

/// The rows of one sink.
#[derive(Debug)]
pub(super) struct Collection {
    node: String,
    connector: String,
    letters: bool,
    limit: usize,
    held_back: AtomicBool,
    input_ended: AtomicBool,
    rows: Mutex<Vec<Kept>>,
    full: watch::Sender<bool>,
}

/// Rows that were kept.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) batch: RecordBatch,
    /// Further input would have changed them.
    pub(super) partial: bool,
}

impl Collection {
    pub(super) fn new(node: &str, connector: String, letters: bool, limit: usize) -> Self {
        Self {
            node: node.to_owned(),
            connector,
            letters,
            limit,
            held_back: AtomicBool::new(false),
            input_ended: AtomicBool::new(false),
            rows: Mutex::default(),
            full: watch::Sender::new(limit == 0),
        }
    }

    /// The name of the sink.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// What the sink is in the job.
    pub(super) fn connector(&self) -> &str {
        &self.connector
    }

    /// Whether it takes dead letters.
    pub(super) const fn is_of_letters(&self) -> bool {
        self.letters
    }

    pub(super) fn set_held_back(&self, yes: bool) {
        self.held_back.store(yes, Relaxed);
    }

    /// From now on rows that an operator held back are partial.
    pub(super) fn input_ended(&self) {
        self.input_ended.store(true, Relaxed);
    }

    /// Waits until the limit is reached.
    pub(super) async fn full(&self) {
        // The sender lives in `self`: the wait ends with the limit alone.
        let _ = self.full.subscribe().wait_for(|full| *full).await;
    }

    /// Whether rows may have been left out.
    pub(super) fn is_full(&self) -> bool {
        *self.full.borrow()
    }

    /// The rows so far.
    pub(super) fn rows(&self) -> Vec<Kept> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, batch: &RecordBatch) {
        let partial = self.input_ended.load(Relaxed) && self.held_back.load(Relaxed);
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let have: usize = rows.iter().map(|k| k.batch.num_rows()).sum();
        let more = batch.num_rows().min(self.limit.saturating_sub(have));
        if more > 0 {
            rows.push(Kept { batch: batch.slice(0, more), partial });
        }
        if have + more >= self.limit {
            self.full.send_replace(true);
        }
    }
}

/// The sink of a [`Collection`].
#[derive(Debug)]
pub(super) struct CollectingSink(pub(super) Arc<Collection>);

#[async_trait]
impl Sink for CollectingSink {
    fn guarantee(&self) -> SinkGuarantee {
        SinkGuarantee::AtLeastOnce
    }

    fn accepts_changelog(&self) -> bool {
        true
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn writer(&self, _: WriterContext, _: Vec<Value>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
}

#[async_trait]
impl SinkWriter for CollectingSink {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.0.add(&batch);
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    async fn prepare_commit(&mut self, _: Epoch, _: bool) -> Result<Vec<Value>> {
        Ok(Vec::new())
    }
}
