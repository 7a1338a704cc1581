//! Look-ups in a table or view of a server: one statement for the keys of a question.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::future::BoxFuture;
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::lookup::{LookupReaderContext, MAX_MATCHES};
use karez_core::{Error, Lookup, LookupContext, LookupReader, Result};
use karez_external::ExternalOptions;
use tokio::sync::mpsc;

use super::super::keyset::KeyValue;
use super::super::options::JdbcLookupOptions;
use super::super::url::Server;
use super::driver::{Chunk, Driver, Select};
use super::failure::{Failure, Kind};
use super::pool::{Connections, at_once, calls};
use super::reader::key_value;
use super::relation::Relation;
use super::scan::literal;
use super::table::Column;

/// A look-up as its options describe it.
#[derive(Debug)]
struct Plan {
    /// What it asks, for a person.
    what: String,
    /// What stands behind FROM.
    from: String,
    /// The key's columns, then the others.
    columns: Vec<Column>,
    schema: SchemaRef,
    key: usize,
}

/// Validates the options of a look-up against the table it names.
pub(in super::super) fn plan(
    options: &JdbcLookupOptions,
    driver: Arc<dyn Driver>,
    context: LookupContext<'_>,
) -> Result<Arc<dyn Lookup>, ConfigErrors> {
    let relation = at_once(&calls(driver.as_ref(), &ExternalOptions::default()), async {
        let mut session = driver.connect().await?;
        Relation::of_table(session.as_mut(), driver.as_ref(), &options.table).await
    })?;
    let all;
    let others = match context.columns {
        Some(columns) => columns,
        None => {
            let is_key = |c: &Column| context.key.iter().any(|k| relation.column("on", k).is_ok_and(|k| k.name == c.name));
            all = relation.columns.iter().filter(|c| !is_key(c)).map(|c| c.name.clone()).collect::<Vec<_>>();
            &all
        }
    };
    let (mut columns, mut fields, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for (path, name) in context.key.iter().map(|k| ("on", k)).chain(others.iter().map(|c| ("columns", c))) {
        match relation.column(path, name).and_then(|c| Ok((c, readable(path, c)?))) {
            Ok((column, data_type)) => {
                fields.push(Field::new(&column.name, data_type, !column.not_null));
                columns.push(column.clone());
            }
            Err(e) => errors.push(e),
        }
    }
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    let plan = Plan {
        what: format!("{} in {}", relation.what.replace('=', " "), driver.settings().place()),
        from: relation.from,
        columns,
        schema: Arc::new(Schema::new(fields)),
        key: context.key.len(),
    };
    Ok(Arc::new(ServerLookup { plan: Arc::new(plan), driver }))
}

/// What a column is read as.
fn readable(path: &str, column: &Column) -> Result<DataType, ConfigError> {
    let told = |what: &str| ConfigError::new(path, format!("column `{}` has the type `{}`, {what}", column.name, column.declared));
    match &column.data_type {
        None => Err(told("which is not supported").hint("ask a view that casts it, or leave it out of `columns`")),
        Some(t) if path == "on" && t.is_nested() => Err(told("by which rows cannot be found")),
        Some(t) => Ok(t.clone()),
    }
}

#[derive(Debug)]
struct ServerLookup {
    plan: Arc<Plan>,
    driver: Arc<dyn Driver>,
}

#[async_trait]
impl Lookup for ServerLookup {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.schema)
    }

    fn describe(&self) -> String {
        self.plan.what.clone()
    }

    fn max_concurrency(&self) -> Option<usize> {
        self.driver.settings().max_connections()
    }

    async fn check(&self) -> Result<()> {
        let mut session = self.driver.connect().await?;
        session.describe_query(&self.plan.sql(self.driver.as_ref(), "1 = 0")).await?;
        Ok(())
    }

    async fn open(&self, _: LookupReaderContext) -> Result<Arc<dyn LookupReader>> {
        // The first connection: what is wrong with the way there is found now. As many follow as there are questions at the same time.
        let connections = Connections::new(Arc::clone(&self.driver));
        drop(connections.get().await?);
        Ok(Arc::new(ServerReader { plan: Arc::clone(&self.plan), connections }))
    }
}

