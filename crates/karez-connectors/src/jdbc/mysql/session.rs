//! A connection, set up so that nothing is changed in silence.

use arrow::datatypes::DataType;
use async_trait::async_trait;
use mysql_async::prelude::{FromValue, Queryable};
use mysql_async::{Conn, DriverError, Error, Params, Row};
use tokio::sync::mpsc;

use super::super::dialect::Dialect;
use super::super::options::TlsMode;
use super::super::server::driver::{Candidate, Chunk, Growth, Load, Select, Session};
use super::super::server::failure::{Failure, Kind};
use super::super::server::settings::Settings;
use super::super::server::table::{Column, Table, TableName};
use super::dialect::MySql;
use super::failures::failure;
use super::settings::{ZeroDates, opts};
use super::types;

/// Strict, so that a value that does not fit is an error; zero in an auto-increment column is zero; quotes and backslashes mean what they do by default.
const SQL_MODE: &str = "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO";

/// How long the server waits for us in the middle of a result: a job that is paused, or held back by its sink, must not lose it.
const PATIENCE_SECONDS: u32 = 86_400;

/// A connection to MySQL or MariaDB.
pub(super) struct MySqlSession {
    /// `None` only while it is being dropped.
    conn: Option<Conn>,
    /// A statement was begun and has not ended: its future was dropped, or the connection broke.
    under_way: bool,
    in_transaction: bool,
    pub(super) zero_dates: ZeroDates,
    pub(super) is_mariadb: bool,
    /// Whether the server takes `LOAD DATA LOCAL`.
    pub(super) local_infile: bool,
    /// The largest statement, bytes.
    pub(super) max_packet: usize,
    place: String,
}

impl MySqlSession {
    /// Connects to the first host that answers.
    pub(super) async fn open(settings: &Settings, zero_dates: ZeroDates) -> Result<Self, Failure> {
        let place = settings.place();
        let mut last = None;
        for (host, port) in &settings.hosts {
            match Self::open_at(settings, host, *port, &place, zero_dates).await {
                Ok(session) => return Ok(session),
                Err(f) if f.kind == Kind::Connection => last = Some(f),
                Err(f) => return Err(f),
            }
        }
        Err(last.unwrap_or_else(|| Failure::new(Kind::User, "no host is named")))
    }

    async fn open_at(settings: &Settings, host: &str, port: u16, place: &str, zero_dates: ZeroDates) -> Result<Self, Failure> {
        let connect = async {
            let mode = settings.tls_mode();
            let conn = match Conn::new(opts(settings, host, port, mode != TlsMode::Disable)).await {
                Err(Error::Driver(DriverError::NoClientSslFlagFromServer)) if mode == TlsMode::Prefer => {
                    Conn::new(opts(settings, host, port, false)).await?
                }
                other => other?,
            };
            Self::set_up(conn, settings, place, zero_dates).await
        };
        match tokio::time::timeout(settings.connect_timeout(), connect).await {
            Ok(connected) => connected.map_err(|e| failure(place, "connect", &e)),
            Err(_) => Err(Failure::new(
                Kind::Connection,
                format!("{place}: cannot connect: no answer from {host}:{port} within {:?}", settings.connect_timeout()),
            )),
        }
    }

    async fn set_up(mut conn: Conn, settings: &Settings, place: &str, zero_dates: ZeroDates) -> Result<Self, Error> {
        let row: Option<(String, bool, u64)> = conn.query_first("SELECT VERSION(), @@local_infile, @@max_allowed_packet").await?;
        let (version, local_infile, max_packet) = row.unwrap_or_default();
        let is_mariadb = version.contains("MariaDB");
        conn.query_drop("SET NAMES utf8mb4").await?;
        let mut set = format!(
            "SET time_zone = '+00:00', sql_mode = '{SQL_MODE}', autocommit = 1, net_write_timeout = {PATIENCE_SECONDS}, \
             net_read_timeout = {PATIENCE_SECONDS}, wait_timeout = {PATIENCE_SECONDS}, default_storage_engine = InnoDB, default_tmp_storage_engine = InnoDB"
        );
        if let Some(timeout) = settings.statement_timeout {
            // MySQL's limit holds for reads alone, in milliseconds; MariaDB's for all statements, in seconds.
            set.push_str(&if is_mariadb {
                format!(", max_statement_time = {}", timeout.as_secs_f64())
            } else {
                format!(", max_execution_time = {}", timeout.as_millis())
            });
        }
        conn.query_drop(set).await?;
        // A statement sees what was committed when it began, and less is locked than at the default level.
        conn.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        Ok(Self {
            conn: Some(conn),
            under_way: false,
            in_transaction: false,
            zero_dates,
            is_mariadb,
            local_infile,
            max_packet: usize::try_from(max_packet).unwrap_or(usize::MAX),
            place: place.to_owned(),
        })
    }

    /// The connection, for one piece of work that ends with [`Self::ended`]; where it does not, the session is not used again.
    pub(super) fn begin_work(&mut self) -> Result<&mut Conn, Failure> {
        if self.under_way {
            return Err(Failure::new(Kind::Connection, format!("the connection to {} was left in the middle of a statement", self.place)));
        }
        self.under_way = true;
        self.conn.as_mut().ok_or_else(|| Failure::new(Kind::Server, "the session is closed"))
    }

