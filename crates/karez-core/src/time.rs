//! Event time: milliseconds since 1970-01-01T00:00:00Z, and the watermark that says how far it has come.

use std::fmt;

/// "No row with an event time at or before this instant is expected any more."
///
/// Milliseconds since the Unix epoch. As in Flink, a watermark `w` closes a window that ends at `e` once `w >= e - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Watermark(pub i64);

impl Watermark {
    /// Nothing is known yet.
    pub const MIN: Self = Self(i64::MIN);
    /// The end of event time: every window closes. An ended input counts as this.
    pub const MAX: Self = Self(i64::MAX);

    /// Whether a window `[start, end_ms)` is complete.
    #[must_use]
    pub const fn closes(self, end_ms: i64) -> bool {
        self.0 >= end_ms.saturating_sub(1)
    }
}

impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MIN => f.write_str("none"),
            Self::MAX => f.write_str("end"),
            Self(ms) => match chrono::DateTime::from_timestamp_millis(ms) {
                Some(t) => write!(f, "{}", t.format("%Y-%m-%dT%H:%M:%S%.3fZ")),
                None => write!(f, "{ms} ms"),
            },
        }
    }
}
