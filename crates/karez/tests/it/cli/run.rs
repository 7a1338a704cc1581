//! `karez run`: exit codes, signals, what it says.

use rustix::process::Signal;

use super::{ENDLESS, NUMBERS};
use crate::karez::{Bench, eventually};

#[test]
fn a_bounded_job_runs_to_its_end_and_leaves_its_rows() {
    let bench = Bench::new();
    let done = bench.karez(&["run", bench.file("job.yaml", NUMBERS)]).with(0);
    let rows = std::fs::read_to_string(bench.path().join("out.ndjson")).unwrap();
    assert_eq!(rows.lines().count(), 10);
    assert!(done.err.contains("COMPLETED"), "{}", done.err);
}

#[test]
fn the_summary_tells_each_nodes_rows_and_the_checkpoints() {
    let bench = Bench::new();
    let err = bench.karez(&["run", bench.file("job.yaml", NUMBERS)]).with(0).err;
    for text in ["records in", "dead-lettered", "back-pressured", "small", "1,000", "checkpoints:", "restarts: 0"] {
        assert!(err.contains(text), "`{text}` is missing:\n{err}");
    }
}

#[test]
fn without_a_terminal_there_is_no_bar_and_no_colour() {
    let bench = Bench::new();
    let done = bench.karez(&["run", bench.file("job.yaml", NUMBERS)]).with(0);
    assert!(!done.err.contains('\u{1b}') && !done.out.contains('\u{1b}'), "{}", done.err);
    assert!(done.out.is_empty(), "rows alone go to standard output: {}", done.out);
}

#[test]
fn json_logs_are_one_object_a_line_with_job_and_event() {
    let bench = Bench::new();
    let done = bench.start(&["run", bench.file("job.yaml", NUMBERS)]).end().with(0);
    assert!(done.err.lines().all(|l| l.starts_with('{') && l.ends_with('}')), "{}", done.err);
    for event in ["JOB_STARTED", "JOB_FINISHED", "JOB_SUMMARY"] {
        let line = done.err.lines().find(|l| l.contains(event)).unwrap_or_else(|| panic!("no {event}:\n{}", done.err));
        assert!(line.contains(r#""jobId":"numbers""#) && line.contains(r#""jobName":"Numbers""#), "{line}");
    }
}

#[test]
fn a_job_goes_on_when_nobody_reads_its_standard_error_any_more() {
    let bench = Bench::new();
    let run = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        bench.command(arguments).stderr(writer).output().unwrap().status.code()
    };
    assert_eq!(run(&["run", bench.file("job.yaml", NUMBERS)]), Some(0));
    assert_eq!(std::fs::read_to_string(bench.path().join("out.ndjson")).unwrap().lines().count(), 10);
    assert_eq!(run(&["check", bench.file("bad.yaml", "job: { name: x, sauce: {} }")]), Some(2));
}

#[test]
fn a_job_that_prints_ends_without_restarts_when_nobody_reads_its_rows_any_more() {
    let bench = Bench::new();
    let job = NUMBERS.replace("connector: file", "connector: stdout").replace("config: { path: out.ndjson, format: ndjson, ifExists: replace }", "");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = bench.command(&["run", bench.file("job.yaml", &job)]).stdout(writer).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("nobody reads the standard output") && !log.contains("JOB_RESTARTING"), "{log}");
}

