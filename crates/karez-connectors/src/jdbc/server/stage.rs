//! What a transactional sink keeps in the database beside its table.
//!
//! ```text
//!  __karez_stage_NODE_LOT  the rows of a lot that wait for their commit, numbered in their order; a table of its own, gone after the commit
//!  __karez_lots            a lot: what one subtask staged between two barriers; sealed (it has an epoch) at the second; its row goes when it is
//!                          committed or thrown away
//!  __karez_commits         the marker: the newest lot committed of each (run, node, generation, subtask), its epoch, and the permit it was committed by
//!  __karez_refused         rows that the table refused at their commit, until the next commit of the sink: a repeated commit names them again
//!  __karez_generations     the newest start of a run: an older one can neither stage nor commit
//! ```
//! A lot that stands in `__karez_lots` is pending; one that does not, and is not newer than the marker, is committed. Lots of one writer are committed in
//! order, so one marker per writer is enough and the table does not grow with time. Every transaction that stages or commits locks the generation's row
//! for sharing, so a newer start, which changes it, waits for those under way and shuts out those to come. A transaction locks the row of each lot it
//! touches: one that is tried again, because its answer was lost, waits for the first to end.

use karez_core::sink::SinkRunContext;
use karez_core::{Error, Generation, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::dialect::Dialect;
use super::driver::Session;
use super::failure::{Failure, Kind};
use super::fit::Fitted;
use super::table::TableName;

/// The column that numbers staged rows.
pub(super) const NUMBER: &str = "__karez_id";
/// The column that says what is done with a staged row; keyed sinks alone.
pub(in super::super) const OP: &str = "__karez_op";

/// What a committable says: which lot, and how to find out what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Lot {
    /// Its staging table.
    pub(super) stage: String,
    pub(super) run: String,
    pub(super) generation: u64,
    pub(super) subtask: usize,
    /// Which of the writer's lots it is.
    pub(super) number: u64,
    /// The number of the next staged row.
    pub(super) next: i64,
    /// Rows staged.
    pub(super) rows: u64,
    /// Transactions that staged them: the rows of one have different keys.
    pub(super) flushes: u64,
    /// Whether any of them deletes.
    pub(super) deletes: bool,
}

impl Lot {
    pub(super) fn new(context: &SinkRunContext, subtask: usize, number: u64) -> Self {
        let (run, generation) = (context.run.0.clone(), context.generation.0);
        let stage = format!("{}{:016x}", prefix(context), hash(&format!("{run}\n{generation}\n{subtask}\n{number}")));
        Self { stage, run, generation, subtask, number, next: 0, rows: 0, flushes: 0, deletes: false }
    }

    pub(super) fn parse(payload: &Value) -> Result<Self> {
        Self::deserialize(payload).map_err(|e| Error::internal("a committable of a jdbc sink cannot be read").caused_by(e))
    }

    pub(super) fn payload(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|e| Error::internal("a committable of a jdbc sink").caused_by(e))
    }
}

/// What the names of a sink's staging tables begin with.
pub(super) fn prefix(context: &SinkRunContext) -> String {
    format!("__karez_stage_{:016x}_", hash(&format!("{}\n{}", context.job, context.node)))
}

