//! The Kafka sink against real brokers, through its contract.

mod client;
mod guarantees;
mod java;
mod messages;
mod options;
mod own_server;
mod read_back;
mod recovery;
mod secured;
mod timeouts;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use karez_connectors::kafka::KafkaConnector;
use karez_core::clock::{Clock, ManualClock, SystemClock};
use karez_core::metrics::NodeMetrics;
use karez_core::sink::{CommitPermit, SinkRunContext, WriterContext};
use karez_core::{BadRecord, CommitOutcome, Committable, Connector, Epoch, Generation, RunId, Sink, SinkContext, SinkWriter, StreamSchema};
use karez_testkit::unique;
use serde_json::{Value, json};

use client::Cluster;

/// `id` and `name`.
pub fn two_columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]))
}

pub fn rows(of: &[(i64, &str)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(of.iter().map(|r| r.0)));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(of.iter().map(|r| r.1)));
    RecordBatch::try_new(two_columns(), vec![ids, names]).unwrap()
}

pub fn try_sink(config: &Value, input: &StreamSchema, exactly_once: bool) -> Result<Arc<dyn Sink>, String> {
    KafkaConnector.sink(SinkContext { node: "out", config, input, exactly_once }).map_err(|e| e.to_string())
}

/// A job that writes to one topic of its own, and what would be in its manifest.
pub struct Job {
    pub config: Value,
    pub schema: StreamSchema,
    pub exactly_once: bool,
    pub id: String,
    pub run: String,
    /// Committables, and writers' states, of the newest checkpoint.
    pub manifest: Vec<Committable>,
    pub states: Vec<Value>,
    pub epoch: u64,
    pub generation: u64,
}

impl Job {
    pub fn new(bootstrap: &str, topic: &str) -> Self {
        Self {
            config: json!({ "bootstrapServers": bootstrap, "topic": topic }),
            schema: StreamSchema::append_only(two_columns()),
            exactly_once: true,
            id: unique("job"),
            run: "0123456789ab".into(),
            manifest: Vec::new(),
            states: Vec::new(),
            epoch: 0,
            generation: 0,
        }
    }

    pub fn with(mut self, option: &str, value: impl Into<Value>) -> Self {
        self.config[option] = value.into();
        self
    }

    pub fn at_least_once(mut self) -> Self {
        self.exactly_once = false;
        self
    }

    pub fn context(&self) -> SinkRunContext {
        let run = RunId(self.run.clone());
        SinkRunContext { run, generation: Generation(self.generation), job: self.id.clone(), node: "out".into(), scheduled_ms: 0 }
    }

    /// Starts it as the engine does: commits what the manifest names, prepares, opens writers.
    pub async fn start(&mut self, parallelism: usize) -> Process {
        self.try_start(parallelism).await.unwrap()
    }

    pub async fn try_start(&mut self, parallelism: usize) -> karez_core::Result<Process> {
        self.generation += 1;
        let sink = try_sink(&self.config, &self.schema, self.exactly_once).unwrap();
        let context = self.context();
        let mut replayed = Vec::new();
        if !self.manifest.is_empty() {
            replayed = commit(sink.as_ref(), &context, self.epoch, &self.manifest).await?;
            if let Some(lost) = replayed.iter().find_map(|o| if let CommitOutcome::Lost(e) = o { Some(e.to_string()) } else { None }) {
                return Err(karez_core::Error::external(lost));
            }
        }
        sink.prepare_restored(&context, &self.manifest, &self.states).await?;
        // Today: the broker soon removes what is older than its retention.
        let clock = Arc::new(ManualClock::new(SystemClock.now_ms()));
        let metrics = Arc::<NodeMetrics>::default();
        let mut writers = Vec::new();
        for subtask in 0..parallelism {
            let context = WriterContext {
                run: context.clone(),
                subtask,
                parallelism,
                schema: self.schema.clone(),
                metrics: Arc::clone(&metrics),
                clock: Arc::clone(&clock) as _,
            };
            writers.push(sink.writer(context, Vec::new()).await?);
        }
        Ok(Process { sink, context, writers, clock, replayed, rejects: Vec::new(), metrics })
    }

