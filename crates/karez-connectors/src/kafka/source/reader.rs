//! Reads one partition: takes what has been fetched, decodes it, and knows where it stands.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use karez_core::source::{Read, ReadLimit, ReaderContext};
use karez_core::{BadRecord, Error, Result, SplitReader};
use karez_formats::message::{BadMessage, Decoded, MessageDecoder, SchemaId};
use krafka::Kafka;
use krafka::admin::OffsetSpec;
use serde_json::Value;

use super::batch::{self, Entry, Records};
use super::enumerator::{missing, recreated};
use super::fetch::{Chunk, Failure, Partition, Taken};
use super::metadata::Gathered;
use super::position::Position;
use super::start::TopicPartition;
use super::{Fetching, Plan, offsets};

/// Records that are fed at a time.
const BLOCK: usize = 1024;
/// The first pause after there was nothing, doubled each time up to the last.
const FIRST_POLL_MS: u64 = 1;
const LAST_POLL_MS: u64 = 16;

/// Reads a partition.
pub(super) struct PartitionReader {
    plan: Arc<Plan>,
    fetching: Arc<Fetching>,
    partition: Arc<Partition>,
    context: ReaderContext,
    decoder: Box<dyn MessageDecoder>,
    metadata: Gathered,
    /// The rows given: value, metadata, change, origin.
    schema: SchemaRef,
    position: Position,
    walk: Walk,
    /// Offsets of the messages fed since the last flush, where rows need an origin.
    fed: Vec<i64>,
    /// The next message needs this schema.
    needs: Option<SchemaId>,
    poll_ms: u64,
}

/// The place in what has been taken: a batch, and what follows it.
#[derive(Default)]
struct Walk {
    chunk: Option<OpenChunk>,
    records: Option<(Records, usize)>,
    spare: Vec<Entry>,
}

struct OpenChunk {
    chunk: Chunk,
    /// The next batch in it.
    at: usize,
    /// Aborted transactions that have begun, of `chunk.aborted` those before `began`.
    aborted: Vec<i64>,
    began: usize,
}

/// Why no more records are fed.
enum Stop {
    /// Enough.
    Full,
    /// A message needs a schema.
    Needs,
    /// The last offset has been reached.
    End,
    CaughtUp,
    Pending,
    Failed(Failure),
}

impl PartitionReader {
    pub(super) fn open(plan: Arc<Plan>, fetching: Arc<Fetching>, position: Position, context: ReaderContext) -> Result<Self> {
        let decoder = plan.decode.decoder()?;
        let schema = plan.schema(context.with_origin);
        let partition = fetching.fetcher.open(&position);
        let metadata = plan.metadata.gather();
        Ok(Self {
            plan,
            fetching,
            partition,
            context,
            decoder,
            metadata,
            schema,
            position,
            walk: Walk::default(),
            fed: Vec::new(),
            needs: None,
            poll_ms: FIRST_POLL_MS,
        })
    }

    /// Feeds records to the decoder until there is enough, or nothing.
    fn fill(&mut self, limit: ReadLimit, bad: &mut Vec<BadRecord>) -> Result<Stop> {
        let mut fed = 0;
        loop {
            let left = limit.rows.saturating_sub(fed);
            if left == 0 || self.decoder.rows() >= limit.rows || self.decoder.bytes() >= limit.bytes {
                return Ok(Stop::Full);
            }
            if self.position.stop.is_some_and(|stop| self.position.offset >= stop) {
                return Ok(Stop::End);
            }
            if self.walk.records.is_none() && !self.walk.next_batch(&mut self.position.offset, &self.position.at, self.plan.check_crcs)? {
                match self.fetching.fetcher.take(&self.partition) {
                    Taken::Chunk(chunk) => self.walk.chunk = Some(OpenChunk { chunk, at: 0, aborted: Vec::new(), began: 0 }),
                    Taken::CaughtUp => return Ok(Stop::CaughtUp),
                    Taken::Pending => return Ok(Stop::Pending),
                    Taken::Failed(failure) => return Ok(Stop::Failed(failure)),
                }
                continue;
            }
            let Some((records, next)) = self.walk.records.take() else { continue };
            let end = self.position.stop.map_or(records.len(), |stop| records.first_from(stop));
            if next >= end {
                // Past the batch, or the last offset that is read.
                self.position.offset = self.position.stop.map_or(records.end(), |stop| records.end().min(stop)).max(self.position.offset);
                self.walk.spare = records.into_spare();
                continue;
            }
            let rows = block(&records, next, end.min(next + left.min(BLOCK)), limit.bytes);
            let (done, needs) = self.feed(&records, rows.clone(), limit.rows, bad)?;
            fed += done;
            if done > 0 {
                self.position.offset = records.offset(rows.start + done - 1) + 1;
            }
            self.walk.records = Some((records, rows.start + done));
            if needs.is_some() {
                self.needs = needs;
                return Ok(Stop::Needs);
            }
            if done < rows.len() {
                return Ok(Stop::Full);
            }
        }
    }

