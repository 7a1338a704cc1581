//! Positions of partitions, as they stand in checkpoints.

use std::fmt;

use karez_core::{Error, Result, Split};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::start::TopicPartition;

/// The id that a cluster gives to a topic: another one under the same name is another topic. All zeros where a broker does not tell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct TopicId(pub(super) [u8; 16]);

impl TopicId {
    pub(super) const fn is_known(self) -> bool {
        u128::from_be_bytes(self.0) != 0
    }

    /// Whether both are known, and differ.
    pub(super) fn differs(self, other: Self) -> bool {
        self.is_known() && other.is_known() && self != other
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<TopicId> for String {
    fn from(id: TopicId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for TopicId {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(|n| Self(n.to_be_bytes()))
    }
}

/// A partition, and where reading goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Position {
    #[serde(flatten)]
    pub(super) at: TopicPartition,
    pub(super) topic_id: TopicId,
    /// The next offset to read.
    pub(super) offset: i64,
    /// The first offset that is not read; `None`: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stop: Option<i64>,
    /// The `seek` that has been applied last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sought: Option<String>,
}

impl Position {
    pub(super) fn of(split: &Split) -> Result<Self> {
        serde_json::from_value(split.position.clone())
            .map_err(|e| Error::internal(format!("the position of the split `{}` is not one of a Kafka partition", split.id)).caused_by(e))
    }

    pub(super) fn to_value(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|e| Error::internal("a position as JSON").caused_by(e))
    }

    pub(super) fn to_split(&self) -> Result<Split> {
        Ok(Split { id: self.at.to_string(), position: self.to_value()? })
    }
}
