//! Crashes at each step lose no row and double none.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::engine::*;

#[derive(Clone, Debug)]
enum Step {
    /// So many rows to this subtask (modulo parallelism).
    Write(usize, usize),
    /// A checkpoint that completes, its commits done.
    Checkpoint,
    /// A checkpoint whose manifest is not written; the job lives.
    FailedCheckpoint,
    Clock(i64),
    /// A crash at a point of the protocol, then a start with this parallelism.
    Crash(Point, usize),
    /// Stopped in order, writers closed, then a start with this parallelism.
    Stop(usize),
}

#[derive(Clone, Copy, Debug)]
enum Point {
    Anywhere,
    AfterPrepare,
    AfterManifest,
    /// After so many commits.
    AmidCommits(usize),
    AfterCommits,
}

fn step() -> impl Strategy<Value = Step> {
    let point = prop_oneof![
        Just(Point::Anywhere),
        Just(Point::AfterPrepare),
        Just(Point::AfterManifest),
        (0..3usize).prop_map(Point::AmidCommits),
        Just(Point::AfterCommits)
    ];
    prop_oneof![
        6 => (0..3usize, 1..40usize).prop_map(|(s, n)| Step::Write(s, n)),
        3 => Just(Step::Checkpoint),
        1 => Just(Step::FailedCheckpoint),
        2 => (1..90_000i64).prop_map(Step::Clock),
        3 => (point, 1..4usize).prop_map(|(p, n)| Step::Crash(p, n)),
        1 => (1..4usize).prop_map(Step::Stop),
    ]
}

async fn run(folder: &Path, config: Value, steps: &[Step]) {
    std::fs::create_dir_all(folder).unwrap();
    // Of another run, of another sink whose name begins alike, and of people.
    let foreign = [
        ".part-ffffffffffff-out-g0-0-0.csv.inprogress",
        ".part-0123456789ab-out2-g0-0-0.csv.inprogress",
        ".all.csv.inprogress-ffffffffffff-out",
        "foreign.txt",
        ".hidden",
    ];
    let foreign: Vec<_> = foreign.iter().map(|n| folder.join(n)).collect();
    foreign.iter().for_each(|p| std::fs::write(p, "not ours").unwrap());
    let before = contents(&foreign);

    let mut engine = Engine::new(&config, &numbered());
    let most = engine.sink.max_parallelism().unwrap_or(usize::MAX);
    let (mut manifest, mut at_manifest, mut next) = (Manifest::default(), 0, 0);
    let mut clock = 1_000;
    engine.start(&manifest, 1).await.unwrap();
    for step in steps {
        match step {
            Step::Write(subtask, n) => {
                let subtask = subtask % engine.writers.len();
                let end = next + i64::try_from(*n).unwrap();
                engine.write(subtask, rows(next..end)).await.unwrap();
                next = end;
            }
            Step::Checkpoint => {
                manifest = engine.checkpoint(false).await.unwrap();
                at_manifest = next;
            }
            Step::FailedCheckpoint => drop(engine.barrier(false).await.unwrap()),
            Step::Clock(by_ms) => {
                clock += by_ms;
                engine.clock.set(clock);
                for writer in &mut engine.writers {
                    if writer.flush_due_ms().is_some_and(|due| due <= clock) {
                        writer.flush().await.unwrap();
                        assert!(writer.flush_due_ms().is_none_or(|due| due > clock), "flushing leaves nothing due");
                    }
                }
            }
            Step::Crash(point, parallelism) => {
                if !matches!(point, Point::Anywhere) {
                    let prepared = engine.barrier(false).await.unwrap();
                    if !matches!(point, Point::AfterPrepare) {
                        manifest = prepared;
                        at_manifest = next;
                    }
                    match point {
                        Point::AmidCommits(n) => {
                            let mut some = manifest.clone();
                            some.committables.truncate(*n);
                            engine.commit(&some).await.unwrap();
                        }
                        Point::AfterCommits => drop(engine.commit(&manifest).await.unwrap()),
                        _ => {}
                    }
                }
                engine.start(&manifest, (*parallelism).min(most)).await.unwrap();
                next = at_manifest;
            }
            Step::Stop(parallelism) => {
                manifest = engine.checkpoint(false).await.unwrap();
                for writer in &mut engine.writers {
                    writer.close().await.unwrap();
                }
                engine.start(&manifest, (*parallelism).min(most)).await.unwrap();
                at_manifest = next;
            }
        }
        // What a reader sees is never more than what checkpoints have completed.
        let seen = numbers(folder);
        assert!(seen.windows(2).all(|w| w[0] < w[1]), "doubled: {seen:?}");
        assert!(seen.last().is_none_or(|n| *n < at_manifest), "visible before its checkpoint");
    }
    let last = engine.checkpoint(true).await.unwrap();
    assert_eq!(numbers(folder), (0..next).collect::<Vec<_>>());
    // A start behind the end finds everything done.
    engine.start(&last, 1).await.unwrap();
    let end = engine.checkpoint(true).await.unwrap();
    assert!(end.committables.is_empty());
    assert_eq!(numbers(folder), (0..next).collect::<Vec<_>>());
    assert_eq!(contents(&foreign), before);
    assert_eq!(hidden(folder).len(), 4, "nothing of this run is left: {:?}", hidden(folder));
}

