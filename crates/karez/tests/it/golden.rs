//! `tests/state-golden/`: one savepoint for each format version, which every later build must restore.
//!
//! The rows beside it are what a restored run gives; together with those given before the savepoint they are the rows of an undisturbed run (checked when
//! the savepoint was made). A new format version adds a folder; none is ever made anew.

use std::collections::BTreeMap;
use std::path::Path;

use crate::karez::Bench;

/// The rows of NDJSON in some order. Columns by name: the one thing that builds may give in another order.
fn rows(ndjson: &str) -> Vec<String> {
    let by_name = |line: &str| format!("{:?}", serde_json::from_str::<BTreeMap<String, serde_json::Value>>(line).unwrap());
    let mut rows: Vec<String> = ndjson.lines().map(by_name).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn a_savepoint_of_every_format_version_is_restored_and_gives_the_rows_it_always_gave() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/state-golden").canonicalize().unwrap();
    let mut versions = 0;
    for version in std::fs::read_dir(&golden).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()) {
        let bench = Bench::new();
        let (job, savepoint) = (version.join("job.yaml"), version.join("savepoint"));
        let done = bench.karez(&["run", job.to_str().unwrap(), "--from-savepoint", savepoint.to_str().unwrap()]).with(0);
        let expected = std::fs::read_to_string(version.join("rows.ndjson")).unwrap();
        assert_eq!(rows(&done.out), rows(&expected), "{}", version.display());
        versions += 1;
    }
    assert_eq!(versions, 1, "this build writes format 1; a new format brings a folder of its own");
}
