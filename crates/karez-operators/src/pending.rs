//! [`Pending`]: batches that wait for room in the output.

use std::collections::VecDeque;

use arrow::record_batch::RecordBatch;
use karez_core::{Output, Progress};

/// Batches to be emitted, in order. An operator that gives several batches for one puts them here.
#[derive(Debug, Default)]
pub(crate) struct Pending(VecDeque<(usize, RecordBatch)>);

impl Pending {
    /// Adds a batch for a port; one without rows is left out.
    pub(crate) fn push(&mut self, port: usize, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.0.push_back((port, batch));
        }
    }

    /// Emits as long as there is room, one batch at least.
    pub(crate) fn flush(&mut self, out: &mut dyn Output) -> Progress {
        while let Some((port, batch)) = self.0.pop_front() {
            out.emit(port, batch);
            if out.is_full() && !self.0.is_empty() {
                return Progress::More;
            }
        }
        Progress::Done
    }
}
