//! `random`: the source of a plan, replayable, cut into splits and batches as planned.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::config::{self, ConfigError, ConfigErrors};
use karez_core::source::{Discovery, ReadLimit, ReaderContext, Replay, SplitAssignment, with_origin};
use karez_core::{
    Boundedness, Connector, Error, Read, Result, Sink, SinkContext, Source, SourceContext, Split, SplitEnumerator, SplitReader, StreamSchema,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::plan::{EVENT_TIME, SourcePlan, source_columns};
use super::value::{self, Row};
use super::world::World;

pub struct RandomSource(pub Arc<World>);

/// Which of the plan's sources.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    source: usize,
}

impl Connector for RandomSource {
    fn name(&self) -> &'static str {
        "random"
    }
    fn description(&self) -> &'static str {
        "Rows of a plan."
    }
    fn source_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(Options))
    }
    fn source(&self, context: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
        let Options { source } = config::parse(context.config)?;
        Ok(Arc::new(Planned { world: Arc::clone(&self.0), source, columns: (0..source_columns().len()).collect() }))
    }
    fn sink(&self, _: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
        Err(ConfigError::new("connector", "there is no sink").into())
    }
}

#[derive(Clone)]
struct Planned {
    world: Arc<World>,
    source: usize,
    columns: Vec<usize>,
}

impl Planned {
    fn plan(&self) -> &SourcePlan {
        &self.world.plan.sources[self.source]
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(value::schema(&source_columns(), Some(EVENT_TIME)).project(&self.columns).unwrap())
    }

    fn batch(&self, rows: &[Row], origin: bool) -> RecordBatch {
        let all = source_columns();
        let mut columns: Vec<ArrayRef> = self.columns.iter().map(|&c| value::array(all[c].kind, c, rows)).collect();
        let mut schema = self.schema();
        if origin {
            columns.push(Arc::new(StringArray::from(vec![self.plan().name.as_str(); rows.len()])));
            schema = with_origin(&schema);
        }
        RecordBatch::try_new(schema, columns).unwrap()
    }
}

#[async_trait]
impl Source for Planned {
    fn schema(&self) -> StreamSchema {
        StreamSchema::append_only(Self::schema(self))
    }
    fn boundedness(&self) -> Boundedness {
        // The unbounded ones end as well: what counts is what the planner expects.
        if self.plan().bounded { Boundedness::Bounded } else { Boundedness::Unbounded }
    }
    fn replay(&self) -> Replay {
        Replay::Exact
    }
    fn assignment(&self) -> SplitAssignment {
        if self.plan().one_at_a_time { SplitAssignment::OneAtATime } else { SplitAssignment::AllAtOnce }
    }
    fn project(&self, columns: &[usize]) -> Option<Arc<dyn Source>> {
        let columns = columns.iter().map(|&c| self.columns[c]).collect();
        self.plan().projects.then(|| Arc::new(Self { columns, ..self.clone() }) as _)
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
    async fn enumerator(&self, state: Option<Json>) -> Result<Box<dyn SplitEnumerator>> {
        let found = state.and_then(|s| s.as_u64()).map_or(0, |n| usize::try_from(n).unwrap());
        Ok(Box::new(Splits { all: self.plan().splits.len(), at_once: self.plan().found_at_once, found }))
    }
    async fn open(&self, split: &Split, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        let number = |text: &str| text.parse::<usize>().unwrap();
        let at = usize::try_from(split.position.as_u64().unwrap()).unwrap();
        if at > 0 {
            self.world.tally.reopened.fetch_add(1, SeqCst);
        }
        let split = number(&split.id);
        let pauses = self.plan().pauses[split].clone();
        Ok(Box::new(Reader { planned: self.clone(), split, at, pauses, with_origin: context.with_origin }))
    }
}

struct Splits {
    all: usize,
    at_once: usize,
    found: usize,
}

#[async_trait]
impl SplitEnumerator for Splits {
    async fn discover(&mut self) -> Result<Discovery> {
        let until = if self.found < self.at_once { self.at_once } else { self.all };
        let splits = (self.found..until).map(|id| Split { id: id.to_string(), position: json!(0) }).collect();
        self.found = until;
        Ok(Discovery { splits, done: until == self.all })
    }
    fn interval_ms(&self) -> u64 {
        1
    }
    fn snapshot(&self) -> Result<Json> {
        Ok(json!(self.found))
    }
}

struct Reader {
    planned: Planned,
    split: usize,
    at: usize,
    pauses: BTreeSet<usize>,
    with_origin: bool,
}

#[async_trait]
impl SplitReader for Reader {
    async fn next(&mut self, _: ReadLimit) -> Result<Read> {
        tokio::task::yield_now().await;
        if self.pauses.remove(&self.at) {
            return Ok(Read::Nothing);
        }
        let world = &self.planned.world;
        if *world.given.borrow() >= world.until.load(SeqCst) {
            return Ok(Read::Nothing);
        }
        if world.fails(self.planned.source, self.split, self.at) {
            return Err(Error::external("injected"));
        }
        let Some(rows) = self.planned.plan().splits[self.split].get(self.at) else { return Ok(Read::End) };
        self.at += 1;
        world.given.send_modify(|n| *n += 1);
        Ok(Read::Rows { batch: self.planned.batch(rows, self.with_origin), bad: Vec::new() })
    }
    fn position(&self) -> Result<Json> {
        Ok(json!(self.at))
    }
    fn poll_interval_ms(&self) -> u64 {
        1
    }
}
