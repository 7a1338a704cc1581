//! What a job's state directory says of its last run, for whoever looks at it from outside: without its lock, changing nothing.

use std::path::Path;

use karez_core::{Result, RunId};

use super::Progress;
use crate::checkpoint::run::last_run;
use crate::checkpoint::storage::CheckpointStorage;
use crate::checkpoint::store;

/// The last run of a job.
#[derive(Clone, Debug)]
pub struct RunView {
    /// The run.
    pub run: RunId,
    /// Whether it has ended and is not resumed.
    pub finished: bool,
    /// The replays that its newest checkpoint knows.
    pub replays: Vec<Progress>,
}

/// Looks at the last run of a job; `None` where there is none. Blocks.
///
/// # Errors
/// The state directory or the run's checkpoint storage cannot be read.
pub fn view(state_dir: &Path, job: &str) -> Result<Option<RunView>> {
    let Some(last) = last_run(state_dir, job)? else { return Ok(None) };
    let newest = CheckpointStorage::newest(&*store::open(&last.checkpoints)?)?;
    Ok(Some(RunView { run: last.run, finished: last.finished, replays: newest.map(|m| m.replays.clone()).unwrap_or_default() }))
}
