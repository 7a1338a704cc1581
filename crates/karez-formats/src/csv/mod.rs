//! The CSV decoder.
//!
//! # Contract
//!
//! A record ends at a line feed, with or without a carriage return before it, outside quotes; blank lines and comment lines are no records. A field is
//! quoted when it begins with the quote; a quote inside it is doubled, or follows the escape character. What stands between the closing quote and the
//! next delimiter makes the record bad, and so does a quote that is never closed, another number of fields than expected, a value that does not
//! parse as its column's type, a null in a column without nulls, and text that is not UTF-8.
//!
//! A bad record is reported alone, and nothing of it is in a batch. Where the end of a bad record is in doubt (its quotes are broken), it is one
//! line: decoding goes on with the next one.
//!
//! Null markers stand for null where they are not quoted; in columns other than text also where they are.

mod column;
mod infer;
mod split;

use std::fmt;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use memchr::memrchr;

use crate::RecordError;
use column::Column;
pub use infer::Inference;
use split::{Field, Splitter, Step};

/// Bytes checked for UTF-8 in one go.
const CHUNK_BYTES: usize = 64 << 10;

/// Most bytes of text buffered in a batch: 32-bit offsets have to reach over them, and over the longest record.
const BUFFER_BYTES_LIMIT: usize = 1 << 29;

/// Characters of a bad value that its error shows.
const SHOWN_CHARS: usize = 80;

/// How records are written. Delimiter, quote, escape and comment are ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// Between two fields.
    pub delimiter: u8,
    /// Around a field that holds delimiters, line feeds or quotes; `None`: quotes are text.
    pub quote: Option<u8>,
    /// Before a quote inside a quoted field, besides doubling it.
    pub escape: Option<u8>,
    /// Lines that begin with it are skipped.
    pub comment: Option<u8>,
    /// Whether a quoted field may hold line feeds. Without it every line feed ends a record, so that a file can be read from its middle.
    pub multiline: bool,
    /// What stands for null.
    pub null_markers: Vec<String>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { delimiter: b',', quote: Some(b'"'), escape: None, comment: None, multiline: true, null_markers: vec![String::new()] }
    }
}

/// The first record of a block, such as a header: its fields, and the position behind it. `None`: it is not complete.
///
/// # Errors
///
/// Why it cannot be split into fields.
pub fn first_record(block: &[u8], last: bool, options: &CsvOptions) -> Result<Option<(Vec<String>, usize)>, String> {
    let splitter = Splitter::new(options);
    let mut fields = Vec::new();
    let mut pos = 0;
    loop {
        match splitter.step(block, pos, last, &mut fields) {
            Step::Skip { next } => pos = next,
            Step::Incomplete => return Ok(None),
            Step::Bad { reason, .. } => return Err(reason.to_owned()),
            Step::Record { end, next } => {
                let text = std::str::from_utf8(&block[..end]).map_err(|_| "it is not UTF-8".to_owned())?;
                let mut scratch = String::new();
                return Ok(Some((fields.iter().map(|f| splitter.value(text, f, &mut scratch).to_owned()).collect(), next)));
            }
        }
    }
}

/// Decodes CSV to batches of one schema. The [module](self) says how.
///
/// ```
/// use std::sync::Arc;
///
/// use arrow::datatypes::{DataType, Field, Schema};
/// use karez_formats::csv::{CsvDecoder, CsvOptions};
///
/// let schema = Arc::new(Schema::new(vec![Field::new("price", DataType::Int64, true)]));
/// // The price is the second of two fields.
/// let mut decoder = CsvDecoder::try_new(schema, &[1], 2, &CsvOptions::default())?;
/// let mut errors = Vec::new();
/// let block = b"a,7\nb,no\nc,8\nd,";
/// let read = decoder.decode_lines(block, false, 1024, &mut errors);
/// assert_eq!(read, block.len() - 2);
/// assert_eq!((errors[0].offset, errors[0].length), (4, 4));
/// assert_eq!(errors[0].reason, "column `price`: `no` is not a bigint");
/// assert_eq!(decoder.flush()?.map(|batch| batch.num_rows()), Some(2));
/// # Ok::<(), arrow::error::ArrowError>(())
/// ```
pub struct CsvDecoder {
    schema: SchemaRef,
    splitter: Splitter,
    /// Fields of every record.
    width: usize,
    /// For each column, the field it is read from.
    sources: Vec<usize>,
    columns: Vec<Box<dyn Column>>,
    rows: usize,
    nulls: NullMarkers,
    /// Where the record of each row began, if anybody wants to know.
    offsets: Option<Vec<u64>>,
    /// The fields of the record at hand.
    fields: Vec<Field>,
    /// A value without its escapes.
    scratch: String,
}

