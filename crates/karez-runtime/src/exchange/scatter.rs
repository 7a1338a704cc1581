//! Exchange by counting scatter: one hash pass, one stable gather, a zero-copy slice per target. Rows of one key stay in order.

use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::compute::take;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use karez_core::key_group::{KeyGroup, hash_columns, subtask_of};
use karez_core::{Error, Result};

/// Splits batches by key.
pub struct Scatter {
    columns: Vec<usize>,
    targets: usize,
    key_groups: u16,
    hashes: Vec<u64>,
    target_of_row: Vec<u16>,
}

impl Scatter {
    /// By the hash of `columns` over `targets` subtasks.
    #[must_use]
    pub const fn new(columns: Vec<usize>, targets: usize, key_groups: u16) -> Self {
        Self { columns, targets, key_groups, hashes: Vec::new(), target_of_row: Vec::new() }
    }

    /// The rows of each target, in their order: `(target, rows)`, targets without rows left out.
    pub fn split(&mut self, batch: &RecordBatch) -> Result<Vec<(usize, RecordBatch)>> {
        let rows = batch.num_rows();
        let keys: Vec<_> = self.columns.iter().map(|&c| Arc::clone(batch.column(c))).collect();
        self.hashes.clear();
        hash_columns(&keys, rows, &mut self.hashes)?;
        let mut counts = vec![0_u32; self.targets + 1];
        self.target_of_row.clear();
        for &hash in &self.hashes {
            let target = subtask_of(KeyGroup::of(hash, self.key_groups), self.targets, self.key_groups);
            self.target_of_row.push(u16::try_from(target).map_err(|_| Error::internal("more than 65,535 subtasks"))?);
            counts[target + 1] += 1;
        }
        if let Some(only) = counts[1..].iter().position(|&c| c as usize == rows) {
            return Ok(vec![(only, batch.clone())]);
        }
        for t in 0..self.targets {
            counts[t + 1] += counts[t];
        }
        let starts = counts.clone();
        let mut order = vec![0_u32; rows];
        let mut next = counts;
        for (row, &target) in self.target_of_row.iter().enumerate() {
            let at = &mut next[target as usize];
            // A batch holds at most u32::MAX rows: `take` below indexes by u32.
            order[*at as usize] = u32::try_from(row).map_err(|_| Error::internal("batch of more than 4 G rows"))?;
            *at += 1;
        }
        let order = UInt32Array::from(order);
        let gathered = batch.columns().iter().map(|c| take(c, &order, None)).collect::<Result<Vec<_>, _>>()?;
        let gathered = RecordBatch::try_new_with_options(batch.schema(), gathered, &RecordBatchOptions::new().with_row_count(Some(rows)))?;
        Ok((0..self.targets)
            .filter_map(|t| {
                let (start, end) = (starts[t] as usize, starts[t + 1] as usize);
                (end > start).then(|| (t, gathered.slice(start, end - start)))
            })
            .collect())
    }
}
