//! Which checkpoint a run goes on from (decision 12).
//!
//! The newest whole manifest. An attempt without one is no checkpoint: it is not even looked at. A manifest that stands there and cannot be read, or
//! that names a file which is gone, is another matter: its epoch may have been committed, and going on from an older one would write those rows again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use karez_core::{Epoch, Error, Result};

use super::manifest::Manifest;
use super::storage::{CompletedCheckpoint, FILES, file_name};
use super::store::DurableStore;

/// A manifest that cannot be gone on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableManifest {
    /// Its place in the log.
    pub sequence: u64,
    /// Where it is.
    pub location: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What was found in a run's storage.
#[derive(Clone, Debug)]
pub struct Recovery {
    newest: Option<CompletedCheckpoint>,
    unreadable: Vec<UnreadableManifest>,
    last_used_id: u64,
}

/// What a transactional sink can say about the epochs in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkMarker {
    /// The sink.
    pub sink: String,
    /// Whether one of the epochs in doubt has been committed, by the marker in the target; `None` where it keeps none.
    pub committed: Option<bool>,
}

/// What decides whether an older checkpoint may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FallbackFacts {
    /// Whether the job asks for exactly-once.
    pub exactly_once: bool,
    /// Every transactional sink of the job.
    pub markers: Vec<SinkMarker>,
    /// `--accept-duplicates`.
    pub accept_duplicates: bool,
}

impl Recovery {
    pub(super) fn new(
        store: &dyn DurableStore,
        completed: &BTreeMap<u64, Arc<Manifest>>,
        damaged: Vec<UnreadableManifest>,
        last_used_id: u64,
    ) -> Result<Self> {
        let files: BTreeSet<String> = if completed.is_empty() { BTreeSet::new() } else { store.list(FILES)?.into_iter().collect() };
        let missing = |m: &Manifest| m.files().map(file_name).find(|f| !files.contains(f));
        let mut newest = None;
        let mut unreadable = Vec::new();
        for (&sequence, manifest) in completed.iter().rev() {
            let Some(file) = missing(manifest) else {
                newest = Some((sequence, CompletedCheckpoint::new(Arc::clone(manifest))));
                break;
            };
            let reason = format!("the state file {} is missing", store.describe(&file));
            unreadable.push(UnreadableManifest { sequence, location: format!("checkpoint {}", manifest.checkpoint), reason });
        }
        let behind = newest.as_ref().map_or(0, |(sequence, _)| *sequence);
        unreadable.extend(damaged.into_iter().filter(|d| d.sequence > behind));
        unreadable.sort_by_key(|u| u.sequence);
        Ok(Self { newest: newest.map(|(_, c)| c), unreadable, last_used_id })
    }

    /// The manifests newer than the one to go on from that cannot be used.
    #[must_use]
    pub fn unreadable(&self) -> &[UnreadableManifest] {
        &self.unreadable
    }

    /// The first epoch that may have been committed by a manifest that cannot be used, or that somebody has removed: ask every transactional sink's
    /// committer for it before [`Self::choose`]. None for a run that begins.
    #[must_use]
    pub fn first_doubtful_epoch(&self) -> Option<Epoch> {
        let known = self.newest.as_ref().map_or(0, |c| c.manifest().checkpoint.0);
        (known < self.last_used_id).then_some(Epoch(known + 1))
    }

    /// The checkpoint to go on from; `None`: from the start.
    ///
    /// # Errors
    /// Falling back could write rows twice. The message says which manifest and sink, and names `--accept-duplicates`.
    pub fn choose(&self, facts: &FallbackFacts) -> Result<Option<CompletedCheckpoint>> {
        let back = || {
            let newest = self.newest.as_ref().map(|c| c.manifest().checkpoint);
            newest.map_or("the start".to_owned(), |id| format!("checkpoint {id} (epoch {})", Epoch(id.0)))
        };
        if self.unreadable.is_empty()
            && facts.exactly_once
            && !facts.accept_duplicates
            && let Some(marker) = facts.markers.iter().find(|m| m.committed == Some(true))
        {
            return Err(Error::user(format!(
                "the sink `{}` shows that a later epoch has been committed than that of the newest checkpoint there is, so a file of the checkpoint log has \
                 been removed, and going on from {} would write rows twice. Put the file back, or start with --accept-duplicates to go on from there, or \
                 with --fresh to begin anew",
                marker.sink,
                back()
            )));
        }
        if let Some(damaged) = self.unreadable.first()
            && let Some(obstacle) = obstacle(facts)
        {
            let back = back();
            return Err(Error::user(format!(
                "the newest checkpoint cannot be read ({}: {}), and going on from {back} could write rows twice: {obstacle}. \
                 Repair the file, or start with --accept-duplicates to go on from there, or with --fresh to begin anew",
                damaged.location, damaged.reason
            )));
        }
        Ok(self.newest.clone())
    }
}

