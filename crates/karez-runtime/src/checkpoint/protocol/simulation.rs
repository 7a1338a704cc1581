//! Exactly once, under random orders, failures, crashes and zombies: the protocol and the real storage code over a store in memory, with a model of a
//! job around them. A source gives rows 0, 1, 2, …; two sink subtasks take them in turn, prepare them at barriers, and a committer makes them visible.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use karez_core::{BarrierKind, CheckpointId, CommitOutcome, Committable, Epoch, Error, Result, RunId, Split};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::checkpoint::ack::{Ack, SourceAck, SplitState};
use crate::checkpoint::commit::CommitRound;
use crate::checkpoint::manifest::{JobNode, JobShape, ManifestParts, NodeRole};
use crate::checkpoint::recovery::FallbackFacts;
use crate::checkpoint::retention;
use crate::checkpoint::storage::CheckpointStorage;
use crate::checkpoint::store::{Creation, DurableStore, MemoryStore};

const SINKS: usize = 2;

/// A store whose next write can be made to fail, before or after it has happened.
#[derive(Debug, Default)]
struct Flaky {
    inner: MemoryStore,
    next_create: Mutex<Option<Fault>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    NotWritten,
    WrittenButLost,
}

impl DurableStore for Flaky {
    fn create(&self, name: &str, bytes: &Bytes) -> Result<Creation> {
        match self.next_create.lock().unwrap().take() {
            None => self.inner.create(name, bytes),
            Some(Fault::NotWritten) => Err(Error::external("no space left on device")),
            Some(Fault::WrittenButLost) => self.inner.create(name, bytes).and_then(|_| Err(Error::external("connection reset"))),
        }
    }
    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.inner.get(name)
    }
    fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.inner.list(folder)
    }
    fn delete(&self, name: &str) -> Result<()> {
        self.inner.delete(name)
    }
    fn describe(&self, name: &str) -> String {
        self.inner.describe(name)
    }
}

/// The outside: what survives every crash.
#[derive(Default)]
struct World {
    store: Arc<Flaky>,
    visible: Vec<u64>,
    /// (epoch, subtask): the marker of each commit, in the target.
    markers: BTreeSet<(u64, usize)>,
    ids: BTreeSet<u64>,
    generations: u64,
}

impl World {
    /// The target commits if its marker is absent. Checks that a whole manifest names what it is asked to commit.
    fn commit(&mut self, permit: Epoch, c: &Committable) -> CommitOutcome {
        assert!(c.epoch <= permit, "epoch {} committed with a permit for {permit}", c.epoch);
        let named = self.manifests().iter().any(|m| m.sinks["out"].committables.contains(c));
        assert!(named, "{c:?} is committed, and no completed manifest names it");
        if !self.markers.insert((c.epoch.0, c.subtask)) {
            return CommitOutcome::AlreadyCommitted;
        }
        self.visible.extend(c.payload["rows"].as_array().unwrap().iter().map(|r| r.as_u64().unwrap()));
        CommitOutcome::Committed
    }

    fn manifests(&self) -> Vec<crate::checkpoint::Manifest> {
        use crate::checkpoint::codec::Entry;
        let names = self.store.list("log").unwrap();
        let entries = names.iter().filter_map(|n| self.store.get(n).unwrap()).map(|b| Entry::decode(&b).unwrap());
        entries.filter_map(|e| if let Entry::Checkpoint(m) = e { Some(*m) } else { None }).collect()
    }
}

/// One process.
struct Process {
    storage: CheckpointStorage,
    protocol: Protocol,
    /// The next row of the source.
    position: u64,
    end: u64,
    source_ended: bool,
    sinks: Vec<Writer>,
    /// What was decided and is not carried out yet.
    todo: VecDeque<Decision>,
    /// Messages to the protocol that are still under way, in order per sender.
    acks: Vec<VecDeque<Message>>,
    over: bool,
    /// Another process has taken over.
    zombie: bool,
}

