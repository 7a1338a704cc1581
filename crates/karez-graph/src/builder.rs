//! A graph in Rust, as §3.2.4 of the design document builds it.
//!
//! ```
//! use karez_graph::{JobSettings, StreamGraph, Implementation};
//! use serde_json::json;
//!
//! let graph = StreamGraph::builder(JobSettings { name: "clean".into(), ..JobSettings::default() })
//!     .add_source("source-1", Implementation::named("file", json!({ "path": "in.csv", "format": "csv" })))
//!     .add_operator("filter-1", Implementation::named("filter", json!({ "where": "amount > 0" })))
//!     .add_sink("sink-1", Implementation::named("stdout", json!({})))
//!     .connect("source-1", "filter-1")
//!     .connect("filter-1", "sink-1")
//!     .build()?;
//! assert_eq!(graph.nodes.len(), 3);
//! # Ok::<(), karez_graph::PlanErrors>(())
//! ```

use std::sync::Arc;

use karez_core::operator::MAIN;
use karez_core::{OperatorSpec, Sink, Source};

use crate::plan::{Errors, PlanErrors};
use crate::settings::JobSettings;
use crate::stream_graph::{EventTime, Implementation, NodeKind, OnError, Overflow, RequestedExchange, StreamEdge, StreamGraph, StreamNode};
use crate::validate::{self, Topology};

impl<T: ?Sized> From<Arc<T>> for Implementation<T> {
    fn from(object: Arc<T>) -> Self {
        Self::InCode(object)
    }
}

impl StreamGraph {
    /// Begins a graph.
    pub const fn builder(settings: JobSettings) -> StreamGraphBuilder {
        StreamGraphBuilder { graph: Self { settings, nodes: Vec::new(), edges: Vec::new() } }
    }
}

/// Builds a [`StreamGraph`]. What concerns a node (`parallelism`, `on_error`, …) is said right behind it.
#[derive(Clone, Debug)]
#[must_use]
pub struct StreamGraphBuilder {
    graph: StreamGraph,
}

impl StreamGraphBuilder {
    fn add(mut self, name: impl Into<String>, kind: NodeKind) -> Self {
        self.graph.nodes.push(StreamNode { name: name.into(), parallelism: None, on_error: OnError::default(), kind });
        self
    }

    /// Adds a source.
    pub fn add_source(self, name: impl Into<String>, connector: impl Into<Implementation<dyn Source>>) -> Self {
        let kind = NodeKind::Source { connector: connector.into(), schema: None, event_time: None, overflow: Overflow::default(), rate_limit: None };
        self.add(name, kind)
    }

    /// Adds an operator.
    pub fn add_operator(self, name: impl Into<String>, operator: impl Into<Implementation<dyn OperatorSpec>>) -> Self {
        self.add(name, NodeKind::Operator(operator.into()))
    }

    /// Adds a sink.
    pub fn add_sink(self, name: impl Into<String>, connector: impl Into<Implementation<dyn Sink>>) -> Self {
        self.add(name, NodeKind::Sink(connector.into()))
    }

    fn last(mut self, change: impl FnOnce(&mut StreamNode)) -> Self {
        if let Some(node) = self.graph.nodes.last_mut() {
            change(node);
        }
        self
    }

    fn last_source(self, change: impl FnOnce(&mut NodeKind)) -> Self {
        self.last(|node| {
            if matches!(node.kind, NodeKind::Source { .. }) {
                change(&mut node.kind);
            }
        })
    }

    /// How many subtasks the node added last has.
    pub fn parallelism(self, parallelism: usize) -> Self {
        self.last(|n| n.parallelism = Some(parallelism))
    }

    /// What the node added last does with bad records.
    pub fn on_error(self, on_error: OnError) -> Self {
        self.last(|n| n.on_error = on_error)
    }

    /// The columns of the source added last, with their SQL types. Has no effect on other nodes.
    pub fn schema<N: Into<String>, T: Into<String>>(self, columns: impl IntoIterator<Item = (N, T)>) -> Self {
        let columns = columns.into_iter().map(|(n, t)| (n.into(), t.into())).collect();
        self.last_source(|k| {
            if let NodeKind::Source { schema, .. } = k {
                *schema = Some(columns);
            }
        })
    }

    /// The event time of the source added last. Has no effect on other nodes.
    pub fn event_time(self, time: EventTime) -> Self {
        self.last_source(|k| {
            if let NodeKind::Source { event_time, .. } = k {
                *event_time = Some(time);
            }
        })
    }

    /// What the source added last does when the rest is slower. Has no effect on other nodes.
    pub fn overflow(self, policy: Overflow) -> Self {
        self.last_source(|k| {
            if let NodeKind::Source { overflow, .. } = k {
                *overflow = policy;
            }
        })
    }

    /// The most rows per second the source added last gives. Has no effect on other nodes.
    pub fn rate_limit(self, rows_per_second: u64) -> Self {
        self.last_source(|k| {
            if let NodeKind::Source { rate_limit, .. } = k {
                *rate_limit = Some(rows_per_second);
            }
        })
    }

    /// Rows of the main output of `from` go to `to`.
    pub fn connect(self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.connect_port(from, MAIN, to)
    }

    /// Rows of an output of `from` (`main`, `errors`, `late`, a route) go to `to`.
    pub fn connect_port(mut self, from: impl Into<String>, port: impl Into<String>, to: impl Into<String>) -> Self {
        self.graph.edges.push(StreamEdge { from: from.into(), port: port.into(), to: to.into(), exchange: None });
        self
    }

    /// How rows of the edge added last are spread.
    pub fn exchange(mut self, exchange: RequestedExchange) -> Self {
        if let Some(edge) = self.graph.edges.last_mut() {
            edge.exchange = Some(exchange);
        }
        self
    }

    /// The graph, its shape validated: names, edges, cycles, dangling nodes. What needs a registry is [`crate::plan()`]'s.
    ///
    /// # Errors
    /// Everything that is wrong with its shape.
    pub fn build(self) -> Result<StreamGraph, PlanErrors> {
        self.graph.validate()?;
        Ok(self.graph)
    }
}

impl StreamGraph {
    /// Checks the settings and the shape of the graph: names, edges, cycles, dangling nodes.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn validate(&self) -> Result<(), PlanErrors> {
        let mut errors = Errors::default();
        validate::settings(&self.settings, &mut errors);
        Topology::of(self, &mut errors);
        errors.into_result(self)
    }
}
