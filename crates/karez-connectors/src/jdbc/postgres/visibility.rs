//! Which rows can still appear below others that are visible already.
//!
//! Numbers come from a sequence in the order in which they are asked for, rows become visible in the order of commits: a transaction that took 5 may
//! commit after one that took 6. Transaction ids do not tell: the one of 6 may have the smaller id, when it wrote elsewhere first. What does is that a
//! statement locks the table it inserts into (`ROW EXCLUSIVE`, to the end of its transaction) before it takes a number, and `nextval` locks the sequence in
//! the same way. So, for numbers:
//!
//! 1. read the greatest visible number, *then* which transactions hold such a lock on the table, its partitions and parents, or its sequences. Whoever has
//!    taken a smaller number that is not visible is among them (a transaction's rows become visible before its locks go);
//! 2. once all of these have ended, however long newer ones go on, every number up to the bound that will ever be visible is.
//!
//! A query or view may read any table: there all transactions count that hold such a lock on any table of the database.
//!
//! Instants are taken at the start of a transaction (`now()`), before it locks anything, so all transactions of the database that were running when the
//! clock was read count, read-only ones too: nobody can know that they will not write. The bound is that reading of the clock, in the column's precision.
//!
//! What this cannot see: numbers that are not taken when their row is written (typed in by hand, handed out in blocks by a sequence with CACHE or by an
//! application's own allocator), and instants that are set by a clock that is not the server's. `visibilityDelay` is for those.

use super::super::dialect::Dialect;
use super::super::keyset::KeyValue;
use super::super::server::driver::{Candidate, Growth, Session};
use super::super::server::failure::{Failure, Kind};
use super::PostgresDialect;
use super::session::PgSession;

/// Locks of those who change rows, or could.
const WRITES: &str = "('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')";

fn one(rows: &[Vec<Option<String>>]) -> Option<&str> {
    rows.first()?.first()?.as_deref()
}

/// The newest bound of a growing column.
pub(super) async fn candidate(session: &mut PgSession, growth: &Growth<'_>, now_ms: i64) -> Result<Option<Candidate>, Failure> {
    if growth.visibility_delay_ms.is_none() {
        refuse_blindness(session, growth).await?;
    }
    let column = PostgresDialect.quote(&growth.column.name);
    let of_type = &growth.column.declared;
    let literal = |text: &str| format!("CAST({} AS {of_type})", PostgresDialect.literal(text));
    let sql = if growth.is_timestamp {
        let delay = growth.visibility_delay_ms.unwrap_or(0);
        format!("SELECT CAST(clock_timestamp() - {delay} * interval '1 millisecond' AS {of_type})")
    } else {
        let behind = match growth.after {
            None => String::new(),
            Some(KeyValue::Integer(after)) => format!(" WHERE {column} > {after}"),
            Some(other) => format!(" WHERE {column} > {}", literal(&other.to_string())),
        };
        format!(
            "SELECT {column} FROM {}{behind}{} ORDER BY {column} DESC LIMIT 1",
            growth.from,
            if behind.is_empty() { format!(" WHERE {column} IS NOT NULL") } else { String::new() }
        )
    };
    let rows = session.query(&sql).await?;
    let Some(bound) = one(&rows).map(literal) else { return Ok(None) };
    let waits_for = if growth.is_timestamp && growth.visibility_delay_ms.is_some() { Vec::new() } else { running(session, growth).await? };
    Ok(Some(Candidate { bound, inclusive: growth.inclusive, waits_for, taken_ms: now_ms }))
}

/// Whether every transaction that a candidate waits for has ended.
pub(super) async fn is_settled(session: &mut PgSession, candidate: &mut Candidate, growth: &Growth<'_>, now_ms: i64) -> Result<bool, Failure> {
    if !candidate.waits_for.is_empty() {
        let running = running(session, growth).await?;
        candidate.waits_for.retain(|t| running.contains(t));
    }
    // With a delay numbers wait for their transactions and for the time: blocks of numbers that were handed out before.
    let delay = if growth.is_timestamp { 0 } else { growth.visibility_delay_ms.unwrap_or(0) };
    Ok(candidate.waits_for.is_empty() && now_ms >= candidate.taken_ms.saturating_add(delay))
}

