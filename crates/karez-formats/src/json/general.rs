//! The general path: records that arrow-json decodes, many at a time, the bad ones told from the good.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use karez_core::exact::json::JsonGuard;
use karez_core::sql_type::translated;
use memchr::memchr2_iter;

use crate::culprit::culprit;

/// Most records in one run of arrow-json.
const RUN_RECORDS: usize = 1024;

/// Records of a run after one that failed; so many are decoded one by one to tell the bad from the good.
const RUN_RECORDS_AFTER_FAILURE: usize = 16;

/// Longest record taken, bytes: arrow's 32-bit offsets have to reach over a whole batch.
const RECORD_BYTES_LIMIT: usize = 1 << 30;

/// Deepest nesting of a record taken: arrow-json calls itself for each level when it shows a value in an error, and would overflow the stack.
const NESTING_LIMIT: usize = 1_000;

/// Decodes records with arrow-json.
pub(super) struct General {
    schema: SchemaRef,
    strict: bool,
    guard: Option<JsonGuard>,
    decoder: Decoder,
    /// Most records that `decoder` takes between two flushes. It has memory for them from the beginning, so that a new one
    /// is cheap only when they are few.
    capacity: usize,
    run_records: usize,
}

/// What became of a record.
pub(super) enum Outcome {
    /// The rows of the next records, as many as the batch has.
    Rows(RecordBatch),
    /// The next record is bad, for this reason.
    Bad(String),
}

// ===== impl General =====

impl General {
    /// Fails if arrow-json does not support a type of `schema`.
    pub(super) fn try_new(schema: SchemaRef, strict: bool) -> Result<Self, ArrowError> {
        let capacity = RUN_RECORDS_AFTER_FAILURE;
        let decoder = build(&schema, strict, capacity)?;
        Ok(Self { guard: JsonGuard::of(&schema, capacity)?, schema, strict, decoder, capacity, run_records: RUN_RECORDS })
    }

    /// Decodes `records`, one row each, and tells in their order what became of them.
    pub(super) fn decode(&mut self, mut records: &[&[u8]], mut tell: impl FnMut(Outcome)) {
        while !records.is_empty() {
            let run = &records[..records.len().min(self.run_records)];
            let taken = self.run(run, &mut tell);
            records = &records[taken..];
        }
    }

    /// Decodes the first of `records`, at least one, and returns how many.
    fn run(&mut self, records: &[&[u8]], tell: &mut impl FnMut(Outcome)) -> usize {
        self.make_room(records.len());
        let mut fitting = 0;
        let mut failure = None;
        for record in records {
            if let Err(reason) = self.feed(record, fitting) {
                failure = Some(reason);
                break;
            }
            fitting += 1;
        }
        match failure {
            None => {
                if self.finish(records, tell) {
                    self.run_records = (self.run_records * 2).min(RUN_RECORDS);
                }
                records.len()
            }
            Some(reason) => {
                self.run_records = RUN_RECORDS_AFTER_FAILURE;
                self.renew(fitting);
                self.again(&records[..fitting], tell);
                tell(Outcome::Bad(reason));
                fitting + 1
            }
        }
    }

    /// Gives one record to arrow-json, which holds `before` rows; it must become one row more.
    fn feed(&mut self, record: &[u8], before: usize) -> Result<(), String> {
        if record.len() > RECORD_BYTES_LIMIT {
            return Err(format!("the record is longer than {RECORD_BYTES_LIMIT} bytes"));
        }
        if is_nested_too_deep(record) {
            return Err(format!("the record is nested more than {NESTING_LIMIT} levels deep"));
        }
        let read = self.decoder.decode(record).map_err(reason)?;
        let rows = self.decoder.len();
        if rows == before {
            return Err("the record is empty".to_owned());
        }
        if rows > before + 1 || read < record.len() {
            return Err("more than one JSON value in the record".to_owned());
        }
        if self.decoder.has_partial_record() {
            // arrow-json knows in which state it stopped, and says it.
            return Err(self.decoder.flush().err().map_or_else(|| "the record is truncated".to_owned(), reason));
        }
        self.guard.as_mut().map_or(Ok(()), |guard| guard.hold(record).map_err(reason))
    }

