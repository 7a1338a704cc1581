//! Reads that end.

use karez_core::source::Boundedness;
use krafka::admin::{ListConsumerGroupOffsetsOptions, TopicPartition};
use serde_json::json;

use super::*;

async fn bounded(topic: &Topic, more: Value, batch: bool) -> Job {
    let source = try_source(&topic.config(more), Some(&numbers()), batch).unwrap();
    assert_eq!(source.boundedness(), Boundedness::Bounded);
    Job::new(source, false, None).await.unwrap()
}

#[tokio::test]
async fn a_batch_job_reads_what_there_is_when_it_begins() {
    let topic = Topic::new(3).await;
    topic.count(0, 0..50).await;
    topic.count(1, 50..60).await;
    let mut job = bounded(&topic, json!({}), true).await;
    topic.count(0, 1000..1010).await;
    topic.count(2, 2000..2010).await;
    job.settle().await;
    assert!(job.done && job.partitions() == 0, "an empty partition ends, too");
    assert_eq!(job.take(), texts(0..60));
}

#[tokio::test]
async fn a_read_ends_before_given_offsets_and_instants() {
    let topic = Topic::new(1).await;
    for n in 0..20 {
        topic.send([topic.record(0, json!({ "n": n }).to_string()).timestamp(1_000_000 + n * 1000)]).await;
    }
    let offsets = json!({ "stopAt": { "offsets": { topic.name.clone(): { "0": 7 } } } });
    assert_eq!(bounded(&topic, offsets, false).await.settle().await.take(), texts(0..7));
    let timestamp = json!({ "stopAt": { "timestamp": 1_000_000 + 12_000 } });
    assert_eq!(bounded(&topic, timestamp, false).await.settle().await.take(), texts(0..12));
}

#[tokio::test]
async fn an_end_within_a_batch_is_kept_over_a_restart() {
    let topic = Topic::new(1).await;
    topic.count(0, 0..100).await;
    let config = topic.config(json!({ "stopAt": { "offsets": { topic.name.clone(): { "0": 77 } } } }));
    let mut job = Job::start(&config, &numbers()).await;
    job.limit.rows = 30;
    job.read(30).await;
    let saved = job.save();
    assert_eq!(job.take(), texts(0..30));
    let mut job = Job::restore(&config, &numbers(), &saved).await;
    job.settle().await;
    assert_eq!((job.take(), job.partitions()), (texts(30..77), 0));
}

#[tokio::test]
async fn an_end_that_names_not_all_partitions_is_refused() {
    let topic = Topic::new(2).await;
    let config = topic.config(json!({ "stopAt": { "offsets": { topic.name.clone(): { "0": 7 } } } }));
    let e = failure(&config, &numbers(), None).await.to_string();
    assert!(e.contains("names no offset for the partition") && e.contains("-1"), "{e}");
}

#[tokio::test]
async fn the_end_of_a_finished_read_is_committed() {
    let topic = Topic::new(1).await;
    topic.count(0, 0..10).await;
    let group = unique("g");
    let mut job = bounded(&topic, json!({ "groupId": group }), true).await;
    job.settle().await;
    job.completed().await.unwrap();
    let at = TopicPartition::new(topic.name.clone(), 0);
    let offsets = topic.kafka.admin().list_consumer_group_offsets(&group, ListConsumerGroupOffsetsOptions::default()).await.unwrap();
    assert_eq!(offsets[&at].as_ref().unwrap().offset, Some(10));
}
