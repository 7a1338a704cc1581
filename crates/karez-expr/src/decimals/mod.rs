//! `sum` and `avg` of decimals that are never a wrong number.
//!
//! DataFusion's wrap around: a sum beyond the digits of its type is some other number, and so is an average of such a sum. Here a call of them is taken
//! apart before it is compiled:
//!
//! ```text
//! sum(amount)  ──►  fit(sum(amount))
//!                   │   └ ExactFunction: adds up in a type that holds all digits, and gives its results in that type
//!                   └ Fit: a result that has more digits than the type of `sum(amount)` is an error of its row
//! ```
//!
//! So what is judged is each result, not a total on its way: one that is too large is a bad record of its node, and the next is a good one if further
//! rows bring it back. (Flink gives null instead, and goes on from null as if there had been no rows.)
//!
//! Totals are kept with all their digits while they are in memory ([`totals`]). Partial states hold them in
//!
//! | | |
//! | --- | --- |
//! | `sum` of `Decimal128(p, s)`, p ≤ 28 | the type of the result, which has ten digits more: 128 bits |
//! | `sum` of `Decimal128(p, s)`, p > 28 | `Decimal256(76, s)`: 256 bits |
//! | `sum` of `Decimal32`, `Decimal64` | `Decimal128(38, s)` |
//! | `sum` of `Decimal256` | the type of the result: 256 bits |
//! | `avg` | the type of DataFusion's, which has thirteen digits more than the values, 76 at most |
//! | `distinct` | the values |
//!
//! A total beyond the bits of that type, which needs 10^10 rows of the greatest values, or of `Decimal256` six with 76 digits, is not known any more: the
//! least number of the type, which no decimal is, stands for it, and each result of it is an error.

mod distinct;
mod finish;
mod fit;
mod function;
mod groups;
mod totals;

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable};

use function::ExactFunction;

/// Calls a function that is generic over the type of values and that of their totals.
macro_rules! with_types {
    ($values:expr, $totals:expr, $function:ident($($argument:expr),*)) => {{
        use arrow::datatypes::{Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type};
        match ($values, $totals) {
            (DataType::Decimal32(..), DataType::Decimal64(..)) => $function::<Decimal32Type, Decimal64Type>($($argument),*),
            (DataType::Decimal32(..), DataType::Decimal128(..)) => $function::<Decimal32Type, Decimal128Type>($($argument),*),
            (DataType::Decimal64(..), DataType::Decimal64(..)) => $function::<Decimal64Type, Decimal64Type>($($argument),*),
            (DataType::Decimal64(..), DataType::Decimal128(..)) => $function::<Decimal64Type, Decimal128Type>($($argument),*),
            (DataType::Decimal128(..), DataType::Decimal128(..)) => $function::<Decimal128Type, Decimal128Type>($($argument),*),
            (DataType::Decimal128(..), DataType::Decimal256(..)) => $function::<Decimal128Type, Decimal256Type>($($argument),*),
            (DataType::Decimal256(..), DataType::Decimal256(..)) => $function::<Decimal256Type, Decimal256Type>($($argument),*),
            (values, totals) => datafusion::common::internal_err!("totals of {values} are not {totals}"),
        }
    }};
}
use with_types;

/// The expression, which is typed, with sums and averages of decimals that are exact.
pub(crate) fn exact(expr: Expr, input: &DFSchema) -> Result<Expr> {
    let rewritten = expr.transform_up(|node| {
        let Expr::AggregateFunction(call) = &node else { return Ok(Transformed::no(node)) };
        if !ExactFunction::replaces(call.func.name()) {
            return Ok(Transformed::no(node));
        }
        let result = node.get_type(input)?;
        if !result.is_decimal() {
            return Ok(Transformed::no(node));
        }
        let func = Arc::new(AggregateUDF::from(ExactFunction::new(Arc::clone(&call.func))));
        let exact = Expr::AggregateFunction(AggregateFunction { func, params: call.params.clone() });
        Ok(Transformed::yes(fit::fit(exact, result, node.human_display().to_string())))
    })?;
    Ok(rewritten.data)
}

/// Precision and scale of a decimal type.
fn digits(data_type: &DataType) -> Result<(u8, i8)> {
    match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Ok((*precision, *scale)),
        other => datafusion::common::internal_err!("{other} is no decimal"),
    }
}
