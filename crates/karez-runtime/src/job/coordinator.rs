//! Runs one attempt of a job: hands out splits, carries the protocol's decisions out, listens to tasks and to the handle.

mod cancelled;
mod decisions;
mod requests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use karez_core::{CheckpointId, Clock, Committer, Error, Result, Source, Whose};
use karez_graph::JobGraph;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use self::requests::Waiting;
use super::checkpoints::{Done, Occasion};
use super::replays::Replays;
use super::splits::{Assignment, Discovered, Splits};
use crate::checkpoint::store::StoreCalls;
use crate::checkpoint::{CheckpointRequest, CheckpointStorage, CompletedCheckpoint, Decision, JobShape, Participant, Protocol};
use crate::handle::{Request, Shared};
use crate::task::{Command, TaskEvent, TaskId, TaskSnapshot};

/// How an attempt ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptEnd {
    /// Everything read and committed.
    Completed,
    /// Stopped; resumable.
    Stopped,
    /// Cancelled.
    Cancelled,
    /// All is read, and the last commit refused rows: they are letters of one more epoch.
    Again,
}

/// The protocol and its storage; absent where a job runs without durability (`preview`).
pub(super) struct Durable {
    /// The decisions.
    pub(super) protocol: Protocol,
    /// Where they are kept.
    pub(super) storage: Arc<CheckpointStorage>,
    /// The committers, but for those at work.
    pub(super) committers: HashMap<String, Box<dyn Committer>>,
    /// Where savepoints go by default.
    pub(super) savepoints: PathBuf,
    /// How object stores are called, savepoints in others included.
    pub(super) calls: StoreCalls,
    /// What the manifest is made for.
    pub(super) shape: JobShape,
}

/// One attempt.
pub(super) struct Coordinator<'a> {
    /// The job.
    pub(super) graph: &'a JobGraph,
    /// The handle's side.
    pub(super) shared: &'a Shared,
    /// Requests of the handle.
    pub(super) requests: &'a mut mpsc::UnboundedReceiver<Request>,
    /// The splits of each source.
    pub(super) splits: Vec<Splits>,
    /// Enumerators that look for splits, and whose they are: at most one for each source.
    discoveries: JoinSet<(usize, Discovered)>,
    /// The dead letters that are fed again.
    pub(super) replays: Replays,
    /// The sources, for notifications.
    pub(super) sources: Vec<(String, Arc<dyn Source>)>,
    /// The tasks, running.
    pub(super) tasks: JoinSet<Result<()>>,
    /// How they are commanded.
    pub(super) commands: HashMap<TaskId, mpsc::UnboundedSender<Command>>,
    /// What they say.
    pub(super) events: mpsc::UnboundedReceiver<TaskEvent>,
    /// Their snapshots on the way to the storage.
    pub(super) writers: HashMap<TaskId, mpsc::UnboundedSender<(Occasion, CheckpointId, Box<TaskSnapshot>)>>,
    /// Where background work reports.
    pub(super) done: mpsc::UnboundedSender<Done>,
    /// Its reports.
    pub(super) reports: mpsc::UnboundedReceiver<Done>,
    /// Background work that must be over before the next attempt; what is over is taken out.
    pub(super) background: JoinSet<()>,
    /// The checkpoints.
    pub(super) durable: Option<Durable>,
    /// Processing time.
    pub(super) clock: Arc<dyn Clock>,
    state: State,
}

#[derive(Default)]
struct State {
    ended: HashSet<TaskId>,
    ended_enumerators: HashSet<String>,
    waiting: BTreeMap<CheckpointRequest, Waiting>,
    /// Replies to a savepoint that is being copied; retention waits for it.
    exporting: BTreeMap<CheckpointId, Waiting>,
    /// The last commit refused rows that are to be letters.
    letters_at_the_end: bool,
    newest: Option<CompletedCheckpoint>,
    stopping_without_checkpoints: bool,
    outcome: Option<Result<AttemptEnd>>,
}

