//! Configuration as the job file gives it: JSON values with `${ENV}` references, parsed into the serde struct of a connector or operator.
//!
//! References stay references in the graph, in `explain`, logs and checkpoints; they are resolved only when a struct is parsed.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::error::did_you_mean;

/// What is wrong with one key of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}{}", if path.is_empty() { String::new() } else { format!("`{path}`: ") }, hint.as_ref().map_or(String::new(), |h| format!("; {h}")))]
pub struct ConfigError {
    /// The key, dotted from the configuration's root (`format.type`, `topics[1]`); empty for the whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do, such as ``did you mean `batchSize`?``.
    pub hint: Option<String>,
}

impl ConfigError {
    /// An error at a key.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same below `prefix`.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.path = match (prefix.is_empty(), self.path.is_empty()) {
            (_, true) => prefix.to_owned(),
            (true, false) => self.path,
            (false, false) if self.path.starts_with('[') => format!("{prefix}{}", self.path),
            (false, false) => format!("{prefix}.{}", self.path),
        };
        self
    }
}

/// Everything that is wrong with a configuration, in the order of its keys. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl From<ConfigError> for ConfigErrors {
    fn from(e: ConfigError) -> Self {
        Self(vec![e])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            e.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigErrors> for crate::Error {
    fn from(e: ConfigErrors) -> Self {
        Self::user(e.to_string())
    }
}

/// Parses a configuration: resolves `${ENV}` from the process environment, reports every unknown key with a suggestion, then the first wrong value.
pub fn parse<T: DeserializeOwned + JsonSchema>(config: &Value) -> Result<T, ConfigErrors> {
    let resolved = resolve_env(config, &|name| std::env::var(name).ok())?;
    let schema = schemars::schema_for!(T);
    check_keys(&resolved, &schema)?;
    serde_path_to_error::deserialize(&resolved).map_err(|e| {
        let path = e.path().to_string();
        ConfigError::new(if path == "." { String::new() } else { path }, e.into_inner().to_string()).into()
    })
}

/// Refuses what [`unknown_keys`] finds.
pub fn check_keys(config: &Value, schema: &schemars::Schema) -> Result<(), ConfigErrors> {
    let unknown = unknown_keys(config, schema);
    if unknown.is_empty() { Ok(()) } else { Err(ConfigErrors(unknown)) }
}

/// Keys of the top level that the schema of a struct does not know. (Deeper levels are serde's `deny_unknown_fields`.)
#[must_use]
pub fn unknown_keys(config: &Value, schema: &schemars::Schema) -> Vec<ConfigError> {
    let schema = schema.as_value();
    let (Some(config), Some(properties)) = (config.as_object(), schema.get("properties").and_then(Value::as_object)) else {
        return Vec::new();
    };
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    let known = || properties.keys().map(String::as_str);
    config
        .keys()
        .filter(|k| closed && !properties.contains_key(*k))
        .map(|k| {
            let e = ConfigError::new(k.clone(), "unknown key");
            match did_you_mean(k, known()) {
                Some(near) => e.hint(format!("did you mean `{near}`?")),
                None => e.hint(format!("known keys: {}", known().collect::<Vec<_>>().join(", "))),
            }
        })
        .collect()
}

/// Replaces `${NAME}` and `${NAME:-default}` in every string of a value. `$${` stands for a literal `${`.
///
/// A string that is nothing but one reference takes the type its text has in YAML (`${PORT:-9092}` is a number); others stay strings.
pub fn resolve_env(value: &Value, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Value, ConfigErrors> {
    let mut errors = Vec::new();
    let out = resolve(value, lookup, "", &mut errors);
    if errors.is_empty() { Ok(out) } else { Err(ConfigErrors(errors)) }
}

fn resolve(value: &Value, lookup: &dyn Fn(&str) -> Option<String>, path: &str, errors: &mut Vec<ConfigError>) -> Value {
    match value {
        Value::String(text) if text.contains("${") => match substitute(text, lookup) {
            Ok((text, true)) => scalar(&text),
            Ok((text, false)) => Value::String(text),
            Err(message) => {
                errors.push(ConfigError::new(path, message));
                Value::Null
            }
        },
        Value::Array(items) => Value::Array(items.iter().enumerate().map(|(i, v)| resolve(v, lookup, &format!("{path}[{i}]"), errors)).collect()),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(k, v)| {
                    let path = if path.is_empty() { k.clone() } else { format!("{path}.{k}") };
                    (k.clone(), resolve(v, lookup, &path, errors))
                })
                .collect::<Map<_, _>>(),
        ),
        other => other.clone(),
    }
}

