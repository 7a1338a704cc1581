//! [`Revision`]: what some new partials change in results that have been given before.

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::record_batch::RecordBatch;
use karez_core::{Output, Result};
use karez_expr::{GroupAccumulator, GroupTable};

use crate::aggregates::Aggregates;
use crate::groups::{GroupResults, behind, merge_states};
use crate::rejects::failed;
use crate::results::{Bounds, FinishedRows, Results};

/// Computes the results of the keys that change, as they were and as they are.
///
/// First all changes are added, which settles the keys, then all former partials, of which only those keys are taken.
pub(crate) struct Revision {
    table: GroupTable,
    /// The number of changed keys: groups `0..changed` of the table.
    changed: usize,
    former: Vec<GroupAccumulator>,
    /// The same, until the changes are merged behind them.
    current: Vec<GroupAccumulator>,
    /// For each changed key the group in `former`, once it was found there.
    former_group: Vec<Option<usize>>,
    former_groups: usize,
    indices: Vec<usize>,
    /// The new partials with the group of each row: they are merged behind the former ones, as they came.
    changes: Vec<(Vec<usize>, RecordBatch)>,
    /// The results, after [`Self::evaluate`]: of keys that had one (with the keys' numbers, ascending), and of all changed keys.
    results: (GroupResults, Vec<u32>, GroupResults),
}

impl Revision {
    /// Without any change.
    pub(crate) fn new(aggregates: &Aggregates) -> Result<Self> {
        let accumulators = || aggregates.calls().map(|call| call.accumulator()).collect::<Result<Vec<_>, _>>().map_err(failed);
        Ok(Self {
            table: GroupTable::try_new(&aggregates.key_schema).map_err(failed)?,
            changed: 0,
            former: accumulators()?,
            current: accumulators()?,
            former_group: Vec::new(),
            former_groups: 0,
            indices: Vec::new(),
            changes: Vec::new(),
            results: Default::default(),
        })
    }

    /// The number of keys that change.
    pub(crate) const fn changed(&self) -> usize {
        self.changed
    }

    /// Adds partials that no result holds yet. All of them come before the first [`Self::add_former`].
    pub(crate) fn add_changes(&mut self, aggregates: &Aggregates, partial: RecordBatch) -> Result<()> {
        let keys = aggregates.keys.len();
        self.table.intern_rows(&partial.columns()[..keys], partial.num_rows(), &mut self.indices).map_err(failed)?;
        self.changed = self.table.len();
        self.former_group.resize(self.changed, None);
        self.changes.push((self.indices.clone(), partial));
        Ok(())
    }

    /// Adds partials that the former results hold.
    pub(crate) fn add_former(&mut self, aggregates: &Aggregates, partial: &RecordBatch) -> Result<()> {
        let keys = aggregates.keys.len();
        self.table.intern_rows(&partial.columns()[..keys], partial.num_rows(), &mut self.indices).map_err(failed)?;
        let (rows, groups): (Vec<u32>, Vec<usize>) =
            self.indices.iter().enumerate().filter(|(_, group)| **group < self.changed).map(|(row, group)| (row as u32, *group)).unzip();
        if rows.is_empty() {
            return Ok(());
        }
        let rows = UInt32Array::from(rows);
        let states = partial.columns()[keys..].iter().map(|c| take(c, &rows, None)).collect::<Result<Vec<ArrayRef>, _>>()?;
        let mut former_indices = Vec::with_capacity(groups.len());
        for &group in &groups {
            let next = self.former_groups;
            let former = *self.former_group[group].get_or_insert(next);
            self.former_groups = self.former_groups.max(former + 1);
            former_indices.push(former);
        }
        merge_states(aggregates, &mut self.current, &states, &former_indices, self.former_groups)?;
        merge_states(aggregates, &mut self.former, &states, &former_indices, self.former_groups)
    }

    /// Computes the results of the calls. Nothing is added afterwards.
    pub(crate) fn evaluate(&mut self, aggregates: &Aggregates) -> Result<()> {
        self.merge_changes(aggregates)?;
        let keys: Vec<ArrayRef> = self.table.emit_all().map_err(failed)?.iter().map(|k| k.slice(0, self.changed)).collect();
        let (numbers, order): (Vec<u32>, Vec<u32>) =
            self.former_group.iter().enumerate().filter_map(|(group, former)| former.map(|f| (group as u32, f as u32))).unzip();
        let (picked, order) = (UInt32Array::from(numbers.clone()), UInt32Array::from(order));
        let mut former = GroupResults { rows: numbers.len(), keys: Vec::new(), calls: Vec::new() };
        for key in &keys {
            former.keys.push(take(key, &picked, None)?);
        }
        for accumulator in &mut self.former {
            former.calls.push(take(&accumulator.evaluate().map_err(failed)?, &order, None)?);
        }
        let calls = self.current.iter_mut().map(GroupAccumulator::evaluate).collect::<Result<_, _>>().map_err(failed)?;
        self.results = (former, numbers, GroupResults { rows: self.changed, keys, calls });
        Ok(())
    }

    /// Puts the changes behind the former partials.
    fn merge_changes(&mut self, aggregates: &Aggregates) -> Result<()> {
        let mut states = Vec::new();
        for accumulator in &mut self.current {
            states.extend(accumulator.state().map_err(failed)?);
        }
        let mut groups = vec![0; self.former_groups];
        for (key, former) in self.former_group.iter().enumerate() {
            if let Some(former) = former {
                groups[*former] = key;
            }
        }
        for (of_partial, partial) in std::mem::take(&mut self.changes) {
            states = behind(&states, &partial.columns()[aggregates.keys.len()..])?;
            groups.extend(of_partial);
        }
        merge_states(aggregates, &mut self.current, &states, &groups, self.changed)
    }

    /// The changes of some of the keys as a batch.
    pub(crate) fn updates(&self, results: &Results, offset: usize, rows: usize, bounds: Bounds<'_>, out: &mut dyn Output) -> Result<RecordBatch> {
        let (former, numbers, current) = &self.results;
        let (from, to) = (numbers.partition_point(|&n| (n as usize) < offset), numbers.partition_point(|&n| (n as usize) < offset + rows));
        let old = results.finish(&former.slice(from, to - from), bounds, None)?;
        let old = FinishedRows { groups: old.groups.iter().map(|&g| numbers[from + g as usize]).collect(), columns: old.columns };
        let new = results.finish(&current.slice(offset, rows), bounds, Some(out))?;
        let new = FinishedRows { groups: new.groups.iter().map(|&g| g + offset as u32).collect(), columns: new.columns };
        results.updates(&old, &new)
    }
}
