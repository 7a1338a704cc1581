//! The source: validates its options against the table or query, and opens readers.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use karez_core::config::{ConfigError, ConfigErrors, Span};
use karez_core::source::{ReaderContext, Replay, with_origin};
use karez_core::{Boundedness, Result, Source, SourceContext, Split, SplitEnumerator, SplitReader, StreamSchema};
use karez_external::ExternalOptions;
use serde_json::Value;

use super::super::keyset::Position;
use super::super::mode::check_mode;
use super::super::options::{JdbcSourceOptions, ReadMode, external};
use super::driver::{Driver, Select};
use super::partition::Partitions;
use super::pool::{Pool, at_once, calls};
use super::reader::Reader;
use super::relation::Relation;
use super::table::{Column, TableName};

/// Rows of one statement, where an index gives the order.
const FETCH_ROWS: usize = 100_000;

/// A source as its options describe it.
#[derive(Clone, Debug)]
pub(super) struct SourcePlan {
    /// What it reads, for a person: `table=t`, `query`.
    pub(super) what: String,
    pub(super) table: Option<TableName>,
    /// What stands behind FROM.
    pub(super) from: String,
    /// The rows, and the columns they are read from.
    pub(super) schema: SchemaRef,
    pub(super) columns: Vec<Column>,
    /// The order of reading; unique taken together, and empty where there is none.
    pub(super) order: Vec<Column>,
    /// A column to count rows by where no other is asked for.
    pub(super) any: Column,
    /// The first column of the order grows, and rows beyond its bound are left for later.
    pub(super) grows: bool,
    pub(super) by_timestamp: bool,
    /// Mode `timestamp`: rows of the latest instant are looked at again.
    pub(super) looks_again: bool,
    pub(super) visibility_delay_ms: Option<i64>,
    pub(super) bounded: bool,
    pub(super) poll_ms: u64,
    /// The most rows of one statement.
    pub(super) fetch: Option<usize>,
    /// The column whose ranges are parts, and how many.
    pub(super) parts: Option<(Column, usize)>,
}

/// Validates the options of a source against what they name; infers the schema.
pub(in super::super) fn plan(
    options: &JdbcSourceOptions,
    driver: Arc<dyn Driver>,
    context: SourceContext<'_>,
) -> Result<Arc<dyn Source>, ConfigErrors> {
    let mut errors = Vec::new();
    if options.table.is_some() == options.query.is_some() {
        errors.push(ConfigError::new("table", "give either `table` or `query`"));
    }
    let external = external(options.external.as_ref(), &mut errors);
    check_mode(options, context.batch, &mut errors);
    for (key, zero) in [("numPartitions", options.num_partitions == Some(0)), ("fetchSize", options.fetch_size == Some(0))] {
        if zero {
            errors.push(ConfigError::new(key, "must be at least 1"));
        }
    }
    let parts = options.num_partitions.unwrap_or(1);
    if parts > 1 && options.mode != ReadMode::Bulk {
        errors.push(ConfigError::new("numPartitions", "is for `mode: bulk`: the other modes read in one order").hint("remove it"));
    }
    if options.partition_column.is_some() && parts <= 1 {
        errors.push(ConfigError::new("partitionColumn", "has no use without `numPartitions`").hint("set `numPartitions` to 2 or more, or remove it"));
    }
    if options.visibility_delay.is_some() && options.mode == ReadMode::Bulk {
        errors
            .push(ConfigError::new("visibilityDelay", "`mode: bulk` does not use it").hint("it holds new rows back in the modes that wait for them"));
    }
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    let relation = at_once(&calls(driver.as_ref(), &external), async {
        let mut session = driver.connect().await?;
        match (&options.table, &options.query) {
            (Some(table), _) => Relation::of_table(session.as_mut(), driver.as_ref(), table).await,
            (None, query) => Relation::of_query(session.as_mut(), query.as_deref().unwrap_or_default()).await,
        }
    })?;
    let (schema, columns) = relation.rows(driver.as_ref(), context.schema)?;
    let order = order(options, &relation)?;
    let parts = if parts > 1 { Some((partition_column(options, &relation, &order)?, parts)) } else { None };
    let names: Vec<String> = order.iter().map(|c| c.name.clone()).collect();
    let ordered = relation.table.as_ref().is_some_and(|t| t.is_ordered_by(&names));
    if options.fetch_size.is_some() && order.is_empty() {
        return Err(ConfigError::new("fetchSize", "rows without a key are read by one statement").hint("remove it, or give a `key`").into());
    }
    let Some(any) = order.first().or_else(|| columns.first()).or_else(|| relation.columns.iter().find(|c| c.data_type.is_some())).cloned() else {
        return Err(ConfigError::new("table", format!("{} has no column to read", relation.what.replace('=', " "))).into());
    };
    let bounded = options.bounded.unwrap_or(context.batch) || options.mode == ReadMode::Bulk;
    let plan = SourcePlan {
        what: relation.what,
        from: relation.from,
        schema,
        columns,
        any,
        grows: options.mode != ReadMode::Bulk,
        by_timestamp: matches!(options.mode, ReadMode::Timestamp | ReadMode::TimestampIncrementing),
        looks_again: options.mode == ReadMode::Timestamp,
        visibility_delay_ms: options.visibility_delay.map(Span::as_millis).or_else(|| driver.default_visibility_delay_ms()),
        bounded,
        poll_ms: u64::try_from(options.poll_interval.as_millis()).unwrap_or(u64::MAX).max(1),
        fetch: options.fetch_size.or_else(|| ordered.then_some(FETCH_ROWS)),
        parts,
        order,
        table: relation.table.map(|t| t.name),
    };
    Ok(Arc::new(ServerSource { plan: Arc::new(plan), pool: Pool::new(driver, &external) }))
}