    /// Feeds some records; how many were taken, and the schema that the next one needs.
    fn feed(&mut self, records: &Records, rows: Range<usize>, max_rows: usize, bad: &mut Vec<BadRecord>) -> Result<(usize, Option<SchemaId>)> {
        let values = records.values(rows.clone());
        let mut messages: Vec<BadMessage> = Vec::new();
        let first = self.fed_count();
        let progress = self.decoder.decode(&values, max_rows, &mut messages);
        let done = rows.start..rows.start + progress.done;
        self.metadata.append(records, done.clone())?;
        if self.context.with_origin {
            self.fed.extend(done.map(|r| records.offset(r)));
        }
        if progress.skipped > 0 {
            self.context.metrics.add("null_payloads", progress.skipped as u64);
        }
        for BadMessage { message, reason } in messages {
            let row = rows.start + (message as usize).saturating_sub(first);
            let raw = values.get(row - rows.start).copied().flatten();
            bad.push(BadRecord {
                reason,
                origin: Some(origin(&self.position.at, records.offset(row))),
                raw: raw.filter(|_| self.context.with_origin).map(Bytes::copy_from_slice),
                row: None,
            });
        }
        Ok((progress.done, progress.needs))
    }

    fn fed_count(&self) -> usize {
        self.metadata.messages()
    }

