//! A sink that collects, behind a gate the test opens and shuts; transactional on demand.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use karez_core::sink::{CommitPermit, SinkGuarantee, SinkRunContext, WriterContext};
use karez_core::{BadRecord, CommitOutcome, Committable, Committer, Epoch, Error, Result, Sink, SinkWriter};
use serde_json::{Value, json};
use tokio::sync::watch;

/// A row as text, and the subtask that wrote it.
pub type Written = (usize, Vec<String>);

/// Where rows end up.
pub struct Store {
    transactional: bool,
    open: watch::Sender<bool>,
    /// How often `write` was called: the calls that wait at the gate included.
    pub writes: AtomicUsize,
    rows: watch::Sender<Vec<Written>>,
    applied: Mutex<BTreeSet<(u64, usize)>>,
    /// Commits that are applied, but whose answer is lost.
    pub lost_answers: AtomicUsize,
    /// Whether what has been prepared is gone when it is to be committed.
    pub loses_rows: AtomicBool,
    /// Whether opening a writer waits for ever.
    pub never_opens: AtomicBool,
    /// Whether opening the committer panics.
    pub committer_panics: AtomicBool,
    /// Whether the next commit panics.
    pub commit_panics: AtomicBool,
    /// Calls of the writer that find nobody there; it keeps its rows.
    pub away: AtomicUsize,
    /// Values that the writer refuses.
    pub refused_by_writer: Mutex<Vec<i64>>,
    /// Values that the committer refuses.
    pub refused_by_committer: Mutex<Vec<i64>>,
}

impl Store {
    pub fn new() -> Arc<Self> {
        Self::make(false)
    }

    pub fn transactional() -> Arc<Self> {
        Self::make(true)
    }

    fn make(transactional: bool) -> Arc<Self> {
        Arc::new(Self {
            transactional,
            open: watch::Sender::new(true),
            writes: AtomicUsize::new(0),
            rows: watch::Sender::new(Vec::new()),
            applied: Mutex::default(),
            lost_answers: AtomicUsize::new(0),
            loses_rows: AtomicBool::new(false),
            never_opens: AtomicBool::new(false),
            committer_panics: AtomicBool::new(false),
            commit_panics: AtomicBool::new(false),
            away: AtomicUsize::new(0),
            refused_by_writer: Mutex::default(),
            refused_by_committer: Mutex::default(),
        })
    }

    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    pub fn rows(&self) -> Vec<Written> {
        self.rows.borrow().clone()
    }

    /// A column of numbers, in the order written.
    pub fn numbers(&self, column: usize) -> Vec<i64> {
        self.rows.borrow().iter().map(|(_, r)| r[column].parse().unwrap()).collect()
    }

    pub fn sorted(&self, column: usize) -> Vec<i64> {
        let mut numbers = self.numbers(column);
        numbers.sort_unstable();
        numbers
    }

    /// Waits until so many rows are there.
    pub async fn has(&self, rows: usize) {
        let mut changes = self.rows.subscribe();
        super::bench::within("rows in the sink", changes.wait_for(|r| r.len() >= rows)).await.unwrap();
    }
}

pub fn sink(store: &Arc<Store>) -> Arc<dyn Sink> {
    Arc::new(CollectingSink(Arc::clone(store)))
}

struct CollectingSink(Arc<Store>);

