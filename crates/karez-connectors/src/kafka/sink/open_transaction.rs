//! The transactions of one writer: begun with the first row behind a barrier, prepared at the next.

use std::sync::Arc;
use std::time::Duration;

use karez_core::Result;
use tokio::time::Instant;

use super::report::Settled;
use crate::kafka::transaction::{Base, Coordinators, End, Identity, Ledger, Prepared, UsedIds};

/// What a writer needs for them.
#[derive(Debug)]
pub(super) struct Transactions {
    coordinators: Arc<Coordinators>,
    ledger: Arc<Ledger>,
    base: Base,
    timeout: Duration,
    /// Ids with lower numbers have been used.
    used: usize,
}

/// One that takes rows.
#[derive(Debug)]
pub(super) struct OpenTransaction {
    pub(super) identity: Identity,
    begun: Instant,
}

impl Transactions {
    pub(super) const fn new(coordinators: Arc<Coordinators>, ledger: Arc<Ledger>, base: Base, timeout: Duration) -> Self {
        Self { coordinators, ledger, base, timeout, used: 0 }
    }

    /// A producer of its own for the transaction to come, under an id that no manifest needs any more.
    pub(super) async fn begin(&mut self) -> Result<OpenTransaction> {
        let (number, id) = self.ledger.take(&self.base)?;
        self.used = self.used.max(number + 1);
        match self.coordinators.init(&id, self.timeout).await {
            Ok(identity) => Ok(OpenTransaction { identity, begun: Instant::now() }),
            Err(refusal) => {
                self.ledger.give_back(&id);
                Err(refusal.error(&format!("begin transaction `{id}`")))
            }
        }
    }

    /// What the manifest needs to commit it; nothing where no row is in it.
    pub(super) async fn prepare(&self, open: OpenTransaction, settled: Settled) -> Result<Option<Prepared>> {
        let OpenTransaction { identity, begun } = open;
        if begun.elapsed() > self.timeout / 2 {
            tracing::warn!(
                transaction = %identity.transactional_id,
                "a transaction was open for {} s up to its barrier, and the broker aborts it after {} s (`transactionTimeout`); rows that are not committed by then are lost",
                begun.elapsed().as_secs(),
                self.timeout.as_secs()
            );
        }
        if !settled.ranges.is_empty() {
            return Ok(Some(Prepared::new(identity, settled.ranges)));
        }
        if settled.touched {
            // All its rows were refused: nothing to commit, and it must not stay open.
            let aborted = self.coordinators.end(&identity, End::Abort).await;
            aborted.map_err(|r| r.error(&format!("abort the empty transaction `{}`", identity.transactional_id)))?;
        }
        self.ledger.give_back(&identity.transactional_id);
        Ok(None)
    }

    /// For the checkpoint: also the id that the next transaction takes before the next checkpoint.
    pub(super) fn used(&self) -> UsedIds {
        UsedIds::new(&self.base, self.used + 1)
    }
}
