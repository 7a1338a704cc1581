//! Rows of transactions.

use krafka::producer::TransactionalProducer;
use serde_json::json;

use super::*;

async fn producer(topic: &Topic) -> TransactionalProducer {
    let timeouts = topic.kafka.producer().transaction_timeout(Duration::from_secs(60)).delivery_timeout(Duration::from_secs(45));
    timeouts.build_transactional(unique("tx")).await.unwrap()
}

async fn send(producer: &TransactionalProducer, topic: &Topic, numbers: std::ops::Range<i64>) {
    for n in numbers {
        let _ = producer.send(topic.record(0, json!({ "n": n }).to_string())).await.unwrap();
    }
}

#[tokio::test]
async fn rows_of_aborted_transactions_are_left_out() {
    let topic = Topic::new(1).await;
    let producer = producer(&topic).await;
    producer.begin().unwrap();
    send(&producer, &topic, 0..5).await;
    producer.commit().await.unwrap();
    producer.begin().unwrap();
    send(&producer, &topic, 100..105).await;
    producer.abort().await.unwrap();
    topic.count(0, 5..8).await;
    producer.begin().unwrap();
    send(&producer, &topic, 8..10).await;
    producer.commit().await.unwrap();
    let mut job = Job::start(&topic.config(json!({})), &numbers()).await;
    assert_eq!(job.settle().await.take(), texts(0..10));
    let saved = job.save();
    let mut again = Job::restore(&topic.config(json!({})), &numbers(), &saved).await;
    assert!(again.settle().await.take().is_empty());
    let all = topic.config(json!({ "isolationLevel": "read_uncommitted" }));
    assert_eq!(Job::start(&all, &numbers()).await.settle().await.take().len(), 15);
}

#[tokio::test]
async fn rows_of_an_open_transaction_wait_for_its_end() {
    let topic = Topic::new(1).await;
    let producer = producer(&topic).await;
    topic.count(0, 0..3).await;
    producer.begin().unwrap();
    send(&producer, &topic, 3..6).await;
    topic.count(0, 6..9).await;
    let mut job = Job::start(&topic.config(json!({})), &numbers()).await;
    assert_eq!(job.settle().await.take(), texts(0..3), "those behind wait, too: order is kept");
    producer.commit().await.unwrap();
    assert_eq!(job.read(6).await.take(), texts(3..9));
}

#[tokio::test]
async fn two_transactions_that_overlap_are_told_apart() {
    let topic = Topic::new(1).await;
    let (kept, dropped) = (producer(&topic).await, producer(&topic).await);
    kept.begin().unwrap();
    dropped.begin().unwrap();
    for n in 0..5 {
        send(&kept, &topic, n..n + 1).await;
        send(&dropped, &topic, n + 100..n + 101).await;
    }
    dropped.abort().await.unwrap();
    send(&kept, &topic, 5..6).await;
    kept.commit().await.unwrap();
    assert_eq!(Job::start(&topic.config(json!({})), &numbers()).await.settle().await.take(), texts(0..6));
}

#[tokio::test]
async fn a_bounded_read_ends_behind_an_aborted_tail() {
    let topic = Topic::new(1).await;
    let producer = producer(&topic).await;
    topic.count(0, 0..3).await;
    producer.begin().unwrap();
    send(&producer, &topic, 100..105).await;
    producer.abort().await.unwrap();
    let source = try_source(&topic.config(json!({})), Some(&numbers()), true).unwrap();
    let mut job = Job::new(source, false, None).await.unwrap();
    job.settle().await;
    assert_eq!((job.take(), job.partitions()), (texts(0..3), 0));
}

/// Answers come with and without records, the last stable offset moves all the time, and rows of aborted transactions lie between: none is passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_appended_while_they_are_read_are_not_passed_over() {
    const PRODUCERS: i64 = 3;
    const ROUNDS: i64 = 40;
    const ABORTED: i64 = 1_000_000;
    let topic = Topic::new(1).await;
    // Each writes numbers of its own, three a transaction, and aborts every fourth.
    let writing = futures::future::join_all((0..PRODUCERS).map(|who| {
        let topic = &topic;
        async move {
            let producer = producer(topic).await;
            for round in 0..ROUNDS {
                let first = who * 10_000 + round * 3;
                producer.begin().unwrap();
                if round % 4 == 3 {
                    send(&producer, topic, ABORTED + first..ABORTED + first + 3).await;
                    producer.abort().await.unwrap();
                } else {
                    send(&producer, topic, first..first + 3).await;
                    producer.commit().await.unwrap();
                }
            }
        }
    }));
    let plain = async {
        for n in 0..ROUNDS {
            topic.count(0, 90_000 + n..90_000 + n + 1).await;
        }
    };
    let expected: Vec<i64> = (0..PRODUCERS)
        .flat_map(|who| (0..ROUNDS).filter(|round| round % 4 != 3).flat_map(move |round| (0..3).map(move |i| who * 10_000 + round * 3 + i)))
        .chain(90_000..90_000 + ROUNDS)
        .collect();
    // Brokers answer at once, whether there is something or not.
    let config = topic.config(json!({ "properties": { "fetch.min.bytes": 0, "fetch.max.wait.ms": 0 } }));
    let mut job = Job::start(&config, &numbers()).await;
    let reading = async { job.read(expected.len()).await.settle().await.rows.clone() };
    let (_, (), rows) = tokio::join!(writing, plain, reading);
    let rows: Vec<i64> = rows.into_values().flatten().map(|n| n.parse().unwrap()).collect();
    let of = |who: i64| rows.iter().copied().filter(move |n| n / 10_000 == who).collect::<Vec<_>>();
    for who in [0, 1, 2, 9] {
        let expected: Vec<i64> = expected.iter().copied().filter(|n| n / 10_000 == who).collect();
        assert_eq!(of(who), expected, "in the order of their producer");
    }
    assert_eq!(rows.len(), expected.len());
}
