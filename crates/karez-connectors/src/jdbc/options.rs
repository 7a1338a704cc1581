//! The options of both ends.

use karez_core::config::{ConfigError, Secret, Span};
use schemars::JsonSchema;
use serde::Deserialize;

use super::url::{self, Target};

/// The options of a `jdbc` sink.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JdbcSinkOptions {
    /// The database: `jdbc:sqlite:PATH`. A missing file and its folder are created when the job starts.
    pub url: String,
    /// The table to write to.
    pub table: String,
    /// `append` adds rows; `upsert` replaces the row of the same `key` and takes deletes. Default: `upsert` with a `key`, else `append`.
    pub mode: Option<WriteMode>,
    /// The columns that identify a row; the table needs a primary key or unique index over them.
    #[serde(default)]
    pub key: Vec<String>,
    /// Create the table when the job starts, if it is missing: types from the rows, primary key from `key`. Default: false.
    #[serde(default)]
    pub create_table: bool,
    /// Rows that are gathered before they are written. Default: 1000.
    #[serde(default = "thousand")]
    pub batch_size: usize,
    /// The longest time a row is held back. Default: 1s.
    #[serde(default = "second")]
    pub flush_interval: Span,
    /// `transactional`: rows become visible when their checkpoint completes, once. `at-least-once`: at once, and again after a crash.
    /// Default: transactional.
    #[serde(default)]
    pub guarantee: GuaranteeOption,
    /// How long to wait for another program that holds the database's lock, before the job fails (and restarts by its strategy). Default: 60s.
    #[serde(default = "minute")]
    pub lock_timeout: Span,
    /// The Java driver's class; must be the one of the URL. Not needed.
    pub driver: Option<String>,
    /// A user of the database. SQLite has none.
    pub username: Option<String>,
    /// The user's password. SQLite has none.
    pub password: Option<Secret>,
    /// A pool of connections. SQLite has none: one file, one writer at a time.
    pub pool: Option<PoolOptions>,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WriteMode {
    /// Every row is added.
    Append,
    /// A row replaces the one of the same key; deletes are taken.
    Upsert,
}

/// What is promised over crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuaranteeOption {
    /// Rows become visible with their checkpoint, once.
    #[default]
    Transactional,
    /// Rows become visible at once, and are written again after a crash. With a key the result is the same.
    AtLeastOnce,
}

/// A pool of connections.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolOptions {
    /// The most connections.
    pub max_size: Option<u32>,
    /// How long an unused one is kept.
    pub max_idle_time: Option<Span>,
}

/// The options of a `jdbc` source.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JdbcSourceOptions {
    /// The database: `jdbc:sqlite:PATH`.
    pub url: String,
    /// The table to read. Either this or `query`.
    pub table: Option<String>,
    /// A `SELECT` to read. Either this or `table`.
    pub query: Option<String>,
    /// What is read. Default: bulk.
    #[serde(default)]
    pub mode: ReadMode,
    /// A column that only grows, one value per row: modes `incrementing`, `timestamp+incrementing`. Rows with null in it are not read.
    pub incrementing_column: Option<String>,
    /// The instant a row was last changed: modes `timestamp`, `timestamp+incrementing`. Rows with null in it are not read.
    pub timestamp_column: Option<String>,
    /// Columns that identify a row of `query`: it is read in their order and can be resumed exactly.
    #[serde(default)]
    pub key: Vec<String>,
    /// How often new rows are looked for. Default: 5s.
    #[serde(default = "five_seconds")]
    pub poll_interval: Span,
    /// Rows younger than this by `timestampColumn` are left for later, for databases in which a transaction with an older instant may commit after
    /// a newer one. Default: 0, right for SQLite, where one transaction writes at a time, unless the writers' clocks differ.
    #[serde(default = "no_time")]
    pub visibility_delay: Span,
    /// End when all rows present have been read, instead of waiting for new ones. Default: in `type: batch` jobs and mode `bulk`.
    pub bounded: Option<bool>,
    /// The Java driver's class; must be the one of the URL. Not needed.
    pub driver: Option<String>,
    /// A user of the database. SQLite has none.
    pub username: Option<String>,
    /// The user's password. SQLite has none.
    pub password: Option<Secret>,
    /// A pool of connections. SQLite has none: a source reads through one connection.
    pub pool: Option<PoolOptions>,
}

/// What a source reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReadMode {
    /// All rows, once.
    #[default]
    Bulk,
    /// All rows, then those whose `incrementingColumn` is greater than any before.
    Incrementing,
    /// All rows, then those whose `timestampColumn` is at or behind the latest so far and that have not been read at that instant.
    Timestamp,
    /// All rows by `timestampColumn` and, within an instant, by `incrementingColumn`: new and changed rows.
    #[serde(rename = "timestamp+incrementing")]
    TimestampIncrementing,
}

/// The keys that say how the database is reached.
pub(super) struct Connection<'a> {
    pub(super) url: &'a str,
    pub(super) driver: Option<&'a str>,
    pub(super) username: bool,
    pub(super) password: bool,
    pub(super) pool: bool,
}

impl Connection<'_> {
    /// The database; everything wrong with how it is named goes into `errors`.
    pub(super) fn target(&self, errors: &mut Vec<ConfigError>) -> Option<Target> {
        let target = match url::parse(self.url) {
            Ok(target) => target,
            Err(e) => {
                errors.push(e);
                return None;
            }
        };
        if let Some(Err(e)) = self.driver.map(url::check_driver) {
            errors.push(e);
        }
        for (key, given) in [("username", self.username), ("password", self.password)] {
            if given {
                errors.push(ConfigError::new(key, "a SQLite file has no users").hint(format!("remove `{key}`; the rights of the file decide")));
            }
        }
        if self.pool {
            errors.push(
                ConfigError::new("pool", "there is no pool for SQLite: each subtask keeps one connection, and one of them writes at a time")
                    .hint("remove `pool`; `parallelism` sets the number of connections"),
            );
        }
        Some(target)
    }
}

const fn thousand() -> usize {
    1_000
}
const fn second() -> Span {
    Span::millis(1_000)
}
const fn five_seconds() -> Span {
    Span::millis(5_000)
}
const fn minute() -> Span {
    Span::millis(60_000)
}
const fn no_time() -> Span {
    Span::millis(0)
}
