//! The physical graph: chains of nodes with a parallelism, and the exchanges between them.

use std::sync::Arc;

use karez_core::{OperatorSpec, Sink, Source, StreamSchema};

use crate::settings::JobSettings;
use crate::stream_graph::{EventTime, OnError, Overflow};

/// A planned job: everything is validated and bound, nothing is open.
pub struct JobGraph {
    /// The job's settings, defaults filled in.
    pub settings: JobSettings,
    /// The chains, in topological order.
    pub vertices: Vec<JobVertex>,
    /// What connects them.
    pub edges: Vec<JobEdge>,
    /// What the planner did that the user may want to know (a parallelism clamped, a source that cannot be read again).
    pub notes: Vec<String>,
}

/// A chain of nodes that runs as one task per subtask: `[source] operator* [sink]`, at least one of them.
pub struct JobVertex {
    /// The names of its nodes, joined by ` -> `.
    pub name: String,
    /// How many subtasks.
    pub parallelism: usize,
    /// The source, if the chain begins with one. Otherwise rows come in by edges.
    pub source: Option<Arc<PlannedSource>>,
    /// The operators, in order: each takes the main output of the one before. Only the first may have several inputs.
    pub operators: Vec<PlannedOperator>,
    /// The sink, if the chain ends with one.
    pub sink: Option<PlannedSink>,
}

/// A source in its place.
pub struct PlannedSource {
    /// The node's name.
    pub name: String,
    /// The connector's type name.
    pub connector: String,
    /// The source, projection and filters pushed down.
    pub source: Arc<dyn Source>,
    /// What it gives: the source's schema with event time and, where [`Self::with_origin`], the origin column last.
    pub schema: StreamSchema,
    /// Event time.
    pub event_time: Option<EventTime>,
    /// What happens when the rest of the job is slower.
    pub overflow: Overflow,
    /// The most rows per second, all subtasks together.
    pub rate_limit: Option<u64>,
    /// What is done with bad records.
    pub on_error: OnError,
    /// Whether rows carry their origin.
    pub with_origin: bool,
    /// What the source took over from the operators behind it.
    pub pushed: PushedDown,
}

/// What a source took over from the operators behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushedDown {
    /// The columns it reads, where these are not all of them.
    pub columns: Option<Vec<String>>,
    /// The filters it applies, each with the node it stood in; these nodes are not in the job graph.
    pub filters: Vec<(String, String)>,
}

/// An operator in its place.
pub struct PlannedOperator {
    /// The node's name.
    pub name: String,
    /// The operator type.
    pub operator: String,
    /// The spec.
    pub spec: Arc<dyn OperatorSpec>,
    /// Its inputs.
    pub inputs: Vec<StreamSchema>,
    /// What is done with bad records.
    pub on_error: OnError,
}

/// A sink in its place.
pub struct PlannedSink {
    /// The node's name.
    pub name: String,
    /// The connector's type name.
    pub connector: String,
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// The rows that reach the writer: no hidden column but the change kind of a changelog.
    pub input: StreamSchema,
    /// What is done with rows it refuses.
    pub on_error: OnError,
}

/// An output of a node inside a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    /// Output `n` of the node (0: main).
    Output(usize),
    /// Its dead letters.
    Errors,
}

/// Rows of one output of one node of a vertex go to an input of another vertex's first node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEdge {
    /// The vertex rows come from (index).
    pub from: usize,
    /// The node in it.
    pub node: String,
    /// The node's output.
    pub port: Port,
    /// The vertex rows go to (index), always greater than `from`.
    pub to: usize,
    /// Which input of its first operator; several edges may feed one input. 0 for a sink.
    pub input: usize,
    /// How rows are spread.
    pub exchange: Exchange,
}

/// How rows are spread over the consumer's subtasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Subtask i to subtask i; equal parallelism.
    Forward,
    /// By key group of the hash of these columns (indices).
    Hash(Vec<usize>),
    /// Batches in turn.
    Rebalance,
    /// All rows to all subtasks.
    Broadcast,
    /// All rows to subtask 0.
    Global,
}
