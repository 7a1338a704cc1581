//! Dates and timestamps in their usual form, `2024-01-31T23:59:59.123Z`. Any other form is for the general path.

use arrow::datatypes::TimeUnit;

use super::scan::{eight_digits, leading_digits, load8, load16};

const SECONDS_PER_DAY: i64 = 86_400;

/// Years whose instants fit 64-bit nanoseconds.
const NANOSECOND_YEARS: std::ops::RangeInclusive<i64> = 1680..=2260;

/// Reads the timestamps of one column.
///
/// It predicts, too: events come in the order of time, mostly, so the minute of the timestamp before is kept as text,
/// and its value with it.
#[derive(Debug, Clone)]
pub(super) struct TimestampReader {
    unit: TimeUnit,
    /// Whether a text without a zone is in UTC.
    local_is_utc: bool,
    /// `2024-01-31T23:59` as sixteen bytes, and the seconds since 1970 it stands for.
    minute: (u128, i64),
}

impl TimestampReader {
    /// A reader for a column of `Timestamp(unit, zone)`.
    pub(super) fn new(unit: TimeUnit, zone: Option<&str>) -> Self {
        let local_is_utc = matches!(zone, None | Some("UTC" | "+00:00"));
        Self { unit, local_is_utc, minute: (u128::from_le_bytes(*b"1970-01-01T00:00"), 0) }
    }

    /// The timestamp whose text begins at `pos`, behind the opening quote, and the position behind the closing one.
    #[inline(always)]
    pub(super) fn read(&mut self, data: &[u8], pos: usize) -> Option<(i64, usize)> {
        let text = load16(data, pos)?;
        let seconds = if text == self.minute.0 { self.minute.1 } else { self.read_minute(text)? };
        // `:59.123456"`
        let word = load8(data, pos + 16);
        let second = match word.to_le_bytes() {
            [b':', tens @ b'0'..=b'5', ones @ b'0'..=b'9', ..] => i64::from(tens - b'0') * 10 + i64::from(ones - b'0'),
            _ => return None,
        };
        let seconds = seconds + second;
        let mut at = pos + 19;
        let mut nanos = 0;
        if data.get(at) == Some(&b'.') {
            let (count, value) = fraction(data, at + 1)?;
            nanos = value;
            at += 1 + count;
        }
        match data.get(at)? {
            b'"' if self.local_is_utc => {}
            b'Z' if data.get(at + 1) == Some(&b'"') => at += 1,
            _ => return None,
        }
        let (value, rest) = match self.unit {
            TimeUnit::Second => (seconds, nanos),
            TimeUnit::Millisecond => (seconds * 1_000 + nanos / 1_000_000, nanos % 1_000_000),
            TimeUnit::Microsecond => (seconds * 1_000_000 + nanos / 1_000, nanos % 1_000),
            TimeUnit::Nanosecond => (seconds * 1_000_000_000 + nanos, 0),
        };
        // Digits that the unit has no room for are the general path's to refuse.
        (rest == 0).then_some((value, at + 1))
    }

    /// The seconds since 1970 of `2024-01-31T23:59`, kept for the next.
    #[inline(never)]
    fn read_minute(&mut self, text: u128) -> Option<i64> {
        let bytes = text.to_le_bytes();
        let (date, time) = bytes.split_first_chunk::<10>()?;
        let (year, days) = days_since_epoch(date)?;
        let &[b'T' | b' ', h1, h0, b':', m1, m0] = time else { return None };
        let (hour, minute) = (two_digits(h1, h0)?, two_digits(m1, m0)?);
        if hour > 23 || minute > 59 || (self.unit == TimeUnit::Nanosecond && !NANOSECOND_YEARS.contains(&year)) {
            return None;
        }
        let seconds = days * SECONDS_PER_DAY + hour * 3_600 + minute * 60;
        self.minute = (text, seconds);
        Some(seconds)
    }
}

/// One to nine digits at `pos` as a fraction of a second: how many they are, and the nanoseconds.
#[inline(always)]
fn fraction(data: &[u8], pos: usize) -> Option<(usize, i64)> {
    let word = load8(data, pos);
    let count = leading_digits(word);
    if count == 0 {
        return None;
    }
    // The first digits stay where they are: those that are missing count as zeros behind them.
    let kept = if count == 8 { word } else { word & ((1 << (8 * count)) - 1) };
    let zeros = 0x3030_3030_3030_3030_u64;
    let zeros = if count == 8 { zeros } else { zeros & ((1 << (8 * count)) - 1) };
    let nanos = eight_digits(kept ^ zeros) as i64 * 10;
    if count < 8 {
        return Some((count as usize, nanos));
    }
    match data.get(pos + 8)? {
        ninth @ b'0'..=b'9' => Some((9, nanos + i64::from(ninth - b'0'))),
        _ => Some((8, nanos)),
    }
}

/// The days since 1970 of the date `2024-01-31` whose text begins at `pos`, behind the opening quote, and the position
/// behind the closing one.
#[inline(always)]
pub(super) fn date(data: &[u8], pos: usize) -> Option<(i32, usize)> {
    let text = data.get(pos..)?.first_chunk::<10>()?;
    if data.get(pos + 10) != Some(&b'"') {
        return None;
    }
    let (_, days) = days_since_epoch(text)?;
    Some((i32::try_from(days).ok()?, pos + 11))
}

/// The year of `2024-01-31`, and its days since 1970.
fn days_since_epoch(text: &[u8; 10]) -> Option<(i64, i64)> {
    let &[y3, y2, y1, y0, b'-', m1, m0, b'-', d1, d0] = text else { return None };
    let year = two_digits(y3, y2)? * 100 + two_digits(y1, y0)?;
    let (month, day) = (two_digits(m1, m0)?, two_digits(d1, d0)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if day == 0 || day > last {
        return None;
    }
    // H. Hinnant, "chrono-compatible low-level date algorithms", days_from_civil.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((year, era * 146_097 + day_of_era - 719_468))
}

fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}
