//! What is asked of transaction coordinators: a producer id and epoch for a transactional id, partitions for a transaction, its end.
//!
//! Each transactional id has its coordinator, one of the brokers. It is looked up, remembered, and looked up again when the broker says that it is not (any
//! more); a broker that is away is asked again with growing pauses until the deadline.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use karez_core::config::Span;
use karez_core::{Error, Result};
use karez_external::{ClientMeter, RetryOptions};
use krafka::__private::network::BrokerConnection;
use krafka::__private::protocol::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ApiKey, DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest,
    EndTxnResponse, FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse, VersionedDecode, VersionedEncode,
    versions,
};
use krafka::error::ErrorCode;
use krafka::{Kafka, KrafkaError};
use tokio::time::Instant;

use super::prepared::{Identity, TransactionVersion};
use crate::kafka::client::{Meter, broker_error, client_error};

/// The feature whose level says how transactions begin and end.
const FEATURE: &str = "transaction.version";

/// From this version on `EndTxn` moves the producer to the next epoch, whatever the cluster's level: older rules need an older request.
const EPOCH_BUMP_END_TXN: i16 = 5;

/// The first pause, at most: a transaction that is being ended takes milliseconds.
const FIRST_PAUSE: Span = Span::millis(20);

/// How a transaction is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kafka) enum End {
    Commit,
    Abort,
}

/// Why the coordinator could not do it.
#[derive(Clone, Debug)]
pub(in crate::kafka) enum Refusal {
    /// It answered with this code, which trying again does not change.
    Code(ErrorCode),
    /// It was not to be reached before the deadline, or busy until then.
    Away(KrafkaError),
    /// Anything else.
    Client(KrafkaError),
}

impl Refusal {
    /// As an error of the job.
    pub(in crate::kafka) fn error(self, doing: &str) -> Error {
        match self {
            Self::Code(code) => broker_error(doing, code, ""),
            Self::Away(e) => Error::connection(doing).caused_by(e),
            Self::Client(e) => client_error(doing, e),
        }
    }
}

/// The coordinators of a cluster's transactions.
#[derive(Debug)]
pub(in crate::kafka) struct Coordinators {
    kafka: Arc<Kafka>,
    /// By transactional id, the broker.
    known: Mutex<HashMap<String, i32>>,
    /// How long one call may take, its attempts together.
    deadline: Duration,
    retry: RetryOptions,
    meter: Meter,
}

impl Coordinators {
    pub(in crate::kafka) fn new(kafka: Arc<Kafka>, deadline: Duration, retry: RetryOptions, meter: Meter) -> Self {
        let retry = RetryOptions { initial_delay: retry.initial_delay.min(FIRST_PAUSE), ..retry };
        Self { kafka, known: Mutex::default(), deadline, retry, meter }
    }

    /// A producer for one transactional id. Whatever was open under it is aborted, and who held it before is fenced off.
    pub(in crate::kafka) async fn init(&self, transactional_id: &str, timeout: Duration) -> Result<Identity, Refusal> {
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let request = InitProducerIdRequest::transactional(transactional_id, timeout_ms);
        self.ask(transactional_id, |connection| {
            let request = &request;
            async move {
                let range = (versions::INIT_PRODUCER_ID_MIN, versions::INIT_PRODUCER_ID_MAX);
                let answer: InitProducerIdResponse = exchange(&connection, ApiKey::InitProducerId, range, request).await?;
                checked(answer.error_code)?;
                Ok(Identity {
                    transactional_id: transactional_id.to_owned(),
                    producer_id: answer.producer_id,
                    producer_epoch: answer.producer_epoch,
                    transaction_version: TransactionVersion::of_level(connection.broker_features().finalized_level(FEATURE)),
                })
            }
        })
        .await
    }

    /// Makes partitions part of a transaction of the classic kind, before they are written to.
    pub(in crate::kafka) async fn add_partitions(&self, identity: &Identity, partitions: &[(Arc<str>, i32)]) -> Result<(), Refusal> {
        let id = &identity.transactional_id;
        let request = AddPartitionsToTxnRequest::new(id, identity.producer_id, identity.producer_epoch);
        let request = partitions.iter().fold(request, |request, (topic, partition)| request.add_partition(&**topic, *partition));
        self.ask(id, |connection| {
            let request = &request;
            async move {
                // From version 4 on this is a request between brokers, with rights of their own.
                let range = (versions::ADD_PARTITIONS_TO_TXN_MIN, 3);
                let answer: AddPartitionsToTxnResponse = exchange(&connection, ApiKey::AddPartitionsToTxn, range, request).await?;
                let codes = answer.results.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
                // Of several, the one that is not the mere consequence of another partition's.
                let failed: Vec<_> = codes.filter(|code| !code.is_ok()).collect();
                match failed.iter().find(|code| **code != ErrorCode::OperationNotAttempted).or(failed.first()) {
                    Some(code) => checked(*code),
                    None => Ok(()),
                }
            }
        })
        .await
    }

    /// Commits or aborts a transaction; may be repeated, also by a process that never wrote in it.
    pub(in crate::kafka) async fn end(&self, identity: &Identity, end: End) -> Result<(), Refusal> {
        let (id, producer, epoch) = (&identity.transactional_id, identity.producer_id, identity.producer_epoch);
        let request = match end {
            End::Commit => EndTxnRequest::commit(id, producer, epoch),
            End::Abort => EndTxnRequest::abort(id, producer, epoch),
        };
        let range = match identity.transaction_version {
            TransactionVersion::Classic => (versions::END_TXN_MIN, EPOCH_BUMP_END_TXN - 1),
            TransactionVersion::EpochBump => (EPOCH_BUMP_END_TXN, versions::END_TXN_MAX),
        };
        self.ask(id, |connection| {
            let request = &request;
            async move {
                let answer: EndTxnResponse = exchange(&connection, ApiKey::EndTxn, range, request).await?;
                checked(answer.error_code)
            }
        })
        .await
    }

