//! A task: one subtask of one vertex. The only async code around the synchronous chain: it awaits input, room, the sink, timers and commands.

pub mod chain;
pub mod in_flight;
pub mod reject;
pub mod replay;
pub mod sink;
pub mod source;

use std::sync::Arc;
use std::time::Duration;

use karez_core::metrics::NodeMetrics;
use karez_core::{BadRecord, Barrier, BarrierKind, CheckpointId, Clock, Element, Error, Result, Split, Watermark};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::chain::{Chain, ChainSnapshot, Item, NodeGates, RUN_SLICE, control};
use self::reject::Rejects;
use self::replay::{Entry, Injection, ReplayWork, Replays};
use self::sink::{SinkAck, SinkDriver};
use self::source::{SourceEvent, SourceLoop};
use crate::checkpoint::{SourceAck, SplitState};
use crate::exchange::{Event, Inputs};
use crate::replay::Progress;
use crate::state::{MemoryAccount, MemoryBudget};

/// The longest wait for a timer of processing time before the clock is looked at again: an injected clock moves without waking anybody.
const CLOCK_POLL: Duration = Duration::from_millis(20);

/// How long a task works on input that never ends before the other tasks of its worker have their turn: less than a batch usually takes.
const TURN: Duration = Duration::from_micros(500);

/// Names a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// The vertex (index in the job graph).
    pub vertex: usize,
    /// The subtask, from 0.
    pub subtask: usize,
}

/// What the coordinator tells a task. A task takes commands between elements, in order.
#[derive(Debug)]
pub enum Command {
    /// A checkpoint begins: for sources, and for tasks whose inputs have all ended.
    Trigger(Barrier),
    /// Read these splits too.
    Assign(Vec<SplitState>),
    /// Event time had come this far at the restored checkpoint.
    RestoreWatermark(Watermark),
    /// There will be no more splits.
    NoMoreSplits,
    /// Read nothing until `Resume`.
    Pause,
    /// Read on.
    Resume,
    /// End the input here.
    Drain,
    /// Rows that the sink's committer refused: letters of the next epoch.
    Letters(Vec<BadRecord>),
    /// Dead letters to be fed again.
    Replay(ReplayWork),
    /// All is committed: the task may go.
    Finish,
}

/// What a task tells the coordinator.
#[derive(Debug)]
pub enum TaskEvent {
    /// Its part of a checkpoint; what is frozen has yet to be written.
    Snapshot(TaskId, CheckpointId, Box<TaskSnapshot>),
    /// It wants a split.
    SplitRequest(TaskId),
    /// It has read a split to its end.
    SplitFinished(TaskId, Split),
    /// All its inputs have ended and everything behind them has been handed on: its last state, stamped with the checkpoint after the newest it has seen.
    Ended(TaskId, CheckpointId, Box<TaskSnapshot>),
}

/// A task's part of a checkpoint.
pub struct TaskSnapshot {
    /// The operators' frozen states, by node.
    pub operators: ChainSnapshot,
    /// The source's node and its part.
    pub source: Option<(String, SourceAck)>,
    /// The sink's part.
    pub sink: Option<SinkAck>,
    /// The dead letters that have been fed to it.
    pub replays: Vec<Progress>,
}

impl std::fmt::Debug for TaskSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskSnapshot").field("source", &self.source).field("sink", &self.sink).finish_non_exhaustive()
    }
}

/// Where a task's rows come from.
pub enum Head {
    /// From outside.
    Source(Box<SourceHead>),
    /// From other tasks.
    Inputs(Inputs),
}

/// A source at the head of a chain.
pub struct SourceHead {
    /// The loop.
    pub source: SourceLoop,
    /// The node's name.
    pub name: String,
    /// Its error output; and its main output, where the source is a vertex of its own.
    pub gates: NodeGates,
    /// What is done with bad records.
    pub rejects: Rejects,
    /// Its counters.
    pub metrics: Arc<NodeMetrics>,
}

/// One subtask of one vertex.
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// Where its rows come from.
    pub head: Head,
    /// Its operators.
    pub chain: Chain,
    /// Its sink, if the chain ends in one.
    pub sink: Option<SinkDriver>,
    /// From the coordinator.
    pub commands: mpsc::UnboundedReceiver<Command>,
    /// To the coordinator.
    pub events: mpsc::UnboundedSender<TaskEvent>,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
    /// How long rows wait for more rows in front of an exchange.
    pub buffer_timeout: Duration,
    /// The job's memory budget, and what each operator holds of it.
    pub memory: TaskMemory,
    /// The newest checkpoint it has seen; at first the one before the first of this start.
    pub last_checkpoint: CheckpointId,
    /// Dead letters to be fed to it.
    pub replays: Replays,
}

