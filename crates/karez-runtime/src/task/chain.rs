//! A chain of operators as a synchronous machine: items go in at the head, rows come out at the tail and at side outputs.
//!
//! Between two operators lies an inbox that holds what one step emitted. An operator is stepped only while there is room behind it
//! (decision 2), the last one that can move first, so no more than one step's rows wait in any inbox:
//!
//! ```text
//! push ─► [inbox 0] op 0 ─► [inbox 1] op 1 ─► … ─► tail: gates, or the sink's inbox
//!                     └► side gates (late, routes, errors)
//! ```
//! An asynchronous operator (see [`Stage`]) takes from its inbox while it has room in flight, and hands on what has been answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use karez_core::metrics::NodeMetrics;
use karez_core::schema::batch_bytes;
use karez_core::state::Snapshot;
use karez_core::{BadRecord, Barrier, Clock, Element, Error, Operator, Output, Progress, Result, Watermark};

use tokio::sync::Notify;

use super::in_flight::{Left, Stage};
use super::reject::Rejects;
use crate::exchange::OutputGate;

/// How long a chain works before it lets others, and a cancel, have a turn.
pub(super) const RUN_SLICE: Duration = Duration::from_millis(10);

/// What goes through a chain.
#[derive(Debug)]
pub enum Item {
    /// Rows of an input of the first operator.
    Batch(usize, RecordBatch),
    /// The watermark has risen.
    Watermark(Watermark),
    /// Nothing at present.
    Idle,
    /// A checkpoint.
    Barrier(Barrier),
    /// The input has ended.
    End,
}

/// Snapshots of the operators of a chain at one barrier, by node name.
pub type ChainSnapshot = Vec<(String, Snapshot)>;

/// Where the outputs of one node go.
#[derive(Default)]
pub struct NodeGates {
    /// By output port; of the last node also port 0. Several gates of one port all get its rows.
    pub ports: Vec<(usize, OutputGate)>,
    /// Dead letters and where they go.
    pub errors: Vec<OutputGate>,
}

impl NodeGates {
    fn all(&mut self) -> impl Iterator<Item = &mut OutputGate> {
        self.ports.iter_mut().map(|(_, g)| g).chain(&mut self.errors)
    }

    /// Whether something waits for room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ports.iter().any(|(_, g)| g.is_full()) || self.errors.iter().any(OutputGate::is_full)
    }

    /// Sends what waits for room. Cancel-safe.
    pub async fn drain(&mut self) {
        for gate in self.all() {
            gate.drain().await;
        }
    }

    /// Whether rows wait for more rows.
    #[must_use]
    pub fn is_coalescing(&self) -> bool {
        self.ports.iter().any(|(_, g)| g.is_coalescing()) || self.errors.iter().any(OutputGate::is_coalescing)
    }

    /// Sends what waits for more rows.
    pub fn flush(&mut self) -> Result<()> {
        self.all().try_for_each(OutputGate::flush)
    }

    /// Puts a control element behind the rows.
    pub fn send_control(&mut self, element: &Element) -> Result<()> {
        self.all().try_for_each(|g| g.send_control(element.clone()))
    }
}

/// An operator in its chain.
pub struct Slot {
    /// The node's name.
    pub name: String,
    /// The operator.
    pub operator: Running,
    /// Its counters.
    pub metrics: Arc<NodeMetrics>,
    /// Its side outputs; of the last operator all outputs, unless a sink follows.
    pub gates: NodeGates,
    /// What is done with bad records.
    pub rejects: Rejects,
}

/// A running operator of either kind.
pub enum Running {
    /// One that is called and answers.
    Sync(Box<dyn Operator>),
    /// One that waits for the outside.
    Async(Stage),
}

impl Running {
    fn memory_bytes(&self) -> usize {
        match self {
            Self::Sync(operator) => operator.memory_bytes(),
            Self::Async(stage) => stage.memory_bytes(),
        }
    }

    /// The next timer; an asynchronous operator has none.
    fn next_timer_ms(&self) -> Option<i64> {
        match self {
            Self::Sync(operator) => operator.next_timer_ms(),
            Self::Async(_) => None,
        }
    }
}

struct Station {
    slot: Slot,
    inbox: VecDeque<Item>,
    /// What is not through.
    pending: Option<Work>,
}

/// What an operator is at.
enum Work {
    /// Rows, or a timer: nothing follows them.
    Rows,
    /// An item whose control element goes on when it is through.
    Control(Item),
}

