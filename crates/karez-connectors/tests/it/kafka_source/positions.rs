//! Where reading begins, goes on and is seen to be.

use karez_core::Whose;
use krafka::admin::{ListConsumerGroupOffsetsOptions, TopicPartition};
use serde_json::json;

use super::*;

/// What a group has committed in a partition.
async fn committed(topic: &Topic, group: &str, partition: i32) -> Option<i64> {
    let at = TopicPartition::new(topic.name.clone(), partition);
    let options = ListConsumerGroupOffsetsOptions::default().partitions(vec![at.clone()]);
    let offsets = topic.kafka.admin().list_consumer_group_offsets(group, options).await.unwrap();
    offsets.get(&at).and_then(|o| o.as_ref().unwrap().offset)
}

#[tokio::test]
async fn rows_of_all_partitions_are_read_in_their_order() {
    let topic = Topic::new(3).await;
    for partition in 0..3 {
        topic.count(partition, i64::from(partition) * 1000..i64::from(partition) * 1000 + 500).await;
    }
    let mut job = Job::start(&topic.config(json!({})), &numbers()).await;
    job.read(1500).await;
    for partition in 0..3_i64 {
        assert_eq!(job.rows[&format!("{}-{partition}", topic.name)], texts(partition * 1000..partition * 1000 + 500));
    }
}

#[tokio::test]
async fn partitions_are_spread_evenly_over_subtasks() {
    let topic = Topic::new(6).await;
    let job = Job::start(&topic.config(json!({})), &numbers()).await;
    let mut places: Vec<u64> = job.positions().iter().map(|split| job.source.spread(split).unwrap() % 3).collect();
    places.sort_unstable();
    assert_eq!(places, [0, 0, 1, 1, 2, 2]);
}

#[tokio::test]
async fn a_restored_job_reads_exactly_the_rest() {
    let topic = Topic::new(2).await;
    topic.count(0, 0..500).await;
    topic.count(1, 500..1000).await;
    let config = topic.config(json!({}));
    let mut job = Job::start(&config, &numbers()).await;
    job.limit.rows = 70;
    job.read(300).await;
    let saved = job.save();
    let before = job.take();
    drop(job);
    let mut job = Job::restore(&config, &numbers(), &saved).await;
    let mut all = before;
    all.extend(job.settle().await.take());
    all.sort_by_key(|r| r.parse::<i64>().unwrap());
    assert_eq!(all, texts(0..1000));
}

#[tokio::test]
async fn partitions_added_while_running_are_read_from_their_start() {
    let topic = Topic::new(1).await;
    topic.count(0, 0..10).await;
    let config = topic.config(json!({ "startFrom": "latest" }));
    let mut job = Job::start(&config, &numbers()).await;
    job.settle().await;
    assert!(job.take().is_empty());
    topic.kafka.admin().create_partitions([(topic.name.as_str(), 3)], Default::default()).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while topic.kafka.admin().describe_topics([&topic.name], Default::default()).await.unwrap()[&topic.name].as_ref().unwrap().partitions.len() < 3 {
        assert!(Instant::now() < deadline);
    }
    // A client that does not remember the topic as it was.
    Topic { name: topic.name.clone(), kafka: kafka().await }.count(2, 10..20).await;
    while job.partitions() < 3 {
        job.discover().await.unwrap();
        assert!(Instant::now() < deadline);
    }
    assert_eq!(job.read(10).await.take(), texts(10..20));
    let saved = job.save();
    let mut again = Job::restore(&config, &numbers(), &saved).await;
    assert_eq!(again.partitions(), 3, "none is found twice");
    again.settle().await;
    assert!(again.take().is_empty());
}

