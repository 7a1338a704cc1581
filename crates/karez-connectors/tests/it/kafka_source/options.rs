//! Options and properties: honoured, or refused with a reason.

use serde_json::json;

use super::*;

fn errors(config: &Value) -> String {
    match try_source(config, Some(&numbers()), false) {
        Ok(_) => String::new(),
        Err(e) => e.to_string(),
    }
}

fn with(more: Value) -> Value {
    let mut config = json!({ "bootstrapServers": "localhost:9092", "topics": ["t"] });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

#[test]
fn the_keys_of_the_design_document_work_as_written_there() {
    let document = json!({
        "bootstrapServers": "localhost:9092",
        "consumerGroup": "etl-consumer",
        "topics": ["user-events", "order-events"],
        "properties": { "enable.auto.commit": false, "max.poll.records": 500 },
    });
    assert_eq!(errors(&document), "");
    assert_eq!(errors(&json!({ "bootstrapServers": "localhost:9092", "topics": ["user-events"], "groupId": "etl-consumer" })), "");
}

#[test]
fn properties_are_honoured_or_refused_with_the_reason() {
    for (name, value, reason) in [
        ("session.timeout.ms", json!(45000), "is no member of the group"),
        ("partition.assignment.strategy", json!("range"), "is no member of the group"),
        ("key.deserializer", json!("x.StringDeserializer"), "Java class"),
        ("linger.ms", json!(5), "other end"),
        ("acks", json!("all"), "other end"),
        ("sasl.kerberos.service.name", json!("kafka"), "Kerberos"),
        ("ssl.keystore.password", json!("x"), "PEM"),
        ("fetch.min.byte", json!(1), "did you mean `fetch.min.bytes`?"),
        ("fetch.min.bytes", json!("many"), "expected a whole number"),
        ("max.poll.records", json!(0), "at least 1"),
        ("isolation.level", json!("serializable"), "read_committed or read_uncommitted"),
        ("auto.offset.reset", json!("begin"), "earliest, latest or none"),
        ("allow.auto.create.topics", json!(true), "creates no topic"),
    ] {
        let e = errors(&with(json!({ "properties": { name: value } })));
        assert!(e.contains(name) && e.contains(reason), "{name}: {e}");
    }
    for good in [
        json!({ "fetch.min.bytes": 100, "fetch.max.wait.ms": 50, "fetch.max.bytes": 1_000_000, "max.partition.fetch.bytes": 100_000 }),
        json!({ "isolation.level": "read_uncommitted", "check.crcs": "false", "client.rack": "a" }),
        json!({ "request.timeout.ms": 20000, "socket.connection.setup.timeout.ms": 5000, "metadata.max.age.ms": 60000 }),
        json!({ "request.timeout.ms": 5000, "retry.backoff.ms": 20, "retry.backoff.max.ms": 2000 }),
        json!({ "connections.max.idle.ms": -1, "send.buffer.bytes": -1, "receive.buffer.bytes": 65536, "client.id": "me" }),
    ] {
        assert_eq!(errors(&with(json!({ "properties": good }))), "");
    }
}

#[test]
fn what_is_given_twice_is_refused() {
    let e = errors(&with(json!({ "groupId": "a", "properties": { "group.id": "b" } })));
    assert!(e.contains("`groupId` sets this already"), "{e}");
    let e = errors(&with(json!({ "topic": "u" })));
    assert!(e.contains("exactly one of `topics`, `topic` and `topicPattern`"), "{e}");
}

#[test]
fn kerberos_and_what_is_not_known_is_refused_clearly() {
    let sasl = |mechanism: &str| with(json!({ "security": { "sasl": { "mechanism": mechanism, "username": "u", "password": "p" } } }));
    assert!(errors(&sasl("GSSAPI")).contains("Kerberos (GSSAPI) is not supported"));
    assert!(errors(&sasl("MAGIC")).contains("use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"));
    assert_eq!(errors(&sasl("SCRAM-SHA-512")), "");
    let jaas = "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true;";
    let e = errors(&with(json!({ "properties": { "security.protocol": "SASL_SSL", "sasl.jaas.config": jaas } })));
    assert!(e.contains("Kerberos"), "{e}");
    let e = errors(&with(json!({ "properties": { "security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI" } })));
    assert!(e.contains("Kerberos"), "{e}");
}

#[test]
fn secrets_are_not_shown() {
    let config = with(json!({
        "security": { "sasl": { "mechanism": "PLAIN", "username": "u", "password": "hunter2" } },
        "properties": { "ssl.key.password": "hunter2" },
    }));
    let options: karez_connectors::kafka::KafkaSourceOptions = serde_json::from_value(config.clone()).unwrap();
    assert!(!format!("{options:?}").contains("hunter2"));
    assert!(!errors(&config).contains("hunter2"));
}

#[test]
fn other_mistakes_say_what_to_do() {
    for (config, what) in [
        (json!({ "topics": ["t"] }), "`bootstrapServers`: missing"),
        (json!({ "bootstrapServers": "localhost", "topics": ["t"] }), "write it as `host:9092`"),
        (with(json!({ "topics": ["a b"] })), "no name of a topic"),
        (json!({ "bootstrapServers": "h:1", "topicPattern": "(" }), "no regular expression"),
        (with(json!({ "startFrom": "group-offsets" })), "set `groupId`"),
        (with(json!({ "startFrom": "start" })), "none of `earliest`"),
        (with(json!({ "commitMode": "sync" })), "set `groupId`"),
        (with(json!({ "metadata": { "n": "offset" } })), "one of the message's, too"),
        (with(json!({ "metadata": ["ofset"] })), "metadata"),
        (with(json!({ "topicz": "t" })), "unknown key"),
        (with(json!({ "external": { "rateLimit": { "calls": 1 } } })), "rateLimit"),
        (with(json!({ "external": { "retry": { "attempts": 0 } } })), "`external.retry.attempts`"),
        (with(json!({ "external": { "timeout": "5s" }, "properties": { "request.timeout.ms": 5 } })), "`external.timeout` sets this already"),
    ] {
        let e = errors(&config);
        assert!(e.contains(what), "{config}: {e}");
    }
}
