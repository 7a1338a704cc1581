//! What a plan looks like: text for a terminal, JSON for programs, Mermaid for documents. Secrets are masked in all three.

use std::fmt::{self, Write as _};

use karez_core::schema::is_hidden;
use karez_core::sink::SinkGuarantee;
use karez_core::{Boundedness, ChangeMode, Registry, StreamSchema, sql_type};
use serde::Serialize;
use serde_json::Value;

use crate::job_graph::{Exchange, JobGraph, JobVertex, Port};
use crate::settings::{Delivery, JobSettings, JobType};
use crate::stream_graph::{EventTime, Implementation, NodeKind, OnError, Overflow, StreamGraph};

mod mask;
mod mermaid;

pub use mask::mask;

/// A job graph in words. Its `Display` is the text form, its `Serialize` the JSON form.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The settings, defaults filled in.
    pub settings: JobSettings,
    /// What the user wrote.
    pub stream_graph: Vec<ExplainedInput>,
    /// The chains.
    pub vertices: Vec<ExplainedVertex>,
    /// What connects them.
    pub edges: Vec<ExplainedEdge>,
    /// What the planner did that the user may want to know.
    pub notes: Vec<String>,
}

/// A node of the stream graph and what it reads.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedInput {
    /// The node.
    pub name: String,
    /// `source`, `operator` or `sink`.
    pub kind: &'static str,
    /// The nodes (and outputs) it reads: `name` or `name.output`.
    pub inputs: Vec<String>,
}

/// A chain.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedVertex {
    /// Its nodes, joined by ` -> `.
    pub name: String,
    /// How many subtasks.
    pub parallelism: usize,
    /// Its nodes, in order.
    pub nodes: Vec<ExplainedNode>,
}

/// A node in its chain.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedNode {
    /// Its name.
    pub name: String,
    /// `source`, `operator` or `sink`.
    pub kind: &'static str,
    /// The connector or operator type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Its options, secrets masked; `null` for a node made in code.
    pub config: Value,
    /// What it gives (a sink: what it gets), with SQL types.
    pub columns: Vec<(String, String)>,
    /// Whether these rows change.
    pub change_mode: ChangeMode,
    /// What is done with bad records.
    pub on_error: OnError,
    /// What a sink promises over crashes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guarantee: Option<SinkGuarantee>,
    /// Whether a source ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boundedness: Option<Boundedness>,
    /// Event time of a source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_time: Option<EventTime>,
    /// What a source does when the rest is slower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overflow: Option<Overflow>,
    /// The columns a source reads because no others are needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed_columns: Option<Vec<String>>,
    /// The filters a source applies: node and predicate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pushed_filters: Vec<(String, String)>,
    /// Whether an operator keeps state.
    pub stateful: bool,
    /// How many batches of an operator that waits for the outside are in flight at most, for each subtask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<usize>,
}

/// An edge between chains.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedEdge {
    /// The chain rows come from (index).
    pub from: usize,
    /// The node in it.
    pub node: String,
    /// The node's output: `main`, `errors`, or a name of its own.
    pub port: String,
    /// The chain rows go to (index).
    pub to: usize,
    /// How rows are spread: `forward`, `hash(a, b)`, `rebalance`, `broadcast`, `global`.
    pub exchange: String,
}

/// Explains a planned graph. `registry` says which options are secret.
#[must_use]
pub fn explain(graph: &StreamGraph, job: &JobGraph, registry: &Registry) -> Explanation {
    let stream_graph = graph
        .nodes
        .iter()
        .map(|n| ExplainedInput {
            name: n.name.clone(),
            kind: kind(&n.kind),
            inputs: graph.edges.iter().filter(|e| e.to == n.name).map(crate::validate::input_name).collect(),
        })
        .collect();
    let vertices =
        job.vertices.iter().map(|v| ExplainedVertex { name: v.name.clone(), parallelism: v.parallelism, nodes: nodes(graph, v, registry) }).collect();
    let edges = job
        .edges
        .iter()
        .map(|e| {
            let (port, schema) = output(&job.vertices[e.from], &e.node, e.port);
            ExplainedEdge { from: e.from, node: e.node.clone(), port, to: e.to, exchange: spread(&e.exchange, schema.as_ref()) }
        })
        .collect();
    Explanation { settings: job.settings.clone(), stream_graph, vertices, edges, notes: job.notes.clone() }
}

const fn kind(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::Source { .. } => "source",
        NodeKind::Operator(_) => "operator",
        NodeKind::Sink(_) => "sink",
    }
}

