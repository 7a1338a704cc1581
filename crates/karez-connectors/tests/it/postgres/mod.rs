//! The jdbc connector on a real PostgreSQL, driven through the contracts as the engine drives it.

mod faults;
mod modes;
mod retyped;
mod sink;
mod source;
mod tls;
mod types;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use karez_core::source::{ReadLimit, ReaderContext};
use karez_core::{ManualClock, Read, Source, Split, SplitReader};
use karez_testkit::{service, unique};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

pub use super::jdbc::{Process, column, drain, outcomes, rows, try_sink, try_source, two_columns};

/// A schema of its own on the shared server.
pub struct Db {
    pub schema: String,
    pub url: String,
    pub client: Client,
}

impl Db {
    pub async fn new() -> Self {
        Self::at(&service("POSTGRES_URL")).await
    }

    pub async fn at(url: &str) -> Self {
        let schema = unique("kz");
        let client = connect(url).await;
        client.batch_execute(&format!("CREATE SCHEMA {schema}; SET search_path = {schema}")).await.unwrap();
        Self { url: format!("{url}?currentSchema={schema}"), schema, client }
    }

    /// One in which statements have been run.
    pub async fn with(sql: &str) -> Self {
        let db = Self::new().await;
        db.run(sql).await;
        db
    }

    /// Another connection that finds the same tables.
    pub async fn another(&self) -> Client {
        let client = connect(self.url.split('?').next().unwrap()).await;
        client.batch_execute(&format!("SET search_path = {}", self.schema)).await.unwrap();
        client
    }

    pub async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// The rows of a query, columns joined by `|`.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        let messages = self.client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let text = |m: SimpleQueryMessage| match m {
            SimpleQueryMessage::Row(r) => Some((0..r.len()).map(|i| r.get(i).unwrap_or("NULL")).collect::<Vec<_>>().join("|")),
            _ => None,
        };
        messages.into_iter().filter_map(text).collect()
    }

    pub async fn count(&self, table: &str) -> usize {
        self.rows(&format!("SELECT count(*) FROM {table}")).await[0].parse().unwrap()
    }

    /// The staging tables there are.
    pub async fn stages(&self) -> Vec<String> {
        let sql = format!("SELECT tablename FROM pg_tables WHERE schemaname = '{}' AND tablename LIKE '\\_\\_karez\\_stage\\_%'", self.schema);
        self.rows(&sql).await
    }

    /// Options of either end, with others added.
    pub fn config(&self, more: Value) -> Value {
        let mut config = json!({ "url": self.url });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    }

    pub fn source(&self, more: Value) -> Arc<dyn Source> {
        try_source(&self.config(more), None).unwrap()
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        let (url, schema) = (self.url.split('?').next().unwrap().to_owned(), self.schema.clone());
        // Where the server is gone, so is the schema.
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                if let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
                    let task = tokio::spawn(connection);
                    let _ = client.batch_execute(&format!("SET lock_timeout = '2s'; DROP SCHEMA {schema} CASCADE")).await;
                    task.abort();
                }
            });
        })
        .join();
    }
}

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub async fn open_at(source: &dyn Source, id: &str, position: Value, with_origin: bool) -> Box<dyn SplitReader> {
    let context = ReaderContext { with_origin, metrics: Arc::default(), clock: Arc::new(ManualClock::new(1_000)) };
    source.open(&Split { id: id.into(), position }, context).await.unwrap()
}

pub async fn open(source: &dyn Source, position: Value) -> Box<dyn SplitReader> {
    open_at(source, "0", position, false).await
}

/// What a source without end gives until it has nothing for the moment, a column as text; whether it knows that there is nothing.
pub async fn poll(reader: &mut dyn SplitReader, name: &str) -> (Vec<String>, bool) {
    let mut batches = Vec::new();
    loop {
        match reader.next(ReadLimit { rows: 1_000, bytes: 1 << 20 }).await.unwrap() {
            Read::Rows { batch, bad } => {
                assert!(bad.is_empty(), "{bad:?}");
                batches.push(batch);
            }
            Read::Nothing => return (column(&batches, name), true),
            Read::Pending => return (column(&batches, name), false),
            Read::End => panic!("a source without end has ended"),
        }
    }
}

/// Polls until rows have come, as the engine would.
pub async fn poll_for(reader: &mut dyn SplitReader, name: &str, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..10_000 {
        all.extend(poll(reader, name).await.0);
        if all.len() >= count {
            return all;
        }
        tokio::task::yield_now().await;
    }
    panic!("{count} rows were awaited, {all:?} came");
}

pub fn schema_of(fields: Vec<arrow::datatypes::Field>) -> SchemaRef {
    Arc::new(arrow::datatypes::Schema::new(fields))
}
