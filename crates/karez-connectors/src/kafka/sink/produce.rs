//! One Produce request: batches that are encoded already go out over the client's own connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use karez_external::ClientMeter;
use krafka::__private::metadata::ClusterMetadata;
use krafka::__private::protocol::{ApiKey, InitProducerIdRequest, InitProducerIdResponse, ProduceResponse, VersionedDecode, versions};
use krafka::__private::util::varint::encode_unsigned_varint;
use krafka::error::ErrorCode;
use krafka::{BrokerInfo, Kafka, KrafkaError};

use super::record_batch::SealedBatch;
use crate::kafka::client::Meter;
use crate::kafka::transaction::{Coordinators, Identity, Refusal, TransactionVersion, checked, exchange};

/// The first version with compact lengths, and the last that names topics by name.
const VERSIONS: (i16, i16) = (9, 12);

/// From this version on a transactional write adds its partition to the transaction (KIP-890).
const ADDS_PARTITION: i16 = 12;

/// A batch and where it goes.
#[derive(Debug)]
pub(super) struct Addressed<B> {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) batch: B,
}

/// What came of a batch.
#[derive(Debug)]
pub(super) enum Answer {
    /// Appended from this offset on; -1 where the broker does not say.
    Written(i64),
    /// The broker refuses it.
    Code(ErrorCode),
    /// The transaction coordinator refuses its partition.
    Coordinator(Refusal),
    /// Not known: it was not sent, or the answer was lost.
    Unknown(KrafkaError),
}

/// What all requests of a producer share.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) kafka: Arc<Kafka>,
    pub(super) coordinators: Arc<Coordinators>,
    pub(super) meter: Meter,
    pub(super) acks: i16,
    pub(super) request_timeout: Duration,
}

impl Wire {
    fn metadata(&self) -> &Arc<ClusterMetadata> {
        krafka::__private::kafka_metadata(&self.kafka)
    }

    /// Sends batches, one a partition, to the broker that leads them. `add`: those that must be made part of the transaction before.
    pub(super) async fn produce<B: AsRef<SealedBatch>>(
        &self,
        broker: i32,
        transaction: Option<&Identity>,
        add: &[(Arc<str>, i32)],
        batches: &[Addressed<B>],
    ) -> Vec<Answer> {
        let every = |answer: &dyn Fn() -> Answer| batches.iter().map(|_| answer()).collect();
        if let (Some(identity), false) = (transaction, add.is_empty())
            && let Err(refusal) = self.coordinators.add_partitions(identity, add).await
        {
            return every(&|| Answer::Coordinator(refusal.clone()));
        }
        match self.exchange(broker, transaction, batches).await {
            Ok(Some(response)) => batches.iter().map(|b| self.answer(&response, b)).collect(),
            Ok(None) => every(&|| Answer::Written(-1)),
            Err(e) => every(&|| Answer::Unknown(e.clone())),
        }
    }

    /// `None`: no acknowledgement was asked for.
    async fn exchange<B: AsRef<SealedBatch>>(
        &self,
        broker: i32,
        transaction: Option<&Identity>,
        batches: &[Addressed<B>],
    ) -> Result<Option<ProduceResponse>, KrafkaError> {
        let _call = self.meter.get().map(ClientMeter::begin);
        let connection = self.metadata().get_broker_connection(broker).await?;
        connection.await_throttle().await;
        let (min, max) = match transaction.map(|t| t.transaction_version) {
            None => VERSIONS,
            Some(TransactionVersion::Classic) => (VERSIONS.0, ADDS_PARTITION - 1),
            Some(TransactionVersion::EpochBump) => (ADDS_PARTITION, VERSIONS.1),
        };
        let version = connection.negotiate_api_version(ApiKey::Produce, max, min).ok_or_else(|| KrafkaError::Config {
            message: format!("the broker does not offer Produce in a version from {min} to {max}; Apache Kafka 3.9 or newer is needed"),
        })?;
        let body = |buffer: &mut BytesMut| {
            self.encode(transaction, batches, buffer);
            Ok(())
        };
        if self.acks == 0 {
            connection.send_fire_and_forget(ApiKey::Produce, version, body).await?;
            return Ok(None);
        }
        let mut answer = connection.send_request(ApiKey::Produce, version, body).await?;
        let response = ProduceResponse::decode_versioned(version, &mut answer)?;
        connection.notify_throttle(response.throttle_time_ms);
        Ok(Some(response))
    }

