//! Restart strategies as pure decisions (§11.2 of the design document; Flink's restart strategies).

use std::collections::VecDeque;
use std::time::Duration;

use karez_graph::settings::RestartStrategy;

/// After so long without a failure the growing delay starts anew, as Flink's `reset-backoff-threshold`.
const BACKOFF_RESET: Duration = Duration::from_secs(3600);

/// Decides whether a failed job is restarted, and when.
#[derive(Debug)]
pub struct Restarts {
    strategy: RestartStrategy,
    failures: u32,
    /// When the failures within the interval happened, milliseconds.
    recent: VecDeque<i64>,
    delay: Duration,
    last_failure_ms: Option<i64>,
}

impl Restarts {
    /// With no failure so far.
    #[must_use]
    pub const fn new(strategy: RestartStrategy) -> Self {
        Self { strategy, failures: 0, recent: VecDeque::new(), delay: Duration::ZERO, last_failure_ms: None }
    }

    /// A failure at `now_ms`: how long to wait before the restart, or `None` to stay failed.
    pub fn on_failure(&mut self, now_ms: i64) -> Option<Duration> {
        let since_last = self.last_failure_ms.map(|t| now_ms.saturating_sub(t));
        self.last_failure_ms = Some(now_ms);
        match &self.strategy {
            RestartStrategy::None {} => None,
            RestartStrategy::FixedDelay { attempts, delay } => {
                self.failures += 1;
                (self.failures <= *attempts).then_some(delay.0)
            }
            RestartStrategy::ExponentialBackoff { initial_delay, max_delay, multiplier, attempts } => {
                let calm = since_last.is_none_or(|ms| u128::try_from(ms).is_ok_and(|ms| ms >= BACKOFF_RESET.as_millis()));
                if calm {
                    (self.failures, self.delay) = (0, Duration::ZERO);
                }
                self.failures += 1;
                if attempts.is_some_and(|a| self.failures > a) {
                    return None;
                }
                self.delay = if self.delay.is_zero() { initial_delay.0 } else { self.delay.mul_f64(*multiplier).min(max_delay.0) };
                Some(self.delay)
            }
            RestartStrategy::FailureRate { max_failures_per_interval, failure_rate_interval, delay } => {
                self.recent.push_back(now_ms);
                while self.recent.front().is_some_and(|t| now_ms.saturating_sub(*t) > failure_rate_interval.as_millis()) {
                    self.recent.pop_front();
                }
                (self.recent.len() <= *max_failures_per_interval as usize).then_some(delay.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use karez_core::config::Span;

    use super::*;

    #[test]
    fn fixed_delay_gives_up_after_its_attempts() {
        let mut r = Restarts::new(RestartStrategy::FixedDelay { attempts: 2, delay: Span::millis(10) });
        assert_eq!(r.on_failure(0), Some(Duration::from_millis(10)));
        assert_eq!(r.on_failure(1), Some(Duration::from_millis(10)));
        assert_eq!(r.on_failure(2), None);
    }

    #[test]
    fn exponential_backoff_grows_to_its_maximum_and_starts_anew_after_an_hour() {
        let mut r = Restarts::new(RestartStrategy::ExponentialBackoff {
            initial_delay: Span::millis(100),
            max_delay: Span::millis(300),
            multiplier: 2.0,
            attempts: None,
        });
        let delays: Vec<_> = (0..4).map(|i| r.on_failure(i).map(|d| d.as_millis())).collect();
        assert_eq!(delays, [Some(100), Some(200), Some(300), Some(300)]);
        assert_eq!(r.on_failure(3_600_010), Some(Duration::from_millis(100)));
    }

    #[test]
    fn failure_rate_counts_only_the_failures_of_the_interval() {
        let mut r = Restarts::new(RestartStrategy::FailureRate {
            max_failures_per_interval: 2,
            failure_rate_interval: Span::millis(1_000),
            delay: Span::millis(5),
        });
        assert!(r.on_failure(0).is_some());
        assert!(r.on_failure(500).is_some());
        assert!(r.on_failure(1_400).is_some());
        assert!(r.on_failure(1_450).is_none());
    }

    #[test]
    fn none_stays_failed() {
        assert_eq!(Restarts::new(RestartStrategy::None {}).on_failure(0), None);
    }
}
