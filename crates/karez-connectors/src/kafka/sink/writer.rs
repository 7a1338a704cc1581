//! Encodes rows into the batches of their partitions, and hands those to the sender.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use karez_core::dead_letter::row_record;
use karez_core::schema::{CHANGE_COLUMN, change_kinds, visible_batch};
use karez_core::sink::WriterContext;
use karez_core::{BadRecord, ChangeKind, Epoch, Error, Result, SinkWriter};
use karez_formats::message::{MessageEncoder, Outcome, Payloads};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::open_transaction::{OpenTransaction, Transactions};
use super::partition_queue::Waiting;
use super::partitioner;
use super::plan::{Encoders, Encoding, SinkPlan, TopicPlan, check_topic};
use super::produce::{Addressed, Wire};
use super::record_batch::{HEADER_BYTES, HeaderBytes, OpenBatch, Record, SealedBatch};
use super::report::{Report, Settled};
use super::rows::Rows;
use super::sender::{Command, Sender, SenderSettings};
use super::topics::{Patience, Topics, missing};
use super::verdict::Mode;
use crate::point::point;

/// How long the rows of a batch wait for topics that their column names and that nobody has seen yet.
const NEW_TOPIC: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    plan: Arc<SinkPlan>,
    context: WriterContext,
    values: Box<dyn MessageEncoder>,
    keys: Option<Box<dyn MessageEncoder>>,
    payloads: Payloads,
    key_payloads: Payloads,
    topics: Topics,
    sender: mpsc::UnboundedSender<Command>,
    task: Option<tokio::task::JoinHandle<()>>,
    report: Arc<Report>,
    memory: Arc<Semaphore>,
    /// Sealed, not handed over yet.
    sealed: VecDeque<Addressed<SealedBatch>>,
    /// When the oldest open batch must be sent.
    due_ms: Option<i64>,
    rejects: Vec<BadRecord>,
    transactions: Option<Transactions>,
    open: Option<OpenTransaction>,
}

/// Where a row goes.
enum Place {
    /// The topic's position, and the partition.
    At(usize, i32),
    Nowhere(String),
}

impl Writer {
    pub(super) async fn new(plan: Arc<SinkPlan>, context: WriterContext, wire: Wire, transactions: Option<Transactions>) -> Result<Self> {
        let Encoders { values, keys } = plan.encoders(&context.metrics).await?;
        let settings = &plan.settings;
        let mode = match (plan.transactional, settings.idempotent) {
            (true, _) => Mode::Transactional,
            (false, true) => Mode::Idempotent,
            (false, false) => Mode::Plain,
        };
        let sender_settings = SenderSettings {
            mode,
            max_request_bytes: settings.max_request_bytes,
            delivery_timeout: settings.delivery_timeout,
            compression: settings.compression,
            retry: plan.client.retry.clone(),
        };
        let report = Arc::new(Report::default());
        let topics = Topics::new(Arc::clone(&wire.kafka), context.subtask);
        let (sender, commands) = mpsc::unbounded_channel();
        let task = Sender::new(sender_settings, Arc::new(wire), Arc::clone(&report), Arc::clone(&context.metrics)).run(commands);
        Ok(Self {
            values,
            keys,
            memory: Arc::new(Semaphore::new(settings.buffer_bytes.min(Semaphore::MAX_PERMITS))),
            plan,
            context,
            payloads: Payloads::default(),
            key_payloads: Payloads::default(),
            topics,
            sender,
            task: Some(tokio::spawn(task)),
            report,
            sealed: VecDeque::new(),
            due_ms: None,
            rejects: Vec::new(),
            transactions,
            open: None,
        })
    }

