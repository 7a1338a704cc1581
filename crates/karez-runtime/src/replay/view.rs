//! What a job's state directory says of its runs, for whoever looks at it from outside: without its lock, changing nothing.

use std::path::Path;

use karez_core::{Result, RunId};

use super::Progress;
use crate::checkpoint::run::look_at;
use crate::checkpoint::storage::CheckpointStorage;
use crate::checkpoint::store::{self, StoreCalls};

/// A run of a job.
#[derive(Clone, Debug)]
pub struct RunView {
    /// The run.
    pub run: RunId,
    /// Whether it has ended and is not resumed.
    pub finished: bool,
    /// The replays that its newest checkpoint knows.
    pub replays: Vec<Progress>,
}

/// Looks at a run of a job, or at its last one; `None` where there is none, or nothing is left of it. Blocks.
///
/// # Errors
/// The state directory or the run's checkpoint storage cannot be read.
pub fn view(state_dir: &Path, job: &str, run: Option<&RunId>) -> Result<Option<RunView>> {
    let Some(known) = look_at(state_dir, job, run)? else { return Ok(None) };
    let newest = CheckpointStorage::newest(&*store::open(&known.checkpoints, &StoreCalls::default())?)?;
    Ok(Some(RunView { run: known.run, finished: known.finished, replays: newest.map(|m| m.replays.clone()).unwrap_or_default() }))
}
