//! Whether rows fit a table, and in words what does not.

use arrow::datatypes::{DataType, Schema};
use karez_core::Error;
use karez_core::error::did_you_mean;

use super::super::dialect::Dialect;
use super::Sqlite;
use super::sink::SinkPlan;
use super::table::Table;
use super::types::{self, Affinity};

/// A table and how the rows of a sink go into it.
#[derive(Clone, Debug)]
pub(super) struct Fitted {
    pub(super) table: String,
    /// The columns written, in the order of the input, as the table names them.
    pub(super) columns: Vec<FittedColumn>,
    /// The key as the table names it, and where it is among the columns.
    pub(super) key: Vec<usize>,
    pub(super) strict: bool,
    /// Rows must be tried on the table itself, because its description does not say all that it refuses.
    pub(super) has_checks: bool,
}

#[derive(Clone, Debug)]
pub(super) struct FittedColumn {
    pub(super) name: String,
    pub(super) declared: String,
    pub(super) affinity: Affinity,
    pub(super) not_null: bool,
    /// Another name of the rowid: takes integers alone.
    pub(super) is_rowid: bool,
}

impl Fitted {
    /// The names of the columns, quoted.
    pub(super) fn column_list(&self) -> String {
        Sqlite.list(&mut self.columns.iter().map(|c| c.name.as_str()))
    }

    /// The names of the key, quoted.
    pub(super) fn key_list(&self) -> String {
        Sqlite.list(&mut self.key.iter().map(|&k| self.columns[k].name.as_str()))
    }
}

/// The error for a table that is not there.
pub(super) fn missing(plan: &SinkPlan, others: &[String]) -> Error {
    let near = did_you_mean(&plan.table, others.iter().map(String::as_str)).map_or_else(String::new, |n| format!(" (did you mean `{n}`?)"));
    Error::user(format!(
        "there is no table `{}` in `{}`{near}; set `createTable: true`, or create it:\n{};",
        plan.table,
        plan.place.path.display(),
        create_table(plan)
    ))
}

/// The statement that creates the table of a sink.
pub(super) fn create_table(plan: &SinkPlan) -> String {
    Sqlite.create_table(&Sqlite.quote(&plan.table), &plan.input, &plan.key)
}

/// Finds the place of each column of the input; the error names all that does not fit.
pub(super) fn fit(plan: &SinkPlan, table: &Table) -> Result<Fitted, Error> {
    let mut problems = Vec::new();
    if table.is_view {
        problems.push("it is a view; rows go into tables".to_owned());
    }
    let mut columns = Vec::new();
    for field in plan.input.fields() {
        match table.column(field.name()) {
            Some(c) if c.generated => problems.push(format!("column `{}` is computed by the database; leave it out with a `map`", c.name)),
            Some(c) => {
                let affinity = types::affinity(&c.declared, table.strict);
                problems.extend(unfit(field.name(), field.data_type(), &c.declared, affinity));
                let is_rowid = table.rowid_alias().is_some_and(|r| r.name == c.name);
                columns.push(FittedColumn { name: c.name.clone(), declared: c.declared.clone(), affinity, not_null: c.not_null, is_rowid });
            }
            None => {
                let free = table.columns.iter().map(|c| c.name.as_str()).filter(|c| !has(&plan.input, c));
                let advice = match did_you_mean(field.name(), free) {
                    Some(near) => format!("did you mean `{near}`? Rename it with a `map`"),
                    None => format!(
                        "add it (ALTER TABLE {} ADD COLUMN {} {}), or leave it out with a `map`",
                        Sqlite.quote(&table.name),
                        Sqlite.quote(field.name()),
                        types::declared(field.data_type())
                    ),
                };
                problems.push(format!("it has no column `{}`: {advice}", field.name()));
            }
        }
    }
    for c in &table.columns {
        let needed = c.not_null && !c.has_default && !c.generated && table.rowid_alias().is_none_or(|r| r.name != c.name);
        if needed && !has(&plan.input, &c.name) {
            problems.push(format!("its column `{}` is NOT NULL and has no default, but the rows have no such column; add it with a `map`", c.name));
        }
    }
    if !plan.key.is_empty() && !table.is_unique(&plan.key) && !table.is_view {
        let key = Sqlite.list(&mut plan.key.iter().map(String::as_str));
        problems.push(format!(
            "nothing says that ({key}) identifies a row, which an upsert needs: CREATE UNIQUE INDEX {} ON {} ({key})",
            Sqlite.quote(&format!("{}_key", table.name)),
            Sqlite.quote(&table.name)
        ));
    }
    if !problems.is_empty() {
        return Err(Error::user(format!("the rows do not fit table `{}` of `{}`: {}", table.name, plan.place.path.display(), problems.join("; "))));
    }
    let index = |k: &String| plan.input.fields().iter().position(|f| f.name() == k);
    let key = plan.key.iter().filter_map(index).collect();
    Ok(Fitted { table: table.name.clone(), columns, key, strict: table.strict, has_checks: table.has_checks })
}

fn has(schema: &Schema, name: &str) -> bool {
    schema.fields().iter().any(|f| f.name().eq_ignore_ascii_case(name))
}

/// Values that would be changed silently.
fn unfit(name: &str, data_type: &DataType, declared: &str, affinity: Affinity) -> Option<String> {
    let (p, s) = match data_type {
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => (*p, *s),
        _ => return None,
    };
    types::rounds_decimals(p, s, affinity).then(|| {
        format!(
            "column `{name}` is declared {declared}, of which SQLite keeps {} digits, but the values are decimal({p}, {s}): declare it DECIMAL_TEXT({p}, {s})",
            types::EXACT_DIGITS
        )
    })
}
