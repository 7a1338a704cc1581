//! Checkpoints on real disks: the lock, runs, fences, torn and missing files, retention, savepoints, full disks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use karez_core::{CheckpointId, Committable, Epoch, Error, Result};
use karez_runtime::checkpoint::manifest::{OperatorManifest, SinkManifest};
use karez_runtime::checkpoint::recovery::SinkMarker;
use karez_runtime::checkpoint::retention::{Keep, collect};
use karez_runtime::checkpoint::store::{Creation, DurableStore, LocalStore, MemoryStore, RemoteStore, StoreCalls};
use karez_runtime::checkpoint::{
    CheckpointStorage, FallbackFacts, JobNode, JobShape, Manifest, ManifestKind, NodeRole, OpenedRun, RunDirectory, Start, SubtaskState,
    check_compatible, savepoint,
};
use serde_json::json;

fn open(dir: &Path, start: &Start) -> OpenedRun {
    RunDirectory::open(dir, "job", start, None, StoreCalls::default(), 1_000).unwrap()
}

fn manifest(storage: &CheckpointStorage, run: &karez_core::RunId, id: u64, files: &[&str], committables: &[u64]) -> Manifest {
    let state = SubtaskState { state: json!({ "id": id }), files: files.iter().map(|f| (*f).to_owned()).collect() };
    let operator = OperatorManifest { type_name: "window-aggregate".into(), identity: "sum(x)".into(), parallelism: 1, subtasks: vec![state] };
    let committables = committables.iter().map(|&e| Committable { epoch: Epoch(e), subtask: 0, payload: json!(format!("rows {e}")) }).collect();
    let sink = SinkManifest { type_name: "file".into(), identity: String::new(), parallelism: 1, writers: Vec::new(), committables };
    Manifest {
        job: "job".into(),
        run: run.clone(),
        generation: storage.generation(),
        checkpoint: CheckpointId(id),
        epoch: Epoch(id),
        kind: ManifestKind::Checkpoint,
        created_ms: 0,
        karez: "test".into(),
        key_groups: 128,
        finished: false,
        stopped: false,
        origin: None,
        operators: BTreeMap::from([("sum".to_owned(), operator)]),
        sources: BTreeMap::new(),
        sinks: BTreeMap::from([("out".to_owned(), sink)]),
        replays: Vec::new(),
    }
}

/// A checkpoint with one new file, named after it, and others.
fn checkpoint(opened: &OpenedRun, id: u64, others: &[&str], committables: &[u64]) {
    let own = format!("f{id}");
    opened.storage.begin_attempt(CheckpointId(id)).unwrap();
    opened.storage.put_file(&own, &Bytes::from(own.clone())).unwrap();
    let files: Vec<&str> = [own.as_str()].into_iter().chain(others.iter().copied()).collect();
    opened.storage.write_manifest(manifest(&opened.storage, &opened.run, id, &files, committables)).unwrap();
}

fn restored(opened: &OpenedRun) -> Option<u64> {
    opened.recovery.choose(&FallbackFacts::default()).unwrap().map(|c| c.manifest().checkpoint.0)
}

fn files(opened: &OpenedRun) -> Vec<String> {
    opened.storage.store().list("files").unwrap()
}

#[test]
fn a_job_runs_in_one_process_only_and_the_error_names_the_holder() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), &Start::Resume);
    let error = RunDirectory::open(dir.path(), "job", &Start::Resume, None, StoreCalls::default(), 2_000).unwrap_err().to_string();
    for word in [format!("process {}", std::process::id()), "since 1970-01-01T00:00:01Z".into(), "karez stop job".into()] {
        assert!(error.contains(&word), "{word}: {error}");
    }
    RunDirectory::open(dir.path(), "another", &Start::Resume, None, StoreCalls::default(), 2_000).unwrap();
    drop(first);
    open(dir.path(), &Start::Resume);
}

