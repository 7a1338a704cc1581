//! What stands in an output of letters and is none is told, and keeps nobody from the letters.

use karez_testkit::{Database, Scratch, Topic, service, unique};

use super::{letters, start};
use crate::karez::Bench;

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
  sinks: [ { name: out, connector: jdbc, inputs: [parsed], config: { url: "jdbc:sqlite:out.db", table: numbers, createTable: true } } ]
  deadLetter: { OUTPUT }
"#;

/// A job that has been stopped with two letters in this output.
fn stopped(output: &str) -> Bench {
    let bench = Bench::new();
    bench.file("in.ndjson", "{\"n\":1,\"text\":\"1\"}\n{\"n\":2,\"text\":\"one\"}\n{\"n\":3,\n");
    bench.file("job.yaml", &JOB.replace("OUTPUT", output));
    let running = start(&bench, "numbers", "job.yaml", "first.log");
    letters(&bench, "numbers", "open", 2);
    bench.karez(&["stop", "numbers"]).with(0);
    running.end();
    bench
}

/// Every command tells these two, each with where it is and why it is no letter, and does what it is asked for with the letters.
fn the_letters_are_listed_shown_and_fed_all_the_same(bench: &Bench, no_letters: [&str; 2]) {
    let told = |err: &str| {
        assert!(err.contains("warning: 2 records that are no letters are left out"), "{err}");
        no_letters.iter().for_each(|text| assert!(err.contains(text), "`{text}` is missing:\n{err}"));
    };
    let listed = bench.karez(&["dlq", "list", "numbers"]).with(0);
    told(&listed.err);
    let summary = "2 dead letters: 2 open, 0 queued, 0 replayed; 2 records that are no letters are left out";
    assert!(listed.out.contains(summary), "{}", listed.out);
    let json: serde_json::Value = serde_json::from_str(&bench.karez(&["dlq", "list", "numbers", "--json"]).with(0).out).unwrap();
    assert_eq!((&json["noLetters"]["records"], &json["noLetters"]["shown"][0]["output"]), (&2.into(), &"dead-letter".into()));
    let shown = bench.karez(&["dlq", "show", "numbers", "--node", "parsed"]).with(0);
    told(&shown.err);
    assert!(shown.out.contains("node    parsed"), "{}", shown.out);
    let exported = bench.karez(&["dlq", "show", "numbers", "--export", "letters.ndjson"]).with(0).out;
    assert!(exported.contains("2 dead letters in letters.ndjson; 2 records that are no letters are left out"), "{exported}");

    let text = std::fs::read_to_string(bench.path().join("letters.ndjson")).unwrap();
    let repaired: Vec<_> = text.lines().filter(|l| l.contains(r#""node":"parsed""#)).map(|l| l.replace(r#""one""#, r#""7""#)).collect();
    bench.file("repaired.ndjson", &repaired.join("\n"));
    bench.karez(&["dlq", "replay", "numbers", "--from", "repaired.ndjson"]).with(0);
    let queued = bench.karez(&["dlq", "replay", "numbers", "--node", "numbers"]).with(0);
    told(&queued.err);
    let running = start(bench, "numbers", "job.yaml", "second.log");
    letters(bench, "numbers", "replayed", 2);
    bench.karez(&["stop", "numbers"]).with(0);
    running.end();
}

#[test]
fn a_foreign_line_and_a_half_one_in_a_file_are_told_and_the_letters_read() {
    let bench = stopped("connector: file, config: { path: letters, format: ndjson, rollInterval: 50ms }");
    let of_another = r#"{"time":"2026-01-01T00:00:00Z","job":"other","node":"n","reason":"why","run":"r","id":"0123456789abcdef"}"#;
    bench.file("letters/a.ndjson", &format!("{{\"hello\":1}}\n{of_another}\n{}", &of_another[..60]));
    let half = format!("letters/a.ndjson offset={}", 12 + of_another.len() + 1);
    the_letters_are_listed_shown_and_fed_all_the_same(&bench, ["letters/a.ndjson offset=0): it has no `time`", &half]);
}

#[test]
fn a_foreign_line_and_a_half_one_in_a_csv_file_are_told_and_the_letters_read() {
    let bench = stopped("connector: file, config: { path: letters, format: csv, rollInterval: 50ms }");
    let header = "time,job,node,reason,origin,raw,row,run,id\n";
    let letter = "2026-01-01T00:00:00Z,numbers,parsed,why,,,{},r,0123456789abcdef";
    bench.file("letters/a.csv", &format!("{header}yesterday,numbers,parsed,why,,,{{}},r,0123456789abcdee\n{}", &letter[..letter.len() - 3]));
    let half = format!(
        "letters/a.csv offset={}): its `id` is `0123456789abc`",
        header.len() + letter.len() - "2026-01-01T00:00:00Z".len() + "yesterday".len() + 1
    );
    the_letters_are_listed_shown_and_fed_all_the_same(&bench, ["letters/a.csv offset=43): ", &half]);
}

#[test]
fn foreign_messages_in_a_topic_are_told_and_the_letters_read() {
    let topic = Topic::create(&service("KAFKA_BOOTSTRAP"), &unique("letters"), 1).unwrap();
    let (servers, name) = (&topic.bootstrap, &topic.name);
    let bench = stopped(&format!(
        r#"connector: kafka, config: {{ bootstrapServers: "{servers}", topic: {name}, format: json, transactionalIdPrefix: {name} }}"#
    ));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(topic.produce(vec![(None, Some(b"hello".to_vec())), (None, None)])).unwrap();
    let place = format!("(topic={name} partition=0 offset=");
    the_letters_are_listed_shown_and_fed_all_the_same(&bench, [&place, "the message has no payload"]);
}

#[test]
fn a_foreign_row_and_one_of_other_types_in_a_table_are_told_and_the_letters_read() {
    let bench = stopped(r#"connector: jdbc, config: { url: "jdbc:sqlite:letters.db", table: letters, createTable: true }"#);
    let table = rusqlite::Connection::open(bench.path().join("letters.db")).unwrap();
    let insert = "INSERT INTO letters (time, job, node, reason, run, id) VALUES";
    table
        .execute_batch(&format!(
            "{insert} ('yesterday', 'numbers', 'parsed', 'why', 'r', 'x'); {insert} ('2026-01-01T00:00:00Z', 'numbers', 'parsed', 'why', 'r', 'mine')"
        ))
        .unwrap();
    the_letters_are_listed_shown_and_fed_all_the_same(
        &bench,
        ["'yesterday' (TEXT) is not a timestamp", "its `id` is `mine`, and not sixteen hexadecimal digits"],
    );
}

#[test]
fn foreign_rows_in_a_table_of_a_server_are_told_and_the_letters_read() {
    let scratch = Scratch::new(Database::Postgres);
    let bench = stopped(&format!(r#"connector: jdbc, config: {{ url: "{}", table: letters, createTable: true }}"#, scratch.url()));
    let insert = "INSERT INTO letters (time, job, node, reason, run, id) VALUES";
    scratch.run(&format!("{insert} ('infinity', 'numbers', 'parsed', 'why', 'r', 'x')")).unwrap();
    scratch.run(&format!("{insert} (date_trunc('second', now()), 'numbers', 'parsed', 'why', 'r', 'mine')")).unwrap();
    the_letters_are_listed_shown_and_fed_all_the_same(&bench, ["infinity", "its `id` is `mine`, and not sixteen hexadecimal digits"]);
}

#[test]
fn of_many_that_are_no_letters_a_few_are_told_and_the_others_counted() {
    let bench = stopped("connector: file, config: { path: letters, format: ndjson, rollInterval: 50ms }");
    bench.file("letters/a.ndjson", &"{\"hello\":1}\n".repeat(1_000));
    let listed = bench.karez(&["dlq", "list", "numbers"]).with(0);
    assert!(listed.err.contains("warning: 1000 records that are no letters are left out") && listed.err.contains("and 995 more"), "{}", listed.err);
    assert_eq!(listed.err.matches("it has no `time`").count(), 5);
    let missing = bench.karez(&["dlq", "show", "numbers", "ffffffffffffffff"]).with(1).err;
    assert!(missing.contains("1000 records that are no letters") && missing.contains("there is no dead letter `ffffffffffffffff`"), "{missing}");
}

#[test]
fn a_node_that_the_job_does_not_have_is_refused_and_the_jobs_nodes_are_named() {
    let bench = stopped("connector: file, config: { path: letters, format: ndjson, rollInterval: 50ms }");
    for command in [&["dlq", "list", "numbers"][..], &["dlq", "show", "numbers"], &["dlq", "replay", "numbers"]] {
        let refused = bench.karez(&[command, &["--node", "parsd"]].concat()).with(2).err;
        for text in ["the job has no node `parsd`; did you mean `parsed`?", "its nodes are ", "numbers", "out"] {
            assert!(refused.contains(text), "`{text}` is missing:\n{refused}");
        }
        bench.karez(&[command, &["--node", "out"]].concat()).with(0);
    }
    // The letters of a node that the job had before are listed all the same.
    bench.file("job.yaml", &JOB.replace("OUTPUT", "connector: file, config: { path: letters, format: ndjson }").replace("parsed", "cast"));
    assert!(bench.karez(&["dlq", "list", "numbers", "--node", "parsed"]).with(0).out.contains("1 dead letters"));
}

#[test]
fn a_run_without_letters_is_told_with_those_that_have_some() {
    let bench = stopped("connector: file, config: { path: letters, format: ndjson, rollInterval: 50ms }");
    let run = letters(&bench, "numbers", "open", 2)[0]["run"].as_str().unwrap().to_owned();
    for command in [&["dlq", "list", "numbers"][..], &["dlq", "show", "numbers"], &["dlq", "replay", "numbers"]] {
        let told = bench.karez(&[command, &["--run", "gone"]].concat()).with(0).err;
        assert!(told.contains(&format!("no dead letter is of run `gone`; runs that have some, the newest first: {run}")), "{told}");
    }
    let theirs = bench.karez(&["dlq", "list", "numbers", "--run", &run]).with(0);
    assert!(theirs.out.contains("2 dead letters") && theirs.err.is_empty(), "{}", theirs.err);
}

#[test]
fn what_connectors_have_to_say_is_not_told_by_commands_that_run_no_job_unless_asked_for() {
    let letters = Topic::create(&service("KAFKA_BOOTSTRAP"), &unique("letters"), 1).unwrap();
    let (servers, name) = (&letters.bootstrap, &letters.name);
    let bench = Bench::new();
    let output =
        format!(r#"connector: kafka, config: {{ bootstrapServers: "{servers}", topic: {name}, format: json, transactionalIdPrefix: {name} }}"#);
    bench.file("in.ndjson", "");
    bench.file("job.yaml", &JOB.replace("OUTPUT", &output));
    for command in [&["check", "job.yaml"][..], &["dlq", "list", "job.yaml"]] {
        let quiet = bench.karez(command).with(0).err;
        assert!(!quiet.contains("INFO"), "{quiet}");
        let asked = bench.command(command).env("KAREZ_LOG", "info").output().unwrap();
        assert!(String::from_utf8(asked.stderr).unwrap().contains("INFO"), "{command:?}");
    }
}
