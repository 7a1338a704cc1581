//! Moves sealed lots into the table.

use std::sync::Arc;

use async_trait::async_trait;
use karez_core::sink::{CommitPermit, SinkRunContext};
use karez_core::{BadRecord, CommitOutcome, Committable, Committer, Epoch, Error, Result};

use super::super::settled::{self, Settled, later, permitted};
use super::apply::{self, Moves};
use super::driver::Session;
use super::failure::{Failure, Kind};
use super::fit::Fitted;
use super::flush::failed;
use super::pool::{Attempt, Pool};
use super::sink::SinkPlan;
use super::stage::{Ledger, Lot};
use crate::point::point;

pub(super) struct LotCommitter {
    plan: Arc<SinkPlan>,
    pool: Arc<Pool>,
    context: SinkRunContext,
    /// The shared tables, once they are known to be there.
    ledger: Option<Ledger>,
}

impl LotCommitter {
    pub(super) const fn new(plan: Arc<SinkPlan>, pool: Arc<Pool>, context: SinkRunContext) -> Self {
        Self { plan, pool, context, ledger: None }
    }

    /// The table, and the shared tables beside it.
    async fn open(&mut self, session: &mut dyn Session) -> Result<(Fitted, Ledger), Failure> {
        let (driver, dialect) = (&self.pool.driver, self.pool.driver.dialect());
        let fitted = self.plan.fitted(session, driver.as_ref()).await?;
        if self.ledger.is_none() {
            let ledger = self.plan.ledger(dialect, &fitted);
            ledger.create(session, dialect).await?;
            self.ledger = Some(ledger);
        }
        let ledger = self.plan.ledger(dialect, &fitted);
        Ok((fitted, ledger))
    }

    /// One transaction for all lots: the rows of a checkpoint become visible together.
    async fn transact(&mut self, at: Attempt, permit: Epoch, lots: &[(Epoch, Lot)]) -> Result<Vec<Settled>, Failure> {
        let mut lease = at.connect().await?;
        let session = &mut *lease;
        let (fitted, ledger) = self.open(session).await?;
        let pool = Arc::clone(&self.pool);
        let dialect = pool.driver.dialect();
        session.begin(true).await?;
        let outcome = async {
            ledger.fence(session, dialect, &self.context).await?;
            let asked: Vec<&str> = lots.iter().map(|(_, l)| l.stage.as_str()).collect();
            ledger.forget_refused(session, dialect, &self.context, &asked).await?;
            let mut settled = Vec::with_capacity(lots.len());
            for (i, (epoch, lot)) in lots.iter().enumerate() {
                if i > 0 {
                    point("jdbc-commit-between")?;
                }
                settled.push(self.one(session, &fitted, &ledger, permit, *epoch, lot).await?);
            }
            session.commit().await?;
            // Here the answer is lost: the next try must find the marker.
            point("jdbc-commit-answer")?;
            Ok(settled)
        }
        .await;
        match &outcome {
            Ok(_) => {
                // Not part of the commit: what is left here, the next start drops.
                let stages: Vec<String> = lots.iter().map(|(_, l)| l.stage.clone()).collect();
                if let Err(f) = ledger.drop_stages(session, dialect, &stages).await {
                    tracing::warn!(node = %self.context.node, reason = %f, "staging tables could not be dropped; the next start does it");
                }
            }
            Err(Failure { kind: Kind::Connection, .. }) => {}
            Err(_) => {
                let _ = session.rollback().await;
            }
        }
        outcome
    }

    async fn has_committed(&mut self, at: Attempt, Epoch(epoch): Epoch) -> Result<bool, Failure> {
        let mut session = at.connect().await?;
        // Killed before it made its table, the job has committed nothing; it is asked before it makes it now.
        if self.plan.is_to_make(&mut *session).await? {
            return Ok(false);
        }
        let (_, ledger) = self.open(&mut *session).await?;
        ledger.is_committed(&mut *session, self.pool.driver.dialect(), &self.context, epoch).await
    }