/// FNV-1a: stable over versions, which std's hasher does not promise.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The definition of a staging table, `(…)`: the target's types, and what it refuses in single rows, so that rejects show before the barrier.
pub(super) fn definition(dialect: &dyn Dialect, fitted: &Fitted) -> String {
    let keyed = !fitted.key.is_empty();
    let mut lines = vec![format!("{} {}", dialect.quote(NUMBER), dialect.number_type())];
    if keyed {
        lines.push(format!("{} SMALLINT NOT NULL", dialect.quote(OP)));
    }
    // A delete carries its key alone.
    let unless_deleted = |condition: &str| if keyed { format!("({} = 1 OR {condition})", dialect.quote(OP)) } else { format!("({condition})") };
    let mut conditions = Vec::new();
    for (i, column) in fitted.columns.iter().enumerate() {
        let name = dialect.quote(&column.name);
        let bare = !column.not_null || (keyed && !fitted.key.contains(&i));
        lines.push(format!("{name} {}{}", column.declared, if bare { dialect.nullable() } else { " NOT NULL" }));
        if column.not_null && bare {
            conditions.push((format!("{} is NOT NULL", column.name), unless_deleted(&format!("{name} IS NOT NULL"))));
        }
    }
    conditions.extend(fitted.checks.iter().map(|(name, sql)| (name.clone(), unless_deleted(&format!("({sql})")))));
    for (name, condition) in conditions {
        lines.push(dialect.check(&name, &condition));
    }
    format!("({})", lines.join(", "))
}

/// The tables that all sinks of a schema share, and what is done with them.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    schema: Option<String>,
    generations: String,
    lots: String,
    commits: String,
    refused: String,
}

impl Ledger {
    pub(super) fn new(dialect: &dyn Dialect, schema: Option<&str>) -> Self {
        let name = |name: &str| TableName { schema: schema.map(str::to_owned), name: name.to_owned() }.sql(dialect);
        Self {
            generations: name("__karez_generations"),
            lots: name("__karez_lots"),
            commits: name("__karez_commits"),
            refused: name("__karez_refused"),
            schema: schema.map(str::to_owned),
        }
    }

    /// A staging table.
    pub(super) fn stage(&self, lot: &Lot) -> TableName {
        TableName { schema: self.schema.clone(), name: lot.stage.clone() }
    }

    /// Creates the shared tables.
    pub(super) async fn create(&self, session: &mut dyn Session, dialect: &dyn Dialect) -> Result<(), Failure> {
        let (name, text) = (dialect.name_type(), dialect.text_type());
        let statements = [
            format!("{} (run {name} NOT NULL, node {name} NOT NULL, generation BIGINT NOT NULL, PRIMARY KEY (run, node))", self.generations),
            format!(
                "{} (stage {name} NOT NULL, job {name} NOT NULL, node {name} NOT NULL, run {name} NOT NULL, generation BIGINT NOT NULL, subtask BIGINT NOT NULL, \
                 number BIGINT NOT NULL, epoch BIGINT, PRIMARY KEY (stage))",
                self.lots
            ),
            format!(
                "{} (job {name} NOT NULL, node {name} NOT NULL, run {name} NOT NULL, generation BIGINT NOT NULL, subtask BIGINT NOT NULL, number BIGINT NOT NULL, \
                 epoch BIGINT NOT NULL, permit BIGINT NOT NULL, committed_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, \
                 PRIMARY KEY (run, node, generation, subtask))",
                self.commits
            ),
            format!(
                "{} (stage {name} NOT NULL, place BIGINT NOT NULL, node {name} NOT NULL, run {name} NOT NULL, reason {text} NOT NULL, letter {text} NOT NULL, \
                 PRIMARY KEY (stage, place))",
                self.refused
            ),
        ];
        for statement in statements {
            let sql = format!("CREATE TABLE IF NOT EXISTS {statement}");
            let mut created = session.execute(&sql).await;
            if created.as_ref().is_err_and(|f| matches!(f.kind, Kind::Row(_) | Kind::Conflict)) {
                // Another job created it at the same moment.
                created = session.execute(&sql).await;
            }
            created.map_err(|f| f.context("the tables for exactly once cannot be created (`guarantee: at-least-once` needs none)"))?;
        }
        Ok(())
    }

    fn of(dialect: &dyn Dialect, context: &SinkRunContext) -> String {
        format!("run = {} AND node = {}", dialect.literal(&context.run.0), dialect.literal(&context.node))
    }

