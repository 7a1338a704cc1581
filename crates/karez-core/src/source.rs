//! The contract of a source: discover splits, open one at a position, give the next rows, say where it stands.
//!
//! The engine owns the loop around a reader: barriers, pausing, rate limits, watermarks, idleness and shutdown are written
//! once, there. A connector author writes what follows.
//!
//! ```text
//!  Source ──enumerator()──► SplitEnumerator ──discover()──► Split ─┐        (one, in the job's coordinator)
//!     └──────────────────────open(split)──────────────────────────►SplitReader ──next()──► rows, position   (per subtask)
//! ```
//!
//! After Bytewax's `FixedPartitionedSource`, Flink's FLIP-27 and Feldera's transport traits.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

use crate::metrics::NodeMetrics;
use crate::{BadRecord, Clock, Epoch, Error, Result, StreamSchema};

/// Whether a source ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boundedness {
    /// It ends.
    Bounded,
    /// It does not.
    Unbounded,
}

/// Whether reading again from a position gives the same rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Yes: exactly-once is possible behind it.
    Exact,
    /// No, and why.
    No(String),
}

/// How many splits a subtask reads at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitAssignment {
    /// One, and asks for the next when it has ended; the enumerator's order is the order of reading (files of a batch).
    OneAtATime,
    /// All that fall to it, spread by split id, in turn (partitions of a log, files that are followed).
    AllAtOnce,
}

/// The name of a split, unique in its source for the whole run, stable over restarts.
pub type SplitId = String;

/// A part of a source that one reader reads in order, and how far it has been read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// Its name.
    pub id: SplitId,
    /// What it is and where reading goes on, in the connector's own words. Part of the checkpoint: no secrets.
    pub position: Value,
}

/// What a discovery found.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    /// Splits not given before, in the order in which they are to be read.
    pub splits: Vec<Split>,
    /// No further split will ever be found.
    pub done: bool,
}

/// What a reader gave.
#[derive(Debug)]
pub enum Read {
    /// Rows in the source's output schema, and records that could not be decoded. Either may be empty, not both.
    Rows {
        /// The rows; the position of the reader is behind them.
        batch: RecordBatch,
        /// What could not be decoded, in order; the node's error policy decides.
        bad: Vec<BadRecord>,
    },
    /// Nothing at present. The engine asks again after [`SplitReader::poll_interval_ms`]; the split counts as idle from now on.
    Nothing,
    /// Not known yet: rows may be waiting outside, but what has been asked for has not come (a fetch under way, a server that is away). Asked again
    /// like after [`Read::Nothing`], but the split does not count as idle, so that it holds the watermark back.
    Pending,
    /// The split has ended.
    End,
}

/// How much a call of [`SplitReader::next`] may give: what is reached first. At least one row is always allowed.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Rows.
    pub rows: usize,
    /// Bytes, as decoded; kept approximately.
    pub bytes: usize,
}

/// What a reader may use.
#[derive(Clone, Debug)]
pub struct ReaderContext {
    /// Whether rows need [`crate::schema::ORIGIN_COLUMN`] and bad records their origin and raw bytes.
    pub with_origin: bool,
    /// Counters of the source.
    pub metrics: Arc<NodeMetrics>,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
}

/// A filter or projection a source takes over.
#[derive(Clone, Debug, PartialEq)]
pub struct Pushed {
    /// The columns to read, as indices into [`Source::schema`]'s columns, ascending.
    pub columns: Vec<usize>,
}

