//! Validates the options of a sink against the rows it will get.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::error::did_you_mean;
use karez_core::metrics::NodeMetrics;
use karez_core::schema::{change_field, is_event_time_type};
use karez_core::sql_type::to_sql;
use karez_core::{ChangeMode, Result, SinkContext};
use karez_formats::message::{EncodePlan, EncodeRequest, JsonMessageOptions, MessageEncoder, MessageFormat, RawMessageOptions};

use super::options::{Guarantee, KafkaSinkOptions};
use super::settings::ProducerSettings;
use crate::kafka::client::{ClientConfig, ConnectionOptions};
use crate::kafka::properties::PropertyReader;
use crate::schema_registry::{Part, SchemaRegistry, SubjectStrategy};

/// A sink as its options describe it. Columns are positions among the visible ones.
#[derive(Debug)]
pub(super) struct SinkPlan {
    pub(super) client: ClientConfig,
    pub(super) topic: TopicPlan,
    pub(super) value: Encoding,
    pub(super) key: Option<Encoding>,
    /// The names of the key's columns.
    pub(super) key_names: Vec<String>,
    pub(super) partition: Option<usize>,
    pub(super) timestamp: Option<usize>,
    pub(super) headers: Vec<(String, usize)>,
    pub(super) more_headers: Option<usize>,
    pub(super) changelog: bool,
    pub(super) transactional: bool,
    pub(super) transactional_id_prefix: Option<String>,
    pub(super) settings: ProducerSettings,
    registry: Option<SchemaRegistry>,
}

/// What turns rows into values and keys.
pub(super) struct Encoders {
    pub(super) values: Box<dyn MessageEncoder>,
    pub(super) keys: Option<Box<dyn MessageEncoder>>,
}

/// Where rows go.
#[derive(Debug)]
pub(super) enum TopicPlan {
    Fixed(Arc<str>),
    Column { column: usize, prefix: String },
}

/// How columns become bytes.
#[derive(Debug)]
pub(super) struct Encoding {
    pub(super) plan: EncodePlan,
    pub(super) columns: Vec<usize>,
    /// The subject of its schema, where one is given.
    subject: Option<String>,
    /// Whether its messages name schemas of the registry.
    registered: bool,
}

impl SinkPlan {
    pub(super) fn new(context: SinkContext<'_>) -> Result<Self, ConfigErrors> {
        let options: KafkaSinkOptions = karez_core::config::parse(context.config)?;
        let mut errors = Vec::new();
        let mut properties = PropertyReader::new(&options.properties);
        let connection = ConnectionOptions {
            bootstrap_servers: options.bootstrap_servers.as_ref(),
            client_id: options.client_id.as_deref(),
            security: options.security.as_ref(),
            external: options.external.as_ref(),
        };
        let client = ClientConfig::plan(connection, &mut properties, &mut errors);
        let transactional = match options.guarantee {
            Some(guarantee) => guarantee == Guarantee::Transactional,
            None => context.exactly_once,
        };
        if context.exactly_once && !transactional {
            errors.push(ConfigError::new("guarantee", "the job's `delivery` is exactly-once").hint("remove `guarantee`"));
        }
        let settings = ProducerSettings::plan(&options, transactional, &mut properties, &mut errors);
        errors.extend(properties.finish());

        let input = context.input.visible();
        let changelog = context.input.change_mode == ChangeMode::Changelog;
        let columns = Columns(&input);
        let topic = topic(&options, columns, &mut errors);
        let partition = columns.optional("partitionColumn", options.partition_column.as_deref(), &mut errors);
        columns.typed("partitionColumn", partition, "an integer", DataType::is_integer, &mut errors);
        let timestamp = columns.optional("timestampColumn", options.timestamp_column.as_deref(), &mut errors);
        columns.typed(
            "timestampColumn",
            timestamp,
            "a timestamp or an integer (milliseconds)",
            |t| t.is_integer() || is_event_time_type(t),
            &mut errors,
        );
        let headers = options
            .headers
            .iter()
            .filter_map(|(name, column)| Some((name.clone(), columns.required(&format!("headers.{name}"), column, &mut errors)?)));
        let headers: Vec<_> = headers.collect();
        for (name, column) in &headers {
            let scalar = |t: &DataType| !t.is_nested();
            columns.typed(&format!("headers.{name}"), Some(*column), "no list, map or struct", scalar, &mut errors);
        }
        let more_headers = columns.optional("headersColumn", options.headers_column.as_deref(), &mut errors);
        columns.typed("headersColumn", more_headers, "a map from text to text or binary, or a list of such pairs", is_headers, &mut errors);

        let key_names = options.key.as_ref().map(|k| k.columns().to_vec()).unwrap_or_default();
        let key = key(&options, columns, &mut errors);
        let topic_column = match &topic {
            Some(TopicPlan::Column { column, .. }) => Some(*column),
            _ => None,
        };
        let value = value(&options, columns, &[topic_column, partition, more_headers], changelog, &mut errors);
        if changelog && key_names.is_empty() {
            errors.push(
                ConfigError::new("key", "the rows are a changelog, so messages need a key: by which columns are rows replaced and deleted?")
                    .hint("write it like `key: [id]`"),
            );
        }
        let registry = options.schema_registry.as_ref().map(SchemaRegistry::new).transpose();
        let registry = registry.map_err(|e| errors.extend(e.0.into_iter().map(|e| e.under("schemaRegistry")))).ok().flatten();
        let encodings = [("key.format", key.as_ref()), ("format", value.as_ref())];
        let registered: Vec<(&str, &Encoding)> = encodings.iter().filter_map(|(path, e)| e.filter(|e| e.registered).map(|e| (*path, e))).collect();
        if registry.is_some() && registered.is_empty() && value.is_some() {
            let e = ConfigError::new("schemaRegistry", "neither values nor keys have a format that names schemas of a registry");
            errors.push(e.hint("leave it out, or use `avro`, `protobuf` or `json`"));
        }
        let by_topic = registry.as_ref().is_some_and(|r| r.options().subject_strategy != SubjectStrategy::Record);
        if by_topic && topic_column.is_some() {
            for (path, _) in registered.iter().filter(|(_, e)| e.subject.is_none()) {
                let e = ConfigError::new(format!("{path}.subject"), "is missing: with `topicColumn` there is no one topic to name the subject by");
                errors.push(e.hint("give it, or `schemaRegistry.subjectStrategy: record`"));
            }
        }
        if options.transactional_id_prefix.as_deref().is_some_and(str::is_empty) {
            errors.push(ConfigError::new("transactionalIdPrefix", "must not be empty"));
        }
        let (Some(client), Some(topic), Some(value), true) = (client, topic, value, errors.is_empty()) else { return Err(ConfigErrors(errors)) };
        Ok(Self {
            client,
            topic,
            value,
            key,
            key_names,
            partition,
            timestamp,
            headers,
            more_headers,
            changelog,
            transactional,
            transactional_id_prefix: options.transactional_id_prefix,
            settings,
            registry,
        })
    }

