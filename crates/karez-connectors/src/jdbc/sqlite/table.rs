//! A table as the database describes it.

use rusqlite::{Connection, OptionalExtension};

/// A column of a table.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// The declared type, upper case; empty where there is none.
    pub(super) declared: String,
    pub(super) not_null: bool,
    pub(super) has_default: bool,
    /// Computed by the database.
    pub(super) generated: bool,
    /// Its place in the primary key, from 1; 0 where it is not part of it.
    pub(super) key_place: i64,
}

/// A table or view.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    pub(super) is_view: bool,
    pub(super) strict: bool,
    pub(super) has_rowid: bool,
    /// Sets of columns that identify a row: the primary key first, then unique indices without condition.
    pub(super) unique: Vec<Vec<String>>,
    /// Whether inserts may be refused for reasons that the column list does not show: checks and triggers.
    pub(super) has_checks: bool,
}

impl Table {
    /// Reads the description of a table; `None` where there is no such table or view.
    pub(super) fn describe(connection: &Connection, name: &str) -> rusqlite::Result<Option<Self>> {
        let row = |r: &rusqlite::Row<'_>| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, bool>(2)?, r.get::<_, bool>(3)?));
        let sql = "SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main' AND lower(name) = lower(?1)";
        let Some((name, kind, without_rowid, strict)) = connection.query_row(sql, [name], row).optional()? else {
            return Ok(None);
        };
        let mut statement =
            connection.prepare("SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid")?;
        let columns = statement
            .query_map([&name], |r| {
                Ok(Column {
                    name: r.get(0)?,
                    declared: r.get::<_, String>(1)?.to_ascii_uppercase(),
                    not_null: r.get(2)?,
                    has_default: r.get(3)?,
                    key_place: r.get(4)?,
                    generated: r.get::<_, i64>(5)? >= 2,
                })
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let mut key: Vec<&Column> = columns.iter().filter(|c| c.key_place > 0).collect();
        key.sort_by_key(|c| c.key_place);
        let mut unique = Vec::new();
        if !key.is_empty() {
            unique.push(key.iter().map(|c| c.name.clone()).collect::<Vec<_>>());
        }
        let mut statement = connection.prepare("SELECT name FROM pragma_index_list(?1) WHERE \"unique\" AND NOT partial")?;
        let indices = statement.query_map([&name], |r| r.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
        for index in indices {
            let mut statement = connection.prepare("SELECT name FROM pragma_index_info(?1) ORDER BY seqno")?;
            // A null name is an expression.
            let columns = statement.query_map([&index], |r| r.get::<_, Option<String>>(0))?.collect::<rusqlite::Result<Option<Vec<_>>>>()?;
            unique.extend(columns.filter(|c| !unique.contains(c)));
        }
        let sql: String = connection
            .query_row("SELECT coalesce(sql, '') FROM sqlite_schema WHERE name = ?1", [&name], |r| r.get(0))
            .optional()?
            .unwrap_or_default();
        let triggers: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1", [&name], |r| r.get(0))?;
        let has_checks = triggers > 0 || sql.to_ascii_uppercase().contains("CHECK");
        let is_view = kind != "table";
        Ok(Some(Self { name, columns, is_view, strict, has_rowid: !without_rowid && !is_view, unique, has_checks }))
    }

    /// The names of tables and views, without SQLite's and Karez' own.
    pub(super) fn names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
        let sql = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_\\_karez\\_%' ESCAPE '\\'";
        connection.prepare(sql)?.query_map([], |r| r.get(0))?.collect()
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name.eq_ignore_ascii_case(name))
    }

    /// The column that is another name of the rowid (`INTEGER PRIMARY KEY`).
    pub(super) fn rowid_alias(&self) -> Option<&Column> {
        let mut key = self.columns.iter().filter(|c| c.key_place > 0);
        match (key.next(), key.next()) {
            (Some(column), None) if self.has_rowid && column.declared == "INTEGER" => Some(column),
            _ => None,
        }
    }

    /// A name of the rowid that no column has taken.
    pub(super) fn rowid_name(&self) -> Option<&'static str> {
        ["rowid", "_rowid_", "oid"].into_iter().find(|n| self.has_rowid && self.column(n).is_none())
    }

    /// Whether these columns, in any order, are declared to identify a row.
    pub(super) fn is_unique(&self, columns: &[String]) -> bool {
        self.unique.iter().any(|u| u.len() == columns.len() && u.iter().all(|c| columns.iter().any(|k| k.eq_ignore_ascii_case(c))))
    }
}
