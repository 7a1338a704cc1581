//! Before the first row of an attempt: which checkpoint it goes on from, and what that one still has to commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use karez_core::sink::{SinkGuarantee, SinkRunContext};
use karez_core::{BadRecord, Committer, Error, Result, Sink};
use karez_graph::JobGraph;
use karez_graph::settings::Delivery;

use super::JobOptions;
use crate::checkpoint::recovery::SinkMarker;
use crate::checkpoint::{CommitRound, CompletedCheckpoint, FallbackFacts, Recovery, fault};

/// How often a commit that recovery has to repeat is tried before the attempt fails.
const COMMIT_TRIES: u32 = 10;

/// What recovery found and did.
pub(super) struct Recovered {
    /// The checkpoint to go on from, all it names committed.
    pub(super) restored: Option<CompletedCheckpoint>,
    /// The committers, for the commits to come.
    pub(super) committers: HashMap<String, Box<dyn Committer>>,
    /// Rows that sinks refused at these commits.
    pub(super) letters: Vec<(String, Vec<BadRecord>)>,
}

/// Chooses the checkpoint, commits what it names, and prepares the sinks.
pub(super) async fn recover(graph: &JobGraph, options: &JobOptions, recovery: Option<&Recovery>, context: &SinkRunContext) -> Result<Recovered> {
    let sinks: Vec<(&str, &Arc<dyn Sink>)> = graph.vertices.iter().filter_map(|v| v.sink.as_ref()).map(|s| (s.name.as_str(), &s.sink)).collect();
    let mut committers = HashMap::new();
    for (name, sink) in &sinks {
        let context = SinkRunContext { node: (*name).to_owned(), ..context.clone() };
        if let Some(committer) = sink.committer(&context).await.map_err(|e| e.at(*name))? {
            committers.insert((*name).to_owned(), committer);
        }
    }
    let restored = match recovery {
        None => None,
        Some(recovery) => {
            let facts = FallbackFacts {
                exactly_once: graph.settings.delivery == Delivery::ExactlyOnce,
                markers: markers(recovery, &sinks, &mut committers).await?,
                accept_duplicates: options.accept_duplicates,
            };
            recovery.choose(&facts)?
        }
    };
    let mut letters = Vec::new();
    if let Some(completed) = &restored {
        fault::point(fault::RECOVERY_BEFORE_COMMIT)?;
        letters = replay(completed, &mut committers).await?;
        fault::point(fault::RECOVERY_AFTER_COMMIT)?;
    }
    for (name, sink) in &sinks {
        let context = SinkRunContext { node: (*name).to_owned(), ..context.clone() };
        let manifest = restored.as_ref().and_then(|c| c.manifest().sinks.get(*name));
        let committed = manifest.map(|s| s.committables.as_slice()).unwrap_or_default();
        let states = manifest.map(|s| s.writers.as_slice()).unwrap_or_default();
        sink.prepare_restored(&context, committed, states).await.map_err(|e| e.at(*name))?;
    }
    Ok(Recovered { restored, committers, letters })
}

/// What the transactional sinks say about the epochs that a damaged or removed manifest may have committed.
async fn markers(
    recovery: &Recovery,
    sinks: &[(&str, &Arc<dyn Sink>)],
    committers: &mut HashMap<String, Box<dyn Committer>>,
) -> Result<Vec<SinkMarker>> {
    let Some(epoch) = recovery.first_doubtful_epoch() else { return Ok(Vec::new()) };
    let mut markers = Vec::new();
    for (name, _) in sinks.iter().filter(|(_, s)| s.guarantee() == SinkGuarantee::Transactional) {
        let Some(committer) = committers.get_mut(*name) else { continue };
        let committed = committer.is_committed(epoch).await.map_err(|e| e.at(*name))?;
        markers.push(SinkMarker { sink: (*name).to_owned(), committed });
    }
    Ok(markers)
}

/// Commits everything a manifest names, again where need be: every commit can be repeated.
async fn replay(completed: &CompletedCheckpoint, committers: &mut HashMap<String, Box<dyn Committer>>) -> Result<Vec<(String, Vec<BadRecord>)>> {
    let mut round = CommitRound::replay(completed);
    let mut letters = Vec::new();
    let mut wait = Duration::from_millis(50);
    for attempt in 1..=COMMIT_TRIES {
        for (sink, committables) in round.pending().clone() {
            let committer = committers
                .get_mut(&sink)
                .ok_or_else(|| Error::user("the checkpoint holds rows that wait to be committed to it, and the job has no such sink any more; put it back, or start with --fresh").at(&sink))?;
            match committer.commit(&round.permit(), &committables).await {
                Ok(outcomes) => {
                    let settled = round.settle(&sink, outcomes)?;
                    letters.extend(settled.letters.into_iter().map(|(_, rows)| (sink.clone(), rows)));
                    for error in settled.delayed {
                        tracing::warn!(node = %sink, error = %error, attempt, "a commit of the restored checkpoint has to be tried again");
                    }
                }
                Err(e) if e.is_retryable() => {
                    tracing::warn!(node = %sink, error = %e, attempt, "a commit of the restored checkpoint has to be tried again")
                }
                Err(e) => return Err(e.at(&sink)),
            }
        }
        if round.is_empty() {
            return Ok(letters);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
    let sinks: Vec<_> = round.pending().keys().cloned().collect();
    Err(Error::connection(format!(
        "what the restored checkpoint prepared could not be committed to {}; it is tried again at the next start",
        sinks.join(", ")
    )))
}
