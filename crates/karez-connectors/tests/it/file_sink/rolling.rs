//! When files end, what they are called, and where rows go.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use karez_core::schema::{ORIGIN_COLUMN, origin_field};
use serde_json::json;

use super::engine::*;

#[tokio::test]
async fn a_file_ends_at_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::new(&config(dir.path(), json!({ "format": "ndjson", "rollSize": "1k" })), &numbered());
    engine.start(&Manifest::default(), 1).await.unwrap();
    for i in 0..10 {
        engine.write(0, rows(i * 20..(i + 1) * 20)).await.unwrap();
    }
    engine.checkpoint(false).await.unwrap();
    // A batch is about 700 bytes: each file takes two.
    assert_eq!(visible(dir.path()).len(), 5);
    assert!(visible(dir.path()).iter().all(|p| (1_000..2_000).contains(&p.metadata().unwrap().len())));
}

#[tokio::test]
async fn a_file_ends_at_its_age_also_when_no_row_comes_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::new(&config(dir.path(), json!({ "format": "csv", "rollInterval": "10s" })), &numbered());
    engine.start(&Manifest::default(), 1).await.unwrap();
    assert_eq!(engine.writers[0].flush_due_ms(), None);
    engine.write(0, rows(0..3)).await.unwrap();
    assert_eq!(engine.writers[0].flush_due_ms(), Some(11_000));
    engine.clock.set(5_000);
    let manifest = engine.checkpoint(false).await.unwrap();
    assert!(visible(dir.path()).is_empty());

    engine.start(&manifest, 1).await.unwrap();
    assert_eq!(engine.writers[0].flush_due_ms(), Some(11_000), "a restart does not make it younger");
    engine.clock.set(11_000);
    engine.writers[0].flush().await.unwrap();
    assert_eq!(engine.writers[0].flush_due_ms(), None);
    engine.checkpoint(false).await.unwrap();
    assert_eq!(numbers(dir.path()), [0, 1, 2]);
}

#[tokio::test]
async fn names_hold_run_subtask_and_counter_and_no_generation_uses_one_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::new(&config(dir.path(), json!({ "format": "csv", "compression": "zstd" })), &numbered());
    let mut manifest = Manifest::default();
    for start in 0..2 {
        engine.start(&manifest, 2).await.unwrap();
        engine.write(0, rows(start * 10..start * 10 + 1)).await.unwrap();
        engine.write(1, rows(start * 10 + 1..start * 10 + 2)).await.unwrap();
        manifest = engine.checkpoint(true).await.unwrap();
    }
    let names: Vec<String> = visible(dir.path()).iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let expected = ["g1-0-0", "g1-1-0", "g2-0-0", "g2-1-0"].map(|n| format!("part-{RUN}-out-{n}.csv.zst"));
    assert_eq!(names, expected);
}

#[tokio::test]
async fn the_run_s_day_and_each_row_s_day_choose_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let zone = Some(Arc::from("America/New_York"));
    let schema = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, zone.clone()), true),
    ]));
    let path = format!("{}/run={{date}}/day={{date:at:%Y%m%d}}", dir.path().display());
    let mut engine = Engine::new(&json!({ "path": path, "format": "csv", "maxOpenFiles": 2 }), &schema);
    engine.start(&Manifest::default(), 1).await.unwrap();
    // 2013-01-01T04:59:59Z is still the old year in New York.
    let at = TimestampMillisecondArray::from(vec![Some(1_357_016_399_000), Some(1_357_016_400_000), None, Some(1_357_016_399_000)])
        .with_timezone_opt(zone);
    let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1, 2, 3, 4])), Arc::new(at) as ArrayRef]).unwrap();
    engine.write(0, batch.clone()).await.unwrap();
    assert_eq!(hidden(dir.path()).len(), 3);
    let manifest = engine.checkpoint(false).await.unwrap();
    assert_eq!(visible(dir.path()).len(), 1, "the file not written to for longest made room");

    // What is written behind the checkpoint is cleaned up in every folder.
    engine.write(0, batch).await.unwrap();
    engine.start(&manifest, 1).await.unwrap();
    engine.checkpoint(true).await.unwrap();
    let found: Vec<(String, usize)> = visible(dir.path())
        .iter()
        .map(|p| {
            let folder = p.parent().unwrap().strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
            (folder, String::from_utf8(std::fs::read(p).unwrap()).unwrap().lines().count() - 1)
        })
        .collect();
    let expected = [("run=2013-01-23/day=20121231", 2), ("run=2013-01-23/day=20130101", 1), ("run=2013-01-23/day=null", 1)];
    assert_eq!(found, expected.map(|(f, n)| (f.to_owned(), n)));
    assert!(hidden(dir.path()).is_empty());
}

