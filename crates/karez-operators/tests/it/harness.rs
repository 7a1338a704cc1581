//! Runs one operator as the engine would: rows are hashed to subtasks, calls are resumed, state is snapshotted and restored.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use karez_core::key_group::{key_groups_of, subtask_of};
use karez_core::metrics::NodeMetrics;
use karez_core::state::{Frozen, KeyedTable, PaneTable, Snapshot, StateStore};
use karez_core::{
    BadRecord, Distribution, KeyGroup, KeyGroupRange, ManualClock, Operator, OperatorContext, OperatorSpec, Output, PlanContext, Progress, Registry,
    Result, StreamSchema, Watermark,
};
use serde_json::Value;

const KEY_GROUPS: u16 = 128;

/// Plans an operator.
pub fn plan(operator: &str, config: Value, inputs: &[StreamSchema]) -> Result<Arc<dyn OperatorSpec>, String> {
    plan_as(operator, config, inputs, false)
}

/// Plans an operator of a batch job.
pub fn plan_as(operator: &str, config: Value, inputs: &[StreamSchema], batch: bool) -> Result<Arc<dyn OperatorSpec>, String> {
    let registry = karez_operators::register(Registry::new());
    let factory = registry.operator(operator).map_err(|e| e.to_string())?;
    factory.plan(PlanContext { node: "node", config: &config, inputs, batch }).map_err(|e| e.to_string())
}

// ===== rows =====

