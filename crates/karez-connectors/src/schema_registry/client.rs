//! The registry as sources and sinks use it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use karez_core::config::ConfigErrors;
use karez_core::metrics::NodeMetrics;
use karez_core::{Error, Result};
use karez_formats::message::{MessageDecoder, MessageEncoder, RegisteredSchema, Registration, SchemaId};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cache::{Cache, Known};
use super::http::{Http, NotThere};
use super::references::{Answer, complete};
use super::{Part, SchemaRegistryOptions};

/// A schema registry: one for a node, cloned into its readers and writers, which share limits and cache.
#[derive(Clone)]
pub struct SchemaRegistry {
    options: Arc<SchemaRegistryOptions>,
    http: Http,
    cache: Arc<Cache>,
}

/// The latest version of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// Its id.
    pub id: SchemaId,
    /// The schema.
    pub schema: RegisteredSchema,
}

/// Whether a schema may become the next version of a subject.
#[derive(Debug, Deserialize)]
struct Compatibility {
    is_compatible: bool,
    messages: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Id {
    id: u32,
}

impl SchemaRegistry {
    /// A client; nothing is called yet.
    ///
    /// # Errors
    ///
    /// Options that cannot be meant, and certificates that cannot be read; at keys below `schemaRegistry`.
    pub fn new(options: &SchemaRegistryOptions) -> Result<Self, ConfigErrors> {
        options.check()?;
        let http = Http::new(options)?;
        let cache = Arc::new(Cache::new(options.cache_size, options.negative_cache.0));
        Ok(Self { options: Arc::new(options.clone()), http, cache })
    }

    /// The same registry and cache, counted in the metrics of a node.
    #[must_use]
    pub fn counted_by(&self, metrics: Arc<NodeMetrics>) -> Self {
        Self { http: self.http.counted_by(metrics), ..self.clone() }
    }

    /// Its options.
    #[must_use]
    pub fn options(&self) -> &SchemaRegistryOptions {
        &self.options
    }

    /// Whether it is there and lets us in. Asked once.
    ///
    /// # Errors
    ///
    /// It is away, or it does not.
    pub async fn check(&self) -> Result<()> {
        let answer: Result<Value, NotThere> =
            self.http.impatient().ask("asking which types it has", Method::GET, &["schemas", "types"], None).await?;
        answer.map(drop).map_err(|NotThere(why)| Error::external(format!("{self}: {why}")))
    }

    /// The schema of an id; inside, why there is none, which makes the messages that name it bad records. Asked for once, however many ask.
    ///
    /// # Errors
    ///
    /// The registry is away, or refuses.
    pub async fn schema(&self, id: SchemaId) -> Result<Result<RegisteredSchema, String>> {
        let entry = self.cache.entry(id);
        let mut known = entry.lock().await;
        match &*known {
            Known::Schema(schema) => return Ok(Ok(schema.clone())),
            Known::None(reason, until) if Instant::now() < *until => return Ok(Err(reason.clone())),
            Known::Nothing | Known::None(_, _) => {}
        }
        let number = id.to_string();
        let answer = self.http.ask(&format!("asking for schema {id}"), Method::GET, &["schemas", "ids", &number], None).await?;
        let found = match answer {
            Ok(answer) => complete(&self.http, answer).await?,
            Err(not_there) => Err(not_there),
        };
        match found {
            Ok(schema) => {
                *known = Known::Schema(schema.clone());
                Ok(Ok(schema))
            }
            Err(NotThere(why)) => {
                let reason = format!("the schema registry does not have it: {why}");
                *known = self.cache.none(reason.clone());
                Ok(Err(reason))
            }
        }
    }

    /// The latest version of a subject; `None` where there is no such subject.
    ///
    /// # Errors
    ///
    /// The registry is away, or refuses.
    pub async fn latest(&self, subject: &str) -> Result<Option<Latest>> {
        let what = format!("asking for the latest version of the subject `{subject}`");
        let answer: Result<Answer, NotThere> = self.http.ask(&what, Method::GET, &["subjects", subject, "versions", "latest"], None).await?;
        let Ok(answer) = answer else { return Ok(None) };
        let id = SchemaId(answer.id);
        match complete(&self.http, answer).await? {
            Ok(schema) => Ok(Some(Latest { id, schema })),
            Err(NotThere(why)) => Err(Error::external(format!("{self}: the subject `{subject}`: {why}"))),
        }
    }