#[test]
fn a_run_is_resumed_until_it_has_finished() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), &Start::Resume);
    let (run, generation) = (first.run.clone(), first.generation);
    assert!(!first.resumed && run.0.len() == 12);
    drop(first);
    let second = RunDirectory::open(dir.path(), "job", &Start::Resume, None, StoreCalls::default(), 9_000).unwrap();
    assert!(second.resumed && second.run == run && second.generation > generation);
    assert_eq!(second.scheduled_ms, 1_000, "the time of the first start is kept");
    second.directory.finish(9_500).unwrap();
    drop(second);
    let third = RunDirectory::open(dir.path(), "job", &Start::Resume, None, StoreCalls::default(), 10_000).unwrap();
    assert!(!third.resumed && third.run != run && third.scheduled_ms == 10_000);
    let run = third.run.clone();
    drop(third);
    assert_ne!(open(dir.path(), &Start::Fresh).run, run);
}

#[test]
fn a_job_id_cannot_leave_the_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    for id in ["", "..", "a/b", "a\0b", ".hidden"] {
        assert!(RunDirectory::open(dir.path(), id, &Start::Resume, None, StoreCalls::default(), 0).is_err(), "{id}");
    }
    // Letters of any script name a folder as well as Latin ones.
    assert!(RunDirectory::open(dir.path(), "用户-数据", &Start::Resume, None, StoreCalls::default(), 0).is_ok());
}

#[test]
fn a_run_is_not_resumed_from_another_storage_than_its_own() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), &Start::Resume));
    let elsewhere = dir.path().join("elsewhere").display().to_string();
    let error = RunDirectory::open(dir.path(), "job", &Start::Resume, Some(&elsewhere), StoreCalls::default(), 0).unwrap_err().to_string();
    assert!(error.contains("checkpoint.storage") && error.contains("elsewhere"), "{error}");
    let fresh = RunDirectory::open(dir.path(), "job", &Start::Fresh, Some(&elsewhere), StoreCalls::default(), 0).unwrap();
    assert!(Path::new(&elsewhere).join("job").join(&fresh.run.0).join("log").is_dir());
}

#[test]
fn the_newest_checkpoint_is_restored_and_an_attempt_without_manifest_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), &Start::Resume);
    assert_eq!((restored(&opened), opened.storage.first_checkpoint_id()), (None, CheckpointId(1)));
    checkpoint(&opened, 1, &[], &[]);
    checkpoint(&opened, 2, &["f1"], &[2]);
    opened.storage.begin_attempt(CheckpointId(3)).unwrap();
    opened.storage.put_file("f3", &Bytes::from_static(b"half a checkpoint")).unwrap();
    let expected = manifest(&opened.storage, &opened.run, 2, &["f2", "f1"], &[2]);
    drop(opened);
    let opened = open(dir.path(), &Start::Resume);
    let completed = opened.recovery.choose(&FallbackFacts::default()).unwrap().unwrap();
    assert_eq!(*completed.manifest(), expected);
    assert_eq!(opened.storage.get_file("f1").unwrap(), "f1");
}

#[test]
fn checkpoint_ids_grow_over_failed_attempts_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut newest = 0;
    for _ in 0..3 {
        let opened = open(dir.path(), &Start::Resume);
        let first = opened.storage.first_checkpoint_id().0;
        assert!(first > newest);
        for id in first..first + 70 {
            opened.storage.begin_attempt(CheckpointId(id)).unwrap();
            newest = id;
        }
    }
}

#[test]
fn a_process_that_was_replaced_cannot_complete_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let old = open(dir.path(), &Start::Resume);
    checkpoint(&old, 1, &[], &[]);
    // A restart inside the process; what the old tasks still write must not count.
    let (new, recovery) = old.directory.take_over(2_000).unwrap();
    assert!(new.generation() > old.generation);
    let error = old.storage.write_manifest(manifest(&old.storage, &old.run, 2, &[], &[])).unwrap_err().to_string();
    assert!(error.contains("taken over"), "{error}");
    assert!(old.storage.check_not_fenced().is_err() && new.check_not_fenced().is_ok());
    assert_eq!(recovery.choose(&FallbackFacts::default()).unwrap().unwrap().manifest().checkpoint, CheckpointId(1));
    let first = new.first_checkpoint_id().0;
    for id in first..first + 5 {
        new.write_manifest(manifest(&new, &old.run, id, &[], &[])).unwrap();
        collect(&new, &Keep { newest: 1, unacknowledged: BTreeSet::new() });
        // Nor after retention has deleted what stood between.
        assert!(old.storage.write_manifest(manifest(&old.storage, &old.run, 2, &[], &[])).is_err());
    }
}

