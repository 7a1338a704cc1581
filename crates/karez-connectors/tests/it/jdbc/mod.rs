//! The jdbc connector, driven through the contracts as the engine drives it.

mod lookup;
mod rejects;
mod sink;
mod source;
mod table;
mod types;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use karez_connectors::jdbc::JdbcConnector;
use karez_core::metrics::NodeMetrics;
use karez_core::sink::{CommitPermit, SinkRunContext, WriterContext};
use karez_core::source::{ReadLimit, ReaderContext};
use karez_core::{
    BadRecord, CommitOutcome, Committable, Connector, Epoch, Generation, ManualClock, Read, RunId, Sink, SinkContext, SinkWriter, Source,
    SourceContext, Split, SplitReader, StreamSchema,
};
use serde_json::{Value, json};

/// A database file in a folder of its own.
pub struct Base {
    folder: tempfile::TempDir,
}

impl Base {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("deep/er/test.db")
    }

    pub fn url(&self) -> String {
        format!("jdbc:sqlite:{}", self.path().display())
    }

    pub fn open(&self) -> rusqlite::Connection {
        std::fs::create_dir_all(self.path().parent().unwrap()).unwrap();
        rusqlite::Connection::open(self.path()).unwrap()
    }

    /// A base in which statements have been run.
    pub fn with(sql: &str) -> Self {
        let base = Self::new();
        base.open().execute_batch(sql).unwrap();
        base
    }

    /// The rows of a query, columns joined by `|`.
    pub fn rows(&self, sql: &str) -> Vec<String> {
        let connection = self.open();
        let mut statement = connection.prepare(sql).unwrap();
        let width = statement.column_count();
        let row = |r: &rusqlite::Row<'_>| {
            let values: Vec<String> = (0..width)
                .map(|i| match r.get_ref(i).unwrap() {
                    rusqlite::types::ValueRef::Null => "NULL".into(),
                    rusqlite::types::ValueRef::Integer(v) => v.to_string(),
                    rusqlite::types::ValueRef::Real(v) => format!("{v:?}"),
                    rusqlite::types::ValueRef::Text(v) => String::from_utf8_lossy(v).into_owned(),
                    rusqlite::types::ValueRef::Blob(v) => format!("{v:?}"),
                })
                .collect();
            Ok(values.join("|"))
        };
        statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
    }

    pub fn count(&self, table: &str) -> usize {
        self.rows(&format!("SELECT count(*) FROM {table}"))[0].parse().unwrap()
    }

    /// Rows in the staging tables.
    pub fn staged(&self) -> usize {
        let stages = self.rows("SELECT name FROM sqlite_schema WHERE name LIKE '\\_\\_karez\\_stage\\_%' ESCAPE '\\' AND type = 'table'");
        stages.iter().map(|s| self.count(s)).sum()
    }
}

pub fn two_columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]))
}

pub fn rows(of: &[(i64, &str)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(of.iter().map(|r| r.0)));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(of.iter().map(|r| r.1)));
    RecordBatch::try_new(two_columns(), vec![ids, names]).unwrap()
}

pub fn sink(config: &Value, input: &StreamSchema) -> Arc<dyn Sink> {
    try_sink(config, input).unwrap()
}

pub fn try_sink(config: &Value, input: &StreamSchema) -> Result<Arc<dyn Sink>, String> {
    JdbcConnector.sink(SinkContext { node: "out", config, input, exactly_once: true }).map_err(|e| e.to_string())
}

pub fn run(generation: u64) -> SinkRunContext {
    SinkRunContext { run: RunId("0123456789ab".into()), generation: Generation(generation), job: "job".into(), node: "out".into(), scheduled_ms: 0 }
}

/// One process of a job: a sink, its writers, and what the engine would keep in a manifest.
pub struct Process {
    pub sink: Arc<dyn Sink>,
    pub run: SinkRunContext,
    pub writers: Vec<Box<dyn SinkWriter>>,
    pub rejects: Vec<BadRecord>,
}

impl Process {
    /// Starts a generation from the committables of a manifest: replays them, prepares, opens writers.
    pub async fn start(config: &Value, schema: SchemaRef, generation: u64, parallelism: usize, manifest: &[Committable]) -> Self {
        Self::start_stream(config, StreamSchema::append_only(schema), generation, parallelism, manifest).await
    }

