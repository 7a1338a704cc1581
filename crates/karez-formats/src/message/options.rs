//! What a job says of a message format; the same at both ends. The doc comments are part of the connectors' reference pages.
//!
//! A connector has options of this type (`format`, `keyFormat`), so that a job writes `format: json`, or with options
//! `format: { type: csv, delimiter: ";" }`. The registry is an option of the connector, `schemaRegistry`, for keys and values together.

use std::fmt;

use karez_core::config::ConfigError;
use schemars::{JsonSchema, Schema};
use serde::de::{Error, IntoDeserializer};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The format of a message: its name, or an object of its name as `type` and its options.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(remote = "Self", tag = "type", rename_all = "kebab-case")]
#[schemars(rename = "MessageFormat", transform = or_its_name)]
pub enum MessageFormat {
    /// One JSON object per message.
    Json(JsonMessageOptions),
    /// One CSV record per message.
    Csv(CsvMessageOptions),
    /// The bytes as they are: one column of text or binary.
    Raw(RawMessageOptions),
    /// Apache Avro.
    Avro(AvroMessageOptions),
    /// Protocol Buffers.
    Protobuf(ProtobufMessageOptions),
    /// Debezium's change events as JSON.
    DebeziumJson(DebeziumJsonOptions),
}

impl MessageFormat {
    /// Its name in a job.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Json(_) => "json",
            Self::Csv(_) => "csv",
            Self::Raw(_) => "raw",
            Self::Avro(_) => "avro",
            Self::Protobuf(_) => "protobuf",
            Self::DebeziumJson(_) => "debezium-json",
        }
    }
}

impl MessageFormat {
    /// Whether its messages name schemas of a registry; `available`: there is one.
    #[must_use]
    pub fn uses_registry(&self, available: bool) -> bool {
        available
            && match self {
                Self::Json(options) => options.framing != Some(RegistryFraming::None),
                Self::Protobuf(options) => options.framing != Some(RegistryFraming::None),
                Self::Avro(options) => matches!(options.framing, None | Some(AvroFraming::Confluent)),
                Self::Csv(_) | Self::Raw(_) | Self::DebeziumJson(_) => false,
            }
    }

    /// Whether it asks for a registry by its options.
    fn wants_registry(&self) -> bool {
        match self {
            Self::Json(options) => options.framing == Some(RegistryFraming::Confluent),
            Self::Protobuf(options) => options.framing == Some(RegistryFraming::Confluent),
            Self::Avro(options) => options.framing == Some(AvroFraming::Confluent),
            Self::Csv(_) | Self::Raw(_) | Self::DebeziumJson(_) => false,
        }
    }

    /// Whether it uses the registry.
    ///
    /// # Errors
    ///
    /// It needs one, and there is none.
    pub(super) fn registry(&self, available: bool) -> Result<bool, ConfigError> {
        if self.wants_registry() && !available {
            return Err(ConfigError::new("framing", "`confluent` needs a schema registry").hint("give `schemaRegistry: { url: … }`"));
        }
        Ok(self.uses_registry(available))
    }

    /// The subject in a schema registry, where one is given.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::Json(options) => options.subject.as_deref(),
            Self::Avro(options) => options.subject.as_deref(),
            Self::Protobuf(options) => options.subject.as_deref(),
            Self::Csv(_) | Self::Raw(_) | Self::DebeziumJson(_) => None,
        }
    }
}

impl fmt::Display for MessageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Options of `json`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JsonMessageOptions {
    /// Reading: a key that is no column makes the message bad. Default: false.
    pub strict: bool,
    /// Writing: leave keys out whose value is null. Default: false.
    pub omit_nulls: bool,
    /// A JSON Schema that every message must fulfil: its text, or an object. With a `schemaRegistry` messages are in the Confluent wire format, and are
    /// checked by the schema that their id names when read; this one is registered when they are written (without it one is made from the columns).
    pub schema: Option<SchemaText>,
    /// A file with the JSON Schema, instead of `schema`.
    pub schema_file: Option<String>,
    /// Whether a schema's id stands before each message. Default: `confluent` with a `schemaRegistry`, else `none`.
    pub framing: Option<RegistryFraming>,
    /// Reading with a `schemaRegistry`: check each message by the schema its id names. Default: true.
    pub validate: Option<bool>,
    /// The subject in the registry. Default: what `subjectStrategy` makes of the topic.
    pub subject: Option<String>,
}

