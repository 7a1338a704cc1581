//! The topics that a writer has written to, and the batches of their partitions that take rows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use krafka::error::ErrorCode;
use krafka::{Kafka, KrafkaError};

use super::partitioner::Sticky;
use super::record_batch::OpenBatch;

/// A topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    /// One a partition.
    pub(super) open: Vec<OpenBatch>,
    pub(super) sticky: Sticky,
}

impl Topic {
    pub(super) fn partitions(&self) -> i32 {
        i32::try_from(self.open.len()).unwrap_or(i32::MAX)
    }
}

/// What a look-up of a topic gave.
pub(super) enum Found {
    At(usize),
    /// Why there is none.
    Missing(String),
}

/// By name.
#[derive(Debug)]
pub(super) struct Topics {
    kafka: Arc<Kafka>,
    subtask: usize,
    known: Vec<Topic>,
    by_name: HashMap<Arc<str>, usize>,
}

impl Topics {
    pub(super) fn new(kafka: Arc<Kafka>, subtask: usize) -> Self {
        Self { kafka, subtask, known: Vec::new(), by_name: HashMap::new() }
    }

    pub(super) fn get(&mut self, at: usize) -> Option<&mut Topic> {
        self.known.get_mut(at)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.known.iter_mut()
    }

    /// Where a topic known already stands.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Finds a topic, and how many partitions it has now: more may have been added since.
    pub(super) async fn find(&mut self, name: &str, patience: Duration) -> Result<Found, KrafkaError> {
        let metadata = krafka::__private::kafka_metadata(&self.kafka);
        let known = self.position(name);
        if known.is_some() {
            // Asks the brokers only where what is known is old; an outage is the sender's business.
            drop(tokio::time::timeout(Duration::from_secs(1), metadata.refresh_for_topics(Some(&[name]))).await);
        }
        let partitions = match (known, metadata.partition_count(name).filter(|n| *n > 0)) {
            (_, Some(partitions)) => partitions,
            (Some(at), None) => return Ok(Found::At(at)),
            (None, None) => match metadata.ensure_partition_count(name, patience).await {
                Ok(partitions) => partitions,
                Err(KrafkaError::Broker { code: ErrorCode::UnknownTopicOrPartition, .. } | KrafkaError::UnknownTopic { .. }) => {
                    return Ok(Found::Missing(format!("there is no topic `{name}`, or the user may not describe it")));
                }
                Err(e) => return Err(e),
            },
        };
        let at = known.unwrap_or_else(|| {
            let name: Arc<str> = name.into();
            self.by_name.insert(Arc::clone(&name), self.known.len());
            self.known.push(Topic { name, open: Vec::new(), sticky: Sticky::new(self.subtask) });
            self.known.len() - 1
        });
        let open = &mut self.known[at].open;
        if open.len() < partitions {
            open.resize_with(partitions, OpenBatch::default);
        }
        Ok(Found::At(at))
    }
}
