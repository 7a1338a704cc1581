//! Exactly once: kills at every point, replays, generations, subtasks.

use karez_core::sink::{CommitPermit, SinkGuarantee, SinkRunContext};
use karez_core::{CommitOutcome, Epoch, StreamSchema};
use serde_json::json;

use super::{Base, Process, commit, outcomes, rows, run, sink, table_config, two_columns};

#[tokio::test]
async fn rows_are_visible_after_their_commit_and_not_before() {
    let base = Base::new();
    let mut process = Process::start(&table_config(&base), two_columns(), 1, 1, &[]).await;
    process.write(0, rows(&[(1, "a"), (2, "b")])).await;
    process.writers[0].flush().await.unwrap();
    assert_eq!((base.count("t"), base.staged()), (0, 2));
    let manifest = process.barrier(1).await;
    assert_eq!(base.count("t"), 0);
    assert_eq!(outcomes(&process.commit(1, &manifest).await), ["committed"]);
    assert_eq!(base.rows("SELECT * FROM t"), ["1|a", "2|b"]);
    assert_eq!(base.staged(), 0);
}

#[tokio::test]
async fn a_kill_before_the_manifest_leaves_nothing() {
    let base = Base::new();
    let mut process = Process::start(&table_config(&base), two_columns(), 1, 1, &[]).await;
    process.write(0, rows(&[(1, "lost")])).await;
    let _never_in_a_manifest = process.barrier(1).await;
    process.write(0, rows(&[(2, "lost")])).await;
    process.writers[0].flush().await.unwrap();
    drop(process);
    let mut process = Process::start(&table_config(&base), two_columns(), 2, 1, &[]).await;
    assert_eq!((base.count("t"), base.staged()), (0, 0));
    process.write(0, rows(&[(1, "again")])).await;
    let manifest = process.barrier(2).await;
    process.commit(2, &manifest).await;
    assert_eq!(base.rows("SELECT * FROM t"), ["1|again"]);
}

#[tokio::test]
async fn a_kill_between_manifest_and_commit_is_made_good_by_the_next_start() {
    let base = Base::new();
    let mut process = Process::start(&table_config(&base), two_columns(), 1, 2, &[]).await;
    process.write(0, rows(&[(1, "a")])).await;
    process.write(1, rows(&[(2, "b")])).await;
    let manifest = process.barrier(1).await;
    assert_eq!(manifest.len(), 2);
    drop(process);
    // Restored with another parallelism.
    Process::start(&table_config(&base), two_columns(), 2, 1, &manifest).await;
    assert_eq!(base.rows("SELECT * FROM t ORDER BY id"), ["1|a", "2|b"]);
    // And once more.
    Process::start(&table_config(&base), two_columns(), 3, 3, &manifest).await;
    assert_eq!(base.count("t"), 2);
}

#[tokio::test]
async fn a_commit_that_is_repeated_changes_nothing() {
    let base = Base::new();
    let mut process = Process::start(&table_config(&base), two_columns(), 1, 2, &[]).await;
    process.write(0, rows(&[(1, "a")])).await;
    process.write(1, rows(&[(2, "b")])).await;
    let first = process.barrier(1).await;
    assert_eq!(outcomes(&process.commit(1, &first).await), ["committed", "committed"]);
    process.write(1, rows(&[(3, "c")])).await;
    let second = process.barrier(2).await;
    let both = [first, second].concat();
    assert_eq!(outcomes(&process.commit(2, &both).await), ["already", "already", "committed"]);
    assert_eq!(outcomes(&process.commit(2, &both).await), ["already", "already", "already"]);
    assert_eq!(base.rows("SELECT id FROM t ORDER BY id"), ["1", "2", "3"]);
}

#[tokio::test]
async fn what_a_failed_checkpoint_sealed_is_committed_by_the_next_one() {
    let base = Base::new();
    let mut process = Process::start(&table_config(&base), two_columns(), 1, 1, &[]).await;
    process.write(0, rows(&[(1, "a")])).await;
    let failed = process.barrier(1).await;
    process.write(0, rows(&[(2, "b")])).await;
    let manifest = [failed, process.barrier(2).await].concat();
    assert_eq!(outcomes(&process.commit(2, &manifest).await), ["committed", "committed"]);
    assert_eq!(base.rows("SELECT * FROM t"), ["1|a", "2|b"]);
}

