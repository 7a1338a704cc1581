//! `karez stop | pause | resume | savepoint | status` over the socket of a running job.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use super::{ENDLESS, NUMBERS};
use crate::karez::{Bench, Running, eventually};

fn running(bench: &Bench) -> Running {
    let mut running = bench.start(&["run", bench.file("job.yaml", ENDLESS)]);
    running.until("CHECKPOINT_COMPLETED");
    running
}

#[test]
fn stop_ends_the_job_behind_a_checkpoint() {
    let bench = Bench::new();
    let running = running(&bench);
    assert_eq!(bench.karez(&["stop", "endless"]).with(0).out, "STOPPED\n");
    assert!(running.end().with(0).err.contains("STOPPED"));
    assert!(!bench.path().join("state/endless/control.sock").exists(), "the socket goes with the job");
}

#[test]
fn stop_with_savepoint_tells_where_it_is_and_a_run_begins_from_there() {
    let bench = Bench::new();
    let first = running(&bench);
    let out = bench.karez(&["stop", "endless", "--savepoint", "kept"]).with(0).out;
    first.end().with(0);
    let path = out.lines().nth(1).unwrap();
    assert!(path.starts_with(bench.path().join("kept").to_str().unwrap()), "{out}");

    let mut second = bench.start(&["run", "--from-savepoint", path, "job.yaml"]);
    second.until("JOB_RESTORED");
    bench.karez(&["stop", "endless"]).with(0);
    second.end().with(0);
}

#[test]
fn stop_with_drain_lets_windows_fire() {
    let bench = Bench::new();
    let running = running(&bench);
    assert_eq!(bench.karez(&["stop", "endless", "--drain"]).with(0).out, "COMPLETED\n");
    running.end().with(0);
}

#[test]
fn pause_and_resume_are_seen_in_the_status() {
    let bench = Bench::new();
    let running = running(&bench);
    assert_eq!(bench.karez(&["pause", "endless"]).with(0).out, "PAUSED\n");
    assert!(bench.karez(&["status", "endless"]).with(0).out.contains(r#""status": "PAUSED""#));
    assert_eq!(bench.karez(&["resume", "endless"]).with(0).out, "RUNNING\n");
    bench.karez(&["stop", "endless"]).with(0);
    running.end().with(0);
}

#[test]
fn status_gives_the_figures_of_every_node() {
    let bench = Bench::new();
    let running = running(&bench);
    let out = bench.karez(&["status", "endless"]).with(0).out;
    for text in [r#""id": "endless""#, r#""name": "bids""#, r#""records_out""#, r#""role": "sink""#, r#""completed""#] {
        assert!(out.contains(text), "`{text}` is missing:\n{out}");
    }
    bench.karez(&["stop", "endless"]).with(0);
    running.end().with(0);
}

#[test]
fn a_savepoint_leaves_the_job_running() {
    let bench = Bench::new();
    let running = running(&bench);
    let out = bench.karez(&["savepoint", "endless", "--to", "kept"]).with(0).out;
    assert!(std::path::Path::new(out.trim()).join("manifest").is_file(), "{out}");
    assert!(bench.karez(&["status", "endless"]).with(0).out.contains("RUNNING"));
    bench.karez(&["stop", "endless"]).with(0);
    running.end().with(0);
}

#[test]
fn what_does_not_run_is_said_with_what_does() {
    let bench = Bench::new();
    let none = bench.karez(&["status", "endless"]).with(1).err;
    assert!(none.contains("no job `endless` has been run"), "{none}");
    bench.karez(&["run", bench.file("numbers.yaml", NUMBERS)]).with(0);
    let ended = bench.karez(&["stop", "numbers"]).with(1).err;
    assert!(ended.contains("job `numbers` is not running"), "{ended}");
    let running = running(&bench);
    let typo = bench.karez(&["pause", "endles"]).with(1).err;
    assert!(typo.contains("did you mean `endless`?"), "{typo}");
    bench.karez(&["stop", "endless"]).with(0);
    running.end().with(0);
}

#[test]
fn a_socket_left_behind_by_a_killed_process_is_replaced() {
    let bench = Bench::new();
    let killed = running(&bench);
    killed.signal(rustix::process::Signal::KILL);
    killed.end();
    let gone = bench.karez(&["status", "endless"]).with(1).err;
    assert!(gone.contains("is not running"), "{gone}");
    let again = running(&bench);
    bench.karez(&["stop", "endless"]).with(0);
    again.end().with(0);
}

#[test]
fn a_state_directory_too_deep_for_a_socket_is_reached_all_the_same() {
    let bench = Bench::new();
    let deep = bench.path().join("d".repeat(60)).join("e".repeat(60));
    let deep = deep.to_str().unwrap();
    let mut running = bench.start(&["run", "--state-dir", deep, bench.file("job.yaml", ENDLESS)]);
    running.until("CHECKPOINT_COMPLETED");
    bench.karez(&["stop", "endless", "--state-dir", deep]).with(0);
    running.end().with(0);
}

#[test]
fn a_request_that_is_not_understood_is_answered_so() {
    let bench = Bench::new();
    let running = running(&bench);
    let path = eventually("the socket", || Some(bench.path().join("state/endless/control.sock")).filter(|p| p.exists()));
    let stream = UnixStream::connect(path).unwrap();
    (&stream).write_all(b"{\"command\":\"explode\"}\n").unwrap();
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).unwrap();
    assert!(answer.starts_with(r#"{"error":"not understood"#), "{answer}");
    bench.karez(&["stop", "endless"]).with(0);
    running.end().with(0);
}
