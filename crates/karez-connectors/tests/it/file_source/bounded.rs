//! Files that are read once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use karez_core::source::ReadLimit;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::json;

use super::job::*;

#[test]
fn csv_columns_are_found_by_name_in_each_file_by_its_own_header() {
    let folder = Folder::new();
    folder
        .write("a.csv", "id,name,time\n1,\"x, y\",2013-01-01T10:00:00Z\n")
        .write("b.csv", "\u{feff}time,other,id,name\r\n2013-01-01 10:00:00.123,q,2,NA\r\n");
    folder.write("c.csv", "");
    let config = folder.config("*.csv", "csv", json!({ "nullValue": ["NA", ""] }));
    let schema = schema(&[("name", TEXT), ("id", BIGINT), ("time", TIMESTAMP)]);
    assert_eq!(Job::start(&config, Some(&schema)).settle(), ["x, y|1|2013-01-01T10:00:00", "|2|2013-01-01T10:00:00.123"]);
}

#[test]
fn a_column_missing_in_a_later_file_is_an_error_that_names_the_file() {
    let folder = Folder::new();
    folder.write("a.csv", "id,name\n1,x\n").write("b.csv", "id,nmae\n2,y\n");
    let config = folder.config("*.csv", "csv", json!({}));
    let error = Job::start(&config, None).try_settle().unwrap_err().to_string();
    assert!(error.contains("b.csv") && error.contains("there is no column `name`; did you mean `nmae`?"), "{error}");
}

#[test]
fn csv_without_a_header_is_read_by_position() {
    let folder = Folder::new();
    folder.write("a.csv", "1;x\n2;y");
    let config = folder.config("a.csv", "csv", json!({ "header": false, "delimiter": ";" }));
    assert_eq!(Job::start(&config, Some(&schema(&[("n", BIGINT), ("s", TEXT)]))).settle(), ["1|x", "2|y"]);
    let inferred = source(&config, None).unwrap().schema().arrow;
    assert_eq!(inferred.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["column_1", "column_2"]);
}

#[test]
fn bad_records_say_where_they_stand_and_good_ones_go_on() {
    let folder = Folder::new();
    folder.write("a.csv", b"id,s\n1,a\nx,b\n\xff,c\n4,d,e\n5,f\n");
    let config = folder.config("a.csv", "csv", json!({}));
    let declared = schema(&[("id", BIGINT), ("s", TEXT)]);
    let mut job = Job::start(&config, Some(&declared));
    assert_eq!(job.settle(), ["1|a", "5|f"]);
    let path = folder.text("a.csv");
    assert_eq!(job.bad[0].origin.as_deref(), Some(format!("file={path} offset=9").as_str()));
    assert_eq!(job.bad[0].reason, "column `id`: `x` is not a bigint");
    assert_eq!((job.bad.len(), job.bad[0].raw.as_deref()), (3, None));
    let mut job = Job::new(source(&config, Some(&declared)).unwrap(), true, None);
    assert_eq!(job.settle(), [format!("1|a|file={path} offset=5"), format!("5|f|file={path} offset=23")]);
    assert_eq!(job.bad[1].raw.as_deref(), Some(b"\xff,c".as_slice()));
}

#[test]
fn a_projection_reads_only_its_columns() {
    let folder = Folder::new();
    folder.write("a.csv", "a,b,c\n1,x,3\n").write("a.json", "{\"a\":1,\"b\":\"x\",\"c\":3}\n").write("a.txt", "q\n");
    for (glob, format) in [("a.csv", "csv"), ("a.json", "ndjson")] {
        let source = source(&folder.config(glob, format, json!({})), None).unwrap();
        let projected = source.project(&[0, 2]).unwrap();
        assert_eq!(projected.schema().arrow.fields().len(), 2);
        assert_eq!(Job::new(projected.clone(), false, None).settle(), ["1|3"]);
        assert_eq!(Job::new(projected.project(&[1]).unwrap(), false, None).settle(), ["3"]);
        assert_eq!(Job::new(projected.project(&[]).unwrap(), false, None).settle(), [""]);
    }
    let text = source(&folder.config("a.txt", "text", json!({})), None).unwrap();
    assert_eq!(Job::new(text.project(&[]).unwrap(), false, None).settle(), [""]);
}

