//! The side of the commands.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use karez_core::error::did_you_mean;
use serde_json::Value;

use super::super::Failure;
use super::protocol::{Answer, Request};
use super::socket;

/// Asks a running job and waits for its answer, however long that takes: a savepoint may be large.
pub(super) fn ask(state_dir: &Path, job: &str, request: &Request) -> Result<Value, Failure> {
    ask_if_running(state_dir, job, request)?.ok_or_else(|| not_running(state_dir, job))
}

/// The same; `None` where the job does not run.
pub(super) fn ask_if_running(state_dir: &Path, job: &str, request: &Request) -> Result<Option<Value>, Failure> {
    let Some(path) = socket::find(&state_dir.join(job)) else { return Ok(None) };
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        // Left behind by a process that was killed.
        Err(e) if matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => return Ok(None),
        Err(e) => return Err(Failure::failed(format!("error: cannot reach job `{job}` at {}: {e}", path.display()))),
    };
    let lost = |e: std::io::Error| Failure::failed(format!("error: job `{job}` ended before it answered: {e}"));
    let mut line = serde_json::to_string(request).map_err(|e| Failure::failed(e.to_string()))?;
    line.push('\n');
    (&stream).write_all(line.as_bytes()).map_err(lost)?;
    let mut text = String::new();
    BufReader::new(&stream).read_line(&mut text).map_err(lost)?;
    if text.is_empty() {
        return Err(Failure::failed(format!("error: job `{job}` ended before it answered")));
    }
    match serde_json::from_str(&text) {
        Ok(Answer::Ok(value)) => Ok(Some(value)),
        Ok(Answer::Error(message)) => Err(Failure::failed(format!("error: {message}"))),
        Err(e) => Err(Failure::failed(format!("error: the answer of job `{job}` is not understood ({e}); is it another version of karez?"))),
    }
}

fn not_running(state_dir: &Path, job: &str) -> Failure {
    let entries = std::fs::read_dir(state_dir).into_iter().flatten().flatten();
    let known: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    let running: Vec<&str> = known.iter().map(String::as_str).filter(|n| socket::find(&state_dir.join(n)).is_some()).collect();
    let place = format!("with the state directory {}", state_dir.display());
    let message = if known.iter().any(|n| n == job) {
        format!("error: job `{job}` is not running {place}")
    } else {
        format!("error: no job `{job}` has been run {place} (give the job's `id`, and the --state-dir it runs with)")
    };
    let hint = match did_you_mean(job, running.iter().copied().filter(|n| *n != job)) {
        Some(near) => format!("; did you mean `{near}`?"),
        None if running.is_empty() => String::new(),
        None => format!("; running: {}", running.join(", ")),
    };
    Failure::failed(message + &hint)
}
