//! Messages without a payload, for all formats alike: the decoder inside never sees them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Builder, new_null_array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use karez_core::Result;

use super::{BadMessage, Decoded, MessageDecoder, NullPayload, Progress, RegisteredSchema, SchemaId};

/// Counts all messages, while the decoder inside counts those with a payload.
pub(super) struct NullPayloads {
    inner: Box<dyn MessageDecoder>,
    policy: NullPayload,
    /// Why a row of nulls is not possible.
    not_null: Option<String>,
    /// Messages since the last flush.
    fed: u32,
    /// Those of them without a payload, ascending.
    nulls: Vec<u32>,
}

impl NullPayloads {
    pub(super) fn new(inner: Box<dyn MessageDecoder>, policy: NullPayload) -> Self {
        let not_null = inner.schema().fields().iter().find(|f| !f.is_nullable());
        let not_null = not_null.map(|f| format!("the message has no payload, and column `{}` must not be null", f.name()));
        Self { inner, policy, not_null, fed: 0, nulls: Vec::new() }
    }

    /// What becomes of the message at hand, which has no payload.
    fn null(&mut self, bad: &mut Vec<BadMessage>, progress: &mut Progress) {
        let reason = match (self.policy, &self.not_null) {
            (NullPayload::Skip, _) => {
                progress.skipped += 1;
                None
            }
            (NullPayload::NullRow, None) => None,
            (NullPayload::NullRow, Some(reason)) => Some(reason.clone()),
            (NullPayload::Error, _) => Some("the message has no payload (a tombstone)".to_owned()),
        };
        bad.extend(reason.map(|reason| BadMessage { message: self.fed, reason }));
        self.nulls.push(self.fed);
        self.fed += 1;
        progress.done += 1;
    }

    /// The rows of nulls buffered.
    fn null_rows(&self) -> usize {
        if self.policy == NullPayload::NullRow && self.not_null.is_none() { self.nulls.len() } else { 0 }
    }

    /// Puts rows of nulls where their messages were; `kinds` do not occur together with these (a change is not null).
    fn with_null_rows(&self, decoded: Option<Decoded>) -> Result<Option<Decoded>> {
        let Some(decoded) = decoded else {
            let schema = Arc::clone(self.inner.schema());
            let columns = schema.fields().iter().map(|f| new_null_array(f.data_type(), self.nulls.len())).collect();
            return Ok(Some(Decoded { batch: batch(schema, columns, self.nulls.len())?, kinds: None, messages: self.nulls.clone() }));
        };
        let mut rows = UInt32Builder::new();
        let mut messages = Vec::with_capacity(decoded.messages.len() + self.nulls.len());
        let mut nulls = self.nulls.iter().peekable();
        for (row, &message) in (0_u32..).zip(&decoded.messages) {
            while let Some(&null) = nulls.next_if(|null| **null < message) {
                rows.append_null();
                messages.push(null);
            }
            rows.append_value(row);
            messages.push(message);
        }
        for &null in nulls {
            rows.append_null();
            messages.push(null);
        }
        let rows = rows.finish();
        let columns = decoded.batch.columns().iter().map(|c| take(c, &rows, None)).collect::<std::result::Result<Vec<_>, _>>()?;
        let kinds = decoded.kinds.map(|kinds| take(&kinds, &rows, None)).transpose()?;
        let kinds = kinds.map(|kinds| arrow::array::AsArray::as_primitive::<arrow::datatypes::Int8Type>(&kinds).clone());
        Ok(Some(Decoded { batch: batch(decoded.batch.schema(), columns, rows.len())?, kinds, messages }))
    }
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new_with_options(schema, columns, &RecordBatchOptions::new().with_row_count(Some(rows)))?)
}

/// Turns numbers (ascending) of messages with a payload into numbers of all messages, given those without (ascending).
fn renumber<'a>(nulls: &[u32], numbers: impl Iterator<Item = &'a mut u32>) {
    let mut passed = 0;
    for number in numbers {
        while nulls.get(passed).is_some_and(|&null| null <= *number + passed as u32) {
            passed += 1;
        }
        *number += passed as u32;
    }
}

impl MessageDecoder for NullPayloads {
    fn schema(&self) -> &SchemaRef {
        self.inner.schema()
    }

    fn decode(&mut self, messages: &[Option<&[u8]>], max_rows: usize, bad: &mut Vec<BadMessage>) -> Progress {
        let mut progress = Progress::default();
        while progress.done < messages.len() && self.rows() < max_rows {
            let rest = &messages[progress.done..];
            let run = rest.iter().position(Option::is_none).unwrap_or(rest.len());
            if run == 0 {
                self.null(bad, &mut progress);
                continue;
            }
            let before = bad.len();
            let inner = self.inner.decode(&rest[..run], max_rows - self.null_rows(), bad);
            renumber(&self.nulls, bad[before..].iter_mut().map(|b| &mut b.message));
            self.fed += u32::try_from(inner.done).unwrap_or(u32::MAX);
            progress.done += inner.done;
            progress.skipped += inner.skipped;
            progress.needs = inner.needs;
            if inner.done < run {
                break;
            }
        }
        progress
    }

    fn provide(&mut self, id: SchemaId, schema: std::result::Result<RegisteredSchema, String>) {
        self.inner.provide(id, schema);
    }

    fn rows(&self) -> usize {
        self.inner.rows() + self.null_rows()
    }

    fn bytes(&self) -> usize {
        self.inner.bytes()
    }

    fn flush(&mut self) -> Result<Option<Decoded>> {
        let mut decoded = self.inner.flush()?;
        if !self.nulls.is_empty() {
            if let Some(decoded) = &mut decoded {
                renumber(&self.nulls, decoded.messages.iter_mut());
            }
            if self.null_rows() > 0 {
                decoded = self.with_null_rows(decoded)?;
            }
            self.nulls.clear();
        }
        self.fed = 0;
        Ok(decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::renumber;

    #[test]
    fn messages_are_counted_with_those_that_have_no_payload() {
        let mut numbers = [0, 1, 1, 2, 3];
        renumber(&[0, 2, 3, 9], numbers.iter_mut());
        assert_eq!(numbers, [1, 4, 4, 5, 6]);
    }
}
