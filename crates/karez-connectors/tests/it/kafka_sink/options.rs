//! Options that cannot be meant are refused when the job is planned, by name.

use karez_core::ChangeMode;

use super::*;

fn refused(config: Value) -> String {
    try_sink(&config, &StreamSchema::append_only(two_columns()), false).err().unwrap()
}

fn with(option: &str, value: impl Into<Value>) -> Value {
    let mut config = json!({ "bootstrapServers": "localhost:9092", "topic": "t" });
    config[option] = value.into();
    config
}

#[test]
fn what_is_missing_or_contradicts_itself_is_said() {
    for (config, said) in [
        (json!({ "topic": "t" }), "bootstrapServers"),
        (json!({ "bootstrapServers": "localhost:9092" }), "`topicColumn`"),
        (with("topicColumn", "name"), "give one of them"),
        (with("topic", "a b"), "no name of a topic"),
        (with("key", json!(["nam"])), "did you mean `name`?"),
        (with("key", json!([])), "names no column"),
        (with("columns", json!(["id", "id"])), "named twice"),
        (with("partitionColumn", "name"), "expected an integer"),
        (with("headersColumn", "name"), "a map from text"),
        (with("format", "raw"), "format"),
        (with("acks", 2), "0, 1 or all"),
        (with("compressionLevel", 3), "only gzip and zstd"),
        (with("bufferMemory", 1), "bufferMemory"),
        (with("transactionalIdPrefix", ""), "transactionalIdPrefix"),
        (with("topicc", "t"), "topic"),
        (with("external", json!({ "maxConcurrency": 4 })), "maxConcurrency"),
        (with("external", json!({ "timeout": "0s" })), "`external.timeout`"),
    ] {
        let message = refused(config.clone());
        assert!(message.contains(said), "{config}: {message}");
    }
}

#[test]
fn kafkas_own_names_are_honoured_or_refused_never_ignored() {
    let properties = |p: Value| try_sink(&with("properties", p), &StreamSchema::append_only(two_columns()), false).map(drop);
    properties(json!({
        "acks": "all", "enable.idempotence": true, "linger.ms": 20, "batch.size": 16384, "compression.type": "zstd", "compression.zstd.level": 5,
        "max.request.size": 2_000_000, "buffer.memory": 33_554_432, "delivery.timeout.ms": 60_000, "request.timeout.ms": 20_000, "max.block.ms": 10_000,
        "max.in.flight.requests.per.connection": 5, "retries": 2_147_483_647, "transaction.timeout.ms": 60_000,
    }))
    .unwrap();
    for (name, value, said) in [
        ("retries", json!(0), "deliveryTimeout"),
        ("transactional.id", json!("x"), "transactionalIdPrefix"),
        ("partitioner.class", json!("org.example.Mine"), "partitionColumn"),
        ("key.serializer", json!("x"), "Java"),
        ("linger", json!(5), "did you mean `linger.ms`?"),
        ("max.poll.records", json!(5), "other end"),
        ("compression.lz4.level", json!(3), "one level"),
    ] {
        let message = properties(json!({ name: value })).unwrap_err();
        assert!(message.contains(said), "{name}: {message}");
    }
    let twice = json!({ "bootstrapServers": "localhost:9092", "topic": "t", "external": {}, "properties": { "retry.backoff.ms": 5 } });
    assert!(refused(twice).contains("`external.retry.initialDelay` sets this already"));
    let twice = json!({ "bootstrapServers": "localhost:9092", "topic": "t", "linger": "5ms", "properties": { "linger.ms": 5 } });
    assert!(refused(twice).contains("give one of them"));
}

#[test]
fn exactly_once_is_never_weakened_in_silence() {
    let schema = StreamSchema::append_only(two_columns());
    for (option, value) in [("guarantee", json!("at-least-once")), ("acks", json!(1)), ("idempotent", json!(false))] {
        assert!(try_sink(&with(option, value), &schema, true).is_err(), "{option}");
    }
    let sink = try_sink(&with("guarantee", "transactional"), &schema, false).unwrap();
    assert_eq!(sink.guarantee(), karez_core::sink::SinkGuarantee::Transactional);
}

#[test]
fn a_changelog_needs_a_key_and_is_spread_by_it() {
    let schema = StreamSchema { change_mode: ChangeMode::Changelog, ..StreamSchema::append_only(two_columns()) };
    assert!(try_sink(&with("linger", "5ms"), &schema, false).err().unwrap().contains("changelog"));
    let sink = try_sink(&with("key", json!(["id"])), &schema, false).unwrap();
    assert!(sink.accepts_changelog());
    assert_eq!(sink.key(), ["id"]);
    // Rows that are only added are not exchanged for the key.
    assert!(try_sink(&with("key", json!(["id"])), &StreamSchema::append_only(two_columns()), false).unwrap().key().is_empty());
}
