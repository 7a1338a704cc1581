//! Tables of SQL databases, read and written: PostgreSQL, MySQL, MariaDB, SQLite.
//!
//! What users write (`options`, `url`, `mode`), what a key is (`keyset`, `rows`) and the SQL that differs (`dialect`) are here. `server` is what is the
//! same for every database behind a network; a folder per database holds what speaks to it.

mod dialect;
mod keyset;
mod mode;
#[cfg(feature = "mysql")]
mod mysql;
mod options;
#[cfg(feature = "postgres")]
mod postgres;
mod rows;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod server;
mod settled;
#[cfg(feature = "sqlite")]
mod sqlite;
mod temporal;
mod url;

use std::sync::Arc;

use karez_core::config::{ConfigError, ConfigErrors, parse};
use karez_core::sink::SinkGuarantee;
use karez_core::{Connector, Lookup, LookupContext, ReadBack, Sink, SinkContext, Source, SourceContext};
use serde_json::Value;

pub use options::{
    GuaranteeOption, JdbcLookupOptions, JdbcSinkOptions, JdbcSourceOptions, PoolOptions, Property, ReadMode, TlsMode, TlsOptions, WriteMode,
};
use url::Target;

/// `connector: jdbc`.
#[derive(Clone, Copy, Debug, Default)]
pub struct JdbcConnector;

impl Connector for JdbcConnector {
    fn name(&self) -> &'static str {
        "jdbc"
    }

    fn description(&self) -> &'static str {
        "Tables of SQL databases: PostgreSQL, MySQL, MariaDB, SQLite. No Java is involved, the name is the URL's.\n\n\
         How it works, what each mode of the source cannot see, and types: [Tables of SQL databases](../../connectors/jdbc.md).\n\n\
         The sink is exactly once: rows go to a staging table in the database (`__karez_stage_…`) and are moved into the table, with a marker in \
         `__karez_commits`, in one transaction when their checkpoint is complete. With a `key` it upserts and takes deletes. A row that breaks a \
         constraint goes to the error policy, alone. The source reads a table in the order of its key and goes on behind the last one: it is exactly \
         once as long as rows that were read are not changed. `incrementing` and `timestamp` go on to wait for new rows, and read only those below \
         which nothing can appear any more.\n\n\
         What a run staged and never completed is removed by its next start, or by the next run of the job. Rows of a completed barrier that were not \
         committed stay when their run is abandoned (`--fresh`), since a savepoint may name them. They are harmless; once no savepoint of that run is \
         to be restored, remove them: `SELECT * FROM __karez_lots` shows them.\n\n\
         **SQLite**: the sink switches the file to WAL mode. A lot's rows are those of its `stage` whose `__karez_id >> 32` is its `id`. NaN is stored as \
         NULL (SQLite has none). The source reads in the order of the rowid, a page at a time, and sees rows that are added behind the page being read. \
         `VACUUM` may renumber the rows of a table without `INTEGER PRIMARY KEY`: not while a job reads it.\n\n\
         A [`lookup`](../operators/lookup.md) asks a table or view by one statement for the keys of a batch. It needs the right to read it, and should have \
         an index over the columns of `on`.\n\n\
         ```yaml\n\
         sink:\n\
         \x20 connector: jdbc\n\
         \x20 config: { url: \"postgres://karez:secret@localhost/shop\", table: totals, key: [day], createTable: true }\n\
         ```"
    }

    fn source_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(JdbcSourceOptions))
    }

    fn sink_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(JdbcSinkOptions))
    }

    fn lookup_options(&self) -> Option<schemars::Schema> {
        Some(schemars::schema_for!(JdbcLookupOptions))
    }

    fn check_source(&self, config: &Value) -> Result<(), ConfigErrors> {
        parse::<JdbcSourceOptions>(config).map(drop)
    }

    fn check_sink(&self, config: &Value) -> Result<(), ConfigErrors> {
        parse::<JdbcSinkOptions>(config).map(drop)
    }

    fn check_lookup(&self, config: &Value) -> Result<(), ConfigErrors> {
        parse::<JdbcLookupOptions>(config).map(drop)
    }

    fn sink_guarantees(&self) -> &'static [SinkGuarantee] {
        &[SinkGuarantee::Transactional, SinkGuarantee::Idempotent, SinkGuarantee::AtLeastOnce]
    }

    fn tested_against(&self) -> &'static [&'static str] {
        // As `dev/services` starts them; SQLite is built in.
        &["PostgreSQL 18.6", "MySQL 8.0.33", "MariaDB 10.11", "SQLite 3.51"]
    }

    fn source(&self, context: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
        let options: JdbcSourceOptions = parse(context.config)?;
        match options.access().target()? {
            #[cfg(feature = "sqlite")]
            Target::SqliteFile(path) => sqlite::source::plan(&options, path, context),
            Target::SqliteMemory => {
                Err(ConfigError::new("url", "a database in memory is empty, there is nothing to read").hint("name a file: `jdbc:sqlite:PATH`").into())
            }
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            Target::Server(url) => server::source::plan(&options, driver(&options.access(), &url)?, context),
            #[allow(unreachable_patterns)]
            other => Err(not_built(&other)),
        }
    }

    fn sink(&self, context: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
        let options: JdbcSinkOptions = parse(context.config)?;
        match options.access().target()? {
            #[cfg(feature = "sqlite")]
            Target::SqliteFile(path) => sqlite::sink::plan(&options, path, context),
            Target::SqliteMemory => Err(ConfigError::new("url", "a database in memory would be gone with the connection that wrote it")
                .hint("name a file: `jdbc:sqlite:PATH`")
                .into()),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            Target::Server(url) => server::sink::plan(&options, driver(&options.access(), &url)?, context),
            #[allow(unreachable_patterns)]
            other => Err(not_built(&other)),
        }
    }

    fn read_back(&self, sink: &Value) -> Result<Option<ReadBack>, ConfigErrors> {
        let options: JdbcSinkOptions = parse(sink)?;
        let nothing_yet = match options.access().target()? {
            Target::SqliteFile(path) if !path.exists() => true,
            #[cfg(feature = "sqlite")]
            Target::SqliteFile(path) => options.create_table && sqlite::source::lacks_table(&path, &options.table),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            Target::Server(url) => options.create_table && server::source::lacks_table(&driver(&options.access(), &url)?, &options.table),
            #[allow(unreachable_patterns)]
            _ => false,
        };
        let place = sink.as_object().into_iter().flatten().filter(|(key, _)| PLACE.contains(&key.as_str()));
        let mut config: serde_json::Map<String, Value> = place.map(|(key, value)| (key.clone(), value.clone())).collect();
        config.insert("bounded".into(), true.into());
        Ok(Some(ReadBack { config: config.into(), binary_as_hex: false, nothing_yet }))
    }

    fn lookup(&self, context: LookupContext<'_>) -> Result<Arc<dyn Lookup>, ConfigErrors> {
        let options: JdbcLookupOptions = parse(context.config)?;
        match options.access().target()? {
            #[cfg(feature = "sqlite")]
            Target::SqliteFile(path) => sqlite::lookup::plan(&options, path, context),
            Target::SqliteMemory => {
                Err(ConfigError::new("url", "a database in memory is empty, there is nothing to find").hint("name a file: `jdbc:sqlite:PATH`").into())
            }
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            Target::Server(url) => server::lookup::plan(&options, driver(&options.access(), &url)?, context),
            #[allow(unreachable_patterns)]
            other => Err(not_built(&other)),
        }
    }
}