#[tokio::test]
async fn topics_are_found_by_a_pattern_also_those_created_later() {
    let prefix = unique("pattern");
    let kafka = kafka().await;
    let first = Topic::named(kafka.clone(), &format!("{prefix}.a"), 1, &[]).await;
    first.count(0, 0..10).await;
    let config = json!({ "bootstrapServers": bootstrap(), "topicPattern": format!("{prefix}\\.[ab]") });
    let mut job = Job::start(&config, &numbers()).await;
    assert_eq!(job.read(10).await.take(), texts(0..10));
    let other = Topic::named(kafka.clone(), &format!("{prefix}.c"), 1, &[]).await;
    other.count(0, 90..95).await;
    let second = Topic::named(kafka, &format!("{prefix}.b"), 1, &[]).await;
    second.count(0, 10..20).await;
    let deadline = Instant::now() + PATIENCE;
    while job.partitions() < 2 {
        job.discover().await.unwrap();
        assert!(Instant::now() < deadline);
    }
    assert_eq!(job.read(10).await.take(), texts(10..20));
}

/// A pattern may be ahead of its topics; a read that ends would end before it has begun.
#[tokio::test]
async fn a_pattern_without_a_topic_waits_for_one_and_reads_it_from_its_start() {
    let prefix = unique("nothing.yet");
    let config = json!({ "bootstrapServers": bootstrap(), "topicPattern": format!("{prefix}.*"), "startFrom": "latest" });
    try_source(&config, Some(&numbers()), false).unwrap().check().await.unwrap();
    let job = Job::start(&config, &numbers()).await;
    assert_eq!((job.partitions(), job.done), (0, false));
    let saved = job.save();
    let topic = Topic::named(kafka().await, &format!("{prefix}.first"), 2, &[]).await;
    topic.count(1, 0..10).await;
    for mut job in [job, Job::restore(&config, &numbers(), &saved).await] {
        let deadline = Instant::now() + PATIENCE;
        while job.partitions() < 2 {
            job.discover().await.unwrap();
            assert!(Instant::now() < deadline);
        }
        assert_eq!(job.read(10).await.take(), texts(0..10));
    }
    let mut bounded = config.clone();
    bounded["topicPattern"] = json!(unique("no.topic"));
    bounded["stopAt"] = json!("latest");
    let e = failure(&bounded, &numbers(), None).await;
    assert!(e.whose() == Whose::User && e.to_string().contains("no topic matches the pattern `no.topic"), "{e}");
}

#[tokio::test]
async fn a_group_may_have_any_name() {
    let topic = Topic::new(1).await;
    topic.count(0, 0..10).await;
    for name in ["Übertragung 坎儿井", "a/b\\c: \"d\"", " "] {
        let group = format!("{name}{}", unique("g"));
        let config = topic.config(json!({ "groupId": group }));
        try_source(&config, Some(&numbers()), false).unwrap().check().await.unwrap();
        let mut job = Job::start(&config, &numbers()).await;
        job.settle().await.completed().await.unwrap();
        assert_eq!(committed(&topic, &group, 0).await, Some(10), "{group}");
    }
}

#[tokio::test]
async fn a_run_begins_where_it_is_told() {
    let topic = Topic::new(2).await;
    for n in 0..20 {
        topic.send([topic.record(0, json!({ "n": n }).to_string()).timestamp(1_000_000 + n * 1000)]).await;
    }
    topic.count(1, 100..103).await;
    let begin = |from: Value| {
        let config = topic.config(json!({ "startFrom": from }));
        async move { Job::start(&config, &numbers()).await.settle().await.take() }
    };
    let all: Vec<String> = texts(0..20).into_iter().chain(texts(100..103)).collect();
    assert_eq!(begin(json!("earliest")).await, all);
    assert!(begin(json!("latest")).await.is_empty());
    let at: Vec<String> = texts(15..20).into_iter().chain(texts(100..103)).collect();
    assert_eq!(begin(json!({ "timestamp": 1_000_000 + 14_500 })).await, at);
    assert_eq!(begin(json!({ "timestamp": "1970-01-01T00:16:54.500Z" })).await, at);
    let given = json!({ "offsets": { topic.name.clone(): { "0": 18, "1": 2 } } });
    assert_eq!(begin(given).await, ["18", "19", "102"]);
}

