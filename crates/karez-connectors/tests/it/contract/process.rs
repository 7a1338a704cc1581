//! A process of a job at its sink: writers, barriers, commits, as the engine drives them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use karez_core::metrics::NodeMetrics;
use karez_core::sink::{CommitPermit, SinkRunContext, WriterContext};
use karez_core::{CommitOutcome, Committable, Connector, Epoch, Error, Generation, RunId, Sink, SinkContext, SinkWriter, StreamSchema, SystemClock};
use serde_json::Value;

/// What a manifest says of a sink.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub epoch: u64,
    pub committables: Vec<Committable>,
    states: Vec<Value>,
}

impl Manifest {
    /// With what an attempt before it had prepared and nobody committed.
    pub fn and(mut self, failed: Self) -> Self {
        self.committables.splice(0..0, failed.committables);
        self
    }
}

pub struct Process {
    pub sink: Arc<dyn Sink>,
    run: SinkRunContext,
    writers: Vec<Box<dyn SinkWriter>>,
    pub metrics: Arc<NodeMetrics>,
}

/// How often a commit is tried again that says "later".
const TRIES: usize = 200;

pub fn plan_sink(connector: &dyn Connector, config: &Value, schema: &SchemaRef) -> Arc<dyn Sink> {
    let input = StreamSchema::append_only(Arc::clone(schema));
    connector.sink(SinkContext { node: "out", config, input: &input, exactly_once: true }).unwrap_or_else(|e| panic!("{config}: {e}"))
}

/// What a configuration writes to, without how it is reached.
pub fn target_of(config: &Value) -> String {
    let name = ["table", "path", "topic", "topics"].iter().find_map(|key| config.get(key)).expect("a target");
    // A table of a SQLite file is named alike in every file.
    let file = config.get("url").and_then(Value::as_str).filter(|url| url.contains("sqlite")).unwrap_or_default();
    format!("{file}{name}")
}

impl Process {
    /// The first process of a run.
    pub async fn first(connector: &dyn Connector, config: &Value, schema: &SchemaRef, parallelism: usize) -> Self {
        Self::start(connector, config, schema, 1, parallelism, None).await.unwrap()
    }

    /// A process that goes on from a manifest, or from the beginning.
    pub async fn start(
        connector: &dyn Connector,
        config: &Value,
        schema: &SchemaRef,
        generation: u64,
        parallelism: usize,
        from: Option<&Manifest>,
    ) -> Result<Self, Error> {
        let sink = plan_sink(connector, config, schema);
        // A run and a job for each target, since others use the same servers.
        let target = target_of(config);
        let mut hasher = DefaultHasher::new();
        target.hash(&mut hasher);
        let run = SinkRunContext {
            run: RunId(format!("{:012x}", hasher.finish() & 0xffff_ffff_ffff)),
            generation: Generation(generation),
            job: format!("contract {target}"),
            node: "out".into(),
            scheduled_ms: 0,
        };
        let (committables, states) = from.map_or((&[][..], &[][..]), |m| (&m.committables, &m.states));
        let mut process = Self { sink, run, writers: Vec::new(), metrics: Arc::default() };
        if let Some(manifest) = from {
            process.commit(manifest).await?;
        }
        process.sink.prepare_restored(&process.run, committables, states).await?;
        for subtask in 0..parallelism {
            let context = WriterContext {
                run: process.run.clone(),
                subtask,
                parallelism,
                schema: StreamSchema::append_only(Arc::clone(schema)),
                metrics: Arc::clone(&process.metrics),
                clock: Arc::new(SystemClock),
            };
            let own = states.iter().skip(subtask).step_by(parallelism).cloned().collect();
            process.writers.push(process.sink.writer(context, own).await?);
        }
        Ok(process)
    }

    pub async fn write(&mut self, subtask: usize, batch: RecordBatch) -> Result<(), Error> {
        self.writers[subtask].write(batch).await?;
        let rejects = self.writers[subtask].take_rejects();
        assert!(rejects.is_empty(), "{rejects:?}");
        Ok(())
    }

    pub async fn flush(&mut self) -> Result<(), Error> {
        for writer in &mut self.writers {
            writer.flush().await?;
        }
        Ok(())
    }

    /// All writers at the same time.
    pub async fn flush_all(&mut self) -> Result<(), Error> {
        futures::future::try_join_all(self.writers.iter_mut().map(|w| w.flush())).await.map(drop)
    }

    /// What would stand in the manifest.
    pub async fn barrier(&mut self, epoch: u64) -> Result<Manifest, Error> {
        let (mut committables, mut states) = (Vec::new(), Vec::new());
        for (subtask, writer) in self.writers.iter_mut().enumerate() {
            let payloads = writer.prepare_commit(Epoch(epoch), false).await?;
            let rejects = writer.take_rejects();
            assert!(rejects.is_empty(), "{rejects:?}");
            committables.extend(payloads.into_iter().map(|payload| Committable { epoch: Epoch(epoch), subtask, payload }));
            states.extend(writer.snapshot().await?);
        }
        // What goes into a manifest comes back from it.
        let committables = serde_json::from_str(&serde_json::to_string(&committables).unwrap()).unwrap();
        Ok(Manifest { epoch, committables, states })
    }

    /// Commits until all is said. An error is one of the connection.
    pub async fn commit(&self, manifest: &Manifest) -> Result<Vec<CommitOutcome>, Error> {
        if manifest.committables.is_empty() {
            return Ok(Vec::new());
        }
        let mut committer = self.sink.committer(&self.run).await?.expect("a committer for what was prepared");
        let permit = CommitPermit::from_completed_manifest(Epoch(manifest.epoch));
        for _ in 0..TRIES {
            let outcomes = committer.commit(&permit, &manifest.committables).await?;
            assert_eq!(outcomes.len(), manifest.committables.len(), "one outcome for each committable");
            if !outcomes.iter().any(|o| matches!(o, CommitOutcome::RetryLater(_))) {
                for outcome in &outcomes {
                    assert!(matches!(outcome, CommitOutcome::Committed | CommitOutcome::AlreadyCommitted), "{outcome:?}");
                }
                return Ok(outcomes);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the commit is put off for ever: {manifest:?}");
    }
}
