//! The source: validates its options against the table or query, and opens readers. One split: a SQLite file is read in one order.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use karez_core::config::{ConfigError, ConfigErrors, Span};
use karez_core::error::did_you_mean;
use karez_core::source::{Discovery, ReaderContext, Replay, with_origin};
use karez_core::{Boundedness, Error, Result, Source, SourceContext, Split, SplitEnumerator, SplitReader, StreamSchema};
use rusqlite::Connection as SqliteConnection;
use serde_json::Value;

use super::super::dialect::Dialect;
use super::super::keyset::Position;
use super::super::mode::check_mode;
use super::super::options::{JdbcSourceOptions, ReadMode};
use super::connection::{Database, blocking, failed};
use super::query::QueryReader;
use super::reader::PageReader;
use super::table::Table;
use super::{Sqlite, decode, types};

/// A source as its options describe it.
#[derive(Clone, Debug)]
pub(super) struct SourcePlan {
    pub(super) path: PathBuf,
    /// What it reads, for a person: `table=t`, `query`.
    pub(super) what: String,
    /// What stands behind FROM.
    pub(super) from: String,
    /// The columns asked for.
    pub(super) schema: SchemaRef,
    /// The order of reading, quoted; unique taken together, and empty where there is none.
    pub(super) order: Vec<String>,
    /// The name of the order's last column, for origins.
    pub(super) order_name: String,
    /// Mode `timestamp`: rows of the latest instant are looked at again.
    pub(super) looks_again: bool,
    /// Rows without a value in any of the order's columns are left out.
    pub(super) skips_null: bool,
    /// By the first column of the order, milliseconds; 0 where rows are not held back.
    pub(super) visibility_delay_ms: i64,
    pub(super) bounded: bool,
    pub(super) poll_ms: u64,
}

/// Validates the options of a source against what they name; infers the schema.
pub(in super::super) fn plan(options: &JdbcSourceOptions, path: PathBuf, context: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
    let mut errors = Vec::new();
    options.access().refuse_server_keys(options.external.as_ref(), &mut errors);
    for (key, given) in [
        ("numPartitions", options.num_partitions.is_some()),
        ("partitionColumn", options.partition_column.is_some()),
        ("fetchSize", options.fetch_size.is_some()),
    ] {
        if given {
            errors.push(ConfigError::new(key, "a SQLite file is read in one part, a page at a time").hint(format!("remove `{key}`")));
        }
    }
    if options.table.is_some() == options.query.is_some() {
        errors.push(ConfigError::new("table", "give either `table` or `query`"));
    }
    check_mode(options, context.batch, &mut errors);
    if options.visibility_delay.is_some_and(|d| d.as_millis() > 0) && options.timestamp_column.is_none() {
        errors.push(ConfigError::new("visibilityDelay", "holds rows back by `timestampColumn`, and there is none"));
    }
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    let connection = Database::open_to_read(&path).map_err(|e| ConfigError::new("url", e.message()))?;
    let relation = match (&options.table, &options.query) {
        (Some(table), _) => Relation::of_table(&connection, &path, table.strip_prefix("main.").unwrap_or(table))?,
        (None, query) => Relation::of_query(&connection, query.as_deref().unwrap_or_default())?,
    };
    let schema = match context.schema {
        Some(declared) => relation.declared(declared)?,
        None => relation.inferred(&connection).map_err(|e| ConfigError::new("", e.message()))?,
    };
    let mut plan = SourcePlan {
        path,
        what: relation.what.clone(),
        from: relation.from.clone(),
        schema,
        order: Vec::new(),
        order_name: String::new(),
        looks_again: options.mode == ReadMode::Timestamp,
        skips_null: options.mode != ReadMode::Bulk,
        visibility_delay_ms: options.visibility_delay.map_or(0, Span::as_millis),
        bounded: options.bounded.unwrap_or(context.batch) || options.mode == ReadMode::Bulk,
        poll_ms: u64::try_from(options.poll_interval.as_millis()).unwrap_or(u64::MAX).max(1),
    };
    let order = order(options, &relation)?;
    plan.order_name = order.last().cloned().unwrap_or_default();
    plan.order = order.iter().map(|c| Sqlite.quote(c)).collect();
    Ok(Arc::new(SqliteSource { plan: Arc::new(plan) }))
}

/// Whether a file has no such table.
pub(in super::super) fn lacks_table(path: &std::path::Path, table: &str) -> bool {
    Database::open_to_read(path).is_ok_and(|c| matches!(Table::describe(&c, table), Ok(None)))
}

