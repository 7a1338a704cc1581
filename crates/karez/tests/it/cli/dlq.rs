//! `karez dlq list | show | replay`.

use serde_json::Value;

use crate::karez::{Bench, Done, Running, eventually};

/// Numbers that are followed; those below zero are refused, those that are no JSON cannot be read.
const FOLLOWED: &str = r#"
job:
  id: numbers
  name: Numbers
  delivery: exactly-once
  checkpoint: { interval: 50ms }
  sources:
    - name: numbers
      connector: file
      config: { path: in.ndjson, format: ndjson, follow: true }
      schema: { n: bigint, text: string }
      onError: dead-letter
  operators:
    - { name: parsed, type: map, inputs: [numbers], columns: { n: n, value: "cast(text as int)" }, onError: dead-letter }
    - { name: count, type: aggregate, inputs: [parsed], keyBy: [value], aggregates: { rows: "count(*)" } }
  sinks:
    - name: out
      connector: jdbc
      inputs: [count]
      config: { url: "jdbc:sqlite:out.db", table: counts, key: [value], createTable: true }
  deadLetter: { connector: file, config: { path: LETTERS, format: FORMAT } }
"#;

const INPUT: &str = "{\"n\":1,\"text\":\"1\"}\n{\"n\":2,\"text\":\"one\"}\n{\"n\":3,\n{\"n\":4,\"text\":\"1\"}\n";

fn followed(letters: &str, format: &str) -> String {
    FOLLOWED.replace("path: LETTERS", &format!("path: {letters}, rollInterval: 50ms")).replace("FORMAT", format)
}

fn json(done: Done) -> Value {
    serde_json::from_str(&done.with(0).out).unwrap()
}

/// The letters of the job, once there are so many in this state.
fn letters(bench: &Bench, status: &str, count: usize) -> Vec<Value> {
    eventually("the letters", || {
        let listed = json(bench.karez(&["dlq", "list", "numbers", "--each", "--json", "--status", status]));
        Some(listed.as_array().unwrap().clone()).filter(|l| l.len() == count)
    })
}

fn started(bench: &Bench, job: &str) -> Running {
    bench.file("in.ndjson", INPUT);
    let mut running = bench.start(&["run", bench.file("job.yaml", job)]);
    running.until("CHECKPOINT_COMPLETED");
    running
}

/// The rows of the table `counts`, as `value rows`.
fn counts(bench: &Bench) -> Vec<String> {
    let job = "job:\n  id: read\n  name: Read\n  type: batch\n  sources: [ { name: in, connector: jdbc, config: { url: \"jdbc:sqlite:out.db\", table: counts } } ]\n  \
               sinks: [ { name: copy, connector: file, inputs: [in], config: { path: counts.csv, ifExists: replace } } ]\n";
    bench.karez(&["run", "--fresh", bench.file("read.yaml", job)]).with(0);
    let text = std::fs::read_to_string(bench.path().join("counts.csv")).unwrap();
    let mut rows: Vec<_> = text.lines().skip(1).map(|l| l.replace(',', " ")).collect();
    rows.sort();
    rows
}

fn stop(bench: &Bench, running: Running) {
    bench.karez(&["stop", "numbers"]).with(0);
    running.end().with(0);
}

