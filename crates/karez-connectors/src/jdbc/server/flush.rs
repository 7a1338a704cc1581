//! Buffered rows on their way into the database: one transaction, tried again for as long as allowed.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int16Array, Int64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use karez_core::dead_letter::row_record;
use karez_core::schema::batch_bytes;
use karez_core::sink::WriterContext;
use karez_core::{BadRecord, Epoch, Error, Reach, Result};

use super::super::options::GuaranteeOption;
use super::super::rows::{Op, fold};
use super::apply::{self, Moves, Refused};
use super::driver::{Load, Session};
use super::failure::{Failure, Kind};
use super::fit::Fitted;
use super::pool::{Attempt, Pool};
use super::sink::SinkPlan;
use super::stage::{self, Ledger, Lot, NUMBER, OP};
use super::table::{Column, TableName};
use crate::point::point;

/// The table of one connection through which an at-least-once upsert goes.
const TEMPORARY: &str = "__karez_rows";

/// What all transactions of a writer share.
#[derive(Debug)]
pub(super) struct Flusher {
    pub(super) plan: Arc<SinkPlan>,
    pub(super) pool: Arc<Pool>,
    pub(super) fitted: Fitted,
    pub(super) ledger: Ledger,
    pub(super) context: WriterContext,
    /// What rows are loaded into: their number, for keyed sinks what is done with them, their columns.
    pub(super) columns: Vec<Column>,
}

/// What a flush did.
#[derive(Debug)]
pub(super) struct Flushed {
    pub(super) lot: Option<Lot>,
    pub(super) rejects: Vec<BadRecord>,
    /// What was given, in memory.
    pub(super) bytes: usize,
}

impl Flusher {
    pub(super) fn new(plan: Arc<SinkPlan>, pool: Arc<Pool>, fitted: Fitted, context: WriterContext) -> Self {
        let ledger = plan.ledger(pool.driver.dialect(), &fitted);
        let ours = |name: &str, data_type: DataType| Column {
            name: name.to_owned(),
            declared: String::new(),
            base: String::new(),
            type_id: pool.driver.type_of(&data_type),
            element_id: 0,
            data_type: Some(data_type),
            not_null: true,
            has_default: false,
            generated: false,
        };
        let mut columns = vec![ours(NUMBER, DataType::Int64)];
        if !fitted.key.is_empty() {
            columns.push(ours(OP, DataType::Int16));
        }
        columns.extend(fitted.columns.iter().cloned());
        Self { plan, pool, fitted, ledger, context, columns }
    }

    /// Writes rows; with an epoch, seals the lot in the same transaction.
    pub(super) async fn flush(&self, batches: &[RecordBatch], lot: Option<Lot>, next: u64, seal: Option<Epoch>) -> Result<Flushed> {
        let mut rejects = Vec::new();
        let (batch, ops) = match batches.first() {
            Some(first) => fold(&concat_batches(first.schema_ref(), batches)?, &self.fitted.key, &mut rejects)?,
            None => (RecordBatch::new_empty(Arc::clone(&self.plan.input)), Vec::new()),
        };
        let mut retry = self.pool.retry("writing rows");
        let mut again = false;
        let (lot, refused) = loop {
            match self.pool.once("writing rows", |at| self.attempt(at, &batch, &ops, lot.clone(), next, seal, again)).await {
                Ok(done) => break done,
                Err(e) => retry.again(e).await.map_err(failed)?,
            }
            again = true;
        };
        for (row, why) in refused {
            rejects.push(row_record(&batch, row, format!("table `{}` refuses the row: {why}", self.plan.table))?);
        }
        Ok(Flushed { lot, rejects, bytes: batches.iter().map(batch_bytes).sum() })
    }

    /// `again`: an attempt with these rows may have succeeded before.
    #[allow(clippy::too_many_arguments)]
    async fn attempt(
        &self,
        at: Attempt,
        batch: &RecordBatch,
        ops: &[Op],
        lot: Option<Lot>,
        next: u64,
        seal: Option<Epoch>,
        again: bool,
    ) -> Result<(Option<Lot>, Vec<Refused>), Failure> {
        let mut session = at.connect().await?;
        let outcome = if self.plan.guarantee == GuaranteeOption::Transactional {
            self.stage(&mut *session, batch, ops, lot, next, seal, again).await
        } else {
            self.write(&mut *session, batch, ops).await.map(|refused| (None, refused))
        };
        if let Err(f) = &outcome
            && f.kind != Kind::Connection
        {
            // The connection can be used again then; where that fails, too, it is thrown away.
            let _ = session.rollback().await;
        }
        outcome
    }

