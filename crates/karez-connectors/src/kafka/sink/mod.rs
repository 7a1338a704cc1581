//! The sink: checks topic and time-outs, ends what former starts left, makes writers and the one committer.
//!
//! ```text
//!  rows ─► encoders (key, value) ─► partitioner ─► open batch per partition ─► sender ─► Produce
//!                                                     linger, batch size         one batch a partition on its way
//! ```
//! The client's own producer is not used: it pays per record, and keeps producer id, epoch and sequence numbers, which transactions that another process
//! ends are made of, to itself. Connections (TLS, SASL), metadata and messages are the client's.

mod compression;
mod open_transaction;
mod options;
mod partition_queue;
mod partitioner;
mod plan;
mod produce;
mod record_batch;
mod report;
mod rows;
mod sender;
mod settings;
mod split;
mod topics;
mod verdict;
mod writer;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use karez_core::config::ConfigErrors;
use karez_core::sink::{CheckpointTiming, SinkGuarantee, SinkRunContext, WriterContext};
use karez_core::{Committable, Committer, Error, Result, Sink, SinkContext, SinkWriter};
use karez_external::ClientMeter;
use krafka::Kafka;
use serde_json::Value;

pub use compression::Codec;
pub use options::{AcksOption, Guarantee, KafkaSinkOptions, KeyOption, KeyOptions};

use super::client::SharedClient;
use super::rights::{self, Right};
use super::transaction::{Coordinators, Ledger, Prepared, SinkName, TransactionCommitter, UsedIds, abort, fence, timeout};
use open_transaction::Transactions;
use plan::{SinkPlan, TopicPlan};
use produce::Wire;
use topics::{Patience, Topics, missing};
use writer::Writer;

/// How long a check waits for the topic's partitions.
const CHECK_PATIENCE: Duration = Duration::from_secs(3);

/// Validates the options of a sink against the rows it will get.
pub(super) fn plan(context: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
    Ok(Arc::new(KafkaSink {
        plan: Arc::new(SinkPlan::new(context)?),
        client: SharedClient::default(),
        ledger: Arc::default(),
        timeout: Mutex::new(timeout::DEFAULT),
        timing: Mutex::new(None),
    }))
}

#[derive(Debug)]
struct KafkaSink {
    plan: Arc<SinkPlan>,
    client: SharedClient,
    ledger: Arc<Ledger>,
    /// Of transactions, as agreed with the broker.
    timeout: Mutex<Duration>,
    timing: Mutex<Option<CheckpointTiming>>,
}

impl KafkaSink {
    async fn kafka(&self) -> Result<Arc<Kafka>> {
        self.client.get(&self.plan.client, "write to Kafka").await
    }

    fn coordinators(&self, kafka: &Arc<Kafka>) -> Arc<Coordinators> {
        Arc::new(Coordinators::new(Arc::clone(kafka), self.plan.settings.max_block, self.plan.client.retry.clone(), self.client.meter(kafka)))
    }

    fn name(&self, context: &SinkRunContext) -> SinkName {
        SinkName::new(self.plan.transactional_id_prefix.as_deref(), context)
    }

    async fn check_topic(&self, kafka: &Arc<Kafka>) -> Result<()> {
        let TopicPlan::Fixed(name) = &self.plan.topic else { return Ok(()) };
        let mut topics = Topics::new(Arc::clone(kafka), 0);
        topics.find(&[name], Patience { unknown: CHECK_PATIENCE, away: CHECK_PATIENCE }).await?;
        if topics.position(name).is_none() {
            return Err(Error::user(format!("{}; create it before the job starts", missing(name))));
        }
        rights::require(kafka, Right::Write, [&**name]).await
    }

    /// The transactions' time-out, compared with the broker's and with the job's checkpoints.
    async fn agree_on_timeout(&self, kafka: &Arc<Kafka>) -> Result<Duration> {
        let agreed = timeout::agree(kafka, self.plan.settings.transaction_timeout).await?;
        if let Some(timing) = *self.timing.lock().unwrap_or_else(PoisonError::into_inner) {
            timeout::check(agreed, &timing)?;
            timeout::advise(agreed, &timing);
        }
        *self.timeout.lock().unwrap_or_else(PoisonError::into_inner) = agreed;
        Ok(agreed)
    }
}

