//! What a user wrote as a graph ([`StreamGraph`]: logical, plain data) and what is run ([`JobGraph`]: chains with parallelism).
//!
//! ```text
//! YAML / SQL / Rust ──► StreamGraph ──plan()──► JobGraph ──► tasks (karez-runtime)
//! ```

pub mod job_graph;
pub mod settings;
pub mod stream_graph;

pub use job_graph::{Exchange, JobEdge, JobGraph, JobVertex, PlannedOperator, PlannedSink, PlannedSource, Port, PushedDown};
pub use settings::JobSettings;
pub use stream_graph::{EventTime, NodeKind, OnError, Overflow, StreamEdge, StreamGraph, StreamNode};
