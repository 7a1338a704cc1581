//! [`Fit`]: exact results in the type that they are promised in.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::DecimalCast;
use arrow::datatypes::{DataType, DecimalType};
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::{digits, with_types};

/// The results of `call`, which is printed as `text`, in the decimal type `to`; one with more digits is an error of its row.
pub(super) fn fit(call: Expr, to: DataType, text: String) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::from(Fit { to, text, signature }).call(vec![call])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Fit {
    to: DataType,
    /// The aggregate call, for errors.
    text: String,
    signature: Signature,
}

impl ScalarUDFImpl for Fit {
    fn name(&self) -> &str {
        "fit"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [results] = args.args.as_slice() else { return internal_err!("one column of results is to fit, not {}", args.args.len()) };
        let results = results.to_array(args.number_rows)?;
        with_types!(&self.to, results.data_type(), fitted(self, &results)).map(ColumnarValue::Array)
    }
}

fn fitted<V: DecimalType, S: DecimalType>(fit: &Fit, results: &ArrayRef) -> Result<ArrayRef>
where
    V::Native: DecimalCast,
    S::Native: DecimalCast,
{
    let (precision, scale) = digits(&fit.to)?;
    let fitted: PrimitiveArray<V> = results.as_primitive::<S>().try_unary(|result| {
        V::Native::from_decimal(result).filter(|&fits| V::is_valid_decimal_precision(fits, precision)).ok_or_else(|| {
            // A number that its own type has too few digits for is not printed whole.
            let known = S::is_valid_decimal_precision(result, S::MAX_PRECISION);
            let shown = if known { format!(" {}, which has", S::format_decimal(result, S::MAX_PRECISION, scale)) } else { String::new() };
            exec_datafusion_err!("{} is{shown} more than the {precision} digits of {}", fit.text, fit.to)
        })
    })?;
    Ok(Arc::new(fitted.with_data_type(fit.to.clone())))
}
