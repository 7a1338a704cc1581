//! A database's own client, as anybody else would use it: statements in, rows of text out.

use crate::service;
use mysql_async::prelude::Queryable;

/// Rows of a result, null as `NULL`.
pub type TextRows = Vec<Vec<String>>;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // They name themselves.
pub enum Database {
    Postgres,
    Mysql,
    Mariadb,
}

impl Database {
    /// The address of the shared server.
    ///
    /// # Panics
    /// Where it is not in the environment.
    #[must_use]
    #[track_caller]
    pub fn url(self) -> String {
        service(match self {
            Self::Postgres => "POSTGRES_URL",
            Self::Mysql => "MYSQL_URL",
            Self::Mariadb => "MARIADB_URL",
        })
    }

    /// Runs statements (MySQL: one); answers the rows of the last that has some.
    ///
    /// # Errors
    /// What the server says.
    pub async fn run(self, url: &str, sql: &str) -> Result<TextRows, String> {
        match self {
            Self::Postgres => postgres(url, sql)
                .await
                .map_err(|e| e.as_db_error().map_or_else(|| e.to_string(), |e| format!("{} ({})", e.message(), e.code().code()))),
            Self::Mysql | Self::Mariadb => mysql(url, sql).await.map_err(|e| e.to_string()),
        }
    }

    /// The same for those who are not asynchronous.
    ///
    /// # Errors
    /// What the server says.
    pub fn run_blocking(self, url: &str, sql: &str) -> Result<TextRows, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(self.run(url, sql))
    }

    /// A text as a literal.
    #[must_use]
    pub fn literal(self, text: Option<&str>) -> String {
        let Some(text) = text else { return "NULL".into() };
        let text = text.replace('\'', "''");
        format!("'{}'", if self == Self::Postgres { text } else { text.replace('\\', "\\\\") })
    }
}

async fn postgres(url: &str, sql: &str) -> Result<TextRows, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let mut rows = TextRows::new();
    for message in client.simple_query(sql).await? {
        match message {
            tokio_postgres::SimpleQueryMessage::RowDescription(_) => rows.clear(),
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                rows.push((0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned()).collect());
            }
            _ => {}
        }
    }
    drop(client);
    let _ = connection.await;
    Ok(rows)
}

async fn mysql(url: &str, sql: &str) -> Result<TextRows, mysql_async::Error> {
    let mut connection = mysql_async::Conn::from_url(url).await?;
    // Whatever the server's default is.
    connection.query_drop("SET NAMES utf8mb4").await?;
    let rows: Vec<mysql_async::Row> = connection.query(sql).await?;
    connection.disconnect().await?;
    let text = |value: mysql_async::Value| match value {
        mysql_async::Value::NULL => "NULL".to_owned(),
        mysql_async::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true),
    };
    Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
}
