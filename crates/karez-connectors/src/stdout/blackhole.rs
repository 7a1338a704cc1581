//! `connector: blackhole`: counts rows and forgets them.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::config::{ConfigError, ConfigErrors, parse};
use karez_core::sink::{SinkGuarantee, WriterContext};
use karez_core::{Connector, Result, Sink, SinkContext, SinkWriter, Source, SourceContext};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// `connector: blackhole`.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlackholeConnector;

/// The blackhole has no options.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlackholeOptions {}

impl Connector for BlackholeConnector {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn description(&self) -> &'static str {
        "Takes rows and forgets them: for measuring.\n\nThe rows are counted by the sink's metrics. It takes changelogs and any guarantee, \
         since rows written twice leave the same nothing."
    }

    fn sink_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(BlackholeOptions))
    }

    fn check_sink(&self, config: &Value) -> Result<(), ConfigErrors> {
        parse::<BlackholeOptions>(config).map(drop)
    }

    fn sink_guarantees(&self) -> &'static [SinkGuarantee] {
        &[SinkGuarantee::Idempotent]
    }

    fn source(&self, _: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
        Err(ConfigError::new("connector", "`blackhole` is a sink, it has no rows to give").hint("use `generator` for rows without an outside").into())
    }

    fn sink(&self, context: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
        let BlackholeOptions {} = parse(context.config)?;
        Ok(Arc::new(Blackhole))
    }
}

#[derive(Clone, Copy, Debug)]
struct Blackhole;

#[async_trait]
impl Sink for Blackhole {
    fn guarantee(&self) -> SinkGuarantee {
        SinkGuarantee::Idempotent
    }

    fn accepts_changelog(&self) -> bool {
        true
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn writer(&self, _: WriterContext, _: Vec<Value>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Self))
    }
}

#[async_trait]
impl SinkWriter for Blackhole {
    async fn write(&mut self, _: RecordBatch) -> Result<()> {
        // The engine counts rows for every sink (`records_in`).
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    async fn prepare_commit(&mut self, _: karez_core::Epoch, _: bool) -> Result<Vec<Value>> {
        Ok(Vec::new())
    }
}