    /// A barrier whose checkpoint completes; nothing is committed yet.
    pub async fn checkpoint(&mut self, process: &mut Process) {
        self.epoch += 1;
        (self.manifest, self.states) = process.barrier(self.epoch).await;
    }

    /// The commit of the newest checkpoint.
    pub async fn commit(&self, process: &Process) -> Vec<CommitOutcome> {
        commit(process.sink.as_ref(), &process.context, self.epoch, &self.manifest).await.unwrap()
    }

    /// A checkpoint and its commit.
    pub async fn commit_checkpoint(&mut self, process: &mut Process) {
        self.checkpoint(process).await;
        assert!(self.commit(process).await.iter().all(|o| matches!(o, CommitOutcome::Committed)));
    }
}

/// A job that writes in transactions to a topic of its own of the shared broker.
pub struct Running {
    pub cluster: Cluster,
    pub topic: String,
    pub job: Job,
    pub process: Process,
}

pub async fn running(partitions: i32, parallelism: usize) -> Running {
    let cluster = Cluster::shared().await;
    let topic = cluster.topic(partitions).await;
    let mut job = Job::new(&cluster.bootstrap, &topic);
    let process = job.start(parallelism).await;
    Running { cluster, topic, job, process }
}

/// One process of a job. Dropping it is the end of the process, at whatever moment: writers are not closed.
pub struct Process {
    pub sink: Arc<dyn Sink>,
    pub context: SinkRunContext,
    pub writers: Vec<Box<dyn SinkWriter>>,
    pub clock: Arc<ManualClock>,
    pub replayed: Vec<CommitOutcome>,
    pub rejects: Vec<BadRecord>,
    pub metrics: Arc<NodeMetrics>,
}

impl Process {
    pub async fn write(&mut self, subtask: usize, batch: RecordBatch) {
        self.writers[subtask].write(batch).await.unwrap();
        self.rejects.extend(self.writers[subtask].take_rejects());
    }

    /// What all writers give at a barrier, as it comes back from a manifest.
    pub async fn barrier(&mut self, epoch: u64) -> (Vec<Committable>, Vec<Value>) {
        let (mut committables, mut states) = (Vec::new(), Vec::new());
        for (subtask, writer) in self.writers.iter_mut().enumerate() {
            let payloads = writer.prepare_commit(Epoch(epoch), false).await.unwrap();
            self.rejects.extend(writer.take_rejects());
            committables.extend(payloads.into_iter().map(|payload| Committable { epoch: Epoch(epoch), subtask, payload }));
            states.extend(writer.snapshot().await.unwrap());
        }
        (serde_json::from_str(&serde_json::to_string(&committables).unwrap()).unwrap(), states)
    }

    /// Ends like a process that is killed: nobody aborts what it has left open.
    pub fn kill(self) {
        // A writer that is dropped aborts in the background, which a killed process cannot.
        self.writers.into_iter().for_each(std::mem::forget);
    }
}

pub async fn commit(sink: &dyn Sink, context: &SinkRunContext, epoch: u64, committables: &[Committable]) -> karez_core::Result<Vec<CommitOutcome>> {
    let mut committer = sink.committer(context).await?.unwrap();
    committer.commit(&CommitPermit::from_completed_manifest(Epoch(epoch)), committables).await
}

pub fn outcomes(outcomes: &[CommitOutcome]) -> Vec<&'static str> {
    outcomes
        .iter()
        .map(|o| match o {
            CommitOutcome::Committed => "committed",
            CommitOutcome::AlreadyCommitted => "already",
            CommitOutcome::RetryLater(_) => "later",
            CommitOutcome::CommittedExcept(_) => "except",
            CommitOutcome::Lost(_) => "lost",
        })
        .collect()
}

/// The names (in the JSON values) that a reader of committed rows sees, sorted.
pub async fn names(cluster: &Cluster, topic: &str) -> Vec<String> {
    let mut names: Vec<String> = cluster.committed(topic).await.iter().map(client::Message::name).collect();
    names.sort();
    names
}

pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    for _ in 0..600 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("30 s have passed, and still not: {what}");
}
