//! `transaction.version` 1, and kill -9 before the commit.

use karez_testkit::Server;

use super::*;

/// On `transaction.version` 1 a commit leaves the epoch as it is, so that a replay must never meet a later transaction of its id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_transaction_version_1_commits_are_repeated_and_processes_killed_without_loss() {
    let server = OwnServer::start_with(Server::Kafka, &[("KAFKA_TRANSACTION_VERSION", "1")]).unwrap();
    let cluster = Cluster::at(server.address()).await;
    let topic = cluster.topic(3).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("key", json!(["name"]));
    let mut process = job.start(2).await;
    let mut expected = Vec::new();
    for n in 0..8 {
        let name = format!("row {n}");
        process.write(usize::try_from(n % 2).unwrap(), rows(&[(n, &name)])).await;
        job.checkpoint(&mut process).await;
        assert_eq!(job.manifest[0].payload["transactionVersion"], 1);
        expected.push(name);
        if n % 3 == 0 {
            process.write(0, rows(&[(n, "never committed")])).await;
            process.kill();
            process = job.start(1 + usize::try_from(n % 2).unwrap()).await;
            assert_eq!(outcomes(&process.replayed), ["committed"]);
            if process.writers.len() == 1 {
                process.kill();
                process = job.start(2).await;
            }
        } else {
            assert_eq!(outcomes(&job.commit(&process).await), ["committed"]);
            assert_eq!(outcomes(&job.commit(&process).await), ["already"]);
        }
        assert_eq!(names(&cluster, &topic).await, expected);
    }
    assert!(cluster.open_transactions(&job.id).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_between_prepare_and_commit_commits_when_it_is_back() {
    for version in ["1", "2"] {
        let mut server = OwnServer::start_with(Server::Kafka, &[("KAFKA_TRANSACTION_VERSION", version)]).unwrap();
        let cluster = Cluster::at(server.address()).await;
        let topic = cluster.topic(2).await;
        let mut job = Job::new(&cluster.bootstrap, &topic);
        let mut process = job.start(1).await;
        process.write(0, rows(&[(1, "a"), (2, "b")])).await;
        job.checkpoint(&mut process).await;
        process.kill();
        server.crash().unwrap();
        server.up().unwrap();
        // And once more while the writer lives, in the middle of an epoch.
        let mut process = job.start(1).await;
        assert_eq!(outcomes(&process.replayed), ["committed"]);
        process.write(0, rows(&[(3, "c")])).await;
        process.writers[0].flush().await.unwrap();
        server.crash().unwrap();
        process.write(0, rows(&[(4, "d")])).await;
        server.up().unwrap();
        job.checkpoint(&mut process).await;
        assert_eq!(outcomes(&job.commit(&process).await), ["committed"]);
        assert_eq!(names(&cluster, &topic).await, ["a", "b", "c", "d"]);
    }
}
