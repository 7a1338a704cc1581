//! The options of the `kafka` source. The doc comments are its reference page.

use karez_core::config::{ByteSize, Span};
use karez_external::ClientOptions;
use karez_formats::message::{MessageFormat, NullPayload};
use schemars::JsonSchema;
use serde::Deserialize;

use super::metadata::MetadataOptions;
use super::start::{Seek, StartFrom, StopAt};
use crate::kafka::options::{BootstrapServers, Properties, SecurityOptions};
use crate::schema_registry::SchemaRegistryOptions;

/// Options of the `kafka` source.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSourceOptions {
    /// Brokers to begin with: `host:port`, several separated by commas or as a list. The others are learned from them.
    pub bootstrap_servers: Option<BootstrapServers>,
    /// The topics to read. Either this, `topic` or `topicPattern`.
    pub topics: Option<Vec<String>>,
    /// The one topic to read.
    pub topic: Option<String>,
    /// Every topic whose whole name matches this regular expression is read, those created later included; internal topics are not.
    pub topic_pattern: Option<String>,
    /// The consumer group in whose name offsets are committed and looked up. The job assigns partitions itself: it is no member of the group, and no other
    /// consumer may be one while offsets are committed. Without a group none are.
    pub group_id: Option<String>,
    /// The same as `groupId`.
    pub consumer_group: Option<String>,
    /// Where a run begins that has no checkpoint to go on from: `earliest`, `latest`, `group-offsets`, `{ timestamp: "2026-01-31T00:00:00Z" }` (or
    /// milliseconds), `{ offsets: { orders: { 0: 42, 1: 17 } } }` (partitions that are not named: `autoOffsetReset`). Partitions found later are read from
    /// their start. Default: `group-offsets` with a group, else what `autoOffsetReset` says.
    pub start_from: Option<StartFrom>,
    /// Where a partition begins for which `startFrom` says nothing, so that of a group which has committed nothing: `earliest`, `latest`, or `none`, which
    /// fails the job. Kafka's own default is `latest`, which leaves out what is there. A restored position is never reset: if its rows are gone the job
    /// fails. Default: `earliest`.
    pub auto_offset_reset: Option<AutoOffsetReset>,
    /// Rewinds or skips: the positions at which the job goes on instead of those of its checkpoint or savepoint, written like `startFrom`; partitions that
    /// `offsets` does not name stay where they are. Applied once: checkpoints remember it, and only another value is applied again. Event time does not
    /// go back: rows of windows that have been closed are late.
    pub seek: Option<Seek>,
    /// Where reading ends, for every partition that there is when the run begins: `latest` (its end then), `{ timestamp: … }` (before the first row at or
    /// after it) or `{ offsets: … }` (before that offset; all partitions named). Default: `latest` in jobs of `type: batch`, else it never ends.
    pub stop_at: Option<StopAt>,
    /// `read_committed`: rows of aborted transactions are left out and those of open ones waited for. `read_uncommitted`: all rows as they are written.
    /// Default: `read_committed`.
    pub isolation_level: Option<IsolationLevel>,
    /// When offsets are committed to the group, for others to see; the job itself goes by its checkpoints. Default: `sync` with a group, else `off`.
    pub commit_mode: Option<CommitMode>,
    /// Kafka's name for `commitMode: auto`; `false` is `sync`.
    pub enable_auto_commit: Option<bool>,
    /// How often new partitions and topics are looked for; 0: never again. Default: 30s.
    #[serde(default = "thirty_seconds")]
    pub discovery_interval: Span,
    /// How a message's value is read. Default: `json` where `schema` declares columns, else `raw`.
    pub format: Option<MessageFormat>,
    /// Where the schemas of `avro`, `protobuf` and `json` messages are that name them by a number (the Confluent wire format).
    pub schema_registry: Option<SchemaRegistryOptions>,
    /// What becomes of a message without a value (a tombstone). Default: `raw` gives a null, other formats `skip` it, counted as `null_payloads`.
    pub null_payload: Option<NullPayload>,
    /// Columns beside those of the value: a list of `topic`, `partition`, `offset`, `timestamp`, `timestampType`, `key`, `headers`, or an object that
    /// gives them names: `{ ts: timestamp }`. They come behind the declared columns. With `timestamp` here and in `eventTime` the records' own time
    /// is event time.
    pub metadata: Option<MetadataOptions>,
    /// What is fetched and not yet read, of all partitions in this process: fetching waits when there is more, but for partitions that have nothing.
    /// Default: 64m.
    #[serde(default = "buffer_size")]
    pub buffer_size: ByteSize,
    /// How brokers are called: `timeout` of a request, `retry`. The client does it itself; they are its settings. Default: as Kafka's, a request may take
    /// 30s and is sent again after 50ms, doubled up to 1s, for as long as brokers are away.
    pub external: Option<ClientOptions>,
    /// TLS and SASL. Default: plain text.
    pub security: Option<SecurityOptions>,
    /// The name by which brokers log and limit the job. Default: `karez`.
    pub client_id: Option<String>,
    /// Settings by the names that Kafka users know: `fetch.min.bytes`, `fetch.max.wait.ms`, `fetch.max.bytes`, `max.partition.fetch.bytes`,
    /// `max.poll.records`, `auto.offset.reset`, `enable.auto.commit`, `auto.commit.interval.ms`, `isolation.level`, `client.rack`, `security.protocol`,
    /// `sasl.jaas.config` and others. One that cannot be honoured is an error that says why.
    #[serde(default)]
    pub properties: Properties,
}

/// What to do where there is no offset to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AutoOffsetReset {
    /// The first record there is.
    Earliest,
    /// Behind the last record there is.
    Latest,
    /// The job fails.
    None,
}

/// Which rows of transactions are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IsolationLevel {
    /// Those that have been committed.
    ReadCommitted,
    /// All.
    ReadUncommitted,
}

/// When offsets are committed to the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CommitMode {
    /// After each completed checkpoint; tried again until it has worked, at most `default.api.timeout.ms` long.
    Sync,
    /// After each completed checkpoint; tried once, the next one makes up for it.
    Async,
    /// Every `auto.commit.interval.ms`, whatever checkpoints say: what has been read may be committed before it is processed.
    Auto,
    /// Never.
    Off,
}

const fn thirty_seconds() -> Span {
    Span::millis(30_000)
}

const fn buffer_size() -> ByteSize {
    ByteSize(64 << 20)
}
