//! The bulk path: `LOAD DATA LOCAL` from memory, or an `INSERT` of many rows where the server does not allow it.
//!
//! `LOAD DATA LOCAL` makes warnings of errors: it leaves rows out and changes values. What it cannot say as an error is undone here by a savepoint, so
//! that rows go in as they are, all or none. Rows are encoded while the server takes those before them.

use std::sync::{Arc, OnceLock};

use arrow::array::{AsArray, Int16Array};
use arrow::datatypes::Int16Type;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::{StreamExt, stream};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use super::super::dialect::Dialect;
use super::super::rows::Op;
use super::super::server::driver::Load;
use super::super::server::failure::{Failure, Kind};
use super::super::server::stage::OP;
use super::describe::AUTO_INCREMENT;
use super::dialect::MySql;
use super::encode::{Encoder, Field, Form, Literal};
use super::session::{MySqlSession, get};

/// Bytes handed to the connection at a time.
const PIECE_BYTES: usize = 256 << 10;
/// The length of an `INSERT`, bytes, about, where the server would take longer ones.
const STATEMENT_BYTES: usize = 1 << 20;
/// So few rows are inserted: the server says more of what is wrong with them.
const FEW_ROWS: usize = 16;
/// Warnings that say nothing about values: deprecated words, and a statement that is not safe for replication by statement.
const HARMLESS: &[u16] = &[1287, 1592, 1681, 1831, 3719, 3720, 3778];

/// Adds rows in the transaction under way, all or none.
pub(super) async fn load(session: &mut MySqlSession, load: &Load<'_>, rows: &RecordBatch) -> Result<(), Failure> {
    if rows.num_rows() == 0 {
        return Ok(());
    }
    let rows = Rows::new(load, rows)?;
    if session.local_infile && rows.count > FEW_ROWS && !rows.encoders.is_empty() {
        file(session, load, rows).await
    } else {
        insert(session, load, rows).await
    }
}

/// Rows, and how each is written.
struct Rows {
    encoders: Vec<Encoder>,
    /// Of a sink that deletes: what is done with each row.
    ops: Option<Int16Array>,
    count: usize,
}

impl Rows {
    fn new(load: &Load<'_>, rows: &RecordBatch) -> Result<Self, Failure> {
        let columns = || load.columns.iter().zip(rows.columns());
        let encoders = columns().map(|(column, array)| Encoder::new(column, column.type_id == AUTO_INCREMENT, array));
        let ops = columns().find(|(column, _)| column.name == OP).and_then(|(_, array)| array.as_primitive_opt::<Int16Type>());
        Ok(Self { encoders: encoders.collect::<karez_core::Result<_>>()?, ops: ops.cloned(), count: rows.num_rows() })
    }

    /// The fields of a row; a value that cannot be written is the row's fault.
    fn encode<F: Form>(&mut self, row: usize, separator: u8, out: &mut Vec<u8>) -> Result<(), Failure> {
        let key_alone = self.ops.as_ref().is_some_and(|ops| ops.value(row) == Op::Delete as i16);
        for (i, encoder) in self.encoders.iter_mut().enumerate() {
            if i > 0 {
                out.push(separator);
            }
            encoder.write::<F>(row, key_alone, out).map_err(|why| Failure::new(Kind::Row(Some(row)), why))?;
        }
        Ok(())
    }
}

async fn file(session: &mut MySqlSession, load: &Load<'_>, rows: Rows) -> Result<(), Failure> {
    let (mut fields, mut set) = (Vec::new(), Vec::new());
    for (i, (column, encoder)) in load.columns.iter().zip(&rows.encoders).enumerate() {
        let (name, field) = (MySql.quote(&column.name), format!("@karez{i}"));
        match encoder.conversion(&field) {
            None => fields.push(name),
            Some(expression) => {
                set.push(format!("{name} = {expression}"));
                fields.push(field);
            }
        }
    }
    let set = if set.is_empty() { String::new() } else { format!(" SET {}", set.join(", ")) };
    let sql = format!(
        "LOAD DATA LOCAL INFILE 'karez' INTO TABLE {} CHARACTER SET utf8mb4 FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({}){set}",
        load.table.sql(&MySql),
        fields.join(", ")
    );
    let (count, bad) = (rows.count as u64, Arc::new(OnceLock::new()));
    let pieces = Pieces { rows, next: 0, bad: Arc::clone(&bad) };
    let conn = session.begin_work()?;
    let result = in_savepoint(conn, count, async |conn| {
        conn.set_infile_handler(async move { Ok(stream::iter(pieces).boxed()) });
        conn.query_drop(&sql).await?;
        Ok(bad.get().cloned())
    })
    .await;
    let outcome = session.ended("load rows", result)?;
    outcome.map_or(Ok(()), Err)
}

