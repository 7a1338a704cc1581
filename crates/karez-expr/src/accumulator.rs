//! [`GroupAccumulator`]: the running state of one aggregate call for many groups.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, new_empty_array};
use arrow::datatypes::FieldRef;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use crate::aggregate_call::AggregateInput;
use crate::error::ExprError;

/// The running state of one aggregate call for groups `0..n`, as [`GroupTable`](crate::GroupTable) numbers them.
///
/// ```text
/// inputs ──update──► ┌───────┐ ──evaluate──► one array: the results, by group
///                    │ state │
/// state ───merge───► └───────┘ ──state─────► partial states, by group: one array per state field
/// ```
///
/// `evaluate` and `state` give all groups and leave no group behind.
pub struct GroupAccumulator {
    text: Arc<str>,
    function: Arc<AggregateFunctionExpr>,
    groups: Box<dyn GroupsAccumulator>,
    /// The number of groups. Without any, many functions fail to make empty columns.
    total: usize,
}

impl GroupAccumulator {
    pub(crate) fn try_new(text: Arc<str>, function: &Arc<AggregateFunctionExpr>) -> Result<Self, ExprError> {
        match make(function) {
            Ok(groups) => Ok(Self { text, function: Arc::clone(function), groups, total: 0 }),
            Err(error) => Err(ExprError::from_datafusion(&text, &error)),
        }
    }

    /// Adds rows: row `i` to group `group_indices[i]`. `total_groups` is the number of groups so far, and never falls. Every group comes with a row: one
    /// that counts as there, but had none, would have a result of its first nulls that is not null (DataFusion's `NullState`).
    ///
    /// # Errors
    /// When the function fails on a value, which sums and averages do not; the state is then not to be used again.
    pub fn update(&mut self, input: &AggregateInput, group_indices: &[usize], total_groups: usize) -> Result<(), ExprError> {
        self.count_groups(group_indices, total_groups);
        self.groups
            .update_batch(&input.values, group_indices, input.filter.as_ref(), total_groups)
            .map_err(|error| ExprError::from_datafusion(&self.text, &error))
    }

    /// Adds partial states that [`state`](Self::state) returned: row `i` to group `group_indices[i]`, as [`update`](Self::update) adds rows.
    ///
    /// # Errors
    /// When the columns are not this call's state fields, or the function fails on them.
    pub fn merge(&mut self, state: &[ArrayRef], group_indices: &[usize], total_groups: usize) -> Result<(), ExprError> {
        self.count_groups(group_indices, total_groups);
        self.groups.merge_batch(state, group_indices, total_groups).map_err(|error| ExprError::from_datafusion(&self.text, &error))
    }

    fn count_groups(&mut self, group_indices: &[usize], total_groups: usize) {
        debug_assert!(
            total_groups <= self.total || (self.total..total_groups).collect::<HashSet<_>>().is_subset(&group_indices.iter().copied().collect()),
            "a group without a row"
        );
        self.total = total_groups;
    }

    /// The results of all groups in the order of their numbers; no group is left.
    ///
    /// # Errors
    /// When the function cannot compute a result.
    pub fn evaluate(&mut self) -> Result<ArrayRef, ExprError> {
        if std::mem::take(&mut self.total) == 0 {
            return Ok(new_empty_array(self.function.field().data_type()));
        }
        self.groups.evaluate(EmitTo::All).map_err(|error| ExprError::from_datafusion(&self.text, &error))
    }

    /// The partial states of all groups in the order of their numbers; no group is left.
    ///
    /// # Errors
    /// When the function cannot give its state.
    pub fn state(&mut self) -> Result<Vec<ArrayRef>, ExprError> {
        let state = if std::mem::take(&mut self.total) == 0 {
            let empty = |fields: Vec<FieldRef>| fields.iter().map(|field| new_empty_array(field.data_type())).collect();
            self.function.state_fields().map(empty)
        } else {
            self.groups.state(EmitTo::All)
        };
        state.map_err(|error| ExprError::from_datafusion(&self.text, &error))
    }

    /// Bytes of memory held; may take time proportional to the number of groups.
    pub fn size(&self) -> usize {
        self.groups.size()
    }
}

/// The accumulator made for many groups where there is one, else one accumulator per group.
fn make(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>, DataFusionError> {
    if function.groups_accumulator_supported() && !forgets_distinct(function)? {
        return function.create_groups_accumulator();
    }
    let function = Arc::clone(function);
    let factory = move || function.create_accumulator();
    // The adapter makes accumulators when groups come; a function that refuses is to do so now.
    factory()?;
    Ok(Box::new(GroupsAccumulatorAdapter::new(factory)))
}

/// Whether the accumulator for many groups takes no notice of `DISTINCT`, as that of `bit_xor` in DataFusion 55: it then keeps
/// another state than the function declares.
fn forgets_distinct(function: &AggregateFunctionExpr) -> Result<bool, DataFusionError> {
    if !function.is_distinct() {
        return Ok(false);
    }
    let declared = function.state_fields()?;
    // Some fail for lack of groups: those have looked at the declaration.
    let Ok(state) = function.create_groups_accumulator()?.state(EmitTo::All) else { return Ok(false) };
    let fits = |(column, field): (&ArrayRef, &FieldRef)| column.data_type().equals_datatype(field.data_type());
    Ok(state.len() != declared.len() || !state.iter().zip(&declared).all(fits))
}
