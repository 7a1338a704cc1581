//! Moves sealed lots into the table.

use std::sync::Arc;

use async_trait::async_trait;
use karez_core::sink::{CommitPermit, SinkRunContext};
use karez_core::{BadRecord, CommitOutcome, Committable, Committer, Epoch, Error, Reach, Result};
use rusqlite::{OptionalExtension, Transaction, params};

use super::super::settled::{self, Settled, later, permitted};
use super::apply;
use super::connection::{Database, blocking, ours};
use super::fit::{self, Fitted};
use super::sink::SinkPlan;
use super::stage::{self, Lot};
use super::table::Table;
use crate::point::point;

pub(super) struct SqliteCommitter {
    plan: Arc<SinkPlan>,
    context: SinkRunContext,
    database: Option<Database>,
}

impl SqliteCommitter {
    pub(super) const fn new(plan: Arc<SinkPlan>, context: SinkRunContext) -> Self {
        Self { plan, context, database: None }
    }

    /// The connection; `None` where the file is not there.
    async fn database(&mut self) -> Result<Option<Database>> {
        let path = self.plan.place.path.clone();
        if self.database.is_none() && blocking(move || Ok(path.exists())).await? {
            let database = Database::open_to_write(&self.plan.place.path, self.plan.place.lock_timeout).await?;
            database.transact(false, None, |t| stage::create_shared(t)).await?;
            self.database = Some(database);
        }
        Ok(self.database.clone())
    }
}

#[async_trait]
impl Committer for SqliteCommitter {
    async fn commit(&mut self, permit: &CommitPermit, committables: &[Committable]) -> Result<Vec<CommitOutcome>> {
        let lots = permitted(permit, committables, Lot::parse)?;
        let path = self.plan.place.path.clone();
        let gone = move |lot: &Lot| {
            let path = path.display();
            Error::external(format!(
                "{} rows staged in `{path}` (table `{}`, lot {}) are gone: the file was removed or replaced after the checkpoint",
                lot.rows, lot.stage, lot.id
            ))
        };
        let Some(database) = self.database().await? else {
            return Ok(lots.iter().map(|(_, l)| Settled::Gone.outcome(|| gone(l))).collect());
        };
        point("jdbc-commit-before")?;
        let (plan, context, permitted, asked) = (Arc::clone(&self.plan), self.context.clone(), permit.epoch(), lots.clone());
        let settled = database.transact(true, None, move |t| commit(t, &plan, &context, permitted, &asked)).await;
        point("jdbc-commit-after")?;
        match settled {
            Ok(settled) => Ok(lots.iter().zip(settled).map(|((_, lot), s)| s.outcome(|| gone(lot))).collect()),
            // Whether an answer was lost is settled by the next try, which reads the marker.
            Err(e) if e.reach() == Reach::Connection => Ok(later(committables, &e.to_string())),
            Err(e) => Err(e),
        }
    }

    async fn is_committed(&mut self, epoch: Epoch) -> Result<Option<bool>> {
        let Some(database) = self.database().await? else { return Ok(Some(false)) };
        let (run, node) = (self.context.run.0.clone(), self.context.node.clone());
        let sql = "SELECT EXISTS (SELECT 1 FROM __karez_commits WHERE run = ?1 AND node = ?2 AND permit >= ?3)";
        database.call(None, move |c| c.query_row(sql, params![run, node, epoch.0], |r| r.get(0))).await.map(Some)
    }
}

