//! What a source reads: a table, view or query, and its columns.

use std::sync::Arc;

use arrow::compute::can_cast_types;
use arrow::datatypes::{Field, Schema, SchemaRef};
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::error::did_you_mean;
use karez_core::sql_type::to_sql;

use super::driver::{Driver, Session};
use super::failure::{Failure, Kind};
use super::table::{Column, Table, TableName, find};

/// A table, view or query.
#[derive(Debug)]
pub(super) struct Relation {
    /// For a person: `table=t`, `query`.
    pub(super) what: String,
    /// What stands behind FROM.
    pub(super) from: String,
    pub(super) columns: Vec<Column>,
    pub(super) table: Option<Table>,
}

/// What is wrong with a relation, or why it cannot be found out.
pub(super) enum Wrong {
    Config(ConfigError),
    Failure(Failure),
}

impl From<Failure> for Wrong {
    fn from(f: Failure) -> Self {
        Self::Failure(f)
    }
}

impl From<ConfigError> for Wrong {
    fn from(e: ConfigError) -> Self {
        Self::Config(e)
    }
}

impl Relation {
    pub(super) async fn of_table(session: &mut dyn Session, driver: &dyn Driver, text: &str) -> Result<Self, Wrong> {
        let name = TableName::parse(text)?;
        let Some(table) = session.describe(&name).await? else {
            let names = session.table_names(name.schema.as_deref()).await?;
            let error = ConfigError::new("table", format!("there is no table `{name}` in `{}`", driver.settings().place()));
            return Err(Wrong::Config(match did_you_mean(&name.name, names.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None if names.is_empty() => error.hint("there are no tables"),
                None => error.hint(format!("tables: {}", names.join(", "))),
            }));
        };
        Ok(Self { what: format!("table={}", table.name), from: table.name.sql(driver.dialect()), columns: table.columns.clone(), table: Some(table) })
    }

    pub(super) async fn of_query(session: &mut dyn Session, query: &str) -> Result<Self, Wrong> {
        let query = query.trim().trim_end_matches(';').trim_end();
        let columns = session.describe_query(query).await.map_err(|f| match f.kind {
            Kind::Connection => Wrong::Failure(f),
            _ => Wrong::Config(ConfigError::new("query", f.message)),
        })?;
        for (i, column) in columns.iter().enumerate() {
            if columns[..i].iter().any(|c| c.name == column.name) {
                return Err(ConfigError::new("query", format!("gives two columns `{}`", column.name)).hint("name them with AS").into());
            }
        }
        let from = format!("({query}\n) AS __karez_query");
        // It is read as a part of another statement, which not every one can be.
        session.describe_query(&format!("SELECT * FROM {from}")).await.map_err(|f| match f.kind {
            Kind::Connection => Wrong::Failure(f),
            _ => Wrong::Config(
                ConfigError::new("query", format!("cannot be read from: {}", f.message))
                    .hint("it must be one SELECT that can stand in brackets behind FROM"),
            ),
        })?;
        Ok(Self { what: "query".to_owned(), from, columns, table: None })
    }

    /// A column by name.
    pub(super) fn column(&self, path: impl Into<String>, name: &str) -> Result<&Column, ConfigError> {
        if let Some(column) = find(&self.columns, name) {
            return Ok(column);
        }
        let error = ConfigError::new(path, format!("{} has no column `{name}`", self.what.replace('=', " ")));
        let names = || self.columns.iter().map(|c| c.name.as_str());
        Err(match did_you_mean(name, names()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("columns: {}", names().collect::<Vec<_>>().join(", "))),
        })
    }

    /// The columns read and the rows they make: those declared, else all.
    pub(super) fn rows(&self, driver: &dyn Driver, declared: Option<&SchemaRef>) -> Result<(SchemaRef, Vec<Column>), ConfigErrors> {
        let mut errors = Vec::new();
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        let unmapped = |path: String, c: &Column| {
            ConfigError::new(path, format!("column `{}` has the type `{}`, which is not supported", c.name, c.declared))
                .hint("cast it to one that is in a `query`, or leave it out by a declared `schema`")
        };
        match declared {
            None => {
                for column in &self.columns {
                    match &column.data_type {
                        Some(data_type) => {
                            fields.push(Field::new(&column.name, data_type.clone(), !column.not_null));
                            columns.push(column.clone());
                        }
                        None => errors.push(unmapped(if self.table.is_some() { "table" } else { "query" }.to_owned(), column)),
                    }
                }
            }
            Some(declared) => {
                for field in declared.fields() {
                    let path = format!("schema.{}", field.name());
                    match self.column(path.clone(), field.name()) {
                        Err(e) => errors.push(e),
                        Ok(column) => match &column.data_type {
                            None => errors.push(unmapped(path, column)),
                            Some(from) if from != field.data_type() && driver.reads_as(column, field.data_type()).is_some() => {
                                columns.push(Column { data_type: driver.reads_as(column, field.data_type()), ..column.clone() });
                            }
                            Some(from) if from != field.data_type() && !can_cast_types(from, field.data_type()) => {
                                errors.push(
                                    ConfigError::new(
                                        path,
                                        format!("the type `{}` of the column cannot be read as {}", column.declared, to_sql(field.data_type())),
                                    )
                                    .hint("declare another type, or cast it in a `query`"),
                                );
                            }
                            Some(_) => columns.push(column.clone()),
                        },
                    }
                }
            }
        }
        if errors.is_empty() {
            let schema = declared.map_or_else(|| Arc::new(Schema::new(fields)), Arc::clone);
            Ok((schema, columns))
        } else {
            Err(ConfigErrors(errors))
        }
    }
}
