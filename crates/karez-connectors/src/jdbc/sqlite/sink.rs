//! The sink: validates its options against the rows, prepares the database, makes writers and the one committer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::sink::{SinkGuarantee, SinkRunContext, WriterContext};
use karez_core::{ChangeMode, Committable, Committer, Error, Result, Sink, SinkContext, SinkWriter};
use serde_json::Value;

use super::super::options::{GuaranteeOption, JdbcSinkOptions};
use super::super::rows::key;
use super::committer::SqliteCommitter;
use super::connection::{Database, Place, blocking, create_folder, failed, ours};
use super::fit::{self, Fitted};
use super::stage::{self, Lot};
use super::table::Table;
use super::writer::Writer;

/// A sink as its options describe it.
#[derive(Debug)]
pub(super) struct SinkPlan {
    pub(super) place: Place,
    pub(super) table: String,
    /// The columns of the input; empty: append.
    pub(super) key: Vec<String>,
    pub(super) create_table: bool,
    pub(super) batch_size: usize,
    pub(super) flush_interval_ms: i64,
    pub(super) guarantee: GuaranteeOption,
    /// The rows, without the engine's columns.
    pub(super) input: SchemaRef,
    pub(super) changelog: bool,
}

/// How long a write is tried again while another program holds a lock, unless the options say.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// Validates the options of a sink against the rows it will get, and the rows against the table where there is one.
pub(in super::super) fn plan(options: &JdbcSinkOptions, path: PathBuf, context: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
    let mut errors = Vec::new();
    options.access().refuse_server_keys(options.external.as_ref(), &mut errors);
    if options.evolve_table {
        errors.push(ConfigError::new("evolveTable", "is for database servers").hint("remove it, and ALTER TABLE yourself"));
    }
    if options.staging_schema.is_some() {
        errors.push(ConfigError::new("stagingSchema", "a SQLite file has no schemas").hint("remove it"));
    }
    let input = context.input.visible();
    let key = key(options, &input, context.exactly_once, &mut errors);
    if options.table.is_empty() || options.table.starts_with("__karez_") || options.table.to_ascii_lowercase().starts_with("sqlite_") {
        errors.push(ConfigError::new("table", format!("`{}` is no name for a table", options.table)));
    }
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    let plan = SinkPlan {
        place: Place { path, lock_timeout: options.lock_timeout.map_or(LOCK_TIMEOUT, |s| s.0) },
        table: options.table.strip_prefix("main.").unwrap_or(&options.table).to_owned(),
        key,
        create_table: options.create_table,
        batch_size: options.batch_size.unwrap_or(1_000),
        flush_interval_ms: options.flush_interval.as_millis(),
        guarantee: options.guarantee,
        input,
        changelog: context.input.change_mode == ChangeMode::Changelog,
    };
    if plan.place.path.is_file() {
        check(&plan).map_err(|e| ConfigError::new("table", e.message()))?;
    }
    Ok(Arc::new(SqliteSink { plan: Arc::new(plan) }))
}

/// Looks at the table without side effects. Blocks.
fn check(plan: &SinkPlan) -> Result<()> {
    let path = &plan.place.path;
    if !path.exists() {
        if !plan.create_table {
            return Err(fit::missing(plan, &[]));
        }
        let nearest = path.ancestors().skip(1).find(|p| p.exists()).unwrap_or(Path::new("."));
        if !nearest.is_dir() && !nearest.as_os_str().is_empty() {
            return Err(Error::user(format!("`{}` is a file, so no folder can be made below it", nearest.display())));
        }
        return Ok(());
    }
    let connection = Database::open_to_read(path)?;
    let look = |e| failed("read", path, e);
    match Table::describe(&connection, &plan.table).map_err(look)? {
        Some(table) => fit::fit(plan, &table).map(drop),
        None if plan.create_table => Ok(()),
        None => Err(fit::missing(plan, &Table::names(&connection).map_err(look)?)),
    }
}

#[derive(Debug)]
struct SqliteSink {
    plan: Arc<SinkPlan>,
}

impl SqliteSink {
    fn is_transactional(&self) -> bool {
        self.plan.guarantee == GuaranteeOption::Transactional
    }

    async fn fitted(&self, database: &Database) -> Result<Fitted> {
        let plan = Arc::clone(&self.plan);
        database
            .call(None, move |c| match Table::describe(c, &plan.table)? {
                Some(table) => fit::fit(&plan, &table).map_err(ours),
                None => Err(ours(fit::missing(&plan, &Table::names(c)?))),
            })
            .await
    }
}

#[async_trait]
impl Sink for SqliteSink {
    fn guarantee(&self) -> SinkGuarantee {
        self.plan.guarantee.of_sink(!self.plan.key.is_empty())
    }

    fn key(&self) -> Vec<String> {
        self.plan.key.clone()
    }

    fn accepts_changelog(&self) -> bool {
        !self.plan.key.is_empty()
    }

    async fn check(&self) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        blocking(move || check(&plan)).await
    }

    async fn prepare(&self, context: &SinkRunContext, committed: &[Committable]) -> Result<()> {
        let keep = committed.iter().map(|c| Lot::parse(&c.payload).map(|l| l.id)).collect::<Result<Vec<_>>>()?;
        if !self.plan.create_table {
            self.check().await?;
        }
        create_folder(&self.plan.place.path).await?;
        let database = Database::open_to_write(&self.plan.place.path, self.plan.place.lock_timeout).await?;
        // Readers and the writer do not wait for each other then. Where the file system cannot do it, SQLite stays with what it has.
        database.call(None, |c| c.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))).await?;
        if self.plan.create_table {
            let plan = Arc::clone(&self.plan);
            let create = move |t: &rusqlite::Transaction<'_>| match Table::describe(t, &plan.table)? {
                Some(_) => Ok(()),
                None => t.execute_batch(&fit::create_table(&plan)),
            };
            database.transact(true, None, create).await?;
        }
        let fitted = self.fitted(&database).await?;
        if self.is_transactional() {
            let (context, stage) = (context.clone(), stage::name(context, &fitted));
            let prepare = move |t: &rusqlite::Transaction<'_>| {
                stage::create_shared(t)?;
                stage::create(t, &stage, &fitted)?;
                stage::fence(t, &context)?;
                stage::remove_leftovers(t, &context, &keep)?;
                stage::remove_abandoned(t, &context)
            };
            database.transact(true, None, prepare).await?;
        }
        Ok(())
    }

    async fn writer(&self, context: WriterContext, _: Vec<Value>) -> Result<Box<dyn SinkWriter>> {
        let database = Database::open_to_write(&self.plan.place.path, self.plan.place.lock_timeout).await?;
        let fitted = self.fitted(&database).await?;
        let stage = stage::name(&context.run, &fitted);
        Ok(Box::new(Writer::new(Arc::clone(&self.plan), fitted, stage, database, context)))
    }

    async fn committer(&self, context: &SinkRunContext) -> Result<Option<Box<dyn Committer>>> {
        if !self.is_transactional() {
            return Ok(None);
        }
        Ok(Some(Box::new(SqliteCommitter::new(Arc::clone(&self.plan), context.clone()))))
    }
}