/// The memory that the operators of a task hold themselves, beside their state tables.
pub struct TaskMemory {
    /// The job's.
    pub budget: Arc<MemoryBudget>,
    /// One account for each operator, in the order of the chain.
    pub operators: Vec<MemoryAccount>,
}

struct Flow {
    paused: bool,
    /// Event time has come this far on its input.
    watermark: Watermark,
    /// Its input has nothing at present, and that has been told.
    idle: bool,
    /// Behind a stop barrier.
    stopped: bool,
    ended: bool,
    split_requested: bool,
    /// When rows that wait for more rows are sent.
    flush_at: Option<Instant>,
}

impl Default for Flow {
    fn default() -> Self {
        let watermark = Watermark::MIN;
        Self { paused: false, watermark, idle: false, stopped: false, ended: false, split_requested: false, flush_at: None }
    }
}

enum Next {
    Command(Option<Command>),
    Replay(Result<Injection>),
    Source(Result<SourceEvent>),
    Input(Event),
    Timer,
    /// An asynchronous operator has an answer.
    Answer,
}

impl Task {
    /// Runs until told to finish. Dropping the future cancels the task at its next await.
    pub async fn run(mut self) -> Result<()> {
        let mut flow = Flow::default();
        if let Head::Source(_) = &self.head {
            self.request_split(&mut flow);
        }
        let mut turn = Instant::now();
        loop {
            let waited = Instant::now();
            let next = self.next(&flow).await;
            self.count_idle(waited);
            match next {
                Next::Command(None | Some(Command::Finish)) => {
                    if let Some(sink) = &mut self.sink {
                        sink.writer.close().await?;
                    }
                    return Ok(());
                }
                Next::Command(Some(command)) => self.command(command, &mut flow).await?,
                Next::Replay(injection) => self.inject(injection?, &flow).await?,
                Next::Source(event) => {
                    let name = self.head_name();
                    let event = event.map_err(|e| e.at(name))?;
                    self.source_event(event, &mut flow).await?;
                }
                Next::Input(event) => self.input_event(event, &mut flow).await?,
                Next::Timer => {}
                Next::Answer => self.pump(None).await?,
            }
            self.timers(&mut flow).await?;
            // Reading without ever waiting must not starve the other tasks of this worker. The one woken last by this task waits for the end of its turn
            // in a place that idle workers do not steal from: turns are short, so that two tasks with an exchange between them keep two cores busy.
            if turn.elapsed() > TURN {
                tokio::task::yield_now().await;
                turn = Instant::now();
            } else {
                tokio::task::coop::consume_budget().await;
            }
        }
    }

    async fn next(&mut self, flow: &Flow) -> Next {
        let reads = !flow.paused && !flow.stopped;
        let wake = self.wake_at(flow);
        let timer = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let replays = reads && !flow.ended && self.may_replay(flow);
        let planned = if replays { self.planned_source() } else { None };
        let queue = &mut self.replays;
        let replay = async { if replays { Next::Replay(queue.next(planned.as_ref()).await) } else { std::future::pending().await } };
        let head = &mut self.head;
        let input = async {
            match head {
                _ if flow.ended => std::future::pending().await,
                Head::Source(source) if reads => Next::Source(source.source.next().await),
                Head::Source(_) => std::future::pending().await,
                // Also behind the barrier of a stop: if that checkpoint fails, or its commit has letters, another such barrier comes.
                Head::Inputs(inputs) => Next::Input(inputs.next().await),
            }
        };
        tokio::select! {
            biased;
            command = self.commands.recv() => Next::Command(command),
            next = replay => next,
            next = input => next,
            () = timer => Next::Timer,
            () = self.chain.answer() => Next::Answer,
        }
    }

    fn wake_at(&self, flow: &Flow) -> Option<Instant> {
        let now_ms = self.clock.now_ms();
        if flow.stopped || flow.ended {
            // Behind the last barrier, or the end, nothing may be written any more: the next run would write it again.
            return None;
        }
        let due = [self.chain.next_timer_ms(), self.sink.as_ref().and_then(|s| s.writer.flush_due_ms())];
        let clock = due.into_iter().flatten().min().map(|ms| {
            let wait = Duration::from_millis(u64::try_from(ms.saturating_sub(now_ms)).unwrap_or(0));
            Instant::now() + wait.min(CLOCK_POLL)
        });
        [clock, flow.flush_at].into_iter().flatten().min()
    }