/// Options of `csv`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CsvMessageOptions {
    /// The character between two fields (`\t` for a tab). Default: `,`.
    pub delimiter: Option<String>,
    /// The character around fields that hold delimiters, line feeds or quotes; empty, when reading: there are no quotes. Default: `"`.
    pub quote: Option<String>,
    /// Reading: the character before a quote inside a quoted field. Without it a quote is doubled.
    pub escape: Option<String>,
    /// What stands for null. In string columns a quoted one is text. Default: nothing at all.
    #[serde(deserialize_with = "null_value")]
    pub null_value: Option<String>,
}

/// Options of `raw`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawMessageOptions {}

/// Options of `avro`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AvroMessageOptions {
    /// The schema: its text, or an object. Reading: the reader's schema, to which those that messages were written with are resolved; with a
    /// `schemaRegistry` the default is made of the declared columns, or is the subject's latest version. Writing: default: made of the columns.
    pub schema: Option<SchemaText>,
    /// A file with the schema, instead of `schema`.
    pub schema_file: Option<String>,
    /// How a message says which schema it was written with. Default: `confluent` with a `schemaRegistry`, else `none`.
    pub framing: Option<AvroFraming>,
    /// The subject in the registry. Default: what `subjectStrategy` makes of the topic.
    pub subject: Option<String>,
    /// Writing, where the schema is made of the columns: the name of its record. Default: `Record`.
    pub record_name: Option<String>,
    /// Writing, where the schema is made of the columns: the namespace of its record.
    pub namespace: Option<String>,
}

/// Whether a schema's id stands before a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RegistryFraming {
    /// The Confluent wire format: a zero byte and the registry's id in four bytes. Needs `schemaRegistry`.
    Confluent,
    /// Nothing: the registry is not asked.
    None,
}

/// How an Avro message says which schema it was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AvroFraming {
    /// The Confluent wire format: a zero byte and the registry's id in four bytes. Needs `schemaRegistry`.
    Confluent,
    /// Avro's single-object encoding: `C3 01` and the schema's fingerprint (CRC-64-AVRO); every message must have the fingerprint of `schema`.
    SingleObject,
    /// Not at all: the datum alone, written with `schema`.
    None,
}

/// Options of `protobuf`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProtobufMessageOptions {
    /// The text of a `.proto` file. With a `schemaRegistry` the default is the subject's latest version (reading) or made of the columns (writing).
    pub schema: Option<String>,
    /// A `.proto` file, instead of `schema`. Its imports are looked for in its folder and in `importPaths`.
    pub schema_file: Option<String>,
    /// Folders in which imports are looked for.
    pub import_paths: Vec<String>,
    /// Whether a schema's id stands before each message. Default: `confluent` with a `schemaRegistry`, else `none`.
    pub framing: Option<RegistryFraming>,
    /// The message type, with its package (`shop.Order`). Default: the first of the file.
    pub message: Option<String>,
    /// The subject in the registry. Default: what `subjectStrategy` makes of the topic.
    pub subject: Option<String>,
}

/// Options of `debezium-json`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DebeziumJsonOptions {
    /// The columns that identify a row.
    pub key: Vec<String>,
    /// Reading: an update or delete without `before` (PostgreSQL under `REPLICA IDENTITY DEFAULT`) is an `error`;
    /// with `upsert`, an update
    /// without it gives its new row alone, which replaces that of its `key` in a keyed sink (an aggregate would count both). Default: `error`.
    pub missing_before: Option<MissingBefore>,
}

/// What an update without `before` becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MissingBefore {
    /// A bad record.
    Error,
    /// Its new row alone.
    Upsert,
}

/// A schema in a job: a text, or, where the schema is JSON, the object itself.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SchemaText(pub Value);

impl SchemaText {
    /// The text of the schema.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.0 {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

impl<'de> Deserialize<'de> for MessageFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = match Value::deserialize(deserializer)? {
            Value::String(name) => serde_json::json!({ "type": name }),
            object @ Value::Object(_) => object,
            _ => return Err(D::Error::custom("expected the name of a format, such as `json`, or an object with its name as `type`")),
        };
        // What serde derives for `Self`: an object of `type` and the options.
        Self::deserialize(value.into_deserializer()).map_err(D::Error::custom)
    }
}

/// Without options a format is its name alone.
fn or_its_name(schema: &mut Schema) {
    let names = serde_json::json!({ "type": "string", "enum": ["json", "csv", "raw", "avro", "protobuf", "debezium-json"] });
    if let Some(choices) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        choices.insert(0, names);
    }
}

/// Reads `nullValue`. Without quotes YAML takes the very words that messages have for null as no value: that must not leave the option out in silence.
fn null_value<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    String::deserialize(value)
        .map(Some)
        .map_err(|_| D::Error::custom("expected a text; a bare NULL, null or ~ is no value in YAML: write it in quotes"))
}