/// The options of a node, masked.
fn config(graph: &StreamGraph, name: &str, registry: &Registry) -> Value {
    fn named<T: ?Sized>(i: &Implementation<T>) -> Option<(&str, &Value)> {
        match i {
            Implementation::Named { name, config } => Some((name, config)),
            Implementation::InCode(_) => None,
        }
    }
    let Some(node) = graph.nodes.iter().find(|n| n.name == name) else { return Value::Null };
    let (found, schema) = match &node.kind {
        NodeKind::Source { connector, .. } => {
            (named(connector), named(connector).and_then(|(n, _)| registry.connector(n).ok()).and_then(|c| c.source_options()))
        }
        NodeKind::Operator(operator) => {
            let schema = named(operator).and_then(|(n, _)| registry.operator(n).ok()).map(|o| o.options());
            let Some((_, config)) = named(operator) else { return Value::Null };
            return with_asked(mask(config, schema.as_ref()), config, registry);
        }
        NodeKind::Sink(connector) => {
            (named(connector), named(connector).and_then(|(n, _)| registry.connector(n).ok()).and_then(|c| c.sink_options()))
        }
    };
    found.map_or(Value::Null, |(_, config)| mask(config, schema.as_ref()))
}

/// The masked options of an operator; where it asks a connector (`connector`, `config`), also what that calls secret.
fn with_asked(mut masked: Value, config: &Value, registry: &Registry) -> Value {
    let asked = config.get("connector").and_then(Value::as_str).and_then(|c| registry.connector(c).ok());
    if let (Some(connector), Some(own), Some(shown)) = (asked, config.get("config"), masked.get_mut("config")) {
        *shown = mask(own, connector.lookup_options().as_ref());
    }
    masked
}

fn columns(schema: &StreamSchema) -> Vec<(String, String)> {
    schema.arrow.fields().iter().filter(|f| !is_hidden(f)).map(|f| (f.name().clone(), sql_type::to_sql(f.data_type()))).collect()
}

fn nodes(graph: &StreamGraph, vertex: &JobVertex, registry: &Registry) -> Vec<ExplainedNode> {
    let node = |name: &str, kind, type_name: &str, schema: Option<&StreamSchema>, on_error| ExplainedNode {
        name: name.to_owned(),
        kind,
        type_name: type_name.to_owned(),
        config: config(graph, name, registry),
        columns: schema.map(columns).unwrap_or_default(),
        change_mode: schema.map(|s| s.change_mode).unwrap_or_default(),
        on_error,
        guarantee: None,
        boundedness: None,
        event_time: None,
        overflow: None,
        pushed_columns: None,
        pushed_filters: Vec::new(),
        stateful: false,
        in_flight: None,
    };
    let mut out = Vec::new();
    if let Some(s) = &vertex.source {
        out.push(ExplainedNode {
            boundedness: Some(s.source.boundedness()),
            event_time: s.event_time.clone(),
            overflow: Some(s.overflow),
            pushed_columns: s.pushed.columns.clone(),
            pushed_filters: s.pushed.filters.clone(),
            ..node(&s.name, "source", &s.connector, Some(&s.schema), s.on_error)
        });
    }
    for o in &vertex.operators {
        let schema = o.spec.outputs().first().map(|p| &p.schema);
        let in_flight = o.spec.asynchronous().map(|a| a.settings().batches);
        out.push(ExplainedNode { stateful: o.spec.is_stateful(), in_flight, ..node(&o.name, "operator", &o.operator, schema, o.on_error) });
    }
    if let Some(s) = &vertex.sink {
        out.push(ExplainedNode { guarantee: Some(s.sink.guarantee()), ..node(&s.name, "sink", &s.connector, Some(&s.input), s.on_error) });
    }
    out
}

/// The name of an output of a node in a vertex, and its rows.
fn output(vertex: &JobVertex, node: &str, port: Port) -> (String, Option<StreamSchema>) {
    let Port::Output(n) = port else { return ("errors".into(), Some(karez_core::dead_letter::stream_schema())) };
    if let Some(o) = vertex.operators.iter().find(|o| o.name == node)
        && let Some(p) = o.spec.outputs().get(n)
    {
        return (p.name.clone(), Some(p.schema.clone()));
    }
    ("main".into(), vertex.source.as_ref().map(|s| s.schema.clone()))
}

