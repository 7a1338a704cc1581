//! Dead letters from end to end: kept aside in real outputs, read back, repaired, and fed again so that each counts once.

mod event_time;
mod example;
mod no_letters;
mod outputs;
mod results;
mod stuck;

use std::time::Duration;

use serde_json::Value;

use crate::karez::{Bench, Done, Logging, eventually};

/// The letters of a job, once there are so many in this state.
#[track_caller]
fn letters(bench: &Bench, job: &str, status: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} letters that are {status}"), || {
        let listed = bench.karez(&["dlq", "list", job, "--each", "--json", "--status", status]).with(0).out;
        std::thread::park_timeout(Duration::from_millis(50));
        Some(serde_json::from_str::<Vec<Value>>(&listed).unwrap()).filter(|l| l.len() == count)
    })
}

/// Exports the open letters of a node, mends each, and gives them back.
#[track_caller]
fn repair(bench: &Bench, job: &str, node: &str, mend: impl Fn(&mut Value)) -> Done {
    bench.karez(&["dlq", "show", job, "--node", node, "--status", "open", "--export", "letters.ndjson"]).with(0);
    let exported = std::fs::read_to_string(bench.path().join("letters.ndjson")).unwrap();
    let mended = exported.lines().map(|line| {
        let mut letter: Value = serde_json::from_str(line).unwrap();
        mend(&mut letter);
        letter.to_string() + "\n"
    });
    bench.file("repaired.ndjson", &mended.collect::<String>());
    bench.karez(&["dlq", "replay", job, "--from", "repaired.ndjson"])
}

/// Starts a job; it can be asked and told when this returns.
fn start(bench: &Bench, job: &str, file: &str, log: &str) -> Logging {
    let mut running = bench.start_logging(bench.command(&["run", file]), log);
    running.until("JOB_STARTED");
    eventually("its socket", || (bench.karez(&["status", job]).code == 0).then_some(()));
    running
}

/// How many letters have been fed to a node of the running job, whether a checkpoint knows of it or not.
fn fed(bench: &Bench, job: &str, node: &str) -> u64 {
    let status: Value = serde_json::from_str(&bench.karez(&["status", job]).with(0).out).unwrap();
    let nodes = status["report"]["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|n| n["name"] == node).unwrap();
    node["custom"]["replayed"].as_u64().unwrap_or(0)
}
