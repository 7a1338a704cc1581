use std::cell::Cell;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use karez_expr::{ExprError, RowFailure, evaluate_rows};
use proptest::prelude::*;

fn batch(values: Vec<i64>) -> RecordBatch {
    RecordBatch::try_from_iter([("v", Arc::new(Int64Array::from(values)) as _)]).unwrap()
}

/// Fails when any value is negative.
fn no_negatives(batch: &RecordBatch) -> Result<usize, ExprError> {
    match batch.column(0).as_primitive::<Int64Type>().values().iter().find(|&&v| v < 0) {
        Some(v) => Err(ExprError::new("v", format!("{v} is negative"))),
        None => Ok(batch.num_rows()),
    }
}

#[test]
fn a_good_batch_is_evaluated_once() {
    let calls = Cell::new(0);
    let result = evaluate_rows(&batch(vec![1, 2, 3]), |b| {
        calls.set(calls.get() + 1);
        no_negatives(b)
    });
    assert_eq!(result.unwrap().value, 3);
    assert_eq!(calls.get(), 1);
}

#[test]
fn one_bad_row_of_many_is_found_in_logarithmic_calls() {
    let mut values = vec![1; 8192];
    values[5000] = -7;
    let calls = Cell::new(0);
    let result = evaluate_rows(&batch(values), |b| {
        calls.set(calls.get() + 1);
        no_negatives(b)
    })
    .unwrap();
    assert_eq!(result.failures, [RowFailure { row: 5000, reason: "-7 is negative (in `v`)".into() }]);
    assert_eq!(result.value, 8191);
    assert_eq!(calls.get(), 1 + 2 * 13 + 1);
}

#[test]
fn a_failure_of_no_row_is_returned() {
    let error = evaluate_rows(&batch(vec![1, 2]), |b| match b.num_rows() {
        2 => Err(ExprError::new("", "out of memory")),
        n => Ok(n),
    });
    assert_eq!(error.unwrap_err().message, "out of memory");
    let error = evaluate_rows(&batch(vec![]), |_| Err::<(), _>(ExprError::new("", "never")));
    assert_eq!(error.unwrap_err().message, "never");
}

proptest! {
    #[test]
    fn exactly_the_bad_rows_are_found(values in prop::collection::vec(-2_i64..8, 1..200)) {
        let bad: Vec<usize> = (0..values.len()).filter(|&i| values[i] < 0).collect();
        let good: Vec<i64> = values.iter().copied().filter(|&v| v >= 0).collect();
        let result = evaluate_rows(&batch(values), no_negatives).unwrap();
        prop_assert_eq!(result.failures.iter().map(|f| f.row).collect::<Vec<_>>(), bad);
        prop_assert_eq!(result.good, batch(good));
    }
}
