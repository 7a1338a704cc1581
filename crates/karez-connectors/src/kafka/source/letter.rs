//! Dead letters of the source, decoded again from their bytes.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use karez_core::source::LetterDecoder;
use karez_core::{Error, Result};
use karez_formats::message::MessageDecoder;

use super::Plan;
use super::start::TopicPartition;

/// Decodes one message at a time.
pub(super) struct MessageLetters {
    plan: Arc<Plan>,
    decoder: Box<dyn MessageDecoder>,
}

impl MessageLetters {
    pub(super) fn new(plan: Arc<Plan>) -> Result<Self> {
        if plan.changes() {
            return Err(Error::user("a message of changes is not decoded again by itself: it would undo newer changes of its key"));
        }
        if let Some(column) = plan.metadata.not_in_letters() {
            return Err(Error::user(format!(
                "its bytes are the message's value alone, and the column `{column}` of the source's `metadata` is not in them: give the letter a `row` with all \
                 columns instead of `raw`"
            )));
        }
        Ok(Self { decoder: plan.decode.decoder()?, plan })
    }
}

#[async_trait]
impl LetterDecoder for MessageLetters {
    async fn decode(&mut self, raw: &[u8], origin: Option<&str>) -> Result<RecordBatch> {
        let mut bad = Vec::new();
        // One message asks for its schema once.
        for _ in 0..2 {
            let Some(id) = self.decoder.decode(&[Some(raw)], 1, &mut bad).needs else { break };
            let schema = self.plan.schema_of(id, None).await?;
            self.decoder.provide(id, schema);
        }
        let decoded = self.decoder.flush()?;
        if let Some(bad) = bad.pop() {
            return Err(Error::record(bad.reason));
        }
        let schema = self.plan.schema(false);
        let Some(decoded) = decoded else { return Ok(RecordBatch::new_empty(schema)) };
        let rows = decoded.batch.num_rows();
        let mut columns = decoded.batch.columns().to_vec();
        columns.extend(self.plan.metadata.of_letter(origin.and_then(place), rows)?);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }
}

/// What an origin says: `topic=orders partition=3 offset=42`.
fn place(origin: &str) -> Option<(TopicPartition, i64)> {
    let mut parts = origin.split(' ');
    let mut part = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=');
    let topic = part("topic")?.to_owned();
    let partition = part("partition")?.parse().ok()?;
    let offset = part("offset")?.parse().ok()?;
    Some((TopicPartition { topic, partition }, offset))
}
