//! Whether rows fit a table, and in words what does not.

use arrow::datatypes::{FieldRef, Schema};
use karez_core::error::did_you_mean;
use karez_core::sql_type;

use super::super::dialect::Dialect;
use super::driver::{Driver, Session};
use super::failure::{Failure, Kind};
use super::sink::SinkPlan;
use super::table::{Column, Table, TableName};

/// A table and how the rows of a sink go into it.
#[derive(Clone, Debug)]
pub(super) struct Fitted {
    pub(super) table: TableName,
    /// The columns written, in the order of the input.
    pub(super) columns: Vec<Column>,
    /// Places of the key among the columns.
    pub(super) key: Vec<usize>,
    /// Conditions on single rows that name columns written, and no others.
    pub(super) checks: Vec<(String, String)>,
}

impl Fitted {
    /// The columns, quoted.
    pub(super) fn quoted(&self, dialect: &dyn Dialect) -> Vec<String> {
        self.columns.iter().map(|c| dialect.quote(&c.name)).collect()
    }

    /// The key, quoted.
    pub(super) fn quoted_key(&self, dialect: &dyn Dialect) -> Vec<String> {
        self.key.iter().map(|&k| dialect.quote(&self.columns[k].name)).collect()
    }
}

/// The failure for a table that is not there.
pub(super) fn missing(plan: &SinkPlan, driver: &dyn Driver, others: &[String]) -> Failure {
    let near = did_you_mean(&plan.table.name, others.iter().map(String::as_str)).map_or_else(String::new, |n| format!(" (did you mean `{n}`?)"));
    Failure::new(
        Kind::User,
        format!(
            "there is no table `{}` in `{}`{near}; set `createTable: true`, or create it:\n{};",
            plan.table,
            driver.settings().place(),
            create_table(plan, driver.dialect())
        ),
    )
}

/// The statement that creates the table of a sink.
pub(super) fn create_table(plan: &SinkPlan, dialect: &dyn Dialect) -> String {
    dialect.create_table(&plan.table.sql(dialect), &plan.input, &plan.key)
}

/// The columns of the rows that the table lacks.
pub(super) fn lacking<'a>(input: &'a Schema, table: &Table) -> Vec<&'a FieldRef> {
    input.fields().iter().filter(|f| table.column(f.name()).is_none()).collect()
}

/// Refuses what the server can make no column for.
pub(super) fn can_be_made<'a>(fields: impl IntoIterator<Item = &'a FieldRef>, session: &dyn Session) -> Result<(), Failure> {
    let refused = |field: &FieldRef| {
        let why = session.cannot_hold(field.data_type())?;
        Some(format!("column `{}` ({}): {why}", field.name(), sql_type::to_sql(field.data_type())))
    };
    let refused: Vec<String> = fields.into_iter().filter_map(refused).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let advice = "cast it in a `map`, or create the column as you want it: values that do not fit in are bad records";
    Err(Failure::new(Kind::User, format!("the table cannot be made (`createTable`, `evolveTable`): {}; {advice}", refused.join("; "))))
}

/// Finds the place of each column of the input; the failure names all that does not fit.
pub(super) fn fit(plan: &SinkPlan, table: &Table, driver: &dyn Driver) -> Result<Fitted, Failure> {
    let dialect = driver.dialect();
    let mut problems = Vec::new();
    if table.is_view {
        problems.push("it is a view; rows go into tables".to_owned());
    }
    problems.extend(table.unwritable.clone());
    let mut columns: Vec<Column> = Vec::new();
    for field in plan.input.fields() {
        match table.column(field.name()) {
            Some(c) if c.generated => problems.push(format!("column `{}` is computed by the database; leave it out with a `map`", c.name)),
            Some(c) if columns.iter().any(|d| d.name == c.name) => problems.push(format!("two columns of the rows go into its column `{}`", c.name)),
            Some(c) => {
                if let Err(why) = driver.writes(field.data_type(), c) {
                    problems.push(format!("column `{}` ({}): {why}", c.name, c.declared));
                }
                columns.push(c.clone());
            }
            None => {
                let free = table.columns.iter().map(|c| c.name.as_str()).filter(|c| plan.input.column_with_name(c).is_none());
                let advice = match did_you_mean(field.name(), free) {
                    Some(near) => format!("did you mean `{near}`? Rename it with a `map`"),
                    None => format!(
                        "add it (ALTER TABLE {} ADD COLUMN {} {}), set `evolveTable: true`, or leave it out with a `map`",
                        table.name.sql(dialect),
                        dialect.quote(field.name()),
                        dialect.column_type(field.data_type())
                    ),
                };
                problems.push(format!("it has no column `{}`: {advice}", field.name()));
            }
        }
    }
    let written = |name: &str| columns.iter().any(|c| c.name == name);
    for c in &table.columns {
        if c.not_null && !c.has_default && !c.generated && !written(&c.name) {
            problems.push(format!("its column `{}` is NOT NULL and has no default, but the rows have no such column; add it with a `map`", c.name));
        }
    }
    let place = |k: &String| plan.input.fields().iter().position(|f| f.name() == k);
    let key: Vec<usize> = plan.key.iter().filter_map(place).collect();
    if problems.is_empty() && !key.is_empty() {
        let names: Vec<String> = key.iter().map(|&k| columns[k].name.clone()).collect();
        if !table.is_unique(&names) {
            let list = dialect.list(&mut names.iter().map(String::as_str));
            problems.push(format!(
                "nothing says that ({list}) identifies a row, which an upsert needs: CREATE UNIQUE INDEX {} ON {} ({list})",
                dialect.quote(&format!("{}_key", table.name.name)),
                table.name.sql(dialect)
            ));
        }
    }
    if !problems.is_empty() {
        let place = driver.settings().place();
        return Err(Failure::new(Kind::User, format!("the rows do not fit table `{}` of `{place}`: {}", plan.table, problems.join("; "))));
    }
    // What a condition says of a column that the rows do not have, its default decides: seen at the commit.
    let others: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).filter(|n| !written(n)).collect();
    let checks = table.checks.iter().filter(|(_, sql)| !others.iter().any(|o| sql.contains(o))).cloned().collect();
    Ok(Fitted { table: table.name.clone(), columns, key, checks })
}