    pub async fn start_stream(config: &Value, schema: StreamSchema, generation: u64, parallelism: usize, manifest: &[Committable]) -> Self {
        let sink = sink(config, &schema);
        let run = run(generation);
        if !manifest.is_empty() {
            let epoch = manifest.iter().map(|c| c.epoch).max().unwrap();
            commit(sink.as_ref(), &run, epoch, manifest).await;
        }
        sink.prepare_restored(&run, manifest, &[]).await.unwrap();
        let mut writers = Vec::new();
        for subtask in 0..parallelism {
            let context = WriterContext {
                run: run.clone(),
                subtask,
                parallelism,
                schema: schema.clone(),
                metrics: Arc::new(NodeMetrics::default()),
                clock: Arc::new(ManualClock::new(1_000)),
            };
            writers.push(sink.writer(context, Vec::new()).await.unwrap());
        }
        Self { sink, run, writers, rejects: Vec::new() }
    }

    pub async fn write(&mut self, subtask: usize, batch: RecordBatch) {
        self.writers[subtask].write(batch).await.unwrap();
        self.rejects.extend(self.writers[subtask].take_rejects());
    }

    /// What all writers give at a barrier.
    pub async fn barrier(&mut self, epoch: u64) -> Vec<Committable> {
        let mut out = Vec::new();
        for (subtask, writer) in self.writers.iter_mut().enumerate() {
            let payloads = writer.prepare_commit(Epoch(epoch), false).await.unwrap();
            self.rejects.extend(writer.take_rejects());
            out.extend(payloads.into_iter().map(|payload| Committable { epoch: Epoch(epoch), subtask, payload }));
        }
        // What goes into a manifest comes back from it.
        serde_json::from_str(&serde_json::to_string(&out).unwrap()).unwrap()
    }

    pub async fn commit(&self, epoch: u64, committables: &[Committable]) -> Vec<CommitOutcome> {
        commit(self.sink.as_ref(), &self.run, Epoch(epoch), committables).await
    }
}

pub async fn commit(sink: &dyn Sink, run: &SinkRunContext, epoch: Epoch, committables: &[Committable]) -> Vec<CommitOutcome> {
    let mut committer = sink.committer(run).await.unwrap().unwrap();
    committer.commit(&CommitPermit::from_completed_manifest(epoch), committables).await.unwrap()
}

pub fn outcomes(outcomes: &[CommitOutcome]) -> Vec<&'static str> {
    outcomes
        .iter()
        .map(|o| match o {
            CommitOutcome::Committed => "committed",
            CommitOutcome::AlreadyCommitted => "already",
            CommitOutcome::RetryLater(_) => "later",
            CommitOutcome::CommittedExcept(_) => "except",
            CommitOutcome::Lost(_) => "lost",
        })
        .collect()
}

pub fn table_config(base: &Base) -> Value {
    json!({ "url": base.url(), "table": "t", "createTable": true })
}

pub fn try_source(config: &Value, schema: Option<&SchemaRef>) -> Result<Arc<dyn Source>, String> {
    JdbcConnector.source(SourceContext { node: "in", config, schema, batch: false }).map_err(|e| e.to_string())
}

pub fn source(config: &Value) -> Arc<dyn Source> {
    try_source(config, None).unwrap()
}

pub async fn open(source: &dyn Source, position: Value, with_origin: bool, clock: Arc<ManualClock>) -> Box<dyn SplitReader> {
    let context = ReaderContext { with_origin, metrics: Arc::new(NodeMetrics::default()), clock };
    source.open(&Split { id: "0".into(), position }, context).await.unwrap()
}

/// Reads until there is nothing (`false`) or the end (`true`).
pub async fn drain(reader: &mut dyn SplitReader, rows: usize) -> (Vec<RecordBatch>, Vec<BadRecord>, bool) {
    let (mut batches, mut all_bad) = (Vec::new(), Vec::new());
    loop {
        match reader.next(ReadLimit { rows, bytes: 1 << 20 }).await.unwrap() {
            Read::Rows { batch, bad } => {
                assert!(batch.num_rows() + bad.len() > 0 && batch.num_rows() <= rows);
                batches.push(batch);
                all_bad.extend(bad);
            }
            Read::Nothing | Read::Pending => return (batches, all_bad, false),
            Read::End => return (batches, all_bad, true),
        }
    }
}

/// A column of batches as text.
pub fn column(batches: &[RecordBatch], name: &str) -> Vec<String> {
    let options = arrow::util::display::FormatOptions::default().with_null("NULL");
    batches
        .iter()
        .flat_map(|b| {
            let array = Arc::clone(b.column_by_name(name).unwrap());
            let formatter = arrow::util::display::ArrayFormatter::try_new(array.as_ref(), &options).unwrap();
            (0..array.len()).map(|i| formatter.value(i).to_string()).collect::<Vec<_>>()
        })
        .collect()
}

pub fn exists(path: &Path) -> bool {
    path.exists()
}
