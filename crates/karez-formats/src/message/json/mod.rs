//! `json`: one object per message, by the predicting decoder of NDJSON; checked by a JSON Schema where there is one.

#[cfg(feature = "json-schema")]
mod checked;
#[cfg(feature = "json-schema")]
mod derive;
mod plain;
mod records;
#[cfg(feature = "json-schema")]
mod validate;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::{Error, Result};

use super::decode_plan::{DecodeFormat, DecodeRequest, declared};
use super::encode_plan::{EncodeFormat, EncodeRequest};
use super::{JsonMessageOptions, MessageDecoder, MessageEncoder, Payloads};
use crate::encode::{NdjsonEncoder, NdjsonOptions};
use crate::json::JsonOptions;
use plain::JsonMessages;
pub(super) use records::{BUFFER_BYTES_LIMIT, JsonRecords, RUN_MESSAGES};

pub(super) fn decode(options: &JsonMessageOptions, request: DecodeRequest<'_>) -> Result<(SchemaRef, Arc<dyn DecodeFormat>), ConfigErrors> {
    let schema = Arc::clone(declared(&request)?);
    let json = JsonOptions { strict: options.strict };
    let has_schema = options.schema.is_some() || options.schema_file.is_some();
    if has_schema || request.registry {
        #[cfg(feature = "json-schema")]
        return Ok((schema, Arc::new(checked::decode(options, request.registry, json)?)));
        #[cfg(not(feature = "json-schema"))]
        return Err(ConfigError::new("schema", "JSON Schema is not in this build").into());
    }
    Ok((schema, Arc::new(JsonDecode { options: json })))
}

struct JsonDecode {
    options: JsonOptions,
}

impl DecodeFormat for JsonDecode {
    fn decoder(&self, schema: &SchemaRef, _: &[usize]) -> Result<Box<dyn MessageDecoder>, String> {
        Ok(Box::new(JsonMessages::try_new(schema, &self.options)?))
    }
}

pub(super) fn encode(options: &JsonMessageOptions, request: EncodeRequest<'_>) -> Result<Arc<dyn EncodeFormat>, ConfigErrors> {
    let json = NdjsonOptions { omit_nulls: options.omit_nulls };
    NdjsonEncoder::new(Arc::clone(request.schema), &json).map_err(|e| ConfigError::new("", e.0))?;
    let has_schema = options.schema.is_some() || options.schema_file.is_some();
    if has_schema || request.registry {
        #[cfg(feature = "json-schema")]
        return Ok(Arc::new(checked::encode(options, request, json)?));
        #[cfg(not(feature = "json-schema"))]
        return Err(ConfigError::new("schema", "JSON Schema is not in this build").into());
    }
    Ok(Arc::new(JsonEncode { schema: Arc::clone(request.schema), options: json }))
}

struct JsonEncode {
    schema: SchemaRef,
    options: NdjsonOptions,
}

impl EncodeFormat for JsonEncode {
    fn encoder(&self) -> Result<Box<dyn MessageEncoder>, String> {
        let encoder = NdjsonEncoder::new(Arc::clone(&self.schema), &self.options).map_err(|e| e.0)?;
        Ok(Box::new(JsonPayloads { encoder }))
    }
}

struct JsonPayloads {
    encoder: NdjsonEncoder,
}

impl MessageEncoder for JsonPayloads {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Payloads) -> Result<()> {
        let encoded = self.encoder.each_row(batch, |append| out.write(|to| append(to)));
        encoded.map_err(|e| Error::internal(format!("rows as JSON: {e}")))
    }
}