fn substitute(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(String, bool), String> {
    let mut out = String::new();
    let mut rest = text;
    let whole = text.starts_with("${") && text.find('}') == Some(text.len() - 1);
    while let Some(at) = rest.find("${") {
        if at > 0 && rest.as_bytes()[at - 1] == b'$' {
            out.push_str(&rest[..at]);
            out.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let body = &rest[at + 2..];
        let end = body.find('}').ok_or_else(|| format!("`{text}`: `${{` without `}}`"))?;
        let (name, default) = match body[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&body[..end], None),
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(format!("`${{{}}}`: an environment variable's name holds letters, digits and `_`", &body[..end]));
        }
        match (lookup(name), default) {
            (Some(v), _) if !(v.is_empty() && default.is_some()) => out.push_str(&v),
            (_, Some(d)) => out.push_str(d),
            (_, None) => return Err(format!("the environment variable `{name}` is not set; set it, or give a default: `${{{name}:-…}}`")),
        }
        rest = &body[end + 1..];
    }
    out.push_str(rest);
    Ok((out, whole))
}

fn scalar(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(v @ (Value::Bool(_) | Value::Number(_))) => v,
        _ => Value::String(text.to_owned()),
    }
}

/// A password or token: never printed, never part of a checkpoint.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, at the place where it is used.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "password" })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// A duration as written in job files: `500ms`, `10s`, `5m`, `1h 30m`, `1d`; a bare number is milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// So many milliseconds.
    #[must_use]
    pub const fn millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// In milliseconds, at most `i64::MAX`.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ms) = text.trim().parse() {
            return Ok(Self::millis(ms));
        }
        humantime::parse_duration(text.trim())
            .map(Self)
            .map_err(|e| format!("`{text}` is no duration ({e}); write it like `500ms`, `10s`, `5m`, `1h 30m`"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A size in bytes as written in job files: `64k`, `256m`, `4g`, also `KiB`, `MB` …; units are powers of 1,024; a bare number is bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
        let unit = lower[digits..].trim().trim_end_matches("ib").trim_end_matches('b');
        let shift = match unit {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return Err(format!("`{text}` is no size; write it like `64k`, `256m`, `4g`")),
        };
        let number: u64 = lower[..digits].parse().map_err(|_| format!("`{text}` is no size; write it like `64k`, `256m`, `4g`"))?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| format!("`{text}` is too large"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "t"), (30, "g"), (20, "m"), (10, "k")] {
            if self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        self.0.fmt(f)
    }
}

macro_rules! text_or_number {
    ($type:ident, $from_number:expr, $kind:literal, $description:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Raw {
                    Number(u64),
                    Text(String),
                }
                match Raw::deserialize(d).map_err(|_| serde::de::Error::custom(concat!("expected ", $description)))? {
                    Raw::Number(n) => Ok($from_number(n)),
                    Raw::Text(t) => t.parse().map_err(serde::de::Error::custom),
                }
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.to_string())
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": ["string", "integer"], "description": $description, "x-karez-type": $kind })
            }

            fn inline_schema() -> bool {
                true
            }
        }
    };
}

text_or_number!(Span, Span::millis, "duration", "a duration such as `500ms`, `10s`, `5m`, `1h 30m` (a bare number: milliseconds)");
text_or_number!(ByteSize, ByteSize, "size", "a size such as `64k`, `256m`, `4g` (a bare number: bytes)");