fn newest_log_entry(dir: &Path, opened: &OpenedRun) -> std::path::PathBuf {
    let log = dir.join("job/runs").join(&opened.run.0).join("checkpoints/log");
    let mut names: Vec<_> = std::fs::read_dir(log).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    names.pop().unwrap()
}

#[test]
fn a_torn_manifest_is_fallen_back_from_only_where_no_row_can_double() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), &Start::Resume);
    checkpoint(&opened, 1, &[], &[1]);
    checkpoint(&opened, 2, &[], &[2]);
    let path = newest_log_entry(dir.path(), &opened);
    drop(opened);
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let opened = open(dir.path(), &Start::Resume);
        assert_eq!(restored(&opened), Some(1), "at-least-once goes on from the one before");
        assert_eq!(opened.recovery.first_doubtful_epoch(), Some(Epoch(2)));
        let facts =
            |committed| FallbackFacts { exactly_once: true, markers: vec![SinkMarker { sink: "out".into(), committed }], accept_duplicates: false };
        assert!(opened.recovery.choose(&facts(Some(false))).is_ok());
        for committed in [None, Some(true)] {
            let error = opened.recovery.choose(&facts(committed)).unwrap_err().to_string();
            assert!(error.contains("--accept-duplicates") && error.contains("`out`") && error.contains("log/"), "{error}");
        }
    }
}

#[test]
fn a_checkpoint_whose_file_is_gone_counts_as_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), &Start::Resume);
    checkpoint(&opened, 1, &[], &[]);
    checkpoint(&opened, 2, &[], &[]);
    opened.storage.store().delete("files/f2").unwrap();
    drop(opened);
    let opened = open(dir.path(), &Start::Resume);
    assert!(opened.recovery.unreadable()[0].reason.contains("files/f2 is missing"));
    assert_eq!(restored(&opened), Some(1));
}

#[test]
fn a_manifest_of_another_format_version_is_never_fallen_back_from() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), &Start::Resume);
    checkpoint(&opened, 1, &[], &[]);
    let path = newest_log_entry(dir.path(), &opened);
    drop(opened);
    let text = std::fs::read_to_string(&path).unwrap().replacen("karez-checkpoint 1 ", "karez-checkpoint 9 ", 1);
    std::fs::write(&path, text).unwrap();
    let error = RunDirectory::open(dir.path(), "job", &Start::Resume, None, StoreCalls::default(), 0).unwrap_err().to_string();
    assert!(error.contains("format version 9") && error.contains(&path.display().to_string()), "{error}");
}

#[test]
fn retention_keeps_the_newest_and_every_file_a_kept_manifest_names() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), &Start::Resume);
    for id in 1..=4 {
        checkpoint(&opened, id, &["f1"][..usize::from(id > 1)], &[]);
    }
    let done = collect(&opened.storage, &Keep { newest: 2, unacknowledged: BTreeSet::new() });
    assert_eq!((done.manifests, done.files, done.failures), (2, 1, 0));
    assert_eq!(files(&opened), ["files/f1", "files/f3", "files/f4"]);
    drop(opened);
    assert_eq!(restored(&open(dir.path(), &Start::Resume)), Some(4));
}

#[test]
fn retention_keeps_files_written_since_the_newest_checkpoint_began() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), &Start::Resume);
    let keep = Keep { newest: 1, unacknowledged: BTreeSet::new() };
    opened.storage.begin_attempt(CheckpointId(1)).unwrap();
    opened.storage.put_file("of a failed attempt", &Bytes::new()).unwrap();
    opened.storage.begin_attempt(CheckpointId(2)).unwrap();
    opened.storage.put_file("late", &Bytes::new()).unwrap();
    opened.storage.write_manifest(manifest(&opened.storage, &opened.run, 2, &[], &[])).unwrap();
    opened.storage.begin_attempt(CheckpointId(3)).unwrap();
    opened.storage.put_file("of the next", &Bytes::new()).unwrap();
    collect(&opened.storage, &keep);
    assert_eq!(files(&opened), ["files/late", "files/of the next"]);
    checkpoint(&opened, 3, &["late"], &[]);
    collect(&opened.storage, &keep);
    assert_eq!(files(&opened), ["files/f3", "files/late", "files/of the next"]);
    checkpoint(&opened, 4, &[], &[]);
    collect(&opened.storage, &keep);
    assert_eq!(files(&opened), ["files/f4"]);
}

