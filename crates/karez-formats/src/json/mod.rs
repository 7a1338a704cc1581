//! The predicting decoder of NDJSON and JSON messages.
//!
//! # Contract
//!
//! What a record becomes is what `arrow-json` makes of it alone: `arrow::json::ReaderBuilder` with the same schema, fed
//! that record and flushed. Exactly one row, and the record is good; an error, no row or two, and it is bad: nothing of
//! it is in a batch, and the caller learns where it lies and why. This holds for every input, with all that arrow-json
//! lets pass (missing commas, control characters in strings, `1-2` as a number nobody reads). Rows keep the order of
//! their records. One thing is not left to arrow-json: a record with a value that its column would change in silence is
//! bad ([`karez_core::exact::json`]).
//!
//! # How
//!
//! The records of one source look alike. So the literal text between two values, `,"bidder":` with its white space, is
//! compared as sixteen bytes with what stood there in earlier records (`layout`), and tells the column, whose value is
//! decoded from the bytes straight into the buffer of an Arrow array (`column`). The values of other columns are
//! skipped to their end (`scan`). A key that was not predicted is looked up by its name, and predicted the next time.
//!
//! What is not plain, such as an odd number, a column's key twice, or anything that may be an error, is for the general
//! path (`general`): arrow-json decodes these records in runs, and their rows are put where they belong (`merge`). When
//! record after record takes it, the next are not tried first any more, but for a probe now and then. If a column has a
//! type that is not read here (nested ones, above all), all records take it.
//!
//! Speculation on the layout is from Mison (Li et al., "Mison: A Fast JSON Parser for Data Analytics", VLDB 2017);
//! decoding just what is asked for from simdjson's On-Demand (Keiser and Lemire, 2023).

mod column;
mod general;
mod layout;
mod lines;
mod merge;
mod number;
mod scan;
mod time;

use std::fmt;
use std::ops::Range;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::RecordError;
use column::Column;
use general::{General, Outcome};
use layout::{Layouts, NodeId, Target};
use lines::{chunk_end, is_blank, line_end, lines_end};
use merge::Merge;
use scan::{Framing, Seen, skip_space, skip_value};

/// Bytes decoded in one go, before the records for the general path are: these should still be in the cache then.
const CHUNK_BYTES: usize = 128 << 10;

/// Shortest chunk, bytes, however few rows are missing.
const CHUNK_BYTES_LEAST: usize = 4 << 10;

/// Most bytes buffered: 32-bit offsets have to reach over them, and over the longest record.
const BUFFER_BYTES_LIMIT: usize = 1 << 29;

/// Records in a row that took the general path before others are sent there untried.
const MISSES_LIMIT: u32 = 8;

/// Most records sent to the general path untried between two probes, as a power of two.
const UNTRIED_LIMIT_LOG2: u32 = 10;

/// How records are to be read.
#[derive(Debug, Clone, Default)]
pub struct JsonOptions {
    /// A key that is not in the schema makes the record bad.
    pub strict: bool,
}

/// Decodes NDJSON, or JSON messages, to batches of one schema. The [module](self) says how.
///
/// ```
/// use std::sync::Arc;
///
/// use arrow::datatypes::{DataType, Field, Schema};
/// use karez_formats::json::{JsonDecoder, JsonOptions};
///
/// let schema = Arc::new(Schema::new(vec![Field::new("price", DataType::Int64, true)]));
/// let mut decoder = JsonDecoder::try_new(schema, JsonOptions::default())?;
/// let mut errors = Vec::new();
/// let block = b"{\"price\":7,\"by\":\"me\"}\n{\"price\":no}\n{\"price\":8}\n{\"pri";
/// let read = decoder.decode_lines(block, false, 1024, &mut errors);
/// assert_eq!(read, block.len() - 5);
/// assert_eq!((errors[0].offset, errors[0].length), (22, 12));
/// assert_eq!(decoder.flush()?.map(|batch| batch.num_rows()), Some(2));
/// # Ok::<(), arrow::error::ArrowError>(())
/// ```
pub struct JsonDecoder {
    schema: SchemaRef,
    strict: bool,
    rows: usize,
    buffer: Buffer,
    layouts: Layouts,
    general: General,
    /// Records for the general path, of the chunk at hand.
    pending: Vec<Pending>,
    /// Records that took the general path since the last that did not.
    misses: u32,
    /// Records still to be sent to the general path untried.
    untried: usize,
    /// Bytes of a record, about.
    record_bytes: usize,
    /// Where the record of each row began, if anybody wants to know.
    offsets: Option<Vec<u64>>,
}

