//! [`PercentileGroups`]: the values of many groups, and what percentile is taken of them.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, ListArray, PrimitiveArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float16Type, Float32Type, Float64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

/// Distinct values are sorted and freed of repetitions whenever they have doubled, and not before there are so many.
const FIRST_DEDUPLICATION: usize = 64;

/// Which percentile of which values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Percentile {
    /// From 0 to 1.
    pub(super) share: f64,
    /// Counted from the greatest value.
    pub(super) descending: bool,
    /// Of equal values one counts.
    pub(super) distinct: bool,
}

/// What a percentile is, of sorted values, one at least.
type Choose<T> = fn(&[T], f64) -> T;

/// The field of a list's items in a partial state.
pub(super) fn item(data_type: &DataType) -> FieldRef {
    Arc::new(Field::new_list_field(data_type.clone(), true))
}

/// The values of each group, nulls left out.
pub(super) struct PercentileGroups<T: ArrowPrimitiveType> {
    percentile: Percentile,
    choose: Choose<T::Native>,
    /// With the parameters that `T::DATA_TYPE` does not have: time zone, precision and scale.
    data_type: DataType,
    groups: Vec<Values<T::Native>>,
}

#[derive(Clone, Debug)]
struct Values<N> {
    values: Vec<N>,
    /// How many there may be before they are deduplicated; only with `DISTINCT`.
    limit: usize,
}

impl<N> Default for Values<N> {
    fn default() -> Self {
        Self { values: Vec::new(), limit: FIRST_DEDUPLICATION }
    }
}

impl<N: ArrowNativeTypeOp> Values<N> {
    fn push(&mut self, value: N, distinct: bool) {
        if distinct && self.values.len() >= self.limit {
            self.deduplicate();
            self.limit = FIRST_DEDUPLICATION.max(2 * self.values.len());
        }
        self.values.push(value);
    }

    fn sort(&mut self) {
        self.values.sort_unstable_by(|a, b| a.compare(*b));
    }

    fn deduplicate(&mut self) {
        self.sort();
        self.values.dedup_by(|a, b| a.compare(*b) == Ordering::Equal);
    }
}

/// Floats between which can be interpolated.
pub(super) trait Interpolate: ArrowPrimitiveType {
    fn to_f64(value: Self::Native) -> f64;
    fn from_f64(value: f64) -> Self::Native;
}

macro_rules! interpolate {
    ($($type:ty: $to:expr, $from:expr;)*) => {
        $(impl Interpolate for $type {
            fn to_f64(value: Self::Native) -> f64 {
                $to(value)
            }

            fn from_f64(value: f64) -> Self::Native {
                $from(value)
            }
        })*
    };
}

interpolate! {
    Float16Type: <Self as ArrowPrimitiveType>::Native::to_f64, <Self as ArrowPrimitiveType>::Native::from_f64;
    Float32Type: f64::from, |value| value as f32;
    Float64Type: |value| value, |value| value;
}

/// As SQL's `PERCENTILE_CONT`: linear between the values around place `share × (n − 1)`.
fn continuous<T: Interpolate>(sorted: &[T::Native], share: f64) -> T::Native {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    let weight = place.fract();
    if weight == 0.0 {
        return below;
    }
    let (below, above) = (T::to_f64(below), T::to_f64(above));
    let gap = above - below;
    // The gap of finite values can be beyond all floats, that of infinities is none.
    T::from_f64(if gap.is_finite() { below + gap * weight } else { below * (1.0 - weight) + above * weight })
}

/// As SQL's `PERCENTILE_DISC`: the first value with a cumulative share of at least `share`.
fn discrete<N: Copy>(sorted: &[N], share: f64) -> N {
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted[place.clamp(1, sorted.len()) - 1]
}

impl<T: Interpolate> PercentileGroups<T> {
    pub(super) fn continuous(percentile: Percentile) -> Self {
        Self { percentile, choose: continuous::<T>, data_type: T::DATA_TYPE, groups: Vec::new() }
    }
}

impl<T: ArrowPrimitiveType> PercentileGroups<T> {
    pub(super) fn discrete(percentile: Percentile, data_type: DataType) -> Self {
        Self { percentile, choose: discrete::<T::Native>, data_type, groups: Vec::new() }
    }

    fn array(&self, values: PrimitiveArray<T>) -> ArrayRef {
        Arc::new(values.with_data_type(self.data_type.clone()))
    }
}

impl<T: ArrowPrimitiveType> GroupsAccumulator for PercentileGroups<T> {
    fn update_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], filter: Option<&BooleanArray>, total_num_groups: usize) -> Result<()> {
        self.groups.resize_with(total_num_groups, Values::default);
        let values = values[0].as_primitive::<T>();
        for (row, &group) in group_indices.iter().enumerate() {
            if values.is_valid(row) && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row)) {
                self.groups[group].push(values.value(row), self.percentile.distinct);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.groups.resize_with(total_num_groups, Values::default);
        let lists = values[0].as_list::<i32>();
        let (offsets, items) = (lists.value_offsets(), lists.values().as_primitive::<T>());
        for (row, &group) in group_indices.iter().enumerate().filter(|(row, _)| lists.is_valid(*row)) {
            for item in offsets[row] as usize..offsets[row + 1] as usize {
                self.groups[group].push(items.value(item), self.percentile.distinct);
            }
        }
        Ok(())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let mut groups = emit_to.take_needed(&mut self.groups);
        if self.percentile.distinct {
            groups.iter_mut().for_each(Values::deduplicate);
        }
        let count: usize = groups.iter().map(|group| group.values.len()).sum();
        if i32::try_from(count).is_err() {
            return exec_err!("the values of one batch of percentiles are {count}, and may be {} at most", i32::MAX);
        }
        let offsets = OffsetBuffer::from_lengths(groups.iter().map(|group| group.values.len()));
        let items = self.array(PrimitiveArray::from_iter_values(groups.into_iter().flat_map(|group| group.values)));
        Ok(vec![Arc::new(ListArray::try_new(item(&self.data_type), offsets, items, None)?)])
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let Percentile { share, descending, distinct } = self.percentile;
        let mut groups = emit_to.take_needed(&mut self.groups);
        let results: PrimitiveArray<T> = groups
            .iter_mut()
            .map(|group| {
                if distinct {
                    group.deduplicate()
                } else {
                    group.sort()
                }
                if descending {
                    group.values.reverse();
                }
                (!group.values.is_empty()).then(|| (self.choose)(&group.values, share))
            })
            .collect();
        Ok(self.array(results))
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut each = Self { groups: Vec::new(), data_type: self.data_type.clone(), ..*self };
        let rows = values.first().map_or(0, |values| values.len());
        let own: Vec<usize> = (0..rows).collect();
        each.update_batch(values, &own, filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        let own = self.groups.capacity() * size_of::<Values<T::Native>>();
        own + self.groups.iter().map(|group| group.values.capacity() * size_of::<T::Native>()).sum::<usize>()
    }
}
