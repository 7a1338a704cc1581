//! One outgoing edge of a subtask: spreads rows over the consumer's subtasks and holds what has no room yet.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use karez_core::metrics::NodeMetrics;
use karez_core::operator::MAX_BATCH_ROWS;
use karez_core::schema::batch_bytes;
use karez_core::{Element, Error, Result};
use karez_graph::{Exchange, Overflow};

use super::queue::Sender;
use super::scatter::Scatter;

/// Pieces of fewer rows than this wait for more, at most for the buffer timeout.
const COALESCE_BELOW_ROWS: usize = 1024;

enum Spread {
    /// To one target.
    One(usize),
    Hash(Box<Scatter>),
    /// Batches in turn; the next target.
    Turn(usize),
    All,
}

enum Waiting {
    Rows(usize, RecordBatch),
    Control(Element),
}

#[derive(Default)]
struct Target {
    /// Small pieces that wait for more.
    pieces: Vec<RecordBatch>,
    rows: usize,
}

/// An outgoing edge.
pub struct OutputGate {
    senders: Vec<Sender>,
    spread: Spread,
    overflow: Overflow,
    targets: Vec<Target>,
    /// What did not find room, in order, and the control elements behind it.
    outbox: VecDeque<Waiting>,
    metrics: Arc<NodeMetrics>,
}

impl OutputGate {
    /// An edge from subtask `subtask` to the consumer's subtasks behind `senders`. For [`Exchange::Forward`] there is one sender per consumer too.
    #[must_use]
    pub fn new(exchange: &Exchange, senders: Vec<Sender>, subtask: usize, key_groups: u16, overflow: Overflow, metrics: Arc<NodeMetrics>) -> Self {
        let n = senders.len();
        let spread = match exchange {
            Exchange::Forward => Spread::One(subtask.min(n - 1)),
            Exchange::Global => Spread::One(0),
            Exchange::Hash(columns) => Spread::Hash(Box::new(Scatter::new(columns.clone(), n, key_groups))),
            Exchange::Rebalance => Spread::Turn(subtask % n),
            Exchange::Broadcast => Spread::All,
        };
        Self { targets: (0..n).map(|_| Target::default()).collect(), senders, spread, overflow, outbox: VecDeque::new(), metrics }
    }

    /// Takes rows; what has no room waits in here, so look at [`Self::is_full`] first.
    pub fn send(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        match &mut self.spread {
            Spread::One(target) => {
                let target = *target;
                self.put(target, batch)
            }
            Spread::Turn(next) => {
                let target = *next;
                *next = (target + 1) % self.senders.len();
                self.put(target, batch)
            }
            Spread::All => (0..self.senders.len()).try_for_each(|t| self.put(t, batch.clone())),
            Spread::Hash(scatter) => {
                if self.senders.len() == 1 {
                    return self.put(0, batch);
                }
                for (target, piece) in scatter.split(&batch)? {
                    self.coalesce(target, piece)?;
                }
                Ok(())
            }
        }
    }

    fn coalesce(&mut self, target: usize, piece: RecordBatch) -> Result<()> {
        let waiting = &mut self.targets[target];
        if waiting.rows == 0 && piece.num_rows() >= COALESCE_BELOW_ROWS {
            return self.put(target, piece);
        }
        waiting.rows += piece.num_rows();
        waiting.pieces.push(piece);
        if waiting.rows >= COALESCE_BELOW_ROWS { self.flush_target(target) } else { Ok(()) }
    }

    fn flush_target(&mut self, target: usize) -> Result<()> {
        let waiting = &mut self.targets[target];
        let pieces = std::mem::take(&mut waiting.pieces);
        waiting.rows = 0;
        match pieces.as_slice() {
            [] => Ok(()),
            [one] => self.put(target, one.clone()),
            [first, ..] => self.put(target, concat_batches(first.schema_ref(), &pieces)?),
        }
    }

    /// Sends what waits for more rows.
    pub fn flush(&mut self) -> Result<()> {
        (0..self.targets.len()).try_for_each(|t| self.flush_target(t))
    }

    /// Whether rows wait for more rows.
    #[must_use]
    pub fn is_coalescing(&self) -> bool {
        self.targets.iter().any(|t| t.rows > 0)
    }

    fn put(&mut self, target: usize, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() > MAX_BATCH_ROWS && matches!(self.overflow, Overflow::Buffer) {
            let mut at = 0;
            while at < batch.num_rows() {
                let n = MAX_BATCH_ROWS.min(batch.num_rows() - at);
                self.put(target, batch.slice(at, n))?;
                at += n;
            }
            return Ok(());
        }
        if !self.outbox.is_empty() {
            self.outbox.push_back(Waiting::Rows(target, batch));
            return Ok(());
        }
        match self.overflow {
            Overflow::Latest => {
                let dropped = self.senders[target].send_latest(batch);
                self.metrics.dropped.add(dropped as u64);
                Ok(())
            }
            Overflow::Buffer => {
                if let Err(batch) = self.senders[target].try_send(batch) {
                    self.outbox.push_back(Waiting::Rows(target, batch));
                }
                Ok(())
            }
            Overflow::Drop => {
                if let Err(batch) = self.senders[target].try_send(batch) {
                    self.metrics.dropped.add(batch.num_rows() as u64);
                }
                Ok(())
            }
            Overflow::Error => self.senders[target].try_send(batch).map_err(|batch| {
                Error::user(format!(
                    "the queue behind the source is full ({} more rows) and `overflow: error` is set; use `buffer` to make the source wait",
                    batch.num_rows()
                ))
            }),
        }
    }

    /// Whether something waits for room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Sends what waits for room. Cancel-safe.
    pub async fn drain(&mut self) {
        while let Some(waiting) = self.outbox.pop_front() {
            match waiting {
                Waiting::Control(element) => self.broadcast(&element),
                Waiting::Rows(target, batch) => {
                    let wanted = batch_bytes(&batch);
                    if let Err(batch) = self.senders[target].try_send(batch) {
                        self.outbox.push_front(Waiting::Rows(target, batch));
                        self.senders[target].room(wanted).await;
                    }
                }
            }
        }
    }

    /// Puts a control element behind the rows sent so far.
    pub fn send_control(&mut self, element: Element) -> Result<()> {
        self.flush()?;
        if self.outbox.is_empty() {
            self.broadcast(&element);
        } else {
            self.outbox.push_back(Waiting::Control(element));
        }
        Ok(())
    }

    fn broadcast(&self, element: &Element) {
        for sender in &self.senders {
            sender.send_control(element.clone());
        }
    }
}
