//! Topics that grow, go, or were never there.

use std::time::Instant;

use krafka::admin::DeleteTopicsOptions;

use super::client::Cluster;
use super::*;

#[tokio::test]
async fn partitions_that_are_added_while_rows_are_written_take_rows() {
    let cluster = Cluster::shared().await;
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("batchSize", "1k").with("properties", json!({ "metadata.max.age.ms": 100 }));
    let mut process = job.start(1).await;
    process.write(0, rows(&[(0, "a")])).await;
    job.commit_checkpoint(&mut process).await;
    cluster.kafka.admin().create_partitions([(topic.as_str(), 3)], Default::default()).await.unwrap();
    let (mut written, started) = (1, Instant::now());
    loop {
        let more: Vec<_> = (0..100).map(|n| (n, "some more text")).collect();
        process.write(0, rows(&more)).await;
        job.commit_checkpoint(&mut process).await;
        written += more.len();
        // A client that has not known the topic as it was.
        let messages = Cluster::at(&cluster.bootstrap).await.committed(&topic).await;
        assert_eq!(messages.len(), written);
        if (0..3).all(|partition| messages.iter().any(|m| m.partition == partition)) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "the new partitions stay empty");
    }
}

#[tokio::test]
async fn a_topic_that_is_deleted_while_it_is_written_fails_the_job_and_is_named_by_the_next_start() {
    let cluster = Cluster::shared().await;
    for exactly_once in [true, false] {
        let topic = cluster.topic(1).await;
        let mut job = Job::new(&cluster.bootstrap, &topic).with("deliveryTimeout", "2s");
        job.exactly_once = exactly_once;
        let mut process = job.start(1).await;
        process.write(0, rows(&[(1, "a")])).await;
        job.commit_checkpoint(&mut process).await;
        cluster.kafka.admin().delete_topics([&topic], DeleteTopicsOptions::default()).await.unwrap();
        let failed = async {
            process.writers[0].write(rows(&[(2, "b")])).await?;
            process.writers[0].prepare_commit(Epoch(9), false).await
        };
        let failed = failed.await.unwrap_err();
        assert!(failed.is_retryable() && failed.to_string().contains(&topic), "{failed}");
        let mut fresh = Job::new(&cluster.bootstrap, &topic);
        fresh.exactly_once = exactly_once;
        let refused = fresh.try_start(1).await.err().unwrap();
        assert!(!refused.is_retryable() && refused.to_string().contains(&format!("there is no topic `{topic}`")), "{refused}");
    }
}

/// Each name that is not known is waited for, since a topic may be in the making; many, or the same again and again, do not hold up the others' rows.
#[tokio::test]
async fn rows_for_topics_that_are_not_there_do_not_hold_up_the_rest() {
    let cluster = Cluster::shared().await;
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, "").at_least_once();
    job.config = json!({ "bootstrapServers": cluster.bootstrap, "topicColumn": "to", "columns": ["name"] });
    let batch = |to: &[&str]| {
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(to.iter().map(|_| "x")));
        let topics: ArrayRef = Arc::new(StringArray::from(to.to_vec()));
        RecordBatch::try_from_iter([("name", names), ("to", topics)]).unwrap()
    };
    let missing: Vec<String> = (0..20).map(|_| unique("nowhere")).collect();
    let mut all: Vec<&str> = missing.iter().map(String::as_str).collect();
    all.push(&topic);
    job.schema.arrow = batch(&all).schema();
    let mut process = job.start(1).await;
    let started = Instant::now();
    for _ in 0..10 {
        process.write(0, batch(&all)).await;
    }
    job.checkpoint(&mut process).await;
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(process.rejects.len(), 200);
    assert!(process.rejects.iter().all(|r| r.reason.contains("there is no topic `nowhere_")), "{:?}", process.rejects[0]);
    assert_eq!(cluster.committed(&topic).await.len(), 10);

    // One that comes into being is found.
    cluster.create(&missing[0], 1, &[]).await;
    let mut created = 0;
    while created == 0 {
        process.write(0, batch(&[&missing[0]])).await;
        job.checkpoint(&mut process).await;
        created = cluster.committed(&missing[0]).await.len();
        assert!(started.elapsed() < Duration::from_secs(60), "the new topic is not seen");
    }
}