/// Where the rows are until the next flush.
enum Buffer {
    /// In columns, when each has a type that can be read here.
    Columns(Vec<Column>),
    /// In batches of the general path.
    Batches(Vec<RecordBatch>),
}

/// A record for the general path.
struct Pending {
    /// The rows buffered before it, not counting those of other pending records.
    row: usize,
    /// Where it lies in the chunk; of messages, its place among them.
    bytes: Range<usize>,
}

// ===== impl JsonDecoder =====

impl JsonDecoder {
    /// A decoder to the columns of `schema`: just those that the job reads.
    ///
    /// # Errors
    ///
    /// A type of `schema` that arrow-json does not decode.
    pub fn try_new(schema: SchemaRef, options: JsonOptions) -> Result<Self, ArrowError> {
        let general = General::try_new(SchemaRef::clone(&schema), options.strict)?;
        let columns: Option<Vec<_>> = schema.fields().iter().map(|field| Column::try_new(field)).collect();
        Ok(Self {
            layouts: Layouts::new(&schema),
            schema,
            strict: options.strict,
            rows: 0,
            buffer: columns.map_or(Buffer::Batches(Vec::new()), Buffer::Columns),
            general,
            pending: Vec::new(),
            misses: 0,
            untried: 0,
            record_bytes: 256,
            offsets: None,
        })
    }

    /// Decodes the complete lines of `block`, and returns how many bytes it has done with.
    ///
    /// A last line without a line feed counts only when `last` is true. Stops once `max_rows` rows are buffered, or
    /// half a gigabyte. Bad records are added to `errors`, with their offset in `block` and their length without the
    /// line feed, in their order. Blank lines are skipped. A line with two JSON values is one bad record.
    pub fn decode_lines(&mut self, block: &[u8], last: bool, max_rows: usize, errors: &mut Vec<RecordError>) -> usize {
        let end = if last { block.len() } else { lines_end(block) };
        let mut pos = 0;
        while pos < end && self.rows < max_rows && self.bytes() < BUFFER_BYTES_LIMIT {
            let wanted = (max_rows - self.rows).saturating_mul(self.record_bytes);
            let wanted = wanted.clamp(CHUNK_BYTES_LEAST, CHUNK_BYTES);
            let chunk = &block[pos..chunk_end(block, pos, end, wanted)];
            pos += self.decode_chunk(chunk, pos, max_rows, errors);
        }
        pos
    }

    /// Decodes one message: [`decode_messages`](Self::decode_messages) of it alone. On `Err` it has left no row.
    ///
    /// # Errors
    ///
    /// The message is not a JSON object that fits the schema, or the buffer is full.
    pub fn decode_record(&mut self, record: &[u8]) -> Result<(), RecordError> {
        let mut errors = Vec::new();
        if self.decode_messages(&[Some(record)], 0, usize::MAX, &mut errors) == 0 {
            let reason = "the batch is full and has to be flushed first".to_owned();
            return Err(RecordError { offset: 0, length: record.len(), reason });
        }
        errors.pop().map_or(Ok(()), Err)
    }

    /// Decodes messages, each a record of its own, in order, until `max_rows` rows are buffered or half a gigabyte, and returns how many it has done
    /// with.
    ///
    /// A message may hold line feeds. One that is empty, or holds two JSON values, is bad. Bad ones are added to `errors`, in their order; there, and in
    /// [`take_offsets`](Self::take_offsets), a message goes by `first` plus its place in `messages`.
    pub fn decode_messages(&mut self, messages: &[Option<&[u8]>], first: usize, max_rows: usize, errors: &mut Vec<RecordError>) -> usize {
        let mut done = 0;
        while done < messages.len() && self.rows < max_rows && self.bytes() < BUFFER_BYTES_LIMIT {
            done += self.decode_run(&messages[done..], first + done, max_rows, errors);
        }
        done
    }

