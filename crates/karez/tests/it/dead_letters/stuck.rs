//! A letter that was fed again and fails a later node, under `onError: fail`, does so at each start: the ways out.

use super::{letters, repair, start};
use crate::karez::{Bench, Done};

/// A seven cannot be divided by.
const JOB: &str = r#"
job:
  id: numbers
  name: Numbers
  delivery: exactly-once
  checkpoint: { interval: 50ms }
  sources:
    - { name: numbers, connector: file, config: { path: in.ndjson, format: ndjson, follow: true }, schema: { n: bigint, text: string }, onError: dead-letter }
  operators:
    - { name: parsed, type: map, inputs: [numbers], columns: { n: n, value: "cast(text as int)" }, onError: dead-letter }
    - { name: shared, type: map, inputs: [parsed], columns: { n: n, value: "100 / (value - 7)" } }
    - { name: count, type: aggregate, inputs: [shared], keyBy: [value], aggregates: { rows: "count(*)" } }
  sinks: [ { name: out, connector: jdbc, inputs: [count], config: { url: "jdbc:sqlite:out.db", table: counts, key: [value], createTable: true } } ]
  deadLetter: { connector: file, config: { path: letters, format: ndjson, rollInterval: 50ms } }
"#;

/// A job that has failed twice at a letter that was fed again.
fn stuck() -> Bench {
    let bench = Bench::new();
    bench.file("in.ndjson", "{\"n\":1,\"text\":\"8\"}\n{\"n\":2,\"text\":\"one\"}\n{\"n\":3,\n");
    bench.file("job.yaml", JOB);
    let running = start(&bench, "numbers", "job.yaml", "log");
    letters(&bench, "numbers", "open", 2);
    bench.karez(&["stop", "numbers"]).with(0);
    running.end();
    repair(&bench, "numbers", "numbers", |l| l["raw"] = r#"{"n":3,"text":"7"}"#.into()).with(0);
    for _ in 0..2 {
        failed(&bench);
        letters(&bench, "numbers", "queued", 1);
    }
    bench
}

fn failed(bench: &Bench) -> Done {
    let failed = bench.karez(&["run", "job.yaml"]).with(1);
    for text in ["shared: bad record", "dead letters were being fed again (replay ", "set `onError: dead-letter` or `skip` on the node that failed"] {
        assert!(failed.err.contains(text), "`{text}` is missing:\n{}", failed.err);
    }
    failed
}

/// The table `counts`, as `value rows`, once the job has read what comes last.
fn counts(bench: &Bench) -> Vec<String> {
    let table = rusqlite::Connection::open(bench.path().join("out.db")).unwrap();
    let mut query = table.prepare("SELECT value, rows FROM counts ORDER BY value").unwrap();
    let text = |row: &rusqlite::Row<'_>| Ok(format!("{} {}", row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    query.query_map([], text).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_job_that_a_replayed_letter_makes_fail_goes_on_once_its_node_keeps_bad_records_aside() {
    let bench = stuck();
    let lenient = JOB.replace(r#""100 / (value - 7)" }"#, r#""100 / (value - 7)" }, onError: dead-letter"#);
    assert_ne!(lenient, JOB);
    bench.file("job.yaml", &lenient);
    let running = start(&bench, "numbers", "job.yaml", "mended.log");
    letters(&bench, "numbers", "replayed", 1);
    let open = letters(&bench, "numbers", "open", 2);
    let of_later = open.iter().find(|l| l["node"] == "shared").unwrap();
    assert!(of_later["origin"].as_str().unwrap().starts_with("replay="), "{of_later}");
    bench.karez(&["stop", "numbers"]).with(0);
    running.end();

    // The letter of the later node is repaired in turn, and the node is as strict again as it was.
    repair(&bench, "numbers", "shared", |l| l["row"]["value"] = 8.into()).with(0);
    bench.file("job.yaml", JOB);
    let running = start(&bench, "numbers", "job.yaml", "strict.log");
    letters(&bench, "numbers", "replayed", 2);
    bench.karez(&["stop", "numbers"]).with(0);
    running.end();
    assert_eq!(counts(&bench), ["100 2"]);
}

#[test]
fn a_job_that_a_replayed_letter_makes_fail_goes_on_once_its_node_leaves_bad_records_out() {
    let bench = stuck();
    bench.file("job.yaml", &JOB.replace(r#""100 / (value - 7)" }"#, r#""100 / (value - 7)" }, onError: skip"#));
    let running = start(&bench, "numbers", "job.yaml", "mended.log");
    letters(&bench, "numbers", "replayed", 1);
    bench.karez(&["stop", "numbers"]).with(0);
    running.end();
    assert_eq!(counts(&bench), ["100 1"]);
}

#[test]
fn a_replay_of_which_no_checkpoint_knows_is_taken_back_with_its_file() {
    let bench = stuck();
    let queued = letters(&bench, "numbers", "queued", 1);
    let replay = queued[0]["replay"].as_str().unwrap();
    std::fs::remove_file(bench.path().join(format!("state/numbers/replays/{replay}.ndjson"))).unwrap();
    letters(&bench, "numbers", "open", 2);
    let running = start(&bench, "numbers", "job.yaml", "without.log");
    bench.karez(&["stop", "numbers"]).with(0);
    running.end();
    assert_eq!(counts(&bench), ["100 1"]);
}
