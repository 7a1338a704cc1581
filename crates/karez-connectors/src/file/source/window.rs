//! The part of a file that is being decoded: bytes read and not yet consumed, and the decoder in front of them.
//!
//! Memory is bounded by the block size, the longest record and what [`ReadLimit`] asks for, whatever the length of the file.

use std::fmt::Write;
use std::io::{self, Read as _};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use karez_core::source::{Read, ReadLimit, ReaderContext, with_origin};
use karez_core::{BadRecord, Error, Result};
use karez_formats::{LineDecoder, RecordError};
use memchr::memchr;

use super::follow::tail::Tail;
use super::format::Lines;
use super::input::cannot_read;
use super::letters::CUT;

/// Bytes read at a time.
const BLOCK_BYTES: usize = 512 << 10;

/// Bytes given to the decoder at a time, at least.
const STEP_BYTES: usize = 64 << 10;

/// Bytes decoded in one call, at most: below what decoders can hold.
const BYTES_LIMIT: usize = 128 << 20;

/// Bytes kept of a record that is too long.
const SHOWN_BYTES: usize = 1_024;

/// Where bytes come from.
pub(super) enum Input {
    /// A file, or what decompresses to one, read to its end.
    Stream(Box<dyn io::Read + Send>),
    /// A file that grows.
    Tail(Tail),
}

impl Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = match self {
                Self::Stream(s) => s.read(buffer),
                Self::Tail(t) => t.read(buffer),
            };
            match n {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

/// What the end of the input means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtEnd {
    /// Nothing follows: a last record without line feed counts.
    Last,
    /// More may come.
    Wait,
}

/// A record that is longer than the limit, while its end is looked for.
struct TooLong {
    /// The offset behind what has been skipped of it.
    skipped_to: u64,
    head: Vec<u8>,
}

pub(super) struct Window {
    path: String,
    pub(super) input: Input,
    lines: Lines,
    decoder: Option<Box<dyn LineDecoder>>,
    buffer: Vec<u8>,
    /// The bytes of `buffer` that are read and not consumed: from `start` to before `filled`.
    start: usize,
    filled: usize,
    /// The offset of `start` in the file: a record begins here.
    offset: u64,
    record_limit: usize,
    too_long: Option<TooLong>,
    /// Bytes the file must have.
    expected: u64,
    /// What reading met behind rows that had to be given first.
    error: Option<io::Error>,
    errors: Vec<RecordError>,
    context: ReaderContext,
    schema: SchemaRef,
}

impl Window {
    /// A window at `offset`, where `input` begins. `header`: the file's (empty where it has none); `None`: the window begins with it.
    pub(super) fn new(
        path: String,
        input: Input,
        lines: Lines,
        offset: u64,
        header: Option<&[String]>,
        record_limit: usize,
        context: ReaderContext,
    ) -> Result<Self> {
        let decoder = header.map(|h| lines.decoder(&path, h)).transpose()?;
        let schema = if context.with_origin { with_origin(&lines.output()) } else { lines.output() };
        let mut window = Self {
            path,
            input,
            lines,
            decoder: None,
            buffer: Vec::new(),
            start: 0,
            filled: 0,
            offset,
            record_limit,
            too_long: None,
            expected: 0,
            error: None,
            errors: Vec::new(),
            context,
            schema,
        };
        if let Some(decoder) = decoder {
            window.set_decoder(decoder);
        }
        Ok(window)
    }

    fn set_decoder(&mut self, mut decoder: Box<dyn LineDecoder>) {
        decoder.track_offsets(self.context.with_origin);
        self.decoder = Some(decoder);
    }

    /// The file must have so many bytes.
    pub(super) const fn expect(&mut self, bytes: u64) {
        self.expected = bytes;
    }

    /// Where the next record begins.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The offset behind the bytes read.
    fn read_to(&self) -> u64 {
        self.too_long.as_ref().map_or(self.offset, |t| t.skipped_to) + (self.filled - self.start) as u64
    }