/// The operators of one subtask.
pub struct Chain {
    stations: Vec<Station>,
    /// What left the last operator on its main output, for the sink (or, in a chain without operators, what came in).
    tail: VecDeque<Item>,
    /// Whether a sink follows; without one the last operator's gates take everything.
    has_sink: bool,
    snapshots: ChainSnapshot,
    clock: Arc<dyn Clock>,
    /// Told when an asynchronous operator has an answer; `None` in a chain without such operators.
    arrived: Option<Arc<Notify>>,
}

struct ChainOutput<'a> {
    /// The next inbox; `None` where the gates are the end.
    next: Option<&'a mut VecDeque<Item>>,
    gates: &'a mut NodeGates,
    rejects: &'a mut Rejects,
    metrics: &'a NodeMetrics,
    now_ms: i64,
    failed: Option<Error>,
}

impl Output for ChainOutput<'_> {
    fn emit(&mut self, port: usize, batch: RecordBatch) {
        let rows = batch.num_rows();
        if rows == 0 || self.failed.is_some() {
            return;
        }
        self.metrics.records_out.add(rows as u64);
        self.metrics.bytes_out.add(batch_bytes(&batch) as u64);
        for (p, gate) in &mut self.gates.ports {
            if *p == port
                && let Err(e) = gate.send(batch.clone())
            {
                self.failed = Some(e);
            }
        }
        if port == 0
            && let Some(next) = &mut self.next
        {
            next.push_back(Item::Batch(0, batch));
        }
    }

    fn is_full(&self) -> bool {
        self.next.as_ref().is_some_and(|n| !n.is_empty()) || self.gates.is_full()
    }

    fn reject(&mut self, bad: BadRecord) -> Result<()> {
        self.rejects.take(vec![bad], self.now_ms, self.metrics, &mut self.gates.errors)
    }
}

impl Chain {
    /// A chain of these operators, in order.
    #[must_use]
    pub fn new(slots: Vec<Slot>, has_sink: bool, clock: Arc<dyn Clock>) -> Self {
        let arrived = slots.iter().any(|s| matches!(s.operator, Running::Async(_))).then(Arc::default);
        let stations = slots.into_iter().map(|slot| Station { slot, inbox: VecDeque::new(), pending: None }).collect();
        Self { stations, tail: VecDeque::new(), has_sink, snapshots: Vec::new(), clock, arrived }
    }

    /// Puts an item in at the head.
    pub fn push(&mut self, item: Item) {
        match self.stations.first_mut() {
            Some(first) => first.inbox.push_back(item),
            None => self.tail.push_back(item),
        }
    }

    /// Puts rows of dead letters in front of an operator, and passes on what is bad still. Only while the chain is at rest.
    pub fn inject(&mut self, at: usize, batch: RecordBatch, bad: Vec<BadRecord>, letters: usize) -> Result<()> {
        let Some(Station { slot, inbox, .. }) = self.stations.get_mut(at) else {
            return Err(Error::internal(format!("no operator {at} in the chain")));
        };
        slot.metrics.add("replayed", letters as u64);
        slot.rejects.take_replayed(bad, self.clock.now_ms(), &slot.metrics, &mut slot.gates.errors)?;
        if batch.num_rows() > 0 {
            inbox.push_back(Item::Batch(0, batch));
        }
        Ok(())
    }

