//! The rules, one by one.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use karez_core::{BarrierKind, CheckpointId, CommitOutcome, Committable, Epoch, Error, Generation, RunId};
use serde_json::json;

use super::*;
use crate::checkpoint::ack::{Ack, SourceAck, SubtaskState};
use crate::checkpoint::manifest::{JobNode, JobShape, ManifestKind, NodeRole};
use crate::checkpoint::storage::CompletedCheckpoint;

fn shape() -> JobShape {
    let node = |name: &str, role| JobNode { name: name.into(), role, type_name: name.into(), identity: String::new(), parallelism: 1 };
    JobShape { job: "job".into(), key_groups: 128, nodes: vec![node("in", NodeRole::Source), node("out", NodeRole::Sink)] }
}

fn settings() -> ProtocolSettings {
    ProtocolSettings { interval_ms: Some(1_000), timeout_ms: 500, min_pause_ms: 0, tolerable_failures: 2, retained: 2 }
}

fn protocol() -> Protocol {
    Protocol::new(settings(), shape().participants(), CheckpointId(1), 0)
}

fn source() -> Participant {
    Participant::subtask("in", 0)
}
fn sink() -> Participant {
    Participant::subtask("out", 0)
}
fn enumerator() -> Participant {
    Participant::enumerator("in")
}

fn source_ack() -> Ack {
    Ack::Source(SourceAck::default())
}
fn enumerator_ack() -> Ack {
    Ack::Enumerator { state: json!(null), open: Vec::new(), unassigned: Vec::new(), finished: Vec::new(), done: false }
}
fn rows(epoch: u64) -> Committable {
    Committable { epoch: Epoch(epoch), subtask: 0, payload: json!(format!("rows of {epoch}")) }
}
fn sink_ack(committables: Vec<Committable>) -> Ack {
    Ack::Sink { writer: Vec::new(), committables }
}

fn triggered(decisions: &[Decision]) -> u64 {
    match decisions {
        [.., Decision::Trigger { barrier, .. }] => barrier.checkpoint.0,
        other => panic!("no trigger: {other:?}"),
    }
}

/// Acknowledges for everyone; the sink with its rows.
fn ack_all(p: &mut Protocol, id: u64) -> ManifestParts {
    let id = CheckpointId(id);
    assert!(p.ack(&source(), id, source_ack()).is_empty());
    assert!(p.ack(&enumerator(), id, enumerator_ack()).is_empty());
    parts(p.ack(&sink(), id, sink_ack(vec![rows(id.0)])))
}

fn parts(mut decisions: Vec<Decision>) -> ManifestParts {
    match decisions.pop() {
        Some(Decision::WriteManifest(parts)) => parts,
        other => panic!("no manifest: {other:?}"),
    }
}

fn completed(parts: ManifestParts) -> CompletedCheckpoint {
    let manifest = parts.assemble(&shape(), &RunId("r".into()), Generation(1), 0).unwrap();
    CompletedCheckpoint::new(Arc::new(manifest))
}

fn asked_to_commit(decisions: &[Decision]) -> Vec<u64> {
    let commits = decisions.iter().find_map(|d| if let Decision::Commit { committables, .. } = d { Some(&committables["out"]) } else { None });
    commits.unwrap_or_else(|| panic!("no commit: {decisions:?}")).iter().map(|c| c.epoch.0).collect()
}

fn done(decisions: &[Decision]) -> bool {
    decisions.iter().any(|d| matches!(d, Decision::Completed { .. }))
}

#[test]
fn a_checkpoint_is_triggered_acknowledged_written_committed_and_completed() {
    let mut p = protocol();
    assert!(p.tick(999).is_empty());
    let id = triggered(&p.tick(1_000));
    let parts = ack_all(&mut p, id);
    let decisions = p.manifest_written(&completed(parts), 1_010);
    assert!(matches!(decisions[0], Decision::NotifyCompleted(CheckpointId(1))));
    assert_eq!(asked_to_commit(&decisions), [1]);
    let decisions = p.committed("out", vec![CommitOutcome::Committed], 1_020);
    assert!(matches!(decisions[0], Decision::Completed { id: CheckpointId(1), duration_ms: 20, uncommitted: 0, .. }), "{decisions:?}");
    assert!(matches!(&decisions[1], Decision::DeleteOld(keep) if keep.newest == 2 && keep.unacknowledged.is_empty()));
    assert_eq!(p.next_deadline_ms(), Some(2_000));
}

