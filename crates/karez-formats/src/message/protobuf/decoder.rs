//! Protobuf messages to batches.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use karez_core::Result;
use prost_reflect::{FileDescriptor, MessageDescriptor};

use super::column::{Column, row_count};
use super::descriptor::{at, compile_registered};
use super::reader::Reader;
use super::shape::Shape;
use super::wire;
use crate::message::conform::Conform;
use crate::message::gather::{self, BUFFER_BYTES_LIMIT, Gather};
use crate::message::{BadMessage, Decoded, MessageDecoder, Progress, RegisteredSchema, SchemaId, SchemaKind, framing};

/// Most messages whose rows are put together in one go.
const RUN_MESSAGES: usize = 8192;

/// Most schemas that are kept; beyond it all are made anew as they come.
const SCHEMAS_LIMIT: usize = 256;

/// Deepest nesting of message types in one file; the wire format's indexes are that many at most.
const INDEXES_LIMIT: u64 = 64;

/// What every decoder of a plan has in common.
pub(super) struct Reading {
    /// Messages are in the registry's wire format.
    pub(super) framed: bool,
    /// The message that all are read as.
    pub(super) message: Option<MessageDescriptor>,
}

/// Decodes messages to the columns of one schema.
pub(super) struct ProtobufDecoder {
    reading: Arc<Reading>,
    schema: SchemaRef,
    /// Where a registry is used, its schemas.
    schemas: HashMap<SchemaId, Result<FileDescriptor, String>>,
    /// How a schema's message, at a path of indexes, is read: a place in `targets`.
    known: HashMap<(SchemaId, Vec<u32>), Result<usize, String>>,
    targets: Vec<Target>,
    rows: Gather,
    fed: u32,
}

/// A type of messages, and the rows of those that have been read in this run.
struct Target {
    shape: Shape,
    /// The columns of the shape.
    schema: SchemaRef,
    columns: Vec<Column>,
    conform: Conform,
    messages: Vec<u32>,
}

impl ProtobufDecoder {
    pub(super) fn try_new(reading: &Arc<Reading>, schema: &SchemaRef) -> Result<Self, String> {
        let mut decoder = Self {
            reading: Arc::clone(reading),
            schema: Arc::clone(schema),
            schemas: HashMap::new(),
            known: HashMap::new(),
            targets: Vec::new(),
            rows: Gather::new(schema),
            fed: 0,
        };
        if let Some(message) = &reading.message {
            decoder.targets.push(Target::try_new(message, schema)?);
        }
        Ok(decoder)
    }

    /// Which target reads a message, and its bytes without what stands before them. `Err(Ok(id))`: its schema is needed.
    fn split<'a>(&mut self, message: &'a [u8]) -> Result<(usize, &'a [u8]), Result<SchemaId, String>> {
        if !self.reading.framed {
            return Ok((0, message));
        }
        let (id, mut rest) = framing::split(message).map_err(Err)?;
        let Some(schema) = self.schemas.get(&id) else { return Err(Ok(id)) };
        let file = schema.as_ref().map_err(|e| Err(e.clone()))?;
        let indexes = indexes(&mut rest).map_err(Err)?;
        let known = match self.known.get(&(id, indexes.clone())) {
            Some(known) => known.clone(),
            None => {
                let target = at(file, &indexes).and_then(|message| self.target(&message)).map_err(|e| format!("schema {id}: {e}"));
                self.known.insert((id, indexes), target.clone());
                target
            }
        };
        known.map(|target| (target, rest)).map_err(Err)
    }

    /// The target that reads messages of a type.
    fn target(&mut self, message: &MessageDescriptor) -> Result<usize, String> {
        match &self.reading.message {
            Some(expected) if expected.full_name() == message.full_name() => Ok(0),
            Some(expected) => Err(format!("the message is a `{}`, not a `{}`", message.full_name(), expected.full_name())),
            None => {
                self.targets.push(Target::try_new(message, &self.schema)?);
                Ok(self.targets.len() - 1)
            }
        }
    }

    /// Puts the rows of a run together.
    fn end_run(&mut self, bad: &mut Vec<BadMessage>) {
        let mut parts = Vec::new();
        for target in &mut self.targets {
            let messages = std::mem::take(&mut target.messages);
            if messages.is_empty() {
                continue;
            }
            match target.finish(messages.len()) {
                Ok(batch) => gather::conform(&target.conform, (batch, messages), &mut parts, bad),
                Err(reason) => bad.extend(messages.into_iter().map(|message| BadMessage { message, reason: reason.clone() })),
            }
        }
        self.rows.add(parts, bad);
    }
}

