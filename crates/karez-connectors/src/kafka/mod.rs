//! Topics of Apache Kafka, read and written.
//!
//! ```text
//!  options, properties ──► client ──► source: discovery, fetch, positions      (this job assigns partitions; no consumer group does)
//!                                └──► sink: partitioner, producer, transactions
//! ```

mod client;
mod options;
mod properties;
mod read_back;
mod rights;
mod sink;
mod source;
mod transaction;

use std::sync::Arc;

use karez_core::config::{ConfigErrors, parse};
use karez_core::sink::SinkGuarantee;
use karez_core::{Connector, ReadBack, Sink, SinkContext, Source, SourceContext};
use serde_json::{Value, json};

pub use options::{BootstrapServers, Properties, SaslOptions, SecurityOptions, SecurityProtocol, TlsOptions};
pub use sink::{AcksOption, Codec, Guarantee, KafkaSinkOptions, KeyOption, KeyOptions};
pub use source::{AutoOffsetReset, CommitMode, IsolationLevel, KafkaSourceOptions, MetadataKey, MetadataOptions, Seek, StartFrom, StopAt};

/// `connector: kafka`.
#[derive(Clone, Copy, Debug, Default)]
pub struct KafkaConnector;

impl Connector for KafkaConnector {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn description(&self) -> &'static str {
        "Topics of Apache Kafka.\n\n\
         The source is exactly once: each partition is a split, its offset is in the job's checkpoints, and it is read again from there. Offsets are \
         committed to the group for others to see, after the checkpoint that holds them. A position whose rows are gone (retention, a topic created \
         again under its name) fails the job and says which are missing; it is never reset in silence. More subtasks than partitions are possible: \
         those without one pass nothing on, and rows can be spread behind the source.\n\n\
         The sink is exactly once with `guarantee: transactional` (the default where the job's `delivery` is exactly-once): rows become visible to readers \
         with `isolation.level=read_committed` when their checkpoint has completed, on every broker since Apache Kafka 3.9. A transaction that the broker \
         times out before its commit is lost rows, which the job says by their offsets; so `transactionTimeout` must be well above the checkpoint interval \
         and the longest outage of the job. A changelog is written by its `key`: deletes become tombstones."
    }

    fn tested_against(&self) -> &'static [&'static str] {
        &["Apache Kafka 4.3.1", "Apicurio Registry 3.0.9"]
    }

    fn source_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(KafkaSourceOptions))
    }

    fn check_source(&self, config: &Value) -> Result<(), ConfigErrors> {
        parse::<KafkaSourceOptions>(config).map(drop)
    }

    fn leave_no_trace(&self, config: &mut Value) {
        if let Some(options) = config.as_object_mut() {
            options.remove("enableAutoCommit");
            options.insert("commitMode".to_owned(), json!("off"));
            if let Some(properties) = options.get_mut("properties").and_then(Value::as_object_mut) {
                properties.remove("enable.auto.commit");
            }
        }
    }

    fn sink_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(KafkaSinkOptions))
    }

    fn check_sink(&self, config: &Value) -> Result<(), ConfigErrors> {
        parse::<KafkaSinkOptions>(config).map(drop)
    }

    fn sink_guarantees(&self) -> &'static [SinkGuarantee] {
        &[SinkGuarantee::Transactional, SinkGuarantee::AtLeastOnce]
    }

    fn source(&self, context: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
        source::plan(context)
    }

    fn sink(&self, context: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
        sink::plan(context)
    }

    fn read_back(&self, sink: &Value) -> Result<Option<ReadBack>, ConfigErrors> {
        read_back::read_back(sink)
    }
}
