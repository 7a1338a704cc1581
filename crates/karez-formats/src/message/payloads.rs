//! What an encoder has made: the bytes of many payloads in one buffer.

use std::ops::Range;

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A payload: where its bytes lie in [`Payloads::bytes`].
    Payload(Range<usize>),
    /// A message without a payload: the delete of its key.
    Tombstone,
    /// No message: the row before an update, where the row behind it says everything.
    Nothing,
    /// The format cannot hold the row: why.
    Rejected(String),
}

/// The outcomes of rows, in their order. Used again and again without allocating.
#[derive(Debug, Default)]
pub struct Payloads {
    bytes: Vec<u8>,
    outcomes: Vec<Outcome>,
}

impl Payloads {
    /// The bytes of all payloads, end to end.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What became of each row.
    #[must_use]
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// The payload of a row, if it has one.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        match self.outcomes.get(row)? {
            Outcome::Payload(range) => self.bytes.get(range.clone()),
            _ => None,
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.outcomes.clear();
    }

    /// Takes the bytes, for a client that keeps slices of them, and the outcomes that say where they lie.
    #[must_use]
    pub fn take(&mut self) -> (Vec<u8>, Vec<Outcome>) {
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.outcomes))
    }

    /// Adds a payload that `write` appends, or its refusal, of which nothing is left.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), String>) {
        let start = self.bytes.len();
        match write(&mut self.bytes) {
            Ok(()) => self.outcomes.push(Outcome::Payload(start..self.bytes.len())),
            Err(reason) => {
                self.bytes.truncate(start);
                self.outcomes.push(Outcome::Rejected(reason));
            }
        }
    }

    /// Adds the outcome of a row that has no payload.
    pub fn push(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }
}
