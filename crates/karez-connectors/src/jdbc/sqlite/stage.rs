//! What a transactional sink keeps in the database beside its table.
//!
//! ```text
//!  __karez_stage_HASH   rows that wait for their commit, one table per sink and shape of its rows; id = lot << 32 | number in the lot
//!  __karez_lots         a lot: what one subtask staged between two barriers; sealed (it has an epoch) at the second; its row goes when it is
//!                       committed or thrown away
//!  __karez_commits      the marker: the newest lot committed of each (run, node, generation, subtask), its epoch, and the permit it was committed by
//!  __karez_refused      rows that the table refused at their commit, until the next commit of the sink: a repeated commit names them again
//!  __karez_generations  the newest start of a run: an older one can neither stage nor commit
//! ```
//! A lot that stands in `__karez_lots` is pending; one that does not, and is not newer than the marker, is committed. Lots of one writer are committed
//! in order, so one marker per writer is enough and the table does not grow with time.

use std::collections::BTreeSet;

use karez_core::sink::SinkRunContext;
use karez_core::{Error, Generation, Result};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::dialect::Dialect;
use super::Sqlite;
use super::connection::ours;
use super::fit::Fitted;

/// Bits of a staged row's id that number it in its lot.
const ROW_BITS: u32 = 32;

/// The most rows of a lot.
pub(super) const MAX_LOT_ROWS: i64 = 1 << ROW_BITS;

/// What a committable says: which lot, and how to find out what became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Lot {
    pub(super) id: i64,
    pub(super) stage: String,
    pub(super) run: String,
    pub(super) generation: u64,
    pub(super) subtask: usize,
    pub(super) rows: i64,
}

impl Lot {
    pub(super) fn parse(payload: &Value) -> Result<Self> {
        Self::deserialize(payload).map_err(|e| Error::internal("a committable of a jdbc sink cannot be read").caused_by(e))
    }

    pub(super) fn payload(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|e| Error::internal("a committable of a jdbc sink").caused_by(e))
    }

    /// The id of a row of the lot.
    pub(super) const fn row_id(&self, row: i64) -> i64 {
        (self.id << ROW_BITS) + row
    }
}

/// Creates the tables that all sinks of a database share.
pub(super) fn create_shared(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS __karez_generations (run TEXT NOT NULL, node TEXT NOT NULL, generation INTEGER NOT NULL, PRIMARY KEY (run, node));
         CREATE TABLE IF NOT EXISTS __karez_lots (id INTEGER PRIMARY KEY AUTOINCREMENT, stage TEXT NOT NULL, job TEXT NOT NULL, node TEXT NOT NULL,
            run TEXT NOT NULL, generation INTEGER NOT NULL, subtask INTEGER NOT NULL, epoch INTEGER);
         CREATE TABLE IF NOT EXISTS __karez_commits (job TEXT NOT NULL, node TEXT NOT NULL, run TEXT NOT NULL, generation INTEGER NOT NULL,
            subtask INTEGER NOT NULL, lot INTEGER NOT NULL, epoch INTEGER NOT NULL, permit INTEGER NOT NULL, committed_at TEXT NOT NULL,
            PRIMARY KEY (run, node, generation, subtask));
         CREATE TABLE IF NOT EXISTS __karez_refused (lot INTEGER NOT NULL, row INTEGER NOT NULL, node TEXT NOT NULL, run TEXT NOT NULL,
            reason TEXT NOT NULL, json TEXT NOT NULL, PRIMARY KEY (lot, row));",
    )
}

/// The name of a sink's staging table: another shape of the rows is another table, so that what an older job staged can still be committed.
pub(super) fn name(context: &SinkRunContext, fitted: &Fitted) -> String {
    let shape = format!("{}\n{}\n{}", context.job, context.node, definition(fitted));
    // FNV-1a: stable over versions, which std's hasher does not promise.
    let hash = shape.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("__karez_stage_{hash:016x}")
}

fn definition(fitted: &Fitted) -> String {
    let mut lines = vec!["\"__karez_id\" INTEGER PRIMARY KEY".to_owned(), "\"__karez_op\" INTEGER NOT NULL".to_owned()];
    for (i, column) in fitted.columns.iter().enumerate() {
        let name = Sqlite.quote(&column.name);
        let mut line = format!("{name} {}", column.declared);
        if column.not_null && fitted.key.contains(&i) {
            line.push_str(" NOT NULL");
        } else if column.not_null {
            // A delete carries its key alone.
            line.push_str(&format!(
                " CONSTRAINT {} CHECK (\"__karez_op\" = 1 OR {name} IS NOT NULL)",
                Sqlite.quote(&format!("{} is NOT NULL", column.name))
            ));
        }
        if column.is_rowid {
            line.push_str(&format!(
                " CONSTRAINT {} CHECK (typeof({name}) IN ('integer', 'null'))",
                Sqlite.quote(&format!("{} is an integer", column.name))
            ));
        }
        lines.push(line);
    }
    format!("({}){}", lines.join(", "), if fitted.strict { " STRICT" } else { "" })
}

