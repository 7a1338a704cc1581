//! Folders of NDJSON and of Parquet files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_connectors::file::FileConnector;
use karez_core::Connector;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::super::{End, as_lines, by_id, rows, rows_schema};
use super::{BEFORE_THE_EPOCH_MS, common_types};

/// A folder for the target, and the numbers of the files put there from outside.
struct Folder {
    folder: tempfile::TempDir,
    files: AtomicUsize,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), files: AtomicUsize::new(0) }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    fn config(&self, format: &str, read: bool) -> Value {
        let path = if read { self.target().join(format!("*.{format}")) } else { self.target() };
        json!({ "path": path, "format": format })
    }

    /// Files that are finished, as others see them.
    fn visible(&self) -> Vec<PathBuf> {
        let hidden = |p: &Path| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        let files = std::fs::read_dir(self.target()).into_iter().flatten().map(|e| e.unwrap().path());
        files.filter(|p| !hidden(p)).collect()
    }

    /// A file that appears whole.
    fn put(&self, format: &str, bytes: &[u8]) {
        let n = self.files.fetch_add(1, Ordering::Relaxed);
        let hidden = self.target().join(format!(".{n}"));
        std::fs::write(&hidden, bytes).unwrap();
        std::fs::rename(hidden, self.target().join(format!("in-{n:06}.{format}"))).unwrap();
    }
}

/// A folder of NDJSON files.
pub struct NdjsonFiles(Folder);

/// A folder of Parquet files.
pub struct ParquetFiles(Folder);

#[async_trait]
impl End for NdjsonFiles {
    async fn fresh() -> Self {
        Self(Folder::new())
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(FileConnector)
    }

    fn sink(&self) -> Value {
        // A file stays open over checkpoints and is visible when it is finished: after each write, here.
        let mut config = self.0.config("ndjson", false);
        config["rollSize"] = 1.into();
        config
    }

    fn source(&self) -> Value {
        self.0.config("ndjson", true)
    }

    fn declares_schema(&self) -> bool {
        true
    }

    async fn create(&self) {
        std::fs::create_dir_all(self.0.target()).unwrap();
        self.0.put("ndjson", b"");
    }

    async fn insert(&self, rows: &[(i64, Option<&str>)]) {
        let text: String = rows.iter().map(|(id, name)| format!("{}\n", json!({ "id": id, "name": name }))).collect();
        self.0.put("ndjson", text.as_bytes());
    }

    async fn visible(&self) -> Vec<String> {
        let texts = self.0.visible().into_iter().map(|f| std::fs::read_to_string(f).unwrap());
        let mut lines: Vec<String> = texts
            .flat_map(|t| {
                t.split_terminator('\n')
                    .map(|line| {
                        let row: Value = serde_json::from_str(line).unwrap();
                        format!("{}|{}", row["id"], row["name"].as_str().unwrap_or("NULL"))
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        by_id(&mut lines);
        lines
    }

    fn every_type(&self) -> RecordBatch {
        common_types(&[], BEFORE_THE_EPOCH_MS)
    }
}

#[async_trait]
impl End for ParquetFiles {
    async fn fresh() -> Self {
        Self(Folder::new())
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(FileConnector)
    }

    fn sink(&self) -> Value {
        self.0.config("parquet", false)
    }

    fn source(&self) -> Value {
        self.0.config("parquet", true)
    }

    async fn create(&self) {
        std::fs::create_dir_all(self.0.target()).unwrap();
        self.insert(&[]).await;
    }

    async fn insert(&self, of: &[(i64, Option<&str>)]) {
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, rows_schema(), None).unwrap();
        writer.write(&rows(of)).unwrap();
        writer.close().unwrap();
        self.0.put("parquet", &bytes);
    }

    async fn visible(&self) -> Vec<String> {
        let batches: Vec<RecordBatch> = self
            .0
            .visible()
            .into_iter()
            .flat_map(|f| ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(f).unwrap()).unwrap().build().unwrap())
            .collect::<Result<_, _>>()
            .unwrap();
        as_lines(&batches)
    }

    fn every_type(&self) -> RecordBatch {
        common_types(&[], BEFORE_THE_EPOCH_MS)
    }
}
