//! Stages rows, or writes them at once.

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::dead_letter::row_record;
use karez_core::schema::{CHANGE_COLUMN, batch_bytes};
use karez_core::sink::{SinkRunContext, WriterContext};
use karez_core::{BadRecord, Epoch, Error, Result, SinkWriter};
use rusqlite::{Transaction, params};
use serde_json::Value;

use super::super::dialect::Dialect;
use super::super::options::GuaranteeOption;
use super::super::rows::{Op, fold};
use super::Sqlite;
use super::apply::{self, Rows};
use super::connection::{Database, ours};
use super::encode::Values;
use super::fit::Fitted;
use super::sink::SinkPlan;
use super::stage::{self, Lot};

/// Rows are written when they hold so many bytes, however few they are.
const BUFFER_BYTES: usize = 4 << 20;

pub(super) struct Writer {
    plan: Arc<SinkPlan>,
    fitted: Arc<Fitted>,
    stage: Arc<str>,
    database: Database,
    context: WriterContext,
    buffer: Vec<RecordBatch>,
    buffered_rows: usize,
    buffered_bytes: usize,
    /// When the oldest buffered row must be written.
    due_ms: Option<i64>,
    /// What has been staged since the last barrier.
    lot: Option<Lot>,
    rejects: Vec<BadRecord>,
}

/// What a transaction of the writer did.
struct Written {
    lot: Option<Lot>,
    refused: Vec<(usize, String)>,
}

impl Writer {
    pub(super) fn new(plan: Arc<SinkPlan>, fitted: Fitted, stage: String, database: Database, context: WriterContext) -> Self {
        Self {
            plan,
            fitted: Arc::new(fitted),
            stage: stage.into(),
            database,
            context,
            buffer: Vec::new(),
            buffered_rows: 0,
            buffered_bytes: 0,
            due_ms: None,
            lot: None,
            rejects: Vec::new(),
        }
    }

    /// Writes what is buffered in one transaction; with an epoch, seals the lot in the same one. What fails stays buffered, and has rejected nothing.
    async fn write_buffered(&mut self, seal: Option<Epoch>) -> Result<()> {
        let rejected = self.rejects.len();
        let written = self.try_write_buffered(seal).await;
        if written.is_err() {
            self.rejects.truncate(rejected);
        }
        written
    }

    async fn try_write_buffered(&mut self, seal: Option<Epoch>) -> Result<()> {
        let transactional = self.plan.guarantee == GuaranteeOption::Transactional;
        let (batch, rows) = match self.buffer.first() {
            None if seal.is_none() || self.lot.is_none() => return Ok(()),
            None => (None, Rows { values: Vec::new(), ops: Vec::new(), count: 0 }),
            Some(first) => {
                let batch = concat_batches(first.schema_ref(), &self.buffer)?;
                let (batch, ops) = fold(&batch, &self.fitted.key, &mut self.rejects)?;
                let values = batch.columns().iter().zip(&self.fitted.columns).map(|(a, c)| Values::of(a, c.affinity)).collect::<Result<Vec<_>>>()?;
                let rows = Rows { values, ops, count: batch.num_rows() };
                (Some(batch), rows)
            }
        };
        let (fitted, stage, run, subtask) = (Arc::clone(&self.fitted), Arc::clone(&self.stage), self.context.run.clone(), self.context.subtask);
        let lot = self.lot.clone();
        // Rows that are sealed, and rows that no commit follows, must outlast a power failure; the others do with the seal.
        let durable = seal.is_some() || !transactional;
        let work = move |transaction: &Transaction<'_>| {
            if transactional {
                stage_rows(transaction, &fitted, &stage, &run, subtask, lot.clone(), &rows, seal)
            } else {
                let mut refused = Vec::new();
                apply::rows(transaction, &fitted, &rows, |row, why| refused.push((row, why)))?;
                Ok(Written { lot: None, refused })
            }
        };
        let written = self.database.transact(durable, Some(Arc::clone(&self.context.metrics)), work).await?;
        self.lot = written.lot;
        self.context.metrics.bytes_out.add(self.buffered_bytes as u64);
        if let Some(batch) = batch {
            for (row, why) in written.refused {
                self.rejects.push(row_record(&batch, row, format!("table `{}` refuses the row: {why}", self.fitted.table))?);
            }
        }
        self.buffer.clear();
        (self.buffered_rows, self.buffered_bytes, self.due_ms) = (0, 0, None);
        Ok(())
    }
}

