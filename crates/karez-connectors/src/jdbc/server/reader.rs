//! Gives the rows of a split, from where it stood, and knows where it stands: at the key of the last row given.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use karez_core::dead_letter::row_record;
use karez_core::exact::cast_rows;
use karez_core::source::{ReadLimit, ReaderContext};
use karez_core::{BadRecord, Error, Read, Result, SplitReader};
use karez_external::Retry;
use serde_json::Value;

use super::super::keyset::{KeyValue, Latest, Position};
use super::driver::{Candidate, Chunk, Growth};
use super::failure::{Failure, Kind};
use super::pool::{Attempt, Pool, Task};
use super::scan::{Range, Scan};
use super::source::SourcePlan;

pub(super) struct Reader {
    plan: Arc<SourcePlan>,
    pool: Arc<Pool>,
    schema: SchemaRef,
    context: ReaderContext,
    position: Position,
    scan: Option<Scan>,
    /// A bound that is being looked for.
    asking: Option<Task<Bound>>,
    /// Rows that have come and are not all given.
    rows: Option<Rows>,
    /// Rows without a key that were given before the start.
    skip: u64,
    /// A bound that is not settled yet.
    candidate: Option<Candidate>,
    ended: bool,
    /// Of the scan or bound that comes next.
    retry: Retry,
}

/// A chunk of which the rows before `at` have been given.
struct Rows {
    chunk: Chunk,
    /// The columns of the schema, in its types.
    visible: Vec<ArrayRef>,
    at: usize,
}

/// Up to where may be read.
enum Bound {
    Settled(Candidate),
    /// There is something new, but transactions that may bring rows below it are still running.
    Unsettled(Candidate),
    Nothing,
}

/// What a bound is looked for with.
struct Behind {
    /// The last value read, and how many rows with it where those are looked for again.
    after: Option<KeyValue>,
    seen: Option<u64>,
    /// One that was not settled yet.
    candidate: Option<Candidate>,
    now_ms: i64,
}

/// A bound below which nothing can appear any more and above which nothing has been read, if there is one now.
async fn bound(plan: Arc<SourcePlan>, pool: Arc<Pool>, Behind { after, seen, candidate, now_ms }: Behind) -> Result<Bound> {
    let Some(column) = plan.order.first() else { return Ok(Bound::Nothing) };
    let growth = Growth {
        table: plan.table.as_ref(),
        from: &plan.from,
        column,
        is_timestamp: plan.by_timestamp,
        inclusive: plan.looks_again || !plan.by_timestamp,
        after: after.as_ref(),
        seen,
        visibility_delay_ms: plan.visibility_delay_ms,
    };
    let look = |at: Attempt| async move {
        let mut session = at.connect().await?;
        let candidate = match candidate {
            Some(candidate) => Some(candidate),
            None => session.candidate(&growth, now_ms).await?,
        };
        let Some(mut candidate) = candidate else { return Ok(Bound::Nothing) };
        let settled = session.is_settled(&mut candidate, &growth, now_ms).await?;
        Ok(if settled { Bound::Settled(candidate) } else { Bound::Unsettled(candidate) })
    };
    pool.once("looking for new rows", look).await
}

impl Reader {
    pub(super) fn new(plan: Arc<SourcePlan>, pool: Arc<Pool>, schema: SchemaRef, context: ReaderContext, position: Position) -> Self {
        let skip = position.rows;
        let retry = pool.retry("reading");
        Self { plan, pool, schema, context, position, scan: None, asking: None, rows: None, skip, candidate: None, ended: false, retry }
    }

