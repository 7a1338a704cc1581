//! Which rows of a batch fail.
//!
//! Kernels work on whole columns and name no row when they fail. A batch that fails is halved until the rows at fault stand
//! alone; the others go on. Batches that do not fail pay nothing.

use arrow::array::{BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::compute::filter_record_batch;

use crate::error::ExprError;

/// A row that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFailure {
    /// Index into the batch.
    pub row: usize,
    /// What the row did wrong, and in which expression.
    pub reason: String,
}

/// What [`evaluate_rows`] found.
#[derive(Debug, Clone)]
pub struct Evaluated<T> {
    /// The result over the good rows.
    pub value: T,
    /// The good rows, in order: the batch itself when none failed.
    pub good: RecordBatch,
    /// The rows at fault, ascending.
    pub failures: Vec<RowFailure>,
}

/// Evaluates `f` over the rows of `batch` for which it succeeds, and says which ones fail.
///
/// Takes one call when nothing fails, otherwise O(failures · log rows) calls, on slices without copies, and one more on the
/// good rows together. `f` is to judge each row for itself: an expression, a projection, a filter.
///
/// # Errors
/// When `f` fails without a row: on the empty batch, on a batch whose halves both succeed, or on the good rows together.
pub fn evaluate_rows<T>(batch: &RecordBatch, f: impl Fn(&RecordBatch) -> Result<T, ExprError>) -> Result<Evaluated<T>, ExprError> {
    let error = match f(batch) {
        Ok(value) => return Ok(Evaluated { value, good: batch.clone(), failures: Vec::new() }),
        Err(error) => error,
    };
    let mut failures = Vec::new();
    // Parts of the batch that are known to fail, the first on top: (offset, length, why).
    let mut failing = vec![(0, batch.num_rows(), error)];
    while let Some((offset, length, error)) = failing.pop() {
        match length {
            0 => return Err(error),
            1 => {
                failures.push(RowFailure { row: offset, reason: error.of_a_row() });
                continue;
            }
            _ => {}
        }
        let half = length / 2;
        let left = f(&batch.slice(offset, half)).err();
        let right = f(&batch.slice(offset + half, length - half)).err();
        if left.is_none() && right.is_none() {
            return Err(error);
        }
        failing.extend(right.map(|error| (offset + half, length - half, error)));
        failing.extend(left.map(|error| (offset, half, error)));
    }
    let good = without(batch, &failures)?;
    Ok(Evaluated { value: f(&good)?, good, failures })
}

fn without(batch: &RecordBatch, failures: &[RowFailure]) -> Result<RecordBatch, ExprError> {
    let mut keep = BooleanBufferBuilder::new(batch.num_rows());
    keep.append_n(batch.num_rows(), true);
    for failure in failures {
        keep.set_bit(failure.row, false);
    }
    filter_record_batch(batch, &BooleanArray::new(keep.finish(), None)).map_err(|error| ExprError::from_arrow("", &error))
}
