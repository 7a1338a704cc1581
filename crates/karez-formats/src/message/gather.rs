//! Rows of messages that were decoded in parts, put together in the order of the messages.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::SchemaRef;
use karez_core::Result;
use karez_core::schema::batch_bytes;

use super::conform::Conform;
use super::{BadMessage, Decoded};

/// Most bytes buffered: 32-bit offsets have to reach over them, and over the longest message.
pub(super) const BUFFER_BYTES_LIMIT: usize = 1 << 28;

/// Rows, and the message of each, ascending.
pub(super) type Part = (RecordBatch, Vec<u32>);

/// The rows since the last flush.
pub(super) struct Gather {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    messages: Vec<u32>,
    bytes: usize,
}

impl Gather {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        Self { schema: Arc::clone(schema), batches: Vec::new(), messages: Vec::new(), bytes: 0 }
    }

    pub(super) fn rows(&self) -> usize {
        self.messages.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the rows of a run of messages, which are behind those that are there.
    pub(super) fn add(&mut self, parts: Vec<Part>, bad: &mut Vec<BadMessage>) {
        if parts.is_sorted_by(|a, b| a.1.last() < b.1.first()) {
            for (batch, messages) in parts {
                self.keep(batch, &messages);
            }
            return;
        }
        // Messages of several schemas by turns.
        let mut order: Vec<(u32, (usize, usize))> =
            parts.iter().enumerate().flat_map(|(part, (_, messages))| messages.iter().enumerate().map(move |(row, m)| (*m, (part, row)))).collect();
        order.sort_unstable_by_key(|(message, _)| *message);
        let messages: Vec<u32> = order.iter().map(|(message, _)| *message).collect();
        let together = if self.schema.fields().is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(messages.len()));
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), Vec::new(), &options)
        } else {
            let batches: Vec<&RecordBatch> = parts.iter().map(|(batch, _)| batch).collect();
            let places: Vec<(usize, usize)> = order.iter().map(|(_, place)| *place).collect();
            interleave_record_batch(&batches, &places)
        };
        match together {
            Ok(batch) => self.keep(batch, &messages),
            Err(e) => bad.extend(messages.into_iter().map(|message| BadMessage { message, reason: e.to_string() })),
        }
    }

    fn keep(&mut self, batch: RecordBatch, messages: &[u32]) {
        self.bytes += batch_bytes(&batch);
        self.messages.extend_from_slice(messages);
        self.batches.push(batch);
    }

    pub(super) fn flush(&mut self) -> Result<Option<Decoded>> {
        self.bytes = 0;
        let mut batches = std::mem::take(&mut self.batches);
        let messages = std::mem::take(&mut self.messages);
        let batch = match batches.len() {
            0 => return Ok(None),
            1 => batches.remove(0),
            _ => concat_batches(&self.schema, &batches)?,
        };
        Ok(Some(Decoded { batch, kinds: None, messages }))
    }
}

/// Brings a part into the schema of the rows; what does not fit is bad alone.
pub(super) fn conform(conform: &Conform, (batch, messages): Part, parts: &mut Vec<Part>, bad: &mut Vec<BadMessage>) {
    match conform.apply(&batch) {
        Ok(batch) => parts.push((batch, messages)),
        Err(reason) => {
            if let [message] = messages.as_slice() {
                return bad.push(BadMessage { message: *message, reason });
            }
            let half = messages.len() / 2;
            let (first, second) = (batch.slice(0, half), batch.slice(half, messages.len() - half));
            self::conform(conform, (first, messages[..half].to_vec()), parts, bad);
            self::conform(conform, (second, messages[half..].to_vec()), parts, bad);
        }
    }
}
