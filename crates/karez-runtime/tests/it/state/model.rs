//! Random changes, checkpoints, failures and restores against plain maps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use karez_core::state::{KeyedTable, PaneTable, Snapshot, StateStore};
use karez_runtime::state::{Backend, StateHandle};
use proptest::prelude::*;

use super::pane::{group, partials, read, schema};
use super::{Files, group_of, open, range, restored, write_as};

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u8, Option<u8>),
    Delete(u8),
    Pass(u8),
    Append(u8, u8, u8),
    Drop(u8),
    Replace(u8),
    Checkpoint(Attempt),
    Restore(u8),
}

#[derive(Clone, Copy, Debug)]
enum Attempt {
    Completes,
    Savepoint,
    WriteFails,
    IsNeverWritten,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let attempt = prop_oneof![
        5 => Just(Attempt::Completes),
        1 => Just(Attempt::Savepoint),
        1 => Just(Attempt::WriteFails),
        1 => Just(Attempt::IsNeverWritten)
    ];
    let op = prop_oneof![
        8 => (0..20_u8, any::<u8>(), proptest::option::of(0..40_u8)).prop_map(|(k, v, ttl)| Op::Put(k, v, ttl)),
        3 => (0..20_u8).prop_map(Op::Delete),
        2 => (0..20_u8).prop_map(Op::Pass),
        6 => (0..5_u8, 0..20_u8, any::<u8>()).prop_map(|(p, k, v)| Op::Append(p, k, v)),
        1 => (0..5_u8).prop_map(Op::Drop),
        1 => (0..5_u8).prop_map(Op::Replace),
        4 => attempt.prop_map(Op::Checkpoint),
        1 => (1..4_u8).prop_map(Op::Restore),
    ];
    proptest::collection::vec(op, 1..120)
}

#[derive(Clone, Default)]
struct Model {
    entries: BTreeMap<u8, (u8, i64)>,
    panes: BTreeMap<i64, BTreeMap<i64, Vec<i64>>>,
}

struct Subtask {
    keyed: Box<dyn KeyedTable>,
    panes: Box<dyn PaneTable>,
}

struct World<'a> {
    backend: &'a Backend,
    files: Arc<Files>,
    subtasks: Vec<Subtask>,
    now: i64,
    checkpoint: u64,
    model: Model,
    completed: (Vec<StateHandle>, Model),
}

impl<'a> World<'a> {
    fn new(backend: &'a Backend) -> Self {
        let mut world =
            Self { backend, files: Arc::default(), subtasks: vec![], now: 0, checkpoint: 0, model: Model::default(), completed: Default::default() };
        world.restore(1);
        world
    }

    fn restore(&mut self, parallelism: usize) {
        let (handles, model) = &self.completed;
        self.model = model.clone();
        self.subtasks = (0..parallelism)
            .map(|s| {
                let mut state = open(self.backend, s, parallelism, restored(handles, &self.files));
                Subtask { keyed: state.keyed_table("k").unwrap(), panes: state.pane_table("p", schema(), 1).unwrap() }
            })
            .collect();
        self.check();
    }

    fn keyed(&mut self, key: u8) -> &mut dyn KeyedTable {
        let n = self.subtasks.len();
        let at = (0..n).find(|&s| range(s, n).contains(group_of(&[key]))).unwrap();
        &mut *self.subtasks[at].keyed
    }

