//! What became of a transaction that can no longer be ended: was it committed, or did the broker abort it?
//!
//! Producer and epoch answer that only as long as the coordinator remembers them. A savepoint is restored weeks later, when the id has been used again or has
//! expired (`transactional.id.expiration.ms`, 7 days): its transaction was committed then, but `EndTxn` is refused like one that timed out. So the log is
//! asked. A fetch from a transaction's first offset lists the aborted transactions that lie there; one that has ended and is not among them was committed.

use std::sync::Arc;
use std::time::Duration;

use karez_core::{Error, Result};
use krafka::__private::protocol::{ApiKey, FetchPartitionRequest, FetchRequest, FetchResponse, FetchTopicRequest, versions};
use krafka::Kafka;
use krafka::error::ErrorCode;

use super::coordinator::{checked, exchange};
use super::prepared::{OffsetRange, Prepared};
use crate::kafka::client::client_error;

/// Fetch versions above this name topics by id.
const BY_NAME: i16 = 12;

/// How often, and after which pause, a partition is asked whose transaction is being ended at this moment.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// What the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its rows are visible.
    Committed,
    /// Its rows never become visible.
    Aborted,
    /// Its rows have left the log by retention (or the topic was deleted), visible before or not.
    Forgotten,
}

/// Asks the log of a partition of the transaction; all its partitions have the same fate.
pub(super) async fn fate(kafka: &Arc<Kafka>, prepared: &Prepared) -> Result<Fate> {
    for range in &prepared.partitions {
        match in_partition(kafka, range, prepared.identity.producer_id).await? {
            Fate::Forgotten => {}
            known => return Ok(known),
        }
    }
    Ok(Fate::Forgotten)
}

async fn in_partition(kafka: &Arc<Kafka>, range: &OffsetRange, producer_id: i64) -> Result<Fate> {
    let doing = format!("see what became of the transaction in {range}");
    let metadata = krafka::__private::kafka_metadata(kafka);
    let mut missing = 0;
    for _ in 0..TRIES {
        let answer = async {
            let connection = metadata.get_leader_connection(&range.topic, range.partition).await?;
            let fetched: FetchResponse = exchange(&connection, ApiKey::Fetch, (versions::FETCH_MIN, BY_NAME), &request(range)).await?;
            checked(fetched.error_code)?;
            Ok(fetched)
        };
        let fetched = match answer.await {
            // A broker that has just come up may not know it yet.
            Err(krafka::KrafkaError::Broker { code: ErrorCode::UnknownTopicOrPartition, .. } | krafka::KrafkaError::UnknownTopic { .. }) => {
                missing += 1;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(e) if e.is_retriable() => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            answer => answer.map_err(|e| client_error(&doing, e))?,
        };
        let partition = fetched.responses.first().and_then(|t| t.partitions.first());
        let partition = partition.ok_or_else(|| Error::internal(format!("{doing}: the broker's answer does not mention the partition")))?;
        match partition.error_code {
            ErrorCode::OffsetOutOfRange => return Ok(Fate::Forgotten),
            ErrorCode::None if partition.log_start_offset > range.last_offset => return Ok(Fate::Forgotten),
            ErrorCode::None if partition.last_stable_offset > range.first_offset => {
                let within = |first: i64| (range.first_offset..=range.last_offset).contains(&first);
                let aborted = partition.aborted_transactions.iter().any(|t| t.producer_id == producer_id && within(t.first_offset));
                return Ok(if aborted { Fate::Aborted } else { Fate::Committed });
            }
            // Still being ended, or a leader that has just changed.
            ErrorCode::None => {}
            code if code.is_retriable() => drop(metadata.force_refresh(Some(&[&range.topic])).await),
            code => return Err(crate::kafka::client::broker_error(&doing, code, "")),
        }
        tokio::time::sleep(PAUSE).await;
    }
    if missing == TRIES {
        return Ok(Fate::Forgotten);
    }
    Err(Error::connection(format!("{doing}: it is still open, or its broker is away")))
}

/// The first rows of the range, at least one batch, as a reader of committed rows gets them.
fn request(range: &OffsetRange) -> FetchRequest {
    let mut partition = FetchPartitionRequest::default();
    partition.partition = range.partition;
    partition.fetch_offset = range.first_offset;
    partition.partition_max_bytes = 1;
    let mut topic = FetchTopicRequest::default();
    topic.topic.clone_from(&range.topic);
    topic.partitions = vec![partition];
    let mut request = FetchRequest::default();
    request.max_wait_ms = 0;
    request.min_bytes = 0;
    request.max_bytes = 1;
    request.isolation_level = 1;
    request.topics = vec![topic];
    request
}
