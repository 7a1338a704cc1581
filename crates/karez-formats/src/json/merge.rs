//! Puts the rows of the general path between those that were read in place.

use std::ops::Range;

use arrow::array::RecordBatch;

use super::column::Column;
use super::{Buffer, Pending};

/// One merge: the rows from the first pending record on are set aside, and come back in their order with the others.
pub(super) struct Merge<'a> {
    buffer: &'a mut Buffer,
    offsets: Option<&'a mut Vec<u64>>,
    /// The rows set aside.
    tail: Vec<Column>,
    tail_offsets: Vec<u64>,
    /// The buffered row that the first of the tail was.
    tail_start: usize,
    /// How many rows of the tail are back.
    returned: usize,
    tail_rows: usize,
}

// ===== impl Merge =====

impl<'a> Merge<'a> {
    /// Sets the rows from `start` to `rows` aside.
    pub(super) fn new(buffer: &'a mut Buffer, mut offsets: Option<&'a mut Vec<u64>>, start: usize, rows: usize) -> Self {
        let tail_rows = rows - start;
        let tail = match buffer {
            Buffer::Columns(columns) if tail_rows > 0 => columns.iter_mut().map(|column| column.split_off(start)).collect(),
            _ => Vec::new(),
        };
        let tail_offsets = offsets.as_mut().map(|offsets| offsets.split_off(offsets.len().saturating_sub(tail_rows))).unwrap_or_default();
        Self { buffer, offsets, tail, tail_offsets, tail_start: start, returned: 0, tail_rows }
    }

    /// Puts in the rows of `batch`, which are those of the first `records`, in a chunk at `offset` of its block.
    pub(super) fn insert(&mut self, batch: &RecordBatch, records: &[Pending], offset: usize) {
        let records = &records[..batch.num_rows()];
        let mut steps = Vec::new();
        let mut row = 0;
        for together in records.chunk_by(|a, b| a.row == b.row) {
            let end = together[0].row - self.tail_start;
            steps.push(Step { tail: self.returned..end, batch: row..row + together.len() });
            self.returned = end;
            row += together.len();
            if let (Some(offsets), Some(step)) = (&mut self.offsets, steps.last()) {
                offsets.extend_from_slice(&self.tail_offsets[step.tail.clone()]);
                offsets.extend(together.iter().map(|record| (offset + record.bytes.start) as u64));
            }
        }
        match self.buffer {
            Buffer::Columns(columns) => {
                for (place, column) in columns.iter_mut().enumerate() {
                    column.interleave(self.tail.get(place), batch.column(place), &steps);
                }
            }
            Buffer::Batches(batches) => batches.push(batch.clone()),
        }
    }

    /// Gives back what is left of the rows set aside.
    pub(super) fn finish(mut self) {
        let rest = self.returned..self.tail_rows;
        if let Buffer::Columns(columns) = self.buffer {
            for (column, tail) in columns.iter_mut().zip(&self.tail) {
                column.append_column(tail, rest.clone());
            }
        }
        if let Some(offsets) = &mut self.offsets {
            offsets.extend_from_slice(&self.tail_offsets[rest]);
        }
    }
}

/// Some rows of the tail, and behind them some of a batch.
pub(super) struct Step {
    pub(super) tail: Range<usize>,
    pub(super) batch: Range<usize>,
}