    /// Steps operators until nothing can move: all work is done, or gates are full, or the tail wants to be taken. Answers whether it only paused,
    /// after `RUN_SLICE`, so that a cancel is heard in the middle of long work.
    pub fn run(&mut self) -> Result<bool> {
        let started = Instant::now();
        while let Some(at) = self.movable()? {
            self.step(at).map_err(|e| e.at(&self.stations[at].slot.name))?;
            if self.stations[at].pending.is_some() && started.elapsed() > RUN_SLICE {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Bytes of memory that operators hold, by node.
    pub fn memory(&self) -> impl Iterator<Item = (&str, usize, &NodeMetrics)> {
        self.stations.iter().map(|s| (s.slot.name.as_str(), s.slot.operator.memory_bytes(), s.slot.metrics.as_ref()))
    }

    /// The last operator that has work and room.
    fn movable(&mut self) -> Result<Option<usize>> {
        for at in (0..self.stations.len()).rev() {
            let room = !self.stations[at].slot.gates.is_full() && self.room_behind(at);
            let Station { slot, inbox, pending } = &mut self.stations[at];
            let moves = match &mut slot.operator {
                Running::Sync(_) => room && (pending.is_some() || !inbox.is_empty()),
                Running::Async(stage) => {
                    inbox.front().is_some_and(|item| stage.has_room(item)) || (room && stage.is_ready().map_err(|e| e.at(&slot.name))?)
                }
            };
            if moves {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    fn room_behind(&self, i: usize) -> bool {
        match self.stations.get(i + 1) {
            Some(next) => next.inbox.is_empty(),
            None => !self.has_sink || self.tail.is_empty(),
        }
    }

    fn step(&mut self, at: usize) -> Result<()> {
        let now_ms = self.clock.now_ms();
        let (head, rest) = self.stations.split_at_mut(at + 1);
        let Some(station) = head.last_mut() else { return Ok(()) };
        let next = match rest.first_mut() {
            Some(next) => Some(&mut next.inbox),
            None if self.has_sink => Some(&mut self.tail),
            None => None,
        };
        let Station { slot, inbox, pending } = station;
        let Slot { name, operator, metrics, gates, rejects } = slot;
        let operator = match operator {
            Running::Sync(operator) => operator,
            Running::Async(stage) => {
                let arrived = self.arrived.get_or_insert_default();
                if let Some(item) = inbox.pop_front_if(|item| stage.has_room(item)) {
                    match item {
                        Item::Batch(_, batch) => {
                            count_in(metrics, &batch);
                            stage.begin(batch, arrived);
                        }
                        control => stage.follow(control),
                    }
                    return Ok(());
                }
                let Some(left) = stage.next()? else { return Ok(()) };
                let mut out = ChainOutput { next, gates, rejects, metrics, now_ms, failed: None };
                let item = match left {
                    Left::Nothing => return Ok(()),
                    Left::Bad(bad) => return bad.into_iter().try_for_each(|b| out.reject(b)),
                    Left::Rows(batch) => {
                        out.emit(0, batch);
                        return out.failed.map_or(Ok(()), Err);
                    }
                    Left::Control(item) => item,
                };
                if let Item::Watermark(w) = item {
                    metrics.watermark_ms.set(w.0);
                }
                if let Item::Barrier(_) = item {
                    self.snapshots.push((name.clone(), Snapshot::default()));
                }
                let ChainOutput { next, gates, .. } = out;
                return hand_on(item, next, gates);
            }
        };
        let started = Instant::now();
        let mut out = ChainOutput { next, gates, rejects, metrics, now_ms, failed: None };
        let (progress, work) = match pending.take() {
            Some(work) => (operator.resume(&mut out)?, work),
            None => {
                let Some(item) = inbox.pop_front() else { return Ok(()) };
                match item {
                    Item::Batch(input, batch) => {
                        count_in(metrics, &batch);
                        (operator.process(input, batch, &mut out)?, Work::Rows)
                    }
                    Item::Watermark(w) => {
                        metrics.watermark_ms.set(w.0);
                        (operator.on_watermark(w, &mut out)?, Work::Control(item))
                    }
                    Item::Barrier(_) => {
                        let mut snapshot = Snapshot::default();
                        operator.snapshot(&mut snapshot)?;
                        self.snapshots.push((name.clone(), snapshot));
                        (Progress::Done, Work::Control(item))
                    }
                    Item::End => (operator.on_end(&mut out)?, Work::Control(item)),
                    Item::Idle => (Progress::Done, Work::Control(item)),
                }
            }
        };
        let ChainOutput { next, gates, failed, .. } = out;
        metrics.busy_ns.add(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        if let Some(e) = failed {
            return Err(e);
        }
        if progress == Progress::More {
            *pending = Some(work);
            return Ok(());
        }
        match work {
            Work::Rows => Ok(()),
            Work::Control(item) => hand_on(item, next, gates),
        }
    }

    /// The earliest timer of the operators, milliseconds of processing time.
    #[must_use]
    pub fn next_timer_ms(&self) -> Option<i64> {
        self.stations.iter().filter_map(|s| s.slot.operator.next_timer_ms()).min()
    }

    /// Calls the operators whose timer is due. Only while the chain is at rest; run it afterwards.
    pub fn fire_timers(&mut self) -> Result<()> {
        let now_ms = self.clock.now_ms();
        for at in 0..self.stations.len() {
            let (head, rest) = self.stations.split_at_mut(at + 1);
            let Some(station) = head.last_mut() else { continue };
            if station.slot.operator.next_timer_ms().is_none_or(|t| t > now_ms) || station.pending.is_some() {
                continue;
            }
            let next = match rest.first_mut() {
                Some(next) => Some(&mut next.inbox),
                None if self.has_sink => Some(&mut self.tail),
                None => None,
            };
            let Slot { name, operator, metrics, gates, rejects } = &mut station.slot;
            let Running::Sync(operator) = operator else { continue };
            let mut out = ChainOutput { next, gates, rejects, metrics, now_ms, failed: None };
            let progress = operator.on_timer(now_ms, &mut out).map_err(|e| e.at(name.as_str()))?;
            if let Some(e) = out.failed {
                return Err(e.at(name.as_str()));
            }
            if progress == Progress::More {
                station.pending = Some(Work::Rows);
            }
        }
        Ok(())
    }

    /// What left the last operator for the sink.
    pub fn take_tail(&mut self) -> Option<Item> {
        self.tail.pop_front()
    }

    /// Snapshots taken since the last call.
    pub fn take_snapshots(&mut self) -> ChainSnapshot {
        std::mem::take(&mut self.snapshots)
    }

    /// Whether nothing waits anywhere in the chain, but for answers from the outside that further rows need not wait for.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let drained = |s: &Station| !matches!(&s.slot.operator, Running::Async(stage) if stage.must_drain());
        self.tail.is_empty() && self.stations.iter().all(|s| s.inbox.is_empty() && s.pending.is_none() && !s.slot.gates.is_full() && drained(s))
    }

    /// Waits for room in front of full gates. Cancel-safe.
    pub async fn drain(&mut self) {
        for station in &mut self.stations {
            station.slot.gates.drain().await;
        }
    }

    /// Waits until something may move again: there is room in front of the gates that are full, or an answer has arrived. Only while the chain is
    /// not at rest. Cancel-safe.
    pub async fn wait(&mut self) {
        if !self.awaits_answers() {
            return self.drain().await;
        }
        let arrived = self.arrived.clone();
        let full = self.stations.iter().any(|s| s.slot.gates.is_full());
        tokio::select! {
            () = self.drain(), if full => {}
            () = notified(arrived.as_deref()) => {}
        }
    }

    /// Ready when an asynchronous operator has an answer. Cancel-safe.
    pub async fn answer(&mut self) {
        notified(self.arrived.as_deref()).await;
    }

    fn awaits_answers(&self) -> bool {
        self.stations.iter().any(|s| matches!(&s.slot.operator, Running::Async(stage) if stage.is_waiting()))
    }

    /// Whether rows wait for more rows in a gate.
    #[must_use]
    pub fn is_coalescing(&self) -> bool {
        self.stations.iter().any(|s| s.slot.gates.is_coalescing())
    }

    /// Sends what waits for more rows.
    pub fn flush(&mut self) -> Result<()> {
        self.stations.iter_mut().try_for_each(|s| s.slot.gates.flush())
    }

    /// The counters of the operator at the head.
    #[must_use]
    pub fn head_metrics(&self) -> Option<&Arc<NodeMetrics>> {
        self.stations.first().map(|s| &s.slot.metrics)
    }
}

async fn notified(arrived: Option<&Notify>) {
    match arrived {
        Some(arrived) => arrived.notified().await,
        None => std::future::pending().await,
    }
}

fn count_in(metrics: &NodeMetrics, batch: &RecordBatch) {
    metrics.records_in.add(batch.num_rows() as u64);
    metrics.batches_in.add(1);
    metrics.bytes_in.add(batch_bytes(batch) as u64);
}

/// Passes a control element on, to the side outputs and to what follows in the chain.
fn hand_on(item: Item, next: Option<&mut VecDeque<Item>>, gates: &mut NodeGates) -> Result<()> {
    let Some(element) = control(&item) else { return Ok(()) };
    gates.send_control(&element)?;
    if let Some(next) = next {
        next.push_back(item);
    }
    Ok(())
}

/// The control element that an item stands for; none for rows.
#[must_use]
pub fn control(item: &Item) -> Option<Element> {
    match item {
        Item::Batch(..) => None,
        Item::Watermark(w) => Some(Element::Watermark(*w)),
        Item::Idle => Some(Element::Idle),
        Item::Barrier(b) => Some(Element::Barrier(*b)),
        Item::End => Some(Element::EndOfInput),
    }
}
