//! A queue between two subtasks, bounded in batches and in bytes.
//!
//! Only rows count against the bounds: control elements always find room (there are few of them: a watermark replaces a watermark at
//! the queue's end), so that a barrier or the end of the input cannot be held up by their own kind.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::record_batch::RecordBatch;
use karez_core::Element;
use karez_core::schema::batch_bytes;
use tokio::sync::Notify;

/// How much a queue holds.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimit {
    /// Batches.
    pub batches: usize,
    /// Bytes; one batch larger than this is let through alone.
    pub bytes: usize,
}

#[derive(Default)]
struct State {
    elements: VecDeque<Element>,
    batches: usize,
    bytes: usize,
}

struct Shared {
    state: Mutex<State>,
    limit: QueueLimit,
    /// Told when room comes free.
    room: Notify,
    /// Told when something arrives; shared by all queues of one consumer.
    arrived: Arc<Notify>,
    /// The consumer is gone: what is sent is dropped (the job is being cancelled).
    closed: AtomicBool,
    batches: AtomicUsize,
    bytes: AtomicUsize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &State) {
        self.batches.store(state.batches, Ordering::Relaxed);
        self.bytes.store(state.bytes, Ordering::Relaxed);
    }
}

/// The producer's end.
pub struct Sender(Arc<Shared>);

/// The consumer's end.
pub struct Receiver(Arc<Shared>);

/// A queue whose consumer is woken through `arrived`.
#[must_use]
pub fn queue(limit: QueueLimit, arrived: Arc<Notify>) -> (Sender, Receiver) {
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        limit,
        room: Notify::new(),
        arrived,
        closed: AtomicBool::new(false),
        batches: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl Sender {
    /// Puts rows in, or gives them back where there is no room.
    pub fn try_send(&self, batch: RecordBatch) -> Result<(), RecordBatch> {
        let bytes = batch_bytes(&batch);
        let mut state = self.0.lock();
        if self.0.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let full = state.batches >= self.0.limit.batches || (state.batches > 0 && state.bytes + bytes > self.0.limit.bytes);
        if full {
            return Err(batch);
        }
        state.push(batch, bytes);
        self.0.publish(&state);
        drop(state);
        self.0.arrived.notify_one();
        Ok(())
    }

    /// Puts rows in and drops the oldest waiting ones where there is no room; answers how many rows were dropped.
    pub fn send_latest(&self, batch: RecordBatch) -> usize {
        let bytes = batch_bytes(&batch);
        let mut state = self.0.lock();
        let mut dropped = 0;
        if self.0.closed.load(Ordering::Acquire) {
            return batch.num_rows();
        }
        while state.batches > 0 && (state.batches >= self.0.limit.batches || state.bytes + bytes > self.0.limit.bytes) {
            let Some(at) = state.elements.iter().position(|e| matches!(e, Element::Batch(_))) else { break };
            if let Some(Element::Batch(old)) = state.elements.remove(at) {
                dropped += old.num_rows();
                state.batches -= 1;
                state.bytes -= batch_bytes(&old);
            }
        }
        state.push(batch, bytes);
        self.0.publish(&state);
        drop(state);
        self.0.arrived.notify_one();
        dropped
    }

    /// Puts a control element in.
    pub fn send_control(&self, element: Element) {
        debug_assert!(!matches!(element, Element::Batch(_)), "rows go through try_send");
        let mut state = self.0.lock();
        match (state.elements.back_mut(), &element) {
            (Some(last @ (Element::Watermark(_) | Element::Idle)), Element::Watermark(_)) => *last = element,
            _ => state.elements.push_back(element),
        }
        drop(state);
        self.0.arrived.notify_one();
    }

    /// Waits until rows might find room.
    pub async fn room(&self, wanted: usize) {
        loop {
            let notified = self.0.room.notified();
            {
                let state = self.0.lock();
                let fits = state.batches < self.0.limit.batches && (state.batches == 0 || state.bytes + wanted <= self.0.limit.bytes);
                if fits || self.0.closed.load(Ordering::Acquire) {
                    return;
                }
            }
            notified.await;
        }
    }
}

impl State {
    fn push(&mut self, batch: RecordBatch, bytes: usize) {
        self.batches += 1;
        self.bytes += bytes;
        self.elements.push_back(Element::Batch(batch));
    }
}

impl Receiver {
    /// The next element, if one is there.
    #[must_use]
    pub fn try_receive(&self) -> Option<Element> {
        let mut state = self.0.lock();
        let element = state.elements.pop_front()?;
        if let Element::Batch(batch) = &element {
            state.batches -= 1;
            state.bytes -= batch_bytes(batch);
            self.0.publish(&state);
            drop(state);
            self.0.room.notify_one();
        }
        Some(element)
    }

    /// Batches and bytes that wait.
    #[must_use]
    pub fn fill(&self) -> (usize, usize) {
        (self.0.batches.load(Ordering::Relaxed), self.0.bytes.load(Ordering::Relaxed))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        let mut state = self.0.lock();
        state.elements.clear();
        (state.batches, state.bytes) = (0, 0);
        drop(state);
        self.0.room.notify_one();
    }
}
