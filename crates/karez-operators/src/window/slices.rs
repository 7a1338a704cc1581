//! [`Slices`]: event time cut into slices, and windows made of slices.
//!
//! ```text
//! slices     │ 0 │ 1 │ 2 │ 3 │ 4 │ 5 │      a slice is [start(i), start(i + 1))
//! windows    └─ 0 ───────┘                  window j is the slices j·step .. j·step + width
//!                    └─ 1 ───────┘          here: width 3, step 2
//! ```
//!
//! A tumbling window is one slice; a sliding one has slices of gcd(size, slide), so that each row is aggregated once
//! (Krishnamurthy et al., "On-the-fly sharing for streamed aggregation", 2006). With a time zone slices are local days.

use chrono::{DateTime, Duration, LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;

const DAY_MS: i64 = 86_400_000;
/// chrono's calendar ends there; no row's time is beyond it.
const CALENDAR_END_MS: i64 = 200_000 * 365 * DAY_MS;

/// How time is cut. All times are milliseconds since the epoch, slices and windows are numbered through.
#[derive(Clone, Debug)]
pub(crate) struct Slices {
    grid: Grid,
    /// Slices per window.
    width: i64,
    /// Slices from one window's start to the next's; at most `width`.
    step: i64,
}

#[derive(Clone, Debug)]
enum Grid {
    Fixed { slice_ms: i64, offset_ms: i64 },
    LocalDays { days: i64, offset_ms: i64, zone: Tz },
}

impl Slices {
    /// Windows of `size_ms`, one every `slide_ms` (which is at most `size_ms`), aligned to the epoch and moved by `offset_ms`.
    pub(crate) fn fixed(size_ms: i64, slide_ms: i64, offset_ms: i64) -> Self {
        let slice_ms = gcd(size_ms, slide_ms);
        Self { grid: Grid::Fixed { slice_ms, offset_ms }, width: size_ms / slice_ms, step: slide_ms / slice_ms }
    }

    /// Windows of whole local days. A day has 23 or 25 hours where the zone's clock changes.
    pub(crate) fn local_days(size_days: i64, slide_days: i64, offset_ms: i64, zone: Tz) -> Self {
        let days = gcd(size_days, slide_days);
        Self { grid: Grid::LocalDays { days, offset_ms, zone }, width: size_days / days, step: slide_days / days }
    }

    /// Whether a window is one slice.
    pub(crate) const fn is_tumbling(&self) -> bool {
        self.width == 1 && self.step == 1
    }

    /// Slices per window.
    pub(crate) const fn width(&self) -> i64 {
        self.width
    }

    /// Slices from one window's start to the next's.
    pub(crate) const fn step(&self) -> i64 {
        self.step
    }

    /// The slice that holds an instant.
    pub(crate) fn slice_of(&self, time_ms: i64) -> i64 {
        match &self.grid {
            Grid::Fixed { slice_ms, offset_ms } => time_ms.saturating_sub(*offset_ms).div_euclid(*slice_ms),
            Grid::LocalDays { days, offset_ms, zone } => {
                let time_ms = time_ms.clamp(-CALENDAR_END_MS, CALENDAR_END_MS);
                let local_ms = time_ms + utc_offset_ms(*zone, time_ms) - offset_ms;
                let mut slice = local_ms.div_euclid(DAY_MS).div_euclid(*days);
                // A slice is bounded by instants: an hour that the clock shows twice belongs to where its instant lies.
                while time_ms < self.start(slice) {
                    slice -= 1;
                }
                while time_ms >= self.start(slice + 1) {
                    slice += 1;
                }
                slice
            }
        }
    }

    /// The instant at which a slice begins.
    pub(crate) fn start(&self, slice: i64) -> i64 {
        match &self.grid {
            Grid::Fixed { slice_ms, offset_ms } => slice.saturating_mul(*slice_ms).saturating_add(*offset_ms),
            Grid::LocalDays { days, offset_ms, zone } => {
                let local_ms = slice.saturating_mul(*days).saturating_mul(DAY_MS).saturating_add(*offset_ms);
                local_to_utc_ms(*zone, local_ms.clamp(-CALENDAR_END_MS, CALENDAR_END_MS))
            }
        }
    }

    /// The instants at which a window begins and ends.
    pub(crate) fn window(&self, window: i64) -> (i64, i64) {
        let first = window.saturating_mul(self.step);
        (self.start(first), self.start(first.saturating_add(self.width)))
    }

    /// The slices of a window: first, and behind the last.
    pub(crate) const fn slices(&self, window: i64) -> (i64, i64) {
        let first = window.saturating_mul(self.step);
        (first, first.saturating_add(self.width))
    }

    /// The first window that holds a slice.
    pub(crate) const fn first_window(&self, slice: i64) -> i64 {
        div_ceil(slice.saturating_add(1).saturating_sub(self.width), self.step)
    }

    /// The first window that ends after an instant.
    pub(crate) fn first_window_after(&self, time_ms: i64) -> i64 {
        if time_ms == i64::MAX {
            return i64::MAX;
        }
        self.first_window(self.slice_of(time_ms))
    }
}

const fn gcd(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

const fn div_ceil(a: i64, b: i64) -> i64 {
    a.div_euclid(b) + if a.rem_euclid(b) > 0 { 1 } else { 0 }
}

fn utc_offset_ms(zone: Tz, time_ms: i64) -> i64 {
    i64::from(zone.offset_from_utc_datetime(&naive(time_ms)).fix().local_minus_utc()) * 1_000
}

/// The instant at which a local clock shows a time: the first where it shows it twice; where it is skipped, what the clock would show had it
/// not been set forward.
fn local_to_utc_ms(zone: Tz, local_ms: i64) -> i64 {
    match zone.offset_from_local_datetime(&naive(local_ms)) {
        LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => local_ms - i64::from(offset.fix().local_minus_utc()) * 1_000,
        LocalResult::None => {
            let before = naive(local_ms) - Duration::days(1);
            local_ms - i64::from(zone.offset_from_utc_datetime(&before).fix().local_minus_utc()) * 1_000
        }
    }
}

/// The date and time of so many milliseconds; callers stay within the calendar.
fn naive(ms: i64) -> NaiveDateTime {
    DateTime::from_timestamp_millis(ms).unwrap_or(DateTime::UNIX_EPOCH).naive_utc()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
    }

    #[test]
    fn a_local_day_has_23_hours_when_the_clock_is_set_forward_and_25_when_it_is_set_back() {
        let days = Slices::local_days(1, 1, 0, chrono_tz::America::New_York);
        let forward = days.window(days.slice_of(ms("2024-03-10T17:00:00Z")));
        assert_eq!(forward, (ms("2024-03-10T05:00:00Z"), ms("2024-03-11T04:00:00Z")));
        let back = days.window(days.slice_of(ms("2024-11-03T17:00:00Z")));
        assert_eq!(back, (ms("2024-11-03T04:00:00Z"), ms("2024-11-04T05:00:00Z")));
    }

    #[test]
    fn a_day_whose_midnight_is_skipped_begins_when_the_clock_jumps() {
        // São Paulo, 2018-11-04: 00:00 became 01:00.
        let days = Slices::local_days(1, 1, 0, chrono_tz::America::Sao_Paulo);
        assert_eq!(days.window(days.slice_of(ms("2018-11-04T12:00:00Z"))), (ms("2018-11-04T03:00:00Z"), ms("2018-11-05T02:00:00Z")));
    }

    #[test]
    fn weeks_may_begin_on_monday() {
        let weeks = Slices::local_days(7, 7, 4 * DAY_MS, chrono_tz::Asia::Shanghai);
        let (start, end) = weeks.window(weeks.slice_of(ms("2024-03-13T00:00:00Z")));
        assert_eq!((start, end), (ms("2024-03-10T16:00:00Z"), ms("2024-03-17T16:00:00Z")));
    }

    proptest! {
        #[test]
        fn an_instant_lies_in_its_slice_and_windows_of_it_are_those_that_cover_it(
            time in -10_000_000_i64..10_000_000, size in 1_i64..50, part in 1_i64..50, offset in 0_i64..100,
        ) {
            let slide = part.min(size);
            let s = Slices::fixed(size * 100, slide * 100, offset);
            let slice = s.slice_of(time);
            prop_assert!(s.start(slice) <= time && time < s.start(slice + 1));
            let first = s.first_window(slice);
            prop_assert!(s.window(first).0 <= time && time < s.window(first).1);
            prop_assert!(s.window(first - 1).1 <= time);
            let after = s.first_window_after(time);
            prop_assert!(s.window(after).1 > time && s.window(after - 1).1 <= time);
        }

        #[test]
        fn local_days_follow_each_other_without_gap(time in 0_i64..2_000_000_000_000) {
            for zone in [chrono_tz::America::Sao_Paulo, chrono_tz::Europe::Berlin, chrono_tz::Australia::Lord_Howe] {
                let s = Slices::local_days(1, 1, 90 * 60_000, zone);
                let slice = s.slice_of(time);
                prop_assert!(s.start(slice) <= time && time < s.start(slice + 1));
            }
        }
    }
}
