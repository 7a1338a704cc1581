//! Rows into a table, all but those it refuses: halves of what fails are tried until the row at fault stands alone.

use arrow::array::ArrayRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use karez_core::dead_letter::row_record;
use karez_core::{Error, Result};
use std::sync::Arc;
use tokio::sync::mpsc;

use super::super::dialect::Dialect;
use super::driver::{Load, Select, Session};
use super::failure::{Failure, Kind};
use super::fit::Fitted;
use super::stage::{NUMBER, OP};
use super::table::{Column, TableName};

/// A row that was refused, and why.
pub(super) type Refused = (usize, String);

const SAVEPOINT: &str = "__karez_part";

/// The statements that bring staged rows into the table, for numbers `{from} <= id < {to}`, or all.
pub(super) struct Moves<'a> {
    dialect: &'a dyn Dialect,
    fitted: &'a Fitted,
    stage: String,
    /// Keys may stand more than once among the rows; the last counts.
    pub(super) repeats: bool,
    pub(super) deletes: bool,
}

impl<'a> Moves<'a> {
    pub(super) fn new(dialect: &'a dyn Dialect, fitted: &'a Fitted, stage: &TableName) -> Self {
        Self { dialect, fitted, stage: stage.sql(dialect), repeats: true, deletes: true }
    }

    pub(super) fn statements(&self, range: Option<(i64, i64)>) -> Vec<String> {
        let (columns, key) = (self.fitted.quoted(self.dialect), self.fitted.quoted_key(self.dialect));
        let (number, op) = (self.dialect.quote(NUMBER), self.dialect.quote(OP));
        let (stage, table, list) = (&self.stage, self.fitted.table.sql(self.dialect), columns.join(", "));
        let check_deferred = self.dialect.check_deferred().map(str::to_owned);
        let within = range.map(|(from, to)| format!("{number} >= {from} AND {number} < {to}"));
        let wherever = |conditions: &[Option<&str>]| {
            let all: Vec<&str> = conditions.iter().flatten().copied().collect();
            if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) }
        };
        if key.is_empty() {
            let select = format!("SELECT {list} FROM {stage}{}", wherever(&[within.as_deref()]));
            return std::iter::once(self.dialect.insert_select(&table, &columns, &[], &select)).chain(check_deferred).collect();
        }
        // What is done with a key is what its last row says.
        let source = if self.repeats {
            let last = format!("ROW_NUMBER() OVER (PARTITION BY {} ORDER BY {number} DESC)", key.join(", "));
            let rows = format!("SELECT {list}, {op}, {last} AS __karez_last FROM {stage}{}", wherever(&[within.as_deref()]));
            (format!("({rows}) AS __karez_rows"), Some("__karez_last = 1"), None)
        } else {
            (stage.clone(), None, within.as_deref())
        };
        let (from, last, within) = source;
        let having = |what: i64| {
            let is = format!("{op} = {what}");
            wherever(&[Some(is.as_str()), last, within])
        };
        let mut statements = Vec::new();
        if self.deletes {
            let select = format!("SELECT {} FROM {from}{}", key.join(", "), having(1));
            statements.push(self.dialect.delete_in(&table, &key, &select));
        }
        let select = format!("SELECT {list} FROM {from}{}", having(0));
        statements.push(self.dialect.insert_select(&table, &columns, &key, &select));
        statements.extend(check_deferred);
        statements
    }
}

/// Brings the staged rows `0..next` into the table; the refused ones by their numbers.
pub(super) async fn staged(session: &mut dyn Session, moves: &Moves<'_>, next: i64) -> Result<Vec<(i64, String)>, Failure> {
    let mut refused = Vec::new();
    let mut ranges = vec![(0, next)];
    while let Some((from, to)) = ranges.pop() {
        let whole = (from, to) == (0, next);
        match part(session, &moves.statements((!whole).then_some((from, to)))).await? {
            None => {}
            Some(why) if to - from <= 1 => refused.push((from, why)),
            Some(_) => {
                let middle = from + (to - from) / 2;
                ranges.extend([(middle, to), (from, middle)]);
            }
        }
    }
    Ok(refused)
}

