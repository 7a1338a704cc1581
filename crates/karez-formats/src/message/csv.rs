//! `csv`: one record per message, without a header: columns are found by their place.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::{Error, Result};

use super::decode_plan::{DecodeFormat, DecodeRequest, declared};
use super::encode_plan::{EncodeFormat, EncodeRequest};
use super::{BadMessage, CsvMessageOptions, Decoded, MessageDecoder, MessageEncoder, Payloads, Progress};
use crate::csv::{CsvDecoder, CsvOptions};
use crate::encode::{CsvEncoder, CsvOptions as CsvWriteOptions};

/// Most bytes buffered: 32-bit offsets have to reach over them, and over the longest message.
const BUFFER_BYTES_LIMIT: usize = 1 << 29;

/// A character option as its byte; `\t` may be written out.
fn character(key: &str, text: &str) -> Result<u8, ConfigError> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [one] if !matches!(one, b'\n' | b'\r') && one.is_ascii() => Ok(*one),
        _ => Err(ConfigError::new(key, "must be one ASCII character (or `\\t`), and no line break")),
    }
}

fn or<T>(key: &str, text: Option<&str>, default: T, as_option: impl FnOnce(u8) -> T) -> Result<T, ConfigError> {
    text.map_or(Ok(default), |text| character(key, text).map(as_option))
}

pub(super) fn decode(options: &CsvMessageOptions, request: DecodeRequest<'_>) -> Result<(SchemaRef, Arc<dyn DecodeFormat>), ConfigErrors> {
    let schema = Arc::clone(declared(&request)?);
    let quote = options.quote.as_deref();
    let csv = CsvOptions {
        delimiter: or("delimiter", options.delimiter.as_deref(), b',', |c| c)?,
        quote: if quote == Some("") { None } else { or("quote", quote, Some(b'"'), Some)? },
        escape: or("escape", options.escape.as_deref(), None, Some)?,
        comment: None,
        multiline: true,
        null_markers: vec![options.null_value.clone().unwrap_or_default()],
    };
    Ok((Arc::clone(&schema), Arc::new(CsvDecode { options: csv, width: schema.fields().len() })))
}

struct CsvDecode {
    options: CsvOptions,
    /// Declared columns, which are the fields of every record.
    width: usize,
}

impl DecodeFormat for CsvDecode {
    fn decoder(&self, schema: &SchemaRef, columns: &[usize]) -> Result<Box<dyn MessageDecoder>, String> {
        let decoder = CsvDecoder::try_new(Arc::clone(schema), columns, self.width, &self.options).map_err(|e| e.to_string())?;
        Ok(Box::new(CsvMessages { schema: Arc::clone(schema), decoder, fed: 0, messages: Vec::new() }))
    }
}

struct CsvMessages {
    schema: SchemaRef,
    decoder: CsvDecoder,
    fed: u32,
    messages: Vec<u32>,
}

impl MessageDecoder for CsvMessages {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, messages: &[Option<&[u8]>], max_rows: usize, bad: &mut Vec<BadMessage>) -> Progress {
        let mut done = 0;
        for message in messages {
            let is_full = self.decoder.rows() >= max_rows || (done % 256 == 0 && self.decoder.bytes() >= BUFFER_BYTES_LIMIT);
            if is_full {
                break;
            }
            match self.decoder.decode_message(message.unwrap_or_default()) {
                Ok(()) => self.messages.push(self.fed),
                Err(reason) => bad.push(BadMessage { message: self.fed, reason }),
            }
            self.fed += 1;
            done += 1;
        }
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
        let messages = std::mem::take(&mut self.messages);
        let batch = self.decoder.flush().map_err(|e| Error::internal("rows of CSV messages").caused_by(e))?;
        Ok(batch.map(|batch| Decoded { batch, kinds: None, messages }))
    }
}

pub(super) fn encode(options: &CsvMessageOptions, request: EncodeRequest<'_>) -> Result<Arc<dyn EncodeFormat>, ConfigErrors> {
    if options.escape.is_some() {
        return Err(ConfigError::new("escape", "is for reading: quotes are doubled when they are written").hint("leave it out").into());
    }
    let csv = CsvWriteOptions {
        delimiter: or("delimiter", options.delimiter.as_deref(), b',', |c| c)?,
        quote: or("quote", options.quote.as_deref(), b'"', |c| c)?,
        null_marker: options.null_value.clone().unwrap_or_default(),
        header: false,
    };
    CsvEncoder::new(Arc::clone(request.schema), csv.clone()).map_err(|e| ConfigError::new("", e.0))?;
    Ok(Arc::new(CsvEncode { schema: Arc::clone(request.schema), options: csv }))
}

struct CsvEncode {
    schema: SchemaRef,
    options: CsvWriteOptions,
}

impl EncodeFormat for CsvEncode {
    fn encoder(&self) -> Result<Box<dyn MessageEncoder>, String> {
        let encoder = CsvEncoder::new(Arc::clone(&self.schema), self.options.clone()).map_err(|e| e.0)?;
        Ok(Box::new(CsvPayloads { encoder }))
    }
}

struct CsvPayloads {
    encoder: CsvEncoder,
}

impl MessageEncoder for CsvPayloads {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Payloads) -> Result<()> {
        let encoded = self.encoder.each_row(batch, |append| out.write(|to| append(to)));
        encoded.map_err(|e| Error::internal(format!("rows as CSV: {e}")))
    }
}
