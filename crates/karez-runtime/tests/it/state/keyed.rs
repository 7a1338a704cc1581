//! Keyed tables.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use karez_core::KeyGroup;
use karez_core::state::{KeyedTable, Snapshot, StateStore};
use karez_runtime::state::{Backend, StateHandle};

use super::{Files, KEY_GROUPS, first, group_of, on_each_backend, open, restored, write, write_as};

const NEVER: i64 = i64::MAX;

fn put(table: &mut dyn KeyedTable, key: &str, value: &str) {
    table.put(group_of(key.as_bytes()), key.as_bytes(), Bytes::from(value.to_owned()), NEVER).unwrap();
}

fn get(table: &mut dyn KeyedTable, key: &str) -> Option<String> {
    let value = table.get(group_of(key.as_bytes()), key.as_bytes(), 0).unwrap();
    value.map(|v| String::from_utf8(v.to_vec()).unwrap())
}

fn delete(table: &mut dyn KeyedTable, key: &str) {
    table.delete(group_of(key.as_bytes()), key.as_bytes()).unwrap();
}

fn freeze(table: &mut dyn KeyedTable) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.table("t", table.freeze().unwrap());
    snapshot
}

fn restore(backend: &Backend, handle: &StateHandle, files: &Arc<Files>) -> Box<dyn KeyedTable> {
    open(backend, 0, 1, restored(std::slice::from_ref(handle), files)).keyed_table("t").unwrap()
}

#[test]
fn a_key_has_the_value_put_last_until_it_is_deleted() {
    on_each_backend(|backend| {
        let mut table = first(backend).keyed_table("t").unwrap();
        put(&mut *table, "a", "1");
        put(&mut *table, "a", "2");
        put(&mut *table, "b", "");
        assert_eq!((get(&mut *table, "a"), get(&mut *table, "b"), get(&mut *table, "c")), (Some("2".into()), Some(String::new()), None));
        assert_eq!(table.len(), 2);
        delete(&mut *table, "a");
        delete(&mut *table, "never there");
        assert_eq!((get(&mut *table, "a"), table.len()), (None, 1));
    });
}

#[test]
fn an_expired_value_is_not_given_and_its_memory_is_freed() {
    on_each_backend(|backend| {
        let mut table = first(backend).keyed_table("t").unwrap();
        let keys: Vec<String> = (0..1000).map(|i| format!("key {i}")).collect();
        for (i, key) in keys.iter().enumerate() {
            table.put(group_of(key.as_bytes()), key.as_bytes(), Bytes::from_static(b"v"), i as i64).unwrap();
        }
        let full = table.memory_bytes();
        let key = keys[499].as_bytes();
        assert!(table.get(group_of(key), key, 498).unwrap().is_some());
        assert!(table.get(group_of(key), key, 499).unwrap().is_none());
        assert_eq!(table.expire(499, 300).unwrap(), 300);
        assert_eq!(table.expire(499, 300).unwrap(), 200);
        assert_eq!((table.expire(499, 300).unwrap(), table.len()), (0, 500));
        if matches!(backend, Backend::Memory) {
            assert!(table.memory_bytes() < full * 6 / 10);
        }
    });
}

#[test]
fn a_time_to_live_that_was_prolonged_or_shortened_counts_as_set_last() {
    on_each_backend(|backend| {
        let mut table = first(backend).keyed_table("t").unwrap();
        let mut set = |key: &[u8], expires| table.put(group_of(key), key, Bytes::from_static(b"v"), expires).unwrap();
        set(b"longer", 10);
        set(b"longer", 100);
        set(b"shorter", 100);
        set(b"shorter", 10);
        set(b"for ever", 10);
        set(b"for ever", NEVER);
        assert_eq!((table.expire(50, 100).unwrap(), table.len()), (1, 2));
        assert_eq!((table.expire(100, 100).unwrap(), table.len()), (1, 1));
        assert_eq!((table.expire(NEVER, 100).unwrap(), table.len()), (0, 1));
    });
}

#[test]
fn a_scan_visits_every_key_once_in_order_while_others_change() {
    on_each_backend(|backend| {
        let mut table = first(backend).keyed_table("t").unwrap();
        for i in 0..500 {
            put(&mut *table, &format!("key {i}"), "v");
        }
        let mut seen: Vec<(KeyGroup, Bytes)> = Vec::new();
        loop {
            let cursor = seen.last().map(|(g, k)| (*g, k.to_vec()));
            let some = table.scan(cursor.as_ref().map(|(g, k)| (*g, k.as_slice())), 7).unwrap();
            assert!(some.len() <= 7);
            if some.is_empty() {
                break;
            }
            seen.extend(some.into_iter().map(|(g, k, _)| (g, k)));
            let (group, key) = seen.last().cloned().unwrap();
            table.delete(group, &key).unwrap();
        }
        assert_eq!(seen.len(), 500);
        assert!(seen.windows(2).all(|w| w[0] < w[1]));
    });
}

