//! Reads rows in the order of their key, a page at a time: each page is one short statement that begins behind the last key, so no transaction stays
//! open, and the position is the key.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use karez_core::operator::MAX_BATCH_ROWS;
use karez_core::source::{ReadLimit, ReaderContext};
use karez_core::{BadRecord, Error, Read, Result, SplitReader};
use rusqlite::{Connection, Row, params_from_iter};
use serde_json::Value;

use super::super::keyset::{KeyValue, Position};
use super::apply::{bound, key_value};
use super::connection::{blocking, failed, ours};
use super::decode::{self, Page};
use super::source::SourcePlan;

pub(super) struct PageReader {
    plan: Arc<SourcePlan>,
    schema: SchemaRef,
    context: ReaderContext,
    connection: Arc<Mutex<Connection>>,
    position: Position,
}

/// A page as read.
struct Fetched {
    batch: arrow::record_batch::RecordBatch,
    bad: Vec<BadRecord>,
    position: Position,
    /// Nothing follows at present.
    exhausted: bool,
    bytes: usize,
}

impl PageReader {
    pub(super) fn new(plan: Arc<SourcePlan>, schema: SchemaRef, context: ReaderContext, connection: Connection, position: Position) -> Self {
        Self { plan, schema, context, connection: Arc::new(Mutex::new(connection)), position }
    }

    async fn fetch(&self, limit: ReadLimit, position: Position) -> Result<Fetched> {
        let (plan, schema, connection) = (Arc::clone(&self.plan), Arc::clone(&self.schema), Arc::clone(&self.connection));
        let with_origin = self.context.with_origin;
        let now_ms = self.context.clock.now_ms();
        blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            fetch(&plan, schema, with_origin, &connection, limit, position, now_ms).map_err(|e| failed("read", &plan.path, e))
        })
        .await
    }
}

fn fetch(
    plan: &SourcePlan,
    schema: SchemaRef,
    with_origin: bool,
    connection: &Connection,
    limit: ReadLimit,
    mut position: Position,
    now_ms: i64,
) -> rusqlite::Result<Fetched> {
    let rows_limit = limit.rows.clamp(1, MAX_BATCH_ROWS);
    let mut page = Page::new(schema, with_origin).map_err(|e| ours(Error::internal(e)))?;
    let (condition, values) = condition(plan, &position);
    let mut statement = connection.prepare_cached(&plan.select(&condition, rows_limit))?;
    let mut rows = statement.query(params_from_iter(values))?;
    let first_key = statement_width(plan);
    let mut exhausted = true;
    let mut read = 0;
    while let Some(row) = rows.next()? {
        let key = key(row, first_key, plan.order.len())?;
        if plan.visibility_delay_ms > 0 && is_young(row.get_ref(first_key)?, now_ms.saturating_sub(plan.visibility_delay_ms)) {
            break;
        }
        read += 1;
        if !plan.looks_again || position.is_new(&key).map_err(ours)? {
            page.push(row, || format!("{} {}={}", plan.what, plan.order_name, key.last().map(ToString::to_string).unwrap_or_default()))?;
        }
        position.after = Some(key);
        if page.bytes >= limit.bytes || read == rows_limit {
            exhausted = false;
            break;
        }
    }
    if exhausted && plan.looks_again {
        // The next scan begins at the latest instant.
        position.after = None;
    }
    let bytes = page.bytes;
    let (batch, bad) = page.finish().map_err(ours)?;
    Ok(Fetched { batch, bad, position, exhausted, bytes })
}

/// Where the key begins in a row.
fn statement_width(plan: &SourcePlan) -> usize {
    plan.schema.fields().len()
}

fn key(row: &Row<'_>, first: usize, width: usize) -> rusqlite::Result<Vec<KeyValue>> {
    (first..first + width).map(|i| Ok(key_value(row.get_ref(i)?))).collect()
}

fn is_young(value: rusqlite::types::ValueRef<'_>, visible_ms: i64) -> bool {
    decode::instant_ms(value).is_some_and(|at| at > visible_ms)
}

/// The rows behind a position.
fn condition(plan: &SourcePlan, position: &Position) -> (String, Vec<rusqlite::types::Value>) {
    let mut conditions = Vec::new();
    let mut values = Vec::new();
    if let Some(after) = &position.after {
        let places = vec!["?"; after.len()].join(", ");
        conditions.push(format!("({}) > ({places})", plan.order.join(", ")));
        values.extend(after.iter().map(bound));
    } else if let Some(latest) = &position.latest {
        conditions.push(format!("{} >= ?", plan.order[0]));
        values.push(bound(&latest.instant));
    }
    if plan.skips_null {
        conditions.extend(plan.order.iter().map(|c| format!("{c} IS NOT NULL")));
    }
    (conditions.join(" AND "), values)
}

#[async_trait]
impl SplitReader for PageReader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Read> {
        let mut position = self.position.clone();
        loop {
            let fetched = self.fetch(limit, position).await?;
            if fetched.batch.num_rows() > 0 || !fetched.bad.is_empty() {
                self.context.metrics.bytes_in.add(fetched.bytes as u64);
                self.position = fetched.position;
                return Ok(Read::Rows { batch: fetched.batch, bad: fetched.bad });
            }
            if fetched.exhausted {
                self.position = fetched.position;
                return Ok(if self.plan.bounded { Read::End } else { Read::Nothing });
            }
            position = fetched.position;
        }
    }

    fn position(&self) -> Result<Value> {
        self.position.to_value()
    }

    fn poll_interval_ms(&self) -> u64 {
        self.plan.poll_ms
    }
}
