//! Rows into the table: one by one as they come, or a lot at once out of the staging table.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Statement, Transaction};

use super::super::dialect::Dialect;
use super::super::keyset::KeyValue;
use super::super::rows::{Op, hex};
use super::Sqlite;
use super::connection::{is_row_fault, ours, reason};
use super::encode::Values;
use super::fit::Fitted;

/// Rows on their way into the database.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) values: Vec<Values>,
    /// By row; empty where all are [`Op::Put`].
    pub(super) ops: Vec<Op>,
    pub(super) count: usize,
}

impl Rows {
    pub(super) fn op(&self, row: usize) -> Op {
        self.ops.get(row).copied().unwrap_or(Op::Put)
    }
}

/// The outcome for one row: `Err` is why it was refused.
pub(super) type RowOutcome = std::result::Result<(), String>;

/// Binds the values of a row from a parameter on. The inner error says why SQLite cannot hold a value.
pub(super) fn bind(
    statement: &mut Statement<'_>,
    first: usize,
    values: &[Values],
    columns: impl Iterator<Item = usize>,
    row: usize,
) -> rusqlite::Result<RowOutcome> {
    for (i, column) in columns.enumerate() {
        match values[column].get(row) {
            Ok(value) => statement.raw_bind_parameter(first + i, ToSqlOutput::Borrowed(value))?,
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(()))
}

/// Runs a bound statement; a fault of the row is an outcome, one of the database an error.
pub(super) fn run(connection: &Connection, statement: &mut Statement<'_>) -> rusqlite::Result<RowOutcome> {
    match statement.raw_execute() {
        Ok(_) => Ok(Ok(())),
        Err(e) if is_row_fault(&e) => {
            still_open(connection, &e)?;
            Ok(Err(reason(&e)))
        }
        Err(e) => Err(e),
    }
}

/// A constraint `ON CONFLICT ROLLBACK`, or a trigger, may have ended the whole transaction; one row cannot be told from the others then.
fn still_open(connection: &Connection, e: &rusqlite::Error) -> rusqlite::Result<()> {
    if connection.is_autocommit() {
        let message =
            format!("a constraint or trigger of the table rolled the whole transaction back ({}); use ABORT there instead of ROLLBACK", reason(e));
        return Err(ours(karez_core::Error::user(message)));
    }
    Ok(())
}

/// The statement that puts one row into the table.
fn put_sql(fitted: &Fitted) -> String {
    let places = vec!["?"; fitted.columns.len()].join(", ");
    format!("INSERT INTO {} ({}) VALUES ({places}){}", Sqlite.quote(&fitted.table), fitted.column_list(), on_conflict(fitted))
}

fn on_conflict(fitted: &Fitted) -> String {
    if fitted.key.is_empty() {
        return String::new();
    }
    let set: Vec<String> = (0..fitted.columns.len())
        .filter(|i| !fitted.key.contains(i))
        .map(|i| Sqlite.quote(&fitted.columns[i].name))
        .map(|c| format!("{c} = excluded.{c}"))
        .collect();
    if set.is_empty() {
        return format!(" ON CONFLICT ({}) DO NOTHING", fitted.key_list());
    }
    format!(" ON CONFLICT ({}) DO UPDATE SET {}", fitted.key_list(), set.join(", "))
}

fn delete_sql(fitted: &Fitted) -> String {
    let condition: Vec<String> = fitted.key.iter().map(|&k| format!("{} = ?", Sqlite.quote(&fitted.columns[k].name))).collect();
    format!("DELETE FROM {} WHERE {}", Sqlite.quote(&fitted.table), condition.join(" AND "))
}

/// Puts rows into the table, in order; `refuse` gets those that it does not take.
pub(super) fn rows(transaction: &Transaction<'_>, fitted: &Fitted, rows: &Rows, mut refuse: impl FnMut(usize, String)) -> rusqlite::Result<()> {
    let mut put = transaction.prepare_cached(&put_sql(fitted))?;
    let mut delete = if fitted.key.is_empty() { None } else { Some(transaction.prepare_cached(&delete_sql(fitted))?) };
    for row in 0..rows.count {
        let outcome = match (&mut delete, rows.op(row)) {
            (Some(delete), Op::Delete) => match bind(delete, 1, &rows.values, fitted.key.iter().copied(), row)? {
                Ok(()) => run(transaction, delete)?,
                refused => refused,
            },
            _ => match bind(&mut put, 1, &rows.values, 0..fitted.columns.len(), row)? {
                Ok(()) => run(transaction, &mut put)?,
                refused => refused,
            },
        };
        if let Err(why) = outcome {
            refuse(row, why);
        }
    }
    Ok(())
}

/// A row that the table refused at its commit.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) id: i64,
    pub(super) reason: String,
    pub(super) json: String,
}