/// Exports the open letters, repairs both and gives them back.
fn repair(bench: &Bench, replay: &[&str]) -> Done {
    bench.karez(&["dlq", "show", "numbers", "--status", "open", "--export", "letters.ndjson"]).with(0);
    let text = std::fs::read_to_string(bench.path().join("letters.ndjson")).unwrap();
    let repaired = text.replace(r#""text":"one""#, r#""text":"1""#).replace(r#""raw":"{\"n\":3,"#, r#""raw":"{\"n\":3,\"text\":\"7\"}"#);
    assert!(repaired.matches("\"7").count() + repaired.matches("\\\"7").count() > 0, "{text}");
    bench.file("repaired.ndjson", &repaired);
    let command = [&["dlq", "replay", "numbers", "--from", "repaired.ndjson"], replay].concat();
    bench.karez(&command)
}

#[test]
fn letters_are_listed_shown_repaired_and_fed_to_the_running_job_which_counts_them_once() {
    for format in ["ndjson", "csv", "parquet"] {
        let bench = Bench::new();
        let running = started(&bench, &followed("letters", format));
        let open = letters(&bench, "open", 2);
        let nodes: Vec<_> = open.iter().map(|l| l["node"].as_str().unwrap()).collect();
        assert!(nodes.contains(&"numbers") && nodes.contains(&"parsed"), "{format}: {open:?}");

        let table = bench.karez(&["dlq", "list", "job.yaml"]).with(0).out;
        assert!(table.contains("2 dead letters: 2 open, 0 queued, 0 replayed"), "{table}");
        assert!(bench.karez(&["dlq", "list", "numbers", "--node", "parsed"]).with(0).out.contains("1 dead letters"));
        assert!(bench.karez(&["dlq", "list", "numbers", "--since", "1h"]).with(0).out.contains("2 dead letters"));
        assert!(bench.karez(&["dlq", "list", "numbers", "--since", "2999-01-01T00:00:00Z"]).with(0).out.contains("0 dead letters"));
        let bytes = open.iter().find(|l| l["node"] == "numbers").unwrap()["id"].as_str().unwrap();
        let shown = bench.karez(&["dlq", "show", "numbers", bytes]).with(0).out;
        for text in ["status  open", "origin  file=in.ndjson offset=", "raw     {\"n\":3,"] {
            assert!(shown.contains(text), "`{text}` is missing:\n{shown}");
        }

        assert!(repair(&bench, &[]).with(0).err.contains("2 letters given to the running job"));
        letters(&bench, "replayed", 2);
        let again = repair_again(&bench);
        assert!(again.contains("has been fed again already") && again.contains("--again"), "{again}");
        stop(&bench, running);
        assert_eq!(counts(&bench), ["1 3", "7 1"], "{format}");
    }
}

fn repair_again(bench: &Bench) -> String {
    bench.karez(&["dlq", "replay", "numbers", "--from", "repaired.ndjson"]).with(1).err
}

#[test]
fn letters_fed_again_on_demand_count_once_more() {
    let bench = Bench::new();
    let running = started(&bench, &followed("letters", "ndjson"));
    letters(&bench, "open", 2);
    repair(&bench, &[]).with(0);
    letters(&bench, "replayed", 2);
    bench.karez(&["dlq", "replay", "numbers", "--from", "repaired.ndjson", "--again"]).with(0);
    stop(&bench, running);
    // The stop's checkpoint holds them, or the next start feeds them.
    let mut running = bench.start(&["run", "job.yaml"]);
    running.until("CHECKPOINT_COMPLETED");
    stop(&bench, running);
    assert_eq!(counts(&bench), ["1 4", "7 2"]);
}

#[test]
fn letters_for_a_job_that_does_not_run_are_queued_for_its_next_start() {
    let bench = Bench::new();
    let running = started(&bench, &followed("letters", "ndjson"));
    letters(&bench, "open", 2);
    stop(&bench, running);
    assert!(repair(&bench, &[]).with(0).err.contains("the job is not running, its next start feeds them"));
    letters(&bench, "queued", 2);
    let running = bench.start(&["run", "job.yaml"]);
    letters(&bench, "replayed", 2);
    stop(&bench, running);
    assert_eq!(counts(&bench), ["1 3", "7 1"]);
}

#[test]
fn letters_are_fed_as_they_are_once_the_job_has_been_mended() {
    let bench = Bench::new();
    let running = started(&bench, &followed("letters", "ndjson"));
    letters(&bench, "open", 2);
    stop(&bench, running);
    let mended = followed("letters", "ndjson").replace("cast(text as int)", "cast(coalesce(try_cast(text as int), 0) as int)");
    bench.file("job.yaml", &mended);
    bench.karez(&["dlq", "replay", "numbers", "--node", "parsed"]).with(0);
    let running = bench.start(&["run", "job.yaml"]);
    letters(&bench, "replayed", 1);
    stop(&bench, running);
    assert_eq!(counts(&bench), ["0 1", "1 2"]);
}

#[test]
fn a_letter_that_is_bad_still_becomes_a_letter_again() {
    let bench = Bench::new();
    let running = started(&bench, &followed("letters", "ndjson"));
    letters(&bench, "open", 2);
    bench.karez(&["dlq", "replay", "numbers", "--all"]).with(0);
    letters(&bench, "replayed", 2);
    let again = letters(&bench, "open", 2);
    assert!(again.iter().all(|l| l["origin"].as_str().unwrap().contains("letter=")), "{again:?}");
    stop(&bench, running);
}

/// Whatever step the process dies at, the letters that it was fed count once.
#[cfg(feature = "failpoints")]
#[test]
fn letters_count_once_over_kills_at_each_step_of_a_checkpoint_and_in_recovery() {
    let steps = [
        "checkpoint-before-manifest",
        "checkpoint-after-manifest",
        "jdbc-commit-before",
        "jdbc-commit-after",
        "recovery-before-commit",
        "recovery-after-commit",
    ];
    for step in steps {
        let bench = Bench::new();
        let running = started(&bench, &followed("letters", "ndjson"));
        letters(&bench, "open", 2);
        stop(&bench, running);
        repair(&bench, &[]).with(0);
        for skipped in 0..3 {
            let mut killed = bench.command(&["run", "job.yaml"]);
            killed.env("FAILPOINTS", format!("{step}={skipped}*off->return(kill)"));
            // With nothing to commit a step is not come by any more.
            let mut child = killed.spawn().unwrap();
            let ended = eventually("the kill, or all fed", || {
                let exited = child.try_wait().unwrap().is_some();
                let replayed = json(bench.karez(&["dlq", "list", "numbers", "--json"]))["total"]["replayed"] == 2;
                (exited || replayed).then_some(exited)
            });
            if !ended {
                child.kill().unwrap();
            }
            child.wait().unwrap();
        }
        let mut running = bench.start(&["run", "job.yaml"]);
        // The letters may all be fed already, and then say nothing of whether it can be told to stop by now.
        running.until("CHECKPOINT_COMPLETED");
        letters(&bench, "replayed", 2);
        stop(&bench, running);
        assert_eq!(counts(&bench), ["1 3", "7 1"], "{step}");
    }
}

#[test]
fn a_job_killed_at_any_moment_after_a_replay_counts_its_letters_once() {
    for round in 0..4_u64 {
        let bench = Bench::new();
        let running = started(&bench, &followed("letters", "ndjson"));
        letters(&bench, "open", 2);
        repair(&bench, &[]).with(0);
        let until = std::time::Instant::now() + std::time::Duration::from_millis(round * 23);
        while std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        running.signal(rustix::process::Signal::KILL);
        running.end();
        let mut running = bench.start(&["run", "job.yaml"]);
        // The killed one may have fed them all, and then they say nothing of whether this one can be told to stop by now.
        running.until("CHECKPOINT_COMPLETED");
        letters(&bench, "replayed", 2);
        stop(&bench, running);
        assert_eq!(counts(&bench), ["1 3", "7 1"], "round {round}");
    }
}

/// A bounded job without state.
const BOUNDED: &str = r#"
job:
  id: numbers
  name: Numbers
  delivery: exactly-once
  source: { connector: file, config: { path: in.ndjson, format: ndjson }, schema: { n: bigint, text: string }, onError: dead-letter }
  operators: [ { name: parsed, type: map, columns: { n: n, value: "cast(text as int)" }, onError: dead-letter } ]
  sink: { connector: jdbc, config: { url: "jdbc:sqlite:out.db", table: counts, createTable: true } }
  deadLetter: { connector: jdbc, config: { url: "jdbc:sqlite:out.db", table: letters, createTable: true } }
"#;

#[test]
fn letters_of_a_run_that_is_over_are_fed_in_one_of_their_own_where_no_state_is_on_their_way() {
    let bench = Bench::new();
    bench.file("in.ndjson", INPUT);
    bench.karez(&["run", bench.file("job.yaml", BOUNDED)]).with(0);
    bench.karez(&["dlq", "show", "job.yaml", "--export", "letters.ndjson", "--node", "parsed"]).with(0);
    let text = std::fs::read_to_string(bench.path().join("letters.ndjson")).unwrap();
    bench.file("repaired.ndjson", &text.replace(r#""one""#, r#""22""#));
    let over = bench.karez(&["dlq", "replay", "numbers", "--from", "repaired.ndjson"]).with(1).err;
    assert!(over.contains("is over") && over.contains("--separate-run"), "{over}");
    bench.karez(&["dlq", "replay", "numbers", "--from", "repaired.ndjson", "--separate-run"]).with(0);
    assert_eq!(counts(&bench), ["1 1", "2 22", "4 1"]);
    let again = bench.karez(&["dlq", "replay", "numbers", "--from", "repaired.ndjson", "--separate-run"]).with(1).err;
    assert!(again.contains("has been fed again already"), "{again}");
}

#[test]
fn a_run_of_their_own_is_refused_where_state_is_on_the_way_or_a_sink_would_be_replaced() {
    let bench = Bench::new();
    bench.file("in.ndjson", INPUT);
    let stateful = followed("letters", "ndjson").replace(", follow: true", "");
    bench.karez(&["run", bench.file("job.yaml", &stateful)]).with(0);
    let refused = bench.karez(&["dlq", "replay", "numbers", "--all", "--separate-run"]).with(1).err;
    assert!(refused.contains("`count` keeps state"), "{refused}");

    let bench = Bench::new();
    bench.file("in.ndjson", INPUT);
    let replacing = BOUNDED.replace(
        r#"sink: { connector: jdbc, config: { url: "jdbc:sqlite:out.db", table: counts, createTable: true } }"#,
        "sink: { connector: file, config: { path: out.csv, ifExists: replace } }",
    );
    bench.karez(&["run", bench.file("job.yaml", &replacing)]).with(0);
    let refused = bench.karez(&["dlq", "replay", "numbers", "--all", "--separate-run"]).with(1).err;
    assert!(refused.contains("replaces what the run before wrote"), "{refused}");
}

#[test]
fn a_letter_that_does_not_fit_the_job_is_refused_with_its_reason_and_none_is_fed() {
    let bench = Bench::new();
    let running = started(&bench, &followed("letters", "ndjson"));
    letters(&bench, "open", 2);
    stop(&bench, running);
    let lines = [
        r#"{"id":"a","node":"parsed","row":{"n":"x","text":"1"}}"#,
        r#"{"id":"b","node":"gone","row":{}}"#,
        r#"{"id":"c","node":"parsed","raw":"1"}"#,
    ];
    bench.file("letters.ndjson", &(lines.join("\n") + "\n" + r#"{"id":"d","node":"parsed","row":{"n":1,"text":"1"}}"#));
    let refused = bench.karez(&["dlq", "replay", "numbers", "--from", "letters.ndjson"]).with(2).err;
    for text in
        ["3 of 4 letters cannot be fed, and none is", "letter a, `parsed`", "the job has no node `gone`", "takes rows, and the letter holds bytes"]
    {
        assert!(refused.contains(text), "`{text}` is missing:\n{refused}");
    }
    assert!(bench.karez(&["dlq", "list", "numbers"]).with(0).out.contains("2 open, 0 queued"));
}

#[test]
fn a_repaired_letter_is_taken_only_as_that_letter_and_with_the_columns_of_its_node() {
    let bench = Bench::new();
    let running = started(&bench, &followed("letters", "ndjson"));
    let open = letters(&bench, "open", 2);
    let id = |node: &str| open.iter().find(|l| l["node"] == node).unwrap()["id"].as_str().unwrap().to_owned();
    let (source, parsed) = (id("numbers"), id("parsed"));
    let cases = [
        (format!(r#"{{"id":"{parsed}","node":"parsed","row":{{"n":2,"txet":"1"}}}}"#), "txet"),
        (format!(r#"{{"id":"{source}","node":"numbers","row":{{"n":3}}}}"#), "`row` lacks the column `text`: give it its value, or null"),
        (r#"{"id":"ffffffffffffffff","node":"parsed","row":{"n":2,"text":"1"}}"#.to_owned(), "the job has no dead letter `ffffffffffffffff`"),
        (format!(r#"{{"id":"{source}","node":"parsed","row":{{"n":3,"text":"1"}}}}"#), "was refused by `numbers`, not by `parsed`"),
    ];
    for (letter, why) in cases {
        bench.file("repaired.ndjson", &letter);
        let refused = bench.karez(&["dlq", "replay", "numbers", "--from", "repaired.ndjson"]).with(2).err;
        assert!(refused.contains(why), "`{why}` is missing:\n{refused}");
    }
    assert_eq!(letters(&bench, "open", 2), open, "none is queued");
    stop(&bench, running);
}

#[test]
fn what_has_no_letters_to_read_says_so() {
    let bench = Bench::new();
    bench.file("in.ndjson", INPUT);
    let none = bench.karez(&["dlq", "list", "nobody"]).with(2).err;
    assert!(none.contains("neither a job file nor the id of a job"), "{none}");
    let to_stdout = BOUNDED.replace("  delivery: exactly-once\n", "").replace(
        r#"deadLetter: { connector: jdbc, config: { url: "jdbc:sqlite:out.db", table: letters, createTable: true } }"#,
        "deadLetter: { connector: stdout }",
    );
    let unreadable = bench.karez(&["dlq", "list", bench.file("job.yaml", &to_stdout)]).with(2).err;
    assert!(unreadable.contains("connector `stdout` does not keep what it is given"), "{unreadable}");
    let without = bench.karez(&["dlq", "list", bench.file("numbers.yaml", super::NUMBERS)]).with(2).err;
    assert!(without.contains("no dead-letter output"), "{without}");
    let empty = bench.karez(&["dlq", "list", bench.file("job.yaml", BOUNDED)]).with(0).out;
    assert!(empty.contains("0 dead letters"), "{empty}");
    let not_run = bench.karez(&["dlq", "replay", "job.yaml", "--all"]).with(1).err;
    assert!(not_run.contains("has not been run"), "{not_run}");
}

/// A letter may come between the moment at which a job that starts has looked for letters and that at which it can be told of them.
#[test]
fn a_letter_that_is_queued_while_the_job_starts_is_fed_by_it() {
    for _ in 0..3 {
        let bench = Bench::new();
        let running = started(&bench, &followed("letters", "ndjson"));
        letters(&bench, "open", 2);
        stop(&bench, running);
        let mut running = bench.start(&["run", "job.yaml"]);
        running.until("JOB_STARTED");
        repair(&bench, &[]).with(0);
        letters(&bench, "replayed", 2);
        stop(&bench, running);
        assert_eq!(counts(&bench), ["1 3", "7 1"]);
    }
}
