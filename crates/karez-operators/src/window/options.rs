//! Options of `window-aggregate`.

use std::fmt;

use chrono_tz::Tz;
use karez_core::config::{ConfigError, Span};
use karez_core::error::did_you_mean;
use schemars::JsonSchema;
use serde::Deserialize;

use super::slices::Slices;
use crate::named::Named;

const DAY_MS: i64 = 86_400_000;
/// A sliding window of more slices than this would be merged of them for every result.
const MAX_SLICES: i64 = 1_000_000;

/// Options of `window-aggregate`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WindowAggregateOptions {
    /// The columns that rows are grouped by. Without it all rows are one group, handled by one subtask.
    #[serde(default)]
    pub(crate) key_by: Vec<String>,
    /// How time (or the rows of a key) is cut into windows.
    pub(crate) window: WindowOptions,
    /// Names and SQL aggregate expressions, such as `{ orders: "count(*)", mean: "sum(amount) / count(amount)", p90: "approx_percentile_cont(delay, 0.9)",
    /// big: "count(*) filter (where amount > 100)" }`. Default: `{ count: "count(*)" }`.
    #[serde(default)]
    pub(crate) aggregates: Option<Named>,
    /// How long after a window's result rows may still come for it. Then the output is a changelog: a row that comes in this time updates the result.
    /// Default: 0, results are final.
    #[serde(default = "zero")]
    pub(crate) allowed_lateness: Span,
    /// The name of the output that late rows go to: those that come when the results of all their windows are final. They are counted, and
    /// dropped if nothing is connected. Default: `late`.
    #[serde(default = "late")]
    pub(crate) late_output: String,
    /// Whether the output has a column `window_time`, the last millisecond of the window, as its event time: another window of the same
    /// size behind this one then takes a result in the window it came from. Default: false, the output has no event time.
    #[serde(default)]
    pub(crate) window_time: bool,
}

const fn zero() -> Span {
    Span::millis(0)
}

fn late() -> String {
    "late".into()
}

/// A window.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum WindowOptions {
    /// Windows of equal size, one behind the other: each row belongs to one.
    Tumbling {
        /// The size, such as `5m`.
        size: Span,
        /// Moves the windows, which otherwise begin at multiples of the size since 1970-01-01T00:00 (a Thursday). Default: 0.
        #[serde(default = "zero")]
        offset: Span,
        /// An IANA time zone, such as `Asia/Shanghai`: windows begin at midnight there, also where its clock changes. The size must be whole days.
        #[serde(default)]
        time_zone: Option<String>,
        /// Which time rows are put into windows by. Default: `event`.
        #[serde(default)]
        time: TimeKind,
    },
    /// Windows of equal size that overlap: one begins every `slide`.
    Sliding {
        /// The size, such as `10s`.
        size: Span,
        /// The time from one window's start to the next's, at most the size.
        slide: Span,
        /// Moves the windows. Default: 0.
        #[serde(default = "zero")]
        offset: Span,
        /// An IANA time zone; see `tumbling`. Size and slide must be whole days.
        #[serde(default)]
        time_zone: Option<String>,
        /// Which time rows are put into windows by. Default: `event`.
        #[serde(default)]
        time: TimeKind,
    },
    /// A window for each time of activity of a key: it ends when nothing came for the length of the gap.
    Session {
        /// The gap, such as `30s`.
        gap: Span,
        /// Which time rows are put into windows by. Default: `event`.
        #[serde(default)]
        time: TimeKind,
    },
    /// A window for each so many rows of a key, in the order they come. One that is not full when the input ends gives no result, as in Flink. The output has no `window_start` and `window_end`.
    Count {
        /// The number of rows.
        size: u64,
    },
}

/// Which time rows are put into windows by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TimeKind {
    /// The input's event time; windows fire as its watermark passes their end.
    #[default]
    Event,
    /// The clock, when the row is processed. Results are not repeatable.
    Processing,
}

/// The window as part of an operator's identity: however it was written, the same window has the same text.
impl fmt::Display for WindowOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tumbling { size, offset, time_zone, time } => {
                write!(f, "tumbling {size} offset {offset} zone {} time {time:?}", time_zone.as_deref().unwrap_or("none"))
            }
            Self::Sliding { size, slide, offset, time_zone, time } => {
                write!(f, "sliding {size} by {slide} offset {offset} zone {} time {time:?}", time_zone.as_deref().unwrap_or("none"))
            }
            Self::Session { gap, time } => write!(f, "session {gap} time {time:?}"),
            Self::Count { size } => write!(f, "count {size}"),
        }
    }
}

/// The slices of a tumbling or sliding window.
pub(crate) fn slices(size: Span, slide: Option<Span>, offset: Span, time_zone: Option<&str>) -> Result<Slices, ConfigError> {
    let (size_ms, slide_ms) = (size.as_millis(), slide.unwrap_or(size).as_millis());
    if size_ms == 0 || size_ms > i64::MAX / 4 {
        return Err(ConfigError::new("window.size", "a window has at least one millisecond"));
    }
    if slide_ms == 0 {
        return Err(ConfigError::new("window.slide", "windows cannot begin every 0 ms"));
    }
    if slide_ms > size_ms {
        return Err(ConfigError::new(
            "window.slide",
            format!("the slide ({}) is longer than the size ({size}): rows in between would be lost", slide.unwrap_or(size)),
        )
        .hint("use a `tumbling` window behind a `filter` if that is what you want"));
    }
    let slices = match time_zone {
        None => Slices::fixed(size_ms, slide_ms, offset.as_millis()),
        Some(name) => {
            let zone = zone(name)?;
            if size_ms % DAY_MS != 0 || slide_ms % DAY_MS != 0 {
                return Err(ConfigError::new("window.timeZone", "a time zone aligns windows of whole days; size and slide must be such")
                    .hint("leave `timeZone` out for shorter windows, or move them with `offset`"));
            }
            Slices::local_days(size_ms / DAY_MS, slide_ms / DAY_MS, offset.as_millis(), zone)
        }
    };
    if slices.width() > MAX_SLICES {
        return Err(ConfigError::new(
            "window.slide",
            format!("size and slide have so small a common divisor that a window has {} parts", slices.width()),
        )
        .hint("choose a slide that divides the size"));
    }
    Ok(slices)
}

fn zone(name: &str) -> Result<Tz, ConfigError> {
    name.parse().map_err(|_| {
        let e = ConfigError::new("window.timeZone", format!("unknown time zone `{name}`"));
        match did_you_mean(name, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())) {
            Some(near) => e.hint(format!("did you mean `{near}`?")),
            None => e.hint("use a name of the IANA data base, such as `Europe/Berlin`"),
        }
    })
}
