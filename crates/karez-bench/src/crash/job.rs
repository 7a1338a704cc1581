//! The jobs that are killed.

use super::letters;
use super::servers::{Servers, System};

/// Rows per second of file jobs, all subtasks together: a run takes 0.8 s.
const RATE: u64 = 2_500;

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
    /// The same from files with bad rows, which become dead letters and are repaired and fed again while the job runs, dies and recovers.
    Letters,
    /// A topic to a topic.
    KafkaKafka,
    /// A topic, a window by key, a table in PostgreSQL.
    KafkaPostgres,
    /// A topic to a table in MySQL.
    KafkaMysql,
    /// A table in PostgreSQL to a topic.
    PostgresKafka,
    /// A table in PostgreSQL to a table there.
    PostgresPostgres,
}

/// What a job reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// The files in `in`.
    Files,
    /// The files in `bad`, without end; in the undisturbed run the same rows without mistakes, in `in`.
    BadFiles,
    /// What stands in a server before the first round.
    Server(System),
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
    /// A table or topic that is new for each round.
    Server(System),
}

/// Where a round takes place: the servers, what is read in them and what is written.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) servers: &'a Servers,
    /// The topic or table that is read.
    pub(super) input: &'a str,
    /// The topic or table that is written.
    pub(super) output: &'a str,
}

