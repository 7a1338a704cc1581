//! Places in partitions, as users write them: where to begin, where to go on, where to end.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// Offsets by topic and partition.
pub(super) type Offsets = BTreeMap<String, BTreeMap<i32, i64>>;

/// Where a run begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StartFrom {
    /// The first record there is.
    Earliest,
    /// Behind the last record there is.
    Latest,
    /// Where the group's committed offsets say.
    GroupOffsets,
    /// The first record whose timestamp is not before this, milliseconds since the epoch or a text of RFC 3339.
    Timestamp(#[schemars(with = "Instant")] i64),
    /// Given offsets, by topic and partition.
    Offsets(#[schemars(with = "BTreeMap<String, BTreeMap<String, i64>>")] Offsets),
}

/// Where a restored run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Seek(pub StartFrom);

/// Where reading ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StopAt {
    /// Behind the last record there is when the run begins.
    Latest,
    /// Before the first record whose timestamp is not before this.
    Timestamp(#[schemars(with = "Instant")] i64),
    /// Before given offsets.
    Offsets(#[schemars(with = "BTreeMap<String, BTreeMap<String, i64>>")] Offsets),
}

impl Seek {
    /// What checkpoints remember of one that has been applied.
    pub(super) fn token(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }
}

/// An instant in a job file.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected milliseconds since 1970, or a text such as `2026-01-31T00:00:00Z`")]
enum Instant {
    Millis(i64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected `earliest`, `latest`, `group-offsets`, `{ timestamp: … }` or `{ offsets: { TOPIC: { PARTITION: OFFSET } } }`"
)]
enum Written {
    Word(String),
    Timestamp(AtTimestamp),
    Offsets(AtOffsets),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AtTimestamp {
    timestamp: Instant,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AtOffsets {
    offsets: BTreeMap<String, BTreeMap<String, i64>>,
}

impl<'de> Deserialize<'de> for StartFrom {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        match Written::deserialize(d)? {
            Written::Word(word) => match word.as_str() {
                "earliest" => Ok(Self::Earliest),
                "latest" => Ok(Self::Latest),
                "group-offsets" => Ok(Self::GroupOffsets),
                other => Err(D::Error::custom(format!("`{other}` is none of `earliest`, `latest`, `group-offsets`"))),
            },
            Written::Timestamp(AtTimestamp { timestamp: Instant::Millis(ms) }) => Ok(Self::Timestamp(ms)),
            Written::Timestamp(AtTimestamp { timestamp: Instant::Text(text) }) => match chrono::DateTime::parse_from_rfc3339(&text) {
                Ok(time) => Ok(Self::Timestamp(time.timestamp_millis())),
                Err(e) => Err(D::Error::custom(format!("`{text}` is no instant ({e}); write it like `2026-01-31T00:00:00Z`"))),
            },
            Written::Offsets(AtOffsets { offsets }) => {
                let mut parsed = Offsets::new();
                for (topic, partitions) in offsets {
                    let of_topic = parsed.entry(topic).or_default();
                    for (partition, offset) in partitions {
                        let number = partition.parse().ok().filter(|n| *n >= 0);
                        let number = number.ok_or_else(|| D::Error::custom(format!("`{partition}` is no number of a partition")))?;
                        if offset < 0 {
                            return Err(D::Error::custom(format!("{offset} is no offset: they begin with 0")));
                        }
                        of_topic.insert(number, offset);
                    }
                }
                Ok(Self::Offsets(parsed))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Seek {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        StartFrom::deserialize(d).map(Self)
    }
}

impl<'de> Deserialize<'de> for StopAt {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match StartFrom::deserialize(d)? {
            StartFrom::Latest => Ok(Self::Latest),
            StartFrom::Timestamp(ms) => Ok(Self::Timestamp(ms)),
            StartFrom::Offsets(offsets) => Ok(Self::Offsets(offsets)),
            StartFrom::Earliest | StartFrom::GroupOffsets => {
                Err(serde::de::Error::custom("reading ends at `latest`, `{ timestamp: … }` or `{ offsets: … }`"))
            }
        }
    }
}

/// A partition of a topic, written like Kafka does: `orders-3`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct TopicPartition {
    pub(super) topic: String,
    pub(super) partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