impl<'a> Coordinator<'a> {
    /// Puts the parts together.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        graph: &'a JobGraph,
        shared: &'a Shared,
        requests: &'a mut mpsc::UnboundedReceiver<Request>,
        splits: Vec<Splits>,
        replays: Replays,
        events: mpsc::UnboundedReceiver<TaskEvent>,
        durable: Option<Durable>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (done, reports) = mpsc::unbounded_channel();
        let sources = graph.vertices.iter().filter_map(|v| v.source.as_ref()).map(|s| (s.name.clone(), Arc::clone(&s.source))).collect();
        Self {
            graph,
            shared,
            requests,
            splits,
            discoveries: JoinSet::new(),
            replays,
            sources,
            tasks: JoinSet::new(),
            commands: HashMap::new(),
            events,
            writers: HashMap::new(),
            done,
            reports,
            background: JoinSet::new(),
            durable,
            clock,
            state: State::default(),
        }
    }

    /// Rows that sinks refused when recovery committed: letters of the first epoch.
    pub(super) fn recovered_letters(&mut self, letters: Vec<(String, Vec<karez_core::BadRecord>)>) -> Result<()> {
        letters.into_iter().try_for_each(|(sink, rows)| self.letters(&sink, rows))
    }

    /// Runs until the job ends, fails or is cancelled; then no task and no commit of it is at work any more.
    pub(super) async fn run(mut self) -> Result<AttemptEnd> {
        let cancel = self.shared.cancel.clone();
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => Ok(AttemptEnd::Cancelled),
            outcome = self.coordinate() => outcome,
        };
        if outcome.as_ref().is_err_and(|e| e.whose() == Whose::User) {
            self.tell_under_way();
        }
        if matches!(outcome, Ok(AttemptEnd::Completed | AttemptEnd::Stopped)) {
            self.tell_all(|| Command::Finish);
            while let Some(joined) = self.tasks.join_next().await {
                joined.map_err(|e| Error::internal(e.to_string()))??;
            }
        }
        self.tasks.shutdown().await;
        self.discoveries.shutdown().await;
        self.writers.clear();
        // A commit under way is let through: recovery would have to repeat it.
        self.finish_background().await;
        if matches!(outcome, Ok(AttemptEnd::Cancelled)) {
            self.leave_nothing_open().await;
        }
        let gone = || Error::user(format!("job `{}` is no longer running", self.shared.id));
        for (_, waiting) in std::mem::take(&mut self.state.waiting) {
            waiting.fail(gone());
        }
        outcome
    }

    /// Waits for all background work. The outcome is decided: what panics now is only told.
    pub(super) async fn finish_background(&mut self) {
        while let Some(joined) = self.background.join_next().await {
            if let Err(e) = joined.map_err(in_the_background) {
                tracing::error!(job_id = %self.shared.id, error = %e, "at the end of the job");
            }
        }
    }

    async fn coordinate(&mut self) -> Result<AttemptEnd> {
        let restored: Vec<_> = self.splits.iter().filter_map(|s| Some((s.vertex, s.restored_watermark?))).collect();
        for (vertex, watermark) in restored {
            self.tell_vertex(vertex, || Command::RestoreWatermark(watermark));
        }
        if self.durable.is_some() && !self.shared.paused.load(Ordering::Relaxed) {
            let answer = self.replay().await?;
            self.tell_refused(&answer);
        }
        loop {
            if let Some(outcome) = self.state.outcome.take() {
                return outcome;
            }
            let wake = self.wake_at();
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => self.event(event).await?,
                Some(report) = self.reports.recv() => self.report(report).await?,
                Some(joined) = self.tasks.join_next() => joined.map_err(|e| not_to_its_end("a task", e))??,
                Some(joined) = self.discoveries.join_next() => {
                    let (at, discovered) = joined.map_err(|e| not_to_its_end("an enumerator of splits", e))?;
                    let assignments = self.splits[at].discovered(discovered)?;
                    self.assign(self.splits[at].vertex, assignments);
                }
                Some(joined) = self.background.join_next() => joined.map_err(in_the_background)?,
                Some(request) = self.requests.recv() => self.request(request).await?,
                () = tokio::time::sleep_until(wake) => self.tick().await?,
            }
        }
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let discovery = self.splits.iter().filter_map(Splits::discovery_due).min();
        let protocol = self.durable.as_ref().and_then(|d| d.protocol.next_deadline_ms()).map(|ms| {
            let wait = u64::try_from(ms.saturating_sub(self.clock.now_ms())).unwrap_or(0);
            // An injected clock moves without waking anybody.
            now + Duration::from_millis(wait.min(100))
        });
        discovery.into_iter().chain(protocol).min().unwrap_or(now + Duration::from_secs(3600))
    }

    async fn tick(&mut self) -> Result<()> {
        for at in 0..self.splits.len() {
            if let Some(discovery) = self.splits[at].discover()? {
                self.discoveries.spawn(async move { (at, discovery.await) });
            }
        }
        let now_ms = self.clock.now_ms();
        let decisions = self.durable.as_mut().map(|d| d.protocol.tick(now_ms)).unwrap_or_default();
        self.apply(decisions).await
    }

    async fn event(&mut self, event: TaskEvent) -> Result<()> {
        match event {
            TaskEvent::SplitRequest(task) => {
                if let Some(splits) = self.splits.iter_mut().find(|s| s.vertex == task.vertex) {
                    let assignments = splits.requested(task.subtask);
                    self.assign(task.vertex, assignments);
                }
            }
            TaskEvent::SplitFinished(task, split) => {
                if let Some(splits) = self.splits.iter_mut().find(|s| s.vertex == task.vertex) {
                    splits.finished(&split);
                }
            }
            TaskEvent::Snapshot(task, checkpoint, snapshot) => self.write(task, Occasion::Barrier, checkpoint, snapshot),
            TaskEvent::LettersTooLate(replay, letters) => {
                tracing::warn!(job_id = %self.shared.id, replay, letters, "the input of a node ended as it was given dead letters: they are not fed");
            }
            TaskEvent::Ended(task, checkpoint, snapshot) => {
                self.replays.input_ended(task);
                if self.durable.is_some() {
                    self.write(task, Occasion::End, checkpoint, snapshot);
                } else {
                    self.state.ended.insert(task);
                    if self.state.ended.len() == self.commands.len() {
                        let end = if self.state.stopping_without_checkpoints { AttemptEnd::Stopped } else { AttemptEnd::Completed };
                        self.state.outcome = Some(Ok(end));
                    }
                }
            }
        }
        Ok(())
    }

    fn write(&self, task: TaskId, occasion: Occasion, checkpoint: CheckpointId, snapshot: Box<TaskSnapshot>) {
        if let Some(writer) = self.writers.get(&task) {
            // The writer ends only with this coordinator.
            let _ = writer.send((occasion, checkpoint, snapshot));
        }
    }

    async fn report(&mut self, report: Done) -> Result<()> {
        let now_ms = self.clock.now_ms();
        let Some(durable) = &mut self.durable else { return Ok(()) };
        let mut decisions = Vec::new();
        match report {
            Done::Acked(checkpoint, task, acks, replays) => {
                self.replays.acked(checkpoint, task, replays);
                for (who, ack) in acks {
                    decisions.extend(match ack {
                        Ok(ack) => durable.protocol.ack(&who, checkpoint, ack),
                        Err((e, prepared)) => durable.protocol.decline(&who, checkpoint, &e.to_string(), prepared, now_ms),
                    });
                }
            }
            Done::Ended(task, acks, replays) => {
                self.replays.ended(task, replays);
                for (who, ack) in acks {
                    // There is no later snapshot that could make up for it.
                    let ack = ack.map_err(|(e, _)| e.at(who.node()))?;
                    decisions.extend(durable.protocol.task_ended(&who, ack, now_ms));
                }
                self.state.ended.insert(task);
                decisions.extend(self.end_enumerator(task.vertex)?);
            }
            Done::Manifest(id, Ok(completed)) => {
                self.state.newest = Some(completed.clone());
                debug_assert_eq!(completed.manifest().checkpoint, id);
                decisions = durable.protocol.manifest_written(&completed, now_ms);
            }
            Done::Manifest(id, Err(e)) => {
                // Fenced by a newer process: this one must stop.
                durable.storage.check_not_fenced()?;
                decisions = durable.protocol.manifest_failed(id, &e, now_ms);
            }
            Done::Committed(sink, committer, outcome) => {
                durable.committers.insert(sink.clone(), committer);
                decisions = match outcome {
                    Ok(outcomes) => durable.protocol.committed(&sink, outcomes, now_ms),
                    Err(e) => durable.protocol.commit_failed(&sink, e, now_ms),
                };
            }
            Done::Exported(id, result) => self.exported(id, result),
        }
        self.apply(decisions).await
    }

    /// When all subtasks of a source have ended, so has its enumerator.
    fn end_enumerator(&mut self, vertex: usize) -> Result<Vec<Decision>> {
        let all = (0..self.graph.vertices[vertex].parallelism).all(|subtask| self.state.ended.contains(&TaskId { vertex, subtask }));
        let (Some(splits), Some(durable), true) = (self.splits.iter().find(|s| s.vertex == vertex), &mut self.durable, all) else {
            return Ok(Vec::new());
        };
        self.state.ended_enumerators.insert(splits.node.clone());
        Ok(durable.protocol.task_ended(&Participant::enumerator(&splits.node), splits.acknowledge()?, self.clock.now_ms()))
    }

    fn assign(&self, vertex: usize, assignments: Vec<Assignment>) {
        for (subtask, command) in assignments {
            self.tell(TaskId { vertex, subtask }, command);
        }
    }

    fn tell(&self, task: TaskId, command: Command) {
        if let Some(sender) = self.commands.get(&task) {
            // A task that is gone has failed, which its result says.
            let _ = sender.send(command);
        }
    }

    fn tell_vertex(&self, vertex: usize, command: impl Fn() -> Command) {
        (0..self.graph.vertices[vertex].parallelism).for_each(|subtask| self.tell(TaskId { vertex, subtask }, command()));
    }

    fn tell_sources(&self, command: impl Fn() -> Command) {
        self.splits.iter().for_each(|s| self.tell_vertex(s.vertex, &command));
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        self.commands.keys().for_each(|&task| self.tell(task, command()));
    }
}

/// Background work reports its errors itself, but for a panic; and who waits for its report would wait for ever.
pub(super) fn in_the_background(e: JoinError) -> Error {
    not_to_its_end("a commit or a checkpoint", e)
}

fn not_to_its_end(what: &str, e: JoinError) -> Error {
    match e.try_into_panic() {
        Ok(panic) => Error::internal(format!("{what} panicked: {}", panic_text(panic))),
        Err(_) => Error::internal(format!("{what} was aborted")),
    }
}

fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
