//! What is refused when the job is planned, and with which words.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde_json::{Value, json};

use super::engine::{numbered, plan};

fn refused(config: Value, schema: &SchemaRef) -> String {
    plan(&config, schema).err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn mistakes_are_named_with_their_key() {
    let cases = [
        (json!({ "path": "out/" }), "`format`: a folder of files needs a format"),
        (json!({ "path": "out/a.xyz" }), "`format`: the extension of `a.xyz` names no format"),
        (json!({ "path": "out/", "fromat": "csv" }), "did you mean `format`?"),
        (json!({ "path": "" , "format": "csv" }), "`path`: is empty"),
        (json!({ "path": "out/{day}/", "format": "csv" }), "unknown placeholder `{day}`"),
        (json!({ "path": "out/{date:nn}/", "format": "csv" }), "there is no column `nn`; did you mean `n`?"),
        (json!({ "path": "out/{date:n}/", "format": "csv" }), "column `n` is bigint, not a date or timestamp"),
        (json!({ "path": "out/{date:%Q}/", "format": "csv" }), "is no date format"),
        (json!({ "path": "out/{date", "format": "csv" }), "`{` without `}`"),
        (json!({ "path": "out/", "format": "csv", "ifExists": "replace" }), "`ifExists`: files in a folder get names of their own"),
        (json!({ "path": "out/a.csv", "rollSize": "1m" }), "`rollSize`: one file does not roll"),
        (json!({ "path": "out/a.csv.gz", "compression": "zstd" }), "promises another compression"),
        (json!({ "path": "out/", "format": "parquet", "compression": "gzip" }), "`compression`: Parquet files"),
        (json!({ "path": "out/", "format": "ndjson", "compression": "snappy" }), "`compression`: files of lines"),
        (
            json!({ "path": "out/", "format": "ndjson", "delimiter": ";" }),
            "`delimiter`: only with `format: csv`, and this is `format: ndjson`; leave it out",
        ),
        (json!({ "path": "out/", "format": "csv", "delimiter": "::" }), "`delimiter`: must be one ASCII character"),
        (json!({ "path": "out/", "format": "csv", "delimiter": "\"" }), "delimiter and quote must differ"),
        (json!({ "path": "out/", "format": "csv", "nullValue": "a,b" }), "the null value `a,b` holds a delimiter"),
        (json!({ "path": "out/", "format": "csv", "nullValue": null }), "write it in quotes"),
        (json!({ "path": "out/", "format": "text" }), "takes one column of text or binary, but there are: `n` (bigint), `text` (string)"),
    ];
    for (config, expected) in cases {
        let e = refused(config.clone(), &numbered());
        assert!(e.contains(expected), "{config}: {e}");
    }
}

#[test]
fn nested_columns_are_refused_by_csv_alone() {
    let item = Arc::new(Field::new_list_field(DataType::Int64, true));
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("tags", DataType::List(item), true)]));
    let e = refused(json!({ "path": "out/", "format": "csv" }), &schema);
    assert!(e.contains("column `tags`") && e.contains("CSV holds no nested values"), "{e}");
    assert_eq!(refused(json!({ "path": "out/", "format": "ndjson" }), &schema), "");
    assert_eq!(refused(json!({ "path": "out/", "format": "parquet" }), &schema), "");
}

#[test]
fn the_last_part_of_the_path_tells_a_file_from_a_folder() {
    let parallelism = |path: &str| plan(&json!({ "path": path, "format": "csv" }), &numbered()).unwrap().max_parallelism();
    assert_eq!(parallelism("out"), None);
    assert_eq!(parallelism("out.d/"), None);
    assert_eq!(parallelism("release-1.2"), None);
    assert_eq!(parallelism("out/{date:%Y.%m}"), None);
    assert_eq!(parallelism("out/a.csv"), Some(1));
    assert_eq!(parallelism("out/a-{date}.data"), Some(1));
}

#[tokio::test]
async fn check_makes_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a/b");
    plan(&json!({ "path": folder.join("c.csv") }), &numbered()).unwrap().check().await.unwrap();
    assert!(!dir.path().join("a").exists());

    std::fs::write(dir.path().join("a"), "").unwrap();
    let e = plan(&json!({ "path": folder, "format": "csv" }), &numbered()).unwrap().check().await.unwrap_err().to_string();
    assert!(e.contains("is a file, so no folder"), "{e}");
}
