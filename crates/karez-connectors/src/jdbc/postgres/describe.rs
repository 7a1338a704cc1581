//! Tables and columns, out of the catalogue.

use super::super::dialect::Dialect;
use super::super::server::driver::Session;
use super::super::server::failure::Failure;
use super::super::server::table::{Column, Table, TableName};
use super::PostgresDialect;
use super::session::PgSession;
use super::types::{self, PgType};

/// A column before its type has been looked up.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    pub(super) name: String,
    pub(super) oid: u32,
    pub(super) typmod: i32,
    pub(super) not_null: bool,
    pub(super) has_default: bool,
    pub(super) generated: bool,
}

type Row = Vec<Option<String>>;

fn text(row: &Row, i: usize) -> String {
    row.get(i).cloned().flatten().unwrap_or_default()
}

fn yes(row: &Row, i: usize) -> bool {
    text(row, i) == "t"
}

fn number<T: std::str::FromStr + Default>(row: &Row, i: usize) -> T {
    text(row, i).parse().unwrap_or_default()
}

/// A table or view by its name.
pub(super) async fn table(session: &mut PgSession, name: &TableName) -> Result<Option<Table>, Failure> {
    let quoted = PostgresDialect.literal(&name.sql(&PostgresDialect));
    let found = session
        .query(&format!(
            "SELECT c.oid, n.nspname, c.relname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.oid = to_regclass({quoted}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
        ))
        .await?;
    let Some(found) = found.first() else { return Ok(None) };
    let (oid, kind) = (text(found, 0), text(found, 3));
    let given = session
        .query(&format!(
            "SELECT attname, atttypid, atttypmod, attnotnull, atthasdef OR attidentity <> '', attgenerated <> '' OR attidentity = 'a' \
             FROM pg_attribute WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        ))
        .await?;
    let given = given
        .iter()
        .map(|r| Given {
            name: text(r, 0),
            oid: number(r, 1),
            typmod: number(r, 2),
            not_null: yes(r, 3),
            has_default: yes(r, 4),
            generated: yes(r, 5),
        })
        .collect();
    let columns = columns(session, given).await?;
    let indices = session
        .query(&format!(
            "SELECT i.indexrelid, i.indisunique AND i.indimmediate, a.amname = 'btree', k.option, att.attname, k.place > i.indnkeyatts \
             FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam \
             CROSS JOIN LATERAL (SELECT key, place, i.indoption[place - 1] AS option FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS u(key, place)) k \
             LEFT JOIN pg_attribute att ON att.attrelid = i.indrelid AND att.attnum = k.key AND k.key > 0 \
             WHERE i.indrelid = {oid} AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
             ORDER BY NOT i.indisprimary, i.indexrelid, k.place"
        ))
        .await?;
    let checks = session
        .query(&format!(
            "SELECT conname, pg_get_expr(conbin, conrelid) FROM pg_constraint WHERE conrelid = {oid} AND contype = 'c' AND convalidated ORDER BY conname"
        ))
        .await?;
    let (mut unique, mut ordered): (Vec<Vec<String>>, Vec<Vec<String>>) = (Vec::new(), Vec::new());
    for rows in indices.chunk_by(|a, b| a[0] == b[0]) {
        let keys: Vec<&Row> = rows.iter().filter(|r| !yes(r, 5)).collect();
        let names: Vec<String> = keys.iter().map(|r| text(r, 4)).collect();
        if keys.iter().all(|r| yes(r, 1)) {
            unique.push(names.clone());
        }
        if keys.iter().all(|r| yes(r, 2) && text(r, 3) == "0") {
            ordered.push(names);
        }
    }
    Ok(Some(Table {
        name: TableName { schema: Some(text(found, 1)), name: text(found, 2) },
        columns,
        is_view: matches!(kind.as_str(), "v" | "m"),
        unwritable: None,
        unique,
        indices: ordered,
        checks: checks.iter().map(|r| (text(r, 0), text(r, 1))).collect(),
    }))
}

/// Columns, with their types looked up: of a domain that of its base.
pub(super) async fn columns(session: &mut PgSession, given: Vec<Given>) -> Result<Vec<Column>, Failure> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let values: Vec<String> = given.iter().enumerate().map(|(i, g)| format!("({i}, {}::oid, {})", g.oid, g.typmod)).collect();
    let rows = session
        .query(&format!(
            "WITH RECURSIVE base(place, oid, typmod, not_null) AS ( \
               SELECT v.place, v.oid, v.typmod, false FROM (VALUES {}) v(place, oid, typmod) \
               UNION ALL SELECT b.place, t.typbasetype, CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE b.typmod END, b.not_null OR t.typnotnull \
               FROM base b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype = 'd') \
             SELECT b.place, b.typmod, t.oid, t.typname, t.typtype, CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END, e.typname, e.typtype, \
               bool_or(b.not_null) OVER (PARTITION BY b.place), format_type(t.oid, b.typmod) \
             FROM base b JOIN pg_type t ON t.oid = b.oid LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' \
             WHERE t.typtype <> 'd' ORDER BY b.place",
            values.join(", ")
        ))
        .await?;
    let names = session
        .query(&format!("SELECT place, format_type(oid, typmod) FROM (VALUES {}) v(place, oid, typmod) ORDER BY place", values.join(", ")))
        .await?;
    let mut columns = Vec::with_capacity(given.len());
    for (place, g) in given.into_iter().enumerate() {
        let row = rows.iter().find(|r| number::<usize>(r, 0) == place);
        let declared = names.iter().find(|r| number::<usize>(r, 0) == place).map(|r| text(r, 1)).unwrap_or_default();
        let kind = |r: &Row, i: usize| text(r, i).chars().next().unwrap_or('b');
        let (mut type_id, mut element_id, mut data_type, mut not_null) = (g.oid, 0, None, g.not_null);
        let mut base = declared.clone();
        if let Some(row) = row {
            base = text(row, 9);
            let typmod = number(row, 1);
            let of = PgType { oid: number(row, 2), name: text(row, 3), kind: kind(row, 4) };
            not_null |= yes(row, 8);
            match number::<u32>(row, 5) {
                0 => {
                    data_type = types::scalar(&of, typmod);
                    // What travels as its text is written as text, whatever its number.
                    type_id = if of.oid != types::JSON && types::is_text(&of) && of.oid != types::CHAR { types::TEXT } else { of.oid };
                }
                element => {
                    let inside = PgType { oid: element, name: text(row, 6), kind: kind(row, 7) };
                    data_type = types::scalar(&inside, typmod).map(types::array_of);
                    (type_id, element_id) = (of.oid, element);
                }
            }
        }
        columns.push(Column {
            name: g.name,
            declared,
            base,
            type_id,
            element_id,
            data_type,
            not_null,
            has_default: g.has_default,
            generated: g.generated,
        });
    }
    Ok(columns)
}

/// The names of relations of a schema, or of the schemas that are searched, for which a condition holds.
pub(super) async fn names(session: &mut PgSession, schema: Option<&str>, condition: &str) -> Result<Vec<String>, Failure> {
    let within = match schema {
        Some(schema) => format!("n.nspname = {}", PostgresDialect.literal(schema)),
        None => "n.nspname = ANY (current_schemas(false))".to_owned(),
    };
    let rows = session
        .query(&format!(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {within} AND {condition} ORDER BY c.relname LIMIT 1000"
        ))
        .await?;
    Ok(rows.iter().map(|r| text(r, 0)).collect())
}
