//! Topics of Apache Kafka, read and written.
//!
//! ```text
//!  options, properties ──► client ──► source: discovery, fetch, positions      (this job assigns partitions; no consumer group does)
//!                                └──► sink: partitioner, producer, transactions
//! ```

mod client;
mod options;
mod properties;
mod source;

use std::sync::Arc;

use karez_core::config::{ConfigError, ConfigErrors, parse};
use karez_core::{Connector, Sink, SinkContext, Source, SourceContext};
use serde_json::{Value, json};

pub use options::{BootstrapServers, Properties, SaslOptions, SecurityOptions, SecurityProtocol, TlsOptions};
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
         those without one pass nothing on, and rows can be spread behind the source."
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

    fn source(&self, context: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
        source::plan(context)
    }

    fn sink(&self, _: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
        Err(ConfigError::new("connector", "`kafka` is a source in this build").into())
    }
}
