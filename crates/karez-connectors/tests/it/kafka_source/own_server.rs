//! Brokers that go away and come back.

use karez_testkit::{OwnServer, Server};
use serde_json::json;

use super::*;

#[tokio::test]
async fn a_broker_that_is_killed_and_comes_back_costs_no_row_and_makes_no_partition_idle() {
    let mut server = OwnServer::start(Server::Kafka).unwrap();
    let name = unique("lost");
    let topic = Topic::named(kafka_at(server.address()).await, &name, 2, &[]).await;
    topic.count(0, 0..100).await;
    let config = json!({ "bootstrapServers": server.address(), "topics": [name], "properties": { "fetch.max.wait.ms": 50 } });
    let mut job = Job::start(&config, &numbers()).await;
    job.settle().await;
    assert_eq!(job.take(), texts(0..100));
    server.crash().unwrap();
    // As soon as the loss is noticed, nobody can say that there is nothing.
    let deadline = Instant::now() + PATIENCE;
    while job.step().await.unwrap() != Step::Pending {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(Instant::now() < deadline);
    }
    for _ in 0..50 {
        assert_eq!(job.step().await.unwrap(), Step::Pending);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(job.metrics.retried.get() > 0);
    server.up().unwrap();
    let again = Topic { name: topic.name.clone(), kafka: kafka_at(server.address()).await };
    again.count(1, 100..200).await;
    assert_eq!(job.read(100).await.take(), texts(100..200));
}

#[tokio::test]
async fn a_job_that_begins_while_the_broker_is_away_is_told_to_try_again() {
    let server = OwnServer::start(Server::Kafka).unwrap();
    server.crash().unwrap();
    let config = json!({ "bootstrapServers": server.address(), "topics": ["t"] });
    let e = try_source(&config, Some(&numbers()), false).unwrap().check().await.unwrap_err();
    assert!(e.is_retryable() && e.to_string().contains(server.address()), "{e}");
}

/// Connections are taken and stay open, and nobody answers: a request is given up after its time-out, and rows come when the network passes them again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_stands_still_costs_no_row_and_makes_no_partition_idle() {
    let (_server, proxy) = OwnServer::kafka_behind_proxy().unwrap();
    let name = unique("stalled");
    let topic = Topic::named(kafka_at(&proxy.address()).await, &name, 2, &[]).await;
    topic.count(0, 0..100).await;
    let impatient = json!({ "fetch.max.wait.ms": 50, "request.timeout.ms": 1000, "socket.connection.setup.timeout.ms": 1000 });
    let config = json!({ "bootstrapServers": proxy.address(), "topics": [name], "properties": impatient });
    let mut job = Job::start(&config, &numbers()).await;
    assert_eq!(job.settle().await.take(), texts(0..100));
    proxy.stall();
    let deadline = Instant::now() + PATIENCE / 3;
    let mut pending = false;
    while job.metrics.retried.get() < 2 {
        let step = job.step().await.unwrap();
        assert!(step == Step::Pending || step == Step::CaughtUp && !pending, "{step:?}");
        pending |= step == Step::Pending;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(Instant::now() < deadline, "no request is given up");
    }
    assert_eq!(job.step().await.unwrap(), Step::Pending);
    proxy.back();
    let again = Topic { name: topic.name.clone(), kafka: kafka_at(&proxy.address()).await };
    again.count(1, 100..200).await;
    assert_eq!(job.read(100).await.take(), texts(100..200));
}
