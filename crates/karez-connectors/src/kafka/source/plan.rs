//! What a user wrote, validated once.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use karez_core::config::{ConfigError, ConfigErrors, parse};
use karez_core::metrics::NodeMetrics;
use karez_core::schema::{ChangeMode, change_field, origin_field};
use karez_core::{Result, SourceContext};
use karez_formats::message::{DecodePlan, DecodeRequest, JsonMessageOptions, MessageFormat, RawMessageOptions, RegisteredSchema, SchemaId};

use super::fetch::FetchSettings;
use super::metadata::MetadataPlan;
use super::options::{AutoOffsetReset, CommitMode, IsolationLevel, KafkaSourceOptions};
use super::start::{Seek, StartFrom, StopAt};
use super::topics::Topics;
use crate::kafka::client::{ClientConfig, ConnectionOptions};
use crate::kafka::properties::PropertyReader;
use crate::schema_registry::{Part, SchemaRegistry};

/// What all parts of a source share.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) client: ClientConfig,
    pub(super) topics: Topics,
    pub(super) group: Option<String>,
    pub(super) start_from: StartFrom,
    /// As given: what has not been given is asked for where it matters.
    pub(super) auto_offset_reset: Option<AutoOffsetReset>,
    pub(super) seek: Option<Seek>,
    pub(super) stop_at: Option<StopAt>,
    pub(super) commit: Commit,
    pub(super) discovery_interval_ms: u64,
    pub(super) fetch: FetchSettings,
    pub(super) check_crcs: bool,
    pub(super) max_poll_records: usize,
    pub(super) decode: DecodePlan,
    /// Where schemas are that messages name by a number.
    pub(super) registry: Option<SchemaRegistry>,
    pub(super) metadata: MetadataPlan,
}

/// When offsets are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commit {
    Off,
    /// After each checkpoint, trying again for so long.
    Checkpoint(Duration),
    Every(Duration),
}

impl Plan {
    /// The columns: those of the value, of the metadata, then hidden ones.
    pub(super) fn schema(&self, with_origin: bool) -> SchemaRef {
        let mut fields: Vec<_> = self.decode.schema().fields().iter().chain(self.metadata.fields()).cloned().collect();
        if self.changes() {
            fields.push(Arc::new(change_field()));
        }
        if with_origin {
            fields.push(Arc::new(origin_field()));
        }
        Arc::new(Schema::new(fields))
    }

    /// Whether rows carry changes.
    pub(super) fn changes(&self) -> bool {
        self.decode.change_mode() == ChangeMode::Changelog
    }

    /// The schema that messages name by a number, or why there is none.
    pub(super) async fn schema_of(&self, id: SchemaId, metrics: Option<&Arc<NodeMetrics>>) -> Result<Result<RegisteredSchema, String>> {
        match (&self.registry, metrics) {
            (Some(registry), Some(metrics)) => registry.counted_by(Arc::clone(metrics)).schema(id).await,
            (Some(registry), None) => registry.schema(id).await,
            (None, _) => Ok(Err(format!("schema {id} cannot be looked up without a `schemaRegistry`"))),
        }
    }

