//! A transaction that waits for its commit, as it stands in a manifest. Version 1:
//!
//! ```json
//! { "version": 1, "transactionalId": "karez/job/node/run/0/2", "producerId": 4001, "producerEpoch": 7, "transactionVersion": 2,
//!   "partitions": [{ "topic": "orders", "partition": 0, "firstOffset": 17, "lastOffset": 41 }] }
//! ```

use std::fmt;

use karez_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const VERSION: u32 = 1;

/// Who writes a transaction: with this any process can end it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::kafka) struct Identity {
    pub(in crate::kafka) transactional_id: String,
    pub(in crate::kafka) producer_id: i64,
    pub(in crate::kafka) producer_epoch: i16,
    /// By which rules it was begun, and so must end.
    pub(in crate::kafka) transaction_version: TransactionVersion,
}

/// The cluster's feature `transaction.version`, as far as it matters to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub(in crate::kafka) enum TransactionVersion {
    /// 0 and 1: partitions are added to the transaction before they are written; a commit leaves the epoch as it is.
    Classic,
    /// 2 and above (KIP-890): a write adds its partition; each end of a transaction moves the producer to the next epoch.
    EpochBump,
}

/// The rows of a transaction in one partition. Other producers' rows may lie between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::kafka) struct OffsetRange {
    pub(in crate::kafka) topic: String,
    pub(in crate::kafka) partition: i32,
    pub(in crate::kafka) first_offset: i64,
    pub(in crate::kafka) last_offset: i64,
}

/// What a manifest holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::kafka) struct Prepared {
    version: u32,
    #[serde(flatten)]
    pub(in crate::kafka) identity: Identity,
    pub(in crate::kafka) partitions: Vec<OffsetRange>,
}

impl Prepared {
    pub(in crate::kafka) const fn new(identity: Identity, partitions: Vec<OffsetRange>) -> Self {
        Self { version: VERSION, identity, partitions }
    }

    pub(in crate::kafka) fn parse(payload: &Value) -> Result<Self> {
        let version = payload.get("version").and_then(Value::as_u64);
        if version != Some(u64::from(VERSION)) {
            let version = version.map_or_else(|| "none".to_owned(), |v| v.to_string());
            return Err(Error::user(format!("a Kafka transaction in the checkpoint has format version {version}; this Karez reads {VERSION}")));
        }
        Self::deserialize(payload).map_err(|e| Error::internal("a Kafka transaction in a checkpoint").caused_by(e))
    }

    pub(in crate::kafka) fn payload(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|e| Error::internal("a Kafka transaction as JSON").caused_by(e))
    }

    /// `orders-0 offsets 17 to 41, …`
    pub(in crate::kafka) fn ranges(&self) -> String {
        self.partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, first_offset, last_offset } = self;
        write!(f, "topic `{topic}` partition {partition} offsets {first_offset} to {last_offset}")
    }
}

// ===== impl TransactionVersion =====

impl TransactionVersion {
    /// Of the cluster's finalized level; a cluster that says nothing is classic.
    pub(in crate::kafka) const fn of_level(level: Option<i16>) -> Self {
        match level {
            Some(level) if level >= 2 => Self::EpochBump,
            _ => Self::Classic,
        }
    }
}

impl TryFrom<u8> for TransactionVersion {
    type Error = String;

    fn try_from(n: u8) -> Result<Self, String> {
        match n {
            1 => Ok(Self::Classic),
            2 => Ok(Self::EpochBump),
            n => Err(format!("transaction version {n} is not known")),
        }
    }
}

impl From<TransactionVersion> for u8 {
    fn from(version: TransactionVersion) -> Self {
        match version {
            TransactionVersion::Classic => 1,
            TransactionVersion::EpochBump => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    /// A checkpoint of an older build is read by this one.
    #[test]
    fn version_1_stands_in_manifests_like_this() {
        let stored = json!({
            "version": 1, "transactionalId": "karez/job/out/0123456789ab/0/2", "producerId": 4001, "producerEpoch": 7, "transactionVersion": 2,
            "partitions": [{ "topic": "orders", "partition": 0, "firstOffset": 17, "lastOffset": 41 }],
        });
        let prepared = Prepared::parse(&stored).unwrap();
        assert_eq!(prepared.identity.transaction_version, TransactionVersion::EpochBump);
        assert_eq!(prepared.ranges(), "topic `orders` partition 0 offsets 17 to 41");
        assert_eq!(prepared.payload().unwrap(), stored);
    }

    #[test]
    fn a_later_version_is_refused_by_name() {
        assert!(Prepared::parse(&json!({ "version": 2 })).unwrap_err().to_string().contains("version 2"));
    }
}
