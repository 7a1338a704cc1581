//! [`Expiry`]: when entries of a keyed table with time-to-live are freed.

use karez_core::Result;
use karez_core::state::KeyedTable;

/// Entries freed in a call.
const LIMIT: usize = 10_000;
/// The shortest and the longest time between two calls, milliseconds.
const INTERVAL_MS: std::ops::RangeInclusive<i64> = 100..=60_000;

/// Time-to-live in processing time, as Flink's: an entry lives so long after it was last written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    ttl_ms: Option<i64>,
    next_ms: i64,
}

impl Expiry {
    /// With the time-to-live in milliseconds; `None`: entries live for ever.
    pub(crate) const fn new(ttl_ms: Option<i64>) -> Self {
        Self { ttl_ms, next_ms: i64::MIN }
    }

    /// When an entry written now expires.
    pub(crate) fn expires_ms(&mut self, now_ms: i64) -> i64 {
        let Some(ttl_ms) = self.ttl_ms else {
            return i64::MAX;
        };
        if self.next_ms == i64::MIN {
            self.next_ms = now_ms.saturating_add(self.interval_ms());
        }
        now_ms.saturating_add(ttl_ms)
    }

    fn interval_ms(&self) -> i64 {
        (self.ttl_ms.unwrap_or(0) / 4).clamp(*INTERVAL_MS.start(), *INTERVAL_MS.end())
    }

    /// When [`Self::run`] is to be called.
    pub(crate) fn next_timer_ms(&self, table: &dyn KeyedTable) -> Option<i64> {
        (self.ttl_ms.is_some() && !table.is_empty()).then_some(self.next_ms)
    }

    /// Frees some of what has expired.
    pub(crate) fn run(&mut self, now_ms: i64, table: &mut dyn KeyedTable) -> Result<()> {
        if self.ttl_ms.is_some() && now_ms >= self.next_ms {
            let freed = table.expire(now_ms, LIMIT)?;
            // There is more: go on after whatever else is due.
            self.next_ms = now_ms.saturating_add(if freed >= LIMIT { 1 } else { self.interval_ms() });
        }
        Ok(())
    }
}
