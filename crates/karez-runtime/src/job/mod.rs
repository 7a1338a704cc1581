//! Jobs: started, recovered, restarted by their strategy, ended.

mod build;
mod checkpoints;
mod coordinator;
mod recover;
pub mod replays;
mod splits;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use karez_core::metrics::NodeMetrics;
use karez_core::sink::SinkRunContext;
use karez_core::{CheckpointId, Clock, Error, Generation, KeyGroupRange, Result, RunId, SystemClock};
use karez_graph::JobGraph;
use karez_graph::settings::StateBackendKind;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::build::{Restore, build};
use self::checkpoints::{SnapshotWriter, operator_states, writer_states};
use self::coordinator::{AttemptEnd, Coordinator, Durable};
use self::recover::Recovered;
use self::replays::Replays;
use self::splits::Splits;
use crate::checkpoint::store::StoreCalls;
use crate::checkpoint::{
    CheckpointStorage, CompletedCheckpoint, JobNode, JobShape, NodeRole as ManifestRole, OpenedRun, Protocol, ProtocolSettings, Recovery,
    RunDirectory, Start, check_compatible,
};
use crate::handle::{JobHandle, JobOutcome, JobStatus, Request, Shared};
use crate::report::{JobMetrics, NodeRole};
use crate::restart::Restarts;
use crate::state::{Backend, MemoryBudget, OperatorState, RestoredState, StateHandle, StoreContext};

/// How a job is run.
#[derive(Clone, Debug)]
pub struct JobOptions {
    /// Where its checkpoints are; `None`: it runs without any (`preview`), and its sinks must not need one.
    pub durability: Option<Durability>,
    /// Go on from an older checkpoint although rows may be written twice (decision 12).
    pub accept_duplicates: bool,
    /// Leave state behind whose node the job no longer has.
    pub allow_non_restored_state: bool,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
    /// Where tasks run: a runtime apart from the one that calls [`start`].
    pub tasks: tokio::runtime::Handle,
}

/// Where a job's checkpoints are, and how it starts.
#[derive(Clone, Debug)]
pub struct Durability {
    /// The state directory, shared by all jobs.
    pub state_dir: PathBuf,
    /// Which run.
    pub start: Start,
}

impl JobOptions {
    /// With the machine's clock, tasks on the calling runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(durability: Option<Durability>) -> Self {
        Self {
            durability,
            accept_duplicates: false,
            allow_non_restored_state: false,
            clock: Arc::new(SystemClock),
            tasks: tokio::runtime::Handle::current(),
        }
    }
}

/// Starts a job: takes its lock, finds the run to go on with, and returns as soon as it is under way.
///
/// # Errors
/// The state directory is not usable, or another process runs the job. What happens later is in [`JobHandle::wait`].
pub async fn start(graph: JobGraph, options: JobOptions) -> Result<JobHandle> {
    let now_ms = options.clock.now_ms();
    let store = Arc::<NodeMetrics>::default();
    let opened = match &options.durability {
        None => None,
        Some(d) => {
            let (state_dir, start, id, checkpoint) =
                (d.state_dir.clone(), d.start.clone(), graph.settings.id.clone(), graph.settings.checkpoint.clone());
            let calls = StoreCalls::new(checkpoint.external, Arc::clone(&store));
            let opened =
                tokio::task::spawn_blocking(move || RunDirectory::open(&state_dir, &id, &start, checkpoint.storage.as_deref(), calls, now_ms));
            Some(opened.await.map_err(|e| Error::internal(e.to_string()))??)
        }
    };
    let run = opened.as_ref().map_or_else(|| RunId("preview".into()), |o| o.run.clone());
    let nodes = graph.vertices.iter().flat_map(|v| {
        let source = v.source.iter().map(|s| (s.name.clone(), NodeRole::Source));
        let operators = v.operators.iter().map(|o| (o.name.clone(), NodeRole::Operator));
        source.chain(operators).chain(v.sink.iter().map(|s| (s.name.clone(), NodeRole::Sink))).collect::<Vec<_>>()
    });
    let metrics = Arc::new(JobMetrics::new(nodes, store, Arc::clone(&options.clock)));
    let (requests, inbox) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        id: graph.settings.id.clone(),
        name: graph.settings.name.clone(),
        run,
        status: watch::Sender::new(JobStatus::Scheduled),
        outcome: watch::Sender::new(None),
        requests,
        cancel: CancellationToken::new(),
        paused: AtomicBool::new(false),
        metrics,
    });
    let handle = JobHandle(Arc::clone(&shared));
    tokio::spawn(async move {
        let supervised = tokio::spawn(supervise(graph, options, opened, Arc::clone(&shared), inbox));
        // Whoever waits for the job would wait for ever.
        if let Err(e) = supervised.await {
            let error = Error::internal(format!("the job's coordinator ended before the job: {e}"));
            end(&shared, JobStatus::Failed, Some(error));
        }
    });
    Ok(handle)
}

