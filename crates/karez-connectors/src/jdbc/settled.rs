//! What comes of staged lots at a commit.

use karez_core::sink::CommitPermit;
use karez_core::{BadRecord, CommitOutcome, Committable, Epoch, Error, Result};
use serde_json::Value;

/// What came of a lot, as it leaves the transaction.
pub(super) enum Settled {
    Committed,
    /// Before, but for these rows.
    Already(Vec<BadRecord>),
    Except(Vec<BadRecord>),
    /// Neither the lot nor its marker is there.
    Gone,
}

impl Settled {
    pub(super) fn outcome(self, gone: impl FnOnce() -> Error) -> CommitOutcome {
        match self {
            Self::Committed => CommitOutcome::Committed,
            Self::Already(refused) if refused.is_empty() => CommitOutcome::AlreadyCommitted,
            Self::Already(refused) | Self::Except(refused) => CommitOutcome::CommittedExcept(refused),
            Self::Gone => CommitOutcome::Lost(gone()),
        }
    }
}

/// A row that the table refused at the commit.
pub(super) fn refused(why: &str, row: String) -> BadRecord {
    BadRecord { reason: format!("refused at the commit: {why}"), row: Some(row), ..BadRecord::default() }
}

/// The lots that are to be committed, each with its epoch.
pub(super) fn permitted<L>(permit: &CommitPermit, committables: &[Committable], parse: impl Fn(&Value) -> Result<L>) -> Result<Vec<(Epoch, L)>> {
    if let Some(early) = committables.iter().find(|c| c.epoch > permit.epoch()) {
        return Err(Error::internal(format!("epoch {} is not permitted to commit yet", early.epoch)));
    }
    committables.iter().map(|c| Ok((c.epoch, parse(&c.payload)?))).collect()
}

/// The server or file is away, or others are in the way: nothing is known of any of them.
pub(super) fn later(committables: &[Committable], why: &str) -> Vec<CommitOutcome> {
    committables.iter().map(|_| CommitOutcome::RetryLater(Error::connection(why))).collect()
}