#[test]
fn leftovers_of_a_process_that_died_are_deleted_after_the_next_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), &Start::Resume);
    opened.storage.put_file("orphan", &Bytes::new()).unwrap();
    drop(opened);
    let opened = open(dir.path(), &Start::Resume);
    checkpoint(&opened, opened.storage.first_checkpoint_id().0, &[], &[]);
    collect(&opened.storage, &Keep { newest: 1, unacknowledged: BTreeSet::new() });
    assert!(!files(&opened).contains(&"files/orphan".to_owned()));
}

#[test]
fn the_newest_manifest_that_names_an_unacknowledged_committable_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), &Start::Resume);
    checkpoint(&opened, 1, &[], &[1]);
    checkpoint(&opened, 2, &[], &[1]);
    checkpoint(&opened, 3, &[], &[]);
    collect(&opened.storage, &Keep { newest: 1, unacknowledged: BTreeSet::from([Epoch(1)]) });
    let left: Vec<u64> = opened.storage.completed().iter().map(|c| c.manifest().checkpoint.0).collect();
    assert_eq!(left, [2, 3]);
}

#[test]
fn a_savepoint_that_was_moved_opens_a_new_run() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), &Start::Resume);
    checkpoint(&opened, 1, &[], &[]);
    checkpoint(&opened, 2, &["f1"], &[2]);
    let newest = opened.storage.completed().pop().unwrap();
    let folder = dir.path().join("savepoints").display().to_string();
    let location = savepoint::export(&opened.storage, &newest, &folder, &StoreCalls::default()).unwrap();
    let old_run = opened.run.clone();
    drop(opened);
    let moved = dir.path().join("moved");
    std::fs::rename(location, &moved).unwrap();
    std::fs::remove_dir_all(dir.path().join("job")).unwrap();

    let opened = open(dir.path(), &Start::FromSavepoint(moved.display().to_string()));
    std::fs::remove_dir_all(&moved).unwrap();
    assert_ne!(opened.run, old_run);
    let new_run = opened.run.clone();
    drop(opened);
    // A crash before the first checkpoint of its own: the run goes on from the savepoint, and needs it no more.
    let opened = open(dir.path(), &Start::Resume);
    assert_eq!(opened.run, new_run);
    let completed = opened.recovery.choose(&FallbackFacts::default()).unwrap().unwrap();
    let manifest = completed.manifest();
    assert_eq!(manifest.origin.as_ref().map(|o| (&o.run, o.checkpoint)), Some((&old_run, CheckpointId(2))));
    assert_eq!(manifest.committables()["out"].len(), 1);
    assert!(manifest.files().all(|f| opened.storage.get_file(f).unwrap() == *f));
    assert!(opened.storage.first_checkpoint_id() > CheckpointId(2), "epochs grow across the two runs");
}

#[test]
fn a_savepoint_that_is_missing_or_incomplete_is_refused_and_the_run_before_stays() {
    let dir = tempfile::tempdir().unwrap();
    let run = open(dir.path(), &Start::Resume).run;
    let start =
        |path: &Path| RunDirectory::open(dir.path(), "job", &Start::FromSavepoint(path.display().to_string()), None, StoreCalls::default(), 0);
    assert!(start(&dir.path().join("nowhere")).unwrap_err().to_string().contains("no such folder"));
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    assert!(start(&dir.path().join("empty")).unwrap_err().to_string().contains("not completed"));
    assert_eq!(open(dir.path(), &Start::Resume).run, run);
}

/// Room for so many bytes; behind that, what a full disk answers. Deletions can be made to fail.
#[derive(Debug)]
struct SmallDisk {
    disk: MemoryStore,
    room: AtomicI64,
    deletes: bool,
}

impl DurableStore for SmallDisk {
    fn create(&self, name: &str, bytes: &Bytes) -> Result<Creation> {
        if self.room.fetch_sub(bytes.len() as i64, Ordering::SeqCst) < bytes.len() as i64 {
            return Err(Error::external(format!("cannot write {name}")).caused_by(std::io::Error::from_raw_os_error(28)));
        }
        self.disk.create(name, bytes)
    }
    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.disk.get(name)
    }
    fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.disk.list(folder)
    }
    fn delete(&self, name: &str) -> Result<()> {
        if self.deletes { self.disk.delete(name) } else { Err(Error::external("read-only file system")) }
    }
    fn describe(&self, name: &str) -> String {
        name.to_owned()
    }
}

