//! Requests to the registry, and what its answers mean.

use karez_core::config::{ConfigError, ConfigErrors, Secret};
use karez_core::{Error, Result};
use karez_external::ExternalCalls;
use reqwest::{Certificate, Client, Identity, Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::SchemaRegistryOptions;
use crate::certificate::is_of_certificate;
use crate::key_pair;

/// Longest answer read, bytes.
const ANSWER_BYTES_LIMIT: usize = 16 << 20;

/// Characters of an answer that errors show.
const SHOWN_CHARS: usize = 500;

/// The media type of the API.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// One registry.
#[derive(Clone)]
pub(super) struct Http {
    client: Client,
    base: Url,
    who: Who,
    calls: ExternalCalls,
    /// Whether a call is made again while the registry is away.
    patient: bool,
}

/// Who asks.
#[derive(Clone)]
enum Who {
    Nobody,
    User(String, Option<Secret>),
    Token(Secret),
}

/// What the registry says is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotThere(pub(super) String);

/// An error as the API writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error_code: u32,
    message: String,
}

impl Http {
    pub(super) fn new(options: &SchemaRegistryOptions) -> Result<Self, ConfigErrors> {
        let base = Url::parse(&options.url).map_err(|e| ConfigError::new("url", format!("is no address: {e}")))?;
        // Each attempt's time is the layer's.
        let mut client = Client::builder().redirect(reqwest::redirect::Policy::none()).user_agent(concat!("karez/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &options.ca {
            let certificates = Certificate::from_pem_bundle(&file("ca", path)?).map_err(|e| no_pem("ca", path, &e))?;
            if certificates.is_empty() {
                return Err(ConfigError::new("ca", format!("`{path}` holds no certificate")).into());
            }
            client = client.tls_built_in_root_certs(false);
            client = certificates.into_iter().fold(client, reqwest::ClientBuilder::add_root_certificate);
        }
        if let (Some(certificate), Some(key)) = (&options.certificate, &options.key) {
            key_pair::check(("certificate", certificate), ("key", key))?;
            let pem = [file("certificate", certificate)?, b"\n".to_vec(), file("key", key)?].concat();
            client = client.identity(Identity::from_pem(&pem).map_err(|e| no_pem("certificate", certificate, &e))?);
        }
        let client = client.build().map_err(|e| ConfigError::new("", format!("no client of the registry can be made: {}", told(&e))))?;
        let who = match (&options.username, &options.token) {
            (Some(username), _) => Who::User(username.clone(), options.password.clone()),
            (None, Some(token)) => Who::Token(token.clone()),
            (None, None) => Who::Nobody,
        };
        let calls = ExternalCalls::new(format!("the schema registry {}", options.url), &options.external);
        Ok(Self { client, base, who, calls, patient: true })
    }

    /// The same, counted in the metrics of a node.
    pub(super) fn counted_by(&self, metrics: std::sync::Arc<karez_core::metrics::NodeMetrics>) -> Self {
        Self { calls: self.calls.counted_by(metrics), ..self.clone() }
    }

    /// The same that makes each call once, for who is there to be told at once that the registry is away.
    pub(super) fn impatient(&self) -> Self {
        Self { patient: false, ..self.clone() }
    }

    /// Asks, and reads the answer. `what`: for a person. The inner error: it is not there.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        what: &str,
        method: Method,
        path: &[&str],
        body: Option<Value>,
    ) -> Result<Result<T, NotThere>> {
        let url = self.url(path)?;
        let attempt = || self.once(what, method.clone(), url.clone(), body.as_ref());
        let answer = if self.patient { self.calls.call(what, attempt).await? } else { self.calls.once(what, attempt()).await? };
        match answer {
            Err(not_there) => Ok(Err(not_there)),
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(answer) => Ok(Ok(answer)),
                Err(e) => Err(Error::external(format!("{}: {what}: the answer is not the API's: {e}: {}", self.name(), shown(&bytes)))),
            },
        }
    }

    fn url(&self, path: &[&str]) -> Result<Url> {
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().extend(path),
            Err(()) => return Err(Error::user(format!("{} is no address of a registry", self.base))),
        };
        Ok(url)
    }

    fn name(&self) -> String {
        format!("the schema registry {}", self.base)
    }

    async fn once(&self, what: &str, method: Method, url: Url, body: Option<&Value>) -> Result<Result<Vec<u8>, NotThere>> {
        let mut request = self.client.request(method, url).header("Accept", format!("{MEDIA_TYPE}, application/json"));
        request = match &self.who {
            Who::Nobody => request,
            Who::User(name, password) => request.basic_auth(name, password.as_ref().map(Secret::expose)),
            Who::Token(token) => request.bearer_auth(token.expose()),
        };
        if let Some(body) = body {
            request = request.header("Content-Type", MEDIA_TYPE).body(body.to_string());
        }
        let away = |e: reqwest::Error| {
            let of_certificate = is_of_certificate(&e);
            let message = format!("{}: {what}: {}", self.name(), told(&e.without_url()));
            if of_certificate { Error::external(format!("{message}; see `ca`, `certificate` and `key`")) } else { Error::connection(message) }
        };
        let mut response = request.send().await.map_err(away)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(away)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_BYTES_LIMIT {
                return Err(Error::external(format!("{}: {what}: the answer is longer than {ANSWER_BYTES_LIMIT} bytes", self.name())));
            }
        }
        if status.is_success() { Ok(Ok(bytes)) } else { self.refused(what, status, &bytes) }
    }

    /// What an answer that is no success means.
    fn refused(&self, what: &str, status: StatusCode, bytes: &[u8]) -> Result<Result<Vec<u8>, NotThere>> {
        let refusal: Refusal = serde_json::from_slice(bytes).unwrap_or_default();
        let said = if refusal.message.is_empty() { shown(bytes) } else { refusal.message.clone() };
        let message = format!("{}: {what}: {status}: {said}", self.name());
        Err(match (status, refusal.error_code) {
            (StatusCode::NOT_FOUND, 40_401..=40_499) => return Ok(Err(NotThere(said))),
            (StatusCode::NOT_FOUND, _) => Error::user(format!("{message}; there is no registry with Confluent's API at this address (`url`)")),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                Error::external(format!("{message}; see `username`, `password`, `token` and the user's rights"))
            }
            (StatusCode::CONFLICT, _) => Error::user(format!("{message}; the schema is not compatible with the versions of its subject")),
            (StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST, _) => Error::user(message),
            (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => Error::connection(message),
            (status, _) if status.is_server_error() => Error::connection(message),
            _ => Error::external(message),
        })
    }
}

fn file(key: &str, path: &str) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|e| ConfigError::new(key, format!("cannot read `{path}`: {e}")))
}

fn no_pem(key: &str, path: &str, e: &reqwest::Error) -> ConfigError {
    ConfigError::new(key, format!("`{path}` is no PEM file of it: {}", told(e)))
}

/// What a client says, with its causes: by itself it says only that something failed.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(SHOWN_CHARS).collect()
}
