//! Dates and times as text.

use std::fmt::Write;

/// The date of a day counted from 1970-01-01: year, month, day (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

fn two(out: &mut String, n: u32) {
    out.push(char::from(b'0' + (n / 10 % 10) as u8));
    out.push(char::from(b'0' + (n % 10) as u8));
}

/// Appends `2013-01-31`.
pub(super) fn date(out: &mut String, days: i64) {
    let (year, month, day) = civil(days);
    if (0..=9_999).contains(&year) {
        two(out, year as u32 / 100);
        two(out, year as u32 % 100);
    } else {
        // Writing to a string cannot fail.
        let _ = write!(out, "{year:+05}");
    }
    out.push('-');
    two(out, month);
    out.push('-');
    two(out, day);
}

/// Appends a [time of a day](karez_core::exact::is_of_day) as `05:00:00.000`, with the digits of the unit (`per_second`: 1, 1,000, …) behind the point.
pub(super) fn time(out: &mut String, of_day: i64, per_second: i64) {
    let seconds = (of_day / per_second) as u32;
    two(out, seconds / 3_600);
    out.push(':');
    two(out, seconds / 60 % 60);
    out.push(':');
    two(out, seconds % 60);
    if per_second > 1 {
        out.push('.');
        let mut rest = of_day % per_second;
        let mut unit = per_second / 10;
        while unit > 0 {
            out.push(char::from(b'0' + (rest / unit) as u8));
            rest %= unit;
            unit /= 10;
        }
    }
}

/// Appends `2013-01-31 05:00:00.000`, or `2013-01-31T05:00:00.000Z` in UTC.
pub(super) fn timestamp(out: &mut String, value: i64, per_second: i64, utc: bool) {
    let per_day = 86_400 * per_second;
    date(out, value.div_euclid(per_day));
    out.push(if utc { 'T' } else { ' ' });
    time(out, value.rem_euclid(per_day), per_second);
    if utc {
        out.push('Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_chrono_writes() {
        for ms in [0, 1, -1, 951_782_400_000, 1_357_016_400_123, 4_102_444_799_999, -62_135_596_800_000, 253_402_300_799_999] {
            let mut text = String::new();
            timestamp(&mut text, ms, 1_000, false);
            let expected = chrono::DateTime::from_timestamp_millis(ms).map(|t| t.format("%Y-%m-%d %H:%M:%S%.3f").to_string());
            assert_eq!(Some(text), expected);
        }
    }
}
