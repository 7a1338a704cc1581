//! Rows on which an expression fails become bad records; the others go on.

use arrow::array::{Array, AsArray};
use arrow::record_batch::RecordBatch;
use karez_core::schema::{ORIGIN_COLUMN, visible_batch};
use karez_core::{BadRecord, Error, Output, Result, row_json};
use karez_expr::{Evaluated, ExprError, evaluate_rows};

/// Evaluates `f` over the rows for which it succeeds and rejects the others. Gives the result and the good rows.
pub(crate) fn evaluate<T>(batch: &RecordBatch, f: impl Fn(&RecordBatch) -> Result<T, ExprError>, out: &mut dyn Output) -> Result<(T, RecordBatch)> {
    let Evaluated { value, good, failures } = evaluate_rows(batch, f).map_err(failed)?;
    for failure in failures {
        out.reject(bad_record(batch, failure.row, failure.reason)?)?;
    }
    Ok((value, good))
}

/// An expression failed for no row in particular: the job cannot go on.
pub(crate) fn failed(error: ExprError) -> Error {
    let place = if error.text.is_empty() { String::new() } else { format!(" (in `{}`)", error.text) };
    Error::user(format!("{error}{place}"))
}

/// Row `row` of a batch as a bad record: its visible columns as JSON, its origin where it carries one.
pub(crate) fn bad_record(batch: &RecordBatch, row: usize, reason: String) -> Result<BadRecord> {
    let origin =
        batch.column_by_name(ORIGIN_COLUMN).and_then(|c| c.as_string_opt::<i32>()).filter(|c| c.is_valid(row)).map(|c| c.value(row).to_owned());
    Ok(BadRecord { reason, origin, raw: None, row: Some(row_json(batch, row)?) })
}

/// The visible columns of a row as a JSON object.
pub(crate) fn row_json(batch: &RecordBatch, row: usize) -> Result<String> {
    let row = visible_batch(&batch.slice(row, 1))?;
    // A type that JSON writing does not know does not make the record less bad: the reason is what matters.
    Ok(row_json::rows(&row, true).unwrap_or_else(|e| format!("(cannot be shown as JSON: {e})")))
}
