//! What is asked of the job through its handle.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use karez_core::{BarrierKind, Error, Result};

use super::super::replays::ReplayAnswer;
use super::{AttemptEnd, Coordinator};
use crate::checkpoint::CompletedCheckpoint;
use crate::handle::{JobStatus, Reply, Request};
use crate::task::Command;

/// Someone who waits for a savepoint or a stop.
pub(super) enum Waiting {
    Savepoint(Option<PathBuf>, Reply<PathBuf>),
    Stop(Option<Option<PathBuf>>, Reply<Option<PathBuf>>),
}

impl Coordinator<'_> {
    pub(super) async fn request(&mut self, request: Request) -> Result<()> {
        match request {
            Request::Pause(reply) => {
                self.pause();
                let _ = reply.send(Ok(()));
            }
            Request::Resume(reply) => {
                self.tell_sources(|| Command::Resume);
                self.shared.paused.store(false, Ordering::Relaxed);
                self.shared.status.send_replace(JobStatus::Running);
                let _ = reply.send(Ok(()));
                if self.durable.is_some() {
                    self.replay_if_possible().await;
                }
            }
            Request::Replay(reply) => {
                // A paused job feeds them when it goes on.
                let paused = self.shared.paused.load(Ordering::Relaxed);
                let answer = if paused { Ok(ReplayAnswer::default()) } else { self.replay().await };
                let _ = reply.send(answer);
            }
            Request::Drain(reply) => {
                // What was queued while it was paused comes before the end.
                if self.durable.is_some() && self.shared.paused.load(Ordering::Relaxed) {
                    self.replay_if_possible().await;
                }
                self.drain();
                self.shared.paused.store(false, Ordering::Relaxed);
                self.shared.status.send_replace(JobStatus::Running);
                let _ = reply.send(Ok(()));
            }
            Request::Savepoint(folder, reply) => self.checkpoint(BarrierKind::Savepoint, Waiting::Savepoint(folder, reply)).await?,
            Request::Stop(savepoint, reply) => {
                let kind = if savepoint.is_some() { BarrierKind::StopWithSavepoint } else { BarrierKind::Stop };
                self.checkpoint(kind, Waiting::Stop(savepoint, reply)).await?;
            }
        }
        Ok(())
    }

    /// Hands queued dead letters to the tasks they belong to.
    pub(super) async fn replay(&mut self) -> Result<ReplayAnswer> {
        let watermarks = self.splits.iter().filter_map(|s| Some((s.vertex, s.restored_watermark?))).collect();
        let (commands, answer) = self.replays.hand_out(self.graph, &watermarks).await?;
        for (task, command) in commands {
            self.tell(task, command);
        }
        if answer.letters > 0 {
            tracing::info!(job_id = %self.shared.id, job_name = %self.shared.name, event = "LETTERS_REPLAYED", letters = answer.letters, "dead letters are fed again");
        }
        Ok(answer)
    }

    /// The same where nobody waits for the answer.
    async fn replay_if_possible(&mut self) {
        match self.replay().await {
            Ok(answer) => self.tell_refused(&answer),
            Err(e) => tracing::warn!(job_id = %self.shared.id, error = %e, "queued dead letters are not fed now"),
        }
    }

    pub(super) fn tell_refused(&self, answer: &ReplayAnswer) {
        for refused in &answer.refused {
            tracing::warn!(job_id = %self.shared.id, "a queued dead letter cannot be fed: {refused}");
        }
    }

    /// Says how the job gets past letters that it was being fed when it failed: its next start feeds them again, and would fail as this one did.
    pub(super) fn tell_under_way(&self) {
        let replays = self.replays.under_way(self.state.newest.as_ref().map(CompletedCheckpoint::manifest));
        let Some(first) = replays.first() else { return };
        let more = if replays.len() > 1 { format!(" and {} more", replays.len() - 1) } else { String::new() };
        tracing::warn!(
            job_id = %self.shared.id,
            job_name = %self.shared.name,
            "dead letters were being fed again (replay {first}{more}), and the next start feeds them again. If one of them made the job fail, set `onError: \
             dead-letter` or `skip` on the node that failed and start the job again: it goes on from its last checkpoint and keeps that record aside"
        );
    }

    /// Sources read nothing until they are told to go on; a restart does not change that.
    pub(in super::super) fn pause(&self) {
        self.tell_sources(|| Command::Pause);
        self.shared.paused.store(true, Ordering::Relaxed);
        self.shared.status.send_replace(JobStatus::Paused);
    }

    fn drain(&mut self) {
        for splits in &mut self.splits {
            splits.drain();
        }
        self.tell_sources(|| Command::Drain);
    }

    async fn checkpoint(&mut self, kind: BarrierKind, waiting: Waiting) -> Result<()> {
        let Some(durable) = &mut self.durable else {
            if matches!(waiting, Waiting::Stop(None, _)) {
                waiting.answer(Ok(PathBuf::new()));
                self.state.outcome = Some(Ok(AttemptEnd::Stopped));
            } else {
                waiting.fail(Error::user("this job runs without a state directory, so there is nothing to save"));
            }
            return Ok(());
        };
        let (request, decisions) = durable.protocol.request(kind, self.clock.now_ms());
        self.state.waiting.insert(request, waiting);
        self.apply(decisions).await
    }
}

impl Waiting {
    pub(super) fn answer(self, path: Result<PathBuf>) {
        // Whoever asked may be gone.
        match self {
            Self::Savepoint(_, reply) => drop(reply.send(path)),
            Self::Stop(None, reply) => drop(reply.send(path.map(|_| None))),
            Self::Stop(Some(_), reply) => drop(reply.send(path.map(Some))),
        }
    }

    pub(super) fn fail(self, e: Error) {
        self.answer(Err(e));
    }
}