    /// Decodes again `records`, each of which arrow-json has read before, though maybe not made a row of it.
    fn again(&mut self, records: &[&[u8]], tell: &mut impl FnMut(Outcome)) {
        if records.is_empty() {
            return;
        }
        self.make_room(records.len());
        for (before, record) in records.iter().enumerate() {
            if let Err(reason) = self.feed(record, before) {
                debug_assert!(false, "arrow-json refused a record it had read: {reason}");
            }
        }
        self.finish(records, tell);
    }

    /// Makes rows of `records`, which arrow-json holds; false if not all of them were good.
    fn finish(&mut self, records: &[&[u8]], tell: &mut impl FnMut(Outcome)) -> bool {
        let judged = self.guard.as_mut().map_or(Ok(()), JsonGuard::judge);
        let error = match judged.and_then(|()| self.decoder.flush()) {
            Ok(Some(batch)) if batch.num_rows() == records.len() => {
                tell(Outcome::Rows(batch));
                return true;
            }
            Ok(_) => ArrowError::JsonError("arrow-json lost a row".to_owned()),
            Err(error) => error,
        };
        self.run_records = RUN_RECORDS_AFTER_FAILURE;
        self.renew(records.len());
        match records.len() {
            1 => tell(Outcome::Bad(self.reason(error, records[0]))),
            2..=RUN_RECORDS_AFTER_FAILURE => {
                for record in records.chunks(1) {
                    self.again(record, tell);
                }
            }
            many => {
                let (first, second) = records.split_at(many / 2);
                self.again(first, tell);
                self.again(second, tell);
            }
        }
        false
    }

    /// What arrow-json says of a record, with the column: it names that in errors of its own kind, and not in those of arrow's parsers.
    fn reason(&self, error: ArrowError, record: &[u8]) -> String {
        if matches!(error, ArrowError::JsonError(_)) {
            return reason(error);
        }
        match culprit(self.schema.fields(), |fields| refuses(fields, record)) {
            Some(field) => format!("whilst decoding field '{}': {}", field.name(), reason(error)),
            None => reason(error),
        }
    }

    /// Sees to it that the decoder, which holds nothing, takes so many records.
    fn make_room(&mut self, records: usize) {
        if records > self.capacity {
            self.renew(records);
        }
    }

    /// Takes another decoder, for so many records at least: arrow-json's cannot be used again after an error.
    fn renew(&mut self, records: usize) {
        self.capacity = records.max(RUN_RECORDS_AFTER_FAILURE).next_power_of_two();
        if let Some(guard) = &mut self.guard {
            guard.clear(self.capacity);
        }
        match build(&self.schema, self.strict, self.capacity) {
            Ok(decoder) => self.decoder = decoder,
            Err(error) => debug_assert!(false, "the schema has become bad: {error}"),
        }
    }
}

/// Whether a record cannot be decoded for these columns alone.
fn refuses(fields: &[FieldRef], record: &[u8]) -> bool {
    let decoded = build(&Arc::new(Schema::new(fields.to_vec())), false, 1).and_then(|mut decoder| {
        decoder.decode(record)?;
        decoder.flush()
    });
    decoded.is_err()
}

/// Whether the levels of `record` are beyond the limit, as far as it is JSON.
fn is_nested_too_deep(record: &[u8]) -> bool {
    if memchr2_iter(b'{', b'[', record).nth(NESTING_LIMIT).is_none() {
        return false;
    }
    let (mut depth, mut in_string) = (0_usize, false);
    let mut bytes = record.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                bytes.next();
            }
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > NESTING_LIMIT {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn build(schema: &SchemaRef, strict: bool, records: usize) -> Result<Decoder, ArrowError> {
    // One more, so that a second value in the last record is not left unread.
    ReaderBuilder::new(SchemaRef::clone(schema)).with_batch_size(records + 1).with_strict_mode(strict).build_decoder()
}

/// What arrow-json says, without the kind of error, types by their SQL names.
fn reason(error: ArrowError) -> String {
    match error {
        ArrowError::JsonError(reason)
        | ArrowError::ParseError(reason)
        | ArrowError::CastError(reason)
        | ArrowError::InvalidArgumentError(reason)
        | ArrowError::ArithmeticOverflow(reason) => translated(&reason),
        other => translated(&other.to_string()),
    }
}
