//! Avro messages to batches, on `arrow-avro`.
//!
//! A run of messages is decoded by one `arrow-avro` decoder for each schema that they were written with. That decoder cannot be used again after an
//! error, nor say which row of a batch was at fault when one is found late (text that is not UTF-8): the run is then decoded again in parts, until
//! the bad message stands alone.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_avro::reader::Decoder;
use karez_core::Result;

use super::schema::{PREFIX, RecordSchema};
use crate::culprit::culprit;
use crate::message::conform::Conform;
use crate::message::gather::{self, BUFFER_BYTES_LIMIT, Gather, Part};
use crate::message::{AvroFraming, BadMessage, Decoded, MessageDecoder, Progress, RegisteredSchema, SchemaId, SchemaKind, framing};

/// Most messages of a run.
const RUN_MESSAGES: usize = 1024;

/// Most schemas that decoders are kept for; beyond it all are made anew as they come.
const WRITERS_LIMIT: usize = 256;

/// What every decoder of a plan has in common.
pub(super) struct Reading {
    pub(super) framing: AvroFraming,
    /// The reader's schema, if there is one.
    pub(super) reader: Option<RecordSchema>,
    /// The schema that all messages were written with, where they do not say.
    pub(super) writer: Option<RecordSchema>,
}

/// Decodes messages to the columns of one schema.
pub(super) struct AvroDecoder {
    reading: Arc<Reading>,
    schema: SchemaRef,
    /// By schema id; without a registry there is one, of id 0.
    writers: HashMap<SchemaId, Result<Writer, String>>,
    fingerprint: u64,
    rows: Gather,
    fed: u32,
}

/// A schema that messages were written with.
struct Writer {
    reading: Arc<Reading>,
    schema: RecordSchema,
    projection: Vec<usize>,
    decoder: Decoder,
    conform: Conform,
}

/// A message of a run: its place in the run, and its datum.
type Datum<'a> = (u32, &'a [u8]);

impl AvroDecoder {
    pub(super) fn try_new(reading: &Arc<Reading>, schema: &SchemaRef) -> Result<Self, String> {
        let mut decoder = Self {
            reading: Arc::clone(reading),
            schema: Arc::clone(schema),
            writers: HashMap::new(),
            fingerprint: 0,
            rows: Gather::new(schema),
            fed: 0,
        };
        if let Some(writer) = &reading.writer {
            decoder.fingerprint = writer.fingerprint()?;
            decoder.writers.insert(SchemaId(0), Ok(decoder.writer(writer.clone())?));
        }
        Ok(decoder)
    }

    /// A decoder of what was written with this schema.
    fn writer(&self, schema: RecordSchema) -> Result<Writer, String> {
        let reader = self.reading.reader.as_ref();
        let known = reader.unwrap_or(&schema).fields();
        let projection: Vec<usize> = self.schema.fields().iter().filter_map(|f| known.iter().position(|k| k == f.name())).collect();
        let decoder = schema.decoder(reader, &projection)?;
        let conform = Conform::by_name(decoder.schema().fields(), &self.schema)?;
        Ok(Writer { reading: Arc::clone(&self.reading), projection, decoder, conform, schema })
    }

    /// The name of the one column that a schema which is no record becomes.
    fn only(&self) -> Option<&str> {
        match self.schema.fields().as_ref() {
            [field] => Some(field.name()),
            // No column is read, so that any name will do.
            [] => Some("value"),
            _ => None,
        }
    }

