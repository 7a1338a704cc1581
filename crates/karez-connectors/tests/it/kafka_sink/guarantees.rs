//! Exactly once: what is visible when, through every crash between a row and its commit.

use super::client::Cluster;
use super::*;

#[tokio::test]
async fn rows_are_visible_to_readers_of_committed_data_when_their_checkpoint_is_committed() {
    let Running { cluster, topic, mut job, mut process } = running(2, 2).await;
    process.write(0, rows(&[(1, "a"), (2, "b")])).await;
    process.write(1, rows(&[(3, "c")])).await;
    job.checkpoint(&mut process).await;
    assert!(names(&cluster, &topic).await.is_empty());
    assert_eq!(cluster.uncommitted(&topic).await.len(), 3);
    assert_eq!(outcomes(&job.commit(&process).await), ["committed", "committed"]);
    assert_eq!(names(&cluster, &topic).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_process_killed_between_prepare_and_commit_is_committed_by_the_next() {
    let Running { cluster, topic, mut job, mut process } = running(2, 1).await;
    process.write(0, rows(&[(1, "a"), (2, "b")])).await;
    job.checkpoint(&mut process).await;
    process.write(0, rows(&[(3, "not in the checkpoint")])).await;
    process.writers[0].flush().await.unwrap();
    process.kill();

    let mut process = job.start(1).await;
    assert_eq!(outcomes(&process.replayed), ["committed"]);
    assert_eq!(names(&cluster, &topic).await, ["a", "b"]);
    assert!(cluster.open_transactions(&job.id).await.is_empty(), "what the dead process had open is aborted");
    // The source gives the row again.
    process.write(0, rows(&[(3, "c")])).await;
    job.commit_checkpoint(&mut process).await;
    assert_eq!(names(&cluster, &topic).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_commit_is_repeated_by_any_number_of_processes_without_effect() {
    let Running { cluster, topic, mut job, mut process } = running(1, 1).await;
    process.write(0, rows(&[(1, "a")])).await;
    job.commit_checkpoint(&mut process).await;
    for _ in 0..3 {
        assert_eq!(outcomes(&job.commit(&process).await), ["already"]);
        process.kill();
        process = job.start(1).await;
        assert_eq!(outcomes(&process.replayed), ["already"]);
    }
    assert_eq!(names(&cluster, &topic).await, ["a"]);
}

#[tokio::test]
async fn transactions_go_round_three_ids_and_the_one_that_the_newest_manifest_names_is_left_alone() {
    let Running { cluster, mut job, mut process, .. } = running(1, 1).await;
    let mut ids = Vec::new();
    for n in 0..7 {
        process.write(0, rows(&[(n, "x")])).await;
        // The first row of the next epoch comes before the commit of this one.
        job.checkpoint(&mut process).await;
        process.write(0, rows(&[(n, "y")])).await;
        let id = job.manifest[0].payload["transactionalId"].as_str().unwrap().to_owned();
        let before = cluster.transaction(&id).await;
        assert_eq!(before.0, "Ongoing");
        job.commit(&process).await;
        ids.push(id.rsplit('/').next().unwrap().to_owned());
    }
    assert_eq!(ids, ["0", "1", "2", "0", "1", "2", "0"]);
}

#[tokio::test]
async fn the_transactions_of_a_failed_checkpoint_are_committed_with_the_next() {
    let Running { cluster, topic, mut job, mut process } = running(1, 1).await;
    process.write(0, rows(&[(1, "a")])).await;
    let (failed, _) = process.barrier(1).await;
    process.write(0, rows(&[(2, "b")])).await;
    job.epoch = 1;
    job.checkpoint(&mut process).await;
    job.manifest = [failed, job.manifest.clone()].concat();
    assert_eq!(outcomes(&job.commit(&process).await), ["committed", "committed"]);
    assert_eq!(names(&cluster, &topic).await, ["a", "b"]);
}

#[tokio::test]
async fn an_epoch_without_rows_has_no_transaction() {
    let Running { mut job, mut process, .. } = running(1, 2).await;
    job.checkpoint(&mut process).await;
    assert!(job.manifest.is_empty());
    process.write(1, rows(&[(1, "a")])).await;
    job.checkpoint(&mut process).await;
    assert_eq!(job.manifest.len(), 1);
    assert_eq!(job.manifest[0].subtask, 1);
}

#[tokio::test]
async fn a_job_that_is_cancelled_or_finishes_leaves_no_transaction_open() {
    let Running { cluster, topic, job, mut process } = running(1, 2).await;
    process.write(0, rows(&[(1, "a")])).await;
    process.write(1, rows(&[(2, "b")])).await;
    for writer in &mut process.writers {
        writer.flush().await.unwrap();
    }
    until("both are open", || async { cluster.open_transactions(&job.id).await.len() == 2 }).await;
    process.writers[0].close().await.unwrap();
    assert_eq!(cluster.open_transactions(&job.id).await.len(), 1);
    drop(process);
    until("none is open", || async { cluster.open_transactions(&job.id).await.is_empty() }).await;
    assert!(names(&cluster, &topic).await.is_empty());
}

/// Prepared for a checkpoint that never completed, and open behind it; what the newest manifest names is somebody else's business.
#[tokio::test]
async fn a_cancelled_job_ends_what_it_has_prepared_and_no_manifest_names() {
    let Running { cluster, topic, mut job, mut process } = running(1, 2).await;
    process.write(0, rows(&[(1, "a")])).await;
    job.checkpoint(&mut process).await;
    for (subtask, row) in [(0, (2, "b")), (1, (3, "c"))] {
        process.write(subtask, rows(&[row])).await;
    }
    process.barrier(2).await;
    process.write(0, rows(&[(4, "d")])).await;
    process.writers[0].flush().await.unwrap();
    until("all are open", || async { cluster.open_transactions(&job.id).await.len() == 4 }).await;
    let named = job.manifest[0].payload["transactionalId"].as_str().unwrap();
    process.writers.clear();
    process.sink.cancelled(&job.manifest).await.unwrap();
    assert_eq!(cluster.open_transactions(&job.id).await, [named]);
    assert_eq!(outcomes(&job.commit(&process).await), ["committed"]);
    assert_eq!(names(&cluster, &topic).await, ["a"]);
    process.sink.cancelled(&job.manifest).await.unwrap();
}

#[tokio::test]
async fn the_manifest_holds_the_offsets_of_the_rows_and_no_secret() {
    let Running { topic, mut job, mut process, .. } = running(1, 1).await;
    process.write(0, rows(&[(1, "a"), (2, "b"), (3, "c")])).await;
    job.commit_checkpoint(&mut process).await;
    process.write(0, rows(&[(4, "d")])).await;
    job.checkpoint(&mut process).await;
    // Offset 3 is the marker of the first commit.
    let partitions = serde_json::json!([{ "topic": topic, "partition": 0, "firstOffset": 4, "lastOffset": 4 }]);
    assert_eq!(job.manifest[0].payload["partitions"], partitions);
    let mut keys: Vec<_> = job.manifest[0].payload.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    assert_eq!(keys, ["partitions", "producerEpoch", "producerId", "transactionVersion", "transactionalId", "version"]);
}

#[tokio::test]
async fn at_least_once_rows_are_visible_when_they_are_acknowledged() {
    let cluster = Cluster::shared().await;
    let topic = cluster.topic(3).await;
    for acks in ["0", "1", "all"] {
        let mut job = Job::new(&cluster.bootstrap, &topic).at_least_once().with("acks", acks);
        let mut process = job.start(1).await;
        process.write(0, rows(&[(1, acks)])).await;
        job.checkpoint(&mut process).await;
        assert!(job.manifest.is_empty());
        process.writers[0].close().await.unwrap();
    }
    until("all rows are there", || async { names(&cluster, &topic).await == ["0", "1", "all"] }).await;
}

#[tokio::test]
async fn a_batch_that_is_not_full_is_sent_after_the_linger() {
    let cluster = Cluster::shared().await;
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).at_least_once().with("linger", "20ms");
    let mut process = job.start(1).await;
    let now_ms = process.clock.now_ms();
    process.write(0, rows(&[(1, "a")])).await;
    assert_eq!(process.writers[0].flush_due_ms(), Some(now_ms + 20));
    process.clock.set(now_ms + 20);
    process.writers[0].flush().await.unwrap();
    assert_eq!(process.writers[0].flush_due_ms(), None);
    until("the row is there", || async { cluster.committed(&topic).await.len() == 1 }).await;
}
