//! `collect`: an exactly-once sink that collects rows, in the order of their commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::config::{self, ConfigError, ConfigErrors};
use karez_core::schema::change_kinds;
use karez_core::sink::{CommitPermit, SinkGuarantee, SinkRunContext, WriterContext};
use karez_core::{
    ChangeKind, CommitOutcome, Committable, Committer, Connector, Epoch, Error, Result, Sink, SinkContext, SinkWriter, Source, SourceContext,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::plan::SinkPlan;
use super::value::{Column, Value, values};
use super::world::World;

/// A row, and whether it is taken back.
type Change = (Vec<Value>, bool);

/// Where the rows of one sink are.
pub struct Store {
    columns: Vec<Column>,
    changes: Mutex<Vec<Change>>,
    /// What has been committed: each committable has a number of its own.
    applied: Mutex<BTreeSet<u64>>,
    numbers: AtomicU64,
}

impl Store {
    pub fn new(plan: &SinkPlan) -> Self {
        Self { columns: plan.columns.clone(), changes: Mutex::default(), applied: Mutex::default(), numbers: AtomicU64::new(0) }
    }

    /// The rows that stand at the end, sorted, and how many were taken back. Fails where a row is taken back that is not there: changes of one row came in
    /// the wrong order.
    pub fn table(&self) -> Result<(Vec<Vec<Value>>, usize), String> {
        let mut counts: BTreeMap<&[Value], usize> = BTreeMap::new();
        let changes = self.changes.lock().unwrap();
        let mut retractions = 0;
        for (row, taken_back) in changes.iter() {
            let count = counts.entry(row).or_default();
            if *taken_back {
                retractions += 1;
                *count = count.checked_sub(1).ok_or_else(|| format!("{row:?} is taken back and is not there"))?;
            } else {
                *count += 1;
            }
        }
        let rows = counts.into_iter().flat_map(|(row, n)| std::iter::repeat_n(row.to_vec(), n));
        Ok((rows.collect(), retractions))
    }
}

pub struct Collect(pub Arc<World>);

/// Which of the plan's sinks.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    sink: usize,
}

impl Connector for Collect {
    fn name(&self) -> &'static str {
        "collect"
    }
    fn description(&self) -> &'static str {
        "Collects the rows of a plan."
    }
    fn sink_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(Options))
    }
    fn source(&self, _: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
        Err(ConfigError::new("connector", "there is no source").into())
    }
    fn sink(&self, context: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
        let Options { sink } = config::parse(context.config)?;
        let plan = &self.0.plan.sinks[sink];
        let key = if plan.keyed { context.input.key.clone() } else { Vec::new() };
        Ok(Arc::new(Collecting { world: Arc::clone(&self.0), store: Arc::clone(&self.0.stores[&plan.name]), key, slow: plan.slow }))
    }
}

#[derive(Clone)]
struct Collecting {
    world: Arc<World>,
    store: Arc<Store>,
    key: Vec<String>,
    slow: bool,
}

#[async_trait]
impl Sink for Collecting {
    fn guarantee(&self) -> SinkGuarantee {
        SinkGuarantee::Transactional
    }
    fn key(&self) -> Vec<String> {
        self.key.clone()
    }
    fn accepts_changelog(&self) -> bool {
        true
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
    async fn writer(&self, _: WriterContext, _: Vec<Json>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer { store: Arc::clone(&self.store), slow: self.slow, pending: Vec::new() }))
    }
    async fn committer(&self, _: &SinkRunContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(Some(Box::new(self.clone())))
    }
}

struct Writer {
    store: Arc<Store>,
    slow: bool,
    pending: Vec<Change>,
}

#[async_trait]
impl SinkWriter for Writer {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if self.slow {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let kinds = change_kinds(&batch);
        for (row, values) in values(&batch, &self.store.columns).into_iter().enumerate() {
            let kind = kinds.map_or(Ok(ChangeKind::Insert), |k| ChangeKind::from_i8(k.value(row)))?;
            self.pending.push((values, kind.is_retraction()));
        }
        Ok(())
    }
    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    async fn prepare_commit(&mut self, _: Epoch, _: bool) -> Result<Vec<Json>> {
        let pending = std::mem::take(&mut self.pending);
        let number = self.store.numbers.fetch_add(1, SeqCst);
        Ok(if pending.is_empty() { Vec::new() } else { vec![json!({ "number": number, "changes": pending })] })
    }
}

#[async_trait]
impl Committer for Collecting {
    async fn commit(&mut self, permit: &CommitPermit, committables: &[Committable]) -> Result<Vec<CommitOutcome>> {
        let mut outcomes = Vec::new();
        for committable in committables {
            assert!(committable.epoch <= permit.epoch(), "a commit without permit");
            if !self.store.applied.lock().unwrap().insert(committable.payload["number"].as_u64().unwrap()) {
                outcomes.push(CommitOutcome::AlreadyCommitted);
                continue;
            }
            let mut changes: Vec<Change> = serde_json::from_value(committable.payload["changes"].clone()).unwrap();
            self.store.changes.lock().unwrap().append(&mut changes);
            outcomes.push(CommitOutcome::Committed);
        }
        if self.world.lost_answers.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(Error::external("the answer was lost"));
        }
        Ok(outcomes)
    }
}
