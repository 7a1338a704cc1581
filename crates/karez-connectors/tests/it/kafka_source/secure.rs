//! Brokers that ask who one is: SASL, TLS, mutual TLS, rights.

use karez_core::Whose;
use krafka::admin::{AclBinding, AclOperation, AclPatternType, AclPermissionType, AclResourceType, CreateAclsOptions};
use krafka::auth::AuthConfig;
use serde_json::json;

use super::*;

async fn admin() -> Kafka {
    let auth = AuthConfig::sasl_plain("admin", "admin-secret");
    Kafka::builder(service("KAFKA_SASL")).security(auth).connect().await.unwrap()
}

async fn topic() -> Topic {
    let topic = Topic::named(admin().await, &unique("secure"), 1, &[]).await;
    topic.count(0, 0..10).await;
    topic
}

/// Gives `alice` a right.
pub async fn allow(kafka: &Kafka, kind: AclResourceType, name: &str, operation: AclOperation) {
    let acl = AclBinding {
        resource_type: kind,
        resource_name: name.into(),
        // krafka 0.28.1 numbers them one too low: this goes out as Kafka's LITERAL.
        pattern_type: AclPatternType::Prefixed,
        principal: "User:alice".into(),
        host: "*".into(),
        operation,
        permission_type: AclPermissionType::Allow,
    };
    for made in kafka.admin().create_acls(vec![acl], CreateAclsOptions::default()).await.unwrap() {
        made.1.unwrap();
    }
}

fn sasl(mechanism: &str, user: &str, password: &str) -> Value {
    json!({ "mechanism": mechanism, "username": user, "password": password })
}

fn config(topic: &Topic, address: &str, security: Value) -> Value {
    json!({ "bootstrapServers": service(address), "topics": [topic.name], "security": security })
}

async fn reads(config: &Value) {
    try_source(config, Some(&numbers()), false).unwrap().check().await.unwrap();
    assert_eq!(Job::start(config, &numbers()).await.settle().await.take(), texts(0..10));
}

async fn refused(config: &Value) -> String {
    let source = try_source(config, Some(&numbers()), false).unwrap();
    let checked = source.check().await.unwrap_err();
    let e = failure(config, &numbers(), None).await;
    assert!(e.whose() == Whose::External && !e.is_retryable() && !checked.is_retryable(), "{e}; {checked}");
    e.to_string()
}

#[tokio::test]
async fn users_are_let_in_by_plain_and_scram_with_and_without_tls() {
    let topic = topic().await;
    let ca = service("KAFKA_CA");
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let user = sasl(mechanism, "admin", "admin-secret");
        reads(&config(&topic, "KAFKA_SASL", json!({ "sasl": user }))).await;
        reads(&config(&topic, "KAFKA_SASL_SSL", json!({ "sasl": user, "tls": { "ca": ca } }))).await;
    }
}

#[tokio::test]
async fn the_settings_of_a_java_client_work_as_properties() {
    let topic = topic().await;
    let jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"admin\" password=\"admin-secret\";";
    let properties = json!({
        "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-256", "sasl.jaas.config": jaas,
        "ssl.truststore.type": "PEM", "ssl.truststore.location": service("KAFKA_CA"),
    });
    reads(&json!({ "bootstrapServers": service("KAFKA_SASL_SSL"), "topic": topic.name, "properties": properties })).await;
}

#[tokio::test]
async fn a_certificate_lets_in() {
    let topic = topic().await;
    let tls = json!({ "ca": service("KAFKA_CA"), "certificate": service("KAFKA_CLIENT_CERTIFICATE"), "key": service("KAFKA_CLIENT_KEY") });
    reads(&config(&topic, "KAFKA_MTLS", json!({ "tls": tls }))).await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_for_good() {
    let topic = topic().await;
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let e = refused(&config(&topic, "KAFKA_SASL", json!({ "sasl": sasl(mechanism, "admin", "wrong-secret") }))).await;
        assert!(e.contains("check `security`") && !e.contains("wrong-secret"), "{e}");
    }
}

#[tokio::test]
async fn a_broker_whose_certificate_is_not_trusted_is_refused() {
    let topic = topic().await;
    let user = sasl("PLAIN", "admin", "admin-secret");
    let e = refused(&config(&topic, "KAFKA_SASL_SSL", json!({ "sasl": user, "tls": {} }))).await;
    assert!(e.contains("certificate"), "{e}");
}

