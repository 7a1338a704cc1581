//! The `karez-bench` binary from outside. Crash rounds themselves are tests of the crate `karez`, which has the binary that is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_karez-bench")).args(arguments).output().unwrap()
}

#[test]
fn an_unknown_job_is_answered_with_those_there_are() {
    let output = bench(&["crash", "--job", "to-csv"]);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("window-to-sqlite, to-parquet, to-ndjson, two-sinks"), "{err}");
}

#[test]
fn without_a_karez_binary_it_says_how_to_name_one() {
    let output = bench(&["crash", "--karez", "/nowhere/karez"]);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("/nowhere/karez") && err.contains("--karez"), "{err}");
}
