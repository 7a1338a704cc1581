//! Operators of the tests.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use karez_core::key_group::key_groups_of;
use karez_core::operator::{MAIN, OutputPort};
use karez_core::state::{Frozen, KeyedTable, Snapshot};
use karez_core::{BadRecord, Distribution, Error, Operator, OperatorContext, OperatorSpec, Output, Progress, Result, StreamSchema, Watermark};
use serde_json::json;

use super::source::schema;

type Make = Box<dyn Fn(OperatorContext<'_>) -> Result<Box<dyn Operator>> + Send + Sync>;

struct Spec {
    outputs: Vec<OutputPort>,
    distribution: Distribution,
    make: Make,
}

impl OperatorSpec for Spec {
    fn outputs(&self) -> &[OutputPort] {
        &self.outputs
    }
    fn distribution(&self, _: usize) -> Distribution {
        self.distribution.clone()
    }
    fn create(&self, context: OperatorContext<'_>) -> Result<Box<dyn Operator>> {
        (self.make)(context)
    }
}

fn spec(
    distribution: Distribution,
    output: StreamSchema,
    make: impl Fn(OperatorContext<'_>) -> Result<Box<dyn Operator>> + Send + Sync + 'static,
) -> Arc<dyn OperatorSpec> {
    Arc::new(Spec { outputs: vec![OutputPort { name: MAIN.into(), schema: output }], distribution, make: Box::new(make) })
}

fn rows() -> StreamSchema {
    StreamSchema::append_only(schema())
}

pub fn column(batch: &RecordBatch, at: usize) -> Vec<i64> {
    arrow::compute::cast(batch.column(at), &DataType::Int64).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

struct Function<F>(F);

impl<F: FnMut(RecordBatch, &mut dyn Output) -> Result<()> + Send> Operator for Function<F> {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        (self.0)(batch, out).map(|()| Progress::Done)
    }
}

/// A function of batches, without state.
pub fn function(f: impl Fn(RecordBatch, &mut dyn Output) -> Result<()> + Send + Sync + Clone + 'static) -> Arc<dyn OperatorSpec> {
    spec(Distribution::Any, rows(), move |_| Ok(Box::new(Function(f.clone()))))
}

pub fn identity() -> Arc<dyn OperatorSpec> {
    function(|batch, out| {
        out.emit(0, batch);
        Ok(())
    })
}

/// Rejects negative values.
pub fn positive() -> Arc<dyn OperatorSpec> {
    function(|batch, out| {
        for (row, value) in column(&batch, 1).into_iter().enumerate() {
            if value < 0 {
                out.reject(BadRecord { reason: format!("{value} is negative"), ..BadRecord::default() })?;
            } else {
                out.emit(0, batch.slice(row, 1));
            }
        }
        Ok(())
    })
}

/// Stops the thread until it is let through.
#[derive(Default)]
pub struct Barrier(Mutex<bool>, Condvar);

impl Barrier {
    pub fn release(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    pub fn operator(self: &Arc<Self>) -> Arc<dyn OperatorSpec> {
        let barrier = Arc::clone(self);
        function(move |batch, out| {
            let released = barrier.0.lock().unwrap();
            drop(barrier.1.wait_while(released, |r| !*r).unwrap());
            out.emit(0, batch);
            Ok(())
        })
    }
}

/// Fails at the given rows, one row for each attempt, by an error or a panic.
pub struct Faults {
    rows: Mutex<Vec<usize>>,
    panics: bool,
    pub hits: AtomicUsize,
}

impl Faults {
    pub fn at(rows: &[usize], panics: bool) -> Arc<Self> {
        Arc::new(Self { rows: Mutex::new(rows.iter().rev().copied().collect()), panics, hits: AtomicUsize::new(0) })
    }

    pub fn operator(self: &Arc<Self>) -> Arc<dyn OperatorSpec> {
        let faults = Arc::clone(self);
        spec(Distribution::Any, rows(), move |_| {
            let faults = Arc::clone(&faults);
            let mut seen = 0;
            Ok(Box::new(Function(move |batch: RecordBatch, out: &mut dyn Output| {
                seen += batch.num_rows();
                let due = faults.rows.lock().unwrap().pop_if(|at| seen > *at).is_some();
                if due {
                    faults.hits.fetch_add(1, SeqCst);
                    assert!(!faults.panics, "injected");
                    return Err(Error::external("injected"));
                }
                out.emit(0, batch);
                Ok(())
            })))
        })
    }
}

/// What list states held when operators were made: one entry for each subtask made.
pub type Restored = Arc<Mutex<Vec<Vec<i64>>>>;

/// Passes rows of any number of inputs on and keeps their values in a list state.
pub fn recorder(restored: &Restored) -> Arc<dyn OperatorSpec> {
    let restored = Arc::clone(restored);
    spec(Distribution::Any, rows(), move |context| {
        let seen: Vec<i64> = context.state.list("seen")?.iter().filter_map(serde_json::Value::as_i64).collect();
        restored.lock().unwrap().push(seen.clone());
        Ok(Box::new(Recorder(seen)))
    })
}

struct Recorder(Vec<i64>);

impl Operator for Recorder {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        self.0.extend(column(&batch, 1));
        out.emit(0, batch);
        Ok(Progress::Done)
    }
    fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        snapshot.list("seen", self.0.iter().map(|v| json!(v)).collect());
        Ok(())
    }
}

/// Counts the rows of each key: gives (key, value, the how-manieth of its key).
pub fn counter() -> Arc<dyn OperatorSpec> {
    let field = |name: &str| Field::new(name, DataType::Int64, false);
    let output = StreamSchema::append_only(Arc::new(Schema::new(vec![field("key"), field("value"), field("n")])));
    spec(Distribution::Hash(vec![0]), output, |context| {
        let key_groups = context.state.key_groups().of;
        Ok(Box::new(Counter { counts: context.state.keyed_table("counts")?, key_groups }))
    })
}

struct Counter {
    counts: Box<dyn KeyedTable>,
    key_groups: u16,
}

impl Operator for Counter {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        let mut groups = Vec::new();
        key_groups_of(&[Arc::clone(batch.column(0))], batch.num_rows(), self.key_groups, &mut groups)?;
        let (keys, values) = (column(&batch, 0), column(&batch, 1));
        let mut counts = Vec::new();
        for (key, group) in keys.iter().zip(groups) {
            let key = key.to_be_bytes();
            let before = self.counts.get(group, &key, 0)?.map_or(0, |b| i64::from_be_bytes(b.as_ref().try_into().unwrap()));
            self.counts.put(group, &key, (before + 1).to_be_bytes().to_vec().into(), i64::MAX)?;
            counts.push(before + 1);
        }
        let field = |name: &str| Field::new(name, DataType::Int64, false);
        let schema = Arc::new(Schema::new(vec![field("key"), field("value"), field("n")]));
        let columns = [keys, values, counts].map(|c| Arc::new(Int64Array::from(c)) as _);
        out.emit(0, RecordBatch::try_new(schema, columns.to_vec())?);
        Ok(Progress::Done)
    }
    fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        snapshot.table("counts", self.counts.freeze()?);
        Ok(())
    }
}