#[tokio::test]
async fn a_commit_without_permit_is_refused() {
    let base = Base::new();
    let mut process = Process::start(&table_config(&base), two_columns(), 1, 1, &[]).await;
    process.write(0, rows(&[(1, "a")])).await;
    let manifest = process.barrier(5).await;
    let mut committer = process.sink.committer(&process.run).await.unwrap().unwrap();
    let error = committer.commit(&CommitPermit::from_completed_manifest(Epoch(4)), &manifest).await.unwrap_err();
    assert_eq!(error.message(), "epoch 5 is not permitted to commit yet");
    assert_eq!(base.count("t"), 0);
}

#[tokio::test]
async fn an_older_generation_can_neither_stage_nor_commit() {
    let base = Base::new();
    let mut old = Process::start(&table_config(&base), two_columns(), 1, 1, &[]).await;
    old.write(0, rows(&[(1, "a")])).await;
    let manifest = old.barrier(1).await;
    old.write(0, rows(&[(2, "b")])).await;
    let new = Process::start(&table_config(&base), two_columns(), 2, 1, &[]).await;
    let error = old.writers[0].flush().await.unwrap_err();
    assert!(error.message().contains("was started again (generation 2) while this process (generation 1)"), "{error}");
    let mut committer = old.sink.committer(&old.run).await.unwrap().unwrap();
    let error = committer.commit(&CommitPermit::from_completed_manifest(Epoch(1)), &manifest).await.unwrap_err();
    assert!(error.message().contains("generation 2"), "{error}");
    // What the new one threw away is reported lost, not taken for committed.
    assert_eq!(outcomes(&new.commit(1, &manifest).await), ["lost"]);
    assert_eq!(base.count("t"), 0);
}

#[tokio::test]
async fn another_run_keeps_what_this_one_staged() {
    let base = Base::new();
    let mut one = Process::start(&table_config(&base), two_columns(), 1, 1, &[]).await;
    one.write(0, rows(&[(1, "a")])).await;
    let manifest = one.barrier(1).await;
    // A savepoint of that run, restored into a run of its own.
    let sink = sink(&table_config(&base), &StreamSchema::append_only(two_columns()));
    let mut other = run(1);
    other.run = karez_core::RunId("fedcba987654".into());
    sink.prepare(&other, &[]).await.unwrap();
    assert_eq!(base.staged(), 1);
    assert_eq!(outcomes(&commit(sink.as_ref(), &other, Epoch(1), &manifest).await), ["committed"]);
    assert_eq!(outcomes(&one.commit(1, &manifest).await), ["already"]);
    assert_eq!(base.count("t"), 1);
}

/// Another run of the same job, or of another.
fn another(job: &str) -> SinkRunContext {
    SinkRunContext { run: karez_core::RunId("fedcba987654".into()), job: job.into(), ..run(1) }
}

#[tokio::test]
async fn a_new_run_removes_what_an_abandoned_one_never_sealed_and_nothing_else() {
    let base = Base::new();
    let mut abandoned = Process::start(&table_config(&base), two_columns(), 1, 2, &[]).await;
    abandoned.write(0, rows(&[(1, "sealed")])).await;
    let manifest = abandoned.barrier(1).await;
    for (subtask, row) in [(0, (2, "x")), (1, (3, "y"))] {
        abandoned.write(subtask, rows(&[row])).await;
        abandoned.writers[subtask].flush().await.unwrap();
    }
    assert_eq!((base.staged(), base.count("__karez_lots")), (3, 3));
    let sink = sink(&table_config(&base), &StreamSchema::append_only(two_columns()));
    sink.prepare(&another("other job"), &[]).await.unwrap();
    assert_eq!(base.staged(), 3, "another job's rows are not touched");
    sink.prepare(&another("job"), &[]).await.unwrap();
    assert_eq!((base.staged(), base.count("__karez_lots")), (1, 1));
    // A savepoint of the abandoned run still names what it sealed.
    assert_eq!(outcomes(&commit(sink.as_ref(), &another("job"), Epoch(1), &manifest).await), ["committed"]);
    assert_eq!(base.rows("SELECT id, name FROM t"), ["1|sealed"]);
}