    /// Validates.
    pub(super) fn new(context: SourceContext<'_>) -> Result<Self, ConfigErrors> {
        let options: KafkaSourceOptions = parse(context.config)?;
        let mut errors = Vec::new();
        let mut properties = PropertyReader::new(&options.properties);
        let connection = ConnectionOptions {
            bootstrap_servers: options.bootstrap_servers.as_ref(),
            client_id: options.client_id.as_deref(),
            security: options.security.as_ref(),
            external: options.external.as_ref(),
        };
        let client = ClientConfig::plan(connection, &mut properties, &mut errors);
        let topics = Topics::new(&options, &mut errors);
        let group = group(&options, &mut properties, &mut errors);
        let auto_offset_reset = auto_offset_reset(&options, &mut properties);
        let start_from = options.start_from.clone().unwrap_or(match (&group, auto_offset_reset) {
            (Some(_), _) => StartFrom::GroupOffsets,
            (None, Some(AutoOffsetReset::Latest)) => StartFrom::Latest,
            (None, _) => StartFrom::Earliest,
        });
        let wants_group = [("startFrom", Some(&start_from)), ("seek", options.seek.as_ref().map(|s| &s.0))];
        for (option, from) in wants_group {
            if from == Some(&StartFrom::GroupOffsets) && group.is_none() {
                errors.push(ConfigError::new(option, "`group-offsets` needs a group").hint("set `groupId`"));
            }
        }
        let stop_at = options.stop_at.clone().or(context.batch.then_some(StopAt::Latest));
        let commit = commit(&options, group.is_some(), &mut properties, &mut errors);
        let fetch = fetch(&options, client.as_ref(), &mut properties, &mut errors);
        let check_crcs = properties.boolean("check.crcs").unwrap_or(true);
        let max_poll_records = properties.number("max.poll.records", 1).map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        refuse(&mut properties);
        let metadata = MetadataPlan::new(options.metadata.as_ref(), &mut errors);
        let registry = options.schema_registry.as_ref().map(SchemaRegistry::new).transpose();
        let registry = registry.map_err(|e| errors.extend(e.0.into_iter().map(|e| e.under("schemaRegistry")))).ok().flatten();
        let decode = decode(&options, context.schema, topics.as_ref(), &metadata, &mut errors);
        errors.extend(properties.finish());
        match (client, topics, fetch, decode) {
            (Some(client), Some(topics), Some(fetch), Some(decode)) if errors.is_empty() => Ok(Self {
                client,
                topics,
                group,
                start_from,
                auto_offset_reset,
                seek: options.seek,
                stop_at,
                commit,
                discovery_interval_ms: u64::try_from(options.discovery_interval.as_millis()).unwrap_or(0),
                fetch,
                check_crcs,
                max_poll_records,
                decode,
                registry,
                metadata,
            }),
            _ => Err(ConfigErrors(errors)),
        }
    }
}

fn group(options: &KafkaSourceOptions, properties: &mut PropertyReader<'_>, errors: &mut Vec<ConfigError>) -> Option<String> {
    if options.group_id.is_some() && options.consumer_group.is_some() {
        errors.push(ConfigError::new("consumerGroup", "`groupId` says the same; give one of them"));
    }
    let given = options.group_id.clone().or_else(|| options.consumer_group.clone());
    let group = properties.or("groupId", given, "group.id", |p| p.text("group.id").map(str::to_owned));
    if group.as_ref().is_some_and(String::is_empty) {
        errors.push(ConfigError::new("groupId", "must not be empty"));
    }
    group
}

fn auto_offset_reset(options: &KafkaSourceOptions, properties: &mut PropertyReader<'_>) -> Option<AutoOffsetReset> {
    properties.or("autoOffsetReset", options.auto_offset_reset, "auto.offset.reset", |p| match p.text("auto.offset.reset")? {
        "earliest" => Some(AutoOffsetReset::Earliest),
        "latest" => Some(AutoOffsetReset::Latest),
        "none" => Some(AutoOffsetReset::None),
        _ => {
            p.error("auto.offset.reset", "expected earliest, latest or none");
            None
        }
    })
}

fn commit(options: &KafkaSourceOptions, group: bool, properties: &mut PropertyReader<'_>, errors: &mut Vec<ConfigError>) -> Commit {
    let auto = properties.or("enableAutoCommit", options.enable_auto_commit, "enable.auto.commit", |p| p.boolean("enable.auto.commit"));
    let interval = properties.millis("auto.commit.interval.ms").unwrap_or(Duration::from_secs(5)).max(Duration::from_millis(10));
    let timeout = properties.millis("default.api.timeout.ms").unwrap_or(Duration::from_secs(60));
    if options.commit_mode.is_some() && auto.is_some() {
        errors.push(ConfigError::new("commitMode", "`enableAutoCommit` says this already; give one of them"));
    }
    let by_default = if group { CommitMode::Sync } else { CommitMode::Off };
    let mode = options.commit_mode.or(auto.map(|auto| if auto { CommitMode::Auto } else { by_default })).unwrap_or(by_default);
    if mode != CommitMode::Off && !group {
        errors.push(ConfigError::new("commitMode", "offsets are committed to a group, and there is none").hint("set `groupId`"));
    }
    match mode {
        CommitMode::Off => Commit::Off,
        CommitMode::Auto => Commit::Every(interval),
        CommitMode::Sync => Commit::Checkpoint(timeout),
        CommitMode::Async => Commit::Checkpoint(Duration::from_secs(5).min(timeout)),
    }
}