#[tokio::test]
async fn a_client_without_security_is_told_of_it_by_a_listener_that_wants_tls_or_sasl() {
    let check = async |address: &str| {
        let config = json!({ "bootstrapServers": address, "topic": "any", "external": { "timeout": "5s" } });
        try_source(&config, Some(&numbers()), false).unwrap().check().await.unwrap_err().to_string()
    };
    for listener in ["KAFKA_SASL", "KAFKA_SASL_SSL", "KAFKA_MTLS"] {
        let e = check(&service(listener)).await;
        assert!(e.contains("may want TLS or SASL (see `security`)"), "{listener}: {e}");
    }
    let nobody = check("127.0.0.1:1").await;
    assert!(!nobody.contains("security"), "nobody listens there: {nobody}");
}

#[tokio::test]
async fn a_client_that_takes_a_listener_for_another_is_told_what_it_seems_to_be() {
    let (user, tls) = (sasl("PLAIN", "admin", "admin-secret"), json!({ "ca": service("KAFKA_CA") }));
    for (listener, security, said) in [
        ("KAFKA_BOOTSTRAP", json!({ "tls": tls }), "does not seem to speak TLS (see `security.tls`), or asks for a user (see `security.sasl`)"),
        ("KAFKA_SASL_SSL", json!({ "tls": tls }), "does not seem to speak TLS (see `security.tls`), or asks for a user (see `security.sasl`)"),
        ("KAFKA_SASL", json!({ "tls": tls, "sasl": user }), "does not seem to speak TLS (see `security.tls`)"),
        ("KAFKA_BOOTSTRAP", json!({ "sasl": user }), "asks for no user (see `security.sasl`)"),
        ("KAFKA_SASL_SSL", json!({ "sasl": user }), "may want TLS (see `security.tls`)"),
    ] {
        let config = json!({ "bootstrapServers": service(listener), "topic": "any", "security": security, "external": { "timeout": "5s" } });
        let e = try_source(&config, Some(&numbers()), false).unwrap().check().await.unwrap_err().to_string();
        assert!(e.contains(&format!(", whose listener {said}")), "{listener}: {e}");
    }
}

#[tokio::test]
async fn a_key_that_is_not_the_certificates_is_refused_with_both_files() {
    let (certificate, key) = (service("KAFKA_CLIENT_CERTIFICATE"), std::path::Path::new(&service("KAFKA_CA")).with_file_name("server.key"));
    let security = json!({ "tls": { "certificate": certificate, "key": key } });
    let e = try_source(&json!({ "bootstrapServers": "127.0.0.1:1", "topic": "any", "security": security }), Some(&numbers()), false).err().unwrap();
    let said =
        format!("`security.tls.key`: the key in `{}` is not that of the certificate in `{certificate}` (`security.tls.certificate`)", key.display());
    assert!(e.to_string().contains(&said), "{e}");
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let topic = topic().await;
    let alice = config(&topic, "KAFKA_SASL", json!({ "sasl": sasl("SCRAM-SHA-512", "alice", "alice-secret") }));
    let source = try_source(&alice, Some(&numbers()), false).unwrap();
    let e = source.check().await.unwrap_err();
    assert!(e.to_string().contains(&topic.name), "without `Describe` a topic is not to be seen: {e}");
    allow(&topic.kafka, AclResourceType::Topic, &topic.name, AclOperation::Describe).await;
    let e = refused(&alice).await;
    assert!(e.contains("`Read`"), "{e}");
    allow(&topic.kafka, AclResourceType::Topic, &topic.name, AclOperation::Read).await;
    reads(&alice).await;
    let mut group = alice.clone();
    let name = unique("g");
    group["groupId"] = json!(name);
    let e = refused(&group).await;
    assert!(e.contains("consumer group"), "{e}");

    // Who may look at a group may not commit offsets to it yet.
    allow(&topic.kafka, AclResourceType::Group, &name, AclOperation::Describe).await;
    let source = try_source(&group, Some(&numbers()), false).unwrap();
    let e = source.check().await.unwrap_err();
    let said = format!("commit offsets to the group `{name}`");
    assert!(e.to_string().contains(&said) && e.to_string().contains("`Read` on the consumer group") && !e.is_retryable(), "{e}");
    let mut job = Job::start(&group, &numbers()).await;
    assert_eq!(job.settle().await.take(), texts(0..10));
    let e = job.completed().await.unwrap_err();
    assert!(e.to_string().contains(&said) && e.to_string().contains("`Read` on the consumer group"), "{e}");
    let mut silent = group.clone();
    silent["commitMode"] = json!("off");
    reads(&silent).await;

    allow(&topic.kafka, AclResourceType::Group, &name, AclOperation::Read).await;
    reads(&group).await;
    let mut job = Job::start(&group, &numbers()).await;
    job.settle().await.completed().await.unwrap();
}