#[tokio::test]
async fn a_run_that_was_taken_for_abandoned_stops_and_goes_on_from_its_checkpoint_without_loss() {
    let base = Base::new();
    let mut alive = Process::start(&table_config(&base), two_columns(), 1, 2, &[]).await;
    alive.write(0, rows(&[(1, "a")])).await;
    let manifest = alive.barrier(1).await;
    for subtask in 0..2 {
        alive.write(subtask, rows(&[(2, "b")])).await;
        alive.writers[subtask].flush().await.unwrap();
    }
    let sink = sink(&table_config(&base), &StreamSchema::append_only(two_columns()));
    sink.prepare(&another("job"), &[]).await.unwrap();
    alive.write(0, rows(&[(3, "c")])).await;
    let error = alive.writers[0].prepare_commit(Epoch(2), false).await.unwrap_err();
    assert!(error.message().contains("was started again"), "{error}");
    let mut restarted = Process::start(&table_config(&base), two_columns(), 2, 1, &manifest).await;
    restarted.write(0, rows(&[(2, "b"), (3, "c")])).await;
    let sealed = restarted.barrier(2).await;
    restarted.commit(2, &sealed).await;
    assert_eq!(base.rows("SELECT id FROM t ORDER BY id"), ["1", "2", "3"]);
    assert_eq!(base.staged(), 0);
}

#[tokio::test]
async fn the_marker_says_which_epoch_was_committed() {
    let base = Base::new();
    let mut process = Process::start(&table_config(&base), two_columns(), 1, 1, &[]).await;
    process.write(0, rows(&[(1, "a")])).await;
    let manifest = process.barrier(3).await;
    let mut committer = process.sink.committer(&process.run).await.unwrap().unwrap();
    assert_eq!(committer.is_committed(Epoch(3)).await.unwrap(), Some(false));
    process.commit(3, &manifest).await;
    assert_eq!(committer.is_committed(Epoch(3)).await.unwrap(), Some(true));
    assert_eq!(committer.is_committed(Epoch(4)).await.unwrap(), Some(false));
}

