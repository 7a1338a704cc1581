//! [`Groups`]: the running aggregates of many keys.

use arrow::array::{ArrayRef, RecordBatchOptions};
use arrow::compute::{cast, concat};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

use karez_core::Result;
use karez_expr::{GroupAccumulator, GroupTable};

use crate::aggregates::{AggregateRows, Aggregates};
use crate::rejects::failed;

/// A table of keys and one accumulator per aggregate call.
///
/// ```text
/// rows ─────update─► ┌────────────────┐ ──results──► keys, one column per call
///                    │ keys │ states  │
/// partials ──merge─► └────────────────┘ ──partial──► keys, state columns
/// ```
///
/// `results` and `partial` give everything and leave the table empty, to be used again.
pub(crate) struct Groups {
    table: GroupTable,
    accumulators: Vec<GroupAccumulator>,
    /// The group of each row of the batch at hand; kept for its memory.
    indices: Vec<usize>,
}

impl Groups {
    /// An empty table.
    pub(crate) fn new(aggregates: &Aggregates) -> Result<Self> {
        Ok(Self {
            table: GroupTable::try_new(&aggregates.key_schema).map_err(failed)?,
            accumulators: aggregates.calls().map(|call| call.accumulator()).collect::<Result<_, _>>().map_err(failed)?,
            indices: Vec::new(),
        })
    }

    /// Bytes of memory held.
    pub(crate) fn size(&self) -> usize {
        self.table.size() + self.accumulators.iter().map(GroupAccumulator::size).sum::<usize>() + self.indices.capacity() * size_of::<usize>()
    }

    /// Adds rows.
    pub(crate) fn update(&mut self, rows: &AggregateRows) -> Result<()> {
        self.table.intern_rows(&rows.keys, rows.rows, &mut self.indices).map_err(failed)?;
        let total = self.table.len();
        for (accumulator, input) in self.accumulators.iter_mut().zip(&rows.inputs) {
            accumulator.update(input, &self.indices, total).map_err(failed)?;
        }
        Ok(())
    }

    /// Adds partial aggregates of [`Aggregates::partial_schema`].
    pub(crate) fn merge(&mut self, aggregates: &Aggregates, partial: &RecordBatch) -> Result<()> {
        let keys = aggregates.keys.len();
        self.table.intern_rows(&partial.columns()[..keys], partial.num_rows(), &mut self.indices).map_err(failed)?;
        merge_states(aggregates, &mut self.accumulators, &partial.columns()[keys..], &self.indices, self.table.len())
    }

    /// Everything as partial aggregates.
    pub(crate) fn partial(&mut self, aggregates: &Aggregates) -> Result<RecordBatch> {
        let rows = self.table.len();
        let mut columns = self.table.emit_all().map_err(failed)?;
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state().map_err(failed)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&aggregates.partial_schema), columns, &options)?)
    }

    /// The keys and the results of the calls.
    pub(crate) fn results(&mut self) -> Result<GroupResults> {
        let rows = self.table.len();
        let keys = self.table.emit_all().map_err(failed)?;
        let calls = self.accumulators.iter_mut().map(GroupAccumulator::evaluate).collect::<Result<_, _>>().map_err(failed)?;
        Ok(GroupResults { rows, keys, calls })
    }
}

/// Adds state columns (all calls' after one another) to accumulators. Every group below `total` has a state in these or in earlier ones
/// ([`GroupAccumulator::update`]): where former and new states of groups meet, not all of which have both, they are merged in one call ([`behind`]).
pub(crate) fn merge_states(
    aggregates: &Aggregates,
    accumulators: &mut [GroupAccumulator],
    states: &[ArrayRef],
    indices: &[usize],
    total: usize,
) -> Result<()> {
    let mut at = 0;
    for (accumulator, call) in accumulators.iter_mut().zip(aggregates.calls()) {
        let end = at + call.state_fields().len();
        accumulator.merge(&states[at..end], indices, total).map_err(failed)?;
        at = end;
    }
    Ok(())
}

/// State columns with further states behind them.
pub(crate) fn behind(former: &[ArrayRef], new: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    let both = |(former, new): (&ArrayRef, &ArrayRef)| {
        // What an accumulator gives may differ from what was declared in the names of a list's field.
        let new = if former.data_type() == new.data_type() { Arc::clone(new) } else { cast(new, former.data_type())? };
        Ok(concat(&[former.as_ref(), new.as_ref()])?)
    };
    former.iter().zip(new).map(both).collect()
}

/// Keys and results of aggregate calls, not yet finished to result columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupResults {
    /// How many keys.
    pub(crate) rows: usize,
    /// The key columns.
    pub(crate) keys: Vec<ArrayRef>,
    /// One column per call.
    pub(crate) calls: Vec<ArrayRef>,
}

impl GroupResults {
    /// Some of them, without a copy.
    pub(crate) fn slice(&self, offset: usize, rows: usize) -> Self {
        let slice = |a: &ArrayRef| a.slice(offset, rows);
        Self { rows, keys: self.keys.iter().map(slice).collect(), calls: self.calls.iter().map(slice).collect() }
    }
}