/// A table, view or query, and its columns.
pub(super) struct Relation {
    pub(super) what: String,
    pub(super) from: String,
    /// Name, declared type, nullable.
    columns: Vec<(String, String, bool)>,
    table: Option<Table>,
}

impl Relation {
    pub(super) fn of_table(connection: &SqliteConnection, path: &std::path::Path, name: &str) -> Result<Self, ConfigError> {
        let wrong = |e| ConfigError::new("table", failed("read", path, e).message());
        let Some(table) = Table::describe(connection, name).map_err(wrong)? else {
            let names = Table::names(connection).map_err(wrong)?;
            let error = ConfigError::new("table", format!("there is no table `{name}` in `{}`", path.display()));
            return Err(match did_you_mean(name, names.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("tables: {}", names.join(", "))),
            });
        };
        let is_rowid = |c: &str| table.rowid_alias().is_some_and(|r| r.name == c);
        let columns = table.columns.iter().map(|c| (c.name.clone(), c.declared.clone(), !(c.not_null || is_rowid(&c.name)))).collect();
        Ok(Self { what: format!("table={}", table.name), from: Sqlite.quote(&table.name), columns, table: Some(table) })
    }

    fn of_query(connection: &SqliteConnection, query: &str) -> Result<Self, ConfigError> {
        let query = query.trim().trim_end_matches(';').trim_end();
        let from = format!("({query}\n) AS __karez_query");
        let wrong = |e: rusqlite::Error| ConfigError::new("query", super::connection::reason(&e));
        // As written first, for errors in the user's own words.
        let statement = connection.prepare(query).map_err(wrong)?;
        connection.prepare(&format!("SELECT * FROM {from}")).map_err(wrong)?;
        let mut columns: Vec<(String, String, bool)> = Vec::new();
        for column in statement.columns() {
            if columns.iter().any(|(name, ..)| name == column.name()) {
                return Err(ConfigError::new("query", format!("gives two columns `{}`", column.name())).hint("name them with AS"));
            }
            columns.push((column.name().to_owned(), column.decl_type().unwrap_or_default().to_ascii_uppercase(), true));
        }
        Ok(Self { what: "query".to_owned(), from, columns, table: None })
    }

    pub(super) fn find(&self, name: &str) -> Option<&(String, String, bool)> {
        self.columns.iter().find(|(c, ..)| c.eq_ignore_ascii_case(name))
    }

    pub(super) fn unknown(&self, path: impl Into<String>, name: &str) -> ConfigError {
        let error = ConfigError::new(path, format!("{} has no column `{name}`", self.what.replace('=', " ")));
        let names = || self.columns.iter().map(|(c, ..)| c.as_str());
        match did_you_mean(name, names()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("columns: {}", names().collect::<Vec<_>>().join(", "))),
        }
    }

    fn declared(&self, declared: &SchemaRef) -> Result<SchemaRef, ConfigErrors> {
        let mut errors = Vec::new();
        for field in declared.fields() {
            if self.find(field.name()).is_none() {
                errors.push(self.unknown(format!("schema.{}", field.name()), field.name()));
            } else if let Err(why) = decode::check(field) {
                errors.push(ConfigError::new(format!("schema.{}", field.name()), why));
            }
        }
        if errors.is_empty() { Ok(Arc::clone(declared)) } else { Err(ConfigErrors(errors)) }
    }

    /// Types by declaration; of columns without one, by the first values.
    pub(super) fn inferred(&self, connection: &SqliteConnection) -> Result<SchemaRef> {
        let mut fields = Vec::new();
        for (name, declared, nullable) in &self.columns {
            let data_type = match types::inferred(declared) {
                Some(data_type) => data_type,
                None => by_values(connection, &self.from, name).map_err(|e| Error::external(format!("cannot read column `{name}`: {e}")))?,
            };
            fields.push(Field::new(name, data_type, *nullable));
        }
        Ok(Arc::new(Schema::new(fields)))
    }
}

/// The type that the first values of a column have in common; string where there is none.
fn by_values(connection: &SqliteConnection, from: &str, column: &str) -> rusqlite::Result<DataType> {
    let column = Sqlite.quote(column);
    let sql = format!("SELECT DISTINCT typeof({column}) FROM (SELECT {column} FROM {from} LIMIT 100) WHERE {column} IS NOT NULL");
    let mut found = connection.prepare(&sql)?.query_map([], |r| r.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    found.sort();
    Ok(match found.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["integer"] => DataType::Int64,
        ["real"] | ["integer", "real"] => DataType::Float64,
        ["blob"] => DataType::Binary,
        _ => DataType::Utf8,
    })
}