    /// Takes a step: rows come, or it is known that there are none now. Cancel-safe; an error leaves it so that the step can be taken again.
    async fn step(&mut self) -> Result<Option<Read>> {
        if let Some(scan) = &mut self.scan {
            let chunk = scan.next().await;
            if !matches!(chunk, Ok(Some(_))) {
                self.scan = None;
            }
            let Some(chunk) = chunk? else { return Ok(self.has_read_all()) };
            self.rows = Some(self.plan.rows(chunk)?);
            return Ok(None);
        }
        let mut bound = None;
        if self.plan.grows && !self.plan.bounded {
            let Some(asking) = &mut self.asking else {
                let Position { after, latest, .. } = &self.position;
                let behind = Behind {
                    after: after.as_ref().and_then(|a| a.first()).or_else(|| latest.as_ref().map(|l| &l.instant)).cloned(),
                    seen: latest.as_ref().filter(|_| self.plan.looks_again).map(Latest::rows),
                    candidate: self.candidate.clone(),
                    now_ms: self.context.clock.now_ms(),
                };
                self.asking = Some(Task::start(self::bound(Arc::clone(&self.plan), Arc::clone(&self.pool), behind)));
                return Ok(None);
            };
            let found = asking.done().await;
            self.asking = None;
            match found? {
                Bound::Settled(settled) => (self.candidate, bound) = (None, Some(settled)),
                Bound::Unsettled(candidate) => {
                    self.candidate = Some(candidate);
                    return Ok(Some(Read::Pending));
                }
                Bound::Nothing => return Ok(Some(Read::Nothing)),
            }
        }
        let range = Range {
            after: self.position.after.clone(),
            from: self.position.latest.as_ref().map(|l| l.instant.clone()),
            part: self.position.part,
            bound,
        };
        self.skip = self.position.rows;
        self.scan = Some(Scan::start(Arc::clone(&self.plan), Arc::clone(&self.pool), range));
        Ok(None)
    }

    /// At the end of a scan.
    fn has_read_all(&mut self) -> Option<Read> {
        if self.plan.bounded {
            self.ended = true;
            return None;
        }
        if self.plan.looks_again {
            // The next scan begins at the latest instant.
            self.position.after = None;
        }
        Some(Read::Nothing)
    }

    /// The next of the rows that have come; `None` where none of them is to be given.
    fn give(&mut self, limit: ReadLimit) -> Result<Option<Read>> {
        let Some(rows) = &mut self.rows else { return Ok(None) };
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rows.chunk.rows - rows.at);
        rows.at += skipped;
        self.skip -= skipped as u64;
        let (from, to) = (rows.at, rows.chunk.rows.min(rows.at.saturating_add(limit.rows.max(1))));
        let count = to - from;
        let keys = self.plan.key_places();
        let mut position = self.position.clone();
        let mut good = vec![true; count];
        if self.plan.looks_again {
            for (i, good) in good.iter_mut().enumerate() {
                *good = position.is_new(&self.plan.key_of(&rows.chunk, &keys, from + i)?)?;
            }
        }
        let origin = |row: usize| -> Result<String> {
            if keys.is_empty() {
                return Ok(format!("{} row={}", self.plan.what, position.rows + (row - from) as u64 + 1));
            }
            let key = self.plan.key_of(&rows.chunk, &keys, row)?;
            let (name, value) = (self.plan.order.last().map(|c| c.name.as_str()), key.last().map(ToString::to_string));
            Ok(format!("{} {}={}", self.plan.what, name.unwrap_or_default(), value.unwrap_or_default()))
        };
        let mut bad = Vec::new();
        for (row, why) in rows.chunk.bad.iter().filter(|(row, _)| (from..to).contains(row)) {
            if good[row - from] {
                good[row - from] = false;
                let letter = row_record(&self.plan.nullable(&rows.visible, rows.chunk.rows)?, *row, "")?;
                bad.push(BadRecord { reason: why.clone(), origin: Some(origin(*row)?), raw: None, row: letter.row });
            }
        }
        let mut columns: Vec<ArrayRef> = rows.visible.iter().map(|a| a.slice(from, count)).collect();
        if self.context.with_origin {
            let origins = (from..to).map(origin).collect::<Result<Vec<_>>>()?;
            columns.push(Arc::new(StringArray::from(origins)));
        }
        let batch = if good.iter().all(|g| *g) {
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?
        } else {
            // Values that cannot be read stand as null, also in columns that have none.
            let nullable: Vec<_> = self.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            let all = RecordBatch::try_new_with_options(Arc::new(arrow::datatypes::Schema::new(nullable)), columns, &options)?;
            let kept = filter_record_batch(&all, &BooleanArray::from(good))?;
            let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), kept.columns().to_vec(), &options)?
        };
        if count > 0 {
            if keys.is_empty() {
                position.rows += count as u64;
            } else {
                position.after = Some(self.plan.key_of(&rows.chunk, &keys, to - 1)?);
            }
            let share = rows.chunk.bytes * count / rows.chunk.rows.max(1);
            self.context.metrics.bytes_in.add(share as u64);
        }
        rows.at = to;
        if to == rows.chunk.rows {
            self.rows = None;
        }
        self.position = position;
        Ok((batch.num_rows() > 0 || !bad.is_empty()).then_some(Read::Rows { batch, bad }))
    }
}

