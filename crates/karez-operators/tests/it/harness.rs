//! Runs one operator as the engine would: rows are hashed to subtasks, calls are resumed, state is snapshotted and restored.
//!
//! Twice, side by side: with state in memory and on disk. Both must give the same rows, and each is restored from the other's checkpoints.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use karez_core::key_group::{key_groups_of, subtask_of};
use karez_core::metrics::NodeMetrics;
use karez_core::state::{Snapshot, StateStore};
use karez_core::{
    BadRecord, CheckpointId, Distribution, Error, KeyGroupRange, ManualClock, Operator, OperatorContext, OperatorSpec, Output, PlanContext, Progress,
    Registry, Result, StreamSchema, Watermark,
};
use karez_runtime::state::{
    Backend, DiskBackend, MemoryBudget, OperatorState, RestoredState, StateFileStore, StateHandle, StoreContext, WriteContext, file_prefix,
    write_snapshot,
};
use serde_json::Value;

const KEY_GROUPS: u16 = 128;

/// Plans an operator.
pub fn plan(operator: &str, config: Value, inputs: &[StreamSchema]) -> Result<Arc<dyn OperatorSpec>, String> {
    plan_as(operator, config, inputs, false)
}

/// Plans an operator of a batch job, or of one whose input does not end.
pub fn plan_as(operator: &str, config: Value, inputs: &[StreamSchema], batch: bool) -> Result<Arc<dyn OperatorSpec>, String> {
    plan_in(operator, config, inputs, batch, batch)
}

/// Plans an operator of bounded input or not, in a batch job or not.
pub fn plan_in(operator: &str, config: Value, inputs: &[StreamSchema], bounded: bool, batch: bool) -> Result<Arc<dyn OperatorSpec>, String> {
    let registry = karez_operators::register(Registry::new());
    let factory = registry.operator(operator).map_err(|e| e.to_string())?;
    factory.plan(PlanContext { node: "node", config: &config, inputs, bounded, batch, registry: &registry }).map_err(|e| e.to_string())
}

// ===== rows =====

/// `user_id, amount, name, ts`, with `ts` as event time.
pub fn orders() -> StreamSchema {
    let schema = Schema::new(vec![
        Field::new("user_id", DataType::Int64, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]);
    StreamSchema::append_only(Arc::new(schema)).with_event_time(Some("ts".into()))
}

/// A row of [`orders`].
pub type Order = (Option<i64>, f64, &'static str, i64);

pub fn order(user: i64, amount: f64, ts: i64) -> Order {
    (Some(user), amount, "x", ts)
}

pub fn batch(rows: &[Order]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| Some(r.1)).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|r| Some(r.2)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| Some(r.3)).collect::<TimestampMillisecondArray>()),
    ];
    RecordBatch::try_new(orders().arrow, columns).unwrap()
}

/// Rows as text, values separated by `|`, null as `-`.
pub fn shown(batch: &RecordBatch) -> Vec<String> {
    let options =
        FormatOptions::default().with_null("-").with_timestamp_format(Some("%dT%H:%M:%S%.f")).with_timestamp_tz_format(Some("%dT%H:%M:%S%.f"));
    let columns: Vec<ArrayFormatter<'_>> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|")).collect()
}

// ===== output =====

#[derive(Default)]
pub struct Collected {
    /// Batches by port, in order.
    pub batches: BTreeMap<usize, Vec<RecordBatch>>,
    pub rejected: Vec<BadRecord>,
    /// How many batches were emitted since the last call that was not a resumption.
    since: usize,
    capacity: usize,
    emitted_when_full: usize,
}

impl Output for Collected {
    fn emit(&mut self, port: usize, batch: RecordBatch) {
        if batch.num_rows() == 0 {
            return;
        }
        assert!(batch.num_rows() <= 8192, "a batch of {} rows", batch.num_rows());
        if self.is_full() {
            self.emitted_when_full += 1;
            assert!(self.emitted_when_full <= 1, "two batches were emitted into a full output");
        }
        self.since += 1;
        self.batches.entry(port).or_default().push(batch);
    }

    fn is_full(&self) -> bool {
        self.since >= self.capacity
    }

