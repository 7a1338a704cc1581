//! The sink: validates its options against the rows, prepares the database, makes writers and the one committer.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::sink::{SinkGuarantee, SinkRunContext, WriterContext};
use karez_core::{ChangeMode, Committable, Committer, Result, Sink, SinkContext, SinkWriter};
use serde_json::Value;

use super::super::dialect::Dialect;
use super::super::options::{GuaranteeOption, JdbcSinkOptions, external};
use super::super::rows::key;
use super::committer::LotCommitter;
use super::driver::{Driver, Session};
use super::failure::{Failure, Kind};
use super::fit::{self, Fitted};
use super::flush::{Flusher, failed};
use super::pool::{Attempt, Pool};
use super::rights;
use super::stage::{Ledger, Lot};
use super::table::TableName;
use super::writer::Writer;

/// Rows that are gathered, unless the options say.
const BATCH_ROWS: usize = 65_536;

/// A sink as its options describe it.
#[derive(Clone, Debug)]
pub(super) struct SinkPlan {
    pub(super) table: TableName,
    /// Where the ledger and the staging tables are, unless beside the table.
    pub(super) staging_schema: Option<String>,
    /// The columns of the input; empty: append.
    pub(super) key: Vec<String>,
    /// Whether rows may be deleted.
    pub(super) deletes: bool,
    create_table: bool,
    evolve_table: bool,
    pub(super) batch_size: usize,
    pub(super) flush_interval_ms: i64,
    pub(super) guarantee: GuaranteeOption,
    /// The rows, without the engine's columns.
    pub(super) input: SchemaRef,
}

/// Validates the options of a sink against the rows it will get. The database is looked at by [`Sink::check`] and [`Sink::prepare`].
pub(in super::super) fn plan(options: &JdbcSinkOptions, driver: Arc<dyn Driver>, context: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
    let mut errors = Vec::new();
    let input = context.input.visible();
    let key = key(options, &input, context.exactly_once, &mut errors);
    let table = TableName::parse(&options.table).map_err(|e| errors.push(e)).ok();
    let external = external(options.external.as_ref(), &mut errors);
    if options.lock_timeout.is_some() {
        errors.push(
            ConfigError::new(
                "lockTimeout",
                "is for SQLite: while others are in the way on a server, a write is tried again as `external.retry` says",
            )
            .hint("remove it, or set `external: { retry: { attempts: … } }`"),
        );
    }
    if input.fields().is_empty() {
        errors.push(ConfigError::new("table", "the rows have no columns to write"));
    }
    if context.input.change_mode == ChangeMode::Changelog && key.is_empty() && errors.is_empty() {
        errors.push(
            ConfigError::new("key", "is missing: the rows change, and only a key says which row of the table a change is for")
                .hint("write it like `key: [id]`"),
        );
    }
    let (Some(table), true) = (table, errors.is_empty()) else { return Err(ConfigErrors(errors)) };
    let plan = SinkPlan {
        table,
        staging_schema: options.staging_schema.clone(),
        key,
        deletes: context.input.change_mode == ChangeMode::Changelog,
        create_table: options.create_table,
        evolve_table: options.evolve_table,
        batch_size: options.batch_size.unwrap_or(BATCH_ROWS),
        flush_interval_ms: options.flush_interval.as_millis(),
        guarantee: options.guarantee,
        input,
    };
    Ok(Arc::new(ServerSink { plan: Arc::new(plan), pool: Pool::new(driver, &external) }))
}

impl SinkPlan {
    /// The ledger of the table's schema, or of the one the options name.
    pub(super) fn ledger(&self, dialect: &dyn Dialect, fitted: &Fitted) -> Ledger {
        Ledger::new(dialect, self.staging_schema.as_deref().or(fitted.table.schema.as_deref()))
    }

    /// The table as it is, and how the rows go into it.
    pub(super) async fn fitted(&self, session: &mut dyn Session, driver: &dyn Driver) -> Result<Fitted, Failure> {
        match session.describe(&self.table).await? {
            Some(table) => fit::fit(self, &table, driver),
            None => Err(fit::missing(self, driver, &session.table_names(self.table.schema.as_deref()).await?)),
        }
    }

