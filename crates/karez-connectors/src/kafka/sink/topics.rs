//! The topics that a writer has written to, and the batches of their partitions that take rows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use karez_core::{Error, Result};
use krafka::__private::metadata::ClusterMetadata;
use krafka::Kafka;
use krafka::error::ErrorCode;
use tokio::time::Instant;

use super::partitioner::Sticky;
use super::record_batch::OpenBatch;
use crate::kafka::client::{broker_error, client_error};

/// How long a topic that was not there is taken to be missing before it is looked for again.
const MISSING: Duration = Duration::from_secs(10);
/// Names of missing topics that are kept.
const MAX_MISSING: usize = 10_000;
/// How long one question to a broker may take, and the pause before the next.
const LOOK: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);

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

/// By name.
#[derive(Debug)]
pub(super) struct Topics {
    kafka: Arc<Kafka>,
    subtask: usize,
    known: Vec<Topic>,
    by_name: HashMap<Arc<str>, usize>,
    /// When these were looked for in vain.
    missing: HashMap<String, Instant>,
}

/// How long a look-up may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// While brokers say that there is no such topic: it may be in the making.
    pub(super) unknown: Duration,
    /// While no broker answers.
    pub(super) away: Duration,
}

impl Topics {
    pub(super) fn new(kafka: Arc<Kafka>, subtask: usize) -> Self {
        Self { kafka, subtask, known: Vec::new(), by_name: HashMap::new(), missing: HashMap::new() }
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

    /// Finds topics, and how many partitions they have now: more may have been added since. [`Self::position`] then tells which there are.
    ///
    /// # Errors
    /// No broker answers, or one refuses.
    pub(super) async fn find(&mut self, names: &[&str], patience: Patience) -> Result<()> {
        let (known, new): (Vec<&str>, Vec<&str>) = names.iter().copied().partition(|name| self.by_name.contains_key(*name));
        let metadata = Arc::clone(krafka::__private::kafka_metadata(&self.kafka));
        if !known.is_empty() {
            // Asks the brokers only where what is known is old; an outage is the sender's business.
            drop(tokio::time::timeout(LOOK, metadata.refresh_for_topics(Some(&known))).await);
        }
        self.look_up(&metadata, new, patience).await?;
        for name in names {
            if let Some(partitions) = metadata.partition_count(name).filter(|n| *n > 0) {
                self.add(name, partitions);
            }
        }
        Ok(())
    }

    /// Waits until the brokers have said of topics that nobody has written to yet how many partitions they have, or that they are missing.
    async fn look_up(&mut self, metadata: &ClusterMetadata, mut names: Vec<&str>, patience: Patience) -> Result<()> {
        let started = Instant::now();
        names.retain(|name| self.missing.get(*name).is_none_or(|since| since.elapsed() >= MISSING));
        loop {
            names.retain(|name| metadata.partition_count(name).is_none_or(|n| n == 0));
            let Some(first) = names.first() else { return Ok(()) };
            let doing = format!("find topic `{first}`");
            let asked = tokio::time::timeout(LOOK, metadata.force_refresh(Some(&names))).await;
            let answered = match asked {
                Ok(Ok(())) => true,
                Ok(Err(e)) if !e.is_retriable() => return Err(client_error(&doing, e)),
                Ok(Err(_)) | Err(_) => false,
            };
            names.retain(|name| metadata.partition_count(name).is_none_or(|n| n == 0));
            if let Some((name, code)) = names.iter().find_map(|name| Some((name, metadata.topic_error(name).filter(|c| !c.is_retriable())?))) {
                return Err(broker_error(&format!("find topic `{name}`"), code, ""));
            }
            let unknown = |name: &&str| metadata.topic_error(name) == Some(ErrorCode::UnknownTopicOrPartition);
            // One that was missing before is not waited for again.
            let waited = started.elapsed() >= patience.unknown || names.iter().all(|name| self.missing.contains_key(*name));
            if answered && waited && names.iter().all(unknown) {
                if self.missing.len() + names.len() > MAX_MISSING {
                    self.missing.clear();
                }
                self.missing.extend(names.iter().map(|name| ((*name).to_owned(), Instant::now())));
                return Ok(());
            }
            if started.elapsed() >= patience.away {
                return Err(Error::connection(format!("{doing}: no broker has said whether there is one for {} s", started.elapsed().as_secs())));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn add(&mut self, name: &str, partitions: usize) {
        let at = self.position(name).unwrap_or_else(|| {
            self.missing.remove(name);
            let name: Arc<str> = name.into();
            self.by_name.insert(Arc::clone(&name), self.known.len());
            self.known.push(Topic { name, open: Vec::new(), sticky: Sticky::new(self.subtask) });
            self.known.len() - 1
        });
        let open = &mut self.known[at].open;
        if open.len() < partitions {
            open.resize_with(partitions, OpenBatch::default);
        }
    }
}

/// Why rows cannot go to a topic.
pub(super) fn missing(name: &str) -> String {
    format!("there is no topic `{name}`, or the user may not describe it")
}