/// Takes the indexes that lead to a message's type: their number, then each; a lone zero stands for the first message of the file.
fn indexes(bytes: &mut &[u8]) -> Result<Vec<u32>, String> {
    let wrong = || "the indexes of the message's type are damaged".to_owned();
    let mut next = || wire::varint(bytes).map(wire::unzigzag).ok().and_then(|n| u64::try_from(n).ok()).ok_or_else(wrong);
    match next()? {
        0 => Ok(vec![0]),
        length if length > INDEXES_LIMIT => Err(wrong()),
        length => (0..length).map(|_| u32::try_from(next()?).map_err(|_| wrong())).collect(),
    }
}

impl MessageDecoder for ProtobufDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, messages: &[Option<&[u8]>], max_rows: usize, bad: &mut Vec<BadMessage>) -> Progress {
        let mut progress = Progress::default();
        let bad_before = bad.len();
        let mut reader = Reader::default();
        while progress.done < messages.len() && progress.needs.is_none() && self.rows.rows() < max_rows && self.rows.bytes() < BUFFER_BYTES_LIMIT {
            let room = (max_rows - self.rows.rows()).min(RUN_MESSAGES);
            let mut bytes = self.rows.bytes();
            for message in messages[progress.done..].iter().take(room) {
                let message = message.unwrap_or_default();
                let outcome = match self.split(message) {
                    Err(Ok(id)) => {
                        progress.needs = Some(id);
                        break;
                    }
                    Err(Err(reason)) => Err(reason),
                    Ok((target, payload)) => self.targets[target].read(&mut reader, payload, self.fed),
                };
                bad.extend(outcome.err().map(|reason| BadMessage { message: self.fed, reason }));
                self.fed += 1;
                progress.done += 1;
                bytes += message.len();
                if bytes >= BUFFER_BYTES_LIMIT {
                    break;
                }
            }
            self.end_run(bad);
        }
        bad[bad_before..].sort_by_key(|b| b.message);
        progress
    }

    fn provide(&mut self, id: SchemaId, schema: std::result::Result<RegisteredSchema, String>) {
        let file = schema.and_then(|schema| match schema.kind {
            SchemaKind::Protobuf => compile_registered(&schema),
            other => Err(format!("it is {}, not PROTOBUF", other.name())),
        });
        if self.schemas.len() >= SCHEMAS_LIMIT || self.known.len() >= SCHEMAS_LIMIT {
            self.schemas.clear();
            self.known.clear();
            self.targets.truncate(usize::from(self.reading.message.is_some()));
        }
        self.schemas.insert(id, file.map_err(|e| format!("schema {id}: {e}")));
    }

    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    fn flush(&mut self) -> Result<Option<Decoded>> {
        self.fed = 0;
        self.schemas.retain(|_, schema| schema.is_ok());
        self.rows.flush()
    }
}

impl Target {
    fn try_new(message: &MessageDescriptor, schema: &SchemaRef) -> Result<Self, String> {
        let shape = Shape::of(message, Some(schema.fields()))?;
        let fields = shape.columns();
        let conform = Conform::by_name(&fields, schema)?;
        let columns = fields.iter().map(|f| Column::of(f.data_type())).collect();
        Ok(Self { shape, schema: Arc::new(Schema::new(fields)), columns, conform, messages: Vec::new() })
    }

    fn read<'a>(&mut self, reader: &mut Reader<'a>, payload: &'a [u8], message: u32) -> Result<(), String> {
        let rows = self.messages.len();
        let read = reader.read(&self.shape, &mut self.columns, payload);
        match &read {
            Ok(()) => self.messages.push(message),
            Err(_) => self.columns.iter_mut().for_each(|column| column.truncate(rows)),
        }
        read
    }

    fn finish(&mut self, rows: usize) -> Result<RecordBatch, String> {
        let arrays = self.columns.iter_mut().zip(self.schema.fields()).map(|(c, f)| c.finish(f)).collect::<Result<_, _>>();
        let batch = arrays.and_then(|arrays| RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &row_count(rows)));
        batch.map_err(|e| e.to_string())
    }
}
