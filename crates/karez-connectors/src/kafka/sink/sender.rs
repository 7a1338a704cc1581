//! Sends batches and settles them, in a task of its own: rows are encoded while others are on their way.
//!
//! ```text
//!  writer ── Batch ──► partition queues ──► one request per broker with the heads of its partitions ──► acknowledged: memory is given back
//!                            ▲                                  │ again (another leader, broker away)
//!                            └──────────────────────────────────┘
//! ```
//! At most [`IN_FLIGHT_PER_BROKER`] requests are on their way to a broker, with one batch of a partition: order is kept whatever has to be sent again. What
//! waits is bounded by the writer's `bufferMemory`. A batch that is not acknowledged by its deadline fails the producer, which then drops everything.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use karez_core::Error;
use karez_core::metrics::NodeMetrics;
use karez_external::RetryOptions;
use krafka::KrafkaError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::compression::Compression;
use super::partition_queue::{PartitionQueue, Waiting};
use super::produce::{Addressed, Answer, Wire};
use super::report::{Report, Settled};
use super::split;
use super::verdict::{Mode, Verdict};
use crate::kafka::client::{client_error, figures};
use crate::kafka::transaction::{End, Identity, OffsetRange, TransactionVersion};

const IN_FLIGHT_PER_BROKER: usize = 5;

/// Framing of a batch in a request, at most, beside its topic's name.
const FRAMING_BYTES: usize = 64;

/// How long the end of a job waits for what is on its way, and for its transaction to be aborted.
const FAREWELL: Duration = Duration::from_secs(10);

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(500);

/// What the writer tells.
#[derive(Debug)]
pub(super) enum Command {
    /// A batch to send.
    Batch(Addressed<Waiting>),
    /// The batches to come belong to this transaction. Everything before is settled.
    Begin(Identity),
    /// To be answered when everything told before is settled: what the transaction holds, which no longer is the sender's then.
    Settle(oneshot::Sender<Settled>),
}

/// What it is set up with.
#[derive(Debug)]
pub(super) struct SenderSettings {
    pub(super) mode: Mode,
    pub(super) max_request_bytes: usize,
    pub(super) delivery_timeout: Duration,
    pub(super) compression: Compression,
    pub(super) retry: RetryOptions,
}

type Key = (Arc<str>, i32);

enum Event {
    Answered {
        broker: i32,
        answers: Vec<(Addressed<Waiting>, Answer)>,
    },
    /// Who leads these topics' partitions has been looked up.
    Refreshed,
    ProducerId(Result<(i64, i16), KrafkaError>),
}

pub(super) struct Sender {
    settings: SenderSettings,
    wire: Arc<Wire>,
    report: Arc<Report>,
    metrics: Arc<NodeMetrics>,
    partitions: HashMap<Key, PartitionQueue>,
    /// Those with batches to send and none on its way.
    ready: HashSet<Key>,
    in_flight: HashMap<i32, usize>,
    under_way: FuturesUnordered<Pin<Box<dyn Future<Output = Event> + Send>>>,
    transaction: Option<Identity>,
    /// Of an idempotent producer.
    producer: Option<(i64, i16)>,
    /// Counts producers and transactions: each begins its sequence numbers anew.
    identity: u64,
    asking_for_id: bool,
    id_attempts: u32,
    /// Topics whose leaders are being looked up.
    refreshing: bool,
    stale: HashSet<Arc<str>>,
    settle: Vec<oneshot::Sender<Settled>>,
}

impl Sender {
    pub(super) fn new(settings: SenderSettings, wire: Arc<Wire>, report: Arc<Report>, metrics: Arc<NodeMetrics>) -> Self {
        Self {
            settings,
            wire,
            report,
            metrics,
            partitions: HashMap::new(),
            ready: HashSet::new(),
            in_flight: HashMap::new(),
            under_way: FuturesUnordered::new(),
            transaction: None,
            producer: None,
            identity: 0,
            asking_for_id: false,
            id_attempts: 0,
            refreshing: false,
            stale: HashSet::new(),
            settle: Vec::new(),
        }
    }

