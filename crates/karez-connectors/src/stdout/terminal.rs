//! `connector: stdout`: prints rows.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::config::{ConfigError, ConfigErrors, parse};
use karez_core::schema::{readable_batch, readable_schema};
use karez_core::sink::{SinkGuarantee, WriterContext};
use karez_core::{BadRecord, Connector, Epoch, Error, Result, Sink, SinkContext, SinkWriter, Source, SourceContext};
use karez_formats::encode::{CsvEncoder, CsvOptions, Encoder, NdjsonEncoder, NdjsonOptions, encode_or_reject};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// `connector: stdout`.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdoutConnector;

/// The options of `stdout`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StdoutOptions {
    /// How rows look. Default: ndjson.
    #[serde(default)]
    pub format: StdoutFormat,
}

/// How printed rows look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StdoutFormat {
    /// One JSON object per line.
    #[default]
    #[serde(alias = "json")]
    Ndjson,
    /// CSV; each subtask prints the names of the columns before its first rows.
    Csv,
    /// A table for each batch.
    Table,
}

impl Connector for StdoutConnector {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn description(&self) -> &'static str {
        "Prints rows to the standard output, for trying things out.\n\nAt least once: rows since the last checkpoint are printed again after a \
         restart. A changelog is printed with a first column `change` (`+I`, `-U`, `+U`, `-D`)."
    }

    fn sink_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(StdoutOptions))
    }

    fn check_sink(&self, config: &Value) -> Result<(), ConfigErrors> {
        parse::<StdoutOptions>(config).map(drop)
    }

    fn sink_guarantees(&self) -> &'static [SinkGuarantee] {
        &[SinkGuarantee::AtLeastOnce]
    }

    fn source(&self, _: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
        Err(ConfigError::new("connector", "`stdout` is a sink, it has no rows to give").into())
    }

    fn sink(&self, context: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
        to_writer(context, Arc::new(Mutex::new(std::io::stdout())))
    }
}

/// The sink of `stdout`, printing somewhere else: for tests and for programs that show rows themselves.
pub fn to_writer(context: SinkContext<'_>, out: Arc<Mutex<dyn Write + Send>>) -> Result<Arc<dyn Sink>, ConfigErrors> {
    let options: StdoutOptions = parse(context.config)?;
    let schema = readable_schema(&context.input.arrow);
    let refused = match options.format {
        StdoutFormat::Csv => CsvEncoder::new(schema, CsvOptions::default()).err(),
        StdoutFormat::Ndjson => NdjsonEncoder::new(schema, &NdjsonOptions::default()).err(),
        StdoutFormat::Table => None,
    };
    match refused {
        Some(e) => Err(ConfigError::new("format", e.0).into()),
        None => Ok(Arc::new(Stdout { format: options.format, out })),
    }
}

struct Stdout {
    format: StdoutFormat,
    out: Arc<Mutex<dyn Write + Send>>,
}

#[async_trait]
impl Sink for Stdout {
    fn guarantee(&self) -> SinkGuarantee {
        SinkGuarantee::AtLeastOnce
    }

    fn accepts_changelog(&self) -> bool {
        true
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn writer(&self, context: WriterContext, _: Vec<Value>) -> Result<Box<dyn SinkWriter>> {
        let schema = readable_schema(&context.schema.arrow);
        let wrong = |e: karez_formats::encode::EncodeError| Error::internal(e.0);
        let encoder: Option<Box<dyn Encoder>> = match self.format {
            StdoutFormat::Ndjson => Some(Box::new(NdjsonEncoder::new(schema, &NdjsonOptions::default()).map_err(wrong)?)),
            StdoutFormat::Csv => Some(Box::new(CsvEncoder::new(schema, CsvOptions::default()).map_err(wrong)?)),
            StdoutFormat::Table => None,
        };
        let text = encoder.as_ref().map(|e| e.header()).unwrap_or_default();
        Ok(Box::new(StdoutWriter { encoder, out: Arc::clone(&self.out), text, rejects: Vec::new() }))
    }
}

struct StdoutWriter {
    encoder: Option<Box<dyn Encoder>>,
    out: Arc<Mutex<dyn Write + Send>>,
    text: Vec<u8>,
    rejects: Vec<BadRecord>,
}

#[async_trait]
impl SinkWriter for StdoutWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let batch = readable_batch(&batch)?;
        match &self.encoder {
            Some(encoder) => self.rejects.extend(encode_or_reject(encoder.as_ref(), &batch, &mut self.text)),
            None => {
                let table = arrow::util::pretty::pretty_format_batches(&[batch])?;
                writeln!(self.text, "{table}").map_err(|e| Error::external("cannot print").caused_by(e))?;
            }
        }
        // One lock per batch: the rows of two subtasks do not mix within one.
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(&self.text).and_then(|()| out.flush()).map_err(cannot_print)?;
        self.text.clear();
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_rejects(&mut self) -> Vec<BadRecord> {
        std::mem::take(&mut self.rejects)
    }

    async fn prepare_commit(&mut self, _: Epoch, _: bool) -> Result<Vec<Value>> {
        Ok(Vec::new())
    }
}

/// A reader that has gone (`karez run job.yaml | head`) does not come back: that is not worth a restart.
fn cannot_print(e: io::Error) -> Error {
    match e.kind() {
        ErrorKind::BrokenPipe => Error::user("nobody reads the standard output any more").caused_by(e),
        _ => Error::external("cannot print to the standard output").caused_by(e),
    }
}