    /// Decodes messages of about [`CHUNK_BYTES`], the first of which is `first`, and returns how many it has done with.
    fn decode_run(&mut self, messages: &[Option<&[u8]>], first: usize, max_rows: usize, errors: &mut Vec<RecordError>) -> usize {
        let mut bytes = 0;
        let mut done = 0;
        for message in messages {
            if bytes >= CHUNK_BYTES || self.rows + self.pending.len() >= max_rows {
                break;
            }
            let message = message.unwrap_or_default();
            bytes += message.len();
            done += 1;
            if self.is_worth_trying() {
                let read = self.read(message, 0, Framing::Message);
                if read.is_some_and(|end| skip_space(message, end, Framing::Message) == message.len()) {
                    self.keep_row(first + done - 1);
                    continue;
                }
                self.give_up();
            }
            self.pending.push(Pending { row: self.rows, bytes: done - 1..done });
        }
        if !self.pending.is_empty() {
            self.decode_pending(|message| messages[message.start].unwrap_or_default(), first, errors);
        }
        done
    }

    /// Rows buffered.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes that the buffered rows hold, about.
    pub fn bytes(&self) -> usize {
        match &self.buffer {
            Buffer::Columns(columns) => columns.iter().map(Column::bytes).sum(),
            Buffer::Batches(batches) => batches.iter().map(RecordBatch::get_array_memory_size).sum(),
        }
    }

