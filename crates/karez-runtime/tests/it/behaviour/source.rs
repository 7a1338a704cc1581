//! A source that gives what the test has pushed, split by split, and nothing before.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::source::{Discovery, ReadLimit, ReaderContext, Replay, SplitAssignment};
use karez_core::{BadRecord, Boundedness, Error, LetterDecoder, Read, Result, Source, Split, SplitEnumerator, SplitReader, StreamSchema};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Key, value, event time.
pub type Row = (i64, i64, i64);

pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, false),
        Field::new("value", DataType::Int64, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
    ]))
}

pub fn batch(rows: &[Row]) -> RecordBatch {
    let column = |f: fn(&Row) -> i64| rows.iter().map(f).collect::<Vec<_>>();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(column(|r| r.0))),
        Arc::new(Int64Array::from(column(|r| r.1))),
        Arc::new(TimestampMillisecondArray::from(column(|r| r.2))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

#[derive(Default)]
struct Script {
    id: String,
    batches: Vec<(Vec<Row>, Vec<BadRecord>)>,
    closed: bool,
    says_nothing: bool,
    pending: bool,
}

/// What the test steps.
pub struct Stepped {
    scripts: Mutex<Vec<Script>>,
    changed: watch::Sender<u64>,
    bounded: bool,
    /// Reads that gave rows.
    pub reads: AtomicUsize,
    /// How often a reader said where it stands: once at each barrier.
    pub positions: watch::Sender<usize>,
    /// Connection errors that `open` gives before it succeeds.
    pub failing_opens: AtomicUsize,
    /// Reads that give their rows, but whose next one loses the connection.
    pub failing_reads: AtomicUsize,
    /// Decodes of letters that lose a connection.
    pub failing_decodes: AtomicUsize,
    /// Whether a subtask has one split at a time.
    pub one_at_a_time: AtomicBool,
    /// Whether splits are looked for again and again.
    pub keeps_looking: AtomicBool,
    /// Whether looking for splits waits for an answer that does not come.
    pub stalled: watch::Sender<bool>,
    /// How many wait for it.
    pub stalls: AtomicUsize,
    /// Splits read to their end.
    pub ends: AtomicUsize,
    /// The splits that the newest enumerator knows to be finished.
    pub finished: Mutex<BTreeSet<String>>,
}

impl Stepped {
    pub fn new(bounded: bool, splits: &[&str]) -> Arc<Self> {
        // A subtask asks its splits in turn: one of several must not wait for rows.
        let says_nothing = splits.len() > 1;
        let scripts = splits.iter().map(|id| Script { id: (*id).to_owned(), says_nothing, ..Script::default() }).collect();
        Arc::new(Self {
            scripts: Mutex::new(scripts),
            changed: watch::Sender::new(0),
            bounded,
            reads: AtomicUsize::new(0),
            positions: watch::Sender::new(0),
            failing_opens: AtomicUsize::new(0),
            failing_reads: AtomicUsize::new(0),
            failing_decodes: AtomicUsize::new(0),
            one_at_a_time: AtomicBool::new(false),
            keeps_looking: AtomicBool::new(false),
            stalled: watch::Sender::new(false),
            stalls: AtomicUsize::new(0),
            ends: AtomicUsize::new(0),
            finished: Mutex::default(),
        })
    }

    /// Never ends by itself.
    pub fn stream() -> Arc<Self> {
        Self::new(false, &["only"])
    }

    /// A bounded source with all its rows there.
    pub fn of(batches: impl IntoIterator<Item = Vec<Row>>) -> Arc<Self> {
        let source = Self::new(true, &["only"]);
        batches.into_iter().for_each(|b| source.push(&b));
        source.close(0);
        source
    }

    /// One more split, to be found by who looks.
    pub fn add(&self, id: &str) {
        self.scripts.lock().unwrap().push(Script { id: id.to_owned(), says_nothing: true, ..Script::default() });
    }

    fn change(&self, split: usize, f: impl FnOnce(&mut Script)) {
        f(&mut self.scripts.lock().unwrap()[split]);
        self.changed.send_modify(|n| *n += 1);
    }

    pub fn push(&self, rows: &[Row]) {
        self.push_to(0, rows);
    }

    pub fn push_to(&self, split: usize, rows: &[Row]) {
        self.change(split, |s| s.batches.push((rows.to_vec(), Vec::new())));
    }

    pub fn push_bad(&self, rows: &[Row], bad: Vec<BadRecord>) {
        self.change(0, |s| s.batches.push((rows.to_vec(), bad)));
    }

    pub fn close(&self, split: usize) {
        self.change(split, |s| s.closed = true);
    }

    /// From now on the split answers `Nothing` where it would have waited.
    pub fn say_nothing(&self, split: usize) {
        self.change(split, |s| s.says_nothing = true);
    }

    /// Whether the split answers that it does not know, instead of `Nothing`.
    pub fn pend(&self, split: usize, pending: bool) {
        self.change(split, |s| s.pending = pending);
    }

    pub fn reads(&self) -> usize {
        self.reads.load(SeqCst)
    }
}

/// The source as the graph has it.
pub struct SteppedSource(pub Arc<Stepped>);

pub fn source(stepped: &Arc<Stepped>) -> Arc<dyn Source> {
    Arc::new(SteppedSource(Arc::clone(stepped)))
}

#[async_trait]
impl Source for SteppedSource {
    fn schema(&self) -> StreamSchema {
        StreamSchema::append_only(schema())
    }
    fn boundedness(&self) -> Boundedness {
        if self.0.bounded { Boundedness::Bounded } else { Boundedness::Unbounded }
    }
    fn replay(&self) -> Replay {
        Replay::Exact
    }
    fn assignment(&self) -> SplitAssignment {
        if self.0.one_at_a_time.load(SeqCst) { SplitAssignment::OneAtATime } else { SplitAssignment::AllAtOnce }
    }
    fn letter_decoder(&self) -> Result<Box<dyn LetterDecoder>> {
        Ok(Box::new(Letters(Arc::clone(&self.0))))
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
    async fn enumerator(&self, state: Option<Value>) -> Result<Box<dyn SplitEnumerator>> {
        let (given, finished) = state.map_or_else(Default::default, |s| serde_json::from_value(s).unwrap());
        *self.0.finished.lock().unwrap() = finished;
        Ok(Box::new(Splits { stepped: Arc::clone(&self.0), given }))
    }
    async fn open(&self, split: &Split, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        if self.0.failing_opens.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(Error::connection("nobody is there"));
        }
        let at = self.0.scripts.lock().unwrap().iter().position(|s| s.id == split.id).unwrap();
        let position = usize::try_from(split.position.as_u64().unwrap()).unwrap();
        Ok(Box::new(Reader {
            stepped: Arc::clone(&self.0),
            split: at,
            position,
            changed: self.0.changed.subscribe(),
            with_origin: context.with_origin,
        }))
    }
}

/// Decodes `key value time`.
struct Letters(Arc<Stepped>);

#[async_trait]
impl LetterDecoder for Letters {
    async fn decode(&mut self, raw: &[u8], _: Option<&str>) -> Result<RecordBatch> {
        if self.0.failing_decodes.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(Error::connection("the registry is away"));
        }
        let numbers: Option<Vec<i64>> = std::str::from_utf8(raw).unwrap().split(' ').map(|n| n.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[key, value, ts]) => Ok(batch(&[(key, value, ts)])),
            _ => Err(Error::record("no three numbers")),
        }
    }
}

