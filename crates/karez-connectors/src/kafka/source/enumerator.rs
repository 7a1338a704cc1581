//! Finds partitions: those that there are when the run begins, and those that come later.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use karez_core::source::Discovery;
use karez_core::{Error, Result, SplitEnumerator};
use krafka::Kafka;
use krafka::admin::OffsetSpec;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::options::AutoOffsetReset;
use super::position::Position;
use super::start::{Offsets, StartFrom, StopAt, TopicPartition};
use super::topics::{Found, Topics};
use super::{Plan, offsets};

/// What a checkpoint holds of the enumerator.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    /// Whether the partitions of the beginning have been given.
    began: bool,
    topics: BTreeMap<String, Found>,
}

/// Finds partitions.
pub(super) struct PartitionEnumerator {
    plan: Arc<Plan>,
    kafka: Arc<Kafka>,
    state: State,
}

impl PartitionEnumerator {
    pub(super) fn new(plan: Arc<Plan>, kafka: Arc<Kafka>, state: Option<Value>) -> Result<Self> {
        let state = match state {
            None => State::default(),
            Some(state) => serde_json::from_value(state).map_err(|e| Error::internal("the state of a Kafka source's enumerator").caused_by(e))?,
        };
        Ok(Self { plan, kafka, state })
    }

    /// Partitions that have not been given, and the topics as they are now.
    async fn look(&self) -> Result<(Vec<(TopicPartition, Found)>, BTreeMap<String, Found>)> {
        let found = self.plan.topics.find(&self.kafka).await?;
        let mut new = Vec::new();
        let mut topics = self.state.topics.clone();
        for (topic, now) in found {
            let before = topics.get(&topic).copied();
            if let Some(before) = before.filter(|before| before.id.differs(now.id)) {
                return Err(recreated(&topic, before.id, now.id));
            }
            for partition in before.map_or(0, |b| b.partitions)..now.partitions {
                new.push((TopicPartition { topic: topic.clone(), partition }, now));
            }
            if before.is_none_or(|b| b.partitions < now.partitions) {
                topics.insert(topic, now);
            }
        }
        Ok((new, topics))
    }
}

/// The error of a topic that has been deleted and created again.
pub(super) fn recreated(topic: &str, before: super::position::TopicId, now: super::position::TopicId) -> Error {
    Error::external(format!(
        "the topic `{topic}` is another one than this run has read: it was deleted and created again (its id was {before} and is {now}), so that its \
         offsets mean other rows, and what had not been read of the old one is lost; start afresh (`--fresh`) to read the new one"
    ))
}

#[async_trait]
impl SplitEnumerator for PartitionEnumerator {
    async fn discover(&mut self) -> Result<Discovery> {
        let (new, topics) = self.look().await?;
        let at: Vec<TopicPartition> = new.iter().map(|(at, _)| at.clone()).collect();
        let plan = &self.plan;
        let starts = if self.state.began {
            // Everything in a partition that was not there before is new.
            offsets::list(&self.kafka, &at, OffsetSpec::Earliest, false).await?
        } else {
            if at.is_empty() && plan.stop_at.is_some() {
                return Err(Error::user(format!("no topic matches {}", plan.topics.text())));
            }
            if let (StartFrom::Offsets(given), Topics::Named(_)) = (&plan.start_from, &plan.topics) {
                all_there("startFrom", given, &at)?;
            }
            starts(plan, &self.kafka, &plan.start_from, &at).await?
        };
        let stops = match &plan.stop_at {
            Some(stop) if !at.is_empty() => stops(plan, &self.kafka, stop, &at).await?,
            _ => HashMap::new(),
        };
        let sought = plan.seek.as_ref().map(super::start::Seek::token);
        let mut splits = Vec::with_capacity(new.len());
        for (at, found) in new {
            let offset = *starts.get(&at).ok_or_else(|| Error::internal(format!("no offset for `{at}`")))?;
            let stop = stops.get(&at).copied();
            tracing::info!(partition = %at, offset, ?stop, "partition found");
            splits.push(Position { at, topic_id: found.id, offset, stop, sought: sought.clone() }.to_split()?);
        }
        self.state = State { began: true, topics };
        Ok(Discovery { splits, done: plan.stop_at.is_some() || plan.discovery_interval_ms == 0 })
    }

    fn interval_ms(&self) -> u64 {
        self.plan.discovery_interval_ms.max(1)
    }

    fn snapshot(&self) -> Result<Value> {
        serde_json::to_value(&self.state).map_err(|e| Error::internal("the state of an enumerator as JSON").caused_by(e))
    }
}

fn all_there(option: &str, given: &Offsets, at: &[TopicPartition]) -> Result<()> {
    for (topic, partitions) in given {
        for partition in partitions.keys() {
            let named = TopicPartition { topic: topic.clone(), partition: *partition };
            if !at.contains(&named) {
                return Err(Error::user(format!("`{option}` names the partition `{named}`, which is not there; check topic and number")));
            }
        }
    }
    Ok(())
}

