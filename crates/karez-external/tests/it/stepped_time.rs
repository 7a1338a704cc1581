//! Time that moves when told to, and says who sleeps.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use karez_external::Time;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct SteppedTime {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    now: Duration,
    sleepers: Vec<(Duration, oneshot::Sender<()>)>,
}

impl SteppedTime {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Moves on, and wakes whose time has come.
    pub(crate) fn advance(&self, by: Duration) {
        let mut state = self.state.lock().unwrap();
        state.now += by;
        let now = state.now;
        for (_, waker) in state.sleepers.extract_if(.., |(at, _)| *at <= now) {
            let _ = waker.send(());
        }
    }

    /// Waits until somebody sleeps for a time that `wanted` accepts, moves on by it, and says it.
    pub(crate) async fn pass(&self, wanted: impl Fn(Duration) -> bool) -> Duration {
        loop {
            let changed = self.changed.notified();
            let found = {
                let mut state = self.state.lock().unwrap();
                state.sleepers.retain(|(_, waker)| !waker.is_canceled());
                let now = state.now;
                state.sleepers.iter().map(|(at, _)| at.saturating_sub(now)).find(|d| wanted(*d))
            };
            match found {
                Some(duration) => {
                    self.advance(duration);
                    return duration;
                }
                None => changed.await,
            }
        }
    }
}

impl Time for SteppedTime {
    fn now(&self) -> Duration {
        self.state.lock().unwrap().now
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (waker, woken) = oneshot::channel();
        let mut state = self.state.lock().unwrap();
        let at = state.now + duration;
        state.sleepers.push((at, waker));
        drop(state);
        self.changed.notify_waiters();
        woken.map(|_| ()).boxed()
    }
}
