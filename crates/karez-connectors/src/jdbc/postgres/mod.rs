//! PostgreSQL, through tokio-postgres: rows come and go in the binary form of COPY.

mod decode;
mod describe;
mod encode;
mod error;
mod numeric;
mod parameters;
mod session;
mod text;
mod tls;
mod types;
mod visibility;

use std::time::Duration;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use karez_core::config::ConfigErrors;
use tokio_postgres::Config;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::dialect::Dialect;
use super::server::driver::{Driver, Session};
use super::server::failure::Failure;
use super::server::settings::Settings;
use super::server::table::Column;
use session::PgSession;

/// PostgreSQL, as the options of a node describe it.
pub(super) struct Postgres {
    settings: Settings,
    config: Config,
    tls: MakeRustlsConnect,
    /// Run on each connection, first.
    greeting: String,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.settings.place())
    }
}

impl Postgres {
    /// Reads the parameters; certificates are read now, the server is reached later.
    pub(super) fn new(mut settings: Settings) -> Result<Self, ConfigErrors> {
        let parameters::Read { mut config, greeting } = parameters::read(&mut settings)?;
        for (host, port) in &settings.hosts {
            config.host(host).port(*port);
        }
        config.dbname(settings.database.as_deref().or(settings.username.as_deref()).unwrap_or("postgres"));
        config.user(settings.username.as_deref().unwrap_or("postgres"));
        if let Some(password) = &settings.password {
            config.password(password.expose());
        }
        config.connect_timeout(settings.connect_timeout());
        // A server that has vanished without a word is found out within a minute or so.
        config.keepalives_idle(Duration::from_secs(30)).keepalives_interval(Duration::from_secs(10)).keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(60));
        let tls = tls::connector(&settings, &mut config)?;
        Ok(Self { settings, config, tls, greeting })
    }
}

#[async_trait]
impl Driver for Postgres {
    fn dialect(&self) -> &dyn Dialect {
        &PostgresDialect
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    async fn connect(&self) -> Result<Box<dyn Session>, Failure> {
        let place = self.settings.place();
        let connect = self.config.connect(self.tls.clone());
        // The timeout of the library is that of one address; this one is for all of it, logging in included.
        let (client, connection) = match tokio::time::timeout(self.settings.connect_timeout().saturating_mul(2), connect).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(e)) => return Err(error::of_connecting(&e, &place)),
            Err(_) => return Err(error::too_slow(&place, self.settings.connect_timeout())),
        };
        let task = tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!(reason = %e, "a connection to PostgreSQL has ended");
            }
        });
        let mut session = PgSession::new(client, task, self.tls.clone(), place.into());
        session.greet(&self.greeting).await?;
        Ok(Box::new(session))
    }

    fn is_at_work(&self, id: u64, a_while: Duration) -> String {
        // `disabled`: the server does not track what it does.
        let (at_work, millis) = ("state IN ('active', 'fastpath function call', 'disabled')", a_while.as_millis());
        format!(
            "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE pid = {id} AND ({at_work} OR state_change > clock_timestamp() - interval '{millis} milliseconds')"
        )
    }

    fn type_of(&self, data_type: &DataType) -> u32 {
        match data_type {
            DataType::Int16 => types::INT2,
            _ => types::INT8,
        }
    }

    fn reads_as(&self, column: &Column, wanted: &DataType) -> Option<DataType> {
        types::reads_as(column.type_id, wanted)
    }

    fn writes(&self, data_type: &DataType, column: &Column) -> Result<(), String> {
        types::writes(data_type, column)
    }

    fn default_visibility_delay_ms(&self) -> Option<i64> {
        None
    }
}

/// How PostgreSQL writes names and types.
#[derive(Clone, Copy, Debug)]
struct PostgresDialect;

impl Dialect for PostgresDialect {
    fn literal(&self, text: &str) -> String {
        // PostgreSQL has no text with a zero byte in it.
        let text = text.replace('\0', "\u{fffd}").replace('\'', "''");
        if text.contains('\\') { format!("E'{}'", text.replace('\\', "\\\\")) } else { format!("'{text}'") }
    }

    fn bytes_literal(&self, bytes: &[u8]) -> String {
        format!("'\\x{}'::bytea", super::rows::hex(bytes))
    }

    fn column_type(&self, data_type: &DataType) -> String {
        types::declared(data_type)
    }

    /// COPY says nothing of types: a column that is given another one while the job runs would be read as what it was. The cast to its own type costs nothing.
    fn selected(&self, name: &str, declared: &str) -> String {
        let name = self.quote(name);
        format!("CAST({name} AS {declared}) AS {name}")
    }

    fn check_deferred(&self) -> Option<&'static str> {
        Some("SET CONSTRAINTS ALL IMMEDIATE")
    }

    fn create_temporary(&self, table: &str, definition: &str) -> String {
        format!("CREATE TEMPORARY TABLE IF NOT EXISTS {table} {definition} ON COMMIT DELETE ROWS")
    }
}
