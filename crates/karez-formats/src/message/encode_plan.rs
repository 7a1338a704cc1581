//! What a sink has been configured with, validated once.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::schema::{CHANGE_COLUMN, visible_schema};
use karez_core::{Error, Result};

use super::upsert::Upsert;
use super::{MessageEncoder, MessageFormat};

/// What an [`EncodePlan`] is made of.
#[derive(Clone, Copy, Debug)]
pub struct EncodeRequest<'a> {
    /// The format and its options.
    pub format: &'a MessageFormat,
    /// The rows: the columns to write, and behind them [`CHANGE_COLUMN`] where they carry changes.
    pub schema: &'a SchemaRef,
    /// Whether the connector has a schema registry. Formats that do not use it are not harmed.
    pub registry: bool,
}

/// A validated way of encoding; each writer takes its own encoder from it.
///
/// Rows that carry changes become, in `debezium-json`, one message each. In every other format they are written by key, as Flink's `upsert-kafka`
/// does: an insert and the row behind an update are a payload, the row before an update is [`super::Outcome::Nothing`], a delete
/// [`super::Outcome::Tombstone`]; the caller sees to it that there is a key.
#[derive(Clone)]
pub struct EncodePlan {
    format: Arc<dyn EncodeFormat>,
    changes: bool,
}

/// A format with its options, validated for the columns to write.
pub(super) trait EncodeFormat: Send + Sync {
    /// An encoder.
    fn encoder(&self) -> Result<Box<dyn MessageEncoder>, String>;

    /// Whether it writes changes itself, from the change column.
    fn takes_changes(&self) -> bool {
        false
    }
}

// ===== impl EncodePlan =====

impl EncodePlan {
    /// Validates options and columns.
    ///
    /// # Errors
    ///
    /// Everything wrong with them; paths are relative to the format's options.
    pub fn new(request: EncodeRequest<'_>) -> Result<Self, ConfigErrors> {
        let changes = request.schema.column_with_name(CHANGE_COLUMN).is_some();
        let visible = visible_schema(request.schema);
        if visible.fields().is_empty() {
            return Err(ConfigError::new("", "there is no column to write").into());
        }
        let registry = request.format.registry(request.registry)?;
        let format = formats::encode(EncodeRequest { schema: &visible, registry, ..request })?;
        let plan = Self { format, changes };
        plan.format.encoder().map_err(|e| ConfigError::new("", e))?;
        Ok(plan)
    }

    /// An encoder.
    ///
    /// # Errors
    ///
    /// Internal ones: the plan has been validated.
    pub fn encoder(&self) -> Result<Box<dyn MessageEncoder>> {
        let encoder = self.format.encoder().map_err(|e| Error::internal(format!("an encoder of messages: {e}")))?;
        Ok(if self.changes && !self.format.takes_changes() { Box::new(Upsert::new(encoder)) } else { encoder })
    }

    /// Whether deletes become tombstones, so that messages need a key.
    #[must_use]
    pub fn is_upsert(&self) -> bool {
        self.changes && !self.format.takes_changes()
    }
}

impl fmt::Debug for EncodePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodePlan").field("changes", &self.changes).finish_non_exhaustive()
    }
}

mod formats {
    use super::*;

    pub(super) fn encode(request: EncodeRequest<'_>) -> Result<Arc<dyn EncodeFormat>, ConfigErrors> {
        match request.format {
            #[cfg(feature = "json")]
            MessageFormat::Json(options) => crate::message::json::encode(options, request),
            MessageFormat::Raw(_) => crate::message::raw::encode(request),
            #[cfg(feature = "avro")]
            MessageFormat::Avro(options) => crate::message::avro::encode(options, request),
            #[cfg(feature = "protobuf")]
            MessageFormat::Protobuf(options) => crate::message::protobuf::encode(options, request),
            #[cfg(feature = "csv")]
            MessageFormat::Csv(options) => crate::message::csv::encode(options, request),
            #[cfg(feature = "json")]
            MessageFormat::DebeziumJson(_) => crate::message::debezium::encode(request),
            #[allow(unreachable_patterns)]
            other => Err(ConfigError::new("", format!("format `{other}` is not in this build")).into()),
        }
    }
}