#[test]
fn lines_of_text_are_rows() {
    let folder = Folder::new();
    folder.write("a.log", "one\r\n\ntwo");
    let mut job = Job::start(&folder.config("a.log", "text", json!({ "textColumn": "message" })), None);
    assert_eq!(job.source.schema().arrow.field(0).name(), "message");
    assert_eq!(job.settle(), ["one", "", "two"]);
}

#[test]
fn a_record_longer_than_the_limit_is_a_bad_record_wherever_blocks_end() {
    let folder = Folder::new();
    let (fits, long) = ("y".repeat(1_024), "z".repeat(1_025));
    folder.write("a.log", format!("a\n{long}\nb\n{fits}\nc\n{}\nd\n{long}", "w".repeat(2 << 20)));
    let config = folder.config("a.log", "text", json!({ "maxRecordSize": "1k" }));
    let mut job = Job::start(&config, None);
    assert_eq!(job.settle(), ["a", "b", &fits, "c", "d"]);
    assert_eq!(job.bad.len(), 3);
    assert!(job.bad[0].reason.contains("longer than 1024 bytes"));
    // So many bytes of it are in the letter.
    assert!(job.bad[0].origin.as_ref().unwrap().ends_with("offset=2 cut=1024"), "{:?}", job.bad[0]);
}

#[test]
fn compressed_files_are_one_split_and_go_on_at_the_decompressed_offset() {
    let folder = Folder::new();
    let text: String = (0..5_000).map(|i| format!("line {i}\n")).collect();
    let (first, second) = text.split_at(20_000);
    folder.write("a.gz", [gzip(first.as_bytes()), gzip(second.as_bytes())].concat());
    folder.write("b.zst", zstd::encode_all(text.as_bytes(), 0).unwrap()).write("c.noname", gzip(text.as_bytes()));
    for name in ["a.gz", "b.zst", "c.noname"] {
        let config = folder.config(name, "text", json!({ "splitSize": 100 }));
        let mut job = Job::start(&config, None);
        job.discover().unwrap();
        job.open().unwrap();
        assert_eq!(job.open_splits(), 1);
        job.read(ReadLimit { rows: 1_234, bytes: 1 << 20 }).unwrap();
        let mut rows = std::mem::take(&mut job.rows);
        assert_eq!(rows.len(), 1_234);
        rows.extend(Job::restore(&config, None, &job.go_down()).settle());
        assert_eq!(rows.join("\n") + "\n", text);
    }
}

#[test]
fn a_truncated_or_damaged_compressed_file_is_an_error_that_names_it() {
    let folder = Folder::new();
    let whole = gzip("line\n".repeat(10_000).as_bytes());
    let mut damaged = whole.clone();
    damaged.splice(40..60, [0xaa; 20]);
    folder.write("short.gz", &whole[..whole.len() / 2]).write("damaged.gz", damaged).write("plain.gz", "no gzip");
    for name in ["short.gz", "damaged.gz"] {
        let source = source(&folder.config(name, "text", json!({})), None).unwrap();
        let error = Job::new(source, false, None).try_settle().unwrap_err().to_string();
        assert!(error.contains(&folder.text(name)), "{error}");
    }
    let error = source(&folder.config("plain.gz", "text", json!({})), None).err().unwrap().to_string();
    assert!(error.contains("plain.gz") && error.contains("does not begin like"), "{error}");
}

