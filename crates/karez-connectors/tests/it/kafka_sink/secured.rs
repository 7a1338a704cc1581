//! A broker with users and rights.

use super::client::Cluster;
use super::*;

fn login(job: Job, user: &str, password: &str) -> Job {
    job.with("security", json!({ "sasl": { "mechanism": "SCRAM-SHA-512", "username": user, "password": password } }))
}

async fn admin() -> Cluster {
    let bootstrap = karez_testkit::service("KAFKA_SASL");
    let auth = krafka::auth::AuthConfig::sasl_scram_sha512("admin", "admin-secret");
    let kafka = Arc::new(krafka::Kafka::builder(&bootstrap).security(auth).connect().await.unwrap());
    Cluster { kafka, bootstrap }
}

#[tokio::test]
async fn a_user_with_all_rights_writes_exactly_once_and_a_wrong_password_is_not_tried_again() {
    let cluster = admin().await;
    let topic = cluster.topic(1).await;
    let mut job = login(Job::new(&cluster.bootstrap, &topic), "admin", "admin-secret");
    let mut process = job.start(1).await;
    process.write(0, rows(&[(1, "a")])).await;
    job.commit_checkpoint(&mut process).await;
    assert_eq!(names(&cluster, &topic).await, ["a"]);
    assert!(!job.manifest[0].payload.to_string().contains("secret"));

    let mut wrong = login(Job::new(&cluster.bootstrap, &topic), "admin", "wrong");
    let refused = wrong.try_start(1).await.err().unwrap();
    assert!(!refused.is_retryable() && !refused.to_string().contains("wrong") || refused.to_string().contains("password"), "{refused}");
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let cluster = admin().await;
    let topic = cluster.topic(1).await;
    let mut job = login(Job::new(&cluster.bootstrap, &topic), "alice", "alice-secret");
    let refused = job.try_start(1).await.err().unwrap();
    assert!(!refused.is_retryable(), "{refused}");
    let message = refused.to_string();
    assert!(message.contains(&topic) && (message.contains("right") || message.contains("describe")), "{message}");
}

#[tokio::test]
async fn a_topic_that_does_not_exist_stops_the_job_before_the_first_row() {
    let bootstrap = karez_testkit::service("KAFKA_BOOTSTRAP");
    let mut job = Job::new(&bootstrap, &karez_testkit::unique("missing"));
    let refused = job.try_start(1).await.err().unwrap().to_string();
    assert!(refused.contains("there is no topic `missing_") && refused.contains("create it"), "{refused}");
    let sink = try_sink(&job.config, &job.schema, true).unwrap();
    assert!(sink.check().await.is_err());
}