/// One transaction for all lots: the rows of a checkpoint become visible together.
fn commit(
    transaction: &Transaction<'_>,
    plan: &SinkPlan,
    context: &SinkRunContext,
    permit: Epoch,
    lots: &[(Epoch, Lot)],
) -> rusqlite::Result<Vec<Settled>> {
    stage::fence(transaction, context)?;
    forget_refused(transaction, context, lots)?;
    let mut fitted: Option<Fitted> = None;
    let mut settled = Vec::with_capacity(lots.len());
    for (i, (epoch, lot)) in lots.iter().enumerate() {
        if i > 0 {
            point("jdbc-commit-between").map_err(ours)?;
        }
        let pending: bool = transaction
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM __karez_lots WHERE id = ?1 AND run = ?2)")?
            .query_row(params![lot.id, lot.run], |r| r.get(0))?;
        if !pending {
            settled.push(if is_marked(transaction, context, lot)? { Settled::Already(refused(transaction, lot)?) } else { Settled::Gone });
            continue;
        }
        let fitted = match &mut fitted {
            Some(fitted) => fitted,
            None => fitted.insert(describe(transaction, plan)?),
        };
        let columns = stage::columns(transaction, &lot.stage)?;
        let bad = apply::staged(transaction, fitted, &lot.stage, &columns, lot.row_id(0), lot.row_id(lot.rows - 1))?;
        for row in &bad {
            let sql = "INSERT INTO __karez_refused (lot, row, node, run, reason, json) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let number = row.id - lot.row_id(0);
            transaction.prepare_cached(sql)?.execute(params![lot.id, number, context.node, context.run.0, row.reason, row.json])?;
        }
        stage::remove(transaction, lot.id, &lot.stage)?;
        mark(transaction, context, permit, *epoch, lot)?;
        settled.push(if bad.is_empty() { Settled::Committed } else { Settled::Except(refused(transaction, lot)?) });
    }
    Ok(settled)
}

fn describe(transaction: &Transaction<'_>, plan: &SinkPlan) -> rusqlite::Result<Fitted> {
    match Table::describe(transaction, &plan.table)? {
        Some(table) => fit::fit(plan, &table).map_err(ours),
        None => Err(ours(fit::missing(plan, &Table::names(transaction)?))),
    }
}

fn is_marked(transaction: &Transaction<'_>, context: &SinkRunContext, lot: &Lot) -> rusqlite::Result<bool> {
    let sql = "SELECT lot FROM __karez_commits WHERE run = ?1 AND node = ?2 AND generation = ?3 AND subtask = ?4";
    let newest: Option<i64> =
        transaction.prepare_cached(sql)?.query_row(params![lot.run, context.node, lot.generation, lot.subtask], |r| r.get(0)).optional()?;
    Ok(newest.is_some_and(|newest| newest >= lot.id))
}

fn mark(transaction: &Transaction<'_>, context: &SinkRunContext, permit: Epoch, epoch: Epoch, lot: &Lot) -> rusqlite::Result<()> {
    let sql = "INSERT INTO __karez_commits (job, node, run, generation, subtask, lot, epoch, permit, committed_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
               ON CONFLICT (run, node, generation, subtask) DO UPDATE SET lot = max(lot, excluded.lot), epoch = excluded.epoch, permit = excluded.permit,
               committed_at = excluded.committed_at";
    let values = params![context.job, context.node, lot.run, lot.generation, lot.subtask, lot.id, epoch.0, permit.0];
    transaction.prepare_cached(sql)?.execute(values).map(drop)
}

/// The rows of a lot that the table refused.
fn refused(transaction: &Transaction<'_>, lot: &Lot) -> rusqlite::Result<Vec<BadRecord>> {
    transaction
        .prepare_cached("SELECT reason, json FROM __karez_refused WHERE lot = ?1 ORDER BY row")?
        .query_map([lot.id], |r| {
            let why: String = r.get(0)?;
            Ok(settled::refused(&why, r.get(1)?))
        })?
        .collect()
}

/// Refused rows of lots that are not asked for any more have become letters.
fn forget_refused(transaction: &Transaction<'_>, context: &SinkRunContext, lots: &[(Epoch, Lot)]) -> rusqlite::Result<()> {
    let kept = transaction
        .prepare_cached("SELECT DISTINCT lot FROM __karez_refused WHERE run = ?1 AND node = ?2")?
        .query_map(params![context.run.0, context.node], |r| r.get::<_, i64>(0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    for lot in kept.into_iter().filter(|l| lots.iter().all(|(_, asked)| asked.id != *l)) {
        transaction.prepare_cached("DELETE FROM __karez_refused WHERE lot = ?1")?.execute([lot])?;
    }
    Ok(())
}