#[test]
fn a_file_that_shrank_or_was_replaced_while_the_process_was_down_fails_the_job() {
    let folder = Folder::new();
    let config = folder.config("a.log", "text", json!({}));
    for changed in ["1\n2\n", "x\n2\n3\n4\n5\n"] {
        folder.write("a.log", "1\n2\n3\n4\n");
        let mut job = Job::start(&config, None);
        job.discover().unwrap();
        job.open().unwrap();
        job.read(ReadLimit { rows: 1, bytes: 1 << 20 }).unwrap();
        let saved = job.go_down();
        folder.write("a.log", changed);
        let error = Job::restore(&config, None, &saved).try_settle().unwrap_err().to_string();
        assert!(error.contains(&folder.text("a.log")) && error.contains("start afresh"), "{error}");
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_fails_the_job_without_half_a_line() {
    let folder = Folder::new();
    folder.write("a.log", "0123456789\n".repeat(200_000));
    let mut job = Job::start(&folder.config("a.log", "text", json!({})), None);
    job.discover().unwrap();
    job.open().unwrap();
    job.read(ReadLimit { rows: 10, bytes: 1 << 20 }).unwrap();
    fs::OpenOptions::new().write(true).open(folder.path("a.log")).unwrap().set_len(1_100_005).unwrap();
    let error = loop {
        if let Err(e) = job.read(LIMIT) {
            break e.to_string();
        }
    };
    assert!(error.contains("2200000 bytes long") && error.contains("1100005"), "{error}");
    assert_eq!(job.rows.len(), 100_000);
}

#[test]
fn lines_appended_after_the_run_began_are_not_read() {
    let folder = Folder::new();
    folder.write("a.log", "1\n2\n");
    let mut job = Job::start(&folder.config("a.log", "text", json!({})), None);
    job.discover().unwrap();
    folder.append("a.log", "3\n");
    assert_eq!(job.settle(), ["1", "2"]);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_that_names_it() {
    let folder = Folder::new();
    folder.write("a.log", "1\n");
    let source = source(&folder.config("*.log", "text", json!({})), None).unwrap();
    fs::remove_file(folder.path("a.log")).unwrap();
    let error = futures::executor::block_on(source.check()).unwrap_err().to_string();
    assert!(error.contains("no file matches"), "{error}");
    folder.write("a.log", "1\n");
    fs::set_permissions(folder.path("a.log"), fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read everything.
    if fs::File::open(folder.path("a.log")).is_err() {
        let error = futures::executor::block_on(source.check()).unwrap_err().to_string();
        assert!(error.contains(&folder.text("a.log")), "{error}");
    }
}

#[test]
fn parquet_is_split_by_row_groups_and_goes_on_at_a_row() {
    let folder = Folder::new();
    let n = Int64Array::from_iter_values(0..1_000);
    let s = StringArray::from_iter_values((0..1_000).map(|i| format!("s{i}")));
    let batch = RecordBatch::try_from_iter([("n", Arc::new(n) as ArrayRef), ("s", Arc::new(s) as ArrayRef)]).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    let mut writer = ArrowWriter::try_new(fs::File::create(folder.path("a.parquet")).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let config = folder.config("a.parquet", "parquet", json!({ "splitSize": 1 }));
    let mut job = Job::start(&config, None);
    job.discover().unwrap();
    job.open().unwrap();
    assert_eq!(job.open_splits(), 10);
    job.read(ReadLimit { rows: 30, bytes: 1 << 20 }).unwrap();
    let mut rows = std::mem::take(&mut job.rows);
    assert_eq!(rows.len(), 300);
    rows.extend(Job::restore(&config, None, &job.go_down()).settle());
    rows.sort_by_key(|r| r.split('|').next().unwrap().parse::<i64>().unwrap());
    assert_eq!(rows, (0..1_000).map(|i| format!("{i}|s{i}")).collect::<Vec<_>>());
    let wrong = source(&config, Some(&schema(&[("nn", BIGINT)]))).err().unwrap().to_string();
    assert!(wrong.contains("there is no column `nn`; did you mean `n`?"), "{wrong}");
}

#[test]
fn the_flights_of_january_2013_are_all_read() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/nycflights13/flights-2013-01.csv.gz");
    if !std::path::Path::new(file).exists() {
        return;
    }
    let config = json!({ "path": file, "format": "csv", "nullValue": "NA" });
    let mut job = Job::start(&config, None);
    assert_eq!(job.source.schema().arrow.field_with_name("time_hour").unwrap().data_type(), &TIMESTAMP);
    assert_eq!(job.source.schema().arrow.field_with_name("dep_time").unwrap().data_type(), &BIGINT);
    assert_eq!(job.settle().len(), 27_004);
    assert_eq!(job.bad, []);
}
