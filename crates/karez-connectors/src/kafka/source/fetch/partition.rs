//! What is fetched of one partition and waits to be read.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use karez_core::Error;
use karez_external::RetryOptions;
use krafka::__private::protocol::AbortedTransaction;
use tokio::time::Instant;

use crate::kafka::source::position::{Position, TopicId};
use crate::kafka::source::start::TopicPartition;

/// Whole record batches, as a broker sent them.
#[derive(Debug)]
pub(in crate::kafka::source) struct Chunk {
    pub(in crate::kafka::source) batches: Bytes,
    /// Records before this one have been read before; a broker sends whole batches.
    pub(in crate::kafka::source) from: i64,
    /// The offset behind the last batch.
    pub(in crate::kafka::source) end: i64,
    /// Transactions whose records among these are not to be read, by their first offset.
    pub(in crate::kafka::source) aborted: Vec<AbortedTransaction>,
    /// The answer that the batches lie in.
    pub(super) _answer: Arc<Answer>,
}

/// The bytes of an answer, counted as long as a part of it lives.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) bytes: usize,
    pub(super) all: Arc<AtomicUsize>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Relaxed);
    }
}

/// Why nothing more will come.
#[derive(Clone, Debug)]
pub(in crate::kafka::source) enum Failure {
    /// The log does not hold the offset.
    OutOfRange,
    /// Another topic has the name now.
    Recreated(TopicId),
    /// There is no such topic any more.
    Gone,
    /// For another reason, for good.
    Other(Arc<Error>),
}

/// A partition that is being read.
#[derive(Debug)]
pub(in crate::kafka::source) struct Partition {
    pub(in crate::kafka::source) at: TopicPartition,
    pub(in crate::kafka::source) topic_id: TopicId,
    /// Nothing from here on is fetched.
    pub(super) stop: Option<i64>,
    /// How far rows have been handed to the job.
    pub(in crate::kafka::source) consumed: AtomicI64,
    /// How long an answer says what there is: brokers answer more often than that, with or without records.
    pub(super) fresh_for: Duration,
    /// Its reader has gone.
    pub(super) closed: AtomicBool,
    buffer: Mutex<Buffer>,
}

#[derive(Debug)]
pub(super) struct Buffer {
    /// The next offset to fetch.
    pub(super) next: i64,
    pub(super) chunks: VecDeque<Chunk>,
    pub(super) bytes: usize,
    /// A fetch is under way.
    pub(super) in_flight: bool,
    /// Not to be fetched before.
    pub(super) retry_at: Option<Instant>,
    /// Failures in a row.
    pub(super) failures: u32,
    /// Since when brokers have not known the topic.
    pub(super) unknown_since: Option<Instant>,
    /// The offset up to which records can be read (the last stable offset, or the high watermark), by the last answer. `None`: no answer, or the one
    /// after it failed.
    pub(super) visible_end: Option<i64>,
    /// When that was.
    pub(super) answered_at: Instant,
    /// The last of these, for the lag, also while a broker is away.
    pub(super) known_end: Option<i64>,
    /// A replica nearer than the leader.
    pub(super) replica: Option<i32>,
    pub(super) failure: Option<Failure>,
}

/// What there is to read.
pub(in crate::kafka::source) enum Taken {
    Chunk(Chunk),
    /// Everything that can be read has been.
    CaughtUp,
    /// Not known.
    Pending,
    Failed(Failure),
}

impl Buffer {
    /// Notes a failure, after which it is fetched again after a while; not, after so many as there may be in a row.
    pub(super) fn again(&mut self, retry: &RetryOptions, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + retry.delay(self.failures));
        !retry.is_over(self.failures)
    }
}

impl Partition {
    pub(super) fn new(position: &Position, fresh_for: Duration) -> Self {
        let offset = position.offset;
        let buffer = Buffer {
            next: offset,
            chunks: VecDeque::new(),
            bytes: 0,
            in_flight: false,
            retry_at: None,
            failures: 0,
            unknown_since: None,
            visible_end: None,
            answered_at: Instant::now(),
            known_end: None,
            replica: None,
            failure: None,
        };
        Self {
            at: position.at.clone(),
            topic_id: position.topic_id,
            stop: position.stop,
            consumed: AtomicI64::new(offset),
            fresh_for,
            closed: AtomicBool::new(false),
            buffer: Mutex::new(buffer),
        }
    }

    pub(super) fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what comes next.
    pub(super) fn take(&self) -> Taken {
        let mut buffer = self.buffer();
        if let Some(chunk) = buffer.chunks.pop_front() {
            buffer.bytes -= chunk.batches.len();
            return Taken::Chunk(chunk);
        }
        if let Some(failure) = &buffer.failure {
            return Taken::Failed(failure.clone());
        }
        match buffer.visible_end {
            Some(end) if buffer.next >= end && buffer.answered_at.elapsed() < self.fresh_for => Taken::CaughtUp,
            _ => Taken::Pending,
        }
    }

    /// Rows that could be read and have not been handed to the job.
    pub(super) fn lag(&self) -> Option<u64> {
        let end = self.buffer().known_end?;
        u64::try_from(end.saturating_sub(self.consumed.load(Relaxed))).ok().or(Some(0))
    }
}