    /// Rows into the staging table of the lot.
    #[allow(clippy::too_many_arguments)]
    async fn stage(
        &self,
        session: &mut dyn Session,
        batch: &RecordBatch,
        ops: &[Op],
        lot: Option<Lot>,
        next: u64,
        seal: Option<Epoch>,
        again: bool,
    ) -> Result<(Option<Lot>, Vec<Refused>), Failure> {
        let (driver, run) = (&self.pool.driver, &self.context.run);
        let dialect = driver.dialect();
        let mut lot = match lot {
            Some(lot) => lot,
            None if batch.num_rows() == 0 => return Ok((None, Vec::new())),
            None => {
                let lot = Lot::new(run, self.context.subtask, next);
                session.begin(false).await?;
                self.ledger.fence(session, dialect, run).await?;
                self.ledger.open(session, dialect, run, &lot).await?;
                session.commit().await?;
                let (table, definition) = (self.ledger.stage(&lot).sql(dialect), stage::definition(dialect, &self.fitted));
                session.execute(&format!("CREATE TABLE IF NOT EXISTS {table} {definition}")).await?;
                lot
            }
        };
        // Rows before the seal need not be on disk before it is: what it makes durable includes them, unless the server has crashed meanwhile.
        session.begin(seal.is_some()).await?;
        self.ledger.fence(session, dialect, run).await?;
        if !self.ledger.lock(session, dialect, &lot).await? {
            return Err(Failure::new(Kind::Server, format!("the rows staged in `{}` were thrown away by another start of this job", lot.stage)));
        }
        let (table, earlier) = (self.ledger.stage(&lot), lot.flushes > 0);
        if again {
            // The answer to the first try may have been lost, not the rows.
            session.execute(&format!("DELETE FROM {} WHERE {} >= {}", table.sql(dialect), dialect.quote(NUMBER), lot.next)).await?;
        }
        let mut refused = Vec::new();
        if batch.num_rows() > 0 {
            let rows = self.numbered(batch, ops, lot.next).map_err(Failure::from)?;
            refused = apply::loaded(session, &Load { table: &table, columns: &self.columns }, &rows, &[]).await?;
            for (_, why) in &mut refused {
                *why = why.replace(&lot.stage, &self.fitted.table.name);
            }
            lot.next += i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
            lot.rows += (batch.num_rows() - refused.len()) as u64;
            lot.flushes += 1;
            lot.deletes |= ops.contains(&Op::Delete);
        }
        if let Some(Epoch(epoch)) = seal {
            if earlier {
                let found = self.ledger.count(session, dialect, &lot).await?;
                if found != lot.rows {
                    let (table, rows) = (&self.fitted.table.name, lot.rows);
                    let why = format!("of {rows} rows staged for `{table}` {found} are there: the server has lost the others in a crash");
                    return Err(Failure::new(Kind::Server, why));
                }
            }
            self.ledger.seal(session, dialect, &lot, epoch).await?;
            point("jdbc-seal-before")?;
        }
        session.commit().await?;
        Ok((Some(lot), refused))
    }

    /// Rows into the table itself.
    async fn write(&self, session: &mut dyn Session, batch: &RecordBatch, ops: &[Op]) -> Result<Vec<Refused>, Failure> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let dialect = self.pool.driver.dialect();
        if self.fitted.key.is_empty() {
            session.begin(true).await?;
            let then: Vec<String> = dialect.check_deferred().map(str::to_owned).into_iter().collect();
            let load = Load { table: &self.fitted.table, columns: &self.fitted.columns };
            session.hold_types(&load).await?;
            let refused = apply::loaded(session, &load, batch, &then).await?;
            session.commit().await?;
            return Ok(refused);
        }
        let temporary = TableName { schema: None, name: TEMPORARY.to_owned() };
        let definition = stage::definition(dialect, &Fitted { checks: Vec::new(), ..self.fitted.clone() });
        session.execute(&dialect.create_temporary(&temporary.sql(dialect), &definition)).await?;
        session.begin(true).await?;
        let rows = self.numbered(batch, ops, 0).map_err(Failure::from)?;
        let mut moves = Moves::new(dialect, &self.fitted, &temporary);
        (moves.repeats, moves.deletes) = (false, ops.contains(&Op::Delete));
        let mut then = moves.statements(None);
        then.push(format!("DELETE FROM {}", temporary.sql(dialect)));
        let mut refused = apply::loaded(session, &Load { table: &temporary, columns: &self.columns }, &rows, &then).await?;
        for (_, why) in &mut refused {
            *why = why.replace(TEMPORARY, &self.fitted.table.name);
        }
        session.commit().await?;
        Ok(refused)
    }

    /// Rows with their numbers and what is done with them; a delete keeps its key alone.
    fn numbered(&self, batch: &RecordBatch, ops: &[Op], first: i64) -> Result<RecordBatch> {
        let rows = i64::try_from(batch.num_rows()).map_err(|_| Error::internal("a batch of too many rows"))?;
        let mut fields = vec![Field::new(NUMBER, DataType::Int64, false)];
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(first..first + rows))];
        let keyed = !self.fitted.key.is_empty();
        if keyed {
            fields.push(Field::new(OP, DataType::Int16, false));
            arrays.push(Arc::new(Int16Array::from_iter_values(ops.iter().map(|op| *op as i16))));
        }
        let deleted = (keyed && ops.contains(&Op::Delete)).then(|| BooleanArray::from_iter(ops.iter().map(|op| Some(*op == Op::Delete))));
        for (i, (field, array)) in batch.schema_ref().fields().iter().zip(batch.columns()).enumerate() {
            fields.push(field.as_ref().clone().with_nullable(true));
            arrays.push(match &deleted {
                Some(deleted) if !self.fitted.key.contains(&i) => arrow::compute::nullif(array, deleted)?,
                _ => Arc::clone(array),
            });
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
    }
}

/// An error that trying again did not help: the job fails and restarts by its strategy.
pub(super) fn failed(error: Error) -> Error {
    // No row is known to be at fault, so no policy for rows can decide.
    if error.reach() == Reach::Record { Error::external(error.message()) } else { error }
}
