//! What the broker's answer to a batch means: for the batch, and for the producer.

use karez_core::Error;
use krafka::KrafkaError;
use krafka::error::ErrorCode;

use super::produce::Answer;
use crate::kafka::client::{broker_error, client_error};
use crate::kafka::transaction::Refusal;

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Without a producer id: what is sent again may be there twice.
    Plain,
    Idempotent,
    Transactional,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is in the log, from this offset on.
    Written(i64),
    /// It may be in the log or not: the same bytes again, after a pause and a look at who leads the partition.
    Again,
    /// It is not in the log, and the broker knows nothing of this producer (any more): again, as a new one.
    AsAnother,
    /// A row of it cannot be taken; it is not in the log.
    BadRow(&'static str),
    /// The job cannot go on.
    Fail(Error),
}

impl Verdict {
    pub(super) fn of(answer: Answer, mode: Mode, topic: &str, partition: i32) -> Self {
        let doing = || format!("write to topic `{topic}` partition {partition}");
        match answer {
            Answer::Written(offset) => Self::Written(offset),
            Answer::Unknown(KrafkaError::Closed { .. }) => Self::Again,
            Answer::Unknown(e) if e.is_retriable() => Self::Again,
            Answer::Unknown(e) => Self::Fail(client_error(&doing(), e)),
            Answer::Coordinator(Refusal::Code(code)) if fenced(code) => Self::Fail(ended(&doing(), code)),
            Answer::Coordinator(Refusal::Away(_)) => Self::Again,
            Answer::Coordinator(refusal) => Self::Fail(refusal.error(&doing())),
            Answer::Code(ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge) => Self::BadRow("is larger than the topic's max.message.bytes"),
            Answer::Code(ErrorCode::InvalidRecord) => Self::BadRow("is refused by the broker (a compacted topic takes no row without a key)"),
            Answer::Code(ErrorCode::InvalidTimestamp) => {
                Self::BadRow("has a timestamp that the topic does not take (message.timestamp.before.max.ms, message.timestamp.after.max.ms)")
            }
            Answer::Code(code) => match (mode, code) {
                (
                    Mode::Idempotent,
                    ErrorCode::OutOfOrderSequenceNumber
                    | ErrorCode::UnknownProducerId
                    | ErrorCode::InvalidProducerEpoch
                    | ErrorCode::InvalidProducerIdMapping,
                ) => Self::AsAnother,
                (Mode::Transactional, code) if fenced(code) => Self::Fail(ended(&doing(), code)),
                (_, code) if code.is_retriable() => Self::Again,
                (_, code) => Self::Fail(broker_error(&doing(), code, "")),
            },
        }
    }
}

/// Codes that say: this transaction is not this producer's (any more).
const fn fenced(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ProducerFenced
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::InvalidTxnState
            | ErrorCode::InvalidProducerIdMapping
            | ErrorCode::UnknownProducerId
            | ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::TransactionAbortable
    )
}

fn ended(doing: &str, code: ErrorCode) -> Error {
    // The rows are still with the source: the job goes on from its last checkpoint, and nothing is lost.
    Error::connection(format!(
        "{doing}: the transaction is no longer open ({code:?}): the broker has timed it out (`transactionTimeout`), or another process of this job runs"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(code: ErrorCode, mode: Mode) -> Verdict {
        Verdict::of(Answer::Code(code), mode, "orders", 3)
    }

    #[test]
    fn what_passes_is_sent_again_as_it_is() {
        for mode in [Mode::Plain, Mode::Idempotent, Mode::Transactional] {
            for code in
                [ErrorCode::NotLeaderForPartition, ErrorCode::NotEnoughReplicas, ErrorCode::RequestTimedOut, ErrorCode::ConcurrentTransactions]
            {
                assert!(matches!(verdict(code, mode), Verdict::Again), "{code:?}");
            }
        }
    }

    #[test]
    fn a_producer_that_the_broker_has_forgotten_goes_on_as_another_but_not_within_a_transaction() {
        for code in [ErrorCode::UnknownProducerId, ErrorCode::OutOfOrderSequenceNumber] {
            assert!(matches!(verdict(code, Mode::Idempotent), Verdict::AsAnother));
            assert!(matches!(verdict(code, Mode::Transactional), Verdict::Fail(e) if e.is_retryable()));
        }
    }

    #[test]
    fn a_right_that_is_missing_fails_the_job_by_name() {
        let Verdict::Fail(e) = verdict(ErrorCode::TopicAuthorizationFailed, Mode::Idempotent) else { unreachable!("not a failure") };
        assert!(!e.is_retryable() && e.to_string().contains("topic `orders` partition 3"), "{e}");
    }
}
