//! Schemas as a registry knows them.

use std::fmt;

/// The number under which a registry knows a schema (the Confluent wire format's four bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaId(pub u32);

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The language of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchemaKind {
    /// Apache Avro.
    Avro,
    /// Protocol Buffers: the text of a `.proto` file.
    Protobuf,
    /// JSON Schema.
    Json,
}

impl SchemaKind {
    /// As the registry's API writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Protobuf => "PROTOBUF",
            Self::Json => "JSON",
        }
    }
}

/// A schema of a registry, with all that it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// Its language.
    pub kind: SchemaKind,
    /// Its text.
    pub text: String,
    /// What it refers to, directly or through others: each before those that need it.
    pub references: Vec<SchemaReference>,
}

/// A schema that another refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaReference {
    /// The name by which it is referred to: a full name (Avro), the path of an import (Protobuf), a URI (JSON Schema).
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What an encoder wants registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The language.
    pub kind: SchemaKind,
    /// The text of the schema.
    pub text: String,
    /// The full name of its record or message, for subjects that are named by it.
    pub record_name: String,
}