    /// Takes the run over for a generation, or finds that a newer one has done so. Until the transaction ends no newer one can.
    pub(super) async fn fence(&self, session: &mut dyn Session, dialect: &dyn Dialect, context: &SinkRunContext) -> Result<(), Failure> {
        let Generation(ours) = context.generation;
        let of = Self::of(dialect, context);
        let found = session.query(&format!("SELECT generation FROM {} WHERE {of} {}", self.generations, dialect.for_share())).await?;
        let newest: Option<u64> = found.first().and_then(|r| r.first()?.as_deref()?.parse().ok());
        match newest {
            Some(newest) if newest > ours => Err(Failure::new(
                Kind::Server,
                format!(
                    "run {} was started again (generation {newest}) while this process (generation {ours}) was still writing; this one stops",
                    context.run
                ),
            )),
            Some(newest) if newest == ours => Ok(()),
            Some(_) => {
                session.execute(&format!("UPDATE {} SET generation = {ours} WHERE {of} AND generation < {ours}", self.generations)).await?;
                Ok(())
            }
            None => {
                let values = format!("{}, {}, {ours}", dialect.literal(&context.run.0), dialect.literal(&context.node));
                let inserted = session.execute(&format!("INSERT INTO {} (run, node, generation) VALUES ({values})", self.generations)).await;
                // Somebody else has inserted it just now.
                inserted.map(drop).map_err(|f| if matches!(f.kind, Kind::Row(_)) { Failure::new(Kind::Conflict, f.message) } else { f })
            }
        }
    }

    /// Notes a new lot, once; its table comes after.
    pub(super) async fn open(&self, session: &mut dyn Session, dialect: &dyn Dialect, context: &SinkRunContext, lot: &Lot) -> Result<(), Failure> {
        if self.lock(session, dialect, lot).await? {
            return Ok(());
        }
        let text = |t: &str| dialect.literal(t);
        let sql = format!(
            "INSERT INTO {} (stage, job, node, run, generation, subtask, number) VALUES ({}, {}, {}, {}, {}, {}, {})",
            self.lots,
            text(&lot.stage),
            text(&context.job),
            text(&context.node),
            text(&lot.run),
            lot.generation,
            lot.subtask,
            lot.number,
        );
        session.execute(&sql).await.map(drop)
    }

    /// Locks a lot until the transaction ends; whether it is pending.
    pub(super) async fn lock(&self, session: &mut dyn Session, dialect: &dyn Dialect, lot: &Lot) -> Result<bool, Failure> {
        let sql = format!("SELECT number FROM {} WHERE stage = {} FOR UPDATE", self.lots, dialect.literal(&lot.stage));
        Ok(!session.query(&sql).await?.is_empty())
    }

    /// How many rows of a lot there are.
    pub(super) async fn count(&self, session: &mut dyn Session, dialect: &dyn Dialect, lot: &Lot) -> Result<u64, Failure> {
        let rows = session.query(&format!("SELECT COUNT(*) FROM {}", self.stage(lot).sql(dialect))).await?;
        let count = rows.first().and_then(|r| r.first()?.as_deref()?.parse().ok());
        count.ok_or_else(|| Failure::new(Kind::Server, format!("the rows staged in `{}` cannot be counted", lot.stage)))
    }

    /// From now on a savepoint may name the lot.
    pub(super) async fn seal(&self, session: &mut dyn Session, dialect: &dyn Dialect, lot: &Lot, epoch: u64) -> Result<(), Failure> {
        session.execute(&format!("UPDATE {} SET epoch = {epoch} WHERE stage = {}", self.lots, dialect.literal(&lot.stage))).await.map(drop)
    }

    /// Forgets a lot. Its table goes later, by [`Self::drop_stages`].
    pub(super) async fn forget(&self, session: &mut dyn Session, dialect: &dyn Dialect, stage: &str) -> Result<(), Failure> {
        session.execute(&format!("DELETE FROM {} WHERE stage = {}", self.lots, dialect.literal(stage))).await.map(drop)
    }

