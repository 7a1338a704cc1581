//! The hash exchange's way with a batch: every row to the target of its key, in order, whatever its columns are made of.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Int32Array, Int64Array, StringArray, StringViewArray, TimestampMillisecondArray,
    UInt32Array,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::Int8Type;
use arrow::record_batch::RecordBatch;
use karez_core::key_group::{key_groups_of, subtask_of};
use karez_runtime::exchange::scatter::Scatter;
use proptest::prelude::*;

fn batch(rows: &[(Option<i64>, String, Option<String>)]) -> RecordBatch {
    let number = |f: fn(usize) -> i64| (0..rows.len()).map(f).collect::<Vec<_>>();
    let texts = || rows.iter().map(|r| r.1.as_str());
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("key", Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>())),
        ("row", Arc::new(Int64Array::from(number(|n| n as i64)))),
        ("small", Arc::new(Int32Array::from_iter_values((0..rows.len()).map(|n| n as i32)))),
        ("time", Arc::new(TimestampMillisecondArray::from(number(|n| n as i64 * 1_000)).with_timezone("Europe/Berlin"))),
        ("text", Arc::new(StringArray::from_iter_values(texts()))),
        ("text or null", Arc::new(rows.iter().map(|r| r.2.as_deref()).collect::<StringArray>())),
        ("bytes", Arc::new(BinaryArray::from_iter_values(texts()))),
        ("view", Arc::new(StringViewArray::from_iter_values(texts()))),
        ("flag", Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(r.1.len() % 2 == 0))))),
        ("word", Arc::new(texts().map(|t| if t.len() > 3 { "long" } else { "short" }).collect::<DictionaryArray<Int8Type>>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

proptest! {
    #[test]
    fn every_row_comes_to_the_target_of_its_key_in_order(
        rows in prop::collection::vec((prop::option::weighted(0.9, 0..40_i64), ".{0,9}", prop::option::of(".{0,5}")), 0..200),
        cut in 0..20_usize,
        by_text in any::<bool>(),
        targets in 1..9_usize,
    ) {
        let whole = batch(&rows);
        let batch = whole.slice(cut.min(whole.num_rows()), whole.num_rows() - cut.min(whole.num_rows()));
        let key = if by_text { 4 } else { 0 };
        let mut scatter = Scatter::new(vec![key], targets, 128);
        // Twice: nothing of a batch may be left for the next.
        scatter.split(&whole).unwrap();
        let parts = scatter.split(&batch).unwrap();

        let mut groups = Vec::new();
        key_groups_of(&[Arc::clone(batch.column(key))], batch.num_rows(), 128, &mut groups).unwrap();
        let expected = (0..targets).filter_map(|target| {
            let mine = groups.iter().zip(0_u32..).filter(|(g, _)| subtask_of(**g, targets, 128) == target).map(|(_, row)| row);
            let mine = take_record_batch(&batch, &UInt32Array::from_iter_values(mine)).unwrap();
            (mine.num_rows() > 0).then_some((target, mine))
        });
        let parts: Vec<_> = parts.into_iter().map(|(t, rows)| (t, concat_batches(&batch.schema(), [&rows]).unwrap())).collect();
        prop_assert_eq!(parts, expected.collect::<Vec<_>>());
    }
}
