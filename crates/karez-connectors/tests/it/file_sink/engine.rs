//! The engine's part of the contract, step by step: write, prepare, snapshot, manifest, commit, crash, restore.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use karez_connectors::file::FileConnector;
use karez_core::config::ConfigErrors;
use karez_core::metrics::NodeMetrics;
use karez_core::sink::{CommitPermit, SinkRunContext, WriterContext};
use karez_core::{
    CommitOutcome, Committable, Committer, Connector, Epoch, Generation, ManualClock, Result, RunId, Sink, SinkContext, SinkWriter, StreamSchema,
};
use serde_json::{Value, json};

pub const RUN: &str = "0123456789ab";
pub const SCHEDULED_MS: i64 = 1_358_899_200_000; // 2013-01-23T00:00:00Z

/// What a completed checkpoint holds.
#[derive(Clone, Default)]
pub struct Manifest {
    pub epoch: u64,
    pub committables: Vec<Committable>,
    pub states: Vec<Value>,
}

pub struct Engine {
    pub sink: Arc<dyn Sink>,
    pub schema: SchemaRef,
    pub clock: Arc<ManualClock>,
    pub metrics: Arc<NodeMetrics>,
    pub run: SinkRunContext,
    pub writers: Vec<Box<dyn SinkWriter>>,
    pub committer: Option<Box<dyn Committer>>,
    /// Of failed checkpoints, or not acknowledged.
    pub pending: Vec<Committable>,
    pub epoch: u64,
}

pub fn plan(config: &Value, schema: &SchemaRef) -> Result<Arc<dyn Sink>, ConfigErrors> {
    let input = StreamSchema::append_only(Arc::clone(schema));
    FileConnector.sink(SinkContext { node: "out", config, input: &input, exactly_once: true })
}

impl Engine {
    pub fn new(config: &Value, schema: &SchemaRef) -> Self {
        let run = SinkRunContext {
            run: RunId(RUN.to_owned()),
            generation: Generation(0),
            job: "job".to_owned(),
            node: "out".to_owned(),
            scheduled_ms: SCHEDULED_MS,
        };
        Self {
            sink: plan(config, schema).unwrap(),
            schema: Arc::clone(schema),
            clock: Arc::new(ManualClock::new(1_000)),
            metrics: Arc::default(),
            run,
            writers: Vec::new(),
            committer: None,
            pending: Vec::new(),
            epoch: 0,
        }
    }

    /// A start of the process: commits what the manifest names, cleans up, opens writers.
    pub async fn start(&mut self, manifest: &Manifest, parallelism: usize) -> Result<()> {
        self.crash();
        self.run.generation.0 += 1;
        self.epoch = self.epoch.max(manifest.epoch);
        self.committer = self.sink.committer(&self.run).await?;
        self.commit(manifest).await?;
        self.sink.prepare_restored(&self.run, &manifest.committables, &manifest.states).await?;
        for subtask in 0..parallelism {
            let state = manifest.states.iter().skip(subtask).step_by(parallelism).cloned().collect();
            let context = WriterContext {
                run: self.run.clone(),
                subtask,
                parallelism,
                schema: StreamSchema::append_only(Arc::clone(&self.schema)),
                metrics: Arc::clone(&self.metrics),
                clock: Arc::clone(&self.clock) as _,
            };
            self.writers.push(self.sink.writer(context, state).await?);
        }
        Ok(())
    }

    /// The process is gone.
    pub fn crash(&mut self) {
        self.writers.clear();
        self.committer = None;
        self.pending.clear();
    }

    pub async fn write(&mut self, subtask: usize, batch: RecordBatch) -> Result<()> {
        self.writers[subtask].write(batch).await
    }

    /// A barrier has passed all writers; whether its manifest is written is up to the caller.
    pub async fn barrier(&mut self, end_of_input: bool) -> Result<Manifest> {
        self.epoch += 1;
        let mut states = Vec::new();
        for (subtask, writer) in self.writers.iter_mut().enumerate() {
            for payload in writer.prepare_commit(Epoch(self.epoch), end_of_input).await? {
                self.pending.push(Committable { epoch: Epoch(self.epoch), subtask, payload });
            }
            states.extend(writer.snapshot().await?);
        }
        Ok(Manifest { epoch: self.epoch, committables: self.pending.clone(), states })
    }