    async fn one(
        &self,
        session: &mut dyn Session,
        fitted: &Fitted,
        ledger: &Ledger,
        Epoch(permit): Epoch,
        Epoch(epoch): Epoch,
        lot: &Lot,
    ) -> Result<Settled, Failure> {
        let dialect = self.pool.driver.dialect();
        if !ledger.lock(session, dialect, lot).await? {
            let marked = ledger.newest_marked(session, dialect, &self.context, lot).await?.is_some_and(|newest| newest >= lot.number);
            return Ok(if marked { Settled::Already(records(ledger.refused(session, dialect, lot).await?)) } else { Settled::Gone });
        }
        let stage = ledger.stage(lot);
        let Some(staged) = session.describe(&stage).await? else { return Ok(Settled::Gone) };
        // The columns that were staged: another start of the job may have others.
        let columns = fitted.columns.iter().filter(|c| staged.column(&c.name).is_some()).cloned().collect::<Vec<_>>();
        let key = fitted.key.iter().filter_map(|&k| columns.iter().position(|c| c.name == fitted.columns[k].name)).collect();
        let fitted = Fitted { columns, key, ..fitted.clone() };
        let mut moves = Moves::new(dialect, &fitted, &stage);
        (moves.repeats, moves.deletes) = (lot.flushes > 1, lot.deletes);
        let refused = apply::staged(session, &moves, lot.next).await?;
        for (number, why) in &refused {
            let letter = apply::letter(session, dialect, &fitted, &stage, *number).await?;
            ledger.refuse(session, dialect, &self.context, lot, (*number, &why.replace(&lot.stage, &fitted.table.name), &letter)).await?;
        }
        ledger.forget(session, dialect, &lot.stage).await?;
        ledger.mark(session, dialect, &self.context, lot, epoch, permit).await?;
        Ok(if refused.is_empty() { Settled::Committed } else { Settled::Except(records(ledger.refused(session, dialect, lot).await?)) })
    }
}

fn records(refused: Vec<(String, String)>) -> Vec<BadRecord> {
    refused.into_iter().map(|(why, row)| settled::refused(&why, row)).collect()
}

#[async_trait]
impl Committer for LotCommitter {
    async fn commit(&mut self, permit: &CommitPermit, committables: &[Committable]) -> Result<Vec<CommitOutcome>> {
        let lots = permitted(permit, committables, Lot::parse)?;
        point("jdbc-commit-before")?;
        // Whether an answer was lost is settled by the next try, which reads the marker.
        let pool = Arc::clone(&self.pool);
        let mut retry = pool.retry("committing");
        let settled = loop {
            match pool.once("committing", |at| self.transact(at, permit.epoch(), &lots)).await {
                Ok(settled) => break settled,
                Err(e) => match retry.again(e).await {
                    Ok(()) => {}
                    Err(e) if e.is_retryable() => {
                        return Ok(later(committables, &e.to_string()));
                    }
                    Err(e) => return Err(failed(e)),
                },
            }
        };
        point("jdbc-commit-after")?;
        let place = self.pool.driver.settings().place();
        let gone = |lot: &Lot| {
            Error::external(format!(
                "{} rows staged in `{}` of `{place}` are gone: the table was dropped, or the database restored from a copy, after the checkpoint",
                lot.rows, lot.stage
            ))
        };
        Ok(lots.iter().zip(settled).map(|((_, lot), s)| s.outcome(|| gone(lot))).collect())
    }

    async fn is_committed(&mut self, epoch: Epoch) -> Result<Option<bool>> {
        let pool = Arc::clone(&self.pool);
        let mut retry = pool.retry("reading the marker");
        loop {
            match pool.once("reading the marker", |at| self.has_committed(at, epoch)).await {
                Ok(yes) => return Ok(Some(yes)),
                Err(e) => retry.again(e).await.map_err(failed)?,
            }
        }
    }
}
