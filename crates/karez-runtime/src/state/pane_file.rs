//! Writing the rows of pane tables: batches in the order of panes become files in the order of key groups.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::Schema;
use karez_core::key_group::key_groups_of;
use karez_core::{Error, KeyGroup, KeyGroupRange, Result};

use super::batches::{pane_file_schema, to_file_columns};
use super::lineage::FileSet;

/// How many rows are gathered at a time.
const GATHER_ROWS: usize = 8 * 1024;

/// Where rows of a table belong.
#[derive(Clone, Copy, Debug)]
pub(super) struct PaneKey {
    /// The first columns are the key.
    pub(super) columns: usize,
    /// The key groups of this subtask.
    pub(super) range: KeyGroupRange,
}

/// Adds batches (with their panes, in order) to files. Call once for as many as fit in memory together.
pub(super) fn write_batches(batches: &[(i64, RecordBatch)], table: &Schema, key: PaneKey, out: &mut FileSet<'_>) -> Result<()> {
    let schema = pane_file_schema(table);
    let mut in_file = Vec::with_capacity(batches.len());
    let mut places: Vec<Vec<(usize, usize)>> = vec![Vec::new(); usize::from(key.range.end.saturating_sub(key.range.start))];
    let mut groups = Vec::new();
    for (at, (pane, batch)) in batches.iter().enumerate() {
        key_groups_of(&batch.columns()[..key.columns], batch.num_rows(), key.range.of, &mut groups)?;
        for (row, &group) in groups.iter().enumerate() {
            let place = places.get_mut(usize::from(group.0.wrapping_sub(key.range.start))).ok_or_else(|| stray(group, key.range))?;
            place.push((at, row));
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_value(*pane, batch.num_rows()))];
        columns.extend(to_file_columns(batch, &schema)?);
        in_file.push(RecordBatch::try_new(Arc::clone(&schema), columns)?);
    }
    let refs: Vec<&RecordBatch> = in_file.iter().collect();
    for (group, rows) in (key.range.start..).zip(places) {
        for some in rows.chunks(GATHER_ROWS) {
            out.push_panes(group, interleave_record_batch(&refs, some)?)?;
        }
    }
    out.finish_file()
}

fn stray(group: KeyGroup, range: KeyGroupRange) -> Error {
    Error::internal(format!(
        "a row of key group {} is in the state of a subtask that owns {} to {}: the operator's table has another key than its input is hashed by",
        group.0,
        range.start,
        range.end.saturating_sub(1)
    ))
}
