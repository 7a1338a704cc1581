//! How many messages a CPU second of this process writes. To be run by hand, alone, and built with optimisation:
//! `CARGO_PROFILE_TEST_OPT_LEVEL=3 cargo test … --test connectors -- kafka_sink::speed --ignored --nocapture`.

use krafka::Record;

use super::client::Cluster;
use super::*;

const MESSAGES: usize = 1_000_000;
const BATCH: usize = 8_192;
const ROUNDS: usize = 3;

/// CPU time of this process, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn note(n: usize) -> String {
    format!("{n:0>200}")
}

/// Values of about 250 bytes as JSON.
fn value(n: usize) -> String {
    json!({ "id": n, "user": format!("user-{}", n % 1000), "note": note(n) }).to_string()
}

/// The client's own producer, with large batches.
async fn bare(cluster: &Cluster) -> f64 {
    let topic = cluster.topic(2).await;
    let values: Vec<String> = (0..BATCH).map(value).collect();
    let producer = cluster.kafka.producer().batch_size(900_000).linger(Duration::from_millis(50)).build().await.unwrap();
    let before = cpu_seconds();
    for n in 0..MESSAGES {
        drop(producer.enqueue(Record::new(topic.as_str(), values[n % BATCH].clone())).await.unwrap());
    }
    producer.flush().await.unwrap();
    let spent = cpu_seconds() - before;
    producer.close().await.unwrap();
    cluster.delete(&topic).await;
    spent
}

async fn ours(cluster: &Cluster, batch: &RecordBatch, format: &str, exactly_once: bool, key: Option<&str>) -> f64 {
    let topic = cluster.topic(2).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("format", format).with("linger", "50ms");
    (job.schema.arrow, job.exactly_once) = (batch.schema(), exactly_once);
    if let Some(key) = key {
        job = job.with("key", json!([key]));
    }
    let mut process = job.start(1).await;
    let before = cpu_seconds();
    for n in 0..MESSAGES / BATCH {
        process.write(0, batch.clone()).await;
        if n % 40 == 39 {
            job.checkpoint(&mut process).await;
            job.commit(&process).await;
        }
    }
    job.checkpoint(&mut process).await;
    job.commit(&process).await;
    let spent = cpu_seconds() - before;
    process.writers[0].close().await.unwrap();
    cluster.delete(&topic).await;
    spent * MESSAGES as f64 / (MESSAGES / BATCH * BATCH) as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn messages_per_cpu_second() {
    let cluster = Cluster::shared().await;
    let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..BATCH).map(value)));
    let texts = RecordBatch::try_from_iter([("value", text)]).unwrap();
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..BATCH as i64))),
        ("user", Arc::new(StringArray::from_iter_values((0..BATCH).map(|n| format!("user-{}", n % 1000))))),
        ("note", Arc::new(StringArray::from_iter_values((0..BATCH).map(note)))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let millions = |seconds: f64| MESSAGES as f64 / seconds / 1e6;
    for _ in 0..ROUNDS {
        let bare = bare(&cluster).await;
        let raw = ours(&cluster, &texts, "raw", false, None).await;
        let json = ours(&cluster, &rows, "json", false, None).await;
        let keyed = ours(&cluster, &rows, "json", false, Some("user")).await;
        let exactly_once = ours(&cluster, &rows, "json", true, None).await;
        println!(
            "M messages per CPU second: bare {:.2}, raw {:.2}, json {:.2}, json by key {:.2}, json exactly once {:.2}",
            millions(bare),
            millions(raw),
            millions(json),
            millions(keyed),
            millions(exactly_once)
        );
    }
}
