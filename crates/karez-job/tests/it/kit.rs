//! A small registry, and shorthands.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use karez_core::config::{self, ByteSize, ConfigErrors, Secret, Span};
use karez_core::operator::{MAIN, OutputPort};
use karez_core::sink::{SinkGuarantee, WriterContext};
use karez_core::source::{ReaderContext, Replay};
use karez_core::{
    Boundedness, Connector, Error, Operator, OperatorContext, OperatorFactory, OperatorSpec, PlanContext, Registry, Result, Sink, SinkContext,
    SinkWriter, Source, SourceContext, Split, SplitEnumerator, SplitReader, StreamSchema,
};
use karez_graph::{Implementation, NodeKind, StreamGraph, StreamNode};
use karez_job::{Diagnostics, JobFile};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

pub fn parse(text: &str) -> JobFile {
    JobFile::parse("job.yaml", text).unwrap_or_else(|e| panic!("{e}"))
}

/// The errors, one a line: `line:column message | help`.
pub fn problems(text: &str) -> String {
    lines(&JobFile::parse("job.yaml", text).expect_err("the file was read"))
}

pub fn plan_problems(text: &str) -> String {
    match JobFile::parse_and_plan("job.yaml", text, &registry()) {
        Ok(_) => panic!("the job was planned"),
        Err(e) => lines(&e),
    }
}

pub fn lines(d: &Diagnostics) -> String {
    let line = |i: &karez_job::Diagnostic| {
        let at = d.line_column(i).map_or_else(String::new, |(l, c)| format!("{l}:{c} "));
        format!("{at}{}{}", i.message, i.help.as_ref().map_or_else(String::new, |h| format!(" | {h}")))
    };
    d.items().iter().map(line).collect::<Vec<_>>().join("\n")
}

/// `from.port -> to`, one a line.
pub fn edges(graph: &StreamGraph) -> String {
    graph.edges.iter().map(|e| format!("{}.{} -> {}", e.from, e.port, e.to)).collect::<Vec<_>>().join("\n")
}

pub fn node<'g>(graph: &'g StreamGraph, name: &str) -> &'g StreamNode {
    graph.nodes.iter().find(|n| n.name == name).unwrap()
}

pub fn options<'g>(graph: &'g StreamGraph, name: &str) -> (&'g str, &'g Value) {
    fn named<T: ?Sized>(i: &Implementation<T>) -> (&str, &Value) {
        match i {
            Implementation::Named { name, config } => (name, config),
            Implementation::InCode(_) => panic!("in code"),
        }
    }
    match &node(graph, name).kind {
        NodeKind::Source { connector, .. } => named(connector),
        NodeKind::Operator(o) => named(o),
        NodeKind::Sink(s) => named(s),
    }
}

pub fn registry() -> Registry {
    Registry::new().with_connector(Queue).with_connector(Table).with_operator(Step("filter")).with_operator(Step("map"))
}

/// Where rows come from.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code)]
struct QueueOptions {
    /// The servers.
    bootstrap_servers: String,
    /// What is read.
    #[serde(default)]
    topics: Vec<String>,
    /// How bytes become rows.
    #[serde(default)]
    format: Option<Format>,
}

/// How bytes become rows.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code)]
struct Format {
    /// Text between columns.
    delimiter: String,
}

struct Queue;

impl Connector for Queue {
    fn name(&self) -> &'static str {
        "kafka"
    }
    fn description(&self) -> &'static str {
        "A log.\nMore."
    }
    fn source_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(QueueOptions))
    }
    fn source(&self, context: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
        config::parse::<QueueOptions>(context.config)?;
        let default = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        Ok(Arc::new(QueueSource(StreamSchema::append_only(context.schema.cloned().unwrap_or(default)))))
    }
    fn sink(&self, _: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
        Err(karez_core::config::ConfigError::new("", "no sink").into())
    }
}

struct QueueSource(StreamSchema);

#[async_trait]
impl Source for QueueSource {
    fn schema(&self) -> StreamSchema {
        self.0.clone()
    }
    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }
    fn replay(&self) -> Replay {
        Replay::Exact
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
    async fn enumerator(&self, _: Option<Value>) -> Result<Box<dyn SplitEnumerator>> {
        Err(Error::internal("planning only"))
    }
    async fn open(&self, _: &Split, _: ReaderContext) -> Result<Box<dyn SplitReader>> {
        Err(Error::internal("planning only"))
    }
}

/// Where rows go.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code)]
struct TableOptions {
    /// The database.
    url: String,
    /// The table.
    #[serde(default)]
    table: String,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<Secret>,
    #[serde(default)]
    batch_size: Option<usize>,
    #[serde(default)]
    flush_interval: Option<Span>,
    #[serde(default)]
    memory: Option<ByteSize>,
}

struct Table;

impl Connector for Table {
    fn name(&self) -> &'static str {
        "jdbc"
    }
    fn description(&self) -> &'static str {
        "A table."
    }
    fn sink_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(TableOptions))
    }
    fn source(&self, _: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
        Err(karez_core::config::ConfigError::new("", "no source").into())
    }
    fn check_sink(&self, config: &Value) -> Result<(), ConfigErrors> {
        config::parse::<TableOptions>(config).map(drop)
    }
    fn sink(&self, context: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
        config::parse::<TableOptions>(context.config)?;
        Ok(Arc::new(TableSink))
    }
}

struct TableSink;

#[async_trait]
impl Sink for TableSink {
    fn guarantee(&self) -> SinkGuarantee {
        SinkGuarantee::AtLeastOnce
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
    async fn writer(&self, _: WriterContext, _: Vec<Value>) -> Result<Box<dyn SinkWriter>> {
        Err(Error::internal("planning only"))
    }
}

/// What a filter is told.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code)]
struct StepOptions {
    /// The rows that stay.
    #[serde(default)]
    r#where: Option<String>,
}

struct Step(&'static str);

impl OperatorFactory for Step {
    fn name(&self) -> &'static str {
        self.0
    }
    fn description(&self) -> &'static str {
        "A step."
    }
    fn options(&self) -> schemars::Schema {
        schemars::schema_for!(StepOptions)
    }
    fn plan(&self, context: PlanContext<'_>) -> Result<Arc<dyn OperatorSpec>, ConfigErrors> {
        config::parse::<StepOptions>(context.config)?;
        Ok(Arc::new(Planned(vec![OutputPort { name: MAIN.into(), schema: context.inputs[0].clone() }])))
    }
}

struct Planned(Vec<OutputPort>);

impl OperatorSpec for Planned {
    fn outputs(&self) -> &[OutputPort] {
        &self.0
    }
    fn create(&self, _: OperatorContext<'_>) -> Result<Box<dyn Operator>> {
        Err(Error::internal("planning only"))
    }
}
