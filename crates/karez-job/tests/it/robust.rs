//! Files that are nobody's job.

mod answer;

use std::fmt::Write as _;

use karez_job::JobFile;
use proptest::prelude::*;
use serde_json::json;

use answer::assert_answered;

use crate::kit::{options, parse, problems, registry};

#[test]
fn yes_and_no_are_words() {
    let file = parse(
        "job: { name: x, source: { connector: f, config: { a: yes, b: no, c: on, d: true, e: 012, f: 1.5, g: ~, h: \"1\", i: 12:30 } }, sink: { connector: f } }",
    );
    assert_eq!(
        options(&file.graph, "source").1,
        &json!({ "a": "yes", "b": "no", "c": "on", "d": true, "e": 12, "f": 1.5, "g": null, "h": "1", "i": "12:30" })
    );
}

#[test]
fn anchors_aliases_and_merge_keys_work() {
    let file = parse(
        "
job:
  name: x
  source: { connector: f, config: &c { path: p, format: csv } }
  sink: { connector: f, config: { <<: *c, path: q } }
",
    );
    assert_eq!(options(&file.graph, "sink").1, &json!({ "path": "q", "format": "csv" }));
}

#[test]
fn a_bomb_of_aliases_is_defused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..20 {
        writeln!(text, "a{n}: &a{n} [{}]", vec![format!("*a{}", n - 1); 10].join(", ")).unwrap();
    }
    assert!(problems(&text).contains("more than 50000 values, aliases written out"), "{}", problems(&text));
}

#[test]
fn a_deep_file_is_an_error_and_no_crash() {
    let text = format!("job: {}", "[".repeat(100_000));
    assert!(JobFile::parse("job.yaml", &text).is_err());
    let block: String = (0..5_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert!(JobFile::parse("job.yaml", &block).is_err());
}

#[test]
fn a_second_document_is_refused() {
    let text = "job: { name: x, source: { connector: f }, sink: { connector: f } }\n---\njob: {}\n";
    assert!(problems(text).contains("a job file holds one document"), "{}", problems(text));
}

#[test]
fn a_tag_without_meaning_is_refused() {
    assert!(problems("job: !secret x\n").contains("the tag `!secret` has no meaning in a job file"), "{}", problems("job: !secret x\n"));
}

const GOOD: &str = r#"# Größe
connectors:
  warehouse: { type: jdbc, url: "jdbc:sqlite:ü.db", batchSize: 10 }
job:
  name: Käufe
  parallelism: ${CORES:-2}
  checkpoint: { interval: 10s }
  deadLetter: { connector: warehouse, config: { table: letters } }
  sources:
    orders: &orders
      connector: kafka
      onError: dead-letter
      config: { bootstrapServers: "localhost:9092", topics: [a, b], format: { delimiter: "é" } }
      schema: { id: bigint not null, amount: "decimal(10, 2)", ts: timestamp(3) }
      eventTime: { column: ts, maxOutOfOrderness: 5s }
      rateLimit: 1000
    more: { <<: *orders }
  operators:
    - { name: all, type: map, inputs: [orders, more], parallelism: 3 }
    - name: paid
      type: filter
      inputs:
        - { from: all, exchange: { hash: [id] } }
      where: "amount > 0"
  sinks:
    - { name: out, connector: warehouse, inputs: [paid], config: { table: sales, flushInterval: 1s } }
"#;

const PIECES: &[&str] = &[
    "job:",
    "  name: x",
    "  source:",
    "    connector: f",
    "  sink: { connector: f }",
    "  operators:",
    "    - type: filter",
    "      inputs: [a.b, source]",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "\n",
    "  checkpoint: { interval: 1s }",
    "  restart: { strategy: none }",
    ": ",
    "&a ",
    "*a",
    "!!str ",
    "\"",
    "'",
    "| ",
    "> ",
    "# ",
    "  sinks: {}",
    "  sources: [ { } ]",
    "connectors:",
    "<<: ",
    "\t",
    "é",
    "${X",
    "  deadLetter:",
    "    config: null",
    "  inputs: 3",
];

#[test]
fn the_file_that_slips_are_made_in_is_good() {
    assert_eq!(JobFile::parse_and_plan("job.yaml", GOOD, &registry()).map(|_| ()).map_err(|e| e.to_string()), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2_000)))]

    /// Whatever the text: an answer, and one that can be shown.
    #[test]
    fn no_text_makes_the_reader_fall(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40), breaks in prop::collection::vec(any::<bool>(), 40)) {
        let text: String = pieces.iter().zip(breaks).map(|(p, b)| format!("{p}{}", if b { "\n" } else { "" })).collect();
        assert_answered(&text, &registry());
    }

    #[test]
    fn no_characters_make_the_reader_fall(text in "\\PC{0,200}") {
        assert_answered(&text, &registry());
    }

    /// A good file in which something is not.
    #[test]
    fn no_slip_makes_the_reader_fall(slips in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, prop::sample::select(PIECES)), 1..6)) {
        let mut text = GOOD.to_owned();
        for (at, removed, piece) in slips {
            let mut at = at.index(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            let mut end = (at + removed).min(text.len());
            while !text.is_char_boundary(end) {
                end += 1;
            }
            text.replace_range(at..end, piece);
        }
        assert_answered(&text, &registry());
    }
}