impl Job {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::WindowToSqlite,
        Self::ToParquet,
        Self::ToNdjson,
        Self::TwoSinks,
        Self::Letters,
        Self::KafkaKafka,
        Self::KafkaPostgres,
        Self::KafkaMysql,
        Self::PostgresKafka,
        Self::PostgresPostgres,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WindowToSqlite => "window-to-sqlite",
            Self::ToParquet => "to-parquet",
            Self::ToNdjson => "to-ndjson",
            Self::TwoSinks => "two-sinks",
            Self::Letters => "letters",
            Self::KafkaKafka => "kafka-kafka",
            Self::KafkaPostgres => "kafka-postgres",
            Self::KafkaMysql => "kafka-mysql",
            Self::PostgresKafka => "postgres-kafka",
            Self::PostgresPostgres => "postgres-postgres",
        }
    }

    const fn input(self) -> Input {
        match self {
            Self::WindowToSqlite | Self::ToParquet | Self::ToNdjson | Self::TwoSinks => Input::Files,
            Self::Letters => Input::BadFiles,
            Self::KafkaKafka | Self::KafkaPostgres | Self::KafkaMysql => Input::Server(System::Kafka),
            Self::PostgresKafka | Self::PostgresPostgres => Input::Server(System::Postgres),
        }
    }

    pub(super) const fn outputs(self) -> &'static [Output] {
        match self {
            Self::WindowToSqlite => &[Output::Table],
            Self::ToParquet => &[Output::Parquet],
            Self::ToNdjson => &[Output::Ndjson],
            Self::TwoSinks | Self::Letters => &[Output::Ndjson, Output::Table],
            Self::KafkaKafka | Self::PostgresKafka => &[Output::Server(System::Kafka)],
            Self::KafkaPostgres | Self::PostgresPostgres => &[Output::Server(System::Postgres)],
            Self::KafkaMysql => &[Output::Server(System::Mysql)],
        }
    }

    /// The servers it needs; those are the ones that may be killed under it.
    #[must_use]
    pub fn systems(self) -> Vec<System> {
        let input = match self.input() {
            Input::Files | Input::BadFiles => None,
            Input::Server(system) => Some(system),
        };
        let mut systems: Vec<_> = input.into_iter().collect();
        for output in self.outputs() {
            if let Output::Server(system) = output
                && !systems.contains(system)
            {
                systems.push(*system);
            }
        }
        systems
    }

    /// The fail points this job comes by besides those of recovery.
    #[must_use]
    pub fn steps(self) -> Vec<&'static str> {
        let mut steps = vec!["checkpoint-before-manifest", "checkpoint-after-manifest", "checkpoint-retention"];
        for output in self.outputs() {
            steps.extend_from_slice(match output {
                Output::Table => &["jdbc-commit-before", "jdbc-commit-between", "jdbc-commit-after"],
                Output::Server(System::Postgres | System::Mysql) => {
                    &["jdbc-seal-before", "jdbc-commit-before", "jdbc-commit-between", "jdbc-commit-answer", "jdbc-commit-after"]
                }
                Output::Server(System::Kafka) => &["kafka-prepare", "kafka-commit-before", "kafka-commit-between", "kafka-commit-after"],
                Output::Parquet | Output::Ndjson => &["file-sink-rename-before", "file-sink-rename-after"],
            });
        }
        steps
    }

    /// Whether it has dead letters that must be fed again before it ends.
    pub(super) fn has_letters(self) -> bool {
        self.input() == Input::BadFiles
    }

    /// The job file. A reference run is not held back, and no row of it is bad.
    pub(super) fn yaml(self, parallelism: usize, held_back: bool, place: Place<'_>) -> Result<String, String> {
        let rate = if held_back { format!("rateLimit: {RATE}") } else { "rateLimit: 1000000".to_owned() };
        let source = match self.input() {
            Input::BadFiles => return Ok(letters::yaml(parallelism, held_back.then_some(RATE))),
            Input::Files => r#"connector: file, config: { path: "in/*.csv", format: csv }"#.to_owned(),
            Input::Server(system) => source(system, place.servers.address(system)?, place.input, true),
        };
        let mut operators = String::new();
        let mut sinks = String::new();
        for output in self.outputs() {
            let window = matches!(output, Output::Table) || self == Self::KafkaPostgres;
            let (node, operator) = if window { ("per-customer", WINDOW) } else { ("some", FILTER) };
            operators.push_str(operator);
            let sink = match output {
                Output::Table => {
                    r#"name: totals, connector: jdbc, config: { url: "jdbc:sqlite:out/totals.db", table: totals, createTable: true }"#.to_owned()
                }
                Output::Parquet => "name: files, connector: file, config: { path: out/parquet, format: parquet }".to_owned(),
                Output::Ndjson => "name: files, connector: file, config: { path: out/ndjson, format: ndjson, rollSize: 8k }".to_owned(),
                Output::Server(system) => sink(*system, place.servers.address(*system)?, place.output),
            };
            sinks.push_str(&format!("\n    - {{ inputs: [{node}], {sink} }}"));
        }
        // A table has its own columns; the others are told.
        let schema = if self.input() == Input::Server(System::Postgres) { String::new() } else { format!(", schema: {SCHEMA}") };
        // A server that is killed under the job is waited for; a job among files has nothing to wait for.
        let restart = if self.systems().is_empty() { "strategy: none" } else { "strategy: fixed-delay, attempts: 200, delay: 300ms" };
        Ok(format!(
            "job:
  id: crash
  name: Crash
  type: streaming
  parallelism: {parallelism}
  delivery: exactly-once
  checkpoint: {{ interval: 100ms }}
  restart: {{ {restart} }}
  sources:
    - {{ name: orders, {rate}, eventTime: {{ column: at, maxOutOfOrderness: 2s }}, {source}{schema} }}
  operators:{operators}
  sinks:{sinks}
"
        ))
    }

    /// Makes the topic that is read; tables are made by their sinks.
    pub(super) fn make_input(self, place: Place<'_>) -> Result<(), String> {
        if self.input() == Input::Server(System::Kafka) { place.servers.make_topic(place.input) } else { Ok(()) }
    }

    /// Makes the topic that is written.
    pub(super) fn make_output(self, place: Place<'_>) -> Result<(), String> {
        if self.outputs().contains(&Output::Server(System::Kafka)) { place.servers.make_topic(place.output) } else { Ok(()) }
    }

    /// The job that fills a server with the rows of the files before the first round; `None` for a job that reads the files themselves.
    pub(super) fn filling(self, place: Place<'_>) -> Result<Option<String>, String> {
        let Input::Server(system) = self.input() else { return Ok(None) };
        let sink = sink(system, place.servers.address(system)?, place.input);
        Ok(Some(format!(
            "job:
  id: fill
  name: Fill
  type: batch
  parallelism: 1
  sources:
    - {{ name: orders, connector: file, config: {{ path: \"in/*.csv\", format: csv }}, schema: {SCHEMA} }}
  sinks:
    - {{ inputs: [orders], {sink} }}
"
        )))
    }
}

/// The columns of the orders.
pub(super) const SCHEMA: &str = r#"{ id: bigint, customer: int, amount: "decimal(10,2)", at: timestamp(3) }"#;

const WINDOW: &str = r#"
    - name: per-customer
      type: window-aggregate
      inputs: [orders]
      keyBy: [customer]
      window: { type: tumbling, size: 5s }
      aggregates:
        orders: "count(*)"
        total: "sum(amount)"
        last: "max(id)"
        median: "percentile_cont(0.5) WITHIN GROUP (ORDER BY CAST(id AS DOUBLE))""#;

const FILTER: &str = r#"
    - { name: some, type: filter, inputs: [orders], where: "id % 7 <> 0" }"#;

/// The keys of a source that reads all that is there, and ends; a table in the order of `id` where it has that.
pub(super) fn source(system: System, address: &str, name: &str, by_id: bool) -> String {
    match system {
        System::Kafka => {
            format!(
                r#"connector: kafka, config: {{ bootstrapServers: "{address}", topics: [{name}], startFrom: earliest, stopAt: latest, format: json }}"#
            )
        }
        System::Postgres | System::Mysql => {
            let mode = if by_id { "mode: incrementing, incrementingColumn: id, bounded: true" } else { "mode: bulk" };
            format!(r#"connector: jdbc, config: {{ url: "{address}", table: {name}, {mode} }}"#)
        }
    }
}

fn sink(system: System, address: &str, name: &str) -> String {
    match system {
        // With a key the rows lie in all partitions, so that each subtask of a job that reads them has a transaction to commit. The prefix is not the
        // job's id, since others of that id may run beside this one on the same broker: each aborts what it finds open of itself.
        System::Kafka => format!(
            r#"name: topic, connector: kafka, config: {{ bootstrapServers: "{address}", topic: {name}, format: json, key: [id], transactionalIdPrefix: {name} }}"#
        ),
        System::Postgres | System::Mysql => {
            format!(r#"name: table, connector: jdbc, config: {{ url: "{address}", table: {name}, createTable: true }}"#)
        }
    }
}