    async fn timers(&mut self, flow: &mut Flow) -> Result<()> {
        if flow.stopped || flow.ended {
            return Ok(());
        }
        if self.chain.next_timer_ms().is_some_and(|t| t <= self.clock.now_ms()) {
            self.chain.fire_timers()?;
            self.pump(None).await?;
        }
        if let Some(sink) = &mut self.sink {
            sink.flush_if_due().await?;
        }
        let coalescing = self.chain.is_coalescing() || matches!(&self.head, Head::Source(s) if s.gates.is_coalescing());
        match flow.flush_at {
            _ if !coalescing => flow.flush_at = None,
            None => flow.flush_at = Some(Instant::now() + self.buffer_timeout),
            Some(at) if at <= Instant::now() => {
                self.chain.flush()?;
                self.chain.drain().await;
                if let Head::Source(source) = &mut self.head {
                    source.gates.flush()?;
                    source.gates.drain().await;
                }
                flow.flush_at = None;
            }
            Some(_) => {}
        }
        Ok(())
    }

    async fn command(&mut self, command: Command, flow: &mut Flow) -> Result<()> {
        match command {
            Command::Trigger(barrier) => return self.barrier(barrier, flow).await,
            Command::Pause => flow.paused = true,
            Command::Resume => flow.paused = false,
            Command::Finish => {}
            Command::Replay(work) => self.replays.give(work),
            Command::Letters(rows) => {
                let Some(sink) = &mut self.sink else { return Err(Error::internal("letters of a commit for a task without a sink")) };
                sink.reject(rows).await?;
            }
            Command::Assign(_) | Command::NoMoreSplits | Command::Drain | Command::RestoreWatermark(_) => {
                let Head::Source(head) = &mut self.head else { return Err(Error::internal("a split for a task without a source")) };
                match command {
                    Command::Assign(splits) => {
                        flow.split_requested = false;
                        head.source.assign(splits);
                    }
                    Command::NoMoreSplits => head.source.no_more_splits(),
                    Command::RestoreWatermark(watermark) => head.source.restore_watermark(watermark),
                    _ => {
                        // The end of the input must be read, also by a paused job.
                        flow.paused = false;
                        head.source.drain();
                    }
                }
            }
        }
        Ok(())
    }

    async fn source_event(&mut self, event: SourceEvent, flow: &mut Flow) -> Result<()> {
        let Head::Source(head) = &mut self.head else { return Ok(()) };
        match event {
            SourceEvent::Rows { batch, bad, watermark } => {
                head.rejects.take(bad, self.clock.now_ms(), &head.metrics, &mut head.gates.errors)?;
                flow.idle = false;
                if batch.num_rows() > 0 {
                    self.pump(Some(Item::Batch(0, batch))).await?;
                }
                if let Some(watermark) = watermark {
                    self.watermark(watermark, flow).await?;
                }
            }
            SourceEvent::Watermark(watermark) => self.watermark(watermark, flow).await?,
            SourceEvent::Idle => self.idle(flow).await?,
            SourceEvent::Finished(split) => {
                self.tell(TaskEvent::SplitFinished(self.id, split));
                self.request_split(flow);
            }
            SourceEvent::End => {
                self.inject_all(flow).await?;
                self.pump(Some(Item::Watermark(Watermark::MAX))).await?;
                self.end(flow).await?;
            }
        }
        Ok(())
    }

    async fn input_event(&mut self, event: Event, flow: &mut Flow) -> Result<()> {
        match event {
            Event::Batch(input, batch) => {
                flow.idle = false;
                self.pump(Some(Item::Batch(input, batch))).await
            }
            Event::Watermark(watermark) => {
                if watermark == Watermark::MAX {
                    self.inject_all(flow).await?;
                }
                self.watermark(watermark, flow).await
            }
            Event::Idle => self.idle(flow).await,
            Event::Barrier(barrier) => self.barrier(barrier, flow).await,
            Event::End => {
                self.inject_all(flow).await?;
                self.end(flow).await
            }
        }
    }

