//! A connector: a type name, its options with their documentation, and what it makes of them.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use serde_json::Value;

use crate::config::{self, ConfigError, ConfigErrors};
use crate::sink::SinkGuarantee;
use crate::{Lookup, LookupContext, Sink, Source, StreamSchema};

/// An external system. Registered by name in a [`crate::Registry`], a third party's in the same way as ours.
///
/// Option structs derive `Deserialize` and `JsonSchema` with `#[serde(rename_all = "camelCase", deny_unknown_fields)]`; their doc comments are the
/// reference page and the editors' schema. Parse them with [`crate::config::parse`].
pub trait Connector: Send + Sync + 'static {
    /// The name in `connector: NAME`.
    fn name(&self) -> &'static str;

    /// What it is, in Markdown: the first line is a summary, then what it guarantees and what it cannot do.
    fn description(&self) -> &'static str;

    /// The options of its source as a JSON Schema; `None` where it has no source.
    fn source_options(&self) -> Option<schemars::Schema> {
        None
    }

    /// The options of its sink as a JSON Schema; `None` where it has no sink.
    fn sink_options(&self) -> Option<schemars::Schema> {
        None
    }

    /// The options of its look-ups as a JSON Schema; `None` where it has none.
    fn lookup_options(&self) -> Option<schemars::Schema> {
        None
    }

    /// What can be said about the options of its source while the rows are not known, as when their declaration has errors of its own. Here: keys it
    /// does not know; those that parse them say more.
    fn check_source(&self, config: &Value) -> Result<(), ConfigErrors> {
        self.source_options().map_or(Ok(()), |options| config::check_keys(config, &options))
    }

    /// What can be said about the options of its sink while the rows are not known. Here: keys it does not know.
    fn check_sink(&self, config: &Value) -> Result<(), ConfigErrors> {
        self.sink_options().map_or(Ok(()), |options| config::check_keys(config, &options))
    }

    /// Changes the options of a source so that reading with them leaves no trace outside, as `karez preview` needs it: no offsets are committed, nothing
    /// is acknowledged. Where reading never leaves one, nothing.
    fn leave_no_trace(&self, config: &mut Value) {
        let _ = config;
    }

    /// What can be said about the options of its look-ups while the rows are not known. Here: keys it does not know.
    fn check_lookup(&self, config: &Value) -> Result<(), ConfigErrors> {
        self.lookup_options().map_or(Ok(()), |options| config::check_keys(config, &options))
    }

    /// What its sink can promise over crashes, depending on its options: for the table of connectors.
    fn sink_guarantees(&self) -> &'static [SinkGuarantee] {
        &[]
    }

    /// The systems outside and their versions that the project's tests run it against: for the table of connectors. Empty where there is none outside.
    fn tested_against(&self) -> &'static [&'static str] {
        &[]
    }

    /// Makes a source; may look at the outside to infer a schema, without side effects.
    fn source(&self, context: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors>;

    /// Makes a sink for rows of a schema.
    fn sink(&self, context: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors>;

    /// How what a sink of these options wrote is read back, once, by a source of the same connector: for `karez dlq`. `None`: it cannot be.
    fn read_back(&self, sink: &Value) -> Result<Option<ReadBack>, ConfigErrors> {
        let _ = sink;
        Ok(None)
    }

    /// Makes a look-up of rows by key; may look at the outside for the types of columns, without side effects. Asked for only where there are
    /// [`Self::lookup_options`].
    fn lookup(&self, context: LookupContext<'_>) -> Result<Arc<dyn Lookup>, ConfigErrors> {
        let _ = context;
        Err(ConfigError::new("", format!("connector `{}` has no look-ups", self.name())).into())
    }
}

/// The source that reads back what a sink wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadBack {
    /// Its options. The source must end by itself in a batch job.
    pub config: Value,
    /// The format holds binary columns as hexadecimal text.
    pub binary_as_hex: bool,
    /// There is nothing to read yet: the sink has written nothing.
    pub nothing_yet: bool,
}

/// What a source is made of.
#[derive(Clone, Copy, Debug)]
pub struct SourceContext<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Its options, `${ENV}` references unresolved.
    pub config: &'a Value,
    /// The schema the user declared; without it the source infers one or refuses.
    pub schema: Option<&'a SchemaRef>,
    /// Whether the job is `type: batch`: the source must be bounded.
    pub batch: bool,
}

/// What a sink is made of.
#[derive(Clone, Copy, Debug)]
pub struct SinkContext<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Its options, `${ENV}` references unresolved.
    pub config: &'a Value,
    /// The rows it will get. Hidden columns but the change kind are removed before they reach the writer.
    pub input: &'a StreamSchema,
    /// Whether the job asks for exactly-once.
    pub exactly_once: bool,
}
