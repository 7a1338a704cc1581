//! The connections of a node, and how long work on them is tried again.

use std::hash::{BuildHasher, RandomState};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use karez_core::metrics::NodeMetrics;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::driver::{Driver, Session};
use super::failure::{Failure, Kind};

/// How long an unused connection is kept, unless the options say.
const MAX_IDLE: Duration = Duration::from_secs(600);

/// The connections of a node: made when one is asked for, kept when it is given back.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) driver: Arc<dyn Driver>,
    permits: Option<Arc<Semaphore>>,
    idle: Mutex<Vec<Idle>>,
    max_idle: Duration,
}

struct Idle {
    session: Box<dyn Session>,
    since: Instant,
}

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unused since {:?}", self.since)
    }
}

impl Pool {
    pub(super) fn new(driver: Arc<dyn Driver>) -> Arc<Self> {
        let options = driver.settings().pool;
        Arc::new(Self {
            permits: options.max_size.map(|n| Arc::new(Semaphore::new(n as usize))),
            idle: Mutex::new(Vec::new()),
            max_idle: options.max_idle_time.map_or(MAX_IDLE, |s| s.0),
            driver,
        })
    }

    /// A connection: an unused one, else a new one; waits where there may be no more.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Lease, Failure> {
        let permit = match &self.permits {
            None => None,
            Some(permits) => {
                Some(Arc::clone(permits).acquire_owned().await.map_err(|_| Failure::new(Kind::Server, "the pool of connections is closed"))?)
            }
        };
        let unused = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|i| i.since.elapsed() < self.max_idle && i.session.is_usable());
            idle.pop()
        };
        let session = match unused {
            Some(idle) => idle.session,
            None => self.driver.connect().await?,
        };
        Ok(Lease { session: Some(session), pool: Arc::clone(self), _permit: permit })
    }
}

/// A connection that goes back to its pool when it is dropped, unless it is broken or in the middle of a transaction.
pub(super) struct Lease {
    session: Option<Box<dyn Session>>,
    pool: Arc<Pool>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Deref for Lease {
    type Target = dyn Session;

    #[allow(clippy::expect_used)] // Broken invariant: `drop` alone takes it out.
    fn deref(&self) -> &Self::Target {
        self.session.as_deref().expect("a lease holds its session until it is dropped")
    }
}

impl DerefMut for Lease {
    #[allow(clippy::expect_used)] // Broken invariant: `drop` alone takes it out.
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.session.as_deref_mut().expect("a lease holds its session until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && session.is_usable()
        {
            let idle = Idle { session, since: Instant::now() };
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
        }
    }
}

/// The first and the longest pause before a transaction is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// Tries again what failed because others were in the way, with growing, jittered pauses, for as long as allowed. A lost connection is not waited for
/// here: the engine does that, for sources and sinks alike.
pub(super) struct Attempts {
    until: Instant,
    pause: Duration,
}

impl Attempts {
    pub(super) fn within(limit: Duration) -> Self {
        let now = Instant::now();
        Self { until: now.checked_add(limit).unwrap_or(now + Duration::from_secs(86_400 * 365)), pause: PAUSES.0 }
    }

    /// Waits before the next try, or gives the failure back where trying again here cannot help or has taken too long.
    pub(super) async fn again(&mut self, failure: Failure, metrics: Option<&NodeMetrics>) -> Result<(), Failure> {
        // Two who were in each other's way must not meet again: between half of the pause and the whole.
        let jitter = RandomState::new().hash_one(0_u8) % 1_000;
        let pause = self.pause / 2 + self.pause.mul_f64(0.000_5) * u32::try_from(jitter).unwrap_or(0);
        if failure.kind != Kind::Conflict || Instant::now() + pause > self.until {
            return Err(failure);
        }
        if let Some(metrics) = metrics {
            metrics.retried.add(1);
        }
        tracing::debug!(reason = %failure, "a transaction is tried again");
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
        Ok(())
    }
}
