//! `karez preview`: a job's rows for a look. Nothing is written: no state directory, no sink, no table, no file.
//!
//! Every sink, dead-letter outputs included, is replaced by one that keeps the first rows in memory before the job is planned. Reading ends at the
//! limit or the timeout; then the input is ended, so that windows fire: what they hold is marked as partial.

mod collect;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use karez_core::config::Span;
use karez_core::{SystemClock, error};
use karez_graph::settings::{Delivery, RestartStrategy, StateBackendKind};
use karez_graph::stream_graph::ERRORS_PORT;
use karez_graph::{Implementation, JobGraph, NodeKind, StreamGraph};
use karez_runtime::{JobHandle, JobOptions, JobStatus};

use self::collect::{CollectingSink, Collection};
use super::load::{load, plan_job};
use super::output::note;
use super::runtimes::Runtimes;
use super::signals::Signals;
use super::{Failure, Outcome};

/// After the end of the input windows have so long to give their rows.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct PreviewArgs {
    /// The job file (YAML).
    file: PathBuf,
    /// Reading ends when every sink has so many rows; more are not shown.
    #[arg(long, value_name = "ROWS", default_value_t = 20)]
    limit: usize,
    /// Reading ends after this time.
    #[arg(long, default_value = "10s")]
    timeout: Span,
}

pub(crate) fn preview(args: &PreviewArgs) -> Outcome {
    let mut file = load(&args.file)?;
    let collections = leave_no_trace(&mut file.graph, args.limit);
    let graph = plan_job(&file)?;
    for collection in &collections {
        collection.set_held_back(is_held_back(&file.graph, &graph, collection.node()));
    }
    let runtimes = Runtimes::start(&graph.settings.resources.thread_pool)?;
    let options = JobOptions {
        durability: None,
        accept_duplicates: false,
        allow_non_restored_state: false,
        clock: Arc::new(SystemClock),
        tasks: runtimes.tasks(),
    };
    let end = runtimes.block_on(watch(graph, options, &collections, args.timeout.0));
    runtimes.abandon();
    let end = end?;
    for collection in &collections {
        show::print(collection)?;
    }
    match end {
        End::Complete => Ok(ExitCode::SUCCESS),
        End::Unfinished => {
            note(format_args!("windows had not given all their rows {DRAIN_TIMEOUT:?} after the end of the input"));
            Ok(ExitCode::SUCCESS)
        }
        End::Interrupted => Ok(ExitCode::from(130)),
        End::Failed(message) => Err(Failure::failed(format!("error: {message}"))),
    }
}

/// How a preview ended.
enum End {
    Complete,
    /// The drain took too long.
    Unfinished,
    /// Ctrl-C twice.
    Interrupted,
    Failed(String),
}

/// Puts a collecting sink in the place of each sink, and has sources tell nobody how far they have read; what only a durable job can keep is not asked
/// for.
fn leave_no_trace(graph: &mut StreamGraph, limit: usize) -> Vec<Arc<Collection>> {
    let registry = karez::registry();
    graph.settings.delivery = Delivery::AtLeastOnce;
    graph.settings.restart = RestartStrategy::None {};
    graph.settings.state.backend = StateBackendKind::Memory;
    graph.settings.checkpoint.storage = None;
    let mut collections = Vec::new();
    for node in &mut graph.nodes {
        if let NodeKind::Source { connector: Implementation::Named { name, config }, .. } = &mut node.kind
            && let Ok(connector) = registry.connector(name)
        {
            connector.leave_no_trace(config);
        }
        if let NodeKind::Sink(implementation) = &mut node.kind {
            let connector = match implementation {
                Implementation::Named { name, .. } => name.clone(),
                Implementation::InCode(_) => "in code".into(),
            };
            let letters = graph.edges.iter().any(|e| e.to == node.name && e.port == ERRORS_PORT);
            let collection = Arc::new(Collection::new(&node.name, connector, letters, limit));
            *implementation = Implementation::InCode(Arc::new(CollectingSink(Arc::clone(&collection))));
            collections.push(collection);
        }
    }
    collections
}

/// Whether rows reach a sink that an operator held back, and gives since the preview ended the input.
fn is_held_back(stream: &StreamGraph, job: &JobGraph, sink: &str) -> bool {
    let operators = || job.vertices.iter().flat_map(|v| &v.operators);
    let mut waiting = vec![sink];
    let mut seen = Vec::new();
    while let Some(node) = waiting.pop() {
        if operators().any(|o| o.name == node && o.spec.gives_at_end()) {
            return true;
        }
        if !seen.contains(&node) {
            seen.push(node);
            waiting.extend(stream.edges.iter().filter(|e| e.to == node).map(|e| e.from.as_str()));
        }
    }
    false
}

async fn watch(graph: JobGraph, options: JobOptions, collections: &[Arc<Collection>], timeout: Duration) -> Result<End, Failure> {
    let mut signals = Signals::listen()?;
    let handle = karez_runtime::start(graph, options).await?;
    let wanted: Vec<_> = collections.iter().filter(|c| !c.is_of_letters()).collect();
    let enough = async {
        for collection in wanted {
            collection.full().await;
        }
    };
    tokio::select! {
        outcome = handle.wait() => return Ok(ended(&outcome)),
        () = enough => {}
        () = tokio::time::sleep(timeout) => {}
        () = signals.next() => {}
    }
    for collection in collections {
        collection.input_ended();
    }
    if let Err(e) = drain(&handle).await {
        return Ok(End::Failed(e.to_string()));
    }
    tokio::select! {
        outcome = handle.wait() => Ok(ended(&outcome)),
        () = tokio::time::sleep(DRAIN_TIMEOUT) => Ok(End::Unfinished),
        () = signals.next() => Ok(End::Interrupted),
    }
}

/// A job that has ended meanwhile needs no end of its input.
async fn drain(handle: &JobHandle) -> error::Result<()> {
    match handle.drain().await {
        Err(_) if handle.status().is_final() => Ok(()),
        other => other,
    }
}

fn ended(outcome: &karez_runtime::JobOutcome) -> End {
    match (&outcome.error, outcome.status) {
        (Some(e), _) => End::Failed(e.to_string()),
        (None, JobStatus::Failed) => End::Failed("the job failed".into()),
        (None, _) => End::Complete,
    }
}
