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
    assert!(err.contains("window-to-sqlite, to-parquet, to-ndjson, two-sinks, letters, kafka-kafka"), "{err}");
}

#[test]
fn without_a_karez_binary_it_says_how_to_name_one() {
    let output = bench(&["crash", "--karez", "/nowhere/karez"]);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("/nowhere/karez") && err.contains("--karez"), "{err}");
}

#[test]
fn a_figure_is_a_line_of_json_with_its_names() {
    let data = tempfile::tempdir().unwrap();
    let output =
        bench(&["speed", "tumble", "--json", "--rounds", "1", "--rows", "20000", "--against", "arrow-json", "--data", data.path().to_str().unwrap()]);
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figure: serde_json::Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!((figure["bench"].as_str(), figure["against"].as_str()), (Some("tumble"), Some("arrow-json")), "{figure}");
    for name in ["ratio", "rows_per_cpu_second", "peak_mb"] {
        assert!(figure[name].as_f64().is_some_and(|v| v > 0.0), "{name}: {figure}");
    }
}

#[test]
fn an_unknown_bench_is_answered_with_those_there_are() {
    let output = bench(&["speed", "q3"]);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("q2, tumble"), "{err}");
}
