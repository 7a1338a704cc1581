//! A path that names one file.

use serde_json::{Value, json};

use super::engine::*;

async fn once(config: &Value, numbers: std::ops::Range<i64>, run: &str) -> karez_core::Result<()> {
    let mut engine = Engine::new(config, &numbered());
    engine.run.run = karez_core::RunId(run.to_owned());
    engine.start(&Manifest::default(), 1).await?;
    for n in numbers {
        engine.write(0, rows([n])).await?;
        engine.checkpoint(false).await?;
    }
    engine.checkpoint(true).await?;
    Ok(())
}

#[tokio::test]
async fn fail_refuses_a_file_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all.csv");
    let config = json!({ "path": path });
    assert_eq!(plan(&config, &numbered()).unwrap().max_parallelism(), Some(1));
    once(&config, 0..5, "a").await.unwrap();
    assert_eq!(numbers(dir.path()), [0, 1, 2, 3, 4]);
    let e = once(&config, 5..6, "b").await.unwrap_err().to_string();
    assert!(e.contains("exists already") && e.contains("ifExists"), "{e}");
    let e = plan(&config, &numbered()).unwrap().check().await.unwrap_err().to_string();
    assert!(e.contains("exists already"), "{e}");
    assert_eq!(files(dir.path()), [path]);
}

#[tokio::test]
async fn replace_takes_the_place_of_a_file_at_the_end() {
    for name in ["all.csv", "all.parquet", "all.ndjson.gz"] {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({ "path": dir.path().join(name), "ifExists": "replace" });
        once(&config, 0..5, "a").await.unwrap();
        let mut engine = Engine::new(&config, &numbered());
        engine.start(&Manifest::default(), 1).await.unwrap();
        engine.write(0, rows(5..7)).await.unwrap();
        engine.checkpoint(false).await.unwrap();
        assert_eq!(numbers(dir.path()), [0, 1, 2, 3, 4], "until then the old one stands");
        let end = engine.barrier(true).await.unwrap();
        engine.commit(&end).await.unwrap();
        assert_eq!(numbers(dir.path()), [5, 6]);
        let again = engine.commit(&end).await.unwrap();
        assert!(matches!(again[..], [karez_core::CommitOutcome::AlreadyCommitted]));
        assert_eq!(files(dir.path()).len(), 1);
    }
}

/// Of a dead-letter file: what the last commit of another sink refuses comes when all files have ended.
#[tokio::test]
async fn rows_behind_the_end_are_added_to_the_file() {
    for name in ["all.csv", "all.ndjson", "all.csv.gz", "all.parquet"] {
        for if_exists in ["fail", "replace", "append"] {
            let dir = tempfile::tempdir().unwrap();
            let config = json!({ "path": dir.path().join(name), "ifExists": if_exists });
            let mut engine = Engine::new(&config, &numbered());
            engine.start(&Manifest::default(), 1).await.unwrap();
            engine.write(0, rows(0..3)).await.unwrap();
            let end = engine.checkpoint(true).await.unwrap();
            let mut again = Engine::new(&config, &numbered());
            again.start(&end, 1).await.unwrap();
            again.write(0, rows(3..5)).await.unwrap();
            assert_eq!(numbers(dir.path()), [0, 1, 2], "{name} {if_exists}");
            let behind = again.barrier(true).await.unwrap();
            for _ in 0..2 {
                again.commit(&behind).await.unwrap();
                assert_eq!(numbers(dir.path()), [0, 1, 2, 3, 4], "{name} {if_exists}");
            }
            assert_eq!(files(dir.path()).len(), 1);
        }
    }
}

#[tokio::test]
async fn append_adds_to_a_file() {
    for name in ["all.csv", "all.csv.gz", "all.ndjson.zst", "all.parquet"] {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({ "path": dir.path().join(name), "ifExists": "append" });
        once(&config, 0..3, "a").await.unwrap();
        once(&config, 3..6, "b").await.unwrap();
        once(&config, 6..6, "c").await.unwrap();
        assert_eq!(numbers(dir.path()), [0, 1, 2, 3, 4, 5], "{name}");
        assert_eq!(files(dir.path()).len(), 1);
    }
}

#[tokio::test]
async fn append_ends_a_line_without_end_and_refuses_another_header() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all.csv");
    let config = json!({ "path": path, "ifExists": "append" });
    std::fs::write(&path, "n,text\n-1,\"row \"\"-1\"\",\nso\"").unwrap();
    once(&config, 0..1, "a").await.unwrap();
    assert_eq!(numbers(dir.path()), [-1, 0]);

    std::fs::write(&path, "text,n\n").unwrap();
    let e = once(&config, 0..1, "b").await.unwrap_err().to_string();
    assert!(e.contains("does not begin with the line `n,text`"), "{e}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "text,n\n");
}

#[tokio::test]
async fn append_goes_on_after_a_crash_and_sees_that_somebody_else_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all.csv");
    let config = json!({ "path": path, "ifExists": "append" });
    once(&config, 0..3, "a").await.unwrap();
    let mut engine = Engine::new(&config, &numbered());
    engine.start(&Manifest::default(), 1).await.unwrap();
    engine.write(0, rows(3..5)).await.unwrap();
    let manifest = engine.checkpoint(false).await.unwrap();
    engine.write(0, rows(5..9)).await.unwrap();
    engine.start(&manifest, 1).await.unwrap();
    engine.write(0, rows(5..6)).await.unwrap();
    let end = engine.barrier(true).await.unwrap();
    std::fs::write(&path, "n,text\n").unwrap();
    let e = engine.commit(&end).await.unwrap_err().to_string();
    assert!(e.contains("was changed by somebody else"), "{e}");

    let copy = hidden(dir.path()).remove(0);
    std::fs::rename(copy, &path).unwrap();
    assert_eq!(numbers(dir.path()), [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn no_rows_make_a_file_with_the_names_of_the_columns() {
    for name in ["all.csv", "all.csv.gz", "all.parquet", "all.ndjson.gz", "all.ndjson.zst", "all.ndjson"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder").join(name);
        once(&json!({ "path": path }), 0..0, "a").await.unwrap();
        assert!(path.exists(), "{name}");
        assert!(numbers(dir.path()).is_empty());
        if name.contains("csv") {
            assert_eq!(bytes(&path), b"n,text\n");
        }
    }
}

#[tokio::test]
async fn one_file_for_each_day_of_the_rows() {
    let dir = tempfile::tempdir().unwrap();
    let schema =
        std::sync::Arc::new(arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new("d", arrow::datatypes::DataType::Date32, false)]));
    let config = json!({ "path": format!("{}/{{date:d}}.csv", dir.path().display()) });
    let mut engine = Engine::new(&config, &schema);
    engine.start(&Manifest::default(), 1).await.unwrap();
    let days = arrow::array::Date32Array::from(vec![0, 1, 0]);
    engine.write(0, arrow::array::RecordBatch::try_new(schema, vec![std::sync::Arc::new(days)]).unwrap()).await.unwrap();
    let manifest = engine.checkpoint(false).await.unwrap();
    engine.start(&manifest, 1).await.unwrap();
    engine.checkpoint(true).await.unwrap();
    let found: Vec<String> = visible(dir.path()).iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(found, ["1970-01-01.csv", "1970-01-02.csv"]);
    assert_eq!(std::fs::read_to_string(dir.path().join("1970-01-01.csv")).unwrap(), "d\n1970-01-01\n1970-01-01\n");
}
