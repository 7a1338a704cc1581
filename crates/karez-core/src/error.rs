//! Errors on three axes: whose fault, whether retrying helps, how far it reaches.

use std::fmt;

/// The result of everything that can fail in a job.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Who can do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The user: the job file, an expression, the data.
    User,
    /// A system outside: a server, a disk, the network.
    External,
    /// Karez: a bug.
    Internal,
}

/// How far an error reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// One record: the error policy of the node decides.
    Record,
    /// One connection: retried with back-off under back-pressure.
    Connection,
    /// The job: it fails and restarts by its strategy.
    Job,
    /// The run: it fails for good, since what its last checkpoint promises cannot be kept, and a restart would go on from there.
    Run,
}

/// An error of a job, with the node it happened in once that is known.
#[derive(Debug)]
pub struct Error {
    whose: Whose,
    reach: Reach,
    retryable: bool,
    message: String,
    node: Option<String>,
    cause: Option<Cause>,
}

impl Error {
    /// The user must change something; the job cannot go on.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(Whose::User, Reach::Job, false, message)
    }

    /// One record is at fault.
    pub fn record(message: impl Into<String>) -> Self {
        Self::new(Whose::User, Reach::Record, false, message)
    }

    /// An outside system failed for good (disk full, permission, wrong password).
    pub fn external(message: impl Into<String>) -> Self {
        Self::new(Whose::External, Reach::Job, false, message)
    }

    /// An outside system is away; trying again may help.
    pub fn connection(message: impl Into<String>) -> Self {
        Self::new(Whose::External, Reach::Connection, true, message)
    }

    /// A broken invariant of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Whose::Internal, Reach::Job, false, message)
    }

    fn new(whose: Whose, reach: Reach, retryable: bool, message: impl Into<String>) -> Self {
        Self { whose, reach, retryable, message: message.into(), node: None, cause: None }
    }

    /// Adds the error that led to this one.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Says whether trying again may help.
    #[must_use]
    pub const fn retryable(mut self, yes: bool) -> Self {
        self.retryable = yes;
        self
    }

    /// Says how far it reaches.
    #[must_use]
    pub const fn reaching(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// Names the node, unless an inner one is named already.
    #[must_use]
    pub fn at(mut self, node: impl Into<String>) -> Self {
        self.node.get_or_insert_with(|| node.into());
        self
    }

    /// Who can do something about it.
    #[must_use]
    pub const fn whose(&self) -> Whose {
        self.whose
    }

    /// How far it reaches.
    #[must_use]
    pub const fn reach(&self) -> Reach {
        self.reach
    }

    /// Whether trying again may help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The node it happened in, where known.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// The message alone, without node and cause.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "{node}: ")?;
        }
        let mut text = self.message.clone();
        let mut cause = self.cause.as_deref().map(|c| c as &dyn std::error::Error);
        while let Some(c) = cause {
            // What wraps an error often repeats it.
            let why = c.to_string();
            if !text.contains(&why) {
                text = format!("{text}: {why}");
            }
            cause = c.source();
        }
        f.write_str(&text)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The causes are part of the text already; a reporter that walks the chain would print them twice.
        None
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        Self::internal("arrow").caused_by(e)
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Self::external("I/O").caused_by(e)
    }
}

/// The nearest of `known` to a misspelt `word`, if one is near enough to suggest.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase()), k))
        .filter(|(d, k)| *d <= 1 + k.len().min(word.len()) / 3)
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("network error: {0}")]
    struct Wrapping(#[source] io::Error);

    #[test]
    fn a_cause_that_what_wraps_it_repeats_is_said_once() {
        let refused = || Wrapping(io::Error::other("connection refused"));
        assert_eq!(Error::external("reading").caused_by(refused()).to_string(), "reading: network error: connection refused");
        let whole = Error::external("reading: network error: connection refused").caused_by(refused());
        assert_eq!(whole.to_string(), "reading: network error: connection refused");
        let other = Error::external("reading").caused_by(io::Error::other("disk full"));
        assert_eq!(other.at("node").to_string(), "node: reading: disk full");
    }
}
