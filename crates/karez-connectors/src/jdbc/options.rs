//! The options of both ends.

use std::collections::BTreeMap;

use karez_core::config::{ConfigError, ConfigErrors, Secret, Span};
use karez_core::sink::SinkGuarantee;
use karez_external::ExternalOptions;
use schemars::JsonSchema;
use serde::Deserialize;

use super::url::{self, Target};

/// Adds the keys that say how a database is reached to the options of an end: serde's `flatten` would take keys that nobody knows.
macro_rules! reaching_a_database {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$key:meta])* pub $field:ident: $type:ty,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            $($(#[$key])* pub $field: $type,)+
            /// The Java driver's class; must be the one of the URL. Not needed.
            pub driver: Option<String>,
            /// A user of the database, unless the URL names one. SQLite has none.
            pub username: Option<String>,
            /// The user's password, unless the URL holds it. SQLite has none.
            pub password: Option<Secret>,
            /// What else the URL could say behind `?`, by name. Those that are not known are refused.
            #[serde(default)]
            pub properties: BTreeMap<String, Property>,
            /// How the connection is protected.
            pub tls: Option<TlsOptions>,
            /// The connections of this node. SQLite has no pool: each subtask keeps one connection.
            pub pool: Option<PoolOptions>,
            /// The longest time to set a connection up. Default: 10s.
            pub connect_timeout: Option<Span>,
            /// The longest time a statement may take on the server, which then ends it. Default: no limit.
            pub statement_timeout: Option<Span>,
        }

        impl $name {
            /// How the database is reached.
            pub(super) fn access(&self) -> Access<'_> {
                Access {
                    url: &self.url,
                    driver: self.driver.as_deref(),
                    username: self.username.as_deref(),
                    password: self.password.as_ref(),
                    properties: &self.properties,
                    tls: self.tls.as_ref(),
                    pool: self.pool,
                    connect_timeout: self.connect_timeout,
                    statement_timeout: self.statement_timeout,
                }
            }
        }
    };
}

reaching_a_database! {
    /// The options of a `jdbc` sink.
    pub struct JdbcSinkOptions {
        /// The database: `jdbc:postgresql://HOST:PORT/DATABASE`, `postgres://…`, `mysql://…`, `mariadb://…` or `jdbc:sqlite:PATH`. A missing SQLite file and
        /// its folder are created when the job starts.
        pub url: String,
        /// The table to write to, on a server also `schema.table`.
        pub table: String,
        /// `append` adds rows; `upsert` replaces the row of the same `key` and takes deletes. Default: `upsert` with a `key`, else `append`.
        pub mode: Option<WriteMode>,
        /// The columns that identify a row; the table needs a primary key or unique index over them.
        #[serde(default)]
        pub key: Vec<String>,
        /// Create the table when the job starts, if it is missing: types from the rows, primary key from `key`. Default: false.
        #[serde(default)]
        pub create_table: bool,
        /// On a server: add the columns that the rows have and the table lacks (`ALTER TABLE … ADD COLUMN`) when the job starts. Nothing else is changed.
        /// Default: false.
        #[serde(default)]
        pub evolve_table: bool,
        /// Rows that are gathered before they are written. Default: 65536 on a server, where 8 MiB of rows are always enough; 1000 in SQLite, where 4 MiB are.
        pub batch_size: Option<usize>,
        /// The longest time a row is held back. Default: 1s.
        #[serde(default = "second")]
        pub flush_interval: Span,
        /// `transactional`: rows become visible when their checkpoint completes, once. `at-least-once`: at once, and again after a crash.
        /// Default: transactional.
        #[serde(default)]
        pub guarantee: GuaranteeOption,
        /// On a server: the schema of the tables in which rows wait for their checkpoint, and of the markers. Default: that of `table`.
        pub staging_schema: Option<String>,
        /// In SQLite: how long a write is tried again while another program holds a lock it needs, before the job fails (and restarts by its strategy).
        /// Default: 60s.
        pub lock_timeout: Option<Span>,
        /// How a server is called: timeout, retries, limits. While it is away, or other transactions are in the way, the job waits.
        pub external: Option<ExternalOptions>,
    }
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

impl GuaranteeOption {
    /// What a sink promises, `keyed` or not.
    pub(super) const fn of_sink(self, keyed: bool) -> SinkGuarantee {
        match (self, keyed) {
            (Self::Transactional, _) => SinkGuarantee::Transactional,
            (Self::AtLeastOnce, true) => SinkGuarantee::Idempotent,
            (Self::AtLeastOnce, false) => SinkGuarantee::AtLeastOnce,
        }
    }
}

/// A pool of connections.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolOptions {
    /// The most connections of this node; who needs one more waits. Default: as many as calls may be under way (`external.maxConcurrency`).
    pub max_size: Option<u32>,
    /// How long an unused one is kept. Default: 10m.
    pub max_idle_time: Option<Span>,
}

/// How a connection is protected.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsOptions {
    /// How much is asked of the server. Default: `verify-full` with a `ca`, else `prefer`.
    pub mode: Option<TlsMode>,
    /// A PEM file with the certificates of the authorities that are trusted. Default: those of the system.
    pub ca: Option<String>,
    /// A PEM file with this client's certificate.
    pub cert: Option<String>,
    /// A PEM file with the key of `cert`.
    pub key: Option<String>,
}