#[tokio::test]
async fn hidden_columns_are_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false), origin_field()]));
    let mut engine = Engine::new(&config(dir.path(), json!({ "format": "csv" })), &schema);
    engine.start(&Manifest::default(), 1).await.unwrap();
    let origin: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["file=a"]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1])), origin]).unwrap();
    assert!(batch.column_by_name(ORIGIN_COLUMN).is_some());
    engine.write(0, batch).await.unwrap();
    engine.checkpoint(true).await.unwrap();
    assert_eq!(std::fs::read_to_string(&visible(dir.path())[0]).unwrap(), "n\n1\n");
}

#[tokio::test]
async fn bytes_written_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::new(&config(dir.path(), json!({ "format": "csv" })), &numbered());
    engine.start(&Manifest::default(), 1).await.unwrap();
    engine.write(0, rows(0..100)).await.unwrap();
    engine.checkpoint(true).await.unwrap();
    assert_eq!(engine.metrics.bytes_out.get(), visible(dir.path())[0].metadata().unwrap().len());
}

/// `/dev/full` takes no byte: the path that cannot be written is named. (A folder's file cannot be made to lie there, so it is linked.)
#[tokio::test]
async fn a_full_disk_names_the_file() {
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join(format!(".all.csv.inprogress-{RUN}-out"));
    let mut engine = Engine::new(&json!({ "path": dir.path().join("all.csv") }), &numbered());
    engine.start(&Manifest::default(), 1).await.unwrap();
    std::os::unix::fs::symlink("/dev/full", &link).unwrap();
    engine.write(0, rows(0..10)).await.unwrap();
    let e = engine.barrier(false).await.err().unwrap().to_string();
    assert!(e.contains(link.to_str().unwrap()) && e.contains("No space left") && e.contains("make room"), "{e}");
}

#[tokio::test]
async fn an_orderly_end_without_commit_leaves_only_what_a_checkpoint_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::new(&config(dir.path(), json!({ "format": "csv", "rollSize": "100" })), &numbered());
    engine.start(&Manifest::default(), 2).await.unwrap();
    engine.write(0, rows(0..1)).await.unwrap();
    engine.checkpoint(false).await.unwrap();
    let named = hidden(dir.path());
    engine.write(1, rows(1..2)).await.unwrap();
    engine.write(1, rows(2..20)).await.unwrap();
    for writer in &mut engine.writers {
        writer.close().await.unwrap();
    }
    assert_eq!(files(dir.path()), named);
}

#[tokio::test]
async fn two_sinks_of_one_job_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), json!({ "format": "csv" }));
    let mut sinks = ["a", "a-g1", "ä/b"].map(|node| {
        let mut engine = Engine::new(&config, &numbered());
        engine.run.node = node.to_owned();
        engine
    });
    let mut manifests = Vec::new();
    for (i, engine) in sinks.iter_mut().enumerate() {
        engine.start(&Manifest::default(), 1).await.unwrap();
        engine.write(0, rows([i as i64])).await.unwrap();
        manifests.push(engine.checkpoint(false).await.unwrap());
    }
    assert_eq!(hidden(dir.path()).len(), 3);
    for (engine, manifest) in sinks.iter_mut().zip(&manifests) {
        // Cleaning up for one leaves the files of the others, which are of an older generation too.
        engine.start(manifest, 1).await.unwrap();
    }
    for engine in &mut sinks {
        engine.checkpoint(true).await.unwrap();
    }
    assert_eq!(numbers(dir.path()), [0, 1, 2]);
}
