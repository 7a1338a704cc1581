//! Tries what the source needs, without side effects: the connection, the topics, the rights.

use karez_core::{Error, Result};

use super::offsets;
use super::plan::{Commit, Plan};
use super::start::TopicPartition;
use crate::kafka::rights::{self, Right};
use crate::schema_registry::SchemaRegistry;

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
    rights::require(&kafka, Right::Read, found.keys().map(String::as_str)).await?;
    if let Some(group) = &plan.group {
        let first = found.keys().next().map(|topic| TopicPartition { topic: topic.clone(), partition: 0 });
        offsets::committed(&kafka, group, first.as_slice()).await?;
        if let (Some(TopicPartition { topic, .. }), true) = (first, plan.commit != Commit::Off) {
            offsets::may_commit(&kafka, group, topic).await?;
        }
    }
    Ok(())
}