/// A source as planned: its options have been validated, nothing is open.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The rows it gives. After [`Source::project`], just the columns asked for. Without hidden columns but the change kind of a changelog, which is
    /// there after every projection: the engine and the reader
    /// add [`crate::schema::ORIGIN_COLUMN`] as the last one where [`ReaderContext::with_origin`] is set.
    fn schema(&self) -> StreamSchema;

    /// Whether it ends by itself.
    fn boundedness(&self) -> Boundedness;

    /// Whether it can be read again from a position.
    fn replay(&self) -> Replay;

    /// How splits are spread.
    fn assignment(&self) -> SplitAssignment {
        SplitAssignment::OneAtATime
    }

    /// With [`SplitAssignment::AllAtOnce`]: the number by which a split is spread, to the subtask of its remainder. Numbers in a row, such as those of a
    /// topic's partitions, spread evenly. The same wherever and whenever it is asked. `None`: a hash of the split's name.
    fn spread(&self, split: &Split) -> Option<u64> {
        let _ = split;
        None
    }

    /// The highest useful parallelism, where there is one.
    fn max_parallelism(&self) -> Option<usize> {
        None
    }

    /// Takes over a projection: the same source that reads only `columns` (indices into its schema, ascending); `None` where it cannot.
    fn project(&self, columns: &[usize]) -> Option<Arc<dyn Source>> {
        let _ = columns;
        None
    }

    /// Takes over a filter given as a SQL expression over its columns: the same source that gives only rows for which it is true; `None` where it
    /// cannot do so exactly.
    fn filter(&self, predicate: &str) -> Option<Arc<dyn Source>> {
        let _ = predicate;
        None
    }

    /// Tries to reach what it reads, without side effects.
    async fn check(&self) -> Result<()>;

    /// The enumerator, fresh or as `state` (its last snapshot) left it.
    async fn enumerator(&self, state: Option<Value>) -> Result<Box<dyn SplitEnumerator>>;

    /// Opens a split at its position.
    async fn open(&self, split: &Split, context: ReaderContext) -> Result<Box<dyn SplitReader>>;

    /// What decodes the raw bytes of this source's dead letters again, for `karez dlq replay`. Here: refused.
    ///
    /// # Errors
    /// It cannot, and why; such a letter can only be given as a row.
    fn letter_decoder(&self) -> Result<Box<dyn LetterDecoder>> {
        Err(Error::user("this source does not decode the bytes of its dead letters again; give the letter a `row` instead"))
    }

    /// Called once after each completed checkpoint with the positions it holds, those of splits that have ended since the one before included; may be repeated and may be skipped by a crash.
    /// For offsets shown to the outside; a failure is logged and counted, never fatal.
    async fn notify_committed(&self, epoch: Epoch, splits: &[Split]) -> Result<()> {
        let _ = (epoch, splits);
        Ok(())
    }
}

/// Decodes records that could not be decoded before, one by one.
#[async_trait]
pub trait LetterDecoder: Send {
    /// The rows in the bytes of one record, as they were read or as somebody has mended them: in the columns of [`Source::schema`], its projection and
    /// filter applied, without hidden columns. `origin` is the letter's. Cancel-safe.
    ///
    /// # Errors
    /// [`crate::Reach::Record`]: it is still bad, and becomes a letter again. [`crate::Reach::Connection`]: it is tried again.
    async fn decode(&mut self, raw: &[u8], origin: Option<&str>) -> Result<RecordBatch>;
}

/// Finds splits. Lives in the job's coordinator; one per source.
///
/// [`Self::discover`] runs beside the coordinator, so that an outside that does not answer holds up neither checkpoints nor a stop. A checkpoint that is taken
/// meanwhile has the snapshot from before, and the splits finished since: what is found belongs to the next, and after a restore it is looked for again.
#[async_trait]
pub trait SplitEnumerator: Send {
    /// Finds what is new since the last call. Called at the start and, until [`Discovery::done`], [`Self::interval_ms`] after the last answer. The future is
    /// dropped where the job ends meanwhile.
    async fn discover(&mut self) -> Result<Discovery>;

    /// Milliseconds between two discoveries.
    fn interval_ms(&self) -> u64 {
        10_000
    }

    /// A split has been read to its end: the place to forget it compactly. It may be told twice.
    fn finished(&mut self, split: &Split) {
        let _ = split;
    }

    /// What [`Source::enumerator`] needs to go on: splits returned by `discover` are not found again after a restore, the engine keeps them.
    fn snapshot(&self) -> Result<Value>;
}

/// Reads one split.
#[async_trait]
pub trait SplitReader: Send {
    /// The next rows. **Cancel-safe**: when the future is dropped before it is ready nothing has been lost and [`Self::position`] has not moved.
    ///
    /// **Answer; do not wait for rows.** A subtask asks its splits in turn and one at a time: while this call waits, its other splits are not read, and
    /// neither they nor this one can be found idle, so that the watermark of the whole job stands still. Where there is nothing now, answer
    /// [`Read::Nothing`], or [`Read::Pending`] where that is not known; the split is asked again after [`Self::poll_interval_ms`]. Waiting for I/O that is under way (a page being fetched) is
    /// fine. A client that only knows how to wait for the next message belongs into a task of its own that puts messages into a bounded channel,
    /// from which `next` takes with `try_recv`; dropping the reader must end that task.
    async fn next(&mut self, limit: ReadLimit) -> Result<Read>;

    /// Where reading goes on: behind the rows of the last `next`, and nothing after them. A split opened there gives exactly the rest.
    fn position(&self) -> Result<Value>;

    /// Milliseconds the engine waits after [`Read::Nothing`] and [`Read::Pending`] before it asks this split again; others are asked meanwhile. What a row waits at most.
    fn poll_interval_ms(&self) -> u64 {
        100
    }
}

/// The visible schema plus the origin column, as a reader with `with_origin` gives it.
#[must_use]
pub fn with_origin(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(crate::schema::origin_field()));
    Arc::new(arrow::datatypes::Schema::new(fields))
}
