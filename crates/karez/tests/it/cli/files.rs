//! `karez check` and `karez explain`: job files, right and wrong.

use super::NUMBERS;
use crate::karez::Bench;

#[test]
fn a_typo_is_shown_at_its_line_and_column_with_a_suggestion() {
    let bench = Bench::new();
    let job = NUMBERS.replace("type: filter", "type: fliter");
    let done = bench.karez(&["check", bench.file("job.yaml", &job)]).with(2);
    assert!(done.err.contains("job.yaml:10:28") && done.err.contains("did you mean `filter`?"), "{}", done.err);
}

#[test]
fn all_errors_of_a_file_are_told_at_once() {
    let bench = Bench::new();
    let job = NUMBERS.replace("type: filter", "type: fliter").replace("connector: file", "connector: flie");
    let done = bench.karez(&["check", bench.file("job.yaml", &job)]).with(2);
    assert!(done.err.contains("`filter`") && done.err.contains("`file`"), "{}", done.err);
}

#[test]
fn an_unknown_source_hides_no_error_behind_it_and_brings_none_that_follow_from_it() {
    let bench = Bench::new();
    let operators = r#"
  operators:
    - { name: small, type: filter, where: "n < 'x" }
    - { name: hours, type: window-aggregate, keyBy: [n], window: { type: tumbling, size: 1 fortnight } }
    - { name: routed, type: splt, routes: { a: n } }
    - { name: kept, type: deduplicate, keyBy: [m], keep: middle }
  sink: { connector: file, config: { path: out.ndjson, rollSise: 1k } }
"#;
    let job = |schema: &str| format!("\njob:\n  name: errors\n  source: {{ connector: fiel, config: {{ path: in.csv }}{schema} }}{operators}");
    let check = |schema: &str| bench.karez(&["check", bench.file("job.yaml", &job(schema))]).with(2).err;
    // Without a schema expressions cannot be compiled; options are still read.
    let err = check("");
    for part in ["did you mean `file`?", "fortnight", "did you mean `split`?", "`middle`", "did you mean `rollSize`?"] {
        assert!(err.contains(part), "{part}: {err}");
    }
    assert!(err.contains("\n5 errors in job.yaml"), "{err}");
    // With one, the first operator is compiled; what follows it has no schema.
    let err = check(", schema: { n: bigint }");
    assert!(err.contains("`small`, `where`") && err.contains("did you mean `split`?"), "{err}");
    assert!(err.contains("\n6 errors in job.yaml"), "{err}");
}

#[test]
fn a_file_that_is_not_there_is_said_so() {
    let bench = Bench::new();
    let done = bench.karez(&["check", "nowhere.yaml"]).with(2);
    assert!(done.err.contains("nowhere.yaml"), "{}", done.err);
}

#[test]
fn no_color_switches_colours_off_and_pipes_have_none_anyway() {
    let bench = Bench::new();
    let mut command = bench.command(&["check", bench.file("job.yaml", "job: 1")]);
    let output = command.env("NO_COLOR", "1").output().unwrap();
    assert!(!output.stderr.contains(&0x1b));
}

#[test]
fn check_shows_the_inferred_schema_and_touches_nothing() {
    let bench = Bench::new();
    bench.file("in.csv", "a,b\n1,x\n2,y\n");
    let job = "
job:
  name: inferred
  sources: [ { name: in, connector: file, config: { path: in.csv, format: csv } } ]
  operators: [ { name: one, type: map, inputs: [in], columns: { a: a } } ]
  sinks: [ { name: out, connector: file, inputs: [one], config: { path: out, format: ndjson } } ]
";
    let out = bench.karez(&["check", bench.file("job.yaml", job)]).with(0).out;
    assert!(out.contains("source `in`, schema as inferred:") && out.contains("a: bigint") && out.contains("b: "), "{out}");
    assert_eq!(bench.files(), ["in.csv", "job.yaml"].map(std::path::PathBuf::from));
}

#[test]
fn check_tries_what_is_outside() {
    let bench = Bench::new();
    let job = "
job:
  name: missing
  sources: [ { name: in, connector: file, config: { path: nowhere/in.csv, format: csv }, schema: { a: bigint } } ]
  sinks: [ { name: out, connector: blackhole, inputs: [in] } ]
";
    // A file that is not there is the job file's mistake: named with its place, before anything is run.
    let err = bench.karez(&["check", bench.file("job.yaml", job)]).with(2).err;
    assert!(err.contains("no file matches `nowhere/in.csv`") && err.contains("job.yaml:4:"), "{err}");
}

