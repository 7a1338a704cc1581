//! What a source has been configured with, validated once.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::schema::ChangeMode;
use karez_core::{Error, Result};

use super::null_payloads::NullPayloads;
use super::{MessageDecoder, MessageFormat, NullPayload, RegisteredSchema};

/// What a [`DecodePlan`] is made of.
#[derive(Clone, Copy, Debug)]
pub struct DecodeRequest<'a> {
    /// The format and its options.
    pub format: &'a MessageFormat,
    /// The columns that the user declared for the payload: without those that the connector itself adds. `None`: derive them.
    pub schema: Option<&'a SchemaRef>,
    /// Whether the connector has a schema registry. Formats that do not use it are not harmed.
    pub registry: bool,
    /// The latest version of the subject, where [`DecodePlan::needs_latest`] asks for it.
    pub latest: Option<&'a RegisteredSchema>,
    /// What becomes of null payloads; `None`: [`NullPayload::default_of`] the format.
    pub null_payload: Option<NullPayload>,
}

/// A validated way of decoding; each reader takes its own decoder from it.
#[derive(Clone)]
pub struct DecodePlan {
    format: Arc<dyn DecodeFormat>,
    /// All columns.
    declared: SchemaRef,
    /// Those to decode, as indices into `declared`, ascending.
    columns: Arc<[usize]>,
    schema: SchemaRef,
    null_payload: NullPayload,
}

/// A format with its options, validated for the declared columns.
pub(super) trait DecodeFormat: Send + Sync {
    /// A decoder to `columns` of the declared ones (ascending), whose schema is `schema`.
    fn decoder(&self, schema: &SchemaRef, columns: &[usize]) -> Result<Box<dyn MessageDecoder>, String>;

    /// Whether its rows carry changes.
    fn change_mode(&self) -> ChangeMode {
        ChangeMode::AppendOnly
    }

    /// For changes: the columns that identify a row.
    fn key(&self) -> &[String] {
        &[]
    }
}

// ===== impl DecodePlan =====

impl DecodePlan {
    /// Whether [`DecodeRequest::latest`] is wanted: the columns, or the reader's schema, are those of the subject's latest version. The caller then asks
    /// the registry first.
    #[must_use]
    pub fn needs_latest(format: &MessageFormat, declared: bool, registry: bool) -> bool {
        format.uses_registry(registry)
            && match format {
                MessageFormat::Avro(o) => !declared && o.schema.is_none() && o.schema_file.is_none(),
                MessageFormat::Protobuf(o) => !declared && o.schema.is_none() && o.schema_file.is_none(),
                _ => false,
            }
    }

    /// Validates options and columns.
    ///
    /// # Errors
    ///
    /// Everything wrong with them; paths are relative to the format's options.
    pub fn new(request: DecodeRequest<'_>) -> Result<Self, ConfigErrors> {
        let registry = request.format.registry(request.registry)?;
        let (declared, format) = formats::decode(DecodeRequest { registry, ..request })?;
        let columns: Arc<[usize]> = (0..declared.fields().len()).collect();
        let null_payload = request.null_payload.unwrap_or(NullPayload::default_of(request.format));
        let plan = Self { format, schema: Arc::clone(&declared), declared, columns, null_payload };
        plan.inner().map_err(|e| ConfigError::new("", e))?;
        Ok(plan)
    }

    /// The columns of the rows: no hidden ones.
    #[must_use]
    pub const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether rows carry changes ([`super::Decoded::kinds`]).
    #[must_use]
    pub fn change_mode(&self) -> ChangeMode {
        self.format.change_mode()
    }

    /// For changes: the columns that identify a row, as configured; empty where unknown.
    #[must_use]
    pub fn key(&self) -> &[String] {
        self.format.key()
    }

    /// The same, decoding only `columns`: indices into [`Self::schema`], ascending.
    #[must_use]
    pub fn project(&self, columns: &[usize]) -> Self {
        let schema = Arc::new(Schema::new(columns.iter().map(|&c| Arc::clone(&self.schema.fields()[c])).collect::<Vec<_>>()));
        let columns = columns.iter().map(|&c| self.columns[c]).collect();
        Self { columns, schema, ..self.clone() }
    }

    /// A decoder.
    ///
    /// # Errors
    ///
    /// Internal ones: the plan has been validated.
    pub fn decoder(&self) -> Result<Box<dyn MessageDecoder>> {
        let decoder = self.inner().map_err(|e| Error::internal(format!("a decoder of messages: {e}")))?;
        Ok(Box::new(NullPayloads::new(decoder, self.null_payload)))
    }

    fn inner(&self) -> Result<Box<dyn MessageDecoder>, String> {
        self.format.decoder(&self.schema, &self.columns)
    }
}

impl fmt::Debug for DecodePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodePlan").field("declared", &self.declared).field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// The declared columns, or why they are needed.
pub(super) fn declared<'a>(request: &DecodeRequest<'a>) -> Result<&'a SchemaRef, ConfigErrors> {
    match request.schema {
        Some(schema) if !schema.fields().is_empty() => Ok(schema),
        _ => {
            let what = format!("a message of `{}` does not say what columns it has", request.format);
            Err(ConfigError::new("", what).hint("declare them: `schema: { id: bigint, … }`").into())
        }
    }
}

mod formats {
    use super::*;

    pub(super) fn decode(request: DecodeRequest<'_>) -> Result<(SchemaRef, Arc<dyn DecodeFormat>), ConfigErrors> {
        match request.format {
            #[cfg(feature = "json")]
            MessageFormat::Json(options) => crate::message::json::decode(options, request),
            MessageFormat::Raw(_) => crate::message::raw::decode(request),
            #[cfg(feature = "avro")]
            MessageFormat::Avro(options) => crate::message::avro::decode(options, request),
            #[cfg(feature = "protobuf")]
            MessageFormat::Protobuf(options) => crate::message::protobuf::decode(options, request),
            #[cfg(feature = "csv")]
            MessageFormat::Csv(options) => crate::message::csv::decode(options, request),
            #[cfg(feature = "json")]
            MessageFormat::DebeziumJson(options) => crate::message::debezium::decode(options, request),
            #[allow(unreachable_patterns)]
            other => Err(ConfigError::new("", format!("format `{other}` is not in this build")).into()),
        }
    }
}
