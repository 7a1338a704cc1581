//! The flights example: no late row, and every figure as plain Rust computes it from the same file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::karez::Bench;

/// Origin, carrier, hour.
type Key = (String, String, String);

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights").canonicalize().unwrap()
}

/// Runs the example in a folder of its own, on the repository's data.
fn run() -> (Bench, String) {
    let bench = Bench::new();
    let job = std::fs::read_to_string(example().join("delays.yaml")).unwrap();
    let placed = job.replace("path: examples/flights/", &format!("path: {}/", example().display()));
    assert_ne!(placed, job, "the example reads its data from another place now");
    let log = bench.start(&["run", bench.file("delays.yaml", &placed)]).end().with(0).err;
    (bench, log)
}

/// A record by column name; `None` is null.
type Record = BTreeMap<String, Option<String>>;

/// All that a source reads.
fn read(bench: &Bench, name: &str, source: &str) -> Vec<Record> {
    let job = format!(
        "job:\n  id: {name}\n  name: Read\n  type: batch\n  sources: [ {{ name: written, {source} }} ]\n  \
         sinks: [ {{ name: copy, connector: file, inputs: [written], config: {{ path: {name}.csv }} }} ]\n"
    );
    bench.karez(&["run", bench.file("read.yaml", &job)]).with(0);
    records(&std::fs::read_to_string(bench.path().join(format!("{name}.csv"))).unwrap(), "")
}

/// The records of CSV text without quotes.
fn records(text: &str, null: &str) -> Vec<Record> {
    assert!(!text.contains('"'), "a quoted field needs a CSV parser here");
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().unwrap().split(',').map(str::to_owned).collect();
    let value = |v: &str| (v != null).then(|| v.to_owned());
    lines.map(|l| names.iter().cloned().zip(l.split(',').map(value)).collect()).collect()
}

fn text(record: &Record, column: &str) -> String {
    record[column].clone().unwrap_or_else(|| panic!("{column} is null: {record:?}"))
}

/// The file's records by column name, `NA` as `None`.
fn flights() -> Vec<Record> {
    let output = Command::new("gzip").arg("-dc").arg(example().join("data/flights-2013-01.csv.gz")).output().unwrap();
    assert!(output.status.success());
    records(&String::from_utf8(output.stdout).unwrap(), "NA")
}

/// The delays of departed flights by key.
fn delays() -> BTreeMap<Key, Vec<f64>> {
    let mut delays: BTreeMap<Key, Vec<f64>> = BTreeMap::new();
    for flight in flights().iter().filter(|f| f["dep_time"].is_some()) {
        let key = (text(flight, "origin"), text(flight, "carrier"), hour(&text(flight, "time_hour")));
        delays.entry(key).or_default().push(text(flight, "dep_delay").parse().unwrap());
    }
    for of_key in delays.values_mut() {
        of_key.sort_by(f64::total_cmp);
    }
    delays
}

/// `2013-01-01T10`, whatever follows and stands between date and hour.
fn hour(instant: &str) -> String {
    assert_eq!(&instant[14..19], "00:00", "`{instant}` is not a full hour");
    format!("{}T{}", &instant[..10], &instant[11..13])
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}

/// Linear interpolation between the two nearest of sorted values: SQL's `percentile_cont`.
fn percentile(sorted: &[f64], p: f64) -> f64 {
    let place = p * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[test]
fn the_flights_example_has_no_late_row() {
    let (_bench, log) = run();
    let summaries: Vec<Value> = log.lines().map(|l| serde_json::from_str(l).unwrap()).filter(|l: &Value| l["event"] == "NODE_SUMMARY").collect();
    let of =
        |node: &str| summaries.iter().map(|s| &s["metadata"]).find(|m| m["node"] == node).unwrap_or_else(|| panic!("no figures of {node}:\n{log}"));
    for node in ["flights", "left", "per-hour", "departures", "cancelled"] {
        for counter in ["late", "dropped", "skipped", "dead_lettered"] {
            assert_eq!(of(node)[counter], 0, "{counter} rows at {node}:\n{log}");
        }
    }
    assert_eq!(of("flights")["records_out"], 27_004);
    assert_eq!(of("per-hour")["records_in"], 26_483);
    assert_eq!(of("cancelled")["records_in"], 521);
}

#[test]
fn the_hourly_delays_are_those_computed_without_karez() {
    let (bench, _) = run();
    let rows = read(&bench, "departures", r#"connector: jdbc, config: { url: "jdbc:sqlite:target/flights/delays.db", table: departures }"#);
    let mut expected = delays();
    assert_eq!(rows.len(), expected.len(), "one row for each origin, carrier and hour");
    let mut departures = 0;
    for row in &rows {
        let key = (text(row, "origin"), text(row, "carrier"), hour(&text(row, "window_start")));
        let delays = expected.remove(&key).unwrap_or_else(|| panic!("{key:?} should not be there, or not twice"));
        let number = |column: &str| text(row, column).parse::<f64>().unwrap();
        departures += delays.len();
        assert_eq!(text(row, "departures"), delays.len().to_string(), "departures of {key:?}");
        // Sums of whole numbers are exact, so these are equal to the last bit.
        assert_eq!(number("mean_delay"), mean(delays.iter().copied()), "mean delay of {key:?}");
        let late = delays.iter().map(|d| if *d > 15.0 { 1.0 } else { 0.0 });
        assert_eq!(number("share_over_15"), mean(late), "share over 15 minutes of {key:?}");
        assert_eq!(number("p90_delay"), percentile(&delays, 0.9), "p90 delay of {key:?}");
    }
    assert_eq!(departures, 26_483);
}

#[test]
fn the_flights_that_never_left_are_in_parquet() {
    let (bench, _) = run();
    let rows = read(&bench, "cancelled", r#"connector: file, config: { path: "target/flights/cancelled/*.parquet", format: parquet }"#);
    let flight = |r: &Record| format!("{} {} {} {}", text(r, "carrier"), text(r, "flight"), text(r, "origin"), hour(&text(r, "time_hour")));
    assert!(rows.iter().all(|r| r["dep_time"].is_none()));
    let mut found: Vec<_> = rows.iter().map(flight).collect();
    let mut expected: Vec<_> = flights().iter().filter(|f| f["dep_time"].is_none()).map(flight).collect();
    found.sort();
    expected.sort();
    assert_eq!(found.len(), 521);
    assert_eq!(found, expected);
}