    async fn watermark(&mut self, watermark: Watermark, flow: &mut Flow) -> Result<()> {
        flow.watermark = watermark;
        // Where the inputs are idle all the same, they say so again.
        flow.idle = false;
        self.pump(Some(Item::Watermark(watermark))).await
    }

    async fn idle(&mut self, flow: &mut Flow) -> Result<()> {
        flow.idle = true;
        self.pump(Some(Item::Idle)).await
    }

    /// Whether dead letters may be fed now: not while event time has yet to come to where the restored checkpoint had it.
    fn may_replay(&self, flow: &Flow) -> bool {
        match &self.head {
            Head::Source(head) => !head.source.restores_watermark() && !self.replays.is_empty(),
            Head::Inputs(_) => self.replays.is_ready(flow.watermark),
        }
    }

    fn planned_source(&self) -> Option<Arc<dyn karez_core::Source>> {
        match &self.head {
            Head::Source(head) => Some(head.source.planned()),
            Head::Inputs(_) => None,
        }
    }

    /// Puts dead letters in where they belong.
    async fn inject(&mut self, injection: Injection, flow: &Flow) -> Result<()> {
        let letters = injection.letters();
        let Injection { entry, mut batch, mut bad, .. } = injection;
        let now_ms = self.clock.now_ms();
        match (entry, &mut self.head, &mut self.sink) {
            (Entry::Source, Head::Source(head), _) => {
                batch = head.source.replayed(batch, &mut bad)?;
                head.metrics.add("replayed", letters as u64);
                head.rejects.take_replayed(bad, now_ms, &head.metrics, &mut head.gates.errors)?;
                if batch.num_rows() > 0 {
                    self.pump(Some(Item::Batch(0, batch))).await?;
                }
            }
            (Entry::Operator(at), ..) => {
                self.chain.inject(at, batch, bad, letters)?;
                self.pump(None).await?;
            }
            (Entry::Sink, _, Some(sink)) => {
                sink.metrics.add("replayed", letters as u64);
                sink.rejects.take_replayed(bad, now_ms, &sink.metrics, &mut sink.gates.errors)?;
                sink.gates.drain().await;
                if batch.num_rows() > 0 {
                    sink.write(batch).await?;
                }
            }
            _ => return Err(Error::internal("dead letters for a task without their node")),
        }
        self.replays.fed(letters);
        if flow.idle {
            // Rows have woken the tasks behind this one, and it has nothing more for them.
            self.pump(Some(Item::Idle)).await?;
        }
        Ok(())
    }

    /// Feeds what is left before the input ends.
    async fn inject_all(&mut self, flow: &Flow) -> Result<()> {
        let source = self.planned_source();
        while !self.replays.is_empty() {
            let injection = self.replays.next(source.as_ref()).await?;
            self.inject(injection, flow).await?;
        }
        Ok(())
    }

    async fn end(&mut self, flow: &mut Flow) -> Result<()> {
        self.pump(Some(Item::End)).await?;
        flow.ended = true;
        // The last state is taken like that of a barrier, but nobody downstream hears of it: they have the end.
        let checkpoint = CheckpointId(self.last_checkpoint.0 + 1);
        let snapshot = self.snapshot(Barrier { checkpoint, kind: BarrierKind::Checkpoint }).await?;
        self.tell(TaskEvent::Ended(self.id, checkpoint, Box::new(snapshot)));
        Ok(())
    }

    async fn barrier(&mut self, barrier: Barrier, flow: &mut Flow) -> Result<()> {
        if flow.ended {
            // Its last state is known already.
            return Ok(());
        }
        self.last_checkpoint = barrier.checkpoint;
        let snapshot = self.snapshot(barrier).await?;
        self.tell(TaskEvent::Snapshot(self.id, barrier.checkpoint, Box::new(snapshot)));
        flow.stopped |= barrier.kind.stops();
        Ok(())
    }

    async fn snapshot(&mut self, barrier: Barrier) -> Result<TaskSnapshot> {
        let source = match &mut self.head {
            Head::Source(head) => Some((head.name.clone(), head.source.acknowledge()?)),
            Head::Inputs(_) => None,
        };
        let sink = self.pump_barrier(Some(Item::Barrier(barrier))).await?;
        Ok(TaskSnapshot { operators: self.chain.take_snapshots(), source, sink, replays: self.replays.progress() })
    }

