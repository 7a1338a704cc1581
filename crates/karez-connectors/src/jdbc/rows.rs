//! Rows on their way into a table: by which columns they are known, and what is done with each.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use karez_core::config::ConfigError;
use karez_core::dead_letter::row_record;
use karez_core::error::did_you_mean;
use karez_core::schema::{change_kinds, visible_batch};
use karez_core::{BadRecord, ChangeKind, Result};

use super::options::{GuaranteeOption, JdbcSinkOptions, WriteMode};

/// What is done with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Added, or put in the place of the one of its key.
    Put = 0,
    /// The row of its key is deleted.
    Delete = 1,
}

/// The columns that identify a row, as `key` and `mode` say; what is wrong with how rows are written goes into `errors`.
pub(super) fn key(options: &JdbcSinkOptions, input: &SchemaRef, exactly_once: bool, errors: &mut Vec<ConfigError>) -> Vec<String> {
    let key = named_key(options, input, errors);
    if options.batch_size == Some(0) {
        errors.push(ConfigError::new("batchSize", "must be at least 1"));
    }
    if exactly_once && options.guarantee == GuaranteeOption::AtLeastOnce && key.is_empty() {
        errors.push(ConfigError::new("guarantee", "the job's `delivery` is exactly-once").hint("remove `guarantee`, or give a `key` to upsert by"));
    }
    key
}

fn named_key(options: &JdbcSinkOptions, input: &SchemaRef, errors: &mut Vec<ConfigError>) -> Vec<String> {
    for (i, column) in options.key.iter().enumerate() {
        if input.column_with_name(column).is_none() {
            let error = ConfigError::new(format!("key[{i}]"), format!("the rows have no column `{column}`"));
            let names = || input.fields().iter().map(|f| f.name().as_str());
            errors.push(match did_you_mean(column, names()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("columns: {}", names().collect::<Vec<_>>().join(", "))),
            });
        } else if options.key[..i].contains(column) {
            errors.push(ConfigError::new(format!("key[{i}]"), format!("`{column}` is named twice")));
        }
    }
    match options.mode {
        Some(WriteMode::Upsert) if options.key.is_empty() => {
            errors.push(ConfigError::new("key", "is missing: by which columns are rows to be replaced?").hint("write it like `key: [id]`"));
            Vec::new()
        }
        Some(WriteMode::Append) if !options.key.is_empty() => {
            errors
                .push(ConfigError::new("key", "`mode: append` adds every row and has no use for a key").hint("remove `key`, or set `mode: upsert`"));
            Vec::new()
        }
        _ => options.key.clone(),
    }
}

/// For a keyed sink: the last change of each key (`key`: places of columns), in the order of those, and what is done with it. Rows without a key are
/// refused here. Without a key the rows as they are, and no list: each is put.
pub(super) fn fold(batch: &RecordBatch, key: &[usize], rejects: &mut Vec<BadRecord>) -> Result<(RecordBatch, Vec<Op>)> {
    if key.is_empty() {
        return Ok((visible_batch(batch)?, Vec::new()));
    }
    let ops = match change_kinds(batch) {
        None => vec![Op::Put; batch.num_rows()],
        Some(kinds) => kinds
            .values()
            .iter()
            .map(|k| Ok(if ChangeKind::from_i8(*k)?.is_retraction() { Op::Delete } else { Op::Put }))
            .collect::<Result<Vec<_>>>()?,
    };
    let visible = visible_batch(batch)?;
    let columns: Vec<_> = key.iter().map(|&k| Arc::clone(visible.column(k))).collect();
    let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
    let keys = RowConverter::new(fields)?.convert_columns(&columns)?;
    let mut last: HashMap<&[u8], usize> = HashMap::with_capacity(visible.num_rows());
    let mut keep = vec![true; visible.num_rows()];
    for row in 0..visible.num_rows() {
        if let Some(null) = columns.iter().position(|c| c.is_null(row)) {
            let schema = visible.schema_ref();
            rejects.push(row_record(&visible, row, format!("column `{}` is part of the key, but null", schema.field(key[null]).name()))?);
            keep[row] = false;
        } else if let Some(earlier) = last.insert(keys.row(row).data(), row) {
            keep[earlier] = false;
        }
    }
    drop(last);
    if keep.iter().all(|k| *k) {
        return Ok((visible, ops));
    }
    let ops = ops.into_iter().zip(&keep).filter(|(_, k)| **k).map(|(op, _)| op).collect();
    Ok((filter_record_batch(&visible, &BooleanArray::from(keep))?, ops))
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}

/// Nested values as JSON.
pub(super) fn json(array: &ArrayRef) -> Result<StringArray> {
    let schema = Arc::new(Schema::new(vec![Field::new("v", array.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::clone(array)])?;
    let text = karez_core::row_json::rows(&batch, false)?;
    // Each line is `{"v":…}`, or `{}` for null.
    Ok(text.lines().map(|line| line.strip_prefix("{\"v\":").and_then(|l| l.strip_suffix('}'))).collect())
}