/// The transactions that may still bring rows below a bound.
async fn running(session: &mut PgSession, growth: &Growth<'_>) -> Result<Vec<String>, Failure> {
    let sql = if growth.is_timestamp {
        // Processes without a user (autovacuum, checkpointer) write no rows.
        "SELECT l.virtualtransaction FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'virtualxid' AND a.datname = current_database() AND a.usesysid IS NOT NULL AND l.pid <> pg_backend_pid() \
         UNION ALL SELECT 'prepared ' || transaction FROM pg_prepared_xacts WHERE database = current_database()"
            .to_owned()
    } else {
        let relations = match growth.table {
            None => "l.relation >= 16384".to_owned(),
            Some(table) => {
                let table = PostgresDialect.literal(&table.sql(&PostgresDialect));
                format!(
                    "l.relation IN (WITH RECURSIVE below(oid) AS (SELECT to_regclass({table})::oid \
                       UNION SELECT i.inhrelid FROM pg_inherits i JOIN below b ON i.inhparent = b.oid), \
                     above(oid) AS (SELECT to_regclass({table})::oid UNION SELECT i.inhparent FROM pg_inherits i JOIN above a ON i.inhrelid = a.oid), \
                     tables(oid) AS (SELECT oid FROM below UNION SELECT oid FROM above) \
                     SELECT oid FROM tables \
                     UNION SELECT d.objid FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' \
                       WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid IN (SELECT oid FROM tables) \
                     UNION SELECT d.refobjid FROM pg_attrdef f JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid \
                       JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S' \
                       WHERE d.refclassid = 'pg_class'::regclass AND f.adrelid IN (SELECT oid FROM tables))"
                )
            }
        };
        format!(
            "SELECT DISTINCT l.virtualtransaction FROM pg_locks l WHERE l.locktype = 'relation' AND l.granted AND l.mode IN {WRITES} \
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.pid IS DISTINCT FROM pg_backend_pid() \
             AND {relations}"
        )
    };
    Ok(session.query(&sql).await?.into_iter().filter_map(|mut r| r.pop().flatten()).collect())
}

/// Refuses what would make the method above miss rows without anybody noticing.
async fn refuse_blindness(session: &mut PgSession, growth: &Growth<'_>) -> Result<(), Failure> {
    let advice = "set `visibilityDelay` to a time within which every transaction ends";
    let rows = session.query("SELECT pg_is_in_recovery()").await?;
    if one(&rows) == Some("t") {
        let why = "the server is a standby, which does not know the transactions that are running on the primary";
        return Err(Failure::new(Kind::User, format!("{why}; read from the primary, or {advice}")));
    }
    if let (Some(table), false) = (growth.table, growth.is_timestamp) {
        let table = PostgresDialect.literal(&table.sql(&PostgresDialect));
        let column = PostgresDialect.literal(&growth.column.name);
        let rows = session
            .query(&format!(
                "SELECT s.seqrelid::regclass, s.seqcache FROM pg_sequence s \
                 WHERE s.seqrelid = pg_get_serial_sequence({table}, {column})::regclass AND (s.seqcache > 1 OR s.seqcycle OR s.seqincrement < 0)"
            ))
            .await?;
        if let Some(name) = one(&rows) {
            let why =
                format!("the sequence `{name}` of `{}` does not give its numbers in order (CACHE above 1, CYCLE, or downwards)", growth.column.name);
            return Err(Failure::new(Kind::User, format!("{why}: ALTER SEQUENCE {name} CACHE 1, or {advice}")));
        }
    }
    Ok(())
}
