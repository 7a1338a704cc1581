//! Reads a query without a key: one statement on a thread of its own, a few small batches ahead.
//!
//! Its position is the number of rows read; a restart reads the query again and leaves so many out. Nothing says that they are the same ones, which is
//! why such a source is not replayable.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::source::{ReadLimit, ReaderContext};
use karez_core::{BadRecord, Error, Read, Result, SplitReader};
use rusqlite::Connection;
use serde_json::Value;
use tokio::sync::mpsc;

use super::super::keyset::Position;
use super::connection::{failed, ours};
use super::decode::Page;
use super::source::SourcePlan;

const BATCH_ROWS: usize = 1_024;
const BATCH_BYTES: usize = 1 << 20;

struct Batch {
    rows: RecordBatch,
    bad: Vec<BadRecord>,
    /// Rows of the query in it, good and bad.
    read: u64,
}

pub(super) struct QueryReader {
    batches: mpsc::Receiver<Result<Batch>>,
    /// What a smaller limit left of the last batch.
    rest: Option<RecordBatch>,
    context: ReaderContext,
    position: Position,
}

impl QueryReader {
    pub(super) fn start(
        plan: Arc<SourcePlan>,
        schema: SchemaRef,
        context: ReaderContext,
        connection: Connection,
        position: Position,
    ) -> Result<Self> {
        let (sender, batches) = mpsc::channel(2);
        let (skip, with_origin) = (position.rows, context.with_origin);
        let work = move || {
            if let Err(e) = read(&plan, &schema, with_origin, &connection, skip, &sender) {
                // Nobody listens when the reader is gone.
                let _ = sender.blocking_send(Err(failed("read", &plan.path, e)));
            }
        };
        std::thread::Builder::new().name("karez-jdbc".to_owned()).spawn(work)?;
        Ok(Self { batches, rest: None, context, position })
    }
}

fn read(
    plan: &SourcePlan,
    schema: &SchemaRef,
    with_origin: bool,
    connection: &Connection,
    skip: u64,
    sender: &mpsc::Sender<Result<Batch>>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&plan.select("", 0))?;
    let mut rows = statement.query([])?;
    let mut number = 0;
    let new_page = || Page::new(Arc::clone(schema), with_origin).map_err(|e| ours(Error::internal(e)));
    let send = |page: Page| {
        let read = page.rows() as u64;
        page.finish().map(|(rows, bad)| sender.blocking_send(Ok(Batch { rows, bad, read })).is_ok()).map_err(ours)
    };
    let mut page = new_page()?;
    while let Some(row) = rows.next()? {
        number += 1;
        if number <= skip {
            continue;
        }
        page.push(row, || format!("{} row={number}", plan.what))?;
        let full = page.rows() == BATCH_ROWS || page.bytes >= BATCH_BYTES;
        if full && !send(std::mem::replace(&mut page, new_page()?))? {
            return Ok(());
        }
    }
    if page.rows() > 0 {
        send(page)?;
    }
    Ok(())
}

#[async_trait]
impl SplitReader for QueryReader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Read> {
        let (rows, bad, mut read) = match self.rest.take() {
            Some(rest) => {
                let read = rest.num_rows() as u64;
                (rest, Vec::new(), read)
            }
            None => match self.batches.recv().await {
                None => return Ok(Read::End),
                Some(batch) => {
                    let Batch { rows, bad, read } = batch?;
                    (rows, bad, read)
                }
            },
        };
        let taken = limit.rows.max(1).min(rows.num_rows());
        if taken < rows.num_rows() {
            let rest = rows.slice(taken, rows.num_rows() - taken);
            read -= rest.num_rows() as u64;
            self.rest = Some(rest);
        }
        self.position.rows += read;
        let batch = rows.slice(0, taken);
        self.context.metrics.bytes_in.add(karez_core::schema::batch_bytes(&batch) as u64);
        Ok(Read::Rows { batch, bad })
    }

    fn position(&self) -> Result<Value> {
        self.position.to_value()
    }
}
