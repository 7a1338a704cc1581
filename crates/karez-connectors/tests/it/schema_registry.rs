//! The client of schema registries, against a real one (`cargo xtask services up schema-registry`).

mod answers;
mod kafka;
mod tls;

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use karez_connectors::schema_registry::{Part, SchemaRegistry, SchemaRegistryOptions};
use karez_core::metrics::NodeMetrics;
use karez_formats::message::{
    DecodePlan, DecodeRequest, EncodePlan, EncodeRequest, MessageDecoder, MessageEncoder, MessageFormat, Payloads, Registration, SchemaId, SchemaKind,
};
use karez_testkit::{Proxy, service, unique};
use serde_json::{Value, json};

fn options(more: Value) -> SchemaRegistryOptions {
    let mut all = json!({ "url": service("SCHEMA_REGISTRY_URL") });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

fn registry(more: Value) -> SchemaRegistry {
    SchemaRegistry::new(&options(more)).unwrap()
}

fn avro(fields: &str) -> Registration {
    let text = format!(r#"{{"type":"record","name":"Order","namespace":"shop","fields":[{fields}]}}"#);
    Registration { kind: SchemaKind::Avro, text, record_name: "shop.Order".to_owned() }
}

const ID: &str = r#"{"name":"id","type":"long"}"#;
const ITEM: &str = r#"{"name":"item","type":"string","default":"none"}"#;

/// What the API's other users do.
async fn call(method: reqwest::Method, path: &str, body: Value) -> Value {
    let url = format!("{}{path}", service("SCHEMA_REGISTRY_URL"));
    let request = reqwest::Client::new().request(method, url).header("Content-Type", "application/vnd.schemaregistry.v1+json");
    let answer = request.body(body.to_string()).send().await.unwrap();
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default()
}

fn format(json: Value) -> MessageFormat {
    serde_json::from_value(json).unwrap()
}

fn rows() -> RecordBatch {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("item", DataType::Utf8, true)]));
    RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(StringArray::from(vec![Some("tea"), None]))]).unwrap()
}

fn encoder(format: &MessageFormat) -> Box<dyn MessageEncoder> {
    EncodePlan::new(EncodeRequest { format, schema: &rows().schema(), registry: true }).unwrap().encoder().unwrap()
}

fn encode(encoder: &mut dyn MessageEncoder) -> Vec<Vec<u8>> {
    let mut out = Payloads::default();
    encoder.encode(&rows(), &mut out).unwrap();
    (0..2).map(|row| out.get(row).unwrap().to_vec()).collect()
}

fn decoder(format: &MessageFormat) -> Box<dyn MessageDecoder> {
    let schema = rows().schema();
    let request = DecodeRequest { format, schema: Some(&schema), registry: true, latest: None, null_payload: None };
    DecodePlan::new(request).unwrap().decoder().unwrap()
}

/// Decodes as a source does; gives the rows and what was bad.
async fn decode(registry: &SchemaRegistry, decoder: &mut dyn MessageDecoder, messages: &[Vec<u8>]) -> (Option<RecordBatch>, Vec<String>) {
    let messages: Vec<Option<&[u8]>> = messages.iter().map(|m| Some(m.as_slice())).collect();
    let (mut done, mut bad) = (0, Vec::new());
    loop {
        let progress = decoder.decode(&messages[done..], usize::MAX, &mut bad);
        done += progress.done;
        match progress.needs {
            Some(id) => registry.provide(decoder, id).await.unwrap(),
            None => break,
        }
    }
    assert_eq!(done, messages.len());
    (decoder.flush().unwrap().map(|d| d.batch), bad.into_iter().map(|b| b.reason).collect())
}

#[tokio::test]
async fn rows_of_every_format_are_written_and_read_through_the_registry() {
    for name in ["avro", "protobuf", "json"] {
        let (topic, registry, format) = (unique(name), registry(json!({})), format(json!(name)));
        let mut encoder = encoder(&format);
        registry.prepare(encoder.as_mut(), None, &topic, Part::Value).await.unwrap();
        let mut messages = encode(encoder.as_mut());
        messages.push([&[0][..], &999_999_u32.to_be_bytes(), b"x"].concat());
        let (read, bad) = decode(&registry, decoder(&format).as_mut(), &messages).await;
        assert_eq!(read.unwrap(), rows(), "{name}");
        assert_eq!(bad.len(), 1);
        assert!(bad[0].starts_with("schema 999999: the schema registry does not have it: "), "{bad:?}");
        let latest = registry.latest(&format!("{topic}-value")).await.unwrap().unwrap();
        assert_eq!(latest.schema.kind.name().to_lowercase(), name);
        // The same schema again has the same id.
        let mut again = self::encoder(&format);
        registry.prepare(again.as_mut(), None, &topic, Part::Value).await.unwrap();
        assert_eq!(encode(again.as_mut()), messages[..2]);
    }
}

