//! How many records a CPU second of this process reads. To be run by hand, alone, and built with optimisation:
//! `CARGO_PROFILE_TEST_OPT_LEVEL=3 cargo test … --test connectors -- kafka_source::speed --ignored --nocapture`.

use std::collections::HashMap;

use arrow::array::AsArray;
use serde_json::json;

use super::*;

const PARTITIONS: i32 = 2;
const RECORDS: usize = 1_500_000;
const ROUNDS: usize = 5;

/// CPU time of this process, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

async fn fill(topic: &Topic) {
    let producer = topic.kafka.producer().batch_size(900_000).linger(Duration::from_millis(50)).build().await.unwrap();
    for n in 0..RECORDS {
        let mut value = json!({ "id": n, "user": format!("user-{}", n % 1000), "amount": n % 977, "city": "Turpan" }).to_string();
        value.truncate(value.len() - 1);
        value.push_str(&format!(",\"note\":\"{}\"}}", "x".repeat(250 - value.len() - 11)));
        // `flush` waits for all of them.
        drop(producer.enqueue(topic.record(i32::try_from(n).unwrap() % PARTITIONS, value)).await.unwrap());
    }
    producer.flush().await.unwrap();
    producer.close().await.unwrap();
}

async fn bare(topic: &Topic) -> f64 {
    let consumer = kafka().await.consumer_without_group().max_poll_records(8192).build().await.unwrap();
    let all: Vec<i32> = (0..PARTITIONS).collect();
    consumer.assign(&topic.name, all.clone()).await.unwrap();
    for partition in all {
        consumer.seek(&topic.name, partition, 0).await.unwrap();
    }
    let before = cpu_seconds();
    let (mut count, mut bytes) = (0, 0);
    while count < RECORDS {
        for record in consumer.poll(Duration::from_secs(1)).await.unwrap() {
            count += 1;
            bytes += record.value.as_ref().map_or(0, |v| v.len());
        }
    }
    assert!(bytes > RECORDS * 240);
    let spent = cpu_seconds() - before;
    consumer.close().await.unwrap();
    spent
}

async fn ours(topic: &Topic, schema: Option<&SchemaRef>, columns: &[usize], each: &mut dyn FnMut(&RecordBatch)) -> f64 {
    let source = try_source(&topic.config(json!({})), schema, true).unwrap();
    let source = if columns.is_empty() { source } else { source.project(columns).unwrap_or(source) };
    let before = cpu_seconds();
    let mut enumerator = source.enumerator(None).await.unwrap();
    let mut readers = Vec::new();
    for split in enumerator.discover().await.unwrap().splits {
        let context = ReaderContext { with_origin: false, metrics: Arc::default(), clock: Arc::new(ManualClock::new(0)) };
        readers.push(source.open(&split, context).await.unwrap());
    }
    let limit = ReadLimit { rows: 8192, bytes: 4 << 20 };
    let mut count = 0;
    while !readers.is_empty() {
        let (mut i, mut any) = (0, false);
        while i < readers.len() {
            match readers[i].next(limit).await.unwrap() {
                Read::Rows { batch, .. } => {
                    any = true;
                    count += batch.num_rows();
                    each(&batch);
                }
                Read::Nothing | Read::Pending => {}
                Read::End => {
                    drop(readers.remove(i));
                    continue;
                }
            }
            i += 1;
        }
        if !any {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(count, RECORDS);
    cpu_seconds() - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn records_per_cpu_second() {
    let topic = Topic::new(PARTITIONS).await;
    fill(&topic).await;
    let columns = |names: &[(&str, DataType)]| Arc::new(Schema::new(names.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()));
    let parsed = columns(&[("id", DataType::Int64), ("user", DataType::Utf8), ("amount", DataType::Int64)]);
    let millions = |seconds: f64| RECORDS as f64 / seconds / 1e6;
    for _ in 0..ROUNDS {
        let bare = bare(&topic).await;
        let raw = ours(&topic, None, &[], &mut |_| {}).await;
        let mut counts: HashMap<String, u64> = HashMap::new();
        let json = ours(&topic, Some(&parsed), &[1], &mut |batch| {
            for user in batch.column(0).as_string::<i32>().iter().flatten() {
                match counts.get_mut(user) {
                    Some(n) => *n += 1,
                    None => drop(counts.insert(user.to_owned(), 1)),
                }
            }
        })
        .await;
        assert_eq!(counts.len(), 1000);
        println!(
            "M records per CPU second: bare {:.2}, consume and count {:.2} ({:.2}), parse and count per key {:.2}",
            millions(bare),
            millions(raw),
            bare / raw,
            millions(json)
        );
    }
    topic.delete().await;
}
