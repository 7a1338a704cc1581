//! How batches are made and sent: from options and Kafka's own properties, each honoured or refused.

use std::time::Duration;

use karez_core::config::ConfigError;

use super::compression::{Codec, Compression};
use super::options::{AcksOption, KafkaSinkOptions};
use crate::kafka::properties::PropertyReader;

/// The default of `batchSize`. Kafka's own 16 KiB is for clients that send row by row.
const BATCH_BYTES: u64 = 256 << 10;
const REQUEST_BYTES: u64 = 1 << 20;
const BUFFER_BYTES: u64 = 32 << 20;

/// Of a producer.
#[derive(Clone, Debug)]
pub(super) struct ProducerSettings {
    pub(super) acks: AcksOption,
    pub(super) idempotent: bool,
    pub(super) batch_bytes: usize,
    pub(super) linger_ms: i64,
    pub(super) compression: Compression,
    pub(super) max_request_bytes: usize,
    pub(super) buffer_bytes: usize,
    pub(super) delivery_timeout: Duration,
    /// How long a call that everything waits for may take: a topic's partitions, a transaction's beginning and end.
    pub(super) max_block: Duration,
    pub(super) transaction_timeout: Option<Duration>,
}

impl ProducerSettings {
    /// `transactional`: everything must be acknowledged by all replicas, once.
    pub(super) fn plan(options: &KafkaSinkOptions, transactional: bool, properties: &mut PropertyReader<'_>, errors: &mut Vec<ConfigError>) -> Self {
        let acks = properties.or("acks", options.acks, "acks", |p| {
            let text = p.text("acks")?;
            let acks = AcksOption::parse(text);
            if acks.is_none() {
                p.error("acks", "expected 0, 1 or all");
            }
            acks
        });
        let acks = acks.unwrap_or(AcksOption::All);
        let idempotent = properties.or("idempotent", options.idempotent, "enable.idempotence", |p| p.boolean("enable.idempotence"));
        if transactional && acks != AcksOption::All {
            errors.push(ConfigError::new("acks", "transactions need `all`").hint("remove `acks`, or set `guarantee: at-least-once`"));
        }
        if transactional && idempotent == Some(false) {
            errors.push(ConfigError::new("idempotent", "transactions need an idempotent producer").hint("remove `idempotent`"));
        }
        if idempotent == Some(true) && acks != AcksOption::All {
            errors.push(ConfigError::new("idempotent", "needs `acks: all`"));
        }
        let bytes = |option: &str, given: Option<karez_core::config::ByteSize>, name: &'static str, default: u64, p: &mut PropertyReader<'_>| {
            let given = given.map(|b| b.0);
            let n = p.or(option, given, name, |p| p.parse::<u64>(name, "a number of bytes")).unwrap_or(default);
            usize::try_from(n).unwrap_or(usize::MAX)
        };
        let batch_bytes = bytes("batchSize", options.batch_size, "batch.size", BATCH_BYTES, properties);
        let max_request_bytes = bytes("maxRequestSize", options.max_request_size, "max.request.size", REQUEST_BYTES, properties);
        let buffer_bytes = bytes("bufferMemory", options.buffer_memory, "buffer.memory", BUFFER_BYTES, properties);
        for (option, value, least, most) in [
            ("batchSize", batch_bytes, 1, 512 << 20),
            ("maxRequestSize", max_request_bytes, 1024, 512 << 20),
            ("bufferMemory", buffer_bytes, 1 << 16, usize::MAX),
        ] {
            if !(least..=most).contains(&value) {
                let most = if most == usize::MAX { String::new() } else { format!(", at most {most}") };
                errors.push(ConfigError::new(option, format!("must be at least {least} bytes{most}")));
            }
        }
        let linger = properties.or("linger", options.linger.map(|s| s.0), "linger.ms", |p| p.millis("linger.ms"));
        let delivery =
            properties.or("deliveryTimeout", options.delivery_timeout.map(|s| s.0), "delivery.timeout.ms", |p| p.millis("delivery.timeout.ms"));
        let timeout = options.transaction_timeout.map(|s| s.0);
        let transaction_timeout = properties.or("transactionTimeout", timeout, "transaction.timeout.ms", |p| p.millis("transaction.timeout.ms"));
        if transaction_timeout.is_some_and(|t| t < Duration::from_secs(1)) {
            errors.push(ConfigError::new("transactionTimeout", "must be at least 1s"));
        }
        let all_attempts = options.external.as_ref().map(karez_external::ClientOptions::total);
        let settings = Self {
            acks,
            idempotent: idempotent.unwrap_or(acks == AcksOption::All),
            // A batch that is larger than a request could not be sent.
            batch_bytes: batch_bytes.min(max_request_bytes),
            linger_ms: linger.map_or(5, |l| i64::try_from(l.as_millis()).unwrap_or(i64::MAX)),
            compression: compression(options, properties, errors),
            max_request_bytes,
            buffer_bytes,
            delivery_timeout: delivery.or(all_attempts).unwrap_or(Duration::from_secs(120)),
            max_block: properties.millis("max.block.ms").or(all_attempts).unwrap_or(Duration::from_secs(60)),
            transaction_timeout,
        };
        refuse_others(properties);
        settings
    }
}

