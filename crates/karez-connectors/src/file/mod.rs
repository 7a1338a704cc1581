//! Files: CSV, NDJSON, Parquet and text, read and written.

mod format;
pub mod sink;
pub mod source;

use std::sync::Arc;

use karez_core::config::{ConfigErrors, parse};
use karez_core::sink::SinkGuarantee;
use karez_core::{Connector, ReadBack, Sink, SinkContext, Source, SourceContext};
use serde_json::Value;

pub use format::Format;

/// `connector: file`.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileConnector;

impl Connector for FileConnector {
    fn name(&self) -> &'static str {
        "file"
    }

    fn description(&self) -> &'static str {
        "Files of CSV, NDJSON, Parquet or text lines, compressed or not.\n\n\
         Both ends are exactly once: a source reads again from where a checkpoint says; a sink writes under hidden names (`.part-…inprogress`) and \
         renames a file when the checkpoint that it belongs to is complete, so rows become visible when their file has ended (`rollSize`, \
         `rollInterval`, end of the input), not before. The folder must be on a file system with atomic rename: a local disk, not an object store."
    }

    fn source_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(source::FileSourceOptions))
    }

    fn sink_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(sink::FileSinkOptions))
    }

    fn check_source(&self, config: &Value) -> Result<(), ConfigErrors> {
        parse::<source::FileSourceOptions>(config).map(drop)
    }

    fn check_sink(&self, config: &Value) -> Result<(), ConfigErrors> {
        parse::<sink::FileSinkOptions>(config).map(drop)
    }

    fn sink_guarantees(&self) -> &'static [SinkGuarantee] {
        &[SinkGuarantee::Transactional]
    }

    fn source(&self, context: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
        source::plan(context)
    }

    fn sink(&self, context: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
        sink::plan(context)
    }

    fn read_back(&self, sink: &Value) -> Result<Option<ReadBack>, ConfigErrors> {
        sink::read_back::read_back(sink).map(Some)
    }
}
