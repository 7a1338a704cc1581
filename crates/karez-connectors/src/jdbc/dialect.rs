//! What differs between databases in the SQL that this connector writes.

use arrow::datatypes::{DataType, Schema};

/// A database's way to write names, types and statements. One implementation in each database's folder; what follows is standard SQL.
pub(super) trait Dialect: Send + Sync {
    /// A name, quoted.
    fn quote(&self, name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    /// A text, as a literal.
    fn literal(&self, text: &str) -> String {
        format!("'{}'", text.replace('\'', "''"))
    }

    /// Bytes, as a literal.
    fn bytes_literal(&self, bytes: &[u8]) -> String {
        format!("X'{}'", super::rows::hex(bytes))
    }

    /// A literal of a key's value as a value of its column's type, so that comparing with the column can use its index.
    fn typed(&self, literal: &str, declared: &str) -> String {
        format!("CAST({literal} AS {declared})")
    }

    /// The type of a column that holds values of an Arrow type.
    fn column_type(&self, data_type: &DataType) -> String;

    /// The type of a column that is part of a key, where that differs (a text needs a length there in MySQL).
    fn key_type(&self, data_type: &DataType) -> String {
        self.column_type(data_type)
    }

    /// The type of a text that is compared by its bytes and may be part of a primary key: names of jobs, nodes and tables.
    fn name_type(&self) -> &'static str {
        "TEXT"
    }

    /// The type of a text of any length.
    fn text_type(&self) -> &'static str {
        "TEXT"
    }

    /// The type of a staged row's number, as a column definition.
    fn number_type(&self) -> &'static str {
        "BIGINT NOT NULL"
    }

    /// A column as it is read, `declared` being its type when the job was planned.
    fn selected(&self, name: &str, declared: &str) -> String {
        let _ = declared;
        self.quote(name)
    }

    /// Behind the type of a column that takes null, where that must be said.
    fn nullable(&self) -> &'static str {
        ""
    }

    /// The statement that checks now what constraints put off to the commit, so that a row at fault can be found; `None` where none of them do.
    fn check_deferred(&self) -> Option<&'static str> {
        None
    }

    /// A condition on single rows, as a line of a table's definition.
    fn check(&self, name: &str, condition: &str) -> String {
        format!("CONSTRAINT {} CHECK {condition}", self.quote(name))
    }

    /// Names, quoted and with commas.
    fn list(&self, names: &mut dyn Iterator<Item = &str>) -> String {
        names.map(|n| self.quote(n)).collect::<Vec<_>>().join(", ")
    }

    /// Behind a SELECT: rows may be read by others, but not changed until the transaction ends.
    fn for_share(&self) -> &'static str {
        "FOR SHARE"
    }

    /// The statement that adds the rows a SELECT gives; with a key, they replace those of the same key. All names are quoted.
    fn insert_select(&self, table: &str, columns: &[String], key: &[String], select: &str) -> String {
        let list = columns.join(", ");
        if key.is_empty() {
            return format!("INSERT INTO {table} ({list}) {select}");
        }
        let set: Vec<String> = columns.iter().filter(|c| !key.contains(c)).map(|c| format!("{c} = EXCLUDED.{c}")).collect();
        let action = if set.is_empty() { "DO NOTHING".to_owned() } else { format!("DO UPDATE SET {}", set.join(", ")) };
        format!("INSERT INTO {table} ({list}) {select} ON CONFLICT ({}) {action}", key.join(", "))
    }

    /// The statement that deletes the rows whose key stands in a SELECT of key columns. All names are quoted.
    fn delete_in(&self, table: &str, key: &[String], select: &str) -> String {
        format!("DELETE FROM {table} WHERE ({}) IN ({select})", key.join(", "))
    }

    /// The statement that makes a table of one connection, empty; `definition` is `(…)`.
    fn create_temporary(&self, table: &str, definition: &str) -> String {
        format!("CREATE TEMPORARY TABLE IF NOT EXISTS {table} {definition}")
    }

    /// The statement that creates a table for rows of a schema, with a primary key where there is one. `table` is quoted.
    fn create_table(&self, table: &str, schema: &Schema, key: &[String]) -> String {
        let mut lines: Vec<String> = schema
            .fields()
            .iter()
            .map(|f| {
                let is_key = key.contains(f.name());
                let not_null = if f.is_nullable() && !is_key { self.nullable() } else { " NOT NULL" };
                let data_type = if is_key { self.key_type(f.data_type()) } else { self.column_type(f.data_type()) };
                format!("  {} {data_type}{not_null}", self.quote(f.name()))
            })
            .collect();
        if !key.is_empty() {
            lines.push(format!("  PRIMARY KEY ({})", self.list(&mut key.iter().map(String::as_str))));
        }
        format!("CREATE TABLE {table} (\n{}\n)", lines.join(",\n"))
    }
}
