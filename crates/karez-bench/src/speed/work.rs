//! One measurement, in a process of its own: told on standard input, answered on standard output.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::json::ReaderBuilder;
use karez::prelude::{JobFile, JobGraph, JobOptions, JobReport, JobStatus, plan};
use karez_core::SystemClock;
use karez_runtime::Durability;
use karez_runtime::checkpoint::Start;
use serde::{Deserialize, Serialize};

use super::clock::{peak_mb, process_cpu};
use super::kafka::Loop;
use super::query::COLUMNS;

/// What is to be measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// A job on so many threads.
    Karez {
        /// The job file's text.
        job: String,
        /// Threads that run tasks.
        threads: usize,
    },
    /// The decoder of `arrow-json` alone over these columns.
    ArrowJson {
        /// NDJSON.
        file: PathBuf,
        /// Of the bids'.
        columns: Vec<String>,
    },
    /// A loop of the bare Kafka client.
    Kafka(Loop),
}

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Rows that came out.
    pub rows_out: u64,
    /// CPU time of the work, seconds.
    pub cpu_s: f64,
    /// Wall time of the work, seconds.
    pub wall_s: f64,
    /// The most memory the process had resident, MiB; 0 where the system does not tell.
    pub peak_mb: f64,
    /// Checkpoints that a job completed.
    #[serde(default)]
    pub checkpoints: u64,
}

impl Work {
    /// Does it here.
    ///
    /// # Errors
    /// What failed.
    pub fn measure(&self) -> Result<Measured, String> {
        match self {
            Self::Karez { job, threads } => run_job(job, *threads).map(|(measured, _)| measured),
            Self::ArrowJson { file, columns } => arrow_json(file, columns),
            Self::Kafka(what) => what.measure(),
        }
    }

    /// Does it in a new process of this binary.
    pub(super) fn elsewhere(&self) -> Result<Measured, String> {
        let binary = std::env::current_exe().map_err(|e| e.to_string())?;
        let todo = serde_json::to_vec(self).map_err(|e| e.to_string())?;
        measured_by(Command::new(binary).arg("work"), &todo).map_err(|e| format!("the measuring process {e}"))
    }
}

/// Starts a process that reads what to do from standard input and answers what it measured on standard output.
pub(super) fn measured_by(command: &mut Command, todo: &[u8]) -> Result<Measured, String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|e| format!("does not start: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(todo).map_err(|e| format!("takes no input: {e}"))?;
    }
    let output = child.wait_with_output().map_err(|e| format!("cannot be waited for: {e}"))?;
    if !output.status.success() {
        return Err(format!("failed: {}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("gives no measurement: {e}"))
}

/// The bids' schema, of these columns.
pub(super) fn schema(columns: &[impl AsRef<str>]) -> Arc<Schema> {
    let field = |(name, sql): &(&str, &str)| {
        let data_type = match *sql {
            "BIGINT" => DataType::Int64,
            "TIMESTAMP_MS" => DataType::Timestamp(TimeUnit::Millisecond, None),
            _ => DataType::Utf8,
        };
        Field::new(*name, data_type, true)
    };
    Arc::new(Schema::new(COLUMNS.iter().filter(|(name, _)| columns.iter().any(|c| c.as_ref() == *name)).map(field).collect::<Vec<_>>()))
}

fn arrow_json(file: &Path, columns: &[String]) -> Result<Measured, String> {
    let input = File::open(file).map_err(|e| format!("`{}`: {e}", file.display()))?;
    let reader = ReaderBuilder::new(schema(columns)).with_batch_size(8_192).build(BufReader::with_capacity(512 << 10, input));
    let (wall, cpu) = (Instant::now(), process_cpu());
    let mut rows_out = 0;
    for batch in reader.map_err(|e| e.to_string())? {
        rows_out += batch.map_err(|e| e.to_string())?.num_rows() as u64;
    }
    let (cpu, wall) = (process_cpu() - cpu, wall.elapsed());
    Ok(Measured { rows_out, cpu_s: cpu.as_secs_f64(), wall_s: wall.as_secs_f64(), peak_mb: peak_mb().unwrap_or(0.0), checkpoints: 0 })
}

/// Runs a job to its end. The rows that came out are those of the sink `out`.
pub(super) fn run_job(job: &str, threads: usize) -> Result<(Measured, JobReport), String> {
    let file = JobFile::parse("bench.yaml", job).map_err(|d| d.render(false))?;
    let graph = plan(&file.graph, &karez::registry()).map_err(|e| file.locate(&e).render(false))?;
    run_graph(graph, threads, |_| ())
}

/// Runs a job to its end, as `karez run` does, with its checkpoints in a temporary folder; `watch` sees its report every 50 ms.
pub(super) fn run_graph(graph: JobGraph, threads: usize, mut watch: impl FnMut(&JobReport)) -> Result<(Measured, JobReport), String> {
    let state = tempfile::tempdir().map_err(|e| e.to_string())?;
    let runtime = |threads| tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().map_err(|e| e.to_string());
    let (tasks, control) = (runtime(threads)?, runtime(1)?);
    let options = JobOptions {
        durability: Some(Durability { state_dir: state.path().to_owned(), start: Start::Fresh }),
        accept_duplicates: false,
        allow_non_restored_state: false,
        clock: Arc::new(SystemClock),
        tasks: tasks.handle().clone(),
    };
    let (wall, cpu) = (Instant::now(), process_cpu());
    let outcome = control.block_on(async {
        let handle = karez_runtime::start(graph, options).await?;
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            tokio::select! {
                outcome = handle.wait() => return Ok::<_, karez_core::Error>(outcome),
                _ = ticks.tick() => watch(&handle.report()),
            }
        }
    });
    let outcome = outcome.map_err(|e| e.to_string())?;
    let (cpu, wall) = (process_cpu() - cpu, wall.elapsed());
    if outcome.status != JobStatus::Completed {
        return Err(outcome.error.as_ref().map_or_else(|| format!("the job ended as {}", outcome.status), ToString::to_string));
    }
    let rows_out = outcome.report.nodes.iter().filter(|n| n.name == "out").map(|n| n.metrics.records_in).sum();
    let measured = Measured {
        rows_out,
        cpu_s: cpu.as_secs_f64(),
        wall_s: wall.as_secs_f64(),
        peak_mb: peak_mb().unwrap_or(0.0),
        checkpoints: outcome.report.checkpoints.completed,
    };
    Ok((measured, outcome.report.clone()))
}