/// Runs statements of which none or all count; why a row of theirs was refused.
async fn part(session: &mut dyn Session, statements: &[String]) -> Result<Option<String>, Failure> {
    session.execute(&format!("SAVEPOINT {SAVEPOINT}")).await?;
    for sql in statements {
        match session.execute(sql).await {
            Ok(_) => {}
            Err(Failure { kind: Kind::Row(_), message }) => {
                undo(session).await?;
                return Ok(Some(message));
            }
            Err(e) => return Err(e),
        }
    }
    session.execute(&format!("RELEASE SAVEPOINT {SAVEPOINT}")).await?;
    Ok(None)
}

async fn undo(session: &mut dyn Session) -> Result<(), Failure> {
    session.execute(&format!("ROLLBACK TO SAVEPOINT {SAVEPOINT}")).await?;
    session.execute(&format!("RELEASE SAVEPOINT {SAVEPOINT}")).await.map(drop)
}

/// Loads rows and, after each load, runs `then`; the refused ones by their places, ascending.
pub(super) async fn loaded(session: &mut dyn Session, load: &Load<'_>, rows: &RecordBatch, then: &[String]) -> Result<Vec<Refused>, Failure> {
    let mut refused = Vec::new();
    let mut ranges = vec![(0, rows.num_rows())];
    while let Some((from, to)) = ranges.pop() {
        if from >= to {
            continue;
        }
        session.execute(&format!("SAVEPOINT {SAVEPOINT}")).await?;
        let mut outcome = session.load(load, &rows.slice(from, to - from)).await;
        for sql in then {
            if outcome.is_ok() {
                outcome = session.execute(sql).await.map(drop);
            }
        }
        match outcome {
            Ok(()) => {
                session.execute(&format!("RELEASE SAVEPOINT {SAVEPOINT}")).await?;
            }
            Err(Failure { kind: Kind::Row(place), message }) => {
                undo(session).await?;
                let place = place.filter(|p| from + p < to).or_else(|| (to - from == 1).then_some(0));
                if let Some(place) = place {
                    refused.push((from + place, message));
                    ranges.extend([(from + place + 1, to), (from, from + place)]);
                } else {
                    let middle = from + (to - from) / 2;
                    ranges.extend([(middle, to), (from, middle)]);
                }
            }
            Err(e) => return Err(e),
        }
    }
    refused.sort_unstable_by_key(|(place, _)| *place);
    Ok(refused)
}

/// A staged row as a JSON object of the table's columns.
pub(super) async fn letter(
    session: &mut dyn Session,
    dialect: &dyn Dialect,
    fitted: &Fitted,
    stage: &TableName,
    number: i64,
) -> Result<String, Failure> {
    let columns: Vec<Column> = fitted.columns.iter().filter(|c| c.data_type.is_some()).cloned().collect();
    let list = dialect.list(&mut columns.iter().map(|c| c.name.as_str()));
    let sql = format!("SELECT {list} FROM {} WHERE {} = {number}", stage.sql(dialect), dialect.quote(NUMBER));
    let (sender, mut chunks) = mpsc::channel(4);
    session.read(&Select { sql, columns: columns.clone() }, &sender).await?;
    drop(sender);
    let Some(chunk) = chunks.recv().await else { return Ok("{}".to_owned()) };
    let batch = batch(&columns, chunk.columns, chunk.rows).map_err(Failure::from)?;
    Ok(row_record(&batch, 0, "").map_err(Failure::from)?.row.unwrap_or_default())
}

/// Columns as they were read, as a batch.
pub(super) fn batch(columns: &[Column], arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let fields: Vec<arrow::datatypes::Field> =
        columns.iter().zip(&arrays).map(|(c, a)| arrow::datatypes::Field::new(&c.name, a.data_type().clone(), true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(arrow::datatypes::Schema::new(fields)), arrays, &options).map_err(Error::from)
}
