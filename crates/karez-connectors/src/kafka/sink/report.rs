//! What the sender tells the writer.

use std::sync::{Mutex, PoisonError};

use karez_core::{BadRecord, Error, Result};

use crate::kafka::transaction::OffsetRange;

/// Everything has been acknowledged or refused.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// What has been written in the transaction.
    pub(super) ranges: Vec<OffsetRange>,
    /// Whether the broker may have the transaction open.
    pub(super) touched: bool,
}

/// What the sender tells.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Why it has stopped.
    failure: Mutex<Option<Failure>>,
    /// Rows that the brokers refused.
    rejects: Mutex<Vec<BadRecord>>,
}

#[derive(Debug)]
struct Failure {
    /// Until it has been told.
    error: Option<Error>,
    text: String,
}

impl Report {
    /// The failure, if there is one: the first time as it is.
    pub(super) fn check(&self) -> Result<()> {
        match &mut *self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(failure) => {
                Err(failure.error.take().unwrap_or_else(|| Error::connection(format!("the producer has failed before: {}", failure.text))))
            }
        }
    }

    pub(super) fn take_rejects(&self) -> Vec<BadRecord> {
        std::mem::take(&mut *self.rejects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn reject(&self, row: BadRecord) {
        self.rejects.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    }

    /// The first failure stands.
    pub(super) fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() {
            *failure = Some(Failure { text: error.to_string(), error: Some(error) });
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}
