//! How the cluster is reached: options of both ends.

use std::collections::BTreeMap;
use std::fmt;

use karez_core::config::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// Brokers to begin with: `host:port`, several separated by commas or as a list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected `host:port`, or a list of them")]
pub enum BootstrapServers {
    /// One text.
    Text(String),
    /// A list.
    List(Vec<String>),
}

impl BootstrapServers {
    /// `host:port` pairs.
    pub(super) fn addresses(&self) -> Vec<&str> {
        let texts = match self {
            Self::Text(text) => std::slice::from_ref(text),
            Self::List(list) => list,
        };
        texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|t| !t.is_empty()).collect()
    }
}

/// How the connection is secured. Kafka's own names work in `properties` instead (`security.protocol`, `sasl.jaas.config`, `ssl.truststore.location` …).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecurityOptions {
    /// The brokers' listener. Default: what `sasl` and `tls` say, so `SASL_SSL` where both are given.
    pub protocol: Option<SecurityProtocol>,
    /// Who the job is, by user name and password.
    pub sasl: Option<SaslOptions>,
    /// Encryption; with `certificate` and `key` also who the job is (mutual TLS).
    pub tls: Option<TlsOptions>,
}

/// The kind of a broker's listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SecurityProtocol {
    /// Neither encryption nor authentication.
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL without encryption.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    pub(super) const fn of(sasl: bool, tls: bool) -> Self {
        match (sasl, tls) {
            (false, false) => Self::Plaintext,
            (false, true) => Self::Ssl,
            (true, false) => Self::SaslPlaintext,
            (true, true) => Self::SaslSsl,
        }
    }

    pub(super) const fn sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    pub(super) const fn tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

/// A user.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SaslOptions {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`. Kerberos (`GSSAPI`) and `OAUTHBEARER` are not supported.
    pub mechanism: String,
    /// The user's name.
    pub username: String,
    /// The user's password.
    pub password: Secret,
}

/// Certificates, as PEM files.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsOptions {
    /// The file of the authorities that the brokers' certificates are checked against, and no others. Default: those of the operating system.
    pub ca: Option<String>,
    /// The file of the job's own certificate and its chain, for mutual TLS.
    pub certificate: Option<String>,
    /// The file of the certificate's private key, not encrypted (PKCS#8, PKCS#1 or SEC1).
    pub key: Option<String>,
}

/// Settings by the names that Kafka users know. Values may be secrets, so they are never printed.
#[derive(Clone, Default, PartialEq, Eq, JsonSchema)]
pub struct Properties(#[schemars(with = "BTreeMap<String, serde_json::Value>")] BTreeMap<String, Secret>);

impl Properties {
    /// The text of a value.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<String, serde_json::Value>::deserialize(d)?;
        let scalars = map.into_iter().map(|(name, value)| match value {
            serde_json::Value::String(text) => Ok((name, Secret::new(text))),
            serde_json::Value::Number(n) => Ok((name, Secret::new(n.to_string()))),
            serde_json::Value::Bool(b) => Ok((name, Secret::new(b.to_string()))),
            _ => Err(serde::de::Error::custom(format!("the property `{name}` must be a text, a number, true or false"))),
        });
        scalars.collect::<Result<_, _>>().map(Self)
    }
}