/// The options that say which table of which database, and how it is reached: the same at both ends.
const PLACE: [&str; 11] =
    ["url", "table", "driver", "username", "password", "properties", "tls", "pool", "connectTimeout", "statementTimeout", "external"];

/// What speaks to a server, from the options of either end.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn driver(access: &options::Access<'_>, url: &url::ServerUrl) -> Result<Arc<dyn server::driver::Driver>, ConfigErrors> {
    let settings = server::settings::Settings::new(access, url)?;
    match url.server {
        #[cfg(feature = "postgres")]
        url::Server::PostgreSql => Ok(Arc::new(postgres::Postgres::new(settings)?)),
        #[cfg(feature = "mysql")]
        url::Server::MySql | url::Server::MariaDb => Ok(Arc::new(mysql::MySqlDriver::new(settings)?)),
        #[allow(unreachable_patterns)]
        _ => Err(not_built(&Target::Server(url.clone()))),
    }
}

#[allow(dead_code)] // Where every database is built in.
fn not_built(target: &Target) -> ConfigErrors {
    let (name, feature) = match target {
        Target::Server(url) => (url.server.name(), if url.server == url::Server::PostgreSql { "postgres" } else { "mysql" }),
        Target::SqliteFile(_) | Target::SqliteMemory => ("SQLite", "sqlite"),
    };
    ConfigError::new("url", format!("{name} is not in this build")).hint(format!("build it with the cargo feature `{feature}`")).into()
}
