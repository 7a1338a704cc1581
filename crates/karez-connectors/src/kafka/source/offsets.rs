//! Offsets that the cluster is asked for: ends of logs, instants, what a group has committed.

use std::collections::HashMap;
use std::time::Duration;

use karez_core::{Error, Result};
use krafka::admin::{AlterConsumerGroupOffsetsOptions, ListConsumerGroupOffsetsOptions, ListOffsetsOptions, OffsetSpec};
use krafka::error::ErrorCode;
use krafka::{Kafka, KrafkaError};

use super::start::TopicPartition;
use crate::kafka::client::client_error;

fn theirs(at: &TopicPartition) -> krafka::admin::TopicPartition {
    krafka::admin::TopicPartition::new(at.topic.clone(), at.partition)
}

/// The offset of each partition at `spec`. Without a record at or behind an instant: the end.
pub(super) async fn list(
    kafka: &Kafka,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
    read_committed: bool,
) -> Result<HashMap<TopicPartition, i64>> {
    let mut found = HashMap::new();
    if partitions.is_empty() {
        return Ok(found);
    }
    let doing = "look up offsets of partitions";
    let asked = partitions.iter().map(|at| (theirs(at), spec));
    let options = ListOffsetsOptions::default().read_committed(read_committed);
    let mut answers = kafka.admin().list_offsets(asked, options).await.map_err(|e| client_error(doing, e))?;
    let mut none = Vec::new();
    for at in partitions {
        let answer = answers.remove(&theirs(at)).ok_or_else(|| Error::connection(format!("{doing}: no answer for `{at}`")))?;
        let listed = answer.map_err(|e| client_error(&format!("look up the offset of `{at}`"), e))?;
        if listed.offset < 0 {
            none.push(at.clone());
        } else {
            found.insert(at.clone(), listed.offset);
        }
    }
    if !none.is_empty() && spec != OffsetSpec::Latest {
        found.extend(Box::pin(list(kafka, &none, OffsetSpec::Latest, read_committed)).await?);
    }
    Ok(found)
}

/// What a group has committed, where it has.
pub(super) async fn committed(kafka: &Kafka, group: &str, partitions: &[TopicPartition]) -> Result<HashMap<TopicPartition, i64>> {
    let doing = format!("look up the offsets of the group `{group}`");
    let options = ListConsumerGroupOffsetsOptions::default().require_stable(true).partitions(partitions.iter().map(theirs).collect());
    let answers = kafka.admin().list_consumer_group_offsets(group, options).await.map_err(|e| client_error(&doing, e))?;
    let mut found = HashMap::new();
    for at in partitions {
        if let Some(answer) = answers.get(&theirs(at)) {
            let offset = answer.clone().map_err(|e| client_error(&doing, e))?.offset;
            found.extend(offset.filter(|o| *o >= 0).map(|o| (at.clone(), o)));
        }
    }
    Ok(found)
}

/// Commits offsets to a group, trying again for so long.
pub(super) async fn commit(kafka: &Kafka, group: &str, offsets: Vec<(TopicPartition, i64)>, timeout: Duration) -> Result<()> {
    if offsets.is_empty() {
        return Ok(());
    }
    let doing = format!("commit offsets to the group `{group}` (no consumer may be a member of it)");
    let offsets = offsets.iter().map(|(at, offset)| (theirs(at), *offset));
    let options = AlterConsumerGroupOffsetsOptions::default().timeout(timeout);
    let answers = kafka.admin().alter_consumer_group_offsets(group, offsets, options).await.map_err(|e| client_error(&doing, e))?;
    answers.into_values().collect::<Result<Vec<()>, _>>().map(drop).map_err(|e| client_error(&doing, e))
}

/// Whether the user may commit offsets to a group, without doing so: a broker looks at the rights first, and then finds that no topic has such a partition.
pub(super) async fn may_commit(kafka: &Kafka, group: &str, topic: String) -> Result<()> {
    let doing = format!("commit offsets to the group `{group}`");
    let nowhere = krafka::admin::TopicPartition::new(topic, i32::MAX);
    let answers = kafka.admin().alter_consumer_group_offsets(group, [(nowhere, 0)], AlterConsumerGroupOffsetsOptions::default()).await;
    match answers.map_err(|e| client_error(&doing, e))?.into_values().next() {
        Some(Err(KrafkaError::Broker { code: ErrorCode::UnknownTopicOrPartition, .. }) | Ok(())) | None => Ok(()),
        Some(Err(e)) => Err(client_error(&doing, e)),
    }
}
