//! Log lines: plain text, or the JSON of §7.4 of the design document.

use std::fmt as std_fmt;

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::load::color;
use super::progress::LogOutput;

/// What is logged where `KAREZ_LOG` does not say. A topic that is not there is said by whoever needs it, and not again with each look at the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LogDefault {
    /// Of a job that runs.
    Running,
    /// Of a look at a job file: with notes on its plan, and without what connectors have to say; a connection that fails is what the command says itself.
    Planning,
    /// Of what else looks at a job.
    Quiet,
}

impl LogDefault {
    const fn filter(self) -> &'static str {
        match self {
            Self::Running => "info,datafusion=warn,krafka::metadata=error",
            Self::Planning => "warn,karez::cli::load=info,krafka::metadata=error,krafka::network=off",
            Self::Quiet => "warn,krafka::metadata=error",
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Log lines go to standard error, by `KAREZ_LOG` (such as `debug` or `karez_runtime=trace`).
pub(crate) fn init(format: LogFormat, default: LogDefault) {
    let asked = std::env::var("KAREZ_LOG").unwrap_or_default();
    let asked = if asked.is_empty() { default.filter() } else { &asked };
    // The parser writes SQL into its debug lines, with the environment's values, which may be secrets.
    let filter = EnvFilter::try_new(format!("{asked},sqlparser=info")).unwrap_or_else(|_| EnvFilter::new(default.filter()));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| LogOutput);
    match format {
        LogFormat::Text => builder.with_ansi(color()).with_target(false).compact().init(),
        LogFormat::Json => builder.event_format(JsonLines).init(),
    }
}

struct JsonLines;

#[derive(Default)]
struct Fields {
    message: String,
    event: Option<String>,
    job_id: Option<Value>,
    job_name: Option<Value>,
    metadata: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        match field.name() {
            "message" => self.message = text(&value),
            "event" => self.event = Some(text(&value)),
            "job_id" => self.job_id = Some(value),
            "job_name" => self.job_name = Some(value),
            name => {
                self.metadata.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std_fmt::Debug) {
        self.put(field, Value::String(format!("{value:?}")));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::String(value.to_owned()));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, json!(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, json!(value));
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, json!(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, json!(value));
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> std_fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let target = event.metadata().target();
        let mut line = json!({
            "timestamp": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            "level": event.metadata().level().as_str(),
            "logger": target.rsplit("::").next().unwrap_or(target),
        });
        if let Value::Object(map) = &mut line {
            let named = [("jobId", fields.job_id), ("jobName", fields.job_name), ("event", fields.event.map(Value::String))];
            map.extend(named.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?))));
            map.insert("message".into(), Value::String(fields.message));
            if !fields.metadata.is_empty() {
                map.insert("metadata".into(), Value::Object(fields.metadata));
            }
        }
        writeln!(writer, "{line}")
    }
}