#[tokio::test]
async fn messages_of_an_older_version_have_the_defaults_of_the_latest() {
    let (topic, registry) = (unique("evolution"), registry(json!({})));
    let subject = format!("{topic}-value");
    let old = registry.register(&subject, &avro(ID)).await.unwrap();
    let new = registry.register(&subject, &avro(&format!("{ID},{ITEM}"))).await.unwrap();
    assert_ne!(old, new);
    let messages = vec![[&[0][..], &old.0.to_be_bytes(), &[2]].concat(), [&[0][..], &new.0.to_be_bytes(), &[4, 6, b't', b'e', b'a']].concat()];
    let avro = format(json!("avro"));
    let options = registry.options().clone();
    // Planning is not asynchronous, and may happen on a thread of a runtime.
    let latest = options.latest_for(&avro, false, Some(&topic), Part::Value).unwrap();
    let request = DecodeRequest { format: &avro, schema: None, registry: true, latest: latest.as_ref(), null_payload: None };
    let plan = DecodePlan::new(request).unwrap();
    let (read, bad) = decode(&registry, plan.decoder().unwrap().as_mut(), &messages).await;
    assert_eq!(bad, [] as [String; 0]);
    let read = read.unwrap();
    assert_eq!(read.column(0).as_ref(), &Int64Array::from(vec![1, 2]) as &dyn arrow::array::Array);
    assert_eq!(read.column(1).as_ref(), &StringArray::from(vec!["none", "tea"]) as &dyn arrow::array::Array);
    let missing = options.latest_for(&avro, false, Some(&unique("missing")), Part::Value).unwrap_err().to_string();
    assert!(missing.contains("has no subject `missing_"), "{missing}");
}

#[tokio::test]
async fn a_schema_that_is_not_compatible_is_refused() {
    let (subject, registry) = (unique("compatibility"), registry(json!({})));
    registry.register(&subject, &avro(ID)).await.unwrap();
    call(reqwest::Method::PUT, &format!("/config/{subject}"), json!({ "compatibility": "BACKWARD" })).await;
    let fits = avro(&format!("{ID},{ITEM}"));
    let breaks = avro(&format!(r#"{ID},{{"name":"must","type":"string"}}"#));
    assert_eq!(registry.incompatible(&subject, &fits).await.unwrap(), None);
    assert!(registry.incompatible(&subject, &breaks).await.unwrap().is_some());
    let error = registry.register(&subject, &breaks).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert_eq!(registry.incompatible(&unique("nobody"), &breaks).await.unwrap(), None, "a subject that is not there takes any");
}

#[tokio::test]
async fn what_a_schema_refers_to_comes_with_it() {
    let (subject, registry) = (unique("references"), registry(json!({})));
    let city = r#"{"type":"record","name":"City","namespace":"geo","fields":[{"name":"name","type":"string"}]}"#;
    registry
        .register(&format!("{subject}-city"), &Registration { kind: SchemaKind::Avro, text: city.to_owned(), record_name: String::new() })
        .await
        .unwrap();
    let text = r#"{"type":"record","name":"Trip","fields":[{"name":"to","type":"geo.City"}]}"#;
    let references = json!([{ "name": "geo.City", "subject": format!("{subject}-city"), "version": 1 }]);
    let answer = call(
        reqwest::Method::POST,
        &format!("/subjects/{subject}/versions"),
        json!({ "schema": text, "schemaType": "AVRO", "references": references }),
    )
    .await;
    let id = SchemaId(u32::try_from(answer["id"].as_u64().unwrap_or_else(|| panic!("{answer}"))).unwrap());
    let schema = registry.schema(id).await.unwrap().unwrap();
    assert_eq!(schema.references.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["geo.City"]);
    let trip = format(json!("avro"));
    let columns: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("to", DataType::Struct(vec![Field::new("name", DataType::Utf8, false)].into()), false)]));
    let request = DecodeRequest { format: &trip, schema: Some(&columns), registry: true, latest: None, null_payload: None };
    let message = [&[0][..], &id.0.to_be_bytes(), &[8, b'H', b'a', b'm', b'i']].concat();
    let (read, bad) = decode(&registry, DecodePlan::new(request).unwrap().decoder().unwrap().as_mut(), &[message]).await;
    assert_eq!((read.map(|r| r.num_rows()), bad), (Some(1), Vec::new()));
}