fn fetch(
    options: &KafkaSourceOptions,
    client: Option<&ClientConfig>,
    properties: &mut PropertyReader<'_>,
    errors: &mut Vec<ConfigError>,
) -> Option<FetchSettings> {
    let isolation = properties.or("isolationLevel", options.isolation_level, "isolation.level", |p| match p.text("isolation.level")? {
        "read_committed" => Some(IsolationLevel::ReadCommitted),
        "read_uncommitted" => Some(IsolationLevel::ReadUncommitted),
        _ => {
            p.error("isolation.level", "expected read_committed or read_uncommitted");
            None
        }
    });
    // An answer is held in memory whole; the client refuses one of more than 100 MiB.
    let max_bytes = properties.number("fetch.max.bytes", 1).unwrap_or(16 << 20);
    if max_bytes > 64 << 20 {
        properties.error("fetch.max.bytes", "must be at most 67108864");
    }
    if options.buffer_size.0 == 0 {
        errors.push(ConfigError::new("bufferSize", "must be more than 0"));
    }
    let (min_bytes, max_wait) = (properties.number("fetch.min.bytes", 0).unwrap_or(1), properties.millis("fetch.max.wait.ms"));
    let partition_max_bytes = properties.number("max.partition.fetch.bytes", 1).unwrap_or(1 << 20);
    let rack = properties.text("client.rack").map(str::to_owned);
    let client = client?;
    Some(FetchSettings {
        read_committed: isolation != Some(IsolationLevel::ReadUncommitted),
        min_bytes,
        max_wait: max_wait.unwrap_or(Duration::from_millis(500)),
        max_bytes,
        partition_max_bytes,
        buffer_bytes: usize::try_from(options.buffer_size.0).unwrap_or(usize::MAX),
        rack,
        request_timeout: client.request_timeout,
        retry: client.retry.clone(),
    })
}

/// Kafka's settings of consumers that are no business of this source.
fn refuse(properties: &mut PropertyReader<'_>) {
    let member = "the job assigns partitions itself and is no member of the group";
    for name in [
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "max.poll.interval.ms",
        "group.instance.id",
        "group.protocol",
        "group.remote.assignor",
        "partition.assignment.strategy",
    ] {
        properties.refuse(name, member);
    }
    properties.only("allow.auto.create.topics", &["false"], "a source creates no topic");
    properties.only("exclude.internal.topics", &["true"], "internal topics are not read");
}

fn decode(
    options: &KafkaSourceOptions,
    schema: Option<&SchemaRef>,
    topics: Option<&Topics>,
    metadata: &MetadataPlan,
    errors: &mut Vec<ConfigError>,
) -> Option<DecodePlan> {
    let by_default =
        if schema.is_some() { MessageFormat::Json(JsonMessageOptions::default()) } else { MessageFormat::Raw(RawMessageOptions::default()) };
    let format = options.format.as_ref().unwrap_or(&by_default);
    let topic = match topics {
        Some(Topics::Named(names)) => names.first().filter(|_| names.len() == 1).map(String::as_str),
        _ => None,
    };
    // With other errors the registry may be another than is meant.
    let registry = options.schema_registry.as_ref().filter(|_| errors.is_empty());
    let latest = registry.map_or(Ok(None), |registry| registry.latest_for(format, schema.is_some(), topic, Part::Value));
    let plan = latest.and_then(|latest| {
        let registry = options.schema_registry.is_some();
        DecodePlan::new(DecodeRequest { format, schema, registry, latest: latest.as_ref(), null_payload: options.null_payload })
    });
    if options.schema_registry.is_some() && !format.uses_registry(true) {
        let e = ConfigError::new("schemaRegistry", format!("messages of `{format}` name no schema of a registry"));
        errors.push(e.hint("leave it out, or use `avro`, `protobuf` or `json`"));
    }
    let plan = match plan {
        Ok(plan) => plan,
        Err(ConfigErrors(found)) => {
            errors.extend(found.into_iter().map(|e| e.under("format")));
            return None;
        }
    };
    for field in metadata.fields() {
        if plan.schema().column_with_name(field.name()).is_some() {
            let e = ConfigError::new("metadata", format!("the column `{}` is one of the message's, too", field.name()));
            errors.push(e.hint("give it another name: `metadata: { record_key: key }`"));
        }
    }
    Some(plan)
}
