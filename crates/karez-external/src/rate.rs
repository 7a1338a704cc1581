//! The rate limit: a leaky bucket (GCRA, by `governor`) on injected time.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::{RateLimitOptions, Time};

/// How many calls may begin in a time.
#[derive(Debug)]
pub(crate) struct RateLimit {
    limiter: RateLimiter<NotKeyed, InMemoryState, LimiterTime, NoOpMiddleware<Duration>>,
    time: LimiterTime,
}

#[derive(Clone, Debug)]
struct LimiterTime(Arc<dyn Time>);

impl Clock for LimiterTime {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.now()
    }
}

impl RateLimit {
    /// `None` where the options mean no limit that can be kept (`calls: 0`), which [`crate::ExternalOptions::check`] refuses.
    pub(crate) fn new(options: &RateLimitOptions, time: &Arc<dyn Time>) -> Option<Self> {
        let burst = NonZeroU32::new(options.burst.unwrap_or(1))?;
        let calls = NonZeroU32::new(options.calls)?;
        let quota = Quota::with_period(options.per.0 / calls.get())?.allow_burst(burst);
        let time = LimiterTime(Arc::clone(time));
        Some(Self { limiter: RateLimiter::direct_with_clock(quota, time.clone()), time })
    }

    /// Takes the right to begin a call, or says how long to wait before asking again.
    pub(crate) fn take(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|not_yet| not_yet.wait_time_from(self.time.now()))
    }
}