fn exactly_once(config: impl Fn(&Path) -> Value, steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(run(dir.path(), config(dir.path()), steps));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn csv_files_that_span_checkpoints(steps in prop::collection::vec(step(), 1..40)) {
        exactly_once(|dir| config(dir, json!({ "format": "csv", "rollSize": "1k", "rollInterval": "60s" })), &steps);
    }

    #[test]
    fn compressed_files_that_span_checkpoints(steps in prop::collection::vec(step(), 1..40)) {
        exactly_once(|dir| config(dir, json!({ "format": "ndjson", "compression": "gzip", "rollSize": "1k" })), &steps);
        exactly_once(|dir| config(dir, json!({ "format": "csv", "compression": "zstd" })), &steps);
    }

    #[test]
    fn parquet_files_that_end_at_checkpoints(steps in prop::collection::vec(step(), 1..40)) {
        exactly_once(|dir| config(dir, json!({ "format": "parquet" })), &steps);
    }

    #[test]
    fn one_file_that_ends_with_the_input(steps in prop::collection::vec(step(), 1..40)) {
        exactly_once(|dir| json!({ "path": dir.join("all.csv") }), &steps);
        exactly_once(|dir| json!({ "path": dir.join("all.parquet") }), &steps);
    }
}

/// Each point of the protocol once, whatever the property test draws.
#[test]
fn a_crash_at_each_point_and_rescaling_from_two_to_one_to_three() {
    let mut steps = Vec::new();
    for point in [Point::Anywhere, Point::AfterPrepare, Point::AfterManifest, Point::AmidCommits(1), Point::AfterCommits] {
        for parallelism in [2, 1, 3] {
            steps.extend([Step::Write(0, 30), Step::Write(1, 30), Step::Checkpoint, Step::Write(2, 10), Step::FailedCheckpoint, Step::Write(0, 10)]);
            steps.push(Step::Crash(point, parallelism));
        }
    }
    for format in ["csv", "ndjson", "parquet"] {
        exactly_once(|dir| config(dir, json!({ "format": format, "rollSize": "2k" })), &steps);
    }
}