#[allow(clippy::too_many_arguments)]
fn stage_rows(
    transaction: &Transaction<'_>,
    fitted: &Fitted,
    stage: &str,
    run: &SinkRunContext,
    subtask: usize,
    mut lot: Option<Lot>,
    rows: &Rows,
    seal: Option<Epoch>,
) -> rusqlite::Result<Written> {
    stage::fence(transaction, run)?;
    let mut refused = Vec::new();
    let mut bad = vec![false; rows.count];
    if fitted.has_checks && rows.count > 0 {
        transaction.execute_batch("SAVEPOINT __karez_trial")?;
        apply::rows(transaction, fitted, rows, |row, why| {
            bad[row] = true;
            refused.push((row, why));
        })?;
        transaction.execute_batch("ROLLBACK TO __karez_trial; RELEASE __karez_trial")?;
    }
    let places = vec!["?"; fitted.columns.len() + 2].join(", ");
    let sql = format!("INSERT INTO {} (__karez_id, __karez_op, {}) VALUES ({places})", Sqlite.quote(stage), fitted.column_list());
    let mut insert = transaction.prepare_cached(&sql)?;
    for row in (0..rows.count).filter(|r| !bad[*r]) {
        let lot = match &mut lot {
            Some(lot) => lot,
            None => lot.insert(new_lot(transaction, stage, run, subtask)?),
        };
        if lot.rows == stage::MAX_LOT_ROWS {
            return Err(ours(Error::external("more than 4 billion rows between two checkpoints; take checkpoints more often")));
        }
        let op = rows.op(row);
        insert.raw_bind_parameter(1, lot.row_id(lot.rows))?;
        insert.raw_bind_parameter(2, op as i64)?;
        let outcome = if op == Op::Delete {
            insert.clear_bindings();
            insert.raw_bind_parameter(1, lot.row_id(lot.rows))?;
            insert.raw_bind_parameter(2, op as i64)?;
            let mut outcome = Ok(());
            for &k in &fitted.key {
                outcome = outcome.and(apply::bind(&mut insert, k + 3, &rows.values, std::iter::once(k), row)?);
            }
            outcome
        } else {
            apply::bind(&mut insert, 3, &rows.values, 0..fitted.columns.len(), row)?
        };
        match outcome {
            Ok(()) => match apply::run(transaction, &mut insert)? {
                Ok(()) => lot.rows += 1,
                Err(why) => refused.push((row, why)),
            },
            Err(why) => refused.push((row, why)),
        }
    }
    if let (Some(epoch), Some(lot)) = (seal, &lot) {
        transaction.prepare_cached("UPDATE __karez_lots SET epoch = ?2 WHERE id = ?1")?.execute(params![lot.id, epoch.0])?;
    }
    refused.sort_by_key(|(row, _)| *row);
    Ok(Written { lot, refused })
}

fn new_lot(transaction: &Transaction<'_>, stage: &str, run: &SinkRunContext, subtask: usize) -> rusqlite::Result<Lot> {
    let sql = "INSERT INTO __karez_lots (stage, job, node, run, generation, subtask) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    transaction.prepare_cached(sql)?.execute(params![stage, run.job, run.node, run.run.0, run.generation.0, subtask])?;
    Ok(Lot { id: transaction.last_insert_rowid(), stage: stage.to_owned(), run: run.run.0.clone(), generation: run.generation.0, subtask, rows: 0 })
}

#[async_trait]
impl SinkWriter for Writer {
    fn keeps_rows_on_lost_connection(&self) -> bool {
        true
    }

    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        debug_assert!(
            self.plan.changelog || batch.column_by_name(CHANGE_COLUMN).is_none(),
            "a changelog reached a sink that was planned without one"
        );
        self.buffered_rows += batch.num_rows();
        self.buffered_bytes += batch_bytes(&batch);
        self.due_ms.get_or_insert_with(|| self.context.clock.now_ms().saturating_add(self.plan.flush_interval_ms));
        self.buffer.push(batch);
        if self.buffered_rows >= self.plan.batch_size || self.buffered_bytes >= BUFFER_BYTES {
            self.write_buffered(None).await?;
        }
        Ok(())
    }

    fn flush_due_ms(&self) -> Option<i64> {
        self.due_ms
    }

    async fn flush(&mut self) -> Result<()> {
        self.write_buffered(None).await
    }

    fn take_rejects(&mut self) -> Vec<BadRecord> {
        std::mem::take(&mut self.rejects)
    }

    async fn prepare_commit(&mut self, epoch: Epoch, _: bool) -> Result<Vec<Value>> {
        self.write_buffered(Some(epoch)).await?;
        // A lot whose rows were all refused stays empty; it is thrown away at the next start.
        self.lot.take().filter(|l| l.rows > 0).map(|l| l.payload()).into_iter().collect()
    }
}
