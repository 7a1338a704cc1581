//! Messages of queues: what each format makes of payloads, and payloads of rows.

mod avro;
mod csv;
mod debezium;
mod garbage;
mod json;
mod null_payloads;
mod options;
mod protobuf;
mod raw;
mod round_trip;
mod upsert;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use karez_core::schema::ChangeKind;
use karez_formats::message::{
    BadMessage, DecodePlan, DecodeRequest, EncodePlan, EncodeRequest, MessageDecoder, MessageEncoder, MessageFormat, Outcome, Payloads,
    RegisteredSchema, SchemaId, SchemaKind, SchemaReference,
};
use serde_json::Value;

/// A format as a job writes it.
pub(super) fn format(json: &str) -> MessageFormat {
    serde_json::from_str(json).unwrap_or_else(|e| panic!("{json}: {e}"))
}

/// Columns as a job writes them: `id bigint not null, name string`, separated by `;`.
pub(super) fn columns(text: &str) -> SchemaRef {
    let column = |text: &str| {
        let (name, sql) = text.trim().split_once(' ').unwrap();
        let (data_type, nullable) = karez_core::sql_type::parse_column(sql).unwrap();
        Field::new(name, data_type, nullable)
    };
    Arc::new(Schema::new(text.split(';').map(column).collect::<Vec<_>>()))
}

pub(super) fn request<'a>(format: &'a MessageFormat, schema: Option<&'a SchemaRef>) -> DecodeRequest<'a> {
    DecodeRequest { format, schema, registry: false, latest: None, null_payload: None }
}

pub(super) fn decoder(json: &str, schema: &SchemaRef) -> Box<dyn MessageDecoder> {
    DecodePlan::new(request(&format(json), Some(schema))).unwrap().decoder().unwrap()
}

/// A decoder whose schemas come from a registry.
pub(super) fn registry_decoder(json: &str, schema: &SchemaRef) -> Box<dyn MessageDecoder> {
    let format = format(json);
    DecodePlan::new(DecodeRequest { registry: true, ..request(&format, Some(schema)) }).unwrap().decoder().unwrap()
}

pub(super) fn encoder(json: &str, schema: &SchemaRef) -> Box<dyn MessageEncoder> {
    EncodePlan::new(EncodeRequest { format: &format(json), schema, registry: false }).unwrap().encoder().unwrap()
}

/// What a decoder made of messages: rows as JSON with the message that each came from, and the bad ones.
#[derive(Debug, PartialEq)]
pub(super) struct Made {
    pub(super) rows: Vec<(u32, Value)>,
    pub(super) bad: Vec<(u32, String)>,
}

impl Made {
    pub(super) fn of(rows: &[(u32, &str)], bad: &[(u32, &str)]) -> Self {
        let rows = rows.iter().map(|(message, row)| (*message, serde_json::from_str(row).unwrap())).collect();
        Self { rows, bad: bad.iter().map(|(message, reason)| (*message, (*reason).to_owned())).collect() }
    }
}

/// A registry in memory.
pub(super) type Registry = HashMap<u32, RegisteredSchema>;

pub(super) fn registered(kind: SchemaKind, text: &str, references: &[(&str, &str)]) -> RegisteredSchema {
    let references = references.iter().map(|(name, text)| SchemaReference { name: (*name).to_owned(), text: (*text).to_owned() }).collect();
    RegisteredSchema { kind, text: text.to_owned(), references }
}

/// Decodes as a source does: until everything is done, with the schemas that are asked for.
pub(super) fn run(decoder: &mut dyn MessageDecoder, registry: &Registry, messages: &[&[u8]]) -> Made {
    let messages: Vec<Option<&[u8]>> = messages.iter().map(|m| Some(*m)).collect();
    run_all(decoder, registry, &messages, usize::MAX)
}

pub(super) fn run_all(decoder: &mut dyn MessageDecoder, registry: &Registry, messages: &[Option<&[u8]>], max_rows: usize) -> Made {
    let mut made = Made { rows: Vec::new(), bad: Vec::new() };
    let (mut done, mut flushed) = (0, 0);
    loop {
        let mut bad: Vec<BadMessage> = Vec::new();
        let progress = decoder.decode(&messages[done..], max_rows, &mut bad);
        assert!(bad.is_sorted_by_key(|b| b.message), "{bad:?}");
        made.bad.extend(bad.into_iter().map(|b| (flushed + b.message, b.reason)));
        done += progress.done;
        if let Some(id) = progress.needs {
            decoder.provide(id, registry.get(&id.0).cloned().ok_or_else(|| "the registry does not have it".to_owned()));
            continue;
        }
        if let Some(decoded) = decoder.flush().unwrap() {
            assert_eq!(decoded.batch.schema_ref(), decoder.schema());
            assert_eq!(decoded.batch.num_rows(), decoded.messages.len());
            assert!(decoded.messages.is_sorted(), "{:?}", decoded.messages);
            let rows = json_rows(&decoded.batch);
            for (i, (message, mut row)) in decoded.messages.iter().zip(rows).enumerate() {
                if let Some(kinds) = &decoded.kinds {
                    row["op"] = Value::String(ChangeKind::from_i8(kinds.value(i)).unwrap().symbol().to_owned());
                }
                made.rows.push((flushed + message, row));
            }
        }
        flushed = u32::try_from(done).unwrap();
        if done == messages.len() {
            return made;
        }
    }
}

/// The rows of a batch, nulls left out.
pub(super) fn json_rows(batch: &RecordBatch) -> Vec<Value> {
    if batch.num_columns() == 0 {
        return vec![Value::Object(serde_json::Map::new()); batch.num_rows()];
    }
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    String::from_utf8(writer.into_inner()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What an encoder makes of a batch: a text for each row.
pub(super) fn texts(encoder: &mut dyn MessageEncoder, batch: &RecordBatch) -> Vec<String> {
    let mut out = Payloads::default();
    encoder.encode(batch, &mut out).unwrap();
    let text = |outcome: &Outcome| match outcome {
        Outcome::Payload(range) => String::from_utf8_lossy(&out.bytes()[range.clone()]).into_owned(),
        Outcome::Tombstone => "tombstone".to_owned(),
        Outcome::Nothing => "nothing".to_owned(),
        Outcome::Rejected(reason) => format!("rejected: {reason}"),
    };
    out.outcomes().iter().map(text).collect()
}

/// What an encoder makes of a batch: the bytes of each row.
pub(super) fn payloads(encoder: &mut dyn MessageEncoder, batch: &RecordBatch) -> Vec<Vec<u8>> {
    let mut out = Payloads::default();
    encoder.encode(batch, &mut out).unwrap();
    (0..batch.num_rows()).map(|row| out.get(row).unwrap_or_else(|| panic!("row {row}: {:?}", out.outcomes()[row])).to_vec()).collect()
}

/// The rows of JSON objects, as a batch.
pub(super) fn batch(schema: &SchemaRef, rows: &[&str]) -> RecordBatch {
    let mut decoder = arrow::json::ReaderBuilder::new(Arc::clone(schema)).with_batch_size(rows.len() + 1).build_decoder().unwrap();
    decoder.decode(rows.join("\n").as_bytes()).unwrap();
    decoder.flush().unwrap().unwrap()
}

pub(super) const fn id(id: u32) -> SchemaId {
    SchemaId(id)
}
