//! Rows made from nothing but their number: for trying jobs out and for benchmarks.
//!
//! Row n of a generator is a function of n and the options. A split is the rows of every k-th number, its position the next number: a restored split
//! gives exactly the rows that were to follow.

mod fields;
mod nexmark;
mod options;
mod random;
mod source;

use std::sync::Arc;

use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::{Connector, Sink, SinkContext, Source, SourceContext};
use serde_json::Value;

pub use options::{FieldOptions, FieldsOptions, GeneratorOptions, NexmarkEvent, NexmarkOptions};

/// `connector: generator`.
#[derive(Clone, Copy, Debug, Default)]
pub struct GeneratorConnector;

impl Connector for GeneratorConnector {
    fn name(&self) -> &'static str {
        "generator"
    }

    fn description(&self) -> &'static str {
        "Makes rows: the Nexmark auction benchmark, or fields of sequences and random values.\n\n\
         A row depends on its number and the options alone, so the source is exactly once and two runs give the same rows. It is as fast as the job \
         takes rows, unless the source has a `rateLimit`; bounded by `rows`, else without end.\n\n\
         ```yaml\n\
         source: { connector: generator, config: { kind: nexmark, event: bid, rows: 1000000 } }\n\
         source:\n\
         \x20 connector: generator\n\
         \x20 config:\n\
         \x20   kind: fields\n\
         \x20   fields:\n\
         \x20     - { name: id, type: sequence }\n\
         \x20     - { name: city, type: choice, values: [Kashgar, Turpan] }\n\
         ```"
    }

    fn source_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(GeneratorOptions))
    }

    fn check_source(&self, config: &Value) -> Result<(), ConfigErrors> {
        options::parse(config).map(drop)
    }

    fn source(&self, context: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
        source::plan(context)
    }

    fn sink(&self, _: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
        Err(ConfigError::new("connector", "`generator` is a source, it takes no rows").hint("use `blackhole` to forget rows").into())
    }
}
