//! Changes as messages by key: what Flink's `upsert-kafka` writes.

use arrow::array::{BooleanArray, Int8Array, RecordBatch};
use arrow::compute::filter_record_batch;
use karez_core::schema::{ChangeKind, change_kinds, visible_batch};
use karez_core::{Error, Result};

use super::{MessageEncoder, Outcome, Payloads, RegisteredSchema, Registration, SchemaId};

/// Gives an encoder of rows those of a changelog.
pub(super) struct Upsert {
    inner: Box<dyn MessageEncoder>,
    /// What the encoder inside has made of the rows that it gets.
    payloads: Payloads,
}

impl Upsert {
    pub(super) fn new(inner: Box<dyn MessageEncoder>) -> Self {
        Self { inner, payloads: Payloads::default() }
    }

    fn encode_changes(&mut self, batch: &RecordBatch, kinds: &Int8Array, out: &mut Payloads) -> Result<()> {
        let written: BooleanArray = kinds.values().iter().map(|k| Ok(Some(!ChangeKind::from_i8(*k)?.is_retraction()))).collect::<Result<_>>()?;
        self.payloads.clear();
        self.inner.encode(&filter_record_batch(batch, &written)?, &mut self.payloads)?;
        let (bytes, outcomes) = self.payloads.take();
        let mut outcomes = outcomes.into_iter();
        for kind in kinds.values() {
            match ChangeKind::from_i8(*kind)? {
                ChangeKind::UpdateBefore => out.push(Outcome::Nothing),
                ChangeKind::Delete => out.push(Outcome::Tombstone),
                ChangeKind::Insert | ChangeKind::UpdateAfter => match outcomes.next() {
                    Some(Outcome::Payload(range)) => out.write(|to| {
                        to.extend_from_slice(&bytes[range]);
                        Ok(())
                    }),
                    Some(other) => out.push(other),
                    None => return Err(Error::internal("an encoder gave fewer outcomes than it got rows")),
                },
            }
        }
        Ok(())
    }
}

impl MessageEncoder for Upsert {
    fn registration(&self) -> Option<&Registration> {
        self.inner.registration()
    }

    fn registered(&mut self, id: SchemaId, schema: Option<RegisteredSchema>) -> Result<()> {
        self.inner.registered(id, schema)
    }

    fn encode(&mut self, batch: &RecordBatch, out: &mut Payloads) -> Result<()> {
        let visible = visible_batch(batch)?;
        match change_kinds(batch) {
            None => self.inner.encode(&visible, out),
            Some(kinds) if kinds.values().iter().all(|k| *k == ChangeKind::Insert as i8) => self.inner.encode(&visible, out),
            Some(kinds) => self.encode_changes(&visible, kinds, out),
        }
    }
}
