//! [`Compaction`]: partials of a slice that hold its keys many times over are merged, some with each batch of rows.
//!
//! A window of a day with a checkpoint every ten seconds would otherwise hold thousands of partials of one key.

use std::collections::VecDeque;

use arrow::record_batch::RecordBatch;
use karez_core::Result;

use super::firing::{MERGE_ROWS, push_pieces};
use super::panes::FrozenPanes;
use super::slices::Slices;
use crate::aggregates::Aggregates;
use crate::groups::Groups;

/// A slice of fewer rows is merged when its window fires, soon enough.
const MIN_ROWS: usize = 65_536;

pub(crate) struct Compaction {
    slice: i64,
    groups: Groups,
    pieces: VecDeque<RecordBatch>,
    /// How many of the slice's batches the merged ones replace; more may be appended meanwhile.
    batches: usize,
}

impl Compaction {
    /// Begins with a slice that has grown to more than twice its keys.
    pub(crate) fn find(frozen: &mut FrozenPanes, slices: &Slices, aggregates: &Aggregates) -> Result<Option<Self>> {
        let Some(slice) = frozen.overgrown(MIN_ROWS) else {
            return Ok(None);
        };
        let partials = frozen.read(slices, slice)?;
        let mut pieces = VecDeque::new();
        for partial in &partials {
            push_pieces(&mut pieces, partial);
        }
        Ok(Some(Self { slice, groups: Groups::new(aggregates)?, pieces, batches: partials.len() }))
    }

    /// Merges some pieces; `None` when the slice is done, or gone.
    pub(crate) fn step(mut self, frozen: &mut FrozenPanes, slices: &Slices, aggregates: &Aggregates) -> Result<Option<Self>> {
        if !frozen.rows.contains_key(&self.slice) {
            return Ok(None);
        }
        // More rows than a batch adds, so that it comes to an end.
        let mut merged = 0;
        while merged < MERGE_ROWS {
            let Some(piece) = self.pieces.pop_front() else {
                return self.finish(frozen, slices, aggregates);
            };
            self.groups.merge(aggregates, &piece)?;
            merged += piece.num_rows();
        }
        Ok(Some(self))
    }

    fn finish(mut self, frozen: &mut FrozenPanes, slices: &Slices, aggregates: &Aggregates) -> Result<Option<Self>> {
        let mut partials = vec![self.groups.partial(aggregates)?];
        partials.extend(frozen.read(slices, self.slice)?.into_iter().skip(self.batches));
        frozen.compacted(slices, self.slice, partials)?;
        Ok(None)
    }
}