#[test]
fn nothing_is_committed_before_the_manifest_is_written() {
    let mut p = protocol();
    let id = triggered(&p.tick(1_000));
    ack_all(&mut p, id);
    assert!(p.tick(9_999).is_empty());
    assert!(p.committed("out", vec![CommitOutcome::Committed], 9_999).is_empty());
}

#[test]
fn one_checkpoint_is_made_at_a_time() {
    let mut p = protocol();
    let id = triggered(&p.tick(1_000));
    let (_, decisions) = p.request(BarrierKind::Savepoint, 1_001);
    assert!(decisions.is_empty());
    let parts = ack_all(&mut p, id);
    p.manifest_written(&completed(parts), 1_010);
    let decisions = p.committed("out", vec![CommitOutcome::Committed], 1_020);
    assert!(matches!(decisions.last(), Some(Decision::Trigger { barrier, .. }) if barrier.kind == BarrierKind::Savepoint), "{decisions:?}");
}

#[test]
fn the_minimum_pause_is_counted_from_the_end_of_the_last() {
    let mut p = Protocol::new(ProtocolSettings { min_pause_ms: 700, ..settings() }, shape().participants(), CheckpointId(1), 0);
    let id = triggered(&p.tick(1_000));
    let parts = ack_all(&mut p, id);
    p.manifest_written(&completed(parts), 1_400);
    p.committed("out", vec![CommitOutcome::Committed], 1_450);
    assert!(p.tick(2_149).is_empty());
    assert_eq!(triggered(&p.tick(2_150)), 2);
}

#[test]
fn a_timeout_names_who_has_not_acknowledged() {
    let mut p = protocol();
    let id = triggered(&p.tick(1_000));
    p.ack(&source(), CheckpointId(id), source_ack());
    let decisions = p.tick(1_500);
    assert!(
        matches!(&decisions[0], Decision::Abort { reason, .. } if reason.contains("out[0]") && reason.contains("500 ms") && !reason.contains("in[0]")),
        "{decisions:?}"
    );
}

#[test]
fn committables_of_a_failed_attempt_belong_to_the_next() {
    let mut p = protocol();
    let first = triggered(&p.tick(1_000));
    p.ack(&sink(), CheckpointId(first), sink_ack(vec![rows(first)]));
    p.decline(&source(), CheckpointId(first), "disk full", Vec::new(), 1_100);
    let second = triggered(&p.tick(2_000));
    assert_eq!(second, 2, "the id of a failed attempt is not used again");
    let parts = ack_all(&mut p, second);
    assert_eq!(parts.committables["out"], [rows(1), rows(2)]);
}

#[test]
fn a_late_acknowledgement_of_a_failed_attempt_loses_nothing() {
    let mut p = protocol();
    let first = triggered(&p.tick(1_000));
    p.tick(1_500);
    p.ack(&sink(), CheckpointId(first), sink_ack(vec![rows(first)]));
    let second = triggered(&p.tick(2_000));
    assert_eq!(ack_all(&mut p, second).committables["out"], [rows(1), rows(2)]);
}

#[test]
fn what_a_declining_sink_had_prepared_is_not_lost() {
    let mut p = protocol();
    let first = triggered(&p.tick(1_000));
    p.decline(&sink(), CheckpointId(first), "disk full", vec![rows(first)], 1_100);
    let second = triggered(&p.tick(2_000));
    assert_eq!(ack_all(&mut p, second).committables["out"], [rows(1), rows(2)]);
}

