//! A job that is cancelled leaves nothing open outside.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::config::Span;
use karez_core::sink::{SinkGuarantee, WriterContext};
use karez_core::{Epoch, Result, Sink, SinkWriter};
use karez_graph::settings::Delivery;
use karez_graph::{Implementation, JobSettings, StreamGraph};
use karez_runtime::checkpoint::Start;
use karez_runtime::{Durability, JobHandle, JobOptions, JobStatus, start};
use karez_testkit::{Topic, open_transactions, service, unique};
use serde_json::{Value, json};

/// Rows without end go into a topic, in transactions, and into a sink that never comes to its barrier: so checkpoints begin and never complete.
async fn run(topic: &Topic, id: &str, interval: Span, state: &std::path::Path) -> JobHandle {
    let mut settings = JobSettings { id: id.into(), name: id.into(), delivery: Delivery::ExactlyOnce, ..JobSettings::default() };
    settings.checkpoint.interval = interval;
    let fields = json!([{ "name": "id", "type": "sequence" }]);
    let graph = StreamGraph::builder(settings)
        .add_source("in", Implementation::named("generator", json!({ "kind": "fields", "fields": fields })))
        .rate_limit(2_000)
        .add_sink("topic", Implementation::named("kafka", json!({ "bootstrapServers": topic.bootstrap, "topic": topic.name })))
        .add_sink("stuck", Arc::new(Stuck) as Arc<dyn Sink>)
        .connect("in", "topic")
        .connect("in", "stuck");
    let graph = karez_graph::plan(&graph.build().unwrap(), &karez::registry()).unwrap();
    start(graph, JobOptions::new(Some(Durability { state_dir: state.to_owned(), start: Start::Resume }))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_transaction_of_a_cancelled_job_stays_open() {
    let topic = Topic::create(&service("KAFKA_BOOTSTRAP"), &unique("cancelled"), 2).unwrap();
    // Open alone, and with one that is prepared for a checkpoint.
    for (interval, open) in [(Span::millis(60_000), 1), (Span::millis(100), 2)] {
        let (id, state) = (unique("cancelled"), tempfile::tempdir().unwrap());
        let handle = run(&topic, &id, interval, state.path()).await;
        let part = format!("/{id}/");
        let since = Instant::now();
        while open_transactions(&topic.bootstrap, &part).await.unwrap().len() < open {
            assert!(!handle.status().is_final() && since.elapsed() < Duration::from_secs(60), "{:?}", handle.status());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        handle.cancel();
        assert_eq!(handle.wait().await.status, JobStatus::Cancelled);
        assert_eq!(open_transactions(&topic.bootstrap, &part).await.unwrap(), Vec::<String>::new());
    }
    assert_eq!(topic.read_committed().await.unwrap(), []);
}

struct Stuck;

#[async_trait]
impl Sink for Stuck {
    fn guarantee(&self) -> SinkGuarantee {
        SinkGuarantee::Transactional
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
    async fn writer(&self, _: WriterContext, _: Vec<Value>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Self))
    }
}

#[async_trait]
impl SinkWriter for Stuck {
    async fn write(&mut self, _: RecordBatch) -> Result<()> {
        Ok(())
    }
    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    async fn prepare_commit(&mut self, _: Epoch, _: bool) -> Result<Vec<Value>> {
        std::future::pending().await
    }
}