#[test]
fn a_full_disk_fails_the_attempt_clearly_and_the_next_succeeds() {
    let disk = Arc::new(SmallDisk { disk: MemoryStore::default(), room: AtomicI64::new(1 << 20), deletes: true });
    let run = karez_core::RunId("0123456789ab".into());
    let (storage, _) = CheckpointStorage::take_over(disk.clone(), 0).unwrap();
    storage.write_manifest(manifest(&storage, &run, 1, &[], &[1])).unwrap();
    for room in [0, 5, 200] {
        disk.room.store(room, Ordering::SeqCst);
        let file = storage.put_file(&format!("f{room}"), &Bytes::from_static(b"0123456789"));
        let error = file.and_then(|()| storage.write_manifest(manifest(&storage, &run, 2, &[], &[2])).map(drop)).unwrap_err().to_string();
        assert!(error.contains("No space left"), "{error}");
        let (_, recovery) = {
            disk.room.store(1 << 20, Ordering::SeqCst);
            let copy = Arc::new(MemoryStore::default());
            for name in ["log", "files", "ids"].iter().flat_map(|f| disk.list(f).unwrap()) {
                copy.create(&name, &disk.get(&name).unwrap().unwrap()).unwrap();
            }
            CheckpointStorage::take_over(copy, 0).unwrap()
        };
        assert_eq!(recovery.choose(&FallbackFacts::default()).unwrap().unwrap().manifest().checkpoint, CheckpointId(1), "nothing is lost");
    }
    storage.write_manifest(manifest(&storage, &run, 3, &[], &[2, 3])).unwrap();
}

#[test]
fn deletions_that_fail_are_counted_and_not_fatal() {
    let disk = Arc::new(SmallDisk { disk: MemoryStore::default(), room: AtomicI64::new(1 << 20), deletes: false });
    let run = karez_core::RunId("0123456789ab".into());
    let (storage, _) = CheckpointStorage::take_over(disk, 0).unwrap();
    for id in 1..=3 {
        storage.write_manifest(manifest(&storage, &run, id, &[], &[])).unwrap();
    }
    assert_eq!(collect(&storage, &Keep { newest: 1, unacknowledged: BTreeSet::new() }).failures, 2);
    assert_eq!(storage.completed().len(), 3);
}

#[test]
fn a_real_disk_that_is_full_says_so_and_where() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(dir.path()).output();
    if !mounted.is_ok_and(|o| o.status.success()) {
        // Only root may mount; the store above shows the same without it.
        return;
    }
    let opened = open(dir.path(), &Start::Resume);
    checkpoint(&opened, 1, &[], &[]);
    let error = opened.storage.put_file("large", &Bytes::from(vec![7; 1 << 20])).unwrap_err().to_string();
    assert!(error.contains("full") && error.contains("checkpoint.storage") && error.contains(&dir.path().display().to_string()), "{error}");
    checkpoint(&opened, 2, &[], &[]);
    assert_eq!(files(&opened), ["files/f1", "files/f2"], "nothing half-written stays");
    drop(opened);
    assert_eq!(restored(&open(dir.path(), &Start::Resume)), Some(2));
    assert!(std::process::Command::new("umount").arg(dir.path()).status().unwrap().success());
}

fn keeps_the_contract(store: &dyn DurableStore) {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    assert_eq!(store.get("a/1").unwrap(), None);
    assert!(store.list("a").unwrap().is_empty());
    assert_eq!(store.create("a/1", &bytes("one")).unwrap(), Creation::Created);
    assert_eq!(store.create("a/1", &bytes("two")).unwrap(), Creation::Exists);
    assert_eq!(store.get("a/1").unwrap().unwrap(), "one");
    store.create("a/b/2", &bytes("")).unwrap();
    store.create("ab/3", &bytes("")).unwrap();
    assert_eq!(store.list("a").unwrap(), ["a/1", "a/b/2"]);
    store.delete("a/1").unwrap();
    store.delete("a/1").unwrap();
    assert_eq!(store.list("a").unwrap(), ["a/b/2"]);
    assert!(store.create("../x", &bytes("")).is_err());
}

