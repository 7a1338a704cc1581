//! Help, lists, schemas and generated pages.

use crate::karez::Bench;

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let out = Bench::new().karez(&["--help"]).with(0).out;
    for text in
        ["run", "stop", "pause", "resume", "savepoint", "status", "check", "explain", "preview", "connectors", "schema", "Exit codes", "--log-format"]
    {
        assert!(out.contains(text), "`{text}` is missing:\n{out}");
    }
    assert!(!out.contains("docs"), "hidden");
}

#[test]
fn the_default_state_directory_is_stated() {
    assert!(Bench::new().karez(&["run", "--help"]).with(0).out.contains("~/.local/state/karez"));
}

#[test]
fn connectors_and_operators_are_listed() {
    let out = Bench::new().karez(&["connectors"]).with(0).out;
    for name in ["file", "generator", "stdout", "blackhole", "filter", "window-aggregate"] {
        assert!(out.contains(name), "`{name}` is missing:\n{out}");
    }
}

#[test]
fn options_come_from_the_code() {
    let bench = Bench::new();
    let file = bench.karez(&["connectors", "file"]).with(0).out;
    assert!(file.contains("Options of the source") && file.contains("Options of the sink") && file.contains("nullValue"), "{file}");
    let flat_map = bench.karez(&["connectors", "flat-map"]).with(0).out;
    assert!(flat_map.contains("unnest") && flat_map.contains("required"), "{flat_map}");
    let typo = bench.karez(&["connectors", "flie"]).with(2).err;
    assert!(typo.contains("did you mean `file`?"), "{typo}");
}

#[test]
fn the_schema_of_a_job_file_is_json() {
    let out = Bench::new().karez(&["schema", "job"]).with(0).out;
    assert!(out.starts_with('{') && out.contains("$schema"), "{out}");
}

#[test]
fn generated_pages_are_current_until_one_changes_and_the_stale_one_is_named() {
    let bench = Bench::new();
    bench.karez(&["docs", "--folder", "reference"]).with(0);
    bench.karez(&["docs", "--folder", "reference", "--check"]).with(0);
    bench.file("reference/connectors/file.md", "old");
    bench.file("reference/operators/gone.md", "of nothing");
    let err = bench.karez(&["docs", "--folder", "reference", "--check"]).with(1).err;
    assert!(err.contains("reference/connectors/file.md") && err.contains("reference/operators/gone.md"), "{err}");
    bench.karez(&["docs", "--folder", "reference"]).with(0);
    assert!(!bench.path().join("reference/operators/gone.md").exists());
}
