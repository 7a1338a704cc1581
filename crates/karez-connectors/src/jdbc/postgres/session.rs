//! One connection.

use std::pin::pin;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::dialect::Dialect;
use super::super::server::driver::{CHUNK_BYTES, CHUNK_ROWS, Candidate, Chunk, Growth, Load, Select, Session};
use super::super::server::failure::{Failure, Kind};
use super::super::server::table::{Column, Table, TableName};
use super::decode::Decoder;
use super::encode::Encoder;
use super::{PostgresDialect, describe, error, visibility};

/// What is sent at a time.
const PIECE_BYTES: usize = 128 << 10;

pub(super) struct PgSession {
    client: Client,
    task: JoinHandle<()>,
    tls: MakeRustlsConnect,
    place: Arc<str>,
    id: u64,
    in_transaction: bool,
    /// Something has been asked and not answered.
    busy: bool,
}

impl Drop for PgSession {
    fn drop(&mut self) {
        if self.busy
            && !self.client.is_closed()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // Nobody waits for the answer: the server need not go on.
            let (token, tls) = (self.client.cancel_token(), self.tls.clone());
            runtime.spawn(async move {
                let _ = tokio::time::timeout(std::time::Duration::from_secs(5), token.cancel_query(tls)).await;
            });
        }
        self.task.abort();
    }
}

impl PgSession {
    pub(super) const fn new(client: Client, task: JoinHandle<()>, tls: MakeRustlsConnect, place: Arc<str>) -> Self {
        Self { client, task, tls, place, id: 0, in_transaction: false, busy: false }
    }

    /// Sets the session up, and learns its number.
    pub(super) async fn greet(&mut self, greeting: &str) -> Result<(), Failure> {
        let rows = self.query(&format!("{greeting}; SELECT pg_backend_pid()")).await?;
        self.id = rows.last().and_then(|row| row.first()?.as_deref()?.parse().ok()).unwrap_or(0);
        Ok(())
    }

    fn failed(&self, e: &tokio_postgres::Error, sql: &str) -> Failure {
        let failure = error::of_statement(e, sql);
        match failure.kind {
            Kind::Connection => failure.context(&format!("the connection to `{}` is lost", self.place)),
            _ => failure,
        }
    }

    async fn simple(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Failure> {
        self.busy = true;
        let result = self.client.simple_query(sql).await;
        self.busy = false;
        result.map_err(|e| self.failed(&e, sql))
    }

    async fn copy_in(&mut self, sql: &str, encoder: &Encoder, rows: usize) -> Result<(), Failure> {
        let sink = self.client.copy_in::<_, Bytes>(sql).await.map_err(|e| self.failed(&e, sql))?;
        let mut sink = pin!(sink);
        let mut piece = Vec::with_capacity(PIECE_BYTES + 4_096);
        encoder.begin(&mut piece);
        for row in 0..rows {
            // Leaving here drops the sink, which tells the server that the copy has failed.
            encoder.row(&mut piece, row).map_err(|why| Failure::new(Kind::Row(Some(row)), why))?;
            if piece.len() >= PIECE_BYTES {
                let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES + 4_096));
                if sink.feed(Bytes::from(full)).await.is_err() {
                    break;
                }
            }
        }
        encoder.end(&mut piece);
        // Where the server has stopped listening, `finish` says why.
        let _ = sink.feed(Bytes::from(piece)).await;
        sink.finish().await.map(drop).map_err(|e| self.failed(&e, sql))
    }

    async fn copy_out(&mut self, select: &Select, chunks: &mpsc::Sender<Chunk>) -> Result<bool, Failure> {
        let mut decoder = Decoder::new(&select.columns)?;
        let sql = format!("COPY ({}) TO STDOUT (FORMAT binary)", select.sql);
        let stream = self.client.copy_out(&sql).await.map_err(|e| self.failed(&e, &sql))?;
        let mut stream = pin!(stream);
        while let Some(piece) = stream.next().await {
            decoder.push(&piece.map_err(|e| self.failed(&e, &sql))?)?;
            if (decoder.rows() >= CHUNK_ROWS || decoder.bytes() >= CHUNK_BYTES) && chunks.send(decoder.take()?).await.is_err() {
                return Ok(false);
            }
        }
        if decoder.rows() > 0 {
            // The last rows: whether they are taken makes no difference to the connection.
            let _ = chunks.send(decoder.take()?).await;
        }
        Ok(true)
    }
}

#[async_trait]
impl Session for PgSession {
    fn id(&self) -> u64 {
        self.id
    }

    fn is_usable(&self) -> bool {
        !self.busy && !self.in_transaction && !self.client.is_closed()
    }

    async fn execute(&mut self, sql: &str) -> Result<u64, Failure> {
        let messages = self.simple(sql).await?;
        let done = |m: &SimpleQueryMessage| if let SimpleQueryMessage::CommandComplete(rows) = m { Some(*rows) } else { None };
        Ok(messages.iter().rev().find_map(done).unwrap_or(0))
    }

