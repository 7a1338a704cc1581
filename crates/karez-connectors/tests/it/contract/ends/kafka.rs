//! A topic.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_connectors::kafka::KafkaConnector;
use karez_core::Connector;
use karez_testkit::{Proxy, Topic, service, unique};
use serde_json::{Value, json};

use super::super::{End, Guarded, Remote, WRONG_PASSWORD, by_id};
use super::{BEFORE_THE_EPOCH_MS, common_types};

/// A topic of three partitions with JSON messages. It is there from the beginning: no sink of this system creates its target.
pub struct Kafka {
    topic: Topic,
    /// The network that the broker tells its clients to come through, where there is one.
    proxy: Option<Arc<Proxy>>,
}

impl Kafka {
    /// A topic of a broker that tells its clients to come through `proxy`.
    pub fn behind(proxy: &Arc<Proxy>) -> Self {
        let topic = Topic::create(&proxy.address(), &unique("contract"), 3).unwrap();
        Self { topic, proxy: Some(Arc::clone(proxy)) }
    }
}

#[async_trait]
impl Remote for Kafka {
    async fn at(address: &str) -> Self {
        Self { topic: Topic::create(address, &unique("contract"), 3).unwrap(), proxy: None }
    }

    fn through(&self, config: Value) -> (Value, Arc<Proxy>) {
        (config, Arc::clone(self.proxy.as_ref().expect("a broker that knows of its proxy")))
    }
}

/// A broker that asks who one is. Its topics are not there: who has no right does not learn of it.
pub struct SecureKafka(String);

impl SecureKafka {
    fn secured(&self, user: &str, password: &str) -> Value {
        json!({ "sasl": { "mechanism": "SCRAM-SHA-256", "username": user, "password": password } })
    }
}

#[async_trait]
impl End for SecureKafka {
    async fn fresh() -> Self {
        Self(unique("contract"))
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(KafkaConnector)
    }

    fn sink(&self) -> Value {
        json!({ "bootstrapServers": service("KAFKA_SASL"), "topic": self.0, "security": self.secured("admin", "admin-secret") })
    }

    fn source(&self) -> Value {
        json!({ "bootstrapServers": service("KAFKA_SASL"), "topics": [self.0], "startFrom": "earliest", "stopAt": "latest",
            "security": self.secured("admin", "admin-secret") })
    }

    fn declares_schema(&self) -> bool {
        true
    }

    async fn create(&self) {}

    async fn insert(&self, _: &[(i64, Option<&str>)]) {}

    async fn visible(&self) -> Vec<String> {
        Vec::new()
    }

    fn every_type(&self) -> RecordBatch {
        common_types(&[], BEFORE_THE_EPOCH_MS)
    }
}

impl Guarded for SecureKafka {
    fn with_wrong_password(&self, mut config: Value) -> Value {
        config["security"] = self.secured("admin", WRONG_PASSWORD);
        config
    }

    fn without_rights(&self, mut config: Value) -> Value {
        config["security"] = self.secured("alice", "alice-secret");
        config
    }
}

#[async_trait]
impl End for Kafka {
    async fn fresh() -> Self {
        Self::at(&service("KAFKA_BOOTSTRAP")).await
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(KafkaConnector)
    }

    fn sink(&self) -> Value {
        json!({ "bootstrapServers": self.topic.bootstrap, "topic": self.topic.name, "format": "json", "key": ["id"], "guarantee": "transactional",
            "transactionalIdPrefix": self.topic.name })
    }

    fn source(&self) -> Value {
        json!({ "bootstrapServers": self.topic.bootstrap, "topics": [self.topic.name], "format": "json", "startFrom": "earliest", "stopAt": "latest" })
    }

    fn declares_schema(&self) -> bool {
        true
    }

    async fn create(&self) {}

    async fn insert(&self, rows: &[(i64, Option<&str>)]) {
        let message =
            |(id, name): &(i64, Option<&str>)| (Some(id.to_string().into_bytes()), Some(json!({ "id": id, "name": name }).to_string().into_bytes()));
        self.topic.produce(rows.iter().map(message)).await.unwrap();
    }

    async fn visible(&self) -> Vec<String> {
        let line = |value: Vec<u8>| {
            let row: Value = serde_json::from_slice(&value).unwrap();
            format!("{}|{}", row["id"], row["name"].as_str().unwrap_or("NULL"))
        };
        let mut lines: Vec<_> = self.topic.read_committed().await.unwrap().into_iter().map(|m| line(m.value.unwrap())).collect();
        by_id(&mut lines);
        lines
    }

    fn every_type(&self) -> RecordBatch {
        common_types(&[], BEFORE_THE_EPOCH_MS)
    }
}