    fn reject(&mut self, bad: BadRecord) -> Result<()> {
        self.rejected.push(bad);
        Ok(())
    }
}

// ===== job =====

/// One operator with its subtasks.
pub struct Job {
    pub spec: Arc<dyn OperatorSpec>,
    subtasks: Vec<Box<dyn Operator>>,
    pub out: Collected,
    pub clock: Arc<ManualClock>,
    pub metrics: Arc<NodeMetrics>,
    /// How often a call was resumed.
    pub resumed: usize,
    backend: Backend,
    /// The name its files have.
    name: &'static str,
    files: Arc<Files>,
    checkpoints: u64,
    /// The same job with its state on disk.
    twin: Option<Box<Self>>,
}

impl Job {
    pub fn new(operator: &str, config: Value) -> Self {
        Self::of(plan(operator, config, &[orders()]).unwrap_or_else(|e| panic!("{e}")), 1)
    }

    pub fn of(spec: Arc<dyn OperatorSpec>, parallelism: usize) -> Self {
        Self::beside(true, spec, parallelism)
    }

    /// With or without a twin: making tables on disk takes most of the time of a small case.
    pub fn beside(twin: bool, spec: Arc<dyn OperatorSpec>, parallelism: usize) -> Self {
        let files = Arc::default();
        let mut job = Self::on(Backend::Memory, "memory", &spec, &files, parallelism);
        if twin && spec.is_stateful() {
            job.twin = Some(Box::new(Self::on(disk(), "disk", &spec, &files, parallelism)));
        }
        job
    }

    fn on(backend: Backend, name: &'static str, spec: &Arc<dyn OperatorSpec>, files: &Arc<Files>, parallelism: usize) -> Self {
        let out = Collected { capacity: usize::MAX, ..Collected::default() };
        let mut job = Self {
            spec: Arc::clone(spec),
            subtasks: Vec::new(),
            out,
            clock: Arc::new(ManualClock::new(0)),
            metrics: Arc::default(),
            resumed: 0,
            backend,
            name,
            files: Arc::clone(files),
            checkpoints: 0,
            twin: None,
        };
        let nothing = Saved { handles: Vec::new(), files: Arc::clone(files) };
        job.start(parallelism, &nothing);
        job
    }

    pub fn with_capacity(mut self, batches: usize) -> Self {
        self.out.capacity = batches;
        self.twin = self.twin.map(|twin| Box::new(twin.with_capacity(batches)));
        self
    }

    /// Both have given the same.
    fn agree(&self) {
        if let Some(twin) = &self.twin {
            assert_eq!(twin.out.batches, self.out.batches, "the rows with state on disk, and in memory");
            assert_eq!(twin.out.rejected.len(), self.out.rejected.len());
            assert_eq!(twin.metrics.late.get(), self.metrics.late.get());
        }
    }

    fn start(&mut self, parallelism: usize, saved: &Saved) {
        self.subtasks = (0..parallelism)
            .map(|subtask| {
                let mut state = saved.store(&self.backend, subtask, parallelism);
                let context = OperatorContext {
                    subtask,
                    parallelism,
                    state: &mut state,
                    metrics: Arc::clone(&self.metrics),
                    clock: Arc::clone(&self.clock) as _,
                };
                let operator = self.spec.create(context).unwrap();
                assert_eq!(state.unclaimed(), Vec::<String>::new(), "state that nobody asks for is lost");
                operator
            })
            .collect();
    }

    fn call(&mut self, subtask: usize, f: impl FnOnce(&mut dyn Operator, &mut dyn Output) -> Result<Progress>) {
        (self.out.since, self.out.emitted_when_full) = (0, 0);
        let operator = self.subtasks[subtask].as_mut();
        let mut progress = f(operator, &mut self.out).unwrap();
        while progress == Progress::More {
            self.resumed += 1;
            (self.out.since, self.out.emitted_when_full) = (0, 0);
            progress = operator.resume(&mut self.out).unwrap();
        }
    }

    pub fn push(&mut self, batch: RecordBatch) {
        self.push_to(0, batch);
    }

