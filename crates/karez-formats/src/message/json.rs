//! `json`: one object per message, by the predicting decoder of NDJSON.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::{Error, Result};

use super::decode_plan::{DecodeFormat, DecodeRequest, declared};
use super::encode_plan::{EncodeFormat, EncodeRequest};
use super::{BadMessage, Decoded, JsonMessageOptions, MessageDecoder, MessageEncoder, Payloads, Progress};
use crate::RecordError;
use crate::encode::{NdjsonEncoder, NdjsonOptions};
use crate::json::{JsonDecoder, JsonOptions};

pub(super) fn decode(options: &JsonMessageOptions, request: DecodeRequest<'_>) -> Result<(SchemaRef, Arc<dyn DecodeFormat>), ConfigErrors> {
    let schema = declared(&request)?;
    Ok((Arc::clone(schema), Arc::new(JsonDecode { options: JsonOptions { strict: options.strict } })))
}

struct JsonDecode {
    options: JsonOptions,
}

impl DecodeFormat for JsonDecode {
    fn decoder(&self, schema: &SchemaRef, _: &[usize]) -> Result<Box<dyn MessageDecoder>, String> {
        Ok(Box::new(JsonMessages::try_new(schema, &self.options)?))
    }
}

/// Decodes messages of plain JSON.
pub(super) struct JsonMessages {
    schema: SchemaRef,
    decoder: JsonDecoder,
    fed: usize,
    errors: Vec<RecordError>,
}

impl JsonMessages {
    pub(super) fn try_new(schema: &SchemaRef, options: &JsonOptions) -> Result<Self, String> {
        let mut decoder = JsonDecoder::try_new(Arc::clone(schema), options.clone()).map_err(|e| e.to_string())?;
        decoder.track_offsets(true);
        Ok(Self { schema: Arc::clone(schema), decoder, fed: 0, errors: Vec::new() })
    }
}

impl MessageDecoder for JsonMessages {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, messages: &[Option<&[u8]>], max_rows: usize, bad: &mut Vec<BadMessage>) -> Progress {
        let done = self.decoder.decode_messages(messages, self.fed, max_rows, &mut self.errors);
        bad.extend(self.errors.drain(..).map(|e| BadMessage { message: number(e.offset), reason: e.reason }));
        self.fed += done;
        Progress { done, ..Progress::default() }
    }

    fn rows(&self) -> usize {
        self.decoder.rows()
    }

    fn bytes(&self) -> usize {
        self.decoder.bytes()
    }

    fn flush(&mut self) -> Result<Option<Decoded>> {
        self.fed = 0;
        let messages = self.decoder.take_offsets().into_iter().map(|at| at as u32).collect();
        let batch = self.decoder.flush().map_err(|e| Error::internal("rows of JSON messages").caused_by(e))?;
        Ok(batch.map(|batch| Decoded { batch, kinds: None, messages }))
    }
}

/// Messages between two flushes are far fewer than 2³².
fn number(message: usize) -> u32 {
    u32::try_from(message).unwrap_or(u32::MAX)
}

pub(super) fn encode(options: &JsonMessageOptions, request: EncodeRequest<'_>) -> Result<Arc<dyn EncodeFormat>, ConfigErrors> {
    let options = NdjsonOptions { omit_nulls: options.omit_nulls };
    NdjsonEncoder::new(Arc::clone(request.schema), &options).map_err(|e| ConfigError::new("", e.0))?;
    Ok(Arc::new(JsonEncode { schema: Arc::clone(request.schema), options }))
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
