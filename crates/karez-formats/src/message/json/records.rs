//! JSON objects that are parts of messages: none, one or two of each.

use std::sync::Arc;

use arrow::array::{BooleanArray, Int8Array, RecordBatch};
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::SchemaRef;
use karez_core::schema::ChangeKind;
use karez_core::{Error, Result};

use crate::RecordError;
use crate::json::{JsonDecoder, JsonOptions};
use crate::message::{BadMessage, Decoded};

/// Most bytes buffered, half of what the decoder would take: messages are not parted.
pub(in crate::message) const BUFFER_BYTES_LIMIT: usize = 1 << 28;

/// Most messages taken apart in one go.
pub(in crate::message) const RUN_MESSAGES: usize = 1024;

/// Decodes the objects, and remembers the message and the kind of each. A message of which one is bad leaves no row.
pub(in crate::message) struct JsonRecords {
    schema: SchemaRef,
    decoder: JsonDecoder,
    /// Of every object since the last flush.
    records: Vec<(u32, ChangeKind)>,
    /// Messages with a bad object, ascending.
    dropped: Vec<u32>,
    errors: Vec<RecordError>,
}

impl JsonRecords {
    pub(in crate::message) fn try_new(schema: &SchemaRef, options: &JsonOptions) -> Result<Self, String> {
        let mut decoder = JsonDecoder::try_new(Arc::clone(schema), options.clone()).map_err(|e| e.to_string())?;
        decoder.track_offsets(true);
        Ok(Self { schema: Arc::clone(schema), decoder, records: Vec::new(), dropped: Vec::new(), errors: Vec::new() })
    }

    pub(in crate::message) const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes the objects of a run of messages; `of` says for each what it belongs to. Adds to `bad`, where order among the run is the caller's.
    pub(in crate::message) fn decode(&mut self, objects: &[Option<&[u8]>], of: &[(u32, ChangeKind)], bad: &mut Vec<BadMessage>) {
        let first = self.records.len();
        self.records.extend_from_slice(of);
        let done = self.decoder.decode_messages(objects, first, usize::MAX, &mut self.errors);
        let refused = of.iter().skip(done).map(|(message, _)| (*message, "the batch is full: the message is too long".to_owned()));
        let errors = self.errors.drain(..).map(|e| (self.records[e.offset].0, e.reason)).chain(refused);
        for (message, reason) in errors {
            if self.dropped.last() != Some(&message) {
                self.dropped.push(message);
                bad.push(BadMessage { message, reason });
            }
        }
    }

    pub(in crate::message) fn rows(&self) -> usize {
        self.decoder.rows()
    }

    pub(in crate::message) fn bytes(&self) -> usize {
        self.decoder.bytes()
    }

    /// Takes the rows; `kinds`: those of the objects too.
    pub(in crate::message) fn flush(&mut self, kinds: bool) -> Result<Option<Decoded>> {
        let of: Vec<(u32, ChangeKind)> = self.decoder.take_offsets().into_iter().map(|at| self.records[at as usize]).collect();
        self.records.clear();
        let dropped = std::mem::take(&mut self.dropped);
        let Some(batch) = self.decoder.flush().map_err(|e| Error::internal("rows of JSON messages").caused_by(e))? else { return Ok(None) };
        let messages = of.iter().map(|(message, _)| *message).collect();
        let kinds = kinds.then(|| of.iter().map(|(_, kind)| *kind as i8).collect());
        let decoded = Decoded { batch, kinds, messages };
        if dropped.is_empty() { Ok(Some(decoded)) } else { without(decoded, &dropped) }
    }
}

/// The rows of other messages than `dropped`.
fn without(decoded: Decoded, dropped: &[u32]) -> Result<Option<Decoded>> {
    let kept = |message: &u32| dropped.binary_search(message).is_err();
    let mask: BooleanArray = decoded.messages.iter().map(|message| Some(kept(message))).collect();
    let batch: RecordBatch = filter_record_batch(&decoded.batch, &mask)?;
    let kinds = decoded.kinds.map(|kinds| filter(&kinds, &mask)).transpose()?;
    let kinds: Option<Int8Array> = kinds.map(|kinds| arrow::array::AsArray::as_primitive::<arrow::datatypes::Int8Type>(&kinds).clone());
    let messages: Vec<u32> = decoded.messages.into_iter().filter(kept).collect();
    Ok((!messages.is_empty()).then_some(Decoded { batch, kinds, messages }))
}
