//! `debezium-json`: Debezium's change events, and Flink's form of them.
//!
//! Reading, the envelope is taken apart without parsing it: `before` and `after` are cut out of it and go to the predicting JSON decoder, everything else
//! is passed over.
//!
//! | `op` | rows |
//! | --- | --- |
//! | `c`, `r` | insert of `after` |
//! | `u` | update-before of `before`, update-after of `after` |
//! | `d` | delete of `before` |
//! | `t` | none, a bad record: a changelog has no truncate |
//! | `m` | none: a message of the application's own |
//!
//! Writing, an insert and an update-after are `{"before":null,"after":{…},"op":"c"}`, an update-before and a delete
//! `{"before":{…},"after":null,"op":"d"}`, as Flink's `debezium-json` does.

mod decoder;
mod envelope;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::error::did_you_mean;
use karez_core::schema::{ChangeKind, ChangeMode, change_kinds, visible_batch};
use karez_core::{Error, Result};

use super::decode_plan::{DecodeFormat, DecodeRequest, declared};
use super::encode_plan::{EncodeFormat, EncodeRequest};
use super::{DebeziumJsonOptions, MessageDecoder, MessageEncoder, MissingBefore, Payloads};
use crate::encode::{NdjsonEncoder, NdjsonOptions};
use decoder::DebeziumDecoder;

pub(super) fn decode(options: &DebeziumJsonOptions, request: DecodeRequest<'_>) -> Result<(SchemaRef, Arc<dyn DecodeFormat>), ConfigErrors> {
    let schema = Arc::clone(declared(&request)?);
    for (i, key) in options.key.iter().enumerate() {
        if schema.column_with_name(key).is_none() {
            let e = ConfigError::new(format!("key[{i}]"), format!("there is no column `{key}`"));
            let near = did_you_mean(key, schema.fields().iter().map(|f| f.name().as_str())).map(|n| format!("did you mean `{n}`?"));
            return Err(near.map_or(e.clone(), |near| e.hint(near)).into());
        }
    }
    let missing_before = options.missing_before.unwrap_or(MissingBefore::Error);
    if missing_before == MissingBefore::Upsert && options.key.is_empty() {
        let e = ConfigError::new("missingBefore", "`upsert` replaces the row of a key, and none is given");
        return Err(e.hint("give `key: [COLUMN, …]`").into());
    }
    Ok((schema, Arc::new(DebeziumDecode { key: options.key.clone(), missing_before })))
}

struct DebeziumDecode {
    key: Vec<String>,
    missing_before: MissingBefore,
}

impl DecodeFormat for DebeziumDecode {
    fn decoder(&self, schema: &SchemaRef, _: &[usize]) -> Result<Box<dyn MessageDecoder>, String> {
        Ok(Box::new(DebeziumDecoder::try_new(schema, self.missing_before)?))
    }

    fn change_mode(&self) -> ChangeMode {
        ChangeMode::Changelog
    }

    fn key(&self) -> &[String] {
        &self.key
    }
}

pub(super) fn encode(request: EncodeRequest<'_>) -> Result<Arc<dyn EncodeFormat>, ConfigErrors> {
    let encode = DebeziumEncode { schema: Arc::clone(request.schema) };
    encode.encoder().map_err(|e| ConfigError::new("", e))?;
    Ok(Arc::new(encode))
}

struct DebeziumEncode {
    schema: SchemaRef,
}

impl EncodeFormat for DebeziumEncode {
    fn encoder(&self) -> Result<Box<dyn MessageEncoder>, String> {
        let encoder = NdjsonEncoder::new(Arc::clone(&self.schema), &NdjsonOptions::default()).map_err(|e| e.0)?;
        Ok(Box::new(DebeziumPayloads { encoder }))
    }

    fn takes_changes(&self) -> bool {
        true
    }
}

struct DebeziumPayloads {
    encoder: NdjsonEncoder,
}

impl MessageEncoder for DebeziumPayloads {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Payloads) -> Result<()> {
        let kinds = match change_kinds(batch) {
            Some(kinds) => kinds.values().iter().map(|k| ChangeKind::from_i8(*k)).collect::<Result<Vec<_>>>()?,
            None => vec![ChangeKind::Insert; batch.num_rows()],
        };
        let mut kinds = kinds.into_iter();
        let encoded = self.encoder.each_row(&visible_batch(batch)?, |append| {
            let (before, behind): (&[u8], &[u8]) = match kinds.next() {
                Some(kind) if kind.is_retraction() => (br#"{"before":"#, br#","after":null,"op":"d"}"#),
                _ => (br#"{"before":null,"after":"#, br#","op":"c"}"#),
            };
            out.write(|to| {
                to.extend_from_slice(before);
                append(to)?;
                to.extend_from_slice(behind);
                Ok(())
            });
        });
        encoded.map_err(|e| Error::internal(format!("rows as JSON: {e}")))
    }
}