    async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Failure> {
        let messages = self.simple(sql).await?;
        let mut rows = Vec::new();
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
            }
        }
        Ok(rows)
    }

    async fn begin(&mut self, durable: bool) -> Result<(), Failure> {
        self.in_transaction = true;
        let lazily = if durable { "" } else { "; SET LOCAL synchronous_commit = off" };
        self.simple(&format!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE{lazily}")).await.map(drop)
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        self.simple("COMMIT").await?;
        self.in_transaction = false;
        Ok(())
    }

    async fn rollback(&mut self) -> Result<(), Failure> {
        if self.in_transaction {
            self.simple("ROLLBACK").await?;
            self.in_transaction = false;
        }
        Ok(())
    }

    /// What is explained is not run, but its rights are looked at.
    async fn may_run(&mut self, sql: &str) -> Result<(), Failure> {
        self.simple(&format!("EXPLAIN {sql}")).await.map(drop)
    }

    async fn may_create(&mut self, schema: Option<&str>, temporary: bool) -> Result<(), Failure> {
        let within = schema.map_or_else(|| "current_schema()".to_owned(), |s| PostgresDialect.literal(s));
        let (asked, place) = if temporary {
            ("has_database_privilege(current_database(), 'TEMPORARY')".to_owned(), "'temporary tables'".to_owned())
        } else {
            (format!("has_schema_privilege({within}, 'CREATE')"), format!("'tables in the schema ' || coalesce({within}::text, '(none)')"))
        };
        let rows = self.query(&format!("SELECT {asked}, current_user, {place}")).await?;
        let text = |at: usize| rows.first().and_then(|r| r.get(at)?.as_deref()).unwrap_or_default();
        if text(0) == "t" {
            return Ok(());
        }
        Err(Failure::new(Kind::User, format!("permission denied: the user {} may not create {}; GRANT it the right", text(1), text(2))))
    }

    /// An INSERT is locked as when it is run also when it is explained: until the transaction ends, nobody changes the table.
    async fn hold_types(&mut self, load: &Load<'_>) -> Result<(), Failure> {
        let table = load.table.sql(&PostgresDialect);
        let columns = PostgresDialect.list(&mut load.columns.iter().map(|c| c.name.as_str()));
        let nulls = vec!["NULL"; load.columns.len()].join(", ");
        let types = format!(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = {}::regclass AND attnum > 0 AND NOT attisdropped",
            PostgresDialect.literal(&table)
        );
        let rows = self.query(&format!("EXPLAIN INSERT INTO {table} ({columns}) VALUES ({nulls}); {types}")).await?;
        for column in load.columns {
            let now = rows.iter().find_map(|row| match row.as_slice() {
                [Some(name), Some(now)] if *name == column.name => Some(now.as_str()),
                _ => None,
            });
            if let Some(now) = now.filter(|now| *now != column.declared) {
                let (name, was) = (&column.name, &column.declared);
                let why = format!(
                    "column `{name}` of `{}` has become {now}; it was {was} when the job began, which looks at the table anew when it starts again",
                    load.table
                );
                return Err(Failure::new(Kind::Server, why));
            }
        }
        Ok(())
    }

    async fn describe(&mut self, table: &TableName) -> Result<Option<Table>, Failure> {
        describe::table(self, table).await
    }

    async fn describe_query(&mut self, query: &str) -> Result<Vec<Column>, Failure> {
        self.busy = true;
        let prepared = self.client.prepare(query).await;
        self.busy = false;
        let prepared = prepared.map_err(|e| self.failed(&e, query))?;
        let given: Vec<describe::Given> = prepared
            .columns()
            .iter()
            .map(|c| describe::Given { name: c.name().to_owned(), oid: c.type_().oid(), typmod: c.type_modifier(), ..describe::Given::default() })
            .collect();
        drop(prepared);
        describe::columns(self, given).await
    }

    async fn table_names(&mut self, schema: Option<&str>) -> Result<Vec<String>, Failure> {
        describe::names(self, schema, "c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname NOT LIKE '\\_\\_karez\\_%'").await
    }

    async fn own_tables(&mut self, schema: Option<&str>, prefix: &str) -> Result<Vec<String>, Failure> {
        let prefix = PostgresDialect.literal(prefix);
        describe::names(self, schema, &format!("c.relkind = 'r' AND starts_with(c.relname, {prefix})")).await
    }

    async fn load(&mut self, load: &Load<'_>, rows: &RecordBatch) -> Result<(), Failure> {
        let encoder = Encoder::new(load.columns, rows)?;
        let columns = PostgresDialect.list(&mut load.columns.iter().map(|c| c.name.as_str()));
        let sql = format!("COPY {} ({columns}) FROM STDIN (FORMAT {})", load.table.sql(&PostgresDialect), encoder.format());
        self.busy = true;
        let result = self.copy_in(&sql, &encoder, rows.num_rows()).await;
        self.busy = false;
        result
    }

    async fn read(&mut self, select: &Select, chunks: &mpsc::Sender<Chunk>) -> Result<(), Failure> {
        self.busy = true;
        let whole = self.copy_out(select, chunks).await;
        // Where nobody wanted the rest, the server is still sending it: the connection is of no use any more.
        self.busy = matches!(whole, Ok(false));
        whole.map(drop)
    }

    async fn candidate(&mut self, growth: &Growth<'_>, now_ms: i64) -> Result<Option<Candidate>, Failure> {
        visibility::candidate(self, growth, now_ms).await
    }

    async fn is_settled(&mut self, candidate: &mut Candidate, growth: &Growth<'_>, now_ms: i64) -> Result<bool, Failure> {
        visibility::is_settled(self, candidate, growth, now_ms).await
    }
}
