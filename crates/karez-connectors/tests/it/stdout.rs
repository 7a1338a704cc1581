//! The terminal and the blackhole.

use std::io::Write;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int8Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use karez_connectors::stdout::{BlackholeConnector, to_writer};
use karez_core::schema::change_field;
use karez_core::sink::{SinkGuarantee, SinkRunContext, WriterContext};
use karez_core::{Connector, Epoch, Generation, Registry, RunId, SinkContext, StreamSchema, SystemClock};
use serde_json::{Value, json};

fn context(schema: &StreamSchema) -> WriterContext {
    WriterContext {
        run: SinkRunContext { run: RunId("r".into()), generation: Generation(1), job: "j".into(), node: "out".into(), scheduled_ms: 0 },
        subtask: 0,
        parallelism: 1,
        schema: schema.clone(),
        metrics: Arc::default(),
        clock: Arc::new(SystemClock),
    }
}

fn changes() -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false), change_field()]));
    RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef, Arc::new(Int8Array::from(vec![0, 3]))]).unwrap()
}

async fn printed(config: &Value, batch: RecordBatch) -> String {
    let out: Arc<Mutex<Vec<u8>>> = Arc::default();
    let input = StreamSchema::append_only(batch.schema());
    let shared: Arc<Mutex<dyn Write + Send>> = out.clone();
    let sink = to_writer(SinkContext { node: "out", config, input: &input, exactly_once: false }, shared).unwrap();
    assert_eq!(sink.guarantee(), SinkGuarantee::AtLeastOnce);
    let mut writer = sink.writer(context(&input), Vec::new()).await.unwrap();
    writer.write(batch.slice(0, 1)).await.unwrap();
    writer.write(batch.slice(1, 1)).await.unwrap();
    assert!(writer.prepare_commit(Epoch(1), true).await.unwrap().is_empty());
    String::from_utf8(out.lock().unwrap().clone()).unwrap()
}

#[tokio::test]
async fn rows_are_printed_in_each_format() {
    let plain = changes().project(&[0]).unwrap();
    assert_eq!(printed(&json!({}), plain.clone()).await, "{\"n\":1}\n{\"n\":2}\n");
    assert_eq!(printed(&json!({ "format": "csv" }), plain.clone()).await, "n\n1\n2\n");
    assert!(printed(&json!({ "format": "table" }), plain).await.contains("| n |"));
}

#[tokio::test]
async fn a_changelog_shows_its_changes() {
    assert_eq!(printed(&json!({ "format": "csv" }), changes()).await, "change,n\n+I,1\n-D,2\n");
}

#[tokio::test]
async fn the_blackhole_takes_everything() {
    let input = StreamSchema::append_only(changes().schema());
    let sink = BlackholeConnector.sink(SinkContext { node: "out", config: &json!({}), input: &input, exactly_once: true }).unwrap();
    assert!(sink.accepts_changelog());
    sink.writer(context(&input), Vec::new()).await.unwrap().write(changes()).await.unwrap();
}

#[test]
fn every_connector_is_registered_and_documented() {
    let registry = karez_connectors::register(Registry::new());
    for connector in registry.connectors() {
        assert!(!connector.description().is_empty());
        assert!(connector.source_options().is_some() || connector.sink_options().is_some(), "{}", connector.name());
    }
    for name in ["file", "generator", "stdout", "blackhole"] {
        assert!(registry.connector(name).is_ok());
    }
}