#[async_trait]
impl SplitReader for Reader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Read> {
        loop {
            while self.rows.is_some() {
                if let Some(read) = self.give(limit)? {
                    return Ok(read);
                }
            }
            if self.ended {
                return Ok(Read::End);
            }
            self.retry.wait().await;
            match self.step().await {
                Ok(Some(read)) => {
                    self.retry.succeeded();
                    return Ok(read);
                }
                Ok(None) if self.rows.is_some() => self.retry.succeeded(),
                Ok(None) => {}
                Err(e) => self.retry.failed(e)?,
            }
        }
    }

    fn position(&self) -> Result<Value> {
        self.position.to_value()
    }

    fn poll_interval_ms(&self) -> u64 {
        self.plan.poll_ms
    }
}

impl SourcePlan {
    /// Where the columns of the order stand in a statement's.
    pub(super) fn key_places(&self) -> Vec<usize> {
        let selected = self.selected();
        self.order.iter().filter_map(|o| selected.iter().position(|c| c.name == o.name)).collect()
    }

    /// The key of a row.
    pub(super) fn key_of(&self, chunk: &Chunk, keys: &[usize], row: usize) -> Result<Vec<KeyValue>, Failure> {
        keys.iter()
            .zip(&self.order)
            .map(|(&k, column)| match key_value(&chunk.columns[k], row) {
                Some(KeyValue::Null) => {
                    let why = chunk.bad.iter().find(|(r, _)| *r == row).map_or("it is null", |(_, why)| why.as_str());
                    Err(Failure::new(
                        Kind::User,
                        format!("a row of {} cannot be told from others by `{}`: {why}", self.what.replace('=', " "), column.name),
                    ))
                }
                Some(value) => Ok(value),
                None => Err(Failure::new(Kind::User, format!("rows cannot be read in the order of `{}` ({})", column.name, column.declared))),
            })
            .collect()
    }

    /// Rows as they were read, in the types of the schema.
    fn rows(&self, mut chunk: Chunk) -> Result<Rows> {
        let mut visible = Vec::with_capacity(self.columns.len());
        for (i, field) in self.schema.fields().iter().enumerate() {
            let (as_asked, misfits) = cast_rows(&chunk.columns[i], field)?;
            chunk.bad.extend(misfits.into_iter().map(|(row, why)| (row, format!("column `{}`: {why}", field.name()))));
            visible.push(as_asked);
        }
        chunk.bad.sort_by_key(|(row, _)| *row);
        chunk.bad.dedup_by_key(|(row, _)| *row);
        Ok(Rows { chunk, visible, at: 0 })
    }

    /// Columns as a batch in which any value may be null.
    fn nullable(&self, columns: &[ArrayRef], rows: usize) -> Result<RecordBatch> {
        let fields: Vec<_> = self.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(arrow::datatypes::Schema::new(fields)), columns.to_vec(), &options).map_err(Error::from)
    }
}

/// A value of a key: text that the database reads back as the same value, where it is neither number nor bytes.
pub(super) fn key_value(array: &ArrayRef, row: usize) -> Option<KeyValue> {
    if array.is_null(row) {
        return Some(KeyValue::Null);
    }
    Some(match array.data_type() {
        DataType::Int16 => KeyValue::Integer(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => KeyValue::Integer(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => KeyValue::Integer(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => KeyValue::RealBits(f64::from(array.as_primitive::<Float32Type>().value(row)).to_bits()),
        DataType::Float64 => KeyValue::RealBits(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Utf8 => KeyValue::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::Binary => KeyValue::Blob(array.as_binary::<i32>().value(row).to_vec()),
        t if t.is_nested() => return None,
        _ => KeyValue::Text(array_value_to_string(array, row).ok()?),
    })
}
