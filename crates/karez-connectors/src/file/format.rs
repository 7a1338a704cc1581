//! What both ends say of a format: its name, and the options that belong to it alone.

use std::fmt;

use karez_core::config::ConfigError;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Comma-separated values.
    Csv,
    /// A JSON object on each line.
    #[serde(alias = "json")]
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Lines of text, each a row of one column.
    Text,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
            Self::Text => "text",
        })
    }
}

/// Refuses the options that are given, but belong to formats that this one is not. Keys with whether they are given.
pub(super) fn refuse_foreign(format: Format, of: &[Format], keys: &[(&str, bool)], errors: &mut Vec<ConfigError>) {
    if of.contains(&format) {
        return;
    }
    let of: Vec<String> = of.iter().map(|f| format!("`format: {f}`")).collect();
    for (key, _) in keys.iter().filter(|(_, given)| *given) {
        errors.push(ConfigError::new(*key, format!("only with {}, and this is `format: {format}`", of.join(", "))).hint("leave it out"));
    }
}

/// An option that is one character: its byte, `None` where it is not given. `\t` may be written out.
pub(super) fn character(key: &str, text: Option<&str>, errors: &mut Vec<ConfigError>) -> Option<u8> {
    match text?.as_bytes() {
        b"\\t" => Some(b'\t'),
        [one] if !matches!(one, b'\n' | b'\r') => Some(*one),
        _ => {
            errors.push(ConfigError::new(key, "must be one ASCII character (or `\\t`), and no line break"));
            None
        }
    }
}

/// Reads `nullValue`. Without quotes YAML takes the very words that files have for null as no value: that must not leave the option out in silence.
pub(super) fn null_value<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some).map_err(|_| D::Error::custom("expected a text; a bare NULL, null or ~ is no value in YAML: write it in quotes"))
}
