//! The logical graph: nodes and edges as the user named them.

use std::fmt;
use std::sync::Arc;

use karez_core::config::Span;
use karez_core::{OperatorSpec, Sink, Source};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::settings::JobSettings;

/// A job as a graph of named nodes. Serialisable; a node given in code (a closure, a connector object) is not, and says so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamGraph {
    /// What holds for all nodes.
    pub settings: JobSettings,
    /// The nodes, names unique.
    pub nodes: Vec<StreamNode>,
    /// The edges, in the order of each consumer's inputs.
    pub edges: Vec<StreamEdge>,
}

/// A node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamNode {
    /// Its name: state, metrics, files and errors carry it.
    pub name: String,
    /// How many subtasks; `None`: the job's.
    pub parallelism: Option<usize>,
    /// What is done with bad records.
    pub on_error: OnError,
    /// What it is.
    pub kind: NodeKind,
}

/// What a node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum NodeKind {
    /// Gives rows.
    Source {
        /// The connector, by name or in code.
        connector: Implementation<dyn Source>,
        /// Columns and their SQL types as declared, in order; `None`: inferred.
        schema: Option<Vec<(String, String)>>,
        /// Event time.
        event_time: Option<EventTime>,
        /// What happens when the rest of the job is slower.
        overflow: Overflow,
        /// The most rows per second, all subtasks together.
        rate_limit: Option<u64>,
    },
    /// Turns rows into rows.
    Operator(Implementation<dyn OperatorSpec>),
    /// Takes rows.
    Sink(Implementation<dyn Sink>),
}

/// A connector or operator: by name and options, or made in code.
pub enum Implementation<T: ?Sized> {
    /// Looked up in the registry.
    Named {
        /// The connector or operator type.
        name: String,
        /// Its options; `${ENV}` references stay as they are.
        config: Value,
    },
    /// Made in code.
    InCode(Arc<T>),
}

impl<T: ?Sized> Implementation<T> {
    /// By name.
    pub fn named(name: impl Into<String>, config: Value) -> Self {
        Self::Named { name: name.into(), config }
    }
}

impl<T: ?Sized> Clone for Implementation<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Named { name, config } => Self::Named { name: name.clone(), config: config.clone() },
            Self::InCode(object) => Self::InCode(Arc::clone(object)),
        }
    }
}

impl<T: ?Sized> fmt::Debug for Implementation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named { name, config } => write!(f, "{name} {config}"),
            Self::InCode(_) => f.write_str("<in code>"),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct NamedImplementation {
    name: String,
    config: Value,
}

impl<T: ?Sized> Serialize for Implementation<T> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named { name, config } => NamedImplementation { name: name.clone(), config: config.clone() }.serialize(s),
            Self::InCode(_) => {
                Err(serde::ser::Error::custom("a node given in code (a closure or an object) cannot be serialised; give it by name and options"))
            }
        }
    }
}

impl<'de, T: ?Sized> Deserialize<'de> for Implementation<T> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let NamedImplementation { name, config } = NamedImplementation::deserialize(d)?;
        Ok(Self::Named { name, config })
    }
}

/// An edge: rows of one output of a node go to one input of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEdge {
    /// The node rows come from.
    pub from: String,
    /// Its output: `main`, `errors`, or a name of its own (`late`, a route).
    pub port: String,
    /// The node rows go to.
    pub to: String,
    /// How rows are spread, where the user says so; `None`: as the consumer needs.
    pub exchange: Option<RequestedExchange>,
}

/// The output that carries dead letters.
pub const ERRORS_PORT: &str = "errors";

/// How a user asks rows to be spread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RequestedExchange {
    /// Subtask i to subtask i.
    Forward,
    /// By the hash of these columns.
    Hash(Vec<String>),
    /// In turn.
    Rebalance,
    /// All rows to all subtasks.
    Broadcast,
    /// All rows to subtask 0.
    Global,
}

/// Which column is event time and how far behind rows may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventTime {
    /// The column, a timestamp.
    pub column: String,
    /// How far a row may lie behind the newest one before it in its split. Default: 0.
    #[serde(default = "zero")]
    pub max_out_of_orderness: Span,
    /// A split that had nothing for so long does not hold the watermark back. Default: never.
    #[serde(default)]
    pub idle_timeout: Option<Span>,
    /// Whether rows come in the order of time at all.
    #[serde(default)]
    pub order: Order,
}

const fn zero() -> Span {
    Span::millis(0)
}

/// Whether rows come in the order of event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Up to `maxOutOfOrderness`.
    #[default]
    Bounded,
    /// They do not: the watermark comes at the end of the input.
    None,
}

/// What happens at a source when the rest of the job is slower (§10.3 of the design document).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The source waits.
    #[default]
    Buffer,
    /// New rows are dropped and counted.
    Drop,
    /// The oldest waiting rows are dropped and counted; the newest are kept.
    Latest,
    /// The job fails.
    Error,
}

/// What is done with a bad record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// The job fails.
    #[default]
    Fail,
    /// It is counted and left out.
    Skip,
    /// It goes to the node's `errors` output.
    DeadLetter,
}
