//! [`DistinctDecimals`]: totals of values each of which counts once.

use std::fmt::Debug;
use std::marker::PhantomData;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, DecimalType};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{Accumulator, EmitTo};

use super::finish::Finish;
use super::totals::{Addend, Totals};

/// One group. DataFusion's accumulator keeps the values, of type `V`, and gives them as its state; only the total, of type `S`, is ours.
#[derive(Debug)]
pub(super) struct DistinctDecimals<V, S: DecimalType> {
    values: Box<dyn Accumulator>,
    finish: Finish<S::Native>,
    /// `S` with its digits.
    result_type: DataType,
    of: PhantomData<V>,
}

impl<V: DecimalType, S: DecimalType> DistinctDecimals<V, S> {
    pub(super) fn new(values: Box<dyn Accumulator>, finish: Finish<S::Native>, result_type: DataType) -> Self {
        Self { values, finish, result_type, of: PhantomData }
    }
}

impl<V, S> Accumulator for DistinctDecimals<V, S>
where
    V: DecimalType + Debug,
    V::Native: Addend<S::Native>,
    S: DecimalType + Debug,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.values.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.values.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.values.state()?;
        let Some(ScalarValue::List(values)) = state.first() else { return internal_err!("the state of distinct values is no list") };
        let values = values.values().as_primitive::<V>();
        let mut totals = Totals::<V::Native>::new();
        totals.resize(1);
        values.values().iter().for_each({
            let mut add = totals.adder();
            move |&value| add(0, value)
        });
        let count = values.len() as u64;
        let result = totals.take(EmitTo::All).first().filter(|_| count > 0).map(|&total| self.finish.of(total, count));
        ScalarValue::new_primitive::<S>(result, &self.result_type)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.size()
    }
}