    /// Which schema a message was written with, and its datum.
    fn split<'a>(&self, message: &'a [u8]) -> Result<(SchemaId, &'a [u8]), String> {
        match self.reading.framing {
            AvroFraming::Confluent => framing::split(message),
            AvroFraming::None => Ok((SchemaId(0), message)),
            AvroFraming::SingleObject => match message.split_first_chunk::<10>() {
                Some(([0xC3, 0x01, fingerprint @ ..], datum)) => {
                    let found = u64::from_le_bytes(*fingerprint);
                    if found == self.fingerprint {
                        return Ok((SchemaId(0), datum));
                    }
                    Err(format!("the message was written with another schema: its fingerprint is {found:016x}, not {:016x}", self.fingerprint))
                }
                _ => Err("the message is not in Avro's single-object encoding: it does not begin with C3 01 and a fingerprint".to_owned()),
            },
        }
    }

    /// Decodes the messages of a run, which were taken apart into `by_writer`, and adds their rows in the order of the messages.
    fn decode_run(&mut self, by_writer: HashMap<SchemaId, Vec<Datum<'_>>>, bad: &mut Vec<BadMessage>) {
        let bad_before = bad.len();
        let mut parts: Vec<Part> = Vec::new();
        for (id, data) in by_writer {
            match self.writers.get_mut(&id) {
                Some(Ok(writer)) => writer.decode(&data, &mut parts, bad),
                Some(Err(reason)) => bad.extend(data.iter().map(|(message, _)| BadMessage { message: *message, reason: reason.clone() })),
                None => {}
            }
        }
        self.rows.add(parts, bad);
        bad[bad_before..].sort_by_key(|b| b.message);
    }
}

impl MessageDecoder for AvroDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, messages: &[Option<&[u8]>], max_rows: usize, bad: &mut Vec<BadMessage>) -> Progress {
        let mut progress = Progress::default();
        while progress.done < messages.len() && progress.needs.is_none() && self.rows.rows() < max_rows && self.rows.bytes() < BUFFER_BYTES_LIMIT {
            let room = (max_rows - self.rows.rows()).min(RUN_MESSAGES);
            let mut by_writer: HashMap<SchemaId, Vec<Datum<'_>>> = HashMap::new();
            let mut bytes = 0;
            for message in messages[progress.done..].iter().take(room) {
                let message = message.unwrap_or_default();
                match self.split(message) {
                    Ok((id, _)) if !self.writers.contains_key(&id) => {
                        progress.needs = Some(id);
                        break;
                    }
                    Ok((id, datum)) => by_writer.entry(id).or_default().push((self.fed, datum)),
                    Err(reason) => bad.push(BadMessage { message: self.fed, reason }),
                }
                self.fed += 1;
                progress.done += 1;
                bytes += message.len();
                if bytes >= BUFFER_BYTES_LIMIT {
                    break;
                }
            }
            let unframed = bad.len();
            self.decode_run(by_writer, bad);
            if bad.len() > unframed {
                bad.sort_by_key(|b| b.message);
            }
        }
        progress
    }

    fn provide(&mut self, id: SchemaId, schema: std::result::Result<RegisteredSchema, String>) {
        let writer = schema.and_then(|schema| {
            if schema.kind != SchemaKind::Avro {
                return Err(format!("the schema is {}, not AVRO", schema.kind.name()));
            }
            self.writer(RecordSchema::of(&schema, self.only())?)
        });
        if self.writers.len() >= WRITERS_LIMIT {
            self.writers.clear();
        }
        self.writers.insert(id, writer.map_err(|e| format!("schema {id}: {e}")));
    }

    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    fn flush(&mut self) -> Result<Option<Decoded>> {
        self.fed = 0;
        if self.reading.writer.is_none() {
            self.writers.retain(|_, writer| writer.is_ok());
        }
        self.rows.flush()
    }
}

