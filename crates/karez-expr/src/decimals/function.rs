//! [`ExactFunction`]: `sum` or `avg` with results in the type of its totals.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::datatypes::{DECIMAL64_MAX_PRECISION, DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, DecimalType, Field, FieldRef};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};

use super::distinct::DistinctDecimals;
use super::finish::Finish;
use super::groups::DecimalGroups;
use super::totals::Addend;
use super::{digits, with_types};

const SUM: &str = "sum";
const AVERAGE: &str = "avg";

/// DataFusion's `sum` or `avg` of decimals, by the same name and with the same partial states but for sums that need more bits.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ExactFunction {
    of: Arc<AggregateUDF>,
    signature: Signature,
}

/// The types of a call.
struct Types {
    /// Of the function's result as it is promised.
    promised: DataType,
    /// Of the total in a partial state.
    state: DataType,
    /// Of the exact result: the bits of `state`, with all the digits that they hold.
    result: DataType,
    /// How many places a result has more than the values.
    places: u32,
}

impl ExactFunction {
    pub(super) fn replaces(function: &str) -> bool {
        [SUM, AVERAGE].contains(&function)
    }

    /// `of` is one that it [`replaces`](Self::replaces).
    pub(super) fn new(of: Arc<AggregateUDF>) -> Self {
        Self { of, signature: Signature::any(1, Volatility::Immutable) }
    }

    fn is_average(&self) -> bool {
        self.of.name() == AVERAGE
    }

    fn types(&self, values: &DataType) -> Result<Types> {
        let promised = self.of.return_type(std::slice::from_ref(values))?;
        let state = if self.is_average() { self.state_of_average(values, &promised)? } else { state_of_sum(values, &promised)? };
        let ((_, from), (_, to)) = (digits(values)?, digits(&promised)?);
        let result = match &state {
            DataType::Decimal64(..) => DataType::Decimal64(DECIMAL64_MAX_PRECISION, to),
            DataType::Decimal128(..) => DataType::Decimal128(DECIMAL128_MAX_PRECISION, to),
            _ => DataType::Decimal256(DECIMAL256_MAX_PRECISION, to),
        };
        Ok(Types { promised, state, result, places: u32::try_from(to - from).unwrap_or(0) })
    }

    /// What DataFusion adds up in, which checkpoints hold.
    fn state_of_average(&self, values: &DataType, promised: &DataType) -> Result<DataType> {
        let fields = self.of.state_fields(StateFieldsArgs {
            name: AVERAGE,
            input_fields: &[Arc::new(Field::new("", values.clone(), true))],
            return_field: Arc::new(Field::new("", promised.clone(), true)),
            ordering_fields: &[],
            is_distinct: false,
        })?;
        match fields.as_slice() {
            [_, total] => Ok(total.data_type().clone()),
            other => internal_err!("the state of an average is {other:?}"),
        }
    }

    fn finish<S: DecimalType>(&self, types: &Types) -> Finish<S::Native> {
        if self.is_average() { Finish::average(types.places) } else { Finish::Sum }
    }
}

/// The type of the result if its bits hold ten digits more than the values have, else the next wider where there is one.
fn state_of_sum(values: &DataType, promised: &DataType) -> Result<DataType> {
    let (precision, scale) = digits(values)?;
    Ok(match values {
        DataType::Decimal32(..) | DataType::Decimal64(..) => DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale),
        DataType::Decimal128(..) if precision > DECIMAL128_MAX_PRECISION - 10 => DataType::Decimal256(DECIMAL256_MAX_PRECISION, scale),
        _ => promised.clone(),
    })
}

/// The type of the values that a call is over.
fn values_of(fields: &[FieldRef]) -> Result<&DataType> {
    match fields {
        [values] => Ok(values.data_type()),
        other => internal_err!("a sum is of one column, not of {}", other.len()),
    }
}

impl AggregateUDFImpl for ExactFunction {
    fn name(&self) -> &str {
        self.of.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [values] => Ok(self.types(values)?.result),
            other => internal_err!("a sum is of one column, not of {}", other.len()),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let types = self.types(values_of(args.input_fields)?)?;
        let return_field = Arc::new(args.return_field.as_ref().clone().with_data_type(types.promised));
        let distinct = args.is_distinct;
        let mut fields = self.of.state_fields(StateFieldsArgs { return_field, ..args })?;
        if let ([total], false) = (fields.as_mut_slice(), distinct) {
            *total = Arc::new(total.as_ref().clone().with_data_type(types.state));
        }
        Ok(fields)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        fn make<V, S>(function: &ExactFunction, types: &Types) -> Result<Box<dyn GroupsAccumulator>>
        where
            V: DecimalType,
            V::Native: Addend<S::Native>,
            S: DecimalType,
        {
            Ok(Box::new(DecimalGroups::<V, S>::new(function.finish::<S>(types), types.state.clone(), types.result.clone())))
        }
        let values = values_of(args.expr_fields)?;
        let types = self.types(values)?;
        with_types!(values, &types.state, make(self, &types))
    }

    /// Of distinct values; others are for [`create_groups_accumulator`](Self::create_groups_accumulator).
    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        fn make<V, S>(function: &ExactFunction, types: &Types, values: Box<dyn Accumulator>) -> Result<Box<dyn Accumulator>>
        where
            V: DecimalType + Debug,
            V::Native: Addend<S::Native>,
            S: DecimalType + Debug,
        {
            Ok(Box::new(DistinctDecimals::<V, S>::new(values, function.finish::<S>(types), types.result.clone())))
        }
        if !args.is_distinct {
            return internal_err!("`{}` is computed for many groups at once", self.name());
        }
        let values = values_of(args.expr_fields)?.clone();
        let types = self.types(&values)?;
        let return_field = Arc::new(args.return_field.as_ref().clone().with_data_type(types.promised.clone()));
        let distinct = self.of.accumulator(AccumulatorArgs { return_field, ..args })?;
        with_types!(&values, &types.state, make(self, &types, distinct))
    }
}