    /// Puts an item in and works until the chain is at rest. Cancel-safe in the only way that matters: the task is dropped as a whole.
    async fn pump(&mut self, item: Option<Item>) -> Result<()> {
        self.pump_barrier(item).await.map(drop)
    }

    /// The same, with the sink's part of the checkpoint where the item is a barrier.
    async fn pump_barrier(&mut self, item: Option<Item>) -> Result<Option<SinkAck>> {
        if let Some(item) = item {
            if let Head::Source(head) = &mut self.head {
                if let Some(element) = control(&item) {
                    for gate in &mut head.gates.errors {
                        gate.send_control(element.clone())?;
                    }
                }
                head.gates.drain().await;
            }
            self.chain.push(item);
        }
        let mut ack = None;
        let mut turn = Instant::now();
        loop {
            // A sink that is always ready awaits nothing: a watermark that fires for a minute into it would not be cancelled before its end.
            if self.chain.run()? || turn.elapsed() > RUN_SLICE {
                tokio::task::yield_now().await;
                turn = Instant::now();
                continue;
            }
            if let Some(item) = self.chain.take_tail() {
                if let Some(a) = self.tail(item).await? {
                    ack = Some(a);
                }
            } else if self.chain.is_at_rest() {
                self.check_memory()?;
                return Ok(ack);
            } else {
                let blocked = Instant::now();
                self.chain.wait().await;
                if let Some(metrics) = self.chain.head_metrics() {
                    metrics.backpressured_ns.add(u64::try_from(blocked.elapsed().as_nanos()).unwrap_or(u64::MAX));
                }
            }
        }
    }

    /// What left the last operator: to the sink, or out of a source that is a vertex of its own.
    async fn tail(&mut self, item: Item) -> Result<Option<SinkAck>> {
        if let Some(sink) = &mut self.sink {
            return match item {
                Item::Batch(_, batch) => sink.write(batch).await.map(|()| None),
                Item::Barrier(barrier) => sink.barrier(barrier).await.map(Some),
                Item::Watermark(w) => {
                    sink.metrics.watermark_ms.set(w.0);
                    sink.control(&Element::Watermark(w)).await.map(|()| None)
                }
                Item::Idle => sink.control(&Element::Idle).await.map(|()| None),
                Item::End => sink.control(&Element::EndOfInput).await.map(|()| None),
            };
        }
        let Head::Source(head) = &mut self.head else { return Err(Error::internal("a chain without operators, source and sink")) };
        for (_, gate) in &mut head.gates.ports {
            match (&item, control(&item)) {
                (_, Some(element)) => gate.send_control(element)?,
                (Item::Batch(_, batch), None) => gate.send(batch.clone())?,
                _ => {}
            }
        }
        let blocked = Instant::now();
        head.gates.drain().await;
        head.metrics.backpressured_ns.add(u64::try_from(blocked.elapsed().as_nanos()).unwrap_or(u64::MAX));
        Ok(None)
    }

    fn check_memory(&self) -> Result<()> {
        for ((_, bytes, metrics), account) in self.chain.memory().zip(&self.memory.operators) {
            account.set(bytes);
            metrics.state_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        self.memory.budget.check()
    }

    fn request_split(&self, flow: &mut Flow) {
        if !flow.split_requested {
            flow.split_requested = true;
            self.tell(TaskEvent::SplitRequest(self.id));
        }
    }

    fn tell(&self, event: TaskEvent) {
        // The coordinator is gone only when the job is being torn down, and this task with it.
        let _ = self.events.send(event);
    }

    fn head_name(&self) -> String {
        match &self.head {
            Head::Source(head) => head.name.clone(),
            Head::Inputs(_) => String::new(),
        }
    }

    fn count_idle(&mut self, since: Instant) {
        let ns = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match &mut self.head {
            Head::Source(head) => {
                let busy = u64::try_from(head.source.take_busy().as_nanos()).unwrap_or(u64::MAX);
                head.metrics.busy_ns.add(busy);
                head.metrics.idle_ns.add(ns.saturating_sub(busy));
            }
            Head::Inputs(inputs) => {
                let metrics = self.chain.head_metrics().or(self.sink.as_ref().map(|s| &s.metrics));
                if let Some(m) = metrics {
                    let (batches, bytes) = inputs.fill();
                    m.queue_batches.set(i64::try_from(batches).unwrap_or(i64::MAX));
                    m.queue_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
                    m.idle_ns.add(ns);
                }
            }
        }
    }
}