    /// Encoders that know the ids of their schemas.
    pub(super) async fn encoders(&self, metrics: &Arc<NodeMetrics>) -> Result<Encoders> {
        let values = self.encoder(&self.value, Part::Value, metrics).await?;
        let keys = match &self.key {
            Some(key) => Some(self.encoder(key, Part::Key, metrics).await?),
            None => None,
        };
        Ok(Encoders { values, keys })
    }

    async fn encoder(&self, encoding: &Encoding, part: Part, metrics: &Arc<NodeMetrics>) -> Result<Box<dyn MessageEncoder>> {
        let mut encoder = encoding.plan.encoder()?;
        if let Some(registry) = &self.registry {
            // With a topic for each row the subject is not named by one.
            let topic = if let TopicPlan::Fixed(name) = &self.topic { name } else { "" };
            registry.counted_by(Arc::clone(metrics)).prepare(encoder.as_mut(), encoding.subject.as_deref(), topic, part).await?;
        }
        Ok(encoder)
    }

    /// Whether the registry is there, if one is used.
    pub(super) async fn check_registry(&self) -> Result<()> {
        match &self.registry {
            // A client of its own: the runtime that checks may not live as long as the job.
            Some(registry) => SchemaRegistry::new(registry.options())?.check().await,
            None => Ok(()),
        }
    }
}

fn topic(options: &KafkaSinkOptions, columns: Columns<'_>, errors: &mut Vec<ConfigError>) -> Option<TopicPlan> {
    match (&options.topic, &options.topic_column) {
        (Some(topic), None) => {
            let name = format!("{}{topic}", options.topic_prefix);
            if let Err(why) = check_topic(&name) {
                errors.push(ConfigError::new("topic", why));
                return None;
            }
            Some(TopicPlan::Fixed(name.into()))
        }
        (None, Some(column)) => {
            let column = columns.required("topicColumn", column, errors)?;
            columns.typed("topicColumn", Some(column), "text", |t| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View), errors);
            Some(TopicPlan::Column { column, prefix: options.topic_prefix.clone() })
        }
        (Some(_), Some(_)) => {
            errors.push(ConfigError::new("topicColumn", "`topic` is given too; give one of them"));
            None
        }
        (None, None) => {
            errors.push(ConfigError::new("topic", "missing").hint("the topic to write to, or `topicColumn`"));
            None
        }
    }
}

/// Whether a topic can be called so.
pub(super) fn check_topic(name: &str) -> Result<(), String> {
    krafka::__private::protocol::validate_topic_name(name)
        .map_err(|_| format!("`{name}` is no name of a topic: 1 to 249 letters, digits, `.`, `_` and `-`"))
}

