//! Lines of text: one row each, in one string column.
//!
//! A line ends at a line feed, with or without a carriage return before it. Empty lines are rows. A line that is not UTF-8 is a bad record.

use std::fmt;

use arrow::array::{RecordBatch, RecordBatchOptions, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use memchr::memchr;
use std::sync::Arc;

use crate::RecordError;

/// Most bytes buffered: 32-bit offsets have to reach over them, and over the longest line.
const BUFFER_BYTES_LIMIT: usize = 1 << 29;

/// Decodes lines to batches of one string column, or of none where only their number counts.
pub struct TextDecoder {
    schema: SchemaRef,
    bytes: Vec<u8>,
    /// Where each row begins in `bytes`, and the end.
    starts: Vec<i32>,
    offsets: Option<Vec<u64>>,
}

impl TextDecoder {
    /// A decoder to a schema of one string column, or none.
    ///
    /// # Errors
    ///
    /// Another schema.
    pub fn try_new(schema: SchemaRef) -> Result<Self, ArrowError> {
        if schema.fields().len() > 1 || schema.fields().iter().any(|f| f.data_type() != &DataType::Utf8) {
            return Err(ArrowError::SchemaError("lines of text are one column of type string".to_owned()));
        }
        Ok(Self { schema, bytes: Vec::new(), starts: vec![0], offsets: None })
    }

    /// See [`crate::LineDecoder::decode_lines`].
    pub fn decode_lines(&mut self, block: &[u8], last: bool, max_rows: usize, errors: &mut Vec<RecordError>) -> usize {
        let mut pos = 0;
        while pos < block.len() && self.rows() < max_rows && self.bytes.len() < BUFFER_BYTES_LIMIT {
            let (end, next) = match memchr(b'\n', &block[pos..]) {
                Some(at) => (pos + at, pos + at + 1),
                None if last => (block.len(), block.len()),
                None => break,
            };
            let line = &block[pos..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match simdutf8::compat::from_utf8(line) {
                Ok(text) => {
                    if !self.schema.fields().is_empty() {
                        self.bytes.extend_from_slice(text.as_bytes());
                    }
                    // In range: `BUFFER_BYTES_LIMIT` and the longest block are far below 2 GiB.
                    self.starts.push(i32::try_from(self.bytes.len()).unwrap_or(i32::MAX));
                    if let Some(offsets) = &mut self.offsets {
                        offsets.push(pos as u64);
                    }
                }
                Err(e) => {
                    let reason = format!("byte {} of the line is not UTF-8", e.valid_up_to());
                    errors.push(RecordError { offset: pos, length: line.len(), reason });
                }
            }
            pos = next;
        }
        pos
    }

    /// Rows buffered.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Bytes that the buffered rows hold, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.rows() * size_of::<i32>()
    }

    /// Takes the buffered rows; `None` if there are none.
    ///
    /// # Errors
    ///
    /// None that a caller can bring about.
    pub fn flush(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let (rows, bytes) = (self.rows(), self.bytes.len());
        if rows == 0 {
            return Ok(None);
        }
        let mut fresh = Vec::with_capacity(rows + 1);
        fresh.push(0);
        let starts = std::mem::replace(&mut self.starts, fresh);
        let text = std::mem::replace(&mut self.bytes, Vec::with_capacity(bytes));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let mut columns: Vec<arrow::array::ArrayRef> = Vec::new();
        if !self.schema.fields().is_empty() {
            columns.push(Arc::new(StringArray::try_new(OffsetBuffer::new(starts.into()), Buffer::from_vec(text), None)?));
        }
        RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), columns, &options).map(Some)
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

impl fmt::Debug for TextDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextDecoder").field("schema", &self.schema).field("rows", &self.rows()).finish_non_exhaustive()
    }
}