    /// What came of a piece of work: an error of the server leaves the connection usable, others do not.
    pub(super) fn ended<T>(&mut self, what: &str, result: Result<T, Error>) -> Result<T, Failure> {
        self.under_way = matches!(&result, Err(e) if !matches!(e, Error::Server(_)));
        result.map_err(|e| {
            let failure = failure(&self.place, what, &e);
            self.under_way |= failure.kind == Kind::Connection;
            failure
        })
    }

    /// The rows of a statement with parameters; for those that are few.
    pub(super) async fn rows(&mut self, what: &str, sql: &str, params: impl Into<Params> + Send) -> Result<Vec<Row>, Failure> {
        let params = params.into();
        let result = self.begin_work()?.exec(sql, params).await;
        self.ended(what, result)
    }

    async fn run(&mut self, what: &str, sql: &str) -> Result<u64, Failure> {
        let conn = self.begin_work()?;
        let result = conn.query_drop(sql).await.map(|()| conn.affected_rows());
        self.ended(what, result)
    }
}

impl Drop for MySqlSession {
    fn drop(&mut self) {
        // Left to itself, the driver would read the rest of a result before it closes.
        if let (Some(conn), Ok(runtime)) = (self.conn.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                // The server finds out by itself where this fails.
                let _ = conn.disconnect().await;
            });
        }
    }
}

/// A value of a row of the server's catalogue.
pub(super) fn get<T: FromValue>(row: &Row, at: usize) -> Result<T, Failure> {
    match row.get_opt::<T, _>(at) {
        Some(Ok(value)) => Ok(value),
        _ => Err(Failure::new(Kind::Server, format!("column {at} of an answer of the server's catalogue is not as expected"))),
    }
}

#[async_trait]
impl Session for MySqlSession {
    fn id(&self) -> u64 {
        self.conn.as_ref().map_or(0, |c| c.id().into())
    }

    fn is_usable(&self) -> bool {
        !self.under_way && !self.in_transaction && self.conn.as_ref().is_some_and(|c| !c.is_disconnected())
    }

    async fn execute(&mut self, sql: &str) -> Result<u64, Failure> {
        self.run("run a statement", sql).await
    }

    async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Failure> {
        let result = self.begin_work()?.query::<Row, _>(sql).await;
        let rows = self.ended("run a query", result)?;
        rows.iter().map(|row| (0..row.len()).map(|i| get(row, i)).collect()).collect()
    }

    async fn begin(&mut self, _: bool) -> Result<(), Failure> {
        self.run("begin a transaction", "START TRANSACTION").await?;
        self.in_transaction = true;
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        self.run("commit", "COMMIT").await?;
        self.in_transaction = false;
        Ok(())
    }

    async fn rollback(&mut self) -> Result<(), Failure> {
        self.run("roll back", "ROLLBACK").await?;
        self.in_transaction = false;
        Ok(())
    }

    /// A statement is looked at when it is prepared, its rights included.
    async fn may_run(&mut self, sql: &str) -> Result<(), Failure> {
        self.run("prepare a statement", &format!("PREPARE __karez_rights FROM {}", MySql.literal(sql))).await?;
        self.run("forget a statement", "DEALLOCATE PREPARE __karez_rights").await.map(drop)
    }

    async fn may_create(&mut self, schema: Option<&str>, temporary: bool) -> Result<(), Failure> {
        let table = TableName { schema: schema.map(str::to_owned), name: "__karez_rights".to_owned() }.sql(&MySql);
        self.may_run(&format!("CREATE {}TABLE {table} (n INT)", if temporary { "TEMPORARY " } else { "" })).await
    }

    fn cannot_hold(&self, data_type: &DataType) -> Option<String> {
        types::cannot_hold(data_type, self.is_mariadb)
    }

    async fn describe(&mut self, table: &TableName) -> Result<Option<Table>, Failure> {
        super::describe::table(self, table).await
    }

    async fn describe_query(&mut self, query: &str) -> Result<Vec<Column>, Failure> {
        super::describe::query(self, query).await
    }

    async fn table_names(&mut self, schema: Option<&str>) -> Result<Vec<String>, Failure> {
        super::describe::names(self, schema, "table_name NOT LIKE '\\\\_\\\\_karez\\\\_%'").await
    }

    async fn own_tables(&mut self, schema: Option<&str>, prefix: &str) -> Result<Vec<String>, Failure> {
        let prefix = prefix.replace('_', "\\_").replace('\\', "\\\\").replace('\'', "''");
        super::describe::names(self, schema, &format!("table_name LIKE '{prefix}%'")).await
    }

    async fn load(&mut self, load: &Load<'_>, rows: &arrow::record_batch::RecordBatch) -> Result<(), Failure> {
        super::load::load(self, load, rows).await
    }

    async fn read(&mut self, select: &Select, chunks: &mpsc::Sender<Chunk>) -> Result<(), Failure> {
        super::read::read(self, select, chunks).await
    }

    async fn candidate(&mut self, growth: &Growth<'_>, now_ms: i64) -> Result<Option<Candidate>, Failure> {
        super::visibility::candidate(self, growth, now_ms).await
    }

    async fn is_settled(&mut self, candidate: &mut Candidate, growth: &Growth<'_>, now_ms: i64) -> Result<bool, Failure> {
        super::visibility::is_settled(self, candidate, growth, now_ms).await
    }
}