fn compression(options: &KafkaSinkOptions, properties: &mut PropertyReader<'_>, errors: &mut Vec<ConfigError>) -> Compression {
    let codec = properties.or("compression", options.compression, "compression.type", |p| {
        let text = p.text("compression.type")?;
        let named = [("none", Codec::None), ("gzip", Codec::Gzip), ("snappy", Codec::Snappy), ("lz4", Codec::Lz4), ("zstd", Codec::Zstd)];
        let codec = named.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim())).map(|(_, codec)| codec);
        if codec.is_none() {
            p.error("compression.type", "expected none, gzip, snappy, lz4 or zstd");
        }
        codec
    });
    let codec = codec.unwrap_or_default();
    let mut level = options.compression_level;
    for (name, of) in [("compression.gzip.level", Codec::Gzip), ("compression.zstd.level", Codec::Zstd)] {
        if codec == of {
            level = properties.or("compressionLevel", level, name, |p| p.parse(name, "a level"));
        } else {
            properties.refuse(name, "another codec is set");
        }
    }
    properties.refuse("compression.lz4.level", "the encoder of LZ4 has one level");
    match (level, Compression::levels(codec)) {
        (Some(_), None) => errors.push(ConfigError::new("compressionLevel", "only gzip and zstd have levels")),
        (Some(level), Some(levels)) if !levels.contains(&level) => {
            errors.push(ConfigError::new("compressionLevel", format!("must be from {} to {}", levels.start(), levels.end())));
        }
        _ => {}
    }
    Compression { codec, level }
}

fn refuse_others(properties: &mut PropertyReader<'_>) {
    if let Some(retries) = properties.number("retries", 0)
        && retries == 0
    {
        properties.error("retries", "0 cannot be honoured: what passes is tried again until `deliveryTimeout`; set that");
    }
    if let Some(n) = properties.number("max.in.flight.requests.per.connection", 1)
        && n > 5
    {
        properties.error("max.in.flight.requests.per.connection", "at most 5 requests are on their way to a broker");
    }
    properties.only("partitioner.ignore.keys", &["false"], "use no `key`, or a `partitionColumn`");
    properties.only("partitioner.adaptive.partitioning.enable", &["false"], "rows without a key go round the partitions, batch by batch");
    properties.refuse("partitioner.availability.timeout.ms", "rows without a key go round the partitions, batch by batch");
    properties.refuse("partitioner.class", "keys go where the Java client's default partitioner puts them; else use a `partitionColumn`");
    properties.refuse("transactional.id", "each writer has several; set `transactionalIdPrefix`");
    properties
        .refuse("transaction.two.phase.commit.enable", "transactions are ended by the checkpoint, on any broker; see the page of the connector");
}
