//! The job with dead letters, and the clerk who repairs them and gives them back while the job runs, dies and recovers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::input::{BAD, BAD_ROWS};

/// Letters given back at a time, so that there are many replays at many moments.
const AT_ONCE: usize = 60;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// The job file. Held back to `rate` rows a second it reads the bad rows, without end; otherwise those without mistakes, to their end.
///
/// Letters come at any time, so windows take late rows, and give their results anew.
pub(super) fn yaml(parallelism: usize, rate: Option<u64>) -> String {
    let (folder, rate, follow) = match rate {
        Some(rate) => ("bad", rate, ", follow: true"),
        None => ("in", 1_000_000, ""),
    };
    format!(
        r#"job:
  id: crash
  name: Crash
  type: streaming
  parallelism: {parallelism}
  delivery: exactly-once
  checkpoint: {{ interval: 100ms }}
  restart: {{ strategy: none }}
  sources:
    - name: orders
      rateLimit: {rate}
      eventTime: {{ column: at, maxOutOfOrderness: 2s }}
      connector: file
      config: {{ path: "{folder}/*.csv", format: csv{follow} }}
      schema: {{ id: bigint, customer: int, amount: string, at: timestamp(3) }}
      onError: dead-letter
  operators:
    - {{ name: priced, type: map, inputs: [orders], columns: {{ id: id, customer: customer, amount: "cast(amount as decimal(10, 2))", at: at }}, onError: dead-letter }}
    - {{ name: some, type: filter, inputs: [priced], where: "id % 9 <> 0" }}
    - name: per-customer
      type: window-aggregate
      inputs: [priced]
      keyBy: [customer]
      window: {{ type: tumbling, size: 5s }}
      allowedLateness: 10d
      aggregates: {{ orders: "count(*)", total: "sum(amount)", last: "max(id)" }}
  sinks:
    - {{ name: files, inputs: [some], connector: file, config: {{ path: out/ndjson, format: ndjson, rollSize: 8k }} }}
    - name: totals
      inputs: [per-customer]
      connector: jdbc
      config: {{ url: "jdbc:sqlite:out/totals.db", table: totals, key: [customer, window_start, window_end], createTable: true }}
  deadLetter: {{ connector: jdbc, config: {{ url: "jdbc:sqlite:out/letters.db", table: letters, createTable: true }} }}
"#
    )
}

/// Whoever looks after the letters of a round.
pub(super) struct Clerk<'a> {
    karez: &'a Path,
    folder: &'a Path,
}

impl<'a> Clerk<'a> {
    /// Of the job in this folder. A copy of the job file is the clerk's own: the job's is written anew at each start.
    pub(super) fn new(karez: &'a Path, folder: &'a Path, job: &str) -> Result<Self, String> {
        std::fs::write(folder.join("clerk.yaml"), job).map_err(|e| format!("`clerk.yaml` cannot be written: {e}"))?;
        Ok(Self { karez, folder })
    }

    /// Works until the round is over. What a command cannot do now, since the job is about to start or to die, a later one does.
    pub(super) fn work(&self, over: &AtomicBool) {
        while !over.load(Ordering::SeqCst) {
            match self.total() {
                Some((letters, _, replayed)) if letters == BAD_ROWS && replayed == BAD_ROWS => self.drain(),
                Some((_, open, _)) if open > 0 => drop(self.give_back()),
                _ => {}
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    /// Letters: all, open and replayed.
    fn total(&self) -> Option<(u64, u64, u64)> {
        let listed: Value = serde_json::from_str(&self.karez(&["dlq", "list", "clerk.yaml", "--json"])?).ok()?;
        let count = |what: &str| listed["total"][what].as_u64();
        Some((count("letters")?, count("open")?, count("replayed")?))
    }

    /// Repairs some of the open letters.
    fn give_back(&self) -> Option<()> {
        let (exported, repaired): (PathBuf, PathBuf) = (self.folder.join("letters.ndjson"), self.folder.join("repaired.ndjson"));
        self.karez(&["dlq", "show", "clerk.yaml", "--status", "open", "--export", "letters.ndjson"])?;
        let letters = std::fs::read_to_string(exported).ok()?;
        let mend = |line: &str| {
            let mut letter: Value = serde_json::from_str(line).ok()?;
            for place in ["/raw", "/row/amount"] {
                if let Some(text) = letter.pointer_mut(place) {
                    *text = text.as_str()?.replace(BAD, "").into();
                }
            }
            Some(letter.to_string() + "\n")
        };
        std::fs::write(repaired, letters.lines().take(AT_ONCE).map(mend).collect::<Option<String>>()?).ok()?;
        self.karez(&["dlq", "replay", "clerk.yaml", "--from", "repaired.ndjson"]).map(drop)
    }

    /// Ends the input of the job, if it runs.
    fn drain(&self) {
        self.karez(&["stop", "crash", "--drain"]);
    }

    /// What a command prints; `None` where it fails.
    fn karez(&self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new(self.karez);
        command.args(arguments).current_dir(self.folder).env("KAREZ_STATE_DIR", self.folder.join("state")).env_remove("FAILPOINTS");
        let done = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
    }
}