/// What stands for null.
struct NullMarkers {
    empty: bool,
    others: Vec<String>,
    longest: usize,
}

impl NullMarkers {
    fn new(markers: &[String]) -> Self {
        let others: Vec<_> = markers.iter().filter(|m| !m.is_empty()).cloned().collect();
        Self { empty: markers.iter().any(String::is_empty), longest: others.iter().map(String::len).max().unwrap_or(0), others }
    }

    #[inline]
    fn contain(&self, text: &str) -> bool {
        if text.is_empty() { self.empty } else { text.len() <= self.longest && self.others.iter().any(|m| m == text) }
    }
}

// ===== impl CsvDecoder =====

impl CsvDecoder {
    /// A decoder of records with `width` fields, of which field `sources[i]` is column `i` of `schema`.
    ///
    /// # Errors
    ///
    /// A type of `schema` that has no form in CSV, or a source that is no field.
    pub fn try_new(schema: SchemaRef, sources: &[usize], width: usize, options: &CsvOptions) -> Result<Self, ArrowError> {
        if sources.len() != schema.fields().len() || sources.iter().any(|&s| s >= width) {
            return Err(ArrowError::SchemaError(format!("{} columns cannot be read from the fields {sources:?} of {width}", schema.fields().len())));
        }
        Ok(Self {
            splitter: Splitter::new(options),
            width,
            sources: sources.to_vec(),
            columns: schema.fields().iter().map(|f| column::of(f)).collect::<Result<_, _>>()?,
            schema,
            rows: 0,
            nulls: NullMarkers::new(&options.null_markers),
            offsets: None,
            fields: Vec::new(),
            scratch: String::new(),
        })
    }

    /// See [`crate::LineDecoder::decode_lines`].
    pub fn decode_lines(&mut self, block: &[u8], last: bool, max_rows: usize, errors: &mut Vec<RecordError>) -> usize {
        let mut pos = 0;
        // The text from `chunk_start` to behind its end, where that is UTF-8.
        let mut chunk = "";
        let mut chunk_start = 0;
        let mut chunk_end = 0;
        while pos < block.len() && self.rows < max_rows {
            if self.rows.is_multiple_of(256) && self.bytes() >= BUFFER_BYTES_LIMIT {
                break;
            }
            if pos >= chunk_end {
                chunk_start = pos;
                chunk_end = whole_lines(block, pos);
                chunk = simdutf8::basic::from_utf8(&block[chunk_start..chunk_end]).unwrap_or("");
            }
            match self.splitter.step(block, pos, last, &mut self.fields) {
                Step::Incomplete => break,
                Step::Skip { next } => pos = next,
                Step::Bad { end, next, reason } => {
                    errors.push(RecordError { offset: pos, length: end - pos, reason: reason.to_owned() });
                    pos = next;
                }
                Step::Record { end, next } => {
                    let text = match chunk.get(pos - chunk_start..end - chunk_start) {
                        Some(text) => Ok(text),
                        None => simdutf8::compat::from_utf8(&block[pos..end]),
                    };
                    let outcome = match text {
                        Ok(text) => self.append(text, pos),
                        Err(e) => Err(format!("byte {} of the record is not UTF-8", e.valid_up_to())),
                    };
                    match outcome {
                        Ok(()) => {
                            if let Some(offsets) = &mut self.offsets {
                                offsets.push(pos as u64);
                            }
                            self.rows += 1;
                        }
                        Err(reason) => {
                            self.columns.iter_mut().for_each(|c| c.truncate(self.rows));
                            errors.push(RecordError { offset: pos, length: end - pos, reason });
                        }
                    }
                    pos = next;
                }
            }
        }
        pos
    }

