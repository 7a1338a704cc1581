//! What a row becomes: topic, partition, key, value, headers, timestamp; and rows that cannot become a message.

use arrow::array::{BinaryArray, Int8Array, Int32Array, MapBuilder, StringBuilder, TimestampMicrosecondArray};
use arrow::datatypes::TimeUnit;
use karez_core::{ChangeKind, ChangeMode};

use super::client::{Cluster, Message};
use super::*;

async fn write(job: &mut Job, batch: RecordBatch) -> Vec<BadRecord> {
    job.schema.arrow = batch.schema();
    let mut process = job.start(1).await;
    process.write(0, batch).await;
    let (committables, _) = process.barrier(1).await;
    commit(process.sink.as_ref(), &process.context, 1, &committables).await.unwrap();
    process.rejects
}

fn by_offset(mut messages: Vec<Message>) -> Vec<Message> {
    messages.sort_by_key(|m| (m.partition, m.offset));
    messages
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

#[tokio::test]
async fn values_are_json_unless_said_otherwise_and_keys_text_or_json() {
    let cluster = Cluster::shared().await;
    for (key, format, seen_key, seen_value) in [
        (json!(["name"]), json!("json"), "a", r#"{"id":1,"name":"a"}"#),
        (json!(["id"]), json!("json"), r#"{"id":1}"#, r#"{"id":1,"name":"a"}"#),
        (json!({ "columns": ["id", "name"], "format": "json" }), json!("json"), r#"{"id":1,"name":"a"}"#, r#"{"id":1,"name":"a"}"#),
    ] {
        let topic = cluster.topic(1).await;
        let mut job = Job::new(&cluster.bootstrap, &topic).at_least_once().with("key", key).with("format", format);
        assert!(write(&mut job, rows(&[(1, "a")])).await.is_empty());
        let messages = cluster.committed(&topic).await;
        assert_eq!((messages[0].key.as_deref(), messages[0].value.as_deref()), (Some(seen_key), Some(seen_value)));
    }
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).at_least_once().with("format", "raw").with("columns", json!(["name"]));
    assert!(write(&mut job, rows(&[(1, "bytes as they are")])).await.is_empty());
    assert_eq!(cluster.committed(&topic).await[0].value.as_deref(), Some("bytes as they are"));
}

#[tokio::test]
async fn rows_of_one_key_go_to_one_partition_and_keep_their_order() {
    let cluster = Cluster::shared().await;
    let topic = cluster.topic(4).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("key", json!(["name"])).with("batchSize", 200);
    let keys = ["a", "b", "c", "d", "e", "f", "g"];
    let all: Vec<(i64, &str)> = (0..700).map(|n| (n, keys[usize::try_from(n).unwrap() % keys.len()])).collect();
    write(&mut job, rows(&all)).await;
    let messages = by_offset(cluster.committed(&topic).await);
    assert_eq!(messages.len(), 700);
    for key in keys {
        let of_key: Vec<_> = messages.iter().filter(|m| m.key.as_deref() == Some(key)).collect();
        assert!(of_key.iter().all(|m| m.partition == of_key[0].partition));
        let ids: Vec<i64> =
            of_key.iter().map(|m| serde_json::from_str::<Value>(m.value.as_deref().unwrap()).unwrap()["id"].as_i64().unwrap()).collect();
        assert!(ids.is_sorted() && ids.len() == 100);
    }
}

#[tokio::test]
async fn rows_without_a_key_fill_one_batch_after_the_other_and_reach_every_partition() {
    let cluster = Cluster::shared().await;
    let topic = cluster.topic(3).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).at_least_once().with("batchSize", "1k");
    let all: Vec<(i64, &str)> = (0..600).map(|n| (n, "some text")).collect();
    write(&mut job, rows(&all)).await;
    let messages = cluster.committed(&topic).await;
    let counts: Vec<usize> = (0..3).map(|p| messages.iter().filter(|m| m.partition == p).count()).collect();
    assert!(counts.iter().sum::<usize>() == 600 && counts.iter().all(|c| (180..220).contains(c)), "{counts:?}");
}

#[tokio::test]
async fn a_column_names_topic_partition_timestamp_and_headers_of_each_row() {
    let cluster = Cluster::shared().await;
    let (prefix, one, two) = (karez_testkit::unique("p-"), "one", "two");
    cluster.create(&format!("{prefix}{one}"), 2, &[("retention.ms", "-1")]).await;
    cluster.create(&format!("{prefix}{two}"), 2, &[]).await;
    let mut pairs = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    pairs.keys().append_value("x");
    pairs.values().append_value("1");
    pairs.keys().append_value("x");
    pairs.values().append_null();
    pairs.append(true).unwrap();
    pairs.append(false).unwrap();
    pairs.append(true).unwrap();
    pairs.append(true).unwrap();
    let batch = batch(vec![
        ("name", Arc::new(StringArray::from(vec!["a", "b", "c", "d"]))),
        ("to", Arc::new(StringArray::from(vec![Some(one), Some(two), Some("nowhere"), None]))),
        ("part", Arc::new(Int32Array::from(vec![Some(1), Some(0), None, None]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(5_000_000), None, None, None]).with_timezone("UTC"))),
        ("trace", Arc::new(Int64Array::from(vec![Some(77), None, None, None]))),
        ("more", Arc::new(pairs.finish())),
    ]);
    let mut job = Job::new(&cluster.bootstrap, "").at_least_once();
    job.config = json!({
        "bootstrapServers": cluster.bootstrap, "topicColumn": "to", "topicPrefix": prefix, "partitionColumn": "part", "timestampColumn": "at",
        "headers": { "trace": "trace" }, "headersColumn": "more", "columns": ["name"],
    });
    let rejects = write(&mut job, batch).await;
    let (first, second) = (cluster.committed(&format!("{prefix}{one}")).await, cluster.committed(&format!("{prefix}{two}")).await);
    let header = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    assert_eq!((first[0].partition, first[0].timestamp_ms, first[0].name()), (1, 5_000, "a".to_owned()));
    assert_eq!(first[0].headers, [header("trace", Some("77")), header("x", Some("1")), header("x", None)]);
    assert_eq!((second[0].partition, second[0].timestamp_ms > 1_700_000_000_000), (0, true), "no timestamp: the time of writing");
    assert_eq!(second[0].headers, [header("trace", None)]);
    let reasons: Vec<_> = rejects.iter().map(|r| r.reason.as_str()).collect();
    assert!(reasons[0].contains("nowhere") && reasons[1].contains("names no topic"), "{reasons:?}");
    assert!(rejects[0].row.as_deref().unwrap().contains("\"c\""));
}

#[tokio::test]
async fn a_partition_that_the_topic_does_not_have_makes_a_bad_record() {
    let cluster = Cluster::shared().await;
    let topic = cluster.topic(2).await;
    let batch = batch(vec![("name", Arc::new(StringArray::from(vec!["a", "b"]))), ("part", Arc::new(Int64Array::from(vec![2, 1])))]);
    let mut job = Job::new(&cluster.bootstrap, &topic).with("partitionColumn", "part");
    let rejects = write(&mut job, batch).await;
    assert!(rejects.len() == 1 && rejects[0].reason.contains("no partition 2, only 0 to 1"), "{rejects:?}");
    assert_eq!(cluster.committed(&topic).await[0].value.as_deref(), Some(r#"{"name":"b"}"#), "the partition is no part of the value");
}

fn changes(of: &[(ChangeKind, i64, &str)]) -> RecordBatch {
    let visible = rows(&of.iter().map(|(_, id, name)| (*id, *name)).collect::<Vec<_>>());
    let kinds: ArrayRef = Arc::new(Int8Array::from_iter_values(of.iter().map(|(kind, ..)| *kind as i8)));
    let fields = visible.schema().fields().iter().cloned().chain([Arc::new(karez_core::schema::change_field())]).collect::<Vec<_>>();
    let columns = visible.columns().iter().cloned().chain([kinds]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[tokio::test]
async fn a_changelog_is_written_as_upserts_and_tombstones() {
    use ChangeKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    let cluster = Cluster::shared().await;
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("key", json!({ "columns": ["id"], "format": "json" }));
    job.schema.change_mode = ChangeMode::Changelog;
    let all = changes(&[
        (Insert, 1, "a"),
        (Insert, 2, "b"),
        (UpdateBefore, 1, "a"),
        (UpdateAfter, 1, "A"),
        (Delete, 2, "b"),
        // Its key changes: what is left of the old one must go.
        (UpdateBefore, 1, "A"),
        (UpdateAfter, 9, "A"),
    ]);
    assert!(write(&mut job, all).await.is_empty());
    let seen: Vec<_> = cluster.committed(&topic).await.into_iter().map(|m| (m.key.unwrap(), m.value)).collect();
    let value = |id: i64, name: &str| (format!(r#"{{"id":{id}}}"#), Some(format!(r#"{{"id":{id},"name":"{name}"}}"#)));
    let gone = |id: i64| (format!(r#"{{"id":{id}}}"#), None);
    assert_eq!(seen, [value(1, "a"), value(2, "b"), value(1, "A"), gone(2), gone(1), value(9, "A")]);
}

#[tokio::test]
async fn a_row_too_large_for_a_request_is_a_bad_record_and_the_others_are_written() {
    let cluster = Cluster::shared().await;
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("maxRequestSize", "2k");
    let large = "x".repeat(3_000);
    let rejects = write(&mut job, rows(&[(1, "a"), (2, &large), (3, "b")])).await;
    assert!(rejects.len() == 1 && rejects[0].reason.contains("`maxRequestSize` (2048)"), "{rejects:?}");
    assert!(rejects[0].row.as_deref().unwrap().contains("\"id\":2"));
    assert_eq!(names(&cluster, &topic).await, ["a", "b"]);
}

/// Only the broker knows the topic's limit: the batch is halved until the row is alone.
#[tokio::test]
async fn a_row_too_large_for_its_topic_is_found_and_the_rest_of_its_batch_is_written() {
    let cluster = Cluster::shared().await;
    for exactly_once in [true, false] {
        let topic = cluster.topic_with(1, &[("max.message.bytes", "2000")]).await;
        let mut job = Job::new(&cluster.bootstrap, &topic).with("key", json!(["name"]));
        job.exactly_once = exactly_once;
        let large = "x".repeat(3_000);
        let short: Vec<String> = (10..60).map(|n| format!("row {n}")).collect();
        let mut all: Vec<(i64, &str)> = short.iter().map(|s| (1, s.as_str())).collect();
        all.insert(20, (2, &large));
        let rejects = write(&mut job, rows(&all)).await;
        assert!(rejects.len() == 1 && rejects[0].reason.contains("max.message.bytes"), "{rejects:?}");
        assert!(rejects[0].raw.as_ref().unwrap().ends_with(b"xxx\"}"));
        let messages = by_offset(cluster.committed(&topic).await);
        assert_eq!(messages.iter().map(Message::name).collect::<Vec<_>>(), short, "in their order, once");
    }
}

#[tokio::test]
async fn a_row_of_a_time_that_its_topic_does_not_take_is_a_bad_record_and_the_others_are_written() {
    let cluster = Cluster::shared().await;
    let hour = "3600000";
    let topic = cluster.topic_with(1, &[("message.timestamp.before.max.ms", hour), ("message.timestamp.after.max.ms", hour)]).await;
    let now_ms = SystemClock.now_ms();
    let times = [now_ms, now_ms - 2 * 3_600_000, now_ms + 1, now_ms + 2 * 3_600_000, now_ms - 1];
    let batch = batch(vec![
        ("name", Arc::new(StringArray::from(vec!["now", "long ago", "soon", "some day", "just now"]))),
        ("at", Arc::new(Int64Array::from(times.to_vec()))),
    ]);
    let mut job = Job::new(&cluster.bootstrap, &topic).with("timestampColumn", "at");
    let rejects = write(&mut job, batch).await;
    let refused: Vec<_> = rejects.iter().map(|r| String::from_utf8_lossy(r.raw.as_ref().unwrap()).into_owned()).collect();
    assert!(refused.len() == 2 && refused[0].contains("long ago") && refused[1].contains("some day"), "{rejects:?}");
    assert!(rejects[0].reason.contains("timestamp"), "{rejects:?}");
    assert_eq!(names(&cluster, &topic).await, ["just now", "now", "soon"]);
}

#[tokio::test]
async fn a_compacted_topic_refuses_rows_without_a_key_alone() {
    let cluster = Cluster::shared().await;
    let topic = cluster.topic_with(1, &[("cleanup.policy", "compact")]).await;
    let batch =
        batch(vec![("k", Arc::new(StringArray::from(vec![Some("a"), None, Some("b")]))), ("name", Arc::new(StringArray::from(vec!["1", "2", "3"])))]);
    let mut job = Job::new(&cluster.bootstrap, &topic).with("key", json!(["k"]));
    let rejects = write(&mut job, batch).await;
    assert!(rejects.len() == 1 && rejects[0].reason.contains("compacted"), "{rejects:?}");
    assert_eq!(names(&cluster, &topic).await, ["1", "3"]);
}

#[tokio::test]
async fn all_types_unicode_nulls_empty_and_large_batches_are_written() {
    let cluster = Cluster::shared().await;
    let topic = cluster.topic(2).await;
    let mut job = Job::new(&cluster.bootstrap, &topic);
    let mixed = batch(vec![
        ("name", Arc::new(StringArray::from(vec![Some("坎儿井"), None, Some("")]))),
        ("bytes", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\x00\xff"), None, Some(b"")]))),
        ("at", Arc::new(arrow::array::TimestampMillisecondArray::from(vec![Some(0), None, Some(-1)]).with_timezone("UTC"))),
        ("day", Arc::new(arrow::array::Date32Array::from(vec![Some(0), None, Some(-1)]))),
        ("sum", Arc::new(arrow::array::Decimal128Array::from(vec![Some(12_345), None, Some(-1)]).with_precision_and_scale(20, 2).unwrap())),
        ("yes", Arc::new(arrow::array::BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("ratio", Arc::new(arrow::array::Float64Array::from(vec![Some(0.5), None, Some(-0.0)]))),
    ]);
    assert_eq!(mixed.schema().field(2).data_type(), &DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())));
    assert!(write(&mut job, mixed.slice(0, 0)).await.is_empty());
    assert!(write(&mut job, mixed).await.is_empty());
    assert_eq!(cluster.committed(&topic).await.len(), 3);

    let topic = cluster.topic(2).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("bufferMemory", "256k");
    let text = "y".repeat(200);
    let huge: Vec<(i64, &str)> = (0..20_000).map(|n| (n, text.as_str())).collect();
    assert!(write(&mut job, rows(&huge)).await.is_empty());
    assert_eq!(cluster.committed(&topic).await.len(), 20_000);
}