    /// Goes to behind the next line feed; `false`: there is none.
    pub(super) fn skip_line(&mut self) -> Result<bool> {
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[self.start..self.filled]) {
                self.consume(at + 1);
                return Ok(true);
            }
            self.consume(self.filled - self.start);
            if self.fill()? == 0 {
                return Ok(false);
            }
        }
    }

    /// Frees memory that is not needed while nothing comes.
    pub(super) fn rest(&mut self) {
        if self.start == self.filled {
            (self.buffer, self.start, self.filled) = (Vec::new(), 0, 0);
        }
    }

    /// The next rows of records that begin before `end`; `None` where there are no more at present.
    pub(super) fn read(&mut self, limit: ReadLimit, end: Option<u64>, at_end: AtEnd) -> Result<Option<Read>> {
        if !self.begin(at_end)? {
            return Ok(None);
        }
        let max_rows = limit.rows.max(1);
        let max_bytes = limit.bytes.clamp(1, BYTES_LIMIT);
        let mut bad = Vec::new();
        let mut origins = self.context.with_origin.then(StringBuilder::new);
        let mut last = false;
        loop {
            let progress = self.step(end, last, max_rows, max_bytes, &mut bad, origins.as_mut())?;
            let Some(decoder) = &self.decoder else { break };
            let (rows, bytes) = (decoder.rows(), decoder.bytes());
            if rows >= max_rows || bytes >= max_bytes || bad.len() >= max_rows || self.is_behind(end) {
                break;
            }
            if progress {
                continue;
            }
            if last {
                break;
            }
            match self.fill() {
                Ok(0) if at_end == AtEnd::Last => last = true,
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if rows == 0 && bad.is_empty() => return Err(e),
                // Said again by the next call.
                Err(_) => break,
            }
        }
        self.take(bad, origins)
    }

    fn is_behind(&self, end: Option<u64>) -> bool {
        end.is_some_and(|end| self.offset >= end)
    }

    /// Reads what stands before the first record, and makes the decoder; `false`: there is not enough yet.
    fn begin(&mut self, at_end: AtEnd) -> Result<bool> {
        let mut last = false;
        while self.decoder.is_none() {
            let start = &self.buffer[self.start..self.filled];
            let preamble = self.lines.preamble(start, last).map_err(|e| Error::user(format!("the file `{}`: {e}", self.path)))?;
            match preamble {
                Some((header, behind)) => {
                    let decoder = self.lines.decoder(&self.path, &header)?;
                    self.consume(behind);
                    self.set_decoder(decoder);
                }
                // An empty file, without a header even.
                None if last => return Ok(false),
                None if start.len() > self.record_limit => return Err(Error::user(format!("the file `{}`: its header is too long", self.path))),
                None => match self.fill()? {
                    0 if at_end == AtEnd::Last => last = true,
                    0 => return Ok(false),
                    _ => {}
                },
            }
        }
        Ok(true)
    }

    /// Decodes some of what is there; whether anything came of it.
    fn step(
        &mut self,
        end: Option<u64>,
        last: bool,
        max_rows: usize,
        max_bytes: usize,
        bad: &mut Vec<BadRecord>,
        origins: Option<&mut StringBuilder>,
    ) -> Result<bool> {
        if self.too_long.is_some() {
            return Ok(self.skip_too_long(last, bad));
        }
        let Some(decoder) = &mut self.decoder else { return Ok(false) };
        let available = &self.buffer[self.start..self.filled];
        // Up to behind the line feed that ends the last line of the range.
        let own = match end {
            Some(end) if self.offset >= end => 0,
            Some(end) if self.offset + available.len() as u64 >= end => {
                // In range: what is available lies in memory.
                let from = usize::try_from(end - 1 - self.offset).unwrap_or(usize::MAX).min(available.len());
                memchr(b'\n', &available[from..]).map_or(available.len(), |at| from + at + 1)
            }
            _ => available.len(),
        };
        let own = own.min(self.record_limit + 1);
        let mut used = 0;
        let few = own.min(max_bytes.max(STEP_BYTES));
        for size in [few, own] {
            used = decoder.decode_lines(&available[..size], last && size == available.len(), max_rows, &mut self.errors);
            if used > 0 || size == own {
                break;
            }
        }
        if let Some(origins) = origins {
            for row in decoder.take_offsets() {
                // Writing to a string builder does not fail.
                let _ = write!(origins, "file={} offset={}", self.path, self.offset + row);
                origins.append_value("");
            }
        }
        for e in self.errors.drain(..) {
            let raw = &available[e.offset..e.offset + e.length];
            bad.push(BadRecord {
                reason: e.reason,
                origin: Some(format!("file={} offset={}", self.path, self.offset + e.offset as u64)),
                raw: self.context.with_origin.then(|| Bytes::copy_from_slice(raw)),
                row: None,
            });
        }
        // Neither a record that fits nor the end of the input: whatever the blocks were, the same records are too long.
        if used == 0 && own == self.record_limit + 1 {
            let head = available[..own.min(SHOWN_BYTES)].to_vec();
            self.too_long = Some(TooLong { skipped_to: self.offset, head });
            return Ok(self.skip_too_long(last, bad));
        }
        self.consume(used);
        Ok(used > 0)
    }

    /// Looks for the end of a record that is too long. The position stays at its beginning until then.
    fn skip_too_long(&mut self, last: bool, bad: &mut Vec<BadRecord>) -> bool {
        let available = &self.buffer[self.start..self.filled];
        let (length, ends) = match memchr(b'\n', available) {
            Some(at) => (at + 1, true),
            None => (available.len(), last),
        };
        if !ends {
            // `offset` is not moved: a restart begins with the record again.
            self.start = self.filled;
            if let Some(long) = &mut self.too_long {
                long.skipped_to += length as u64;
            }
            return false;
        }
        let Some(long) = self.too_long.take() else { return false };
        let begin = self.offset;
        self.start += length;
        self.offset = long.skipped_to + length as u64;
        self.context.metrics.bytes_in.add(self.offset - begin);
        bad.push(BadRecord {
            reason: format!("the record is longer than {} bytes (`maxRecordSize`)", self.record_limit),
            origin: Some(format!("file={} offset={begin}{CUT}{}", self.path, long.head.len())),
            raw: self.context.with_origin.then(|| Bytes::from(long.head)),
            row: None,
        });
        true
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
        self.context.metrics.bytes_in.add(bytes as u64);
    }

    /// Reads a block; 0 at the end of the input.
    fn fill(&mut self) -> Result<usize> {
        if let Some(e) = &self.error {
            return Err(cannot_read(&self.path, io::Error::new(e.kind(), e.to_string())));
        }
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        if self.buffer.len() < self.filled + BLOCK_BYTES / 2 {
            self.buffer.resize((self.filled * 2).max(BLOCK_BYTES), 0);
        }
        let e = match self.input.read(&mut self.buffer[self.filled..]) {
            Ok(0) if self.expected > self.read_to() => io::Error::other(format!(
                "it was {} bytes long when this run began and ends at {} now: it was truncated or replaced while being read; start afresh",
                self.expected,
                self.read_to()
            )),
            Ok(n) => {
                self.filled += n;
                return Ok(n);
            }
            Err(e) => e,
        };
        let shown = io::Error::new(e.kind(), e.to_string());
        self.error = Some(e);
        Err(cannot_read(&self.path, shown))
    }

    /// What the input has failed with.
    pub(super) fn error(&self) -> Option<&io::Error> {
        self.error.as_ref()
    }

    fn take(&mut self, bad: Vec<BadRecord>, origins: Option<StringBuilder>) -> Result<Option<Read>> {
        let Some(decoder) = &mut self.decoder else { return Ok(None) };
        let rows = decoder.flush().map_err(|e| Error::internal(format!("rows of the file `{}`", self.path)).caused_by(e))?;
        let batch = match rows {
            None if bad.is_empty() => return Ok(None),
            None => RecordBatch::new_empty(Arc::clone(&self.schema)),
            Some(batch) => match origins {
                None => batch,
                Some(mut origins) => add_column(&self.schema, &batch, Arc::new(origins.finish()))?,
            },
        };
        Ok(Some(Read::Rows { batch, bad }))
    }
}

/// The batch with one column more.
pub(super) fn add_column(schema: &SchemaRef, batch: &RecordBatch, column: ArrayRef) -> Result<RecordBatch> {
    let mut columns = batch.columns().to_vec();
    columns.push(column);
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
