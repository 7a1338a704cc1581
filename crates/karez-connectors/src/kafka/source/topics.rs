//! Which topics are read, and what the cluster says of them.

use std::collections::BTreeMap;
use std::time::Duration;

use karez_core::config::ConfigError;
use karez_core::{Error, Result};
use krafka::__private::kafka_metadata;
use krafka::Kafka;
use krafka::error::ErrorCode;
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::options::KafkaSourceOptions;
use super::position::TopicId;
use crate::kafka::client::{broker_error, client_error};

/// A topic that has just been created is not known to every broker yet.
const ATTEMPTS: usize = 10;
const BETWEEN: Duration = Duration::from_millis(200);

/// The topics of a source.
#[derive(Clone, Debug)]
pub(super) enum Topics {
    Named(Vec<String>),
    Pattern(Regex),
}

/// A topic as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) id: TopicId,
    /// How many; they are numbered from 0.
    pub(super) partitions: i32,
}

impl Topics {
    pub(super) fn new(options: &KafkaSourceOptions, errors: &mut Vec<ConfigError>) -> Option<Self> {
        let named = options.topics.clone().or_else(|| options.topic.clone().map(|t| vec![t]));
        let given = [options.topics.is_some(), options.topic.is_some(), options.topic_pattern.is_some()];
        if given.iter().filter(|g| **g).count() != 1 {
            errors.push(ConfigError::new("topics", "give exactly one of `topics`, `topic` and `topicPattern`"));
            return None;
        }
        if let Some(pattern) = &options.topic_pattern {
            return match Regex::new(&format!("^(?:{pattern})$")) {
                Ok(regex) => Some(Self::Pattern(regex)),
                Err(e) => {
                    errors.push(ConfigError::new("topicPattern", format!("no regular expression: {e}")));
                    None
                }
            };
        }
        let mut named = named?;
        if named.is_empty() {
            errors.push(ConfigError::new("topics", "names no topic"));
        }
        for (i, topic) in named.iter().enumerate() {
            if !is_name(topic) {
                let e = ConfigError::new(format!("topics[{i}]"), format!("`{topic}` is no name of a topic"));
                errors.push(e.hint("letters, digits, `.`, `_` and `-`, at most 249; a pattern goes into `topicPattern`"));
            }
        }
        named.sort_unstable();
        named.dedup();
        Some(Self::Named(named))
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Named(names) => names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", "),
            Self::Pattern(regex) => format!("the pattern `{}`", regex.as_str().trim_start_matches("^(?:").trim_end_matches(")$")),
        }
    }

    /// Looks the topics up. Named topics that are missing are an error; of a pattern there may be none.
    pub(super) async fn find(&self, kafka: &Kafka) -> Result<BTreeMap<String, Found>> {
        let metadata = kafka_metadata(kafka);
        let doing = format!("look up {}", self.text());
        let Self::Named(names) = self else {
            metadata.refresh().await.map_err(|e| client_error(&doing, e))?;
            let topics = metadata.topics_arc();
            let matching = topics.iter().filter(|t| !t.is_internal && self.matches(&t.name));
            return Ok(matching.map(|t| (t.name.clone(), found(t))).collect());
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for attempt in 1.. {
            metadata.force_refresh(Some(&names)).await.map_err(|e| client_error(&doing, e))?;
            let Some(missing) = names.iter().find(|name| metadata.topic_arc(name).is_none()) else { break };
            let code = metadata.topic_error(missing).unwrap_or(ErrorCode::UnknownTopicOrPartition);
            if attempt < ATTEMPTS && code.is_retriable() {
                tokio::time::sleep(BETWEEN).await;
                continue;
            }
            return Err(match code {
                ErrorCode::UnknownTopicOrPartition => {
                    Error::user(format!("there is no topic `{missing}`, or the user may not describe it; create it, or check `topics`"))
                }
                code => broker_error(&format!("look up the topic `{missing}`"), code, ""),
            });
        }
        Ok(names.iter().filter_map(|name| metadata.topic_arc(name)).map(|t| (t.name.clone(), found(&t))).collect())
    }

    /// Whether it is among them.
    pub(super) fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Named(names) => names.iter().any(|n| n == topic),
            Self::Pattern(regex) => regex.is_match(topic),
        }
    }
}

fn found(topic: &krafka::TopicInfo) -> Found {
    Found { id: TopicId(topic.topic_id), partitions: i32::try_from(topic.partition_count()).unwrap_or(i32::MAX) }
}

fn is_name(topic: &str) -> bool {
    let character = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !topic.is_empty() && topic.len() <= 249 && topic != "." && topic != ".." && topic.bytes().all(character)
}