    pub async fn commit(&mut self, manifest: &Manifest) -> Result<Vec<CommitOutcome>> {
        let permit = CommitPermit::from_completed_manifest(Epoch(manifest.epoch));
        let outcomes = self.committer.as_mut().unwrap().commit(&permit, &manifest.committables).await?;
        assert!(outcomes.iter().all(|o| matches!(o, CommitOutcome::Committed | CommitOutcome::AlreadyCommitted)), "{outcomes:?}");
        self.pending.retain(|c| !manifest.committables.contains(c));
        Ok(outcomes)
    }

    /// A whole checkpoint.
    pub async fn checkpoint(&mut self, end_of_input: bool) -> Result<Manifest> {
        let manifest = self.barrier(end_of_input).await?;
        self.commit(&manifest).await?;
        Ok(manifest)
    }
}

pub fn numbered() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("text", DataType::Utf8, true)]))
}

/// Rows of `numbered()`.
pub fn rows(numbers: impl IntoIterator<Item = i64>) -> RecordBatch {
    let numbers: Vec<i64> = numbers.into_iter().collect();
    let text = numbers.iter().map(|n| (n % 3 != 0).then(|| format!("row \"{n}\",\nso"))).collect::<StringArray>();
    RecordBatch::try_new(numbered(), vec![Arc::new(Int64Array::from(numbers)), Arc::new(text) as ArrayRef]).unwrap()
}

/// All files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

pub fn is_hidden(path: &Path) -> bool {
    path.file_name().unwrap().to_str().unwrap().starts_with('.')
}

pub fn visible(folder: &Path) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|p| !is_hidden(p)).collect()
}

pub fn hidden(folder: &Path) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|p| is_hidden(p)).collect()
}

pub fn bytes(path: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    let file = File::open(path).unwrap();
    match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => flate2::read::MultiGzDecoder::new(file).read_to_end(&mut out),
        Some("zst") => zstd::stream::read::Decoder::new(file).unwrap().read_to_end(&mut out),
        _ => std::io::BufReader::new(file).read_to_end(&mut out),
    }
    .unwrap();
    out
}

/// The rows of one file, read by Arrow's own readers.
pub fn read(path: &Path, schema: &SchemaRef) -> Vec<RecordBatch> {
    let name = path.file_name().unwrap().to_str().unwrap();
    if name.ends_with(".parquet") {
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
        return reader.build().unwrap().map(Result::unwrap).collect();
    }
    let bytes = bytes(path);
    if name.contains(".csv") {
        let reader = arrow::csv::ReaderBuilder::new(Arc::clone(schema)).with_header(true).build(bytes.as_slice()).unwrap();
        return reader.map(Result::unwrap).collect();
    }
    arrow::json::ReaderBuilder::new(Arc::clone(schema)).build(bytes.as_slice()).unwrap().map(Result::unwrap).collect()
}

/// The column `n` of all visible files, sorted.
pub fn numbers(folder: &Path) -> Vec<i64> {
    let mut found: Vec<i64> = visible(folder)
        .iter()
        .filter(|p| !p.file_name().unwrap().to_str().unwrap().starts_with("foreign"))
        .flat_map(|p| read(p, &numbered()))
        .flat_map(|b| {
            for (n, text) in b.column(0).as_primitive::<Int64Type>().iter().zip(b.column(1).as_string::<i32>().iter()) {
                let n = n.unwrap();
                assert_eq!(text.map(str::to_owned), (n % 3 != 0).then(|| format!("row \"{n}\",\nso")));
            }
            b.column(0).as_primitive::<Int64Type>().values().to_vec()
        })
        .collect();
    found.sort_unstable();
    found
}

/// Contents by path, to see that nobody touches them.
pub fn contents(paths: &[PathBuf]) -> BTreeMap<PathBuf, Vec<u8>> {
    paths.iter().map(|p| (p.clone(), std::fs::read(p).unwrap())).collect()
}

pub fn config(folder: &Path, more: Value) -> Value {
    let mut config = json!({ "path": format!("{}/", folder.display()) });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}
