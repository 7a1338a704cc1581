//! Which rows can still appear below a bound.
//!
//! MySQL has no snapshot that names the running transactions, as PostgreSQL has. So a bound is taken (the greatest value there is) and read up to only
//! when it is old enough: whoever was given a smaller value had it before the bound was seen, and has committed since unless its transaction took longer
//! than `visibilityDelay` and the length of an instant of the column. Where the user may see the running transactions (right PROCESS) and the delay is not set by hand, those that had changed rows
//! when the bound was taken are waited for as well, however long they take.

use super::super::dialect::Dialect;
use super::super::server::driver::{Candidate, Growth, Session};
use super::super::server::failure::{Failure, Kind as FailureKind};
use super::super::server::scan::literal;
use super::VISIBILITY_DELAY_MS;
use super::dialect::MySql;
use super::session::MySqlSession;
use super::types::Kind;

/// The newest bound; `None` where there is nothing new.
pub(super) async fn candidate(session: &mut MySqlSession, growth: &Growth<'_>, now_ms: i64) -> Result<Option<Candidate>, Failure> {
    let column = MySql.quote(&growth.column.name);
    let after = growth.after.map(|after| literal(&MySql, growth.column, after));
    // Where the rows of the latest instant are looked at again, those that have come since count, too.
    let new = match (&after, growth.seen) {
        (None, _) => String::new(),
        (Some(after), None) => format!(" WHERE {column} > {after}"),
        (Some(after), Some(seen)) => {
            let at_after = format!("(SELECT COUNT(*) FROM {} WHERE {column} = {after})", growth.from);
            format!(" WHERE {column} > {after} OR {column} = {after} AND {at_after} <> {seen}")
        }
    };
    let greatest = session.query(&format!("SELECT MAX({column}) FROM {}{new}", growth.from)).await?;
    let Some(Some(greatest)) = greatest.into_iter().next().and_then(|row| row.into_iter().next()) else { return Ok(None) };
    let waits_for = if growth.visibility_delay_ms.is_none() { writers(session).await? } else { Vec::new() };
    let bound = MySql.typed(&MySql.literal(&greatest), &growth.column.declared);
    Ok(Some(Candidate { bound, inclusive: true, waits_for, taken_ms: now_ms }))
}

/// Whether a bound may be read up to.
pub(super) async fn is_settled(session: &mut MySqlSession, candidate: &mut Candidate, growth: &Growth<'_>, now_ms: i64) -> Result<bool, Failure> {
    let delay_ms = growth.visibility_delay_ms.unwrap_or(VISIBILITY_DELAY_MS).saturating_add(tick_ms(&growth.column.declared));
    if now_ms.saturating_sub(candidate.taken_ms) < delay_ms {
        return Ok(false);
    }
    if !candidate.waits_for.is_empty() {
        let running = writers(session).await?;
        candidate.waits_for.retain(|t| running.contains(t));
    }
    Ok(candidate.waits_for.is_empty())
}

/// How long an instant lasts in a column: rows that come within it have the same value.
fn tick_ms(declared: &str) -> i64 {
    match Kind::parse(declared) {
        Kind::Date => 86_400_000,
        Kind::DateTime(digits) | Kind::Timestamp(digits) => 1_000 / 10_i64.pow(u32::from(digits.min(3))),
        _ => 0,
    }
}

/// The running transactions that have changed rows, as far as they may be seen.
async fn writers(session: &mut MySqlSession) -> Result<Vec<String>, Failure> {
    // Not `information_schema.innodb_trx`: that is a copy, not made anew while somebody asks for it more than ten times a second.
    match session.query("SHOW ENGINE INNODB STATUS").await {
        Ok(rows) => Ok(rows.first().and_then(|row| row.get(2)?.as_deref()).map(writers_in).unwrap_or_default()),
        // Without the right, or InnoDB, the delay alone must do.
        Err(f) if matches!(f.kind, FailureKind::User | FailureKind::Server) => Ok(Vec::new()),
        Err(f) => Err(f),
    }
}

/// The numbers of transactions that have changed rows, in the words of InnoDB's monitor:
///
/// ```text
/// ---TRANSACTION 9846, ACTIVE 0 sec
/// 1 lock struct(s), heap size 1128, 0 row lock(s), undo log entries 1
/// ```
fn writers_in(status: &str) -> Vec<String> {
    let mut number = None;
    let mut writers = Vec::new();
    for line in status.lines() {
        if let Some(transaction) = line.strip_prefix("---TRANSACTION ") {
            number = transaction.split_once(", ACTIVE").map(|(number, _)| number.to_owned());
        } else if line.contains("undo log entries") {
            writers.extend(number.take());
        }
    }
    writers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_that_changed_nothing_are_not_waited_for() {
        let status = "LIST OF TRANSACTIONS FOR EACH SESSION:\n---TRANSACTION 421387235826096, not started\n0 lock struct(s), heap size 1128, 0 row lock(s)\n\
                      ---TRANSACTION 9846, ACTIVE 0 sec\n1 lock struct(s), heap size 1128, 0 row lock(s), undo log entries 1\n\
                      ---TRANSACTION 9847, ACTIVE 7 sec fetching rows\n1 lock struct(s), heap size 1128, 5 row lock(s)\n\
                      ---TRANSACTION 9848, ACTIVE (PREPARED) 8 sec\n2 lock struct(s), heap size 1128, 1 row lock(s), undo log entries 12\n";
        assert_eq!(writers_in(status), ["9846", "9848"]);
    }

    #[test]
    fn rows_of_one_instant_may_still_come_until_it_is_over() {
        assert_eq!(["date", "datetime", "timestamp(2)", "datetime(6)", "bigint"].map(tick_ms), [86_400_000, 1_000, 10, 1, 0]);
    }
}