/// Attempts until the job ends for good.
async fn supervise(
    graph: JobGraph,
    options: JobOptions,
    opened: Option<OpenedRun>,
    shared: Arc<Shared>,
    mut requests: mpsc::UnboundedReceiver<Request>,
) {
    let mut restarts = Restarts::new(graph.settings.restart.clone());
    let mut durable = opened.map(|o| Run {
        directory: o.directory,
        storage: o.storage,
        recovery: o.recovery,
        scheduled_ms: o.scheduled_ms,
        letters_only: o.letters_only,
    });
    tracing::info!(job_id = %shared.id, job_name = %shared.name, event = "JOB_STARTED", run = %shared.run, "job started");
    if durable.as_ref().is_some_and(|d| d.letters_only) {
        tracing::info!(job_id = %shared.id, job_name = %shared.name, "this run was begun for dead letters alone: its sources read nothing");
    }
    let (status, error) = loop {
        let outcome = attempt(&graph, &options, durable.as_ref(), &shared, &mut requests).await;
        let error = match outcome {
            Ok(AttemptEnd::Completed) => match durable.as_ref().map(|d| d.directory.finish(options.clock.now_ms())) {
                Some(Err(e)) => break (JobStatus::Failed, Some(e)),
                _ => break (JobStatus::Completed, None),
            },
            Ok(AttemptEnd::Stopped) => break (JobStatus::Stopped, None),
            Ok(AttemptEnd::Cancelled) => break (JobStatus::Cancelled, None),
            // Not a failure: the same run goes on at once, from its last checkpoint.
            Ok(AttemptEnd::Again) => match durable.as_mut().map(|run| take_over(run, &options)) {
                Some(Err(e)) => break (JobStatus::Failed, Some(e)),
                _ => continue,
            },
            Err(e) => e,
        };
        // Without checkpoints a restart would read everything again.
        let wait = if durable.is_some() { restarts.on_failure(options.clock.now_ms()) } else { None };
        let Some(wait) = wait.filter(|_| is_worth_a_restart(&error)) else { break (JobStatus::Failed, Some(error)) };
        tracing::warn!(job_id = %shared.id, job_name = %shared.name, event = "JOB_RESTARTING", error = %error, wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "job failed, restarting");
        shared.metrics.restarts.add(1);
        shared.status.send_replace(JobStatus::Restarting);
        if let Some(end) = between_attempts(&shared, &mut requests, wait).await {
            break (end, None);
        }
        if let Some(Err(e)) = durable.as_mut().map(|run| take_over(run, &options)) {
            break (JobStatus::Failed, Some(e));
        }
    };
    // The lock is released before anyone hears of the end.
    drop(durable);
    end(&shared, status, error);
}

/// Opens the next generation of the run.
fn take_over(run: &mut Run, options: &JobOptions) -> Result<()> {
    (run.storage, run.recovery) = run.directory.take_over(options.clock.now_ms())?;
    Ok(())
}

/// Tells how the job ended.
fn end(shared: &Shared, status: JobStatus, error: Option<Error>) {
    shared.metrics.end();
    match &error {
        Some(e) => tracing::error!(job_id = %shared.id, job_name = %shared.name, event = "JOB_FAILED", error = %e, "job failed"),
        None => tracing::info!(job_id = %shared.id, job_name = %shared.name, event = "JOB_FINISHED", status = %status, "job ended"),
    }
    shared.status.send_replace(status);
    let report = shared.metrics.read(status);
    shared.outcome.send_replace(Some(Arc::new(JobOutcome { status, error, report })));
}

