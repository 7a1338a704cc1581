//! The modes of a source: which options go together.

use karez_core::config::ConfigError;

use super::options::{JdbcSourceOptions, ReadMode};

impl ReadMode {
    /// The columns that rows are read in the order of, of the key and the columns that are named.
    pub(super) fn order<C: Clone>(self, key: Vec<C>, timestamp: Vec<C>, incrementing: Vec<C>) -> Result<Vec<C>, ConfigError> {
        match self {
            Self::Bulk => Ok(key),
            Self::Incrementing => Ok(incrementing),
            Self::TimestampIncrementing => Ok([timestamp, incrementing].concat()),
            Self::Timestamp if key.is_empty() => Err(ConfigError::new("key", "rows of one instant cannot be told apart without a key")
                .hint("give `key` with a `query` (for a view, write `query: SELECT * FROM view`), or use `mode: timestamp+incrementing`")),
            Self::Timestamp => Ok([timestamp, key].concat()),
        }
    }
}

/// What a source's `mode` needs and what it does not use.
pub(super) fn check_mode(options: &JdbcSourceOptions, batch: bool, errors: &mut Vec<ConfigError>) {
    let name = match options.mode {
        ReadMode::Bulk => "bulk",
        ReadMode::Incrementing => "incrementing",
        ReadMode::Timestamp => "timestamp",
        ReadMode::TimestampIncrementing => "timestamp+incrementing",
    };
    let columns = [
        (
            "incrementingColumn",
            options.incrementing_column.is_some(),
            matches!(options.mode, ReadMode::Incrementing | ReadMode::TimestampIncrementing),
        ),
        ("timestampColumn", options.timestamp_column.is_some(), matches!(options.mode, ReadMode::Timestamp | ReadMode::TimestampIncrementing)),
    ];
    for (key, given, needed) in columns {
        match (given, needed) {
            (false, true) => errors.push(ConfigError::new(key, format!("is missing: `mode: {name}` needs it"))),
            (true, false) => errors.push(ConfigError::new(key, format!("`mode: {name}` does not use it")).hint("remove it, or set another `mode`")),
            _ => {}
        }
    }
    if options.bounded == Some(false) && (batch || options.mode == ReadMode::Bulk) {
        let why = if batch { "the job is `type: batch`" } else { "`mode: bulk` ends with the last row" };
        errors.push(ConfigError::new("bounded", format!("cannot be false: {why}")));
    }
    if !options.key.is_empty() && options.table.is_some() {
        errors.push(ConfigError::new("key", "a table's own key is used").hint("remove `key`; it is for `query`"));
    }
}
