//! `karez run`: one job, in the foreground.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use karez_core::SystemClock;
use karez_graph::JobGraph;
use karez_runtime::checkpoint::Start;
use karez_runtime::{Durability, JobHandle, JobOptions, JobOutcome, JobStatus};

use super::control::Server;
use super::load::load_and_plan;
use super::log::LogFormat;
use super::runtimes::Runtimes;
use super::signals::Signals;
use super::{Failure, Outcome, StateDir, place, progress, summary};

/// A job that is stopped at once has so long to let go of what it holds.
const AT_ONCE: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct RunArgs {
    /// The job file (YAML).
    file: PathBuf,
    /// Begin a new run, even if the last one did not finish.
    #[arg(long)]
    fresh: bool,
    /// Begin a new run from a savepoint.
    #[arg(long, value_name = "PATH", conflicts_with = "fresh")]
    from_savepoint: Option<String>,
    #[command(flatten)]
    state: StateDir,
    /// Go on from an older checkpoint where the newest cannot be read, although rows may be written twice.
    #[arg(long)]
    accept_duplicates: bool,
    /// Leave state behind whose node the job no longer has.
    #[arg(long)]
    allow_non_restored_state: bool,
    /// On Ctrl-C end the input, so that windows fire and the run is complete, instead of stopping behind a checkpoint.
    #[arg(long)]
    drain: bool,
}

pub(crate) fn run(args: &RunArgs, format: LogFormat) -> Outcome {
    let (_, graph) = load_and_plan(&args.file)?;
    let state_dir = args.state.path()?;
    let start_as = match (&args.from_savepoint, args.fresh) {
        (Some(path), _) => Start::FromSavepoint(path.clone()),
        (None, true) => Start::Fresh,
        (None, false) => Start::Resume,
    };
    let how = How {
        accept_duplicates: args.accept_duplicates,
        allow_non_restored_state: args.allow_non_restored_state,
        drain: args.drain,
        file: Some(&args.file),
    };
    start(graph, start_as, &state_dir, &how, format)
}

/// Runs a planned job in the foreground.
pub(crate) fn start_with(graph: JobGraph, start_as: Start, state_dir: &Path, format: LogFormat) -> Outcome {
    start(graph, start_as, state_dir, &How { accept_duplicates: false, allow_non_restored_state: false, drain: false, file: None }, format)
}

struct How<'a> {
    accept_duplicates: bool,
    allow_non_restored_state: bool,
    drain: bool,
    /// The job's file, where it is to be remembered.
    file: Option<&'a Path>,
}

fn start(graph: JobGraph, start: Start, state_dir: &Path, how: &How<'_>, format: LogFormat) -> Outcome {
    let runtimes = Runtimes::start(&graph.settings.resources.thread_pool)?;
    let options = JobOptions {
        durability: Some(Durability { state_dir: state_dir.to_owned(), start }),
        accept_duplicates: how.accept_duplicates,
        allow_non_restored_state: how.allow_non_restored_state,
        clock: Arc::new(SystemClock),
        tasks: runtimes.tasks(),
    };
    let (handle, outcome) = runtimes.block_on(drive(graph, options, state_dir, how))?;
    runtimes.abandon();
    let Some(outcome) = outcome else { return Ok(stopped_at_once()) };
    summary::print(&handle, &outcome.report, format);
    match (outcome.status, &outcome.error) {
        (JobStatus::Cancelled, _) => Ok(stopped_at_once()),
        (JobStatus::Failed, error) => match (format, error) {
            // The JSON log has said so already.
            (LogFormat::Json, _) | (_, None) => Ok(ExitCode::FAILURE),
            (LogFormat::Text, Some(e)) => Err(Failure::failed(format!("error: {e}"))),
        },
        (JobStatus::Stopped, _) => {
            tracing::info!(job_id = handle.id(), "stopped behind a checkpoint: `karez run` of the same job goes on there");
            Ok(ExitCode::SUCCESS)
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// As a shell reports a process that SIGINT has ended.
fn stopped_at_once() -> ExitCode {
    ExitCode::from(130)
}

/// Starts the job and stays with it to its end; no outcome where it was left behind at once.
async fn drive(graph: JobGraph, options: JobOptions, state_dir: &Path, how: &How<'_>) -> Result<(JobHandle, Option<Arc<JobOutcome>>), Failure> {
    let mut signals = Signals::listen()?;
    let prints = graph.vertices.iter().filter_map(|v| v.sink.as_ref()).any(|s| s.connector == "stdout");
    let handle = karez_runtime::start(graph, options).await?;
    if let Some(file) = how.file {
        place::remember(state_dir, handle.id(), file);
    }
    let server = match Server::start(&state_dir.join(handle.id()), handle.clone()) {
        Ok(server) => Some(server),
        Err(e) => {
            tracing::warn!(job_id = handle.id(), "no control socket, so `karez stop`, `pause` and the like cannot reach this job: {e}");
            None
        }
    };
    // Dead letters that were queued while the job was starting, by somebody who found no socket to say so.
    let starting = handle.clone();
    tokio::spawn(async move { drop(starting.replay().await) });
    let shown = tokio::spawn(progress::show(handle.clone(), progress::has_line(prints)));
    let outcome = until_end(&handle, &mut signals, how.drain).await;
    shown.abort();
    progress::clear();
    if let Some(server) = server {
        server.finish().await;
    }
    Ok((handle, outcome))
}

async fn until_end(handle: &JobHandle, signals: &mut Signals, drain: bool) -> Option<Arc<JobOutcome>> {
    let mut asked = false;
    loop {
        tokio::select! {
            outcome = handle.wait() => return Some(outcome),
            () = signals.next() => {
                if asked {
                    handle.cancel();
                    return tokio::time::timeout(AT_ONCE, handle.wait()).await.ok();
                }
                asked = true;
                tokio::spawn(end(handle.clone(), drain));
            }
        }
    }
}

/// Ends the job in good order.
async fn end(handle: JobHandle, drain: bool) {
    let how = if drain { "ending the input" } else { "stopping behind a last checkpoint" };
    tracing::info!(job_id = handle.id(), job_name = handle.name(), event = "JOB_STOPPING", "{how}; Ctrl-C again stops at once");
    let ended = if drain { handle.drain().await } else { handle.stop().await };
    if let Err(e) = ended
        && !handle.status().is_final()
    {
        tracing::warn!(job_id = handle.id(), "the job could not be stopped in good order and goes on: {e}; Ctrl-C again stops it at once");
    }
}