    /// The rows buffered.
    fn flush(&mut self) -> Result<RecordBatch> {
        let decoded = self.decoder.flush()?;
        let fed = std::mem::take(&mut self.fed);
        let Some(Decoded { batch, kinds, messages }) = decoded else {
            self.metadata.clear(&self.position.at);
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        };
        let rows = batch.num_rows();
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        columns.extend(self.metadata.take(&self.position.at, &messages)?);
        if self.plan.changes() {
            columns.push(Arc::new(kinds.ok_or_else(|| Error::internal("changes without their kind"))?));
        }
        if self.context.with_origin {
            let mut origins = StringBuilder::with_capacity(rows, rows * 48);
            for message in &messages {
                let offset = fed.get(*message as usize).copied().unwrap_or(-1);
                origins.append_value(origin(&self.position.at, offset));
            }
            columns.push(Arc::new(origins.finish()));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// What to say of a partition that cannot be read on.
async fn explain(kafka: &Kafka, position: &Position, failure: Failure) -> Error {
    let at = &position.at;
    match failure {
        Failure::OutOfRange => out_of_range(kafka, at, position.offset).await,
        Failure::Recreated(now) => recreated(&at.topic, position.topic_id, now),
        Failure::Gone => Error::external(format!(
            "the topic `{}` was deleted while it was read: what had not been read of `{at}` behind offset {} is lost; start afresh (`--fresh`) without it",
            at.topic, position.offset
        )),
        Failure::Other(e) => copy(&e),
    }
}

/// An error that several partitions share.
fn copy(e: &Error) -> Error {
    let whose = match (e.whose(), e.is_retryable()) {
        (karez_core::Whose::User, _) => Error::user,
        (karez_core::Whose::External, true) => Error::connection,
        (karez_core::Whose::External, false) => Error::external,
        (karez_core::Whose::Internal, _) => Error::internal,
    };
    whose(e.to_string()).reaching(e.reach())
}

async fn out_of_range(kafka: &Kafka, at: &TopicPartition, offset: i64) -> Error {
    let one = std::slice::from_ref(at);
    let ends = async {
        let first = offsets::list(kafka, one, OffsetSpec::Earliest, false).await?;
        let end = offsets::list(kafka, one, OffsetSpec::Latest, false).await?;
        Ok((first.get(at).copied().unwrap_or(0), end.get(at).copied().unwrap_or(i64::MAX)))
    };
    match ends.await {
        Ok((first, end)) if offset < first || offset > end => Error::external(missing(at, offset, first, end)),
        // A leader that was behind when it took over, and has caught up.
        Ok(_) => Error::connection(format!("`{at}`: the broker did not have offset {offset} for a moment")),
        Err(e) => e,
    }
}

fn origin(at: &TopicPartition, offset: i64) -> String {
    format!("topic={} partition={} offset={offset}", at.topic, at.partition)
}

/// As many records from `next` on as have about so many bytes; at least one.
fn block(records: &Records, next: usize, end: usize, bytes: usize) -> Range<usize> {
    let mut sum = 0;
    let fits = |row: &usize| {
        sum += records.value(*row).map_or(0, <[u8]>::len);
        sum <= bytes
    };
    let n = (next..end).take_while(fits).count();
    next..next + n.max(1)
}

impl Walk {
    /// Opens the next batch that has records to read from `offset` on, and moves `offset` over what has none. `false`: another chunk is needed.
    fn next_batch(&mut self, offset: &mut i64, at: &TopicPartition, check_crcs: bool) -> Result<bool> {
        while let Some(open) = &mut self.chunk {
            let rest = open.chunk.batches.slice(open.at..);
            let damaged = |reason: String| {
                Error::external(format!(
                    "the record batch of `{at}` at or behind offset {offset} cannot be read: {reason}; go on behind it with `seek`, or restore the partition"
                ))
            };
            let Some(header) = batch::whole(&rest).map_err(damaged)? else {
                *offset = open.chunk.end.max(*offset);
                self.chunk = None;
                return Ok(false);
            };
            let bytes = rest.slice(..header.total_size());
            open.at += bytes.len();
            let end = header.last_offset() + 1;
            while let Some(begins) = open.chunk.aborted.get(open.began).filter(|t| t.first_offset < end) {
                open.aborted.push(begins.producer_id);
                open.began += 1;
            }
            let aborted = header.attributes.is_transactional && open.aborted.contains(&header.producer_id);
            if header.attributes.is_control_batch {
                if aborted && batch::is_abort(&bytes).map_err(damaged)? {
                    open.aborted.retain(|p| *p != header.producer_id);
                }
            } else if !aborted && end > *offset {
                let records = Records::read(header, &bytes, std::mem::take(&mut self.spare), check_crcs).map_err(damaged)?;
                let first = records.first_from((*offset).max(open.chunk.from));
                self.records = Some((records, first));
                return Ok(true);
            }
            *offset = end.max(*offset);
        }
        Ok(false)
    }
}

#[async_trait]
impl SplitReader for PartitionReader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Read> {
        let limit = ReadLimit { rows: limit.rows.min(self.plan.max_poll_records).max(1), ..limit };
        // The decoder is empty here, so that nothing is lost when this is dropped while it waits.
        if let Some(id) = self.needs {
            let schema = self.plan.schema_of(id, Some(&self.context.metrics)).await?;
            self.decoder.provide(id, schema);
            self.needs = None;
        }
        let mut bad = Vec::new();
        let stop = self.fill(limit, &mut bad)?;
        let given = self.decoder.rows() > 0 || !bad.is_empty();
        let batch = self.flush()?;
        self.partition.consumed.store(self.position.offset, Relaxed);
        if given {
            self.poll_ms = FIRST_POLL_MS;
            return Ok(Read::Rows { batch, bad });
        }
        match stop {
            Stop::End => Ok(Read::End),
            // Its user has left it out of the job since.
            Stop::Failed(Failure::Gone | Failure::Recreated(_)) if !self.plan.topics.matches(&self.position.at.topic) => {
                tracing::warn!(partition = %self.position.at, offset = self.position.offset, "the topic was deleted, and the job does not name it any more: it is read no further");
                Ok(Read::End)
            }
            Stop::Failed(failure) => Err(explain(self.fetching.fetcher.kafka(), &self.position, failure).await),
            // Only null payloads so far, or a schema to ask for: there may be rows behind them.
            Stop::Full | Stop::Needs => {
                self.poll_ms = 0;
                Ok(Read::Pending)
            }
            Stop::CaughtUp | Stop::Pending => {
                self.poll_ms = (self.poll_ms * 2).clamp(FIRST_POLL_MS, LAST_POLL_MS);
                Ok(if matches!(stop, Stop::CaughtUp) { Read::Nothing } else { Read::Pending })
            }
        }
    }

    fn position(&self) -> Result<Value> {
        self.position.to_value()
    }

    fn poll_interval_ms(&self) -> u64 {
        self.poll_ms
    }
}

impl Drop for PartitionReader {
    fn drop(&mut self) {
        if let Some(commit) = &self.fetching.auto_commit {
            commit.read(&self.position.at, self.partition.consumed.load(Relaxed));
        }
        self.fetching.fetcher.close(&self.partition);
    }
}
