//! `percentile_cont` (also `quantile_cont`) and `percentile_disc`: exact percentiles, the same to the last bit in whatever order values come and
//! partial states are merged.
//!
//! ```text
//! percentile_cont(p) WITHIN GROUP (ORDER BY v)    between the two values around place p × (n − 1), interpolated
//! percentile_disc(p) WITHIN GROUP (ORDER BY v)    the first value with at least p of all values at or before it
//! ```
//! They take the place of DataFusion's `percentile_cont`, which cuts the weight of interpolation off behind six decimal places; `percentile_disc` it
//! does not have. Definitions as in PostgreSQL.

mod groups;

use std::sync::Arc;

use arrow::array::downcast_primitive;
use arrow::datatypes::{DataType, Field, FieldRef, Float16Type, Float32Type, Float64Type};
use datafusion::common::types::{NativeType, logical_float64};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Coercion, GroupsAccumulator, Signature, TypeSignatureClass, Volatility};
use datafusion::physical_expr::expressions::Literal;

use groups::{Percentile, PercentileGroups};

/// Both functions.
pub(crate) fn percentile_functions() -> Vec<Arc<AggregateUDF>> {
    [Kind::Continuous, Kind::Discrete].into_iter().map(|kind| Arc::new(AggregateUDF::from(PercentileFunction::new(kind)))).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// Floats; all other numbers are cast to `double`.
    Continuous,
    /// All types of fixed width that have an order.
    Discrete,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PercentileFunction {
    kind: Kind,
    aliases: Vec<String>,
    signature: Signature,
}

impl PercentileFunction {
    fn new(kind: Kind) -> Self {
        let percentile =
            || Coercion::new_implicit(TypeSignatureClass::Native(logical_float64()), vec![TypeSignatureClass::Numeric], NativeType::Float64);
        let (aliases, value) = match kind {
            Kind::Continuous => (
                vec!["quantile_cont".to_owned()],
                Coercion::new_implicit(TypeSignatureClass::Float, vec![TypeSignatureClass::Numeric], NativeType::Float64),
            ),
            Kind::Discrete => (vec!["quantile_disc".to_owned()], Coercion::new_exact(TypeSignatureClass::Any)),
        };
        Self { kind, aliases, signature: Signature::coercible(vec![value, percentile()], Volatility::Immutable) }
    }

    fn groups(&self, args: &AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let Some(value) = args.expr_fields.first() else { return internal_err!("{} has no argument", self.name()) };
        let percentile = Percentile {
            share: self.share(args)?,
            descending: args.order_bys.first().is_some_and(|sort| sort.options.descending),
            distinct: args.is_distinct,
        };
        let name = self.name();
        macro_rules! discrete {
            ($type:ty) => {
                Ok(Box::new(PercentileGroups::<$type>::discrete(percentile, value.data_type().clone())))
            };
        }
        match (self.kind, value.data_type()) {
            (Kind::Continuous, DataType::Float16) => Ok(Box::new(PercentileGroups::<Float16Type>::continuous(percentile))),
            (Kind::Continuous, DataType::Float32) => Ok(Box::new(PercentileGroups::<Float32Type>::continuous(percentile))),
            (Kind::Continuous, DataType::Float64) => Ok(Box::new(PercentileGroups::<Float64Type>::continuous(percentile))),
            (Kind::Continuous, other) => plan_err!("`{name}` takes numbers, but this is {other}"),
            (Kind::Discrete, data_type) => downcast_primitive! {
                data_type => (discrete),
                other => plan_err!("`{name}` takes numbers, dates and times, but this is {other}")
            },
        }
    }

    /// The first argument of the call: a constant from 0 to 1.
    fn share(&self, args: &AccumulatorArgs<'_>) -> Result<f64> {
        let name = self.name();
        let literal = args.exprs.get(1).and_then(|expr| expr.downcast_ref::<Literal>()).map(Literal::value);
        match literal {
            Some(ScalarValue::Float64(Some(share))) if (0.0..=1.0).contains(share) => Ok(*share),
            Some(other) => plan_err!("the percentile of `{name}` is a number from 0 to 1, not {other}"),
            None => plan_err!("the percentile of `{name}` is a constant from 0 to 1, the same for all rows"),
        }
    }
}

impl AggregateUDFImpl for PercentileFunction {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Continuous => "percentile_cont",
            Kind::Discrete => "percentile_disc",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args.first() {
            Some(data_type) => Ok(data_type.clone()),
            None => internal_err!("{} has no argument", self.name()),
        }
    }

    /// The values of a group in no order, those of `DISTINCT` once.
    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let name = format!("{}{}", if args.is_distinct { "distinct_" } else { "" }, self.name());
        let Some(value) = args.input_fields.first() else { return internal_err!("{} has no argument", self.name()) };
        let list = DataType::List(groups::item(value.data_type()));
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, &name), list, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        internal_err!("{} is computed for many groups at once", self.name())
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.groups(&args)
    }
}
