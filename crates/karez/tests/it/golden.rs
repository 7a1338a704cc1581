//! `tests/state-golden/`: one savepoint for each format version, which every later build must restore.
//!
//! The rows beside it are what a restored run gives; together with those given before the savepoint they are the rows of an undisturbed run (checked when
//! the savepoint was made). A new format version adds a folder; none is ever made anew.

use std::path::Path;

use crate::karez::Bench;

#[test]
fn a_savepoint_of_every_format_version_is_restored_and_gives_the_rows_it_always_gave() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/state-golden").canonicalize().unwrap();
    let mut versions = 0;
    for version in std::fs::read_dir(&golden).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()) {
        let bench = Bench::new();
        let (job, savepoint) = (version.join("job.yaml"), version.join("savepoint"));
        let done = bench.karez(&["run", job.to_str().unwrap(), "--from-savepoint", savepoint.to_str().unwrap()]).with(0);
        let mut rows: Vec<_> = done.out.lines().collect();
        rows.sort_unstable();
        let expected = std::fs::read_to_string(version.join("rows.ndjson")).unwrap();
        assert_eq!(rows, expected.lines().collect::<Vec<_>>(), "{}", version.display());
        versions += 1;
    }
    assert_eq!(versions, 1, "this build writes format 1; a new format brings a folder of its own");
}
