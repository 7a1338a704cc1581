//! Which letters have been fed again, by the replays in the state directory and the checkpoints that know them.

use std::collections::HashMap;

use clap::ValueEnum;
use karez_core::RunId;
use karez_runtime::replay::{RunView, requests, view};
use serde::Serialize;

use super::super::Failure;
use super::Opened;

/// What has become of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Status {
    /// Not fed again.
    Open,
    /// Given to the job; no checkpoint holds yet what came of it.
    Queued,
    /// Fed again: a completed checkpoint holds what came of it.
    Replayed,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Open => "open",
            Self::Queued => "queued",
            Self::Replayed => "replayed",
        })
    }
}

/// The letters of a job that have been given to it again.
pub(super) struct Ledger {
    /// The job's last run.
    pub(super) last: Option<RunView>,
    given: HashMap<String, (Status, String)>,
}

impl Ledger {
    pub(super) fn of(job: &Opened) -> Result<Self, Failure> {
        let last = view(&job.state_dir, job.id(), None)?;
        let mut runs: HashMap<RunId, Option<RunView>> = HashMap::new();
        let mut given: HashMap<String, (Status, String)> = HashMap::new();
        for request in requests(&job.state_dir.join(job.id()))? {
            // The last run may go on from a savepoint that stood in the middle of an earlier run's replay.
            let known = |view: &Option<RunView>| view.as_ref().and_then(|v| v.replays.iter().find(|p| p.replay == request.id).cloned());
            let mut progress = known(&last);
            if progress.is_none() && last.as_ref().is_none_or(|l| l.run != request.run) {
                let of_run = match runs.entry(request.run.clone()) {
                    std::collections::hash_map::Entry::Occupied(e) => e.into_mut(),
                    std::collections::hash_map::Entry::Vacant(e) => e.insert(view(&job.state_dir, job.id(), Some(&request.run))?),
                };
                progress = known(of_run);
            }
            let to_come = last.as_ref().is_some_and(|l| !l.finished && (l.run == request.run || known(&last).is_some()));
            for (number, letter) in (0..).zip(&request.letters) {
                let status = match &progress {
                    Some(progress) if progress.contains(number) => Status::Replayed,
                    _ if to_come => Status::Queued,
                    // Of a run that was left before it came to it.
                    _ => continue,
                };
                let entry = given.entry(letter.id.clone()).or_insert_with(|| (status, request.id.clone()));
                if status > entry.0 {
                    *entry = (status, request.id.clone());
                }
            }
        }
        Ok(Self { last, given })
    }

    pub(super) fn status(&self, letter: &str) -> Status {
        self.given.get(letter).map_or(Status::Open, |(status, _)| *status)
    }

    /// The replay by which a letter was given to the job.
    pub(super) fn replay(&self, letter: &str) -> Option<&str> {
        self.given.get(letter).map(|(_, replay)| replay.as_str())
    }
}
