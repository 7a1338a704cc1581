//! A small registry: a source, a sink and operators that show every property the planner looks at.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use karez_core::config::{self, ConfigError, ConfigErrors};
use karez_core::operator::{Determinism, MAIN, OutputPort};
use karez_core::schema::{CHANGE_COLUMN, HIDDEN_PREFIX, change_field};
use karez_core::sink::{SinkGuarantee, WriterContext};
use karez_core::source::{ReaderContext, Replay};
use karez_core::{
    Boundedness, ChangeMode, Connector, Distribution, Error, Operator, OperatorContext, OperatorFactory, OperatorSpec, PlanContext, Registry, Result,
    Sink, SinkContext, SinkWriter, Source, SourceContext, Split, SplitEnumerator, SplitReader, StreamSchema,
};
use karez_graph::{Implementation, JobGraph, JobSettings, PlanErrors, StreamGraph, StreamGraphBuilder};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

pub fn registry() -> Registry {
    Registry::new()
        .with_connector(Rows)
        .with_connector(Memory)
        .with_operator(Op("filter"))
        .with_operator(Op("map"))
        .with_operator(Op("window"))
        .with_operator(Op("split"))
        .with_operator(Op("count"))
        .with_operator(Op("union"))
        .with_operator(Op("top"))
}

pub fn settings() -> JobSettings {
    JobSettings { name: "test".into(), id: "test".into(), ..JobSettings::default() }
}

pub fn graph() -> StreamGraphBuilder {
    StreamGraph::builder(settings())
}

pub fn source(config: Value) -> Implementation<dyn Source> {
    Implementation::named("rows", config)
}

pub fn op(name: &str, config: Value) -> Implementation<dyn OperatorSpec> {
    Implementation::named(name, config)
}

pub fn sink(config: Value) -> Implementation<dyn Sink> {
    Implementation::named("memory", config)
}

pub fn plan(graph: &StreamGraphBuilder) -> Result<JobGraph, PlanErrors> {
    karez_graph::plan(&graph.clone().build()?, &registry())
}

/// The errors of a plan, one a line.
pub fn refusal(graph: &StreamGraphBuilder) -> String {
    match plan(graph) {
        Ok(_) => panic!("the graph was planned"),
        Err(e) => e.to_string(),
    }
}

/// Vertices and edges, one a line.
pub fn shape(job: &JobGraph) -> String {
    let mut out: Vec<String> = job.vertices.iter().map(|v| format!("{} x{}", v.name, v.parallelism)).collect();
    out.extend(job.edges.iter().map(|e| format!("{}.{:?} => {}[{}] {:?}", e.node, e.port, job.vertices[e.to].name, e.input, e.exchange)));
    out.join("\n")
}

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RowsOptions {
    unbounded: bool,
    max_parallelism: Option<usize>,
    once: bool,
    projects: bool,
    filters: bool,
    changelog: Vec<String>,
    password: config::Secret,
    url: String,
}

impl Default for RowsOptions {
    fn default() -> Self {
        Self {
            unbounded: false,
            max_parallelism: None,
            once: false,
            projects: false,
            filters: false,
            changelog: Vec::new(),
            password: config::Secret::new(""),
            url: String::new(),
        }
    }
}

struct Rows;

impl Connector for Rows {
    fn name(&self) -> &'static str {
        "rows"
    }
    fn description(&self) -> &'static str {
        "Rows."
    }
    fn source_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(RowsOptions))
    }
    fn source(&self, context: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
        let options: RowsOptions = config::parse(context.config)?;
        let default = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("amount", DataType::Float64, true),
            Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
            Field::new("note", DataType::Utf8, true),
        ]));
        Ok(Arc::new(RowsSource { options, schema: context.schema.cloned().unwrap_or(default) }))
    }
    fn sink(&self, _: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
        Err(ConfigError::new("", "no sink").into())
    }
}

struct RowsSource {
    options: RowsOptions,
    schema: SchemaRef,
}

#[async_trait]
impl Source for RowsSource {
    fn schema(&self) -> StreamSchema {
        let mut schema = StreamSchema::append_only(Arc::clone(&self.schema));
        if !self.options.changelog.is_empty() {
            schema.change_mode = ChangeMode::Changelog;
            schema.key.clone_from(&self.options.changelog);
        }
        schema
    }
    fn boundedness(&self) -> Boundedness {
        if self.options.unbounded { Boundedness::Unbounded } else { Boundedness::Bounded }
    }
    fn replay(&self) -> Replay {
        if self.options.once { Replay::No("rows are made up as they are read".into()) } else { Replay::Exact }
    }
    fn max_parallelism(&self) -> Option<usize> {
        self.options.max_parallelism
    }
    fn project(&self, columns: &[usize]) -> Option<Arc<dyn Source>> {
        self.options
            .projects
            .then(|| Arc::new(Self { options: self.options.clone(), schema: Arc::new(self.schema.project(columns).unwrap()) }) as Arc<dyn Source>)
    }
    fn filter(&self, _: &str) -> Option<Arc<dyn Source>> {
        self.options.filters.then(|| Arc::new(Self { options: self.options.clone(), schema: Arc::clone(&self.schema) }) as Arc<dyn Source>)
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

#[derive(Clone, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct MemoryOptions {
    key: Vec<String>,
    transactional: bool,
    max_parallelism: Option<usize>,
}

struct Memory;

impl Connector for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn description(&self) -> &'static str {
        "A sink."
    }
    fn sink_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(MemoryOptions))
    }
    fn source(&self, _: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
        Err(ConfigError::new("", "no source").into())
    }
    fn sink(&self, context: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
        let hidden = context.input.arrow.fields().iter().filter(|f| f.name().starts_with(HIDDEN_PREFIX) && f.name() != CHANGE_COLUMN).count();
        assert_eq!(hidden, 0, "a sink sees no hidden column but the change kind");
        Ok(Arc::new(MemorySink(config::parse(context.config)?)))
    }
}