impl Plan {
    fn sql(&self, driver: &dyn Driver, condition: &str) -> String {
        let columns = driver.dialect().list(&mut self.columns.iter().map(|c| c.name.as_str()));
        format!("SELECT {columns} FROM {} WHERE {condition}", self.from)
    }

    /// The condition for one of these keys.
    fn condition(&self, driver: &dyn Driver, keys: &[String]) -> String {
        let columns = driver.dialect().list(&mut self.columns[..self.key].iter().map(|c| c.name.as_str()));
        let columns = if self.key == 1 { columns } else { format!("({columns})") };
        format!("{columns} IN ({})", keys.join(", "))
    }

    /// A key in SQL; `None` where no row can have it.
    fn literal(&self, driver: &dyn Driver, keys: &[ArrayRef], row: usize) -> Option<String> {
        let value = |(array, column): (&ArrayRef, &Column)| match key_value(array, row)? {
            // PostgreSQL has no text with a zero in it.
            KeyValue::Text(text) if text.contains('\0') && driver.settings().server == Server::PostgreSql => None,
            value => Some(literal(driver.dialect(), column, &value)),
        };
        let values = keys.iter().zip(&self.columns).map(value).collect::<Option<Vec<_>>>()?;
        Some(if self.key == 1 { values.into_iter().next()? } else { format!("({})", values.join(", ")) })
    }

    fn batch(&self, chunk: Chunk) -> Result<RecordBatch> {
        if let Some((_, why)) = chunk.bad.first() {
            return Err(Error::user(format!("{}: {why}; mend the row, or ask a view that leaves it out", self.what)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(chunk.rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), chunk.columns, &options)?)
    }
}

struct ServerReader {
    plan: Arc<Plan>,
    connections: Arc<Connections>,
}

impl ServerReader {
    /// The rows of some keys. A key that the server cannot take as a value of the column's type (a text that is no `uuid`) is in no row; which one it is
    /// is found by halving.
    fn rows<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<Vec<RecordBatch>>> {
        Box::pin(async move {
            match self.ask(keys).await {
                Ok(chunks) => chunks.into_iter().map(|c| self.plan.batch(c)).collect(),
                Err(Failure { kind: Kind::Row(_), .. }) if keys.len() == 1 => Ok(Vec::new()),
                Err(Failure { kind: Kind::Row(_), .. }) => {
                    let (some, others) = keys.split_at(keys.len() / 2);
                    let mut rows = self.rows(some).await?;
                    rows.extend(self.rows(others).await?);
                    Ok(rows)
                }
                Err(failure) => Err(failure.context(&self.plan.what).into()),
            }
        })
    }

    async fn ask(&self, keys: &[String]) -> Result<Vec<Chunk>, Failure> {
        let driver = self.connections.driver.as_ref();
        let select = Select { sql: self.plan.sql(driver, &self.plan.condition(driver, keys)), columns: self.plan.columns.clone() };
        let mut session = self.connections.get().await?;
        let (sender, mut receiver) = mpsc::channel(1);
        let read = async {
            let result = session.read(&select, &sender).await;
            drop(sender);
            result
        };
        let collect = async move {
            let (mut chunks, mut rows) = (Vec::new(), 0);
            while let Some(chunk) = receiver.recv().await {
                rows += chunk.rows;
                chunks.push(chunk);
                if rows > MAX_MATCHES {
                    let why = format!("{} keys have more than {MAX_MATCHES} rows", keys.len());
                    return Err(Failure::new(Kind::User, why));
                }
            }
            Ok(chunks)
        };
        let (result, chunks) = tokio::join!(read, collect);
        let chunks = chunks?;
        result?;
        Ok(chunks)
    }
}

#[async_trait]
impl LookupReader for ServerReader {
    async fn get(&self, keys: &RecordBatch) -> Result<Vec<RecordBatch>> {
        let driver = self.connections.driver.as_ref();
        let literals: Vec<String> = (0..keys.num_rows()).filter_map(|row| self.plan.literal(driver, keys.columns(), row)).collect();
        if literals.is_empty() {
            return Ok(Vec::new());
        }
        self.rows(&literals).await
    }
}
