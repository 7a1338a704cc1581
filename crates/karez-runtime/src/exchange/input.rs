//! The inputs of a subtask: alignment of barriers, the minimum of the watermarks, the end when all have ended.
//!
//! A channel that has delivered its barrier is not read until the others have delivered theirs, so its producer waits once its queue is
//! full: that is the alignment (Chandy–Lamport as in Carbone et al., 2015). An ended channel counts as one that has delivered (FLIP-147).

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use karez_core::{Barrier, Element, Watermark};
use tokio::sync::Notify;

use super::queue::Receiver;
use crate::watermark::WatermarkTracker;

/// What comes out of the inputs.
#[derive(Debug)]
pub enum Event {
    /// Rows of an input.
    Batch(usize, RecordBatch),
    /// The minimum watermark has risen.
    Watermark(Watermark),
    /// All inputs are idle.
    Idle,
    /// All inputs have delivered this barrier.
    Barrier(Barrier),
    /// All inputs have ended.
    End,
}

struct Channel {
    receiver: Receiver,
    /// Which input of the first operator it feeds.
    input: usize,
    blocked: bool,
    ended: bool,
}

/// The inputs of a subtask.
pub struct Inputs {
    channels: Vec<Channel>,
    arrived: Arc<Notify>,
    tracker: WatermarkTracker,
    /// The barrier that channels are blocked by.
    aligning: Option<Barrier>,
    /// Events found but not given yet.
    ready: Option<Event>,
    next: usize,
    end_given: bool,
}

impl Inputs {
    /// Inputs fed by `(input, receiver)`, woken through `arrived`.
    #[must_use]
    pub fn new(channels: Vec<(usize, Receiver)>, arrived: Arc<Notify>) -> Self {
        let tracker = WatermarkTracker::new(channels.len());
        let channels = channels.into_iter().map(|(input, receiver)| Channel { receiver, input, blocked: false, ended: false }).collect();
        Self { channels, arrived, tracker, aligning: None, ready: None, next: 0, end_given: false }
    }

    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            self.arrived.notified().await;
        }
    }

    /// Batches and bytes that wait.
    #[must_use]
    pub fn fill(&self) -> (usize, usize) {
        self.channels.iter().map(|c| c.receiver.fill()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// The next event, if one is there.
    pub fn try_next(&mut self) -> Option<Event> {
        if let Some(event) = self.ready.take() {
            return Some(event);
        }
        let n = self.channels.len();
        let mut empty = 0;
        while empty < n {
            let at = self.next % n;
            self.next = (at + 1) % n;
            let channel = &mut self.channels[at];
            if channel.blocked || channel.ended {
                empty += 1;
                continue;
            }
            let Some(element) = channel.receiver.try_receive() else {
                empty += 1;
                continue;
            };
            empty = 0;
            if let Some(event) = self.take(at, element) {
                return Some(event);
            }
        }
        if !self.end_given && self.channels.iter().all(|c| c.ended) {
            self.end_given = true;
            return Some(Event::End);
        }
        None
    }

    fn take(&mut self, at: usize, element: Element) -> Option<Event> {
        match element {
            Element::Batch(batch) => {
                self.tracker.active(at);
                Some(Event::Batch(self.channels[at].input, batch))
            }
            Element::Watermark(watermark) => self.tracker.advance(at, watermark).map(Event::Watermark),
            Element::Idle => {
                let risen = self.tracker.idle(at).map(Event::Watermark);
                if self.tracker.all_idle() {
                    match risen {
                        Some(watermark) => {
                            self.ready = Some(Event::Idle);
                            Some(watermark)
                        }
                        None => Some(Event::Idle),
                    }
                } else {
                    risen
                }
            }
            Element::Barrier(barrier) => {
                debug_assert!(self.aligning.is_none_or(|b| b.checkpoint == barrier.checkpoint), "one checkpoint at a time");
                self.channels[at].blocked = true;
                self.aligning = Some(barrier);
                self.aligned().map(Event::Barrier)
            }
            Element::EndOfInput => {
                self.channels[at].ended = true;
                let risen = self.tracker.advance(at, Watermark::MAX);
                let barrier = self.aligned();
                match (risen, barrier) {
                    (Some(w), Some(b)) => {
                        // The ended input's watermark belongs before the barrier: its rows do.
                        self.ready = Some(Event::Barrier(b));
                        Some(Event::Watermark(w))
                    }
                    (Some(w), None) => Some(Event::Watermark(w)),
                    (None, Some(b)) => Some(Event::Barrier(b)),
                    (None, None) => None,
                }
            }
        }
    }

    fn aligned(&mut self) -> Option<Barrier> {
        let barrier = self.aligning?;
        if !self.channels.iter().all(|c| c.blocked || c.ended) {
            return None;
        }
        self.aligning = None;
        for channel in &mut self.channels {
            channel.blocked = false;
        }
        Some(barrier)
    }
}