    fn encode<B: AsRef<SealedBatch>>(&self, transaction: Option<&Identity>, batches: &[Addressed<B>], out: &mut BytesMut) {
        let size: usize = batches.iter().map(|b| b.batch.as_ref().bytes().len() + b.topic.len() + 32).sum();
        out.reserve(size + 64);
        put_compact(out, transaction.map(|t| t.transactional_id.as_bytes()));
        out.put_i16(self.acks);
        out.put_i32(i32::try_from(self.request_timeout.as_millis()).unwrap_or(i32::MAX));
        // The batches come sorted by topic.
        let topics: Vec<&[Addressed<B>]> = batches.chunk_by(|a, b| a.topic == b.topic).collect();
        put_length(out, topics.len());
        for partitions in topics {
            put_compact(out, partitions.first().map(|b| b.topic.as_bytes()));
            put_length(out, partitions.len());
            for addressed in partitions {
                out.put_i32(addressed.partition);
                put_compact(out, Some(addressed.batch.as_ref().bytes()));
                out.put_u8(0);
            }
            out.put_u8(0);
        }
        out.put_u8(0);
    }

    fn answer<B>(&self, response: &ProduceResponse, addressed: &Addressed<B>) -> Answer {
        let topic = response.responses.iter().find(|t| t.name == *addressed.topic);
        let Some(partition) = topic.and_then(|t| t.partition_responses.iter().find(|p| p.index == addressed.partition)) else {
            return Answer::Unknown(KrafkaError::Timeout { operation: "the answer does not mention the partition".into() });
        };
        // The broker that refuses a partition which it does not lead any more names the one that does (KIP-951).
        if let Some(leader) = &partition.current_leader {
            let endpoint = response.node_endpoints.iter().find(|n| n.node_id == leader.leader_id);
            let endpoint = endpoint.map(|n| BrokerInfo::new(n.node_id, n.host.clone(), n.port, n.rack.clone()));
            self.metadata().apply_leader_hint(&addressed.topic, addressed.partition, leader.leader_id, leader.leader_epoch, endpoint);
        }
        match partition.error_code {
            // Sent twice, appended once: the answer to the first was lost.
            ErrorCode::None | ErrorCode::DuplicateSequenceNumber => Answer::Written(partition.base_offset),
            code => Answer::Code(code),
        }
    }

    /// A producer id for an idempotent producer without transactions; any broker gives one.
    pub(super) async fn producer_id(&self, attempt: u32) -> Result<(i64, i16), KrafkaError> {
        let metadata = self.metadata();
        let brokers = metadata.brokers();
        let broker = brokers.get(attempt as usize % brokers.len().max(1));
        let broker = broker.ok_or_else(|| KrafkaError::Timeout { operation: "no broker is known".into() })?;
        let connection = metadata.get_broker_connection(broker.id()).await?;
        let range = (versions::INIT_PRODUCER_ID_MIN, versions::INIT_PRODUCER_ID_MAX);
        let answer: InitProducerIdResponse = exchange(&connection, ApiKey::InitProducerId, range, &InitProducerIdRequest::idempotent()).await?;
        checked(answer.error_code)?;
        Ok((answer.producer_id, answer.producer_epoch))
    }
}

fn put_length(out: &mut BytesMut, length: usize) {
    // No request comes near 4 GiB: its limit is an `i32`.
    encode_unsigned_varint(u32::try_from(length + 1).unwrap_or(u32::MAX), out);
}

fn put_compact(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => out.put_u8(0),
        Some(bytes) => {
            put_length(out, bytes.len());
            out.put_slice(bytes);
        }
    }
}
