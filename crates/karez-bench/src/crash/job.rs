//! The jobs that are killed, and what they read.

use std::io::Write as _;
use std::path::Path;

/// How many files the jobs read.
const FILES: u64 = 4;
/// Rows in each of them.
const ROWS_PER_FILE: u64 = 500;
/// Rows per second, all subtasks together: a run takes 0.8 s.
const RATE: u64 = 2_500;
/// Midnight of 1 January 2013 in milliseconds since 1970.
const BASE_MS: u64 = 1_356_998_400_000;

/// A job that is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Files, a window by key, a table in SQLite.
    WindowToSqlite,
    /// Files to Parquet files.
    ToParquet,
    /// Files to NDJSON files, which span checkpoints.
    ToNdjson,
    /// Files to NDJSON files and, through a window, to SQLite.
    TwoSinks,
}

/// Where a job writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// The table `totals` in `out/totals.db`.
    Table,
    /// Files in `out/parquet`.
    Parquet,
    /// Files in `out/ndjson`.
    Ndjson,
}

impl Job {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::WindowToSqlite, Self::ToParquet, Self::ToNdjson, Self::TwoSinks];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WindowToSqlite => "window-to-sqlite",
            Self::ToParquet => "to-parquet",
            Self::ToNdjson => "to-ndjson",
            Self::TwoSinks => "two-sinks",
        }
    }

    pub(super) const fn outputs(self) -> &'static [Output] {
        match self {
            Self::WindowToSqlite => &[Output::Table],
            Self::ToParquet => &[Output::Parquet],
            Self::ToNdjson => &[Output::Ndjson],
            Self::TwoSinks => &[Output::Ndjson, Output::Table],
        }
    }

    /// The fail points this job comes by besides those of recovery.
    #[must_use]
    pub fn steps(self) -> Vec<&'static str> {
        let mut steps = vec!["checkpoint-before-manifest", "checkpoint-after-manifest", "checkpoint-retention"];
        if self.outputs().contains(&Output::Table) {
            steps.extend(["jdbc-commit-before", "jdbc-commit-between", "jdbc-commit-after"]);
        }
        if self.outputs().iter().any(|o| *o != Output::Table) {
            steps.extend(["file-sink-rename-before", "file-sink-rename-after"]);
        }
        steps
    }

    /// The job file. A reference run is not held back.
    pub(super) fn yaml(self, parallelism: usize, held_back: bool) -> String {
        let rate = if held_back { format!("rateLimit: {RATE}") } else { "rateLimit: 1000000".to_owned() };
        let mut operators = String::new();
        let mut sinks = String::new();
        for output in self.outputs() {
            let (operator, sink) = match output {
                Output::Table => (
                    r#"
    - name: per-customer
      type: window-aggregate
      inputs: [orders]
      keyBy: [customer]
      window: { type: tumbling, size: 5s }
      aggregates:
        orders: "count(*)"
        total: "sum(amount)"
        last: "max(id)"
        median: "percentile_cont(0.5) WITHIN GROUP (ORDER BY CAST(id AS DOUBLE))""#,
                    r#"
    - name: totals
      connector: jdbc
      inputs: [per-customer]
      config: { url: "jdbc:sqlite:out/totals.db", table: totals, createTable: true }"#,
                ),
                Output::Parquet => (
                    r#"
    - { name: some, type: filter, inputs: [orders], where: "id % 7 <> 0" }"#,
                    r#"
    - { name: files, connector: file, inputs: [some], config: { path: out/parquet, format: parquet } }"#,
                ),
                Output::Ndjson => (
                    r#"
    - { name: some, type: filter, inputs: [orders], where: "id % 7 <> 0" }"#,
                    r#"
    - { name: files, connector: file, inputs: [some], config: { path: out/ndjson, format: ndjson, rollSize: 8k } }"#,
                ),
            };
            operators.push_str(operator);
            sinks.push_str(sink);
        }
        format!(
            "job:
  id: crash
  name: Crash
  type: streaming
  parallelism: {parallelism}
  delivery: exactly-once
  checkpoint: {{ interval: 100ms }}
  restart: {{ strategy: none }}
  sources:
    - name: orders
      connector: file
      {rate}
      config: {{ path: \"in/*.csv\", format: csv }}
      schema: {{ id: bigint, customer: int, amount: \"decimal(10,2)\", at: timestamp(3) }}
      eventTime: {{ column: at, maxOutOfOrderness: 2s }}
  operators:{operators}
  sinks:{sinks}
"
        )
    }
}

/// Writes the files that all jobs read: orders of twenty customers, ten a second, up to a second behind the newest.
pub(super) fn write_input(folder: &Path) -> std::io::Result<()> {
    let folder = folder.join("in");
    std::fs::create_dir_all(&folder)?;
    for file in 0..FILES {
        let mut out = std::io::BufWriter::new(std::fs::File::create(folder.join(format!("orders-{file}.csv")))?);
        writeln!(out, "id,customer,amount,at")?;
        for id in file * ROWS_PER_FILE..(file + 1) * ROWS_PER_FILE {
            let at = instant(BASE_MS + 10_000 + id * 100 - id * 7_919 % 10 * 100);
            writeln!(out, "{id},{},{}.{:02},{at}", id * 31 % 20, id * 131 % 977, id % 100)?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Milliseconds within 1 January 2013 as text.
fn instant(at_ms: u64) -> String {
    let of_day = at_ms - BASE_MS;
    let (hour, minute, second, milli) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60, of_day % 1_000);
    format!("2013-01-01T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}
