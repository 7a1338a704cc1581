//! State backends: what a table gives back, what a checkpoint writes, and what a restore with another parallelism finds.
//! Every case runs on memory and on disk.

mod keyed;
mod model;
mod pane;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use karez_core::state::{Snapshot, StateStore};
use karez_core::{CheckpointId, Error, KeyGroup, KeyGroupRange, Result};
use karez_runtime::state::{
    Backend, MemoryBudget, OperatorState, PaneSet, RestoredState, StateFileStore, StateHandle, StoreContext, WriteContext, file_prefix,
    write_snapshot,
};
use serde_json::json;

pub const KEY_GROUPS: u16 = 16;

/// Files in memory, which can be told to fail.
#[derive(Default)]
pub struct Files {
    pub files: Mutex<BTreeMap<String, Bytes>>,
    /// How many writes from now on fail.
    pub failures: AtomicUsize,
}

impl Files {
    pub fn bytes(&self) -> usize {
        self.files.lock().unwrap().values().map(Bytes::len).sum()
    }
}

impl StateFileStore for Files {
    fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(Error::external("the disk is full"));
        }
        assert!(self.files.lock().unwrap().insert(name.to_owned(), bytes).is_none(), "{name} was written twice");
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        self.files.lock().unwrap().get(name).cloned().ok_or_else(|| Error::external(format!("no file {name}")))
    }
}

/// Runs a case on each backend.
pub fn on_each_backend(case: impl Fn(&Backend)) {
    case(&Backend::Memory);
    let folder = tempfile::tempdir().unwrap();
    case(&Backend::disk(&folder.path().join("state")).unwrap());
}

pub fn range(subtask: usize, parallelism: usize) -> KeyGroupRange {
    KeyGroupRange::of_subtask(subtask, parallelism, KEY_GROUPS)
}

pub fn open(backend: &Backend, subtask: usize, parallelism: usize, restored: RestoredState) -> OperatorState {
    let account = MemoryBudget::new(None).account("count");
    backend.store(StoreContext { subtask, parallelism, key_groups: range(subtask, parallelism), account }, restored).unwrap()
}

pub fn first(backend: &Backend) -> OperatorState {
    open(backend, 0, 1, RestoredState::none())
}

pub fn write_as(snapshot: Snapshot, files: &Files, checkpoint: u64, savepoint: bool, subtask: usize, parallelism: usize) -> Result<StateHandle> {
    let prefix = file_prefix("count by user", subtask);
    write_snapshot(
        snapshot,
        &WriteContext { storage: files, checkpoint: CheckpointId(checkpoint), savepoint, prefix, key_groups: range(subtask, parallelism) },
    )
}

pub fn write(snapshot: Snapshot, files: &Files, checkpoint: u64) -> Result<StateHandle> {
    write_as(snapshot, files, checkpoint, false, 0, 1)
}

/// Through JSON, as a manifest holds it.
pub fn restored(handles: &[StateHandle], files: &Arc<Files>) -> RestoredState {
    let handles = handles.iter().map(|h| StateHandle::from_subtask_state(&h.to_subtask_state().unwrap()).unwrap().unwrap()).collect();
    RestoredState::new(handles, Arc::clone(files) as Arc<dyn StateFileStore>)
}

pub fn group_of(key: &[u8]) -> KeyGroup {
    let column: arrow::array::ArrayRef = Arc::new(arrow::array::BinaryArray::from(vec![key]));
    let mut groups = Vec::new();
    karez_core::key_group::key_groups_of(&[column], 1, KEY_GROUPS, &mut groups).unwrap();
    groups[0]
}

#[test]
fn list_states_are_dealt_out_anew_and_broadcast_states_go_to_all() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let handles: Vec<_> = (0..2)
            .map(|subtask| {
                let mut snapshot = Snapshot::default();
                snapshot.list("splits", vec![json!(subtask * 10), json!(subtask * 10 + 1)]);
                snapshot.broadcast("rules", json!({ "from": subtask }));
                write_as(snapshot, &files, 1, false, subtask, 2).unwrap()
            })
            .collect();
        let mut dealt = Vec::new();
        for subtask in 0..3 {
            let mut state = open(backend, subtask, 3, restored(&handles, &files));
            dealt.push(state.list("splits").unwrap());
            assert_eq!(state.broadcast("rules").unwrap(), Some(json!({ "from": 0 })));
        }
        assert_eq!(dealt, [vec![json!(0), json!(11)], vec![json!(1)], vec![json!(10)]]);
    });
}

#[test]
fn state_that_nobody_asks_for_is_named() {
    let files = Arc::new(Files::default());
    let mut state = first(&Backend::Memory);
    let mut table = state.keyed_table("seen").unwrap();
    let mut snapshot = Snapshot::default();
    snapshot.table("seen", table.freeze().unwrap());
    snapshot.list("splits", vec![]);
    let handle = write(snapshot, &files, 1).unwrap();
    let mut state = open(&Backend::Memory, 0, 1, restored(&[handle], &files));
    state.list("splits").unwrap();
    assert_eq!(state.unclaimed(), ["table `seen`"]);
}

#[test]
fn another_number_of_key_groups_is_refused() {
    let files = Arc::new(Files::default());
    let handle = write(Snapshot::default(), &files, 1).unwrap();
    let account = MemoryBudget::new(None).account("count");
    let key_groups = KeyGroupRange::of_subtask(0, 1, 128);
    let context = StoreContext { subtask: 0, parallelism: 1, key_groups, account };
    let error = Backend::Memory.store(context, restored(&[handle], &files)).err().unwrap().to_string();
    assert!(error.contains("16 key groups") && error.contains("128"), "{error}");
}

#[test]
fn a_budget_names_the_operator_that_holds_most() {
    let budget = MemoryBudget::new(Some(1 << 20));
    let (small, large) = (budget.account("small"), budget.account("large"));
    small.set(1 << 10);
    large.set(1 << 20);
    let error = budget.check().unwrap_err().to_string();
    assert!(error.starts_with("large: ") && error.contains("limit of 1.0 MiB") && error.contains("state.backend: disk"), "{error}");
    drop(large);
    budget.check().unwrap();
    assert_eq!(budget.used(), 1 << 10);
}

#[test]
fn panes_at_regular_intervals_take_little_room_in_a_manifest() {
    let panes = PaneSet((0..1000).map(|i| 60_000 * i - 3).chain([7, 8]).collect());
    let text = serde_json::to_string(&panes).unwrap();
    assert!(text.len() < 80, "{text}");
    assert_eq!(serde_json::from_str::<PaneSet>(&text).unwrap(), panes);
    let odd = PaneSet([i64::MIN, -1, 0, i64::MAX].into());
    assert_eq!(serde_json::from_str::<PaneSet>(&serde_json::to_string(&odd).unwrap()).unwrap(), odd);
}
