//! `avro`: one datum per message, in the schema registry's wire format, in the single-object encoding, or bare.
//!
//! Reading, columns are found by name. With a reader's schema (`schema`, or the subject's latest version where nothing is declared) what each message was
//! written with is resolved to it by Avro's rules: added fields take their defaults, aliases and promotions hold. Without one, each writer's schema is
//! taken as it is: a declared column that it does not have is null. Where the type in the schema is another than the declared one, the value is
//! converted if nothing is lost by it ([`super::conform`]).

mod decoder;
mod derive;
mod encoder;
mod schema;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use karez_core::config::{ConfigError, ConfigErrors};

use super::conform::Conform;
use super::decode_plan::{DecodeFormat, DecodeRequest};
use super::encode_plan::{EncodeFormat, EncodeRequest};
use super::schema_file::text_of;
use super::{AvroFraming, AvroMessageOptions, MessageDecoder, MessageEncoder};
use decoder::{AvroDecoder, Reading};
use encoder::AvroEncoder;
use schema::RecordSchema;

/// The framing asked for, or the default.
const fn framing(options: &AvroMessageOptions, registry: bool) -> AvroFraming {
    match options.framing {
        Some(framing) => framing,
        None if registry => AvroFraming::Confluent,
        None => AvroFraming::None,
    }
}

pub(super) fn decode(options: &AvroMessageOptions, request: DecodeRequest<'_>) -> Result<(SchemaRef, Arc<dyn DecodeFormat>), ConfigErrors> {
    let framing = framing(options, request.registry);
    let only = match request.schema.map(|s| s.fields().as_ref()) {
        Some([field]) => Some(field.name().as_str()),
        Some(_) => None,
        None => Some("value"),
    };
    let given = text_of("schema", options.schema.as_ref().map(super::SchemaText::text), options.schema_file.as_deref())?;
    let key = if options.schema_file.is_some() { "schemaFile" } else { "schema" };
    let given = given.map(|text| RecordSchema::parse(&text, only)).transpose().map_err(|e| ConfigError::new(key, e))?;
    let (reader, writer) = match framing {
        AvroFraming::Confluent => {
            let latest = request.latest.filter(|_| given.is_none()).map(|latest| RecordSchema::of(latest, only)).transpose();
            (given.or(latest.map_err(|e| ConfigError::new("", format!("the latest schema of the subject: {e}")))?), None)
        }
        AvroFraming::SingleObject | AvroFraming::None => {
            let Some(given) = given else {
                return Err(ConfigError::new("schema", "is missing: messages do not say what schema they were written with")
                    .hint("give the schema, a `schemaFile`, or a `schemaRegistry`")
                    .into());
            };
            (None, Some(given))
        }
    };
    let known = reader.as_ref().or(writer.as_ref()).map(|s| s.arrow().map(|a| (s, a))).transpose().map_err(|e| ConfigError::new(key, e))?;
    let declared = match (request.schema, &known) {
        (Some(declared), _) => Arc::clone(declared),
        (None, Some((schema, _))) => schema.columns().map_err(|e| ConfigError::new(key, e))?,
        (None, None) => {
            let what = "the columns are not known: none are declared, and the registry was not asked for the subject's latest schema";
            return Err(ConfigError::new("", what).hint("declare them: `schema: { id: bigint, … }`").into());
        }
    };
    if let (Some(_), Some((schema, arrow))) = (request.schema, &known) {
        let names = schema.fields();
        if let Some(column) = declared.fields().iter().find(|f| !names.contains(&f.name().as_str())) {
            let e = ConfigError::new(key, format!("the Avro schema has no field `{}`, which is declared", column.name()));
            let near = karez_core::error::did_you_mean(column.name(), names.iter().copied());
            return Err(e.hint(near.map_or_else(|| format!("its fields are {}", names.join(", ")), |near| format!("did you mean `{near}`?"))).into());
        }
        Conform::by_name(arrow.fields(), &declared).map_err(|e| ConfigError::new("", e))?;
    }
    Ok((declared, Arc::new(AvroDecode(Arc::new(Reading { framing, reader, writer })))))
}

struct AvroDecode(Arc<Reading>);

impl DecodeFormat for AvroDecode {
    fn decoder(&self, schema: &SchemaRef, _: &[usize]) -> Result<Box<dyn MessageDecoder>, String> {
        Ok(Box::new(AvroDecoder::try_new(&self.0, schema)?))
    }
}

pub(super) fn encode(options: &AvroMessageOptions, request: EncodeRequest<'_>) -> Result<Arc<dyn EncodeFormat>, ConfigErrors> {
    let framing = framing(options, request.registry);
    let only = match request.schema.fields().as_ref() {
        [field] => Some(field.name().as_str()),
        _ => None,
    };
    let given = text_of("schema", options.schema.as_ref().map(super::SchemaText::text), options.schema_file.as_deref())?;
    let key = if options.schema_file.is_some() { "schemaFile" } else { "schema" };
    let text = match given {
        Some(text) => text,
        None => {
            let name = options.record_name.as_deref().unwrap_or("Record");
            derive::derive(request.schema, name, options.namespace.as_deref()).map_err(|e| ConfigError::new("", e))?
        }
    };
    let schema = RecordSchema::parse(&text, only).map_err(|e| ConfigError::new(key, e))?;
    Ok(Arc::new(AvroEncode { schema, input: Arc::clone(request.schema), framing }))
}

struct AvroEncode {
    schema: RecordSchema,
    input: SchemaRef,
    framing: AvroFraming,
}

impl EncodeFormat for AvroEncode {
    fn encoder(&self) -> Result<Box<dyn MessageEncoder>, String> {
        Ok(Box::new(AvroEncoder::try_new(&self.schema, &self.input, self.framing)?))
    }
}
