//! The batches of one partition that wait for their acknowledgement, in order: one at a time is on its way, so nothing overtakes.

use std::collections::VecDeque;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::record_batch::{SealedBatch, Stamp};

/// A batch and what it holds.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) batch: SealedBatch,
    /// It must be acknowledged by then.
    pub(super) deadline: Instant,
    /// Its part of the buffer's memory, for it and what it is split into.
    pub(super) permit: OwnedSemaphorePermit,
    /// Under which of the sender's identities it has been stamped.
    stamped: Option<(u64, Stamp)>,
    /// How often it has been sent.
    pub(super) attempts: u32,
}

impl AsRef<SealedBatch> for Waiting {
    fn as_ref(&self) -> &SealedBatch {
        &self.batch
    }
}

/// A partition.
#[derive(Debug, Default)]
pub(super) struct PartitionQueue {
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) in_flight: bool,
    /// Not to be sent before.
    pub(super) not_before: Option<Instant>,
    /// Attempts at the batch at the head that failed in a row.
    pub(super) failures: u32,
    /// The next row's sequence number, under which identity.
    next: (u64, i32),
    /// Whether the partition is part of the open transaction.
    pub(super) added: bool,
    /// What has been acknowledged in the open transaction.
    pub(super) range: Option<(i64, i64)>,
}

impl Waiting {
    pub(super) const fn new(batch: SealedBatch, deadline: Instant, permit: OwnedSemaphorePermit) -> Self {
        Self { batch, deadline, permit, stamped: None, attempts: 0 }
    }

    /// Forgets who wrote it: the broker has said that it is not in the log.
    pub(super) const fn unstamp(&mut self) {
        self.stamped = None;
    }
}

impl PartitionQueue {
    /// Takes the batch at the head for sending. A batch keeps its stamp as long as it may be in the log: the broker knows it again by that.
    pub(super) fn take(&mut self, identity: u64, producer: Option<(i64, i16)>, transactional: bool) -> Option<Waiting> {
        let mut head = self.waiting.pop_front()?;
        if head.stamped.is_none() {
            let stamp = self.stamp(identity, producer, transactional, head.batch.count());
            head.batch.stamp(stamp);
            head.stamped = Some((identity, stamp));
        }
        head.attempts += 1;
        self.in_flight = true;
        Some(head)
    }

    /// The stamp of a batch of so many rows, which have the next sequence numbers from now on.
    const fn stamp(&mut self, identity: u64, producer: Option<(i64, i16)>, transactional: bool, rows: i32) -> Stamp {
        let Some((producer_id, producer_epoch)) = producer else { return Stamp::NONE };
        if self.next.0 != identity {
            self.next = (identity, 0);
        }
        let base_sequence = self.next.1;
        self.next.1 = sequence_after(base_sequence, rows);
        Stamp { producer_id, producer_epoch, base_sequence, transactional }
    }

    /// Puts back what is to be sent again, before everything else.
    pub(super) fn put_back(&mut self, batch: Waiting) {
        self.waiting.push_front(batch);
    }

    /// The head was refused and is not in the log: its sequence numbers are used for what comes instead.
    pub(super) const fn rewind(&mut self, refused: &Waiting) {
        if let Some((identity, stamp)) = refused.stamped
            && self.next.0 == identity
        {
            self.next.1 = stamp.base_sequence;
        }
    }

    /// The batch is in the log.
    pub(super) fn written(&mut self, base_offset: i64, count: i32) {
        self.failures = 0;
        if base_offset >= 0 {
            let last = base_offset + i64::from(count) - 1;
            let (first, before) = self.range.unwrap_or((base_offset, last));
            self.range = Some((first.min(base_offset), before.max(last)));
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.in_flight && self.waiting.is_empty()
    }
}

/// Sequence numbers go on with 0 behind `i32::MAX`.
const fn sequence_after(base: i32, count: i32) -> i32 {
    ((base as i64 + count as i64) % (1 << 31)) as i32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use krafka::__private::protocol::RecordBatch;
    use tokio::sync::Semaphore;

    use super::super::compression::Compression;
    use super::super::record_batch::{NO_HEADERS, OpenBatch, Record};
    use super::*;

    fn batch(rows: usize) -> Waiting {
        let mut open = OpenBatch::default();
        (0..rows).for_each(|_| open.push(Record { key: None, value: Some(b"v"), headers: NO_HEADERS, timestamp_ms: 0 }));
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Waiting::new(open.seal(Compression::default()).unwrap(), Instant::now() + Duration::from_secs(1), permit)
    }

    fn sequence(waiting: &Waiting) -> (i64, i32) {
        let read = RecordBatch::decode(&mut Bytes::copy_from_slice(waiting.batch.bytes())).unwrap();
        (read.producer_id, read.base_sequence)
    }

    #[test]
    fn sequence_numbers_count_rows_and_a_batch_sent_again_keeps_its_own() {
        let mut queue = PartitionQueue::default();
        queue.waiting.extend([batch(3), batch(2)]);
        let first = queue.take(1, Some((7, 0)), false).unwrap();
        assert_eq!(sequence(&first), (7, 0));
        queue.put_back(first);
        assert_eq!(sequence(&queue.take(1, Some((7, 0)), false).unwrap()), (7, 0));
        assert_eq!(sequence(&queue.take(1, Some((7, 0)), false).unwrap()), (7, 3));
    }

    #[test]
    fn a_new_identity_begins_at_0_and_leaves_what_may_be_in_the_log_as_it_is() {
        let mut queue = PartitionQueue::default();
        queue.waiting.extend([batch(3), batch(2)]);
        let first = queue.take(1, Some((7, 0)), false).unwrap();
        queue.put_back(first);
        assert_eq!(sequence(&queue.take(2, Some((8, 0)), false).unwrap()), (7, 0));
        assert_eq!(sequence(&queue.take(2, Some((8, 0)), false).unwrap()), (8, 0));
    }

    #[test]
    fn the_halves_of_a_refused_batch_take_its_numbers() {
        let mut queue = PartitionQueue::default();
        queue.waiting.push_back(batch(5));
        let refused = queue.take(1, Some((7, 0)), false).unwrap();
        queue.rewind(&refused);
        queue.waiting.extend([batch(2), batch(3)]);
        assert_eq!(sequence(&queue.take(1, Some((7, 0)), false).unwrap()), (7, 0));
        assert_eq!(sequence(&queue.take(1, Some((7, 0)), false).unwrap()), (7, 2));
    }

    #[test]
    fn sequence_numbers_wrap_as_kafkas_do() {
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
    }

    #[test]
    fn the_range_of_a_transaction_spans_its_batches() {
        let mut queue = PartitionQueue::default();
        queue.written(10, 3);
        queue.written(20, 1);
        assert_eq!(queue.range, Some((10, 20)));
    }
}