    /// Whether the newest transaction of an id has been committed, or is being so: the coordinator answers a commit before its markers are in the log.
    pub(in crate::kafka) async fn is_committed(&self, transactional_id: &str) -> Result<bool, Refusal> {
        let request = DescribeTransactionsRequest { transactional_ids: vec![transactional_id.to_owned()] };
        self.ask(transactional_id, |connection| {
            let request = &request;
            async move {
                let range = (versions::DESCRIBE_TRANSACTIONS_MIN, versions::DESCRIBE_TRANSACTIONS_MAX);
                let answer: DescribeTransactionsResponse = exchange(&connection, ApiKey::DescribeTransactions, range, request).await?;
                let Some(described) = answer.transaction_states.first() else { return Ok(false) };
                match described.error_code {
                    // It has expired.
                    ErrorCode::TransactionalIdNotFound => Ok(false),
                    code => checked(code).map(|()| matches!(described.transaction_state.as_str(), "PrepareCommit" | "CompleteCommit")),
                }
            }
        })
        .await
    }

    /// Asks the coordinator of an id until it answers for good or the deadline has passed.
    async fn ask<T, F, Fut>(&self, transactional_id: &str, attempt: F) -> Result<T, Refusal>
    where
        F: Fn(Arc<BrokerConnection>) -> Fut,
        Fut: Future<Output = Result<T, KrafkaError>>,
    {
        let deadline = Instant::now() + self.deadline;
        for number in 0u32.. {
            let _call = self.meter.get().map(ClientMeter::begin);
            let one = async { attempt(self.connection(transactional_id, number).await?).await };
            let error = match tokio::time::timeout_at(deadline, one).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(e)) if !is_worth_another(&e) => {
                    return Err(match e {
                        KrafkaError::Broker { code, .. } => Refusal::Code(code),
                        e => Refusal::Client(e),
                    });
                }
                Ok(Err(e)) => e,
                Err(_) => return Err(Refusal::Away(KrafkaError::Timeout { operation: format!("a call to the coordinator of {transactional_id}") })),
            };
            if !matches!(&error, KrafkaError::Broker { code: ErrorCode::ConcurrentTransactions, .. }) {
                self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(transactional_id);
            }
            let pause = self.retry.delay(number + 1);
            if Instant::now() + pause >= deadline || self.retry.is_over(number + 1) {
                return Err(Refusal::Away(error));
            }
            if let Some(meter) = self.meter.get() {
                meter.again();
            }
            tokio::time::sleep(pause).await;
        }
        Err(Refusal::Away(KrafkaError::Timeout { operation: "a call to a transaction coordinator".into() }))
    }

    async fn connection(&self, transactional_id: &str, attempt: u32) -> Result<Arc<BrokerConnection>, KrafkaError> {
        let metadata = krafka::__private::kafka_metadata(&self.kafka);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(transactional_id).copied();
        if let Some(broker) = known {
            return metadata.get_broker_connection(broker).await;
        }
        let mut brokers = metadata.brokers();
        if brokers.is_empty() || attempt > 0 {
            metadata.force_refresh(Some(&[])).await?;
            brokers = metadata.brokers();
        }
        let any = brokers.get(attempt as usize % brokers.len().max(1));
        let any = any.ok_or_else(|| KrafkaError::Timeout { operation: "no broker is known".into() })?;
        let connection = metadata.get_broker_connection(any.id()).await?;
        let request = FindCoordinatorRequest::for_transaction(transactional_id);
        let range = (versions::FIND_COORDINATOR_MIN, versions::FIND_COORDINATOR_MAX);
        let found: FindCoordinatorResponse = exchange(&connection, ApiKey::FindCoordinator, range, &request).await?;
        checked(found.error_code)?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(transactional_id.to_owned(), found.node_id);
        metadata.get_broker_connection(found.node_id).await
    }
}

/// One request and its answer, in the newest version that both sides know.
pub(in crate::kafka) async fn exchange<A: VersionedDecode>(
    connection: &BrokerConnection,
    api: ApiKey,
    (min, max): (i16, i16),
    request: &impl VersionedEncode,
) -> Result<A, KrafkaError> {
    let version = connection.negotiate_api_version(api, max, min).ok_or_else(|| KrafkaError::Config {
        message: format!("the broker does not offer {api:?} in a version from {min} to {max}; Apache Kafka 3.9 or newer is needed"),
    })?;
    let mut answer = connection.send_request(api, version, |buffer| request.encode_versioned(version, buffer)).await?;
    A::decode_versioned(version, &mut answer)
}

/// The client's error for a code; none for success.
pub(in crate::kafka) fn checked(code: ErrorCode) -> Result<(), KrafkaError> {
    if code.is_ok() { Ok(()) } else { Err(KrafkaError::Broker { code, message: String::new() }) }
}

/// The client calls some codes retriable that are final here: they say that the producer is not who it says.
fn is_worth_another(error: &KrafkaError) -> bool {
    match error {
        KrafkaError::Broker { code: ErrorCode::UnknownProducerId | ErrorCode::OutOfOrderSequenceNumber, .. } => false,
        KrafkaError::Closed { .. } => true,
        e => e.is_retriable(),
    }
}
