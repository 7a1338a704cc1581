//! Tries what the source needs, without side effects: the connection, the topics, the rights.

use std::collections::BTreeSet;

use karez_core::{Error, Result};
use krafka::admin::DescribeTopicsOptions;

use super::offsets;
use super::plan::Plan;
use super::start::TopicPartition;
use crate::kafka::client::client_error;
use crate::schema_registry::SchemaRegistry;

/// The bit of `Read` among the operations that a broker says a user may do.
const READ: i32 = 1 << 3;

pub(super) async fn check(plan: &Plan) -> Result<()> {
    // A connection of its own: the runtime that checks may not live as long as the job.
    let kafka = plan.client.connect("check the source").await?;
    if let Some(registry) = &plan.registry {
        SchemaRegistry::new(registry.options())?.check().await?;
    }
    let found = plan.topics.find(&kafka).await?;
    if found.is_empty() {
        let e = format!("no topic matches {}, among those that the user may describe", plan.topics.text());
        return if plan.stop_at.is_some() {
            Err(Error::user(e))
        } else {
            tracing::warn!("{e}; such topics are read when they are created");
            Ok(())
        };
    }
    let described = kafka.admin().describe_topics(found.keys(), DescribeTopicsOptions::default()).await;
    for (topic, described) in described.map_err(|e| client_error("describe the topics", e))? {
        let described = described.map_err(|e| client_error(&format!("describe the topic `{topic}`"), e))?;
        if described.authorized_operations.is_some_and(|operations| operations & READ == 0) {
            return Err(Error::external(format!("the user lacks the right `Read` to the topic `{topic}`")));
        }
    }
    if let Some(group) = &plan.group {
        let names: BTreeSet<&String> = found.keys().collect();
        let first = names.first().map(|topic| TopicPartition { topic: (*topic).clone(), partition: 0 });
        offsets::committed(&kafka, group, first.as_slice()).await?;
    }
    Ok(())
}