/// How much is asked of the server (the words are PostgreSQL's).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// No encryption.
    Disable,
    /// Encryption where the server has it; nobody is verified.
    Prefer,
    /// Encryption; nobody is verified, unless a `ca` is named: then as `verify-ca`.
    Require,
    /// Encryption, and a certificate of a trusted authority.
    VerifyCa,
    /// Encryption, and a certificate of a trusted authority for the host that the URL names.
    VerifyFull,
}

/// A value of `properties`: text, a number or a truth value; never printed, since it may be a password.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Property {
    /// `true`, `false`.
    Bool(bool),
    /// A number.
    Number(i64),
    /// Text.
    Text(String),
}

impl std::fmt::Debug for Property {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Property {
    /// As it would stand in a URL.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Bool(b) => b.to_string(),
            Self::Number(n) => n.to_string(),
            Self::Text(t) => t.clone(),
        }
    }
}

reaching_a_database! {
    /// The options of a `jdbc` source.
    pub struct JdbcSourceOptions {
        /// The database: `jdbc:postgresql://HOST:PORT/DATABASE`, `postgres://…`, `mysql://…`, `mariadb://…` or `jdbc:sqlite:PATH`.
        pub url: String,
        /// The table to read, on a server also `schema.table`. Either this or `query`.
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
        /// Rows younger than this are left for later, because a transaction that began earlier may commit later. SQLite: by `timestampColumn`; default 0, right
        /// where one transaction writes at a time, unless the writers' clocks differ. PostgreSQL: not needed, since it tells which transactions are still
        /// running; with it those are not waited for in the modes with a `timestampColumn`. MySQL and MariaDB: default 5s.
        pub visibility_delay: Option<Span>,
        /// On a server: read `mode: bulk` in so many parts by ranges of `partitionColumn`, as many at a time as `parallelism` says. Default: 1.
        pub num_partitions: Option<usize>,
        /// The integer column whose ranges are the parts. Default: the primary key, where it is one integer.
        pub partition_column: Option<String>,
        /// On a server: the most rows of one statement; the next continues behind the last key. Default: 100000 where an index gives the order, else no limit,
        /// since each statement would sort all rows again.
        pub fetch_size: Option<usize>,
        /// How a server is called: timeout, retries, limits. While it is away the job waits, and goes on where it stood.
        pub external: Option<ExternalOptions>,
        /// End when all rows present have been read, instead of waiting for new ones. Default: in `type: batch` jobs and mode `bulk`.
        pub bounded: Option<bool>,
    }
}

reaching_a_database! {
    /// The options of `jdbc` look-ups: of the `config` of a `lookup` operator.
    pub struct JdbcLookupOptions {
        /// The database: `jdbc:postgresql://HOST:PORT/DATABASE`, `postgres://…`, `mysql://…`, `mariadb://…` or `jdbc:sqlite:PATH`.
        pub url: String,
        /// The table or view that is asked, on a server also `schema.table`. It should have an index over the columns of `on`.
        pub table: String,
    }
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

/// How a server is called, as an end says it.
pub(super) fn external(given: Option<&ExternalOptions>, errors: &mut Vec<ConfigError>) -> ExternalOptions {
    let options = given.cloned().unwrap_or_default();
    errors.extend(options.check().err().map(|e| e.under("external")));
    options
}

/// The keys that say how a database is reached, of either end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access<'a> {
    pub(super) url: &'a str,
    pub(super) driver: Option<&'a str>,
    pub(super) username: Option<&'a str>,
    pub(super) password: Option<&'a Secret>,
    pub(super) properties: &'a BTreeMap<String, Property>,
    pub(super) tls: Option<&'a TlsOptions>,
    pub(super) pool: Option<PoolOptions>,
    pub(super) connect_timeout: Option<Span>,
    pub(super) statement_timeout: Option<Span>,
}

impl Access<'_> {
    /// The database.
    pub(super) fn target(&self) -> Result<Target, ConfigErrors> {
        let target = url::parse(self.url)?;
        if let Some(driver) = self.driver {
            url::check_driver(&target, driver)?;
        }
        Ok(target)
    }

    /// Refuses what has no meaning for a file.
    pub(super) fn refuse_server_keys(&self, external: Option<&ExternalOptions>, errors: &mut Vec<ConfigError>) {
        for (key, given) in [("username", self.username.is_some()), ("password", self.password.is_some())] {
            if given {
                errors.push(ConfigError::new(key, "a SQLite file has no users").hint(format!("remove `{key}`; the rights of the file decide")));
            }
        }
        if self.pool.is_some() {
            errors.push(
                ConfigError::new("pool", "there is no pool for SQLite: each subtask keeps one connection, and one of them writes at a time")
                    .hint("remove `pool`; `parallelism` sets the number of connections"),
            );
        }
        for (key, given) in [
            ("external", external.is_some()),
            ("tls", self.tls.is_some()),
            ("properties", !self.properties.is_empty()),
            ("connectTimeout", self.connect_timeout.is_some()),
            ("statementTimeout", self.statement_timeout.is_some()),
        ] {
            if given {
                errors.push(ConfigError::new(key, "a SQLite file is not reached over a network").hint(format!("remove `{key}`")));
            }
        }
    }
}

const fn second() -> Span {
    Span::millis(1_000)
}
const fn five_seconds() -> Span {
    Span::millis(5_000)
}
