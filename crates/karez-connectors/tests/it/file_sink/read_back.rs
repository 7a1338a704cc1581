//! Every type, written and read back equal.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::NullBuffer;
use arrow::datatypes::*;
use serde_json::json;

use super::engine::*;

fn flat() -> RecordBatch {
    let strings =
        vec![Some("plain"), Some(""), None, Some("a,b"), Some("say \"hi\""), Some("two\nlines\r\n"), Some("坎儿井 🐪"), Some(" pad "), Some("NA")];
    let n = strings.len();
    let at = |i: usize| i % 4 != 3;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("utf8", Arc::new(StringArray::from(strings.clone()))),
        ("large", Arc::new(LargeStringArray::from(strings.clone()))),
        ("view", Arc::new(StringViewArray::from(strings))),
        ("i8", Arc::new((0..n).map(|i| at(i).then_some(i8::MIN + i as i8)).collect::<Int8Array>())),
        ("i16", Arc::new((0..n).map(|i| at(i).then_some(i16::MAX - i as i16)).collect::<Int16Array>())),
        ("i32", Arc::new((0..n).map(|i| at(i).then_some(i32::MIN + i as i32)).collect::<Int32Array>())),
        ("i64", Arc::new((0..n).map(|i| at(i).then_some(i64::MAX - i as i64)).collect::<Int64Array>())),
        ("u8", Arc::new((0..n).map(|i| at(i).then_some(u8::MAX - i as u8)).collect::<UInt8Array>())),
        ("u64", Arc::new((0..n).map(|i| at(i).then_some(u64::MAX - i as u64)).collect::<UInt64Array>())),
        ("f32", Arc::new((0..n).map(|i| at(i).then_some(1.1_f32 * i as f32)).collect::<Float32Array>())),
        ("f64", Arc::new((0..n).map(|i| at(i).then_some([0.1, -0.0, 1e300, f64::MIN_POSITIVE][i % 4])).collect::<Float64Array>())),
        ("bool", Arc::new((0..n).map(|i| at(i).then_some(i % 2 == 0)).collect::<BooleanArray>())),
        (
            "decimal",
            Arc::new((0..n).map(|i| at(i).then_some(-12_345 * i as i128)).collect::<Decimal128Array>().with_precision_and_scale(20, 3).unwrap()),
        ),
        ("date", Arc::new((0..n).map(|i| at(i).then_some(15_000 + i as i32)).collect::<Date32Array>())),
        ("time", Arc::new((0..n).map(|i| at(i).then_some(86_399_999_999 - i as i64)).collect::<Time64MicrosecondArray>())),
        ("second", Arc::new((0..n).map(|i| at(i).then_some(1_357_016_400 + i as i64)).collect::<TimestampSecondArray>())),
        ("milli", Arc::new((0..n).map(|i| at(i).then_some(-1 - i as i64)).collect::<TimestampMillisecondArray>())),
        (
            "nano",
            Arc::new(
                (0..n).map(|i| at(i).then_some(1_357_016_400_000_000_001 + i as i64)).collect::<TimestampNanosecondArray>().with_timezone("UTC"),
            ),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, c)| (name, c, true))).unwrap()
}

fn nested() -> RecordBatch {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let inner: ArrayRef = Arc::new(StringArray::from(vec![Some("a\"b"), None, Some("c")]));
    let fields = Fields::from(vec![Field::new("s", DataType::Utf8, true)]);
    let record = StructArray::new(fields, vec![inner], Some(NullBuffer::from(vec![true, true, false])));
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(7);
    map.append(true).unwrap();
    map.append(true).unwrap();
    map.append(false).unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![("list", Arc::new(list)), ("record", Arc::new(record)), ("map", Arc::new(map.finish()))];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, c)| (name, c, true))).unwrap()
}

async fn write(batch: &RecordBatch, more: serde_json::Value) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::new(&config(dir.path(), more), &batch.schema());
    engine.start(&Manifest::default(), 1).await.unwrap();
    engine.write(0, batch.slice(0, 1)).await.unwrap();
    engine.checkpoint(false).await.unwrap();
    engine.write(0, batch.slice(1, batch.num_rows() - 1)).await.unwrap();
    engine.checkpoint(true).await.unwrap();
    assert!(engine.writers[0].take_rejects().is_empty());
    let file = visible(dir.path()).remove(0);
    (dir, file)
}

#[tokio::test]
async fn ndjson_gives_every_flat_and_nested_value_back() {
    for (batch, more) in
        [(flat(), json!({})), (nested(), json!({})), (flat(), json!({ "omitNulls": true })), (nested(), json!({ "compression": "zstd" }))]
    {
        let mut options = json!({ "format": "json" });
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (_dir, file) = write(&batch, options).await;
        let found = arrow::compute::concat_batches(&batch.schema(), &read(&file, &batch.schema())).unwrap();
        assert_eq!(found, batch);
    }
}