#[tokio::test]
async fn subjects_are_named_as_the_strategy_says() {
    let topic = unique("strategy");
    for (strategy, part, given, expected) in [
        ("topic", Part::Key, None, format!("{topic}-key")),
        ("topic-record", Part::Value, None, format!("{topic}-{topic}.Order")),
        ("record", Part::Value, None, format!("{topic}.Order")),
        ("record", Part::Value, Some(format!("{topic}-own")), format!("{topic}-own")),
    ] {
        let registry = registry(json!({ "subjectStrategy": strategy }));
        let mut encoder = encoder(&format(json!({ "type": "avro", "recordName": "Order", "namespace": topic })));
        registry.prepare(encoder.as_mut(), given.as_deref(), &topic, part).await.unwrap();
        assert!(registry.latest(&expected).await.unwrap().is_some(), "{expected}");
    }
}

#[tokio::test]
async fn nothing_is_registered_unless_the_job_may() {
    let topic = unique("locked");
    let subject = format!("{topic}-value");
    let mut encoder = encoder(&format(json!("avro")));
    let locked = registry(json!({ "autoRegister": false }));
    let error = locked.prepare(encoder.as_mut(), None, &topic, Part::Value).await.unwrap_err().to_string();
    assert!(error.contains(&format!("the subject `{subject}` does not have the schema of the rows")), "{error}");
    assert_eq!(locked.latest(&subject).await.unwrap(), None);
    let registration = encoder.registration().unwrap().clone();
    let id = registry(json!({})).register(&subject, &registration).await.unwrap();
    locked.prepare(encoder.as_mut(), None, &topic, Part::Value).await.unwrap();
    assert_eq!(encode(encoder.as_mut())[0][1..5], id.0.to_be_bytes());

    let latest = registry(json!({ "useLatestVersion": true }));
    let mut unknown = self::encoder(&format(json!("avro")));
    let error = latest.prepare(unknown.as_mut(), None, &unique("nobody"), Part::Value).await.unwrap_err().to_string();
    assert!(error.contains("whose latest version is to be written"), "{error}");
    let wider = r#"{"name":"item","type":["null","string"],"default":null},{"name":"note","type":["null","string"],"default":null}"#;
    let wider = registry(json!({})).register(&subject, &avro(&format!("{ID},{wider}"))).await.unwrap();
    latest.prepare(unknown.as_mut(), None, &topic, Part::Value).await.unwrap();
    assert_eq!(encode(unknown.as_mut())[0], [&[0][..], &wider.0.to_be_bytes(), &[2, 2, 6, b't', b'e', b'a', 0]].concat());
}

#[tokio::test]
async fn a_registry_that_is_away_is_asked_again_until_it_is_back() {
    let url = service("SCHEMA_REGISTRY_URL");
    let registered = registry(json!({})).register(&unique("away"), &avro(ID)).await.unwrap();
    let server = url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    let proxy = Proxy::to(server);
    proxy.gone();
    let metrics: Arc<NodeMetrics> = Arc::default();
    let behind =
        registry(json!({ "url": proxy.url(&url), "external": { "retry": { "initialDelay": "1ms", "maxDelay": "20ms", "attempts": 10_000 } } }));
    let behind = behind.counted_by(Arc::clone(&metrics));
    let asking = tokio::spawn(async move { behind.schema(registered).await });
    while metrics.retried.get() < 3 {
        tokio::task::yield_now().await;
    }
    proxy.back();
    assert!(asking.await.unwrap().unwrap().is_ok());

    proxy.gone();
    let once = registry(json!({ "url": proxy.url(&url), "external": { "retry": { "attempts": 1 } } }));
    let error = once.schema(registered).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("asking for schema"), "{error}");
    assert!(once.check().await.is_err());
    registry(json!({})).check().await.unwrap();
}
