//! JSON messages that a JSON Schema says something of, alone or in a registry.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use jsonschema::Validator;
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::schema::ChangeKind;
use karez_core::{Error, Result};
use serde_json::Value;

use super::records::{BUFFER_BYTES_LIMIT, JsonRecords, RUN_MESSAGES};
use super::{derive, validate};
use crate::encode::{NdjsonEncoder, NdjsonOptions};
use crate::json::JsonOptions;
use crate::message::decode_plan::DecodeFormat;
use crate::message::encode_plan::{EncodeFormat, EncodeRequest};
use crate::message::schema_file::text_of;
use crate::message::{
    BadMessage, Decoded, JsonMessageOptions, MessageDecoder, MessageEncoder, Payloads, Progress, RegisteredSchema, Registration, SchemaId,
    SchemaKind, SchemaText, framing,
};

/// The schema of the job: its text and what it compiles to.
fn given(options: &JsonMessageOptions) -> Result<Option<(String, Arc<Validator>)>, ConfigErrors> {
    let text = text_of("schema", options.schema.as_ref().map(SchemaText::text), options.schema_file.as_deref())?;
    let key = if options.schema_file.is_some() { "schemaFile" } else { "schema" };
    text.map(|text| validate::compile(&text).map(|v| (text, Arc::new(v)))).transpose().map_err(|e| ConfigError::new(key, e).into())
}

pub(super) fn decode(options: &JsonMessageOptions, registry: bool, json: JsonOptions) -> Result<CheckedDecode, ConfigErrors> {
    let check = match (given(options)?, registry) {
        (Some((_, validator)), false) => Check::Schema(validator),
        (Some(_), true) => {
            let e = ConfigError::new("schema", "with a schema registry messages are checked by the schema that their id names");
            return Err(e.hint("leave `schema` out, or `schemaRegistry`").into());
        }
        (None, _) if options.validate == Some(false) => Check::Framed,
        (None, _) => Check::Registry,
    };
    Ok(CheckedDecode { json, check })
}

/// How messages are looked at before they are decoded.
#[derive(Clone)]
enum Check {
    /// By one schema.
    Schema(Arc<Validator>),
    /// By the schema whose id stands before each.
    Registry,
    /// Not, but an id stands before each.
    Framed,
}

pub(super) struct CheckedDecode {
    json: JsonOptions,
    check: Check,
}

impl DecodeFormat for CheckedDecode {
    fn decoder(&self, schema: &SchemaRef, _: &[usize]) -> Result<Box<dyn MessageDecoder>, String> {
        let records = JsonRecords::try_new(schema, &self.json)?;
        Ok(Box::new(CheckedDecoder { records, check: self.check.clone(), schemas: HashMap::new(), fed: 0 }))
    }
}

struct CheckedDecoder {
    records: JsonRecords,
    check: Check,
    schemas: HashMap<SchemaId, Result<Validator, String>>,
    fed: u32,
}

/// Most schemas that are kept; beyond it all are asked for anew as they come.
const SCHEMAS_LIMIT: usize = 256;

impl CheckedDecoder {
    /// The object of a message that is right. `Err(Ok(id))`: its schema is needed.
    fn object<'a>(&self, message: &'a [u8]) -> Result<&'a [u8], Result<SchemaId, String>> {
        match &self.check {
            Check::Schema(validator) => validate::check(validator, message).map(|()| message).map_err(Err),
            Check::Framed => framing::split(message).map(|(_, object)| object).map_err(Err),
            Check::Registry => {
                let (id, object) = framing::split(message).map_err(Err)?;
                match self.schemas.get(&id) {
                    None => Err(Ok(id)),
                    Some(Ok(validator)) => validate::check(validator, object).map(|()| object).map_err(Err),
                    Some(Err(reason)) => Err(Err(reason.clone())),
                }
            }
        }
    }
}

impl MessageDecoder for CheckedDecoder {
    fn schema(&self) -> &SchemaRef {
        self.records.schema()
    }

