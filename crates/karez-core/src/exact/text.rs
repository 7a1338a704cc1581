//! Numbers, dates, times and instants as text.
//!
//! Forms are those that arrow's parsers take; what these would change is refused.

use arrow::array::types::Date32Type;
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime, string_to_time_nanoseconds};
use arrow::datatypes::TimeUnit;
use chrono::{TimeZone, Utc};

use super::{Misfit, is_of_day, per_second};

/// Digits behind the point that are read: a nanosecond is the shortest unit.
const FRACTION_DIGITS: usize = 9;

const NANOS: i64 = per_second(TimeUnit::Nanosecond);

/// A floating-point number, the nearest to `text`; what is too large is not taken for infinite.
///
/// # Errors
/// `text` is no number, or too large.
pub fn float<T: Parser>(text: &str) -> Result<T::Native, Misfit>
where
    T::Native: Into<f64>,
{
    let value = T::parse(text).ok_or(Misfit::Form)?;
    // Infinity as a word has no digit.
    if value.into().is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit()) { Err(Misfit::Size) } else { Ok(value) }
}

/// An instant in units since 1970-01-01T00:00:00 UTC, where `text` names no other zone in `zone`.
///
/// ```
/// use arrow::datatypes::TimeUnit::{Microsecond, Millisecond};
/// use karez_core::exact::{Misfit, text::timestamp};
///
/// assert_eq!(timestamp("1970-01-01T00:00:01.500", &chrono::Utc, Millisecond), Ok(1_500));
/// assert_eq!(timestamp("1970-01-01 01:00:00.0005+01:00", &chrono::Utc, Microsecond), Ok(500));
/// assert_eq!(timestamp("1970-01-01T00:00:00.0005", &chrono::Utc, Millisecond), Err(Misfit::Fraction));
/// ```
///
/// # Errors
/// `text` is no instant, is beyond 64 bits of the unit, or has digits that the unit has no room for. A leap second is no instant: no unit counts it.
pub fn timestamp(text: &str, zone: &impl TimeZone, unit: TimeUnit) -> Result<i64, Misfit> {
    let instant = string_to_datetime(zone, text).map_err(|_| Misfit::Form)?;
    let nanos = i64::from(instant.timestamp_subsec_nanos());
    if nanos >= NANOS {
        return Err(Misfit::Form);
    }
    let nanos = in_units(nanos, text, unit)?;
    let value = i128::from(instant.timestamp()) * i128::from(per_second(unit)) + i128::from(nanos);
    i64::try_from(value).map_err(|_| Misfit::Size)
}

/// A date in days since 1970-01-01. Midnight, of UTC where a zone is named, is a date as well.
///
/// # Errors
/// `text` is no date, or has a time of day.
pub fn date(text: &str) -> Result<i32, Misfit> {
    let days = Date32Type::parse(text).ok_or(Misfit::Form)?;
    // Longer are those with a time of day, and those of years with a sign.
    if text.len() > "2024-01-31".len() && !text.starts_with(['+', '-']) {
        let instant = string_to_datetime(&Utc, text).map_err(|_| Misfit::Form)?;
        let is_midnight = instant.timestamp() % 86_400 == 0 && instant.timestamp_subsec_nanos() == 0 && !has_finer_digits(text);
        return if is_midnight { Ok(days) } else { Err(Misfit::TimeOfDay) };
    }
    Ok(days)
}

/// A time of day in units since midnight; a whole number is one of units.
///
/// # Errors
/// `text` is no time, none of a day, or has digits that the unit has no room for.
pub fn time(text: &str, unit: TimeUnit) -> Result<i64, Misfit> {
    let value = match string_to_time_nanoseconds(text) {
        Ok(nanos) => in_units(nanos, text, unit)?,
        Err(_) => text.parse().map_err(|_| Misfit::Form)?,
    };
    if is_of_day(value, per_second(unit)) { Ok(value) } else { Err(Misfit::Size) }
}

/// The nanoseconds that were read of `text`.
fn in_units(nanos: i64, text: &str, unit: TimeUnit) -> Result<i64, Misfit> {
    let of_unit = NANOS / per_second(unit);
    if nanos % of_unit != 0 || has_finer_digits(text) { Err(Misfit::Fraction) } else { Ok(nanos / of_unit) }
}