/// Holds rows until the watermark reaches their time.
pub fn hold(watermarks: &Arc<Mutex<Vec<i64>>>) -> Arc<dyn OperatorSpec> {
    let watermarks = Arc::clone(watermarks);
    spec(Distribution::Any, rows(), move |context| {
        let held = context.state.list("held")?.into_iter().map(|v| serde_json::from_value(v).unwrap()).collect();
        Ok(Box::new(Hold { held, watermarks: Arc::clone(&watermarks) }))
    })
}

struct Hold {
    held: Vec<super::source::Row>,
    watermarks: Arc<Mutex<Vec<i64>>>,
}

impl Operator for Hold {
    fn process(&mut self, _: usize, batch: RecordBatch, _: &mut dyn Output) -> Result<Progress> {
        let (keys, values, times) = (column(&batch, 0), column(&batch, 1), column(&batch, 2));
        self.held.extend(keys.into_iter().zip(values).zip(times).map(|((k, v), t)| (k, v, t)));
        Ok(Progress::Done)
    }
    fn on_watermark(&mut self, watermark: Watermark, out: &mut dyn Output) -> Result<Progress> {
        self.watermarks.lock().unwrap().push(watermark.0);
        let (due, held) = self.held.drain(..).partition(|r| r.2 <= watermark.0);
        self.held = held;
        out.emit(0, super::source::batch(&due));
        Ok(Progress::Done)
    }
    fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        snapshot.list("held", self.held.iter().map(|r| json!(r)).collect());
        Ok(())
    }
}

