//! Decimal numbers as text, within what arrow counts their digits with.
//!
//! arrow's `parse_decimal` (59.3) counts digits in 8 bits and exponents in 16. Beyond these it panics where overflow is checked; where it is not, it
//! takes a one with 256 zeros for zero. So what may go beyond is refused before arrow sees it, as a value that does not fit its column.

use arrow::array::types::DecimalType;
use arrow::compute::kernels::cast_utils::parse_decimal;

/// Most digits before the point, leading zeros not counted: no decimal has more than 76, so that none that fits is refused.
const WHOLE_DIGITS_LIMIT: usize = 127;

/// Most digits behind the point, where the column keeps as many as its scale says.
const FRACTION_DIGITS_LIMIT: usize = 10_000;

/// Most digits behind the point where the scale is negative: arrow counts them all then.
const FRACTION_DIGITS_LIMIT_UNSCALED: usize = 127;

/// Largest exponent, to either side.
const EXPONENT_LIMIT: u32 = 10_000;

/// The value of `text` in units of `10^-scale`; `None` if it is no number, or does not fit `precision` digits.
///
/// `12`, `-1.5` and `+1.5e3` are numbers; white space is part of none. Digits behind the point that `scale` has no room for are cut off.
///
/// ```
/// use arrow::datatypes::Decimal128Type;
/// use karez_formats::decimal::parse;
///
/// assert_eq!(parse::<Decimal128Type>("-1.509", 10, 2), Some(-150));
/// assert_eq!(parse::<Decimal128Type>("1.5e3", 10, 2), Some(150_000));
/// assert_eq!(parse::<Decimal128Type>(&format!("1{}", "0".repeat(256)), 10, 2), None);
/// ```
#[must_use]
pub fn parse<T: DecimalType>(text: &str, precision: u8, scale: i8) -> Option<T::Native> {
    if !is_countable(text, scale) {
        return None;
    }
    parse_decimal::<T>(text, precision, scale).ok()
}

/// Whether arrow can count the digits of `text`, which need not be a number.
pub(crate) fn is_countable(text: &str, scale: i8) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (digits, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.trim_start_matches(['-', '+', '0'])),
        None => (unsigned, ""),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction_limit = if scale < 0 { FRACTION_DIGITS_LIMIT_UNSCALED } else { FRACTION_DIGITS_LIMIT };
    whole.trim_start_matches('0').len() <= WHOLE_DIGITS_LIMIT
        && fraction.len() <= fraction_limit
        && (exponent.is_empty() || exponent.parse().is_ok_and(|exponent: u32| exponent <= EXPONENT_LIMIT))
}
