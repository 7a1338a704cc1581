//! A state directory, a clock and the way to start a job on them.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use karez_core::config::Span;
use karez_core::{Clock, ManualClock, Registry, SystemClock};
use karez_graph::settings::RestartStrategy;
use karez_graph::{JobGraph, JobSettings, StreamGraph, StreamGraphBuilder};
use karez_runtime::checkpoint::Start;
use karez_runtime::{Durability, JobHandle, JobOptions, JobOutcome, JobStatus, start};
use tempfile::TempDir;

pub struct Bench {
    pub dir: TempDir,
    pub clock: Arc<ManualClock>,
    pub wall_time: bool,
}

impl Bench {
    pub fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), clock: Arc::new(ManualClock::new(1_000_000)), wall_time: false }
    }

    /// With the machine's clock: for checkpoints that come by themselves.
    pub fn with_wall_time() -> Self {
        Self { wall_time: true, ..Self::new() }
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub async fn start_as(&self, graph: &StreamGraphBuilder, how: Start) -> karez_core::Result<JobHandle> {
        let clock: Arc<dyn Clock> = if self.wall_time { Arc::new(SystemClock) } else { Arc::clone(&self.clock) as _ };
        let mut options = JobOptions::new(Some(Durability { state_dir: self.folder("state"), start: how }));
        options.clock = clock;
        start(planned(graph), options).await
    }

    pub async fn start(&self, graph: &StreamGraphBuilder) -> JobHandle {
        self.start_as(graph, Start::Resume).await.unwrap()
    }

    pub async fn start_from(&self, graph: &StreamGraphBuilder, savepoint: &std::path::Path) -> JobHandle {
        self.start_as(graph, Start::FromSavepoint(savepoint.display().to_string())).await.unwrap()
    }
}

pub fn planned(graph: &StreamGraphBuilder) -> JobGraph {
    karez_graph::plan(&graph.clone().build().unwrap(), &Registry::new()).unwrap_or_else(|e| panic!("{e}"))
}

/// No checkpoint by itself, no restart.
pub fn settings() -> JobSettings {
    let mut settings = JobSettings { id: "job".into(), name: "job".into(), restart: RestartStrategy::None {}, ..JobSettings::default() };
    settings.checkpoint.interval = Span::millis(3_600_000);
    settings
}

pub fn restarting(attempts: u32) -> RestartStrategy {
    RestartStrategy::FixedDelay { attempts, delay: Span::millis(1) }
}

pub fn graph(settings: JobSettings) -> StreamGraphBuilder {
    StreamGraph::builder(settings)
}

/// Fails the test after half a minute, instead of hanging.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("waited for 30 s: {what}"))
}

pub async fn ended(handle: &JobHandle) -> Arc<JobOutcome> {
    within("the end of the job", handle.wait()).await
}

pub async fn completes(handle: &JobHandle) {
    let outcome = ended(handle).await;
    assert_eq!(outcome.status, JobStatus::Completed, "{:?}", outcome.error);
}

pub async fn fails(handle: &JobHandle) -> String {
    let outcome = ended(handle).await;
    assert_eq!(outcome.status, JobStatus::Failed);
    outcome.error.as_ref().unwrap().to_string()
}

/// On a runtime of one thread: until everything that can run has run.
pub async fn quiet() {
    for _ in 0..5_000 {
        tokio::task::yield_now().await;
    }
}

/// Looks again after every turn of the others until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