    pub fn push_to(&mut self, input: usize, batch: RecordBatch) {
        if let Some(twin) = &mut self.twin {
            twin.push_to(input, batch.clone());
        }
        for (subtask, rows) in self.spread(input, batch).into_iter().enumerate() {
            if rows.num_rows() > 0 {
                self.call(subtask, |operator, out| operator.process(input, rows, out));
            }
        }
    }

    fn spread(&self, input: usize, batch: RecordBatch) -> Vec<RecordBatch> {
        let Distribution::Hash(keys) = self.spec.distribution(input) else {
            return vec![batch];
        };
        let keys: Vec<ArrayRef> = keys.iter().map(|&k| Arc::clone(batch.column(k))).collect();
        let mut groups = Vec::new();
        key_groups_of(&keys, batch.num_rows(), KEY_GROUPS, &mut groups).unwrap();
        let parallelism = self.subtasks.len();
        let rows_of = |subtask| -> UInt32Array {
            (0..batch.num_rows() as u32).filter(|&r| subtask_of(groups[r as usize], parallelism, KEY_GROUPS) == subtask).collect::<Vec<_>>().into()
        };
        (0..parallelism).map(|subtask| take_record_batch(&batch, &rows_of(subtask)).unwrap()).collect()
    }

    pub fn orders(&mut self, rows: &[Order]) {
        self.push(batch(rows));
    }

    pub fn watermark(&mut self, ms: i64) {
        if let Some(twin) = &mut self.twin {
            twin.watermark(ms);
        }
        (0..self.subtasks.len()).for_each(|s| self.call(s, |operator, out| operator.on_watermark(Watermark(ms), out)));
    }

    /// Sets the clock and calls the timers that are due.
    pub fn clock(&mut self, now_ms: i64) {
        if let Some(twin) = &mut self.twin {
            twin.clock(now_ms);
        }
        self.clock.set(now_ms);
        for subtask in 0..self.subtasks.len() {
            while self.subtasks[subtask].next_timer_ms().is_some_and(|due| due <= now_ms) {
                self.call(subtask, |operator, out| operator.on_timer(now_ms, out));
            }
        }
    }

    pub fn end(&mut self) {
        self.watermark(i64::MAX);
        self.end_of_input();
        self.agree();
    }

    fn end_of_input(&mut self) {
        if let Some(twin) = &mut self.twin {
            twin.end_of_input();
        }
        (0..self.subtasks.len()).for_each(|s| self.call(s, |operator, out| operator.on_end(out)));
    }

    pub fn checkpoint(&mut self) -> Saved {
        self.checkpoints += 1;
        let parallelism = self.subtasks.len();
        let mut write = |(subtask, operator): (usize, &mut Box<dyn Operator>)| {
            let mut snapshot = Snapshot::default();
            operator.snapshot(&mut snapshot).unwrap();
            let context = WriteContext {
                storage: self.files.as_ref(),
                checkpoint: CheckpointId(self.checkpoints),
                savepoint: false,
                prefix: file_prefix(self.name, subtask),
                key_groups: KeyGroupRange::of_subtask(subtask, parallelism, KEY_GROUPS),
            };
            write_snapshot(snapshot, &context).unwrap()
        };
        let handles = self.subtasks.iter_mut().enumerate().map(&mut write).collect();
        Saved { handles, files: Arc::clone(&self.files) }
    }

    /// Takes a checkpoint and starts anew from it.
    pub fn restart(&mut self, parallelism: usize) {
        let saved = self.checkpoint();
        match &mut self.twin {
            Some(twin) => {
                let of_twin = twin.checkpoint();
                twin.start(parallelism, &saved);
                self.start(parallelism, &of_twin);
            }
            None => self.start(parallelism, &saved),
        }
    }

    /// Takes a checkpoint and starts another plan of the operator from it.
    pub fn restart_as(&mut self, spec: Arc<dyn OperatorSpec>, parallelism: usize) {
        if let Some(twin) = &mut self.twin {
            twin.spec = Arc::clone(&spec);
        }
        self.spec = spec;
        self.restart(parallelism);
    }

