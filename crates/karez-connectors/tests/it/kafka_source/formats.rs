//! What records hold: values, keys, headers, nothing at all; small, huge, compressed.

use karez_core::schema::ORIGIN_COLUMN;
use krafka::Compression;
use serde_json::json;

use super::*;

async fn rows(config: &Value, schema: &SchemaRef) -> Vec<String> {
    let mut job = Job::start(config, schema).await;
    job.settle().await;
    job.rows.into_values().flatten().collect()
}

#[tokio::test]
async fn every_compression_is_read() {
    let topic = Topic::new(1).await;
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for (i, codec) in (0_i64..).zip(codecs) {
        let producer = topic.kafka.producer().compression(codec).linger(Duration::from_millis(20)).build().await.unwrap();
        let mut handles = Vec::new();
        for n in i * 100..i * 100 + 100 {
            let record = topic.record(0, json!({ "n": n, "padding": "x".repeat(100) }).to_string()).key(n.to_string()).header("h", n.to_string());
            handles.push(producer.enqueue(record).await.unwrap());
        }
        for handle in handles {
            let _ = handle.await.unwrap();
        }
        producer.close().await.unwrap();
    }
    let config = topic.config(json!({ "metadata": ["offset", "key", "headers"] }));
    let mut job = Job::start(&config, &numbers()).await;
    job.limit.rows = 37;
    job.settle().await;
    let rows: Vec<String> = job.rows.into_values().flatten().collect();
    let hex = |n: i64| n.to_string().bytes().map(|b| format!("{b:02x}")).collect::<String>();
    let expected: Vec<String> = (0..500).map(|n| format!("{n}|{n}|{}|[{{key: h, value: {}}}]", hex(n), hex(n))).collect();
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn metadata_become_columns() {
    let topic = Topic::new(2).await;
    topic.send([topic.record(1, "{\"n\":1}").timestamp(1_700_000_000_123).key("k").header("a", "1").null_header("b").header("a", "2")]).await;
    topic.send([topic.record(1, "{\"n\":2}").timestamp(1_700_000_000_124)]).await;
    let names = json!(["topic", "partition", "offset", "timestamp", "timestampType", "key", "headers"]);
    let t = &topic.name;
    assert_eq!(
        rows(&topic.config(json!({ "metadata": names })), &numbers()).await,
        [
            format!("1|{t}|1|0|2023-11-14T22:13:20.123Z|CreateTime|6b|[{{key: a, value: 31}}, {{key: b, value: }}, {{key: a, value: 32}}]"),
            format!("2|{t}|1|1|2023-11-14T22:13:20.124Z|CreateTime||[]"),
        ]
    );
    let renamed = topic.config(json!({ "metadata": { "at": "timestamp", "no": "offset" } }));
    let source = try_source(&renamed, Some(&numbers()), false).unwrap();
    let schema = source.schema().arrow;
    assert_eq!(schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["n", "at", "no"]);
    let narrow = source.project(&[0, 2]).unwrap();
    let mut job = Job::new(narrow, false, None).await.unwrap();
    job.settle().await;
    assert_eq!(job.rows.into_values().flatten().collect::<Vec<_>>(), ["1|0", "2|1"]);
}

#[tokio::test]
async fn a_letter_is_decoded_again_from_its_bytes_only_where_they_and_its_origin_are_all_there_is() {
    let topic = Topic::new(1).await;
    let source = |metadata| try_source(&topic.config(json!({ "metadata": metadata })), Some(&numbers()), false).unwrap();
    let mut decoder = source(json!(["topic", "partition", "offset"])).letter_decoder().unwrap();
    let row = decoder.decode(b"{\"n\":7}", Some("topic=orders partition=3 offset=42")).await.unwrap();
    assert_eq!(rows_of(&row), ["7|orders|3|42"]);
    for key in ["timestamp", "timestampType", "key", "headers"] {
        let refused = source(json!({ "of_message": key })).letter_decoder().err().unwrap().to_string();
        assert!(refused.contains("`of_message`") && refused.contains("give the letter a `row`"), "{refused}");
    }
}

#[tokio::test]
async fn the_brokers_own_time_is_the_timestamp_where_it_sets_it() {
    let topic = Topic::with(1, &[("message.timestamp.type", "LogAppendTime")]).await;
    topic.send([topic.record(0, "{\"n\":1}").timestamp(5)]).await;
    let rows = rows(&topic.config(json!({ "metadata": ["timestamp", "timestampType"] })), &numbers()).await;
    assert!(rows[0].ends_with("|LogAppendTime") && !rows[0].contains("1970"), "{rows:?}");
}

#[tokio::test]
async fn a_bad_record_has_its_origin_and_its_bytes_and_harms_no_other() {
    let topic = Topic::new(1).await;
    topic.write(0, ["{\"n\":0}".into(), "no JSON".into(), "{\"n\":2}".into()]).await;
    let source = try_source(&topic.config(json!({})), Some(&numbers()), false).unwrap();
    let mut job = Job::new(source, true, None).await.unwrap();
    job.settle().await;
    let t = &topic.name;
    assert_eq!(job.bad.len(), 1);
    assert_eq!(job.bad[0].origin.as_deref(), Some(format!("topic={t} partition=0 offset=1").as_str()));
    assert_eq!(job.bad[0].raw.as_deref(), Some(&b"no JSON"[..]));
    let rows: Vec<String> = job.rows.into_values().flatten().collect();
    assert_eq!(rows, [format!("0|topic={t} partition=0 offset=0"), format!("2|topic={t} partition=0 offset=2")]);
    assert!(ORIGIN_COLUMN.starts_with("__"));
}

#[tokio::test]
async fn tombstones_are_skipped_and_counted_or_rows_of_nulls_or_bad() {
    let topic = Topic::new(1).await;
    topic.write(0, ["{\"n\":0}".into()]).await;
    topic.send([Record::tombstone(&topic.name, "k").partition(0)]).await;
    topic.write(0, ["{\"n\":2}".into()]).await;
    let mut job = Job::start(&topic.config(json!({})), &numbers()).await;
    assert_eq!(job.settle().await.take(), ["0", "2"]);
    assert_eq!(job.figure("null_payloads"), 1);
    let null = topic.config(json!({ "nullPayload": "null-row", "metadata": ["offset", "key"] }));
    assert_eq!(rows(&null, &numbers()).await, ["0|0|", "|1|6b", "2|2|"]);
    let mut job = Job::start(&topic.config(json!({ "nullPayload": "error" })), &numbers()).await;
    job.settle().await;
    assert_eq!((job.take().len(), job.bad.len()), (2, 1));
    assert_eq!(rows(&topic.config(json!({ "format": "raw" })), &text()).await, ["{\"n\":0}", "", "{\"n\":2}"]);
}

#[tokio::test]
async fn a_topic_of_tombstones_alone_is_caught_up_with() {
    let topic = Topic::new(1).await;
    topic.send((0..3000).map(|n| Record::tombstone(&topic.name, n.to_string()).partition(0))).await;
    let mut job = Job::start(&topic.config(json!({})), &numbers()).await;
    job.limit.rows = 100;
    job.settle().await;
    assert_eq!((job.take().len(), job.figure("null_payloads")), (0, 3000));
    assert_eq!(job.positions()[0].position["offset"], 3000);
}

#[tokio::test]
async fn empty_huge_and_unicode_values_are_read_as_they_are() {
    let settings = [("max.message.bytes", "12000000")];
    let topic = Topic::with(2, &settings).await;
    let huge = "ü".repeat(4_000_000);
    let producer = topic.kafka.producer().max_request_size(12_000_000).build().await.unwrap();
    for value in ["", "坎儿井 🚰", &huge, "behind it"] {
        let _ = producer.send(topic.record(0, value.to_owned())).await.unwrap();
        let _ = producer.send(topic.record(1, value.to_owned())).await.unwrap();
    }
    let config = topic.config(json!({ "format": "raw", "properties": { "max.partition.fetch.bytes": 1000, "fetch.max.bytes": 1000 } }));
    let mut job = Job::start(&config, &text()).await;
    job.read(8).await;
    for rows in job.rows.values() {
        assert!(rows == &["", "坎儿井 🚰", &huge, "behind it"], "lengths {:?}", rows.iter().map(String::len).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn without_columns_values_are_bytes() {
    let topic = Topic::new(1).await;
    topic.write(0, ["ab".into()]).await;
    let source = try_source(&topic.config(json!({})), None, false).unwrap();
    assert_eq!(source.schema().arrow.field(0).data_type(), &DataType::Binary);
    let mut job = Job::new(source, false, None).await.unwrap();
    job.settle().await;
    assert_eq!(job.take(), ["6162"]);
}

#[tokio::test]
async fn reads_keep_to_max_poll_records_and_buffers_to_their_size() {
    let topic = Topic::new(1).await;
    topic.write(0, (0..2000).map(|n| json!({ "n": n, "padding": "x".repeat(1000) }).to_string())).await;
    let properties = json!({ "max.poll.records": 50, "max.partition.fetch.bytes": 100_000, "fetch.max.bytes": 100_000 });
    let config = topic.config(json!({ "properties": properties, "bufferSize": "64k" }));
    let mut job = Job::start(&config, &numbers()).await;
    let mut before = 0;
    let deadline = Instant::now() + PATIENCE;
    while before < 2000 {
        if job.step().await.unwrap() != Step::Rows {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let now = job.rows.values().map(Vec::len).sum::<usize>();
        assert!(now - before <= 50 && Instant::now() < deadline);
        before = now;
    }
    assert_eq!(job.take(), texts(0..2000));
}
