//! The parts of a source: one, or as many as asked for, by ranges of a column.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use karez_core::source::Discovery;
use karez_core::{Result, Split, SplitEnumerator};
use serde_json::Value;

use super::super::keyset::Position;
use super::pool::{Pool, Task};
use super::source::SourcePlan;

/// How long the coordinator waits for the database at a time; and how long it does other things before it waits again.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE_MS: u64 = 200;

pub(super) struct Partitions {
    plan: Arc<SourcePlan>,
    pool: Arc<Pool>,
    /// The smallest and the greatest value of the partition column, being asked for: the coordinator has more to do than to wait for a database.
    bounds: Option<Task<Option<(i64, i64)>>>,
    given: bool,
}

impl Partitions {
    pub(super) const fn new(plan: Arc<SourcePlan>, pool: Arc<Pool>, given: bool) -> Self {
        Self { plan, pool, bounds: None, given }
    }
}

/// The smallest and the greatest value of a column; `None` where there are no rows.
async fn bounds(plan: Arc<SourcePlan>, pool: Arc<Pool>, column: String) -> Result<Option<(i64, i64)>> {
    let column = pool.driver.dialect().quote(&column);
    let sql = &format!("SELECT MIN({column}), MAX({column}) FROM {}", plan.from);
    let rows = pool.call("looking for the parts", |at| async move { at.connect().await?.query(sql).await }).await?;
    let value = |i: usize| rows.first().and_then(|r| r.get(i)?.as_deref()?.parse().ok());
    Ok(value(0).zip(value(1)))
}

/// Where the parts of `first..=last` begin, the first one aside: ascending, without repeats.
fn cuts(first: i64, last: i64, parts: usize) -> Vec<i64> {
    let width = i128::from(last) - i128::from(first) + 1;
    let parts = i128::try_from(parts).unwrap_or(1).min(width);
    (1..parts).filter_map(|i| i64::try_from(i128::from(first) + width * i / parts).ok()).collect()
}

#[async_trait]
impl SplitEnumerator for Partitions {
    async fn discover(&mut self) -> Result<Discovery> {
        if self.given {
            return Ok(Discovery { splits: Vec::new(), done: true });
        }
        let mut cuts = Vec::new();
        if let Some((column, parts)) = &self.plan.parts {
            let asking = self.bounds.get_or_insert_with(|| Task::start(bounds(Arc::clone(&self.plan), Arc::clone(&self.pool), column.name.clone())));
            let Ok(found) = tokio::time::timeout(PATIENCE, asking.done()).await else { return Ok(Discovery { splits: Vec::new(), done: false }) };
            self.bounds = None;
            cuts = found?.map_or_else(Vec::new, |(first, last)| self::cuts(first, last, *parts));
        }
        let mut splits = Vec::new();
        if cuts.is_empty() {
            splits.push(Split { id: "0".to_owned(), position: Value::Null });
        } else {
            // Open at both ends: rows that come meanwhile belong to a part, too.
            let starts = std::iter::once(None).chain(cuts.iter().copied().map(Some));
            let ends = cuts.iter().copied().map(Some).chain(std::iter::once(None));
            for (i, part) in starts.zip(ends).enumerate() {
                splits.push(Split { id: i.to_string(), position: Position { part: Some(part), ..Position::default() }.to_value()? });
            }
        }
        self.given = true;
        Ok(Discovery { splits, done: true })
    }

    fn interval_ms(&self) -> u64 {
        PAUSE_MS
    }

    fn snapshot(&self) -> Result<Value> {
        Ok(Value::Bool(self.given))
    }
}

#[cfg(test)]
mod tests {
    use super::cuts;

    #[test]
    fn parts_are_about_equal_and_never_empty_by_their_numbers() {
        assert_eq!(cuts(1, 100, 4), [26, 51, 76]);
        assert_eq!(cuts(7, 7, 4), [] as [i64; 0]);
        assert_eq!(cuts(1, 3, 10), [2, 3]);
        assert_eq!(cuts(i64::MIN, i64::MAX, 2), [0]);
    }
}