    /// Removes staging tables. Outside of a transaction that must not fail: some databases commit before it.
    pub(super) async fn drop_stages(&self, session: &mut dyn Session, dialect: &dyn Dialect, stages: &[String]) -> Result<(), Failure> {
        for some in stages.chunks(50) {
            let names: Vec<String> = some.iter().map(|s| TableName { schema: self.schema.clone(), name: s.clone() }.sql(dialect)).collect();
            session.execute(&format!("DROP TABLE IF EXISTS {}", names.join(", "))).await?;
        }
        Ok(())
    }

    /// Writes the marker of a lot.
    pub(super) async fn mark(
        &self,
        session: &mut dyn Session,
        dialect: &dyn Dialect,
        context: &SinkRunContext,
        lot: &Lot,
        epoch: u64,
        permit: u64,
    ) -> Result<(), Failure> {
        let (text, of) = (|t: &str| dialect.literal(t), self.of_writer(dialect, context, lot));
        let sql = if self.newest_marked(session, dialect, context, lot).await?.is_some() {
            format!(
                "UPDATE {} SET number = {}, epoch = {epoch}, permit = {permit}, committed_at = CURRENT_TIMESTAMP WHERE {of} AND number <= {}",
                self.commits, lot.number, lot.number
            )
        } else {
            format!(
                "INSERT INTO {} (job, node, run, generation, subtask, number, epoch, permit) VALUES ({}, {}, {}, {}, {}, {}, {epoch}, {permit})",
                self.commits,
                text(&context.job),
                text(&context.node),
                text(&lot.run),
                lot.generation,
                lot.subtask,
                lot.number
            )
        };
        session.execute(&sql).await.map(drop)
    }

    fn of_writer(&self, dialect: &dyn Dialect, context: &SinkRunContext, lot: &Lot) -> String {
        format!(
            "run = {} AND node = {} AND generation = {} AND subtask = {}",
            dialect.literal(&lot.run),
            dialect.literal(&context.node),
            lot.generation,
            lot.subtask
        )
    }

    /// The number of the newest lot committed of a lot's writer.
    pub(super) async fn newest_marked(
        &self,
        session: &mut dyn Session,
        dialect: &dyn Dialect,
        context: &SinkRunContext,
        lot: &Lot,
    ) -> Result<Option<u64>, Failure> {
        let sql = format!("SELECT number FROM {} WHERE {}", self.commits, self.of_writer(dialect, context, lot));
        Ok(session.query(&sql).await?.first().and_then(|r| r.first()?.as_deref()?.parse().ok()))
    }

    /// Whether a commit of this run had a permit for the epoch or a later one.
    pub(super) async fn is_committed(
        &self,
        session: &mut dyn Session,
        dialect: &dyn Dialect,
        context: &SinkRunContext,
        epoch: u64,
    ) -> Result<bool, Failure> {
        let sql = format!("SELECT 1 FROM {} WHERE {} AND permit >= {epoch} LIMIT 1", self.commits, Self::of(dialect, context));
        Ok(!session.query(&sql).await?.is_empty())
    }

    /// Keeps a row that the table refused at its commit.
    pub(super) async fn refuse(
        &self,
        session: &mut dyn Session,
        dialect: &dyn Dialect,
        context: &SinkRunContext,
        lot: &Lot,
        (place, reason, letter): (i64, &str, &str),
    ) -> Result<(), Failure> {
        let text = |t: &str| dialect.literal(t);
        let sql = format!(
            "INSERT INTO {} (stage, place, node, run, reason, letter) VALUES ({}, {place}, {}, {}, {}, {})",
            self.refused,
            text(&lot.stage),
            text(&context.node),
            text(&context.run.0),
            text(reason),
            text(letter)
        );
        session.execute(&sql).await.map(drop)
    }

