//! The options of a schema registry, `schemaRegistry: { … }`, for keys and values together.

use karez_core::config::{ConfigError, ConfigErrors, Secret, Span};
use karez_external::ExternalOptions;
use karez_formats::message::{DecodePlan, MessageFormat, RegisteredSchema};
use schemars::JsonSchema;
use serde::Deserialize;

use super::SchemaRegistry;

/// A schema registry with Confluent's REST API.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SchemaRegistryOptions {
    /// Its address, such as `https://registry:8081`; Apicurio's ends in `/apis/ccompat/v7`.
    pub url: String,
    /// A user, for basic authentication.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// A bearer token, instead of a user.
    pub token: Option<Secret>,
    /// The file of the authorities (PEM) that the registry's certificate is checked against, and no others. Default: those of the operating system.
    pub ca: Option<String>,
    /// The file of the job's own certificate and its chain (PEM), for mutual TLS.
    pub certificate: Option<String>,
    /// The file of the certificate's private key (PEM, not encrypted).
    pub key: Option<String>,
    /// How a subject is named, where a format has no `subject` of its own. Default: topic.
    #[serde(default)]
    pub subject_strategy: SubjectStrategy,
    /// Writing: register the schema when the job starts, if the subject does not have it; the registry refuses one that is not compatible. With `false`
    /// it must be there. Default: true.
    #[serde(default = "yes")]
    pub auto_register: bool,
    /// Writing: write with the latest version of the subject, whatever the columns alone would give, and register nothing. Default: false.
    #[serde(default)]
    pub use_latest_version: bool,
    /// How many schemas are kept; beyond it the oldest are asked for again. Default: 1000.
    #[serde(default = "thousand")]
    pub cache_size: usize,
    /// How long it is remembered that the registry does not know an id. Default: 10s.
    #[serde(default = "ten_seconds")]
    pub negative_cache: Span,
    /// How the registry is called.
    #[serde(default)]
    pub external: ExternalOptions,
}

const fn yes() -> bool {
    true
}
const fn thousand() -> usize {
    1_000
}
const fn ten_seconds() -> Span {
    Span::millis(10_000)
}

/// How subjects are named (Confluent's strategies).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectStrategy {
    /// `TOPIC-key` and `TOPIC-value` (`TopicNameStrategy`).
    #[default]
    Topic,
    /// The full name of the record or message (`RecordNameStrategy`).
    Record,
    /// `TOPIC-` and the full name of the record or message (`TopicRecordNameStrategy`).
    TopicRecord,
}

/// The part of a message that a schema is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

impl SchemaRegistryOptions {
    /// Refuses what cannot be meant; errors are at keys below `schemaRegistry`.
    ///
    /// # Errors
    ///
    /// Everything wrong.
    pub fn check(&self) -> Result<(), ConfigErrors> {
        let mut errors = Vec::new();
        match reqwest::Url::parse(&self.url) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() => {
                errors.push(ConfigError::new("url", "must begin with `http://` or `https://`"));
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                errors.push(ConfigError::new("url", "holds a user").hint("give `username` and `password` instead, which are not printed"));
            }
            Ok(_) => {}
            Err(e) => errors.push(ConfigError::new("url", format!("is no address: {e}"))),
        }
        if self.token.is_some() && self.username.is_some() {
            errors.push(ConfigError::new("token", "is given, and `username` too").hint("leave one of them out"));
        }
        if self.password.is_some() && self.username.is_none() {
            errors.push(ConfigError::new("password", "is given without a `username`"));
        }
        if self.certificate.is_some() != self.key.is_some() {
            errors.push(ConfigError::new("certificate", "goes with `key`").hint("give both, or neither"));
        }
        if self.cache_size == 0 {
            errors.push(ConfigError::new("cacheSize", "must be at least 1"));
        }
        errors.extend(self.external.check().err().map(|e| e.under("external")));
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }

    /// The schema that a source's columns are derived from, where they are those of the subject's latest version ([`DecodePlan::needs_latest`]); asks the
    /// registry, and blocks until it answers. `topic`: `None` where it is not one.
    ///
    /// # Errors
    ///
    /// The subject is not known, or not there; the registry cannot be asked. Paths are relative to the format.
    pub fn latest_for(
        &self,
        format: &MessageFormat,
        declared: bool,
        topic: Option<&str>,
        part: Part,
    ) -> Result<Option<RegisteredSchema>, ConfigErrors> {
        if !DecodePlan::needs_latest(format, declared, true) {
            return Ok(None);
        }
        let subject = match (format.subject(), topic) {
            (None, None) => {
                let e = ConfigError::new("subject", "is missing: there are no columns declared, and several topics may have several schemas");
                return Err(e.hint("declare the columns, or give the `subject` whose latest schema they are").into());
            }
            (given, topic) => self.subject(given, topic.unwrap_or_default(), part, None)?,
        };
        match SchemaRegistry::latest_blocking(self, &subject) {
            Ok(Some(latest)) => Ok(Some(latest.schema)),
            Ok(None) => {
                let e = ConfigError::new("", format!("no columns are declared, and the schema registry {} has no subject `{subject}`", self.url));
                Err(e.hint("declare the columns, or give the `subject` whose latest schema they are").into())
            }
            Err(e) => Err(ConfigError::new("", format!("no columns are declared, and the registry cannot be asked: {e}")).into()),
        }
    }

    /// The subject of a topic's schema. `given`: what the format says; `record`: the full name of the record, where it is known.
    ///
    /// # Errors
    ///
    /// The strategy names subjects by records, and the record is not known.
    pub fn subject(&self, given: Option<&str>, topic: &str, part: Part, record: Option<&str>) -> Result<String, ConfigError> {
        if let Some(given) = given {
            return Ok(given.to_owned());
        }
        let unknown = || {
            ConfigError::new("subject", "is missing: `subjectStrategy` names subjects by the record, which is not known here").hint("give `subject`")
        };
        let part = match part {
            Part::Key => "key",
            Part::Value => "value",
        };
        Ok(match self.subject_strategy {
            SubjectStrategy::Topic => format!("{topic}-{part}"),
            SubjectStrategy::Record => record.ok_or_else(unknown)?.to_owned(),
            SubjectStrategy::TopicRecord => format!("{topic}-{}", record.ok_or_else(unknown)?),
        })
    }
}
