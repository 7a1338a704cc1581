//! Carries out what the checkpoint protocol has decided.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use karez_core::sink::SinkRunContext;
use karez_core::{BadRecord, CheckpointId, Epoch, Error, Generation, Result};
use karez_graph::OnError;

use super::super::checkpoints::{Done, commit};
use super::requests::Waiting;
use super::{AttemptEnd, Coordinator, in_the_background};
use crate::checkpoint::protocol::End;
use crate::checkpoint::retention::collect;
use crate::checkpoint::{Decision, Manifest, Participant, savepoint};
use crate::state::StateHandle;
use crate::task::reject::Rejects;
use crate::task::{Command, TaskId};

impl Coordinator<'_> {
    pub(super) async fn apply(&mut self, decisions: Vec<Decision>) -> Result<()> {
        let mut queue = VecDeque::from(decisions);
        while let Some(decision) = queue.pop_front() {
            let now_ms = self.clock.now_ms();
            let Some(durable) = &mut self.durable else { return Ok(()) };
            match decision {
                Decision::Trigger { barrier, .. } => {
                    let id = barrier.checkpoint;
                    if let Err(e) = durable.storage.run_blocking(move |s| s.begin_attempt(id)).await {
                        queue.extend(durable.protocol.failed(id, &e.to_string(), now_ms));
                        continue;
                    }
                    for splits in self.splits.iter().filter(|s| !self.state.ended_enumerators.contains(&s.node)) {
                        queue.extend(durable.protocol.ack(&Participant::enumerator(&splits.node), id, splits.acknowledge()?));
                    }
                    self.tell_sources(|| Command::Trigger(barrier));
                }
                Decision::WriteManifest(parts) => {
                    let id = parts.checkpoint;
                    let (storage, done) = (Arc::clone(&durable.storage), self.done.clone());
                    let mut manifest: Manifest = parts.assemble(&durable.shape, &self.shared.run, storage.generation(), now_ms)?;
                    manifest.replays = self.replays.at(id);
                    self.background.spawn(async move {
                        let written = storage.run_blocking(move |s| s.write_manifest(manifest)).await;
                        let _ = done.send(Done::Manifest(id, written));
                    });
                }
                Decision::NotifyCompleted(id) => self.notify(id),
                Decision::Commit { permit, committables } => {
                    let permit = Arc::new(permit);
                    for (sink, committables) in committables {
                        let committer =
                            durable.committers.remove(&sink).ok_or_else(|| Error::internal("a sink with committables and no committer").at(&sink))?;
                        self.background.spawn(commit(sink, committer, Arc::clone(&permit), committables, self.done.clone()));
                    }
                }
                Decision::CommitDelayed { sink, errors } => {
                    self.shared.metrics.node(&sink).retried.add(errors.len() as u64);
                    for error in errors {
                        tracing::warn!(job_id = %self.shared.id, node = %sink, error = %error, "a commit has to be tried again");
                    }
                }
                Decision::DeadLetters { sink, rows, .. } => self.letters(&sink, rows)?,
                Decision::Completed { id, request, duration_ms, .. } => {
                    self.completed(id, duration_ms);
                    if let Some(waiting) = request.and_then(|r| self.state.waiting.remove(&r)) {
                        self.answer(waiting);
                    }
                }
                Decision::DeleteOld(keep) => {
                    if self.state.exporting.is_empty() {
                        let storage = Arc::clone(&durable.storage);
                        self.background.spawn(async move {
                            let collected = storage.run_blocking(move |s| Ok(collect(s, &keep))).await;
                            if let Err(e) = collected {
                                tracing::warn!(error = %e, "old checkpoints could not be deleted");
                            }
                        });
                    }
                }
                Decision::Abort { id, reason } => {
                    self.shared.metrics.checkpoints(|c| {
                        c.failed += 1;
                        c.last_failure = Some(reason.clone());
                    });
                    tracing::warn!(job_id = %self.shared.id, job_name = %self.shared.name, event = "CHECKPOINT_FAILED", checkpoint = id.0, "checkpoint failed: {reason}");
                }
                Decision::RequestFailed { request, reason } => {
                    if let Some(waiting) = self.state.waiting.remove(&request) {
                        waiting.fail(Error::external(reason));
                    }
                }
                Decision::Ended(end) => {
                    // What was asked for in the meantime is answered by the end.
                    let end = match end {
                        End::Finished if self.state.letters_at_the_end => AttemptEnd::Again,
                        End::Finished => AttemptEnd::Completed,
                        End::Stopped => AttemptEnd::Stopped,
                    };
                    self.settle_exports().await?;
                    self.state.outcome = Some(Ok(end));
                }
                Decision::FailJob(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// A savepoint that a stop waits for must be whole before the job is gone.
    async fn settle_exports(&mut self) -> Result<()> {
        while !self.state.exporting.is_empty() {
            tokio::select! {
                biased;
                Some(report) = self.reports.recv() => {
                    if let Done::Exported(id, result) = report {
                        self.exported(id, result);
                    }
                }
                Some(joined) = self.background.join_next() => joined.map_err(in_the_background)?,
                else => break,
            }
        }
        Ok(())
    }

    pub(super) fn exported(&mut self, id: CheckpointId, result: Result<String>) {
        if let Some(waiting) = self.state.exporting.remove(&id) {
            waiting.answer(result.map(PathBuf::from));
        }
    }

    fn completed(&self, id: CheckpointId, duration_ms: i64) {
        let bytes = self.state.newest.as_ref().map_or(0, |c| new_bytes(c.manifest()));
        self.shared.metrics.checkpoints(|c| {
            c.completed += 1;
            c.last_id = Some(id.0);
            c.last_duration_ms = u64::try_from(duration_ms).unwrap_or(0);
            c.last_bytes = bytes;
            c.total_bytes += bytes;
            c.last_failure = None;
        });
        tracing::info!(job_id = %self.shared.id, job_name = %self.shared.name, event = "CHECKPOINT_COMPLETED", checkpoint = id.0, duration_ms, bytes, "checkpoint completed");
    }

    fn answer(&mut self, waiting: Waiting) {
        let folder = match &waiting {
            Waiting::Savepoint(folder, _) | Waiting::Stop(Some(folder), _) => folder.clone(),
            Waiting::Stop(None, _) => return waiting.answer(Ok(PathBuf::new())),
        };
        let (Some(durable), Some(newest)) = (&self.durable, self.state.newest.clone()) else {
            return waiting.fail(Error::internal("a savepoint without a checkpoint"));
        };
        let folder = folder.unwrap_or_else(|| durable.savepoints.clone()).display().to_string();
        let (storage, calls, done) = (Arc::clone(&durable.storage), durable.calls.clone(), self.done.clone());
        let id = newest.manifest().checkpoint;
        self.state.exporting.insert(id, waiting);
        self.background.spawn(async move {
            let exported = storage.run_blocking(move |s| savepoint::export(s, &newest, &folder, &calls)).await;
            let _ = done.send(Done::Exported(id, exported));
        });
    }

    fn notify(&mut self, id: CheckpointId) {
        let Some(newest) = self.state.newest.clone() else { return };
        let sources = self.sources.clone();
        self.background.spawn(async move {
            for (name, source) in sources {
                let Some(part) = newest.manifest().sources.get(&name) else { continue };
                let splits: Vec<_> = part.open.iter().map(|s| &s.split).chain(&part.finished).cloned().collect();
                if let Err(e) = source.notify_committed(Epoch(id.0), &splits).await {
                    tracing::warn!(node = %name, error = %e, "the positions of a checkpoint could not be shown to the outside");
                }
            }
        });
    }

    /// Gives rows that a commit refused to the sink's task, which does with them what `onError` says; so letters belong to the next epoch.
    pub(super) fn letters(&mut self, sink: &str, rows: Vec<BadRecord>) -> Result<()> {
        let vertex = self.graph.vertices.iter().position(|v| v.sink.as_ref().is_some_and(|s| s.name == sink));
        let task = vertex.map(|vertex| TaskId { vertex, subtask: 0 });
        let sent = task.filter(|t| !self.state.ended.contains(t)).and_then(|t| self.commands.get(&t)).map(|c| c.send(Command::Letters(rows.clone())));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => self.refused_at_the_end(sink, rows),
        }
    }

    /// The same where the task has ended: there is no next epoch that could carry letters, unless the run goes on once more.
    fn refused_at_the_end(&mut self, sink: &str, rows: Vec<BadRecord>) -> Result<()> {
        let policy = self.graph.vertices.iter().filter_map(|v| v.sink.as_ref()).find(|s| s.name == sink).map(|s| s.on_error);
        match policy {
            Some(policy @ (OnError::Fail | OnError::Skip)) => {
                let context = SinkRunContext {
                    run: self.shared.run.clone(),
                    generation: Generation(0),
                    job: String::new(),
                    node: String::new(),
                    scheduled_ms: 0,
                };
                let mut rejects = Rejects::new(policy, self.shared.id.as_str().into(), &context, sink, 0);
                rejects.take(rows, self.clock.now_ms(), &self.shared.metrics.node(sink), &mut [])
            }
            // The next attempt commits once more, is told of them again, and has an epoch for them.
            Some(OnError::DeadLetter) | None => {
                self.state.letters_at_the_end = true;
                Ok(())
            }
        }
    }
}

/// The bytes of the state files that a checkpoint wrote itself, as far as its handles say.
fn new_bytes(manifest: &Manifest) -> u64 {
    let states = manifest.operators.values().flat_map(|o| &o.subtasks);
    let handles = states.filter_map(|s| StateHandle::from_subtask_state(s).ok().flatten());
    handles.flat_map(|h| h.tables.into_values()).flat_map(|t| t.files).filter(|f| f.checkpoint == manifest.checkpoint.0).map(|f| f.bytes).sum()
}