    /// The rows of a lot that the table refused: why, and as JSON.
    pub(super) async fn refused(&self, session: &mut dyn Session, dialect: &dyn Dialect, lot: &Lot) -> Result<Vec<(String, String)>, Failure> {
        let sql = format!("SELECT reason, letter FROM {} WHERE stage = {} ORDER BY place", self.refused, dialect.literal(&lot.stage));
        let text = |v: &mut Option<String>| v.take().unwrap_or_default();
        Ok(session.query(&sql).await?.iter_mut().map(|r| (text(&mut r[0]), text(&mut r[1]))).collect())
    }

    /// Refused rows of lots that are not asked for any more have become letters.
    pub(super) async fn forget_refused(
        &self,
        session: &mut dyn Session,
        dialect: &dyn Dialect,
        context: &SinkRunContext,
        asked: &[&str],
    ) -> Result<(), Failure> {
        let kept = session.query(&format!("SELECT DISTINCT stage FROM {} WHERE {}", self.refused, Self::of(dialect, context))).await?;
        for stage in kept.iter().filter_map(|r| r.first()?.as_deref()).filter(|s| !asked.contains(s)) {
            session.execute(&format!("DELETE FROM {} WHERE stage = {}", self.refused, dialect.literal(stage))).await?;
        }
        Ok(())
    }

    /// Forgets what older generations of this run staged and no manifest names (`keep`), and what other runs of this job staged and never sealed: no
    /// manifest and no savepoint names that, so nobody can commit it. Sealed lots of other runs stay, since a savepoint may name them.
    ///
    /// Such a run was abandoned (`--fresh`), as far as can be seen from here. Should it be alive after all, under another state directory, its generation
    /// is counted up, so that it stops at its next transaction and goes on from its checkpoint.
    pub(super) async fn forget_leftovers(
        &self,
        session: &mut dyn Session,
        dialect: &dyn Dialect,
        context: &SinkRunContext,
        keep: &[String],
    ) -> Result<(), Failure> {
        let (run, node, job) = (dialect.literal(&context.run.0), dialect.literal(&context.node), dialect.literal(&context.job));
        let older = format!("SELECT stage FROM {} WHERE run = {run} AND node = {node} AND generation < {}", self.lots, context.generation.0);
        for stage in session.query(&older).await?.iter().filter_map(|r| r.first()?.clone()).filter(|s| !keep.contains(s)) {
            self.forget(session, dialect, &stage).await?;
        }
        let abandoned = format!("job = {job} AND node = {node} AND run <> {run} AND epoch IS NULL");
        let runs = session.query(&format!("SELECT DISTINCT run FROM {} WHERE {abandoned}", self.lots)).await?;
        for other in runs.iter().filter_map(|r| r.first()?.as_deref()) {
            let other = dialect.literal(other);
            session.execute(&format!("UPDATE {} SET generation = generation + 1 WHERE run = {other} AND node = {node}", self.generations)).await?;
        }
        session.execute(&format!("DELETE FROM {} WHERE {abandoned}", self.lots)).await.map(drop)
    }

    /// Drops the staging tables of a sink that belong to no lot.
    pub(super) async fn drop_orphans(&self, session: &mut dyn Session, dialect: &dyn Dialect, context: &SinkRunContext) -> Result<(), Failure> {
        // Tables first: a lot is noted before its table is made, so one that is made meanwhile is not taken for an orphan.
        let tables = session.own_tables(self.schema.as_deref(), &prefix(context)).await?;
        let lots = session.query(&format!("SELECT stage FROM {} WHERE node = {}", self.lots, dialect.literal(&context.node))).await?;
        let known: Vec<&str> = lots.iter().filter_map(|r| r.first()?.as_deref()).collect();
        let orphans: Vec<String> = tables.into_iter().filter(|t| !known.contains(&t.as_str())).collect();
        self.drop_stages(session, dialect, &orphans).await
    }
}
