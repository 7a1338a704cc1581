//! Reading Parquet files.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Decimal128Type, Field, Int64Type, Schema, TimeUnit};
use karez_formats::parquet::{BadRow, ParquetMeta, ParquetRows};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

/// 100 rows in row groups of 30: `n` counts, `s` is its text, but `x` for 42.
fn file(dir: &tempfile::TempDir) -> File {
    let n = Int64Array::from_iter_values(0..100);
    let s = StringArray::from_iter_values((0..100).map(|i| if i == 42 { "x".to_owned() } else { i.to_string() }));
    let batch = RecordBatch::try_from_iter([("n", Arc::new(n) as ArrayRef), ("s", Arc::new(s) as ArrayRef)]).unwrap();
    let path = dir.path().join("a.parquet");
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(30)).build();
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    File::open(path).unwrap()
}

fn schema(columns: &[(&str, DataType)]) -> Arc<Schema> {
    Arc::new(Schema::new(columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
}

#[test]
fn reading_goes_on_at_any_position_with_exactly_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(&dir);
    let meta = ParquetMeta::read(&file).unwrap();
    assert_eq!(meta.row_groups().iter().map(|g| g.rows).collect::<Vec<_>>(), [30, 30, 30, 10]);
    let open = |(group, row)| {
        let schema = schema(&[("n", DataType::Int64)]);
        ParquetRows::try_new(file.try_clone().unwrap(), meta.clone(), schema, group, row, 4).unwrap()
    };
    let mut rows = open((0, 0));
    let mut seen = 0;
    while let Some(batch) = rows.next(7, usize::MAX, &mut Vec::new()).unwrap() {
        seen += batch.num_rows();
        let mut rest = open(rows.position());
        let mut numbers = Vec::new();
        while let Some(batch) = rest.next(1_000, usize::MAX, &mut Vec::new()).unwrap() {
            numbers.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
        }
        assert_eq!(numbers, (seen as i64..100).collect::<Vec<_>>());
    }
    assert_eq!(seen, 100);
}

#[test]
fn a_value_that_does_not_fit_the_declared_type_is_a_bad_record() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(&dir);
    let meta = ParquetMeta::read(&file).unwrap();
    let wanted = schema(&[("s", DataType::Int64), ("n", DataType::Int64)]);
    let mut rows = ParquetRows::try_new(file.try_clone().unwrap(), meta.clone(), wanted, 1, 0, 2).unwrap();
    rows.track_rows(true);
    let mut errors = Vec::new();
    let batch = rows.next(100, usize::MAX, &mut errors).unwrap().unwrap();
    assert_eq!(batch.num_rows(), 29);
    assert_eq!(batch.column(0), batch.column(1));
    assert_eq!(errors, [BadRow { number: 42, reason: "column `s`: `x` is not a bigint".into(), row: Some(r#"{"n":42}"#.into()) }]);
    assert!(!rows.take_rows().contains(&42));
    let missing = ParquetRows::try_new(file, meta, schema(&[("q", TEXT)]), 0, 0, 4).unwrap_err();
    assert_eq!(missing, "there is no column `q`");
}

#[test]
fn a_narrower_type_neither_rounds_nor_cuts_off() {
    let dir = tempfile::tempdir().unwrap();
    let columns: [(&str, ArrayRef); 3] = [
        ("price", Arc::new(Decimal128Array::from(vec![1_230, 1_239, 1_230, 1_230, 0]).with_precision_and_scale(12, 3).unwrap())),
        ("share", Arc::new(Float64Array::from(vec![8.0, 8.0, 8.5, 8.0, 1e300]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![1_000, 1_000, 1_000, 1_001, 0]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let path = dir.path().join("a.parquet");
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let file = File::open(path).unwrap();
    let meta = ParquetMeta::read(&file).unwrap();
    let wanted =
        schema(&[("price", DataType::Decimal128(12, 2)), ("share", DataType::Int32), ("at", DataType::Timestamp(TimeUnit::Millisecond, None))]);
    let mut errors = Vec::new();
    let batch =
        ParquetRows::try_new(file.try_clone().unwrap(), meta.clone(), wanted, 0, 0, 1).unwrap().next(10, usize::MAX, &mut errors).unwrap().unwrap();
    assert_eq!(batch.num_rows(), 1);
    assert_eq!(batch.column(0).as_primitive::<Decimal128Type>().value(0), 123);
    assert_eq!(
        errors.iter().map(|e| (e.number, e.reason.as_str())).collect::<Vec<_>>(),
        [
            (1, "column `price`: `1.239` is not a decimal(12, 2): it would become `1.24`"),
            (2, "column `share`: `8.5` is not an int: it would become `8`"),
            (3, "column `at`: `1970-01-01T00:00:00.001001` is not a timestamp(3): it would become `1970-01-01T00:00:00.001`"),
            (4, "column `share`: `1e300` is not an int"),
        ]
    );
    let time = schema(&[("at", DataType::Time64(TimeUnit::Microsecond))]);
    assert_eq!(ParquetRows::try_new(file, meta, time, 0, 0, 1).unwrap_err(), "column `at` is a timestamp(6), which cannot be read as time(6)");
}

#[test]
fn no_column_still_counts_rows() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(&dir);
    let meta = ParquetMeta::read(&file).unwrap();
    let mut rows = ParquetRows::try_new(file, meta, schema(&[]), 0, 5, 2).unwrap();
    let mut seen = 0;
    while let Some(batch) = rows.next(1_000, usize::MAX, &mut Vec::new()).unwrap() {
        seen += batch.num_rows();
    }
    assert_eq!(seen, 55);
}

const TEXT: DataType = DataType::Utf8;
