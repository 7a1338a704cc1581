//! Exchange by counting scatter: one hash pass, one stable gather, a zero-copy slice per target. Rows of one key stay in order.

use std::ops::Range;
use std::sync::Arc;

use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use karez_core::key_group::{KeyGroup, hash_columns, subtask_of};
use karez_core::{Error, Result};

use super::gather::Gather;

/// With more targets, a pass over the rows for each costs more than counters, which wait for each other where few are shared by many rows.
const FEW_TARGETS: usize = 4;

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
        self.target_of_row.clear();
        self.target_of_row.extend(self.hashes.iter().map(|&hash| self.target_of_group[KeyGroup::of(hash, self.key_groups).0 as usize]));
        let ends = if self.targets <= FEW_TARGETS { self.place_by_target() } else { self.place_by_row() };
        if let Some(only) = (0..self.targets).find(|&t| rows_of(&ends, t).len() == rows) {
            return Ok(vec![(only, batch.clone())]);
        }
        // SAFETY: each target's rows get the positions from the end of the former target's to its own, one after another; the columns are a batch's.
        let gather = unsafe { Gather::new(&self.position_of_row) };
        let gathered = batch.columns().iter().map(|c| gather.column(c)).collect::<Result<Vec<_>>>()?;
        let gathered = RecordBatch::try_new_with_options(batch.schema(), gathered, &RecordBatchOptions::new().with_row_count(Some(rows)))?;
        let parts = (0..self.targets).map(|t| (t, rows_of(&ends, t))).filter(|(_, rows)| !rows.is_empty());
        Ok(parts.map(|(t, rows)| (t, gathered.slice(rows.start, rows.len()))).collect())
    }

    /// Gives each row its place, a pass for each target. Answers where each target's rows end.
    fn place_by_target(&mut self) -> Vec<u32> {
        self.position_of_row.clear();
        self.position_of_row.resize(self.target_of_row.len(), 0);
        let mut next = 0;
        let pass = |target: u32| {
            for (position, &of_row) in self.position_of_row.iter_mut().zip(&self.target_of_row) {
                let mine = of_row == target;
                *position = if mine { next } else { *position };
                next += u32::from(mine);
            }
            next
        };
        (0_u32..).take(self.targets).map(pass).collect()
    }

    /// The same in two passes, whatever the number of targets: one counts, one places.
    fn place_by_row(&mut self) -> Vec<u32> {
        let mut counts = vec![0_u32; self.targets];
        self.target_of_row.iter().for_each(|&target| counts[target as usize] += 1);
        let mut next: Vec<u32> = counts.iter().scan(0, |end, count| Some(std::mem::replace(end, *end + count))).collect();
        self.position_of_row.clear();
        self.position_of_row.extend(self.target_of_row.iter().map(|&target| {
            let at = &mut next[target as usize];
            std::mem::replace(at, *at + 1)
        }));
        next
    }
}

/// The places of a target's rows.
fn rows_of(ends: &[u32], target: usize) -> Range<usize> {
    target.checked_sub(1).map_or(0, |before| ends[before] as usize)..ends[target] as usize
}