#[derive(Default)]
struct Writer {
    rows: Vec<u64>,
    /// What is in its queue.
    queue: VecDeque<Item>,
    newest_barrier: u64,
    ended: bool,
}

enum Item {
    Row(u64),
    Barrier(u64),
    End,
}

enum Message {
    Ack(Participant, u64, Ack),
    Decline(Participant, u64, Vec<Committable>),
    Ended(Participant, Ack),
}

fn shape() -> JobShape {
    let node = |name: &str, role, parallelism| JobNode { name: name.into(), role, type_name: name.into(), identity: String::new(), parallelism };
    JobShape { job: "job".into(), key_groups: 128, nodes: vec![node("in", NodeRole::Source, 1), node("out", NodeRole::Sink, SINKS)] }
}

impl Process {
    /// Starts: fences, restores, commits what the manifest names.
    fn start(world: &mut World, now: i64, end: u64) -> Self {
        let (storage, recovery) = CheckpointStorage::take_over(Arc::<Flaky>::clone(&world.store), now).unwrap();
        assert!(storage.generation().0 > world.generations, "generations grow");
        world.generations = storage.generation().0;
        let restored = recovery.choose(&FallbackFacts { exactly_once: true, ..FallbackFacts::default() }).unwrap();
        let mut position = 0;
        let mut source_ended = false;
        if let Some(completed) = &restored {
            let round = CommitRound::replay(completed);
            for c in round.pending().get("out").into_iter().flatten() {
                world.commit(round.permit().epoch(), c);
            }
            let source = &completed.manifest().sources["in"];
            match source.open.first() {
                Some(open) => position = open.split.position.as_u64().unwrap(),
                None => (position, source_ended) = (end, true),
            }
        }
        let settings = ProtocolSettings { interval_ms: Some(10), timeout_ms: 100, min_pause_ms: 0, tolerable_failures: 5, retained: 1 };
        let protocol = Protocol::new(settings, shape().participants(), storage.first_checkpoint_id(), now);
        let first = storage.first_checkpoint_id().0;
        let sinks = (0..SINKS).map(|_| Writer { newest_barrier: first - 1, ..Writer::default() }).collect();
        let mut process = Self {
            storage,
            protocol,
            position,
            end,
            source_ended: false,
            sinks,
            todo: VecDeque::new(),
            acks: (0..=SINKS).map(|_| VecDeque::new()).collect(),
            zombie: false,
            over: false,
        };
        if source_ended {
            process.end_source();
        }
        process
    }

    fn source_state(&self) -> (Ack, Ack) {
        let splits = if self.source_ended {
            Vec::new()
        } else {
            vec![SplitState { split: Split { id: "s".into(), position: json!(self.position) }, watermark_ms: None }]
        };
        let enumerator = Ack::Enumerator { state: Value::Null, open: Vec::new(), unassigned: Vec::new(), finished: Vec::new(), done: true };
        (Ack::Source(SourceAck { splits, ..SourceAck::default() }), enumerator)
    }

    fn end_source(&mut self) {
        self.source_ended = true;
        let (source, enumerator) = self.source_state();
        self.acks[SINKS].push_back(Message::Ended(Participant::subtask("in", 0), source));
        self.acks[SINKS].push_back(Message::Ended(Participant::enumerator("in"), enumerator));
        self.sinks.iter_mut().for_each(|s| s.queue.push_back(Item::End));
    }

    fn read(&mut self) {
        if self.source_ended {
            return;
        }
        if self.position == self.end {
            return self.end_source();
        }
        let row = self.position;
        self.position += 1;
        self.sinks[row as usize % SINKS].queue.push_back(Item::Row(row));
    }