#[async_trait]
impl Sink for CollectingSink {
    fn guarantee(&self) -> SinkGuarantee {
        if self.0.transactional { SinkGuarantee::Transactional } else { SinkGuarantee::AtLeastOnce }
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
    async fn writer(&self, context: WriterContext, _: Vec<Value>) -> Result<Box<dyn SinkWriter>> {
        if self.0.never_opens.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(Box::new(Writer {
            store: Arc::clone(&self.0),
            subtask: context.subtask,
            open: self.0.open.subscribe(),
            pending: Vec::new(),
            rejects: Vec::new(),
        }))
    }
    async fn committer(&self, _: &SinkRunContext) -> Result<Option<Box<dyn Committer>>> {
        assert!(!self.0.committer_panics.load(SeqCst), "injected");
        Ok(self.0.transactional.then(|| Box::new(StoreCommitter(Arc::clone(&self.0))) as Box<dyn Committer>))
    }
}

struct Writer {
    store: Arc<Store>,
    subtask: usize,
    open: watch::Receiver<bool>,
    pending: Vec<Written>,
    rejects: Vec<BadRecord>,
}

fn refused(row: &[String], values: &Mutex<Vec<i64>>) -> Option<BadRecord> {
    let value = row[1].parse::<i64>().ok()?;
    values.lock().unwrap().contains(&value).then(|| BadRecord { reason: format!("{value} is refused"), ..BadRecord::default() })
}

impl Writer {
    fn reach(&self) -> Result<()> {
        let away = self.store.away.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok();
        if away { Err(Error::connection("nobody is there")) } else { Ok(()) }
    }
}

#[async_trait]
impl SinkWriter for Writer {
    fn keeps_rows_on_lost_connection(&self) -> bool {
        true
    }
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.store.writes.fetch_add(1, SeqCst);
        self.open.wait_for(|open| *open).await.map_err(|e| Error::internal(e.to_string()))?;
        for row in 0..batch.num_rows() {
            // Timestamps as numbers, like everything else.
            let text = |c: &arrow::array::ArrayRef| {
                let number = arrow::compute::cast(c, &arrow::datatypes::DataType::Int64);
                number.map_or_else(
                    |_| array_value_to_string(c, row),
                    |n| if n.is_valid(row) { array_value_to_string(&n, row) } else { array_value_to_string(c, row) },
                )
            };
            let row = batch.columns().iter().map(text).collect::<Result<Vec<_>, _>>()?;
            match refused(&row, &self.store.refused_by_writer) {
                Some(bad) => self.rejects.push(bad),
                None => self.pending.push((self.subtask, row)),
            }
        }
        if !self.store.transactional {
            self.flush().await?;
        }
        Ok(())
    }
    async fn flush(&mut self) -> Result<()> {
        self.reach()?;
        if !self.store.transactional {
            self.store.rows.send_modify(|r| r.append(&mut self.pending));
        }
        Ok(())
    }
    fn take_rejects(&mut self) -> Vec<BadRecord> {
        std::mem::take(&mut self.rejects)
    }
    async fn prepare_commit(&mut self, _: Epoch, _: bool) -> Result<Vec<Value>> {
        self.reach()?;
        let pending = std::mem::take(&mut self.pending);
        Ok(if pending.is_empty() { Vec::new() } else { vec![json!(pending)] })
    }
}

struct StoreCommitter(Arc<Store>);

#[async_trait]
impl Committer for StoreCommitter {
    async fn commit(&mut self, permit: &CommitPermit, committables: &[Committable]) -> Result<Vec<CommitOutcome>> {
        assert!(!self.0.commit_panics.swap(false, SeqCst), "injected into a commit");
        if self.0.loses_rows.load(SeqCst) {
            return Ok(committables.iter().map(|_| CommitOutcome::Lost(Error::external("they were kept for too short a time"))).collect());
        }
        let mut outcomes = Vec::new();
        for committable in committables {
            assert!(committable.epoch <= permit.epoch(), "a commit without permit");
            let mut rows: Vec<Written> = serde_json::from_value(committable.payload.clone()).unwrap();
            // What it refused it says again: whoever asked may have died with the answer.
            let again = !self.0.applied.lock().unwrap().insert((committable.epoch.0, committable.subtask));
            let bad: Vec<BadRecord> = rows.iter().filter_map(|(_, r)| refused(r, &self.0.refused_by_committer)).collect();
            rows.retain(|(_, r)| refused(r, &self.0.refused_by_committer).is_none());
            if !again {
                self.0.rows.send_modify(|r| r.append(&mut rows));
            }
            outcomes.push(match (bad.is_empty(), again) {
                (false, _) => CommitOutcome::CommittedExcept(bad),
                (true, true) => CommitOutcome::AlreadyCommitted,
                (true, false) => CommitOutcome::Committed,
            });
        }
        if self.0.lost_answers.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(Error::external("the answer was lost"));
        }
        Ok(outcomes)
    }
}
