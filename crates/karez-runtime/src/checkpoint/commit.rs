//! One round of commits: what a completed manifest permits, and what came of it.
//!
//! A round is made of a [`CompletedCheckpoint`] alone, which only a manifest written or read back whole gives: what no manifest names cannot be committed.

use std::collections::BTreeMap;

use karez_core::sink::CommitPermit;
use karez_core::{BadRecord, CommitOutcome, Committable, Epoch, Error, Reach, Result};

use super::storage::CompletedCheckpoint;

/// What is permitted and not yet known to be committed.
#[derive(Clone, Debug)]
pub struct CommitRound {
    epoch: Epoch,
    pending: BTreeMap<String, Vec<Committable>>,
}

/// What came of a sink's commits besides success.
#[derive(Debug, Default)]
pub struct Settled {
    /// Rows refused at commit, by the epoch they were written for: letters of the next epoch.
    pub letters: Vec<(Epoch, Vec<BadRecord>)>,
    /// Why some have to be tried again. They are still [`CommitRound::pending`].
    pub delayed: Vec<Error>,
}

impl CommitRound {
    /// All that a manifest names: after it was written, and again at each recovery.
    #[must_use]
    pub fn replay(completed: &CompletedCheckpoint) -> Self {
        let manifest = completed.manifest();
        Self { epoch: manifest.epoch, pending: manifest.committables() }
    }

    /// The permit.
    #[must_use]
    pub const fn permit(&self) -> CommitPermit {
        CommitPermit::from_completed_manifest(self.epoch)
    }

    /// What is still to be committed, by sink, in the order in which it must be.
    #[must_use]
    pub const fn pending(&self) -> &BTreeMap<String, Vec<Committable>> {
        &self.pending
    }

    /// How many committables are not yet known to be committed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.values().map(Vec::len).sum()
    }

    /// Whether everything is committed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes the outcomes of `Committer::commit` for everything pending of a sink, in order.
    ///
    /// # Errors
    /// A committable was lost: the job must stop. A wrong number of outcomes (a bug of the sink): nothing is taken as committed.
    pub fn settle(&mut self, sink: &str, outcomes: Vec<CommitOutcome>) -> Result<Settled> {
        let committables = self.pending.remove(sink).unwrap_or_default();
        if committables.len() != outcomes.len() {
            let message =
                format!("its committer was asked for {} commits and gave {} outcomes (a bug of the connector)", committables.len(), outcomes.len());
            self.pending.insert(sink.to_owned(), committables);
            return Err(Error::internal(message).at(sink));
        }
        let mut settled = Settled::default();
        let mut left = Vec::new();
        for (committable, outcome) in committables.into_iter().zip(outcomes) {
            match outcome {
                CommitOutcome::Committed | CommitOutcome::AlreadyCommitted => {}
                CommitOutcome::CommittedExcept(rows) => settled.letters.push((committable.epoch, placed(rows, &committable))),
                CommitOutcome::RetryLater(error) => {
                    settled.delayed.push(error.at(sink));
                    left.push(committable);
                }
                CommitOutcome::Lost(error) => {
                    let what = format!(
                        "what subtask {} wrote for epoch {} can never be committed: those rows are lost, unless they are read again (from an older savepoint, or \
                         with `--fresh`)",
                        committable.subtask, committable.epoch
                    );
                    return Err(Error::external(what).reaching(Reach::Run).at(sink).caused_by(error));
                }
            }
        }
        if !left.is_empty() {
            self.pending.insert(sink.to_owned(), left);
        }
        Ok(settled)
    }
}

/// Rows that a commit refused have no origin but their place in it. Letters are named by that: one that is written twice, since a restart commits again,
/// is one letter.
fn placed(rows: Vec<BadRecord>, committable: &Committable) -> Vec<BadRecord> {
    let place = |(at, row): (usize, BadRecord)| {
        let origin = row.origin.unwrap_or_else(|| format!("epoch={} subtask={} row={at}", committable.epoch, committable.subtask));
        BadRecord { origin: Some(origin), ..row }
    };
    rows.into_iter().enumerate().map(place).collect()
}
