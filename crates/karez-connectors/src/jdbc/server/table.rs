//! A table as the database describes it.

use arrow::datatypes::DataType;
use karez_core::config::ConfigError;

use super::super::dialect::Dialect;

/// The name of a table, with its schema (in MySQL: its database) where the user gave one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct TableName {
    pub(in super::super) schema: Option<String>,
    pub(in super::super) name: String,
}

impl TableName {
    /// Reads `table`, `schema.table`, and either part in double quotes or backticks where it holds a dot; a quote within them stands twice.
    pub(in super::super) fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut parts = vec![String::new()];
        let mut quote = None;
        let mut chars = text.trim().chars().peekable();
        while let Some(c) = chars.next() {
            match (quote, c) {
                (Some(q), c) if c == q && chars.next_if_eq(&q).is_none() => quote = None,
                (None, '"' | '`') => quote = Some(c),
                (None, '.') => parts.push(String::new()),
                _ => parts.last_mut().unwrap_or(&mut String::new()).push(c),
            }
        }
        let wrong = || {
            ConfigError::new("table", format!("`{text}` is no name for a table"))
                .hint("write it like `orders` or `sales.orders`; a part that holds a dot or a quote stands in quotes, and a quote in it twice")
        };
        if quote.is_some() || parts.iter().any(String::is_empty) {
            return Err(wrong());
        }
        let name = parts.pop().ok_or_else(wrong)?;
        let schema = parts.pop();
        if !parts.is_empty() || name.starts_with("__karez_") {
            return Err(wrong());
        }
        Ok(Self { schema, name })
    }

    /// As it stands in SQL.
    pub(in super::super) fn sql(&self, dialect: &dyn Dialect) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", dialect.quote(schema), dialect.quote(&self.name)),
            None => dialect.quote(&self.name),
        }
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A column of a table or query.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Column {
    pub(in super::super) name: String,
    /// Its type in the words of the database, fit for CREATE TABLE and CAST.
    pub(in super::super) declared: String,
    /// The same of the type that a domain stands for.
    pub(in super::super) base: String,
    /// The driver's own numbers of its type and, for arrays, of the element's.
    pub(in super::super) type_id: u32,
    pub(in super::super) element_id: u32,
    /// What it is read as; `None` where its type has no mapping.
    pub(in super::super) data_type: Option<DataType>,
    pub(in super::super) not_null: bool,
    /// The database fills it in where a row has no value for it.
    pub(in super::super) has_default: bool,
    /// The database computes it; it cannot be written.
    pub(in super::super) generated: bool,
}

/// A table or view.
#[derive(Clone, Debug)]
pub(in super::super) struct Table {
    /// With its schema.
    pub(in super::super) name: TableName,
    pub(in super::super) columns: Vec<Column>,
    /// Rows cannot be put into it.
    pub(in super::super) is_view: bool,
    /// Why rows cannot be put into it for another reason than its columns.
    pub(in super::super) unwritable: Option<String>,
    /// Sets of columns that identify a row: the primary key first, then unique indices without condition or expression.
    pub(in super::super) unique: Vec<Vec<String>>,
    /// The columns of ordered indices, by which rows can be read in order without sorting.
    pub(in super::super) indices: Vec<Vec<String>>,
    /// Conditions on single rows: name, and SQL over the columns.
    pub(in super::super) checks: Vec<(String, String)>,
}

impl Table {
    /// A column, by its exact name, else by its name without regard to case where just one has it.
    pub(in super::super) fn column(&self, name: &str) -> Option<&Column> {
        find(&self.columns, name)
    }

    /// Whether these columns, in any order, are declared to identify a row.
    pub(in super::super) fn is_unique(&self, columns: &[String]) -> bool {
        self.unique.iter().any(|u| u.len() == columns.len() && u.iter().all(|c| columns.contains(c)))
    }

    /// Whether an index gives rows in the order of these columns.
    pub(in super::super) fn is_ordered_by(&self, columns: &[String]) -> bool {
        self.indices.iter().any(|i| i.starts_with(columns))
    }
}

/// A column, by its exact name, else by its name without regard to case where just one has it.
pub(in super::super) fn find<'a>(columns: &'a [Column], name: &str) -> Option<&'a Column> {
    columns.iter().find(|c| c.name == name).or_else(|| {
        let mut near = columns.iter().filter(|c| c.name.eq_ignore_ascii_case(name));
        near.next().filter(|_| near.next().is_none())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_schema_and_may_be_quoted() {
        let parse = |t: &str| TableName::parse(t).map(|n| (n.schema, n.name));
        assert_eq!(parse("t"), Ok((None, "t".into())));
        assert_eq!(parse("s.t"), Ok((Some("s".into()), "t".into())));
        assert_eq!(parse("\"a.b\".`c d`"), Ok((Some("a.b".into()), "c d".into())));
        assert_eq!(parse("\"a\"\"b\".`c``d`"), Ok((Some("a\"b".into()), "c`d".into())));
        for wrong in ["", "a.", ".a", "a.b.c", "\"a", "__karez_lots", "s.__karez_lots"] {
            assert!(TableName::parse(wrong).is_err(), "{wrong}");
        }
    }
}
