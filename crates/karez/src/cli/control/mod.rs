//! `karez stop | pause | resume | savepoint | status JOB`: they ask the process that runs the job, over its socket.

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
use super::{Failure, Outcome, StateDir};

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
    println!("{}", answer.get("status").and_then(Value::as_str).unwrap_or("STOPPED"));
    print_savepoint(&answer);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn pause(args: &JobArgs) -> Outcome {
    print_status(&ask(args, &Request::Pause)?)
}

pub(crate) fn resume(args: &JobArgs) -> Outcome {
    print_status(&ask(args, &Request::Resume)?)
}

pub(crate) fn savepoint(args: &SavepointArgs) -> Outcome {
    print_savepoint(&ask(&args.job, &Request::Savepoint { folder: absolute(args.to.as_deref())? })?);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn status(args: &JobArgs) -> Outcome {
    let answer = ask(args, &Request::Status)?;
    println!("{}", serde_json::to_string_pretty(&answer).map_err(|e| Failure::failed(e.to_string()))?);
    Ok(ExitCode::SUCCESS)
}

fn ask(args: &JobArgs, request: &Request) -> Result<Value, Failure> {
    client::ask(&args.state.path()?, &args.job, request)
}

fn print_status(answer: &Value) -> Outcome {
    println!("{}", answer.get("status").and_then(Value::as_str).unwrap_or_default());
    Ok(ExitCode::SUCCESS)
}

fn print_savepoint(answer: &Value) {
    if let Some(path) = answer.get("savepoint").and_then(Value::as_str) {
        println!("{path}");
    }
}

/// The running job has another working directory. URLs stay as they are.
fn absolute(folder: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    let Some(folder) = folder.filter(|f| !f.to_string_lossy().contains("://")) else {
        return Ok(folder.map(Path::to_owned));
    };
    std::path::absolute(folder).map(Some).map_err(|e| Failure::usage(format!("error: {}: {e}", folder.display())))
}
