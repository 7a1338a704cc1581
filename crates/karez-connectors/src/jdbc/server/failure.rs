//! An error of a database, by what can be done about it.

use karez_core::Error;

/// What can be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kind {
    /// A row is at fault (a constraint, a value out of range): which one is found by halving, unless it is known, counted from 0.
    Row(Option<usize>),
    /// Another transaction was in the way (deadlock, serialisation, lock timeout): the same transaction may succeed when it is tried again.
    Conflict,
    /// The server cannot be reached, or is starting or stopping; the answer to what was asked last may be lost.
    Connection,
    /// The user must change something: a wrong password, a missing right or table, a statement that is wrong.
    User,
    /// The server failed for good (disk full, a bug).
    Server,
}

/// A failure of a statement or connection. The message names the server and never holds a password.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(in super::super) struct Failure {
    pub(in super::super) kind: Kind,
    pub(in super::super) message: String,
}

impl Failure {
    pub(in super::super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The same with words in front that say what was tried.
    pub(in super::super) fn context(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl From<Failure> for Error {
    fn from(f: Failure) -> Self {
        match f.kind {
            Kind::Row(_) => Self::record(f.message),
            Kind::Conflict => Self::external(f.message).retryable(true),
            Kind::Connection => Self::connection(f.message),
            Kind::User => Self::user(f.message),
            Kind::Server => Self::external(f.message),
        }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        let kind = match (e.whose(), e.reach()) {
            (_, karez_core::Reach::Record) => Kind::Row(None),
            (_, karez_core::Reach::Connection) => Kind::Connection,
            (karez_core::Whose::User, _) => Kind::User,
            _ => Kind::Server,
        };
        Self::new(kind, e.to_string())
    }
}
