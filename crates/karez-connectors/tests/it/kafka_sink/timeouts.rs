//! How long transactions may stay open, compared when the job starts.

use karez_core::sink::CheckpointTiming;

use super::client::Cluster;
use super::*;

#[tokio::test]
async fn a_timeout_above_what_the_broker_allows_is_refused() {
    let cluster = Cluster::shared().await;
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("transactionTimeout", "1h");
    let refused = job.try_start(1).await.err().unwrap().to_string();
    assert!(refused.contains("60 min") && refused.contains("15 min (transaction.max.timeout.ms)"), "{refused}");
}

#[tokio::test]
async fn a_timeout_below_the_checkpoint_interval_is_refused_before_anything_is_written() {
    let cluster = Cluster::shared().await;
    let topic = cluster.topic(1).await;
    let timing = |s| CheckpointTiming { interval: Duration::from_secs(s), timeout: Duration::from_secs(600) };
    let job = Job::new(&cluster.bootstrap, &topic).with("transactionTimeout", "30s");
    let sink = try_sink(&job.config, &job.schema, true).unwrap();
    let refused = sink.checkpoints(timing(30)).unwrap_err().to_string();
    assert!(refused.contains("checkpoint.interval"), "{refused}");
    sink.checkpoints(timing(10)).unwrap();

    // The default is the broker's 15 minutes.
    let sink = try_sink(&Job::new(&cluster.bootstrap, &topic).config, &job.schema, true).unwrap();
    sink.checkpoints(timing(1_000)).unwrap();
    let refused = sink.prepare_restored(&job.context(), &[], &[]).await.unwrap_err().to_string();
    assert!(refused.contains("15 min (`transactionTimeout`)"), "{refused}");
}
