//! What a user wrote as a graph ([`StreamGraph`]: logical, plain data) and what is run ([`JobGraph`]: chains with parallelism).
//!
//! ```text
//! YAML / SQL / Rust ──► StreamGraph ──plan()──► JobGraph ──► tasks (karez-runtime)
//! ```

mod bind;
pub mod builder;
mod chain;
mod dead_letters;
mod exchange;
pub mod explain;
mod guarantee;
pub mod job_graph;
mod optimise;
mod parallelism;
pub mod plan;
pub mod settings;
pub mod stream_graph;
mod validate;

pub use builder::StreamGraphBuilder;
pub use explain::{Explanation, explain};
pub use job_graph::{Exchange, JobEdge, JobGraph, JobVertex, PlannedOperator, PlannedSink, PlannedSource, Port, PushedDown};
pub use plan::{PlanError, PlanErrors, plan};
pub use settings::JobSettings;
pub use stream_graph::{EventTime, Implementation, NodeKind, OnError, Order, Overflow, RequestedExchange, StreamEdge, StreamGraph, StreamNode};
