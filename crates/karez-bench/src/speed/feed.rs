//! What harness jobs are made of besides the product's own parts: a source that gives what a function makes, an operator that does nothing, a sink
//! that looks at its rows.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::operator::{MAIN, OutputPort};
use karez_core::sink::{SinkGuarantee, WriterContext};
use karez_core::source::{Discovery, ReadLimit, ReaderContext, Replay};
use karez_core::{
    Boundedness, Distribution, Epoch, Error, Operator, OperatorContext, OperatorSpec, Output, Progress, Read, Result, Sink, SinkWriter, Source,
    Split, SplitEnumerator, SplitReader, StreamSchema,
};
use serde_json::{Value, json};

/// Makes the batch of a number, counted from 0; `None` ends the input.
type Make = Arc<dyn Fn(u64) -> Option<RecordBatch> + Send + Sync>;

/// A source of one split.
pub(super) fn feed(schema: SchemaRef, make: impl Fn(u64) -> Option<RecordBatch> + Send + Sync + 'static) -> Arc<dyn Source> {
    Arc::new(Feed { schema, make: Arc::new(make) })
}

#[derive(Clone)]
struct Feed {
    schema: SchemaRef,
    make: Make,
}

#[async_trait]
impl Source for Feed {
    fn schema(&self) -> StreamSchema {
        StreamSchema::append_only(Arc::clone(&self.schema))
    }

    fn boundedness(&self) -> Boundedness {
        // It ends, but the planner is to treat it as a stream: its aggregates are changelogs.
        Boundedness::Unbounded
    }

    fn replay(&self) -> Replay {
        Replay::Exact
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn enumerator(&self, state: Option<Value>) -> Result<Box<dyn SplitEnumerator>> {
        Ok(Box::new(OneSplit { given: state.is_some() }))
    }

    async fn open(&self, split: &Split, _: ReaderContext) -> Result<Box<dyn SplitReader>> {
        let next = split.position.as_u64().ok_or_else(|| Error::internal("a position that is no number"))?;
        Ok(Box::new(FeedReader { feed: self.clone(), next }))
    }
}

struct OneSplit {
    given: bool,
}

#[async_trait]
impl SplitEnumerator for OneSplit {
    async fn discover(&mut self) -> Result<Discovery> {
        let splits = if self.given { Vec::new() } else { vec![Split { id: "feed".into(), position: json!(0) }] };
        self.given = true;
        Ok(Discovery { splits, done: true })
    }

    fn snapshot(&self) -> Result<Value> {
        Ok(Value::Null)
    }
}

struct FeedReader {
    feed: Feed,
    next: u64,
}

#[async_trait]
impl SplitReader for FeedReader {
    async fn next(&mut self, _: ReadLimit) -> Result<Read> {
        let Some(batch) = (self.feed.make)(self.next) else { return Ok(Read::End) };
        self.next += 1;
        Ok(Read::Rows { batch, bad: Vec::new() })
    }

    fn position(&self) -> Result<Value> {
        Ok(json!(self.next))
    }
}

/// An operator that hands its rows on.
pub(super) fn pass_on(schema: &SchemaRef, distribution: Distribution) -> Arc<dyn OperatorSpec> {
    let outputs = vec![OutputPort { name: MAIN.into(), schema: StreamSchema::append_only(Arc::clone(schema)) }];
    Arc::new(PassOn { outputs, distribution })
}

struct PassOn {
    outputs: Vec<OutputPort>,
    distribution: Distribution,
}

impl OperatorSpec for PassOn {
    fn outputs(&self) -> &[OutputPort] {
        &self.outputs
    }

    fn distribution(&self, _: usize) -> Distribution {
        self.distribution.clone()
    }

    fn create(&self, _: OperatorContext<'_>) -> Result<Box<dyn Operator>> {
        Ok(Box::new(PassingOn))
    }
}

struct PassingOn;

impl Operator for PassingOn {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        out.emit(0, batch);
        Ok(Progress::Done)
    }
}

/// A sink that calls a function with its rows.
pub(super) fn look(look: impl Fn(&RecordBatch) + Send + Sync + 'static) -> Arc<dyn Sink> {
    Arc::new(Look(Arc::new(look)))
}

#[derive(Clone)]
struct Look(Arc<dyn Fn(&RecordBatch) + Send + Sync>);

#[async_trait]
impl Sink for Look {
    fn guarantee(&self) -> SinkGuarantee {
        SinkGuarantee::AtLeastOnce
    }

    fn accepts_changelog(&self) -> bool {
        true
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn writer(&self, _: WriterContext, _: Vec<Value>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl SinkWriter for Look {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        (self.0)(&batch);
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    async fn prepare_commit(&mut self, _: Epoch, _: bool) -> Result<Vec<Value>> {
        Ok(Vec::new())
    }
}