    /// The topics that a batch goes to; for each row the position of its own, or why it has none. Of a fixed topic one answer for all rows.
    async fn find_topics(&mut self, rows: &Rows, count: usize) -> Result<Vec<Result<usize, String>>> {
        let away = self.plan.settings.max_block;
        let prefix = match &self.plan.topic {
            TopicPlan::Fixed(name) => {
                self.topics.find(&[name], Patience { unknown: away, away }).await?;
                let at = self.topics.position(name).ok_or_else(|| Error::user(format!("{}; create it, or let the brokers do so", missing(name))))?;
                return Ok(vec![Ok(at)]);
            }
            TopicPlan::Column { prefix, .. } => prefix,
        };
        let mut names: HashMap<&str, Result<String, String>> = HashMap::new();
        for text in (0..count).filter_map(|row| rows.topic(row)) {
            names.entry(text).or_insert_with(|| {
                let name = format!("{prefix}{text}");
                check_topic(&name).map(|()| name)
            });
        }
        let valid: Vec<&str> = names.values().filter_map(|name| name.as_deref().ok()).collect();
        self.topics.find(&valid, Patience { unknown: NEW_TOPIC, away }).await?;
        let found = (0..count).map(|row| match rows.topic(row).and_then(|text| names.get(text)) {
            None => Err("the row names no topic".to_owned()),
            Some(Err(why)) => Err(why.clone()),
            Some(Ok(name)) => self.topics.position(name).ok_or_else(|| missing(name)),
        });
        Ok(found.collect())
    }

    /// Puts every row into the batch of its partition.
    fn take_rows(&mut self, batch: &RecordBatch, rows: &Rows, topics: &[Result<usize, String>]) -> Result<()> {
        let now_ms = self.context.clock.now_ms();
        let (mut scratch, mut header_bytes) = (HeaderBytes::new(), Vec::new());
        let superseded = self.superseded(batch)?;
        let (payloads, key_payloads) = (std::mem::take(&mut self.payloads), std::mem::take(&mut self.key_payloads));
        for (row, outcome) in payloads.outcomes().iter().enumerate() {
            let key = match self.keys.is_some().then(|| &key_payloads.outcomes()[row]) {
                Some(Outcome::Rejected(why)) => {
                    self.rejects.push(row_record(batch, row, format!("key: {why}"))?);
                    continue;
                }
                Some(_) => key_payloads.get(row),
                None => None,
            };
            let value = match outcome {
                Outcome::Payload(_) => payloads.get(row),
                Outcome::Tombstone => None,
                // The row before an update: its key is gone unless the row behind it has the same.
                Outcome::Nothing if superseded.as_ref().is_none_or(|s| s[row]) => continue,
                Outcome::Nothing => None,
                Outcome::Rejected(why) => {
                    self.rejects.push(row_record(batch, row, why)?);
                    continue;
                }
            };
            if value.is_none() && key.is_none() && self.plan.changelog {
                self.rejects.push(row_record(batch, row, "a delete needs a key, and the key of this row is null")?);
                continue;
            }
            let topic = topics.get(row).or(topics.first()).map_or_else(|| Err(String::new()), Clone::clone);
            let (topic, partition) = match self.place(topic, rows.partition(row), key) {
                Place::At(topic, partition) => (topic, partition),
                Place::Nowhere(why) => {
                    self.rejects.push(row_record(batch, row, why)?);
                    continue;
                }
            };
            let headers = rows.headers(row, &mut scratch, &mut header_bytes);
            let record = Record { key, value, headers, timestamp_ms: rows.timestamp_ms(row).unwrap_or(now_ms) };
            let cost = OpenBatch::cost(record);
            if cost + HEADER_BYTES > self.plan.settings.max_request_bytes {
                let limit = self.plan.settings.max_request_bytes;
                self.rejects.push(row_record(batch, row, format!("the message has {cost} bytes, more than `maxRequestSize` ({limit})"))?);
                continue;
            }
            self.push(topic, partition, record, cost)?;
        }
        (self.payloads, self.key_payloads) = (payloads, key_payloads);
        Ok(())
    }

    /// For a changelog: whether a later row of the batch has the same key. `None`: no row stands before an update.
    fn superseded(&self, batch: &RecordBatch) -> Result<Option<Vec<bool>>> {
        let Some(kinds) = change_kinds(batch).filter(|k| k.values().contains(&(ChangeKind::UpdateBefore as i8))) else { return Ok(None) };
        let mut behind: HashSet<Option<&[u8]>> = HashSet::new();
        let mut superseded = vec![true; kinds.len()];
        for row in (0..kinds.len()).rev() {
            let key = self.key_payloads.get(row);
            if ChangeKind::from_i8(kinds.value(row))? == ChangeKind::UpdateBefore {
                superseded[row] = behind.contains(&key);
            } else {
                behind.insert(key);
            }
        }
        Ok(Some(superseded))
    }

