//! The database of a node: its connections, and the layer that every question to it goes through.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::metrics::NodeMetrics;
use karez_core::{Error, Result};
use karez_external::{ExternalCalls, ExternalOptions, Retry};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::driver::{Driver, Session};
use super::failure::{Failure, Kind};
use super::relation::Wrong;

/// How long an unused connection is kept, unless the options say.
const MAX_IDLE: Duration = Duration::from_secs(600);

/// The database of a source or sink.
///
/// What is tried again is never a statement alone: an attempt is a transaction with all that belongs to it, or a page of rows, from the connection on. A
/// connection that was left in the middle of one is not used again.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) driver: Arc<dyn Driver>,
    connections: Arc<Connections>,
    calls: ExternalCalls,
    timeout: Duration,
}

impl Pool {
    pub(super) fn new(driver: Arc<dyn Driver>, external: &ExternalOptions) -> Arc<Self> {
        let calls = calls(driver.as_ref(), external);
        Arc::new(Self { connections: Connections::new(Arc::clone(&driver)), driver, calls, timeout: external.timeout.0 })
    }

    /// Counts in the metrics of the node from now on.
    pub(super) fn counted_by(&self, metrics: &Arc<NodeMetrics>) {
        let _ = self.calls.counted_by(Arc::clone(metrics));
    }

    /// Work that is tried again while the server is away, and where others were in the way. `what` it does, for messages.
    pub(super) async fn call<T, F, Fut>(&self, what: &str, mut work: F) -> Result<T>
    where
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let mut retry = self.retry(what);
        loop {
            match self.once(what, &mut work).await {
                Ok(done) => return Ok(done),
                Err(error) => retry.again(error).await?,
            }
        }
    }

    /// One attempt.
    pub(super) async fn once<T, F, Fut>(&self, what: &str, work: F) -> Result<T>
    where
        F: FnOnce(Attempt) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let state = Arc::<AttemptState>::default();
        let attempt = Attempt { connections: Arc::clone(&self.connections), state: Arc::clone(&state) };
        let work = async {
            work(attempt).await.map_err(|f| {
                if f.kind == Kind::Connection {
                    self.connections.forget();
                }
                Error::from(f)
            })
        };
        self.calls.once_while(what, work, || self.is_at_work(&state)).await
    }

    /// The attempts of work that is made one by one, by [`Self::once`].
    pub(super) fn retry(&self, what: &str) -> Retry {
        self.calls.retry(what)
    }

    /// Whether the server is at work on an attempt, as a connection of its own says; or waits for us.
    async fn is_at_work(&self, state: &AttemptState) -> bool {
        if state.held.load(Ordering::Relaxed) || state.moved.swap(false, Ordering::Relaxed) {
            return true;
        }
        let id = state.connection.load(Ordering::Relaxed);
        let asked = async { self.driver.connect().await?.query(&self.driver.is_at_work(id, self.timeout)).await };
        id != 0 && asked.await.is_ok_and(|rows| !rows.is_empty())
    }
}

/// The layer around calls to a server. A connection is in use during a call alone, so the smaller of both limits holds.
pub(super) fn calls(driver: &dyn Driver, external: &ExternalOptions) -> ExternalCalls {
    let most = driver.settings().max_connections().unwrap_or(usize::MAX);
    let options = ExternalOptions { max_concurrency: external.max_concurrency.min(most), ..external.clone() };
    ExternalCalls::new(driver.settings().place(), &options)
}

/// Looks at the database while a job is planned, where nothing else can go on. `look` opens a connection of its own, since none outlives this.
pub(super) fn at_once<T: Send>(calls: &ExternalCalls, look: impl Future<Output = Result<T, Wrong>> + Send) -> Result<T, ConfigErrors> {
    let look = async {
        match look.await {
            Ok(seen) => Ok(Ok(seen)),
            Err(Wrong::Config(e)) => Ok(Err(e)),
            Err(Wrong::Failure(f)) => Err(Error::from(f)),
        }
    };
    // A thread of its own: the planner may be running inside a runtime already.
    let looked = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(calls.once("looking at the database", look))
        });
        thread.join().unwrap_or_else(|_| Err(Error::internal("looking at the database was interrupted")))
    });
    looked.map_err(|e| ConfigError::new("url", e.message()))?.map_err(ConfigErrors::from)
}

/// One attempt at some work.
pub(super) struct Attempt {
    connections: Arc<Connections>,
    state: Arc<AttemptState>,
}

#[derive(Debug, Default)]
struct AttemptState {
    /// The number of the connection it is made on; 0 before there is one.
    connection: AtomicU64,
    /// The server waits for us: what it has given is not taken yet.
    held: AtomicBool,
    /// Rows have come since that was looked at last.
    moved: AtomicBool,
}

impl Attempt {
    /// The connection of this attempt.
    pub(super) async fn connect(&self) -> Result<Lease, Failure> {
        let lease = self.connections.get().await?;
        self.state.connection.store(lease.id(), Ordering::Relaxed);
        Ok(lease)
    }

    /// Waits for rows that have come to be taken, in which the server has no part: that time does not count.
    pub(super) async fn hold<T>(&self, waiting: impl Future<Output = T>) -> T {
        self.state.held.store(true, Ordering::Relaxed);
        let done = waiting.await;
        self.state.held.store(false, Ordering::Relaxed);
        self.state.moved.store(true, Ordering::Relaxed);
        done
    }
}

/// Work on the database that goes on where whoever waits for it is interrupted, and ends with it.
pub(super) struct Task<T>(JoinHandle<Result<T>>);

impl<T: Send + 'static> Task<T> {
    pub(super) fn start(work: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    /// What came of it; once. Cancel-safe.
    pub(super) async fn done(&mut self) -> Result<T> {
        (&mut self.0).await.map_err(|e| Error::internal("work on the database was interrupted").caused_by(e))?
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The connections of a node: made when one is asked for, kept when it is given back.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) driver: Arc<dyn Driver>,
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

impl Connections {
    pub(super) fn new(driver: Arc<dyn Driver>) -> Arc<Self> {
        let max_idle = driver.settings().pool.max_idle_time.map_or(MAX_IDLE, |s| s.0);
        Arc::new(Self { idle: Mutex::new(Vec::new()), max_idle, driver })
    }

    /// One connection was lost: those that are not in use are likely to be, too.
    fn forget(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A connection: an unused one, else a new one.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Lease, Failure> {
        let unused = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|i| i.since.elapsed() < self.max_idle && i.session.is_usable());
            idle.pop()
        };
        let session = match unused {
            Some(idle) => idle.session,
            None => self.driver.connect().await?,
        };
        Ok(Lease { session: Some(session), home: Arc::clone(self) })
    }
}

/// A connection that goes back to its pool when it is dropped, unless it is broken or in the middle of a transaction.
pub(super) struct Lease {
    session: Option<Box<dyn Session>>,
    home: Arc<Connections>,
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
            self.home.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
        }
    }
}