#[test]
fn check_says_once_that_a_broker_is_away() {
    let bench = Bench::new();
    let job = "
job:
  name: away
  sources: [ { name: in, connector: kafka, config: { bootstrapServers: 'localhost:1', topic: t, format: json }, schema: { a: bigint } } ]
  sinks: [ { name: out, connector: blackhole, inputs: [in] } ]
";
    let err = bench.karez(&["check", bench.file("job.yaml", job)]).with(1).err;
    assert!(err.contains("connect to Kafka at localhost:1") && err.matches("refused").count() == 1, "{err}");
}

#[test]
fn check_compares_a_transactions_time_out_with_the_checkpoints() {
    let bench = Bench::new();
    let job = "
job:
  name: late
  delivery: exactly-once
  checkpoint: { interval: 2m }
  sources: [ { name: in, connector: generator, config: { kind: fields, rows: 10, fields: [ { type: sequence, name: id } ] } } ]
  sinks: [ { name: out, connector: kafka, inputs: [in], config: { bootstrapServers: 'localhost:1', topic: t, format: json, transactionTimeout: 1m } } ]
";
    let err = bench.karez(&["check", bench.file("job.yaml", job)]).with(2).err;
    assert!(
        err.contains("(`checkpoint.interval`), but the broker aborts it after 1 min (`transactionTimeout`)") && err.contains("job.yaml:7:"),
        "{err}"
    );
}

#[test]
fn explain_speaks_text_json_and_mermaid() {
    let bench = Bench::new();
    let job = bench.file("job.yaml", NUMBERS);
    assert!(bench.karez(&["explain", job]).with(0).out.contains("small"));
    assert!(bench.karez(&["explain", job, "--format", "json"]).with(0).out.starts_with('{'));
    assert!(bench.karez(&["explain", job, "--format", "mermaid"]).with(0).out.starts_with("flowchart"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let bench = Bench::new();
    let mut child = bench.command(&["connectors"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn allowed_lateness_holds_over_a_file_of_a_streaming_job_and_counts_for_nothing_in_a_batch() {
    let bench = Bench::new();
    bench.file("in.csv", "ts,v\n2026-01-01T00:00:01Z,1\n2026-01-01T00:00:25Z,1\n2026-01-01T00:00:02Z,1\n");
    let job = |job_type: &str| {
        format!(
            "
job:
  name: late
  type: {job_type}
  source: {{ connector: file, config: {{ path: in.csv, format: csv }}, schema: {{ ts: timestamp(3), v: bigint }}, eventTime: {{ column: ts }} }}
  operators: [ {{ name: w, type: window-aggregate, window: {{ type: tumbling, size: 10s }}, allowedLateness: 1h, aggregates: {{ n: \"count(*)\" }} }} ]
  sink: {{ connector: stdout }}
"
        )
    };
    let plan = |job_type| bench.karez(&["explain", bench.file("job.yaml", &job(job_type))]).with(0).out;
    assert!(plan("streaming").contains("changelog"), "{}", plan("streaming"));
    assert!(!plan("batch").contains("changelog"), "{}", plan("batch"));
}

#[test]
fn columns_keep_their_written_order_from_the_job_file_to_a_created_table() {
    let bench = Bench::new();
    bench.file("in.csv", "k,v\n1,5\n1,7\n");
    let job = r#"
job:
  name: order
  type: batch
  source: { connector: file, config: { path: in.csv, format: csv } }
  operators:
    - { name: renamed, type: map, columns: { zone: k, amount: v } }
    - { name: totals, type: aggregate, keyBy: [zone], aggregates: { total: "sum(amount)", n: "count(*)", most: "max(amount)" } }
  sink: { connector: jdbc, config: { url: "jdbc:sqlite:out.db", table: totals, createTable: true } }
"#;
    bench.karez(&["run", bench.file("job.yaml", job)]).with(0);
    let copy = r#"
job:
  name: copy
  type: batch
  source: { connector: jdbc, config: { url: "jdbc:sqlite:out.db", table: totals } }
  sink: { connector: file, config: { path: out.csv } }
"#;
    bench.karez(&["run", bench.file("copy.yaml", copy)]).with(0);
    assert_eq!(std::fs::read_to_string(bench.path().join("out.csv")).unwrap(), "zone,total,n,most\n1,12,2,7\n");
}

#[test]
fn csv_options_mean_the_same_at_both_ends() {
    let bench = Bench::new();
    let text = "1;'a;b';NA\n2;NA;'NA'\n";
    bench.file("in.csv", text);
    let options = "format: csv, delimiter: \";\", quote: \"'\", nullValue: NA, header: false";
    let job = format!(
        "
job:
  name: copy
  type: batch
  source: {{ connector: file, config: {{ path: in.csv, {options} }}, schema: {{ a: int, b: string, c: string }} }}
  sink: {{ connector: file, config: {{ path: out.csv, {options} }} }}
"
    );
    bench.karez(&["run", bench.file("job.yaml", &job)]).with(0);
    assert_eq!(std::fs::read_to_string(bench.path().join("out.csv")).unwrap(), text);
}
