//! MySQL and MariaDB, each case on both: they differ in authentication, JSON, statements and messages.

mod failures;
mod rejects;
mod security;
mod sink;
mod source;
mod types;

use std::sync::Arc;

use karez_core::ManualClock;
use karez_testkit::{Server, service, unique};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Row, Value as SqlValue};
use serde_json::{Value, json};

use crate::jdbc::Process;

/// Runs each case on MySQL and on MariaDB, in a database of its own.
macro_rules! on_both {
    ($($(#[$attribute:meta])* async fn $name:ident($base:ident: &Base) $body:block)+) => {
        $(mod $name {
            #[allow(clippy::wildcard_imports)]
            use super::*;

            async fn case($base: &Base) $body

            $(#[$attribute])*
            #[tokio::test]
            async fn mysql() {
                let base = Base::new(karez_testkit::Server::Mysql).await;
                case(&base).await;
                base.close().await;
            }

            $(#[$attribute])*
            #[tokio::test]
            async fn mariadb() {
                let base = Base::new(karez_testkit::Server::Mariadb).await;
                case(&base).await;
                base.close().await;
            }
        })+
    };
}
pub(crate) use on_both;

/// A database of its own on one of the servers, gone when dropped.
pub struct Base {
    pub server: Server,
    /// Of the server, with the database.
    pub url: String,
    pub name: String,
}

impl Base {
    pub async fn new(server: Server) -> Self {
        Self::at(server, &service(if server == Server::Mysql { "MYSQL_URL" } else { "MARIADB_URL" })).await
    }

    /// On a server at an address.
    pub async fn at(server: Server, address: &str) -> Self {
        let (start, _) = address.rsplit_once('/').unwrap();
        let name = unique("kz");
        let base = Self { server, url: format!("{start}/{name}"), name };
        let mut conn = Conn::new(Opts::from_url(address).unwrap()).await.unwrap();
        conn.query_drop(format!("CREATE DATABASE {}", base.name)).await.unwrap();
        conn.disconnect().await.unwrap();
        base
    }

    pub async fn connect(&self) -> Conn {
        Conn::new(OptsBuilder::from_opts(Opts::from_url(&self.url).unwrap()).prefer_socket(false)).await.unwrap()
    }

    /// Runs statements, divided by `;` at the end of a line.
    pub async fn sql(&self, statements: &str) {
        let mut conn = self.connect().await;
        conn.query_drop("SET sql_mode = 'NO_ENGINE_SUBSTITUTION', time_zone = '+00:00'").await.unwrap();
        for statement in statements.split(";\n") {
            if !statement.trim().is_empty() {
                conn.query_drop(statement.trim().trim_end_matches(';')).await.unwrap_or_else(|e| panic!("{e}: {statement}"));
            }
        }
        conn.disconnect().await.unwrap();
    }

    /// The rows of a query as text, columns joined by `|`.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        let mut conn = self.connect().await;
        conn.query_drop("SET time_zone = '+00:00'").await.unwrap();
        let rows: Vec<Row> = conn.query(sql).await.unwrap_or_else(|e| panic!("{e}: {sql}"));
        conn.disconnect().await.unwrap();
        let text = |v: SqlValue| match v {
            SqlValue::NULL => "NULL".to_owned(),
            SqlValue::Bytes(b) => String::from_utf8_lossy(&b).into_owned(),
            other => other.as_sql(true),
        };
        rows.into_iter().map(|r| r.unwrap().into_iter().map(text).collect::<Vec<_>>().join("|")).collect()
    }

    pub async fn count(&self, table: &str) -> usize {
        self.rows(&format!("SELECT COUNT(*) FROM {table}")).await[0].parse().unwrap()
    }

    /// Rows in the staging tables.
    pub async fn staged(&self) -> usize {
        let mut all = 0;
        for stage in self
            .rows("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE '\\_\\_karez\\_stage%'")
            .await
        {
            all += self.count(&stage).await;
        }
        all
    }

    /// Drops the database while connections that are being closed still can be.
    pub async fn close(&self) {
        self.sql(&format!("DROP DATABASE {}", self.name)).await;
    }

    /// A sink's options.
    pub fn sink(&self, more: Value) -> Value {
        let mut config = json!({ "url": self.url, "table": "t" });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        let (url, name) = (self.url.clone(), self.name.clone());
        let work = async move {
            // A server that the test has killed keeps no database.
            if let Ok(mut conn) = Conn::new(Opts::from_url(&url).unwrap()).await {
                let _ = conn.query_drop("SET lock_wait_timeout = 2").await;
                let _ = conn.query_drop(format!("DROP DATABASE IF EXISTS {name}")).await;
                let _ = conn.disconnect().await;
            }
        };
        let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
        std::thread::spawn(run).join().unwrap();
    }
}

pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(1_357_016_400_000))
}

/// Writes batches as a job without crashes would: one barrier and commit after each. What was refused.
pub async fn write(config: &Value, batches: &[arrow::record_batch::RecordBatch]) -> Vec<karez_core::BadRecord> {
    let mut process = Process::start(config, batches[0].schema(), 1, 1, &[]).await;
    let mut refused = Vec::new();
    for (i, batch) in batches.iter().enumerate() {
        let epoch = i as u64 + 1;
        process.write(0, batch.clone()).await;
        let manifest = process.barrier(epoch).await;
        if !manifest.is_empty() {
            for outcome in process.commit(epoch, &manifest).await {
                match outcome {
                    karez_core::CommitOutcome::Committed => {}
                    karez_core::CommitOutcome::CommittedExcept(bad) => refused.extend(bad),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    [process.rejects, refused].concat()
}
