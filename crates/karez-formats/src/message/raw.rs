//! `raw`: the payload is the value of one column, text or binary.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::sql_type::to_sql;
use karez_core::{Error, Result};

use super::decode_plan::{DecodeFormat, DecodeRequest};
use super::encode_plan::{EncodeFormat, EncodeRequest};
use super::{BadMessage, Decoded, MessageDecoder, MessageEncoder, Outcome, Payloads, Progress};

/// Most bytes buffered: 32-bit offsets have to reach over them, and over the longest message.
const BUFFER_BYTES_LIMIT: usize = 1 << 29;

/// The one column; binary unless it is declared.
pub(super) fn decode(request: DecodeRequest<'_>) -> Result<(SchemaRef, Arc<dyn DecodeFormat>), ConfigErrors> {
    let default = || Arc::new(Schema::new(vec![Field::new("value", DataType::Binary, true)]));
    let schema = request.schema.cloned().unwrap_or_else(default);
    match schema.fields().as_ref() {
        [field] if matches!(field.data_type(), DataType::Utf8 | DataType::Binary) => Ok((schema, Arc::new(Raw))),
        fields => {
            let what = format!("the payload is one column of type string or binary; declared are {}", fields.len());
            let what = if let [field] = fields { format!("the payload is a string or binary, not {}", to_sql(field.data_type())) } else { what };
            Err(ConfigError::new("", what).hint("declare one: `schema: { value: string }`").into())
        }
    }
}

struct Raw;

impl DecodeFormat for Raw {
    fn decoder(&self, schema: &SchemaRef, _: &[usize]) -> Result<Box<dyn MessageDecoder>, String> {
        let values = match schema.fields().first().map(|f| f.data_type()) {
            None => Values::None,
            Some(DataType::Utf8) => Values::Text(StringBuilder::new()),
            Some(_) => Values::Binary(BinaryBuilder::new()),
        };
        Ok(Box::new(RawDecoder { schema: Arc::clone(schema), values, bytes: 0, fed: 0, messages: Vec::new() }))
    }
}

struct RawDecoder {
    schema: SchemaRef,
    values: Values,
    bytes: usize,
    fed: u32,
    messages: Vec<u32>,
}

enum Values {
    /// Only the number of messages counts.
    None,
    Text(StringBuilder),
    Binary(BinaryBuilder),
}

impl RawDecoder {
    fn append(&mut self, payload: &[u8]) -> Result<(), String> {
        match &mut self.values {
            Values::None => {}
            Values::Text(text) => {
                let value = simdutf8::compat::from_utf8(payload).map_err(|e| format!("byte {} of the message is not UTF-8", e.valid_up_to()))?;
                text.append_value(value);
            }
            Values::Binary(binary) => binary.append_value(payload),
        }
        self.bytes += payload.len();
        self.messages.push(self.fed);
        Ok(())
    }
}

impl MessageDecoder for RawDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, messages: &[Option<&[u8]>], max_rows: usize, bad: &mut Vec<BadMessage>) -> Progress {
        let mut done = 0;
        for message in messages {
            if self.messages.len() >= max_rows || self.bytes >= BUFFER_BYTES_LIMIT {
                break;
            }
            if let Err(reason) = self.append(message.unwrap_or_default()) {
                bad.push(BadMessage { message: self.fed, reason });
            }
            self.fed += 1;
            done += 1;
        }
        Progress { done, ..Progress::default() }
    }

    fn rows(&self) -> usize {
        self.messages.len()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn flush(&mut self) -> Result<Option<Decoded>> {
        (self.fed, self.bytes) = (0, 0);
        let messages = std::mem::take(&mut self.messages);
        if messages.is_empty() {
            return Ok(None);
        }
        let columns: Vec<ArrayRef> = match &mut self.values {
            Values::None => Vec::new(),
            Values::Text(text) => vec![Arc::new(text.finish())],
            Values::Binary(binary) => vec![Arc::new(binary.finish())],
        };
        let options = RecordBatchOptions::new().with_row_count(Some(messages.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        Ok(Some(Decoded { batch, kinds: None, messages }))
    }
}

/// Writes the only column, text or binary, as it is; null is a tombstone.
pub(super) fn encode(request: EncodeRequest<'_>) -> Result<Arc<dyn EncodeFormat>, ConfigErrors> {
    match request.schema.fields().as_ref() {
        [field] if is_bytes(field.data_type()) => Ok(Arc::new(RawEncode)),
        fields => {
            let names = fields.iter().map(|f| format!("`{}` ({})", f.name(), to_sql(f.data_type()))).collect::<Vec<_>>().join(", ");
            let what = format!("format `raw` writes one column of text or binary, but there are: {names}");
            Err(ConfigError::new("", what).hint("select one, or use another format").into())
        }
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_bytes(values),
        other => other.is_string() || other.is_binary() || matches!(other, DataType::FixedSizeBinary(_)),
    }
}

struct RawEncode;

impl EncodeFormat for RawEncode {
    fn encoder(&self) -> Result<Box<dyn MessageEncoder>, String> {
        Ok(Box::new(Self))
    }
}

impl MessageEncoder for RawEncode {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Payloads) -> Result<()> {
        let column = batch.columns().first().ok_or_else(|| Error::internal("format `raw` without a column"))?;
        let binary = arrow::compute::cast(column, &DataType::Binary).and_then(|c| arrow::compute::cast(&c, &DataType::LargeBinary))?;
        let binary = binary.as_binary::<i64>();
        for row in 0..binary.len() {
            if binary.is_null(row) {
                out.push(Outcome::Tombstone);
                continue;
            }
            out.write(|to| {
                to.extend_from_slice(binary.value(row));
                Ok(())
            });
        }
        Ok(())
    }
}
