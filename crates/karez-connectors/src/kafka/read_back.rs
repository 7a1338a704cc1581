//! The options by which the source reads what the sink wrote: the topic as it is now, once.

use karez_core::ReadBack;
use karez_core::config::{ConfigErrors, parse};
use karez_formats::message::MessageFormat;
use serde_json::{Map, Value, json};

use super::KafkaSinkOptions;

/// The options that both ends have, and mean the same.
const SHARED: [&str; 5] = ["bootstrapServers", "clientId", "security", "format", "schemaRegistry"];

/// Settings of a connection, by how their names begin; others are the producer's own.
const OF_THE_CONNECTION: [&str; 6] = ["bootstrap.servers", "security.", "sasl.", "ssl.", "client.", "schema.registry."];

/// `None` where rows name their topic themselves.
pub(super) fn read_back(sink: &Value) -> Result<Option<ReadBack>, ConfigErrors> {
    let options: KafkaSinkOptions = parse(sink)?;
    let (Some(topic), None) = (&options.topic, &options.topic_column) else { return Ok(None) };
    let given = sink.as_object().into_iter().flatten();
    let mut config: Map<String, Value> = given.filter(|(key, _)| SHARED.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect();
    if let Some(properties) = sink.get("properties").and_then(Value::as_object) {
        let of_both = properties.iter().filter(|(name, _)| OF_THE_CONNECTION.iter().any(|begin| name.starts_with(begin)));
        config.insert("properties".into(), of_both.map(|(k, v)| (k.clone(), v.clone())).collect::<Map<_, _>>().into());
    }
    config.insert("topic".into(), json!(format!("{}{topic}", options.topic_prefix)));
    config.entry("format").or_insert_with(|| json!("json"));
    // Nobody is told how far a look has come. What is no letter is to be known of, a message without a value too.
    let once = [("startFrom", "earliest"), ("stopAt", "latest"), ("commitMode", "off"), ("nullPayload", "error")];
    config.extend(once.map(|(key, value)| (key.to_owned(), json!(value))));
    let binary_as_hex = matches!(options.format, Some(MessageFormat::Csv(_)));
    Ok(Some(ReadBack { config: config.into(), binary_as_hex, nothing_yet: false }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::read_back;

    #[test]
    fn a_topic_is_read_from_its_start_to_its_end_by_the_connection_that_wrote_it() {
        let sink = json!({
            "bootstrapServers": "a:1", "topic": "letters", "topicPrefix": "dev-", "acks": "all",
            "properties": { "linger.ms": "5", "security.protocol": "SSL" }
        });
        let config = read_back(&sink).unwrap().unwrap().config;
        assert_eq!(
            config,
            json!({
                "bootstrapServers": "a:1", "properties": { "security.protocol": "SSL" }, "topic": "dev-letters", "format": "json",
                "startFrom": "earliest", "stopAt": "latest", "commitMode": "off", "nullPayload": "error"
            })
        );
        assert!(read_back(&json!({ "bootstrapServers": "a:1", "topicColumn": "job" })).unwrap().is_none());
    }
}