fn spread(exchange: &Exchange, schema: Option<&StreamSchema>) -> String {
    match exchange {
        Exchange::Forward => "forward".into(),
        Exchange::Rebalance => "rebalance".into(),
        Exchange::Broadcast => "broadcast".into(),
        Exchange::Global => "global".into(),
        Exchange::Hash(columns) => {
            let name = |&c: &usize| schema.and_then(|s| s.arrow.fields().get(c)).map_or_else(|| format!("#{c}"), |f| f.name().clone());
            format!("hash({})", columns.iter().map(name).collect::<Vec<_>>().join(", "))
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.settings;
        let job_type = if s.job_type == JobType::Batch { "batch" } else { "streaming" };
        let delivery = if s.delivery == Delivery::ExactlyOnce { "exactly-once" } else { "at-least-once" };
        writeln!(f, "Job {}: {job_type}, {delivery}, parallelism {}, checkpoint every {}", s.name, s.parallelism, s.checkpoint.interval)?;
        writeln!(f, "\nStreamGraph")?;
        for n in &self.stream_graph {
            let inputs = if n.inputs.is_empty() { String::new() } else { format!(" <- {}", n.inputs.join(", ")) };
            writeln!(f, "  {} {}{inputs}", n.kind, n.name)?;
        }
        writeln!(f, "\nJobGraph")?;
        for (i, v) in self.vertices.iter().enumerate() {
            writeln!(f, "  [{i}] {} (parallelism {})", v.name, v.parallelism)?;
            let edges: Vec<&ExplainedEdge> = self.edges.iter().filter(|e| e.from == i).collect();
            for (k, n) in v.nodes.iter().enumerate() {
                let last = k + 1 == v.nodes.len() && edges.is_empty();
                let (branch, trunk) = if last { ("└─", "  ") } else { ("├─", "│ ") };
                writeln!(f, "      {branch} {} {}: {}", n.kind, n.name, n.type_name)?;
                for line in details(n) {
                    writeln!(f, "      {trunk}   {line}")?;
                }
            }
            for (k, e) in edges.iter().enumerate() {
                let branch = if k + 1 == edges.len() { "└─" } else { "├─" };
                let port = if e.port == "main" { e.node.clone() } else { format!("{}.{}", e.node, e.port) };
                writeln!(f, "      {branch} {port} => [{}] by {}", e.to, e.exchange)?;
            }
        }
        for (i, note) in self.notes.iter().enumerate() {
            writeln!(f, "{}  - {note}", if i == 0 { "\nNotes\n" } else { "" })?;
        }
        Ok(())
    }
}

fn details(n: &ExplainedNode) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(config) = n.config.as_object().filter(|c| !c.is_empty()) {
        let mut line = String::new();
        for (k, v) in config {
            let text = v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            let _ = write!(line, "{}{k}: {text}", if line.is_empty() { "" } else { ", " });
        }
        out.push(line);
    }
    let names: Vec<String> = n.columns.iter().map(|(c, t)| format!("{c} {t}")).collect();
    let changes = if n.change_mode == ChangeMode::Changelog { " (changelog)" } else { "" };
    out.push(format!("{} {}{changes}", if n.kind == "sink" { "gets" } else { "gives" }, names.join(", ")));
    let mut facts = Vec::new();
    if let Some(b) = n.boundedness {
        facts.push(if b == Boundedness::Bounded { "bounded".to_owned() } else { "unbounded".to_owned() });
    }
    if let Some(t) = &n.event_time {
        facts.push(format!("event time {} (out of order by up to {})", t.column, t.max_out_of_orderness));
    }
    match n.overflow {
        Some(Overflow::Drop) => facts.push("overflow DROP".into()),
        Some(Overflow::Latest) => facts.push("overflow LATEST".into()),
        Some(Overflow::Error) => facts.push("overflow ERROR".into()),
        Some(Overflow::Buffer) | None => {}
    }
    match n.guarantee {
        Some(SinkGuarantee::AtLeastOnce) => facts.push("at-least-once".into()),
        Some(SinkGuarantee::Idempotent) => facts.push("idempotent (upserts by key)".into()),
        Some(SinkGuarantee::Transactional) => facts.push("transactional".into()),
        None => {}
    }
    if n.stateful {
        facts.push("keeps state".into());
    }
    if let Some(batches) = n.in_flight {
        facts.push(format!("waits for the outside, up to {batches} batches at a time"));
    }
    match n.on_error {
        OnError::Fail => {}
        OnError::Skip => facts.push("skips bad records".into()),
        OnError::DeadLetter => facts.push("bad records are dead letters".into()),
    }
    if !facts.is_empty() {
        out.push(facts.join(", "));
    }
    if let Some(c) = &n.pushed_columns {
        out.push(format!("reads only {}", c.join(", ")));
    }
    for (node, predicate) in &n.pushed_filters {
        out.push(format!("applies `{predicate}` for {node}"));
    }
    out
}