    fn panes(&mut self, key: i64) -> &mut dyn PaneTable {
        let n = self.subtasks.len();
        let at = (0..n).find(|&s| range(s, n).contains(group(key))).unwrap();
        &mut *self.subtasks[at].panes
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Put(k, v, ttl) => {
                let expires = ttl.map_or(i64::MAX, |t| self.now + i64::from(t));
                self.keyed(k).put(group_of(&[k]), &[k], Bytes::copy_from_slice(&[v]), expires).unwrap();
                self.model.entries.insert(k, (v, expires));
            }
            Op::Delete(k) => {
                self.keyed(k).delete(group_of(&[k]), &[k]).unwrap();
                self.model.entries.remove(&k);
            }
            Op::Pass(ms) => {
                self.now += i64::from(ms);
                let now = self.now;
                for s in &mut self.subtasks {
                    assert!(s.keyed.expire(now, 3).unwrap() <= 3);
                }
            }
            Op::Append(p, k, v) => {
                self.panes(k.into()).append(p.into(), partials(&[(k.into(), v.into())])).unwrap();
                self.model.panes.entry(p.into()).or_default().entry(k.into()).or_default().push(v.into());
            }
            Op::Drop(p) => {
                self.subtasks.iter_mut().for_each(|s| s.panes.drop_pane(p.into()).unwrap());
                self.model.panes.remove(&i64::from(p));
            }
            Op::Replace(p) => {
                for s in &mut self.subtasks {
                    let sums: Vec<_> = read(&*s.panes, p.into()).into_iter().map(|(k, v)| (k, v.iter().sum())).collect();
                    s.panes.replace(p.into(), vec![partials(&sums)]).unwrap();
                }
                for sums in self.model.panes.get_mut(&i64::from(p)).into_iter().flat_map(BTreeMap::values_mut) {
                    *sums = vec![sums.iter().sum()];
                }
            }
            Op::Checkpoint(attempt) => self.checkpoint(attempt),
            Op::Restore(parallelism) => self.restore(parallelism.into()),
        }
    }

    fn checkpoint(&mut self, attempt: Attempt) {
        self.checkpoint += 1;
        let n = self.subtasks.len();
        let snapshots: Vec<Snapshot> = self
            .subtasks
            .iter_mut()
            .map(|s| {
                let mut snapshot = Snapshot::default();
                snapshot.table("k", s.keyed.freeze().unwrap());
                snapshot.table("p", s.panes.freeze().unwrap());
                snapshot
            })
            .collect();
        if matches!(attempt, Attempt::IsNeverWritten) {
            return;
        }
        self.files.failures.store(usize::from(matches!(attempt, Attempt::WriteFails)), Ordering::SeqCst);
        let is_savepoint = matches!(attempt, Attempt::Savepoint);
        let written = snapshots.into_iter().enumerate().map(|(s, snapshot)| write_as(snapshot, &self.files, self.checkpoint, is_savepoint, s, n));
        let handles: Result<Vec<_>, _> = written.collect();
        if let Ok(handles) = handles {
            self.completed = (handles, self.model.clone());
        }
    }

    fn check(&mut self) {
        let now = self.now;
        let mut found = BTreeMap::new();
        for k in 0..20 {
            let value = self.keyed(k).get(group_of(&[k]), &[k], now).unwrap();
            found.extend(value.map(|v| (k, v[0])));
        }
        let expected: BTreeMap<u8, u8> = self.model.entries.iter().filter(|(_, (_, e))| *e > now).map(|(k, (v, _))| (*k, *v)).collect();
        assert_eq!(found, expected);
        for s in &self.subtasks {
            let scanned = s.keyed.scan(None, 1000).unwrap();
            assert_eq!(scanned.len(), s.keyed.len());
        }
        let mut panes: BTreeMap<i64, BTreeMap<i64, Vec<i64>>> = BTreeMap::new();
        for s in &self.subtasks {
            for pane in s.panes.panes() {
                panes.entry(pane).or_default().extend(read(&*s.panes, pane));
            }
        }
        assert_eq!(panes, self.model.panes);
    }
}

fn run(backend: &Backend, ops: &[Op]) {
    let mut world = World::new(backend);
    for op in ops {
        world.apply(op);
        world.check();
    }
    world.checkpoint(Attempt::Completes);
    world.restore(2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn memory_behaves_like_plain_maps(ops in ops()) {
        run(&Backend::Memory, &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn disk_behaves_like_plain_maps(ops in ops()) {
        let folder = tempfile::tempdir().unwrap();
        run(&Backend::disk(folder.path()).unwrap(), &ops);
    }
}