#[tokio::test]
async fn a_savepoint_is_restored_into_another_run_while_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), json!({ "format": "csv" }));
    let mut first = Engine::new(&config, &numbered());
    first.start(&Manifest::default(), 1).await.unwrap();
    first.write(0, rows(0..10)).await.unwrap();
    let savepoint = first.barrier(false).await.unwrap();
    first.write(0, rows(10..15)).await.unwrap();

    let mut second = Engine::new(&config, &numbered());
    second.run.run = karez_core::RunId("abcdefabcdef".to_owned());
    second.start(&savepoint, 1).await.unwrap();
    second.write(0, rows(100..105)).await.unwrap();
    second.checkpoint(true).await.unwrap();
    assert_eq!(numbers(dir.path()), (0..10).chain(100..105).collect::<Vec<_>>());

    first.checkpoint(true).await.unwrap();
    let files = visible(dir.path());
    assert_eq!(files.len(), 2);
    assert_eq!(read(&files[0], &numbered()).iter().map(|b| b.num_rows()).sum::<usize>(), 15);
}

#[tokio::test]
async fn a_commit_refuses_a_target_that_is_there_and_reports_one_that_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::new(&config(dir.path(), json!({ "format": "csv" })), &numbered());
    engine.start(&Manifest::default(), 1).await.unwrap();
    engine.write(0, rows(0..10)).await.unwrap();
    let manifest = engine.barrier(true).await.unwrap();
    let target = dir.path().join(manifest.committables[0].payload["target"].as_str().unwrap());
    std::fs::write(&target, "somebody").unwrap();
    let e = engine.commit(&manifest).await.unwrap_err().to_string();
    assert!(e.contains("is there, so the finished") && e.contains(target.to_str().unwrap()), "{e}");
    assert_eq!(std::fs::read(&target).unwrap(), b"somebody");

    std::fs::remove_file(&target).unwrap();
    std::fs::remove_file(&hidden(dir.path())[0]).unwrap();
    let permit = karez_core::sink::CommitPermit::from_completed_manifest(karez_core::Epoch(manifest.epoch));
    let outcomes = engine.committer.as_mut().unwrap().commit(&permit, &manifest.committables).await.unwrap();
    assert!(matches!(&outcomes[..], [karez_core::CommitOutcome::Lost(e)] if e.to_string().contains("is gone")), "{outcomes:?}");
}

#[tokio::test]
async fn an_open_file_that_was_cut_by_somebody_stops_the_restore() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::new(&config(dir.path(), json!({ "format": "csv" })), &numbered());
    engine.start(&Manifest::default(), 1).await.unwrap();
    engine.write(0, rows(0..10)).await.unwrap();
    let manifest = engine.checkpoint(false).await.unwrap();
    engine.crash();
    std::fs::write(&hidden(dir.path())[0], "n,te").unwrap();
    let e = engine.start(&manifest, 1).await.unwrap_err().to_string();
    assert!(e.contains("has 4 bytes but the checkpoint says"), "{e}");
}

#[tokio::test]
async fn a_changed_schema_begins_a_new_file_and_keeps_the_old_rows() {
    let dir = tempfile::tempdir().unwrap();
    let first = config(dir.path(), json!({ "format": "csv" }));
    let mut engine = Engine::new(&first, &numbered());
    engine.start(&Manifest::default(), 1).await.unwrap();
    engine.write(0, rows(0..4)).await.unwrap();
    let manifest = engine.checkpoint(false).await.unwrap();
    engine.crash();

    let narrow = std::sync::Arc::new(numbered().project(&[0]).unwrap());
    let mut engine = Engine { writers: Vec::new(), ..Engine::new(&first, &narrow) };
    engine.run.generation.0 = 1;
    engine.start(&manifest, 1).await.unwrap();
    engine.write(0, rows(4..6).project(&[0]).unwrap()).await.unwrap();
    engine.checkpoint(true).await.unwrap();
    let lines: Vec<usize> = visible(dir.path())
        .iter()
        .map(|p| read(p, &if p.to_str().unwrap().contains("-g1-") { numbered() } else { narrow.clone() })[0].num_rows())
        .collect();
    assert_eq!(lines, [4, 2]);
}
