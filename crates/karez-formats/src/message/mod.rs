//! Messages: the payloads of queues (Kafka values and keys), each a record of its own, to batches and back.
//!
//! # Decoding
//!
//! What a source is configured with ([`MessageFormat`]) and the columns it declares become a [`DecodePlan`] once; every split reader takes a decoder of
//! its own from it. A [`MessageDecoder`] is synchronous and is fed slices of payloads:
//!
//! ```text
//!            ┌────────────────────────── rows: flush() ──► Decoded { batch, kinds, messages }
//! payloads ──┤ decode(&[Option<&[u8]>])  bad: Vec<BadMessage>, the others are not harmed
//!            └── Progress::needs ──► the caller fetches that schema, provide(id, …), and feeds the rest again
//! ```
//!
//! Messages are counted from 0 since the last [`flush`](MessageDecoder::flush); rows and errors name them by that number. So a caller that remembers
//! what it has fed since then (offset, key, headers, timestamp) can put those beside the rows.
//!
//! # Encoding
//!
//! An [`EncodePlan`] gives [`MessageEncoder`]s: a batch goes in, and for each row there is an [`Outcome`] in [`Payloads`]: bytes, a tombstone, nothing,
//! or a refusal with its reason. Where a schema registry is used, [`registration`](MessageEncoder::registration) says what is to be registered, and
//! [`registered`](MessageEncoder::registered) takes the id that was given; before that `encode` is an error.
//!
//! # Null payloads
//!
//! A message without a payload (a tombstone) is not decoded: [`NullPayload`] says what becomes of it, for each format by default
//! [`NullPayload::default_of`].

#[cfg(feature = "avro")]
mod avro;
#[cfg(any(feature = "avro", feature = "protobuf"))]
mod conform;
#[cfg(feature = "csv")]
mod csv;
#[cfg(feature = "json")]
mod debezium;
mod decode_plan;
mod encode_plan;
mod framing;
#[cfg(any(feature = "avro", feature = "protobuf"))]
mod gather;
#[cfg(feature = "json")]
mod json;
mod null_payloads;
mod options;
mod payloads;
#[cfg(feature = "protobuf")]
mod protobuf;
mod raw;
mod registered;
mod schema_file;
mod upsert;

pub use decode_plan::{DecodePlan, DecodeRequest};
pub use encode_plan::{EncodePlan, EncodeRequest};
pub use options::*;
pub use payloads::{Outcome, Payloads};
pub use registered::{RegisteredSchema, Registration, SchemaId, SchemaKind, SchemaReference};

use arrow::array::{Int8Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use karez_core::Result;
use schemars::JsonSchema;
use serde::Deserialize;

/// A message that could not be decoded; it has left no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadMessage {
    /// Which one, counted from 0 since the last flush.
    pub message: u32,
    /// What is wrong with it.
    pub reason: String,
}

/// How far a call of [`MessageDecoder::decode`] came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Messages of the slice that are done with, from its beginning: they have become rows, are reported bad, or were skipped.
    pub done: usize,
    /// How many of these were null payloads that were skipped.
    pub skipped: usize,
    /// The next message needs this schema: [`provide`](MessageDecoder::provide) it, and go on behind `done`.
    pub needs: Option<SchemaId>,
}

/// The rows of messages.
#[derive(Debug)]
pub struct Decoded {
    /// The rows, in the order of their messages, of [`MessageDecoder::schema`].
    pub batch: RecordBatch,
    /// For formats that carry changes: the [`karez_core::schema::ChangeKind`] of each row, the values of
    /// [`karez_core::schema::CHANGE_COLUMN`], which the caller adds as a hidden column. As long as the batch.
    pub kinds: Option<Int8Array>,
    /// The message of each row, counted from 0 since the last flush: ascending; a number twice where a message gave two rows (an update), left out
    /// where it gave none.
    pub messages: Vec<u32>,
}

/// Turns payloads into batches of one schema. Synchronous, never panics whatever the bytes, and allocates nothing per message in its usual course.
pub trait MessageDecoder: Send {
    /// The columns of its rows: no hidden ones.
    fn schema(&self) -> &SchemaRef;

    /// Decodes messages (`None`: a null payload), in order, until all are done, `max_rows` rows are buffered (a message's rows are never parted, so it
    /// may be one more), the buffer is full, or one needs a schema. Bad ones are added to `bad`, in order.
    ///
    /// When `done` is less than the slice is long and nothing is needed, [`flush`](Self::flush), and feed the rest.
    fn decode(&mut self, messages: &[Option<&[u8]>], max_rows: usize, bad: &mut Vec<BadMessage>) -> Progress;

    /// Gives what [`Progress::needs`] asked for: the schema, or why there is none (unknown id). In the latter case messages with that id are bad until
    /// the next flush; then it is asked for again, since it may have been registered meanwhile.
    ///
    /// A schema that does not fit the columns makes the messages that need it bad, with that reason.
    fn provide(&mut self, id: SchemaId, schema: std::result::Result<RegisteredSchema, String>) {
        let _ = (id, schema);
    }

    /// Rows buffered.
    fn rows(&self) -> usize;

    /// Bytes that the buffered rows hold, about.
    fn bytes(&self) -> usize;

    /// Takes the buffered rows, and begins to count messages anew; `None` if there are none.
    ///
    /// # Errors
    ///
    /// Internal ones alone.
    fn flush(&mut self) -> Result<Option<Decoded>>;
}

/// Turns rows into payloads.
pub trait MessageEncoder: Send {
    /// What is to be registered, and its id given to [`registered`](Self::registered), before the first call of [`encode`](Self::encode). `None` where
    /// no registry is used.
    fn registration(&self) -> Option<&Registration> {
        None
    }

    /// The id under which the registry knows the schema. `schema`: the registry's own, where rows are to be written by that one (`useLatestVersion`).
    ///
    /// # Errors
    ///
    /// The rows cannot be written by that schema.
    fn registered(&mut self, id: SchemaId, schema: Option<RegisteredSchema>) -> Result<()> {
        let _ = (id, schema);
        Ok(())
    }

    /// Encodes every row of a batch of the plan's input schema, its change column included where the plan had one, and appends an outcome for each.
    ///
    /// # Errors
    ///
    /// Internal ones, and one when `registered` has not been called where that is needed. What is wrong with a row is its
    /// [`Outcome::Rejected`].
    fn encode(&mut self, batch: &RecordBatch, out: &mut Payloads) -> Result<()>;
}

/// What becomes of a message without a payload (a tombstone).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NullPayload {
    /// It gives no row, and is counted.
    Skip,
    /// It gives a row of nulls; a column that is not null makes it a bad record.
    NullRow,
    /// It is a bad record.
    Error,
}

impl NullPayload {
    /// What happens unless the user says otherwise: `raw` makes a null of it; all others skip it, `debezium-json` because the delete before it has said
    /// everything.
    #[must_use]
    pub const fn default_of(format: &MessageFormat) -> Self {
        match format {
            MessageFormat::Raw(_) => Self::NullRow,
            _ => Self::Skip,
        }
    }
}