/// Waits for the restart. A stop need not wait: the next run goes on from the last checkpoint as this one would. Answers how the job ends, if it does.
async fn between_attempts(shared: &Shared, requests: &mut mpsc::UnboundedReceiver<Request>, wait: std::time::Duration) -> Option<JobStatus> {
    let restart = tokio::time::sleep(wait);
    tokio::pin!(restart);
    loop {
        tokio::select! {
            biased;
            () = shared.cancel.cancelled() => return Some(JobStatus::Cancelled),
            () = &mut restart => return None,
            Some(request) = requests.recv() => {
                let error = || Error::external(format!("job `{}` has failed and waits for its restart; try again once it runs", shared.id));
                // Whoever asked may be gone.
                match request {
                    Request::Stop(None, reply) => {
                        let _ = reply.send(Ok(None));
                        return Some(JobStatus::Stopped);
                    }
                    Request::Pause(reply) | Request::Resume(reply) | Request::Drain(reply) => drop(reply.send(Err(error()))),
                    // The next attempt finds what is queued.
                    Request::Replay(reply) => drop(reply.send(Ok(replays::ReplayAnswer::default()))),
                    Request::Savepoint(_, reply) => drop(reply.send(Err(error()))),
                    Request::Stop(Some(_), reply) => drop(reply.send(Err(error()))),
                }
            }
        }
    }
}

/// What only a change of the job or its data can mend fails for good, since the same bytes would fail again; and what the checkpoint itself brings about.
fn is_worth_a_restart(e: &Error) -> bool {
    e.whose() != karez_core::Whose::User && e.reach() != karez_core::Reach::Run
}

/// A run under this process's lock.
struct Run {
    directory: RunDirectory,
    storage: Arc<CheckpointStorage>,
    recovery: Recovery,
    scheduled_ms: i64,
    /// Sources read nothing.
    letters_only: bool,
}

async fn attempt(
    graph: &JobGraph,
    options: &JobOptions,
    run: Option<&Run>,
    shared: &Arc<Shared>,
    requests: &mut mpsc::UnboundedReceiver<Request>,
) -> Result<AttemptEnd> {
    shared.status.send_replace(JobStatus::Scheduled);
    let shape = shape(graph);
    let context = SinkRunContext {
        run: shared.run.clone(),
        generation: run.map_or(Generation(1), |r| r.storage.generation()),
        job: shared.id.clone(),
        node: String::new(),
        scheduled_ms: run.map_or_else(|| options.clock.now_ms(), |r| r.scheduled_ms),
    };
    let recovered = unless_cancelled(shared, recover::recover(graph, options, run.map(|r| &r.recovery), &context)).await;
    let Some(recovered) = recovered else { return Ok(AttemptEnd::Cancelled) };
    let Recovered { restored, committers, letters } = recovered?;
    if let Some(restored) = &restored {
        for sentence in check_compatible(restored.manifest(), &shape, options.allow_non_restored_state)? {
            tracing::warn!(job_id = %shared.id, "{sentence}");
        }
        tracing::info!(job_id = %shared.id, job_name = %shared.name, event = "JOB_RESTORED", checkpoint = restored.manifest().checkpoint.0, "going on from a checkpoint");
    }
    let replays =
        Replays::new(run.map(|r| r.directory.job_path().to_owned()), shared.run.clone(), restored.as_ref().map(CompletedCheckpoint::manifest));
    let mut splits = Vec::new();
    for (index, vertex) in graph.vertices.iter().enumerate() {
        if let Some(source) = &vertex.source {
            let part = restored.as_ref().and_then(|c| c.manifest().sources.get(&source.name));
            let opened = unless_cancelled(shared, Splits::open(source, index, vertex.parallelism, part)).await;
            let Some(opened) = opened else { return Ok(AttemptEnd::Cancelled) };
            let mut opened = opened?;
            if run.is_some_and(|r| r.letters_only) {
                opened.drain();
            }
            splits.push(opened);
        }
    }
    let (events, inbox) = mpsc::unbounded_channel();
    let first = run.map_or(CheckpointId(1), |r| r.storage.first_checkpoint_id());
    let budget = MemoryBudget::new(graph.settings.resources.memory.map(|m| usize::try_from(m.0).unwrap_or(usize::MAX)));
    let durable = run.map(|r| Durable {
        protocol: Protocol::new(ProtocolSettings::from(&graph.settings.checkpoint), shape.participants(), first, options.clock.now_ms()),
        storage: Arc::clone(&r.storage),
        committers,
        savepoints: r.directory.savepoints_path(),
        calls: r.directory.calls().clone(),
        shape,
    });
    let mut restore = Restored::new(graph, run, restored, &budget)?;
    let common = build::Shared {
        graph,
        metrics: &shared.metrics,
        clock: Arc::clone(&options.clock),
        budget: Arc::clone(&budget),
        run: context,
        last_checkpoint: CheckpointId(first.0.saturating_sub(1)),
        allow_non_restored_state: options.allow_non_restored_state,
        events,
    };
    let Some(tasks) = unless_cancelled(shared, build(&common, &mut restore)).await else { return Ok(AttemptEnd::Cancelled) };
    let tasks = tasks?;
    let mut coordinator = Coordinator::new(graph, shared, requests, splits, replays, inbox, durable, Arc::clone(&options.clock));
    for (task, commands) in tasks {
        let id = task.id;
        coordinator.commands.insert(id, commands);
        if let Some(run) = run {
            let (sender, snapshots) = mpsc::unbounded_channel();
            let writer = SnapshotWriter {
                task: id,
                parallelism: graph.vertices[id.vertex].parallelism,
                key_groups: graph.settings.max_parallelism,
                storage: Arc::clone(&run.storage),
                done: coordinator.done.clone(),
            };
            coordinator.background.spawn(writer.run(snapshots));
            coordinator.writers.insert(id, sender);
        }
        coordinator.tasks.spawn_on(task.run(), &options.tasks);
    }
    if shared.paused.load(Ordering::Relaxed) {
        coordinator.pause();
    } else {
        shared.status.send_replace(JobStatus::Running);
    }
    coordinator.recovered_letters(letters)?;
    coordinator.run().await
}