    /// A sink subtask takes the next item of its queue.
    fn work(&mut self, subtask: usize, decline: bool) {
        let writer = &mut self.sinks[subtask];
        let who = Participant::subtask("out", subtask);
        let prepare = |rows: &mut Vec<u64>, epoch: u64| match std::mem::take(rows) {
            rows if rows.is_empty() => Vec::new(),
            rows => vec![Committable { epoch: Epoch(epoch), subtask, payload: json!({ "rows": rows }) }],
        };
        match writer.queue.pop_front() {
            Some(Item::Row(row)) => writer.rows.push(row),
            Some(Item::Barrier(id)) => {
                writer.newest_barrier = id;
                let committables = prepare(&mut writer.rows, id);
                let message = if decline {
                    Message::Decline(who, id, committables)
                } else {
                    Message::Ack(who, id, Ack::Sink { writer: Vec::new(), committables })
                };
                self.acks[subtask].push_back(message);
            }
            Some(Item::End) => {
                writer.ended = true;
                let committables = prepare(&mut writer.rows, writer.newest_barrier + 1);
                self.acks[subtask].push_back(Message::Ended(who, Ack::Sink { writer: Vec::new(), committables }));
            }
            None => {}
        }
    }

    fn deliver(&mut self, sender: usize, now: i64) {
        let decisions = match self.acks[sender].pop_front() {
            Some(Message::Ack(who, id, ack)) => self.protocol.ack(&who, CheckpointId(id), ack),
            Some(Message::Decline(who, id, committables)) => self.protocol.decline(&who, CheckpointId(id), "cannot", committables, now),
            Some(Message::Ended(who, ack)) => self.protocol.task_ended(&who, ack, now),
            None => Vec::new(),
        };
        self.todo.extend(decisions);
    }

    fn tick(&mut self, now: i64) {
        let decisions = self.protocol.tick(now);
        self.todo.extend(decisions);
    }

    /// Carries out the next decision. `retry_later`: the sink is away.
    fn act(&mut self, world: &mut World, fault: Option<Fault>, retry_later: bool, now: i64) {
        let Some(decision) = self.todo.pop_front() else { return };
        let decisions = match decision {
            Decision::Trigger { barrier, pending } => {
                let id = barrier.checkpoint;
                if let Err(e) = self.storage.begin_attempt(id) {
                    assert!(self.zombie, "{e}");
                    return self.todo.extend(self.protocol.failed(id, &e.to_string(), now));
                }
                assert!(world.ids.insert(id.0), "an id is used once: {id}");
                assert!(self.zombie || world.ids.last() == Some(&id.0), "ids grow: {id}");
                if pending.contains(&Participant::subtask("in", 0)) && !self.source_ended {
                    let (source, enumerator) = self.source_state();
                    self.acks[SINKS].push_back(Message::Ack(Participant::subtask("in", 0), id.0, source));
                    self.acks[SINKS].push_back(Message::Ack(Participant::enumerator("in"), id.0, enumerator));
                    self.sinks.iter_mut().for_each(|s| s.queue.push_back(Item::Barrier(id.0)));
                }
                Vec::new()
            }
            Decision::WriteManifest(parts) => self.write(world, parts, fault, now),
            Decision::Commit { permit, committables } => {
                let asked = &committables["out"];
                let outcomes = asked.iter().enumerate().map(|(i, c)| {
                    if retry_later && i % 2 == 0 { CommitOutcome::RetryLater(Error::connection("away")) } else { world.commit(permit.epoch(), c) }
                });
                let outcomes = outcomes.collect();
                self.protocol.committed("out", outcomes, now)
            }
            Decision::DeleteOld(keep) => {
                retention::collect(&self.storage, &keep);
                Vec::new()
            }
            Decision::Ended(_) | Decision::FailJob(_) => {
                self.over = true;
                Vec::new()
            }
            _ => Vec::new(),
        };
        self.todo.extend(decisions);
    }