    fn place(&mut self, topic: Result<usize, String>, given: Option<i64>, key: Option<&[u8]>) -> Place {
        let at = match topic {
            Ok(at) => at,
            Err(why) => return Place::Nowhere(why),
        };
        let Some(topic) = self.topics.get(at) else { return Place::Nowhere("the topic is not known".to_owned()) };
        let partitions = topic.partitions();
        match (given, key) {
            (Some(given), _) => match i32::try_from(given).ok().filter(|p| (0..partitions).contains(p)) {
                Some(partition) => Place::At(at, partition),
                None => Place::Nowhere(format!("topic `{}` has no partition {given}, only 0 to {}", topic.name, partitions - 1)),
            },
            (None, Some(key)) => Place::At(at, partitioner::of_key(key, partitions)),
            (None, None) => Place::At(at, topic.sticky.partition(partitions)),
        }
    }

    fn push(&mut self, topic: usize, partition: i32, record: Record<'_>, cost: usize) -> Result<()> {
        let limit = self.plan.settings.batch_bytes;
        let index = usize::try_from(partition).unwrap_or(0);
        let full = |open: &OpenBatch, more: usize| !open.is_empty() && open.len() + more > limit;
        let Some(open) = self.topics.get(topic).and_then(|t| t.open.get(index)) else { return Err(Error::internal("a partition without a batch")) };
        if full(open, cost) {
            self.seal(topic, index)?;
        }
        if let Some(open) = self.topics.get(topic).and_then(|t| t.open.get_mut(index)) {
            open.push(record);
            if full(open, 0) {
                self.seal(topic, index)?;
            }
        }
        Ok(())
    }

    fn seal(&mut self, topic: usize, partition: usize) -> Result<()> {
        let compression = self.plan.settings.compression;
        let Some(topic) = self.topics.get(topic) else { return Ok(()) };
        let number = i32::try_from(partition).unwrap_or(0);
        let batch = topic.open[partition].seal(compression).map_err(|e| Error::internal("compress a batch").caused_by(e))?;
        let partitions = topic.partitions();
        topic.sticky.ended(number, partitions);
        self.sealed.push_back(Addressed { topic: Arc::clone(&topic.name), partition: number, batch });
        Ok(())
    }

    fn seal_all(&mut self) -> Result<()> {
        let open: Vec<(usize, usize)> = self
            .topics
            .iter_mut()
            .enumerate()
            .flat_map(|(at, topic)| topic.open.iter().enumerate().filter(|(_, b)| !b.is_empty()).map(move |(p, _)| (at, p)).collect::<Vec<_>>())
            .collect();
        open.into_iter().try_for_each(|(topic, partition)| self.seal(topic, partition))?;
        self.due_ms = None;
        Ok(())
    }

    /// Hands sealed batches over; waits while the buffer is full: that is the back-pressure.
    async fn ship(&mut self) -> Result<()> {
        while let Some(next) = self.sealed.front() {
            let bytes = next.batch.bytes().len().min(self.plan.settings.buffer_bytes);
            let memory = Arc::clone(&self.memory).acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX)).await;
            let memory = memory.map_err(|_| Error::internal("the memory of a producer is closed"))?;
            self.report.check()?;
            let Some(Addressed { topic, partition, batch }) = self.sealed.pop_front() else { break };
            let deadline = Instant::now() + self.plan.settings.delivery_timeout;
            self.tell(Command::Batch(Addressed { topic, partition, batch: Waiting::new(batch, deadline, memory) }))?;
        }
        Ok(())
    }

    fn tell(&self, command: Command) -> Result<()> {
        self.sender.send(command).map_err(|_| Error::internal("the sender of a producer is gone"))
    }

    /// Waits until everything handed over has been acknowledged.
    async fn settle(&mut self) -> Result<Settled> {
        let (answer, settled) = oneshot::channel();
        self.tell(Command::Settle(answer))?;
        let settled = settled.await.map_err(|_| Error::internal("the sender of a producer is gone"))?;
        self.report.check()?;
        Ok(settled)
    }

    /// The first row behind a barrier begins a transaction.
    async fn begin(&mut self) -> Result<()> {
        if let (Some(transactions), None) = (&mut self.transactions, &self.open) {
            let open = transactions.begin().await?;
            self.tell(Command::Begin(open.identity.clone()))?;
            self.open = Some(open);
        }
        Ok(())
    }

    fn open_bytes(&mut self) -> usize {
        self.topics.iter_mut().flat_map(|t| t.open.iter().map(OpenBatch::len)).sum()
    }
}

