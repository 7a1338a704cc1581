//! [`CountWindows`]: a window for each so many rows of a key.
//!
//! A window that is not full when the input ends gives no result, as in Flink.
//!
//! State: keyed table `counts`, key → format byte, rows in the open window (`u64`, little-endian), states of all calls
//! ([`crate::keyed`]).

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use karez_core::operator::MAX_BATCH_ROWS;
use karez_core::state::{KeyedTable, Snapshot};
use karez_core::{Error, Operator, OperatorContext, Output, Progress, Result};
use karez_expr::{GroupAccumulator, GroupTable};

use super::WindowSpec;
use crate::aggregates::{AggregateRows, Aggregates};
use crate::groups::{GroupResults, behind, merge_states};
use crate::keyed::{self, EncodedKeys, KeyCodec, RowCodec};
use crate::pending::Pending;
use crate::rejects::failed;
use crate::results::{Bounds, Results};

const COUNTS: &str = "counts";

pub(crate) struct CountWindows {
    aggregates: Arc<Aggregates>,
    results: Results,
    size: u64,
    keys: KeyCodec,
    states: RowCodec,
    table: Box<dyn KeyedTable>,
    /// Numbers the keys of a batch; empty between calls.
    numbers: GroupTable,
    indices: Vec<usize>,
    pending: Pending,
}

/// The windows that the rows of a batch fall into: first the full ones, then the open ones, are numbered for themselves.
#[derive(Default)]
struct Assignment {
    /// The key of each window, in the order in which they are opened, and whether it is full in the end.
    keys: Vec<usize>,
    full: Vec<bool>,
    /// The window of each row.
    of_row: Vec<usize>,
    /// For each key its last window, and how many rows that holds.
    last: Vec<(usize, u64)>,
}

impl CountWindows {
    pub(crate) fn open(spec: &WindowSpec, size: u64, context: OperatorContext<'_>) -> Result<Self> {
        Ok(Self {
            aggregates: Arc::clone(&spec.aggregates),
            results: spec.results.clone(),
            size,
            keys: KeyCodec::new(&spec.aggregates.key_schema, context.state.key_groups().of)?,
            states: RowCodec::of_states(&spec.aggregates)?,
            table: context.state.keyed_table(COUNTS)?,
            numbers: GroupTable::try_new(&spec.aggregates.key_schema).map_err(failed)?,
            indices: Vec::new(),
            pending: Pending::default(),
        })
    }

    fn accumulators(&self) -> Result<Vec<GroupAccumulator>> {
        self.aggregates.calls().map(|call| call.accumulator()).collect::<Result<_, _>>().map_err(failed)
    }

    /// Rows in the open window and its states, for each key.
    fn former(&mut self, keys: &EncodedKeys) -> Result<Vec<Option<(u64, Bytes)>>> {
        (0..keys.len())
            .map(|row| {
                let (group, key) = keys.get(row);
                let Some(value) = self.table.get(group, key, 0)? else {
                    return Ok(None);
                };
                let (count, _) = keyed::body(&value)?.split_first_chunk().ok_or_else(|| Error::internal("a count window's state is cut off"))?;
                Ok(Some((u64::from_le_bytes(*count), value.slice(1 + size_of::<u64>()..))))
            })
            .collect()
    }

    fn assign(&self, former: &[Option<(u64, Bytes)>]) -> Assignment {
        let mut assignment = Assignment::default();
        assignment.last = former
            .iter()
            .enumerate()
            .map(|(key, former)| {
                assignment.keys.push(key);
                assignment.full.push(false);
                (key, former.as_ref().map_or(0, |(count, _)| *count))
            })
            .collect();
        for &key in &self.indices {
            let (window, count) = &mut assignment.last[key];
            if *count == self.size {
                (*window, *count) = (assignment.keys.len(), 0);
                assignment.keys.push(key);
                assignment.full.push(false);
            }
            *count += 1;
            assignment.full[*window] = *count == self.size;
            assignment.of_row.push(*window);
        }
        assignment
    }