/// Makes `rows` rows of each batch, as fast as there is room; counts what it has made.
pub fn burst(total: usize, made: &Arc<AtomicUsize>) -> Arc<dyn OperatorSpec> {
    let made = Arc::clone(made);
    spec(Distribution::Any, rows(), move |_| Ok(Box::new(Burst { total, left: 0, made: Arc::clone(&made) })))
}

struct Burst {
    total: usize,
    left: usize,
    made: Arc<AtomicUsize>,
}

impl Operator for Burst {
    fn process(&mut self, _: usize, _: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        self.left = self.total;
        self.resume(out)
    }
    fn resume(&mut self, out: &mut dyn Output) -> Result<Progress> {
        while self.left > 0 {
            if out.is_full() {
                return Ok(Progress::More);
            }
            let n = self.left.min(8192);
            self.left -= n;
            self.made.fetch_add(n, SeqCst);
            out.emit(0, super::source::batch(&vec![(0, 0, 0); n]));
        }
        Ok(Progress::Done)
    }
}

/// Passes rows on; its first `failures` snapshots cannot be written.
pub fn unwritable(failures: usize) -> Arc<dyn OperatorSpec> {
    let left = Arc::new(AtomicUsize::new(failures));
    spec(Distribution::Any, rows(), move |_| Ok(Box::new(Unwritable(Arc::clone(&left)))))
}

struct Unwritable(Arc<AtomicUsize>);

impl Operator for Unwritable {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        out.emit(0, batch);
        Ok(Progress::Done)
    }
    fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        if self.0.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok() {
            snapshot.table("foreign", Frozen(Box::new("made by nobody")));
        }
        Ok(())
    }
}

/// Asks for a processing-time timer at `due_ms` and gives a row when it comes.
pub fn alarm(due_ms: i64) -> Arc<dyn OperatorSpec> {
    spec(Distribution::Any, rows(), move |_| Ok(Box::new(Alarm(Some(due_ms)))))
}

struct Alarm(Option<i64>);

impl Operator for Alarm {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        out.emit(0, batch);
        Ok(Progress::Done)
    }
    fn next_timer_ms(&self) -> Option<i64> {
        self.0
    }
    fn on_timer(&mut self, now_ms: i64, out: &mut dyn Output) -> Result<Progress> {
        self.0 = None;
        out.emit(0, super::source::batch(&[(0, now_ms, 0)]));
        Ok(Progress::Done)
    }
}

/// Says that it holds so many bytes.
pub fn hungry(bytes: usize) -> Arc<dyn OperatorSpec> {
    spec(Distribution::Any, rows(), move |_| Ok(Box::new(Hungry(bytes))))
}

struct Hungry(usize);

impl Operator for Hungry {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        out.emit(0, batch);
        Ok(Progress::Done)
    }
    fn memory_bytes(&self) -> usize {
        self.0
    }
}
