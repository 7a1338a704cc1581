//! Change events to rows of a changelog.

use arrow::datatypes::SchemaRef;
use karez_core::Result;
use karez_core::schema::ChangeKind;

use super::envelope::{self, Envelope};
use crate::json::JsonOptions;
use crate::message::json::{BUFFER_BYTES_LIMIT, JsonRecords, RUN_MESSAGES};
use crate::message::{BadMessage, Decoded, MessageDecoder, MissingBefore, Progress};

/// The rows of an event: one, two, or none.
type Rows<'a> = [Option<(ChangeKind, &'a [u8])>; 2];

pub(super) struct DebeziumDecoder {
    records: JsonRecords,
    missing_before: MissingBefore,
    fed: u32,
}

impl DebeziumDecoder {
    pub(super) fn try_new(schema: &SchemaRef, missing_before: MissingBefore) -> Result<Self, String> {
        Ok(Self { records: JsonRecords::try_new(schema, &JsonOptions::default())?, missing_before, fed: 0 })
    }

    /// `None`: the event is nothing, as a tombstone is.
    fn rows_of<'a>(&self, message: &'a [u8]) -> Result<Option<Rows<'a>>, String> {
        let Envelope { before, after, op, is_null } = envelope::parse(message)?;
        if is_null {
            return Ok(None);
        }
        let need = |row: Option<&'a [u8]>, name: &str, op: &str| row.ok_or_else(|| format!("the event is {op}, and its `{name}` is null"));
        Ok(Some(match op {
            Some(b'c' | b'r') => [Some((ChangeKind::Insert, need(after, "after", "an insert")?)), None],
            Some(b'u') => {
                let after = (ChangeKind::UpdateAfter, need(after, "after", "an update")?);
                match (before, self.missing_before) {
                    (Some(before), _) => [Some((ChangeKind::UpdateBefore, before)), Some(after)],
                    (None, MissingBefore::Upsert) => [Some(after), None],
                    (None, MissingBefore::Error) => {
                        return Err(
                            "the event is an update, and its `before` is null: set the table to REPLICA IDENTITY FULL, or `missingBefore: upsert`"
                                .to_owned(),
                        );
                    }
                }
            }
            Some(b'd') => [Some((ChangeKind::Delete, need(before, "before", "a delete")?)), None],
            Some(b't') => return Err("the event is a truncate, which a changelog cannot say".to_owned()),
            Some(b'm') => [None, None],
            Some(other) => return Err(format!("its `op` is `{}`, which is none of c, r, u, d, t, m", other.escape_ascii())),
            None => return Err("there is no `op`".to_owned()),
        }))
    }
}

impl MessageDecoder for DebeziumDecoder {
    fn schema(&self) -> &SchemaRef {
        self.records.schema()
    }

    fn decode(&mut self, messages: &[Option<&[u8]>], max_rows: usize, bad: &mut Vec<BadMessage>) -> Progress {
        let mut progress = Progress::default();
        let bad_before = bad.len();
        let (mut objects, mut of) = (Vec::new(), Vec::new());
        while progress.done < messages.len() && self.rows() < max_rows && self.bytes() < BUFFER_BYTES_LIMIT {
            let room = (max_rows - self.rows()).min(RUN_MESSAGES);
            let mut bytes = 0;
            for message in &messages[progress.done..] {
                if objects.len() >= room || bytes >= BUFFER_BYTES_LIMIT / 4 {
                    break;
                }
                match self.rows_of(message.unwrap_or_default()) {
                    Ok(None) => progress.skipped += 1,
                    Ok(Some(rows)) => {
                        for (kind, row) in rows.into_iter().flatten() {
                            objects.push(Some(row));
                            of.push((self.fed, kind));
                            bytes += row.len();
                        }
                    }
                    Err(reason) => bad.push(BadMessage { message: self.fed, reason }),
                }
                self.fed += 1;
                progress.done += 1;
            }
            self.records.decode(&objects, &of, bad);
            objects.clear();
            of.clear();
        }
        bad[bad_before..].sort_by_key(|b| b.message);
        progress
    }

    fn rows(&self) -> usize {
        self.records.rows()
    }

    fn bytes(&self) -> usize {
        self.records.bytes()
    }

    fn flush(&mut self) -> Result<Option<Decoded>> {
        self.fed = 0;
        self.records.flush(true)
    }
}