impl Writer {
    /// Decodes data of this schema; rows go to `parts`.
    fn decode(&mut self, data: &[Datum<'_>], parts: &mut Vec<Part>, bad: &mut Vec<BadMessage>) {
        if data.is_empty() {
            return;
        }
        let (at, reason) = match self.attempt(data) {
            Ok(batch) => {
                let messages = data.iter().map(|(message, _)| *message).collect();
                return gather::conform(&self.conform, (batch, messages), parts, bad);
            }
            Err(failure) => failure,
        };
        self.renew();
        if let [(message, datum)] = data {
            return bad.push(BadMessage { message: *message, reason: self.with_column(reason, datum) });
        }
        match at {
            Some(at) => {
                self.decode(&data[..at], parts, bad);
                let (message, datum) = data[at];
                bad.push(BadMessage { message, reason: self.with_column(reason, datum) });
                self.decode_rest(&data[at + 1..], parts, bad);
            }
            None => {
                let (first, second) = data.split_at(data.len() / 2);
                self.decode(first, parts, bad);
                self.decode(second, parts, bad);
            }
        }
    }

    /// Decodes what stands behind a bad message, at first in small parts: where one is bad others may be, and each takes the good before it through a
    /// second time.
    fn decode_rest(&mut self, data: &[Datum<'_>], parts: &mut Vec<Part>, bad: &mut Vec<BadMessage>) {
        const PART_MESSAGES: usize = 16;
        for part in data.chunks(PART_MESSAGES) {
            self.decode(part, parts, bad);
        }
    }

    /// Adds the column whose value is at fault, which `arrow-avro` does not name. A message that ends too early, or is of another schema, has none.
    fn with_column(&self, reason: String, datum: &[u8]) -> String {
        if self.refuses(&[], datum) {
            return reason;
        }
        let column = culprit(&self.projection, |columns| self.refuses(columns, datum));
        let known = self.reading.reader.as_ref().unwrap_or(&self.schema).fields();
        match column.and_then(|column| known.get(*column)) {
            Some(name) => format!("column `{name}`: {reason}"),
            None => reason,
        }
    }

    /// Whether a datum cannot be decoded for these columns alone.
    fn refuses(&self, columns: &[usize], datum: &[u8]) -> bool {
        let Ok(mut decoder) = self.schema.decoder(self.reading.reader.as_ref(), columns) else { return false };
        feed(&mut decoder, datum).is_err() || decoder.flush().is_err()
    }

    /// One row for each datum; or the datum at fault, where it is known, and what is wrong with it. Then the decoder has to be renewed.
    fn attempt(&mut self, data: &[Datum<'_>]) -> Result<RecordBatch, (Option<usize>, String)> {
        for (at, (_, datum)) in data.iter().enumerate() {
            feed(&mut self.decoder, datum).map_err(|reason| (Some(at), reason))?;
        }
        let batch = self.decoder.flush().map_err(|e| (None, reason(&e.to_string())))?;
        batch.filter(|b| b.num_rows() == data.len()).ok_or_else(|| (None, "the decoder lost a row".to_owned()))
    }

    fn renew(&mut self) {
        // It has been built before, of the same schemas.
        if let Ok(decoder) = self.schema.decoder(self.reading.reader.as_ref(), &self.projection) {
            self.decoder = decoder;
        }
    }
}

/// Gives one datum to a decoder.
fn feed(decoder: &mut Decoder, datum: &[u8]) -> Result<(), String> {
    let room = decoder.capacity();
    decoder.decode(&PREFIX).map_err(|e| reason(&e.to_string()))?;
    // A datum of no bytes (a record of nothing but nulls) has to be asked for: `arrow-avro` does nothing where there is nothing to read.
    let (given, length) = if datum.is_empty() { (&[0][..], 0) } else { (datum, datum.len()) };
    let read = decoder.decode(given).map_err(|e| reason(&e.to_string()))?;
    let rows = room - decoder.capacity();
    match (rows, read.cmp(&length)) {
        (0, _) => Err("the message ends in the middle of its value".to_owned()),
        (1, std::cmp::Ordering::Equal) => Ok(()),
        (1, std::cmp::Ordering::Greater) => Err("the message ends in the middle of its value".to_owned()),
        _ => Err(format!("the message goes on behind its value, which ends at byte {read} of {length}")),
    }
}

/// What `arrow-avro` says, without the kind of error.
fn reason(error: &str) -> String {
    let known = ["Parse error: ", "Parser error: ", "EOF: ", "Avro error: ", "Invalid argument error: ", "ParseError: "];
    let told = known.iter().find_map(|prefix| error.strip_prefix(prefix)).unwrap_or(error);
    format!("the value is not of its Avro schema: {told}")
}
