//! The engine's part of the contract: discover, open, read, save, go down, restore.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::array_value_to_string;
use futures::executor::block_on;
use karez_connectors::file::FileConnector;
use karez_core::config::ConfigErrors;
use karez_core::metrics::NodeMetrics;
use karez_core::source::{Read, ReadLimit, ReaderContext};
use karez_core::{BadRecord, Connector, ManualClock, Result, Source, SourceContext, Split, SplitEnumerator, SplitReader};
use serde_json::{Value, json};

pub const LIMIT: ReadLimit = ReadLimit { rows: 1_000, bytes: 1 << 20 };

pub fn source(config: &Value, schema: Option<&SchemaRef>) -> Result<Arc<dyn Source>, ConfigErrors> {
    FileConnector.source(SourceContext { node: "in", config, schema, batch: false })
}

pub fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
}

pub const TEXT: DataType = DataType::Utf8;
pub const BIGINT: DataType = DataType::Int64;
pub const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

pub fn rows_of(batch: &RecordBatch) -> Vec<String> {
    let cell = |c: usize, row| array_value_to_string(batch.column(c), row).unwrap();
    (0..batch.num_rows()).map(|row| (0..batch.num_columns()).map(|c| cell(c, row)).collect::<Vec<_>>().join("|")).collect()
}

/// A job of one source, stepped by the test.
pub struct Job {
    pub source: Arc<dyn Source>,
    pub clock: Arc<ManualClock>,
    with_origin: bool,
    enumerator: Box<dyn SplitEnumerator>,
    readers: Vec<(Split, Box<dyn SplitReader>)>,
    waiting: Vec<Split>,
    done: bool,
    pub rows: Vec<String>,
    pub bad: Vec<BadRecord>,
}

/// What a checkpoint holds, as it would stand on disk.
pub struct Saved(String);

impl Saved {
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Job {
    pub fn new(source: Arc<dyn Source>, with_origin: bool, saved: Option<&Saved>) -> Self {
        let saved: Option<(Value, Vec<Split>)> = saved.map(|s| serde_json::from_str(&s.0).unwrap());
        let (state, waiting) = saved.map_or((None, Vec::new()), |(state, splits)| (Some(state), splits));
        let enumerator = block_on(source.enumerator(state)).unwrap();
        let clock = Arc::new(ManualClock::new(0));
        Self { source, clock, with_origin, enumerator, readers: Vec::new(), waiting, done: false, rows: Vec::new(), bad: Vec::new() }
    }

    pub fn start(config: &Value, schema: Option<&SchemaRef>) -> Self {
        Self::new(source(config, schema).unwrap(), false, None)
    }

    pub fn restore(config: &Value, schema: Option<&SchemaRef>, saved: &Saved) -> Self {
        Self::new(source(config, schema).unwrap(), false, Some(saved))
    }

    pub fn discover(&mut self) -> Result<()> {
        let found = block_on(self.enumerator.discover())?;
        self.waiting.extend(found.splits);
        self.done |= found.done;
        Ok(())
    }

    pub fn open(&mut self) -> Result<()> {
        for split in std::mem::take(&mut self.waiting) {
            let context =
                ReaderContext { with_origin: self.with_origin, metrics: Arc::new(NodeMetrics::default()), clock: Arc::clone(&self.clock) as _ };
            let reader = block_on(self.source.open(&split, context))?;
            self.readers.push((split, reader));
        }
        Ok(())
    }

    /// One call of each reader; whether there was anything.
    pub fn read(&mut self, limit: ReadLimit) -> Result<bool> {
        let mut any = false;
        let mut i = 0;
        while i < self.readers.len() {
            let (split, reader) = &mut self.readers[i];
            match block_on(reader.next(limit))? {
                Read::Rows { batch, bad } => {
                    assert!(batch.num_rows() + bad.len() > 0);
                    any = true;
                    self.rows.extend(rows_of(&batch));
                    self.bad.extend(bad);
                }
                Read::Nothing | Read::Pending => {}
                Read::End => {
                    any = true;
                    split.position = reader.position().unwrap();
                    self.enumerator.finished(split);
                    self.readers.remove(i);
                    continue;
                }
            }
            i += 1;
        }
        Ok(any)
    }

    /// Discovers and reads until nothing comes any more, and takes the rows.
    pub fn settle(&mut self) -> Vec<String> {
        self.try_settle().unwrap();
        std::mem::take(&mut self.rows)
    }

    pub fn try_settle(&mut self) -> Result<()> {
        for _ in 0..3 {
            self.discover()?;
            self.open()?;
            while self.read(LIMIT)? {}
        }
        Ok(())
    }

    pub fn open_splits(&self) -> usize {
        self.readers.len()
    }

    pub fn save(&self) -> Saved {
        let open = self.readers.iter().map(|(s, r)| Split { id: s.id.clone(), position: r.position().unwrap() });
        let splits: Vec<_> = open.chain(self.waiting.iter().cloned()).collect();
        Saved(serde_json::to_string(&(self.enumerator.snapshot().unwrap(), splits)).unwrap())
    }

    /// The process goes down: nothing is left but the checkpoint.
    pub fn go_down(self) -> Saved {
        self.save()
    }
}

/// A folder of files.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
        self
    }

    pub fn append(&self, name: &str, text: &str) -> &Self {
        fs::OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap().write_all(text.as_bytes()).unwrap();
        self
    }

    pub fn rename(&self, from: &str, to: &str) -> &Self {
        fs::rename(self.path(from), self.path(to)).unwrap();
        self
    }

    pub fn remove(&self, name: &str) -> &Self {
        fs::remove_file(self.path(name)).unwrap();
        self
    }

    /// What `gzip` does.
    pub fn gzip(&self, from: &str, to: &str) -> &Self {
        self.write(to, gzip(&fs::read(self.path(from)).unwrap())).remove(from)
    }

    /// What logrotate's `copytruncate` does.
    pub fn copy_truncate(&self, from: &str, to: &str) -> &Self {
        fs::copy(self.path(from), self.path(to)).unwrap();
        fs::OpenOptions::new().write(true).truncate(true).open(self.path(from)).unwrap();
        self
    }

    pub fn config(&self, glob: &str, format: &str, more: Value) -> Value {
        let mut config = json!({ "path": self.text(glob), "format": format });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