/// `user, amount, name, ts`, with `ts` as event time.
pub fn orders() -> StreamSchema {
    let schema = Schema::new(vec![
        Field::new("user", DataType::Int64, true),
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
        FormatOptions::default().with_null("-").with_timestamp_format(Some("%dT%H:%M:%S%.3f")).with_timestamp_tz_format(Some("%dT%H:%M:%S%.3f"));
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
}

impl Job {
    pub fn new(operator: &str, config: Value) -> Self {
        Self::of(plan(operator, config, &[orders()]).unwrap_or_else(|e| panic!("{e}")), 1)
    }

    pub fn of(spec: Arc<dyn OperatorSpec>, parallelism: usize) -> Self {
        let out = Collected { capacity: usize::MAX, ..Collected::default() };
        let mut job = Self { spec, subtasks: Vec::new(), out, clock: Arc::new(ManualClock::new(0)), metrics: Arc::default(), resumed: 0 };
        job.start(parallelism, &Saved::default());
        job
    }

    pub fn with_capacity(mut self, batches: usize) -> Self {
        self.out.capacity = batches;
        self
    }

    fn start(&mut self, parallelism: usize, saved: &Saved) {
        self.subtasks = (0..parallelism)
            .map(|subtask| {
                let mut state = saved.store(KeyGroupRange::of_subtask(subtask, parallelism, KEY_GROUPS), subtask, parallelism);
                let context = OperatorContext {
                    subtask,
                    parallelism,
                    state: &mut state,
                    metrics: Arc::clone(&self.metrics),
                    clock: Arc::clone(&self.clock) as _,
                };
                self.spec.create(context).unwrap()
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
        for (subtask, rows) in self.spread(input, batch).into_iter().enumerate() {
            if rows.num_rows() > 0 {
                self.call(subtask, |operator, out| operator.process(input, rows, out));
            }
        }
    }

    /// Without hashing: the operator alone is measured.
    pub fn push_directly(&mut self, batch: RecordBatch) {
        self.call(0, |operator, out| operator.process(0, batch, out));
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
        (0..self.subtasks.len()).for_each(|s| self.call(s, |operator, out| operator.on_watermark(Watermark(ms), out)));
    }

    /// Sets the clock and calls the timers that are due.
    pub fn clock(&mut self, now_ms: i64) {
        self.clock.set(now_ms);
        for subtask in 0..self.subtasks.len() {
            while self.subtasks[subtask].next_timer_ms().is_some_and(|due| due <= now_ms) {
                self.call(subtask, |operator, out| operator.on_timer(now_ms, out));
            }
        }
    }

    pub fn end(&mut self) {
        self.watermark(i64::MAX);
        (0..self.subtasks.len()).for_each(|s| self.call(s, |operator, out| operator.on_end(out)));
    }

    pub fn checkpoint(&mut self) -> Saved {
        let mut saved = Saved::default();
        for operator in &mut self.subtasks {
            let mut snapshot = Snapshot::default();
            operator.snapshot(&mut snapshot).unwrap();
            saved.add(snapshot);
        }
        saved
    }

    /// Takes a checkpoint and starts anew from it.
    pub fn restart(&mut self, parallelism: usize) {
        let saved = self.checkpoint();
        self.start(parallelism, &saved);
    }

    /// What was emitted on a port since the last call, as text.
    pub fn take(&mut self, port: usize) -> Vec<String> {
        self.out.batches.remove(&port).unwrap_or_default().iter().flat_map(shown).collect()
    }

    /// As [`take`](Self::take), sorted.
    pub fn sorted(&mut self, port: usize) -> Vec<String> {
        let mut rows = self.take(port);
        rows.sort();
        rows
    }
}

// ===== state =====

type Panes = BTreeMap<i64, Vec<RecordBatch>>;
type Keyed = BTreeMap<(KeyGroup, Vec<u8>), (Bytes, i64)>;

enum TableCopy {
    Panes { data: Panes, key_columns: usize },
    Keyed(Keyed),
}

/// A checkpoint of all subtasks.
#[derive(Default)]
pub struct Saved {
    tables: Vec<(String, TableCopy)>,
    lists: BTreeMap<String, Vec<Value>>,
    broadcasts: BTreeMap<String, Value>,
}

impl Saved {
    fn add(&mut self, snapshot: Snapshot) {
        for (name, Frozen(table)) in snapshot.tables {
            self.tables.push((name, *table.downcast::<TableCopy>().unwrap()));
        }
        for (name, values) in snapshot.lists {
            self.lists.entry(name).or_default().extend(values);
        }
        for (name, value) in snapshot.broadcasts {
            self.broadcasts.entry(name).or_insert(value);
        }
    }

    /// Rows held in pane tables of a name.
    pub fn pane_rows(&self, table: &str) -> usize {
        let rows = |t: &TableCopy| match t {
            TableCopy::Panes { data, .. } => data.values().flatten().map(RecordBatch::num_rows).sum(),
            TableCopy::Keyed(entries) => entries.len(),
        };
        self.tables.iter().filter(|(name, _)| name == table).map(|(_, t)| rows(t)).sum()
    }

    fn store(&self, range: KeyGroupRange, subtask: usize, parallelism: usize) -> TestStore {
        let mut store =
            TestStore { range, panes: BTreeMap::new(), keyed: BTreeMap::new(), lists: BTreeMap::new(), broadcasts: self.broadcasts.clone() };
        for (name, table) in &self.tables {
            match table {
                TableCopy::Panes { data, key_columns } => {
                    let mine = store.panes.entry(name.clone()).or_default();
                    for (pane, batches) in data {
                        for batch in batches {
                            let rows = rows_in(range, batch, *key_columns);
                            if rows.num_rows() > 0 {
                                mine.entry(*pane).or_default().push(rows);
                            }
                        }
                    }
                }
                TableCopy::Keyed(entries) => {
                    let mine = store.keyed.entry(name.clone()).or_default();
                    mine.extend(entries.iter().filter(|((group, _), _)| range.contains(*group)).map(|(k, v)| (k.clone(), v.clone())));
                }
            }
        }
        for (name, values) in &self.lists {
            let mine = values.iter().enumerate().filter(|(i, _)| i % parallelism == subtask).map(|(_, v)| v.clone());
            store.lists.insert(name.clone(), mine.collect());
        }
        store
    }
}

fn rows_in(range: KeyGroupRange, batch: &RecordBatch, key_columns: usize) -> RecordBatch {
    let mut groups = Vec::new();
    key_groups_of(&batch.columns()[..key_columns], batch.num_rows(), range.of, &mut groups).unwrap();
    let rows: UInt32Array = (0..batch.num_rows() as u32).filter(|&row| range.contains(groups[row as usize])).collect::<Vec<_>>().into();
    take_record_batch(batch, &rows).unwrap()
}

struct TestStore {
    range: KeyGroupRange,
    panes: BTreeMap<String, Panes>,
    keyed: BTreeMap<String, Keyed>,
    lists: BTreeMap<String, Vec<Value>>,
    broadcasts: BTreeMap<String, Value>,
}

impl StateStore for TestStore {
    fn key_groups(&self) -> KeyGroupRange {
        self.range
    }

    fn pane_table(&mut self, name: &str, schema: SchemaRef, key_columns: usize) -> Result<Box<dyn PaneTable>> {
        Ok(Box::new(TestPanes { data: self.panes.remove(name).unwrap_or_default(), schema, key_columns }))
    }

    fn keyed_table(&mut self, name: &str) -> Result<Box<dyn KeyedTable>> {
        Ok(Box::new(TestKeyed { data: self.keyed.remove(name).unwrap_or_default(), range: self.range }))
    }

    fn list(&mut self, name: &str) -> Result<Vec<Value>> {
        Ok(self.lists.remove(name).unwrap_or_default())
    }

    fn broadcast(&mut self, name: &str) -> Result<Option<Value>> {
        Ok(self.broadcasts.get(name).cloned())
    }
}

struct TestPanes {
    data: Panes,
    schema: SchemaRef,
    key_columns: usize,
}

impl PaneTable for TestPanes {
    fn append(&mut self, pane: i64, partials: RecordBatch) -> Result<()> {
        assert_eq!(partials.schema(), self.schema);
        self.data.entry(pane).or_default().push(partials);
        Ok(())
    }

    fn panes(&self) -> Vec<i64> {
        self.data.keys().copied().collect()
    }

    fn read(&self, pane: i64) -> Result<Vec<RecordBatch>> {
        Ok(self.data.get(&pane).cloned().unwrap_or_default())
    }

    fn drop_pane(&mut self, pane: i64) -> Result<()> {
        self.data.remove(&pane);
        Ok(())
    }

    fn replace(&mut self, pane: i64, partials: Vec<RecordBatch>) -> Result<()> {
        self.data.insert(pane, partials);
        Ok(())
    }

    fn freeze(&mut self) -> Result<Frozen> {
        Ok(Frozen(Box::new(TableCopy::Panes { data: self.data.clone(), key_columns: self.key_columns })))
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

struct TestKeyed {
    data: Keyed,
    range: KeyGroupRange,
}

impl KeyedTable for TestKeyed {
    fn get(&mut self, key_group: KeyGroup, key: &[u8], now_ms: i64) -> Result<Option<Bytes>> {
        assert!(self.range.contains(key_group), "key group {} is another subtask's", key_group.0);
        Ok(self.data.get(&(key_group, key.to_vec())).filter(|(_, expires)| *expires > now_ms).map(|(value, _)| value.clone()))
    }

    fn put(&mut self, key_group: KeyGroup, key: &[u8], value: Bytes, expires_ms: i64) -> Result<()> {
        assert!(self.range.contains(key_group), "key group {} is another subtask's", key_group.0);
        self.data.insert((key_group, key.to_vec()), (value, expires_ms));
        Ok(())
    }

    fn delete(&mut self, key_group: KeyGroup, key: &[u8]) -> Result<()> {
        self.data.remove(&(key_group, key.to_vec()));
        Ok(())
    }

    fn expire(&mut self, now_ms: i64, limit: usize) -> Result<usize> {
        let expired: Vec<_> = self.data.iter().filter(|(_, (_, e))| *e <= now_ms).map(|(k, _)| k.clone()).take(limit).collect();
        expired.iter().for_each(|k| drop(self.data.remove(k)));
        Ok(expired.len())
    }

    fn scan(&self, cursor: Option<(KeyGroup, &[u8])>, limit: usize) -> Result<Vec<(KeyGroup, Bytes, Bytes)>> {
        let after = cursor.map(|(g, k)| (g, k.to_vec()));
        let entries = self.data.iter().filter(|(k, _)| after.as_ref().is_none_or(|a| *k > a)).take(limit);
        Ok(entries.map(|((g, k), (v, _))| (*g, Bytes::from(k.clone()), v.clone())).collect())
    }

    fn len(&self) -> usize {
        self.data.len()
    }

    fn freeze(&mut self) -> Result<Frozen> {
        Ok(Frozen(Box::new(TableCopy::Keyed(self.data.clone()))))
    }

    fn memory_bytes(&self) -> usize {
        0
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