#[test]
fn a_manifest_that_could_not_be_written_loses_nothing() {
    let mut p = protocol();
    let first = triggered(&p.tick(1_000));
    ack_all(&mut p, first);
    let decisions = p.manifest_failed(CheckpointId(first), &Error::external("no space left"), 1_100);
    assert!(matches!(&decisions[..], [Decision::Abort { reason, .. }] if reason.contains("no space left")));
    let second = triggered(&p.tick(2_000));
    assert_eq!(ack_all(&mut p, second).committables["out"], [rows(1), rows(2)]);
}

#[test]
fn committables_not_acknowledged_stand_in_every_later_manifest() {
    let mut p = protocol();
    let first = triggered(&p.tick(1_000));
    let parts = ack_all(&mut p, first);
    p.manifest_written(&completed(parts), 1_100);
    let decisions = p.committed("out", vec![CommitOutcome::RetryLater(Error::connection("away"))], 1_200);
    assert!(matches!(decisions[0], Decision::CommitDelayed { .. }));
    assert!(matches!(&decisions[2], Decision::DeleteOld(keep) if keep.unacknowledged.contains(&Epoch(1))), "{decisions:?}");
    let second = triggered(&p.tick(2_000));
    let parts = ack_all(&mut p, second);
    assert_eq!(parts.committables["out"], [rows(1), rows(2)]);
    assert_eq!(asked_to_commit(&p.manifest_written(&completed(parts), 2_100)), [1, 2]);
    p.committed("out", vec![CommitOutcome::AlreadyCommitted, CommitOutcome::Committed], 2_200);
    let third = triggered(&p.tick(3_000));
    assert_eq!(ack_all(&mut p, third).committables["out"], [rows(3)]);
}

#[test]
fn a_lost_commit_fails_the_job_and_names_the_sink() {
    let mut p = protocol();
    let first = triggered(&p.tick(1_000));
    let parts = ack_all(&mut p, first);
    p.manifest_written(&completed(parts), 1_100);
    let decisions = p.committed("out", vec![CommitOutcome::Lost(Error::external("the broker timed the transaction out"))], 1_200);
    assert!(
        matches!(&decisions[..], [Decision::FailJob(e)] if e.to_string().contains("out: ") && e.to_string().contains("timed the transaction out"))
    );
}

#[test]
fn rows_refused_at_commit_become_letters_of_their_epoch() {
    let mut p = protocol();
    let first = triggered(&p.tick(1_000));
    let parts = ack_all(&mut p, first);
    p.manifest_written(&completed(parts), 1_100);
    let decisions = p.committed("out", vec![CommitOutcome::CommittedExcept(vec![BadRecord::default()])], 1_200);
    assert!(matches!(&decisions[0], Decision::DeadLetters { epoch: Epoch(1), rows, .. } if rows.len() == 1));
    assert!(done(&decisions));
}

#[test]
fn more_failures_in_a_row_than_tolerated_fail_the_job_and_success_resets_the_count() {
    let mut p = protocol();
    let fail = |p: &mut Protocol, now: i64| {
        let id = triggered(&p.tick(now));
        p.decline(&source(), CheckpointId(id), "no", Vec::new(), now)
    };
    fail(&mut p, 1_000);
    fail(&mut p, 2_000);
    let id = triggered(&p.tick(3_000));
    let parts = ack_all(&mut p, id);
    p.manifest_written(&completed(parts), 3_000);
    p.committed("out", vec![CommitOutcome::Committed], 3_000);
    fail(&mut p, 4_000);
    fail(&mut p, 5_000);
    let decisions = fail(&mut p, 6_000);
    assert!(matches!(decisions.last(), Some(Decision::FailJob(e)) if e.message().contains("tolerableFailures: 2")), "{decisions:?}");
    assert!(p.tick(9_000).is_empty());
}

#[test]
fn an_ended_participant_counts_as_acknowledged_with_its_final_state() {
    let mut p = protocol();
    let end = Ack::Source(SourceAck { watermark_ms: Some(i64::MAX), ..SourceAck::default() });
    p.task_ended(&source(), end.clone(), 500);
    for now in [1_000, 2_000] {
        let id = CheckpointId(triggered(&p.tick(now)));
        p.ack(&enumerator(), id, enumerator_ack());
        let parts = parts(p.ack(&sink(), id, sink_ack(vec![rows(id.0)])));
        assert_eq!(parts.acks[&source()], end);
        assert!(!parts.finished);
        p.manifest_written(&completed(parts), now);
        p.committed("out", vec![CommitOutcome::Committed], now);
    }
}

