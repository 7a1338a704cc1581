//! The `kafka` source: partitions are splits that the job assigns, offsets live in its checkpoints.
//!
//! ```text
//!  Plan ──► KafkaSource ──► PartitionEnumerator: topics and partitions, where they begin and end
//!                      ├──► Fetcher: one for all readers of the process, one request under way to each broker
//!                      ├──► PartitionReader: batches ─► records ─► decoder ─► rows
//!                      └──► commit: offsets shown to the group
//! ```

mod batch;
mod check;
mod commit;
mod enumerator;
mod fetch;
mod letter;
mod metadata;
mod offsets;
mod options;
mod plan;
mod position;
mod reader;
mod start;
mod topics;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use karez_core::config::ConfigErrors;
use karez_core::source::{Boundedness, LetterDecoder, ReaderContext, Replay, SplitAssignment};
use karez_core::{Epoch, Error, Result, Source, SourceContext, Split, SplitEnumerator, SplitReader, StreamSchema};
use serde_json::Value;

pub use metadata::{MetadataKey, MetadataOptions};
pub use options::{AutoOffsetReset, CommitMode, IsolationLevel, KafkaSourceOptions};
pub use start::{Seek, StartFrom, StopAt};

use super::client::SharedClient;
use commit::AutoCommit;
use enumerator::{PartitionEnumerator, starts};
use fetch::Fetcher;
use letter::MessageLetters;
use plan::{Commit, Plan};
use position::Position;
use reader::PartitionReader;

/// Makes the source of a node.
pub(super) fn plan(context: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
    Ok(Arc::new(KafkaSource { plan: Arc::new(Plan::new(context)?), live: Arc::default() }))
}

/// The source, planned.
#[derive(Debug)]
struct KafkaSource {
    plan: Arc<Plan>,
    live: Arc<Live>,
}

/// What its enumerator and its readers share while there are any.
#[derive(Debug, Default)]
struct Live {
    client: SharedClient,
    fetching: Mutex<Weak<Fetching>>,
}

/// The fetcher, and what commits how far it has come.
#[derive(Debug)]
struct Fetching {
    fetcher: Arc<Fetcher>,
    auto_commit: Option<AutoCommit>,
}

impl KafkaSource {
    async fn fetching(&self, context: &ReaderContext) -> Result<Arc<Fetching>> {
        let kafka = self.live.client.get(&self.plan.client, &self.doing()).await?;
        let mut live = self.live.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetching) = live.upgrade() {
            return Ok(fetching);
        }
        let fetcher = Arc::new(Fetcher::start(Arc::clone(&kafka), self.plan.fetch.clone(), Arc::clone(&context.metrics)));
        let auto_commit = match (self.plan.commit, &self.plan.group) {
            (Commit::Every(interval), Some(group)) => Some(AutoCommit::start(kafka, group.clone(), interval, Arc::downgrade(&fetcher))),
            _ => None,
        };
        let fetching = Arc::new(Fetching { fetcher, auto_commit });
        *live = Arc::downgrade(&fetching);
        Ok(fetching)
    }

    fn doing(&self) -> String {
        format!("read {}", self.plan.topics.text())
    }

    /// Where a split goes on: where it stood, unless `seek` says otherwise and has not been applied.
    async fn sought(&self, split: &Split) -> Result<Position> {
        let mut position = Position::of(split)?;
        let Some(seek) = self.plan.seek.as_ref().filter(|s| position.sought != Some(s.token())) else { return Ok(position) };
        let applies = match &seek.0 {
            StartFrom::Offsets(given) => given.get(&position.at.topic).is_some_and(|p| p.contains_key(&position.at.partition)),
            _ => true,
        };
        if applies {
            let kafka = self.live.client.get(&self.plan.client, &self.doing()).await?;
            let one = std::slice::from_ref(&position.at);
            let found = starts(&self.plan, &kafka, &seek.0, one).await?;
            let offset = *found.get(&position.at).ok_or_else(|| Error::internal(format!("no offset for `{}`", position.at)))?;
            tracing::info!(partition = %position.at, from = position.offset, to = offset, "`seek` applied");
            position.offset = offset;
        }
        position.sought = Some(seek.token());
        Ok(position)
    }
}

#[async_trait]
impl Source for KafkaSource {
    fn schema(&self) -> StreamSchema {
        let schema = self.plan.schema(false);
        let key = self.plan.decode.key().to_vec();
        StreamSchema { change_mode: self.plan.decode.change_mode(), key, ..StreamSchema::append_only(schema) }
    }

    fn boundedness(&self) -> Boundedness {
        if self.plan.stop_at.is_some() { Boundedness::Bounded } else { Boundedness::Unbounded }
    }

    fn replay(&self) -> Replay {
        Replay::Exact
    }

    fn assignment(&self) -> SplitAssignment {
        SplitAssignment::AllAtOnce
    }

    fn spread(&self, split: &Split) -> Option<u64> {
        let at = Position::of(split).ok()?.at;
        // The first of each topic elsewhere, the others behind it in turn.
        let topic = at.topic.bytes().fold(0_u64, |hash, b| hash.wrapping_mul(31).wrapping_add(u64::from(b)));
        Some(topic.wrapping_add(u64::try_from(at.partition).ok()?))
    }

    fn project(&self, columns: &[usize]) -> Option<Arc<dyn Source>> {
        let of_value = self.plan.decode.schema().fields().len();
        let value: Vec<usize> = columns.iter().copied().filter(|c| *c < of_value).collect();
        // A message has to be decoded for it to be known whether it can be.
        if value.is_empty() {
            return None;
        }
        let all = of_value + self.plan.metadata.len();
        let metadata: Vec<usize> = columns.iter().filter(|c| (of_value..all).contains(*c)).map(|c| c - of_value).collect();
        let plan = Plan { decode: self.plan.decode.project(&value), metadata: self.plan.metadata.project(&metadata), ..Plan::clone(&self.plan) };
        Some(Arc::new(Self { plan: Arc::new(plan), live: Arc::clone(&self.live) }))
    }

    async fn check(&self) -> Result<()> {
        check::check(&self.plan).await
    }

    async fn enumerator(&self, state: Option<Value>) -> Result<Box<dyn SplitEnumerator>> {
        let kafka = self.live.client.get(&self.plan.client, &self.doing()).await?;
        Ok(Box::new(PartitionEnumerator::new(Arc::clone(&self.plan), kafka, state)?))
    }

    async fn open(&self, split: &Split, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        let position = self.sought(split).await?;
        if !self.plan.topics.matches(&position.at.topic) {
            let at = &position.at;
            tracing::warn!(partition = %at, "is read on from the checkpoint although the job does not name its topic any more; to leave it out start afresh (`--fresh`)");
        }
        let fetching = self.fetching(&context).await?;
        Ok(Box::new(PartitionReader::open(Arc::clone(&self.plan), fetching, position, context)?))
    }

    fn letter_decoder(&self) -> Result<Box<dyn LetterDecoder>> {
        Ok(Box::new(MessageLetters::new(Arc::clone(&self.plan))?))
    }

    async fn notify_committed(&self, _: Epoch, splits: &[Split]) -> Result<()> {
        let (Commit::Checkpoint(timeout), Some(group)) = (self.plan.commit, &self.plan.group) else { return Ok(()) };
        let positions = splits.iter().map(|split| Position::of(split).map(|p| (p.at, p.offset))).collect::<Result<Vec<_>>>()?;
        let kafka = self.live.client.get(&self.plan.client, &self.doing()).await?;
        offsets::commit(&kafka, group, positions, timeout).await
    }
}