#[tokio::test]
async fn a_removed_database_is_reported_as_lost_rows() {
    let base = Base::new();
    let mut process = Process::start(&table_config(&base), two_columns(), 1, 1, &[]).await;
    process.write(0, rows(&[(1, "a")])).await;
    let manifest = process.barrier(1).await;
    let (sink, run) = (std::sync::Arc::clone(&process.sink), process.run.clone());
    drop(process);
    std::fs::remove_file(base.path()).unwrap();
    match &commit(sink.as_ref(), &run, Epoch(1), &manifest).await[..] {
        [CommitOutcome::Lost(e)] => assert!(e.message().contains("1 rows staged in"), "{e}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_barrier_without_rows_commits_nothing() {
    let base = Base::new();
    let mut process = Process::start(&table_config(&base), two_columns(), 1, 2, &[]).await;
    assert_eq!(process.barrier(1).await, []);
    process.write(1, rows(&[(1, "a")])).await;
    let manifest = process.barrier(2).await;
    assert_eq!(manifest.iter().map(|c| c.subtask).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_writer_waits_for_the_lock_of_another_program() {
    let base = Base::new();
    let mut process = Process::start(&table_config(&base), two_columns(), 1, 1, &[]).await;
    process.write(0, rows(&[(1, "a")])).await;
    let other = base.open();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut writer = process.writers.remove(0);
    let writing = tokio::spawn(async move {
        writer.flush().await.unwrap();
        writer
    });
    other.execute_batch("COMMIT").unwrap();
    process.writers.push(writing.await.unwrap());
    assert_eq!(base.staged(), 1);
}

#[tokio::test]
async fn a_lock_that_is_held_too_long_is_tried_again_at_the_commit_and_fails_the_writer() {
    let base = Base::new();
    let mut config = table_config(&base);
    config["lockTimeout"] = json!("1ms");
    let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
    process.write(0, rows(&[(1, "a")])).await;
    let manifest = process.barrier(1).await;
    process.write(0, rows(&[(2, "b")])).await;
    let mut committer = process.sink.committer(&process.run).await.unwrap().unwrap();
    committer.is_committed(Epoch(1)).await.unwrap();
    let other = base.open();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let outcome = committer.commit(&CommitPermit::from_completed_manifest(Epoch(1)), &manifest).await.unwrap();
    assert_eq!(outcomes(&outcome), ["later"]);
    let error = process.writers[0].flush().await.unwrap_err();
    assert!(error.is_retryable() && error.message().contains("another program holds its write lock"), "{error}");
    other.execute_batch("COMMIT").unwrap();
    // Nothing was lost by the failures.
    assert_eq!(outcomes(&process.commit(1, &manifest).await), ["committed"]);
    let manifest = process.barrier(2).await;
    assert_eq!(outcomes(&process.commit(2, &manifest).await), ["committed"]);
    assert_eq!(base.rows("SELECT * FROM t"), ["1|a", "2|b"]);
}

#[tokio::test]
async fn at_least_once_writes_at_once() {
    let base = Base::new();
    let config = json!({ "url": base.url(), "table": "t", "createTable": true, "key": ["id"], "guarantee": "at-least-once" });
    let mut process = Process::start(&config, two_columns(), 1, 1, &[]).await;
    assert_eq!(process.sink.guarantee(), SinkGuarantee::Idempotent);
    process.write(0, rows(&[(1, "a"), (2, "b"), (1, "c")])).await;
    process.writers[0].flush().await.unwrap();
    assert_eq!(base.rows("SELECT * FROM t ORDER BY id"), ["1|c", "2|b"]);
    assert_eq!(process.barrier(1).await, []);
    assert!(process.sink.committer(&process.run).await.unwrap().is_none());
}

/// The process that is killed in the next test.
#[cfg(feature = "failpoints")]
#[tokio::test]
#[ignore = "run by `a_kill_at_each_step_of_a_commit_is_made_good_by_the_next_start`"]
async fn killed_in_the_commit() {
    let (Ok(config), Ok(point), Ok(manifest)) = (std::env::var("KAREZ_CONFIG"), std::env::var("KAREZ_POINT"), std::env::var("KAREZ_MANIFEST")) else {
        return;
    };
    let mut process = Process::start(&serde_json::from_str(&config).unwrap(), two_columns(), 1, 2, &[]).await;
    process.write(0, rows(&[(1, "a")])).await;
    process.write(1, rows(&[(2, "b")])).await;
    let committables = process.barrier(1).await;
    std::fs::write(manifest, serde_json::to_string(&committables).unwrap()).unwrap();
    fail::cfg_callback(point, || std::process::abort()).unwrap();
    process.commit(1, &committables).await;
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_kill_at_each_step_of_a_commit_is_made_good_by_the_next_start() {
    for (point, visible_after) in [("jdbc-commit-before", 0), ("jdbc-commit-between", 0), ("jdbc-commit-after", 2)] {
        let base = Base::new();
        let manifest = base.path().with_file_name("manifest");
        std::fs::create_dir_all(manifest.parent().unwrap()).unwrap();
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "jdbc::sink::killed_in_the_commit", "--ignored"])
            .env("KAREZ_CONFIG", table_config(&base).to_string())
            .env("KAREZ_POINT", point)
            .env("KAREZ_MANIFEST", &manifest)
            .output()
            .unwrap()
            .status;
        assert!(!status.success(), "{point} was not reached");
        assert_eq!(base.count("t"), visible_after, "{point}");
        let manifest: Vec<karez_core::Committable> = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
        Process::start(&table_config(&base), two_columns(), 2, 1, &manifest).await;
        assert_eq!(base.rows("SELECT * FROM t ORDER BY id"), ["1|a", "2|b"], "{point}");
        assert_eq!(base.staged(), 0);
    }
}