struct Splits {
    stepped: Arc<Stepped>,
    /// How many it has given.
    given: usize,
}

#[async_trait]
impl SplitEnumerator for Splits {
    async fn discover(&mut self) -> Result<Discovery> {
        let mut stalled = self.stepped.stalled.subscribe();
        if *stalled.borrow() {
            self.stepped.stalls.fetch_add(1, SeqCst);
        }
        stalled.wait_for(|stalled| !stalled).await.map_err(|e| Error::internal(e.to_string()))?;
        let scripts = self.stepped.scripts.lock().unwrap();
        let splits = scripts[self.given..].iter().map(|s| Split { id: s.id.clone(), position: json!(0) }).collect();
        self.given = scripts.len();
        Ok(Discovery { splits, done: !self.stepped.keeps_looking.load(SeqCst) })
    }
    fn interval_ms(&self) -> u64 {
        1
    }
    fn finished(&mut self, split: &Split) {
        self.stepped.finished.lock().unwrap().insert(split.id.clone());
    }
    fn snapshot(&self) -> Result<Value> {
        Ok(json!((self.given, &*self.stepped.finished.lock().unwrap())))
    }
}

struct Reader {
    stepped: Arc<Stepped>,
    split: usize,
    position: usize,
    changed: watch::Receiver<u64>,
    with_origin: bool,
}

#[async_trait]
impl SplitReader for Reader {
    async fn next(&mut self, _: ReadLimit) -> Result<Read> {
        assert!(!self.with_origin || !self.stepped.scripts.lock().unwrap().is_empty());
        if self.position > 0 && self.stepped.failing_reads.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(Error::connection("it hung up"));
        }
        loop {
            self.changed.borrow_and_update();
            {
                let scripts = self.stepped.scripts.lock().unwrap();
                let script = &scripts[self.split];
                if let Some((rows, bad)) = script.batches.get(self.position) {
                    self.position += 1;
                    self.stepped.reads.fetch_add(1, SeqCst);
                    self.stepped.changed.send_modify(|_| {});
                    let mut batch = batch(rows);
                    if self.with_origin {
                        let origin = arrow::array::StringArray::from(vec![Some("somewhere"); rows.len()]);
                        let mut columns = batch.columns().to_vec();
                        columns.push(Arc::new(origin));
                        batch = RecordBatch::try_new(karez_core::source::with_origin(&schema()), columns).unwrap();
                    }
                    return Ok(Read::Rows { batch, bad: bad.clone() });
                }
                if script.closed {
                    self.stepped.ends.fetch_add(1, SeqCst);
                    return Ok(Read::End);
                }
                if script.pending {
                    return Ok(Read::Pending);
                }
                if script.says_nothing {
                    return Ok(Read::Nothing);
                }
            }
            self.changed.changed().await.map_err(|e| Error::internal(e.to_string()))?;
        }
    }
    fn position(&self) -> Result<Value> {
        self.stepped.positions.send_modify(|n| *n += 1);
        Ok(json!(self.position))
    }
    fn poll_interval_ms(&self) -> u64 {
        1
    }
}