#[test]
fn no_log_line_holds_what_the_environment_put_into_sql() {
    let bench = Bench::new();
    let job = bench.file("job.yaml", &NUMBERS.replace("n < 10", "n < 10 and '${KAREZ_TEST_SECRET}' <> 'x'"));
    let output = bench.command(&["run", job]).env("KAREZ_LOG", "trace").env("KAREZ_TEST_SECRET", "hunter2").output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && log.contains("JOB_STARTED"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn a_run_that_fails_exits_with_1_and_says_why() {
    let bench = Bench::new();
    let job = NUMBERS.replace("n < 10", "1 / (n - 5) < 10") + "  restart: { strategy: none }\n";
    let done = bench.karez(&["run", bench.file("job.yaml", &job)]).with(1);
    assert!(done.err.contains("error: ") && done.err.contains("small"), "{}", done.err);
}

#[test]
fn a_bad_job_file_exits_with_2_before_anything_is_touched() {
    let bench = Bench::new();
    bench.karez(&["run", bench.file("job.yaml", "job: { name: x, sauce: {} }")]).with(2);
    assert_eq!(bench.files(), [std::path::PathBuf::from("job.yaml")]);
}

#[test]
fn ctrl_c_stops_behind_a_checkpoint_and_the_next_run_goes_on_there() {
    let bench = Bench::new();
    let job = bench.file("job.yaml", ENDLESS);
    let mut running = bench.start(&["run", job]);
    running.until("CHECKPOINT_COMPLETED").signal(Signal::INT);
    let done = running.end().with(0);
    assert!(done.err.contains("STOPPED"), "{}", done.err);
    assert!(!has_rows(&bench), "a stop fires no half window");

    let mut running = bench.start(&["run", job]);
    running.until("JOB_RESTORED").signal(Signal::TERM);
    running.end().with(0);
    assert!(!has_rows(&bench));
}

#[test]
fn with_drain_ctrl_c_ends_the_input_so_that_windows_fire() {
    let bench = Bench::new();
    let mut running = bench.start(&["run", "--drain", bench.file("job.yaml", ENDLESS)]);
    running.until("CHECKPOINT_COMPLETED").signal(Signal::INT);
    let done = running.end().with(0);
    assert!(done.err.contains("COMPLETED"), "{}", done.err);
    assert!(has_rows(&bench));
}

#[test]
fn a_second_ctrl_c_stops_at_once() {
    let bench = Bench::new();
    // Nobody reads what the sink prints: it is stuck, and no last checkpoint can come about.
    let job = "
job:
  id: stuck
  name: Stuck
  source: { connector: generator, config: { kind: nexmark } }
  sink: { connector: stdout }
";
    let mut running = bench.start(&["run", bench.file("job.yaml", job)]);
    running.until("JOB_STARTED");
    eventually("the pipe is full", || (running.unread_output() > 60_000).then_some(()));
    running.signal(Signal::INT);
    running.until("JOB_STOPPING").signal(Signal::INT);
    assert_eq!(running.exit_code(), 130);
    assert!(!bench.path().join("state/stuck/control.sock").exists());
}

#[test]
fn two_processes_do_not_run_one_job() {
    let bench = Bench::new();
    let job = bench.file("job.yaml", ENDLESS);
    let mut running = bench.start(&["run", job]);
    running.until("JOB_STARTED");
    let second = bench.karez(&["run", job]).with(1);
    assert!(second.err.contains("karez stop endless"), "{}", second.err);
    running.signal(Signal::INT);
    running.end().with(0);
}

#[test]
fn fresh_and_from_savepoint_exclude_each_other() {
    let bench = Bench::new();
    bench.karez(&["run", "--fresh", "--from-savepoint", "x", bench.file("job.yaml", NUMBERS)]).with(2);
}

#[test]
fn from_savepoint_needs_one() {
    let bench = Bench::new();
    let done = bench.karez(&["run", "--from-savepoint", "nowhere", bench.file("job.yaml", NUMBERS)]).with(1);
    assert!(done.err.contains("no savepoint at nowhere"), "{}", done.err);
}

#[test]
fn state_goes_where_the_state_directory_says() {
    let bench = Bench::new();
    let job = bench.file("job.yaml", NUMBERS);
    bench.karez(&["run", "--state-dir", "elsewhere", job]).with(0);
    assert!(bench.path().join("elsewhere/numbers/runs").is_dir());
    assert!(!bench.path().join("state").exists());
}

fn has_rows(bench: &Bench) -> bool {
    let visible = |name: &std::ffi::OsStr| !name.to_string_lossy().starts_with('.');
    bench.files().iter().any(|f| f.starts_with("out") && f.components().count() > 1 && f.file_name().is_some_and(visible))
}
