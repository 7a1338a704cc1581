//! What outlives a run of the job: what its sources give and its sinks have.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::plan::{Plan, RunPlan};
use super::sink::Store;

pub struct World {
    pub plan: Arc<Plan>,
    pub stores: BTreeMap<String, Arc<Store>>,
    /// Batches that the sources have given in this run.
    pub given: watch::Sender<usize>,
    /// How many they may give; each reader looks before it gives one.
    pub until: AtomicUsize,
    /// Source, split and batch.
    pub failing_reads: Mutex<Vec<(usize, usize, usize)>>,
    pub lost_answers: AtomicUsize,
    pub tally: Tally,
}

/// What has happened: a test in which nothing was restored would show nothing.
#[derive(Default, Debug)]
pub struct Tally {
    /// Splits opened where an earlier attempt had left them.
    pub reopened: AtomicUsize,
    /// Starts of the job, restarts after a failure included.
    pub starts: AtomicUsize,
    pub savepoints: AtomicUsize,
    pub checkpoints: AtomicUsize,
    pub rows: AtomicUsize,
    /// Rows taken back.
    pub retractions: AtomicUsize,
    /// Rows that were late.
    pub late: AtomicUsize,
}

impl Tally {
    pub fn add(&self, other: &Self) {
        for (a, b) in self.all().into_iter().zip(other.all()) {
            a.fetch_add(b.load(SeqCst), SeqCst);
        }
    }

    fn all(&self) -> [&AtomicUsize; 7] {
        [&self.reopened, &self.starts, &self.savepoints, &self.checkpoints, &self.rows, &self.retractions, &self.late]
    }
}

impl World {
    pub fn new(plan: &Arc<Plan>) -> Arc<Self> {
        Arc::new(Self {
            plan: Arc::clone(plan),
            stores: plan.sinks.iter().map(|s| (s.name.clone(), Arc::new(Store::new(s)))).collect(),
            given: watch::Sender::new(0),
            until: AtomicUsize::new(usize::MAX),
            failing_reads: Mutex::default(),
            lost_answers: AtomicUsize::new(0),
            tally: Tally::default(),
        })
    }

    pub fn begin(&self, run: &RunPlan) {
        self.given.send_replace(0);
        *self.failing_reads.lock().unwrap() = run.failing_reads.clone();
        self.lost_answers.store(run.lost_answers, SeqCst);
        self.tally.starts.fetch_add(1, SeqCst);
    }

    /// Whether this read is to fail, once.
    pub fn fails(&self, source: usize, split: usize, batch: usize) -> bool {
        let mut failing = self.failing_reads.lock().unwrap();
        let found = failing.iter().position(|f| *f == (source, split, batch));
        found.map(|at| failing.swap_remove(at)).is_some()
    }
}
