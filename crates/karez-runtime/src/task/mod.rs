//! A task: one subtask of one vertex. The only async code around the synchronous chain: it awaits input, room, the sink, timers and commands.

pub mod chain;
pub mod in_flight;
mod inject;
mod messages;
mod pump;
pub mod reject;
pub mod replay;
pub mod sink;
pub mod source;

use std::sync::Arc;
use std::time::Duration;

use karez_core::metrics::NodeMetrics;
use karez_core::{Barrier, BarrierKind, CheckpointId, Clock, Error, Result, Watermark};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::chain::{Chain, Item, NodeGates};
pub use self::messages::{Command, TaskEvent, TaskId, TaskSnapshot};
use self::reject::Rejects;
use self::replay::{Injection, Replays};
use self::sink::SinkDriver;
use self::source::{SourceEvent, SourceLoop};
use crate::exchange::{Event, Inputs};
use crate::state::{MemoryAccount, MemoryBudget};

/// The longest wait for a timer of processing time before the clock is looked at again: an injected clock moves without waking anybody.
const CLOCK_POLL: Duration = Duration::from_millis(20);

/// How long a task works on input that never ends before the other tasks of its worker have their turn: less than a batch usually takes.
const TURN: Duration = Duration::from_micros(500);

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
            Command::Replay(work) if flow.ended => self.tell(TaskEvent::LettersTooLate(work.replay, work.letters.len())),
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
