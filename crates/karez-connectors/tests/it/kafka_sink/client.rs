//! A reader that shows exactly what readers of committed (or of all) rows can see now, without waiting for more.

use std::sync::Arc;

use bytes::Bytes;
use krafka::__private::protocol::{
    ApiKey, FetchPartitionRequest, FetchRequest, FetchResponse, FetchTopicRequest, RecordBatch, VersionedDecode, VersionedEncode,
};
use krafka::Kafka;
use krafka::admin::{CreateTopicsOptions, DescribeTransactionsOptions, ListTransactionsOptions, NewTopic};
use serde_json::Value;

/// A message as it lies in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub value: Option<String>,
    pub timestamp_ms: i64,
    pub headers: Vec<(String, Option<String>)>,
}

impl Message {
    /// `name` of a value in JSON.
    pub fn name(&self) -> String {
        let value: Value = serde_json::from_str(self.value.as_deref().unwrap()).unwrap();
        value["name"].as_str().unwrap().to_owned()
    }
}

pub struct Cluster {
    pub kafka: Arc<Kafka>,
    pub bootstrap: String,
}

impl Cluster {
    /// The shared broker.
    pub async fn shared() -> Self {
        Self::at(&karez_testkit::service("KAFKA_BOOTSTRAP")).await
    }

    pub async fn at(bootstrap: &str) -> Self {
        let kafka = Arc::new(Kafka::builder(bootstrap).connect().await.unwrap());
        Self { kafka, bootstrap: bootstrap.to_owned() }
    }

    /// A topic of the test's own.
    pub async fn topic(&self, partitions: i32) -> String {
        self.topic_with(partitions, &[]).await
    }

    pub async fn topic_with(&self, partitions: i32, config: &[(&str, &str)]) -> String {
        let name = karez_testkit::unique("sink");
        self.create(&name, partitions, config).await;
        name
    }

    pub async fn create(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        let topic = config.iter().fold(NewTopic::new(name, partitions, 1).unwrap(), |t, (k, v)| t.with_config(*k, *v));
        let created = self.kafka.admin().create_topics(vec![topic], CreateTopicsOptions::default()).await.unwrap();
        for result in created.into_values() {
            result.unwrap();
        }
        krafka::__private::kafka_metadata(&self.kafka).ensure_partition_count(name, std::time::Duration::from_secs(10)).await.unwrap();
    }

    /// What readers with `isolation.level=read_committed` see. A coordinator answers a commit before its markers are in the log: those under way are
    /// waited for.
    pub async fn committed(&self, topic: &str) -> Vec<Message> {
        let ending = self.transactions_in(&["PrepareCommit", "PrepareAbort"]).await;
        super::until("transactions that were being ended have ended", || async {
            let still = self.transactions_in(&["PrepareCommit", "PrepareAbort"]).await;
            ending.iter().all(|id| !still.contains(id))
        })
        .await;
        self.read(topic, 1).await
    }

    /// What readers of everything see, aborted rows and those of open transactions included.
    pub async fn uncommitted(&self, topic: &str) -> Vec<Message> {
        self.read(topic, 0).await
    }

    async fn read(&self, topic: &str, isolation: i8) -> Vec<Message> {
        let metadata = krafka::__private::kafka_metadata(&self.kafka);
        let partitions = metadata.ensure_partition_count(topic, std::time::Duration::from_secs(10)).await.unwrap();
        let mut messages = Vec::new();
        for partition in 0..i32::try_from(partitions).unwrap() {
            let mut offset = 0;
            while let Some(next) = self.fetch(topic, partition, offset, isolation, &mut messages).await {
                offset = next;
            }
        }
        messages
    }

