//! Pane tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use karez_core::state::{PaneTable, Snapshot, StateStore};
use karez_runtime::state::{Backend, RestoredState, StateHandle};

use super::{Files, KEY_GROUPS, first, on_each_backend, open, range, restored, write, write_as};

pub fn schema() -> SchemaRef {
    let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![Field::new("user", DataType::Int64, true), Field::new("sum", DataType::Int64, true), Field::new("note", text, true)]))
}

/// Partials of `(key, sum)`.
pub fn partials(rows: &[(i64, i64)]) -> RecordBatch {
    let (keys, sums): (Vec<i64>, Vec<i64>) = rows.iter().copied().unzip();
    let notes: DictionaryArray<Int32Type> = rows.iter().map(|(k, _)| if k % 2 == 0 { "even" } else { "odd" }).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(keys)), Arc::new(Int64Array::from(sums)), Arc::new(notes)];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// The sums of each key of a pane, in order.
pub fn read(table: &dyn PaneTable, pane: i64) -> BTreeMap<i64, Vec<i64>> {
    let mut found: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for batch in table.read(pane).unwrap() {
        assert_eq!(batch.schema(), schema());
        let (keys, sums) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Int64Type>());
        for (k, s) in keys.values().iter().zip(sums.values()) {
            found.entry(*k).or_default().push(*s);
        }
    }
    found
}

pub fn table(backend: &Backend) -> Box<dyn PaneTable> {
    first(backend).pane_table("t", schema(), 1).unwrap()
}

pub fn freeze(table: &mut dyn PaneTable) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.table("t", table.freeze().unwrap());
    snapshot
}

fn restore(backend: &Backend, handle: &StateHandle, files: &Arc<Files>) -> Box<dyn PaneTable> {
    open(backend, 0, 1, restored(std::slice::from_ref(handle), files)).pane_table("t", schema(), 1).unwrap()
}

#[test]
fn a_pane_gives_back_what_was_added_until_it_is_dropped() {
    on_each_backend(|backend| {
        let mut table = table(backend);
        table.append(20, partials(&[(1, 10), (2, 20)])).unwrap();
        table.append(-5, partials(&[(3, 30)])).unwrap();
        table.append(20, partials(&[(1, 11)])).unwrap();
        assert_eq!(table.panes(), [-5, 20]);
        assert_eq!(read(&*table, 20), BTreeMap::from([(1, vec![10, 11]), (2, vec![20])]));
        table.replace(20, vec![partials(&[(1, 21), (2, 20)])]).unwrap();
        assert_eq!(read(&*table, 20), BTreeMap::from([(1, vec![21]), (2, vec![20])]));
        table.drop_pane(20).unwrap();
        table.drop_pane(-5).unwrap();
        assert_eq!((table.panes(), table.memory_bytes()), (vec![], 0));
    });
}

#[test]
fn what_is_added_or_dropped_after_a_barrier_is_not_in_its_checkpoint() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = table(backend);
        table.append(1, partials(&[(1, 10)])).unwrap();
        table.append(2, partials(&[(2, 20)])).unwrap();
        let at_barrier = freeze(&mut *table);
        table.append(1, partials(&[(1, 11)])).unwrap();
        table.drop_pane(2).unwrap();
        let handle = write(at_barrier, &files, 1).unwrap();
        let old = restore(backend, &handle, &files);
        assert_eq!((old.panes(), read(&*old, 1), read(&*old, 2)), (vec![1, 2], BTreeMap::from([(1, vec![10])]), BTreeMap::from([(2, vec![20])])));
        let new = restore(backend, &write(freeze(&mut *table), &files, 2).unwrap(), &files);
        assert_eq!((new.panes(), read(&*new, 1)), (vec![1], BTreeMap::from([(1, vec![10, 11])])));
    });
}

#[test]
fn a_pane_that_was_dropped_and_begun_again_holds_its_new_rows_alone() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = table(backend);
        table.append(1, partials(&[(1, 10)])).unwrap();
        write(freeze(&mut *table), &files, 1).unwrap();
        table.drop_pane(1).unwrap();
        table.append(1, partials(&[(1, 99)])).unwrap();
        let handle = write(freeze(&mut *table), &files, 2).unwrap();
        assert_eq!(handle.files().len(), 1);
        assert_eq!(read(&*restore(backend, &handle, &files), 1), BTreeMap::from([(1, vec![99])]));
    });
}

#[test]
fn a_file_whose_panes_have_all_fired_leaves_the_handle() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = table(backend);
        table.append(1, partials(&[(1, 10)])).unwrap();
        write(freeze(&mut *table), &files, 1).unwrap();
        table.append(2, partials(&[(1, 20)])).unwrap();
        table.drop_pane(1).unwrap();
        let handle = write(freeze(&mut *table), &files, 2).unwrap();
        assert_eq!(handle.tables["t"].files.iter().map(|f| f.checkpoint).collect::<Vec<_>>(), [2]);
    });
}

#[test]
fn a_checkpoint_writes_only_the_partials_that_are_new() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = table(backend);
        let many: Vec<_> = (0..50_000).map(|k| (k, k)).collect();
        table.append(1, partials(&many)).unwrap();
        write(freeze(&mut *table), &files, 1).unwrap();
        let before = files.bytes();
        table.append(1, partials(&many[..500])).unwrap();
        let handle = write(freeze(&mut *table), &files, 2).unwrap();
        assert!((files.bytes() - before) * 20 < before);
        assert_eq!(read(&*restore(backend, &handle, &files), 1), read(&*table, 1));
    });
}