    fn write(&mut self, world: &World, parts: ManifestParts, fault: Option<Fault>, now: i64) -> Vec<Decision> {
        let id = parts.checkpoint;
        let manifest = parts.assemble(&shape(), &RunId("run".into()), self.storage.generation(), now).unwrap();
        *world.store.next_create.lock().unwrap() = fault;
        let written = self.storage.write_manifest(manifest);
        *world.store.next_create.lock().unwrap() = None;
        match written {
            Ok(completed) => self.protocol.manifest_written(&completed, now),
            Err(e) => self.protocol.manifest_failed(id, &e, now),
        }
    }

    /// A process that was declared dead goes on: nothing it writes may count.
    fn haunt(mut self, world: &mut World, now: i64) {
        self.zombie = true;
        let before = world.manifests();
        for step in 0..200 {
            let now = now + step;
            self.tick(now);
            (0..SINKS).for_each(|s| self.work(s, false));
            (0..=SINKS).for_each(|s| self.deliver(s, now));
            match self.todo.front() {
                // What it commits is named by the manifest that the next process has committed. Retention is not fenced: it only deletes what is old.
                Some(Decision::DeleteOld(_)) => drop(self.todo.pop_front()),
                _ => self.act(world, None, false, now),
            }
        }
        assert_eq!(world.manifests(), before, "a fenced process wrote a manifest");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Read(u8),
    Work(usize),
    DeclineWork(usize),
    Deliver(usize),
    Tick(u8),
    Act,
    ActWith(bool, bool),
    Savepoint,
    Crash { zombie: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1u8..4).prop_map(Step::Read),
        12 => (0..SINKS).prop_map(Step::Work),
        1 => (0..SINKS).prop_map(Step::DeclineWork),
        12 => (0..=SINKS).prop_map(Step::Deliver),
        6 => (1u8..30).prop_map(Step::Tick),
        12 => Just(Step::Act),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(lost, away)| Step::ActWith(lost, away)),
        1 => Just(Step::Savepoint),
        1 => any::<bool>().prop_map(|zombie| Step::Crash { zombie }),
    ];
    proptest::collection::vec(step, 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_row_becomes_visible_exactly_once(steps in steps(), end in 1u64..60) {
        let mut world = World::default();
        let mut now = 0;
        let mut process = Process::start(&mut world, now, end);
        for step in steps {
            match step {
                Step::Read(n) => (0..n).for_each(|_| process.read()),
                Step::Work(s) => process.work(s, false),
                Step::DeclineWork(s) => process.work(s, true),
                Step::Deliver(s) => process.deliver(s, now),
                Step::Tick(ms) => {
                    now += i64::from(ms);
                    process.tick(now);
                }
                Step::Act => process.act(&mut world, None, false, now),
                Step::ActWith(lost, away) => process.act(&mut world, Some(if lost { Fault::WrittenButLost } else { Fault::NotWritten }), away, now),
                Step::Savepoint => {
                    let (_, decisions) = process.protocol.request(BarrierKind::Savepoint, now);
                    process.todo.extend(decisions);
                }
                Step::Crash { zombie } => {
                    let dead = std::mem::replace(&mut process, Process::start(&mut world, now, end));
                    if zombie {
                        dead.haunt(&mut world, now);
                    }
                }
            }
            if process.over && process.todo.is_empty() {
                process = Process::start(&mut world, now, end);
            }
        }
        // In peace, everything ends.
        let mut rounds = 0;
        while !process.over {
            rounds += 1;
            prop_assert!(rounds < 10_000, "the job does not end");
            now += 10;
            process.read();
            (0..SINKS).for_each(|s| process.work(s, false));
            (0..=SINKS).for_each(|s| process.deliver(s, now));
            process.tick(now);
            (0..4).for_each(|_| process.act(&mut world, None, false, now));
        }
        let mut visible = world.visible.clone();
        visible.sort_unstable();
        prop_assert_eq!(visible, (0..end).collect::<Vec<_>>());
    }
}
