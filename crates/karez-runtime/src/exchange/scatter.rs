//! Exchange by counting scatter: one hash pass, one stable gather, a zero-copy slice per target. Rows of one key stay in order.

use std::sync::Arc;

use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use karez_core::key_group::{KeyGroup, hash_columns, subtask_of};
use karez_core::{Error, Result};

use super::gather::Gather;

/// Splits batches by key.
pub struct Scatter {
    columns: Vec<usize>,
    targets: usize,
    key_groups: u16,
    /// The target of each key group: without the division that [`subtask_of`] costs.
    target_of_group: Vec<u32>,
    hashes: Vec<u64>,
    target_of_row: Vec<u32>,
    position_of_row: Vec<u32>,
}

impl Scatter {
    /// By the hash of `columns` over `targets` subtasks.
    #[must_use]
    pub fn new(columns: Vec<usize>, targets: usize, key_groups: u16) -> Self {
        // There are no more subtasks than key groups.
        let target_of_group = (0..key_groups).map(|g| subtask_of(KeyGroup(g), targets, key_groups) as u32).collect();
        Self { columns, targets, key_groups, target_of_group, hashes: Vec::new(), target_of_row: Vec::new(), position_of_row: Vec::new() }
    }

    /// The rows of each target, in their order: `(target, rows)`, targets without rows left out.
    pub fn split(&mut self, batch: &RecordBatch) -> Result<Vec<(usize, RecordBatch)>> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(Vec::new());
        }
        if u32::try_from(rows).is_err() {
            return Err(Error::internal("batch of more than 4 G rows"));
        }
        let keys: Vec<_> = self.columns.iter().map(|&c| Arc::clone(batch.column(c))).collect();
        hash_columns(&keys, rows, &mut self.hashes)?;
        let mut counts = vec![0_u32; self.targets];
        self.target_of_row.clear();
        self.target_of_row.extend(self.hashes.iter().map(|&hash| {
            let target = self.target_of_group[KeyGroup::of(hash, self.key_groups).0 as usize];
            counts[target as usize] += 1;
            target
        }));
        if let Some(only) = counts.iter().position(|&c| c as usize == rows) {
            return Ok(vec![(only, batch.clone())]);
        }
        let mut next: Vec<u32> = counts.iter().scan(0, |end, count| Some(std::mem::replace(end, *end + count))).collect();
        self.position_of_row.clear();
        self.position_of_row.extend(self.target_of_row.iter().map(|&target| {
            let at = &mut next[target as usize];
            std::mem::replace(at, *at + 1)
        }));
        // SAFETY: each target's rows get the positions from the end of the former target's to its own, one after another; the columns are a batch's.
        let gather = unsafe { Gather::new(&self.position_of_row) };
        let gathered = batch.columns().iter().map(|c| gather.column(c)).collect::<Result<Vec<_>>>()?;
        let gathered = RecordBatch::try_new_with_options(batch.schema(), gathered, &RecordBatchOptions::new().with_row_count(Some(rows)))?;
        // Each target's position has come to behind its rows.
        Ok((0..self.targets).filter(|&t| counts[t] > 0).map(|t| (t, gathered.slice((next[t] - counts[t]) as usize, counts[t] as usize))).collect())
    }
}