#[test]
fn an_end_in_the_middle_of_an_attempt_completes_it() {
    let mut p = protocol();
    let id = CheckpointId(triggered(&p.tick(1_000)));
    p.ack(&source(), id, source_ack());
    p.ack(&enumerator(), id, enumerator_ack());
    let parts = parts(p.task_ended(&sink(), sink_ack(vec![rows(1)]), 1_100));
    assert_eq!(parts.committables["out"], [rows(1)]);
    assert!(!parts.finished, "the sources' states are not their last");
}

#[test]
fn what_ends_after_its_acknowledgement_is_committed_by_the_next() {
    let mut p = protocol();
    let id = CheckpointId(triggered(&p.tick(1_000)));
    p.ack(&sink(), id, sink_ack(vec![rows(1)]));
    p.ack(&enumerator(), id, enumerator_ack());
    let first = parts(p.ack(&source(), id, source_ack()));
    p.task_ended(&sink(), sink_ack(vec![rows(2)]), 1_050);
    assert_eq!(first.committables["out"], [rows(1)]);
    p.manifest_written(&completed(first), 1_100);
    p.committed("out", vec![CommitOutcome::Committed], 1_100);
    let id = CheckpointId(triggered(&p.tick(2_000)));
    p.ack(&enumerator(), id, enumerator_ack());
    assert_eq!(parts(p.ack(&source(), id, source_ack())).committables["out"], [rows(2)]);
}

#[test]
fn what_ends_behind_a_barrier_is_not_committed_with_it() {
    let mut p = protocol();
    let id = CheckpointId(triggered(&p.tick(1_000)));
    p.ack(&sink(), id, sink_ack(vec![rows(1)]));
    p.task_ended(&sink(), sink_ack(vec![rows(2)]), 1_050);
    p.ack(&enumerator(), id, enumerator_ack());
    assert_eq!(parts(p.ack(&source(), id, source_ack())).committables["out"], [rows(1)]);
    p.manifest_failed(id, &Error::external("no space left"), 1_100);
    let id = CheckpointId(triggered(&p.tick(2_000)));
    p.ack(&enumerator(), id, enumerator_ack());
    assert_eq!(parts(p.ack(&source(), id, source_ack())).committables["out"], [rows(1), rows(2)]);
}

#[test]
fn a_bounded_job_ends_with_a_last_checkpoint_and_finishes_after_its_commits() {
    let mut p = protocol();
    p.task_ended(&enumerator(), enumerator_ack(), 10);
    p.task_ended(&source(), source_ack(), 10);
    let last = parts(p.task_ended(&sink(), sink_ack(vec![rows(1)]), 20));
    assert!(last.finished);
    p.manifest_written(&completed(last), 30);
    assert!(p.committed("out", vec![CommitOutcome::RetryLater(Error::connection("away"))], 40).iter().all(|d| !matches!(d, Decision::Ended(_))));
    let at = p.next_deadline_ms().unwrap();
    assert_eq!(asked_to_commit(&p.tick(at)), [1]);
    let decisions = p.committed("out", vec![CommitOutcome::Committed], at);
    assert!(matches!(decisions.last(), Some(Decision::Ended(End::Finished))), "{decisions:?}");
}

#[test]
fn a_last_checkpoint_that_fails_is_tried_again_after_a_pause() {
    let mut p = protocol();
    p.task_ended(&enumerator(), enumerator_ack(), 10);
    p.task_ended(&source(), source_ack(), 10);
    let last = parts(p.task_ended(&sink(), sink_ack(vec![rows(1)]), 20));
    p.manifest_failed(last.checkpoint, &Error::external("no space left"), 30);
    assert!(p.tick(30).is_empty());
    let again = parts(p.tick(p.next_deadline_ms().unwrap()));
    assert!(again.finished && again.checkpoint > last.checkpoint);
    assert_eq!(again.committables, last.committables);
}