/// Creates a sink's staging table.
pub(super) fn create(connection: &Connection, stage: &str, fitted: &Fitted) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("CREATE TABLE IF NOT EXISTS {} {}", Sqlite.quote(stage), definition(fitted)))
}

/// The columns of a staging table that are the target's.
pub(super) fn columns(connection: &Connection, stage: &str) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare("SELECT name FROM pragma_table_info(?1) WHERE name NOT IN ('__karez_id', '__karez_op') ORDER BY cid")?
        .query_map([stage], |r| r.get(0))?
        .collect()
}

/// Takes the run over for a generation, or finds that a newer one has done so.
pub(super) fn fence(transaction: &Transaction<'_>, context: &SinkRunContext) -> rusqlite::Result<()> {
    let Generation(ours_is) = context.generation;
    let newest: Option<u64> = transaction
        .prepare_cached("SELECT generation FROM __karez_generations WHERE run = ?1 AND node = ?2")?
        .query_row(params![context.run.0, context.node], |r| r.get(0))
        .optional()?;
    match newest {
        Some(newest) if newest > ours_is => Err(ours(Error::external(format!(
            "run {} was started again (generation {newest}) while this process (generation {ours_is}) was still writing; this one stops",
            context.run
        )))),
        Some(newest) if newest == ours_is => Ok(()),
        _ => {
            let sql = "INSERT INTO __karez_generations (run, node, generation) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET generation = excluded.generation";
            transaction.execute(sql, params![context.run.0, context.node, ours_is]).map(drop)
        }
    }
}

/// Throws away what older generations of this run staged and no manifest names (`keep`).
pub(super) fn remove_leftovers(transaction: &Transaction<'_>, context: &SinkRunContext, keep: &[i64]) -> rusqlite::Result<()> {
    let sql = "SELECT id, stage FROM __karez_lots WHERE run = ?1 AND node = ?2 AND generation < ?3";
    let lots = transaction
        .prepare(sql)?
        .query_map(params![context.run.0, context.node, context.generation.0], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?)))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    for (id, stage) in lots.into_iter().filter(|(id, _)| !keep.contains(id)) {
        remove(transaction, id, &stage)?;
    }
    Ok(())
}

/// Throws away what other runs of this job staged and never sealed: no manifest and no savepoint names it, so nobody can commit it. Sealed lots stay,
/// since a savepoint may name them.
///
/// Such a run was abandoned (`--fresh`), as far as can be seen from here. Should it be alive after all, under another state directory, the lot must
/// not be committed without the rows removed: its generation is counted up, so that it stops at its next transaction and goes on from its checkpoint.
pub(super) fn remove_abandoned(transaction: &Transaction<'_>, context: &SinkRunContext) -> rusqlite::Result<()> {
    let sql = "SELECT id, stage, run, EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = stage) FROM __karez_lots
               WHERE job = ?1 AND node = ?2 AND run <> ?3 AND epoch IS NULL";
    let lots = transaction
        .prepare(sql)?
        .query_map(params![context.job, context.node, context.run.0], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?
        .collect::<rusqlite::Result<Vec<(i64, String, String, bool)>>>()?;
    let runs: BTreeSet<&str> = lots.iter().map(|(_, _, run, _)| run.as_str()).collect();
    for run in runs {
        let sql = "UPDATE __karez_generations SET generation = generation + 1 WHERE run = ?1 AND node = ?2";
        transaction.execute(sql, params![run, context.node])?;
    }
    for (id, stage, _, has_rows) in lots {
        if has_rows {
            remove(transaction, id, &stage)?;
        } else {
            forget(transaction, id)?;
        }
    }
    Ok(())
}

/// Removes a lot and its rows.
pub(super) fn remove(transaction: &Transaction<'_>, lot: i64, stage: &str) -> rusqlite::Result<()> {
    let (first, last) = (lot << ROW_BITS, (lot << ROW_BITS) + (MAX_LOT_ROWS - 1));
    transaction.prepare_cached(&format!("DELETE FROM {} WHERE __karez_id BETWEEN ?1 AND ?2", Sqlite.quote(stage)))?.execute([first, last])?;
    forget(transaction, lot)
}

fn forget(transaction: &Transaction<'_>, lot: i64) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM __karez_lots WHERE id = ?1")?.execute([lot]).map(drop)
}
