//! The end of a cancelled job: its sinks leave nothing open outside.

use std::time::Duration;

use karez_core::Result;

use super::Coordinator;

/// Who cancels does not wait longer for an outside that is away.
const PATIENCE: Duration = Duration::from_secs(5);

impl Coordinator<'_> {
    /// A checkpoint that had all its parts is completed and committed, since the next start of the run would go on from it; what belongs to none is ended by
    /// its sink.
    pub(super) async fn leave_nothing_open(&mut self) {
        let job = self.shared;
        match tokio::time::timeout(PATIENCE, self.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => {
                tracing::warn!(job_id = %job.id, error = %e, "the cancelled job may have left something open outside, which its next start ends")
            }
            Err(_) => {
                tracing::warn!(job_id = %job.id, "the cancelled job may have left something open outside, which its next start ends: it is not reached")
            }
        }
    }

    async fn close(&mut self) -> Result<()> {
        while let Ok(report) = self.reports.try_recv() {
            self.report(report).await?;
            self.finish_background().await;
        }
        if self.durable.is_none() {
            return Ok(());
        }
        let named = self.state.newest.as_ref().map(|newest| newest.manifest().committables()).unwrap_or_default();
        let sinks = self.graph.vertices.iter().filter_map(|v| v.sink.as_ref());
        let ended = sinks.map(|s| {
            let named = named.get(&s.name).map(Vec::as_slice).unwrap_or_default();
            async move { s.sink.cancelled(named).await.map_err(|e| e.at(&s.name)) }
        });
        futures::future::join_all(ended).await.into_iter().collect()
    }
}