    /// [`latest`](Self::latest) for planning, which is not asynchronous: it may block for as long as the registry is given to answer once.
    ///
    /// # Errors
    ///
    /// The registry is away, or refuses.
    pub fn latest_blocking(options: &SchemaRegistryOptions, subject: &str) -> Result<Option<Latest>> {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| Error::internal("a runtime for asking the schema registry").caused_by(e))?;
            // A client of its own: connections belong to the runtime that opened them.
            runtime.block_on(async {
                let registry = Self::new(options)?;
                Self { http: registry.http.impatient(), ..registry }.latest(subject).await
            })
        };
        // On a thread of its own: the planner's may belong to a runtime, which does not let a second one be driven there.
        std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|_| Err(Error::internal("asking the schema registry panicked")))
    }

    /// Registers a schema under a subject; the id of one that is there already is the same.
    ///
    /// # Errors
    ///
    /// The registry is away, or refuses; the schema is not compatible with the versions before.
    pub async fn register(&self, subject: &str, schema: &Registration) -> Result<SchemaId> {
        let what = format!("registering a schema under the subject `{subject}`");
        let answer: Result<Id, NotThere> = self.http.ask(&what, Method::POST, &["subjects", subject, "versions"], Some(body(schema))).await?;
        answer.map(|a| SchemaId(a.id)).map_err(|NotThere(why)| Error::external(format!("{self}: {what}: {why}")))
    }

    /// The id of a schema that is registered under a subject.
    ///
    /// # Errors
    ///
    /// It is not; the registry is away, or refuses.
    pub async fn registered(&self, subject: &str, schema: &Registration) -> Result<SchemaId> {
        let what = format!("looking for the schema under the subject `{subject}`");
        let answer: Result<Id, NotThere> = self.http.ask(&what, Method::POST, &["subjects", subject], Some(body(schema))).await?;
        answer.map(|a| SchemaId(a.id)).map_err(|NotThere(why)| {
            Error::user(format!(
                "{self}: the subject `{subject}` does not have the schema of the rows ({why}); register it, or set `autoRegister: true` or `useLatestVersion: true`: {}",
                schema.text
            ))
        })
    }

    /// Whether a schema may become the next version of a subject, and if not, why. A subject that is not there takes any.
    ///
    /// # Errors
    ///
    /// The registry is away, or refuses.
    pub async fn incompatible(&self, subject: &str, schema: &Registration) -> Result<Option<String>> {
        let what = format!("asking whether a schema fits the subject `{subject}`");
        let path = ["compatibility", "subjects", subject, "versions", "latest"];
        let answer: Result<Compatibility, NotThere> = self.http.ask(&what, Method::POST, &path, Some(body(schema))).await?;
        let refused = answer.ok().filter(|a| !a.is_compatible);
        Ok(refused.map(|a| a.messages.filter(|m| !m.is_empty()).map_or_else(|| "the registry does not say why".to_owned(), |m| m.join("; "))))
    }

    /// Gives a decoder the schema that it needs.
    ///
    /// # Errors
    ///
    /// The registry is away, or refuses; then nothing has been given, and this may be called again.
    pub async fn provide(&self, decoder: &mut dyn MessageDecoder, id: SchemaId) -> Result<()> {
        let schema = self.schema(id).await?;
        decoder.provide(id, schema);
        Ok(())
    }

    /// Gives an encoder the id of its schema, which is registered, looked for, or the subject's latest, as the options say. Nothing is done for an
    /// encoder that needs none. `subject`: what the format says.
    ///
    /// # Errors
    ///
    /// The registry is away, or refuses; the schema is not there, or does not fit.
    pub async fn prepare(&self, encoder: &mut dyn MessageEncoder, subject: Option<&str>, topic: &str, part: Part) -> Result<()> {
        let Some(registration) = encoder.registration() else { return Ok(()) };
        let subject = self.options.subject(subject, topic, part, Some(&registration.record_name)).map_err(|e| Error::user(e.to_string()))?;
        if self.options.use_latest_version {
            let latest = self.latest(&subject).await?;
            let latest =
                latest.ok_or_else(|| Error::user(format!("{self}: there is no subject `{subject}`, whose latest version is to be written")))?;
            if latest.schema.kind != registration.kind {
                let (is, wanted) = (latest.schema.kind.name(), registration.kind.name());
                return Err(Error::user(format!("{self}: the schemas of the subject `{subject}` are {is}, not {wanted}")));
            }
            return encoder.registered(latest.id, Some(latest.schema));
        }
        let id =
            if self.options.auto_register { self.register(&subject, registration).await? } else { self.registered(&subject, registration).await? };
        encoder.registered(id, None)
    }
}

/// A schema as the API takes it.
fn body(schema: &Registration) -> Value {
    json!({ "schema": schema.text, "schemaType": schema.kind.name() })
}

impl fmt::Display for SchemaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the schema registry {}", self.options.url)
    }
}

impl fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaRegistry").field("options", &self.options).finish_non_exhaustive()
    }
}
