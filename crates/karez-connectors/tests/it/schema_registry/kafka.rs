//! Both ends of a topic whose messages name schemas of the registry.

use karez_core::config::ConfigErrors;
use karez_testkit::{service, unique};
use serde_json::{Value, json};

use super::{SchemaId, avro, registry};
use crate::kafka_sink;
use crate::kafka_source::{Job, Topic, try_source};

fn with_registry(topic: &Topic, more: Value) -> Value {
    let mut config = topic.config(json!({ "schemaRegistry": { "url": service("SCHEMA_REGISTRY_URL") } }));
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// Writes rows to the topic by the sink.
async fn write(topic: &Topic, format: &str, rows: &[(i64, &str)]) {
    let mut job = kafka_sink::Job::new(&crate::kafka_source::bootstrap(), &topic.name)
        .at_least_once()
        .with("format", format)
        .with("key", json!({ "columns": ["id"], "format": { "type": "json", "framing": "none" } }))
        .with("schemaRegistry", json!({ "url": service("SCHEMA_REGISTRY_URL") }));
    let mut process = job.start(1).await;
    process.write(0, kafka_sink::rows(rows)).await;
    process.barrier(1).await;
    assert!(process.rejects.is_empty());
}

/// All rows of the topic, and why messages were bad.
async fn read(config: &Value, declared: bool) -> (Vec<String>, Vec<String>) {
    let columns = kafka_sink::two_columns();
    let source = try_source(config, declared.then_some(&columns), false).unwrap();
    source.check().await.unwrap();
    let mut job = Job::new(source, true, None).await.unwrap();
    job.settle().await;
    let mut rows: Vec<String> = job.rows.into_values().flatten().collect();
    // Behind the last bar is the origin.
    rows.iter_mut().for_each(|row| row.truncate(row.rfind('|').unwrap()));
    (rows, job.bad.into_iter().map(|b| b.reason).collect())
}

#[tokio::test]
async fn rows_go_through_a_topic_in_every_format_of_the_registry() {
    for format in ["avro", "protobuf", "json"] {
        let topic = Topic::new(1).await;
        write(&topic, format, &[(1, "a"), (2, "b")]).await;
        let config = with_registry(&topic, json!({ "format": format }));
        assert_eq!(read(&config, true).await, (vec!["1|a".to_owned(), "2|b".to_owned()], Vec::new()), "{format}");
    }
}

#[tokio::test]
async fn columns_are_those_of_the_latest_version_and_unknown_ids_are_bad_records() {
    let topic = Topic::new(1).await;
    write(&topic, "avro", &[(1, "a")]).await;
    topic.send([topic.record(0, [&[0][..], &999_999_u32.to_be_bytes(), &[2]].concat())]).await;
    write(&topic, "avro", &[(2, "b")]).await;
    let config = with_registry(&topic, json!({ "format": "avro" }));
    let (rows, bad) = read(&config, false).await;
    assert_eq!(rows, ["1|a", "2|b"]);
    assert!(bad.len() == 1 && bad[0].starts_with("schema 999999: the schema registry does not have it"), "{bad:?}");
    let schema = registry(json!({})).latest(&format!("{}-value", topic.name)).await.unwrap().unwrap();
    assert_ne!(schema.id, SchemaId(0));
}

#[tokio::test]
async fn a_sink_whose_schema_is_not_compatible_does_not_start() {
    let topic = Topic::new(1).await;
    let subject = format!("{}-value", topic.name);
    let id_is_text = avro(r#"{"name":"id","type":"string"}"#);
    registry(json!({})).register(&subject, &id_is_text).await.unwrap();
    super::call(reqwest::Method::PUT, &format!("/config/{subject}"), json!({ "compatibility": "FULL" })).await;
    let mut job = kafka_sink::Job::new(&crate::kafka_source::bootstrap(), &topic.name)
        .at_least_once()
        .with("format", json!({ "type": "avro", "recordName": "Order", "namespace": "shop" }))
        .with("schemaRegistry", json!({ "url": service("SCHEMA_REGISTRY_URL") }));
    let Err(error) = job.try_start(1).await else { panic!("it has started") };
    assert!(error.to_string().contains("is not compatible with the versions of its subject"), "{error}");
}

#[test]
fn a_registry_that_is_of_no_use_is_refused() {
    let config = |more: Value| {
        let mut config = json!({ "bootstrapServers": "localhost:1", "topic": unique("t"), "schemaRegistry": { "url": "http://localhost:1" } });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let columns = kafka_sink::two_columns();
    let source = |more: Value| try_source(&config(more), Some(&columns), false).map(drop).unwrap_err();
    let ConfigErrors(errors) = source(json!({ "format": "csv" }));
    assert_eq!(
        errors[0].to_string(),
        "`schemaRegistry`: messages of `csv` name no schema of a registry; leave it out, or use `avro`, `protobuf` or `json`"
    );
    let errors = source(json!({ "format": "avro", "schemaRegistry": { "url": "localhost" } })).to_string();
    assert!(errors.contains("`schemaRegistry.url`"), "{errors}");
    let input = karez_core::StreamSchema::append_only(columns.clone());
    let sink = |config: Value| kafka_sink::try_sink(&config, &input, false).map(drop).unwrap_err();
    let error = sink(config(json!({ "format": "csv" })));
    assert!(error.starts_with("`schemaRegistry`: neither values nor keys have a format that names schemas of a registry"), "{error}");
    let mut by_column = config(json!({ "format": "avro", "topicColumn": "name" }));
    by_column.as_object_mut().unwrap().remove("topic");
    let error = sink(by_column);
    assert!(error.starts_with("`format.subject`: is missing: with `topicColumn` there is no one topic"), "{error}");
}