    /// Looks at the table, and at what the user may do, without side effects.
    async fn check(&self, session: &mut dyn Session, driver: &dyn Driver) -> Result<(), Failure> {
        match session.describe(&self.table).await? {
            Some(table) if self.evolve_table && !fit::lacking(&self.input, &table).is_empty() => {
                let lacking = fit::lacking(&self.input, &table);
                fit::can_be_made(lacking.iter().copied(), session)?;
                let lacking: Vec<String> = lacking.iter().map(|f| f.name().clone()).collect();
                let fields: Vec<_> = self.input.fields().iter().filter(|f| !lacking.contains(f.name())).cloned().collect();
                let rest = Self {
                    input: Arc::new(arrow::datatypes::Schema::new(fields)),
                    key: self.key.iter().filter(|k| !lacking.contains(k)).cloned().collect(),
                    ..self.clone()
                };
                rights::check(&rest, session, driver, &fit::fit(&rest, &table, driver)?).await
            }
            Some(table) => rights::check(self, session, driver, &fit::fit(self, &table, driver)?).await,
            None if self.create_table => {
                fit::can_be_made(self.input.fields(), session)?;
                rights::check_missing(self, session).await
            }
            None => Err(fit::missing(self, driver, &session.table_names(self.table.schema.as_deref()).await?)),
        }
    }

    /// Whether the table is missing, and the sink's to make.
    pub(super) async fn is_to_make(&self, session: &mut dyn Session) -> Result<bool, Failure> {
        Ok(self.create_table && session.describe(&self.table).await?.is_none())
    }

    /// Creates and changes what is asked for, and throws leftovers away.
    async fn prepare(&self, session: &mut dyn Session, driver: &dyn Driver, context: &SinkRunContext, keep: &[String]) -> Result<(), Failure> {
        let dialect = driver.dialect();
        match session.describe(&self.table).await? {
            None if self.create_table => {
                fit::can_be_made(self.input.fields(), session)?;
                session.execute(&fit::create_table(self, dialect)).await?;
            }
            Some(table) if self.evolve_table => {
                let lacking = fit::lacking(&self.input, &table);
                fit::can_be_made(lacking.iter().copied(), session)?;
                for field in lacking {
                    let (table, column, of_type) = (self.table.sql(dialect), dialect.quote(field.name()), dialect.column_type(field.data_type()));
                    session.execute(&format!("ALTER TABLE {table} ADD COLUMN {column} {of_type}{}", dialect.nullable())).await?;
                }
            }
            _ => {}
        }
        let fitted = self.fitted(session, driver).await?;
        if self.guarantee == GuaranteeOption::Transactional {
            let ledger = self.ledger(dialect, &fitted);
            ledger.create(session, dialect).await?;
            let tidied = async {
                session.begin(true).await?;
                ledger.fence(session, dialect, context).await?;
                ledger.forget_leftovers(session, dialect, context, keep).await?;
                session.commit().await?;
                ledger.drop_orphans(session, dialect, context).await
            };
            tidied.await.map_err(|f: Failure| match f.kind {
                // Made by another user of the schema.
                Kind::User => f.context(
                    "the tables for exactly once (`__karez_…`; GRANT the user all rights on them, or set `stagingSchema` to a schema of its own)",
                ),
                _ => f,
            })?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct ServerSink {
    plan: Arc<SinkPlan>,
    pool: Arc<Pool>,
}

impl ServerSink {
    fn is_transactional(&self) -> bool {
        self.plan.guarantee == GuaranteeOption::Transactional
    }
}

#[async_trait]
impl Sink for ServerSink {
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
        let (plan, driver) = (&self.plan, &self.pool.driver);
        self.pool.once("checking", |at| async move { plan.check(&mut *at.connect().await?, driver.as_ref()).await }).await
    }

    async fn prepare(&self, context: &SinkRunContext, committed: &[Committable]) -> Result<()> {
        let keep = committed.iter().map(|c| Lot::parse(&c.payload).map(|l| l.stage)).collect::<Result<Vec<_>>>()?;
        let (plan, driver, keep) = (&self.plan, &self.pool.driver, &keep);
        let prepare = |at: Attempt| async move {
            let mut session = at.connect().await?;
            let prepared = plan.prepare(&mut *session, driver.as_ref(), context, keep).await;
            if prepared.as_ref().is_err_and(|f| f.kind != Kind::Connection) {
                let _ = session.rollback().await;
            }
            prepared
        };
        self.pool.call("preparing the tables", prepare).await.map_err(failed)
    }

    async fn writer(&self, context: WriterContext, _: Vec<Value>) -> Result<Box<dyn SinkWriter>> {
        self.pool.counted_by(&context.metrics);
        let (plan, driver) = (&self.plan, &self.pool.driver);
        let fitted = self.pool.call("looking at the table", |at| async move { plan.fitted(&mut *at.connect().await?, driver.as_ref()).await });
        let fitted = fitted.await?;
        Ok(Box::new(Writer::new(Flusher::new(Arc::clone(&self.plan), Arc::clone(&self.pool), fitted, context))))
    }

    async fn committer(&self, context: &SinkRunContext) -> Result<Option<Box<dyn Committer>>> {
        if !self.is_transactional() {
            return Ok(None);
        }
        Ok(Some(Box::new(LotCommitter::new(Arc::clone(&self.plan), Arc::clone(&self.pool), context.clone()))))
    }
}