    /// Takes the buffered rows; `None` if there are none.
    ///
    /// # Errors
    ///
    /// The rows of the general path do not go together in one batch: more than 2 GiB of strings in one column.
    pub fn flush(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        if rows == 0 {
            return Ok(None);
        }
        match &mut self.buffer {
            Buffer::Columns(columns) => {
                let arrays = columns.iter_mut().map(Column::finish).collect::<Result<_, _>>()?;
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), arrays, &options).map(Some)
            }
            Buffer::Batches(batches) => {
                let batches = std::mem::take(batches);
                concat_batches(&self.schema, &batches).map(Some)
            }
        }
    }

    /// Whether to keep the offset of each row's record, for [`take_offsets`](Self::take_offsets). Costs nothing when off.
    pub fn track_offsets(&mut self, on: bool) {
        self.offsets = on.then(Vec::new);
    }

    /// For each row since the last call, in their order, the offset of its record in the block it was decoded from.
    pub fn take_offsets(&mut self) -> Vec<u64> {
        self.offsets.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Decodes `chunk`, some complete lines at `offset` of their block, and returns how many bytes it has done with.
    fn decode_chunk(&mut self, chunk: &[u8], offset: usize, max_rows: usize, errors: &mut Vec<RecordError>) -> usize {
        let mut records = 0;
        let mut pos = 0;
        while pos < chunk.len() && self.rows + self.pending.len() < max_rows {
            records += 1;
            if self.is_worth_trying() {
                if let Some(end) = self.read(chunk, pos, Framing::Line).and_then(|end| after_line(chunk, end)) {
                    self.keep_row(offset + pos);
                    pos = end;
                    continue;
                }
                self.give_up();
            }
            let end = line_end(chunk, pos);
            if !is_blank(&chunk[pos..end]) {
                self.pending.push(Pending { row: self.rows, bytes: pos..end });
            }
            pos = end + 1;
        }
        self.record_bytes = pos.div_ceil(records.max(1));
        self.decode_pending(|lies| &chunk[lies], offset, errors);
        pos.min(chunk.len())
    }

    /// Whether the next record is to be tried here, before the general path.
    #[inline(always)]
    fn is_worth_trying(&mut self) -> bool {
        if self.untried > 0 {
            self.untried -= 1;
        }
        self.untried == 0 && matches!(self.buffer, Buffer::Columns(_))
    }

    /// Reads the record at `pos` into the columns, and returns the position behind it.
    ///
    /// What `None` leaves in the columns is for [`give_up`](Self::give_up) to remove.
    #[inline(always)]
    fn read(&mut self, data: &[u8], mut pos: usize, framing: Framing) -> Option<usize> {
        let Buffer::Columns(columns) = &mut self.buffer else { return None };
        let begin = pos;
        let mut node = NodeId::START;
        let mut filled = 0;
        let mut seen = Seen::default();
        loop {
            let (next, target, value) = self.layouts.step(node, data, pos, framing, &mut seen)?;
            node = next;
            pos = match target {
                Target::Column(place) => {
                    let column = &mut columns[place];
                    // A key that comes twice has the last value, says arrow-json.
                    if column.len() != self.rows {
                        return None;
                    }
                    filled += 1;
                    column.read(data, value, &mut seen)?
                }
                Target::Unread if self.strict => return None,
                Target::Unread => skip_value(data, value, framing, &mut seen)?,
                Target::End => {
                    pos = value;
                    break;
                }
            };
        }
        if filled < columns.len() {
            for column in columns.iter_mut().filter(|column| column.len() == self.rows) {
                column.append_null().then_some(())?;
            }
        }
        if seen.non_ascii() && simdutf8::basic::from_utf8(&data[begin..pos]).is_err() {
            return None;
        }
        Some(pos)
    }

    /// The row that has just been read counts; its record began at `offset` of the block.
    #[inline(always)]
    fn keep_row(&mut self, offset: usize) {
        self.rows += 1;
        self.misses = 0;
        if let Some(offsets) = &mut self.offsets {
            offsets.push(offset as u64);
        }
    }

    /// The record cannot be read here.
    fn give_up(&mut self) {
        if let Buffer::Columns(columns) = &mut self.buffer {
            for column in columns {
                column.truncate(self.rows);
            }
        }
        self.misses += 1;
        if let Some(excess) = self.misses.checked_sub(MISSES_LIMIT) {
            // One more, since the probe counts itself.
            self.untried = (1 << excess.min(UNTRIED_LIMIT_LOG2)) + 1;
        }
    }

    /// Takes the pending records, which `record` looks up, through the general path, and puts their rows where they belong. `offset` is added to where
    /// they lie.
    fn decode_pending<'a>(&mut self, record: impl Fn(Range<usize>) -> &'a [u8], offset: usize, errors: &mut Vec<RecordError>) {
        let pending = std::mem::take(&mut self.pending);
        let Some(first) = pending.first() else { return };
        let records: Vec<_> = pending.iter().map(|pending| record(pending.bytes.clone())).collect();
        let mut merge = Merge::new(&mut self.buffer, self.offsets.as_mut(), first.row, self.rows);
        let mut next = 0;
        self.general.decode(&records, |outcome| match outcome {
            Outcome::Rows(batch) => {
                merge.insert(&batch, &pending[next..], offset);
                next += batch.num_rows();
                self.rows += batch.num_rows();
            }
            Outcome::Bad(reason) => {
                errors.push(RecordError { offset: offset + pending[next].bytes.start, length: records[next].len(), reason });
                next += 1;
            }
        });
        merge.finish();
        self.pending = pending;
        self.pending.clear();
    }
}

/// Behind the line whose record ends at `pos`; `None` if there is more than white space on it.
#[inline(always)]
fn after_line(chunk: &[u8], pos: usize) -> Option<usize> {
    if chunk.get(pos) == Some(&b'\n') {
        return Some(pos + 1);
    }
    let end = skip_space(chunk, pos, Framing::Line);
    match chunk.get(end) {
        Some(b'\n') => Some(end + 1),
        Some(_) => None,
        None => Some(end),
    }
}

impl fmt::Debug for JsonDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonDecoder").field("schema", &self.schema).field("rows", &self.rows).finish_non_exhaustive()
    }
}
