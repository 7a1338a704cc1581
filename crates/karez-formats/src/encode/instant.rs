//! Instants as text, as `chrono` writes them (ISO 8601, with a fraction of 3, 6 or 9 digits where there is one), by arithmetic alone: these stand in nearly
//! every event.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType};

/// Seconds since 1970 of the years 0 to 9999: others have a sign or more digits.
const YEARS: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;
const LONGEST: usize = "9999-12-31T23:59:59.999999999Z".len();

/// A column of instants without a zone, or in UTC.
pub(super) struct Instants<'a> {
    values: &'a [i64],
    per_second: i64,
    utc: bool,
}

impl<'a> Instants<'a> {
    /// `None`: it is another column.
    pub(super) fn of(array: &'a dyn Array) -> Option<Self> {
        let DataType::Timestamp(unit, zone) = array.data_type() else { return None };
        let utc = match zone.as_deref() {
            None => false,
            Some("UTC" | "Z" | "+00:00") => true,
            Some(_) => return None,
        };
        let (values, per_second): (&[i64], _) = match unit {
            TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().values(), 1),
            TimeUnit::Millisecond => (array.as_primitive::<TimestampMillisecondType>().values(), 1_000),
            TimeUnit::Microsecond => (array.as_primitive::<TimestampMicrosecondType>().values(), 1_000_000),
            TimeUnit::Nanosecond => (array.as_primitive::<TimestampNanosecondType>().values(), 1_000_000_000),
        };
        Some(Self { values, per_second, utc })
    }

    /// Appends the text of a row; false, and nothing is appended: the year has not four digits.
    pub(super) fn write(&self, row: usize, out: &mut Vec<u8>) -> bool {
        let value = self.values[row];
        let seconds = value.div_euclid(self.per_second);
        if !YEARS.contains(&seconds) {
            return false;
        }
        let nanos = value.rem_euclid(self.per_second) * (1_000_000_000 / self.per_second);
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        digits(&mut text[..4], year);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], second / 3_600);
        digits(&mut text[14..16], second / 60 % 60);
        digits(&mut text[17..19], second % 60);
        digits(&mut text[20..29], nanos);
        let length = match nanos {
            0 => 19,
            n if n % 1_000_000 == 0 => 23,
            n if n % 1_000 == 0 => 26,
            _ => LONGEST - 1,
        };
        out.extend_from_slice(&text[..length]);
        if self.utc {
            out.push(b'Z');
        }
        true
    }
}

/// Year, month and day of a day since 1970, of the years from 0 on (H. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`).
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Counted from March.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + (month <= 2) as i64, month, day)
}

/// Fills the place with a number of as many digits at most.
fn digits(place: &mut [u8], mut number: i64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
    use arrow::compute::cast;
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    use proptest::prelude::*;

    use super::*;

    /// What is written, and what arrow writes.
    fn both(value: i64, data_type: &DataType) -> (Option<String>, Option<String>) {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![value]));
        let column = cast(&column, data_type).unwrap();
        let mut out = Vec::new();
        let ours = Instants::of(&column).unwrap().write(0, &mut out).then(|| String::from_utf8(out).unwrap());
        let theirs = ArrayFormatter::try_new(&column, &FormatOptions::new().with_display_error(false)).unwrap().value(0).try_to_string().ok();
        (ours, theirs)
    }

    fn types() -> impl Iterator<Item = DataType> {
        let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
        units.into_iter().flat_map(|unit| [None, Some("UTC".into()), Some("+00:00".into())].map(|zone| DataType::Timestamp(unit, zone)))
    }

    #[test]
    fn years_of_four_digits_are_written_and_no_others() {
        let second = DataType::Timestamp(TimeUnit::Second, None);
        assert_eq!(both(YEARS.start, &second).0.unwrap(), "0000-01-01T00:00:00");
        assert_eq!(both(YEARS.end - 1, &second).0.unwrap(), "9999-12-31T23:59:59");
        assert_eq!(both(YEARS.start - 1, &second).0, None);
        assert_eq!(both(YEARS.end, &second).0, None);
    }

    proptest! {
        #[test]
        fn the_text_is_what_arrow_writes(value in prop_oneof![any::<i64>(), -1_000_000..1_000_000_i64, YEARS, YEARS.prop_map(|s| s * 37)], scale in 0..10_u32) {
            let value = value / 10_i64.pow(scale) * 10_i64.pow(scale);
            for data_type in types() {
                let (ours, theirs) = both(value, &data_type);
                if ours.is_some() {
                    prop_assert_eq!(ours, theirs, "{:?}", data_type);
                }
            }
        }
    }
}
