//! What may become of a log: retention, compaction, topics deleted and created again.

use karez_core::{Reach, Whose};
use krafka::admin::{DeleteRecordsOptions, TopicPartition};
use serde_json::json;

use super::*;

async fn delete_before(topic: &Topic, offset: i64) {
    let at = TopicPartition::new(topic.name.clone(), 0);
    let deleted = topic.kafka.admin().delete_records([(at, offset)], DeleteRecordsOptions::default()).await.unwrap();
    assert!(deleted.into_values().all(|r| r.is_ok()));
}

#[tokio::test]
async fn a_restored_position_that_retention_has_deleted_fails_with_the_missing_range() {
    let topic = Topic::new(1).await;
    topic.count(0, 0..100).await;
    for reset in ["earliest", "latest"] {
        let config = topic.config(json!({ "autoOffsetReset": reset }));
        let mut job = Job::start(&topic.config(json!({ "startFrom": { "offsets": { topic.name.clone(): { "0": 20 } } } })), &numbers()).await;
        job.limit.rows = 10;
        if reset == "earliest" {
            job.read(10).await;
            let saved = job.save();
            delete_before(&topic, 60).await;
            let e = failure(&config, &numbers(), Some(&saved)).await;
            assert!((e.whose(), e.reach()) == (Whose::External, Reach::Job) && !e.is_retryable(), "{e}");
            assert!(e.to_string().contains("30 offsets 30 to 59 are gone"), "{e}");
            let skip = topic.config(json!({ "seek": "earliest" }));
            assert_eq!(Job::restore(&skip, &numbers(), &saved).await.settle().await.take(), texts(60..100), "the user says that it may be so");
        } else {
            let e = failure(&config, &numbers(), Some(&job.save())).await;
            assert!(e.to_string().contains("40 offsets 20 to 59 are gone"), "{e}");
        }
    }
}

#[tokio::test]
async fn a_restored_position_behind_the_end_fails() {
    let topic = Topic::new(1).await;
    topic.count(0, 0..10).await;
    let config = topic.config(json!({}));
    let mut job = Job::start(&config, &numbers()).await;
    job.settle().await;
    let ahead = Saved(job.save().0.replace("\"offset\":10", "\"offset\":25"));
    let e = failure(&config, &numbers(), Some(&ahead)).await;
    assert!(e.to_string().contains("15 offsets 10 to 24 have been read and are not there any more"), "{e}");
}

#[tokio::test]
async fn a_topic_created_again_under_its_name_fails_the_job() {
    let topic = Topic::new(1).await;
    topic.count(0, 0..10).await;
    let config = topic.config(json!({}));
    let mut job = Job::start(&config, &numbers()).await;
    assert_eq!(job.settle().await.take(), texts(0..10));
    let saved = job.save();
    topic.delete().await;
    let deadline = Instant::now() + PATIENCE;
    let again = loop {
        let made = topic.kafka.admin().create_topics([NewTopic::new(&topic.name, 1, 1).unwrap()], Default::default()).await.unwrap();
        if made[&topic.name].is_ok() {
            break Topic { name: topic.name.clone(), kafka: kafka().await };
        }
        assert!(Instant::now() < deadline);
    };
    again.count(0, 100..120).await;
    // While it runs, where it reads and where it looks for partitions.
    let running = loop {
        match job.step().await {
            Err(e) => break e,
            Ok(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
        assert!(job.take().is_empty() && Instant::now() < deadline);
    };
    assert!(running.to_string().contains("deleted and created again") && !running.is_retryable(), "{running}");
    let restored = failure(&config, &numbers(), Some(&saved)).await;
    assert!(restored.to_string().contains("deleted and created again") && !restored.is_retryable(), "{restored}");
}

#[tokio::test]
async fn a_topic_that_is_deleted_fails_the_job() {
    let topic = Topic::new(1).await;
    topic.count(0, 0..10).await;
    let mut job = Job::start(&topic.config(json!({})), &numbers()).await;
    job.settle().await;
    topic.delete().await;
    let deadline = Instant::now() + PATIENCE;
    let e = loop {
        match job.step().await {
            Err(e) => break e,
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
        assert!(Instant::now() < deadline);
    };
    assert!(e.to_string().contains("was deleted while it was read") && e.to_string().contains("behind offset 10") && !e.is_retryable(), "{e}");
}

/// A position in a topic that is gone would hold up the others for ever.
#[tokio::test]
async fn a_topic_that_is_deleted_and_left_out_of_the_job_is_read_no_further() {
    let (kept, deleted) = (Topic::new(1).await, Topic::new(1).await);
    kept.count(0, 0..10).await;
    deleted.count(0, 10..20).await;
    let config = |topics: Value| json!({ "bootstrapServers": bootstrap(), "topics": topics });
    let mut job = Job::start(&config(json!([kept.name, deleted.name])), &numbers()).await;
    assert_eq!(job.settle().await.take(), texts(0..20));
    let saved = job.save();
    drop(job);
    // Still there, it is read on: what the checkpoint has begun is not dropped in silence.
    deleted.count(0, 20..25).await;
    let mut job = Job::restore(&config(json!([kept.name])), &numbers(), &saved).await;
    assert_eq!(job.settle().await.take(), texts(20..25));
    let saved = job.save();
    drop(job);
    deleted.delete().await;
    let mut job = Job::restore(&config(json!([kept.name])), &numbers(), &saved).await;
    kept.count(0, 25..30).await;
    assert_eq!(job.read(5).await.take(), texts(25..30));
    let deadline = Instant::now() + PATIENCE;
    while job.partitions() > 1 {
        job.step().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(Instant::now() < deadline);
    }
}

#[tokio::test]
async fn gaps_that_compaction_leaves_are_stepped_over() {
    let settings = [("cleanup.policy", "compact"), ("segment.ms", "50"), ("min.cleanable.dirty.ratio", "0.01"), ("segment.bytes", "1048576")];
    let topic = Topic::with(1, &settings).await;
    let keyed = |n: i64| topic.record(0, json!({ "n": n }).to_string()).key(format!("{}", n % 3));
    topic.send((0..300).map(keyed)).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    topic.send((300..306).map(keyed)).await;
    let mut job = Job::start(&topic.config(json!({})), &numbers()).await;
    job.settle().await;
    let rows = job.take();
    // However far the cleaner has come: the newest of each key is there, in order.
    assert!(rows.ends_with(&texts(303..306)) && rows.is_sorted_by_key(|r| r.parse::<i64>().unwrap()), "{rows:?}");
    let position = job.positions()[0].position["offset"].as_i64();
    assert_eq!(position, Some(306));
}

#[tokio::test]
async fn a_missing_topic_is_the_users_error() {
    let config = json!({ "bootstrapServers": bootstrap(), "topics": [unique("missing")] });
    let e = failure(&config, &numbers(), None).await;
    assert!(e.whose() == Whose::User && e.to_string().contains("there is no topic `missing"), "{e}");
    let e = try_source(&config, Some(&numbers()), false).unwrap().check().await.unwrap_err();
    assert!(e.to_string().contains("there is no topic `missing"), "{e}");
}

#[tokio::test]
async fn a_check_of_what_is_there_passes_and_leaves_nothing_behind() {
    let topic = Topic::new(1).await;
    let group = unique("g");
    try_source(&topic.config(json!({ "groupId": group })), Some(&numbers()), false).unwrap().check().await.unwrap();
    let groups = topic.kafka.admin().list_consumer_groups(Default::default()).await.unwrap();
    assert!(!format!("{groups:?}").contains(&group));
}