    /// Works until the writer is gone; then aborts what it has left open.
    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            self.send_ready();
            self.answer_settled();
            let wake_at = self.wake_at();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                Some(event) = self.under_way.next() => self.event(event),
                () = tokio::time::sleep_until(wake_at) => self.expire(),
            }
        }
        self.farewell().await;
    }

    /// The writer is gone (the job was cancelled, or fails): nothing is sent any more, and no transaction stays open.
    async fn farewell(mut self) {
        let Some(identity) = self.transaction.take().filter(|_| self.partitions.values().any(|p| p.added)) else { return };
        let end = async {
            while self.under_way.next().await.is_some() {}
            self.wire.coordinators.end(&identity, End::Abort).await
        };
        let id = &identity.transactional_id;
        match tokio::time::timeout(FAREWELL, end).await {
            Ok(Ok(())) => tracing::debug!(transaction = %id, "aborted an unfinished transaction"),
            Ok(Err(refusal)) => {
                tracing::debug!(transaction = %id, ?refusal, "an unfinished transaction could not be aborted; the next start does, or its time-out")
            }
            Err(_) => {
                tracing::debug!(transaction = %id, "an unfinished transaction could not be aborted in time; the next start does, or its time-out")
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            // What comes behind a failure is dropped: the writer learns of it with its next call.
            Command::Batch(_) if self.report.has_failed() => {}
            Command::Batch(Addressed { topic, partition, batch }) => {
                let key = (topic, partition);
                let queue = self.partitions.entry(key.clone()).or_default();
                queue.waiting.push_back(batch);
                if !queue.in_flight {
                    self.ready.insert(key);
                }
            }
            Command::Begin(identity) => {
                self.identity += 1;
                self.producer = Some((identity.producer_id, identity.producer_epoch));
                self.transaction = Some(identity);
            }
            Command::Settle(answer) => self.settle.push(answer),
        }
    }

    fn answer_settled(&mut self) {
        if self.settle.is_empty() || (!self.report.has_failed() && !self.partitions.values().all(PartitionQueue::is_idle)) {
            return;
        }
        let mut settled = Settled::default();
        if self.transaction.is_some() && !self.report.has_failed() {
            for ((topic, partition), queue) in &mut self.partitions {
                settled.touched |= std::mem::take(&mut queue.added);
                if let Some((first_offset, last_offset)) = queue.range.take() {
                    settled.ranges.push(OffsetRange { topic: topic.to_string(), partition: *partition, first_offset, last_offset });
                }
            }
            settled.ranges.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
            self.transaction = None;
            // Partitions that are not written to any more are forgotten with their transaction.
            self.partitions.clear();
        }
        let mut settled = Some(settled);
        for answer in self.settle.drain(..) {
            // Whoever asked may be gone: then the transaction is fenced by the next start.
            drop(answer.send(settled.take().unwrap_or_default()));
        }
    }

    /// Sends the heads of all partitions that can be sent now.
    fn send_ready(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        if self.settings.mode != Mode::Plain && self.producer.is_none() {
            self.ask_for_id();
            return;
        }
        let now = Instant::now();
        let metadata = krafka::__private::kafka_metadata(&self.wire.kafka);
        let mut requests: HashMap<i32, Vec<Key>> = HashMap::new();
        for key in &self.ready {
            let Some(queue) = self.partitions.get_mut(key) else { continue };
            if queue.not_before.is_some_and(|at| at > now) {
                continue;
            }
            match metadata.leader(&key.0, key.1) {
                Some(leader) if self.in_flight.get(&leader).is_none_or(|n| *n < IN_FLIGHT_PER_BROKER) => {
                    requests.entry(leader).or_default().push(key.clone());
                }
                Some(_) => {}
                None => {
                    queue.not_before = Some(now + self.settings.retry.delay(1));
                    self.stale.insert(Arc::clone(&key.0));
                }
            }
        }
        for (broker, keys) in requests {
            self.send(broker, keys);
        }
        self.refresh();
    }

    fn send(&mut self, broker: i32, mut keys: Vec<Key>) {
        keys.sort_unstable();
        let transactional = self.settings.mode == Mode::Transactional;
        let classic = self.transaction.as_ref().is_some_and(|t| t.transaction_version == TransactionVersion::Classic);
        let (mut batches, mut add, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (topic, partition) in keys {
            let key = (topic, partition);
            let Some(queue) = self.partitions.get_mut(&key) else { continue };
            let size = queue.waiting.front().map_or(0, |w| w.batch.bytes().len() + FRAMING_BYTES + key.0.len());
            if !batches.is_empty() && bytes + size > self.settings.max_request_bytes {
                continue;
            }
            let Some(batch) = queue.take(self.identity, self.producer, transactional) else { continue };
            if transactional && !queue.added {
                // Also if it fails: the broker may have it open from now on.
                queue.added = true;
                if classic {
                    add.push(key.clone());
                }
            }
            self.ready.remove(&key);
            bytes += size;
            batches.push(Addressed { topic: key.0, partition, batch });
        }
        if batches.is_empty() {
            return;
        }
        *self.in_flight.entry(broker).or_default() += 1;
        let (wire, transaction) = (Arc::clone(&self.wire), self.transaction.clone());
        self.under_way.push(Box::pin(async move {
            let answers = wire.produce(broker, transaction.as_ref(), &add, &batches).await;
            Event::Answered { broker, answers: batches.into_iter().zip(answers).collect() }
        }));
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Refreshed => self.refreshing = false,
            Event::ProducerId(Ok(producer)) => {
                (self.asking_for_id, self.id_attempts) = (false, 0);
                self.identity += 1;
                self.producer = Some(producer);
            }
            Event::ProducerId(Err(e)) if e.is_retriable() => {
                self.asking_for_id = false;
                self.id_attempts += 1;
                if self.settings.retry.is_over(self.id_attempts) {
                    let doing = "become an idempotent producer";
                    self.fail(self.settings.retry.given_up(doing, client_error(doing, e)));
                }
            }
            Event::ProducerId(Err(e)) => self.fail(client_error("become an idempotent producer", e)),
            Event::Answered { broker, answers } => {
                if let Some(n) = self.in_flight.get_mut(&broker) {
                    *n = n.saturating_sub(1);
                }
                for (addressed, answer) in answers {
                    self.settle_one(addressed, answer);
                }
                if let Some(meter) = self.wire.meter.get() {
                    meter.report(figures(&self.wire.kafka));
                }
                self.refresh();
            }
        }
    }

    fn settle_one(&mut self, addressed: Addressed<Waiting>, answer: Answer) {
        let Addressed { topic, partition, mut batch } = addressed;
        let coordinator = matches!(answer, Answer::Coordinator(_));
        let verdict = Verdict::of(answer, self.settings.mode, &topic, partition);
        let key = (topic, partition);
        let Some(queue) = self.partitions.get_mut(&key) else { return };
        queue.in_flight = false;
        if self.report.has_failed() {
            return;
        }
        match verdict {
            Verdict::Written(offset) => {
                queue.written(offset, batch.batch.count());
                self.metrics.bytes_out.add(batch.batch.bytes().len() as u64);
            }
            Verdict::Again | Verdict::AsAnother => {
                if let Verdict::AsAnother = verdict {
                    batch.unstamp();
                    self.producer = None;
                }
                if coordinator {
                    // To be asked for again before the batch is sent.
                    queue.added = false;
                }
                queue.failures += 1;
                if self.settings.retry.is_over(queue.failures) {
                    let why = Error::connection("its broker is away, or too few replicas are in sync");
                    return self.fail(self.settings.retry.given_up(&format!("topic `{}` partition {}", key.0, key.1), why));
                }
                queue.not_before = Some(Instant::now() + self.settings.retry.delay(queue.failures));
                queue.put_back(batch);
                if let Some(meter) = self.wire.meter.get() {
                    meter.again();
                }
                self.stale.insert(Arc::clone(&key.0));
            }
            Verdict::BadRow(why) => {
                queue.rewind(&batch);
                match split::split(batch, self.settings.compression, &key.0, key.1, why) {
                    Ok(split::Parts::Halves(first, second)) => {
                        queue.put_back(second);
                        queue.put_back(first);
                    }
                    Ok(split::Parts::Row(row)) => self.report.reject(row),
                    Err(e) => return self.fail(e),
                }
            }
            Verdict::Fail(e) => return self.fail(e),
        }
        if let Some(queue) = self.partitions.get(&key)
            && !queue.waiting.is_empty()
        {
            self.ready.insert(key);
        }
        self.expire();
    }

    /// Fails when a batch has waited for too long.
    fn expire(&mut self) {
        let now = Instant::now();
        let late = self.ready.iter().find(|key| {
            let head = self.partitions.get(*key).and_then(|q| q.waiting.front());
            head.is_some_and(|head| head.deadline <= now)
        });
        if let Some((topic, partition)) = late {
            let after = self.settings.delivery_timeout.as_secs();
            self.fail(Error::connection(format!(
                "topic `{topic}` partition {partition} has not acknowledged a batch for {after} s (`deliveryTimeout`): its broker is away, or too few replicas are in sync"
            )));
        }
    }

    fn fail(&mut self, error: Error) {
        self.report.fail(error);
        self.ready.clear();
        for queue in self.partitions.values_mut() {
            // Gives its memory back, so that a writer that waits for some goes on to see the failure.
            queue.waiting.clear();
        }
    }

    /// Looks up who leads the partitions of the topics that need it.
    fn refresh(&mut self) {
        if self.refreshing || self.stale.is_empty() {
            return;
        }
        self.refreshing = true;
        let topics: Vec<Arc<str>> = self.stale.drain().collect();
        let kafka = Arc::clone(&self.wire.kafka);
        self.under_way.push(Box::pin(async move {
            let names: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
            if let Err(error) = krafka::__private::kafka_metadata(&kafka).force_refresh(Some(&names)).await {
                tracing::debug!(%error, "who leads the partitions could not be looked up; it is tried again");
            }
            Event::Refreshed
        }));
    }

    fn ask_for_id(&mut self) {
        if self.asking_for_id || self.settings.mode != Mode::Idempotent {
            return;
        }
        self.asking_for_id = true;
        let (wire, attempt) = (Arc::clone(&self.wire), self.id_attempts);
        let pause = if attempt == 0 { Duration::ZERO } else { self.settings.retry.delay(attempt) };
        self.under_way.push(Box::pin(async move {
            tokio::time::sleep(pause).await;
            Event::ProducerId(wire.producer_id(attempt).await)
        }));
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let pauses = self.ready.iter().filter_map(|key| self.partitions.get(key)?.not_before).filter(|at| *at > now).min();
        let tick = now + if self.ready.is_empty() { Duration::from_secs(3600) } else { TICK };
        pauses.map_or(tick, |at| at.min(tick))
    }
}
