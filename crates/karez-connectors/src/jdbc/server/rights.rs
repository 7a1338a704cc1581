//! Whether the user may do what a sink will do, found out before the job starts: by statements that the server looks at and does not run.

use super::super::dialect::Dialect;
use super::super::options::GuaranteeOption;
use super::driver::{Driver, Session};
use super::failure::Failure;
use super::fit::Fitted;
use super::sink::SinkPlan;

/// Looks at the rights to write to a table, and to make what stands beside it.
pub(super) async fn check(plan: &SinkPlan, session: &mut dyn Session, driver: &dyn Driver, fitted: &Fitted) -> Result<(), Failure> {
    for sql in writes(plan, driver.dialect(), fitted) {
        session.may_run(&sql).await.map_err(|f| f.context(&format!("rows cannot be written to `{}`", plan.table)))?;
    }
    beside(plan, session, fitted.table.schema.as_deref()).await
}

/// The same where the table is yet to be made.
pub(super) async fn check_missing(plan: &SinkPlan, session: &mut dyn Session) -> Result<(), Failure> {
    let schema = plan.table.schema.as_deref();
    session.may_create(schema, false).await.map_err(|f| f.context(&format!("`{}` cannot be created (`createTable`)", plan.table)))?;
    beside(plan, session, schema).await
}

/// Staging tables and markers, or the table of one connection through which an upsert goes.
async fn beside(plan: &SinkPlan, session: &mut dyn Session, schema: Option<&str>) -> Result<(), Failure> {
    if plan.guarantee == GuaranteeOption::Transactional {
        let schema = plan.staging_schema.as_deref().or(schema);
        let why = "the tables for exactly once cannot be created (`stagingSchema` says where, `guarantee: at-least-once` needs none)";
        session.may_create(schema, false).await.map_err(|f| f.context(why))
    } else if plan.key.is_empty() {
        Ok(())
    } else {
        session.may_create(None, true).await.map_err(|f| f.context("an upsert goes through a temporary table, which cannot be created"))
    }
}

/// The statements by which rows go into the table, with a row of nulls.
fn writes(plan: &SinkPlan, dialect: &dyn Dialect, fitted: &Fitted) -> Vec<String> {
    let (table, columns, key) = (fitted.table.sql(dialect), fitted.quoted(dialect), fitted.quoted_key(dialect));
    let nulls = |places: &mut dyn Iterator<Item = usize>| {
        let null = |at: usize| format!("{} AS {}", dialect.typed("NULL", &fitted.columns[at].declared), columns[at]);
        format!("SELECT {}", places.map(null).collect::<Vec<_>>().join(", "))
    };
    let mut statements = vec![dialect.insert_select(&table, &columns, &key, &nulls(&mut (0..columns.len())))];
    if plan.deletes {
        statements.push(dialect.delete_in(&table, &key, &nulls(&mut fitted.key.iter().copied())));
    }
    statements
}
