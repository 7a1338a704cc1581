//! What the user may do with topics, as the brokers say it.

use karez_core::{Error, Result};
use krafka::Kafka;
use krafka::admin::DescribeTopicsOptions;

use super::client::client_error;

/// An operation of Kafka's ACLs; its number is the bit's place in what a broker says of a topic.
#[derive(Clone, Copy, Debug)]
pub(super) enum Right {
    Read = 3,
    Write = 4,
}

/// Whether the user has a right to each of these topics.
///
/// # Errors
/// The first that it lacks; a broker that does not tell is no error.
pub(super) async fn require(kafka: &Kafka, right: Right, topics: impl IntoIterator<Item = &str>) -> Result<()> {
    let described = kafka.admin().describe_topics(topics, DescribeTopicsOptions::default()).await;
    for (topic, described) in described.map_err(|e| client_error("describe the topics", e))? {
        let described = described.map_err(|e| client_error(&format!("describe the topic `{topic}`"), e))?;
        if described.authorized_operations.is_some_and(|operations| operations & (1 << right as i32) == 0) {
            return Err(Error::external(format!("the user lacks the right `{right:?}` to the topic `{topic}`")));
        }
    }
    Ok(())
}
