//! Brokers with users, rights, and encryption.

use karez_testkit::service;
use krafka::admin::{AclOperation, AclResourceType};

use super::client::Cluster;
use super::*;
use crate::kafka_source::secure::allow;

fn sasl(mechanism: &str, user: &str, password: &str) -> Value {
    json!({ "mechanism": mechanism, "username": user, "password": password })
}

/// A job at the listener that this variable names.
fn job_at(listener: &str, topic: &str, security: Value) -> Job {
    Job::new(&service(listener), topic).with("security", security)
}

fn alice(topic: &str) -> Job {
    job_at("KAFKA_SASL", topic, json!({ "sasl": sasl("SCRAM-SHA-512", "alice", "alice-secret") }))
}

async fn admin() -> Cluster {
    let bootstrap = service("KAFKA_SASL");
    let auth = krafka::auth::AuthConfig::sasl_scram_sha512("admin", "admin-secret");
    let kafka = Arc::new(krafka::Kafka::builder(&bootstrap).security(auth).connect().await.unwrap());
    Cluster { kafka, bootstrap }
}

/// A row in a transaction that its own process commits, one that the next process commits, and one without transactions.
async fn writes(cluster: &Cluster, topic: &str, mut job: Job) {
    let sink = try_sink(&job.config, &job.schema, true).unwrap();
    sink.check().await.unwrap_or_else(|e| panic!("{}: {e}", job.config));
    let mut process = job.start(1).await;
    process.write(0, rows(&[(1, "a")])).await;
    job.commit_checkpoint(&mut process).await;
    process.write(0, rows(&[(2, "b")])).await;
    job.checkpoint(&mut process).await;
    process.write(0, rows(&[(3, "aborted")])).await;
    process.kill();
    let process = job.start(1).await;
    assert_eq!(outcomes(&process.replayed), ["committed"]);
    assert!(cluster.open_transactions(&job.id).await.is_empty());
    assert!(!json!([job.manifest, job.states]).to_string().contains("secret"));
    drop(process);

    let mut job = job.at_least_once();
    (job.manifest, job.states) = (Vec::new(), Vec::new());
    let mut process = job.start(1).await;
    process.write(0, rows(&[(3, "c")])).await;
    job.checkpoint(&mut process).await;
    assert_eq!(names(cluster, topic).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn rows_are_written_by_users_of_every_mechanism_with_and_without_tls() {
    let (cluster, tls) = (admin().await, json!({ "ca": service("KAFKA_CA") }));
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let user = sasl(mechanism, "admin", "admin-secret");
        for (listener, security) in [("KAFKA_SASL", json!({ "sasl": user })), ("KAFKA_SASL_SSL", json!({ "sasl": user, "tls": tls }))] {
            let topic = cluster.topic(2).await;
            writes(&cluster, &topic, job_at(listener, &topic, security)).await;
        }
    }
}

#[tokio::test]
async fn rows_are_written_by_who_has_a_certificate() {
    let cluster = admin().await;
    let topic = cluster.topic(2).await;
    let tls = json!({ "ca": service("KAFKA_CA"), "certificate": service("KAFKA_CLIENT_CERTIFICATE"), "key": service("KAFKA_CLIENT_KEY") });
    writes(&cluster, &topic, job_at("KAFKA_MTLS", &topic, json!({ "tls": tls }))).await;
}

#[tokio::test]
async fn who_is_not_let_in_is_not_tried_again() {
    let cluster = admin().await;
    let topic = cluster.topic(1).await;
    let user = |password: &str| json!({ "sasl": sasl("SCRAM-SHA-512", "admin", password) });
    let wrong = job_at("KAFKA_SASL", &topic, user("not-the-secret"));
    let untrusted = job_at("KAFKA_SASL_SSL", &topic, json!({ "sasl": sasl("PLAIN", "admin", "admin-secret"), "tls": {} }));
    let unknown = job_at("KAFKA_MTLS", &topic, json!({ "tls": { "ca": service("KAFKA_CA") } }));
    for mut job in [wrong, untrusted, unknown] {
        let refused = job.try_start(1).await.err().unwrap();
        assert!(!refused.is_retryable() && refused.to_string().contains("check `security`"), "{}: {refused}", job.config);
        assert!(!format!("{refused} {refused:?}").contains("not-the-secret"), "{refused}");
    }
}

#[tokio::test]
async fn rights_that_are_missing_are_named_one_by_one_until_rows_are_written() {
    let cluster = admin().await;
    let topic = cluster.topic(1).await;
    let refused_by_check = || async {
        let mut job = alice(&topic);
        let checked = try_sink(&job.config, &job.schema, true).unwrap().check().await.unwrap_err();
        let refused = job.try_start(1).await.err().unwrap();
        assert!(!refused.is_retryable() && !checked.is_retryable() && refused.to_string() == checked.to_string(), "{refused}; {checked}");
        refused.to_string()
    };
    let message = refused_by_check().await;
    assert!(message.contains(&topic) && message.to_lowercase().contains("describe"), "{message}");
    allow(&cluster.kafka, AclResourceType::Topic, &topic, AclOperation::Describe).await;
    let message = refused_by_check().await;
    assert!(message.contains(&format!("the right `Write` to the topic `{topic}`")), "{message}");
    allow(&cluster.kafka, AclResourceType::Topic, &topic, AclOperation::Write).await;

    // Without transactions that is enough.
    let mut plain = alice(&topic).at_least_once();
    let mut process = plain.start(1).await;
    process.write(0, rows(&[(1, "a")])).await;
    plain.checkpoint(&mut process).await;
    drop(process);

    let mut job = alice(&topic);
    let mut process = job.start(1).await;
    let refused = process.writers[0].write(rows(&[(2, "b")])).await.unwrap_err();
    let id = format!("karez/{}/out/{}/0/", job.id, job.run);
    let message = refused.to_string();
    assert!(!refused.is_retryable() && message.contains(&id) && message.contains("`Write` on the transactional id"), "{message}");
    drop(process);
    for number in 0..3 {
        allow(&cluster.kafka, AclResourceType::TransactionalId, &format!("{id}{number}"), AclOperation::Write).await;
    }
    let mut process = job.start(1).await;
    process.write(0, rows(&[(2, "b")])).await;
    job.commit_checkpoint(&mut process).await;
    assert_eq!(names(&cluster, &topic).await, ["a", "b"]);
}

#[tokio::test]
async fn a_topic_that_does_not_exist_stops_the_job_before_the_first_row() {
    let bootstrap = service("KAFKA_BOOTSTRAP");
    let mut job = Job::new(&bootstrap, &unique("missing"));
    let refused = job.try_start(1).await.err().unwrap().to_string();
    assert!(refused.contains("there is no topic `missing_") && refused.contains("create it"), "{refused}");
    let sink = try_sink(&job.config, &job.schema, true).unwrap();
    assert!(sink.check().await.is_err());
}