#[test]
fn what_a_failed_attempt_froze_is_in_the_next_checkpoint() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = table(backend);
        table.append(1, partials(&[(1, 10)])).unwrap();
        table.append(2, partials(&[(1, 10)])).unwrap();
        files.failures.store(1, Ordering::SeqCst);
        write(freeze(&mut *table), &files, 1).unwrap_err();
        table.drop_pane(2).unwrap();
        table.append(1, partials(&[(1, 11)])).unwrap();
        drop(freeze(&mut *table));
        table.append(1, partials(&[(1, 12)])).unwrap();
        let handle = write(freeze(&mut *table), &files, 3).unwrap();
        let back = restore(backend, &handle, &files);
        assert_eq!((back.panes(), read(&*back, 1)), (vec![1], BTreeMap::from([(1, vec![10, 11, 12])])));
    });
}

#[test]
fn many_checkpoints_leave_few_files_and_all_rows_in_order() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = table(backend);
        let mut handle = None;
        for checkpoint in 1..=60 {
            table.append(7, partials(&[(1, checkpoint), (checkpoint, 0)])).unwrap();
            table.append(100 + checkpoint, partials(&[(5, 5)])).unwrap();
            table.drop_pane(100 + checkpoint - 3).unwrap();
            handle = Some(write(freeze(&mut *table), &files, checkpoint as u64).unwrap());
        }
        let handle = handle.unwrap();
        assert!(handle.files().len() <= 12, "{:?}", handle.files());
        let back = restore(backend, &handle, &files);
        assert_eq!((back.panes(), read(&*back, 7)), (table.panes(), read(&*table, 7)));
    });
}

#[test]
fn rows_find_their_subtask_when_parallelism_changes() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut handles: Vec<StateHandle> = Vec::new();
        for (checkpoint, parallelism) in [(1_u64, 1_usize), (2, 3), (3, 2)] {
            let mut written = Vec::new();
            for subtask in 0..parallelism {
                let mut table = open(backend, subtask, parallelism, restored(&handles, &files)).pane_table("t", schema(), 1).unwrap();
                let mine: Vec<_> = (0..300_i64).filter(|k| range(subtask, parallelism).contains(group(*k))).map(|k| (k, checkpoint as i64)).collect();
                table.append(1, partials(&mine)).unwrap();
                written.push(write_as(freeze(&mut *table), &files, checkpoint, false, subtask, parallelism).unwrap());
            }
            handles = written;
        }
        let back = open(backend, 0, 1, restored(&handles, &files)).pane_table("t", schema(), 1).unwrap();
        assert_eq!(read(&*back, 1), (0..300).map(|k| (k, vec![1, 2, 3])).collect());
    });
}

#[test]
fn a_savepoint_refers_to_its_own_files_alone() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = table(backend);
        table.append(1, partials(&[(1, 10)])).unwrap();
        let before = write(freeze(&mut *table), &files, 1).unwrap();
        table.append(1, partials(&[(1, 11)])).unwrap();
        let savepoint = write_as(freeze(&mut *table), &files, 2, true, 0, 1).unwrap();
        assert!(savepoint.files().is_disjoint(&before.files()));
        assert_eq!(read(&*restore(backend, &savepoint, &files), 1), BTreeMap::from([(1, vec![10, 11])]));
    });
}

#[test]
fn state_of_another_schema_is_refused_and_the_difference_named() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = table(backend);
        table.append(1, partials(&[(1, 10)])).unwrap();
        let handle = write(freeze(&mut *table), &files, 1).unwrap();
        let text = schema().field(2).clone();
        let with = |fields: Vec<Field>| {
            let restored = restored(std::slice::from_ref(&handle), &files);
            open(backend, 0, 1, restored).pane_table("t", Arc::new(Schema::new(fields)), 1).err().unwrap().to_string()
        };
        let int = |name: &str| Field::new(name, DataType::Int64, true);
        let error = with(vec![int("user"), Field::new("sum", DataType::Float64, true), text.clone()]);
        assert!(error.contains("table `t`") && error.contains("column `sum` is Int64 there and Float64 in the job"), "{error}");
        let error = with(vec![int("user"), int("total"), text]);
        assert!(error.contains("`sum` there and `total` in the job"), "{error}");
        let error = with(vec![int("user"), int("sum")]);
        assert!(error.contains("user, sum, note"), "{error}");
        let kind = open(backend, 0, 1, restored(std::slice::from_ref(&handle), &files)).keyed_table("t").err().unwrap().to_string();
        assert!(kind.contains("table `t` is a Pane table"), "{kind}");
    });
}

#[test]
fn rows_of_another_subtask_fail_the_checkpoint_rather_than_vanish_at_a_restore() {
    let files = Files::default();
    let mut table = open(&Backend::Memory, 0, 2, RestoredState::none()).pane_table("t", schema(), 1).unwrap();
    table.append(1, partials(&(0..100).map(|k| (k, 0)).collect::<Vec<_>>())).unwrap();
    let error = write_as(freeze(&mut *table), &files, 1, false, 0, 2).unwrap_err().to_string();
    assert!(error.contains("key group"), "{error}");
}

pub fn group(key: i64) -> karez_core::KeyGroup {
    let mut groups = Vec::new();
    karez_core::key_group::key_groups_of(&[Arc::new(Int64Array::from(vec![key])) as ArrayRef], 1, KEY_GROUPS, &mut groups).unwrap();
    groups[0]
}