    /// What was emitted on a port since the last call, as text.
    pub fn take(&mut self, port: usize) -> Vec<String> {
        self.agree();
        if let Some(twin) = &mut self.twin {
            twin.out.batches.remove(&port);
        }
        self.out.batches.remove(&port).unwrap_or_default().iter().flat_map(shown).collect()
    }

    /// What was rejected since the last call.
    pub fn take_rejected(&mut self) -> Vec<BadRecord> {
        self.agree();
        if let Some(twin) = &mut self.twin {
            twin.out.rejected.clear();
        }
        std::mem::take(&mut self.out.rejected)
    }

    /// As [`take`](Self::take), sorted.
    pub fn sorted(&mut self, port: usize) -> Vec<String> {
        let mut rows = self.take(port);
        rows.sort();
        rows
    }
}

// ===== state =====

thread_local! {
    /// The disk backend of the jobs of a test, and how many there were.
    static DISK: RefCell<(Weak<DiskBackend>, usize)> = const { RefCell::new((Weak::new(), 0)) };
}

/// The disk backend that the jobs of a test share. Its folder goes with the last of them.
fn disk() -> Backend {
    let (shared, number) = DISK.with_borrow_mut(|(shared, number)| {
        *number += 1;
        (shared.upgrade(), *number)
    });
    if let Some(backend) = shared {
        return Backend::Disk(backend);
    }
    // In memory where the machine has such a folder: each table made syncs files, and what a disk does is not what is shown here.
    let place = [Path::new("/dev/shm"), Path::new(env!("CARGO_TARGET_TMPDIR"))].into_iter().find(|p| p.is_dir()).unwrap();
    let folder = place.join(format!("karez-operators-{}-{:?}-{number}", std::process::id(), std::thread::current().id()));
    let backend = Backend::disk(&folder).unwrap();
    if let Backend::Disk(backend) = &backend {
        DISK.with_borrow_mut(|(shared, _)| *shared = Arc::downgrade(backend));
    }
    backend
}

/// State files in memory.
#[derive(Debug, Default)]
pub struct Files(Mutex<BTreeMap<String, Bytes>>);

impl StateFileStore for Files {
    fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        assert!(self.0.lock().unwrap().insert(name.to_owned(), bytes).is_none(), "{name} was written twice");
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        self.0.lock().unwrap().get(name).cloned().ok_or_else(|| Error::internal(format!("no file {name}")))
    }
}

/// A checkpoint of all subtasks.
pub struct Saved {
    handles: Vec<StateHandle>,
    files: Arc<Files>,
}

impl Saved {
    /// The state of a subtask.
    fn store(&self, backend: &Backend, subtask: usize, parallelism: usize) -> OperatorState {
        let restored =
            if self.handles.is_empty() { RestoredState::none() } else { RestoredState::new(self.handles.clone(), Arc::clone(&self.files) as _) };
        let key_groups = KeyGroupRange::of_subtask(subtask, parallelism, KEY_GROUPS);
        let context = StoreContext { subtask, parallelism, key_groups, account: MemoryBudget::new(None).account("node") };
        backend.store(context, restored).unwrap()
    }

    /// Rows in the files that hold the panes of a table.
    pub fn pane_rows(&self, table: &str) -> u64 {
        let files = self.handles.iter().flat_map(|h| &h.tables[table].files);
        files.filter(|f| !f.panes.is_empty()).map(|f| f.rows).sum()
    }

    /// Entries of a keyed table.
    pub fn keys(&self, table: &str) -> usize {
        self.store(&Backend::Memory, 0, 1).keyed_table(table).unwrap().len()
    }
}

/// All batches of a port as one.
pub fn concat(batches: &[RecordBatch]) -> RecordBatch {
    concat_batches(batches[0].schema_ref(), batches).unwrap()
}

/// A changelog folded to the rows that stand at its end, as text, sorted.
pub fn fold(changes: &[String]) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for change in changes {
        let (row, kind) = change.rsplit_once('|').unwrap();
        if kind == "0" || kind == "2" {
            rows.push(row.to_owned());
        } else {
            let at = rows.iter().position(|r| r == row).unwrap_or_else(|| panic!("{row} is taken away but was not there"));
            rows.remove(at);
        }
    }
    rows.sort();
    rows
}
