//! The kafka source against real brokers, driven through the contract as the engine drives it.

mod bounded;
mod cluster;
mod formats;
mod log;
mod options;
mod own_server;
mod positions;
pub mod secure;
mod transactions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use karez_connectors::kafka::KafkaConnector;
use karez_core::config::ConfigErrors;
use karez_core::metrics::NodeMetrics;
use karez_core::source::{Read, ReadLimit, ReaderContext};
use karez_core::{BadRecord, Connector, Epoch, ManualClock, Result, Source, SourceContext, Split, SplitEnumerator, SplitReader};
use karez_testkit::{service, unique};
use krafka::admin::{CreateTopicsOptions, NewTopic};
use krafka::{Kafka, Record};
use serde_json::{Value, json};

pub const LIMIT: ReadLimit = ReadLimit { rows: 1_000, bytes: 1 << 20 };
/// Whatever is awaited comes within this time, or the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn bootstrap() -> String {
    service("KAFKA_BOOTSTRAP")
}

pub async fn kafka() -> Kafka {
    kafka_at(&bootstrap()).await
}

pub async fn kafka_at(address: &str) -> Kafka {
    Kafka::builder(address).connect().await.unwrap()
}

/// A topic of one test.
pub struct Topic {
    pub name: String,
    pub kafka: Kafka,
}

impl Topic {
    pub async fn new(partitions: i32) -> Self {
        Self::with(partitions, &[]).await
    }

    pub async fn with(partitions: i32, settings: &[(&str, &str)]) -> Self {
        Self::named(kafka().await, &unique("t"), partitions, settings).await
    }

    pub async fn named(kafka: Kafka, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Self {
        let mut new = NewTopic::new(name, partitions, 1).unwrap();
        for (key, value) in settings {
            new = new.with_config(*key, *value);
        }
        let made = kafka.admin().create_topics([new], CreateTopicsOptions::default()).await.unwrap();
        made.into_values().for_each(|r| r.unwrap());
        Self { name: name.to_owned(), kafka }
    }

    pub async fn delete(&self) {
        let gone = self.kafka.admin().delete_topics([&self.name], Default::default()).await.unwrap();
        gone.into_values().for_each(|r| r.unwrap());
    }

    pub fn record(&self, partition: i32, value: impl Into<bytes::Bytes>) -> Record {
        Record::new(&self.name, value).partition(partition)
    }

    /// Writes values to a partition.
    pub async fn write(&self, partition: i32, values: impl IntoIterator<Item = String>) {
        self.send(values.into_iter().map(|v| self.record(partition, v))).await;
    }

    /// Writes the numbers of a range.
    pub async fn count(&self, partition: i32, numbers: std::ops::Range<i64>) {
        self.write(partition, numbers.map(|n| json!({ "n": n }).to_string())).await;
    }

    pub async fn send(&self, records: impl IntoIterator<Item = Record>) {
        let producer = self.kafka.producer().linger(Duration::from_millis(5)).build().await.unwrap();
        let mut handles = Vec::new();
        for record in records {
            handles.push(producer.enqueue(record).await.unwrap());
        }
        for handle in handles {
            let _ = handle.await.unwrap();
        }
        producer.close().await.unwrap();
    }

    pub fn config(&self, more: Value) -> Value {
        let mut config = json!({ "bootstrapServers": bootstrap(), "topics": [self.name] });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    }
}

/// `{ n: bigint }`
pub fn numbers() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
}

pub fn text() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, true)]))
}

pub fn try_source(config: &Value, schema: Option<&SchemaRef>, batch: bool) -> Result<Arc<dyn Source>, ConfigErrors> {
    KafkaConnector.source(SourceContext { node: "in", config, schema, batch })
}

pub fn rows_of(batch: &RecordBatch) -> Vec<String> {
    let cell = |c: usize, row| array_value_to_string(batch.column(c), row).unwrap();
    (0..batch.num_rows()).map(|row| (0..batch.num_columns()).map(|c| cell(c, row)).collect::<Vec<_>>().join("|")).collect()
}

/// A job of one source, stepped by the test.
pub struct Job {
    pub source: Arc<dyn Source>,
    pub metrics: Arc<NodeMetrics>,
    with_origin: bool,
    enumerator: Box<dyn SplitEnumerator>,
    readers: Vec<(Split, Box<dyn SplitReader>)>,
    waiting: Vec<Split>,
    finished: Vec<Split>,
    pub done: bool,
    pub limit: ReadLimit,
    pub rows: BTreeMap<String, Vec<String>>,
    pub bad: Vec<BadRecord>,
}

/// What a checkpoint holds, as it would stand on disk.
#[derive(Clone)]
pub struct Saved(String);

/// What a step brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Rows,
    /// Every partition has nothing, and says so for certain.
    CaughtUp,
    Pending,
    End,
}

impl Job {
    pub async fn new(source: Arc<dyn Source>, with_origin: bool, saved: Option<&Saved>) -> Result<Self> {
        let saved: Option<(Value, Vec<Split>)> = saved.map(|s| serde_json::from_str(&s.0).unwrap());
        let (state, waiting) = saved.map_or((None, Vec::new()), |(state, splits)| (Some(state), splits));
        let enumerator = source.enumerator(state).await?;
        let mut job = Self {
            source,
            metrics: Arc::default(),
            with_origin,
            enumerator,
            readers: Vec::new(),
            waiting,
            finished: Vec::new(),
            done: false,
            limit: LIMIT,
            rows: BTreeMap::new(),
            bad: Vec::new(),
        };
        job.discover().await?;
        Ok(job)
    }