    fn decode(&mut self, messages: &[Option<&[u8]>], max_rows: usize, bad: &mut Vec<BadMessage>) -> Progress {
        let mut progress = Progress::default();
        let bad_before = bad.len();
        let (mut objects, mut of) = (Vec::new(), Vec::new());
        while progress.done < messages.len() && progress.needs.is_none() && self.rows() < max_rows && self.bytes() < BUFFER_BYTES_LIMIT {
            let room = (max_rows - self.rows()).min(RUN_MESSAGES);
            let mut bytes = 0;
            for message in messages[progress.done..].iter().take(room) {
                match self.object(message.unwrap_or_default()) {
                    Ok(object) => {
                        objects.push(Some(object));
                        of.push((self.fed, ChangeKind::Insert));
                        bytes += object.len();
                    }
                    Err(Ok(id)) => {
                        progress.needs = Some(id);
                        break;
                    }
                    Err(Err(reason)) => bad.push(BadMessage { message: self.fed, reason }),
                }
                self.fed += 1;
                progress.done += 1;
                if bytes >= BUFFER_BYTES_LIMIT / 4 {
                    break;
                }
            }
            self.records.decode(&objects, &of, bad);
            objects.clear();
            of.clear();
        }
        bad[bad_before..].sort_by_key(|b| b.message);
        progress
    }

    fn provide(&mut self, id: SchemaId, schema: std::result::Result<RegisteredSchema, String>) {
        if self.schemas.len() >= SCHEMAS_LIMIT {
            self.schemas.clear();
        }
        let validator = schema.and_then(|schema| validate::compile_registered(&schema));
        self.schemas.insert(id, validator.map_err(|e| format!("schema {id}: {e}")));
    }

    fn rows(&self) -> usize {
        self.records.rows()
    }

    fn bytes(&self) -> usize {
        self.records.bytes()
    }

    fn flush(&mut self) -> Result<Option<Decoded>> {
        self.fed = 0;
        self.schemas.retain(|_, schema| schema.is_ok());
        self.records.flush(false)
    }
}

pub(super) fn encode(options: &JsonMessageOptions, request: EncodeRequest<'_>, json: NdjsonOptions) -> Result<CheckedEncode, ConfigErrors> {
    let given = given(options)?;
    let registration = request.registry.then(|| {
        let text = given.as_ref().map_or_else(|| derive::derive(request.schema, json.omit_nulls), |(text, _)| text.clone());
        let title = serde_json::from_str::<Value>(&text).ok().and_then(|schema| schema.get("title").and_then(Value::as_str).map(str::to_owned));
        Registration { kind: SchemaKind::Json, text, record_name: title.unwrap_or_else(|| derive::TITLE.to_owned()) }
    });
    Ok(CheckedEncode { schema: Arc::clone(request.schema), json, validator: given.map(|(_, validator)| validator), registration })
}

pub(super) struct CheckedEncode {
    schema: SchemaRef,
    json: NdjsonOptions,
    validator: Option<Arc<Validator>>,
    registration: Option<Registration>,
}

impl EncodeFormat for CheckedEncode {
    fn encoder(&self) -> Result<Box<dyn MessageEncoder>, String> {
        let encoder = NdjsonEncoder::new(Arc::clone(&self.schema), &self.json).map_err(|e| e.0)?;
        let header = self.registration.is_none().then(Vec::new);
        Ok(Box::new(CheckedPayloads { encoder, validator: self.validator.clone(), registration: self.registration.clone(), header }))
    }
}

struct CheckedPayloads {
    encoder: NdjsonEncoder,
    validator: Option<Arc<Validator>>,
    registration: Option<Registration>,
    /// What stands before each object; `None` while the schema's id is not known.
    header: Option<Vec<u8>>,
}

impl MessageEncoder for CheckedPayloads {
    fn registration(&self) -> Option<&Registration> {
        self.registration.as_ref()
    }

    fn registered(&mut self, id: SchemaId, schema: Option<RegisteredSchema>) -> Result<()> {
        if let Some(schema) = schema {
            let validator = validate::compile_registered(&schema);
            self.validator = Some(Arc::new(validator.map_err(|e| Error::user(format!("schema {id} of the registry: {e}")))?));
        }
        self.header = Some(framing::header(id).to_vec());
        Ok(())
    }

    fn encode(&mut self, batch: &RecordBatch, out: &mut Payloads) -> Result<()> {
        let Some(header) = &self.header else {
            return Err(Error::internal("rows are to be written with a schema whose id in the registry is not known"));
        };
        let encoded = self.encoder.each_row(batch, |append| {
            out.write(|to| {
                to.extend_from_slice(header);
                let start = to.len();
                append(to)?;
                self.validator.as_ref().map_or(Ok(()), |validator| validate::check(validator, &to[start..]))
            });
        });
        encoded.map_err(|e| Error::internal(format!("rows as JSON: {e}")))
    }
}