#[test]
fn what_changes_after_a_barrier_is_not_in_its_checkpoint() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = first(backend).keyed_table("t").unwrap();
        put(&mut *table, "changed", "before");
        put(&mut *table, "deleted", "before");
        let at_barrier = freeze(&mut *table);
        put(&mut *table, "changed", "after");
        delete(&mut *table, "deleted");
        put(&mut *table, "new", "after");
        let handle = write(at_barrier, &files, 1).unwrap();
        assert_eq!(get(&mut *table, "changed"), Some("after".into()));
        let mut old = restore(backend, &handle, &files);
        assert_eq!(
            (get(&mut *old, "changed"), get(&mut *old, "deleted"), get(&mut *old, "new")),
            (Some("before".into()), Some("before".into()), None)
        );
        let handle = write(freeze(&mut *table), &files, 2).unwrap();
        let mut new = restore(backend, &handle, &files);
        assert_eq!((get(&mut *new, "changed"), get(&mut *new, "deleted"), get(&mut *new, "new")), (Some("after".into()), None, Some("after".into())));
        assert_eq!(new.len(), 2);
    });
}

#[test]
fn a_checkpoint_writes_in_proportion_to_what_changed() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = first(backend).keyed_table("t").unwrap();
        for i in 0..20_000 {
            put(&mut *table, &format!("key {i}"), "some value");
        }
        let whole = write(freeze(&mut *table), &files, 1).unwrap();
        let before = files.bytes();
        for i in 0..200 {
            put(&mut *table, &format!("key {}", i * 100), "another value");
        }
        let handle = write(freeze(&mut *table), &files, 2).unwrap();
        let written = files.bytes() - before;
        assert!(written * 20 < before, "{written} of {before}");
        assert!(whole.files().is_subset(&handle.files()));
        let unchanged = write(freeze(&mut *table), &files, 3).unwrap();
        assert_eq!(unchanged.files(), handle.files());
        assert_eq!(get(&mut *restore(backend, &unchanged, &files), "key 100"), Some("another value".into()));
    });
}

#[test]
fn the_number_of_files_stays_small_and_all_files_stay_near_the_size_of_the_state() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = first(backend).keyed_table("t").unwrap();
        let mut handle = None;
        for checkpoint in 1..=100 {
            for i in 0..50 {
                put(&mut *table, &format!("key {}", (checkpoint * 37 + i) % 400), &format!("{checkpoint}"));
            }
            handle = Some(write(freeze(&mut *table), &files, checkpoint).unwrap());
        }
        let handle = handle.unwrap();
        assert!(handle.files().len() <= 12, "{:?}", handle.files());
        assert!(handle.tables["t"].files.iter().map(|f| f.rows).sum::<u64>() < 1500);
        let mut back = restore(backend, &handle, &files);
        assert_eq!(back.len(), 400);
        for i in 0..400 {
            assert_eq!(get(&mut *back, &format!("key {i}")), get(&mut *table, &format!("key {i}")));
        }
    });
}

#[test]
fn what_a_failed_attempt_froze_is_in_the_next_checkpoint() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = first(backend).keyed_table("t").unwrap();
        put(&mut *table, "a", "of 1, whose write fails");
        files.failures.store(1, Ordering::SeqCst);
        write(freeze(&mut *table), &files, 1).unwrap_err();
        put(&mut *table, "b", "of 2, never written");
        drop(freeze(&mut *table));
        put(&mut *table, "c", "of 3, written, without a manifest");
        let third = write(freeze(&mut *table), &files, 3).unwrap();
        assert_eq!(write(freeze(&mut *table), &files, 4).unwrap().files(), third.files());
        delete(&mut *table, "c");
        let handle = write(freeze(&mut *table), &files, 5).unwrap();
        let mut back = restore(backend, &handle, &files);
        assert_eq!(back.len(), 2);
        assert!(get(&mut *back, "a").is_some() && get(&mut *back, "b").is_some());
    });
}

#[test]
fn an_attempt_that_was_overtaken_fails_and_loses_nothing() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = first(backend).keyed_table("t").unwrap();
        put(&mut *table, "a", "1");
        let slow = freeze(&mut *table);
        put(&mut *table, "b", "2");
        let handle = write(freeze(&mut *table), &files, 2).unwrap();
        assert!(write(slow, &files, 1).unwrap_err().is_retryable());
        assert_eq!(restore(backend, &handle, &files).len(), 2);
    });
}

