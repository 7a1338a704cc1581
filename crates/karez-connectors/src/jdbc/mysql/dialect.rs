//! How MySQL and MariaDB write names, types and statements.

use arrow::datatypes::DataType;

use super::super::dialect::Dialect;
use super::types::{self, Kind};

/// MySQL and MariaDB; what they share is all that is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct MySql;

impl Dialect for MySql {
    fn quote(&self, name: &str) -> String {
        format!("`{}`", name.replace('`', "``"))
    }

    fn literal(&self, text: &str) -> String {
        format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    }

    fn typed(&self, literal: &str, declared: &str) -> String {
        let kind = Kind::parse(declared);
        let target = match &kind {
            Kind::Decimal { precision, scale, .. } => format!("DECIMAL({precision}, {scale})"),
            Kind::DateTime(_) | Kind::Timestamp(_) => {
                // An instant as Arrow shows it ends in the zone, which is the session's.
                return format!("CAST({} AS DATETIME(6))", literal.replace("Z'", "'"));
            }
            Kind::Date => "DATE".to_owned(),
            Kind::Time(_) => "TIME(6)".to_owned(),
            Kind::Bool if literal == "'true'" => return "1".to_owned(),
            Kind::Bool if literal == "'false'" => return "0".to_owned(),
            Kind::Int { unsigned: true, .. } | Kind::Bit(_) => "UNSIGNED".to_owned(),
            Kind::Int { .. } | Kind::Bool | Kind::Year => "SIGNED".to_owned(),
            Kind::Float { .. } | Kind::Double { .. } => return format!("({literal} + 0e0)"),
            // Rows come in the order of the members' numbers, so the numbers are what is compared.
            Kind::Enum(members) => {
                return members.iter().position(|m| self.literal(m) == literal).map_or_else(|| "0".to_owned(), |at| (at + 1).to_string());
            }
            Kind::Set(members) => {
                let bits = members.iter().enumerate().filter(|(_, m)| is_in_set(literal, m)).fold(0_u64, |bits, (at, _)| bits | 1 << (at % 64));
                return bits.to_string();
            }
            // A text is compared as the column says.
            _ => return literal.to_owned(),
        };
        format!("CAST({literal} AS {target})")
    }

    fn column_type(&self, data_type: &DataType) -> String {
        types::declared(data_type, false)
    }

    fn key_type(&self, data_type: &DataType) -> String {
        types::declared(data_type, true)
    }

    fn name_type(&self) -> &'static str {
        "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    }

    fn text_type(&self) -> &'static str {
        "LONGTEXT CHARACTER SET utf8mb4"
    }

    /// Staged rows are looked for by their numbers.
    fn number_type(&self) -> &'static str {
        "BIGINT NOT NULL PRIMARY KEY"
    }

    /// Where `explicit_defaults_for_timestamp` is off, a `TIMESTAMP` is NOT NULL by itself, and makes the time of writing of a null.
    fn nullable(&self) -> &'static str {
        " NULL"
    }

    /// Without a name: in MySQL the names of checks are the schema's, so that only one staging table could have each.
    fn check(&self, _: &str, condition: &str) -> String {
        format!("CHECK {condition}")
    }

    /// MariaDB knows the older words alone, MySQL both.
    fn for_share(&self) -> &'static str {
        "LOCK IN SHARE MODE"
    }

    /// `ON DUPLICATE KEY UPDATE` also strikes where a row has the values of another in a unique index that is not the key: the subquery of two rows, which
    /// is an error when it is asked for its one value, keeps it from replacing that other row in silence.
    fn insert_select(&self, table: &str, columns: &[String], key: &[String], select: &str) -> String {
        let list = columns.join(", ");
        let Some((first, others)) = key.split_first() else { return format!("INSERT INTO {table} ({list}) {select}") };
        let same: Vec<String> = std::iter::once(first).chain(others).map(|k| format!("{table}.{k} <=> `__karez_new`.{k}")).collect();
        let guard = format!("{first} = IF({}, {table}.{first}, (SELECT NULL UNION ALL SELECT NULL))", same.join(" AND "));
        let set: Vec<String> =
            std::iter::once(guard).chain(columns.iter().filter(|c| !key.contains(c)).map(|c| format!("{c} = `__karez_new`.{c}"))).collect();
        format!("INSERT INTO {table} ({list}) SELECT {list} FROM ({select}) AS `__karez_new` ON DUPLICATE KEY UPDATE {}", set.join(", "))
    }

    /// A join: MariaDB runs a subquery of a DELETE once for each row of the table.
    fn delete_in(&self, table: &str, key: &[String], select: &str) -> String {
        let same: Vec<String> = key.iter().map(|k| format!("`__karez_old`.{k} = `__karez_gone`.{k}")).collect();
        format!("DELETE `__karez_old` FROM {table} AS `__karez_old` JOIN ({select}) AS `__karez_gone` ON {}", same.join(" AND "))
    }
}

/// Whether a literal of a set's value, `'a,b'`, has a member.
fn is_in_set(literal: &str, member: &str) -> bool {
    literal.trim_matches('\'').split(',').any(|m| m == member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_compared_as_the_server_orders_it() {
        for (literal, declared, sql) in [
            ("'12.50'", "decimal(10,2)", "CAST('12.50' AS DECIMAL(10, 2))"),
            ("'2013-01-31T05:00:00.5Z'", "timestamp(3)", "CAST('2013-01-31T05:00:00.5' AS DATETIME(6))"),
            ("'18446744073709551615'", "bigint unsigned", "CAST('18446744073709551615' AS UNSIGNED)"),
            ("'b'", "enum('z','b')", "2"),
            ("'z,a'", "set('z','b','a')", "5"),
            ("'true'", "tinyint(1)", "1"),
            ("'x'", "varchar(9)", "'x'"),
        ] {
            assert_eq!(MySql.typed(literal, declared), sql);
        }
    }

    #[test]
    fn a_literal_ends_where_the_text_does() {
        assert_eq!(MySql.literal("a\\' OR 1=1 -- "), "'a\\\\'' OR 1=1 -- '");
        assert_eq!(MySql.quote("a`b"), "`a``b`");
    }
}
