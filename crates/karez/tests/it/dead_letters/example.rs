//! The dead-letters example: what is kept aside, repaired and fed again counts once, in the table and in the spend of its customer.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::karez::{Bench, eventually};

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/dead-letters").canonicalize().unwrap()
}

fn listed(bench: &Bench) -> Value {
    serde_json::from_str(&bench.karez(&["dlq", "list", "dead-letters", "--json"]).with(0).out).unwrap()
}

/// The rows of a table, each as its columns with spaces between them.
fn rows(bench: &Bench, table: &str) -> Vec<String> {
    let job = format!(
        "job:\n  id: read\n  name: Read\n  type: batch\n  sources: [ {{ name: in, connector: jdbc, config: {{ url: \"jdbc:sqlite:target/dead-letters/shop.db\", table: {table} }} }} ]\n  \
         sinks: [ {{ name: copy, connector: file, inputs: [in], config: {{ path: {table}.csv, ifExists: replace }} }} ]\n"
    );
    bench.karez(&["run", "--fresh", bench.file("read.yaml", &job)]).with(0);
    let text = std::fs::read_to_string(bench.path().join(format!("{table}.csv"))).unwrap();
    let mut rows: Vec<_> = text.lines().skip(1).map(|l| l.replace(',', " ")).collect();
    rows.sort();
    rows
}

#[test]
fn the_orders_that_were_kept_aside_count_once_when_they_are_repaired() {
    let bench = Bench::new();
    let job = std::fs::read_to_string(example().join("orders.yaml")).unwrap();
    let placed = job.replace("path: examples/dead-letters/", &format!("path: {}/", example().display()));
    assert_ne!(placed, job, "the example reads its data from another place now");
    let mut running = bench.start(&["run", bench.file("orders.yaml", &placed)]);
    running.until("CHECKPOINT_COMPLETED");
    eventually("three letters", || (listed(&bench)["total"]["letters"] == 3).then_some(()));
    assert_eq!(
        rows(&bench, "spend"),
        ["ada 1 21.0", "bob 2 104.0", "eve 1 7.25"],
        "an order without id is spent all the same: only its sink refused it"
    );

    bench.karez(&["dlq", "show", "dead-letters", "--status", "open", "--export", "letters.ndjson"]).with(0);
    let letters = std::fs::read_to_string(bench.path().join("letters.ndjson")).unwrap();
    let repaired: String = letters
        .lines()
        .map(|line| {
            let mut letter: Value = serde_json::from_str(line).unwrap();
            match letter["node"].as_str().unwrap() {
                "orders" => letter["raw"] = format!("{}}}", letter["raw"].as_str().unwrap()).into(),
                "priced" => letter["row"]["quantity"] = "2".into(),
                _ => letter["row"]["id"] = 5.into(),
            }
            letter.to_string() + "\n"
        })
        .collect();
    bench.file("repaired.ndjson", &repaired);
    bench.karez(&["dlq", "replay", "dead-letters", "--from", "repaired.ndjson"]).with(0);
    eventually("the letters are fed", || (listed(&bench)["total"]["replayed"] == 3).then_some(()));
    bench.karez(&["stop", "dead-letters"]).with(0);
    running.end().with(0);
    assert_eq!(rows(&bench, "orders"), ["1 ada 21.0", "2 bob 99.0", "3 ada 12.0", "4 eve 40.0", "5 bob 5.0", "6 eve 7.25"]);
    assert_eq!(rows(&bench, "spend"), ["ada 2 33.0", "bob 2 104.0", "eve 2 47.25"]);
}