/// The columns rows are read in the order of.
fn order(options: &JdbcSourceOptions, relation: &Relation) -> Result<Vec<String>, ConfigErrors> {
    let column = |path: &str, name: &Option<String>| -> Result<Vec<String>, ConfigErrors> {
        let Some(name) = name else { return Ok(Vec::new()) };
        Ok(vec![relation.find(name).ok_or_else(|| relation.unknown(path, name))?.0.clone()])
    };
    let incrementing = column("incrementingColumn", &options.incrementing_column)?;
    let timestamp = column("timestampColumn", &options.timestamp_column)?;
    let mut key = Vec::new();
    for (i, k) in options.key.iter().enumerate() {
        key.push(relation.find(k).ok_or_else(|| relation.unknown(format!("key[{i}]"), k))?.0.clone());
    }
    if let Some(table) = &relation.table {
        key = match (table.rowid_alias(), table.rowid_name()) {
            (Some(alias), _) => vec![alias.name.clone()],
            (None, Some(rowid)) => vec![rowid.to_owned()],
            (None, None) => table.unique.first().filter(|_| !table.is_view).cloned().unwrap_or_default(),
        };
    }
    Ok(options.mode.order(key, timestamp, incrementing)?)
}

#[derive(Clone, Debug)]
struct SqliteSource {
    plan: Arc<SourcePlan>,
}

#[async_trait]
impl Source for SqliteSource {
    fn schema(&self) -> StreamSchema {
        StreamSchema::append_only(Arc::clone(&self.plan.schema))
    }

    fn boundedness(&self) -> Boundedness {
        if self.plan.bounded { Boundedness::Bounded } else { Boundedness::Unbounded }
    }

    fn replay(&self) -> Replay {
        if self.plan.order.is_empty() {
            return Replay::No(
                "its rows have no order in which they could be read again; give a `key` that identifies a row of the `query`".to_owned(),
            );
        }
        Replay::Exact
    }

    fn max_parallelism(&self) -> Option<usize> {
        Some(1)
    }

    fn project(&self, columns: &[usize]) -> Option<Arc<dyn Source>> {
        let schema = Arc::new(self.plan.schema.project(columns).ok()?);
        Some(Arc::new(Self { plan: Arc::new(SourcePlan { schema, ..(*self.plan).clone() }) }))
    }

    async fn check(&self) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        blocking(move || {
            let connection = Database::open_to_read(&plan.path)?;
            connection.prepare(&plan.select("", 0)).map(drop).map_err(|e| failed("read", &plan.path, e))
        })
        .await
    }

    async fn enumerator(&self, state: Option<Value>) -> Result<Box<dyn SplitEnumerator>> {
        Ok(Box::new(OneSplit { given: state == Some(Value::Bool(true)) }))
    }

    async fn open(&self, split: &Split, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        let position = Position::parse(&split.position)?;
        let schema = if context.with_origin { with_origin(&self.plan.schema) } else { Arc::clone(&self.plan.schema) };
        let plan = Arc::clone(&self.plan);
        let path = plan.path.clone();
        let connection = blocking(move || Database::open_to_read(&path)).await?;
        if plan.order.is_empty() {
            return Ok(Box::new(QueryReader::start(plan, schema, context, connection, position)?));
        }
        Ok(Box::new(PageReader::new(plan, schema, context, connection, position)))
    }
}

impl SourcePlan {
    /// The statement that reads rows, each followed by its key.
    pub(super) fn select(&self, condition: &str, limit: usize) -> String {
        let mut columns: Vec<String> = self.schema.fields().iter().map(|f| Sqlite.quote(f.name())).collect();
        columns.extend(self.order.iter().cloned());
        if columns.is_empty() {
            columns.push("NULL".to_owned());
        }
        let mut sql = format!("SELECT {} FROM {}", columns.join(", "), self.from);
        if !condition.is_empty() {
            sql.push_str(&format!(" WHERE {condition}"));
        }
        if !self.order.is_empty() {
            sql.push_str(&format!(" ORDER BY {} LIMIT {limit}", self.order.join(", ")));
        }
        sql
    }
}

struct OneSplit {
    given: bool,
}

#[async_trait]
impl SplitEnumerator for OneSplit {
    async fn discover(&mut self) -> Result<Discovery> {
        let first = !std::mem::replace(&mut self.given, true);
        let splits = first.then(|| Split { id: "0".to_owned(), position: Value::Null });
        Ok(Discovery { splits: splits.into_iter().collect(), done: true })
    }

    fn snapshot(&self) -> Result<Value> {
        Ok(Value::Bool(self.given))
    }
}
