//! Monotonic time that can be injected: tests step it.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

/// Where the layer reads time and waits.
pub trait Time: Send + Sync + Debug {
    /// The time since some fixed instant; never goes back.
    fn now(&self) -> Duration;

    /// Ready when so much time has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's monotonic clock, and tokio's timer.
#[derive(Clone, Copy, Debug)]
pub struct MachineTime {
    start: Instant,
}

impl Default for MachineTime {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Time for MachineTime {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
