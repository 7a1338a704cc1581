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
