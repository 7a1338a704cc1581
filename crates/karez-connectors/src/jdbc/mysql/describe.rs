//! Tables and queries as the server describes them.

use mysql_async::Column as WireColumn;
use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_async::prelude::Queryable;

use super::super::server::failure::{Failure, Kind as FailureKind};
use super::super::server::table::{Column, Table, TableName};
use super::dialect::MySql;
use super::session::{MySqlSession, get};
use super::types::Kind;

/// Of [`Column::type_id`]: the database numbers rows in this column.
pub(super) const AUTO_INCREMENT: u32 = 1;

/// The number of the character set of bytes.
const BINARY: u16 = 63;

/// Describes a table or view; `None` where there is none, or nothing of it may be seen.
pub(super) async fn table(session: &mut MySqlSession, name: &TableName) -> Result<Option<Table>, Failure> {
    let what = format!("describe table `{name}`");
    let params = || (name.schema.clone(), name.name.clone());
    let about = session
        .rows(
            &what,
            "SELECT t.table_schema, t.table_name, t.table_type, t.engine, e.transactions FROM information_schema.tables t \
             LEFT JOIN information_schema.engines e ON e.engine = t.engine \
             WHERE t.table_schema = COALESCE(?, DATABASE()) AND t.table_name = ?",
            params(),
        )
        .await?;
    let Some(about) = about.first() else { return Ok(None) };
    let columns = session
        .rows(
            &what,
            "SELECT column_name, CAST(column_type AS CHAR), character_set_name, collation_name, is_nullable = 'YES', column_default IS NOT NULL, extra \
             FROM information_schema.columns WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? ORDER BY ordinal_position",
            params(),
        )
        .await?;
    let columns = columns.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let (unique, indices) = indices(session, &what, params()).await?;
    let (engine, transactions): (Option<String>, Option<String>) = (get(about, 3)?, get(about, 4)?);
    let unwritable = engine.filter(|_| transactions.as_deref() != Some("YES")).map(|engine| {
        format!("its engine {engine} has no transactions, so that a write could not be undone: ALTER TABLE {} ENGINE = InnoDB", name.sql(&MySql))
    });
    Ok(Some(Table {
        unwritable,
        name: TableName { schema: Some(get(about, 0)?), name: get(about, 1)? },
        columns,
        is_view: get::<String>(about, 2)? != "BASE TABLE",
        unique,
        indices,
        checks: checks(session, &what, name).await?,
    }))
}

fn column(row: &mysql_async::Row) -> Result<Column, Failure> {
    let (name, mut declared): (String, String) = (get(row, 0)?, get(row, 1)?);
    if let (Some(charset), Some(collation)) = (get::<Option<String>>(row, 2)?, get::<Option<String>>(row, 3)?) {
        declared.push_str(&format!(" CHARACTER SET {charset} COLLATE {collation}"));
    }
    let extra: String = get::<String>(row, 6)?.to_ascii_uppercase();
    let auto_increment = extra.contains("AUTO_INCREMENT");
    Ok(Column {
        name,
        data_type: Kind::parse(&declared).arrow(),
        base: declared.clone(),
        declared,
        type_id: if auto_increment { AUTO_INCREMENT } else { 0 },
        element_id: 0,
        not_null: !get::<bool>(row, 4)?,
        has_default: auto_increment || get(row, 5)?,
        // MySQL says DEFAULT_GENERATED of a default that is an expression.
        generated: extra.replace("DEFAULT_GENERATED", "").contains("GENERATED"),
    })
}

type Indices = (Vec<Vec<String>>, Vec<Vec<String>>);

/// Sets of columns that identify a row, the primary key first, and the columns of all indices that have an order.
async fn indices(session: &mut MySqlSession, what: &str, params: (Option<String>, String)) -> Result<Indices, Failure> {
    let rows = session
        .rows(
            what,
            "SELECT index_name, non_unique = 0, column_name, sub_part IS NOT NULL, index_type FROM information_schema.statistics \
             WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index",
            params,
        )
        .await?;
    let mut found: Vec<(String, bool, Option<Vec<String>>)> = Vec::new();
    for row in &rows {
        let (index, column): (String, Option<String>) = (get(row, 0)?, get(row, 2)?);
        let ordered = get::<String>(row, 4)? == "BTREE";
        if found.last().is_none_or(|(name, ..)| *name != index) {
            found.push((index, get(row, 1)?, Some(Vec::new())));
        }
        if let Some((_, _, columns)) = found.last_mut() {
            // An index over expressions, or the first characters of a column, neither identifies a row nor gives an order.
            match column.filter(|_| ordered && !get::<bool>(row, 3).unwrap_or(true)) {
                Some(column) => columns.iter_mut().for_each(|c| c.push(column.clone())),
                None => *columns = None,
            }
        }
    }
    let unique = found.iter().filter(|(_, unique, _)| *unique).filter_map(|(.., columns)| columns.clone()).collect();
    Ok((unique, found.into_iter().filter_map(|(.., columns)| columns).collect()))
}