/// Whether there are digits behind those that are read, and not only zeros.
fn has_finer_digits(text: &str) -> bool {
    let Some((_, fraction)) = text.split_once('.') else { return false };
    fraction.bytes().take_while(u8::is_ascii_digit).skip(FRACTION_DIGITS).any(|digit| digit != b'0')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::types::{Float32Type, Float64Type};

    use super::*;

    const UNITS: [TimeUnit; 4] = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];

    #[test]
    fn numbers_that_are_too_large_are_not_infinite() {
        assert_eq!(float::<Float64Type>("1.7976931348623157e308"), Ok(f64::MAX));
        for text in ["1e400", "-1e309", "1.8e308"] {
            assert_eq!(float::<Float64Type>(text), Err(Misfit::Size), "{text}");
        }
        for text in ["1e40", "-3.5e38", &"9".repeat(40)] {
            assert_eq!(float::<Float32Type>(text), Err(Misfit::Size), "{text}");
        }
        assert_eq!(float::<Float64Type>("-inf"), Ok(f64::NEG_INFINITY));
        assert_eq!(float::<Float64Type>("Infinity"), Ok(f64::INFINITY));
        assert!(float::<Float64Type>("NaN").unwrap().is_nan());
        assert_eq!(float::<Float64Type>("1e-400"), Ok(0.0));
        assert_eq!(float::<Float64Type>("1.5x"), Err(Misfit::Form));
    }

    #[test]
    fn digits_behind_the_second_are_not_cut_off() {
        for (unit, digits) in UNITS.into_iter().zip([0, 3, 6, 9]) {
            let kept = "123456789".get(..digits).unwrap();
            let value = format!("1{kept}").parse::<i64>().unwrap();
            for (point, behind) in [("", ""), (".", "000"), (".", "000000000000000000")] {
                let point = if kept.is_empty() { point } else { "." };
                let text = format!("1970-01-01T00:00:01{point}{kept}{behind}");
                assert_eq!(timestamp(&text, &Utc, unit), Ok(value), "{text}");
                assert_eq!(timestamp(&format!("{text}Z"), &Utc, unit), Ok(value), "{text}Z");
                assert_eq!(time(&format!("00:00:01{point}{kept}{behind}"), unit), Ok(value));
            }
            for finer in ["1", "0001", "0000000000001"] {
                let text = format!("1970-01-01T00:00:01.{kept}{finer}");
                assert_eq!(timestamp(&text, &Utc, unit), Err(Misfit::Fraction), "{text}");
                assert_eq!(timestamp(&format!("{text}+01:00"), &Utc, unit), Err(Misfit::Fraction), "{text}+01:00");
                assert_eq!(time(&format!("00:00:01.{kept}{finer}"), unit), Err(Misfit::Fraction));
            }
        }
    }

    #[test]
    fn instants_before_1970_and_at_the_ends_are_read() {
        assert_eq!(timestamp("1969-12-31T23:59:59.999", &Utc, TimeUnit::Millisecond), Ok(-1));
        assert_eq!(timestamp("1677-09-21T00:12:43.145224192", &Utc, TimeUnit::Nanosecond), Ok(i64::MIN));
        assert_eq!(timestamp("1677-09-21T00:12:43.145224191", &Utc, TimeUnit::Nanosecond), Err(Misfit::Size));
        assert_eq!(timestamp("9999-12-31", &Utc, TimeUnit::Nanosecond), Err(Misfit::Size));
        for leap in ["2016-12-31T23:59:60", "2016-12-31T23:59:60.5Z", "2024-01-01 120060"] {
            assert_eq!(timestamp(leap, &Utc, TimeUnit::Nanosecond), Err(Misfit::Form), "{leap}");
        }
        assert_eq!(timestamp("2024-01-01T00:00", &Utc, TimeUnit::Second), Err(Misfit::Form));
    }

    #[test]
    fn a_date_has_no_time_of_day() {
        for text in ["2024-01-31", "20240131", "2024-01-31T00:00:00", "2024-01-31 00:00:00.000Z", "2024-01-31T02:00:00+02:00"] {
            assert_eq!(date(text), Ok(19_753), "{text}");
        }
        assert_eq!(date("+10999-12-31"), Ok(3_298_139));
        for text in ["2024-01-31T00:00:01", "2024-01-31T00:00:00.0000000001", "2024-01-31T00:00:00+02:00", "1969-12-31T23:59:59"] {
            assert_eq!(date(text), Err(Misfit::TimeOfDay), "{text}");
        }
        for text in ["", "2024-02-30", "31.01.2024", "2024-01-31T", "-"] {
            assert_eq!(date(text), Err(Misfit::Form), "{text}");
        }
    }

    #[test]
    fn a_time_is_one_of_a_day() {
        assert_eq!(time("23:59:59", TimeUnit::Second), Ok(86_399));
        assert_eq!(time("86399", TimeUnit::Second), Ok(86_399));
        assert_eq!(time("1:05 pm", TimeUnit::Second), Ok(47_100));
        for text in ["23:59:60", "86400", "-1"] {
            assert_eq!(time(text, TimeUnit::Second), Err(Misfit::Size), "{text}");
        }
        for text in ["24:00:00", "x", ""] {
            assert_eq!(time(text, TimeUnit::Second), Err(Misfit::Form), "{text}");
        }
    }
}
