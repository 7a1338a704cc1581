//! Look-ups in a table or view: one statement for the keys of a question, on connections that only read.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::lookup::{LookupReaderContext, MAX_MATCHES};
use karez_core::operator::MAX_BATCH_ROWS;
use karez_core::{Error, Lookup, LookupContext, LookupReader, Result};
use rusqlite::{Connection, params_from_iter};

use super::super::dialect::Dialect;
use super::super::options::JdbcLookupOptions;
use super::Sqlite;
use super::connection::{Database, blocking, failed, ours};
use super::decode::{self, Page};
use super::encode::Values;
use super::source::Relation;
use super::types::Affinity;

/// A look-up as its options describe it.
#[derive(Debug)]
struct Plan {
    path: PathBuf,
    /// What it asks, for a person.
    what: String,
    /// The key's columns, then the others.
    schema: SchemaRef,
    key: usize,
    /// `SELECT … FROM … WHERE (…) IN (`.
    select: String,
}

/// Validates the options of a look-up against the table it names.
pub(in super::super) fn plan(options: &JdbcLookupOptions, path: PathBuf, context: LookupContext<'_>) -> Result<Arc<dyn Lookup>, ConfigErrors> {
    let mut errors = Vec::new();
    options.access().refuse_server_keys(None, &mut errors);
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    let connection = Database::open_to_read(&path).map_err(|e| ConfigError::new("url", e.message()))?;
    let relation = Relation::of_table(&connection, &path, options.table.strip_prefix("main.").unwrap_or(&options.table))?;
    let all = relation.inferred(&connection).map_err(|e| ConfigError::new("table", e.message()))?;
    let mut fields = Vec::new();
    let find = |path: &str, name: &String| match relation.find(name).and_then(|(found, ..)| all.field_with_name(found).ok()) {
        None => Err(relation.unknown(path, name)),
        Some(field) => decode::check(field).map(|()| field.clone()).map_err(|why| ConfigError::new(path, why)),
    };
    let mut take = |path: &str, names: &[String]| {
        for name in names {
            match find(path, name) {
                Ok(field) => fields.push(field),
                Err(e) => errors.push(e),
            }
        }
    };
    take("on", context.key);
    match context.columns {
        Some(columns) => take("columns", columns),
        None => {
            let is_key = |name: &str| context.key.iter().any(|k| k.eq_ignore_ascii_case(name));
            take("columns", &all.fields().iter().map(|f| f.name().clone()).filter(|n| !is_key(n)).collect::<Vec<_>>());
        }
    }
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    let list = |fields: &[Field]| Sqlite.list(&mut fields.iter().map(|f| f.name().as_str()));
    let key = context.key.len();
    let keys = if key == 1 { list(&fields[..1]) } else { format!("({})", list(&fields[..key])) };
    Ok(Arc::new(SqliteLookup(Arc::new(Plan {
        what: format!("{} in `{}`", relation.what.replace('=', " "), path.display()),
        select: format!("SELECT {} FROM {} WHERE {keys} IN (", list(&fields), relation.from),
        schema: Arc::new(Schema::new(fields)),
        key,
        path,
    }))))
}

#[derive(Debug)]
struct SqliteLookup(Arc<Plan>);

#[async_trait]
impl Lookup for SqliteLookup {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0.schema)
    }

    fn describe(&self) -> String {
        self.0.what.clone()
    }

    async fn check(&self) -> Result<()> {
        self.0.open().await.map(drop)
    }

    async fn open(&self, context: LookupReaderContext) -> Result<Arc<dyn LookupReader>> {
        let connection = self.0.open().await?;
        Ok(Arc::new(SqliteReader { plan: Arc::clone(&self.0), idle: Arc::new(Mutex::new(vec![connection])), context }))
    }
}

impl Plan {
    /// A connection on which the statement is known to be right.
    async fn open(self: &Arc<Self>) -> Result<Connection> {
        let plan = Arc::clone(self);
        blocking(move || {
            let connection = Database::open_to_read(&plan.path)?;
            connection.prepare(&plan.sql(1)).map(drop).map_err(|e| failed("read", &plan.path, e))?;
            Ok(connection)
        })
        .await
    }

    fn sql(&self, keys: usize) -> String {
        // `(a, b) IN (VALUES (?, ?), …)` uses an index over both; a single column takes a plain list.
        let (before, one) = if self.key == 1 { ("", "?".to_owned()) } else { ("VALUES ", format!("({})", vec!["?"; self.key].join(", "))) };
        format!("{}{before}{})", self.select, vec![one; keys].join(", "))
    }

    fn get(&self, connection: &Connection, keys: &RecordBatch) -> Result<Vec<RecordBatch>> {
        let columns = keys.columns().iter().map(|k| Values::of(k, Affinity::None)).collect::<Result<Vec<_>>>()?;
        let mut values = Vec::with_capacity(keys.num_rows() * self.key);
        let mut asked = 0;
        for row in 0..keys.num_rows() {
            // A value that SQLite cannot hold is in no row.
            if let Ok(key) = columns.iter().map(|c| c.get(row)).collect::<Result<Vec<_>, _>>() {
                values.extend(key.into_iter().map(rusqlite::types::ToSqlOutput::Borrowed));
                asked += 1;
            }
        }
        if asked == 0 {
            return Ok(Vec::new());
        }
        self.read(connection, &self.sql(asked), values).map_err(|e| failed("read", &self.path, e))
    }

    fn read(&self, connection: &Connection, sql: &str, values: Vec<rusqlite::types::ToSqlOutput<'_>>) -> rusqlite::Result<Vec<RecordBatch>> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let new_page = || Page::new(Arc::clone(&self.schema), false).map_err(|e| ours(Error::internal(e)));
        let finish = |page: Page| {
            let (batch, bad) = page.finish()?;
            match bad.into_iter().next() {
                None => Ok(batch),
                Some(bad) => Err(Error::user(format!("{}: {}; declare the column's type, or mend the row", self.what, bad.reason))),
            }
        };
        let (mut batches, mut page, mut read) = (Vec::new(), new_page()?, 0);
        while let Some(row) = rows.next()? {
            read += 1;
            if read > MAX_MATCHES {
                return Err(ours(Error::user(format!("{}: the keys of one question have more than {MAX_MATCHES} rows", self.what))));
            }
            page.push(row, || self.what.clone())?;
            if page.rows() == MAX_BATCH_ROWS {
                batches.push(finish(std::mem::replace(&mut page, new_page()?)).map_err(ours)?);
            }
        }
        batches.push(finish(page).map_err(ours)?);
        Ok(batches)
    }
}

struct SqliteReader {
    plan: Arc<Plan>,
    /// Connections that no question uses: as many as were asked at the same time, at most [`LookupReaderContext::max_concurrency`].
    idle: Arc<Mutex<Vec<Connection>>>,
    context: LookupReaderContext,
}

#[async_trait]
impl LookupReader for SqliteReader {
    async fn get(&self, keys: &RecordBatch) -> Result<Vec<RecordBatch>> {
        let (plan, idle, keys) = (Arc::clone(&self.plan), Arc::clone(&self.idle), keys.clone());
        let most = self.context.max_concurrency;
        blocking(move || {
            let unused = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = unused.map_or_else(|| Database::open_to_read(&plan.path), Ok)?;
            let rows = plan.get(&connection, &keys)?;
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < most {
                idle.push(connection);
            }
            Ok(rows)
        })
        .await
    }
}