fn of(given: &Offsets, at: &TopicPartition) -> Option<i64> {
    given.get(&at.topic)?.get(&at.partition).copied()
}

/// Where partitions begin.
pub(super) async fn starts(plan: &Plan, kafka: &Kafka, from: &StartFrom, at: &[TopicPartition]) -> Result<HashMap<TopicPartition, i64>> {
    let list = |spec| offsets::list(kafka, at, spec, plan.fetch.read_committed);
    match from {
        StartFrom::Earliest => list(OffsetSpec::Earliest).await,
        StartFrom::Latest => list(OffsetSpec::Latest).await,
        StartFrom::Timestamp(ms) => list(OffsetSpec::Timestamp(*ms)).await,
        StartFrom::Offsets(given) => {
            let found = at.iter().filter_map(|at| of(given, at).map(|offset| (at.clone(), offset))).collect();
            with_reset(plan, kafka, found, at, "`startFrom` does not name it").await
        }
        StartFrom::GroupOffsets => {
            let group = plan.group.as_deref().ok_or_else(|| Error::internal("group offsets without a group"))?;
            let mut found = offsets::committed(kafka, group, at).await?;
            let (first, end) = (list(OffsetSpec::Earliest).await?, offsets::list(kafka, at, OffsetSpec::Latest, false).await?);
            for (at, offset) in found.clone() {
                let (first, end) = (first.get(&at).copied().unwrap_or(0), end.get(&at).copied().unwrap_or(i64::MAX));
                if offset >= first && offset <= end {
                    continue;
                }
                if plan.auto_offset_reset.is_none_or(|r| r == AutoOffsetReset::None) {
                    return Err(Error::external(format!("the group `{group}`: {}; or set `autoOffsetReset`", missing(&at, offset, first, end))));
                }
                tracing::warn!(partition = %at, group, offset, first, end, "the group's offset is outside the log; `autoOffsetReset` applies");
                found.remove(&at);
            }
            with_reset(plan, kafka, found, at, &format!("the group `{group}` has committed no offset in it")).await
        }
    }
}

/// Adds the partitions without an offset by `autoOffsetReset`.
async fn with_reset(
    plan: &Plan,
    kafka: &Kafka,
    mut found: HashMap<TopicPartition, i64>,
    at: &[TopicPartition],
    why: &str,
) -> Result<HashMap<TopicPartition, i64>> {
    let rest: Vec<TopicPartition> = at.iter().filter(|at| !found.contains_key(at)).cloned().collect();
    let spec = match (rest.first(), plan.auto_offset_reset.unwrap_or(AutoOffsetReset::Earliest)) {
        (Some(first), AutoOffsetReset::None) => {
            return Err(Error::user(format!("`{first}` has no place to begin: {why}, and `autoOffsetReset` is `none`; set `startFrom`")));
        }
        (_, AutoOffsetReset::Latest) => OffsetSpec::Latest,
        _ => OffsetSpec::Earliest,
    };
    found.extend(offsets::list(kafka, &rest, spec, plan.fetch.read_committed).await?);
    Ok(found)
}

/// Where partitions end.
async fn stops(plan: &Plan, kafka: &Kafka, stop: &StopAt, at: &[TopicPartition]) -> Result<HashMap<TopicPartition, i64>> {
    let list = |spec| offsets::list(kafka, at, spec, plan.fetch.read_committed);
    match stop {
        StopAt::Latest => list(OffsetSpec::Latest).await,
        StopAt::Timestamp(ms) => list(OffsetSpec::Timestamp(*ms)).await,
        StopAt::Offsets(given) => {
            all_there("stopAt", given, at)?;
            let stop_of = |at: &TopicPartition| {
                let offset =
                    of(given, at).ok_or_else(|| Error::user(format!("`stopAt` names no offset for the partition `{at}`; name all of them")))?;
                Ok((at.clone(), offset))
            };
            at.iter().map(stop_of).collect()
        }
    }
}

/// What is missing where a log does not hold an offset any more, or not yet.
pub(super) fn missing(at: &TopicPartition, offset: i64, first: i64, end: i64) -> String {
    if offset < first {
        let n = first - offset;
        format!(
            "the partition `{at}` has to be read on from offset {offset}, and its log begins at {first}: the {n} offsets {offset} to {} are gone \
             (retention, or deleted records); raise the topic's retention, and go on with `seek`, or start afresh (`--fresh`)",
            first - 1
        )
    } else {
        let n = offset - end;
        format!(
            "the partition `{at}` has to be read on from offset {offset}, and its log ends at {end}: the {n} offsets {end} to {} have been read and are \
             not there any more (a broker lost them, or an older copy of the log came back); go on with `seek`, or start afresh (`--fresh`)",
            offset - 1
        )
    }
}