#[test]
fn a_stop_that_fails_is_tried_again_since_the_sources_are_silent() {
    let mut p = protocol();
    let (request, decisions) = p.request(BarrierKind::StopWithSavepoint, 100);
    let first = triggered(&decisions);
    let decisions = p.decline(&sink(), CheckpointId(first), "no", vec![rows(1)], 200);
    assert!(matches!(&decisions[..], [Decision::Abort { .. }]), "the request is not answered yet: {decisions:?}");
    let second = triggered(&p.tick(p.next_deadline_ms().unwrap()));
    let parts = ack_all(&mut p, second);
    assert!(parts.stopped && parts.kind == ManifestKind::Savepoint);
    p.manifest_written(&completed(parts), 400);
    let decisions = p.committed("out", vec![CommitOutcome::Committed, CommitOutcome::Committed], 500);
    assert!(matches!(decisions[0], Decision::Completed { request: Some(r), .. } if r == request));
    assert!(matches!(decisions.last(), Some(Decision::Ended(End::Stopped))));
}

#[test]
fn a_failed_savepoint_is_answered_and_the_job_goes_on() {
    let mut p = protocol();
    let (request, decisions) = p.request(BarrierKind::Savepoint, 100);
    let id = triggered(&decisions);
    let decisions = p.failed(CheckpointId(id), "storage away", 200);
    assert!(
        decisions.iter().any(|d| matches!(d, Decision::RequestFailed { request: r, reason } if *r == request && reason.contains("storage away")))
    );
    assert_eq!(triggered(&p.tick(1_200)), 2);
}

#[test]
fn requests_that_wait_when_the_job_ends_are_answered() {
    let mut p = protocol();
    let (_, decisions) = p.request(BarrierKind::Stop, 100);
    let id = triggered(&decisions);
    let (waiting, _) = p.request(BarrierKind::Savepoint, 100);
    let parts = ack_all(&mut p, id);
    p.manifest_written(&completed(parts), 200);
    let decisions = p.committed("out", vec![CommitOutcome::Committed], 300);
    assert!(decisions.iter().any(|d| matches!(d, Decision::RequestFailed { request, .. } if *request == waiting)), "{decisions:?}");
    let (late, decisions) = p.request(BarrierKind::Savepoint, 400);
    assert!(matches!(&decisions[..], [Decision::RequestFailed { request, .. }] if *request == late));
}

#[test]
fn a_split_handed_out_before_the_readers_barrier_belongs_to_the_reader() {
    let mut p = protocol();
    let id = CheckpointId(triggered(&p.tick(1_000)));
    let split = |id: &str, at: u64| karez_core::Split { id: id.into(), position: json!(at) };
    let open = crate::checkpoint::ack::SplitState { split: split("b", 7), watermark_ms: Some(3) };
    p.ack(
        &enumerator(),
        id,
        Ack::Enumerator {
            state: json!(1),
            open: Vec::new(),
            unassigned: vec![split("a", 0), split("b", 0), split("c", 0)],
            finished: Vec::new(),
            done: true,
        },
    );
    p.ack(&source(), id, Ack::Source(SourceAck { splits: vec![open.clone()], finished: vec![split("a", 9)], watermark_ms: Some(3) }));
    let completed = completed(parts(p.ack(&sink(), id, sink_ack(Vec::new()))));
    let source = &completed.manifest().sources["in"];
    assert_eq!((&source.unassigned[..], &source.open[..], &source.finished[..]), (&[split("c", 0)][..], &[open][..], &[split("a", 9)][..]));
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_is_a_broken_invariant() {
    let mut p = protocol();
    let id = CheckpointId(triggered(&p.tick(1_000)));
    p.ack(&enumerator(), id, enumerator_ack());
    p.ack(&source(), id, Ack::Operator(SubtaskState::default()));
    let error = parts(p.ack(&sink(), id, sink_ack(Vec::new()))).assemble(&shape(), &RunId("r".into()), Generation(1), 0).unwrap_err();
    assert_eq!(error.node(), Some("in"));
}
