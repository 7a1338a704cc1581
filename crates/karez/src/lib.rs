//! Karez: streaming and batch ETL in one library and one binary.
//!
//! ```text
//! YAML / SQL / Rust ──► StreamGraph ──► JobGraph ──► tasks ──► rows in the sink
//! ```
//! [`registry`] holds everything built in; add your own connectors and operators to it in the same way. [`prelude`] is what Rust code needs.

use karez_core::Registry;

/// All connectors and operators of this build.
#[must_use]
pub fn registry() -> Registry {
    karez_operators::register(karez_connectors::register(Registry::new()))
}

/// What Rust code needs to define and run jobs.
pub mod prelude {
    pub use karez_core::{Connector, Error, Operator, OperatorFactory, OperatorSpec, Registry, Result, Sink, Source};
    pub use karez_graph::{JobGraph, JobSettings, StreamGraph, plan};
    pub use karez_job::JobFile;
    pub use karez_runtime::{JobHandle, JobOptions, JobReport, JobStatus, start};

    pub use crate::registry;
}