/// The lines of rows, some at a time; ends early before a row that cannot be written.
struct Pieces {
    rows: Rows,
    next: usize,
    /// That row, and why.
    bad: Arc<OnceLock<Failure>>,
}

impl Iterator for Pieces {
    type Item = std::io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
        while self.next < self.rows.count && text.len() < PIECE_BYTES {
            let begin = text.len();
            if let Err(failure) = self.rows.encode::<Field>(self.next, b'\t', &mut text) {
                text.truncate(begin);
                self.next = self.rows.count;
                // There is one such row at most.
                let _ = self.bad.set(failure);
                break;
            }
            text.push(b'\n');
            self.next += 1;
        }
        (!text.is_empty()).then(|| Ok(Bytes::from(text)))
    }
}

async fn insert(session: &mut MySqlSession, load: &Load<'_>, mut rows: Rows) -> Result<(), Failure> {
    let names: Vec<String> = load.columns.iter().map(|c| MySql.quote(&c.name)).collect();
    let head = format!("INSERT INTO {} ({}) VALUES ", load.table.sql(&MySql), names.join(", "));
    // What each statement may hold; one row may be longer, up to what the server takes.
    let limit = STATEMENT_BYTES.min(session.max_packet / 2);
    let mut statements: Vec<Vec<u8>> = Vec::new();
    let mut statement = head.clone().into_bytes();
    for row in 0..rows.count {
        if statement.len() > limit {
            statements.push(std::mem::replace(&mut statement, head.clone().into_bytes()));
        }
        if statement.len() > head.len() {
            statement.push(b',');
        }
        let start = statement.len();
        statement.push(b'(');
        rows.encode::<Literal>(row, b',', &mut statement)?;
        statement.push(b')');
        if head.len() + statement.len() - start >= session.max_packet {
            let why = format!("the row is larger than the server's max_allowed_packet ({} bytes)", session.max_packet);
            return Err(Failure::new(Kind::Row(Some(row)), why));
        }
    }
    statements.push(statement);
    let conn = session.begin_work()?;
    let mut result = Ok(None);
    for statement in statements {
        // The rows of the statement are not counted: only LOAD DATA leaves rows out.
        result = in_savepoint(conn, 0, async |conn| conn.query_drop(&statement).await.map(|()| None)).await;
        if !matches!(result, Ok(None)) {
            break;
        }
    }
    let outcome = session.ended("insert rows", result)?;
    outcome.map_or(Ok(()), Err)
}

/// Runs a statement that adds rows; undoes it where `work` says so, where it left rows out (fewer than `expected`) or warns that it changed one, and says
/// why.
async fn in_savepoint(
    conn: &mut Conn,
    expected: u64,
    work: impl AsyncFnOnce(&mut Conn) -> Result<Option<Failure>, Error>,
) -> Result<Option<Failure>, Error> {
    conn.query_drop("SAVEPOINT `__karez_load`").await?;
    let mut failure = work(conn).await?;
    let added = conn.affected_rows();
    if failure.is_none() && conn.get_warnings() > 0 {
        failure = serious_warning(conn).await?.map(|why| Failure::new(Kind::Row(None), why));
    }
    if failure.is_none() && added < expected {
        failure = Some(Failure::new(Kind::Row(None), "the table does not take the row"));
    }
    if failure.is_some() {
        conn.query_drop("ROLLBACK TO SAVEPOINT `__karez_load`").await?;
    }
    Ok(failure)
}

/// The first warning that says that a value was changed or a row left out.
async fn serious_warning(conn: &mut Conn) -> Result<Option<String>, Error> {
    let warnings: Vec<mysql_async::Row> = conn.query("SHOW WARNINGS LIMIT 64").await?;
    let serious = |row: &mysql_async::Row| {
        let (code, message): (u16, String) = (get(row, 1).ok()?, get(row, 2).ok()?);
        (!HARMLESS.contains(&code)).then_some(message)
    };
    Ok(warnings.iter().find_map(serious))
}
