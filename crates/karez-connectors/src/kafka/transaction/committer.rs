//! Ends the transactions that a completed manifest names.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use karez_core::sink::CommitPermit;
use karez_core::{CommitOutcome, Committable, Committer, Error, Result};
use krafka::Kafka;
use krafka::error::ErrorCode;

use super::coordinator::{Coordinators, End, Refusal};
use super::ledger::Ledger;
use super::outcome::{Fate, fate};
use super::prepared::Prepared;
use crate::point::point;

/// Commits under way at once.
const CONCURRENCY: usize = 16;

pub(in crate::kafka) struct TransactionCommitter {
    kafka: Arc<Kafka>,
    coordinators: Arc<Coordinators>,
    ledger: Arc<Ledger>,
}

impl TransactionCommitter {
    pub(in crate::kafka) const fn new(kafka: Arc<Kafka>, coordinators: Arc<Coordinators>, ledger: Arc<Ledger>) -> Self {
        Self { kafka, coordinators, ledger }
    }

    async fn commit_one(&self, prepared: &Prepared) -> Result<CommitOutcome> {
        let id = &prepared.identity.transactional_id;
        let doing = format!("commit transaction `{id}`");
        // A repeated `EndTxn` is answered like the first, so the state before tells them apart: a transaction of another life of the id, committed or not,
        // lets this one's `EndTxn` be refused.
        let before = match self.coordinators.is_committed(id).await {
            Ok(before) => before,
            Err(refusal) => return later(refusal, &doing),
        };
        match self.coordinators.end(&prepared.identity, End::Commit).await {
            Ok(()) if before => Ok(CommitOutcome::AlreadyCommitted),
            Ok(()) => Ok(CommitOutcome::Committed),
            Err(Refusal::Code(
                code @ (ErrorCode::ProducerFenced
                | ErrorCode::InvalidProducerEpoch
                | ErrorCode::InvalidTxnState
                | ErrorCode::InvalidProducerIdMapping
                | ErrorCode::UnknownProducerId),
            )) => match fate(&self.kafka, prepared).await {
                Ok(Fate::Committed) => Ok(CommitOutcome::AlreadyCommitted),
                Ok(Fate::Aborted) => Ok(CommitOutcome::Lost(lost(prepared, code))),
                // The coordinator itself says that it was aborted: this id, in this epoch, is in no state to be committed.
                Ok(Fate::Forgotten) if code == ErrorCode::InvalidTxnState => Ok(CommitOutcome::Lost(lost(prepared, code))),
                Ok(Fate::Forgotten) => {
                    let ranges = prepared.ranges();
                    tracing::warn!(transaction = %id, "the broker no longer knows the transaction, and its rows ({ranges}) have left the topic by \
                                   retention; they are taken as committed");
                    Ok(CommitOutcome::AlreadyCommitted)
                }
                Err(e) if e.is_retryable() => Ok(CommitOutcome::RetryLater(e)),
                Err(e) => Err(e),
            },
            Err(refusal) => later(refusal, &doing),
        }
    }
}

/// A coordinator that is away is asked again with the next checkpoint; anything else fails the job.
fn later(refusal: Refusal, doing: &str) -> Result<CommitOutcome> {
    let error = refusal.error(doing);
    if error.is_retryable() { Ok(CommitOutcome::RetryLater(error)) } else { Err(error) }
}

fn lost(prepared: &Prepared, code: ErrorCode) -> Error {
    Error::external(format!(
        "the broker has aborted transaction `{}` before it was committed ({code:?}): it was open for longer than `transactionTimeout`, or somebody else used \
         its transactional id. Missing: {}. Let `transactionTimeout` (and the broker's transaction.max.timeout.ms) be longer than a checkpoint and the \
         longest outage of the job",
        prepared.identity.transactional_id,
        prepared.ranges()
    ))
}

#[async_trait]
impl Committer for TransactionCommitter {
    async fn commit(&mut self, permit: &CommitPermit, committables: &[Committable]) -> Result<Vec<CommitOutcome>> {
        if let Some(early) = committables.iter().find(|c| c.epoch > permit.epoch()) {
            return Err(Error::internal(format!("epoch {} is not permitted to commit yet", early.epoch)));
        }
        let prepared = committables.iter().map(|c| Prepared::parse(&c.payload)).collect::<Result<Vec<_>>>()?;
        point("kafka-commit-before")?;
        self.ledger.completed(permit.epoch(), prepared.iter().map(|p| p.identity.transactional_id.as_str()));
        let this = &*self;
        let commits = futures::stream::iter(prepared.into_iter().enumerate()).map(|(i, p)| async move {
            if i > 0 {
                point("kafka-commit-between")?;
            }
            this.commit_one(&p).await
        });
        let outcomes: Vec<Result<CommitOutcome>> = commits.buffered(CONCURRENCY).collect().await;
        point("kafka-commit-after")?;
        outcomes.into_iter().collect()
    }
}
