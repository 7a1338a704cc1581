//! Letters of a job with windows: one whose window is still open counts in it, one whose window has given its result is late like any other row.

use serde_json::Value;

use super::{fed, letters, repair};
use crate::karez::{Bench, eventually};

const JOB: &str = r#"
job:
  id: windows
  name: Windows
  delivery: exactly-once
  checkpoint: { interval: INTERVAL }
  sources:
    - name: numbers
      connector: file
      config: { path: in.ndjson, format: ndjson, follow: true }
      schema: { key: string, n: bigint, at: timestamp(3) }
      eventTime: { column: at, maxOutOfOrderness: 0s }
      onError: dead-letter
  operators:
    - { name: sums, type: window-aggregate, inputs: [numbers], keyBy: [key], window: { type: tumbling, size: 10s }, aggregates: { sum: "sum(n)" } }
  sinks:
    - { name: out, connector: file, inputs: [sums], config: { path: out, format: ndjson, rollInterval: 50ms } }
    - { name: late, connector: file, inputs: [sums.late], config: { path: late, format: ndjson, rollInterval: 50ms } }
  deadLetter: { connector: file, config: { path: letters, format: ndjson, rollInterval: 50ms } }
"#;

/// Two are cut off: one in the window that the third closes, one in the window that is open then.
const INPUT: &str = r#"{"key":"a","n":1,"at":"2026-01-01T00:00:01Z"}
{"key":"a","n":2,"at":"2026-01-01T00:00:02Z"
{"key":"a","n":4,"at":"2026-01-01T00:00:15Z"}
{"key":"a","n":8,"at":"2026-01-01T00:00:16Z"
"#;
const LAST: &str = "{\"key\":\"a\",\"n\":16,\"at\":\"2026-01-01T00:00:40Z\"}\n";

/// How the job is when it is given the letters.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Runs,
    IsStopped,
    /// And killed when it has been fed them, before a checkpoint.
    IsKilled,
}

/// The rows of the finished files in a folder.
fn rows(bench: &Bench, folder: &str) -> Vec<Value> {
    let files = std::fs::read_dir(bench.path().join(folder)).into_iter().flatten().map(|f| f.unwrap().path());
    let finished = files.filter(|f| !f.file_name().unwrap().to_string_lossy().starts_with('.'));
    let text: String = finished.map(|f| std::fs::read_to_string(f).unwrap()).collect();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn letters_count_in_the_window_that_is_open(then: Then) {
    let bench = Bench::new();
    bench.file("in.ndjson", INPUT);
    let mut starts = 0;
    let mut start = |interval: &str| {
        starts += 1;
        bench.file("job.yaml", &JOB.replace("INTERVAL", interval));
        super::start(&bench, "windows", "job.yaml", &format!("start-{starts}.log"))
    };
    let mend = |letter: &mut Value| letter["raw"] = format!("{}}}", letter["raw"].as_str().unwrap().trim_end()).into();
    let mut running = start("100ms");
    letters(&bench, "windows", "open", 2);
    if then != Then::Runs {
        bench.karez(&["stop", "windows"]).with(0);
        running.end();
        if then == Then::IsKilled {
            let killed = start("1h");
            repair(&bench, "windows", "numbers", mend).with(0);
            eventually("the letters are fed", || (fed(&bench, "windows", "numbers") == 2).then_some(()));
            killed.kill();
        } else {
            repair(&bench, "windows", "numbers", mend).with(0);
        }
        letters(&bench, "windows", "queued", 2);
        running = start("100ms");
    } else {
        repair(&bench, "windows", "numbers", mend).with(0);
    }
    letters(&bench, "windows", "replayed", 2);
    bench.append("in.ndjson", LAST);
    eventually("the window of the last but one", || rows(&bench, "out").iter().any(|r| r["sum"] == 12).then_some(()));
    bench.karez(&["stop", "windows", "--drain"]).with(0);
    running.end();
    let mut sums: Vec<i64> = rows(&bench, "out").iter().map(|r| r["sum"].as_i64().unwrap()).collect();
    sums.sort_unstable();
    assert_eq!(sums, [1, 12, 16]);
    let late: Vec<_> = rows(&bench, "late").iter().map(|r| r["n"].as_i64().unwrap()).collect();
    assert_eq!(late, [2]);
}

#[test]
fn a_letter_counts_in_the_window_that_is_open_and_is_late_for_one_that_is_closed() {
    letters_count_in_the_window_that_is_open(Then::Runs);
}

#[test]
fn a_letter_given_to_a_stopped_job_is_late_for_a_window_that_was_closed_before() {
    letters_count_in_the_window_that_is_open(Then::IsStopped);
}

#[test]
fn a_letter_whose_job_is_killed_before_a_checkpoint_counts_in_its_window_once() {
    letters_count_in_the_window_that_is_open(Then::IsKilled);
}
