//! What a start does with the transactions that earlier ones left, and what a commit says that comes too late.

use std::sync::Arc;
use std::time::Duration;

use super::client::Cluster;
use super::*;

/// Takes a transactional id as another producer would: aborts what is open under it.
async fn take_over(cluster: &Cluster, id: &str) {
    use krafka::__private::protocol::{ApiKey, FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse};
    use krafka::__private::protocol::{VersionedDecode, VersionedEncode};
    let metadata = krafka::__private::kafka_metadata(&cluster.kafka);
    let any = metadata.get_broker_connection(metadata.brokers()[0].id()).await.unwrap();
    let find = FindCoordinatorRequest::for_transaction(id);
    let mut found = any.send_request(ApiKey::FindCoordinator, 4, |b| find.encode_versioned(4, b)).await.unwrap();
    let coordinator = FindCoordinatorResponse::decode_versioned(4, &mut found).unwrap().node_id;
    let coordinator = metadata.get_broker_connection(coordinator).await.unwrap();
    let request = InitProducerIdRequest::transactional(id, 60_000);
    until("the id is taken over", || {
        let (coordinator, request) = (Arc::clone(&coordinator), request.clone());
        async move {
            let mut answer = coordinator.send_request(ApiKey::InitProducerId, 4, |b| request.encode_versioned(4, b)).await.unwrap();
            InitProducerIdResponse::decode_versioned(4, &mut answer).unwrap().is_ok()
        }
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_was_aborted_before_its_commit_is_lost_and_its_offsets_are_named() {
    let Running { cluster, topic, mut job, mut process } = running(1, 1).await;
    process.write(0, rows(&[(1, "a"), (2, "b")])).await;
    job.checkpoint(&mut process).await;
    take_over(&cluster, job.manifest[0].payload["transactionalId"].as_str().unwrap()).await;

    let committed = job.commit(&process).await;
    let [CommitOutcome::Lost(e)] = committed.as_slice() else { panic!("{committed:?}") };
    let message = e.to_string();
    assert!(message.contains(&format!("topic `{topic}` partition 0 offsets 0 to 1")) && message.contains("transactionTimeout"), "{message}");
    let refused = job.try_start(1).await.err().unwrap().to_string();
    assert!(refused.contains("offsets 0 to 1"), "{refused}");
}

#[tokio::test]
async fn a_transaction_that_the_broker_times_out_before_its_commit_is_lost_by_name() {
    let cluster = Cluster::shared().await;
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("transactionTimeout", "1s");
    let mut process = job.start(1).await;
    process.write(0, rows(&[(1, "a")])).await;
    job.checkpoint(&mut process).await;
    until("the broker has timed it out", || async { cluster.open_transactions(&job.id).await.is_empty() }).await;
    let committed = job.commit(&process).await;
    assert!(matches!(committed.as_slice(), [CommitOutcome::Lost(e)] if e.to_string().contains("offsets 0 to 0")), "{committed:?}");
}

/// An old savepoint is restored: the id has been used again since, so the broker refuses the commit as it does for one that was lost.
#[tokio::test]
async fn a_commit_of_long_ago_is_known_again_by_the_log() {
    let Running { mut job, mut process, .. } = running(1, 1).await;
    process.write(0, rows(&[(1, "a")])).await;
    job.commit_checkpoint(&mut process).await;
    let (savepoint, epoch) = (job.manifest.clone(), job.epoch);
    for n in 2..8 {
        process.write(0, rows(&[(n, "later")])).await;
        job.commit_checkpoint(&mut process).await;
    }
    let replayed = commit(process.sink.as_ref(), &process.context, epoch, &savepoint).await.unwrap();
    assert_eq!(outcomes(&replayed), ["already"]);
}

#[tokio::test]
async fn a_commit_whose_rows_have_left_the_topic_counts_as_done() {
    use krafka::admin::DeleteRecordsOptions;
    let Running { cluster, topic, mut job, mut process } = running(1, 1).await;
    process.write(0, rows(&[(1, "a")])).await;
    job.commit_checkpoint(&mut process).await;
    take_over(&cluster, job.manifest[0].payload["transactionalId"].as_str().unwrap()).await;
    let up_to = (krafka::consumer::TopicPartition::new(topic.as_str(), 0), 2);
    cluster.kafka.admin().delete_records([up_to], DeleteRecordsOptions::default()).await.unwrap();
    assert_eq!(outcomes(&job.commit(&process).await), ["already"]);
}

#[tokio::test]
async fn a_start_with_less_parallelism_ends_the_transactions_of_the_subtasks_there_were() {
    let Running { cluster, topic, mut job, mut process } = running(1, 3).await;
    for subtask in 0..3 {
        process.write(subtask, rows(&[(1, "a")])).await;
    }
    job.checkpoint(&mut process).await;
    for subtask in 0..3 {
        process.write(subtask, rows(&[(2, "open")])).await;
        process.writers[subtask].flush().await.unwrap();
    }
    until("all are open", || async { cluster.open_transactions(&job.id).await.len() == 6 }).await;
    let mut zombie = job.start(1).await;
    assert_eq!(outcomes(&zombie.replayed), ["committed"; 3]);
    assert!(cluster.open_transactions(&job.id).await.is_empty());
    assert_eq!(names(&cluster, &topic).await, ["a", "a", "a"]);
    // The former processes still live, and cannot write any more.
    std::mem::swap(&mut process, &mut zombie);
    let mut refused = 0;
    for writer in &mut zombie.writers {
        let written = writer.write(rows(&[(3, "zombie")])).await;
        refused += usize::from(written.is_err() || writer.prepare_commit(Epoch(9), false).await.is_err());
    }
    assert_eq!(refused, 3);
    process.write(0, rows(&[(4, "b")])).await;
    job.commit_checkpoint(&mut process).await;
    assert_eq!(names(&cluster, &topic).await, ["a", "a", "a", "b"]);
}

#[tokio::test]
async fn a_new_run_ends_the_transactions_of_a_run_that_was_given_up() {
    let Running { cluster, topic, mut job, mut process } = running(1, 1).await;
    process.write(0, rows(&[(1, "given up")])).await;
    process.writers[0].flush().await.unwrap();
    until("it is open", || async { cluster.open_transactions(&job.id).await.len() == 1 }).await;
    process.kill();

    // `--fresh`
    job.run = "ffffffffffff".into();
    (job.manifest, job.states, job.epoch) = (Vec::new(), Vec::new(), 0);
    let other = Job { id: format!("{}x", job.id), run: job.run.clone(), ..Job::new(&cluster.bootstrap, &topic) }.start(1).await;
    assert_eq!(cluster.open_transactions(&job.id).await.len(), 1, "another job leaves it alone");
    drop(other);
    let mut process = job.start(1).await;
    assert!(cluster.open_transactions(&job.id).await.is_empty());
    process.write(0, rows(&[(1, "a")])).await;
    job.commit_checkpoint(&mut process).await;
    assert_eq!(names(&cluster, &topic).await, ["a"]);
}

#[tokio::test]
async fn a_savepoint_is_committed_and_fenced_by_the_run_that_it_opens() {
    let Running { cluster, topic, mut job, mut process } = running(1, 2).await;
    process.write(0, rows(&[(1, "a")])).await;
    process.write(1, rows(&[(2, "b")])).await;
    job.checkpoint(&mut process).await;
    process.kill();
    job.run = "ffffffffffff".into();
    let mut process = job.start(1).await;
    assert_eq!(outcomes(&process.replayed), ["committed", "committed"]);
    process.write(0, rows(&[(3, "c")])).await;
    job.commit_checkpoint(&mut process).await;
    assert_eq!(names(&cluster, &topic).await, ["a", "b", "c"]);
}

/// What the last transactional checkpoint prepared is committed although the job no longer writes in transactions.
#[tokio::test]
async fn a_job_that_is_changed_to_at_least_once_commits_what_waits() {
    let Running { cluster, topic, mut job, mut process } = running(1, 1).await;
    process.write(0, rows(&[(1, "a")])).await;
    job.checkpoint(&mut process).await;
    process.kill();
    job.exactly_once = false;
    let mut process = job.start(1).await;
    process.write(0, rows(&[(2, "b")])).await;
    process.barrier(2).await;
    assert_eq!(names(&cluster, &topic).await, ["a", "b"]);
}

/// Its coordinator is away: the commit is not lost, it is tried again.
#[tokio::test]
async fn a_commit_that_reaches_no_broker_is_tried_later() {
    let cluster = Cluster::shared().await;
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("properties", json!({ "max.block.ms": 500 }));
    let mut process = job.start(1).await;
    process.write(0, rows(&[(1, "a")])).await;
    job.checkpoint(&mut process).await;
    // The same committable, under an id whose coordinator cannot be asked: a client of another network.
    let away = karez_testkit::Proxy::to(cluster.bootstrap.as_str());
    away.gone();
    job.config["bootstrapServers"] = json!(away.address());
    let refused = tokio::time::timeout(Duration::from_secs(30), job.try_start(1)).await.unwrap().err().unwrap();
    assert!(refused.is_retryable(), "{refused}");
}
