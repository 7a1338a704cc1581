//! Decimal numbers as text, read exactly or not at all.
//!
//! Not by arrow's `parse_decimal` (59.3): it cuts off the digits that a scale has no room for, takes no notice of a negative scale, and overflows on
//! numbers with more digits than it can count.

use arrow::array::ArrowNativeTypeOp;
use arrow::array::types::DecimalType;
use arrow::datatypes::ArrowNativeType;

use super::Misfit;

/// A number as it is written.
pub(crate) struct Number<'a> {
    negative: bool,
    /// The digits before the point, without leading zeros.
    whole: &'a [u8],
    /// The digits behind the point.
    fraction: &'a [u8],
    exponent: i64,
}

/// The value of `text` in units of `10^-scale`.
///
/// `12`, `-1.5`, `.5`, `5.` and `+1.5e3` are numbers; white space is part of none.
///
/// ```
/// use arrow::datatypes::Decimal128Type;
/// use karez_core::exact::Misfit;
/// use karez_core::exact::decimal::parse;
///
/// assert_eq!(parse::<Decimal128Type>("-1.500", 10, 2), Ok(-150));
/// assert_eq!(parse::<Decimal128Type>("1.5e3", 10, 2), Ok(150_000));
/// assert_eq!(parse::<Decimal128Type>("1.239", 10, 2), Err(Misfit::Fraction));
/// ```
///
/// # Errors
/// `text` is no number, needs more than `precision` digits, or has digits that `scale` has no room for.
pub fn parse<T: DecimalType>(text: &str, precision: u8, scale: i8) -> Result<T::Native, Misfit> {
    Number::of(text).ok_or(Misfit::Form)?.value::<T>(precision, scale)
}

// ===== impl Number =====

impl<'a> Number<'a> {
    /// `None` if `text` is no number.
    pub(crate) fn of(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (negative, unsigned) = match bytes {
            [b'-', unsigned @ ..] => (true, unsigned),
            [b'+', unsigned @ ..] => (false, unsigned),
            unsigned => (false, unsigned),
        };
        let (whole, rest) = digits(unsigned);
        let (fraction, rest) = match rest {
            [b'.', behind @ ..] => digits(behind),
            rest => (&[][..], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', exponent @ ..] => std::str::from_utf8(exponent).ok()?.parse().ok()?,
            _ => return None,
        };
        let zeros = whole.iter().take_while(|digit| **digit == b'0').count();
        Some(Self { negative, whole: &whole[zeros..], fraction, exponent })
    }

    /// Digits before the point, leading zeros not counted, and behind it.
    pub(crate) fn digits(&self) -> (usize, usize) {
        (self.whole.len(), self.fraction.len())
    }

    pub(crate) fn exponent(&self) -> i64 {
        self.exponent
    }

    /// The value in units of `10^-scale`, of which it has at most `precision` digits.
    pub(crate) fn value<T: DecimalType>(&self, precision: u8, scale: i8) -> Result<T::Native, Misfit> {
        let significant = |digits: &[u8]| digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        // The places that are not zero, counted from the first digit of the whole.
        let places = match significant(self.fraction) {
            0 => significant(self.whole),
            fraction => self.whole.len() + fraction,
        };
        let mut used = self.whole.iter().chain(self.fraction).take(places).skip_while(|digit| **digit == b'0').peekable();
        if used.peek().is_none() {
            return Ok(T::Native::ZERO);
        }
        // What the last place counts, as a power of ten of the unit.
        let power = i128::from(self.exponent) + i128::from(scale) + self.whole.len() as i128 - places as i128;
        if power < 0 {
            return Err(Misfit::Fraction);
        }
        let power = u32::try_from(power).map_err(|_| Misfit::Size)?;
        let ten = T::Native::usize_as(10);
        let mut value = T::Native::ZERO;
        let mut count = u64::from(power);
        for digit in used {
            count += 1;
            if count > precision.into() {
                return Err(Misfit::Size);
            }
            value = value.mul_wrapping(ten).add_wrapping(T::Native::usize_as(usize::from(digit - b'0')));
        }
        // Within the precision nothing wraps.
        value = value.mul_wrapping(ten.pow_wrapping(power));
        Ok(if self.negative { value.neg_wrapping() } else { value })
    }
}

/// The digits that `bytes` begins with, and the rest.
fn digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::types::{Decimal128Type, Decimal256Type};
    use arrow::datatypes::i256;

    use super::{Misfit, parse};

    #[test]
    fn a_number_is_read_whatever_its_form() {
        let forms = [
            "12.5",
            "+12.5",
            "012.50",
            "12.500000",
            "1.25e1",
            "1250E-2",
            "0.00125e+4",
            "125e-1",
            ".125e2",
            "12500000000000000000000000000000000000000e-39",
        ];
        for text in forms {
            assert_eq!(parse::<Decimal128Type>(text, 5, 2), Ok(1250), "{text}");
        }
        assert_eq!(parse::<Decimal128Type>("5.", 5, 2), Ok(500));
        assert_eq!(parse::<Decimal128Type>("-0.05", 2, 2), Ok(-5));
        for zero in ["0", "-0", "0.000", "0e5", "0e-5", &format!("0.{}", "0".repeat(40_000)), "00e400"] {
            assert_eq!(parse::<Decimal128Type>(zero, 5, 2), Ok(0), "{zero}");
        }
    }

    #[test]
    fn digits_that_the_scale_has_no_room_for_are_not_cut_off() {
        for text in ["1.239", "1.2300001", "12.5e-2", "0.001", "1e-3", &format!("0.{}1", "0".repeat(300))] {
            assert_eq!(parse::<Decimal128Type>(text, 12, 2), Err(Misfit::Fraction), "{text}");
        }
        assert_eq!(parse::<Decimal128Type>("1200", 5, -2), Ok(12));
        assert_eq!(parse::<Decimal128Type>("1250", 5, -2), Err(Misfit::Fraction));
    }

    #[test]
    fn what_needs_more_digits_than_the_precision_is_refused() {
        assert_eq!(parse::<Decimal128Type>("999.99", 5, 2), Ok(99_999));
        assert_eq!(parse::<Decimal128Type>("1000", 5, 2), Err(Misfit::Size));
        let nines = "9".repeat(38);
        assert_eq!(parse::<Decimal128Type>(&nines, 38, 0), Ok(nines.parse().unwrap()));
        assert_eq!(parse::<Decimal128Type>(&format!("1{}", "0".repeat(38)), 38, 0), Err(Misfit::Size));
        let nines = "9".repeat(76);
        assert_eq!(parse::<Decimal256Type>(&format!("-{nines}"), 76, 0), Ok(i256::from_string(&format!("-{nines}")).unwrap()));
        for text in ["1e37", &format!("1{}", "0".repeat(256)), "1e99999999999", "1e9223372036854775807"] {
            assert_eq!(parse::<Decimal128Type>(text, 38, 2), Err(Misfit::Size), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", ".", "-", "-.", "e5", "1e", "1e+", "1e5.5", "1e5+3", "1-2", "--1", " 1", "1 ", "1.2.3", "NaN", "0x10", "1_000", "١"] {
            assert_eq!(parse::<Decimal128Type>(text, 12, 2), Err(Misfit::Form), "{text:?}");
        }
    }
}