#[tokio::test]
async fn parquet_gives_every_value_back() {
    for batch in [flat(), nested()] {
        for compression in ["none", "snappy", "zstd"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("all.parquet");
            let mut engine = Engine::new(&json!({ "path": path, "compression": compression }), &batch.schema());
            engine.start(&Manifest::default(), 1).await.unwrap();
            for row in 0..batch.num_rows() {
                // Each row is a segment of its own: joining keeps values and order.
                engine.write(0, batch.slice(row, 1)).await.unwrap();
                engine.checkpoint(false).await.unwrap();
            }
            engine.checkpoint(true).await.unwrap();
            assert_eq!(arrow::compute::concat_batches(&batch.schema(), &read(&path, &batch.schema())).unwrap(), batch);
        }
    }
}

#[tokio::test]
async fn csv_gives_every_value_back_and_tells_null_from_text() {
    for marker in ["", "NA"] {
        let batch = flat();
        let (_dir, file) = write(&batch, json!({ "format": "csv", "nullValue": marker, "delimiter": ";", "quote": "'" })).await;
        let text = std::fs::read(&file).unwrap();
        let options = karez_formats::csv::CsvOptions {
            delimiter: b';',
            quote: Some(b'\''),
            null_markers: vec![marker.to_owned()],
            ..karez_formats::csv::CsvOptions::default()
        };
        let header_end = text.iter().position(|b| *b == b'\n').unwrap() + 1;
        let fields: Vec<usize> = (0..batch.num_columns()).collect();
        let mut decoder = karez_formats::csv::CsvDecoder::try_new(batch.schema(), &fields, fields.len(), &options).unwrap();
        let mut errors = Vec::new();
        decoder.decode_lines(&text[header_end..], true, usize::MAX, &mut errors);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(decoder.flush().unwrap().unwrap(), batch);
    }
}

#[tokio::test]
async fn one_empty_text_is_not_an_empty_line() {
    let batch = RecordBatch::try_from_iter([("t", Arc::new(StringArray::from(vec!["", "x"])) as ArrayRef)]).unwrap();
    let (_dir, file) = write(&batch, json!({ "format": "csv", "header": false })).await;
    assert_eq!(std::fs::read_to_string(file).unwrap(), "\"\"\nx\n");
}

#[tokio::test]
async fn text_lines_are_written_as_they_are_and_what_cannot_be_read_back_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let batch = RecordBatch::try_from_iter_with_nullable([(
        "line",
        Arc::new(StringArray::from(vec![Some("a"), Some("b\nc"), None, Some("d,\"e\"")])) as ArrayRef,
        true,
    )])
    .unwrap();
    let mut engine = Engine::new(&config(dir.path(), json!({ "format": "text" })), &batch.schema());
    engine.start(&Manifest::default(), 1).await.unwrap();
    engine.write(0, batch).await.unwrap();
    let rejects = engine.writers[0].take_rejects();
    let told: Vec<(&str, &str)> = rejects.iter().map(|r| (r.reason.as_str(), r.row.as_deref().unwrap())).collect();
    assert_eq!(
        told,
        [("column `line`: the value holds a line break", r#"{"line":"b\nc"}"#), ("column `line`: a line of text cannot hold null", "{}")]
    );
    engine.checkpoint(true).await.unwrap();
    assert_eq!(std::fs::read_to_string(&visible(dir.path())[0]).unwrap(), "a\nd,\"e\"\n");
}

#[tokio::test]
async fn a_time_without_a_text_is_rejected_alone() {
    for format in ["csv", "ndjson"] {
        let dir = tempfile::tempdir().unwrap();
        let at = TimestampMillisecondArray::from(vec![0, i64::MAX, 1]);
        let batch = RecordBatch::try_from_iter([("at", Arc::new(at) as ArrayRef)]).unwrap();
        let mut engine = Engine::new(&config(dir.path(), json!({ "format": format })), &batch.schema());
        engine.start(&Manifest::default(), 1).await.unwrap();
        engine.write(0, batch).await.unwrap();
        let rejects = engine.writers[0].take_rejects();
        assert_eq!(rejects.len(), 1);
        assert!(rejects[0].reason.contains("column `at`"), "{}", rejects[0].reason);
        engine.checkpoint(true).await.unwrap();
        let text = std::fs::read_to_string(&visible(dir.path())[0]).unwrap();
        assert_eq!(text.matches("1970-01-01T00:00:00").count(), 2, "{text}");
    }
}
