//! Reads rows from a position on, statement by statement, in a task of its own that keeps a few chunks ahead.

use std::sync::Arc;

use karez_core::Result;
use tokio::sync::mpsc;

use super::super::dialect::Dialect;
use super::super::keyset::KeyValue;
use super::driver::{Candidate, Chunk, Driver, Select};
use super::failure::Failure;
use super::pool::{Attempt, Pool, Task};
use super::source::SourcePlan;
use super::table::Column;

/// Chunks that wait to be taken.
const AHEAD: usize = 2;

/// Where a scan begins and ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Range {
    /// Behind the row of this key.
    pub(super) after: Option<Vec<KeyValue>>,
    /// At this value of the order's first column, where nothing is said about `after`.
    pub(super) from: Option<KeyValue>,
    /// Part of a table by its partition column.
    pub(super) part: Option<(Option<i64>, Option<i64>)>,
    /// What the order's first column must not pass.
    pub(super) bound: Option<Candidate>,
}

/// A scan under way. Dropping it ends the statement.
pub(super) struct Scan {
    chunks: mpsc::Receiver<Chunk>,
    task: Task<()>,
}

impl Scan {
    pub(super) fn start(plan: Arc<SourcePlan>, pool: Arc<Pool>, range: Range) -> Self {
        let (sender, chunks) = mpsc::channel(AHEAD);
        Self { chunks, task: Task::start(scan(plan, pool, range, sender)) }
    }

    /// The next rows; `None` at the end. After an error the scan is over: the next begins behind the rows that were taken. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>> {
        match self.chunks.recv().await {
            Some(chunk) => Ok(Some(chunk)),
            None => self.task.done().await.map(|()| None),
        }
    }
}

async fn scan(plan: Arc<SourcePlan>, pool: Arc<Pool>, mut range: Range, out: mpsc::Sender<Chunk>) -> Result<()> {
    loop {
        let select = plan.select(pool.driver.as_ref(), &conditions(&plan, pool.driver.as_ref(), &range), plan.fetch);
        let (rows, last) = pool.once("reading rows", |at| page(at, &plan, &select, &out)).await?;
        match (plan.fetch, last) {
            (Some(fetch), Some(last)) if rows >= fetch && !out.is_closed() => range.after = Some(last),
            _ => return Ok(()),
        }
    }
}

/// The rows of one statement: how many there were, and the key of the last.
async fn page(at: Attempt, plan: &SourcePlan, select: &Select, out: &mpsc::Sender<Chunk>) -> Result<(usize, Option<Vec<KeyValue>>), Failure> {
    let mut session = at.connect().await?;
    let keys = plan.key_places();
    let (sender, mut chunks) = mpsc::channel::<Chunk>(1);
    let read = async {
        let result = session.read(select, &sender).await;
        drop(sender);
        result
    };
    let forward = async {
        let mut rows = 0;
        let mut last = None;
        while let Some(chunk) = chunks.recv().await {
            rows += chunk.rows;
            if let Some(row) = chunk.rows.checked_sub(1) {
                last = Some(plan.key_of(&chunk, &keys, row));
            }
            if at.hold(out.send(chunk)).await.is_err() {
                break;
            }
        }
        (rows, last)
    };
    let (result, (rows, last)) = tokio::join!(read, forward);
    result?;
    Ok((rows, last.transpose()?))
}

/// The rows of a range.
fn conditions(plan: &SourcePlan, driver: &dyn Driver, range: &Range) -> Vec<String> {
    let dialect = driver.dialect();
    let mut conditions = Vec::new();
    if let Some((from, to)) = &range.part
        && let Some((column, _)) = &plan.parts
    {
        let column = dialect.quote(&column.name);
        conditions.extend(from.map(|v| format!("{column} >= {v}")));
        conditions.extend(to.map(|v| format!("{column} < {v}")));
    }
    if let Some(after) = &range.after {
        let columns = dialect.list(&mut plan.order.iter().map(|c| c.name.as_str()));
        let values: Vec<String> = plan.order.iter().zip(after).map(|(c, v)| literal(dialect, c, v)).collect();
        // The first column alone says it, too, in a way that every planner turns into the start of an index scan.
        if plan.order.len() > 1 {
            conditions.push(format!("{} >= {}", dialect.quote(&plan.order[0].name), values[0]));
        }
        conditions.push(format!("({columns}) > ({})", values.join(", ")));
    } else if let (Some(from), Some(first)) = (&range.from, plan.order.first()) {
        conditions.push(format!("{} >= {}", dialect.quote(&first.name), literal(dialect, first, from)));
    }
    if let (Some(Candidate { bound, inclusive, .. }), Some(first)) = (&range.bound, plan.order.first()) {
        conditions.push(format!("{} {} {bound}", dialect.quote(&first.name), if *inclusive { "<=" } else { "<" }));
    }
    if plan.grows {
        conditions.extend(plan.order.iter().filter(|c| !c.not_null).map(|c| format!("{} IS NOT NULL", dialect.quote(&c.name))));
    }
    conditions
}

/// A key's value in SQL, of the type of its column.
pub(in super::super) fn literal(dialect: &dyn Dialect, column: &Column, value: &KeyValue) -> String {
    match value {
        KeyValue::Null => "NULL".to_owned(),
        KeyValue::Integer(i) => i.to_string(),
        KeyValue::RealBits(r) => dialect.typed(&dialect.literal(&format!("{:?}", f64::from_bits(*r))), &column.declared),
        KeyValue::Text(t) => dialect.typed(&dialect.literal(t), &column.declared),
        KeyValue::Blob(b) => dialect.bytes_literal(b),
    }
}