#[tokio::test]
async fn offsets_are_committed_after_a_checkpoint_and_a_new_run_begins_there() {
    let topic = Topic::new(1).await;
    topic.count(0, 0..100).await;
    let group = unique("g");
    let config = topic.config(json!({ "groupId": group }));
    let mut job = Job::start(&config, &numbers()).await;
    job.limit.rows = 40;
    job.read(40).await;
    assert_eq!(committed(&topic, &group, 0).await, None, "no checkpoint has completed");
    job.completed().await.unwrap();
    assert_eq!(committed(&topic, &group, 0).await, Some(40));
    drop(job);
    assert_eq!(Job::start(&config, &numbers()).await.settle().await.take(), texts(40..100));
}

#[tokio::test]
async fn offsets_are_not_committed_where_it_is_switched_off() {
    let topic = Topic::new(1).await;
    topic.count(0, 0..10).await;
    let group = unique("g");
    let mut config = topic.config(json!({ "groupId": group, "enableAutoCommit": true, "properties": { "auto.commit.interval.ms": 10 } }));
    KafkaConnector.leave_no_trace(&mut config);
    let mut job = Job::start(&config, &numbers()).await;
    job.settle().await;
    job.completed().await.unwrap();
    drop(job);
    assert_eq!(committed(&topic, &group, 0).await, None, "as a preview reads");
}

#[tokio::test]
async fn offsets_are_committed_by_themselves_if_asked() {
    let topic = Topic::new(1).await;
    topic.count(0, 0..10).await;
    let group = unique("g");
    let config = topic.config(json!({ "groupId": group, "properties": { "enable.auto.commit": true, "auto.commit.interval.ms": 20 } }));
    let mut job = Job::start(&config, &numbers()).await;
    job.settle().await;
    let deadline = Instant::now() + PATIENCE;
    while committed(&topic, &group, 0).await != Some(10) {
        assert!(Instant::now() < deadline);
    }
    topic.count(0, 10..15).await;
    job.read(15).await;
    drop(job);
    while committed(&topic, &group, 0).await != Some(15) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(Instant::now() < deadline, "what was read last is committed at the end");
    }
}

#[tokio::test]
async fn without_a_committed_offset_auto_offset_reset_decides() {
    let topic = Topic::new(1).await;
    topic.count(0, 0..10).await;
    let begin = |reset: &str| topic.config(json!({ "groupId": unique("g"), "autoOffsetReset": reset }));
    assert_eq!(Job::start(&begin("earliest"), &numbers()).await.settle().await.take(), texts(0..10));
    assert!(Job::start(&begin("latest"), &numbers()).await.settle().await.take().is_empty());
    let e = failure(&begin("none"), &numbers(), None).await;
    assert!(e.whose() == Whose::User && e.to_string().contains("has committed no offset"), "{e}");
}

#[tokio::test]
async fn a_restored_job_rewinds_once_where_it_is_told_to_seek() {
    let topic = Topic::new(2).await;
    topic.count(0, 0..10).await;
    topic.count(1, 10..20).await;
    let mut job = Job::start(&topic.config(json!({})), &numbers()).await;
    job.settle().await;
    let saved = job.save();
    let seek = topic.config(json!({ "seek": { "offsets": { topic.name.clone(): { "0": 7 } } } }));
    let mut job = Job::restore(&seek, &numbers(), &saved).await;
    assert_eq!(job.settle().await.take(), texts(7..10));
    let saved = job.save();
    assert!(Job::restore(&seek, &numbers(), &saved).await.settle().await.take().is_empty(), "it has been applied");
    let other = topic.config(json!({ "seek": { "timestamp": 0 } }));
    assert_eq!(Job::restore(&other, &numbers(), &saved).await.settle().await.take(), texts(0..20));
}

#[tokio::test]
async fn the_lag_is_what_can_be_read_and_has_not_been() {
    let topic = Topic::new(2).await;
    topic.count(0, 0..300).await;
    topic.count(1, 300..400).await;
    let mut job = Job::start(&topic.config(json!({ "properties": { "fetch.max.wait.ms": 20 } })), &numbers()).await;
    let deadline = Instant::now() + PATIENCE;
    while job.figure("consumer_lag") != 400 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(Instant::now() < deadline, "{}", job.figure("consumer_lag"));
    }
    job.settle().await;
    while job.figure("consumer_lag") != 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(Instant::now() < deadline);
    }
}