/// Why an older checkpoint must not be used; `None` if it may.
fn obstacle(facts: &FallbackFacts) -> Option<String> {
    if !facts.exactly_once || facts.accept_duplicates {
        return None;
    }
    if facts.markers.is_empty() {
        // Exactly-once without transactional sinks: those there are give the same result when rows are written again.
        return None;
    }
    facts.markers.iter().find_map(|m| match m.committed {
        Some(false) => None,
        Some(true) => Some(format!("the sink `{}` shows that it has been committed", m.sink)),
        None => Some(format!("the sink `{}` keeps no marker that would show whether it has been committed", m.sink)),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn damaged() -> Recovery {
        let unreadable = vec![UnreadableManifest { sequence: 4, location: "log/4".into(), reason: "it is torn".into() }];
        Recovery { newest: None, unreadable, last_used_id: 32 }
    }

    fn facts(committed: Option<bool>) -> FallbackFacts {
        let markers = vec![SinkMarker { sink: "calm".into(), committed: Some(false) }, SinkMarker { sink: "table".into(), committed }];
        FallbackFacts { exactly_once: true, markers, accept_duplicates: false }
    }

    #[test]
    fn at_least_once_falls_back() {
        let facts = FallbackFacts { exactly_once: false, ..facts(Some(true)) };
        assert!(damaged().choose(&facts).unwrap().is_none());
    }

    #[test]
    fn exactly_once_falls_back_if_every_marker_says_not_committed() {
        assert!(damaged().choose(&facts(Some(false))).is_ok());
        assert_eq!(damaged().first_doubtful_epoch(), Some(Epoch(1)));
    }

    #[test]
    fn exactly_once_stops_and_names_file_sink_and_flag() {
        for committed in [Some(true), None] {
            let error = damaged().choose(&facts(committed)).unwrap_err();
            assert_eq!(error.whose(), karez_core::Whose::User, "a restart would read the same file again");
            let error = error.to_string();
            for word in ["log/4", "it is torn", "`table`", "--accept-duplicates"] {
                assert!(error.contains(word), "{word}: {error}");
            }
        }
    }

    #[test]
    fn the_user_may_accept_duplicates() {
        assert!(damaged().choose(&FallbackFacts { accept_duplicates: true, ..facts(Some(true)) }).is_ok());
    }

    #[test]
    fn a_manifest_that_was_removed_is_told_by_the_marker_of_its_epoch_alone() {
        let sound = Recovery { newest: None, unreadable: Vec::new(), last_used_id: 32 };
        assert_eq!(sound.first_doubtful_epoch(), Some(Epoch(1)));
        for unsuspicious in [Some(false), None] {
            assert!(sound.choose(&facts(unsuspicious)).unwrap().is_none());
        }
        let error = sound.choose(&facts(Some(true))).unwrap_err().to_string();
        for word in ["`table`", "removed", "--accept-duplicates", "--fresh"] {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert!(sound.choose(&FallbackFacts { accept_duplicates: true, ..facts(Some(true)) }).is_ok());
        assert!(sound.choose(&FallbackFacts { exactly_once: false, ..facts(Some(true)) }).is_ok());
    }

    #[test]
    fn nothing_is_in_doubt_of_a_run_that_begins() {
        assert_eq!(Recovery { newest: None, unreadable: Vec::new(), last_used_id: 0 }.first_doubtful_epoch(), None);
    }
}