    /// Decodes one message, a record of its own. On `Err` it has left no row.
    ///
    /// A message may end with a line break, and hold others inside quotes. One that is empty, or holds two records, is bad.
    ///
    /// # Errors
    ///
    /// Why it is no record of the schema.
    pub fn decode_message(&mut self, message: &[u8]) -> Result<(), String> {
        let end = match self.splitter.step(message, 0, true, &mut self.fields) {
            Step::Record { end, next } if message[next.min(message.len())..].iter().all(|b| matches!(b, b'\r' | b'\n')) => end,
            Step::Record { .. } => return Err("more than one record in the message".to_owned()),
            Step::Bad { reason, .. } => return Err(reason.to_owned()),
            Step::Skip { .. } | Step::Incomplete => return Err("the message is empty".to_owned()),
        };
        let text = simdutf8::compat::from_utf8(&message[..end]).map_err(|e| format!("byte {} of the record is not UTF-8", e.valid_up_to()))?;
        let appended = self.append(text, 0);
        match &appended {
            Ok(()) => self.rows += 1,
            Err(_) => self.columns.iter_mut().for_each(|c| c.truncate(self.rows)),
        }
        appended
    }

    /// Adds the row of the record `text`, whose fields are relative to its block, where it began at `offset`.
    #[inline]
    fn append(&mut self, text: &str, offset: usize) -> Result<(), String> {
        if self.fields.len() != self.width {
            let (found, width) = (self.fields.len(), self.width);
            return Err(format!("the record has {found} field{}, expected {width}", if found == 1 { "" } else { "s" }));
        }
        for (i, (column, &source)) in self.columns.iter_mut().zip(&self.sources).enumerate() {
            let field = self.fields[source].relative_to(offset);
            let value = self.splitter.value(text, &field, &mut self.scratch);
            let (value, is_null) = if column.is_text() {
                (value, !field.quoted && self.nulls.contain(value))
            } else {
                let value = value.trim_ascii();
                (value, self.nulls.contain(value))
            };
            if is_null {
                if !self.schema.field(i).is_nullable() {
                    return Err(format!("column `{}` is null but must not be", self.schema.field(i).name()));
                }
                column.append_null();
            } else if let Err(misfit) = column.append(value) {
                let field = self.schema.field(i);
                return Err(format!("column `{}`: {}", field.name(), misfit.of(shown(value), field.data_type())));
            }
        }
        Ok(())
    }

    /// Rows buffered.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes that the buffered rows hold, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(|c| c.bytes()).sum()
    }

    /// Takes the buffered rows; `None` if there are none.
    ///
    /// # Errors
    ///
    /// None that a caller can bring about.
    pub fn flush(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        if rows == 0 {
            return Ok(None);
        }
        let arrays = self.columns.iter_mut().map(|c| c.finish()).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), arrays, &options).map(Some)
    }

    /// See [`crate::LineDecoder::track_offsets`].
    pub fn track_offsets(&mut self, on: bool) {
        self.offsets = on.then(Vec::new);
    }

    /// See [`crate::LineDecoder::take_offsets`].
    pub fn take_offsets(&mut self) -> Vec<u64> {
        self.offsets.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl fmt::Debug for CsvDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsvDecoder").field("schema", &self.schema).field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// Where about [`CHUNK_BYTES`] of whole lines from `pos` end; the end of `block` where no line does.
fn whole_lines(block: &[u8], pos: usize) -> usize {
    let near = block.len().min(pos + CHUNK_BYTES);
    memrchr(b'\n', &block[pos..near]).map_or(near, |at| pos + at + 1)
}

/// The beginning of a bad value.
fn shown(value: &str) -> String {
    match value.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}
