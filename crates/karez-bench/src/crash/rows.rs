//! The rows a job has made visible, as lines of JSON, and what two sets of them differ in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::job::{Job, Output, Place, SCHEMA, source};
use super::process::Process;
use super::servers::System;

/// Rows by how often they are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows(BTreeMap<String, u64>);

/// What rows differ in from those they should be.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// Rows that are missing.
    pub lost: u64,
    /// Rows that are there too often, or should not be there at all.
    pub doubled: u64,
    /// The first few of both.
    pub examples: Vec<String>,
}

impl Rows {
    /// Everything a job has written to `folder` and to servers; Parquet files, tables and topics are read by a job of their own.
    ///
    /// # Errors
    /// A file that is neither finished nor removed, a file, table or topic that cannot be read.
    pub(super) fn read(karez: &Path, folder: &Path, job: Job, place: Place<'_>) -> Result<Self, String> {
        let mut rows = Self::default();
        for output in job.outputs() {
            match output {
                Output::Ndjson => {
                    for file in visible_files(&folder.join("out/ndjson"))? {
                        rows.add(*output, &file)?;
                    }
                }
                Output::Parquet => {
                    if !visible_files(&folder.join("out/parquet"))?.is_empty() {
                        rows.add(
                            *output,
                            &copied(karez, folder, "parquet", r#"connector: file, config: { path: "out/parquet/*.parquet", format: parquet }"#)?,
                        )?;
                    }
                }
                Output::Table => {
                    let source = r#"connector: jdbc, config: { url: "jdbc:sqlite:out/totals.db", table: totals }"#;
                    rows.add(*output, &copied(karez, folder, "table", source)?)?;
                }
                Output::Server(system) => {
                    let read = source(*system, place.servers.address(*system)?, place.output, false);
                    let mut schema = String::new();
                    if *system == System::Kafka {
                        // What a topic's messages are read as.
                        schema = format!(", schema: {SCHEMA}");
                        place.servers.topic(place.output)?.settled_blocking()?;
                    }
                    rows.add(*output, &copied(karez, folder, "server", &(read + &schema))?)?;
                }
            }
        }
        Ok(rows)
    }

    /// How many rows there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// What is missing of `self` in `found`, and what is there too much.
    #[must_use]
    pub fn compare(&self, found: &Self) -> Difference {
        let mut difference = Difference::default();
        let mut note = |what: &str, n: u64, row: &str| {
            if n > 0 && difference.examples.len() < 12 {
                difference.examples.push(format!("{what} {n} ×: {row}"));
            }
            n
        };
        let (mut lost, mut doubled) = (0, 0);
        for (row, expected) in &self.0 {
            let there = found.0.get(row).copied().unwrap_or(0);
            lost += note("lost", expected.saturating_sub(there), row);
            doubled += note("doubled", there.saturating_sub(*expected), row);
        }
        for (row, there) in found.0.iter().filter(|(row, _)| !self.0.contains_key(*row)) {
            doubled += note("foreign", *there, row);
        }
        (difference.lost, difference.doubled) = (lost, doubled);
        difference
    }

    fn add(&mut self, output: Output, file: &Path) -> Result<(), String> {
        let text = std::fs::read_to_string(file).map_err(|e| format!("`{}` cannot be read: {e}", file.display()))?;
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(format!("`{}` ends within a line", file.display()));
        }
        for line in text.lines() {
            *self.0.entry(format!("{output:?} {line}")).or_default() += 1;
        }
        Ok(())
    }
}

/// The finished files in a folder. After a job has ended there are no others.
fn visible_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |e: std::io::Error| format!("`{}` cannot be read: {e}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
            return Err(format!("`{}` was left behind", path.display()));
        }
        files.push(path);
    }
    Ok(files)
}

/// What a source reads, copied to one NDJSON file.
fn copied(karez: &Path, folder: &Path, name: &str, source: &str) -> Result<PathBuf, String> {
    let (job, copy) = (format!("read-{name}.yaml"), format!("read-{name}.ndjson"));
    let text = format!(
        "job:
  id: read-{name}
  name: Read
  type: batch
  sources: [ {{ name: written, {source} }} ]
  sinks: [ {{ name: copy, connector: file, inputs: [written], config: {{ path: {copy} }} }} ]
"
    );
    std::fs::write(folder.join(&job), text).map_err(|e| format!("`{job}` cannot be written: {e}"))?;
    let ended = Process::start(karez, folder, &job, None)?.end()?;
    if ended.code != Some(0) {
        return Err(format!("the rows cannot be read back: {}", ended.log));
    }
    Ok(folder.join(copy))
}