/// Whether a database is there and has no such table.
pub(in super::super) fn lacks_table(driver: &Arc<dyn Driver>, table: &str) -> bool {
    let looked = at_once(&calls(driver.as_ref(), &ExternalOptions::default()), async {
        let mut session = driver.connect().await?;
        Ok(session.describe(&TableName::parse(table)?).await?.is_none())
    });
    looked.unwrap_or(false)
}

/// The columns rows are read in the order of.
fn order(options: &JdbcSourceOptions, relation: &Relation) -> Result<Vec<Column>, ConfigErrors> {
    let readable = |path: &str, name: &str| -> Result<Column, ConfigError> {
        let column = relation.column(path, name)?;
        match &column.data_type {
            Some(t) if !t.is_nested() => Ok(column.clone()),
            _ => Err(ConfigError::new(path, format!("rows cannot be read in the order of the type `{}` of `{name}`", column.declared))),
        }
    };
    let given = |path: &str, name: &Option<String>| name.as_ref().map(|n| readable(path, n)).transpose();
    let incrementing: Vec<Column> = given("incrementingColumn", &options.incrementing_column)?.into_iter().collect();
    let timestamp: Vec<Column> = given("timestampColumn", &options.timestamp_column)?.into_iter().collect();
    if let Some(column) = timestamp.first()
        && !matches!(column.data_type, Some(DataType::Timestamp(..) | DataType::Date32))
    {
        return Err(ConfigError::new("timestampColumn", format!("`{}` is of type `{}`, which is no instant", column.name, column.declared)).into());
    }
    let key = match &relation.table {
        Some(table) => {
            let unique = |set: &&Vec<String>| set.iter().all(|c| relation.column("", c).is_ok_and(|c| c.not_null && c.data_type.is_some()));
            let names = table.unique.iter().find(unique).filter(|_| !table.is_view).cloned().unwrap_or_default();
            names.iter().map(|n| readable("table", n)).collect::<Result<Vec<_>, _>>()?
        }
        None => options.key.iter().enumerate().map(|(i, k)| readable(&format!("key[{i}]"), k)).collect::<Result<Vec<_>, _>>()?,
    };
    Ok(options.mode.order(key, timestamp, incrementing)?)
}

/// The column whose ranges are the parts.
fn partition_column(options: &JdbcSourceOptions, relation: &Relation, order: &[Column]) -> Result<Column, ConfigError> {
    let column = match &options.partition_column {
        Some(name) => relation.column("partitionColumn", name)?,
        None => order.first().ok_or_else(|| {
            ConfigError::new("partitionColumn", "is missing: by the ranges of which column is it to be read in parts?")
                .hint("name an integer column, or remove `numPartitions`")
        })?,
    };
    if !column.data_type.as_ref().is_some_and(DataType::is_integer) {
        return Err(ConfigError::new("partitionColumn", format!("`{}` is of type `{}`; it must be an integer", column.name, column.declared)));
    }
    if relation.table.is_some() && !column.not_null {
        return Err(ConfigError::new("partitionColumn", format!("`{}` may be null, and such rows would be in no part", column.name))
            .hint("name a column that is NOT NULL, or remove `numPartitions`"));
    }
    Ok(column.clone())
}