/// Conditions on single rows. Those that cannot be seen are met at the commit.
async fn checks(session: &mut MySqlSession, what: &str, name: &TableName) -> Result<Vec<(String, String)>, Failure> {
    let sql = if session.is_mariadb {
        "SELECT constraint_name, check_clause FROM information_schema.check_constraints \
         WHERE constraint_schema = COALESCE(?, DATABASE()) AND table_name = ?"
    } else {
        "SELECT c.constraint_name, c.check_clause FROM information_schema.table_constraints t \
         JOIN information_schema.check_constraints c USING (constraint_schema, constraint_name) \
         WHERE t.table_schema = COALESCE(?, DATABASE()) AND t.table_name = ? AND t.constraint_type = 'CHECK' AND t.enforced = 'YES'"
    };
    let rows = match session.rows(what, sql, (name.schema.clone(), name.name.clone())).await {
        Ok(rows) => rows,
        // Servers from before checks were enforced do not have the table.
        Err(f) if f.kind == FailureKind::User => return Ok(Vec::new()),
        Err(f) => return Err(f),
    };
    // MySQL shows the clause with its quotes escaped.
    let clause = |c: String| if c.contains("\\'") { c.replace("\\'", "'") } else { c };
    rows.iter().map(|r| Ok((get(r, 0)?, clause(get(r, 1)?)))).collect()
}

/// The columns of a query, without running it.
pub(super) async fn query(session: &mut MySqlSession, query: &str) -> Result<Vec<Column>, Failure> {
    let conn = session.begin_work()?;
    let result = match conn.prep(query).await {
        Ok(statement) => {
            let columns = statement.columns();
            conn.close(statement).await.map(|()| columns)
        }
        Err(e) => Err(e),
    };
    let columns = session.ended("read the query", result)?;
    Ok(columns.iter().map(of_query).collect())
}

fn of_query(wire: &WireColumn) -> Column {
    let declared = declared(wire);
    let flags = wire.flags();
    Column {
        name: wire.name_str().into_owned(),
        data_type: Kind::parse(&declared).arrow(),
        base: declared.clone(),
        declared,
        type_id: 0,
        element_id: 0,
        not_null: flags.contains(ColumnFlags::NOT_NULL_FLAG),
        has_default: false,
        generated: false,
    }
}

/// The type of a query's column, as it would be declared.
fn declared(wire: &WireColumn) -> String {
    let unsigned = if wire.flags().contains(ColumnFlags::UNSIGNED_FLAG) { " unsigned" } else { "" };
    let bytes = wire.character_set() == BINARY;
    let length = wire.column_length();
    let digits = wire.decimals().min(6);
    match wire.column_type() {
        ColumnType::MYSQL_TYPE_TINY if length == 1 && unsigned.is_empty() => "tinyint(1)".to_owned(),
        ColumnType::MYSQL_TYPE_TINY => format!("tinyint{unsigned}"),
        ColumnType::MYSQL_TYPE_SHORT => format!("smallint{unsigned}"),
        ColumnType::MYSQL_TYPE_INT24 => format!("mediumint{unsigned}"),
        ColumnType::MYSQL_TYPE_LONG => format!("int{unsigned}"),
        ColumnType::MYSQL_TYPE_LONGLONG => format!("bigint{unsigned}"),
        ColumnType::MYSQL_TYPE_FLOAT => "float".to_owned(),
        ColumnType::MYSQL_TYPE_DOUBLE => "double".to_owned(),
        ColumnType::MYSQL_TYPE_DECIMAL | ColumnType::MYSQL_TYPE_NEWDECIMAL => {
            let scale = u32::from(wire.decimals());
            // The length counts a sign, unless there can be none, and a point.
            let precision = length.saturating_sub(u32::from(unsigned.is_empty())).saturating_sub(u32::from(scale > 0));
            format!("decimal({},{scale}){unsigned}", precision.clamp(scale.max(1), 65))
        }
        ColumnType::MYSQL_TYPE_BIT => format!("bit({length})"),
        ColumnType::MYSQL_TYPE_YEAR => "year".to_owned(),
        ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE => "date".to_owned(),
        ColumnType::MYSQL_TYPE_TIME | ColumnType::MYSQL_TYPE_TIME2 => format!("time({digits})"),
        ColumnType::MYSQL_TYPE_DATETIME | ColumnType::MYSQL_TYPE_DATETIME2 => format!("datetime({digits})"),
        ColumnType::MYSQL_TYPE_TIMESTAMP | ColumnType::MYSQL_TYPE_TIMESTAMP2 => format!("timestamp({digits})"),
        ColumnType::MYSQL_TYPE_JSON => "json".to_owned(),
        ColumnType::MYSQL_TYPE_GEOMETRY => "geometry".to_owned(),
        ColumnType::MYSQL_TYPE_NULL => "char(0)".to_owned(),
        _ if bytes => "longblob".to_owned(),
        _ => "longtext".to_owned(),
    }
}

/// The names of tables and views for which a condition holds.
pub(super) async fn names(session: &mut MySqlSession, schema: Option<&str>, condition: &str) -> Result<Vec<String>, Failure> {
    let sql = format!("SELECT table_name FROM information_schema.tables WHERE table_schema = COALESCE(?, DATABASE()) AND {condition} LIMIT 10000");
    let rows = session.rows("list the tables", &sql, (schema.map(str::to_owned),)).await?;
    rows.iter().map(|r| get(r, 0)).collect()
}
