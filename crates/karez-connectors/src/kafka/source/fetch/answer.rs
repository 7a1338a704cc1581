//! What a broker's answer means for each partition.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use karez_core::Error;
use krafka::__private::protocol::FetchPartitionResponse;
use krafka::error::ErrorCode;
use tokio::time::Instant;

use super::Shared;
use super::partition::{Answer, Chunk, Failure, Partition};
use super::round::{Fetched, Target};
use crate::kafka::client::{broker_error, client_error};
use crate::kafka::source::batch;

impl Shared {
    /// Takes an answer in. Whether it brought records; topics whose leaders have to be asked for go into `stale`.
    pub(super) fn take_in(&self, fetched: Fetched, stale: &mut BTreeSet<String>) -> bool {
        let Fetched { broker, targets, result } = fetched;
        let response = match result {
            Ok(response) if response.error_code.is_ok() => response,
            Ok(response) => {
                let e = broker_error(&format!("fetch from broker {broker}"), response.error_code, "");
                self.failed(&targets, e, stale);
                return false;
            }
            Err(e) => {
                self.failed(&targets, client_error(&format!("fetch from broker {broker}"), e), stale);
                return false;
            }
        };
        let bytes = response.responses.iter().flat_map(|t| &t.partitions).map(|p| p.records.as_ref().map_or(0, |r| r.len())).sum();
        self.metrics.bytes_in.add(bytes as u64);
        self.held.fetch_add(bytes, Relaxed);
        let answer = Arc::new(Answer { bytes, all: Arc::clone(&self.held) });
        let mut waiting: Vec<Target> = targets;
        for topic in response.responses {
            for response in topic.partitions {
                let of = |t: &Target| {
                    let p = &t.partition;
                    p.at.partition == response.partition && (p.at.topic == topic.topic || topic.topic_id == Some(p.topic_id.0))
                };
                let Some(at) = waiting.iter().position(of) else { continue };
                let target = waiting.swap_remove(at);
                self.partition(&target, response, &answer, stale);
            }
        }
        // Left out of the answer.
        for target in waiting {
            target.partition.buffer().in_flight = false;
        }
        bytes > 0
    }

    /// Nothing of a request is known.
    fn failed(&self, targets: &[Target], e: Error, stale: &mut BTreeSet<String>) {
        let e = Arc::new(e);
        if e.is_retryable() {
            tracing::warn!(error = %e, "Kafka partitions could not be fetched, trying again");
            self.meter.again();
        }
        let now = Instant::now();
        for target in targets {
            let mut buffer = target.partition.buffer();
            (buffer.in_flight, buffer.visible_end, buffer.replica) = (false, None, None);
            if !e.is_retryable() {
                buffer.failure = Some(Failure::Other(Arc::clone(&e)));
            } else if buffer.again(&self.settings.retry, now) {
                stale.insert(target.partition.at.topic.clone());
            } else {
                buffer.failure = Some(Failure::Other(Arc::new(self.given_up(&target.partition, &e))));
            }
        }
    }

    fn given_up(&self, partition: &Partition, e: &Error) -> Error {
        self.settings.retry.given_up(&format!("fetch `{}`", partition.at), Error::connection(e.to_string()))
    }

    fn partition(&self, target: &Target, response: FetchPartitionResponse, answer: &Arc<Answer>, stale: &mut BTreeSet<String>) {
        let partition = &target.partition;
        let mut buffer = partition.buffer();
        buffer.in_flight = false;
        if buffer.next != target.offset {
            return;
        }
        let code = response.error_code;
        if !code.is_ok() {
            buffer.visible_end = None;
            buffer.replica = None;
            let now = Instant::now();
            let may_be_again = buffer.again(&self.settings.retry, now);
            match code {
                ErrorCode::OffsetOutOfRange => buffer.failure = Some(Failure::OutOfRange),
                ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId | ErrorCode::InconsistentTopicId => {
                    buffer.unknown_since.get_or_insert(now);
                }
                code => {
                    let e = broker_error(&format!("fetch `{}`", partition.at), code, "");
                    if !e.is_retryable() {
                        buffer.failure = Some(Failure::Other(Arc::new(e)));
                    } else if !may_be_again {
                        buffer.failure = Some(Failure::Other(Arc::new(self.given_up(partition, &e))));
                    }
                }
            }
            if buffer.failure.is_none() {
                tracing::debug!(partition = %partition.at, ?code, "fetch refused, trying again");
                self.meter.again();
                stale.insert(partition.at.topic.clone());
            }
            return;
        }
        (buffer.failures, buffer.retry_at, buffer.unknown_since) = (0, None, None);
        buffer.replica = (response.preferred_read_replica >= 0 && self.settings.rack.is_some()).then_some(response.preferred_read_replica);
        let stable = Some(response.last_stable_offset).filter(|o| self.settings.read_committed && *o >= 0);
        let end = stable.unwrap_or(response.high_watermark);
        (buffer.visible_end, buffer.known_end, buffer.answered_at) = (Some(end), Some(end), Instant::now());
        match chunk(partition, response, target.offset, answer) {
            Err(reason) => buffer.failure = Some(Failure::Other(Arc::new(damaged(partition, target.offset, &reason)))),
            Ok(Some(chunk)) => {
                buffer.next = chunk.end;
                buffer.bytes += chunk.batches.len();
                buffer.chunks.push_back(chunk);
            }
            // An answer without records says nothing of what lies up to its end: a broker that has to fetch them from elsewhere (tiered storage) and is slow,
            // or throttles, answers so, too. What compaction leaves out is stepped over with the batch behind it.
            Ok(None) => {}
        }
    }
}

/// The whole batches of an answer; a last one that was cut off is asked for again.
fn chunk(partition: &Partition, response: FetchPartitionResponse, from: i64, answer: &Arc<Answer>) -> Result<Option<Chunk>, String> {
    let Some(records) = response.records.filter(|r| !r.is_empty()) else { return Ok(None) };
    let (mut length, mut end) = (0, from);
    while let Some(header) = batch::whole(&records[length..])? {
        length += header.total_size();
        end = end.max(header.last_offset().saturating_add(1));
    }
    if length == 0 || end == from {
        tracing::debug!(partition = %partition.at, from, bytes = records.len(), "an answer without a whole batch");
        return Ok(None);
    }
    let mut aborted = response.aborted_transactions;
    aborted.sort_unstable_by_key(|t| t.first_offset);
    Ok(Some(Chunk { batches: records.slice(..length), from, end, aborted, _answer: Arc::clone(answer) }))
}

/// A batch that cannot be read, now or later.
fn damaged(partition: &Partition, offset: i64, reason: &str) -> Error {
    Error::external(format!(
        "the record batch of `{}` at or behind offset {offset} cannot be read: {reason}; go on behind it with `seek`, or restore the partition",
        partition.at
    ))
}
