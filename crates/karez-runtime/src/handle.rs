//! One handle steers a running job: the command line, the server and Rust code use the same (decision 22).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use karez_core::{Error, Result, RunId};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::job::replays::ReplayAnswer;
use crate::report::{JobMetrics, JobReport};

/// The state of a job (§3.1.2 of the design document; `Stopped` and `Restarting` are added).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobStatus {
    /// Planned, nothing open.
    Created,
    /// Tasks are being made.
    Scheduled,
    /// Rows flow.
    Running,
    /// Sources wait.
    Paused,
    /// It failed and waits for its restart.
    Restarting,
    /// Ended by a stop, with a last checkpoint: the next run goes on there.
    Stopped,
    /// All input read, all rows committed.
    Completed,
    /// It failed for good.
    Failed,
    /// Cancelled: what is behind the last checkpoint is read again by the next run.
    Cancelled,
}

impl JobStatus {
    /// Whether nothing follows.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Stopped | Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "CREATED",
            Self::Scheduled => "SCHEDULED",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Restarting => "RESTARTING",
            Self::Stopped => "STOPPED",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        })
    }
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

pub(crate) enum Request {
    Pause(Reply<()>),
    Resume(Reply<()>),
    Savepoint(Option<PathBuf>, Reply<PathBuf>),
    /// Stop behind a last checkpoint, or behind a savepoint (`Some`, to a folder if one is named).
    Stop(Option<Option<PathBuf>>, Reply<Option<PathBuf>>),
    Drain(Reply<()>),
    /// Look for queued dead letters.
    Replay(Reply<ReplayAnswer>),
}

pub(crate) struct Shared {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) run: RunId,
    pub(crate) status: watch::Sender<JobStatus>,
    pub(crate) outcome: watch::Sender<Option<Arc<JobOutcome>>>,
    pub(crate) requests: mpsc::UnboundedSender<Request>,
    pub(crate) cancel: CancellationToken,
    /// Paused, also over restarts.
    pub(crate) paused: AtomicBool,
    pub(crate) metrics: Arc<JobMetrics>,
}

/// How a job ended.
#[derive(Debug)]
pub struct JobOutcome {
    /// The final state.
    pub status: JobStatus,
    /// Why it failed.
    pub error: Option<Error>,
    /// Its figures at the end.
    pub report: JobReport,
}

/// Steers a running job. Cheap to clone.
#[derive(Clone)]
pub struct JobHandle(pub(crate) Arc<Shared>);

impl fmt::Debug for JobHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle").field("id", &self.0.id).field("run", &self.0.run).field("status", &self.status()).finish()
    }
}

impl JobHandle {
    /// The job's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The job's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.0.run
    }

    /// The state at this instant.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        *self.0.status.borrow()
    }

    /// The figures at this instant.
    #[must_use]
    pub fn report(&self) -> JobReport {
        self.0.metrics.read(self.status())
    }

    /// Sources stop reading; what has been read flows on. Checkpoints go on.
    pub async fn pause(&self) -> Result<()> {
        self.ask(Request::Pause).await
    }

    /// Sources read on.
    pub async fn resume(&self) -> Result<()> {
        self.ask(Request::Resume).await
    }

    /// Takes a savepoint, into `folder` or the run's state directory; answers where it is. The job goes on.
    pub async fn savepoint(&self, folder: Option<PathBuf>) -> Result<PathBuf> {
        self.ask(|reply| Request::Savepoint(folder, reply)).await
    }

    /// Stops behind a last checkpoint: no window fires, the next run goes on there.
    pub async fn stop(&self) -> Result<()> {
        self.ask(|reply| Request::Stop(None, reply)).await.map(|_| ())
    }

    /// Stops behind a savepoint; answers where it is.
    pub async fn stop_with_savepoint(&self, folder: Option<PathBuf>) -> Result<PathBuf> {
        let path = self.ask(|reply| Request::Stop(Some(folder), reply)).await?;
        path.ok_or_else(|| Error::internal("a stop with savepoint without savepoint"))
    }

    /// Ends the input here, so that windows fire, and completes the job. Returns once this is under way.
    pub async fn drain(&self) -> Result<()> {
        self.ask(Request::Drain).await
    }

    /// Feeds the dead letters that have been queued ([`crate::replay::queue`]). They count when a checkpoint behind them completes.
    pub async fn replay(&self) -> Result<ReplayAnswer> {
        self.ask(Request::Replay).await
    }

    /// Ends the job at once, without a checkpoint.
    pub fn cancel(&self) {
        self.0.cancel.cancel();
    }

    /// Waits for the end.
    pub async fn wait(&self) -> Arc<JobOutcome> {
        let mut outcome = self.0.outcome.subscribe();
        loop {
            if let Some(outcome) = outcome.borrow_and_update().as_ref() {
                return Arc::clone(outcome);
            }
            if outcome.changed().await.is_err() {
                // The sender lives in `self.0`, so this cannot happen while the handle does.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::user(format!("job `{}` is {}", self.0.id, self.status()));
        self.0.requests.send(request(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