#[test]
fn a_savepoint_refers_to_its_own_files_alone() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = first(backend).keyed_table("t").unwrap();
        put(&mut *table, "a", "1");
        put(&mut *table, "gone", "1");
        let first = write(freeze(&mut *table), &files, 1).unwrap();
        delete(&mut *table, "gone");
        let savepoint = write_as(freeze(&mut *table), &files, 2, true, 0, 1).unwrap();
        assert!(savepoint.files().is_disjoint(&first.files()));
        assert_eq!(savepoint.tables["t"].files.iter().map(|f| (f.checkpoint, f.rows)).collect::<Vec<_>>(), [(2, 1)]);
        assert_eq!(restore(backend, &savepoint, &files).len(), 1);
    });
}

#[test]
fn an_expired_key_does_not_come_back_with_an_older_value() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = first(backend).keyed_table("t").unwrap();
        let set = |table: &mut dyn KeyedTable, expires| table.put(group_of(b"k"), b"k", Bytes::from_static(b"v"), expires).unwrap();
        set(&mut *table, 1000);
        write(freeze(&mut *table), &files, 1).unwrap();
        // Shortened and freed between two barriers: no file has ever seen the shorter life.
        set(&mut *table, 10);
        assert_eq!(table.expire(20, 10).unwrap(), 1);
        let handle = write(freeze(&mut *table), &files, 2).unwrap();
        assert_eq!(restore(backend, &handle, &files).len(), 0);
        // Freed after a file has seen it: the file says it lives, the handle that it does not.
        set(&mut *table, 30);
        write(freeze(&mut *table), &files, 3).unwrap();
        assert_eq!(table.expire(40, 10).unwrap(), 1);
        let handle = write(freeze(&mut *table), &files, 4).unwrap();
        assert_eq!(restore(backend, &handle, &files).len(), 0);
    });
}

#[test]
fn keys_find_their_subtask_when_parallelism_changes() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut handles = Vec::new();
        let mut parallelism = 1;
        for (checkpoint, next) in [(1, 3), (2, 2), (3, 1)] {
            let mut written = Vec::new();
            for subtask in 0..parallelism {
                let mut table = open(backend, subtask, parallelism, restored(&handles, &files)).keyed_table("t").unwrap();
                for i in 0..600 {
                    let key = format!("key {i}");
                    let group = group_of(key.as_bytes());
                    if !super::range(subtask, parallelism).contains(group) {
                        continue;
                    }
                    let old = table.get(group, key.as_bytes(), 0).unwrap();
                    assert_eq!(old.is_some(), checkpoint > 1, "{key}");
                    // A third of the keys changes in each round.
                    if checkpoint == 1 || i % 3 == checkpoint % 3 {
                        put(&mut *table, &key, &format!("{checkpoint}"));
                    }
                }
                written.push(write_as(freeze(&mut *table), &files, checkpoint, false, subtask, parallelism).unwrap());
            }
            (handles, parallelism) = (written, next);
        }
        let mut table = open(backend, 0, 1, restored(&handles, &files)).keyed_table("t").unwrap();
        assert_eq!(table.len(), 600);
        for i in 0..600_u64 {
            let newest = (1..=3).rev().find(|c| *c == 1 || i % 3 == c % 3).unwrap();
            assert_eq!(get(&mut *table, &format!("key {i}")), Some(newest.to_string()));
        }
    });
}

#[test]
fn a_torn_or_corrupt_file_is_named() {
    on_each_backend(|backend| {
        let files = Arc::new(Files::default());
        let mut table = first(backend).keyed_table("t").unwrap();
        put(&mut *table, "a", "1");
        let handle = write(freeze(&mut *table), &files, 1).unwrap();
        let name = handle.files().into_iter().next().unwrap().to_owned();
        let whole = files.files.lock().unwrap()[&name].clone();
        let mut flipped = whole.to_vec();
        flipped[whole.len() / 2] ^= 1;
        let mut newer = whole.to_vec();
        newer[7] = 9;
        for (bad, says) in
            [(whole.slice(..whole.len() / 2), "torn"), (Bytes::new(), "torn"), (flipped.into(), "checksum"), (newer.into(), "version 9")]
        {
            files.files.lock().unwrap().insert(name.clone(), bad);
            let error = open(backend, 0, 1, restored(std::slice::from_ref(&handle), &files)).keyed_table("t").err().unwrap();
            assert_eq!(error.whose(), karez_core::Whose::User, "a restart would read the same file again");
            let error = error.to_string();
            assert!(error.contains(&name) && error.contains(says), "{error}");
        }
    });
}

#[test]
fn a_key_of_another_subtask_is_refused() {
    on_each_backend(|backend| {
        let mut table = open(backend, 0, 2, karez_runtime::state::RestoredState::none()).keyed_table("t").unwrap();
        table.put(KeyGroup(KEY_GROUPS - 1), b"k", Bytes::new(), NEVER).unwrap_err();
    });
}