    async fn fetch(&self, topic: &str, partition: i32, offset: i64, isolation: i8, messages: &mut Vec<Message>) -> Option<i64> {
        let mut one = FetchPartitionRequest::default();
        (one.partition, one.fetch_offset, one.partition_max_bytes) = (partition, offset, 64 << 20);
        let mut of_topic = FetchTopicRequest::default();
        (of_topic.topic, of_topic.partitions) = (topic.to_owned(), vec![one]);
        let mut request = FetchRequest::default();
        (request.max_bytes, request.isolation_level, request.topics) = (64 << 20, isolation, vec![of_topic]);
        let answer = self.ask(topic, partition, &request).await;
        let fetched = &answer.responses[0].partitions[0];
        let mut aborted: Vec<(i64, i64)> = fetched.aborted_transactions.iter().map(|a| (a.producer_id, a.first_offset)).collect();
        let mut bytes = fetched.records.clone().unwrap_or_default();
        let mut next = None;
        while !bytes.is_empty() {
            let Ok(batch) = RecordBatch::decode(&mut bytes) else { break };
            let is_aborted = |aborted: &[(i64, i64)]| aborted.iter().any(|(p, first)| *p == batch.producer_id && *first <= batch.base_offset);
            if batch.attributes.is_control_batch {
                // The end of one transaction: an abort takes the oldest one of the producer off the list.
                if batch.records.first().and_then(|r| r.key.as_ref()).is_some_and(|k| k.as_ref().ends_with(&[0, 0]))
                    && let Some(at) = aborted.iter().position(|(p, _)| *p == batch.producer_id)
                {
                    aborted.remove(at);
                }
            } else if isolation == 0 || !(batch.attributes.is_transactional && is_aborted(&aborted)) {
                let text = |b: &Bytes| String::from_utf8_lossy(b).into_owned();
                messages.extend(batch.records.iter().filter(|r| batch.base_offset + i64::from(r.offset_delta) >= offset).map(|r| Message {
                    partition,
                    offset: batch.base_offset + i64::from(r.offset_delta),
                    key: r.key.as_ref().map(text),
                    value: r.value.as_ref().map(text),
                    timestamp_ms: batch.base_timestamp + r.timestamp_delta,
                    headers: r.headers.iter().map(|h| (text(&h.key), h.value.as_ref().map(text))).collect(),
                }));
            }
            next = Some(batch.base_offset + i64::from(batch.last_offset_delta) + 1);
        }
        next
    }

    /// A connection may have been cut since it was used last.
    /// Asks until the partition's leader is there: it is not at once for one that was added.
    async fn ask(&self, topic: &str, partition: i32, request: &FetchRequest) -> FetchResponse {
        let mut tries = 0;
        loop {
            let answer = async {
                let connection = krafka::__private::kafka_metadata(&self.kafka).get_leader_connection(topic, partition).await?;
                connection.send_request(ApiKey::Fetch, 12, |b| request.encode_versioned(12, b)).await
            };
            match answer.await {
                Ok(mut answer) => {
                    let answer = FetchResponse::decode_versioned(12, &mut answer).unwrap();
                    let code = answer.responses[0].partitions[0].error_code;
                    if code.is_ok() {
                        return answer;
                    }
                    assert!(code.is_retriable() && tries < 200, "{code:?}");
                }
                Err(e) => assert!(e.is_retriable() && tries < 200, "{e}"),
            }
            tries += 1;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// The transactional ids of a job that are open now.
    pub async fn open_transactions(&self, job: &str) -> Vec<String> {
        let mut open = self.transactions_in(&["Ongoing"]).await;
        open.retain(|id| id.contains(job));
        open
    }

    async fn transactions_in(&self, states: &[&str]) -> Vec<String> {
        let options = ListTransactionsOptions::default().states(states.iter().map(|s| (*s).to_owned()).collect());
        let listed = self.kafka.admin().list_transactions(options).await.unwrap();
        let mut ids: Vec<String> = listed.into_values().flat_map(|of_broker| of_broker.unwrap()).map(|t| t.transactional_id).collect();
        ids.sort();
        ids
    }

    /// The state of a transaction at its coordinator, and the producer's epoch.
    pub async fn transaction(&self, id: &str) -> (String, i16) {
        let described = self.kafka.admin().describe_transactions([id], DescribeTransactionsOptions::default()).await.unwrap();
        let described = described.into_values().next().unwrap().unwrap();
        (described.state, described.producer_epoch)
    }
}
