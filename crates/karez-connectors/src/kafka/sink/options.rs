//! What a user writes for a sink.

use std::collections::BTreeMap;

use karez_core::config::{ByteSize, Span};
use karez_external::ClientOptions;
use karez_formats::message::MessageFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::compression::Codec;
use crate::kafka::options::{BootstrapServers, Properties, SecurityOptions};
use crate::schema_registry::SchemaRegistryOptions;

/// Options of the sink.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSinkOptions {
    /// Brokers to begin with: `host:port`, several separated by commas or as a list.
    pub bootstrap_servers: Option<BootstrapServers>,
    /// The name under which brokers log and limit the job. Default: `karez`.
    pub client_id: Option<String>,
    /// How brokers are called: `timeout` of a request, `retry`. The client does it itself; they are its settings. Default: as Kafka's, a request may take
    /// 30s and is sent again after 50ms, doubled up to 1s, until `deliveryTimeout`.
    pub external: Option<ClientOptions>,
    /// TLS and SASL.
    pub security: Option<SecurityOptions>,
    /// The topic that all rows go to.
    pub topic: Option<String>,
    /// The column with the topic of each row, instead of `topic`. It is not part of the value, unless `columns` names it. A row whose topic does not
    /// exist is a bad record.
    pub topic_column: Option<String>,
    /// Stands before the topic's name: `topicPrefix: test-sqlite-jdbc-` with `topic: accounts` writes to `test-sqlite-jdbc-accounts`. Default: nothing.
    #[serde(default)]
    pub topic_prefix: String,
    /// The key: its columns (`key: [id]`), or an object with `columns` and `format`. Rows of one key go to one partition, the same as with Java clients.
    /// A changelog needs it: deletes become tombstones.
    pub key: Option<KeyOption>,
    /// The format of values. Default: `json`.
    pub format: Option<MessageFormat>,
    /// Where the schemas of `avro`, `protobuf` and `json` are registered whose number stands before each message (the Confluent wire format). Holds for the
    /// key too; a key or value of these formats without a number has `framing: none`.
    pub schema_registry: Option<SchemaRegistryOptions>,
    /// The columns of the value. Default: all but those that `topicColumn`, `partitionColumn` and `headersColumn` name.
    pub columns: Option<Vec<String>>,
    /// The column with the number of each row's partition; null: by the key.
    pub partition_column: Option<String>,
    /// The column with each message's timestamp (a timestamp, or milliseconds since 1970); null: the time of writing. Default: the time of writing.
    pub timestamp_column: Option<String>,
    /// Headers, by name the column of their value. Text and binary are written as they are, other types as text; null is a header without value.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The column with more headers: a map from text to text or binary, or a list of pairs of those. It is not part of the value, unless `columns`
    /// names it.
    pub headers_column: Option<String>,
    /// What is promised over crashes. Default: `transactional` where the job's `delivery` is exactly-once, else `at-least-once`.
    pub guarantee: Option<Guarantee>,
    /// Which replicas must have a row before it counts as written: `all` in sync, the leader (`1`), none (`0`). Default: `all`.
    pub acks: Option<AcksOption>,
    /// Whether the broker drops what is sent again because its answer was lost. Default: true with `acks: all`.
    pub idempotent: Option<bool>,
    /// A batch of a partition is sent when it has so many bytes (before compression). Default: 256k.
    pub batch_size: Option<ByteSize>,
    /// How long a batch that is not full waits for more rows. Default: 5ms.
    pub linger: Option<Span>,
    /// How batches are compressed. Default: none.
    pub compression: Option<Codec>,
    /// How hard gzip (1 to 9, default 6) and zstd (up to 22, default 3) try.
    pub compression_level: Option<i32>,
    /// The most bytes of a request, and so of a row; a row above it is a bad record. Default: 1m.
    pub max_request_size: Option<ByteSize>,
    /// The most bytes of batches that wait for their acknowledgement, in each subtask; then the job waits. Default: 32m.
    pub buffer_memory: Option<ByteSize>,
    /// A batch that is not acknowledged after this fails the job, which goes on from its last checkpoint: so long an outage of the brokers is borne by
    /// waiting. Default: 2m, or as long as the attempts of `external` can take.
    pub delivery_timeout: Option<Span>,
    /// The broker aborts a transaction that has been open for so long: rows of a checkpoint that is not committed by then are lost. So it must be well
    /// above `checkpoint.interval` and the time in which a job that died is running again, and at most the broker's transaction.max.timeout.ms. Default:
    /// 15m, or that maximum where it is less.
    pub transaction_timeout: Option<Span>,
    /// What transactional ids begin with, for a broker's access rights; no other job of the cluster may use it. Default: `karez/JOB`.
    pub transactional_id_prefix: Option<String>,
    /// Settings by the names that Kafka users know (`linger.ms`, `compression.type`). One that cannot be honoured is an error.
    #[serde(default)]
    pub properties: Properties,
}

/// What the sink promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// Rows are written in transactions, and visible to readers of committed data when their checkpoint has completed, once.
    Transactional,
    /// Rows are visible at once. After a crash those since the last checkpoint are written again.
    AtLeastOnce,
}

/// Which replicas must have a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcksOption {
    /// None.
    None,
    /// The leader.
    Leader,
    /// All in sync.
    All,
}

/// How the key of a message is made.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected the columns of the key, as `[id]`, or `{ columns: [id], format: … }`")]
pub enum KeyOption {
    /// Columns alone.
    Columns(Vec<String>),
    /// Columns and format.
    Key(KeyOptions),
}

/// How the key of a message is made.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyOptions {
    /// The columns.
    pub columns: Vec<String>,
    /// The format. Default: `raw` for one column of text or binary, else `json`.
    pub format: Option<MessageFormat>,
}

impl KeyOption {
    pub(super) fn columns(&self) -> &[String] {
        match self {
            Self::Columns(columns) | Self::Key(KeyOptions { columns, .. }) => columns,
        }
    }

    pub(super) const fn format(&self) -> Option<&MessageFormat> {
        match self {
            Self::Columns(_) => None,
            Self::Key(key) => key.format.as_ref(),
        }
    }
}

impl AcksOption {
    /// As in the protocol.
    pub(super) const fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "0" => Some(Self::None),
            "1" => Some(Self::Leader),
            "all" | "-1" => Some(Self::All),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for AcksOption {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(d)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected 0, 1 or all"))
    }
}

impl JsonSchema for AcksOption {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Acks".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "enum": [0, 1, "0", "1", "all"] })
    }
}
