//! What differs between databases in the SQL that this connector writes.

use arrow::datatypes::{DataType, Schema};

/// A database's way to write names and types. One implementation in each database's folder.
pub(super) trait Dialect {
    /// A name, quoted.
    fn quote(&self, name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    /// The type of a column that holds values of an Arrow type.
    fn column_type(&self, data_type: &DataType) -> String;

    /// Names, quoted and with commas.
    fn list<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> String {
        names.into_iter().map(|n| self.quote(n)).collect::<Vec<_>>().join(", ")
    }

    /// The statement that creates a table for rows of a schema, with a primary key where there is one.
    fn create_table(&self, table: &str, schema: &Schema, key: &[String]) -> String {
        let mut lines: Vec<String> = schema
            .fields()
            .iter()
            .map(|f| {
                let not_null = if f.is_nullable() && !key.contains(f.name()) { "" } else { " NOT NULL" };
                format!("  {} {}{not_null}", self.quote(f.name()), self.column_type(f.data_type()))
            })
            .collect();
        if !key.is_empty() {
            lines.push(format!("  PRIMARY KEY ({})", self.list(key.iter().map(String::as_str))));
        }
        format!("CREATE TABLE {} (\n{}\n)", self.quote(table), lines.join(",\n"))
    }
}
