//! `protobuf`: one message each, bare or in the schema registry's wire format.
//!
//! Messages are read from the wire straight into columns, driven by the descriptor: fields that are no columns are passed over, like those that the
//! schema does not know. Columns are found by the names of fields. A field with presence that is not there is null, one without has its default.

mod column;
mod decoder;
mod derive;
mod descriptor;
mod encoder;
mod reader;
mod shape;
mod wire;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use karez_core::config::{ConfigError, ConfigErrors};
use prost_reflect::{FileDescriptor, MessageDescriptor};

use super::conform::Conform;
use super::decode_plan::{DecodeFormat, DecodeRequest};
use super::encode_plan::{EncodeFormat, EncodeRequest};
use super::schema_file::text_of;
use super::{MessageDecoder, MessageEncoder, ProtobufMessageOptions, Registration, SchemaKind};
use decoder::{ProtobufDecoder, Reading};
use encoder::ProtobufEncoder;
use shape::Shape;

/// The schema of the job, and its text; `None` where there is none.
fn given(options: &ProtobufMessageOptions) -> Result<Option<(FileDescriptor, String)>, ConfigErrors> {
    let Some(text) = text_of("schema", options.schema.clone(), options.schema_file.as_deref())? else { return Ok(None) };
    let (key, file) = match &options.schema_file {
        Some(path) => ("schemaFile", descriptor::compile_file(path, &options.import_paths)),
        None => ("schema", descriptor::compile_text(&text, &options.import_paths)),
    };
    Ok(Some((file.map_err(|e| ConfigError::new(key, e))?, text)))
}

fn message(file: &FileDescriptor, options: &ProtobufMessageOptions) -> Result<MessageDescriptor, ConfigErrors> {
    descriptor::message(file, options.message.as_deref()).map_err(|e| ConfigError::new("message", e).into())
}

pub(super) fn decode(options: &ProtobufMessageOptions, request: DecodeRequest<'_>) -> Result<(SchemaRef, Arc<dyn DecodeFormat>), ConfigErrors> {
    let message = match (given(options)?, request.latest) {
        (Some((file, _)), _) => Some(message(&file, options)?),
        (None, Some(latest)) => {
            let file = descriptor::compile_registered(latest).map_err(|e| ConfigError::new("", format!("the latest schema of the subject: {e}")))?;
            Some(message(&file, options)?)
        }
        (None, None) if request.registry => None,
        (None, None) => {
            let e = ConfigError::new("schema", "is missing: messages do not say what schema they were written with");
            return Err(e.hint("give the text of a `.proto` file, a `schemaFile`, or a `schemaRegistry`").into());
        }
    };
    let declared = match (request.schema, &message) {
        (Some(declared), None) => Arc::clone(declared),
        (Some(declared), Some(message)) => {
            if let Some(column) = declared.fields().iter().find(|f| message.get_field_by_name(f.name()).is_none()) {
                let names: Vec<String> = message.fields().map(|f| f.name().to_owned()).collect();
                let e = ConfigError::new("", format!("the message `{}` has no field `{}`, which is declared", message.full_name(), column.name()));
                let near = karez_core::error::did_you_mean(column.name(), names.iter().map(String::as_str));
                return Err(e.hint(near.map_or_else(|| format!("its fields are {}", names.join(", ")), |n| format!("did you mean `{n}`?"))).into());
            }
            let shape = Shape::of(message, Some(declared.fields())).map_err(|e| ConfigError::new("", e))?;
            Conform::by_name(&shape.columns(), declared).map_err(|e| ConfigError::new("", e))?;
            Arc::clone(declared)
        }
        (None, Some(message)) => Arc::new(Schema::new(Shape::of(message, None).map_err(|e| ConfigError::new("", e))?.columns())),
        (None, None) => {
            let what = "the columns are not known: none are declared, and the registry was not asked for the subject's latest schema";
            return Err(ConfigError::new("", what).hint("declare them: `schema: { id: bigint, … }`").into());
        }
    };
    Ok((declared, Arc::new(ProtobufDecode(Arc::new(Reading { framed: request.registry, message })))))
}

struct ProtobufDecode(Arc<Reading>);

impl DecodeFormat for ProtobufDecode {
    fn decoder(&self, schema: &SchemaRef, _: &[usize]) -> Result<Box<dyn MessageDecoder>, String> {
        Ok(Box::new(ProtobufDecoder::try_new(&self.0, schema)?))
    }
}

pub(super) fn encode(options: &ProtobufMessageOptions, request: EncodeRequest<'_>) -> Result<Arc<dyn EncodeFormat>, ConfigErrors> {
    let (file, text) = match given(options)? {
        Some(given) => given,
        None => {
            let text = derive::derive(request.schema).map_err(|e| ConfigError::new("", e))?;
            (descriptor::compile_text(&text, &[]).map_err(|e| ConfigError::new("", e))?, text)
        }
    };
    let message = message(&file, options)?;
    let registration = request.registry.then(|| Registration { kind: SchemaKind::Protobuf, text, record_name: message.full_name().to_owned() });
    Ok(Arc::new(ProtobufEncode { message, input: Arc::clone(request.schema), registration }))
}

struct ProtobufEncode {
    message: MessageDescriptor,
    input: SchemaRef,
    registration: Option<Registration>,
}

impl EncodeFormat for ProtobufEncode {
    fn encoder(&self) -> Result<Box<dyn MessageEncoder>, String> {
        Ok(Box::new(ProtobufEncoder::try_new(&self.message, &self.input, self.registration.clone())?))
    }
}
