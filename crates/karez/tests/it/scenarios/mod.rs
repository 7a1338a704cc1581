//! The examples, run as they stand by the built binary against real servers, killed and started again in the middle where nothing may be lost or come twice.

mod backlog;
mod customers;
mod enrich_orders;
mod table_to_topic;
mod tail_to_topic;
mod two_branches;
mod user_stats;

use std::cell::Cell;
use std::path::Path;
use std::process::Command;

use karez_testkit::{Database, Topic, service, unique};
use serde_json::Value;

use crate::karez::{Bench, Done, Logging, eventually};

/// An example with names of its own on the shared servers.
pub struct Scenario {
    bench: Bench,
    environment: Vec<(&'static str, String)>,
    starts: Cell<u32>,
}

impl Scenario {
    /// In a folder where `examples` is the repository's. Checkpoints come often, so that a kill falls between them.
    pub fn new() -> Self {
        let bench = Bench::new();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").canonicalize().unwrap();
        std::os::unix::fs::symlink(examples, bench.path().join("examples")).unwrap();
        let environment = vec![("CHECKPOINT", "200ms".into()), ("KAFKA_BOOTSTRAP", service("KAFKA_BOOTSTRAP"))];
        Self { bench, environment, starts: Cell::new(0) }
    }

    pub fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((variable, value.into()));
        self
    }

    /// A topic of its own, whose name is in this variable.
    pub fn with_topic(self, variable: &'static str, partitions: u16) -> (Self, Topic) {
        let topic = Topic::create(&service("KAFKA_BOOTSTRAP"), &unique("scenario"), partitions).unwrap();
        let name = topic.name.clone();
        (self.with(variable, name), topic)
    }

    pub fn path(&self) -> &Path {
        self.bench.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bench.command(arguments);
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Runs a job to its end.
    #[track_caller]
    pub fn run(&self, job: &str) -> Done {
        let output = self.command(&["run", job]).output().unwrap();
        Done::of(output).with(0)
    }

    /// Starts a job; it is running when this returns.
    #[track_caller]
    pub fn start(&self, job: &str) -> Logging {
        self.starts.set(self.starts.get() + 1);
        let mut running = self.bench.start_logging(self.command(&["run", job]), &format!("start-{}.log", self.starts.get()));
        running.until("JOB_STARTED");
        running
    }

    /// Kills a job with -9 behind a checkpoint of its own and starts it again.
    #[track_caller]
    pub fn kill_and_restart(&self, job: &str, mut running: Logging) -> Logging {
        running.until("CHECKPOINT_COMPLETED");
        running.kill();
        self.start(job)
    }

    /// Stops a job behind a last checkpoint.
    #[track_caller]
    pub fn stop(&self, id: &str, running: Logging) {
        Done::of(self.command(&["stop", id]).output().unwrap()).with(0);
        running.end();
    }
}

/// The records of an NDJSON file of an example.
pub fn records(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(file);
    std::fs::read_to_string(path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// Cents of a JSON number with at most two digits behind the point.
pub fn cents(value: &Value) -> i64 {
    #[allow(clippy::cast_possible_truncation)]
    let cents = (value.as_f64().unwrap() * 100.0).round() as i64;
    cents
}

/// `12.30` of 1230 cents.
pub fn amount(cents: i64) -> String {
    format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
}

/// Milliseconds since midnight of an instant as the examples write it: `2026-03-01T08:00:02.034Z`.
pub fn of_day_ms(instant: &Value) -> i64 {
    let number = |range: std::ops::Range<usize>| instant.as_str().unwrap()[range].parse::<i64>().unwrap();
    ((number(11..13) * 60 + number(14..16)) * 60 + number(17..19)) * 1_000 + number(20..23)
}

/// `08:05:00` of milliseconds since midnight.
pub fn time(of_day_ms: i64) -> String {
    let second = of_day_ms / 1_000;
    format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// Waits until `count` gives as much as there must be.
#[track_caller]
pub fn until_there(what: &str, expected: usize, count: impl Fn() -> usize) {
    eventually(what, || {
        let there = count() >= expected;
        if !there {
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        there.then_some(())
    });
}

/// The rows of a query, columns joined by `|`; none while the table is not there.
pub fn rows(database: Database, sql: &str) -> Vec<String> {
    database.run_blocking(&database.url(), sql).unwrap_or_default().into_iter().map(|row| row.join("|")).collect()
}

/// The values of a topic as JSON, by partition and offset.
pub fn values(topic: &Topic) -> Vec<Value> {
    let messages = topic.read_committed_blocking().unwrap();
    messages.into_iter().map(|m| serde_json::from_slice(&m.value.unwrap()).unwrap()).collect()
}

/// The lines of the finished files in a folder.
pub fn lines(folder: &Path) -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path()).collect();
    files.retain(|f| !f.file_name().unwrap().to_string_lossy().starts_with('.'));
    // By the time they were finished in, which is the order of their names' numbers.
    files.sort_by_key(|f| std::fs::metadata(f).unwrap().modified().unwrap());
    files.iter().flat_map(|f| std::fs::read_to_string(f).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}