    /// Accumulates the windows that are full, or those that are not. Gives the accumulators and the windows in the order of their numbers.
    fn accumulate(
        &self,
        full: bool,
        rows: &AggregateRows,
        former: &[Option<(u64, Bytes)>],
        assignment: &Assignment,
    ) -> Result<(Vec<GroupAccumulator>, Vec<usize>)> {
        let windows: Vec<usize> = (0..assignment.keys.len()).filter(|&w| assignment.full[w] == full).collect();
        let mut number = vec![usize::MAX; assignment.keys.len()];
        windows.iter().enumerate().for_each(|(i, &w)| number[w] = i);
        let mut accumulators = self.accumulators()?;
        let (mine, of_row): (Vec<u32>, Vec<usize>) =
            assignment.of_row.iter().enumerate().filter(|(_, w)| number[**w] != usize::MAX).map(|(row, w)| (row as u32, number[*w])).unzip();
        if !mine.is_empty() {
            let rows = rows.take(&UInt32Array::from(mine))?;
            for (accumulator, input) in accumulators.iter_mut().zip(&rows.inputs) {
                accumulator.update(input, &of_row, windows.len()).map_err(failed)?;
            }
        }
        // A key's first window has the key's number: it goes on from what the table holds.
        let (mut groups, values): (Vec<usize>, Vec<&[u8]>) =
            former.iter().enumerate().filter_map(|(key, f)| Some((number[key], f.as_ref()?.1.as_ref()))).filter(|(n, _)| *n != usize::MAX).unzip();
        if !groups.is_empty() {
            let mut new = Vec::new();
            for accumulator in &mut accumulators {
                new.extend(accumulator.state().map_err(failed)?);
            }
            groups.extend(0..windows.len());
            let states = behind(&self.states.decode(values.into_iter())?, &new)?;
            accumulators = self.accumulators()?;
            merge_states(&self.aggregates, &mut accumulators, &states, &groups, windows.len())?;
        }
        Ok((accumulators, windows))
    }

    fn emit_full(
        &mut self,
        rows: &AggregateRows,
        keys: &[ArrayRef],
        former: &[Option<(u64, Bytes)>],
        assignment: &Assignment,
        out: &mut dyn Output,
    ) -> Result<()> {
        if !assignment.full.contains(&true) {
            return Ok(());
        }
        let (mut accumulators, windows) = self.accumulate(true, rows, former, assignment)?;
        let of_window: UInt32Array = windows.iter().map(|&w| Some(assignment.keys[w] as u32)).collect();
        let results = GroupResults {
            rows: windows.len(),
            keys: keys.iter().map(|k| take(k, &of_window, None)).collect::<Result<_, _>>()?,
            calls: accumulators.iter_mut().map(GroupAccumulator::evaluate).collect::<Result<_, _>>().map_err(failed)?,
        };
        for offset in (0..results.rows).step_by(MAX_BATCH_ROWS) {
            let some = results.slice(offset, MAX_BATCH_ROWS.min(results.rows - offset));
            let finished = self.results.finish(&some, Bounds::None, Some(out))?;
            self.pending.push(0, self.results.inserts(finished)?);
        }
        Ok(())
    }

    fn store_open(&mut self, rows: &AggregateRows, encoded: &EncodedKeys, former: &[Option<(u64, Bytes)>], assignment: &Assignment) -> Result<()> {
        let (mut accumulators, windows) = self.accumulate(false, rows, former, assignment)?;
        // No window is open: an accumulator that took nothing has no states to give.
        let mut states = Vec::new();
        for accumulator in accumulators.iter_mut().filter(|_| !windows.is_empty()) {
            states.extend(accumulator.state().map_err(failed)?);
        }
        let states = if windows.is_empty() { None } else { Some(self.states.encode(&states)?) };
        for (key, &(window, count)) in assignment.last.iter().enumerate() {
            let (group, bytes) = encoded.get(key);
            match (windows.binary_search(&window), &states) {
                (Ok(number), Some(states)) => {
                    let value = [&[keyed::FORMAT], &count.to_le_bytes()[..], states.get(number)].concat();
                    self.table.put(group, bytes, Bytes::from(value), i64::MAX)?;
                }
                _ => self.table.delete(group, bytes)?,
            }
        }
        Ok(())
    }
}

impl Operator for CountWindows {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        let (rows, _) = self.aggregates.rows(&batch, out)?;
        if rows.rows == 0 {
            return Ok(Progress::Done);
        }
        self.numbers.intern_rows(&rows.keys, rows.rows, &mut self.indices).map_err(failed)?;
        let count = self.numbers.len();
        let keys = self.numbers.emit_all().map_err(failed)?;
        let encoded = self.keys.encode(&keys, count)?;
        let former = self.former(&encoded)?;
        let assignment = self.assign(&former);
        self.emit_full(&rows, &keys, &former, &assignment, out)?;
        self.store_open(&rows, &encoded, &former, &assignment)?;
        Ok(self.pending.flush(out))
    }

    fn resume(&mut self, out: &mut dyn Output) -> Result<Progress> {
        Ok(self.pending.flush(out))
    }

    fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        snapshot.table(COUNTS, self.table.freeze()?);
        Ok(())
    }
}
