//! `karez stop | pause | resume | savepoint | status JOB` (and `dlq replay`): they ask the process that runs the job, over its socket.

mod client;
mod protocol;
mod server;
mod socket;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use self::protocol::Request;
pub(crate) use self::server::Server;
use super::{Failure, Outcome, StateDir, output};

#[derive(Args)]
pub(crate) struct JobArgs {
    /// The job's id: `job.id` of its file.
    job: String,
    #[command(flatten)]
    state: StateDir,
}

#[derive(Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Stop behind a savepoint; in this folder, or in the job's state directory.
    #[arg(long, value_name = "DIR", num_args = 0..=1, conflicts_with = "drain")]
    savepoint: Option<Option<PathBuf>>,
    /// End the input first, so that windows fire: the run is complete, the next one begins anew.
    #[arg(long)]
    drain: bool,
}

#[derive(Args)]
pub(crate) struct SavepointArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The folder it is put into. Default: `savepoints` in the job's state directory.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

pub(crate) fn stop(args: &StopArgs) -> Outcome {
    let request = match &args.savepoint {
        _ if args.drain => Request::Drain,
        None => Request::Stop { savepoint: false, folder: None },
        Some(folder) => Request::Stop { savepoint: true, folder: absolute(folder.as_deref())? },
    };
    let answer = ask(&args.job, &request)?;
    print_word(&answer, "status")?;
    print_word(&answer, "savepoint")?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn pause(args: &JobArgs) -> Outcome {
    print_word(&ask(args, &Request::Pause)?, "status")?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn resume(args: &JobArgs) -> Outcome {
    print_word(&ask(args, &Request::Resume)?, "status")?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn savepoint(args: &SavepointArgs) -> Outcome {
    print_word(&ask(&args.job, &Request::Savepoint { folder: absolute(args.to.as_deref())? })?, "savepoint")?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn status(args: &JobArgs) -> Outcome {
    output::json(&ask(args, &Request::Status)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Tells a running job of queued dead letters. Answers those it cannot be fed; `None` where it does not run.
pub(crate) fn replay(state_dir: &Path, job: &str) -> Result<Option<Vec<String>>, Failure> {
    let answer = client::ask_if_running(state_dir, job, &Request::Replay)?;
    let refused = |a: Value| a.get("refused").cloned().and_then(|r| serde_json::from_value(r).ok()).unwrap_or_default();
    Ok(answer.map(refused))
}

fn ask(args: &JobArgs, request: &Request) -> Result<Value, Failure> {
    client::ask(&args.state.path()?, &args.job, request)
}

/// Prints a word of the answer, where it has it.
fn print_word(answer: &Value, key: &str) -> Result<(), Failure> {
    answer.get(key).and_then(Value::as_str).map_or(Ok(()), output::line)
}

/// The running job has another working directory. URLs stay as they are.
fn absolute(folder: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    let Some(folder) = folder.filter(|f| !f.to_string_lossy().contains("://")) else {
        return Ok(folder.map(Path::to_owned));
    };
    std::path::absolute(folder).map(Some).map_err(|e| Failure::usage(format!("error: {}: {e}", folder.display())))
}