fn key(options: &KafkaSinkOptions, columns: Columns<'_>, errors: &mut Vec<ConfigError>) -> Option<Encoding> {
    let key = options.key.as_ref()?;
    if key.columns().is_empty() {
        errors.push(ConfigError::new("key", "names no column").hint("write it like `key: [id]`"));
        return None;
    }
    let positions = columns.list("key", key.columns(), errors)?;
    let fields: Vec<FieldRef> = positions.iter().map(|&c| Arc::clone(&columns.0.fields()[c])).collect();
    let raw = || matches!(fields.as_slice(), [f] if matches!(f.data_type(), DataType::Utf8 | DataType::Binary));
    let default = if raw() { MessageFormat::Raw(RawMessageOptions::default()) } else { MessageFormat::Json(JsonMessageOptions::default()) };
    let schema = Arc::new(Schema::new(fields.clone()));
    encoding("key.format", key.format().unwrap_or(&default), schema, positions, options.schema_registry.is_some(), errors)
}

/// `apart`: columns that say where the row goes.
fn value(
    options: &KafkaSinkOptions,
    columns: Columns<'_>,
    apart: &[Option<usize>],
    changelog: bool,
    errors: &mut Vec<ConfigError>,
) -> Option<Encoding> {
    let positions = match &options.columns {
        Some(names) => columns.list("columns", names, errors)?,
        None => (0..columns.0.fields().len()).filter(|c| !apart.contains(&Some(*c))).collect(),
    };
    let mut fields: Vec<FieldRef> = positions.iter().map(|&c| Arc::clone(&columns.0.fields()[c])).collect();
    if changelog {
        fields.push(Arc::new(change_field()));
    }
    let default = MessageFormat::Json(JsonMessageOptions::default());
    let registry = options.schema_registry.is_some();
    encoding("format", options.format.as_ref().unwrap_or(&default), Arc::new(Schema::new(fields)), positions, registry, errors)
}

fn encoding(
    path: &str,
    format: &MessageFormat,
    schema: SchemaRef,
    columns: Vec<usize>,
    registry: bool,
    errors: &mut Vec<ConfigError>,
) -> Option<Encoding> {
    match EncodePlan::new(EncodeRequest { format, schema: &schema, registry }) {
        Ok(plan) => Some(Encoding { plan, columns, subject: format.subject().map(str::to_owned), registered: format.uses_registry(registry) }),
        Err(e) => {
            errors.extend(e.0.into_iter().map(|e| e.under(path)));
            None
        }
    }
}

/// What holds headers: a map, or a list of pairs.
fn is_headers(data_type: &DataType) -> bool {
    let (DataType::Map(entries, _) | DataType::List(entries)) = data_type else { return false };
    let DataType::Struct(fields) = entries.data_type() else { return false };
    matches!(fields.as_ref(), [name, value] if name.data_type() == &DataType::Utf8 && matches!(value.data_type(), DataType::Utf8 | DataType::Binary))
}

/// The visible columns of the rows.
#[derive(Clone, Copy)]
struct Columns<'a>(&'a SchemaRef);

impl Columns<'_> {
    fn required(self, path: &str, name: &str, errors: &mut Vec<ConfigError>) -> Option<usize> {
        if let Some((position, _)) = self.0.column_with_name(name) {
            return Some(position);
        }
        let names = || self.0.fields().iter().map(|f| f.name().as_str());
        let error = ConfigError::new(path, format!("the rows have no column `{name}`"));
        errors.push(match did_you_mean(name, names()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("columns: {}", names().collect::<Vec<_>>().join(", "))),
        });
        None
    }

    fn optional(self, path: &str, name: Option<&str>, errors: &mut Vec<ConfigError>) -> Option<usize> {
        self.required(path, name?, errors)
    }

    /// All of them, each once.
    fn list(self, path: &str, names: &[String], errors: &mut Vec<ConfigError>) -> Option<Vec<usize>> {
        for (i, name) in names.iter().enumerate().filter(|(i, name)| names[..*i].contains(name)) {
            errors.push(ConfigError::new(format!("{path}[{i}]"), format!("`{name}` is named twice")));
        }
        let found: Vec<_> = names.iter().enumerate().map(|(i, name)| self.required(&format!("{path}[{i}]"), name, errors)).collect();
        found.into_iter().collect()
    }

    fn typed(self, path: &str, column: Option<usize>, expected: &str, fits: impl Fn(&DataType) -> bool, errors: &mut Vec<ConfigError>) {
        let Some(field) = column.and_then(|c| self.0.fields().get(c)) else { return };
        if !fits(field.data_type()) {
            errors.push(ConfigError::new(path, format!("the column `{}` is {}; expected {expected}", field.name(), to_sql(field.data_type()))));
        }
    }
}