/// What comes of it, or `None` once the job is cancelled: an outside system that does not answer at the start must not hold a cancel up.
async fn unless_cancelled<T>(shared: &Shared, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = shared.cancel.cancelled() => None,
        done = work => Some(done),
    }
}

/// What of the job a manifest holds.
fn shape(graph: &JobGraph) -> JobShape {
    let mut nodes = Vec::new();
    for vertex in &graph.vertices {
        let node = |name: &str, role, type_name: &str, identity: String| JobNode {
            name: name.to_owned(),
            role,
            type_name: type_name.to_owned(),
            identity,
            parallelism: vertex.parallelism,
        };
        nodes.extend(vertex.source.iter().map(|s| node(&s.name, ManifestRole::Source, &s.connector, String::new())));
        nodes.extend(vertex.operators.iter().map(|o| node(&o.name, ManifestRole::Operator, &o.operator, o.spec.identity())));
        nodes.extend(vertex.sink.iter().map(|s| node(&s.name, ManifestRole::Sink, &s.connector, String::new())));
    }
    JobShape { job: graph.settings.id.clone(), key_groups: graph.settings.max_parallelism, nodes }
}

/// Gives operators and writers what a checkpoint holds for them.
struct Restored {
    backend: Backend,
    checkpoint: Option<CompletedCheckpoint>,
    storage: Option<Arc<CheckpointStorage>>,
    writers: std::collections::BTreeMap<String, Vec<Value>>,
    writer_parallelism: std::collections::HashMap<String, usize>,
    budget: Arc<MemoryBudget>,
    key_groups: u16,
}

impl Restored {
    fn new(graph: &JobGraph, run: Option<&Run>, checkpoint: Option<CompletedCheckpoint>, budget: &Arc<MemoryBudget>) -> Result<Self> {
        let backend = match (graph.settings.state.backend, run) {
            (StateBackendKind::Memory, _) | (_, None) => Backend::Memory,
            (StateBackendKind::Disk, Some(run)) => Backend::disk(&run.directory.run_path().join("state"))?,
        };
        let writer_parallelism = graph.vertices.iter().filter_map(|v| Some((v.sink.as_ref()?.name.clone(), v.parallelism))).collect();
        Ok(Self {
            backend,
            writers: writer_states(checkpoint.as_ref()),
            checkpoint,
            storage: run.map(|r| Arc::clone(&r.storage)),
            writer_parallelism,
            budget: Arc::clone(budget),
            key_groups: graph.settings.max_parallelism,
        })
    }
}

impl Restore for Restored {
    fn store(&mut self, node: &str, subtask: usize, parallelism: usize) -> Result<OperatorState> {
        let handles = operator_states(self.checkpoint.as_ref(), node).iter().map(StateHandle::from_subtask_state).collect::<Result<Vec<_>>>()?;
        let restored = match &self.storage {
            Some(storage) => RestoredState::new(handles.into_iter().flatten().collect(), Arc::clone(storage) as Arc<_>),
            None => RestoredState::none(),
        };
        let key_groups = KeyGroupRange::of_subtask(subtask, parallelism, self.key_groups);
        let context = StoreContext { subtask, parallelism, key_groups, account: self.budget.account(node) };
        self.backend.store(context, restored)
    }

    fn writer_state(&mut self, node: &str, subtask: usize) -> Vec<Value> {
        let parallelism = self.writer_parallelism.get(node).copied().unwrap_or(1);
        let all = self.writers.get(node).map(Vec::as_slice).unwrap_or_default();
        all.iter().skip(subtask).step_by(parallelism).cloned().collect()
    }
}