/// Moves the staged rows `first..=last` into the table, in order, but for those that it refuses, found by halving.
pub(super) fn staged(
    transaction: &Transaction<'_>,
    fitted: &Fitted,
    stage: &str,
    columns: &[String],
    first: i64,
    last: i64,
) -> rusqlite::Result<Vec<Refused>> {
    let moves = Moves::new(fitted, stage, columns);
    let mut refused = Vec::new();
    moves.range(transaction, first, last, &mut refused)?;
    Ok(refused)
}

struct Moves {
    statements: Vec<String>,
    row: String,
    names: Vec<String>,
}

impl Moves {
    fn new(fitted: &Fitted, stage: &str, columns: &[String]) -> Self {
        let (table, stage, key) = (Sqlite.quote(&fitted.table), Sqlite.quote(stage), fitted.key_list());
        let list = Sqlite.list(&mut columns.iter().map(String::as_str));
        let range = "__karez_id BETWEEN ?1 AND ?2";
        let statements = if fitted.key.is_empty() {
            vec![format!("INSERT INTO {table} ({list}) SELECT {list} FROM {stage} WHERE {range} ORDER BY __karez_id")]
        } else {
            // With a lone max() SQLite takes the other columns from the row that has it: the last change of each key.
            let latest = format!("(SELECT {list}, __karez_op, max(__karez_id) AS __karez_id FROM {stage} WHERE {range} GROUP BY {key})");
            vec![
                format!("DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {latest} WHERE __karez_op = 1)"),
                format!("INSERT INTO {table} ({list}) SELECT {list} FROM {latest} WHERE __karez_op = 0 ORDER BY __karez_id{}", on_conflict(fitted)),
            ]
        };
        Self { statements, row: format!("SELECT {list} FROM {stage} WHERE __karez_id = ?1"), names: columns.to_vec() }
    }

    fn range(&self, transaction: &Transaction<'_>, first: i64, last: i64, refused: &mut Vec<Refused>) -> rusqlite::Result<()> {
        if first > last {
            return Ok(());
        }
        transaction.execute_batch("SAVEPOINT __karez_range")?;
        let result = self.statements.iter().try_for_each(|sql| transaction.prepare_cached(sql)?.execute([first, last]).map(drop));
        match result {
            Ok(()) => transaction.execute_batch("RELEASE __karez_range"),
            Err(e) if is_row_fault(&e) => {
                still_open(transaction, &e)?;
                transaction.execute_batch("ROLLBACK TO __karez_range; RELEASE __karez_range")?;
                if first == last {
                    let json = transaction.prepare_cached(&self.row)?.query_row([first], |r| row_json(self.names.iter().map(String::as_str), r))?;
                    refused.push(Refused { id: first, reason: reason(&e), json });
                    return Ok(());
                }
                let middle = first + (last - first) / 2;
                self.range(transaction, first, middle, refused)?;
                self.range(transaction, middle + 1, last, refused)
            }
            Err(e) => Err(e),
        }
    }
}

/// The first columns of a row as a JSON object; blobs as hexadecimal digits.
fn row_json<'a>(names: impl Iterator<Item = &'a str>, row: &rusqlite::Row<'_>) -> rusqlite::Result<String> {
    let mut object = serde_json::Map::new();
    for (i, name) in names.enumerate() {
        object.insert(name.to_owned(), json(row.get_ref(i)?));
    }
    Ok(serde_json::Value::Object(object).to_string())
}

fn json(value: ValueRef<'_>) -> serde_json::Value {
    match value {
        ValueRef::Null => serde_json::Value::Null,
        ValueRef::Integer(i) => i.into(),
        // As `karez_core::row_json` writes them; SQLite has no NaN.
        ValueRef::Real(f64::INFINITY) => "Infinity".into(),
        ValueRef::Real(f64::NEG_INFINITY) => "-Infinity".into(),
        ValueRef::Real(r) => r.into(),
        ValueRef::Text(t) => String::from_utf8_lossy(t).into(),
        ValueRef::Blob(b) => hex(b).into(),
    }
}

/// A value of a key.
pub(super) fn key_value(value: ValueRef<'_>) -> KeyValue {
    match value {
        ValueRef::Null => KeyValue::Null,
        ValueRef::Integer(i) => KeyValue::Integer(i),
        ValueRef::Real(r) => KeyValue::RealBits(r.to_bits()),
        ValueRef::Text(t) => KeyValue::Text(String::from_utf8_lossy(t).into_owned()),
        ValueRef::Blob(b) => KeyValue::Blob(b.to_vec()),
    }
}

/// A value of a key, to be bound.
pub(super) fn bound(key: &KeyValue) -> Value {
    match key {
        KeyValue::Null => Value::Null,
        KeyValue::Integer(i) => Value::Integer(*i),
        KeyValue::RealBits(r) => Value::Real(f64::from_bits(*r)),
        KeyValue::Text(t) => Value::Text(t.clone()),
        KeyValue::Blob(b) => Value::Blob(b.clone()),
    }
}