#[test]
fn all_stores_keep_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    keeps_the_contract(&LocalStore::open(dir.path()).unwrap());
    keeps_the_contract(&MemoryStore::default());
    for prefix in ["", "deep/prefix"] {
        keeps_the_contract(&RemoteStore::new(Arc::new(object_store::memory::InMemory::new()), prefix, "memory://x"));
    }
}

#[test]
fn an_object_store_may_be_waited_for_on_any_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { keeps_the_contract(&RemoteStore::new(Arc::new(object_store::memory::InMemory::new()), "p", "memory://p")) });
}

#[test]
fn of_many_who_create_a_name_one_succeeds_and_its_bytes_stay_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).unwrap();
    let created: Vec<u8> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8_u8)
            .map(|n| {
                scope.spawn({
                    let store = &store;
                    move || (n, store.create("log/1", &Bytes::from(vec![n; 4096])).unwrap())
                })
            })
            .collect();
        tries.into_iter().map(|t| t.join().unwrap()).filter(|(_, c)| *c == Creation::Created).map(|(n, _)| n).collect()
    });
    assert_eq!(created.len(), 1);
    assert_eq!(store.get("log/1").unwrap().unwrap(), vec![created[0]; 4096]);
    assert_eq!(std::fs::read_dir(dir.path().join("log")).unwrap().count(), 1, "no temporary file stays");
}

fn shape(nodes: &[(&str, NodeRole, &str, &str)]) -> JobShape {
    let node = |&(name, role, kind, identity): &(&str, NodeRole, &str, &str)| JobNode {
        name: name.into(),
        role,
        type_name: kind.into(),
        identity: identity.into(),
        parallelism: 4,
    };
    JobShape { job: "job".into(), key_groups: 128, nodes: nodes.iter().map(node).collect() }
}

#[test]
fn what_does_not_match_the_checkpoint_is_refused_with_the_nodes_name() {
    let (storage, _) = CheckpointStorage::take_over(Arc::new(MemoryStore::default()), 0).unwrap();
    let manifest = manifest(&storage, &karez_core::RunId("r".into()), 1, &[], &[1]);
    let (operator, sink) = (("sum", NodeRole::Operator, "window-aggregate", "sum(x)"), ("out", NodeRole::Sink, "file", ""));
    let same = shape(&[operator, sink, ("new", NodeRole::Operator, "filter", "")]);
    assert!(check_compatible(&manifest, &same, false).unwrap().is_empty(), "another parallelism and a new node are fine");

    let refused = |job: &JobShape, node: &str, word: &str| {
        let error = check_compatible(&manifest, job, false).unwrap_err();
        assert!(error.node() == Some(node) && error.message().contains(word), "{error}");
    };
    refused(&JobShape { key_groups: 64, ..same.clone() }, "sum", "maxParallelism: 64");
    refused(&shape(&[("sum", NodeRole::Operator, "deduplicate", "sum(x)"), sink]), "sum", "deduplicate");
    refused(&shape(&[("sum", NodeRole::Operator, "window-aggregate", "max(x)"), sink]), "sum", "max(x)");
    refused(&shape(&[("sums", NodeRole::Operator, "window-aggregate", "sum(x)"), sink]), "sum", "renamed to `sums`");
    let detailed = |identity| shape(&[("sum", NodeRole::Operator, "window-aggregate", identity), sink]);
    assert!(check_compatible(&manifest, &detailed("sum(x) with states [Int64]"), false).is_ok(), "an older build did not say the states");
    refused(&detailed("sum(x) + 1 with states [Int64]"), "sum", "sum(x) + 1");
    let mut newer = manifest.clone();
    newer.operators.get_mut("sum").unwrap().identity = "sum(x) with states [Int64]".into();
    assert!(check_compatible(&newer, &detailed("sum(x) with states [Int64]"), false).is_ok());
    for other in ["sum(x) with states [Float64]", "sum(x)"] {
        assert!(check_compatible(&newer, &detailed(other), false).is_err(), "{other}");
    }
    refused(&shape(&[operator]), "out", "--allow-non-restored-state");
    let left = check_compatible(&manifest, &shape(&[operator]), true).unwrap();
    assert!(left.len() == 1 && left[0].contains("`out`"), "{left:?}");
}