#[async_trait]
impl Sink for KafkaSink {
    fn guarantee(&self) -> SinkGuarantee {
        if self.plan.transactional { SinkGuarantee::Transactional } else { SinkGuarantee::AtLeastOnce }
    }

    fn key(&self) -> Vec<String> {
        // Rows that are only added need no exchange: the broker's partitions keep each subtask's order.
        if self.plan.changelog { self.plan.key_names.clone() } else { Vec::new() }
    }

    fn accepts_changelog(&self) -> bool {
        !self.plan.key_names.is_empty()
    }

    fn checkpoints(&self, timing: CheckpointTiming) -> Result<()> {
        *self.timing.lock().unwrap_or_else(PoisonError::into_inner) = Some(timing);
        match self.plan.settings.transaction_timeout {
            Some(timeout) if self.plan.transactional => timeout::check(timeout, &timing),
            _ => Ok(()),
        }
    }

    async fn check(&self) -> Result<()> {
        let kafka = self.kafka().await?;
        self.check_topic(&kafka).await?;
        self.plan.check_registry().await?;
        if self.plan.transactional {
            self.agree_on_timeout(&kafka).await?;
        }
        Ok(())
    }

    async fn prepare_restored(&self, context: &SinkRunContext, committed: &[Committable], states: &[Value]) -> Result<()> {
        let kafka = self.kafka().await?;
        self.check_topic(&kafka).await?;
        if !self.plan.transactional && states.is_empty() {
            return Ok(());
        }
        let timeout = if self.plan.transactional { self.agree_on_timeout(&kafka).await? } else { timeout::DEFAULT };
        let used = states.iter().map(UsedIds::parse).collect::<Result<Vec<_>>>()?;
        let named = committed.iter().map(|c| Ok((Prepared::parse(&c.payload)?, c.epoch))).collect::<Result<Vec<_>>>()?;
        let keep: BTreeSet<&str> = named.iter().map(|(p, _)| p.identity.transactional_id.as_str()).collect();
        fence(&kafka, &self.coordinators(&kafka), &self.name(context), &used, &keep, timeout).await?;
        self.ledger.reset(named.iter().map(|(p, epoch)| (p.identity.transactional_id.as_str(), *epoch)));
        Ok(())
    }

    async fn writer(&self, context: WriterContext, _: Vec<Value>) -> Result<Box<dyn SinkWriter>> {
        let kafka = self.kafka().await?;
        let coordinators = self.coordinators(&kafka);
        let transactions = self.plan.transactional.then(|| {
            let timeout = *self.timeout.lock().unwrap_or_else(PoisonError::into_inner);
            let base = self.name(&context.run).base(&context.run, context.subtask);
            Transactions::new(Arc::clone(&coordinators), Arc::clone(&self.ledger), base, timeout)
        });
        let meter = self.client.meter(&kafka);
        meter.get_or_init(|| ClientMeter::new(Arc::clone(&context.metrics)));
        let wire = Wire { kafka, coordinators, meter, acks: self.plan.settings.acks.code(), request_timeout: self.plan.client.request_timeout };
        Ok(Box::new(Writer::new(Arc::clone(&self.plan), context, wire, transactions).await?))
    }

    async fn cancelled(&self, named: &[Committable]) -> Result<()> {
        let mut busy = self.ledger.busy();
        for committable in named {
            busy.remove(&Prepared::parse(&committable.payload)?.identity.transactional_id);
        }
        if busy.is_empty() {
            return Ok(());
        }
        let kafka = self.kafka().await?;
        let timeout = *self.timeout.lock().unwrap_or_else(PoisonError::into_inner);
        abort(&self.coordinators(&kafka), busy, timeout).await
    }

    async fn committer(&self, _: &SinkRunContext) -> Result<Option<Box<dyn Committer>>> {
        // Also for a job that has been changed to at-least-once: its last checkpoint may wait for commits.
        let kafka = self.kafka().await?;
        let coordinators = self.coordinators(&kafka);
        Ok(Some(Box::new(TransactionCommitter::new(kafka, coordinators, Arc::clone(&self.ledger)))))
    }
}
