//! The state machine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;

use karez_core::{Barrier, BarrierKind, CheckpointId, CommitOutcome, Committable, Error, Reach};

use super::{CheckpointRequest, Decision, End, ProtocolSettings};
use crate::checkpoint::ack::{Ack, Participant};
use crate::checkpoint::commit::CommitRound;
use crate::checkpoint::manifest::{ManifestKind, ManifestParts};
use crate::checkpoint::retention::Keep;
use crate::checkpoint::storage::CompletedCheckpoint;

/// The first and the longest pause before commits of a last checkpoint are tried again, milliseconds.
const RETRY_MS: (i64, i64) = (100, 10_000);

type Committables = BTreeMap<String, Vec<Committable>>;

/// The checkpoint protocol of one generation of a run.
#[derive(Debug)]
pub struct Protocol {
    settings: ProtocolSettings,
    participants: BTreeSet<Participant>,
    /// Who has ended, with the final state.
    ended: BTreeMap<Participant, Ack>,
    phase: Phase,
    next_id: u64,
    next_request: u64,
    requests: VecDeque<(CheckpointRequest, BarrierKind)>,
    /// Prepared, and not in a manifest that is known to be complete.
    carried: Committables,
    /// In the newest completed manifest, and not known to be committed.
    unacknowledged: Committables,
    failures: u32,
    last_start_ms: i64,
    last_end_ms: i64,
    /// A failed attempt is not followed by another at once: what made it fail would still be there.
    not_before_ms: i64,
}

#[derive(Debug)]
enum Phase {
    Idle,
    InProgress {
        attempt: Attempt,
        pending: BTreeSet<Participant>,
        acks: BTreeMap<Participant, Ack>,
        /// Prepared behind the barrier, by participants that have acknowledged: named by the next manifest, never by this one.
        later: Committables,
    },
    /// `named`: what was carried when the parts were taken. What comes meanwhile belongs to the next.
    WritingManifest {
        attempt: Attempt,
        named: Committables,
    },
    Committing(Committing),
    Done,
}

/// One attempt at a checkpoint.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    id: CheckpointId,
    kind: BarrierKind,
    request: Option<CheckpointRequest>,
    /// Everyone had ended when it began.
    last: bool,
    started_ms: i64,
}

#[derive(Debug)]
struct Committing {
    attempt: Attempt,
    completed_ms: i64,
    round: CommitRound,
    /// The sinks that have not answered.
    waiting: BTreeSet<String>,
    retry_at_ms: Option<i64>,
    pause_ms: i64,
    /// Whether rows were refused that become letters of the next epoch.
    letters: bool,
}

impl Protocol {
    /// The protocol of a job that starts now, with what the restored manifest named committed already. `first_id` is that of the storage.
    #[must_use]
    pub fn new(settings: ProtocolSettings, participants: BTreeSet<Participant>, first_id: CheckpointId, now_ms: i64) -> Self {
        Self {
            settings,
            participants,
            ended: BTreeMap::new(),
            phase: Phase::Idle,
            next_id: first_id.0,
            next_request: 0,
            requests: VecDeque::new(),
            carried: Committables::new(),
            unacknowledged: Committables::new(),
            failures: 0,
            last_start_ms: now_ms,
            last_end_ms: i64::MIN,
            not_before_ms: i64::MIN,
        }
    }

