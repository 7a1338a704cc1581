//! An asynchronous operator in its chain: batches that wait for their answers, and the control elements that wait behind them.
//!
//! Each batch is a tokio task of its own, so that answers are taken from the network while the chain works or waits. What has been answered is put
//! back into the line by the chain (see `Stage::next`): in order of input, or of completion between two control elements.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use karez_core::async_operator::{Answer, AsyncSettings, OutputOrder};
use karez_core::metrics::NodeMetrics;
use karez_core::schema::batch_bytes;
use karez_core::{AsyncOperator, BadRecord, Error, Result};
use tokio::sync::Notify;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio_util::task::AbortOnDropHandle;

use super::chain::Item;

type Answered = std::thread::Result<Result<Answer>>;

/// An asynchronous operator and what it has in flight.
pub struct Stage {
    operator: Arc<dyn AsyncOperator>,
    settings: AsyncSettings,
    waiting: VecDeque<Waiting>,
    /// Batches in `waiting`, and their rows and bytes.
    batches: usize,
    rows: usize,
    bytes: usize,
    metrics: Arc<NodeMetrics>,
}

enum Waiting {
    Batch(InFlight),
    Control(Item),
}

struct InFlight {
    rows: usize,
    bytes: usize,
    state: State,
}

enum State {
    Working {
        answered: oneshot::Receiver<Answered>,
        /// Dropping it ends the work.
        _work: AbortOnDropHandle<()>,
    },
    /// What is left to be handed on.
    Answered { batches: VecDeque<RecordBatch>, bad: Vec<BadRecord> },
}

/// What leaves a stage.
pub(super) enum Left {
    /// Rows at fault of a batch, before its rows.
    Bad(Vec<BadRecord>),
    /// Rows.
    Rows(RecordBatch),
    /// A batch without further rows: there is room for another.
    Nothing,
    /// A control element.
    Control(Item),
}

impl Stage {
    /// A stage with nothing in flight.
    pub fn new(operator: Arc<dyn AsyncOperator>, settings: AsyncSettings, metrics: Arc<NodeMetrics>) -> Self {
        Self { operator, settings, waiting: VecDeque::new(), batches: 0, rows: 0, bytes: 0, metrics }
    }

    /// Bytes in flight and of the operator itself.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes + self.operator.memory_bytes()
    }

    /// Whether this may be taken in now.
    pub(super) fn has_room(&self, item: &Item) -> bool {
        match item {
            Item::Batch(_, batch) => {
                self.batches == 0 || (self.batches < self.settings.batches && self.rows + batch.num_rows() <= self.settings.rows)
            }
            _ => true,
        }
    }

    /// Begins work on rows. `arrived` is told when there is an answer.
    pub(super) fn begin(&mut self, batch: RecordBatch, arrived: &Arc<Notify>) {
        let (rows, bytes) = (batch.num_rows(), batch_bytes(&batch));
        self.batches += 1;
        self.rows += rows;
        self.bytes += bytes;
        self.count(rows);
        let (operator, arrived) = (Arc::clone(&self.operator), Arc::clone(arrived));
        let (answer, answered) = oneshot::channel();
        let work = async move {
            // A panic goes on in the chain, like one of any operator.
            let result = AssertUnwindSafe(operator.process(batch)).catch_unwind().await;
            // Nobody listens when the job is being torn down.
            let _ = answer.send(result);
            arrived.notify_one();
        };
        let state = State::Working { answered, _work: AbortOnDropHandle::new(tokio::spawn(work)) };
        self.waiting.push_back(Waiting::Batch(InFlight { rows, bytes, state }));
    }

    /// Puts a control element behind what is in flight.
    pub(super) fn follow(&mut self, item: Item) {
        if let Item::Watermark(_) = item {
            // Behind rows that wait long, event time goes on: its last word is enough.
            while let Some(Waiting::Control(Item::Watermark(_) | Item::Idle)) = self.waiting.back() {
                self.waiting.pop_back();
            }
        }
        if !matches!((&item, self.waiting.back()), (Item::Idle, Some(Waiting::Control(Item::Idle)))) {
            self.waiting.push_back(Waiting::Control(item));
        }
    }

    /// Whether all of it must leave before the chain is at rest: a barrier, or the end, waits.
    pub(super) fn must_drain(&self) -> bool {
        matches!(self.waiting.back(), Some(Waiting::Control(Item::Barrier(_) | Item::End)))
    }

    /// Whether something is in flight.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether something can leave.
    pub(super) fn is_ready(&mut self) -> Result<bool> {
        self.first_ready().map(|at| at.is_some())
    }

    /// What leaves next, if something can.
    pub(super) fn next(&mut self) -> Result<Option<Left>> {
        let Some(at) = self.first_ready()? else { return Ok(None) };
        if let Some(Waiting::Batch(InFlight { state: State::Answered { batches, bad }, .. })) = self.waiting.get_mut(at) {
            if !bad.is_empty() {
                return Ok(Some(Left::Bad(std::mem::take(bad))));
            }
            if batches.len() > 1 {
                return Ok(batches.pop_front().map(Left::Rows));
            }
        }
        Ok(match self.waiting.remove(at) {
            None => None,
            Some(Waiting::Control(item)) => Some(Left::Control(item)),
            Some(Waiting::Batch(InFlight { rows, bytes, state })) => {
                self.batches -= 1;
                self.rows -= rows;
                self.bytes -= bytes;
                self.uncount(rows);
                match state {
                    State::Answered { mut batches, .. } => Some(batches.pop_front().map_or(Left::Nothing, Left::Rows)),
                    State::Working { .. } => return Err(Error::internal("a batch without an answer left an asynchronous operator")),
                }
            }
        })
    }

    /// The first that can leave: the front, or where order does not matter the first answered one before a control element.
    fn first_ready(&mut self) -> Result<Option<usize>> {
        for (at, waiting) in self.waiting.iter_mut().enumerate() {
            let Waiting::Batch(batch) = waiting else { return Ok((at == 0).then_some(0)) };
            if batch.is_answered()? {
                return Ok(Some(at));
            }
            if self.settings.order == OutputOrder::Input {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn count(&self, rows: usize) {
        self.metrics.rows_in_flight.add(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    fn uncount(&self, rows: usize) {
        self.metrics.rows_in_flight.add(i64::try_from(rows).map_or(i64::MIN, |n| -n));
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.uncount(self.rows);
    }
}

impl InFlight {
    fn is_answered(&mut self) -> Result<bool> {
        let State::Working { answered, .. } = &mut self.state else { return Ok(true) };
        match answered.try_recv() {
            Ok(Ok(answer)) => {
                let Answer { batches, bad } = answer?;
                self.state = State::Answered { batches: batches.into(), bad };
                Ok(true)
            }
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Closed) => Err(Error::internal("the work on a batch was dropped")),
        }
    }
}