#[derive(Clone, Debug)]
struct ServerSource {
    plan: Arc<SourcePlan>,
    pool: Arc<Pool>,
}

#[async_trait]
impl Source for ServerSource {
    fn schema(&self) -> StreamSchema {
        StreamSchema::append_only(Arc::clone(&self.plan.schema))
    }

    fn boundedness(&self) -> Boundedness {
        if self.plan.bounded { Boundedness::Bounded } else { Boundedness::Unbounded }
    }

    fn replay(&self) -> Replay {
        if self.plan.order.is_empty() {
            let advice = if self.plan.table.is_some() {
                "give the table a primary key, or read a `query` with a `key`"
            } else {
                "give a `key` that identifies a row of the `query`"
            };
            return Replay::No(format!("its rows have no order in which they could be read again; {advice}"));
        }
        Replay::Exact
    }

    fn max_parallelism(&self) -> Option<usize> {
        Some(self.plan.parts.as_ref().map_or(1, |(_, n)| *n))
    }

    fn project(&self, columns: &[usize]) -> Option<Arc<dyn Source>> {
        let schema = Arc::new(self.plan.schema.project(columns).ok()?);
        let columns = columns.iter().map(|&c| self.plan.columns.get(c).cloned()).collect::<Option<_>>()?;
        Some(Arc::new(Self { plan: Arc::new(SourcePlan { schema, columns, ..(*self.plan).clone() }), pool: Arc::clone(&self.pool) }))
    }

    async fn check(&self) -> Result<()> {
        let select = self.plan.select(self.pool.driver.as_ref(), &[], None);
        // Not described alone: PostgreSQL asks for the right to read when a statement begins.
        let probe = format!("SELECT 1 FROM ({}) AS __karez_check LIMIT 0", select.sql);
        self.pool.once("checking", |at| async move { at.connect().await?.query(&probe).await.map(drop) }).await
    }

    async fn enumerator(&self, state: Option<Value>) -> Result<Box<dyn SplitEnumerator>> {
        let given = state == Some(Value::Bool(true));
        Ok(Box::new(Partitions::new(Arc::clone(&self.plan), Arc::clone(&self.pool), given)))
    }

    async fn open(&self, split: &Split, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        self.pool.counted_by(&context.metrics);
        let position = Position::parse(&split.position)?;
        let schema = if context.with_origin { with_origin(&self.plan.schema) } else { Arc::clone(&self.plan.schema) };
        Ok(Box::new(Reader::new(Arc::clone(&self.plan), Arc::clone(&self.pool), schema, context, position)))
    }
}

impl SourcePlan {
    /// The columns a statement gives: those of the rows, then those of the order that are not among them.
    pub(super) fn selected(&self) -> Vec<Column> {
        let mut selected = self.columns.clone();
        for column in &self.order {
            if !selected.iter().any(|c| c.name == column.name) {
                selected.push(column.clone());
            }
        }
        if selected.is_empty() {
            selected.push(self.any.clone());
        }
        selected
    }

    /// The statement that reads rows.
    pub(super) fn select(&self, driver: &dyn Driver, conditions: &[String], limit: Option<usize>) -> Select {
        let dialect = driver.dialect();
        let columns = self.selected();
        let list: Vec<String> = columns.iter().map(|c| dialect.selected(&c.name, &c.declared)).collect();
        let mut sql = format!("SELECT {} FROM {}", list.join(", "), self.from);
        if !conditions.is_empty() {
            sql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
        }
        if !self.order.is_empty() {
            sql.push_str(&format!(" ORDER BY {}", dialect.list(&mut self.order.iter().map(|c| c.name.as_str()))));
            if let Some(limit) = limit {
                sql.push_str(&format!(" LIMIT {limit}"));
            }
        }
        Select { sql, columns }
    }
}