    /// When [`Self::tick`] has something to do, if nothing else happens before.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<i64> {
        match &self.phase {
            Phase::Idle if !self.requests.is_empty() || self.all_ended() => Some(self.not_before_ms),
            Phase::Idle => self.due_ms(),
            Phase::InProgress { attempt, .. } => Some(attempt.started_ms.saturating_add(self.settings.timeout_ms)),
            Phase::Committing(c) => c.retry_at_ms,
            Phase::WritingManifest { .. } | Phase::Done => None,
        }
    }

    /// The checkpoint being made, if one is.
    #[must_use]
    pub const fn in_progress(&self) -> Option<CheckpointId> {
        match &self.phase {
            Phase::InProgress { attempt, .. } | Phase::WritingManifest { attempt, .. } => Some(attempt.id),
            Phase::Committing(c) => Some(c.attempt.id),
            Phase::Idle | Phase::Done => None,
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: i64) -> Vec<Decision> {
        match &mut self.phase {
            Phase::Idle => self.next(now_ms),
            Phase::InProgress { attempt, pending, .. } if now_ms >= attempt.started_ms.saturating_add(self.settings.timeout_ms) => {
                let waiting: Vec<String> = pending.iter().take(5).map(ToString::to_string).collect();
                let more = if pending.len() > waiting.len() { format!(" and {} more", pending.len() - waiting.len()) } else { String::new() };
                let (id, timeout) = (attempt.id, self.settings.timeout_ms);
                self.abort(
                    id,
                    format!("it took longer than {timeout} ms (`checkpoint.timeout`); not acknowledged by {}{more}", waiting.join(", ")),
                    now_ms,
                )
            }
            Phase::Committing(c) if c.retry_at_ms.is_some_and(|at| now_ms >= at) => {
                c.retry_at_ms = None;
                c.waiting = c.round.pending().keys().cloned().collect();
                vec![Decision::Commit { permit: c.round.permit(), committables: c.round.pending().clone() }]
            }
            _ => Vec::new(),
        }
    }

    /// Someone asks for a checkpoint, a savepoint or a stop. Requests wait for the checkpoint in progress, and for each other.
    pub fn request(&mut self, kind: BarrierKind, now_ms: i64) -> (CheckpointRequest, Vec<Decision>) {
        let request = CheckpointRequest(self.next_request);
        self.next_request += 1;
        if matches!(self.phase, Phase::Done) {
            return (request, vec![Decision::RequestFailed { request, reason: "the job is over".into() }]);
        }
        self.requests.push_back((request, kind));
        let decisions = if matches!(self.phase, Phase::Idle) { self.next(now_ms) } else { Vec::new() };
        (request, decisions)
    }

    /// A participant acknowledges a barrier. If that attempt has failed meanwhile, what was prepared for it belongs to the next.
    pub fn ack(&mut self, who: &Participant, id: CheckpointId, mut ack: Ack) -> Vec<Decision> {
        if matches!(self.phase, Phase::Done) {
            return Vec::new();
        }
        if !self.participants.contains(who) || id.0 >= self.next_id {
            return self.fail(Error::internal(format!("{who} acknowledged checkpoint {id}, which it was not asked for")));
        }
        self.prepared(who, ack.take_committables());
        match &mut self.phase {
            Phase::InProgress { attempt, pending, acks, .. } if attempt.id == id => {
                if pending.remove(who) {
                    acks.insert(who.clone(), ack);
                }
                self.complete_if_all_acked()
            }
            _ => Vec::new(),
        }
    }

    /// A participant cannot take its snapshot. `committables` is what it had prepared by then: that is not lost.
    pub fn decline(&mut self, who: &Participant, id: CheckpointId, reason: &str, committables: Vec<Committable>, now_ms: i64) -> Vec<Decision> {
        if matches!(self.phase, Phase::Done) {
            return Vec::new();
        }
        self.prepared(who, committables);
        self.failed(id, &format!("{who}: {reason}"), now_ms)
    }

    /// An attempt has failed for another reason than a participant's (its id could not be reserved, …).
    pub fn failed(&mut self, id: CheckpointId, reason: &str, now_ms: i64) -> Vec<Decision> {
        match &self.phase {
            Phase::InProgress { attempt, .. } if attempt.id == id => self.abort(id, reason.to_owned(), now_ms),
            _ => Vec::new(),
        }
    }

    /// A participant has read all its input and is done: `last` is its state from now on, with what it prepared since its last acknowledgement.
    pub fn task_ended(&mut self, who: &Participant, mut last: Ack, now_ms: i64) -> Vec<Decision> {
        if matches!(self.phase, Phase::Done) {
            return Vec::new();
        }
        if !self.participants.contains(who) || self.ended.contains_key(who) {
            return self.fail(Error::internal(format!("{who} ended twice, or is no part of the job")));
        }
        self.prepared(who, last.take_committables());
        self.ended.insert(who.clone(), last.clone());
        match &mut self.phase {
            Phase::InProgress { pending, acks, .. } => {
                if pending.remove(who) {
                    acks.insert(who.clone(), last);
                }
                self.complete_if_all_acked()
            }
            Phase::Idle => self.next(now_ms),
            _ => Vec::new(),
        }
    }

    /// The manifest is complete: what it names may be committed.
    pub fn manifest_written(&mut self, completed: &CompletedCheckpoint, now_ms: i64) -> Vec<Decision> {
        let id = completed.manifest().checkpoint;
        let attempt = match &self.phase {
            Phase::WritingManifest { attempt, .. } if attempt.id == id => *attempt,
            Phase::Done => return Vec::new(),
            _ => return self.fail(Error::internal(format!("the manifest of checkpoint {id} was written, and nobody asked for it"))),
        };
        self.failures = 0;
        let round = CommitRound::replay(completed);
        self.unacknowledged.clear();
        let mut decisions = vec![Decision::NotifyCompleted(id)];
        let waiting: BTreeSet<String> = round.pending().keys().cloned().collect();
        if !round.is_empty() {
            decisions.push(Decision::Commit { permit: round.permit(), committables: round.pending().clone() });
        }
        self.phase =
            Phase::Committing(Committing { attempt, completed_ms: now_ms, round, waiting, retry_at_ms: None, pause_ms: RETRY_MS.0, letters: false });
        decisions.extend(self.end_round_if_answered(now_ms));
        decisions
    }

    /// The manifest could not be written (it may stand there nevertheless). What it would have named belongs to the next.
    pub fn manifest_failed(&mut self, id: CheckpointId, error: &Error, now_ms: i64) -> Vec<Decision> {
        match &self.phase {
            Phase::WritingManifest { attempt, .. } if attempt.id == id => {
                self.abort(id, format!("its manifest could not be written: {error}"), now_ms)
            }
            _ => Vec::new(),
        }
    }

    /// A sink's committer has answered for all it was asked for.
    pub fn committed(&mut self, sink: &str, outcomes: Vec<CommitOutcome>, now_ms: i64) -> Vec<Decision> {
        let Phase::Committing(c) = &mut self.phase else { return Vec::new() };
        if !c.waiting.remove(sink) {
            return self.fail(Error::internal("its committer answered, and was not asked").at(sink));
        }
        let settled = match c.round.settle(sink, outcomes) {
            Ok(settled) => settled,
            Err(error) => return self.fail(error),
        };
        c.letters |= !settled.letters.is_empty();
        let letters = settled.letters.into_iter();
        let mut decisions: Vec<_> = letters.map(|(epoch, rows)| Decision::DeadLetters { sink: sink.to_owned(), epoch, rows }).collect();
        if !settled.delayed.is_empty() {
            decisions.push(Decision::CommitDelayed { sink: sink.to_owned(), errors: settled.delayed });
        }
        decisions.extend(self.end_round_if_answered(now_ms));
        decisions
    }

    /// A sink's committer failed as a whole. A lost connection is tried again; anything else fails the job, and its recovery commits again.
    pub fn commit_failed(&mut self, sink: &str, error: Error, now_ms: i64) -> Vec<Decision> {
        let Phase::Committing(c) = &mut self.phase else { return Vec::new() };
        if !(error.is_retryable() || error.reach() == Reach::Connection) {
            return self.fail(error.at(sink));
        }
        c.waiting.remove(sink);
        let mut decisions = vec![Decision::CommitDelayed { sink: sink.to_owned(), errors: vec![error.at(sink)] }];
        decisions.extend(self.end_round_if_answered(now_ms));
        decisions
    }

    /// Takes what a participant has prepared. What it prepared after it had acknowledged the checkpoint in progress lies behind that barrier.
    fn prepared(&mut self, who: &Participant, committables: Vec<Committable>) {
        match &mut self.phase {
            Phase::InProgress { pending, later, .. } if !pending.contains(who) => carry(later, who.node(), committables),
            _ => carry(&mut self.carried, who.node(), committables),
        }
    }

    fn all_ended(&self) -> bool {
        self.ended.len() == self.participants.len()
    }

    /// When the next periodic checkpoint is due.
    fn due_ms(&self) -> Option<i64> {
        let by_interval = self.last_start_ms.saturating_add(self.settings.interval_ms?);
        Some(by_interval.max(self.last_end_ms.saturating_add(self.settings.min_pause_ms)).max(self.not_before_ms))
    }

    /// Starts what is next, if its time has come. Only called when idle.
    fn next(&mut self, now_ms: i64) -> Vec<Decision> {
        if now_ms < self.not_before_ms {
            Vec::new()
        } else if let Some((request, kind)) = self.requests.pop_front() {
            self.start(kind, Some(request), now_ms)
        } else if self.all_ended() || self.due_ms().is_some_and(|due| now_ms >= due) {
            self.start(BarrierKind::Checkpoint, None, now_ms)
        } else {
            Vec::new()
        }
    }

    fn start(&mut self, kind: BarrierKind, request: Option<CheckpointRequest>, now_ms: i64) -> Vec<Decision> {
        let id = CheckpointId(self.next_id);
        self.next_id += 1;
        self.last_start_ms = now_ms;
        let pending: BTreeSet<_> = self.participants.iter().filter(|p| !self.ended.contains_key(*p)).cloned().collect();
        let attempt = Attempt { id, kind, request, last: pending.is_empty(), started_ms: now_ms };
        self.phase = Phase::InProgress { attempt, pending: pending.clone(), acks: self.ended.clone(), later: Committables::new() };
        if attempt.last {
            return self.complete_if_all_acked();
        }
        vec![Decision::Trigger { barrier: Barrier { checkpoint: id, kind }, pending }]
    }

    fn complete_if_all_acked(&mut self) -> Vec<Decision> {
        let Phase::InProgress { attempt, pending, acks, later } = &mut self.phase else { return Vec::new() };
        if !pending.is_empty() {
            return Vec::new();
        }
        let (attempt, acks) = (*attempt, mem::take(acks));
        let named = mem::replace(&mut self.carried, mem::take(later));
        let mut committables = self.unacknowledged.clone();
        for (sink, list) in &named {
            carry(&mut committables, sink, list.clone());
        }
        self.phase = Phase::WritingManifest { attempt, named };
        vec![Decision::WriteManifest(ManifestParts {
            checkpoint: attempt.id,
            kind: if attempt.kind.is_savepoint() { ManifestKind::Savepoint } else { ManifestKind::Checkpoint },
            finished: attempt.last,
            stopped: attempt.kind.stops() && !attempt.last,
            acks,
            committables,
        })]
    }

    /// Ends the attempt in progress as failed.
    fn abort(&mut self, id: CheckpointId, reason: String, now_ms: i64) -> Vec<Decision> {
        let attempt = match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::InProgress { attempt, later, .. } => {
                carry_all(&mut self.carried, later);
                attempt
            }
            Phase::WritingManifest { attempt, named } => {
                let later = mem::replace(&mut self.carried, named);
                carry_all(&mut self.carried, later);
                attempt
            }
            other => {
                self.phase = other;
                return Vec::new();
            }
        };
        self.last_end_ms = now_ms;
        self.not_before_ms = now_ms.saturating_add((RETRY_MS.0 << self.failures.min(6)).min(RETRY_MS.1));
        self.failures += 1;
        let mut decisions = vec![Decision::Abort { id, reason: reason.clone() }];
        if self.failures > self.settings.tolerable_failures {
            if let Some(request) = attempt.request {
                decisions.push(Decision::RequestFailed { request, reason: reason.clone() });
            }
            let allowed = self.settings.tolerable_failures;
            let message = format!(
                "{} checkpoints in a row have failed (`checkpoint.tolerableFailures: {allowed}`); the last, checkpoint {id}: {reason}",
                self.failures
            );
            decisions.extend(self.fail(Error::external(message)));
            return decisions;
        }
        match attempt.request {
            // Sources are silent behind a stop's barrier: there is no way back but another try.
            Some(request) if attempt.kind.stops() => self.requests.push_front((request, attempt.kind)),
            Some(request) => decisions.push(Decision::RequestFailed { request, reason: format!("checkpoint {id} failed: {reason}") }),
            None => {}
        }
        decisions
    }

    /// Ends the round of commits once every sink has answered.
    fn end_round_if_answered(&mut self, now_ms: i64) -> Vec<Decision> {
        let Phase::Committing(c) = &mut self.phase else { return Vec::new() };
        if !c.waiting.is_empty() {
            return Vec::new();
        }
        let attempt = c.attempt;
        let ends = attempt.last || attempt.kind.stops();
        if ends && !c.round.is_empty() {
            // No checkpoint follows that would try again.
            if now_ms.saturating_sub(c.completed_ms) < self.settings.timeout_ms {
                c.retry_at_ms = Some(now_ms.saturating_add(c.pause_ms));
                c.pause_ms = (c.pause_ms * 2).min(RETRY_MS.1);
                return Vec::new();
            }
            if attempt.last {
                let (left, sinks) = (c.round.len(), c.round.pending().keys().cloned().collect::<Vec<_>>().join(", "));
                let message = format!(
                    "all input was read, and {left} commits of {sinks} were still refused after {} ms; the next start tries them again",
                    self.settings.timeout_ms
                );
                return self.fail(Error::external(message));
            }
        }
        // The letters of a last commit need an epoch: the job stops behind the next barrier.
        let once_more = attempt.kind.stops() && !attempt.last && c.letters;
        let uncommitted = c.round.len();
        self.unacknowledged = c.round.pending().clone();
        self.last_end_ms = now_ms;
        let unacknowledged = self.unacknowledged.values().flatten().map(|c| c.epoch).collect();
        let completed = Decision::Completed {
            id: attempt.id,
            kind: attempt.kind,
            request: attempt.request.filter(|_| !once_more),
            duration_ms: now_ms - attempt.started_ms,
            uncommitted,
        };
        let mut decisions = vec![completed, Decision::DeleteOld(Keep { newest: self.settings.retained, unacknowledged })];
        if once_more {
            self.phase = Phase::Idle;
            decisions.extend(self.start(attempt.kind, attempt.request, now_ms));
        } else if ends {
            self.phase = Phase::Done;
            decisions.push(Decision::Ended(if attempt.last { End::Finished } else { End::Stopped }));
            decisions.extend(self.refuse_requests("the job is over"));
        } else {
            self.phase = Phase::Idle;
            decisions.extend(self.next(now_ms));
        }
        decisions
    }

    fn fail(&mut self, error: Error) -> Vec<Decision> {
        self.phase = Phase::Done;
        let mut decisions = self.refuse_requests("the job has failed");
        decisions.push(Decision::FailJob(error));
        decisions
    }

    fn refuse_requests(&mut self, reason: &str) -> Vec<Decision> {
        self.requests.drain(..).map(|(request, _)| Decision::RequestFailed { request, reason: reason.to_owned() }).collect()
    }
}

fn carry(carried: &mut Committables, sink: &str, committables: Vec<Committable>) {
    if !committables.is_empty() {
        carried.entry(sink.to_owned()).or_default().extend(committables);
    }
}

fn carry_all(carried: &mut Committables, more: Committables) {
    for (sink, list) in more {
        carry(carried, &sink, list);
    }
}