    pub async fn start(config: &Value, schema: &SchemaRef) -> Self {
        Self::new(try_source(config, Some(schema), false).unwrap(), false, None).await.unwrap()
    }

    pub async fn restore(config: &Value, schema: &SchemaRef, saved: &Saved) -> Self {
        Self::new(try_source(config, Some(schema), false).unwrap(), false, Some(saved)).await.unwrap()
    }

    pub async fn discover(&mut self) -> Result<()> {
        let found = self.enumerator.discover().await?;
        self.done |= found.done;
        self.waiting.extend(found.splits);
        self.open().await
    }

    async fn open(&mut self) -> Result<()> {
        for split in std::mem::take(&mut self.waiting) {
            let context = ReaderContext { with_origin: self.with_origin, metrics: Arc::clone(&self.metrics), clock: Arc::new(ManualClock::new(0)) };
            let reader = self.source.open(&split, context).await?;
            self.readers.push((split, reader));
        }
        Ok(())
    }

    /// One call of each reader.
    pub async fn step(&mut self) -> Result<Step> {
        let (mut rows, mut pending) = (false, false);
        let mut i = 0;
        while i < self.readers.len() {
            let (split, reader) = &mut self.readers[i];
            match reader.next(self.limit).await? {
                Read::Rows { batch, bad } => {
                    assert!(batch.num_rows() + bad.len() > 0 && batch.num_rows() <= self.limit.rows + 1);
                    rows = true;
                    self.rows.entry(split.id.clone()).or_default().extend(rows_of(&batch));
                    self.bad.extend(bad);
                }
                Read::Nothing => {}
                Read::Pending => pending = true,
                Read::End => {
                    split.position = reader.position().unwrap();
                    self.enumerator.finished(split);
                    self.finished.push(split.clone());
                    self.readers.remove(i);
                    continue;
                }
            }
            i += 1;
        }
        Ok(match (rows, pending) {
            (true, _) => Step::Rows,
            (false, true) => Step::Pending,
            (false, false) if self.readers.is_empty() && self.done => Step::End,
            (false, false) => Step::CaughtUp,
        })
    }

    /// Reads until every partition has nothing more.
    pub async fn settle(&mut self) -> &mut Self {
        self.try_settle().await.unwrap();
        self
    }

    pub async fn try_settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.step().await? {
                Step::CaughtUp | Step::End => return Ok(()),
                Step::Rows => {}
                Step::Pending => tokio::time::sleep(Duration::from_millis(2)).await,
            }
            assert!(Instant::now() < deadline, "rows so far: {:?}", self.rows.values().map(Vec::len).collect::<Vec<_>>());
        }
    }

    /// Reads until there are so many rows.
    pub async fn read(&mut self, rows: usize) -> &mut Self {
        let deadline = Instant::now() + PATIENCE;
        while self.rows.values().map(Vec::len).sum::<usize>() < rows {
            if self.step().await.unwrap() != Step::Rows {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert!(Instant::now() < deadline, "rows so far: {:?}", self.rows.values().map(Vec::len).collect::<Vec<_>>());
        }
        self
    }

    /// The rows, whichever partition they came from, sorted; and forgets them.
    pub fn take(&mut self) -> Vec<String> {
        let mut rows: Vec<String> = std::mem::take(&mut self.rows).into_values().flatten().collect();
        rows.sort_by_key(|r| r.parse::<i64>().unwrap_or(i64::MAX));
        rows
    }

    pub fn partitions(&self) -> usize {
        self.readers.len()
    }

    /// The positions that a checkpoint would hold.
    pub fn positions(&self) -> Vec<Split> {
        let open = self.readers.iter().map(|(s, r)| Split { id: s.id.clone(), position: r.position().unwrap() });
        open.collect()
    }

    pub fn save(&self) -> Saved {
        Saved(serde_json::to_string(&(self.enumerator.snapshot().unwrap(), self.positions())).unwrap())
    }

    /// Tells the source that a checkpoint has completed.
    pub async fn completed(&self) -> Result<()> {
        let splits: Vec<Split> = self.positions().into_iter().chain(self.finished.iter().cloned()).collect();
        self.source.notify_committed(Epoch(1), &splits).await
    }

    pub fn figure(&self, name: &str) -> u64 {
        self.metrics.read().custom.get(name).copied().unwrap_or(0)
    }
}

pub fn texts(numbers: std::ops::Range<i64>) -> Vec<String> {
    numbers.map(|n| n.to_string()).collect()
}

/// The error of a job that must fail, whenever it does.
pub async fn failure(config: &Value, schema: &SchemaRef, saved: Option<&Saved>) -> karez_core::Error {
    let source = try_source(config, Some(schema), false).unwrap();
    match Job::new(source, false, saved).await {
        Err(e) => e,
        Ok(mut job) => {
            let deadline = Instant::now() + PATIENCE;
            loop {
                match job.step().await {
                    Err(e) => return e,
                    Ok(_) => tokio::time::sleep(Duration::from_millis(2)).await,
                }
                assert!(Instant::now() < deadline, "the job goes on: {:?}", job.rows);
            }
        }
    }
}
