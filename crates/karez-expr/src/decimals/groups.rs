//! [`DecimalGroups`]: sums or averages of many groups.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, DecimalType, UInt64Type};
use datafusion::common::{Result, not_impl_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::NullState;

use super::finish::Finish;
use super::totals::{Addend, Totals};

/// The total of each group of values of type `V`, and for an average their number. Partial states have DataFusion's columns: of a sum the total, of an
/// average the number and the total, in `S`; null where there is no value.
pub(super) struct DecimalGroups<V: DecimalType, S: DecimalType> {
    finish: Finish<S::Native>,
    /// Of totals in partial states: `S` with its digits.
    state_type: DataType,
    /// Of results: `S` with its digits.
    result_type: DataType,
    totals: Totals<V::Native>,
    /// Numbers of values; of averages only.
    counts: Vec<u64>,
    nulls: NullState,
}

impl<V, S> DecimalGroups<V, S>
where
    V: DecimalType,
    V::Native: Addend<S::Native>,
    S: DecimalType,
{
    pub(super) fn new(finish: Finish<S::Native>, state_type: DataType, result_type: DataType) -> Self {
        Self { finish, state_type, result_type, totals: Totals::new(), counts: Vec::new(), nulls: NullState::new() }
    }

    fn array(totals: Vec<S::Native>, nulls: Option<NullBuffer>, data_type: &DataType) -> ArrayRef {
        Arc::new(PrimitiveArray::<S>::new(totals.into(), nulls).with_data_type(data_type.clone()))
    }
}

impl<V, S> GroupsAccumulator for DecimalGroups<V, S>
where
    V: DecimalType,
    V::Native: Addend<S::Native>,
    S: DecimalType,
{
    fn update_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], filter: Option<&BooleanArray>, total_num_groups: usize) -> Result<()> {
        let values = values[0].as_primitive::<V>();
        let (totals, counts) = (&mut self.totals, &mut self.counts);
        totals.resize(total_num_groups);
        if self.finish.is_average() {
            counts.resize(total_num_groups, 0);
            let mut add = totals.adder();
            self.nulls.accumulate(group_indices, values, filter, total_num_groups, |group, value| {
                add(group, value);
                counts[group] += 1;
            });
        } else {
            self.nulls.accumulate(group_indices, values, filter, total_num_groups, totals.adder());
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        let average = self.finish.is_average();
        if average {
            let counts = states[0].as_primitive::<UInt64Type>();
            self.counts.resize(total_num_groups, 0);
            for (row, &group) in group_indices.iter().enumerate().filter(|(row, _)| counts.is_valid(*row)) {
                self.counts[group] = self.counts[group].saturating_add(counts.value(row));
            }
        }
        let of_parts = states[usize::from(average)].as_primitive::<S>();
        self.totals.resize(total_num_groups);
        self.nulls.accumulate(group_indices, of_parts, None, total_num_groups, self.totals.merger());
        Ok(())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let nulls = self.nulls.build(emit_to);
        let mut state: Vec<ArrayRef> = Vec::with_capacity(2);
        if self.finish.is_average() {
            state.push(Arc::new(UInt64Array::new(emit_to.take_needed(&mut self.counts).into(), nulls.clone())));
        }
        state.push(Self::array(self.totals.take(emit_to), nulls, &self.state_type));
        Ok(state)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let nulls = self.nulls.build(emit_to);
        let mut totals = self.totals.take(emit_to);
        if self.finish.is_average() {
            // A group without a value is null, whatever stands there.
            let counts = emit_to.take_needed(&mut self.counts);
            totals.iter_mut().zip(counts).filter(|(_, count)| *count > 0).for_each(|(total, count)| *total = self.finish.of(*total, count));
        }
        Ok(Self::array(totals, nulls, &self.result_type))
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        not_impl_err!("partial states are made of groups alone")
    }

    fn size(&self) -> usize {
        self.totals.size() + self.counts.capacity() * size_of::<u64>() + self.nulls.size()
    }
}
