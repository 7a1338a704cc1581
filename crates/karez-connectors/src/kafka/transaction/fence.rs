//! Recovery, after what the manifest names has been committed: no other transaction of this sink may stay open, and nobody may go on writing in one.
//!
//! Two lists say which ids there are. What the writers noted in the restored checkpoint is fenced whatever its state, also for subtasks that there are none
//! of any more (a former higher parallelism). And the brokers list the open transactions of this sink, of whatever run: those begun after the checkpoint,
//! those of a run that was cancelled or killed and is not resumed (`--fresh`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use karez_core::{Error, Result};
use krafka::Kafka;
use krafka::admin::ListTransactionsOptions;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::coordinator::Coordinators;
use super::id::{Base, SinkName};
use crate::kafka::client::client_error;

/// Requests under way at once.
const CONCURRENCY: usize = 16;

/// What a writer notes in each checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::kafka) struct UsedIds {
    base: String,
    /// Ids with lower numbers have been used, or may be until the next checkpoint.
    count: usize,
}

impl UsedIds {
    pub(in crate::kafka) fn new(base: &Base, count: usize) -> Self {
        Self { base: base.as_str().to_owned(), count }
    }

    pub(in crate::kafka) fn parse(state: &Value) -> Result<Self> {
        Self::deserialize(state).map_err(|e| Error::internal("the state of a Kafka writer in a checkpoint").caused_by(e))
    }

    pub(in crate::kafka) fn state(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|e| Error::internal("the state of a Kafka writer as JSON").caused_by(e))
    }

    fn ids(&self) -> impl Iterator<Item = String> {
        let base = Base::restored(&self.base);
        (0..self.count).map(move |n| base.id(n))
    }
}

/// Aborts every transaction of the sink but those of the ids in `keep`, and fences whoever may still hold one.
pub(in crate::kafka) async fn fence(
    kafka: &Arc<Kafka>,
    coordinators: &Coordinators,
    name: &SinkName,
    used: &[UsedIds],
    keep: &BTreeSet<&str>,
    timeout: Duration,
) -> Result<()> {
    let mut ids: BTreeSet<String> = used.iter().flat_map(UsedIds::ids).collect();
    for id in open(kafka, name).await? {
        if !keep.contains(id.as_str()) && ids.insert(id.clone()) {
            tracing::warn!(transaction = %id, "aborts a transaction that an earlier run of this job, or one that failed, has left open");
        }
    }
    ids.retain(|id| !keep.contains(id.as_str()));
    abort(coordinators, ids, timeout).await
}

/// Aborts what is open under these ids, and fences whoever may still hold them.
pub(in crate::kafka) async fn abort(coordinators: &Coordinators, ids: BTreeSet<String>, timeout: Duration) -> Result<()> {
    futures::stream::iter(ids)
        .map(|id| async move {
            let refused = |r: super::coordinator::Refusal| r.error(&format!("abort what is left of transaction `{id}`"));
            coordinators.init(&id, timeout).await.map(drop).map_err(refused)
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await
}

/// The open transactions of a sink.
async fn open(kafka: &Kafka, name: &SinkName) -> Result<Vec<String>> {
    let doing = "list the open transactions of this sink";
    let options = ListTransactionsOptions::default().states(vec!["Ongoing".to_owned()]);
    let listed = kafka.admin().list_transactions(options).await.map_err(|e| client_error(doing, e))?;
    let mut open = Vec::new();
    for (broker, transactions) in listed {
        let transactions = transactions.map_err(|e| client_error(&format!("{doing} at broker {broker}"), e))?;
        open.extend(transactions.into_iter().map(|t| t.transactional_id).filter(|id| name.owns(id)));
    }
    Ok(open)
}