struct MemorySink(MemoryOptions);

#[async_trait]
impl Sink for MemorySink {
    fn guarantee(&self) -> SinkGuarantee {
        match (self.0.transactional, self.0.key.is_empty()) {
            (true, _) => SinkGuarantee::Transactional,
            (false, true) => SinkGuarantee::AtLeastOnce,
            (false, false) => SinkGuarantee::Idempotent,
        }
    }
    fn key(&self) -> Vec<String> {
        self.0.key.clone()
    }
    fn accepts_changelog(&self) -> bool {
        !self.0.key.is_empty()
    }
    fn max_parallelism(&self) -> Option<usize> {
        self.0.max_parallelism
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
    async fn writer(&self, _: WriterContext, _: Vec<Value>) -> Result<Box<dyn SinkWriter>> {
        Err(Error::internal("planning only"))
    }
}

#[derive(Clone, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct OpOptions {
    /// filter
    r#where: Option<String>,
    /// The columns it reads.
    reads: Vec<String>,
    /// window, count
    key_by: Vec<String>,
    /// map
    select: Vec<String>,
    random: bool,
}

/// All operator types of the tests, told apart by name.
struct Op(&'static str);

impl OperatorFactory for Op {
    fn name(&self) -> &'static str {
        self.0
    }
    fn description(&self) -> &'static str {
        "An operator."
    }
    fn options(&self) -> schemars::Schema {
        schemars::schema_for!(OpOptions)
    }
    fn plan(&self, context: PlanContext<'_>) -> Result<Arc<dyn OperatorSpec>, ConfigErrors> {
        let options: OpOptions = config::parse(context.config)?;
        let input = &context.inputs[0];
        let index = |c: &String| input.arrow.index_of(c).map_err(|_| ConfigError::new("reads", format!("no column `{c}`")));
        let keys = options.key_by.iter().map(index).collect::<Result<Vec<_>, _>>()?;
        let reads = options.reads.iter().chain(&options.key_by).chain(&options.select).map(index).collect::<Result<Vec<_>, _>>()?;
        let mut port = OutputPort { name: MAIN.into(), schema: input.clone() };
        let mut ports = Vec::new();
        match self.0 {
            "filter" if options.r#where.is_none() => return Err(ConfigError::new("where", "missing").into()),
            "window" => {
                if input.event_time.is_none() {
                    return Err(ConfigError::new("window", "the input has no event time").hint("give its source an `eventTime`").into());
                }
                port.schema = StreamSchema::append_only(Arc::new(input.arrow.project(&keys).unwrap()));
                ports.push(OutputPort { name: "late".into(), schema: input.clone() });
            }
            "split" => ports.push(OutputPort { name: "rest".into(), schema: input.clone() }),
            "map" => port.schema.arrow = Arc::new(input.arrow.project(&reads).unwrap()),
            "count" => {
                let mut fields: Vec<Field> = keys.iter().map(|&k| input.arrow.field(k).clone()).collect();
                fields.push(Field::new("n", DataType::Int64, false));
                if context.bounded {
                    port.schema = StreamSchema::append_only(Arc::new(Schema::new(fields)));
                } else {
                    fields.push(change_field());
                    port.schema = StreamSchema {
                        arrow: Arc::new(Schema::new(fields)),
                        event_time: None,
                        change_mode: ChangeMode::Changelog,
                        key: options.key_by.clone(),
                    };
                }
            }
            "union" if context.inputs.iter().any(|i| i.arrow != input.arrow) => return Err(ConfigError::new("", "inputs differ").into()),
            _ => {}
        }
        ports.insert(0, port);
        Ok(Arc::new(Planned { kind: self.0, options, keys, reads, ports }))
    }
}

struct Planned {
    kind: &'static str,
    options: OpOptions,
    keys: Vec<usize>,
    reads: Vec<usize>,
    ports: Vec<OutputPort>,
}

impl OperatorSpec for Planned {
    fn outputs(&self) -> &[OutputPort] {
        &self.ports
    }
    fn distribution(&self, _: usize) -> Distribution {
        match self.kind {
            "top" => Distribution::Global,
            _ if !self.keys.is_empty() => Distribution::Hash(self.keys.clone()),
            _ => Distribution::Any,
        }
    }
    fn determinism(&self) -> Determinism {
        if self.options.random { Determinism::No("it calls `random()`".into()) } else { Determinism::Deterministic }
    }
    fn required_columns(&self, _: usize) -> Option<Vec<usize>> {
        Some(self.reads.clone())
    }
    fn passes_columns(&self) -> bool {
        matches!(self.kind, "filter" | "split" | "union" | "top")
    }
    fn predicate(&self) -> Option<&str> {
        self.options.r#where.as_deref()
    }
    fn create(&self, _: OperatorContext<'_>) -> Result<Box<dyn Operator>> {
        Err(Error::internal("planning only"))
    }
}

pub fn none() -> Value {
    json!({})
}