/// The columns of an encoding, and behind them the change of each row where there is one.
fn project(encoding: &Encoding, visible: &RecordBatch, batch: &RecordBatch) -> Result<RecordBatch> {
    let projected = visible.project(&encoding.columns)?;
    let Some((position, field)) = batch.schema_ref().column_with_name(CHANGE_COLUMN) else { return Ok(projected) };
    let fields = projected.schema_ref().fields().iter().cloned().chain([Arc::new(field.clone())]).collect::<Vec<_>>();
    let columns = projected.columns().iter().cloned().chain([Arc::clone(batch.column(position))]).collect();
    Ok(RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns)?)
}

#[async_trait]
impl SinkWriter for Writer {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.report.check()?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.begin().await?;
        let visible = visible_batch(&batch)?;
        let rows = Rows::new(&self.plan, &visible)?;
        let topics = self.find_topics(&rows, visible.num_rows()).await?;
        self.payloads.clear();
        self.values.encode(&project(&self.plan.value, &visible, &batch)?, &mut self.payloads)?;
        self.key_payloads.clear();
        if let (Some(keys), Some(key)) = (&mut self.keys, &self.plan.key) {
            keys.encode(&visible.project(&key.columns)?, &mut self.key_payloads)?;
        }
        self.take_rows(&batch, &rows, &topics)?;
        let open = self.open_bytes();
        if open > self.plan.settings.buffer_bytes / 2 {
            self.seal_all()?;
        } else if open > 0 {
            self.due_ms.get_or_insert_with(|| self.context.clock.now_ms().saturating_add(self.plan.settings.linger_ms));
        } else {
            self.due_ms = None;
        }
        self.ship().await
    }

    fn flush_due_ms(&self) -> Option<i64> {
        self.due_ms
    }

    async fn flush(&mut self) -> Result<()> {
        let lingered = self.due_ms.is_some_and(|due| due <= self.context.clock.now_ms());
        self.seal_all()?;
        self.ship().await?;
        if !lingered && self.transactions.is_none() {
            self.settle().await?;
        }
        self.report.check()
    }

    fn take_rejects(&mut self) -> Vec<BadRecord> {
        let mut rejects = std::mem::take(&mut self.rejects);
        rejects.append(&mut self.report.take_rejects());
        rejects
    }

    async fn prepare_commit(&mut self, _: Epoch, _: bool) -> Result<Vec<Value>> {
        self.seal_all()?;
        self.ship().await?;
        let settled = self.settle().await?;
        let (Some(transactions), Some(open)) = (&self.transactions, self.open.take()) else { return Ok(Vec::new()) };
        let prepared = transactions.prepare(open, settled).await?;
        point("kafka-prepare")?;
        Ok(prepared.map(|p| p.payload()).transpose()?.into_iter().collect())
    }

    async fn snapshot(&mut self) -> Result<Vec<Value>> {
        self.transactions.as_ref().map(|t| t.used().state()).transpose().map(|state| state.into_iter().collect())
    }

    async fn close(&mut self) -> Result<()> {
        if self.transactions.is_none() {
            self.seal_all()?;
            self.ship().await?;
            self.settle().await?;
            if let Some(row) = self.report.take_rejects().first() {
                return Err(Error::external(format!("rows were refused after the end of the input; the first: {}", row.reason)));
            }
        }
        // Without its commands the sender ends, and aborts what is open.
        self.sender = mpsc::unbounded_channel().0;
        if let Some(task) = self.task.take() {
            task.await.map_err(|e| Error::internal("the sender of a producer").caused_by(e))?;
        }
        Ok(())
    }
}
